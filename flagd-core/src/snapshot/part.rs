//! The units of a long list, as they are looked up.
//!
//! A million units must not cost a million small allocations, nor a copy of what the state holds anyway. So a part keeps
//! the stored bytes and beside them a table with four bytes per place: where in the bytes a unit begins, and a few more
//! bits of its hash. One hash finds the part and the place in it; one comparison with the bytes decides. The parts of a
//! list lie in groups that snapshots share: one changed part copies one group and the list of groups.

use std::sync::Arc;

use crate::definition::SegmentList;
use crate::limits::DEFINITION_MAX_BYTES;
use crate::part::{self, PARTS, PartNumber};
use crate::same::same_bytes;

use super::compile::Origin;

/// The low bits of a place in the table: where the unit begins in the bytes of the part. Above them lie bits of the hash.
const START_BITS: u32 = 19;
const START: u32 = (1 << START_BITS) - 1;
const _: () = assert!(DEFINITION_MAX_BYTES <= 1 << START_BITS, "every byte of a part can be told");

/// Parts that one changed part copies the list of.
const GROUP: usize = 64;
const GROUPS: usize = PARTS as usize / GROUP;

/// Some of the units of a list.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) origin: Origin,
    /// Where units begin, by their hashes; zero is free. A third is free, so every search ends soon.
    table: Box<[u32]>,
}

impl Part {
    /// Reads a part from its stored bytes; the error is a sentence.
    pub(super) fn read(number: PartNumber, bytes: &Arc<[u8]>) -> Result<Part, String> {
        let mut units: Vec<(u64, usize)> = Vec::new();
        part::scan(number, bytes, |start, hash, _| units.push((hash, start)))?;
        let mut table = vec![0; units.len() + units.len() / 2 + 1].into_boxed_slice();
        for (hash, start) in units {
            let entry = tag(hash) << START_BITS | u32::try_from(start).unwrap_or_default() & START;
            let (before, after) = table.split_at_mut_checked(home(hash, table.len())).unwrap_or_default();
            if let Some(free) = after.iter_mut().chain(before).find(|place| **place == 0) {
                *free = entry;
            }
        }
        Ok(Part { origin: Origin { bytes: Arc::clone(bytes), uses: Box::default() }, table })
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

type Group = [Option<Arc<Part>>; GROUP];

/// The parts of one list that there are.
#[derive(Clone, Debug)]
struct List([Option<Arc<Group>>; GROUPS]);

/// The parts of a segment's lists.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    include: List,
    exclude: List,
}

impl Default for Parts {
    fn default() -> Parts {
        let empty = || List([const { None }; GROUPS]);
        Parts { include: empty(), exclude: empty() }
    }
}

impl Parts {
    #[inline]
    fn list(&self, list: SegmentList) -> &List {
        match list {
            SegmentList::Include => &self.include,
            SegmentList::Exclude => &self.exclude,
        }
    }

    /// Whether a unit is listed in a part.
    #[inline]
    pub(super) fn contains(&self, list: SegmentList, unit: &str) -> bool {
        let hash = part::hash(unit);
        self.get(list, PartNumber::of_hash(hash)).is_some_and(|part| part.contains(unit, hash))
    }

    /// A part; `None` for one that is empty.
    #[inline]
    pub(super) fn get(&self, list: SegmentList, number: PartNumber) -> Option<&Arc<Part>> {
        let number = usize::from(number.get());
        let group = self.list(list).0.get(number / GROUP)?.as_ref()?;
        group.get(number % GROUP)?.as_ref()
    }

    /// Puts a part in its place, or takes it away.
    pub(super) fn set(&mut self, list: SegmentList, number: PartNumber, part: Option<Arc<Part>>) {
        let place = usize::from(number.get());
        let List(groups) = match list {
            SegmentList::Include => &mut self.include,
            SegmentList::Exclude => &mut self.exclude,
        };
        let Some(group) = groups.get_mut(place / GROUP) else { return };
        let parts = Arc::make_mut(group.get_or_insert_with(|| Arc::new([const { None }; GROUP])));
        if let Some(known) = parts.get_mut(place % GROUP) {
            *known = part;
        }
        if parts.iter().all(Option::is_none) {
            *group = None;
        }
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
        for unit in &all {
            assert!(parts.contains(SegmentList::Include, unit), "{unit:?}");
            assert!(!parts.contains(SegmentList::Exclude, unit), "{unit:?}");
        }
        for other in
            ["", "a", "a\\\"b", "a\nb", "a\\\\nb", "line\\nbreak", "\\t", "\\u0001", "u-10", "u-", "x"]
        {
            assert!(!parts.contains(SegmentList::Include, other), "{other:?}");
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
        let pairs = first.include.0.iter().flatten().zip(second.include.0.iter().flatten());
        assert_eq!(pairs.filter(|(a, b)| !Arc::ptr_eq(a, b)).count(), 1);
        for (list, number) in first.numbers() {
            second.set(list, number, None);
        }
        assert!(second.include.0.iter().all(Option::is_none));
    }
}
