//! What a segment's list costs, from ten thousand units to a million. Run: `cargo bench -p flagd-core --bench segment`.
//!
//! The list is stored in parts. Memory is what the compiled snapshot holds beside the stored bytes, which belong to
//! the state and are shared with it. Adding a unit is planned, applied to the state and to the snapshot; its bytes are
//! those of the entries that the log and the stream carry. Looking a unit up is a whole evaluation of a flag whose one
//! rule asks for the segment; beside it stand the standard library's set of boxed strings, asked alone, and the same
//! evaluation with nobody in the list. Half of the units asked for are listed, they are asked for in random order, and each
//! question depends on the answer before, as it would in an application: nothing is looked up ahead.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::cast_precision_loss,
    reason = "a benchmark reports on standard output, and a panic in it fails nothing but the measurement"
)]

use std::collections::{BTreeMap, HashSet};
use std::hint::black_box;
use std::time::Instant;

use flagd_core::context::Context;
use flagd_core::edit::{self, Author, Edit, SegmentList};
use flagd_core::entry::{EntryId, EntryKind, EntryWrite, StoredEntry};
use flagd_core::key::{EnvironmentName, SegmentKey};
use flagd_core::part;
use flagd_core::revision::{Epoch, Revision};
use flagd_core::snapshot::{Snapshot, Touched};
use flagd_core::state::State;
use flagd_core::time::Timestamp;

const ADDED: usize = 60;
const ASKED: usize = 1 << 16;
const ROUNDS: usize = 15;

fn main() {
    // Cargo also runs benchmarks under `cargo test --benches`: then one small round shows that they work.
    let is_measuring = std::env::args().any(|argument| argument == "--bench");
    let sizes: &[usize] = if is_measuring { &[10_000, 100_000, 1_000_000] } else { &[10_000] };
    for units in sizes {
        report(*units);
    }
}

fn report(units: usize) {
    // The limit leaves room for those that are added.
    let units = units - ADDED;
    let mut state = load(units);
    let segments = [EntryKind::SEGMENT, EntryKind::SEGMENT_PART];
    let entries = || segments.into_iter().flat_map(|kind| state.entries_of(kind));
    let stored: usize = entries().map(|(_, entry)| entry.bytes.len()).sum();
    println!("{units} units of {} bytes in {} entries", unit(0).len(), entries().count());
    line("stored bytes per unit", stored as f64 / units as f64);

    let mut snapshot = None;
    let started = Instant::now();
    let counted = allocation_counter::measure(|| snapshot = Some(Snapshot::build(&state, &BTreeMap::new())));
    line("compile, ms", ms(started));
    line("compiled, bytes per unit beside these", counted.bytes_current as f64 / units as f64);
    let mut snapshot = snapshot.expect("just built");
    assert_eq!(snapshot.refused(), [], "every entry is understood");
    let mut set: HashSet<Box<str>> = HashSet::new();
    let counted = allocation_counter::measure(|| set = (0..units).map(|n| unit(n).into()).collect());
    line("a set of boxed strings, bytes per unit", counted.bytes_current as f64 / units as f64);

    look_up(units, &snapshot, &set);
    add(units, &mut state, &mut snapshot);
    println!();
}

fn look_up(units: usize, snapshot: &Snapshot, set: &HashSet<Box<str>>) {
    // A fixed sequence without a pattern that a processor could foresee.
    let mut random = 1_u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).unwrap_or_default() % (2 * units)
    };
    let asked: Vec<String> = (0..ASKED).map(|_| unit(next())).collect();
    let contexts: Vec<Context> = asked.iter().map(|unit| Context::new(unit.as_str())).collect();
    let evaluate = |flag: &str| {
        one_by_one(&contexts, |context| {
            snapshot.evaluate(flag, context, Timestamp::default()).variant == Some("on")
        })
    };
    let in_set = || one_by_one(&asked, |unit| set.contains(unit.as_str()));
    assert_eq!(evaluate("large"), in_set(), "both know the same units");
    let mut best = [f64::INFINITY; 3];
    for _ in 0..ROUNDS {
        let runs: [&dyn Fn() -> usize; 3] = [&|| evaluate("large"), &|| evaluate("empty"), &in_set];
        for (run, best) in runs.into_iter().zip(&mut best) {
            let started = Instant::now();
            black_box(run());
            *best = best.min(ms(started) * 1e6 / ASKED as f64);
        }
    }
    let [large, empty, set] = best;
    line("evaluate a flag that asks the segment, ns", large);
    line("the same with an empty segment, ns", empty);
    line("HashSet<Box<str>>::contains, ns", set);
}

