//! Nanoseconds and allocations of each task, beside the limit. Run: `cargo bench -p flagd-core --bench evaluate`.

use divan::{AllocProfiler, Bencher};

mod tasks;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

#[divan::bench(args = tasks::TASKS)]
#[expect(clippy::expect_used, reason = "the arguments are the tasks")]
fn evaluate(bencher: Bencher<'_, '_>, task: &str) {
    let bench = tasks::Bench::new();
    let task = tasks::TASKS.iter().position(|name| *name == task).expect("one of the tasks");
    let mut n = 0;
    bencher.bench_local(|| {
        n += 1;
        bench.evaluate(task, n)
    });
}

#[divan::bench]
fn limit(bencher: Bencher<'_, '_>) {
    let bench = tasks::Bench::new();
    let mut n = 0;
    bencher.bench_local(|| {
        n += 1;
        bench.limit(n)
    });
}
