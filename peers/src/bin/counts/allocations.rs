//! Allocations of an evaluation.

use std::hint::black_box;

use allocation_counter::measure;
use flagd_peers::answers::load_and_check;
use flagd_peers::engine::Failure;
use flagd_peers::question::Question;
use flagd_peers::spec::{Task, USERS};
use flagd_peers::table::Table;

/// Counts a round of all users for each task and prints the table.
pub(crate) fn print() -> Result<(), Failure> {
    let mut table = Table::new(1, [""].into_iter().chain(Task::ALL.map(Task::title)));
    for it in load_and_check()? {
        let cells = Task::ALL.map(|task| {
            let question = Question::of_task(task);
            // What an engine keeps for the next time is there already: the answers have been checked.
            let counted = measure(|| {
                black_box(question.ask(it.engine.as_ref(), 0, USERS));
            });
            each(counted.count_total, counted.bytes_total)
        });
        table.row([it.candidate.name.to_owned()].into_iter().chain(cells).collect());
    }
    println!("### Allocations of an evaluation: count / bytes\n\n{table}");
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts of a thousand evaluations")]
fn each(count: u64, bytes: u64) -> String {
    let of_one = |all: u64| (all as f64 / USERS as f64).round();
    if count == 0 {
        return "0".to_owned();
    }
    format!("{:.0} / {:.0}", of_one(count), of_one(bytes))
}
