//! Keeps on the disk what a relay shows, after it was shown.
//!
//! The changes come in a queue. Whatever goes wrong - the disk fails, the queue overflows, something does not follow -
//! is mended in one way: the state that is shown is kept whole. Until that has worked there is an alarm; what is
//! served does not depend on it.

use std::sync::Arc;
use std::time::Duration;

use flagd_core::revision::Position;
use flagd_core::state::State;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::hub::Environment;
use crate::limits;
use crate::store::StoreError;
use crate::store::log::{Change, Outcome};

/// How long to rest before a disk that failed is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// The way to the disk.
#[derive(Debug)]
pub(super) struct Keeper {
    queue: mpsc::Sender<Keep>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
enum Keep {
    Changes(Vec<Arc<Change>>),
    Whole,
}

/// What is on the disk.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// This state.
    State(State),
    /// Nothing that could be gone on from.
    Nothing,
}

impl Keeper {
    /// Begins to keep an environment of which the disk has this.
    pub(super) fn start(environment: Arc<Environment>, known: Known) -> Keeper {
        let (queue, items) = mpsc::channel(limits::RELAY_KEEP_BUFFER);
        let task = tokio::spawn(run(Disk { environment, known }, items));
        Keeper { queue, task }
    }

    /// Keeps changes that were shown.
    pub(super) fn keep(&self, changes: Vec<Arc<Change>>) {
        // With a full queue the gap is found behind it.
        let _ = self.queue.try_send(Keep::Changes(changes));
    }

    /// Keeps what is shown as a whole.
    pub(super) fn keep_whole(&self) {
        let _ = self.queue.try_send(Keep::Whole);
    }

    /// Keeps what is left, and ends.
    pub(super) async fn stop(self) {
        drop(self.queue);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the keeping had failed");
        }
    }
}

async fn run(mut disk: Disk, mut items: mpsc::Receiver<Keep>) {
    while let Some(item) = items.recv().await {
        disk.take(item).await;
        if items.is_empty() {
            disk.catch_up().await;
        }
        while disk.is_behind() {
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                more = items.recv() => if more.is_none() { break },
            }
            disk.keep_whole().await;
        }
    }
    let environment = &disk.environment;
    let kept = environment.log.keep_confirmed(environment.name(), environment.confirmed_ms()).await;
    if let Err(error) = kept {
        tracing::warn!(environment = %environment.name(), %error, "since when the view is old could not be kept");
    }
}

struct Disk {
    environment: Arc<Environment>,
    known: Known,
}

impl Disk {
    fn is_behind(&self) -> bool {
        matches!(self.known, Known::Nothing)
    }

    async fn take(&mut self, item: Keep) {
        match item {
            Keep::Whole => self.keep_whole().await,
            Keep::Changes(changes) => {
                for change in changes {
                    self.keep_change(&change).await;
                }
            }
        }
    }

    async fn keep_change(&mut self, change: &Change) {
        let Known::State(state) = &mut self.known else { return };
        if is_kept(state.position(), change) {
            return;
        }
        let delta = change.delta();
        let at = state.position();
        if (at.epoch, at.revision) != (delta.epoch, delta.from) {
            self.known = Known::Nothing;
            return;
        }
        let confirmed_ms = self.environment.confirmed_ms();
        match self.environment.log.keep_change(state, delta, change.time_ms, confirmed_ms).await {
            Ok(Outcome::Recorded(delta)) if state.apply(&delta).is_ok() => {}
            Ok(_) => self.known = Known::Nothing,
            Err(error) => self.known = self.complain(&error),
        }
    }

    async fn keep_whole(&mut self) {
        let state = State::clone(&self.environment.shown().state);
        let kept = self.environment.log.keep_state(&state, self.environment.confirmed_ms()).await;
        self.known = match kept {
            Ok(()) => Known::State(state),
            Err(error) => self.complain(&error),
        };
    }

    /// What did not fit into the queue.
    async fn catch_up(&mut self) {
        let shown = self.environment.shown().position();
        let is_there = matches!(&self.known, Known::State(state) if state.position() == shown);
        if !is_there {
            self.keep_whole().await;
        }
    }

    fn complain(&self, error: &StoreError) -> Known {
        tracing::warn!(environment = %self.environment.name(), %error, "what is shown could not be kept");
        self.environment.alarm(
            "what this relay shows could not be kept on its disk (see the log); without its server a restart would go \
             back to what was kept before"
                .to_owned(),
        );
        Known::Nothing
    }
}

/// Whether a change is on the disk already, within a state that was kept whole.
fn is_kept(at: Position, change: &Change) -> bool {
    (at.epoch, at.revision) >= (change.epoch, change.revision)
}
