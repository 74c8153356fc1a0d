//! The one place that knows both the wire's messages and the core's types.
//!
//! What comes from the wire may be anything: conversions from it are fallible and say what was wrong. What goes
//! to the wire cannot fail.

use bytes::Bytes;
use flagd_core::entry::{EntryId, EntryKind, EntryWrite, StoredEntry};
use flagd_core::revision::{DIGEST_ALGORITHM, Digest, Epoch, Position, Revision};
use flagd_core::state::Delta;

use crate::stream;

pub mod admin;

/// Why a message does not mean anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// A field that must be there is not. Do: send it.
    #[error("the field `{0}` is missing")]
    Missing(&'static str),
    /// A digest has another length than 16 bytes. Do: send 16.
    #[error("a digest has 16 bytes, this one has {0}")]
    DigestLength(usize),
    /// A digest was made by an algorithm that is not known here. Do: upgrade the older side.
    #[error("digest algorithm {0} is not known here")]
    DigestAlgorithm(u32),
}

/// An epoch for the wire.
#[must_use]
pub fn epoch_to_wire(epoch: Epoch) -> stream::Epoch {
    stream::Epoch { minted_ms: epoch.minted_ms, random: epoch.random }
}

/// An epoch from the wire.
#[must_use]
pub fn epoch_from_wire(epoch: stream::Epoch) -> Epoch {
    Epoch { minted_ms: epoch.minted_ms, random: epoch.random }
}

/// A digest for the wire.
#[must_use]
pub fn digest_to_wire(digest: Digest) -> Bytes {
    Bytes::copy_from_slice(&digest.to_bytes())
}

/// A digest from the wire.
///
/// # Errors
/// When the algorithm is not ours or the length is wrong.
pub fn digest_from_wire(bytes: &[u8], algorithm: u32) -> Result<Digest, ConvertError> {
    if algorithm != DIGEST_ALGORITHM {
        return Err(ConvertError::DigestAlgorithm(algorithm));
    }
    Digest::from_bytes(bytes).ok_or(ConvertError::DigestLength(bytes.len()))
}

/// A position for the wire.
#[must_use]
pub fn position_to_wire(position: Position) -> stream::Position {
    stream::Position {
        epoch: Some(epoch_to_wire(position.epoch)),
        revision: position.revision.0,
        digest: digest_to_wire(position.digest),
        digest_algorithm: DIGEST_ALGORITHM,
    }
}

/// A position from the wire.
///
/// # Errors
/// When the epoch is missing or the digest is not one of ours.
pub fn position_from_wire(position: &stream::Position) -> Result<Position, ConvertError> {
    Ok(Position {
        epoch: epoch_from_wire(position.epoch.ok_or(ConvertError::Missing("epoch"))?),
        revision: Revision(position.revision),
        digest: digest_from_wire(&position.digest, position.digest_algorithm)?,
    })
}

/// The name of an entry for the wire.
#[must_use]
pub fn entry_id_to_wire(id: &EntryId) -> stream::EntryId {
    stream::EntryId { kind: id.kind.number(), key: id.key.to_string() }
}

/// The name of an entry from the wire.
#[must_use]
pub fn entry_id_from_wire(id: &stream::EntryId) -> EntryId {
    EntryId::new(EntryKind::from_number(id.kind), &id.key)
}

/// A write for the wire, as a delta carries it.
#[must_use]
pub fn write_to_wire(write: &EntryWrite) -> stream::Entry {
    let content = match &write.bytes {
        Some(bytes) => stream::entry::Content::Bytes(Bytes::copy_from_slice(bytes)),
        None => stream::entry::Content::Removed(true),
    };
    stream::Entry {
        kind: write.id.kind.number(),
        key: write.id.key.to_string(),
        content: Some(content),
        revision: 0,
    }
}

