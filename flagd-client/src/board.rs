//! What simple flags serve, where readers find it without reaching the state in use.
//!
//! Reaching a state that may be replaced at any moment costs a reader two locked instructions, which is a fifth of
//! what a getter costs by name, and more than all the rest through a handle. What decides such a flag fits into two words; here these lie in cells that are
//! never freed, only rewritten while a new state is put in use. A counter is odd meanwhile: a reader that finds it
//! odd, or moved on when it has read, goes the long way. So whoever reads here sees exactly the state that is in
//! use, and never waits. This file does not know where states come from, nor what flags mean.

#![expect(
    clippy::inline_always,
    reason = "measured: left to itself the compiler makes calls of these, which cost a third"
)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;
use flagd_core::context::Context;
use flagd_core::snapshot::{Place, ShortWay, Snapshot as Compiled};

use crate::view::View;

mod names;

use names::Names;

/// What decides one flag, as the state in use has it.
#[derive(Debug)]
pub(crate) struct Cell {
    short_way: [AtomicU64; 2],
    /// Where the long way finds the flag.
    place: AtomicU32,
}

/// The cell of a flag that has handles. On a line of memory of its own: whoever writes beside it would slow its
/// readers down.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct KeyedCell {
    pub(crate) key: Box<str>,
    cell: Cell,
}

/// No place: no state has known the name.
const NOWHERE: u32 = u32::MAX;

/// The cells of a client, and the moment at which they and the state in use are one.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// Odd while a state is being put in use.
    generation: AtomicU64,
    names: Names,
    writing: Mutex<Writing>,
}

/// What only whoever puts a state in use looks at.
#[derive(Debug, Default)]
struct Writing {
    /// One cell per flag that has handles.
    cells: HashMap<Box<str>, Weak<KeyedCell>>,
}

impl Board {
    /// Puts a state in use, for getters by name and for handles, and gives the one before back.
    pub(crate) fn put_in_use(&self, current: &ArcSwap<View>, view: &Arc<View>) -> Arc<View> {
        let mut writing = self.writing();
        // Odd only if a writer before this one has panicked: then it must not become even while cells are rewritten.
        let settled = self.generation.load(Ordering::Relaxed) & !1;
        self.generation.store(settled.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        let before = current.swap(Arc::clone(view));
        self.show(before.compiled.as_ref(), view.compiled.as_ref());
        writing.cells.retain(|_, cell| match cell.upgrade() {
            Some(cell) => {
                cell.show(view);
                true
            }
            None => false,
        });
        self.generation.store(settled.wrapping_add(2), Ordering::Release);
        before
    }

    /// What a flag serves by its cell, or where it is to be found.
    #[inline(always)]
    pub(crate) fn ask(&self, key: &str, context: &Context) -> Told {
        let before = self.generation.load(Ordering::Acquire);
        match self.names.find(key) {
            Some(cell) => self.ask_cell(before, cell, context),
            None => Told::NOTHING,
        }
    }

    /// The same by a handle's cell.
    #[inline(always)]
    pub(crate) fn ask_handle(&self, cell: &KeyedCell, context: &Context) -> Told {
        self.ask_cell(self.generation.load(Ordering::Acquire), &cell.cell, context)
    }

    #[inline(always)]
    fn ask_cell(&self, before: u64, cell: &Cell, context: &Context) -> Told {
        let way = cell.short_way();
        // Pairs with the fence in `put_in_use`: whoever has read a word of a new state sees that it was coming.
        fence(Ordering::Acquire);
        let is_settled = before.is_multiple_of(2) && self.generation.load(Ordering::Relaxed) == before;
        if is_settled && let Some(is_on) = way.is_on(context) {
            return Told::Serves(is_on);
        }
        Told::Place(cell.place())
    }

    /// The cell of a flag for a handle. The lock keeps a new state from coming in between.
    pub(crate) fn cell(&self, key: &str, current: &ArcSwap<View>) -> Arc<KeyedCell> {
        let mut writing = self.writing();
        if let Some(cell) = writing.cells.get(key).and_then(Weak::upgrade) {
            return cell;
        }
        let cell = Arc::new(KeyedCell { key: key.into(), cell: Cell::default() });
        cell.show(&current.load());
        writing.cells.insert(key.into(), Arc::downgrade(&cell));
        cell
    }

    /// Rewrites the cells of all names that may differ. Whoever calls holds the lock, and the counter is odd.
    fn show(&self, before: Option<&Compiled>, after: Option<&Compiled>) {
        let empty = Compiled::empty();
        let (before, after) = (before.unwrap_or(&empty), after.unwrap_or(&empty));
        self.names.reserve(after.names());
        // What the new state does not have, or has elsewhere, must not go on being served.
        for (_, key, _) in before.differing(after) {
            if let Some(cell) = self.names.find(key) {
                cell.set(ShortWay::default(), NOWHERE);
            }
        }
        for (place, key, way) in after.differing(before) {
            if let Some(cell) = self.names.find_or_add(key) {
                cell.set(way, place.number());
            }
        }
    }

    fn writing(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many flags have handles.
    #[cfg(test)]
    pub(crate) fn handles(&self) -> usize {
        self.writing().cells.len()
    }
}

/// What the board tells of a flag.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Told {
    /// This.
    Serves(bool),
    /// Nothing; there it probably stands in the state in use.
    Place(Place),
}

impl Told {
    /// Nothing, and no place either.
    pub(crate) const NOTHING: Told = Told::Place(Place::from_number(NOWHERE));
}

impl Default for Cell {
    fn default() -> Cell {
        Cell { short_way: [AtomicU64::new(0), AtomicU64::new(0)], place: AtomicU32::new(NOWHERE) }
    }
}

impl Cell {
    #[inline]
    fn short_way(&self) -> ShortWay {
        let [first, second] = &self.short_way;
        ShortWay::from_words([first.load(Ordering::Relaxed), second.load(Ordering::Relaxed)])
    }

    #[inline]
    fn place(&self) -> Place {
        Place::from_number(self.place.load(Ordering::Relaxed))
    }

    /// Says what another cell says.
    fn copy(&self, other: &Cell) {
        self.set(other.short_way(), other.place().number());
    }

    fn set(&self, way: ShortWay, place: u32) {
        for (word, value) in self.short_way.iter().zip(way.to_words()) {
            word.store(value, Ordering::Relaxed);
        }
        self.place.store(place, Ordering::Relaxed);
    }
}

#[cfg(test)]
impl Cell {
    fn set_place(&self, place: u32) {
        self.set(ShortWay::default(), place);
    }
}

impl KeyedCell {
    pub(crate) fn place(&self) -> Place {
        self.cell.place()
    }

    fn show(&self, view: &View) {
        match view.find(&self.key) {
            Some(flag) => self.cell.set(flag.short_way(), flag.place().number()),
            None => self.cell.set(ShortWay::default(), NOWHERE),
        }
    }
}
