//! `rollback` and `restore`: puts definitions back byte for byte.
//!
//! A segment comes back with all its parts. The bytes are not rewritten, but the environment that they make is checked like any other: a definition that
//! refers to what is gone meanwhile is refused. Kills are not definitions and are left alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::archive::{draft_tombstone, segment_tombstone};
use super::lists::part_ids;
use super::put::{Identity, check_identity, check_retired, note_kill};
use super::view::View;
use super::{Author, Draft, EditError, Severity};
use crate::definition::{SegmentList, parse_flag};
use crate::entry::{EntryId, EntryKind, EntryWrite};
use crate::key::{FlagKey, SegmentKey};
use crate::problem::{Problem, Problems};

/// Drafts the entries as they once were.
pub(super) fn restore(
    before: &View<'_>,
    entries: &[(EntryId, Option<Arc<[u8]>>)],
    author: &Author,
) -> Result<Draft, EditError> {
    let mut draft = Draft::default();
    let mut problems = Problems::default();
    for (id, bytes) in entries {
        match id.kind {
            EntryKind::FLAG => restore_flag(before, id, bytes.as_ref(), author, &mut draft, &mut problems)?,
            EntryKind::SEGMENT => restore_segment(before, id, bytes.as_ref(), &mut draft, &mut problems),
            EntryKind::SEGMENT_PART => {
                draft.writes.push(EntryWrite { id: id.clone(), bytes: bytes.clone() });
            }
            EntryKind::KILL if before.bytes(id) != bytes.as_ref() => {
                let state =
                    if before.bytes(id).is_some() { "stays killed" } else { "stays as it is: not killed" };
                draft.note(
                    Severity::Info,
                    id.clone(),
                    format!("`{}` {state}; kills are not put back", id.key),
                );
            }
            // Tombstones follow from what becomes of the flags and segments.
            EntryKind::KILL | EntryKind::TOMBSTONE | EntryKind::SEGMENT_TOMBSTONE => {}
            _ => {
                let why = "this server does not know this kind of entry".to_owned();
                return Err(EditError::NotUnderstood { id: id.clone(), why });
            }
        }
    }
    remove_later_parts(before, entries, &mut draft);
    if problems.is_empty() { Ok(draft) } else { Err(EditError::Invalid(problems.into_vec())) }
}

/// Of a segment that comes back all parts are given; those that it has now and had not then go.
fn remove_later_parts(before: &View<'_>, entries: &[(EntryId, Option<Arc<[u8]>>)], draft: &mut Draft) {
    let given: BTreeSet<&EntryId> = entries.iter().map(|(id, _)| id).collect();
    let back = entries.iter().filter(|(id, bytes)| id.kind == EntryKind::SEGMENT && bytes.is_some());
    for key in back.filter_map(|(id, _)| SegmentKey::new(&id.key).ok()) {
        let later = part_ids(before, &key, &SegmentList::BOTH).filter(|id| !given.contains(id));
        draft.writes.extend(later.map(EntryWrite::remove));
    }
}

fn restore_flag(
    before: &View<'_>,
    id: &EntryId,
    bytes: Option<&Arc<[u8]>>,
    author: &Author,
    draft: &mut Draft,
    problems: &mut Problems,
) -> Result<(), EditError> {
    let Some(key) = checked(FlagKey::new(&id.key), id, problems) else { return Ok(()) };
    let Some(bytes) = bytes else {
        if before.bytes(id).is_some() {
            draft_tombstone(before, &key, before.known_flag(&key)?, author, draft);
            let text = format!(
                "`{key}` was not there then: it is archived; `flagctl unarchive {key}` brings it back"
            );
            draft.note(Severity::Info, id.clone(), text);
        }
        return Ok(());
    };
    let parsed = std::str::from_utf8(bytes).ok().map(|text| parse_flag(&key, text));
    if let Some(Ok(definition)) = parsed {
        check_retired(before, &key, &definition, draft)?;
        if let Some(Ok(live)) = before.read_flag(key.as_str()) {
            check_identity(&key, &definition, &Identity::of(live), problems);
        }
    }
    note_kill(before, &key, draft);
    // Bytes that cannot be read are refused when the whole is checked, with every problem in them.
    draft.writes.push(EntryWrite::set(id.clone(), Arc::clone(bytes)));
    Ok(())
}

fn restore_segment(
    before: &View<'_>,
    id: &EntryId,
    bytes: Option<&Arc<[u8]>>,
    draft: &mut Draft,
    problems: &mut Problems,
) {
    let Some(key) = checked(SegmentKey::new(&id.key), id, problems) else { return };
    let tombstone = segment_tombstone(&key);
    match (bytes, before.bytes(id)) {
        (None, None) => {}
        (None, Some(live)) => {
            draft.writes.push(EntryWrite::remove(id.clone()));
            draft.writes.push(EntryWrite::set(tombstone, Arc::clone(live)));
            draft.note(
                Severity::Info,
                id.clone(),
                format!("segment `{key}` was not there then: it is archived"),
            );
        }
        (Some(bytes), _) => {
            draft.writes.push(EntryWrite::remove(tombstone));
            draft.writes.push(EntryWrite::set(id.clone(), Arc::clone(bytes)));
        }
    }
}

fn checked<K>(key: Result<K, crate::key::NameError>, id: &EntryId, problems: &mut Problems) -> Option<K> {
    key.map_err(|error| problems.push(Problem::new(id.to_string(), error.to_string()))).ok()
}
