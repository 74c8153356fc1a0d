//! The lists of segments: whole where people speak of them, part by part where units come and go.
//!
//! What people write is a whole list, and whoever takes one over compares it with what is stored, part by part, and
//! writes the parts that differ. Adding a unit reads and writes the one part that it belongs to. What a change does to a
//! list is told from the parts that it writes: all others are on both sides.

use std::collections::{BTreeMap, BTreeSet};

use super::view::View;
use super::{Draft, EditError};
use crate::check::Definitions;
use crate::definition::{SegmentDefinition, SegmentList, Units};
use crate::entry::{EntryId, EntryWrite};
use crate::key::SegmentKey;
use crate::limits;
use crate::part::{self, PartName, PartNumber};
use crate::problem::{Problem, Problems};

/// The parts that writes touch, by segment.
pub(super) type TouchedParts = BTreeMap<SegmentKey, Vec<(SegmentList, PartNumber)>>;

/// The parts that these writes touch.
pub(super) fn touched_parts(writes: &[EntryWrite]) -> TouchedParts {
    let mut touched = TouchedParts::new();
    for PartName { segment, list, number } in writes.iter().filter_map(|write| PartName::of(&write.id)) {
        touched.entry(segment).or_default().push((list, number));
    }
    touched
}

/// The same segment with its lists whole.
pub(super) fn whole(
    view: &View<'_>,
    key: &SegmentKey,
    definition: &SegmentDefinition,
) -> Result<SegmentDefinition, EditError> {
    let parts_of =
        |list| view.parts(key.as_str(), list).into_iter().map(|(n, bytes)| (n, &**bytes)).collect();
    part::whole(definition.clone(), parts_of).map_err(|why| not_understood(key, why))
}

fn not_understood(key: &SegmentKey, why: String) -> EditError {
    EditError::NotUnderstood { id: EntryId::segment(key), why }
}

/// Drafts a segment of which `lists` are whole, in the place of what is stored now; another list stays as it is stored.
pub(super) fn draft_segment(
    before: &View<'_>,
    key: &SegmentKey,
    definition: &SegmentDefinition,
    lists: &[SegmentList],
    draft: &mut Draft,
) {
    let entries = part::entries(key, definition);
    let kept: BTreeSet<&EntryId> = entries.iter().map(|(id, _)| id).collect();
    let gone = part_ids(before, key, lists).filter(|id| !kept.contains(id)).map(EntryWrite::remove);
    draft.writes.extend(gone);
    draft.writes.extend(entries.into_iter().map(|(id, bytes)| EntryWrite::set(id, bytes)));
}

/// The names of the parts that lists of a segment have.
pub(super) fn part_ids(
    view: &View<'_>,
    key: &SegmentKey,
    lists: &[SegmentList],
) -> impl Iterator<Item = EntryId> {
    lists.iter().flat_map(move |list| {
        view.parts(key.as_str(), *list).into_keys().map(move |number| part::id(key.as_str(), *list, number))
    })
}
/// One list of a segment, of which as much is read as some units need.
pub(super) struct OpenList<'v, 'a> {
    before: &'v View<'a>,
    key: &'v SegmentKey,
    live: &'v SegmentDefinition,
    list: SegmentList,
    open: Open,
}

enum Open {
    /// The list stands in the definition.
    Whole(BTreeSet<Box<str>>),
    /// The parts to which the units belong.
    Parts(BTreeMap<PartNumber, BTreeSet<Box<str>>>),
}

impl<'v, 'a> OpenList<'v, 'a> {
    /// Opens a list as far as `units` need it.
    pub(super) fn new(
        before: &'v View<'a>,
        key: &'v SegmentKey,
        live: &'v SegmentDefinition,
        list: SegmentList,
        units: &BTreeSet<&str>,
    ) -> Result<OpenList<'v, 'a>, EditError> {
        let open = match live.units(list) {
            Units::Listed(units) => Open::Whole(units.iter().cloned().collect()),
            Units::InParts => {
                let mut parts = BTreeMap::new();
                for number in units.iter().map(|unit| PartNumber::of(unit)).collect::<BTreeSet<_>>() {
                    let bytes = before.bytes(&part::id(key.as_str(), list, number));
                    let read = bytes.map(|bytes| part::read(number, bytes)).transpose();
                    let read =
                        read.map_err(|why| not_understood(key, format!("part {number} of a list: {why}")))?;
                    parts.insert(number, read.unwrap_or_default().into_iter().collect());
                }
                Open::Parts(parts)
            }
        };
        Ok(OpenList { before, key, live, list, open })
    }

    fn place_of(&mut self, unit: &str) -> &mut BTreeSet<Box<str>> {
        match &mut self.open {
            Open::Whole(units) => units,
            Open::Parts(parts) => parts.entry(PartNumber::of(unit)).or_default(),
        }
    }

    /// Whether a unit is on the list.
    pub(super) fn contains(&mut self, unit: &str) -> bool {
        self.place_of(unit).contains(unit)
    }

    /// Puts a unit on the list; false when it was there.
    pub(super) fn insert(&mut self, unit: &str) -> bool {
        self.place_of(unit).insert(unit.into())
    }

    /// Takes a unit off the list; false when it was not there.
    pub(super) fn remove(&mut self, unit: &str) -> bool {
        self.place_of(unit).remove(unit)
    }

