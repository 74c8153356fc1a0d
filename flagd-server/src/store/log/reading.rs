//! Puts states together: the newest checkpoint that can be believed, and the changes after it.
//!
//! Every change is applied only if it follows the one before and gives the digest that it promises, so a lost,
//! doubled or altered row is an error with a name and never a state. What was asked for is reached from an older
//! checkpoint, or from the beginning, when a newer one cannot be believed.

use flagd_core::key::EnvironmentName;
use flagd_core::revision::{Epoch, Position, Revision};
use flagd_core::state::State;
use flagd_proto::store as wire;

use super::{Change, Log, blobs, checkpoint, encoding};
use crate::store::StoreError;

/// Changes are read in pages of about this size.
const PAGE_BYTES: usize = 1024 * 1024;

/// A state that was put together, and what that took.
pub(super) struct Rebuilt {
    pub(super) state: State,
    pub(super) changes: u64,
    pub(super) change_bytes: usize,
    pub(super) checkpoint_bytes: usize,
}

impl Log {
    /// Puts a state together from the newest checkpoint that can be believed, or from the beginning.
    pub(super) async fn rebuild(
        &self,
        environment: &EnvironmentName,
        revision: Revision,
        head: Position,
    ) -> Result<Rebuilt, StoreError> {
        let checkpoints = checkpoint::list(&*self.store, environment, revision).await?;
        for (at, value) in checkpoints {
            let rebuilt = match checkpoint::read(&*self.store, environment, at, &value).await {
                Ok(read) => self.replay(read.state, read.bytes, revision, head).await,
                Err(error) => Err(error),
            };
            match rebuilt {
                Err(StoreError::Corrupt(why)) => {
                    tracing::warn!(%environment, checkpoint = %at, why, "passing over a checkpoint");
                }
                other => return other,
            }
        }
        let mut beginning = State::empty(environment.clone(), Epoch::default());
        if revision == Revision::ZERO {
            let first = self.change(environment, revision.next()).await?;
            beginning.start_epoch(first.map_or(head.epoch, |change| change.epoch));
        }
        self.replay(beginning, 0, revision, head).await
    }

    /// Goes from a state to a revision, and holds the result against the head when it is the head's.
    async fn replay(
        &self,
        mut state: State,
        checkpoint_bytes: usize,
        revision: Revision,
        head: Position,
    ) -> Result<Rebuilt, StoreError> {
        let environment = state.environment().clone();
        let (mut changes, mut change_bytes) = (0_u64, 0);
        while state.revision() < revision {
            let missing = usize::try_from(revision.0 - state.revision().0).unwrap_or(usize::MAX);
            let page = self.page(&environment, state.revision(), missing).await?;
            if page.is_empty() {
                let next = state.revision().next();
                return Err(StoreError::Corrupt(format!("change {next} of `{environment}` is missing")));
            }
            for (change, bytes) in page {
                follow(&mut state, &change)?;
                changes += 1;
                change_bytes += bytes;
            }
        }
        let found = state.position();
        if revision == head.revision && found != head {
            return Err(StoreError::Corrupt(format!(
                "the head of `{environment}` at revision {revision} promises epoch {} and digest {}, its changes give \
                 epoch {} and digest {}",
                head.epoch, head.digest, found.epoch, found.digest
            )));
        }
        Ok(Rebuilt { state, changes, change_bytes, checkpoint_bytes })
    }

    /// Like [`Log::changes`], each with its size.
    pub(super) async fn page(
        &self,
        environment: &EnvironmentName,
        after: Revision,
        max: usize,
    ) -> Result<Vec<(Change, usize)>, StoreError> {
        let mut page = Vec::new();
        let mut page_bytes = 0;
        for (revision, bytes) in
            self.store.changes(environment, after.next(), PAGE_BYTES).await?.into_iter().take(max)
        {
            let (change, bytes) = self.read(environment, revision, &bytes).await?;
            page.push((change, bytes));
            page_bytes += bytes;
            // A small row can name megabytes of blobs.
            if page_bytes > PAGE_BYTES {
                break;
            }
        }
        Ok(page)
    }

    /// A change from its row, put together from its blobs if it has any, and its size.
    pub(super) async fn read(
        &self,
        environment: &EnvironmentName,
        revision: Revision,
        row: &[u8],
    ) -> Result<(Change, usize), StoreError> {
        let what = format!("change {revision} of `{environment}`");
        let mut change: wire::Change = encoding::decode(&what, row)?;
        if change.revision != revision.0 {
            return Err(StoreError::Corrupt(format!("{what} calls itself change {}", change.revision)));
        }
        let mut bytes = row.len();
        if !change.entry_blobs.is_empty() {
            let whole = blobs::get(&*self.store, environment, &what, &change.entry_blobs).await?;
            bytes += whole.len();
            change.entries = encoding::decode::<wire::ChangedEntries>(&what, &whole)?.entries;
        }
        Ok((encoding::change_from_wire(change)?, bytes))
    }
}

/// Takes a state one recorded change further, into a younger epoch if the change began one.
fn follow(state: &mut State, change: &Change) -> Result<(), StoreError> {
    if change.epoch > state.position().epoch {
        state.start_epoch(change.epoch);
    }
    state.apply(&change.delta()).map_err(|error| {
        StoreError::Corrupt(format!("change {} of `{}`: {error}", change.revision, state.environment()))
    })
}
