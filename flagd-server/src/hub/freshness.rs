//! Notices when a view becomes stale and when it is fresh again, so that the streams say so at once: their heartbeats
//! alone would tell it up to ten seconds later.
//!
//! It reads nothing from the store; how old a view is follows from when `follow` has last confirmed it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Environment;

/// How often the age is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Looks at the age of one environment's view until told to stop.
pub(crate) async fn watch_age(environment: Arc<Environment>, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            biased;
            // An error means that the hub is gone, which is the same.
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = tokio::time::sleep(LOOK_INTERVAL) => environment.note_age(),
        }
    }
}
