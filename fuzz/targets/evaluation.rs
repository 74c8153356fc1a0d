//! What libFuzzer finds, at the door of the engine that `flagd-core/tests/bytes/mod.rs` calls `evaluation`.
#![no_main]
#![allow(dead_code, reason = "each target uses one of the doors")]

#[path = "../../flagd-core/tests/bytes/mod.rs"]
mod bytes;

libfuzzer_sys::fuzz_target!(|input: &[u8]| bytes::evaluation(input));
