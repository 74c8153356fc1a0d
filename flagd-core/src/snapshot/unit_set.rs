//! The units of a list that is not too long: one table, and their texts end to end.
//!
//! An entry says where a unit's text lies, how long it is, and most of its hash. A look-up reads one line of the table
//! and, nearly always only for a unit that is there, its text; nothing waits for more than these two. Which of
//! several entries it is, or whether there is one, cannot be foreseen, so four are looked at together. Built whole,
//! never changed. The hash is [`part::hash`], because who looks into parts has it at hand.

use std::hint::select_unpredictable;
use std::sync::Arc;

use crate::limits::{DEFINITION_MAX_BYTES, UNIT_MAX_BYTES};
use crate::part;
use crate::same::same_bytes;

/// The low bits of an entry: the length of the text in bytes. No unit is empty, so zero is free.
const LENGTH_BITS: u32 = 11;
const LENGTH: u64 = (1 << LENGTH_BITS) - 1;
/// The bits above: where the text begins. Above them lie bits of the hash.
const START_BITS: u32 = 22;
const START: u64 = (1 << START_BITS) - 1;
const TAG: u64 = !((1 << (LENGTH_BITS + START_BITS)) - 1);

const _: () = assert!(UNIT_MAX_BYTES as u64 <= LENGTH && DEFINITION_MAX_BYTES as u64 <= START);

/// Entries that are looked at together: half a line of memory.
const TOGETHER: usize = 4;
/// Entries per unit: one bucket in twenty is full, and only behind a full one another is looked at.
const ROOM: usize = 3;

#[derive(Clone, Copy, Debug, Default)]
#[repr(align(32))]
struct Bucket([u64; TOGETHER]);

impl Bucket {
    #[inline]
    fn is_full(&self) -> bool {
        self.0.last().is_some_and(|entry| *entry != 0)
    }
}

/// A set of units. Copies share it.
#[derive(Clone, Debug, Default)]
pub(super) struct UnitSet {
    buckets: Arc<[Bucket]>,
    texts: Arc<[u8]>,
}

impl UnitSet {
    /// The set of these units, each given once; `None` when one is empty or they are too long, one or all together.
    pub(super) fn of<'u>(units: impl Iterator<Item = &'u str> + Clone) -> Option<UnitSet> {
        let (count, bytes) =
            units.clone().fold((0, 0), |(count, bytes), unit| (count + 1, bytes + unit.len()));
        let mut buckets = vec![Bucket::default(); (count * ROOM).div_ceil(TOGETHER)].into_boxed_slice();
        let mut texts = Vec::with_capacity(bytes);
        for unit in units {
            let start = u64::try_from(texts.len()).ok().filter(|start| *start <= START)?;
            let length = u64::try_from(unit.len()).ok().filter(|length| (1..=LENGTH).contains(length))?;
            let hash = part::hash(unit);
            let (before, after) = buckets.split_at_mut_checked(home(hash, buckets.len()))?;
            let mut entries = after.iter_mut().chain(before).flat_map(|bucket| bucket.0.iter_mut());
            *entries.find(|entry| **entry == 0)? = hash & TAG | start << LENGTH_BITS | length;
            texts.extend_from_slice(unit.as_bytes());
        }
        Some(UnitSet { buckets: buckets.into(), texts: texts.into() })
    }

    /// Whether a unit is in the set.
    #[inline]
    pub(super) fn contains(&self, unit: &str) -> bool {
        !self.buckets.is_empty() && self.contains_hashed(unit, part::hash(unit))
    }

    /// Whether a unit is in the set; `hash` is [`part::hash`] of it.
    #[inline]
    pub(super) fn contains_hashed(&self, unit: &str, hash: u64) -> bool {
        let Some(bucket) = self.buckets.get(home(hash, self.buckets.len())) else { return false };
        let tag = hash & TAG;
        let candidate = |found, entry: &u64| select_unpredictable(entry & TAG == tag, *entry, found);
        // From the end, because free entries are there, and look like the tag of a hash whose upper bits are zeros.
        let entry = bucket.0.iter().rev().fold(0, candidate);
        if entry == 0 && !bucket.is_full() {
            return false;
        }
        self.is_at(entry, unit) || self.contains_further(unit, hash)
    }

    /// All candidates, bucket by bucket up to one that is not full.
    #[cold]
    #[inline(never)]
    fn contains_further(&self, unit: &str, hash: u64) -> bool {
        let Some((before, after)) = self.buckets.split_at_checked(home(hash, self.buckets.len())) else {
            return false;
        };
        for bucket in after.iter().chain(before) {
            let mut entries = bucket.0.iter();
            if entries.any(|entry| entry & TAG == hash & TAG && self.is_at(*entry, unit)) {
                return true;
            }
            if !bucket.is_full() {
                return false;
            }
        }
        false
    }

    #[inline]
    fn is_at(&self, entry: u64, unit: &str) -> bool {
        let start = usize::try_from(entry >> LENGTH_BITS & START).unwrap_or_default();
        let length = usize::try_from(entry & LENGTH).unwrap_or_default();
        // Before the text is waited for.
        length == unit.len()
            && length > 0
            && self.texts.get(start..start + length).is_some_and(|text| same_bytes(text, unit.as_bytes()))
    }
}

