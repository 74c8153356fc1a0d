//! The units of a long list, as they are looked up.
//!
//! A million units must not cost a million small allocations, nor a copy of what the state holds anyway. So a part keeps
//! the stored bytes and beside them a table with four bytes per place: where in the bytes a unit begins, and a few more
//! bits of its hash. One hash finds the part and the place in it; one comparison with the bytes decides. The parts of a
//! list lie in groups that snapshots share: one changed part copies one group and the list of groups.
//!
//! In a list that is long but not very long, part, table and bytes are small pieces of memory that wait for one
//! another. There each group has a set of all its units besides; it is made anew when one of its parts has changed.

use std::borrow::Cow;
use std::sync::Arc;

use crate::definition::SegmentList;
use crate::limits::DEFINITION_MAX_BYTES;
use crate::part::{self, PARTS, PartNumber};
use crate::same::same_bytes;

use super::compile::Origin;
use super::unit_set::UnitSet;

/// The low bits of a place in the table: where the unit begins in the bytes of the part. Above them lie bits of the hash.
const START_BITS: u32 = 19;
const START: u32 = (1 << START_BITS) - 1;
const _: () = assert!(DEFINITION_MAX_BYTES <= 1 << START_BITS, "every byte of a part can be told");

/// Parts that one changed part copies the list of.
const GROUP: usize = 64;
const GROUPS: usize = PARTS as usize / GROUP;
/// Most units in a group that has a set: what one changed part puts together again. A list of 65,000 units has as many
/// in each.
const SET_UNITS_MAX: usize = 1_024;
/// Most bytes in all parts of such a group.
const SET_BYTES_MAX: usize = 64 * 1_024;

/// Some of the units of a list.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) origin: Origin,
    /// How many there are.
    units: usize,
    /// Where units begin, by their hashes; zero is free. A third is free, so every search ends soon.
    table: Box<[u32]>,
}

impl Part {
    /// Reads a part from its stored bytes; the error is a sentence.
    pub(super) fn read(number: PartNumber, bytes: &Arc<[u8]>) -> Result<Part, String> {
        let mut units: Vec<(u64, usize)> = Vec::new();
        part::scan(number, bytes, |start, hash, _| units.push((hash, start)))?;
        let mut table = vec![0; units.len() + units.len() / 2 + 1].into_boxed_slice();
        let count = units.len();
        for (hash, start) in units {
            let entry = tag(hash) << START_BITS | u32::try_from(start).unwrap_or_default() & START;
            let (before, after) = table.split_at_mut_checked(home(hash, table.len())).unwrap_or_default();
            if let Some(free) = after.iter_mut().chain(before).find(|place| **place == 0) {
                *free = entry;
            }
        }
        Ok(Part { origin: Origin { bytes: Arc::clone(bytes), uses: Box::default() }, units: count, table })
    }

    /// Whether a unit is listed. `hash` is [`part::hash`] of it.
    #[inline]
    fn contains(&self, unit: &str, hash: u64) -> bool {
        let Some((before, after)) = self.table.split_at_checked(home(hash, self.table.len())) else {
            return false;
        };
        let tag = tag(hash);
        let entries = after.iter().chain(before).take_while(|entry| **entry != 0);
        entries.filter(|entry| **entry >> START_BITS == tag).any(|entry| self.is_at(entry & START, unit))
    }

    #[inline]
    fn is_at(&self, start: u32, unit: &str) -> bool {
        let stored = self.origin.bytes.get(start as usize..).unwrap_or_default();
        match stored.split_at_checked(unit.len()) {
            Some((text, [b'"', ..])) if same_bytes(text, unit.as_bytes()) && is_plain(unit) => true,
            _ => is_escaped(stored, unit),
        }
    }
}

/// Where a unit is looked for first, by bits of its hash that did not choose the part.
#[inline]
fn home(hash: u64, places: usize) -> usize {
    (((hash & 0xffff_ffff) * places as u64) >> 32) as usize
}

#[inline]
fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32 & (u32::MAX >> START_BITS)
}

/// Whether a unit stands in JSON as it is.
fn is_plain(unit: &str) -> bool {
    !unit.bytes().any(|byte| byte < b' ' || matches!(byte, b'"' | b'\\'))
}

/// Whether the JSON string that begins here, behind its quote, is this unit.
#[cold]
fn is_escaped(stored: &[u8], unit: &str) -> bool {
    let mut stored = stored.iter().copied();
    let mut wanted = unit.bytes();
    loop {
        let byte = match stored.next() {
            None => return false,
            Some(b'"') => return wanted.next().is_none(),
            Some(b'\\') => match stored.next() {
                Some(b'b') => 0x8,
                Some(b'f') => 0xc,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                // Only control characters are written so; their first two digits are zeros.
                Some(b'u') => match hexadecimal(stored.nth(2), stored.next()) {
                    Some(byte) => byte,
                    None => return false,
                },
                Some(itself) => itself,
                None => return false,
            },
            Some(byte) => byte,
        };
        if wanted.next() != Some(byte) {
            return false;
        }
    }
}