/// How many of [`ASKED`] questions are answered with yes; which is asked next depends on the answer.
fn one_by_one<T>(list: &[T], is_in: impl Fn(&T) -> bool) -> usize {
    let (mut at, mut yes) = (0, 0);
    for _ in 0..ASKED {
        let answer = usize::from(list.get(at % ASKED).is_some_and(&is_in));
        yes += answer;
        at += 1 + answer;
    }
    yes
}

fn add(units: usize, state: &mut State, snapshot: &mut Snapshot) {
    let author = Author { actor: "bench".into(), reason: None, now: Timestamp::default() };
    let (mut planned, mut applied, mut bytes, mut entries) = (Vec::new(), Vec::new(), 0, 0);
    for n in 0..ADDED {
        let edit = Edit::SegmentAdd {
            segment: SegmentKey::new("large").expect("a key"),
            units: vec![unit(units + n)],
            list: SegmentList::Include,
        };
        let started = Instant::now();
        let plan = edit::plan(state, &edit, &author).expect("a unit more");
        planned.push(ms(started));
        entries += plan.writes.len();
        bytes += plan.writes.iter().filter_map(|write| write.bytes.as_ref()).map(|b| b.len()).sum::<usize>();
        let touched: Vec<EntryId> = plan.writes.iter().map(|write| write.id.clone()).collect();
        let delta = state.delta(plan.writes);
        let started = Instant::now();
        state.apply(&delta).expect("the delta was made for this state");
        *snapshot = snapshot.derive(state, Touched::Only(&touched));
        applied.push(ms(started) * 1e3);
    }
    line("one unit more: entries", entries as f64 / ADDED as f64);
    line("one unit more: bytes", bytes as f64 / ADDED as f64);
    line("one unit more: plan, ms (median)", median(&mut planned));
    line("one unit more: apply, us (median)", median(&mut applied));
}

fn load(units: usize) -> State {
    let segment = |key: &str, units: usize| {
        let key = SegmentKey::new(key).expect("a key");
        let mut definition = flagd_core::definition::parse_segment(&key, "{}").expect("a segment");
        definition.include = (0..units).map(|n| unit(n).into()).collect::<Vec<_>>().into();
        part::entries(&key, &definition).into_iter().map(|(id, bytes)| EntryWrite { id, bytes: Some(bytes) })
    };
    let flag = |key: &str| {
        let rule = format!(r#"{{"rules": [{{"name": "r", "if": {{"segment": "{key}"}}, "serve": "on"}}]}}"#);
        EntryWrite::set(EntryId::new(EntryKind::FLAG, key), rule.into_bytes())
    };
    let flags = ["large", "empty"].map(flag);
    let writes = segment("large", units).chain(segment("empty", 0)).chain(flags);
    let entries = writes
        .filter_map(|write| Some((write.id, StoredEntry { bytes: write.bytes?, revision: Revision(1) })));
    let environment = EnvironmentName::new("bench").expect("a name");
    State::from_entries(environment, Epoch::default(), Revision(1), entries)
}

/// Twenty bytes that share their beginning, as identifiers do.
fn unit(n: usize) -> String {
    format!("customer-{:0>11}", n * 7_919)
}

fn line(what: &str, figure: f64) {
    println!("  {what:<42} {figure:>10.2}");
}

fn ms(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e3
}

fn median(taken: &mut [f64]) -> f64 {
    taken.sort_by(f64::total_cmp);
    taken.get(taken.len() / 2).copied().unwrap_or(f64::NAN)
}
