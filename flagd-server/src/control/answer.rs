//! What a planned change is told as, on the wire and in the record of the request.
//!
//! Pure: a state, an edit and an author give a plan and its answer. Lists are cut to what a person can read and a
//! store takes as one record; what was cut is said.

use std::collections::BTreeMap;
use std::sync::Arc;

use flagd_core::definition::{parse_file, parse_flag, parse_segment};
use flagd_core::edit::{self, Author, Edit, PartDifference, Plan};
use flagd_core::entry::{EntryId, EntryKind, EntryWrite};
use flagd_core::key::{FlagKey, SegmentKey};
use flagd_core::revision::Revision;
use flagd_core::state::State;
use flagd_proto::Message as _;
use flagd_proto::admin::{self, ChangeResponse, FieldDifference, TouchedEntry};
use flagd_proto::convert::{self, admin as convert_admin};

use super::change::position_after;
use super::edit::Wanted;
use super::request::Wish;
use super::segments::{PartDifferences, parts_among};
use super::{ControlError, operation};
use crate::limits::ANSWER_MAX_BYTES;

/// Most items of one list in an answer.
const LISTED_MAX: usize = 1_000;
/// Most touched entries whose fields are compared.
const COMPARED_MAX: usize = 100;
/// Most parts of one segment whose units are compared; with more, only the effects say how many come and go.
const PARTS_COMPARED_MAX: usize = 100;

/// A plan and its answer, before it is known whether it will be recorded.
#[derive(Debug)]
pub(super) struct Planned {
    plan: Plan,
    answer: ChangeResponse,
    /// What the source of an `apply` is known to have applied before this.
    known_base: BTreeMap<EntryId, Arc<[u8]>>,
}

impl Planned {
    /// Whether there is nothing to record.
    pub(super) fn is_nothing(&self) -> bool {
        self.plan.writes.is_empty()
    }

    /// What the source of an `apply` has applied now, if that was not known.
    pub(super) fn news_of_source(&self) -> Option<&BTreeMap<EntryId, Arc<[u8]>>> {
        Some(&self.plan.base).filter(|base| **base != self.known_base)
    }

    /// The highest level among the definitions that are written; `None` without any.
    pub(super) fn level(&self) -> Option<u32> {
        level(&self.plan.writes)
    }

    /// The answer when nothing is recorded.
    pub(super) fn unrecorded(self) -> ChangeResponse {
        self.answer
    }

    /// The answer when the plan is recorded on `state`, and what to record.
    pub(super) fn recorded(self, state: &State) -> (ChangeResponse, Plan) {
        let position = position_after(state.position(), state.digest_after(&self.plan.writes));
        let answer = ChangeResponse {
            revision: position.revision.0,
            position: Some(convert::position_to_wire(position)),
            recorded: true,
            ..self.answer
        };
        (answer, self.plan)
    }
}

/// Plans a wish on a state.
pub(super) fn plan(
    wish: &Wish,
    state: &State,
    wanted: Wanted,
    author: &Author,
    server: String,
) -> Result<Planned, ControlError> {
    let Wanted { edit, notes, base: known_base } = wanted;
    let mut plan = edit::plan(state, &edit, author)?;
    plan.notes.splice(0..0, notes);
    let subjects = subjects(&edit);
    // A kill of a flag that does not exist is no part of what was done.
    let exists = |id: &&EntryId| {
        id.kind != EntryKind::KILL || state.get(&EntryId { kind: EntryKind::FLAG, ..(*id).clone() }).is_some()
    };
    let defined: Vec<String> = subjects.iter().filter(exists).map(definition_name).collect();
    let movement = plan.movement();
    let answer = ChangeResponse {
        revision: if plan.writes.is_empty() { newest(state, &subjects).0 } else { 0 },
        position: Some(convert::position_to_wire(state.position())),
        recorded: false,
        repeated_answer: false,
        operation: operation::text(&wish.operation, &defined),
        effects: plan.effects.iter().map(convert_admin::effect_to_wire).collect(),
        notes: plan.notes.iter().map(convert_admin::note_to_wire).collect(),
        drift: plan.drift.iter().map(convert_admin::drift_to_wire).collect(),
        consequences: plan
            .consequences
            .iter()
            .take(LISTED_MAX)
            .map(convert_admin::consequence_to_wire)
            .collect(),
        touched: touched(state, &plan.writes),
        undo: edit::undo(&edit, &plan, state).unwrap_or_default(),
        time_ms: u64::try_from(author.now.as_millis()).unwrap_or(0),
        server,
        movement: convert_admin::movement_to_wire(movement).into(),
    };
    Ok(Planned { answer: bounded(answer), plan, known_base })
}

/// The entries that an edit is about, whether it writes them or not.
pub(super) fn subjects(edit: &Edit) -> Vec<EntryId> {
    match edit {
        Edit::Put { file, .. } | Edit::Apply { file, .. } => match parse_file(file) {
            Ok(file) => {
                let flags = file.flags.keys().map(EntryId::flag);
                flags.chain(file.segments.keys().map(EntryId::segment)).collect()
            }
            Err(_) => Vec::new(),
        },
        Edit::Enable(flag) | Edit::Disable(flag) | Edit::Ramp { flag, .. } | Edit::Unarchive(flag) => {
            vec![EntryId::flag(flag)]
        }
        Edit::Kill(flags) | Edit::Revive(flags) => flags.iter().map(EntryId::kill).collect(),
        Edit::Restore { entries } => entries.iter().map(|(id, _)| id.clone()).collect(),
        Edit::SegmentAdd { segment, .. } | Edit::SegmentRemove { segment, .. } => {
            vec![EntryId::segment(segment)]
        }
        Edit::Archive(flag) => vec![EntryId::tombstone(flag)],
        Edit::ArchiveSegment(segment) => vec![tombstone_of(&EntryId::segment(segment))],
        _ => Vec::new(),
    }
}

