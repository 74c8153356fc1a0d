//! Brings a wish what only the log knows: what a source applied last, what an entry was before.

use std::collections::BTreeMap;
use std::sync::Arc;

use flagd_core::definition::{SegmentDefinition, SegmentList, Units};
use flagd_core::edit::{
    Choice, Edit, EditError, Note, RollbackError, Severity, Version, changed_since, choose_rollback,
};
use flagd_core::entry::{EntryId, EntryKind, EntryWrite, StoredEntry};
use flagd_core::key::{FlagKey, SegmentKey};
use flagd_core::problem::nearest;
use flagd_core::revision::{EntryHash, Revision};
use flagd_core::state::State;
use flagd_core::time::Timestamp;
use flagd_proto::admin;

use super::definitions::read_segment;
use super::history::{Details, describe};
use super::request::{Name, Operation, Wish};
use super::{Control, ControlError};
use crate::store::log::Change;

/// How many versions of an entry a rollback looks at, from the newest back.
const VERSIONS_MAX: usize = 200;

/// A wish with everything that its planning needs.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) edit: Edit,
    /// What the choice of a rollback has to say.
    pub(super) notes: Vec<Note>,
    /// What the source of an `apply` is known to have applied.
    pub(super) base: BTreeMap<EntryId, Arc<[u8]>>,
}

impl Wanted {
    fn plain(edit: Edit) -> Wanted {
        Wanted { edit, notes: Vec::new(), base: BTreeMap::new() }
    }
}

impl Control {
    /// The edit that a wish means for a state.
    pub(super) async fn wanted(&self, wish: &Wish, state: &State) -> Result<Wanted, ControlError> {
        let edit = match wish.operation.clone() {
            Operation::Put { file, mode } => Edit::Put { file, mode },
            Operation::Apply { file, source, take } => {
                let base = self.hub.log().source_base(&wish.environment, &source).await?;
                let edit = Edit::Apply { file, base: base.clone(), take };
                return Ok(Wanted { edit, notes: Vec::new(), base });
            }
            Operation::Rollback { flags, segments, to } => {
                return self.rollback(wish, state, &flags, &segments, to).await;
            }
            Operation::Enable(flag) => Edit::Enable(flag),
            Operation::Disable(flag) => Edit::Disable(flag),
            Operation::Ramp { flag, variant, share, place, from } => {
                Edit::Ramp { flag, variant, share, place, from }
            }
            Operation::Kill(flags) => Edit::Kill(flags),
            Operation::Revive(flags) => Edit::Revive(flags),
            Operation::SegmentAdd { segment, units, list } => Edit::SegmentAdd { segment, units, list },
            Operation::SegmentRemove { segment, units, list } => Edit::SegmentRemove { segment, units, list },
            Operation::Archive(Name::Flag(flag)) => Edit::Archive(flag),
            Operation::Archive(Name::Segment(segment)) => Edit::ArchiveSegment(segment),
            Operation::Unarchive(Name::Flag(flag)) => Edit::Unarchive(flag),
            Operation::Unarchive(Name::Segment(segment)) => Edit::UnarchiveSegment(segment),
        };
        Ok(Wanted::plain(edit))
    }

    async fn rollback(
        &self,
        wish: &Wish,
        state: &State,
        flags: &[FlagKey],
        segments: &[SegmentKey],
        to: Option<Revision>,
    ) -> Result<Wanted, ControlError> {
        let flags = flags.iter().cloned().map(Name::Flag);
        let names: Vec<Name> = flags.chain(segments.iter().cloned().map(Name::Segment)).collect();
        let mut entries = Vec::new();
        let mut notes = Vec::new();
        for name in &names {
            let choice = self.choose(wish, state, name, to).await?;
            notes.extend(rollback_notes(state, &name.entry(), &choice, &names));
            entries.extend(self.parts_of_choice(wish, name, &choice, to).await?);
            entries.push((name.entry(), choice.bytes));
        }
        Ok(Wanted { edit: Edit::Restore { entries }, notes, base: BTreeMap::new() })
    }

