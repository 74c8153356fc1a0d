//! What is too large for one value, in content-addressed pieces.
//!
//! The pieces of a value are written before the one small transaction that names them, so nobody ever sees half of
//! it. Entries are laid into pieces by a rule that looks only at their names: when one entry of a large state has
//! changed, one piece of the next checkpoint is new and all the others are in the store already. Pieces are byte
//! strings; only all of them together are a message (the encoding lets messages of repeated fields be joined), so
//! an entry larger than a blob needs no rule of its own.

use bytes::{Bytes, BytesMut};
use flagd_core::entry::{EntryId, StoredEntry};
use flagd_core::key::EnvironmentName;
use flagd_core::revision::Revision;
use flagd_proto::{Message, store as wire};

use super::encoding;
use crate::limits::BLOB_MAX_BYTES;
use crate::store::{BlobId, Store, StoreError};

/// One entry in so many ends a piece of a state: about 32 definitions, some tens of kilobytes.
const PIECE_ENTRIES: u128 = 32;

/// Writes a byte string as blobs.
pub(super) async fn put(
    store: &dyn Store,
    environment: &EnvironmentName,
    bytes: Bytes,
) -> Result<Vec<BlobId>, StoreError> {
    let mut ids = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let piece = rest.split_to(rest.len().min(BLOB_MAX_BYTES));
        ids.push(store.put_blob(environment, piece).await?);
    }
    Ok(ids)
}

/// Reads blobs as one byte string, each held against its name.
pub(super) async fn get(
    store: &dyn Store,
    environment: &EnvironmentName,
    what: &str,
    ids: &[Bytes],
) -> Result<Bytes, StoreError> {
    let mut whole = BytesMut::new();
    for id in ids {
        let id = encoding::blob_id_from_wire(id)?;
        let Some(blob) = store.get_blob(environment, id).await? else {
            return Err(StoreError::Corrupt(format!("{what}: its blob {id} is missing")));
        };
        if BlobId::of(&blob) != id {
            return Err(StoreError::Corrupt(format!(
                "{what}: its blob {id} holds other bytes than it was named for"
            )));
        }
        whole.extend_from_slice(&blob);
    }
    Ok(whole.freeze())
}

/// Writes entries as blobs and says how many bytes they have.
pub(super) async fn put_entries<'a>(
    store: &dyn Store,
    environment: &EnvironmentName,
    entries: impl IntoIterator<Item = (&'a EntryId, &'a [u8], Revision)>,
) -> Result<(Vec<BlobId>, usize), StoreError> {
    let (mut ids, mut bytes) = (Vec::new(), 0);
    for piece in pieces(entries) {
        bytes += piece.len();
        ids.extend(put(store, environment, piece).await?);
    }
    Ok((ids, bytes))
}

/// Reads what [`put_entries`] has written, and how many bytes that were.
pub(super) async fn get_entries(
    store: &dyn Store,
    environment: &EnvironmentName,
    what: &str,
    ids: &[Bytes],
) -> Result<(Vec<(EntryId, StoredEntry)>, usize), StoreError> {
    let bytes = get(store, environment, what, ids).await?;
    let entries: wire::StoredEntries = encoding::decode(what, &bytes)?;
    Ok((entries.entries.iter().map(encoding::stored_from_wire).collect(), bytes.len()))
}

fn pieces<'a>(entries: impl IntoIterator<Item = (&'a EntryId, &'a [u8], Revision)>) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    let mut piece = wire::StoredEntries::default();
    for (id, bytes, revision) in entries {
        piece.entries.push(encoding::stored_to_wire(id, bytes, revision));
        if BlobId::of(id.key.as_bytes()).0.is_multiple_of(PIECE_ENTRIES) {
            pieces.push(std::mem::take(&mut piece).encode_to_vec().into());
        }
    }
    if !piece.entries.is_empty() {
        pieces.push(piece.encode_to_vec().into());
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use flagd_core::entry::EntryKind;

    #[test]
    fn one_changed_entry_costs_one_piece() {
        let ids: Vec<EntryId> =
            (0..2_000).map(|n| EntryId::new(EntryKind::FLAG, &format!("flag-{n}"))).collect();
        let lay = |changed: usize| {
            let bytes = |n: usize| if n == changed { &b"other, and longer"[..] } else { &b"definition"[..] };
            pieces(ids.iter().enumerate().map(|(n, id)| (id, bytes(n), Revision(1))))
        };
        let (before, after) = (lay(usize::MAX), lay(700));
        assert!(before.len() > 20, "{} pieces", before.len());
        let fresh = after.iter().filter(|piece| !before.contains(piece)).count();
        assert_eq!((fresh, after.len()), (1, before.len()));
    }
}