/// The entry that stands in the place of an archived one.
pub(super) fn tombstone_of(id: &EntryId) -> EntryId {
    let kind = match id.kind {
        EntryKind::FLAG => EntryKind::TOMBSTONE,
        EntryKind::SEGMENT => EntryKind::SEGMENT_TOMBSTONE,
        other => other,
    };
    EntryId { kind, key: Arc::clone(&id.key) }
}

fn definition_name(id: &EntryId) -> String {
    if id.kind == EntryKind::SEGMENT { format!("segment {}", id.key) } else { id.key.to_string() }
}

fn newest(state: &State, ids: &[EntryId]) -> Revision {
    ids.iter().filter_map(|id| state.get(id)).map(|entry| entry.revision).max().unwrap_or(Revision::ZERO)
}

fn touched(state: &State, writes: &[EntryWrite]) -> Vec<TouchedEntry> {
    let compared = if shown(writes).take(COMPARED_MAX + 1).count() <= COMPARED_MAX {
        Compared::Yes
    } else {
        Compared::No
    };
    let bytes = |write: &EntryWrite| state.get(&write.id).map(|entry| &*entry.bytes);
    let parts = parts_among(writes.iter().map(|write| (&write.id, bytes(write), write.bytes.as_deref())));
    let touched = |write: &EntryWrite| {
        let previous = state.get(&write.id).map_or(Revision::ZERO, |entry| entry.revision);
        touched_entry(write, previous, bytes(write), compared, &parts)
    };
    shown(writes).map(touched).collect()
}

/// The writes that people are shown: a part is told with its segment.
fn shown(writes: &[EntryWrite]) -> impl Iterator<Item = &EntryWrite> {
    writes.iter().filter(|write| write.id.kind != EntryKind::SEGMENT_PART)
}

/// Whether the fields of a touched entry are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compared {
    Yes,
    No,
}

/// One entry of a change, for the wire; `parts` are those that the change wrote of all segments.
pub(super) fn touched_entry(
    write: &EntryWrite,
    previous: Revision,
    before: Option<&[u8]>,
    compared: Compared,
    parts: &PartDifferences<'_>,
) -> TouchedEntry {
    let parts = parts.get(&write.id).map(Vec::as_slice).unwrap_or_default();
    let compared = if parts.len() <= PARTS_COMPARED_MAX { compared } else { Compared::No };
    TouchedEntry {
        id: Some(convert::entry_id_to_wire(&write.id)),
        previous_revision: previous.0,
        removed: write.bytes.is_none(),
        differences: match compared {
            Compared::Yes => differences(before, write.bytes.as_deref(), parts),
            Compared::No => Vec::new(),
        },
    }
}

/// The fields in which two stored definitions differ, for the wire.
pub(super) fn differences(
    before: Option<&[u8]>,
    after: Option<&[u8]>,
    parts: &[PartDifference<'_>],
) -> Vec<FieldDifference> {
    edit::difference(before, after, parts).iter().map(convert_admin::difference_to_wire).collect()
}

/// The highest level among the definitions that are written.
fn level(writes: &[EntryWrite]) -> Option<u32> {
    let level = |write: &EntryWrite| {
        let text = std::str::from_utf8(write.bytes.as_ref()?).ok()?;
        match write.id.kind {
            EntryKind::FLAG => Some(parse_flag(&FlagKey::new(&write.id.key).ok()?, text).ok()?.level()),
            EntryKind::SEGMENT => {
                Some(parse_segment(&SegmentKey::new(&write.id.key).ok()?, text).ok()?.level())
            }
            _ => None,
        }
    };
    writes.iter().filter_map(level).max()
}

/// The same answer, small enough to be kept as the record of its request.
fn bounded(mut answer: ChangeResponse) -> ChangeResponse {
    let mut left_off = cut(&mut answer, LISTED_MAX);
    if answer.encoded_len() > ANSWER_MAX_BYTES {
        for entry in &mut answer.touched {
            *left_off.entry("differing fields").or_insert(0) += entry.differences.len();
            entry.differences.clear();
        }
    }
    let mut most = LISTED_MAX;
    while answer.encoded_len() > ANSWER_MAX_BYTES && most > 0 {
        most /= 2;
        for (what, gone) in cut(&mut answer, most) {
            *left_off.entry(what).or_insert(0) += gone;
        }
    }
    left_off.retain(|_, gone| *gone > 0);
    if !left_off.is_empty() {
        let listed: Vec<String> = left_off.iter().map(|(what, gone)| format!("{gone} {what}")).collect();
        let text = format!("not listed here: {}", listed.join(", "));
        answer.notes.push(admin::Note { severity: admin::Severity::Info.into(), about: None, text });
    }
    answer
}

/// Cuts each list to `most` items and says how many went.
fn cut(answer: &mut ChangeResponse, most: usize) -> BTreeMap<&'static str, usize> {
    if answer.notes.len() > most {
        // What is missing decides the exit code and goes last.
        answer.notes.sort_by_key(|note| std::cmp::Reverse(note.severity));
    }
    BTreeMap::from([
        ("touched entries", truncate(&mut answer.touched, most)),
        ("effects", truncate(&mut answer.effects, most)),
        ("notes", truncate(&mut answer.notes, most)),
        ("drifted fields", truncate(&mut answer.drift, most)),
        ("consequences", truncate(&mut answer.consequences, most)),
    ])
}

fn truncate<T>(list: &mut Vec<T>, most: usize) -> usize {
    let gone = list.len().saturating_sub(most);
    list.truncate(most);
    gone
}
