//! The flagd server: a log of changes, a hub that shows it to clients, and one path by which it is written.
//!
//! Top may use bottom, never back and never sideways: `serve` (the composition root) -> `api` -> `control` -> `relay`
//! -> `cluster` -> `hub` -> `store`. `clock` is the only file that asks what time it is; `metrics` counts for everybody.

pub mod api;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod control;
pub mod hub;
pub mod limits;
pub mod metrics;
pub mod relay;
pub mod serve;
pub mod shutdown;
pub mod store;
pub mod telemetry;
