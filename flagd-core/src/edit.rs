//! Turns what an operator wants into the entries that a change writes.
//!
//! Every operator's change is a pure function from a state to entries, so that the command line can preview,
//! the console can preview and the server can act with the same code. [`plan`] is that function: it drafts the
//! writes (one file per verb), checks the environment that they would make as a whole, and tells what they do
//! to units. It promises that a planned change leaves every definition that it writes readable and every
//! reference resolved, and that it never touches a kill unless it was asked to kill or revive.
//!
//! It does not know revisions that a caller expects, nor how a change is recorded: that is the server's work.

mod apply;
mod archive;
mod certain;
mod consequence;
mod difference;
mod effect;
mod finish;
mod first;
mod follow;
mod history;
mod kill;
mod lay;
mod lists;
mod merge;
mod merge_segment;
mod put;
mod ramp;
mod reference;
mod restore;
mod segment;
mod sentence;
mod switch;
mod types;
mod undo;
mod view;

#[cfg(test)]
mod tests;

pub use crate::definition::SegmentList;
pub use difference::{FieldDifference, PartDifference, difference};
pub use first::first_writes;
pub use history::{ChangedReference, Choice, RollbackError, Version, changed_since, choose_rollback};
pub use types::{
    Author, Consequence, Direction, Edit, EditError, Effect, FieldDrift, Flow, Movement, Note, PlaceChoice,
    Plan, PutMode, Severity, Take,
};
pub use undo::undo;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::entry::{EntryId, EntryKind, EntryWrite};
use crate::state::State;

/// Plans an edit of a state. Pure: the same arguments give the same plan.
///
/// # Errors
/// [`EditError`]; nothing is planned then.
pub fn plan(state: &State, edit: &Edit, author: &Author) -> Result<Plan, EditError> {
    let before = view::View::of(state);
    let draft = match edit {
        Edit::Put { file, mode } => put::put(&before, file, *mode),
        Edit::Apply { file, base, take } => apply::apply(&before, file, base, *take),
        Edit::Enable(flag) => switch::enable(&before, flag),
        Edit::Disable(flag) => switch::disable(&before, flag),
        Edit::Ramp { flag, variant, share, place, from } => {
            let wish =
                ramp::Wish { flag, variant: variant.as_ref(), share: *share, place, from: from.as_ref() };
            ramp::ramp(&before, &wish, author.now)
        }
        Edit::Kill(flags) => kill::kill(&before, flags, author),
        Edit::Revive(flags) => kill::revive(&before, flags),
        Edit::Restore { entries } => restore::restore(&before, entries, author),
        Edit::SegmentAdd { segment, units, list } => segment::add(&before, segment, units, *list),
        Edit::SegmentRemove { segment, units, list } => segment::remove(&before, segment, units, *list),
        Edit::Archive(flag) => archive::archive(&before, flag, author),
        Edit::Unarchive(flag) => archive::unarchive(&before, flag),
        Edit::ArchiveSegment(segment) => archive::archive_segment(&before, segment),
        Edit::UnarchiveSegment(segment) => archive::unarchive_segment(&before, segment),
    }?;
    finish::finish(&before, draft)
}

/// The keys of the flags whose definition, kill or tombstone these writes touch, in byte order.
#[must_use]
pub fn touched_flags(writes: &[EntryWrite]) -> BTreeSet<Arc<str>> {
    let of_a_flag = [EntryKind::FLAG, EntryKind::KILL, EntryKind::TOMBSTONE];
    writes
        .iter()
        .filter(|write| of_a_flag.contains(&write.id.kind))
        .map(|write| Arc::clone(&write.id.key))
        .collect()
}

/// What one verb wants written, before the whole is checked.
#[derive(Debug, Default)]
struct Draft {
    writes: Vec<EntryWrite>,
    notes: Vec<Note>,
    drift: Vec<FieldDrift>,
    base: BTreeMap<EntryId, Arc<[u8]>>,
    checks: Checks,
    followers: Followers,
}

/// Whether the environment that a draft makes is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Checks {
    /// Definitions, references and limits.
    #[default]
    Whole,
    /// Nothing: switching off must get through whatever else is wrong.
    None,
}

/// Which of the flags that require a written one are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Followers {
    /// All, also those that stay as they are: whoever switches off in a hurry wants to be sure.
    All,
    /// Those whose users may be served something else.
    #[default]
    Affected,
}

impl Draft {
    fn note(&mut self, severity: Severity, about: EntryId, text: impl Into<String>) {
        self.notes.push(Note { severity, about: Some(about), text: text.into() });
    }
}
