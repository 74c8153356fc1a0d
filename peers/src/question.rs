//! What is asked in one turn, and the turns.
//!
//! Candidates take turns of a few milliseconds each, so that a machine that slows down slows all of them, and each
//! candidate's best turn is one that nothing disturbed.

use std::hint::black_box;

use crate::answers::Loaded;
use crate::engine::{Engine, Tally, Walk};
use crate::measure::{Clock, Samples, Stopwatch};
use crate::spec::{Kind, Spec, Task, USERS};

/// How long and how often is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Turns of each candidate.
    pub rounds: usize,
    /// Length of a turn, in nanoseconds; an engine whose single answer takes longer gives one answer.
    pub turn_ns: f64,
}

/// One question, for many users.
#[derive(Clone, Debug)]
pub enum Question {
    /// One flag.
    OneFlag(String, Kind),
    /// Every flag, for the same user.
    EveryFlag(Vec<(String, Kind)>),
}

impl Question {
    /// The flag of a task.
    #[must_use]
    pub fn of_task(task: Task) -> Question {
        Question::OneFlag(task.name(), task.flag(String::new()).kind())
    }

    /// Every flag of a spec but those of the tasks.
    #[must_use]
    pub fn every_flag(spec: &Spec) -> Question {
        let tasks = Task::ALL.map(Task::name);
        let flags = spec.flags.iter().filter(|flag| !tasks.contains(&flag.name));
        Question::EveryFlag(flags.map(|flag| (flag.name.clone(), flag.kind())).collect())
    }

    /// How many of the flags have values of this type.
    #[must_use]
    pub fn count_of(&self, kind: Kind) -> usize {
        match self {
            Question::OneFlag(_, own) => usize::from(*own == kind),
            Question::EveryFlag(flags) => flags.iter().filter(|(_, own)| *own == kind).count(),
        }
    }

    /// Asks `times` times, one user after the other; what the last walk served.
    #[must_use]
    pub fn ask(&self, engine: &dyn Engine, from: usize, times: usize) -> Tally {
        match self {
            Question::OneFlag(flag, kind) => engine.walk(&Walk::OneFlag { flag, kind: *kind, from, times }),
            Question::EveryFlag(flags) => (from..from + times)
                .map(|n| engine.walk(&Walk::AllFlags { flags, user: n % USERS }))
                .last()
                .unwrap_or_default(),
        }
    }

    /// Nanoseconds of the thread for one answer, over `times` of them.
    #[expect(clippy::cast_precision_loss, reason = "a turn has millions of answers at most")]
    #[must_use]
    pub fn time_ns(&self, engine: &dyn Engine, from: usize, times: usize) -> f64 {
        let watch = Stopwatch::start(Clock::Thread);
        black_box(self.ask(engine, from, times));
        watch.elapsed_ns() / times as f64
    }

    /// How many answers fill a turn.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a turn has millions of answers at most"
    )]
    #[must_use]
    pub fn times_in_a_turn(&self, engine: &dyn Engine, turn_ns: f64) -> usize {
        let mut times = 1;
        loop {
            let answer_ns = self.time_ns(engine, 0, times);
            if answer_ns * times as f64 > turn_ns / 4.0 {
                return ((turn_ns / answer_ns) as usize).max(1);
            }
            times *= 2;
        }
    }
}

/// Asks all candidates the same question, in turns; nanoseconds of one answer, for each of them.
#[must_use]
pub fn in_turns(loaded: &[Loaded], question: &Question, effort: Effort) -> Vec<Samples> {
    let times: Vec<usize> =
        loaded.iter().map(|it| question.times_in_a_turn(it.engine.as_ref(), effort.turn_ns)).collect();
    let mut samples = vec![Samples::default(); loaded.len()];
    for round in 0..effort.rounds {
        for ((it, times), samples) in loaded.iter().zip(&times).zip(&mut samples) {
            samples.push(question.time_ns(it.engine.as_ref(), round * times, *times));
        }
    }
    samples
}
