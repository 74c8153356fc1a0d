//! The engine of flagd: what a feature flag means, decided by pure functions.
//!
//! A [`state::State`] is everything an environment holds at one revision, as bytes with a digest.
//! A [`snapshot::Snapshot`] is the same state compiled; [`snapshot::Snapshot::evaluate`] answers "what does
//! this flag serve to this context at this time" without a lock, an allocation, a clock or a failure.
//! [`edit::plan`] turns an operator's wish into the entries that a change writes.
//!
//! This crate does no I/O, reads no clock and no environment variable, spawns nothing, logs nothing and
//! has no global state. Whatever it needs to know is an argument.

pub mod canonical;
pub mod check;
pub mod context;
pub mod definition;
pub mod edit;
pub mod entry;
pub mod key;
pub mod limits;
pub mod part;
pub mod problem;
pub mod revision;
mod same;
pub mod snapshot;
pub mod split;
pub mod state;
pub mod text;
pub mod time;
