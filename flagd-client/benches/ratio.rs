//! One number: how many times the hand-written limit a getter of the client costs, on one thread and on two.
//!
//! Client and limit take turns within one run, so that a machine that slows down slows both; the median of the
//! quotients is told. The target is 2.

#![expect(clippy::print_stdout, reason = "the numbers are the output")]

mod common;

use std::hint::black_box;
use std::time::{Duration, Instant};

use common::{Limit, ROUND, World};

const TURNS: usize = 301;
/// Rounds per turn and side.
const ROUNDS: usize = 20;

fn main() {
    let world = World::new();
    let limit = Limit::of(&world);
    let share = (0..ROUND).filter(|at| world.client.is_enabled(world.key(*at), &world.user)).count();
    let same = (0..ROUND).filter(|at| limit.is_enabled(world.key(*at), common::USER)).count();
    assert_eq!(share, same, "client and limit must give the same answers");
    for threads in [1, 2] {
        let measured: Vec<Vec<(f64, f64)>> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| measure(&world, &limit))).collect();
            workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
        });
        let all: Vec<(f64, f64)> = measured.into_iter().flatten().collect();
        let client = median(all.iter().map(|(client, _)| *client).collect());
        let floor = median(all.iter().map(|(_, floor)| *floor).collect());
        let ratio = median(all.iter().map(|(client, floor)| client / floor).collect());
        println!("{threads} thread(s): client {client:.1} ns, limit {floor:.1} ns, ratio {ratio:.2}");
    }
}

/// Nanoseconds per question of the client and of the limit, turn by turn.
fn measure(world: &World, limit: &Limit) -> Vec<(f64, f64)> {
    let turns = (0..TURNS).map(|_| {
        let client = time(|at| world.client.is_enabled(world.key(at), black_box(&world.user)));
        let floor = time(|at| limit.is_enabled(world.key(at), black_box(common::USER)));
        (client, floor)
    });
    turns.collect()
}

fn time(question: impl Fn(usize) -> bool) -> f64 {
    let began = Instant::now();
    for _ in 0..ROUNDS {
        black_box((0..ROUND).filter(|at| question(*at)).count());
    }
    per_question(began.elapsed())
}

#[expect(clippy::cast_precision_loss, reason = "a measurement")]
fn per_question(elapsed: Duration) -> f64 {
    elapsed.as_nanos() as f64 / (ROUNDS * ROUND) as f64
}

fn median(mut list: Vec<f64>) -> f64 {
    list.sort_by(f64::total_cmp);
    list.get(list.len() / 2).copied().unwrap_or(f64::NAN)
}
