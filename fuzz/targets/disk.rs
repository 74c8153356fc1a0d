//! What libFuzzer finds, as a file of the client's disk cache.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| flagd_client::fuzzing::disk(input));
