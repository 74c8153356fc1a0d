//! Where a snapshot keeps its flags and segments: by name for callers, by number among themselves.
//!
//! A name is given the next free number once and keeps it in every snapshot derived from this one, also while
//! the flag is gone, so definitions refer to one another by number and replacing one never touches its users.
//! Contents lie in chunks that snapshots share: one changed flag costs one chunk, and the map of names is
//! copied only when a name appears that was never there. This file does not know what the contents mean.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;

/// Slots of one chunk: what one changed flag copies.
const CHUNK: usize = 64;

/// The number of a name, valid along a chain of derived snapshots.
pub(super) type Slot = u32;

/// Contents of type `T` by name and by number.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots<T> {
    /// The names come from operators, not from the public, so a fixed hash state is safe and keeps this crate
    /// free of randomness.
    names: Arc<HashMap<Box<str>, Slot, FixedState>>,
    chunks: Vec<Arc<[T; CHUNK]>>,
}

impl<T: Clone + Default> Slots<T> {
    /// The contents of a name.
    #[inline]
    pub(super) fn find(&self, name: &str) -> Option<&T> {
        self.at(*self.names.get(name)?)
    }

    /// The contents of a number.
    #[inline]
    pub(super) fn at(&self, slot: Slot) -> Option<&T> {
        let slot = slot as usize;
        self.chunks.get(slot / CHUNK)?.get(slot % CHUNK)
    }

    /// The number of a name; a new one when the name never had any.
    pub(super) fn intern(&mut self, name: &str) -> Slot {
        if let Some(slot) = self.names.get(name) {
            return *slot;
        }
        let next = self.names.len();
        if next == self.chunks.len() * CHUNK {
            self.chunks.push(Arc::new(std::array::from_fn(|_| T::default())));
        }
        // Four billion names do not fit into memory; if they did, the last would share a slot, not panic.
        let slot = Slot::try_from(next).unwrap_or(Slot::MAX);
        Arc::make_mut(&mut self.names).insert(name.into(), slot);
        slot
    }

    /// Changes the contents of a name, which is interned if need be.
    pub(super) fn change(&mut self, name: &str, change: impl FnOnce(&mut T)) {
        let slot = self.intern(name) as usize;
        if let Some(chunk) = self.chunks.get_mut(slot / CHUNK)
            && let Some(contents) = Arc::make_mut(chunk).get_mut(slot % CHUNK)
        {
            change(contents);
        }
    }

    /// All names and their contents, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.names.iter().filter_map(|(name, slot)| Some((name.as_ref(), self.at(*slot)?)))
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
        assert!(Arc::ptr_eq(&first.names, &second.names), "a known name copies no map");
        let shared = first.chunks.iter().zip(&second.chunks).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert_eq!((first.chunks.len(), shared), (4, 3));
    }

    #[test]
    fn what_was_never_there_is_not_found() {
        let slots: Slots<u32> = Slots::default();
        assert_eq!(slots.find("x"), None);
        assert_eq!(slots.at(0), None);
        assert_eq!(slots.at(Slot::MAX), None);
    }
}