fn hexadecimal(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high?)? * 16 + digit(low?)?)
}

type SomeParts = [Option<Arc<Part>>; GROUP];

/// Parts that lie side by side.
#[derive(Clone, Debug, Default)]
struct Group {
    together: Together,
    parts: Option<Arc<SomeParts>>,
}

/// All units of a group, for its look-ups.
#[derive(Clone, Debug, Default)]
enum Together {
    /// A part was set since they were gathered.
    #[default]
    Outdated,
    Set(UnitSet),
    /// None, or too many to be put together again whenever one part changes.
    Apart,
}

impl Group {
    #[inline]
    fn contains(&self, unit: &str, hash: u64) -> bool {
        match &self.together {
            Together::Set(set) => set.contains_hashed(unit, hash),
            _ => self.part(PartNumber::of_hash(hash)).is_some_and(|part| part.contains(unit, hash)),
        }
    }

    #[inline]
    fn part(&self, number: PartNumber) -> Option<&Arc<Part>> {
        self.parts.as_ref()?.get(usize::from(number.get()) % GROUP)?.as_ref()
    }

    fn set_part(&mut self, number: PartNumber, part: Option<Arc<Part>>) {
        self.together = Together::Outdated;
        let parts = Arc::make_mut(self.parts.get_or_insert_with(|| Arc::new([const { None }; GROUP])));
        if let Some(known) = parts.get_mut(usize::from(number.get()) % GROUP) {
            *known = part;
        }
        if parts.iter().all(Option::is_none) {
            self.parts = None;
        }
    }

    fn gather(&mut self) {
        if !matches!(self.together, Together::Outdated) {
            return;
        }
        let parts = self.parts.iter().flat_map(|parts| parts.iter()).flatten();
        let units: usize = parts.clone().map(|part| part.units).sum();
        let bytes: usize = parts.clone().map(|part| part.origin.bytes.len()).sum();
        if !(1..=SET_UNITS_MAX).contains(&units) || bytes > SET_BYTES_MAX {
            self.together = Together::Apart;
            return;
        }
        let texts: Vec<Cow<'_, str>> = parts.flat_map(|part| part::units(&part.origin.bytes)).collect();
        let set = UnitSet::of(texts.iter().map(AsRef::as_ref));
        self.together = set.map_or(Together::Apart, Together::Set);
    }
}

/// The parts of one list that there are. The groups lie in here, so that one step less is waited for.
#[derive(Clone, Debug)]
struct List([Group; GROUPS]);

/// The parts of a segment's lists.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    include: List,
    exclude: List,
}

impl Default for Parts {
    fn default() -> Parts {
        let empty = || List(std::array::from_fn(|_| Group::default()));
        Parts { include: empty(), exclude: empty() }
    }
}

impl Parts {
    #[inline]
    fn group(&self, list: SegmentList, number: PartNumber) -> Option<&Group> {
        let List(groups) = match list {
            SegmentList::Include => &self.include,
            SegmentList::Exclude => &self.exclude,
        };
        groups.get(usize::from(number.get()) / GROUP)
    }

    /// Whether a unit is listed in a part.
    #[inline]
    pub(super) fn contains(&self, list: SegmentList, unit: &str) -> bool {
        let hash = part::hash(unit);
        self.group(list, PartNumber::of_hash(hash)).is_some_and(|group| group.contains(unit, hash))
    }

    /// A part; `None` for one that is empty.
    #[inline]
    pub(super) fn get(&self, list: SegmentList, number: PartNumber) -> Option<&Arc<Part>> {
        self.group(list, number)?.part(number)
    }

    /// Puts a part in its place, or takes it away. When all are where they belong, [`Parts::gather`] is due.
    pub(super) fn set(&mut self, list: SegmentList, number: PartNumber, part: Option<Arc<Part>>) {
        let List(groups) = match list {
            SegmentList::Include => &mut self.include,
            SegmentList::Exclude => &mut self.exclude,
        };
        if let Some(group) = groups.get_mut(usize::from(number.get()) / GROUP) {
            group.set_part(number, part);
        }
    }

    /// Makes what speeds up the look-ups, where parts were set.
    pub(super) fn gather(&mut self) {
        let List(include) = &mut self.include;
        let List(exclude) = &mut self.exclude;
        include.iter_mut().chain(exclude).for_each(Group::gather);
    }

