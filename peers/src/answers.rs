//! Whether the engines give the answers that are due, before anything is measured.
//!
//! A share is due by chance: each engine hashes in its own way, so a quarter of the users is a quarter within four and
//! a half standard deviations. Everything else is due exactly.

use crate::candidates::{ALL, LIMIT};
use crate::engine::{Candidate, Engine, Failure, Tally};
use crate::question::Question;
use crate::spec::{Kind, Spec, Task, USERS, users};

/// Standard deviations that chance may take.
const SIGMAS: f64 = 4.5;

/// A candidate with the mixed definitions and the users.
pub struct Loaded {
    /// Which one.
    pub candidate: Candidate,
    /// Its engine.
    pub engine: Box<dyn Engine>,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("candidate", &self.candidate).finish_non_exhaustive()
    }
}

/// Loads all candidates, the limit first, and checks the answers of all others.
///
/// # Errors
/// [`Failure`] when an engine refuses its definitions or gives other answers than are due.
pub fn load_and_check() -> Result<Vec<Loaded>, Failure> {
    let (spec, users) = (Spec::mixed(), users());
    let mut loaded = Vec::new();
    for candidate in [LIMIT].into_iter().chain(ALL) {
        let definitions = candidate.write(&spec)?;
        let mut engine = (candidate.load)(&definitions)?;
        engine.meet(&users);
        if candidate.name != LIMIT.name {
            check(&candidate, engine.as_ref())?;
        }
        loaded.push(Loaded { candidate, engine });
    }
    Ok(loaded)
}

fn check(candidate: &Candidate, engine: &dyn Engine) -> Result<(), Failure> {
    for task in Task::ALL {
        let tally = Question::of_task(task).ask(engine, 0, USERS);
        if let Some(why) = wrong(task, tally) {
            return Err(Failure::Answers { candidate: candidate.name, task: task.title(), why });
        }
    }
    let every = Question::every_flag(&Spec::mixed());
    let letters: usize = every.ask(engine, 0, 1).letters.iter().sum();
    let due = every.count_of(Kind::Letter);
    if letters == due {
        return Ok(());
    }
    let why = format!("{due} letters were due, {letters} came");
    Err(Failure::Answers { candidate: candidate.name, task: "every flag", why })
}

/// What is wrong with the answers of all users to a task.
fn wrong(task: Task, tally: Tally) -> Option<String> {
    let exactly =
        |due: usize| (tally.on != due).then(|| format!("on for {due} was due, it was {}", tally.on));
    match task {
        Task::Plain | Task::TenRules => exactly(USERS),
        Task::Segment => exactly(USERS / 2),
        Task::Share | Task::ThreeConditions => not_a_quarter(tally.on),
        Task::FourWays if tally.letters.iter().sum::<usize>() != USERS => {
            Some(format!("every user is due a letter: {:?}", tally.letters))
        }
        Task::FourWays => tally.letters.into_iter().find_map(not_a_quarter),
    }
}

#[expect(clippy::cast_precision_loss, reason = "small counts")]
fn not_a_quarter(count: usize) -> Option<String> {
    let users = USERS as f64;
    let sigma = (users * 0.25 * 0.75).sqrt();
    let is_off = (count as f64 - users / 4.0).abs() > SIGMAS * sigma;
    is_off.then(|| format!("a quarter of {USERS} was due, it was {count}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_answers_than_those_that_are_due_are_told() {
        let on = |on| Tally { on, letters: [0; 4] };
        let letters = |letters| Tally { on: 0, letters };
        let cases = [
            (Task::Plain, on(USERS), true),
            (Task::Plain, on(USERS - 1), false),
            (Task::Segment, on(USERS / 2), true),
            (Task::Segment, on(0), false),
            (Task::Share, on(250), true),
            (Task::Share, on(180), false),
            (Task::FourWays, letters([256; 4]), true),
            (Task::FourWays, letters([256, 256, 256, 0]), false),
            (Task::FourWays, letters([412, 100, 256, 256]), false),
        ];
        for (task, tally, is_right) in cases {
            assert_eq!(wrong(task, tally).is_none(), is_right, "{task:?} {tally:?}");
        }
    }

    #[test]
    fn every_engine_gives_the_answers_that_are_due() {
        assert_eq!(load_and_check().unwrap().len(), ALL.len() + 1);
    }
}
