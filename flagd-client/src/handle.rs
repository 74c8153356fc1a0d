//! One flag, its name looked up once: for the places in a program that ask most often.
//!
//! Looking a name up is most of what a simple flag costs, and reaching the current state most of the rest. A
//! handle spares both: what decides a simple flag fits into two words, and those are kept in a cell of the
//! handle's own. Cells are rewritten while a new state is put in use, and a counter that is odd meanwhile tells
//! readers to go the long way. So a handle never answers from another revision than a getter by name would at
//! the same moment, never waits, and goes on being right when its flag changes, disappears or comes back. It does
//! not know where states come from.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use flagd_core::context::Context;
use flagd_core::snapshot::{FlagRef, Place, ShortWay};

use crate::client::Client;
use crate::shared::Shared;
use crate::view::View;

/// One flag of a client; see [`Client::flag`]. It counts as a clone of the client.
#[derive(Clone)]
pub struct FlagHandle {
    client: Client,
    cell: Arc<Cell>,
}

/// What decides one flag, as the state in use has it. On a line of memory of its own: whoever writes beside it
/// would slow its readers down.
#[derive(Debug)]
#[repr(align(64))]
struct Cell {
    key: Box<str>,
    short_way: [AtomicU64; 2],
    place: AtomicU32,
}

/// No place: no state has known the name.
const NOWHERE: u32 = u32::MAX;

/// The cells of a client, and the moment at which they and the state in use are one.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// Odd while a state is being put in use.
    generation: AtomicU64,
    /// One cell per flag that has handles.
    cells: Mutex<HashMap<Box<str>, Weak<Cell>>>,
}

impl Client {
    /// A handle to one flag, for places that ask often: it spares the look-up of the name. It is right for as long
    /// as it lives, also when the flag is created, changed or archived later. Asking for a flag that is not there
    /// is told when a getter of the handle is called, not here.
    #[must_use]
    pub fn flag(&self, key: &str) -> FlagHandle {
        FlagHandle { client: self.clone(), cell: self.shared.board.cell(key, &self.shared.current) }
    }
}

impl FlagHandle {
    /// The flag's key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.cell.key
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.client.shared
    }

    /// What the cell says, if that is what the state in use says.
    #[inline]
    pub(crate) fn is_on_shortly(&self, context: &Context) -> Option<bool> {
        let generation = &self.client.shared.board.generation;
        let before = generation.load(Ordering::Acquire);
        let way = self.cell.short_way();
        // Pairs with the fence in `put_in_use`: whoever has read a word of a new state sees that it was coming.
        fence(Ordering::Acquire);
        let is_settled = before.is_multiple_of(2) && generation.load(Ordering::Relaxed) == before;
        if is_settled { way.is_on(context) } else { None }
    }

    /// The flag in a state, mostly without looking for it.
    pub(crate) fn find<'v>(&self, view: &'v View) -> Option<FlagRef<'v>> {
        let place = self.cell.place.load(Ordering::Relaxed);
        view.compiled.as_ref()?.flag_at(Place::from_number(place), &self.cell.key)
    }
}

impl fmt::Debug for FlagHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlagHandle").field("key", &self.cell.key).finish_non_exhaustive()
    }
}

impl Cell {
    #[inline]
    fn short_way(&self) -> ShortWay {
        let [first, second] = &self.short_way;
        ShortWay::from_words([first.load(Ordering::Relaxed), second.load(Ordering::Relaxed)])
    }

    fn show(&self, view: &View) {
        let compiled = view.compiled.as_ref();
        let way = compiled.and_then(|compiled| compiled.flag(&self.key)).map(FlagRef::short_way);
        for (word, value) in self.short_way.iter().zip(way.unwrap_or_default().to_words()) {
            word.store(value, Ordering::Relaxed);
        }
        let place = compiled.and_then(|compiled| compiled.place(&self.key)).map_or(NOWHERE, Place::number);
        self.place.store(place, Ordering::Relaxed);
    }
}

impl Board {
    /// Puts a state in use, for getters by name and for handles, and gives the one before back.
    pub(crate) fn put_in_use(&self, current: &ArcSwap<View>, view: Arc<View>) -> Arc<View> {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let settled = self.generation.load(Ordering::Relaxed);
        self.generation.store(settled.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        let before = current.swap(Arc::clone(&view));
        cells.retain(|_, cell| match cell.upgrade() {
            Some(cell) => {
                cell.show(&view);
                true
            }
            None => false,
        });
        self.generation.store(settled.wrapping_add(2), Ordering::Release);
        before
    }

    /// The cell of a flag. The lock keeps a new state from coming in between.
    fn cell(&self, key: &str, current: &ArcSwap<View>) -> Arc<Cell> {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = cells.get(key).and_then(Weak::upgrade) {
            return cell;
        }
        let cell = Arc::new(Cell {
            key: key.into(),
            short_way: [AtomicU64::new(0), AtomicU64::new(0)],
            place: AtomicU32::new(NOWHERE),
        });
        cell.show(&current.load());
        cells.insert(key.into(), Arc::downgrade(&cell));
        cell
    }
}

#[cfg(test)]
mod tests;
