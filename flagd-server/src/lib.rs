//! The flagd server: a log of changes, a hub that shows it to clients, and one path by which it is written.
//!
//! Top may use bottom, never back and never sideways: `serve` (the composition root) -> `api` -> `control` -> `relay`
//! -> `cluster` -> `hub` -> `store`. `clock` is the only file that asks what time it is; `metrics` counts for everybody;
//! `http2` speaks the protocol and knows none of us.

pub mod api;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod control;
mod http2;
pub mod hub;
pub mod limits;
pub mod metrics;
pub mod relay;
pub mod serve;
pub mod shutdown;
pub mod store;
pub mod telemetry;

/// A door for `fuzz/`; it exists only in a build of `scripts/fuzz`.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    /// Any bytes as what a client of HTTP/2 says after its greeting.
    pub fn http2(bytes: &[u8]) {
        crate::http2::any_bytes(bytes);
    }
}