    /// The parts of a segment's lists at the time that comes back.
    async fn parts_of_choice(
        &self,
        wish: &Wish,
        name: &Name,
        choice: &Choice,
        to: Option<Revision>,
    ) -> Result<Vec<(EntryId, Option<Arc<[u8]>>)>, ControlError> {
        let (Name::Segment(key), Some(bytes)) = (name, &choice.bytes) else { return Ok(Vec::new()) };
        let read = read_segment(key.as_str(), bytes);
        let keeps_parts =
            |d: &SegmentDefinition| SegmentList::BOTH.iter().any(|list| *d.units(*list) == Units::InParts);
        if !read.is_ok_and(|(_, definition)| keeps_parts(&definition)) {
            return Ok(Vec::new());
        }
        let at = to.unwrap_or(choice.written);
        let Some(then) = self.hub.log().state_at(&wish.environment, at).await? else {
            let why = format!(
                "{}: the lists that it had at revision {at} are no longer in the history",
                name.entry()
            );
            return Err(EditError::Refused(why).into());
        };
        let parts = SegmentList::BOTH.iter().flat_map(|list| then.parts_of(key.as_str(), *list));
        Ok(parts.map(|(_, id, entry)| (id.clone(), Some(Arc::clone(&entry.bytes)))).collect())
    }

    async fn choose(
        &self,
        wish: &Wish,
        state: &State,
        name: &Name,
        to: Option<Revision>,
    ) -> Result<Choice, ControlError> {
        let id = name.entry();
        if let Some(to) = to {
            return self.as_of(wish, state, name, to).await;
        }
        let stored = state.get(&id).or_else(|| state.get(&name.tombstone()));
        let Some(stored) = stored else { return Err(unknown(state, id)) };
        let changes = self.versions(wish, name, stored.revision).await?;
        let versions = versions_of(&changes, &id);
        match choose_rollback(&versions, None) {
            Ok(choice) => Ok(choice),
            Err(error @ RollbackError::AfterRollback { .. }) => Err(ControlError::ChooseRevision {
                candidates: candidates(&error, &changes, &id),
                message: format!("{id}: {error}"),
            }),
            Err(error) => Err(EditError::Refused(format!("{id}: {error}")).into()),
        }
    }

    /// The definition as it was at a revision, however much was changed, archived or restored since.
    async fn as_of(
        &self,
        wish: &Wish,
        state: &State,
        name: &Name,
        to: Revision,
    ) -> Result<Choice, ControlError> {
        let log = self.hub.log();
        let Some(then) = log.state_at(&wish.environment, to).await? else {
            return Err(ControlError::NoSuchRevision {
                environment: wish.environment.clone(),
                revision: to,
                oldest: log.oldest(&wish.environment).await?,
                newest: state.revision(),
            });
        };
        let id = name.entry();
        if let Some(entry) = then.get(&id) {
            let bytes = Some(Arc::clone(&entry.bytes));
            return Ok(Choice { written: entry.revision, bytes, undone: Vec::new() });
        }
        if let Some(archived) = then.get(&name.tombstone()) {
            return Ok(Choice { written: archived.revision, bytes: None, undone: Vec::new() });
        }
        if state.get(&id).is_none() && state.get(&name.tombstone()).is_none() {
            return Err(unknown(state, id));
        }
        Err(EditError::Refused(format!(
            "there was no {id} at revision {to}; `flagctl history` lists its changes"
        ))
        .into())
    }

