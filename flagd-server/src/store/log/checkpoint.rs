//! Whole states, written now and then, so that loading does not read a history from its beginning.
//!
//! A checkpoint is a convenience: the changes are the truth. It is believed only when its entries come out at its
//! digest; one that is damaged is passed over for the one before it, and in the end for the beginning. Writing one
//! happens beside an append and never makes it fail.

use std::collections::HashMap;

use flagd_core::key::EnvironmentName;
use flagd_core::revision::{DIGEST_ALGORITHM, Digest, Epoch, Position, Revision};
use flagd_core::state::State;
use flagd_proto::{Message, convert, store as wire};

use super::{blobs, encoding};
use crate::limits::{CHECKPOINT_EVERY_BYTES, CHECKPOINT_EVERY_CHANGES};
use crate::store::{RecordKind, RecordWrite, Store, StoreError};

/// A state that was read from a checkpoint.
pub(super) struct Read {
    pub(super) state: State,
    pub(super) bytes: usize,
}

/// How much would be read beside the newest checkpoint, per environment.
#[derive(Debug, Default)]
pub(super) struct Ledger(HashMap<EnvironmentName, Account>);

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    changes: u64,
    change_bytes: usize,
    checkpoint_bytes: usize,
    being_written: bool,
}

impl Ledger {
    /// What a load has found.
    pub(super) fn found(
        &mut self,
        environment: &EnvironmentName,
        changes: u64,
        change_bytes: usize,
        checkpoint_bytes: usize,
    ) {
        let account = self.0.entry(environment.clone()).or_default();
        *account = Account { changes, change_bytes, checkpoint_bytes, ..*account };
    }

    /// Counts a change. Answers whether a checkpoint is due; if so, it counts as being written.
    pub(super) fn appended(&mut self, environment: &EnvironmentName, bytes: usize) -> bool {
        let account = self.0.entry(environment.clone()).or_default();
        account.changes += 1;
        account.change_bytes += bytes;
        // A large state is not written again for every few megabytes: that would cost more than it saves.
        let enough_bytes = account.change_bytes > CHECKPOINT_EVERY_BYTES.max(account.checkpoint_bytes);
        let due = enough_bytes || account.changes > CHECKPOINT_EVERY_CHANGES;
        if account.being_written || !due {
            return false;
        }
        *account = Account { being_written: true, changes: 0, change_bytes: 0, ..*account };
        true
    }

    /// The checkpoint was written, or not: then the next one is tried after as many changes again.
    pub(super) fn written(&mut self, environment: &EnvironmentName, bytes: Option<usize>) {
        let account = self.0.entry(environment.clone()).or_default();
        account.being_written = false;
        account.checkpoint_bytes = bytes.unwrap_or(account.checkpoint_bytes);
    }
}

/// Revisions sort as text when they have the same length.
pub(super) fn key(revision: Revision) -> String {
    format!("{:020}", revision.0)
}

/// Writes a state as a checkpoint and says how many bytes it has.
pub(super) async fn write(store: &dyn Store, state: &State) -> Result<usize, StoreError> {
    let environment = state.environment();
    let Position { epoch, revision, digest } = state.position();
    let entries = state.entries().map(|(id, entry)| (id, &*entry.bytes, entry.revision));
    let (ids, bytes) = blobs::put_entries(store, environment, entries).await?;
    let record = wire::Checkpoint {
        revision: revision.0,
        epoch_minted_ms: epoch.minted_ms,
        epoch_random: epoch.random,
        digest: convert::digest_to_wire(digest),
        digest_algorithm: DIGEST_ALGORITHM,
        blobs: encoding::blob_ids_to_wire(&ids),
    };
    let value = Some(record.encode_to_vec().into());
    let write = RecordWrite { kind: RecordKind::Checkpoint, key: key(revision), value };
    store.put_records(environment, vec![write]).await?;
    Ok(bytes)
}

/// The checkpoints up to a revision, the newest first, as they are stored.
pub(super) async fn list(
    store: &dyn Store,
    environment: &EnvironmentName,
    up_to: Revision,
) -> Result<Vec<(Revision, bytes::Bytes)>, StoreError> {
    let mut found = Vec::new();
    for (key, value) in store.list_records(environment, RecordKind::Checkpoint).await? {
        // A key that is no revision is somebody else's; a checkpoint may always be missing.
        if let Ok(revision) = key.parse().map(Revision)
            && revision <= up_to
        {
            found.push((revision, value));
        }
    }
    found.sort_by_key(|(revision, _)| std::cmp::Reverse(*revision));
    Ok(found)
}

/// Reads a checkpoint, held against its digest.
pub(super) async fn read(
    store: &dyn Store,
    environment: &EnvironmentName,
    revision: Revision,
    value: &[u8],
) -> Result<Read, StoreError> {
    let what = format!("the checkpoint of `{environment}` at revision {revision}");
    let record: wire::Checkpoint = encoding::decode(&what, value)?;
    let promised: Digest = encoding::digest(&what, &record.digest, record.digest_algorithm)?;
    let (entries, bytes) = blobs::get_entries(store, environment, &what, &record.blobs).await?;
    let epoch = Epoch { minted_ms: record.epoch_minted_ms, random: record.epoch_random };
    let state = State::from_entries(environment.clone(), epoch, Revision(record.revision), entries);
    let found = state.position();
    if found.digest != promised || found.revision != revision {
        return Err(StoreError::Corrupt(format!(
            "{what} promises digest {promised}, its entries give {}",
            found.digest
        )));
    }
    Ok(Read { state, bytes })
}
