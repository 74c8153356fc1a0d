//! The one place that knows both the stored messages and the types of the log.
//!
//! What is stored was written by some version of flagd on some disk: reading it is fallible and says what is wrong,
//! writing it is not.

use bytes::Bytes;
use flagd_core::entry::{EntryId, EntryKind, EntryWrite, StoredEntry};
use flagd_core::key::EnvironmentName;
use flagd_core::revision::{DIGEST_ALGORITHM, Digest, Epoch, Position, Revision};
use flagd_core::state::Delta;
use flagd_proto::{Message, convert, store as wire};

use super::{Change, Origin, RelayEntry, RosterEntry};
use crate::store::{BlobId, StoreError};

/// Reads one stored message.
pub(super) fn decode<M: Message + Default>(what: &str, bytes: &[u8]) -> Result<M, StoreError> {
    M::decode(bytes).map_err(|error| StoreError::Corrupt(format!("{what}: {error}")))
}

pub(super) fn digest(what: &str, bytes: &[u8], algorithm: u32) -> Result<Digest, StoreError> {
    convert::digest_from_wire(bytes, algorithm)
        .map_err(|error| StoreError::Corrupt(format!("{what}: {error}")))
}

/// A head as it is stored.
pub(super) fn head_to_bytes(position: Position) -> Bytes {
    let head = wire::Head {
        epoch_minted_ms: position.epoch.minted_ms,
        epoch_random: position.epoch.random,
        revision: position.revision.0,
        digest: convert::digest_to_wire(position.digest),
        digest_algorithm: DIGEST_ALGORITHM,
    };
    head.encode_to_vec().into()
}

/// A head as it was stored.
pub(super) fn head_from_bytes(environment: &EnvironmentName, bytes: &[u8]) -> Result<Position, StoreError> {
    let what = format!("the head of `{environment}`");
    let head: wire::Head = decode(&what, bytes)?;
    Ok(Position {
        epoch: Epoch { minted_ms: head.epoch_minted_ms, random: head.epoch_random },
        revision: Revision(head.revision),
        digest: digest(&what, &head.digest, head.digest_algorithm)?,
    })
}

/// A change without its entries.
pub(super) fn change_to_wire(delta: &Delta, origin: Origin, time_ms: u64) -> wire::Change {
    wire::Change {
        revision: delta.to.0,
        epoch_minted_ms: delta.epoch.minted_ms,
        epoch_random: delta.epoch.random,
        actor: origin.actor,
        reason: origin.reason,
        time_ms,
        request_id: origin.request_id,
        operation: origin.operation,
        verb: origin.verb,
        digest: convert::digest_to_wire(delta.digest_after),
        digest_algorithm: DIGEST_ALGORITHM,
        entries: Vec::new(),
        entry_blobs: Vec::new(),
        source: origin.source,
    }
}

/// A change whose entries have been put together.
pub(super) fn change_from_wire(change: wire::Change) -> Result<Change, StoreError> {
    let what = format!("change {}", change.revision);
    let entries = change.entries.into_iter().map(|entry| changed_from_wire(&what, entry));
    Ok(Change {
        revision: Revision(change.revision),
        epoch: Epoch { minted_ms: change.epoch_minted_ms, random: change.epoch_random },
        digest: digest(&what, &change.digest, change.digest_algorithm)?,
        time_ms: change.time_ms,
        entries: entries.collect::<Result<_, _>>()?,
        origin: Origin {
            actor: change.actor,
            reason: change.reason,
            request_id: change.request_id,
            operation: change.operation,
            verb: change.verb,
            source: change.source,
        },
    })
}

pub(super) fn changed_to_wire(write: &EntryWrite, previous: Revision) -> wire::ChangedEntry {
    let after = match &write.bytes {
        Some(bytes) => wire::changed_entry::After::Bytes(Bytes::copy_from_slice(bytes)),
        None => wire::changed_entry::After::Removed(true),
    };
    wire::ChangedEntry {
        kind: write.id.kind.number(),
        key: write.id.key.to_string(),
        after: Some(after),
        previous_revision: previous.0,
    }
}

