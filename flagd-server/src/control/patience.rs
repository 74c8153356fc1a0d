//! How long one write waits for the store, over all that it asks of it.
//!
//! Each question to a store ends after a while, but a write asks many, and repeats some; an operator in an incident
//! wants to know within three seconds that the store is gone. So a write has one purse of time for everything that it
//! waits for from the store. What it spends on thinking, and on waiting for its turn behind writes that succeed, is
//! not the store's fault and is not counted. A large change gets more, because it is written in many parts.
//!
//! A write that fails for want of an answer also ends those that wait behind it in the same process: each of them
//! would find out the same, one after the other.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tokio::time::{Instant, timeout};

use super::ControlError;
use crate::limits;
use crate::store::StoreError;

/// What is left of a write's time.
#[derive(Debug)]
pub(super) struct Patience {
    left: Duration,
}

impl Patience {
    pub(super) fn new() -> Patience {
        Patience { left: limits::WRITE_PATIENCE }
    }

    /// Time for a change of this size to be put into the store in parts.
    pub(super) fn extend_for(&mut self, bytes: usize) {
        let parts = u32::try_from(bytes / limits::BLOB_MAX_BYTES).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(limits::WRITE_PATIENCE_PER_BLOB.saturating_mul(parts));
    }

    pub(super) fn left(&self) -> Duration {
        self.left
    }

    /// Waits for the store; `None` when the time is up.
    pub(super) async fn wait<T>(&mut self, answer: impl Future<Output = T>) -> Option<T> {
        let began = Instant::now();
        let answer = timeout(self.left, answer).await.ok();
        self.left = self.left.saturating_sub(began.elapsed());
        answer
    }

    /// Waits for an answer without which nothing can have been changed.
    pub(super) async fn ask<T>(
        &mut self,
        answer: impl Future<Output = Result<T, ControlError>>,
    ) -> Result<T, ControlError> {
        self.wait(answer).await.unwrap_or_else(|| Err(out_of_time().into()))
    }
}

/// What is said when the time is up.
pub(super) fn out_of_time() -> StoreError {
    let ms = limits::WRITE_PATIENCE.as_millis();
    StoreError::Unavailable(format!("it has not done its part within {ms} ms"))
}

/// Whether the store has left a write without an answer.
fn is_silence(error: &ControlError) -> bool {
    matches!(error, ControlError::OutcomeUnknown { .. } | ControlError::Store(StoreError::Unavailable(_)))
}

/// Where the writes of one environment in this process queue.
#[derive(Debug)]
pub(super) struct Lane {
    turn: Arc<Mutex<()>>,
    /// Told when the one at the front got no answer.
    silences: watch::Sender<()>,
}

impl Default for Lane {
    fn default() -> Lane {
        Lane { turn: Arc::default(), silences: watch::Sender::new(()) }
    }
}

impl Lane {
    /// Waits for this write's turn, or until the store is found silent by somebody before it.
    pub(super) async fn turn(&self) -> Result<OwnedMutexGuard<()>, ControlError> {
        let mut silences = self.silences.subscribe();
        tokio::select! {
            biased;
            Ok(()) = silences.changed() => Err(StoreError::Unavailable(
                "a change before this one got no answer; this one was not tried".to_owned(),
            ).into()),
            turn = Arc::clone(&self.turn).lock_owned() => Ok(turn),
        }
    }

    /// Tells those who wait how this turn ended. To be called before the turn is given back.
    pub(super) fn ended<T>(&self, result: &Result<T, ControlError>) {
        if result.as_ref().is_err_and(is_silence) {
            self.silences.send_replace(());
        }
    }
}
