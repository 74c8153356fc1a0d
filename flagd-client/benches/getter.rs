//! What a getter costs beside the least that any client could do.
//!
//! The question is a 25 % split for a 16-byte targeting key, on a flag chosen at random among 1,000. The limit
//! is written by hand: look the name up in a hash map, hash the key with a seed, compare. Both run on one
//! thread and on two, and divan counts allocations. `cargo bench -p flagd-client --bench ratio` prints the
//! quotient alone.

mod common;

use std::hint::black_box;

use common::{Limit, World};

#[global_allocator]
static ALLOCATIONS: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

#[divan::bench(threads = [1, 2])]
fn client(bencher: divan::Bencher<'_, '_>) {
    let world = World::new();
    bencher.counter(divan::counter::ItemsCount::new(common::ROUND)).bench(|| {
        (0..common::ROUND)
            .filter(|at| world.client.is_enabled(world.key(*at), black_box(&world.user)))
            .count()
    });
}

#[divan::bench(threads = [1, 2])]
fn snapshot(bencher: divan::Bencher<'_, '_>) {
    let world = World::new();
    bencher.counter(divan::counter::ItemsCount::new(common::ROUND)).bench(|| {
        let page = world.client.snapshot();
        (0..common::ROUND).filter(|at| page.is_enabled(world.key(*at), black_box(&world.user))).count()
    });
}

#[divan::bench(threads = [1, 2])]
fn limit(bencher: divan::Bencher<'_, '_>) {
    let world = World::new();
    let limit = Limit::of(&world);
    bencher.counter(divan::counter::ItemsCount::new(common::ROUND)).bench(|| {
        (0..common::ROUND).filter(|at| limit.is_enabled(world.key(*at), black_box(common::USER))).count()
    });
}