    /// Which parts there are.
    pub(super) fn numbers(&self) -> impl Iterator<Item = (SegmentList, PartNumber)> {
        let numbers = |list| PartNumber::all().map(move |number| (list, number));
        let all = SegmentList::BOTH.into_iter().flat_map(numbers);
        all.filter(|(list, number)| self.get(*list, *number).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(units: &[&str]) -> Parts {
        let mut parts = Parts::default();
        let mut sorted: Vec<&str> = units.to_vec();
        sorted.sort_unstable();
        for number in PartNumber::all() {
            let here = sorted.iter().copied().filter(|unit| PartNumber::of(unit) == number);
            if let Some(bytes) = part::write(here) {
                parts.set(SegmentList::Include, number, Some(Arc::new(Part::read(number, &bytes).unwrap())));
            }
        }
        parts
    }

    #[test]
    fn units_are_found_as_they_were_written_and_others_are_not() {
        let units = [
            "a\"b",
            "a\\nb",
            "line\nbreak",
            "\t",
            "\u{1}",
            "\u{1f}",
            "\u{7f}",
            ",",
            "\\",
            "\"",
            "é",
            "😀",
            "u-1",
            "\u{8}\u{c}\r",
        ];
        let long = "x".repeat(1_024);
        let all: Vec<&str> = units.iter().copied().chain([long.as_str()]).collect();
        let parts = parts(&all);
        let mut gathered = parts.clone();
        gathered.gather();
        for parts in [&parts, &gathered] {
            for unit in &all {
                assert!(parts.contains(SegmentList::Include, unit), "{unit:?}");
                assert!(!parts.contains(SegmentList::Exclude, unit), "{unit:?}");
            }
            for other in
                ["", "a", "a\\\"b", "a\nb", "a\\\\nb", "line\\nbreak", "\\t", "\\u0001", "u-10", "u-", "x"]
            {
                assert!(!parts.contains(SegmentList::Include, other), "{other:?}");
            }
        }
        assert_eq!(
            parts.numbers().count(),
            all.iter().map(|unit| PartNumber::of(unit)).collect::<std::collections::BTreeSet<_>>().len()
        );
    }

    /// Whatever the hash says, the text decides: also where a table is asked with a hash that is not the unit's.
    #[test]
    fn equal_hashes_are_told_apart_by_the_text() {
        let units: Vec<String> =
            (0..1_000_000).map(|n| format!("u-{n}")).filter(|u| PartNumber::of(u).get() == 7).collect();
        let mut sorted = units.clone();
        sorted.sort();
        let bytes = part::write(sorted.iter().map(String::as_str)).unwrap();
        let part = Part::read(PartNumber::of(&units[0]), &bytes).unwrap();
        for unit in &units {
            assert!(part.contains(unit, part::hash(unit)));
            assert!(!part.contains("another", part::hash(unit)), "{unit}");
            let (shorter, longer) = (&unit[..unit.len() - 1], format!("{unit}0"));
            assert!(!part.contains(shorter, part::hash(unit)) && !part.contains(&longer, part::hash(unit)));
        }
    }

    /// One unit comes and goes in a list that is gathered: what was gathered before must not answer.
    #[test]
    fn a_group_that_was_gathered_follows_its_parts() {
        let mut parts = parts(&["u-1", "u-2", "u-3"]);
        parts.gather();
        let number = PartNumber::of("u-2");
        let before = parts.clone();
        for step in 0..4 {
            let is_listed = step % 2 == 1;
            let bytes = part::write(is_listed.then_some("u-2"));
            let part = bytes.map(|bytes| Arc::new(Part::read(number, &bytes).unwrap()));
            parts.set(SegmentList::Include, number, part);
            assert_eq!(parts.contains(SegmentList::Include, "u-2"), is_listed, "before it is gathered");
            parts.gather();
            assert_eq!(parts.contains(SegmentList::Include, "u-2"), is_listed, "after it is gathered");
            assert!(
                parts.contains(SegmentList::Include, "u-1") && before.contains(SegmentList::Include, "u-2")
            );
        }
    }

    #[test]
    fn a_group_of_many_units_stays_apart() {
        let all: Vec<String> = (0..200_000).map(|n| format!("{n}")).collect();
        let group = |unit: &String| PartNumber::of(unit).get() / u16::try_from(GROUP).unwrap();
        let first: Vec<&str> = all.iter().filter(|unit| group(unit) == 0).map(String::as_str).collect();
        for (units, is_gathered) in [(SET_UNITS_MAX, true), (SET_UNITS_MAX + 1, false)] {
            let mut parts = parts(&first[..units]);
            parts.gather();
            let together = &parts.include.0[0].together;
            assert_eq!(matches!(together, Together::Set(_)), is_gathered, "{units}");
            let is_listed = |unit: &&&str| parts.contains(SegmentList::Include, unit);
            assert_eq!(first.iter().filter(is_listed).count(), units);
        }
    }

    #[test]
    fn a_changed_part_copies_one_group_and_an_empty_group_goes() {
        let first = parts(
            &(0..50_000)
                .map(|n| format!("{n}"))
                .collect::<Vec<_>>()
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
        );
        let mut second = first.clone();
        let number = PartNumber::of("17");
        second.set(SegmentList::Include, number, None);
        assert!(first.contains(SegmentList::Include, "17") && !second.contains(SegmentList::Include, "17"));
        let parts = |parts: &Parts| parts.include.0.each_ref().map(|group| group.parts.clone());
        let pairs = parts(&first).into_iter().flatten().zip(parts(&second).into_iter().flatten());
        assert_eq!(pairs.filter(|(a, b)| !Arc::ptr_eq(a, b)).count(), 1);
        for (list, number) in first.numbers() {
            second.set(list, number, None);
        }
        assert!(second.include.0.iter().all(|group| group.parts.is_none()));
    }
}
