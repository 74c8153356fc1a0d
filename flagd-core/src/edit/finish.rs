//! Checks the environment that a draft would make, as a whole, and tells what the draft does.
//!
//! One place for all verbs: writes that change nothing are dropped, every written definition is read back with
//! the very code that will evaluate it, references are resolved over file and environment together, also those
//! of definitions that use what was written, and the limits hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::lists::{self, touched_parts};
use super::reference::{Keys, all_users};
use super::view::View;
use super::{Checks, Consequence, Draft, EditError, Effect, Followers, Note, Plan, Severity, effect, follow};
use crate::check::{Definitions, check_references, warnings};
use crate::definition::{FlagDefinition, SegmentDefinition};
use crate::entry::{EntryId, EntryKind, EntryWrite};
use crate::limits;
use crate::part::PartName;
use crate::problem::{Problem, Problems};

/// Makes a plan of a draft.
///
/// # Errors
/// [`EditError::Invalid`] with everything that is wrong with the environment that it would make.
pub(super) fn finish(before: &View<'_>, draft: Draft) -> Result<Plan, EditError> {
    let Draft { writes, mut notes, drift, base, checks, followers } = draft;
    let mut writes: Vec<EntryWrite> =
        writes.into_iter().filter(|write| before.bytes(&write.id) != write.bytes.as_ref()).collect();
    add_definitions_of_parts(before, &mut writes);
    let after = before.after(&writes);
    if checks == Checks::Whole {
        check_limits(&after, &writes)?;
        check_definitions(before, &after, &writes)?;
        notes.extend(second_looks(before, &after, &writes));
    }
    let tell = || told(before, &after, &writes, followers);
    let (effects, consequences, more) = match checks {
        Checks::Whole => tell(),
        Checks::None => guarded(tell).unwrap_or_else(|| (Vec::new(), Vec::new(), vec![untold()])),
    };
    notes.extend(more);
    drop(after);
    Ok(Plan { writes, effects, notes, consequences, drift, base })
}

/// A change of parts writes their segment's definition again, though its bytes are the same: its revision tells who has
/// seen what, and its history is that of the segment.
fn add_definitions_of_parts(before: &View<'_>, writes: &mut Vec<EntryWrite>) {
    let written: BTreeSet<&EntryId> = writes.iter().map(|write| &write.id).collect();
    let definitions = touched_parts(writes).into_keys().map(|key| EntryId::segment(&key));
    let missing: Vec<EntryId> = definitions.filter(|id| !written.contains(id)).collect();
    for id in missing {
        if let Some(bytes) = before.bytes(&id) {
            writes.push(EntryWrite::set(id, Arc::clone(bytes)));
        }
    }
}

/// What the writes do to users, and which flags follow.
fn told(
    before: &View<'_>,
    after: &View<'_>,
    writes: &[EntryWrite],
    followers: Followers,
) -> (Vec<Effect>, Vec<Consequence>, Vec<Note>) {
    let mut effects = effect::effects(before, after, writes);
    let consequences = follow::follow(before, after, writes, followers, &mut effects);
    let notes = follow::notes(before, after, &consequences);
    (effects, consequences, notes)
}

/// Does what switching off can do without: an error of ours in there must not stop a kill.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    // Nothing that the work may have left half done is looked at again, apart from caches that are filled whole.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).ok()
}

fn untold() -> Note {
    let text =
        "what this does to users could not be worked out (an error in flagd); the change is not affected";
    Note { severity: Severity::Warning, about: None, text: text.to_owned() }
}

fn check_limits(after: &View<'_>, writes: &[EntryWrite]) -> Result<(), EditError> {
    let mut problems = Problems::default();
    let mut at_most = |path: &str, what: &str, count, most| {
        if let Some(problem) = above(path, what, count, most) {
            problems.push(problem);
        }
    };
    let added = |kind| writes.iter().any(|write| write.id.kind == kind && write.bytes.is_some());
    if added(EntryKind::FLAG) {
        let flags = after.count(EntryKind::FLAG) + after.count(EntryKind::TOMBSTONE);
        at_most("flags", "an environment has, archived flags included,", flags, limits::FLAGS_MAX);
    }
    if added(EntryKind::SEGMENT) {
        let segments = after.count(EntryKind::SEGMENT);
        at_most("segments", "an environment has", segments, limits::SEGMENTS_MAX);
    }
    invalid_unless_empty(problems)?;
    check_sizes(writes)
}

fn above(path: &str, what: &str, count: usize, most: usize) -> Option<Problem> {
    (count > most).then(|| Problem::new(path, format!("{what} at most {most}; this makes {count}")))
}

