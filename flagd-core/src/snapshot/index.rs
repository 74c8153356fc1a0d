//! From a text to a number, in one line of memory.
//!
//! A hash table whose entries are four bytes: the number and, in the bits that the number leaves free, a part
//! of the hash. The texts lie with whoever owns the numbers, so a look-up reads one entry here and then
//! compares one text there, which is the thing that the caller wants to read next anyway. Entries are only
//! added. This file does not know what the numbers stand for.

use std::hint::select_unpredictable;
use std::sync::Arc;

use crate::text::{Text, hash};

/// Entries per text at least: in a table so empty a text nearly always lies where it is looked for first.
const ROOM: usize = 4;

/// Entries that are looked at together. Which of them it is cannot be foreseen, and a wrong guess of the
/// processor costs more than looking at all of them.
const TOGETHER: usize = 4;
const TOGETHER_U32: u32 = 4;

/// Neighbours in the table, filled in order. Zero is free; else the low bits are the number plus one, and the
/// bits above those of the hash.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(16))]
struct Bucket([u32; TOGETHER]);

impl Bucket {
    /// The first entry with this tag, or zero. From the end, because free entries are there, and look like the tag
    /// of a hash whose upper bits are zeros.
    #[inline]
    fn candidate(&self, mask: u32, tag: u32) -> u32 {
        self.0.iter().rev().fold(0, |found, entry| select_unpredictable(entry & !mask == tag, *entry, found))
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.0.last().is_some_and(|entry| *entry != 0)
    }
}

/// Numbers by the hashes of their texts.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// As many as a power of two, or none.
    buckets: Arc<[Bucket]>,
}

impl Index {
    /// An index that so many texts will be added to.
    fn with_room(texts: usize) -> Index {
        let buckets = texts.saturating_mul(ROOM).div_ceil(TOGETHER).next_power_of_two();
        Index { buckets: vec![Bucket::default(); buckets].into() }
    }

    /// The places of things in a list, by a text of each.
    pub(super) fn of<T>(list: &[T], text_of: impl Fn(&T) -> &Text) -> Index {
        let mut index = Index::with_room(list.len());
        for (number, thing) in (0..).zip(list) {
            index.put(number, hash(text_of(thing).as_str()));
        }
        index
    }

    /// What `look` recognises among the candidates. A candidate shares most of the hash's bits with the text.
    #[inline]
    pub(super) fn find<T>(&self, hash: u64, mut look: impl FnMut(u32) -> Option<T>) -> Option<T> {
        let (home, tag, mask) = self.place(hash);
        let bucket = self.buckets.get(home)?;
        let entry = bucket.candidate(mask, tag);
        if entry == 0 && !bucket.is_full() {
            return None;
        }
        // Of no entry this makes a number that nobody has.
        look((entry & mask).wrapping_sub(1)).or_else(|| self.find_further(hash, look))
    }

    /// All candidates, bucket by bucket up to one that is not full.
    #[cold]
    #[inline(never)]
    fn find_further<T>(&self, hash: u64, mut look: impl FnMut(u32) -> Option<T>) -> Option<T> {
        let (home, tag, mask) = self.place(hash);
        let (before, after) = self.buckets.split_at_checked(home)?;
        for bucket in after.iter().chain(before) {
            for entry in bucket.0.iter().filter(|entry| **entry != 0 && **entry & !mask == tag) {
                if let Some(found) = look((entry & mask) - 1) {
                    return Some(found);
                }
            }
            if !bucket.is_full() {
                return None;
            }
        }
        None
    }

    /// Adds the next number, which is how many there are already. `hash_of` tells the hashes of all up to it.
    pub(super) fn push(&mut self, number: u32, hash_of: impl Fn(u32) -> u64) {
        let wanted = (number as usize + 1).saturating_mul(ROOM);
        if wanted <= self.buckets.len().saturating_mul(TOGETHER) {
            self.put(number, hash_of(number));
            return;
        }
        *self = Index::with_room(number as usize + 1);
        for number in 0..=number {
            self.put(number, hash_of(number));
        }
    }

