//! What the bytes in a store mean: changes, heads, checkpoints, requests, the roster. (placeholder: owned by store)

use std::collections::BTreeMap;
use std::sync::Arc;

use flagd_core::entry::{EntryId, EntryWrite};
use flagd_core::key::EnvironmentName;
use flagd_core::revision::{Digest, Epoch, Position, Revision};
use flagd_core::state::{Delta, State};

use super::{Created, Quota, Store, StoreError};

/// A store whose bytes have a meaning. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    store: Arc<dyn Store>,
}

/// One recorded change.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Its number.
    pub revision: Revision,
    /// The history it was recorded in.
    pub epoch: Epoch,
    /// The state after it.
    pub digest: Digest,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// Who, why and what.
    pub origin: Origin,
    /// The entries, each with the revision that wrote the bytes before (0: it was not there).
    pub entries: Vec<(EntryWrite, Revision)>,
}

/// Who made a change, why and by which operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Who.
    pub actor: String,
    /// Why; empty when not said.
    pub reason: String,
    /// The caller's id of the request; empty when it gave none.
    pub request_id: String,
    /// For people: `ramp new-checkout to 25 %`.
    pub operation: String,
    /// For code: `ramp`, `kill`, `rollback`, `epoch`.
    pub verb: String,
    /// `apply`: the source's name; else empty.
    pub source: String,
}

/// What is appended.
#[derive(Clone, Debug)]
pub struct NewChange {
    /// Who, why, what.
    pub origin: Origin,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// The entries.
    pub writes: Vec<EntryWrite>,
    /// The encoded answer to be given to whoever repeats the request; recorded when there is a request id. The
    /// revision is known before the append: head + 1.
    pub answer: Vec<u8>,
    /// `apply`: what the source has applied now.
    pub source_base: Option<BTreeMap<EntryId, Arc<[u8]>>>,
}

/// How an append ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Recorded; the delta that it makes of the state.
    Recorded(Delta),
    /// Somebody else was first. Do: plan again on the newer state.
    Lost,
}

/// The first answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstAnswer {
    /// The change that it made.
    pub revision: Revision,
    /// The encoded answer.
    pub answer: Vec<u8>,
}

/// A client that is expected to acknowledge, as it is remembered across restarts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterEntry {
    /// 128 random bits of the client.
    pub instance: u128,
    /// Counts its connections.
    pub connect_counter: u64,
    /// For people.
    pub name: String,
    /// The application.
    pub app: String,
    /// Its version.
    pub app_version: String,
    /// The SDK and its version.
    pub sdk: String,
    /// The level of the definition language that it understands.
    pub level: u32,
    /// When it was last heard, in milliseconds since 1970.
    pub last_seen_ms: u64,
    /// What it had in use then; `None` when it had nothing.
    pub position: Option<Position>,
}

impl Log {
    /// A log on a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Log {
        Log { store }
    }

    /// What and where the store is.
    #[must_use]
    pub fn describe(&self) -> String {
        self.store.describe()
    }

    /// All environments.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn environments(&self) -> Result<Vec<EnvironmentName>, StoreError> {
        self.store.environments().await
    }

    /// Creates an environment with a new epoch.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create(&self, _environment: &EnvironmentName, _now_ms: u64) -> Result<Created, StoreError> {
        todo!()
    }

    /// The head, linearizable; `None` when there is no such environment.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn head(&self, _environment: &EnvironmentName) -> Result<Option<Position>, StoreError> {
        todo!()
    }

    /// The newest state: a checkpoint and the changes after it, digests verified.
    ///
    /// # Errors
    /// [`StoreError`]; `Corrupt` when the digest does not come out as the head says.
    pub async fn load(&self, _environment: &EnvironmentName) -> Result<State, StoreError> {
        todo!()
    }

    /// The state as it was at a revision; `None` when history does not reach back to it or it is yet to come.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn state_at(&self, _environment: &EnvironmentName, _revision: Revision) -> Result<Option<State>, StoreError> {
        todo!()
    }

    /// Appends a change to `state`, which must be the state at the head that the caller saw.
    ///
    /// # Errors
    /// [`StoreError`]; after `Unavailable` the outcome is unknown until [`Log::first_answer`] was asked.
    pub async fn append(&self, _environment: &EnvironmentName, _state: &State, _change: NewChange) -> Result<Outcome, StoreError> {
        todo!()
    }

    /// Changes after `after`, in order, large ones put together from their blobs, about a megabyte of them but at least one
    /// if there is one; at most `max`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn changes(&self, _environment: &EnvironmentName, _after: Revision, _max: usize) -> Result<Vec<Change>, StoreError> {
        todo!()
    }

    /// One change; `None` when it is not in the history.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn change(&self, _environment: &EnvironmentName, _revision: Revision) -> Result<Option<Change>, StoreError> {
        todo!()
    }

    /// Waits until the head is not `seen` and returns it. Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn wait(&self, _environment: &EnvironmentName, _seen: Position) -> Result<Position, StoreError> {
        todo!()
    }

    /// The oldest revision whose state can be rebuilt.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn oldest(&self, _environment: &EnvironmentName) -> Result<Revision, StoreError> {
        todo!()
    }

    /// The first answer to a request id, if it is not older than a day.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn first_answer(&self, _environment: &EnvironmentName, _request_id: &str, _now_ms: u64) -> Result<Option<FirstAnswer>, StoreError> {
        todo!()
    }

    /// What a source applied last.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn source_base(&self, _environment: &EnvironmentName, _source: &str) -> Result<BTreeMap<EntryId, Arc<[u8]>>, StoreError> {
        todo!()
    }

    /// Starts a younger epoch: an empty change `epoch` with `why` as its reason, in the new epoch.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn start_epoch(&self, _environment: &EnvironmentName, _state: &State, _now_ms: u64, _why: &str) -> Result<Outcome, StoreError> {
        todo!()
    }

    /// Remembers clients.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn save_roster(&self, _environment: &EnvironmentName, _seen: &[RosterEntry], _gone: &[u128]) -> Result<(), StoreError> {
        todo!()
    }

    /// The clients remembered.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn roster(&self, _environment: &EnvironmentName) -> Result<Vec<RosterEntry>, StoreError> {
        todo!()
    }

    /// How full the store is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn quota(&self) -> Result<Quota, StoreError> {
        self.store.quota().await
    }
}
