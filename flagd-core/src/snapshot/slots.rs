//! Where a snapshot keeps its flags and segments: by name for callers, by number among themselves.
//!
//! A name is given the next free number once and keeps it in every snapshot derived from this one, also while
//! the flag is gone, so definitions refer to one another by number and replacing one never touches its users.
//! A name and its contents lie in one line of memory, so that recognising the name fetches the contents. The
//! lines lie in chunks that snapshots share: one changed flag costs one chunk, and the index of names is
//! copied only when a name appears that was never there. This file does not know what the contents mean.

use std::sync::Arc;

use crate::text::{Text, hash};

use super::index::Index;

/// Slots of one chunk: what one changed flag copies. With 100,000 flags, copying one chunk and the list of
/// all chunks cost about the same.
const CHUNK: usize = 128;

/// The number of a name, valid along a chain of derived snapshots.
pub(super) type Slot = u32;

/// Contents of type `T` by name and by number.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots<T> {
    index: Index,
    /// How many names there are; the next number.
    names: Slot,
    chunks: Vec<Arc<[Named<T>; CHUNK]>>,
}

/// A name and its contents, in a line of memory of their own.
#[derive(Clone, Debug, Default)]
#[repr(align(64))]
struct Named<T> {
    name: Text,
    contents: T,
}

impl<T: Clone + Default> Slots<T> {
    /// The contents of a name.
    #[inline]
    pub(super) fn find(&self, name: &str) -> Option<&T> {
        self.index.find(hash(name), |slot| self.find_at(slot, name))
    }

    /// The contents of a number, if it is the number of this name.
    #[inline]
    pub(super) fn find_at(&self, slot: Slot, name: &str) -> Option<&T> {
        let named = self.named(slot)?;
        named.name.is(name).then_some(&named.contents)
    }

    /// The contents of a name, and its number.
    #[inline]
    pub(super) fn find_with_slot(&self, name: &str) -> Option<(Slot, &T)> {
        self.index.find(hash(name), |slot| Some((slot, self.find_at(slot, name)?)))
    }

    /// The contents of a number.
    #[inline]
    pub(super) fn at(&self, slot: Slot) -> Option<&T> {
        self.named(slot).map(|named| &named.contents)
    }

    #[inline]
    fn named(&self, slot: Slot) -> Option<&Named<T>> {
        let slot = slot as usize;
        self.chunks.get(slot / CHUNK)?.get(slot % CHUNK)
    }

    fn named_mut(&mut self, slot: Slot) -> Option<&mut Named<T>> {
        let slot = slot as usize;
        Arc::make_mut(self.chunks.get_mut(slot / CHUNK)?).get_mut(slot % CHUNK)
    }

    /// The number of a name; a new one when the name never had any.
    pub(super) fn intern(&mut self, name: &str) -> Slot {
        if let Some((slot, _)) = self.find_with_slot(name) {
            return slot;
        }
        let slot = self.names;
        if slot as usize == self.chunks.len() * CHUNK {
            self.chunks.push(Arc::new(std::array::from_fn(|_| Named::default())));
        }
        if let Some(named) = self.named_mut(slot) {
            named.name = name.into();
        }
        let mut index = std::mem::take(&mut self.index);
        index.push(slot, |slot| self.named(slot).map_or(0, |named| hash(named.name.as_str())));
        self.index = index;
        // Four billion names do not fit into memory; if they did, the last would share a slot, not panic.
        self.names = slot.saturating_add(1);
        slot
    }

    /// Changes the contents of a name, which is interned if need be.
    pub(super) fn change(&mut self, name: &str, change: impl FnOnce(&mut T)) {
        let slot = self.intern(name);
        if let Some(named) = self.named_mut(slot) {
            change(&mut named.contents);
        }
    }

    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        self.names as usize
    }

    /// The names and contents that lie in chunks which `other` does not share.
    pub(super) fn unshared<'a>(
        &'a self,
        other: &'a Slots<T>,
    ) -> impl Iterator<Item = (Slot, &'a str, &'a T)> {
        let is_shared = |(at, chunk): &(usize, &Arc<_>)| {
            other.chunks.get(*at).is_some_and(|other| Arc::ptr_eq(chunk, other))
        };
        let chunks = self.chunks.iter().enumerate().filter(move |chunk| !is_shared(chunk));
        let numbered = chunks.flat_map(|(at, chunk)| (at * CHUNK..).zip(chunk.iter()));
        numbered.filter_map(|(slot, named)| {
            let slot = Slot::try_from(slot).ok().filter(|slot| *slot < self.names)?;
            Some((slot, named.name.as_str(), &named.contents))
        })
    }

    /// All names and their contents, in the order in which the names appeared.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        let named = self.chunks.iter().flat_map(|chunk| chunk.iter()).take(self.names as usize);
        named.map(|named| (named.name.as_str(), &named.contents))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number_and_a_change_copies_one_chunk() {
        let mut first: Slots<u32> = Slots::default();
        for n in 0..200 {
            first.change(&format!("flag-{n}"), |contents| *contents = n);
        }
        let mut second = first.clone();
        second.change("flag-70", |contents| *contents = 1_000);
        assert_eq!(first.find("flag-70"), Some(&70));
        assert_eq!(second.find("flag-70"), Some(&1_000));
        assert_eq!(first.intern("flag-70"), second.intern("flag-70"));
        assert!(first.index.is_shared_with(&second.index), "a known name copies no index");
        let shared = first.chunks.iter().zip(&second.chunks).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert_eq!((first.chunks.len(), shared), (2, 1));
    }

    #[test]
    fn what_was_never_there_is_not_found() {
        let slots: Slots<u32> = Slots::default();
        assert_eq!(slots.find("x"), None);
        assert_eq!(slots.at(0), None);
        assert_eq!(slots.at(Slot::MAX), None);
    }
}