    fn put(&mut self, number: u32, hash: u64) {
        let (home, tag, mask) = self.place(hash);
        let buckets = Arc::make_mut(&mut self.buckets);
        let Some((before, after)) = buckets.split_at_mut_checked(home) else { return };
        // There is always room: at most one entry in `ROOM` is in use.
        let mut entries = after.iter_mut().chain(before).flat_map(|bucket| bucket.0.iter_mut());
        if let Some(entry) = entries.find(|entry| **entry == 0) {
            *entry = tag | ((number + 1) & mask);
        }
    }

    /// Which bucket to look into first, what the upper bits of the entry are, and where these begin.
    #[inline]
    fn place(&self, hash: u64) -> (usize, u32, u32) {
        let last = u32::try_from(self.buckets.len()).unwrap_or(0).wrapping_sub(1);
        let mask = last.wrapping_mul(TOGETHER_U32).wrapping_add(TOGETHER_U32 - 1);
        (((hash >> 32) as u32 & last) as usize, (hash & 0xffff_ffff) as u32 & !mask, mask)
    }
}

#[cfg(test)]
impl Index {
    pub(super) fn is_shared_with(&self, other: &Index) -> bool {
        Arc::ptr_eq(&self.buckets, &other.buckets)
    }
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
        let is_it = |number| self.texts.get(number as usize)?.is(text).then_some(());
        !self.texts.is_empty() && self.index.find(hash(text), is_it).is_some()
    }
}

impl<'a> FromIterator<&'a str> for Texts {
    fn from_iter<I: IntoIterator<Item = &'a str>>(texts: I) -> Texts {
        let texts: Box<[Text]> = texts.into_iter().map(Text::from).collect();
        Texts { index: Index::of(&texts, |text| text), texts }
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
            for text in &texts {
                assert!(set.contains(text), "{text}");
                assert!(!set.contains(&format!("{text}x")) && !set.contains(&format!("x{text}")), "{text}");
            }
        }
        assert!(!Texts::default().contains("") && !Texts::default().contains("x"));
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

    /// The fewer bits of the hash an entry has room for, the more texts have none of them set, as a free entry.
    #[test]
    fn a_text_is_not_taken_for_a_free_entry() {
        for hash in [0, 1, 7 << 32, u64::MAX] {
            let mut index = Index::with_room(100);
            index.put(0, hash);
            assert_eq!(index.find(hash, |found| (found == 0).then_some(())), Some(()), "{hash:x}");
        }
        let names: Vec<Text> = (0..100_000).map(|n| format!("flag-{n:06}").as_str().into()).collect();
        let index = Index::of(&names, |name| name);
        let is_found = |(number, name): (u32, &Text)| {
            index.find(hash(name.as_str()), |found| (found == number).then_some(())).is_some()
        };
        assert_eq!((0..).zip(&names).filter(|named| !is_found(*named)).count(), 0);
    }

    #[test]
    fn names_that_differ_a_little_are_spread() {
        for names in [
            (0..10_000).map(|n| format!("flag-{n:05}")).collect::<Vec<String>>(),
            (0..10_000).map(|n| format!("{n:05}-in-front")).collect(),
            (0..10_000).map(|n| format!("service-feature-{n}-enabled")).collect(),
            (0..10_000).map(|n| format!("a-rather-long-name-in-front-of-number-{n}")).collect(),
        ] {
            let set: Texts = names.iter().map(String::as_str).collect();
            let buckets: std::collections::BTreeSet<usize> =
                names.iter().map(|name| set.index.place(hash(name)).0).collect();
            // By chance 45.7 % of 16,384 buckets would be used: 1 - e^(-10,000 / 16,384).
            let used_percent = buckets.len() * 100 / 16_384;
            assert!((40..52).contains(&used_percent), "{used_percent} % for {}", names[0]);
        }
    }
}
