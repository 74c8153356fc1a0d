//! From JSON text in hand to an engine that can be asked.
//!
//! Time is that of the whole process, because some engines load on threads of their own; freeing the engine is not
//! counted.

use flagd_peers::candidates::that_load;
use flagd_peers::engine::Failure;
use flagd_peers::measure::{Clock, Samples, Stopwatch};
use flagd_peers::spec::Spec;
use flagd_peers::table::{Table, figure};

/// Loads each size some times, in turns, and prints the table.
pub(crate) fn print(sizes: [usize; 2], loads: [usize; 2]) -> Result<(), Failure> {
    let mut columns = Vec::new();
    for (flags, rounds) in sizes.into_iter().zip(loads) {
        columns.push(in_turns(flags, rounds)?);
    }
    let mut head = vec![String::new(), "does".to_owned()];
    for flags in sizes {
        head.push(format!("{flags} flags, ms: best (median)"));
        head.push("JSON, MB".to_owned());
    }
    let mut table = Table::new(2, head);
    for (at, candidate) in that_load().enumerate() {
        let does = if candidate.compiles() { "compiles" } else { "parses" };
        let mut row = vec![candidate.name.to_owned(), does.to_owned()];
        for (samples, bytes) in columns.iter().filter_map(|column| column.get(at)) {
            row.push(format!("{} ({})", figure(samples.best() / 1e6), figure(samples.median() / 1e6)));
            row.push(figure(*bytes / 1e6));
        }
        table.row(row);
    }
    println!("### Loading simple flags\n\n{table}");
    Ok(())
}

/// Nanoseconds of each load, and the bytes of the text.
#[expect(clippy::cast_precision_loss, reason = "texts of megabytes")]
fn in_turns(flags: usize, rounds: usize) -> Result<Vec<(Samples, f64)>, Failure> {
    let spec = Spec::simple(flags);
    let mut all = Vec::new();
    for candidate in that_load() {
        all.push((candidate, candidate.write(&spec)?, Samples::default()));
    }
    for _ in 0..rounds {
        for (candidate, definitions, samples) in &mut all {
            let watch = Stopwatch::start(Clock::Process);
            let engine = (candidate.load)(definitions)?;
            samples.push(watch.elapsed_ns());
            drop(engine);
        }
    }
    Ok(all.into_iter().map(|(_, definitions, samples)| (samples, definitions.text.len() as f64)).collect())
}