/// The limits of a change and of each entry in it.
pub(super) fn check_sizes(writes: &[EntryWrite]) -> Result<(), EditError> {
    let mut problems = Problems::default();
    if let Some(problem) = above("", "one change touches", writes.len(), limits::CHANGE_ENTRIES_MAX) {
        problems.push(problem);
    }
    for write in writes {
        let bytes = write.bytes.as_ref().map_or(0, |bytes| bytes.len());
        let (what, hint) = match write.id.kind {
            EntryKind::FLAG | EntryKind::SEGMENT => {
                ("definition", "move long values out of the flag, or use several segments")
            }
            EntryKind::SEGMENT_PART => ("part of a list", "use another segment for some of the units"),
            _ => continue,
        };
        if bytes > limits::DEFINITION_MAX_BYTES {
            let most = limits::DEFINITION_MAX_BYTES;
            let message = format!("a {what} has at most {most} bytes; this one has {bytes}");
            problems.push(Problem::new(path_of(&write.id), message).hint(hint));
        }
    }
    invalid_unless_empty(problems)
}

fn check_definitions(before: &View<'_>, after: &View<'_>, writes: &[EntryWrite]) -> Result<(), EditError> {
    let mut problems = Problems::default();
    for write in writes.iter().filter(|write| write.bytes.is_some()) {
        let wrong = match write.id.kind {
            EntryKind::FLAG => after.read_flag(&write.id.key).and_then(Result::err),
            EntryKind::SEGMENT => after.read_segment(&write.id.key).and_then(Result::err),
            _ => None,
        };
        for problem in wrong.unwrap_or_default() {
            problems.push(below(&path_of(&write.id), problem));
        }
    }
    lists::check(after, writes, &mut problems);
    invalid_unless_empty(problems)?;
    let mut keys = Keys::written(writes);
    let users = all_users(after, &changed_for_users(before, after, &keys));
    keys.flags.extend(users.flags);
    keys.segments.extend(users.segments);
    let flags: BTreeMap<_, &FlagDefinition> =
        keys.flags.iter().filter_map(|key| Some((key, after.flag(key)?))).collect();
    let segments: BTreeMap<_, &SegmentDefinition> =
        keys.segments.iter().filter_map(|key| Some((key, after.segment(key)?))).collect();
    match check_references(&flags, &segments, after) {
        found if found.is_empty() => Ok(()),
        found => Err(EditError::Invalid(found)),
    }
}

/// The written definitions that changed in a way in which their users could break: gone, other variants, or
/// other references of their own (a chain may have become too deep).
fn changed_for_users(before: &View<'_>, after: &View<'_>, written: &Keys) -> Keys {
    let flag_changed = |key: &&_| match (before.flag(key), after.flag(key)) {
        (Some(old), Some(new)) => {
            !old.variants.keys().eq(new.variants.keys()) || old.requires != new.requires
        }
        _ => true,
    };
    let segment_changed = |key: &&_| match (before.segment(key), after.segment(key)) {
        (Some(old), Some(new)) => old.segments() != new.segments(),
        _ => true,
    };
    Keys {
        flags: written.flags.iter().filter(flag_changed).cloned().collect(),
        segments: written.segments.iter().filter(segment_changed).cloned().collect(),
    }
}

/// Warnings about written flags that their former definition did not draw already.
fn second_looks(before: &View<'_>, after: &View<'_>, writes: &[EntryWrite]) -> Vec<Note> {
    let mut notes = Vec::new();
    for key in Keys::written(writes).flags {
        let Some(new) = after.flag(&key) else { continue };
        let known = before.flag(&key).map(|old| warnings(&key, old)).unwrap_or_default();
        for problem in warnings(&key, new) {
            if !known.iter().any(|old| old.message == problem.message && old.path == problem.path) {
                let about = Some(EntryId::flag(&key));
                notes.push(Note { severity: Severity::Warning, about, text: problem.to_string() });
            }
        }
    }
    notes
}

/// `flags.new-checkout`: where a definition stands in a file.
pub(super) fn path_of(id: &EntryId) -> String {
    match id.kind {
        EntryKind::SEGMENT => format!("segments.{}", id.key),
        EntryKind::SEGMENT_PART => match PartName::of(id) {
            Some(name) => lists::path(&name.segment, name.list),
            None => format!("segments.{}", id.key),
        },
        _ => format!("flags.{}", id.key),
    }
}

fn below(path: &str, problem: &Problem) -> Problem {
    let path = if problem.path.is_empty() { path.to_owned() } else { format!("{path}.{}", problem.path) };
    // The position is one in the stored text, which nobody has in front of them.
    Problem { path, position: None, ..problem.clone() }
}

fn invalid_unless_empty(problems: Problems) -> Result<(), EditError> {
    if problems.is_empty() { Ok(()) } else { Err(EditError::Invalid(problems.into_vec())) }
}