/// A write from the wire.
///
/// # Errors
/// When the entry says neither what it is nor that it is gone.
pub fn write_from_wire(entry: &stream::Entry) -> Result<EntryWrite, ConvertError> {
    let bytes = match &entry.content {
        Some(stream::entry::Content::Bytes(bytes)) => Some(bytes.as_ref().into()),
        Some(stream::entry::Content::Removed(_)) => None,
        None => return Err(ConvertError::Missing("content")),
    };
    Ok(EntryWrite { id: EntryId::new(EntryKind::from_number(entry.kind), &entry.key), bytes })
}

/// A held entry for the wire, as a full state carries it.
#[must_use]
pub fn stored_to_wire(id: &EntryId, entry: &StoredEntry) -> stream::Entry {
    stream::Entry {
        kind: id.kind.number(),
        key: id.key.to_string(),
        content: Some(stream::entry::Content::Bytes(Bytes::copy_from_slice(&entry.bytes))),
        revision: entry.revision.0,
    }
}

/// A held entry from the wire.
///
/// # Errors
/// When the entry has no bytes.
pub fn stored_from_wire(entry: &stream::Entry) -> Result<(EntryId, StoredEntry), ConvertError> {
    let Some(stream::entry::Content::Bytes(bytes)) = &entry.content else {
        return Err(ConvertError::Missing("bytes"));
    };
    let id = EntryId::new(EntryKind::from_number(entry.kind), &entry.key);
    Ok((id, StoredEntry { bytes: bytes.as_ref().into(), revision: Revision(entry.revision) }))
}

/// A change for the wire, whole. Whoever sends it splits it where it is larger than a message may be.
#[must_use]
pub fn delta_to_wire(delta: &Delta) -> stream::Delta {
    stream::Delta {
        epoch: Some(epoch_to_wire(delta.epoch)),
        from: delta.from.0,
        to: delta.to.0,
        digest: digest_to_wire(delta.digest_after),
        digest_algorithm: DIGEST_ALGORITHM,
        entries: delta.writes.iter().map(write_to_wire).collect(),
        more: false,
    }
}

/// A change from the wire; the parts of a large one must have been put together.
///
/// # Errors
/// When something is missing or the digest is not one of ours.
pub fn delta_from_wire(delta: &stream::Delta) -> Result<Delta, ConvertError> {
    Ok(Delta {
        epoch: epoch_from_wire(delta.epoch.ok_or(ConvertError::Missing("epoch"))?),
        from: Revision(delta.from),
        to: Revision(delta.to),
        digest_after: digest_from_wire(&delta.digest, delta.digest_algorithm)?,
        writes: delta.entries.iter().map(write_from_wire).collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_out_comes_back() {
        let epoch = Epoch { minted_ms: 5, random: 7 };
        let delta = Delta {
            epoch,
            from: Revision(3),
            to: Revision(4),
            digest_after: Digest(9),
            writes: vec![
                EntryWrite::set(EntryId::new(EntryKind::FLAG, "a"), *b"{}"),
                EntryWrite::remove(EntryId::new(EntryKind::from_number(77), "b")),
            ],
        };
        assert_eq!(delta_from_wire(&delta_to_wire(&delta)), Ok(delta));
        let position = Position { epoch, revision: Revision(4), digest: Digest(9) };
        assert_eq!(position_from_wire(&position_to_wire(position)), Ok(position));
    }

    #[test]
    fn nonsense_is_named() {
        let mut position = position_to_wire(Position::default());
        position.digest = Bytes::from_static(b"short");
        assert_eq!(position_from_wire(&position), Err(ConvertError::DigestLength(5)));
        position.digest_algorithm = 9;
        assert_eq!(position_from_wire(&position), Err(ConvertError::DigestAlgorithm(9)));
        position.epoch = None;
        assert_eq!(position_from_wire(&position), Err(ConvertError::Missing("epoch")));
        let entry = stream::Entry::default();
        assert_eq!(write_from_wire(&entry), Err(ConvertError::Missing("content")));
    }
}
