//! What the bytes in a store mean: changes, heads, checkpoints, requests, the roster.
//!
//! An environment is its list of changes. A change of any size is one revision: what does not fit into a value goes
//! into blobs first, unseen, and the one small transaction that moves the head names them. Loading reads the newest
//! checkpoint that can be believed and the changes after it, and the state is handed out only when its digest is the
//! head's. Nothing here understands an entry's bytes, and nothing decides what is written.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use flagd_core::entry::{EntryId, EntryWrite};
use flagd_core::key::EnvironmentName;
use flagd_core::revision::{Digest, Epoch, Position, Revision};
use flagd_core::state::{Delta, State};
use flagd_proto::{Message, peer, store as wire};
use tokio::task::JoinHandle;

use super::{Append, Appended, BlobId, Created, Divergences, Past, Quota, RecordKind, Store, StoreError};
use crate::limits::CHANGE_INLINE_MAX_BYTES;

mod blobs;
mod checkpoint;
mod encoding;
mod reading;
mod records;
mod replica;

pub use records::{FirstAnswer, RelayEntry, RelayGone};
pub use replica::Kept;

/// Expired answers are looked for at most this often.
const HOUSEKEEPING_EVERY_MS: u64 = 60 * 60 * 1_000;

/// A store whose bytes have a meaning. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    store: Arc<dyn Store>,
    aside: Arc<Aside>,
}

/// What happens beside the appends: checkpoints and housekeeping.
#[derive(Debug, Default)]
struct Aside {
    ledger: Mutex<checkpoint::Ledger>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    last_housekeeping_ms: AtomicU64,
}

/// A head as it was seen.
#[derive(Clone, Debug)]
pub struct Head {
    /// Where it stands.
    pub position: Position,
    /// As the store holds it: another version may have written it in other words.
    bytes: Bytes,
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
    /// What was asked, so that its request id cannot stand for something else.
    pub fingerprint: u128,
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
    /// The relays that it was seen through, from the server on; empty: none.
    pub via: String,
}

impl Change {
    /// The change as a state takes it.
    #[must_use]
    pub fn delta(&self) -> Delta {
        Delta {
            epoch: self.epoch,
            from: Revision(self.revision.0.saturating_sub(1)),
            to: self.revision,
            digest_after: self.digest,
            writes: self.entries.iter().map(|(write, _)| write.clone()).collect(),
        }
    }
}

impl Log {
    /// A log on a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Log {
        Log { store, aside: Arc::default() }
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
    pub async fn create(&self, environment: &EnvironmentName, now_ms: u64) -> Result<Created, StoreError> {
        let epoch = Epoch::younger_than(None, now_ms, random()?);
        let position = State::empty(environment.clone(), epoch).position();
        self.store.create(environment, encoding::head_to_bytes(position)).await
    }

