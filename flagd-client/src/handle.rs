//! One flag, its name looked up once: for the places in a program that ask most often.
//!
//! Looking a name up is most of what a simple flag costs. A handle spares it, and goes on being right when its flag
//! changes, disappears or comes back: it answers what a getter by name would answer at the same moment. It does not
//! know what its flag serves; the board does.

#![expect(
    clippy::inline_always,
    reason = "measured: left to itself the compiler makes calls of these, which cost a third"
)]

use std::fmt;
use std::sync::Arc;

use flagd_core::context::Context;

use crate::board::{KeyedCell, Told};
use crate::client::Client;
use crate::shared::Shared;

/// One flag of a client; see [`Client::flag`]. It counts as a clone of the client.
#[derive(Clone)]
pub struct FlagHandle {
    client: Client,
    cell: Arc<KeyedCell>,
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

    #[inline]
    pub(crate) fn shared(&self) -> &Shared {
        &self.client.shared
    }

    #[inline(always)]
    pub(crate) fn ask_board(&self, context: &Context) -> Told {
        self.client.shared.board.ask_handle(&self.cell, context)
    }

    pub(crate) fn place(&self) -> flagd_core::snapshot::Place {
        self.cell.place()
    }
}

impl fmt::Debug for FlagHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlagHandle").field("key", &self.cell.key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
