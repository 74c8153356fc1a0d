//! One test binary for everything that spans crates: stories, conformance data, faults, and the tidy test.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

mod abuse;
mod admission;
mod cluster;
mod conformance;
mod crowd;
mod deploy;
mod diverge;
mod durable;
mod edits;
mod etcd;
mod faults;
mod follow;
mod kill;
mod offline;
mod readme;
mod refuse;
mod relay;
mod relay_faults;
mod segments;
mod shared;
mod storm;
mod tidy;
mod twist;