    /// The head, linearizable; `None` when there is no such environment.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn head(&self, environment: &EnvironmentName) -> Result<Option<Position>, StoreError> {
        let head = self.store.head(environment).await?;
        head.map(|bytes| encoding::head_from_bytes(environment, &bytes)).transpose()
    }

    /// The newest state: a checkpoint and the changes after it, digests verified.
    ///
    /// # Errors
    /// [`StoreError`]; `Corrupt` when the digest does not come out as the head says.
    pub async fn load(&self, environment: &EnvironmentName) -> Result<State, StoreError> {
        let head = self.must_head(environment).await?;
        let rebuilt = self.rebuild(environment, head.revision, head).await?;
        let reading::Rebuilt { changes, change_bytes, checkpoint_bytes, .. } = rebuilt;
        self.ledger().found(environment, changes, change_bytes, checkpoint_bytes);
        Ok(rebuilt.state)
    }

    /// The state as it was at a revision; `None` when history does not reach back to it or it is yet to come.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn state_at(
        &self,
        environment: &EnvironmentName,
        revision: Revision,
    ) -> Result<Option<State>, StoreError> {
        let head = self.must_head(environment).await?;
        if revision > head.revision || revision < self.oldest(environment).await? {
            return Ok(None);
        }
        Ok(Some(self.rebuild(environment, revision, head).await?.state))
    }

    /// Appends a change to `state`, which must be the state at the head that the caller saw.
    ///
    /// # Errors
    /// [`StoreError`]; after `Unavailable` the outcome is unknown until [`Log::first_answer`] was asked.
    pub async fn append(
        &self,
        environment: &EnvironmentName,
        state: &State,
        change: NewChange,
    ) -> Result<Outcome, StoreError> {
        let Some(expected_head) = self.head_if(environment, state.position()).await? else {
            return Ok(Outcome::Lost);
        };
        let NewChange { origin, time_ms, writes, answer, fingerprint, source_base } = change;
        let delta = state.delta(writes);
        let mut records = Vec::new();
        if !origin.request_id.is_empty() {
            records.push(records::request(&origin.request_id, delta.to, time_ms, answer, fingerprint));
        }
        if let Some(base) = &source_base {
            records.push(self.source_record(environment, &origin.source, delta.to, base).await?);
        }
        let change = self.write_down(environment, state, &delta, origin, time_ms).await?;
        let append = Append {
            expected_head,
            head: encoding::head_to_bytes(position_after(&delta)),
            revision: delta.to,
            change: Some(change),
            records,
        };
        self.commit(environment, state, delta, append, time_ms).await
    }

    /// Starts a younger epoch: an empty change `epoch` with `why` as its reason, in the new epoch.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn start_epoch(
        &self,
        environment: &EnvironmentName,
        state: &State,
        now_ms: u64,
        why: &str,
    ) -> Result<Outcome, StoreError> {
        self.start_epoch_above(environment, state, None, now_ms, why).await
    }

    /// Starts an epoch that is younger than the state's and than `floor`.
    pub(super) async fn start_epoch_above(
        &self,
        environment: &EnvironmentName,
        state: &State,
        floor: Option<Epoch>,
        now_ms: u64,
        why: &str,
    ) -> Result<Outcome, StoreError> {
        let older = state.position();
        let Some(expected_head) = self.head_if(environment, older).await? else {
            return Ok(Outcome::Lost);
        };
        let youngest = Some(older.epoch).max(floor);
        let mut younger = state.clone();
        younger.start_epoch(Epoch::younger_than(youngest, now_ms, random()?));
        let delta = younger.delta(Vec::new());
        let origin = Origin {
            actor: "flagd".to_owned(),
            reason: why.to_owned(),
            operation: "start a younger epoch".to_owned(),
            verb: "epoch".to_owned(),
            ..Origin::default()
        };
        let change = self.write_down(environment, &younger, &delta, origin, now_ms).await?;
        let append = Append {
            expected_head,
            head: encoding::head_to_bytes(position_after(&delta)),
            revision: delta.to,
            change: Some(change),
            records: Vec::new(),
        };
        self.commit(environment, &younger, delta, append, now_ms).await
    }

    /// Changes after `after`, in order, large ones put together from their blobs, about a megabyte of them but at least one
    /// if there is one; at most `max`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn changes(
        &self,
        environment: &EnvironmentName,
        after: Revision,
        max: usize,
    ) -> Result<Vec<Change>, StoreError> {
        let page = self.page(environment, after, max).await?;
        Ok(page.into_iter().map(|(change, _)| change).collect())
    }

    /// One change; `None` when it is not in the history.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn change(
        &self,
        environment: &EnvironmentName,
        revision: Revision,
    ) -> Result<Option<Change>, StoreError> {
        let found = self.store.changes(environment, revision, 1).await?;
        match found.into_iter().next() {
            Some((at, bytes)) if at == revision => Ok(Some(self.read(environment, at, &bytes).await?.0)),
            _ => Ok(None),
        }
    }

    /// The head, linearizable, as somebody sees it who then waits for news.
    ///
    /// # Errors
    /// [`StoreError`]; `NoEnvironment` when there is none.
    pub async fn look(&self, environment: &EnvironmentName) -> Result<Head, StoreError> {
        let missing = || StoreError::NoEnvironment(environment.clone());
        let bytes = self.store.head(environment).await?.ok_or_else(missing)?;
        Ok(Head { position: encoding::head_from_bytes(environment, &bytes)?, bytes })
    }

    /// Waits for news: what the store tells whoever has seen a head. News may be late or come twice; what holds is
    /// only known to who looks again. Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn news(&self, environment: &EnvironmentName, seen: &Head) -> Result<Position, StoreError> {
        let bytes = self.store.wait(environment, &seen.bytes).await?;
        encoding::head_from_bytes(environment, &bytes)
    }

    /// The oldest revision whose state can be rebuilt.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn oldest(&self, environment: &EnvironmentName) -> Result<Revision, StoreError> {
        let head = self.must_head(environment).await?;
        let first = self.store.oldest(environment).await?.unwrap_or(head.revision.next());
        if first <= Revision::ZERO.next() {
            return Ok(Revision::ZERO);
        }
        let checkpoints = checkpoint::list(&*self.store, environment, head.revision).await?;
        let reachable = checkpoints.iter().map(|(revision, _)| *revision).filter(|at| at.next() >= first);
        Ok(reachable.min().unwrap_or(head.revision))
    }

    /// Says that a server is there, for a few seconds.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn announce(&self, server: u128, announcement: &peer::Announcement) -> Result<(), StoreError> {
        self.store.announce(server, announcement.encode_to_vec().into()).await
    }

    /// Says that a server is going.
    ///
    /// # Errors
    /// [`StoreError`]; then it is gone in a few seconds anyway.
    pub async fn withdraw(&self, server: u128) -> Result<(), StoreError> {
        self.store.withdraw(server).await
    }

    /// The servers that are there now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn announced(&self) -> Result<Vec<(u128, peer::Announcement)>, StoreError> {
        let announced = self.store.announced().await?;
        let read = |(server, bytes): (u128, Bytes)| {
            Ok((server, encoding::decode("the announcement of a server", &bytes)?))
        };
        announced.into_iter().map(read).collect()
    }

    /// How full the store is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn quota(&self) -> Result<Quota, StoreError> {
        self.store.quota().await
    }

    /// Whether environments were ever kept in the store.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn past(&self) -> Result<Past, StoreError> {
        self.store.past().await
    }

    /// Leaves a mark in the store that environments are kept there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mark_used(&self) -> Result<(), StoreError> {
        self.store.mark_used().await
    }

    /// What the store told this process that did not fit.
    #[must_use]
    pub fn divergences(&self) -> Divergences {
        self.store.divergences()
    }

    /// Writes a checkpoint of a state now. The log does so by itself when loading would take long.
    ///
    /// # Errors
    /// [`StoreError`]; history is whole without the checkpoint.
    pub async fn checkpoint(&self, state: &State) -> Result<(), StoreError> {
        checkpoint::write(&*self.store, state).await.map(drop)
    }

    /// Waits until the checkpoints and the housekeeping that are under way are done.
    pub async fn settle(&self) {
        let tasks = std::mem::take(&mut *self.tasks());
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task beside the log ended early");
            }
        }
    }
}

