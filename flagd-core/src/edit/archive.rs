//! `archive` and `unarchive`: retiring a key for ever without losing what it was.
//!
//! A tombstone keeps the type and the salt, so that the key can never come back as another flag under an old
//! client, and the last definition, so that it can come back as itself. A kill stays where it is: if archiving
//! lifted it, unarchiving would turn on what somebody had stopped.

use super::put::check_retired;
use super::reference::{Keys, direct_users};
use super::view::View;
use super::{Author, Draft, EditError, Severity, put, sentence};
use crate::canonical::write_tombstone;
use crate::definition::{FlagDefinition, Tombstone, parse_flag};
use crate::entry::{EntryId, EntryKind, EntryWrite};
use crate::key::{FlagKey, SegmentKey};

/// Drafts a tombstone in the place of a flag that no other flag requires.
pub(super) fn archive(before: &View<'_>, key: &FlagKey, author: &Author) -> Result<Draft, EditError> {
    let mut draft = Draft::default();
    if before.bytes(&EntryId::flag(key)).is_none() && before.bytes(&EntryId::tombstone(key)).is_some() {
        draft.note(Severity::Info, EntryId::flag(key), format!("`{key}` is archived already"));
        return Ok(draft);
    }
    let definition = before.known_flag(key)?;
    let used = Keys { flags: [key.clone()].into(), ..Keys::default() };
    let users = direct_users(before, &used).flags;
    if !users.is_empty() {
        return Err(EditError::Refused(format!(
            "`{key}` is required by {}; take the requirement out of them first",
            sentence::flags(&users)
        )));
    }
    draft_tombstone(before, key, definition, author, &mut draft);
    Ok(draft)
}

/// Drafts that a flag's definition is replaced by a tombstone that keeps it.
pub(super) fn draft_tombstone(
    before: &View<'_>,
    key: &FlagKey,
    definition: &FlagDefinition,
    author: &Author,
    draft: &mut Draft,
) {
    let bytes = before.bytes(&EntryId::flag(key)).map(|bytes| &bytes[..]).unwrap_or_default();
    let tombstone = Tombstone {
        flag_type: definition.flag_type(),
        salt: definition.salt.clone(),
        definition: String::from_utf8_lossy(bytes).into(),
        by: author.actor.clone(),
        at: author.now,
        reason: author.reason.clone(),
    };
    draft.writes.push(EntryWrite::remove(EntryId::flag(key)));
    draft.writes.push(EntryWrite::set(EntryId::tombstone(key), write_tombstone(&tombstone).into_bytes()));
    if before.is_killed(key.as_str()) {
        let text = format!("the kill of `{key}` stays: should the flag come back, it comes back killed");
        draft.note(Severity::Info, EntryId::flag(key), text);
    }
}

/// Drafts a flag's last definition, byte for byte, in the place of its tombstone.
pub(super) fn unarchive(before: &View<'_>, key: &FlagKey) -> Result<Draft, EditError> {
    let mut draft = Draft::default();
    if before.bytes(&EntryId::flag(key)).is_some() {
        draft.note(Severity::Info, EntryId::flag(key), format!("`{key}` is not archived"));
        return Ok(draft);
    }
    let Some(tombstone) = before.tombstone(key)? else { return Err(before.unknown(EntryId::tombstone(key))) };
    let definition = parse_flag(key, &tombstone.definition).map_err(|problems| EditError::NotUnderstood {
        id: EntryId::tombstone(key),
        why: problems.first().map(ToString::to_string).unwrap_or_default(),
    })?;
    check_retired(before, key, &definition, &mut draft)?;
    draft.notes.clear();
    put::note_kill(before, key, &mut draft);
    draft.writes.push(EntryWrite::set(EntryId::flag(key), tombstone.definition.as_bytes()));
    Ok(draft)
}

/// Drafts the retirement of a segment that nothing uses.
pub(super) fn archive_segment(before: &View<'_>, key: &SegmentKey) -> Result<Draft, EditError> {
    let mut draft = Draft::default();
    let (id, tombstone) = (EntryId::segment(key), segment_tombstone(key));
    let Some(bytes) = before.bytes(&id) else {
        if before.bytes(&tombstone).is_none() {
            return Err(before.unknown(id));
        }
        draft.note(Severity::Info, id, format!("segment `{key}` is archived already"));
        return Ok(draft);
    };
    let used = Keys { segments: [key.clone()].into(), ..Keys::default() };
    let users = direct_users(before, &used);
    if !users.is_empty() {
        let flags = users.flags.iter().map(|flag| format!("flag `{flag}`"));
        let names: Vec<String> =
            flags.chain(users.segments.iter().map(|s| format!("segment `{s}`"))).collect();
        let users = sentence::list(&names);
        return Err(EditError::Refused(format!(
            "segment `{key}` is used by {users}; take it out of them first"
        )));
    }
    draft.writes.push(EntryWrite::remove(id));
    // A segment has neither type nor salt, so its last definition is all that there is to keep.
    draft.writes.push(EntryWrite::set(tombstone, bytes.clone()));
    Ok(draft)
}

/// Drafts a segment's last definition, byte for byte.
pub(super) fn unarchive_segment(before: &View<'_>, key: &SegmentKey) -> Result<Draft, EditError> {
    let mut draft = Draft::default();
    let (id, tombstone) = (EntryId::segment(key), segment_tombstone(key));
    if before.bytes(&id).is_some() {
        draft.note(Severity::Info, id, format!("segment `{key}` is not archived"));
        return Ok(draft);
    }
    let Some(bytes) = before.bytes(&tombstone) else { return Err(before.unknown(tombstone)) };
    draft.writes.push(EntryWrite::remove(tombstone));
    draft.writes.push(EntryWrite::set(id, bytes.clone()));
    Ok(draft)
}

/// What an archived segment leaves behind.
pub(super) fn segment_tombstone(key: &SegmentKey) -> EntryId {
    EntryId::new(EntryKind::SEGMENT_TOMBSTONE, key.as_str())
}
