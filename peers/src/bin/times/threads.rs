//! Two threads over one.
//!
//! Each round measures one thread alone and then both at once, by processor time: 2 is perfect, and less means that the
//! threads stand in each other's way. Time asleep at a lock is not seen, nor is anything when the machine gives both
//! threads the same core; so a figure near 2 is a hint and one far from it a finding.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;

use flagd_peers::answers::Loaded;
use flagd_peers::engine::Engine;
use flagd_peers::measure::Samples;
use flagd_peers::question::{Effort, Question};
use flagd_peers::spec::Task;
use flagd_peers::table::{Table, figure};

/// Prints the table.
pub(crate) fn print(loaded: &[Loaded], effort: Effort) {
    let mut table = Table::new(1, [""].into_iter().chain(Task::ALL.map(Task::title)));
    for it in loaded {
        let figures = Task::ALL.map(|task| figure(gain(it.engine.as_ref(), task, effort)));
        table.row([it.candidate.name.to_owned()].into_iter().chain(figures).collect());
    }
    println!("### Answers of two threads, times those of one\n\n{table}");
}

/// The median over the rounds.
fn gain(engine: &dyn Engine, task: Task, effort: Effort) -> f64 {
    let question = Question::of_task(task);
    let times = question.times_in_a_turn(engine, effort.turn_ns);
    let barrier = Barrier::new(2);
    let turn = |from: usize| question.time_ns(engine, from, times);
    // What a thread builds for itself is built before its first turn.
    let warm = || black_box(question.ask(engine, 0, 1));
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            warm();
            let both = (0..effort.rounds).map(|round| {
                barrier.wait();
                barrier.wait();
                turn(round)
            });
            both.collect::<Vec<f64>>()
        });
        warm();
        let own: Vec<(f64, f64)> = (0..effort.rounds)
            .map(|round| {
                barrier.wait();
                let alone = turn(round);
                barrier.wait();
                (alone, turn(round + 1))
            })
            .collect();
        let mut gains = Samples::default();
        for ((alone, first), second) in own.into_iter().zip(other.join().unwrap_or_default()) {
            gains.push(alone / first + alone / second);
        }
        gains.median()
    })
}