impl Log {
    /// What a stored head says.
    pub(super) fn position(environment: &EnvironmentName, head: &[u8]) -> Result<Position, StoreError> {
        encoding::head_from_bytes(environment, head)
    }

    async fn must_head(&self, environment: &EnvironmentName) -> Result<Position, StoreError> {
        self.head(environment).await?.ok_or_else(|| StoreError::NoEnvironment(environment.clone()))
    }

    /// The stored head if it stands at `position`.
    async fn head_if(
        &self,
        environment: &EnvironmentName,
        position: Position,
    ) -> Result<Option<Bytes>, StoreError> {
        let head = self.store.head(environment).await?;
        let head = head.ok_or_else(|| StoreError::NoEnvironment(environment.clone()))?;
        let found = encoding::head_from_bytes(environment, &head)?;
        Ok((found == position).then_some(head))
    }

    /// A change as it is stored; what is too large for a value is in blobs afterwards.
    async fn write_down(
        &self,
        environment: &EnvironmentName,
        state: &State,
        delta: &Delta,
        origin: Origin,
        time_ms: u64,
    ) -> Result<Bytes, StoreError> {
        let previous =
            |write: &EntryWrite| state.get(&write.id).map_or(Revision::ZERO, |entry| entry.revision);
        let entries =
            delta.writes.iter().map(|write| encoding::changed_to_wire(write, previous(write))).collect();
        let entries = wire::ChangedEntries { entries };
        let mut change = encoding::change_to_wire(delta, origin, time_ms);
        if entries.encoded_len() <= CHANGE_INLINE_MAX_BYTES {
            change.entries = entries.entries;
        } else {
            let ids = blobs::put(&*self.store, environment, entries.encode_to_vec().into()).await?;
            change.entry_blobs = encoding::blob_ids_to_wire(&ids);
        }
        Ok(change.encode_to_vec().into())
    }

