//! Takes over a file of definitions as it is: `create`, `edit`, `import`.

use std::sync::Arc;

use serde_json::Value;

use super::lay::lay_shares;
use super::lists::draft_segment;
use super::view::View;
use super::{Draft, EditError, PutMode, Severity};
use crate::canonical::{Form, write_flag};
use crate::definition::{FlagDefinition, FlagType, ParsedFile, SegmentDefinition, SegmentList, parse_file};
use crate::entry::{EntryId, EntryKind, EntryWrite};
use crate::key::{FlagKey, SegmentKey};
use crate::problem::{Problem, Problems};

/// Drafts the definitions of a file.
pub(super) fn put(before: &View<'_>, file: &str, mode: PutMode) -> Result<Draft, EditError> {
    let file = parse_file(file).map_err(EditError::Invalid)?;
    check_mode(before, &file, mode)?;
    let mut draft = Draft::default();
    let mut problems = Problems::default();
    for (key, definition) in file.flags {
        put_flag(before, &key, definition, &mut draft, &mut problems)?;
    }
    for (key, definition) in &file.segments {
        put_segment(before, key, definition, &mut draft);
    }
    if problems.is_empty() { Ok(draft) } else { Err(EditError::Invalid(problems.into_vec())) }
}

fn check_mode(before: &View<'_>, file: &ParsedFile, mode: PutMode) -> Result<(), EditError> {
    let ids = file.flags.keys().map(EntryId::flag).chain(file.segments.keys().map(EntryId::segment));
    for id in ids {
        match (mode, before.bytes(&id)) {
            (PutMode::Create, Some(_)) => {
                let revision = before.revision(&id);
                return Err(EditError::Exists { id, revision });
            }
            (PutMode::Replace, None) => return Err(before.unknown(id)),
            _ => {}
        }
    }
    Ok(())
}

/// Drafts one flag's definition as the file has it; shares are laid here.
pub(super) fn put_flag(
    before: &View<'_>,
    key: &FlagKey,
    mut definition: FlagDefinition,
    draft: &mut Draft,
    problems: &mut Problems,
) -> Result<(), EditError> {
    let id = EntryId::flag(key);
    check_retired(before, key, &definition, draft)?;
    match before.read_flag(key.as_str()) {
        None => lay_shares(&mut definition, None),
        Some(Ok(live)) => {
            check_identity(key, &definition, &Identity::of(live), problems);
            lay_shares(&mut definition, Some(live));
        }
        Some(Err(_)) => {
            let bytes = before.bytes(&id).map(|bytes| &bytes[..]).unwrap_or_default();
            check_identity(key, &definition, &Identity::guess(bytes), problems);
            lay_shares(&mut definition, None);
            let text = "the stored definition was not understood by this server; it is replaced as a whole";
            draft.note(Severity::Warning, id.clone(), text);
        }
    }
    note_kill(before, key, draft);
    draft.writes.push(EntryWrite::set(id, flag_bytes(key, &definition)));
    Ok(())
}

/// Drafts one segment's definition as the file has it.
pub(super) fn put_segment(
    before: &View<'_>,
    key: &SegmentKey,
    definition: &SegmentDefinition,
    draft: &mut Draft,
) {
    let tombstone = EntryId::new(EntryKind::SEGMENT_TOMBSTONE, key.as_str());
    if before.bytes(&tombstone).is_some() {
        let text = format!("segment `{key}` was archived; it comes back with this definition");
        draft.note(Severity::Info, EntryId::segment(key), text);
        draft.writes.push(EntryWrite::remove(tombstone));
    }
    draft_segment(before, key, definition, &SegmentList::BOTH, draft);
}

/// The stored form of a flag whose shares are laid.
pub(super) fn flag_bytes(key: &FlagKey, definition: &FlagDefinition) -> Arc<[u8]> {
    write_flag(key, definition, Form::Stored).into_bytes().into()
}

/// Says that a kill stays, whatever the definition becomes.
pub(super) fn note_kill(before: &View<'_>, key: &FlagKey, draft: &mut Draft) {
    if before.is_killed(key.as_str()) {
        let text = format!("`{key}` is killed and stays killed; `flagctl revive {key}` lifts that");
        draft.note(Severity::Info, EntryId::flag(key), text);
    }
}

/// A key that was retired comes back only with the type and the salt that it had.
pub(super) fn check_retired(
    before: &View<'_>,
    key: &FlagKey,
    definition: &FlagDefinition,
    draft: &mut Draft,
) -> Result<(), EditError> {
    let Some(tombstone) = before.tombstone(key)? else { return Ok(()) };
    let id = EntryId::flag(key);
    let (was, is) = (tombstone.flag_type, definition.flag_type());
    let why = if was != is {
        format!("it was a {} flag and this is a {} flag; use another key", was.word(), is.word())
    } else if tombstone.salt != definition.salt {
        format!(
            "its salt was \"{}\" and this one's is \"{}\"; write the old salt, or use another key",
            tombstone.salt, definition.salt
        )
    } else {
        let text = format!(
            "`{key}` was archived; it comes back with this definition (`flagctl unarchive {key}` brings back the old one)"
        );
        draft.note(Severity::Info, id, text);
        draft.writes.push(EntryWrite::remove(EntryId::tombstone(key)));
        return Ok(());
    };
    Err(EditError::Retired { id, why })
}

/// What a flag keeps for ever.
#[derive(Debug)]
pub(super) struct Identity {
    flag_type: Option<FlagType>,
    salt: Option<Box<str>>,
}

impl Identity {
    pub(super) fn of(definition: &FlagDefinition) -> Identity {
        Identity { flag_type: Some(definition.flag_type()), salt: Some(definition.salt.clone()) }
    }

    /// What can be told of a definition that is not understood.
    fn guess(bytes: &[u8]) -> Identity {
        let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let first =
            value.get("variants").and_then(Value::as_object).and_then(|variants| variants.values().next());
        Identity {
            flag_type: first.and_then(FlagType::of),
            salt: value.get("salt").and_then(Value::as_str).map(Box::from),
        }
    }
}

/// A flag's type and salt never change.
pub(super) fn check_identity(key: &FlagKey, new: &FlagDefinition, old: &Identity, problems: &mut Problems) {
    let is = new.flag_type();
    if let Some(was) = old.flag_type.filter(|was| *was != is) {
        let message = format!(
            "a flag's type never changes: `{key}` is a {} flag, these variants make it a {} flag",
            was.word(),
            is.word()
        );
        let hint = "use another key for the new flag";
        problems.push(Problem::new(format!("flags.{key}.variants"), message).hint(hint));
    }
    if let Some(was) = old.salt.as_ref().filter(|was| **was != new.salt) {
        let message = format!(
            "a flag's salt never changes, because that would draw all units anew: it is \"{was}\", not \"{}\"",
            new.salt
        );
        let hint = format!("write \"salt\": {}, or use another key", Value::from(&**was));
        problems.push(Problem::new(format!("flags.{key}.salt"), message).hint(hint));
    }
}
