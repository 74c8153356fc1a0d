//! What a relay's environment knows of its way up: whether the server above hears it, and what it should be asked.
//!
//! Synchronous, but for the waiting; the tasks of `relay` do the talking.

use std::sync::Mutex;
use std::sync::PoisonError;

use flagd_core::revision::Position;
use tokio::sync::{Notify, watch};

use super::environment::Saves;

/// A relay's way up, of one environment.
#[derive(Debug, Default)]
pub(crate) struct Uplink {
    /// Counts the tellings of the roster, so that somebody can wait for one that began later than now.
    pub(crate) told: Saves,
    way: watch::Sender<Way>,
    claim: Mutex<Option<Position>>,
    claimed: Notify,
}

/// Whether the server above hears what is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Way {
    /// That is being tried for the first time.
    #[default]
    Tried,
    /// It does.
    Open,
    /// It does not.
    Closed,
}

impl Uplink {
    /// Whether the server above hears what is told.
    pub(crate) fn set(&self, way: Way) {
        self.way.send_if_modified(|was| std::mem::replace(was, way) != way);
    }

    /// Resolves when the server above has heard a telling, or hears nothing anyway: then it names this relay as away.
    pub(crate) async fn heard(&self, telling: u64) {
        let mut way = self.way.subscribe();
        tokio::select! {
            () = self.told.wait_for(telling) => {}
            // The sender lives as long as this.
            _ = way.wait_for(|way| *way == Way::Closed) => {}
        }
    }

    /// A client has a state in use that this relay was never told of.
    pub(crate) fn claim(&self, position: Position) {
        *self.claim.lock().unwrap_or_else(PoisonError::into_inner) = Some(position);
        self.claimed.notify_one();
    }

    /// The next such state; the newest one if there were several.
    pub(crate) async fn claimed(&self) -> Position {
        loop {
            self.claimed.notified().await;
            if let Some(position) = self.claim.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return position;
            }
        }
    }
}
