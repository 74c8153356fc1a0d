//! What libFuzzer finds, as what a client of HTTP/2 says to a server.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| flagd_server::fuzzing::http2(input));
