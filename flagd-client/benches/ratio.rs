//! How many times a hand-written limit a getter of the client costs, on one thread and on two.
//!
//! Each question of the client takes turns with its own limit within one run, so that a machine that slows down
//! slows both. The quotient of the best turns is told, which neighbours disturb least, and the median of the quotients
//! turn by turn. The targets: 1.4 by name, 2 through a handle, and two threads that do 1.9 times the work of one.

#![expect(clippy::print_stdout, reason = "the numbers are the output")]

mod common;

use std::hint::black_box;
use std::time::{Duration, Instant};

use common::{Limit, ROUND, World};
use flagd_client::FlagHandle;

const TURNS: usize = 301;
/// Rounds per turn and side.
const ROUNDS: usize = 20;

/// A question to the client, and the least that its answer could cost.
struct Pair {
    name: &'static str,
    client: Box<dyn Fn() -> usize + Sync>,
    limit: Box<dyn Fn() -> usize + Sync>,
}

/// Nanoseconds per question.
struct Cost {
    client: f64,
    limit: f64,
    ratio: f64,
}

fn main() {
    println!(
        "{:<36} {:>7} | {:>9} {:>9} {:>6} | {:>9} {:>9} {:>6} | times the work of one",
        "", "threads", "best ns", "limit", "ratio", "median ns", "limit", "ratio"
    );
    for pair in pairs() {
        let answers = ((pair.client)(), (pair.limit)());
        assert_eq!(answers.0, answers.1, "{}: client and limit must give the same answers", pair.name);
        let mut alone = f64::NAN;
        for threads in [1_usize, 2] {
            let turns: Vec<Vec<(f64, f64)>> = std::thread::scope(|scope| {
                let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| measure(&pair))).collect();
                workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
            });
            let turns: Vec<(f64, f64)> = turns.into_iter().flatten().collect();
            let (best, median) = (cost(&turns, first), cost(&turns, middle));
            let work = if threads == 1 {
                alone = best.client;
                String::new()
            } else {
                format!("{:.2}", 2.0 * alone / best.client)
            };
            println!(
                "{:<36} {threads:>7} | {:>9.2} {:>9.2} {:>6.2} | {:>9.2} {:>9.2} {:>6.2} | {work}",
                pair.name,
                best.client,
                best.limit,
                best.client / best.limit,
                median.client,
                median.limit,
                median.ratio
            );
        }
    }
}

fn pairs() -> Vec<Pair> {
    let world: &'static World = Box::leak(Box::new(World::new()));
    let limit: &'static Limit = Box::leak(Box::new(Limit::of(world)));
    let handles: &'static [FlagHandle] =
        Box::leak((0..ROUND).map(|at| world.client.flag(world.key(at))).collect());
    let seeds: &'static [u64] = Box::leak((0..ROUND).map(|at| limit.seed(world.key(at))).collect());
    let one = world.client.flag(world.key(0));
    let seed = limit.seed(world.key(0));
    let user = &world.user;
    vec![
        Pair {
            name: "by name, 1,000 names",
            client: Box::new(|| ask(|at| world.client.is_enabled(world.key(at), black_box(user)))),
            limit: Box::new(|| ask(|at| limit.is_enabled(world.key(at), black_box(common::USER)))),
        },
        Pair {
            name: "by name, in one snapshot",
            client: Box::new(|| {
                let page = world.client.snapshot();
                ask(|at| page.is_enabled(world.key(at), black_box(user)))
            }),
            limit: Box::new(|| ask(|at| limit.is_enabled(world.key(at), black_box(common::USER)))),
        },
        Pair {
            name: "one handle, 1,000 users",
            client: Box::new(move || ask(|at| black_box(&one).is_enabled(world.context(at)))),
            limit: Box::new(move || ask(|at| Limit::is_on(black_box(seed), world.unit(at)))),
        },
        Pair {
            name: "1,000 handles, one user",
            client: Box::new(|| {
                ask(|at| handles.get(at).is_some_and(|handle| handle.is_enabled(black_box(user))))
            }),
            limit: Box::new(|| {
                ask(|at| seeds.get(at).is_some_and(|seed| Limit::is_on(*seed, black_box(common::USER))))
            }),
        },
    ]
}

/// How many of a round's questions are answered with yes.
#[inline]
fn ask(question: impl Fn(usize) -> bool) -> usize {
    (0..ROUND).filter(|at| question(*at)).count()
}

/// Nanoseconds per question of the client and of the limit, turn by turn.
fn measure(pair: &Pair) -> Vec<(f64, f64)> {
    (0..TURNS).map(|_| (time(&pair.client), time(&pair.limit))).collect()
}

fn time(round: &(dyn Fn() -> usize + Sync)) -> f64 {
    let began = Instant::now();
    for _ in 0..ROUNDS {
        black_box(round());
    }
    per_question(began.elapsed())
}

#[expect(clippy::cast_precision_loss, reason = "a measurement")]
fn per_question(elapsed: Duration) -> f64 {
    elapsed.as_nanos() as f64 / (ROUNDS * ROUND) as f64
}

fn cost(turns: &[(f64, f64)], pick: impl Fn(Vec<f64>) -> f64) -> Cost {
    Cost {
        client: pick(turns.iter().map(|(client, _)| *client).collect()),
        limit: pick(turns.iter().map(|(_, limit)| *limit).collect()),
        ratio: pick(turns.iter().map(|(client, limit)| client / limit).collect()),
    }
}

fn first(list: Vec<f64>) -> f64 {
    list.into_iter().fold(f64::INFINITY, f64::min)
}

fn middle(mut list: Vec<f64>) -> f64 {
    list.sort_by(f64::total_cmp);
    list.get(list.len() / 2).copied().unwrap_or(f64::NAN)
}
