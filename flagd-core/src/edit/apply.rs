//! `apply`: takes over a file without undoing what people changed since its last time.
//!
//! A file that simply won would take back, every morning, the ramp that somebody made at night; one that never
//! won would be of no use. So three versions are compared field by field: what this source applied last (the
//! base), what the file says now, and what is live. Whoever changed a field since the base wins it; where both
//! changed it, somebody has to say. A definition that is not in the file is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::lay::lay_shares;
use super::lists::{self, draft_segment};
use super::merge::{Merge, Three, merge_flag};
use super::merge_segment::merge_segment;
use super::put::{Identity, check_identity, flag_bytes, note_kill, put_flag, put_segment};
use super::view::View;
use super::{Draft, EditError, FieldDrift, Severity, Take, sentence};
use crate::definition::{
    FlagDefinition, SegmentDefinition, SegmentList, parse_file, parse_flag, parse_segment,
};
use crate::entry::{EntryId, EntryKind, EntryWrite};
use crate::key::{FlagKey, SegmentKey};
use crate::part::{self, PartName, PartNumber};
use crate::problem::Problems;

/// What the source applied last: stored forms by entry.
type Base = BTreeMap<EntryId, Arc<[u8]>>;

/// Drafts the definitions of a file, merged with what is live.
pub(super) fn apply(before: &View<'_>, file: &str, base: &Base, take: Take) -> Result<Draft, EditError> {
    let file = parse_file(file).map_err(EditError::Invalid)?;
    let mut work = Work {
        before,
        base,
        take,
        draft: Draft::default(),
        conflicts: Vec::new(),
        problems: Problems::default(),
    };
    for (key, definition) in file.flags {
        work.flag(&key, definition)?;
    }
    for (key, definition) in file.segments {
        work.segment(&key, &definition)?;
    }
    let Work { mut draft, conflicts, problems, .. } = work;
    if !problems.is_empty() {
        return Err(EditError::Invalid(problems.into_vec()));
    }
    if !conflicts.is_empty() {
        return Err(EditError::FieldConflicts(conflicts));
    }
    keep_others(before, base, &mut draft);
    Ok(draft)
}

/// A source may be several files that are applied one by one: what is not in this one is remembered all the same.
fn keep_others(before: &View<'_>, base: &Base, draft: &mut Draft) {
    let mut left: Vec<String> = Vec::new();
    let in_file: BTreeSet<EntryId> = draft.base.keys().cloned().collect();
    for (id, bytes) in base {
        // Parts go with their segment: those that a list no longer has are forgotten.
        if !in_file.contains(&id.whole()) {
            draft.base.insert(id.clone(), Arc::clone(bytes));
            if before.bytes(id).is_some() && id.kind != EntryKind::SEGMENT_PART {
                left.push(id.to_string());
            }
        }
    }
    if !left.is_empty() {
        let them = if left.len() == 1 { "it is left as it is" } else { "they are left as they are" };
        let text =
            format!("applied by this source earlier and not in this file: {}; {them}", sentence::list(&left));
        draft.notes.push(super::Note { severity: Severity::Info, about: None, text });
    }
}

struct Work<'w> {
    before: &'w View<'w>,
    base: &'w Base,
    take: Take,
    draft: Draft,
    conflicts: Vec<FieldDrift>,
    problems: Problems,
}

