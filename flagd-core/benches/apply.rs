//! What one change costs, and what a flag costs in memory. Run: `cargo bench -p flagd-core --bench apply`.
//!
//! The environment holds only simple flags, each with a 25 % split. A change is everything that a client does
//! with a delta once it is decoded: apply it to the state and check the digest, derive the next snapshot,
//! free the one before. Memory is what the compiled snapshot holds beside the stored bytes, which belong to the
//! state and are shared with it.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::cast_precision_loss,
    reason = "a benchmark reports on standard output, and a panic in it fails nothing but the measurement"
)]

use std::collections::BTreeMap;
use std::time::Instant;

use flagd_core::entry::{EntryId, EntryKind, EntryWrite, StoredEntry};
use flagd_core::key::EnvironmentName;
use flagd_core::revision::{Epoch, Revision};
use flagd_core::snapshot::{Snapshot, Touched};
use flagd_core::state::State;

const CHANGES: u32 = 300;

fn main() {
    // Cargo also runs benchmarks under `cargo test --benches`: then one small round shows that they work.
    let is_measuring = std::env::args().any(|argument| argument == "--bench");
    let sizes: &[u32] = if is_measuring { &[1_000, 10_000, 100_000] } else { &[100] };
    println!(
        "{:>8} {:>13} {:>15} {:>24} {:>24}",
        "flags", "compile, ms", "bytes per flag", "change one, us (median)", "create one, us (median)"
    );
    for flags in sizes {
        report(*flags);
    }
}

fn report(flags: u32) {
    let mut state = load(flags);
    let started = Instant::now();
    let mut snapshot = None;
    let counted = allocation_counter::measure(|| snapshot = Some(Snapshot::build(&state, &BTreeMap::new())));
    let compile_ms = started.elapsed().as_secs_f64() * 1e3;
    let mut snapshot = snapshot.expect("just built");
    assert_eq!(snapshot.refused(), [], "every flag is understood");

    // Spread over the environment, so that no change finds the last one's chunk in the cache.
    let known = (0..CHANGES).map(|n| (name(n.wrapping_mul(7_919) % flags), n % 100));
    let change = best_and_median(known.map(|(key, share)| apply(&mut state, &mut snapshot, &key, share)));
    let new = (0..CHANGES).map(|n| (name(flags + n), n % 100));
    let create = best_and_median(new.map(|(key, share)| apply(&mut state, &mut snapshot, &key, share)));
    println!(
        "{flags:>8} {compile_ms:>13.1} {:>15.0} {:>13.1} {:>10} {:>13.1} {:>10}",
        counted.bytes_current as f64 / f64::from(flags),
        change.0,
        format!("({:.1})", change.1),
        create.0,
        format!("({:.1})", create.1),
    );
}

fn load(flags: u32) -> State {
    let entries = (0..flags).map(|n| {
        let entry = StoredEntry { bytes: definition(25).into(), revision: Revision(1) };
        (EntryId::new(EntryKind::FLAG, &name(n)), entry)
    });
    let environment = EnvironmentName::new("bench").expect("a name");
    State::from_entries(environment, Epoch::default(), Revision(1), entries)
}

/// Microseconds of one change.
fn apply(state: &mut State, snapshot: &mut Snapshot, key: &str, share: u32) -> f64 {
    let id = EntryId::new(EntryKind::FLAG, key);
    let write = EntryWrite { id: id.clone(), bytes: Some(definition(share).into()) };
    let delta = state.delta(vec![write]);
    let started = Instant::now();
    state.apply(&delta).expect("the delta was made for this state");
    *snapshot = snapshot.derive(state, Touched::Only(&[id]));
    started.elapsed().as_secs_f64() * 1e6
}

/// Nineteen bytes, as in the other benchmarks.
fn name(n: u32) -> String {
    format!("service-flag-{n:06}")
}

fn definition(share: u32) -> Vec<u8> {
    format!(r#"{{"otherwise": {{"split": [{{"on": {share}}}, {{"off": {}}}]}}}}"#, 100 - share).into_bytes()
}

fn best_and_median(taken: impl Iterator<Item = f64>) -> (f64, f64) {
    let mut taken: Vec<f64> = taken.collect();
    taken.sort_by(f64::total_cmp);
    (taken.first().copied().unwrap_or(f64::NAN), taken.get(taken.len() / 2).copied().unwrap_or(f64::NAN))
}
