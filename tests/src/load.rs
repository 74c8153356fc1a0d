//! A load of clients, and what a change costs with it: how long until all have it, and how much of the server.
//!
//! `fleet` opens many streams that cost little, so that the server is what is measured; `floor` is what the same bytes
//! to as many sockets cost without any protocol; `process` reads what a process has used; `figures` turns all that into
//! tables; `restart` and `memory` are about real clients of the SDK. `storm`, `slow` and `flood` are about crowds that ask too
//! much: too many at once, too slowly, too often. The streams of a fleet follow the protocol but keep no
//! state: they check that revisions follow each other, not digests.

mod arrivals;
mod figures;
mod fleet;
mod flood;
mod floor;
mod memory;
mod options;
pub(crate) mod process;
mod restart;
mod run;
mod server;
mod slow;
mod storm;
mod wire;

pub use figures::{Row, Spread};
pub use fleet::{Acks, Fleet, Plan};
pub use flood::{Flood, Work, Workers, flood};
pub use floor::{Manner, serve_floor};
pub use memory::memory;
pub use options::{HELP, Options, Task};
pub use process::{Pinned, pin_self};
pub use restart::restart;
pub use run::{measure, publish, put};
pub use slow::{Slow, bulk, slow};
pub use storm::storm;
