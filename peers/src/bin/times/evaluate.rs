//! The six tasks, and every flag for one user.

use flagd_peers::answers::Loaded;
use flagd_peers::candidates::CORE;
use flagd_peers::measure::Samples;
use flagd_peers::question::{Effort, Question, in_turns};
use flagd_peers::spec::{Spec, Task};
use flagd_peers::table::{Table, figure};

/// Prints both.
pub(crate) fn print(loaded: &[Loaded], tasks: Effort, every_flag: Effort) {
    let columns: Vec<Vec<Samples>> =
        Task::ALL.iter().map(|task| in_turns(loaded, &Question::of_task(*task), tasks)).collect();
    println!("### Nanoseconds of an evaluation: best (median)\n\n{}", absolute(loaded, &columns));
    println!("### How many times the core's\n\n{}", ratios(loaded, &columns));

    let every = in_turns(loaded, &Question::every_flag(&Spec::mixed()), every_flag);
    println!("### 1,000 flags for one user\n\n{}", whole(loaded, &every));
}

fn heads() -> impl Iterator<Item = &'static str> {
    [""].into_iter().chain(Task::ALL.map(Task::title))
}

fn absolute(loaded: &[Loaded], columns: &[Vec<Samples>]) -> Table {
    let mut table = Table::new(1, heads());
    for (at, it) in loaded.iter().enumerate() {
        let samples = columns.iter().filter_map(|column| column.get(at));
        let figures = samples.map(|it| format!("{} ({})", figure(it.best()), figure(it.median())));
        table.row([it.candidate.name.to_owned()].into_iter().chain(figures).collect());
    }
    table
}

/// Where the core stands.
fn core(loaded: &[Loaded]) -> usize {
    loaded.iter().position(|it| it.candidate.name == CORE.name).unwrap_or_default()
}

/// How many times the core's best a candidate's best is; NaN of nothing.
fn ratio(loaded: &[Loaded], column: &[Samples], at: usize) -> f64 {
    let best = |at: usize| column.get(at).map_or(f64::NAN, Samples::best);
    best(at) / best(core(loaded))
}

fn ratios(loaded: &[Loaded], columns: &[Vec<Samples>]) -> Table {
    let mut table = Table::new(1, heads());
    for (at, it) in loaded.iter().enumerate() {
        let figures = columns.iter().map(|column| figure(ratio(loaded, column, at)));
        table.row([it.candidate.name.to_owned()].into_iter().chain(figures).collect());
    }
    let is_peer = |at: &usize| *at > 0 && loaded.get(*at).is_some_and(|it| !it.candidate.is_ours());
    let fastest = columns.iter().map(|column| {
        let ratios = (0..loaded.len()).filter(is_peer).map(|at| ratio(loaded, column, at));
        format!("**{}**", figure(ratios.fold(f64::NAN, f64::min)))
    });
    table.row(["the fastest peer".to_owned()].into_iter().chain(fastest).collect());
    table
}

fn whole(loaded: &[Loaded], column: &[Samples]) -> Table {
    let mut table = Table::new(1, ["", "us, best (median)", "ns a flag", "times the core's"]);
    for (at, (it, samples)) in loaded.iter().zip(column).enumerate() {
        let (best, median) = (samples.best(), samples.median());
        table.row(vec![
            it.candidate.name.to_owned(),
            format!("{} ({})", figure(best / 1e3), figure(median / 1e3)),
            figure(best / 1e3),
            figure(ratio(loaded, column, at)),
        ]);
    }
    table
}