fn changed_from_wire(what: &str, entry: wire::ChangedEntry) -> Result<(EntryWrite, Revision), StoreError> {
    let id = EntryId::new(EntryKind::from_number(entry.kind), &entry.key);
    let bytes = match entry.after {
        Some(wire::changed_entry::After::Bytes(bytes)) => Some(bytes.as_ref().into()),
        Some(wire::changed_entry::After::Removed(_)) => None,
        None => return Err(StoreError::Corrupt(format!("{what}: {id} is neither set nor removed"))),
    };
    Ok((EntryWrite { id, bytes }, Revision(entry.previous_revision)))
}

pub(super) fn stored_to_wire(id: &EntryId, bytes: &[u8], revision: Revision) -> wire::StoredEntry {
    wire::StoredEntry {
        kind: id.kind.number(),
        key: id.key.to_string(),
        bytes: Bytes::copy_from_slice(bytes),
        revision: revision.0,
    }
}

pub(super) fn stored_from_wire(entry: &wire::StoredEntry) -> (EntryId, StoredEntry) {
    let id = EntryId::new(EntryKind::from_number(entry.kind), &entry.key);
    (id, StoredEntry { bytes: entry.bytes.as_ref().into(), revision: Revision(entry.revision) })
}

pub(super) fn blob_ids_to_wire(ids: &[BlobId]) -> Vec<Bytes> {
    ids.iter().map(|id| Bytes::copy_from_slice(&id.0.to_be_bytes())).collect()
}

pub(super) fn blob_id_from_wire(bytes: &[u8]) -> Result<BlobId, StoreError> {
    let wrong = |_| StoreError::Corrupt(format!("a blob's name has 16 bytes, this one has {}", bytes.len()));
    Ok(BlobId(u128::from_be_bytes(bytes.try_into().map_err(wrong)?)))
}

pub(super) fn roster_to_wire(entry: &RosterEntry) -> wire::RosterRecord {
    let position = entry.position.unwrap_or_default();
    wire::RosterRecord {
        instance: Bytes::copy_from_slice(&entry.instance.to_be_bytes()),
        connect_counter: entry.connect_counter,
        name: entry.name.clone(),
        app: entry.app.clone(),
        app_version: entry.app_version.clone(),
        sdk: entry.sdk.clone(),
        level: entry.level,
        last_seen_ms: entry.last_seen_ms,
        revision: position.revision.0,
        epoch_minted_ms: position.epoch.minted_ms,
        epoch_random: position.epoch.random,
        // No digest stands for no position.
        digest: entry.position.map(|position| convert::digest_to_wire(position.digest)).unwrap_or_default(),
        via: entry.via.clone(),
    }
}

pub(super) fn roster_from_wire(record: wire::RosterRecord) -> Result<RosterEntry, StoreError> {
    let what = "a client of the roster";
    let wrong = |_| StoreError::Corrupt(format!("{what}: its instance has {} bytes", record.instance.len()));
    let instance = u128::from_be_bytes(record.instance.as_ref().try_into().map_err(wrong)?);
    let position = if record.digest.is_empty() {
        None
    } else {
        Some(Position {
            epoch: Epoch { minted_ms: record.epoch_minted_ms, random: record.epoch_random },
            revision: Revision(record.revision),
            digest: digest(what, &record.digest, DIGEST_ALGORITHM)?,
        })
    };
    Ok(RosterEntry {
        instance,
        connect_counter: record.connect_counter,
        name: record.name,
        app: record.app,
        app_version: record.app_version,
        sdk: record.sdk,
        level: record.level,
        last_seen_ms: record.last_seen_ms,
        position,
        via: record.via,
    })
}

pub(super) fn relay_to_wire(entry: &RelayEntry) -> wire::RelayRecord {
    wire::RelayRecord {
        relay: Bytes::copy_from_slice(&entry.relay.to_be_bytes()),
        name: entry.name.clone(),
        link_counter: entry.link_counter,
        last_seen_ms: entry.last_seen_ms,
    }
}

pub(super) fn relay_from_wire(record: wire::RelayRecord) -> Result<RelayEntry, StoreError> {
    let wrong = |_| StoreError::Corrupt(format!("a relay's name has {} bytes", record.relay.len()));
    Ok(RelayEntry {
        relay: u128::from_be_bytes(record.relay.as_ref().try_into().map_err(wrong)?),
        name: record.name,
        link_counter: record.link_counter,
        last_seen_ms: record.last_seen_ms,
    })
}
