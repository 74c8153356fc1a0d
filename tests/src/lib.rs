//! What stories are told with: a real server, the real command, real clients, in a folder that goes away.
//!
//! A [`World`] owns a temporary folder with a store in it and the server's process. Everything listens on loopback
//! ports that the system chose. Waiting is always for an event ([`eventually`]), never for a time.

#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "support code of tests: a panic is a failed test"
)]

mod cluster;
mod command;
pub mod etcd;
mod forge;
mod liar;
pub mod load;
pub mod meddler;
pub mod proxy;
mod raw;
mod relays;
mod servers;
mod world;

pub use cluster::{Exchangeable, Node};
pub use command::{Output, binaries, example};
pub use forge::forge;
pub use liar::{Conversation, Liar};
pub use raw::RawClient;
pub use relays::Relay;
pub use servers::{Crowd, Dice, Operator, Servers, Story, is_passing};
pub use world::{World, big_list, connect, eventually, user};
