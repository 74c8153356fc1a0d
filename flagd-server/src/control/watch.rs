//! Every change as it happens, without a gap.
//!
//! The log is what counts; announcements only say when to look. A watcher that falls behind, or whose
//! announcement was lost, reads on from the last revision that it told.

use std::sync::Arc;

use flagd_core::revision::{Epoch, Revision};
use flagd_proto::admin::{WatchEvent, WatchRequest};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use super::history::describe;
use super::read::stopping;
use super::{Control, ControlError};
use crate::hub::{Announced, Environment};
use crate::store::log::Change;

/// How many changes are read from the store at a time.
const BATCH: usize = 100;

/// A watch that has begun.
#[derive(Debug)]
pub struct Watching {
    control: Arc<Control>,
    environment: Arc<Environment>,
    announcements: Receiver<Announced>,
    told: (Epoch, Revision),
}

impl Control {
    /// Begins to watch after a revision, or from now on.
    ///
    /// # Errors
    /// [`ControlError::NoSuchRevision`] when changes after that revision are no longer, or not yet, in the history.
    pub async fn watch(self: &Arc<Self>, request: WatchRequest) -> Result<Watching, ControlError> {
        self.must_be_no_relay("does not know who changes what")?;
        let environment = self.named(&request.environment).await?;
        // Before the head is read, so that nothing falls between.
        let announcements = environment.announcements();
        let fresh = self.freshen(environment).await;
        let position = fresh.position();
        let after =
            if request.after_revision == 0 { position.revision } else { Revision(request.after_revision) };
        if after > position.revision || after < self.hub.log().oldest(fresh.environment.name()).await? {
            return Err(self.no_such_revision(&fresh, after).await?);
        }
        let told = (position.epoch, after);
        Ok(Watching { control: Arc::clone(self), environment: fresh.environment, announcements, told })
    }
}

impl Watching {
    /// Sends every change until the receiver is gone.
    ///
    /// # Errors
    /// What the store says; the receiver may begin again after the last revision that it was told.
    pub async fn run(mut self, events: &mpsc::Sender<WatchEvent>) -> Result<(), ControlError> {
        loop {
            self.read_on(events).await?;
            let announced = tokio::select! {
                announced = self.announcements.recv() => announced,
                () = events.closed() => return Ok(()),
                () = self.control.hub.closing() => return Err(stopping()),
            };
            match announced {
                Ok(Announced { change }) if change.epoch > self.told.0 => {
                    // The head of a younger history may lie below what was told of the older one.
                    let before = Revision(change.revision.0.saturating_sub(1));
                    self.told = (change.epoch, before.min(self.told.1));
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(()),
            }
        }
    }

    /// Tells what the log has after what was told.
    async fn read_on(&mut self, events: &mpsc::Sender<WatchEvent>) -> Result<(), ControlError> {
        loop {
            let log = self.control.hub.log();
            let changes = log.changes(self.environment.name(), self.told.1, BATCH).await?;
            if changes.is_empty() {
                return Ok(());
            }
            let all = |_: &_| true;
            let details = self.control.details(self.environment.name(), &changes, &all).await?;
            for change in changes {
                let event = WatchEvent { change: Some(describe(&change, &all, &details)) };
                if events.send(event).await.is_err() {
                    return Ok(());
                }
                self.note(&change);
            }
        }
    }

    fn note(&mut self, change: &Change) {
        self.told = (self.told.0.max(change.epoch), change.revision);
    }
}
