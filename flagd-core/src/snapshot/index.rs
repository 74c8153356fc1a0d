//! From a text to a number, in one line of memory.
//!
//! A hash table whose entries are four bytes: the number and, in the bits that the number leaves free, a part
//! of the hash. The texts lie with whoever owns the numbers, so a look-up reads one entry here and then
//! compares one text there, which is the thing that the caller wants to read next anyway. Entries are only
//! added. This file does not know what the numbers stand for.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;

use crate::text::Text;

/// Entries per text at least: in a table so empty the first look nearly always decides.
const ROOM: usize = 4;

/// The smallest table.
const ENTRIES_MIN: usize = 8;

/// Numbers by the hashes of their texts.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// As many as a power of two, or none. Zero is free; else the low bits are the number plus one, and the
    /// bits above those of the hash.
    entries: Arc<[u32]>,
}

impl Index {
    /// An index that so many texts will be added to.
    fn with_room(texts: usize) -> Index {
        let entries = texts.saturating_mul(ROOM).next_power_of_two().max(ENTRIES_MIN);
        Index { entries: vec![0; entries].into() }
    }

    /// The first candidate that `look` recognises. Candidates share most of the hash's bits with the text.
    #[inline]
    pub(super) fn find<T>(&self, hash: u64, mut look: impl FnMut(u32) -> Option<T>) -> Option<T> {
        let entries = &*self.entries;
        let mask = mask(entries);
        let (mut at, tag) = place(hash, mask);
        while let Some(&entry) = entries.get(at as usize)
            && entry != 0
        {
            if entry & !mask == tag
                && let Some(found) = look((entry & mask) - 1)
            {
                return Some(found);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// Adds the next number, which is how many there are already. `hash_of` tells the hashes of all up to it.
    pub(super) fn push(&mut self, number: u32, hash_of: impl Fn(u32) -> u64) {
        let wanted = (number as usize + 1).saturating_mul(ROOM);
        if wanted <= self.entries.len() {
            put(Arc::make_mut(&mut self.entries), number, hash_of(number));
            return;
        }
        // Twice the room, so that growing stays rare.
        let mut entries = vec![0; wanted.next_power_of_two().max(ENTRIES_MIN)];
        for number in 0..=number {
            put(&mut entries, number, hash_of(number));
        }
        self.entries = entries.into();
    }
}

#[cfg(test)]
impl Index {
    pub(super) fn is_shared_with(&self, other: &Index) -> bool {
        Arc::ptr_eq(&self.entries, &other.entries)
    }
}

#[inline]
fn mask(entries: &[u32]) -> u32 {
    u32::try_from(entries.len()).unwrap_or(0).wrapping_sub(1)
}

/// Where to look first, and what the upper bits of the entry are.
#[inline]
fn place(hash: u64, mask: u32) -> (u32, u32) {
    ((hash >> 32) as u32 & mask, (hash & 0xffff_ffff) as u32 & !mask)
}

fn put(entries: &mut [u32], number: u32, hash: u64) {
    let mask = mask(entries);
    let (mut at, tag) = place(hash, mask);
    // There is always room: at most one entry in `ROOM` is in use.
    while let Some(entry) = entries.get_mut(at as usize) {
        if *entry == 0 {
            *entry = tag | (number + 1);
            return;
        }
        at = (at + 1) & mask;
    }
}

/// Odd and without a pattern (digits of pi); they keep a text of zeros from hashing to zero.
const KEYS: [u64; 4] =
    [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345, 0xa409_3822_299f_31d1, 0x082e_fa98_ec4e_6c89];

/// The hash of a text. The texts come from operators, not from the public, so it needs no secret. Most names
/// are of a length that two pieces from both ends cover; they are spread here, without a call.
#[inline]
pub(super) fn hash(text: &str) -> u64 {
    let [a, b, c, d] = KEYS;
    let bytes = text.as_bytes();
    let length = bytes.len() as u64;
    let ends = match bytes.len() {
        8..=16 => bytes.first_chunk().zip(bytes.last_chunk()).map(|(first, last)| {
            fold(u64::from_le_bytes(*first) ^ a ^ length, u64::from_le_bytes(*last) ^ b)
        }),
        17..=32 => bytes.first_chunk().zip(bytes.last_chunk()).map(|(first, last)| {
            let ([a1, b1], [a2, b2]) = (halves(*first), halves(*last));
            fold(a1 ^ a ^ length, b1 ^ b) ^ fold(a2 ^ c, b2 ^ d)
        }),
        _ => None,
    };
    ends.unwrap_or_else(|| hash_other(bytes))
}

fn hash_other(bytes: &[u8]) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

/// Both halves of the product: every bit of the factors reaches the middle ones.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let (low, high) = a.carrying_mul(b, 0);
    low ^ high
}

#[inline]
fn halves(bytes: [u8; 16]) -> [u64; 2] {
    let [low, high] = bytes.as_chunks::<8>().0 else { return [0; 2] };
    [u64::from_le_bytes(*low), u64::from_le_bytes(*high)]
}

/// A set of texts.
#[derive(Debug, Default)]
pub(super) struct Texts {
    index: Index,
    texts: Box<[Text]>,
}

impl Texts {
    #[inline]
    pub(super) fn contains(&self, text: &str) -> bool {
        self.position(text).is_some()
    }

    /// Which of the texts it was made of this one is; the first, if it was given more than once.
    #[inline]
    pub(super) fn position(&self, text: &str) -> Option<u32> {
        self.index.find(hash(text), |number| self.texts.get(number as usize)?.is(text).then_some(number))
    }
}

impl<'a> FromIterator<&'a str> for Texts {
    fn from_iter<I: IntoIterator<Item = &'a str>>(texts: I) -> Texts {
        let texts: Box<[Text]> = texts.into_iter().map(Text::from).collect();
        let mut index = Index::with_room(texts.len());
        let hash_of = |number: u32| texts.get(number as usize).map_or(0, |text| hash(text.as_str()));
        for number in (0_u32..).take(texts.len()) {
            index.push(number, hash_of);
        }
        Texts { index, texts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_every_length_are_found_and_others_are_not() {
        for length in 0..70 {
            let texts: Vec<String> = (0..200).map(|n| format!("{n:0length$}")).collect();
            let set: Texts = texts.iter().map(String::as_str).collect();
            for (n, text) in texts.iter().enumerate() {
                assert_eq!(set.position(text).map(|n| n as usize), Some(n), "{text}");
                assert!(!set.contains(&format!("{text}x")) && !set.contains(&format!("x{text}")), "{text}");
            }
        }
        assert!(!Texts::default().contains("") && !Texts::default().contains("x"));
    }

    #[test]
    fn of_equal_texts_the_first_is_found() {
        let set: Texts = ["a", "b", "a", "b", "a"].into_iter().collect();
        assert_eq!((set.position("a"), set.position("b")), (Some(0), Some(1)));
    }

    #[test]
    fn equal_hashes_are_told_apart_by_the_text() {
        let mut index = Index::default();
        for number in 0..100 {
            index.push(number, |_| 7);
        }
        for number in 0..100 {
            assert_eq!(index.find(7, |found| (found == number).then_some(found)), Some(number));
        }
        assert_eq!(index.find(7, |_| None::<()>), None);
    }

    #[test]
    fn names_that_differ_a_little_are_spread() {
        // In a table a quarter full at most, chance gives a first look that decides in about seven of eight.
        for names in [
            (0..10_000).map(|n| format!("flag-{n:05}")).collect::<Vec<String>>(),
            (0..10_000).map(|n| format!("{n:05}-in-front")).collect(),
            (0..10_000).map(|n| format!("service-feature-{n}-enabled")).collect(),
            (0..10_000).map(|n| format!("a-rather-long-name-in-front-of-number-{n}")).collect(),
        ] {
            let set: Texts = names.iter().map(String::as_str).collect();
            let mask = mask(&set.index.entries);
            let places: std::collections::BTreeSet<u32> =
                names.iter().map(|name| place(hash(name), mask).0).collect();
            assert!(places.len() > 8_000, "{} places for {}", places.len(), names[0]);
        }
    }
}