impl Work<'_> {
    fn flag(&mut self, key: &FlagKey, file: FlagDefinition) -> Result<(), EditError> {
        let id = EntryId::flag(key);
        let mut laid = file.clone();
        lay_shares(&mut laid, None);
        let file_bytes = flag_bytes(key, &laid);
        self.draft.base.insert(id.clone(), Arc::clone(&file_bytes));
        let base_bytes = self.base.get(&id);
        let Some(live_bytes) = self.before.bytes(&id) else {
            let known = base_bytes.map(|base| if *base == file_bytes { Known::Same } else { Known::Other });
            return match self.absent(&id, known) {
                Absent::Create => put_flag(self.before, key, file, &mut self.draft, &mut self.problems),
                Absent::Leave => Ok(()),
            };
        };
        if **live_bytes == *file_bytes {
            note_kill(self.before, key, &mut self.draft);
            return Ok(());
        }
        let live = self.before.known_flag(key)?;
        check_identity(key, &file, &Identity::of(live), &mut self.problems);
        // A base that cannot be read any more is as good as none: nothing is then guessed.
        let base = base_bytes.and_then(|bytes| parse_flag(key, std::str::from_utf8(bytes).ok()?).ok());
        let three = Three { base: base.as_ref(), file: &file, live };
        let mut merge = Merge::new(&id, self.take, [base_bytes, Some(&file_bytes), Some(live_bytes)]);
        let mut merged = merge_flag(three, &mut merge);
        self.keep(merge);
        lay_shares(&mut merged, Some(live));
        note_kill(self.before, key, &mut self.draft);
        // Definitions that mean the same are left as they are stored, byte for byte.
        if merged != *live {
            self.draft.writes.push(EntryWrite::set(id, flag_bytes(key, &merged)));
        }
        Ok(())
    }

    fn segment(&mut self, key: &SegmentKey, file: &SegmentDefinition) -> Result<(), EditError> {
        let id = EntryId::segment(key);
        let entries: Base = part::entries(key, file).into_iter().collect();
        let file_bytes = entries.get(&id).cloned();
        let known = of_segment(self.base, key);
        let (is_known, is_live) = (known == entries, self.is_live(key, &entries));
        self.draft.base.extend(entries);
        let base_bytes = known.get(&id);
        let Some(live_bytes) = self.before.bytes(&id) else {
            let known = base_bytes.map(|_| if is_known { Known::Same } else { Known::Other });
            if let Absent::Create = self.absent(&id, known) {
                put_segment(self.before, key, file, &mut self.draft);
            }
            return Ok(());
        };
        if is_live {
            return Ok(());
        }
        let live = lists::whole(self.before, key, self.before.known_segment(key)?)?;
        let base = base_bytes.and_then(|bytes| {
            let stored = parse_segment(key, std::str::from_utf8(bytes).ok()?).ok()?;
            part::whole(stored, |list| parts_in(&known, list)).ok()
        });
        let three = Three { base: base.as_ref(), file, live: &live };
        let mut merge = Merge::new(&id, self.take, [base_bytes, file_bytes.as_ref(), Some(live_bytes)]);
        let merged = merge_segment(three, &mut merge);
        self.keep(merge);
        if merged != live {
            draft_segment(self.before, key, &merged, &SegmentList::BOTH, &mut self.draft);
        }
        Ok(())
    }

    /// Whether exactly these entries are what is stored of a segment.
    fn is_live(&self, key: &SegmentKey, entries: &Base) -> bool {
        let stored = 1 + lists::part_ids(self.before, key, &SegmentList::BOTH).count();
        stored == entries.len() && entries.iter().all(|(id, bytes)| self.before.bytes(id) == Some(bytes))
    }

    fn keep(&mut self, merge: Merge<'_>) {
        let (drift, conflicts) = merge.into_findings();
        self.draft.drift.extend(drift);
        self.conflicts.extend(conflicts);
    }

    /// What becomes of a definition that the file has and the environment has not.
    fn absent(&mut self, id: &EntryId, known: Option<Known>) -> Absent {
        let Some(known) = known else { return Absent::Create };
        let drift = FieldDrift {
            id: id.clone(),
            field: "definition".to_owned(),
            base: Some("there".to_owned()),
            file: Some(if known == Known::Same { "there, unchanged" } else { "there, changed" }.to_owned()),
            live: None,
        };
        match self.take {
            _ if known == Known::Same => {}
            Take::File => return Absent::Create,
            Take::Live => {}
            Take::Ask => {
                self.conflicts.push(drift);
                return Absent::Leave;
            }
        }
        let text = format!("{id} was archived after this source applied it: it stays archived");
        self.draft.note(Severity::Info, id.clone(), text);
        self.draft.drift.push(drift);
        Absent::Leave
    }
}

enum Absent {
    Create,
    Leave,
}

/// How the file stands to what its source applied last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Same,
    Other,
}

/// What a source applied last of one segment.
fn of_segment(base: &Base, key: &SegmentKey) -> Base {
    let id = EntryId::segment(key);
    let is_of_it =
        |other: &EntryId| *other == id || PartName::of(other).is_some_and(|name| name.segment == *key);
    base.iter().filter(|(id, _)| is_of_it(id)).map(|(id, bytes)| (id.clone(), Arc::clone(bytes))).collect()
}

fn parts_in(base: &Base, list: SegmentList) -> Vec<(PartNumber, &[u8])> {
    let parts = base.iter().filter_map(|(id, bytes)| Some((PartName::of(id)?, &**bytes)));
    parts.filter(|(name, _)| name.list == list).map(|(name, bytes)| (name.number, bytes)).collect()
}

/// `u-1, u-2 and 4 more`; `None` for none.
pub(super) fn units_text<'u>(units: impl IntoIterator<Item = &'u str>) -> Option<String> {
    let units: Vec<&str> = units.into_iter().collect();
    if units.is_empty() { None } else { Some(sentence::list(&units)) }
}
