//! How many times the limit each task takes. Run: `cargo bench -p flagd-core --bench ratio`.
//!
//! A machine's speed drifts from second to second, so the candidates take turns, two milliseconds each: short
//! enough that some turns are not interrupted even on a busy machine. Ratios are taken between the best turns,
//! which drift least.

#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark reports on standard output, and a panic in it fails nothing but the measurement"
)]

use std::time::Instant;

mod tasks;

const ROUNDS: usize = 150;
/// The first is what ratios are taken to.
const LIMITS: [&str; 2] = ["the limit", "the limit, key in a context"];
const ROUND_NS: f64 = 2e6;
/// Evaluations between two looks at the clock while a round's length is being found.
const CALIBRATION: usize = 20_000;

fn main() {
    let bench = tasks::Bench::new();
    // For a profiler: `ratio --bench profile "25 % split" 1000000`.
    let arguments: Vec<String> = std::env::args().skip_while(|argument| argument != "profile").collect();
    if let [_, task, times] = arguments.as_slice() {
        let candidate = tasks::TASKS.iter().position(|name| name == task).unwrap_or(tasks::TASKS.len());
        run(&bench, candidate, times.parse().unwrap_or(CALIBRATION));
        return;
    }
    // Cargo also runs benchmarks under `cargo test --benches`: then one short round shows that they work.
    let is_measuring = std::env::args().any(|argument| argument == "--bench");
    let rounds = if is_measuring { ROUNDS } else { 1 };

    let mut taken: Vec<Vec<f64>> = vec![Vec::new(); tasks::TASKS.len() + LIMITS.len()];
    let fastest =
        |candidate| (0..5).map(|_| run(&bench, candidate, CALIBRATION)).fold(f64::INFINITY, f64::min);
    let times: Vec<usize> = (0..taken.len())
        .map(|candidate| if is_measuring { (ROUND_NS / fastest(candidate)) as usize } else { 1_000 })
        .collect();
    for _ in 0..rounds {
        for (candidate, taken) in taken.iter_mut().enumerate() {
            taken.push(run(&bench, candidate, times[candidate]));
        }
    }

    let limit = taken.get_mut(tasks::TASKS.len()).map_or(f64::NAN, |taken| best_and_median(taken).0);
    println!("{:<28} {:>8} {:>8} {:>7}  served first", "", "best ns", "median", "ratio");
    for (candidate, taken) in taken.iter_mut().enumerate() {
        let (best, median) = best_and_median(taken);
        let name = tasks::TASKS.iter().chain(&LIMITS).nth(candidate).copied().unwrap_or_default();
        let share = if candidate < tasks::TASKS.len() {
            format!("{:.1} %", bench.share(candidate) * 100.0)
        } else {
            String::new()
        };
        println!("{name:<28} {best:>8.1} {median:>8.1} {:>7.2}  {share}", best / limit);
    }
}

/// Nanoseconds of one evaluation, over `times` of them.
fn run(bench: &tasks::Bench, candidate: usize, times: usize) -> f64 {
    let started = Instant::now();
    let served = match candidate.checked_sub(tasks::TASKS.len()) {
        None => (0..times).filter(|n| bench.evaluate(candidate, *n)).count(),
        Some(0) => (0..times).filter(|n| bench.limit(*n)).count(),
        Some(_) => (0..times).filter(|n| bench.limit_with_context(*n)).count(),
    };
    let taken = started.elapsed();
    std::hint::black_box(served);
    taken.as_nanos() as f64 / times as f64
}

fn best_and_median(taken: &mut [f64]) -> (f64, f64) {
    taken.sort_by(f64::total_cmp);
    (taken.first().copied().unwrap_or(f64::NAN), taken.get(taken.len() / 2).copied().unwrap_or(f64::NAN))
}
