//! One changed flag, from its JSON in hand to the first evaluation that sees it.

use flagd_peers::candidates::that_change;
use flagd_peers::engine::{Candidate, Change, Engine, Failure};
use flagd_peers::measure::{Clock, Samples, Stopwatch};
use flagd_peers::question::Question;
use flagd_peers::spec::{Flag, Spec, USERS, simple_flag, users};
use flagd_peers::table::{Table, figure};

/// Changes of an engine that is fast.
const CHANGES: usize = 300;
/// Changes, or reloads, of one that is not.
const CHANGES_MIN: usize = 3;
/// When an engine has taken so long, it has been measured often enough.
const ENOUGH_NS: f64 = 1e9;

/// Prints the table.
pub(crate) fn print(sizes: [usize; 2]) -> Result<(), Failure> {
    let specs = sizes.map(Spec::simple);
    let heads = sizes.map(|flags| format!("at {flags} flags, us: best (median)"));
    let mut table = Table::new(2, [String::new(), "by".to_owned()].into_iter().chain(heads));
    for candidate in that_change() {
        let by = match candidate.change {
            Change::Own => "its own operation",
            Change::CallersMap => "a map of the caller's",
            Change::Reload => "a reload",
        };
        let mut row = vec![candidate.name.to_owned(), by.to_owned()];
        for spec in &specs {
            let samples = measure(&candidate, spec)?;
            row.push(format!("{} ({})", figure(samples.best() / 1e3), figure(samples.median() / 1e3)));
        }
        table.row(row);
    }
    println!("### One change\n\n{table}");
    Ok(())
}

fn measure(candidate: &Candidate, spec: &Spec) -> Result<Samples, Failure> {
    let definitions = candidate.write(spec)?;
    let mut samples = Samples::default();
    if !candidate.changes_one() {
        for _ in 0..CHANGES_MIN {
            let watch = Stopwatch::start(Clock::Process);
            let engine = (candidate.load)(&definitions)?;
            samples.push(watch.elapsed_ns());
            drop(engine);
        }
        return Ok(samples);
    }
    let mut engine = (candidate.load)(&definitions)?;
    engine.meet(&users());
    while samples.len() < CHANGES && (samples.len() < CHANGES_MIN || samples.sum() < ENOUGH_NS) {
        // Spread over the environment, so that no change finds the last one's place in the cache.
        let number = samples.len() * 7_919 % spec.flags.len();
        let share = if samples.len().is_multiple_of(2) { 100 } else { 0 };
        let flag = simple_flag(number, share);
        samples.push(engine.change(&flag)?);
        check(candidate, engine.as_ref(), &flag, share)?;
    }
    Ok(samples)
}

/// The change is seen, or there is nothing to measure.
fn check(candidate: &Candidate, engine: &dyn Engine, flag: &Flag, share: u32) -> Result<(), Failure> {
    let served = Question::OneFlag(flag.name.clone(), flag.kind()).ask(engine, 0, USERS).on;
    let due = if share == 100 { USERS } else { 0 };
    if served == due {
        return Ok(());
    }
    let why = format!("on for {due} was due after the change, it was {served}");
    Err(Failure::Answers { candidate: candidate.name, task: "one change", why })
}
