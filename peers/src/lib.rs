//! flagd beside other feature-flag engines of the Rust world, each asked the same questions through its own interface.
//!
//! `scripts/peers` builds and runs this crate and prints tables in Markdown; `docs/performance.md` shows them and says
//! how they are meant. Two programs share this library: `times` measures time, `counts` counts bytes, for an
//! allocator that counts is slower than one that does not. The library promises that every engine gave the right
//! answers before anything is measured. It does not know what is printed.

pub mod answers;
pub mod candidates;
pub mod engine;
pub mod measure;
pub mod question;
pub mod spec;
pub mod table;