    /// The one small transaction; afterwards, whatever is due beside it.
    async fn commit(
        &self,
        environment: &EnvironmentName,
        state: &State,
        delta: Delta,
        append: Append,
        now_ms: u64,
    ) -> Result<Outcome, StoreError> {
        let blob_bytes: usize =
            delta.writes.iter().filter_map(|write| Some(write.bytes.as_ref()?.len())).sum();
        let bytes = append.change.as_ref().map_or(0, Bytes::len).max(blob_bytes);
        match self.store.append(environment, append).await? {
            Appended::Lost(_) => return Ok(Outcome::Lost),
            Appended::Recorded => {}
        }
        let checkpoint_due = self.ledger().appended(environment, bytes);
        if checkpoint_due {
            let mut after = state.clone();
            match after.apply(&delta) {
                Ok(()) => self.start_checkpoint(after),
                Err(error) => {
                    tracing::error!(%error, "a change that was recorded does not apply; no checkpoint");
                }
            }
        }
        let last_ms = self.aside.last_housekeeping_ms.load(Ordering::Relaxed);
        if now_ms.saturating_sub(last_ms) > HOUSEKEEPING_EVERY_MS {
            self.aside.last_housekeeping_ms.store(now_ms, Ordering::Relaxed);
            self.start_housekeeping(now_ms);
        }
        Ok(Outcome::Recorded(delta))
    }

    fn start_checkpoint(&self, state: State) {
        let log = self.clone();
        self.start(async move {
            let written = checkpoint::write(&*log.store, &state).await;
            let (environment, revision) = (state.environment(), state.revision());
            match &written {
                Ok(bytes) => tracing::info!(%environment, %revision, bytes, "checkpoint written"),
                Err(error) => tracing::warn!(%environment, %revision, %error, "no checkpoint this time"),
            }
            log.ledger().written(environment, written.ok());
        });
    }

    fn start_housekeeping(&self, now_ms: u64) {
        let log = self.clone();
        self.start(async move {
            if let Err(error) = log.housekeeping(now_ms).await {
                tracing::warn!(%error, "old answers to requests could not be forgotten this time");
            }
        });
    }

    fn start(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        tasks.retain(|task| !task.is_finished());
        tasks.push(tokio::spawn(work));
    }

    fn ledger(&self) -> MutexGuard<'_, checkpoint::Ledger> {
        self.aside.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.aside.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The blobs that a stored row names: a change's, or a record's of this kind.
pub(super) fn refers_to_blobs(kind: Option<RecordKind>, row: &[u8]) -> Result<Vec<BlobId>, StoreError> {
    let names = match kind {
        None => encoding::decode::<wire::Change>("a change", row)?.entry_blobs,
        // One that cannot be read is passed over when it is used; then its blobs are of no use either.
        Some(RecordKind::Checkpoint) => wire::Checkpoint::decode(row).unwrap_or_default().blobs,
        Some(RecordKind::Source) => encoding::decode::<wire::SourceRecord>("a source", row)?.blobs,
        Some(RecordKind::Request | RecordKind::Roster | RecordKind::Meta) => Vec::new(),
    };
    names.iter().map(|name| encoding::blob_id_from_wire(name)).collect()
}

fn position_after(delta: &Delta) -> Position {
    Position { epoch: delta.epoch, revision: delta.to, digest: delta.digest_after }
}

fn random() -> Result<u64, StoreError> {
    getrandom::u64().map_err(|error| StoreError::Unavailable(format!("no random bits for an epoch: {error}")))
}

#[cfg(test)]
mod tests;
