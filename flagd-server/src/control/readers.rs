//! Lists, exports and comparisons take turns.
//!
//! Each looks at a whole environment, on a thread of its own. Without a bound every caller would have a thread, and a
//! kill, which needs a moment of a processor here and there, would get one among hundreds. So only some of the
//! processors may be busy with reading; who comes then waits, and holds no state meanwhile. Changes are not counted
//! here: those of one environment take turns of their own, and kills wait for nobody.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ControlError;
use crate::limits;

/// The turns.
#[derive(Debug)]
pub(super) struct Readers {
    free: Arc<Semaphore>,
}

/// The right to read, until it is dropped or its work is done.
#[derive(Debug)]
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl Readers {
    /// So many may read at a time.
    pub(super) fn of(at_once: usize) -> Readers {
        Readers { free: Arc::new(Semaphore::new(at_once.max(1))) }
    }

    /// Waits for a turn, first come, first served.
    pub(super) async fn turn(&self) -> Result<Turn, ControlError> {
        let permit = Arc::clone(&self.free).acquire_owned().await;
        // It is never closed.
        permit
            .map(|permit| Turn { _permit: permit })
            .map_err(|error| ControlError::Internal(error.to_string()))
    }
}

impl Default for Readers {
    fn default() -> Readers {
        Readers::of(limits::readers_at_once())
    }
}

impl Turn {
    /// Does the work on a thread of its own. The turn ends with the work, also when nobody waits for it any more.
    pub(super) async fn work<T: Send + 'static>(
        self,
        what: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ControlError> {
        let done = tokio::task::spawn_blocking(move || {
            let _turn = self;
            work()
        });
        done.await.map_err(|error| ControlError::Internal(format!("{what} failed: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use std::sync::mpsc;

    #[tokio::test]
    async fn who_comes_while_all_turns_are_taken_waits_until_a_work_is_done() {
        let readers = Readers::of(1);
        let (let_go, hangs) = mpsc::channel::<()>();
        let turn = readers.turn().await.unwrap();
        let first = tokio::spawn(turn.work("hanging", move || hangs.recv().is_err()));
        tokio::task::yield_now().await;
        let mut second = Box::pin(readers.turn());
        assert!(second.as_mut().now_or_never().is_none());
        // Its caller gives up; its thread has not.
        first.abort();
        let _ = first.await;
        assert!(second.as_mut().now_or_never().is_none());
        drop(let_go);
        assert_eq!(second.await.unwrap().work("adding", || 1 + 1).await.unwrap(), 2);
    }
}
