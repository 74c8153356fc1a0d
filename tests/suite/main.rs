//! One test binary for everything that spans crates: stories, conformance data, faults, and the tidy test.

mod tidy;