/// Where a unit is looked for first, by bits of its hash that chose neither its part nor are in the entry.
#[inline]
fn home(hash: u64, buckets: usize) -> usize {
    (((hash & 0xffff_ffff) * buckets as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(units: &[String]) -> UnitSet {
        UnitSet::of(units.iter().map(String::as_str)).unwrap()
    }

    #[test]
    fn units_of_every_length_are_found_and_others_are_not() {
        for length in 3..70 {
            let units: Vec<String> = (0..300).map(|n| format!("{n:0length$}")).collect();
            let set = set(&units);
            for unit in &units {
                assert!(set.contains(unit), "{unit}");
                assert!(!set.contains(&format!("{unit}x")) && !set.contains(&format!("x{unit}")), "{unit}");
                assert!(!set.contains(&unit[1..]), "{unit}");
            }
            assert!(!set.contains(""));
        }
        assert!(!UnitSet::default().contains("") && !UnitSet::default().contains("x"));
        assert!(!set(&[]).contains("x"));
    }

    /// Whatever the hash says, the text decides: also behind full buckets, and where every hash is the same.
    #[test]
    fn equal_hashes_are_told_apart_by_the_text() {
        let units: Vec<String> = (0..2_000).map(|n| format!("u-{n}")).collect();
        let set = set(&units);
        assert!(set.buckets.iter().any(Bucket::is_full), "some bucket is full by chance");
        for unit in &units {
            assert!(set.contains(unit) && !set.contains_hashed("u-x", part::hash(unit)), "{unit}");
        }
        for entry in 0..TOGETHER {
            let mut bucket = Bucket::default();
            for (place, entry) in bucket.0.iter_mut().zip(0..=entry) {
                *place = (entry as u64) << LENGTH_BITS | 1;
            }
            let set = UnitSet { buckets: [bucket].into(), texts: Arc::from(*b"abcd") };
            for (unit, at) in ["a", "b", "c", "d"].into_iter().zip(0..) {
                assert_eq!(set.contains_hashed(unit, 0), at <= entry, "{unit} of {entry}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let longest = "x".repeat(UNIT_MAX_BYTES);
        assert!(UnitSet::of([longest.as_str(), "y"].into_iter()).is_some_and(|set| set.contains(&longest)));
        assert!(UnitSet::of(std::iter::once("")).is_none());
        let longer = "x".repeat(2_048);
        assert!(UnitSet::of(std::iter::once(longer.as_str())).is_none());
        let many = std::iter::repeat_n(longest.as_str(), 4_098);
        assert!(UnitSet::of(many).is_none(), "the last begins behind 4 MiB");
    }
}