    /// Drafts the list as it is now. Where it has become long or short, its form changes, once.
    pub(super) fn draft(self, draft: &mut Draft) -> Result<(), EditError> {
        let OpenList { before, key, live, list, open } = self;
        let with = |units: Vec<Box<str>>| {
            let mut definition = live.clone();
            *definition.units_mut(list) = units.into();
            definition
        };
        let parts = match open {
            Open::Whole(units) => {
                draft_segment(before, key, &with(units.into_iter().collect()), &[list], draft);
                return Ok(());
            }
            Open::Parts(parts) => parts,
        };
        let written = parts.iter().map(|(number, units)| (*number, part::write(units.iter().map(|u| &**u))));
        let written: BTreeMap<PartNumber, _> = written.collect();
        let stored = before.parts(key.as_str(), list);
        let others = || stored.iter().filter(|(number, _)| !parts.contains_key(number));
        let lengths = others().map(|(_, bytes)| bytes.len());
        let bytes = part::list_bytes_of_parts(lengths.chain(written.values().flatten().map(|b| b.len())));
        if bytes > limits::SEGMENT_LIST_INLINE_MAX_BYTES {
            let id = |number| part::id(key.as_str(), list, number);
            draft.writes.extend(written.into_iter().map(|(n, bytes)| EntryWrite { id: id(n), bytes }));
            return Ok(());
        }
        let mut units: Vec<Box<str>> = parts.values().flatten().cloned().collect();
        for (number, bytes) in others() {
            units.extend(part::read(*number, bytes).map_err(|why| not_understood(key, why))?);
        }
        draft_segment(before, key, &with(units), &[list], draft);
        Ok(())
    }
}

/// Who joins a list and who leaves it.
#[derive(Debug, Default)]
pub(super) struct ListChange {
    pub(super) added: Vec<Box<str>>,
    pub(super) removed: Vec<Box<str>>,
}

/// What becomes of a list of a segment that is there before and after. A part that cannot be read counts for nothing.
pub(super) fn list_change(
    before: &View<'_>,
    after: &View<'_>,
    touched: &TouchedParts,
    key: &SegmentKey,
    list: SegmentList,
) -> ListChange {
    let numbers = || {
        let of_segment = touched.get(key).into_iter().flatten();
        of_segment.filter(|(other, _)| *other == list).map(|(_, number)| *number)
    };
    let side = |view: &View<'_>| -> BTreeSet<Box<str>> {
        let segment = view.segment(key);
        let mut units: Vec<Box<str>> = segment.map(|s| s.units(list).listed().to_vec()).unwrap_or_default();
        for number in numbers() {
            let bytes = view.bytes(&part::id(key.as_str(), list, number));
            units.extend(bytes.and_then(|bytes| part::read(number, bytes).ok()).unwrap_or_default());
        }
        units.into_iter().collect()
    };
    let (was, is) = (side(before), side(after));
    ListChange {
        added: is.difference(&was).cloned().collect(),
        removed: was.difference(&is).cloned().collect(),
    }
}

/// The limits of the lists whose parts are written, and whether these parts can be read.
pub(super) fn check(after: &View<'_>, writes: &[EntryWrite], problems: &mut Problems) {
    for write in writes {
        if let (Some(name), Some(bytes)) = (PartName::of(&write.id), &write.bytes) {
            check_part(after, &name, bytes, problems);
        }
    }
    for key in touched_parts(writes).into_keys() {
        let Some(definition) = after.segment(&key) else { continue };
        let mut bytes = 0;
        for list in SegmentList::BOTH {
            bytes += match definition.units(list) {
                Units::Listed(units) if units.is_empty() => 0,
                Units::Listed(units) => part::list_bytes(units),
                Units::InParts => {
                    let parts = after.parts(key.as_str(), list);
                    let bytes = part::list_bytes_of_parts(parts.values().map(|bytes| bytes.len()));
                    check_count(&key, list, bytes, parts.values().map(|bytes| &***bytes), problems);
                    bytes
                }
            };
        }
        let most = limits::SEGMENT_LISTS_MAX_BYTES;
        if bytes > most {
            let message = format!("the lists of a segment have at most {most} bytes; this makes {bytes}");
            problems.push(Problem::new(format!("segments.{key}"), message).hint(USE_ANOTHER));
        }
    }
}

const USE_ANOTHER: &str = "use an attribute and a condition, or another segment";
/// The fewest bytes of one unit in a list: a character, its quotes and a comma.
const UNIT_MIN_BYTES: usize = 4;

fn check_count<'p>(
    key: &SegmentKey,
    list: SegmentList,
    bytes: usize,
    parts: impl Iterator<Item = &'p [u8]>,
    problems: &mut Problems,
) {
    let most = limits::SEGMENT_UNITS_MAX;
    // Counting reads all parts, so it is left to lists that can be too long at all.
    if bytes / UNIT_MIN_BYTES < most {
        return;
    }
    let units: usize = parts.map(part::count).sum();
    if units > most {
        let message = format!("a list has at most {most} units; this makes {units}");
        problems.push(Problem::new(path(key, list), message).hint(USE_ANOTHER));
    }
}

fn check_part(after: &View<'_>, name: &PartName, bytes: &[u8], problems: &mut Problems) {
    let wrong = part::scan(name.number, bytes, |_, _, _| {}).err();
    let segment = after.segment(&name.segment);
    let is_kept = segment.is_some_and(|segment| *segment.units(name.list) == Units::InParts);
    let wrong =
        wrong.or_else(|| (!is_kept).then(|| "the segment does not keep this list in parts".to_owned()));
    if let Some(why) = wrong {
        let message = format!("part {} of this list: {why}", name.number);
        problems.push(Problem::new(path(&name.segment, name.list), message));
    }
}

/// Where a list stands in a file.
pub(super) fn path(key: &SegmentKey, list: SegmentList) -> String {
    format!("segments.{key}.{}", list.member())
}