    /// The changes that altered an entry, the oldest first, from the one at `newest` back.
    async fn versions(
        &self,
        wish: &Wish,
        name: &Name,
        newest: Revision,
    ) -> Result<Vec<Change>, ControlError> {
        let mut changes = Vec::new();
        let mut next = newest;
        while next > Revision::ZERO && changes.len() < VERSIONS_MAX {
            let Some(change) = self.hub.log().change(&wish.environment, next).await? else { break };
            let previous = |id: &EntryId| {
                touched(&change, id).map(|(_, previous)| *previous).filter(|at| *at != Revision::ZERO)
            };
            // Where it came out of the archive, its own trace ends and its tombstone's goes on.
            let previous = previous(&name.entry()).or_else(|| previous(&name.tombstone()));
            changes.push(change);
            match previous {
                Some(previous) if previous < next => next = previous,
                _ => break,
            }
        }
        changes.reverse();
        Ok(changes)
    }
}

/// The entry is not known; perhaps it is misspelt.
fn unknown(state: &State, id: EntryId) -> ControlError {
    let keys = state.entries_of(id.kind).map(|(id, _)| &*id.key);
    let nearest = nearest(&id.key, keys).map(ToOwned::to_owned).into_iter().collect();
    EditError::Unknown { id, nearest }.into()
}

/// What a change did to an entry.
pub(super) fn touched<'c>(change: &'c Change, id: &EntryId) -> Option<&'c (EntryWrite, Revision)> {
    change.entries.iter().find(|(write, _)| write.id == *id)
}

/// What the changes made of an entry, the oldest first.
fn versions_of(changes: &[Change], id: &EntryId) -> Vec<Version> {
    // What a part was before it was first touched is the same for all of these, whatever it was.
    let mut parts: BTreeMap<&EntryId, u128> = BTreeMap::new();
    let mut sum = 0_u128;
    let mut versions = Vec::new();
    for change in changes {
        let written = change.entries.iter().map(|(write, _)| write);
        for write in
            written.filter(|write| write.id.kind == EntryKind::SEGMENT_PART && write.id.whole() == *id)
        {
            // No part has no bytes, so none stands for a part that is gone.
            let hash = EntryHash::of(&write.id, write.bytes.as_deref().unwrap_or_default()).0;
            sum = sum.wrapping_add(hash).wrapping_sub(parts.insert(&write.id, hash).unwrap_or(0));
        }
        versions.extend(version(change, id, sum));
    }
    versions
}

fn version(change: &Change, id: &EntryId, parts_after: u128) -> Option<Version> {
    let (write, _) = touched(change, id)?;
    Some(Version {
        revision: change.revision,
        bytes_after: write.bytes.clone(),
        parts_after,
        operation: change.origin.verb.clone(),
        time: Timestamp::from_millis(i64::try_from(change.time_ms).unwrap_or(i64::MAX)),
        actor: change.origin.actor.clone(),
    })
}

fn candidates(error: &RollbackError, changes: &[Change], id: &EntryId) -> Vec<admin::HistoryChange> {
    let RollbackError::AfterRollback { candidates, .. } = error else { return Vec::new() };
    let change = |revision| changes.iter().find(|change| change.revision == revision);
    let only = |other: &EntryId| other == id;
    candidates
        .iter()
        .filter_map(|version| change(version.revision))
        .map(|c| describe(c, &only, &Details::default()))
        .collect()
}

/// What the operator should know about the definition that comes back.
fn rollback_notes(state: &State, id: &EntryId, choice: &Choice, put_back: &[Name]) -> Vec<Note> {
    let note = |severity, text| Note { severity, about: Some(id.clone()), text };
    let mut notes =
        vec![note(Severity::Info, format!("{id} goes back to what revision {} wrote", choice.written))];
    let Some(bytes) = &choice.bytes else { return notes };
    let lookup = |id: &EntryId| -> Option<&StoredEntry> { state.get(id) };
    for used in changed_since(id, bytes, choice.written, lookup) {
        if put_back.iter().any(|name| name.entry() == used.id) {
            continue;
        }
        let text = match used.revision {
            Some(revision) => format!(
                "it uses {}, which has changed since (revision {revision}) and is not put back",
                used.id
            ),
            None => format!("it uses {}, which is gone", used.id),
        };
        notes.push(note(Severity::Warning, text));
    }
    notes
}
