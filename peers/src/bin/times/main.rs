//! How long the candidates take. `scripts/peers` runs this; arguments choose sections, `--quick` makes it short.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the tables are the output")]

use std::process::ExitCode;

use flagd_peers::answers::load_and_check;
use flagd_peers::candidates::ALL;
use flagd_peers::engine::Failure;
use flagd_peers::question::Effort;
use flagd_peers::table::{Table, version};

mod change;
mod evaluate;
mod load;
mod threads;

const SECTIONS: [&str; 5] = ["candidates", "evaluate", "threads", "load", "change"];

/// How much of everything is measured.
#[derive(Clone, Copy, Debug)]
struct Extent {
    tasks: Effort,
    every_flag: Effort,
    threads: Effort,
    /// Flags of the environments that are loaded and changed.
    sizes: [usize; 2],
    /// Loads of each size.
    loads: [usize; 2],
}

const WHOLE: Extent = Extent {
    tasks: Effort { rounds: 150, turn_ns: 2e6 },
    every_flag: Effort { rounds: 60, turn_ns: 3e6 },
    threads: Effort { rounds: 40, turn_ns: 3e6 },
    sizes: [10_000, 100_000],
    loads: [15, 5],
};

const QUICK: Extent = Extent {
    tasks: Effort { rounds: 5, turn_ns: 5e5 },
    every_flag: Effort { rounds: 3, turn_ns: 5e5 },
    threads: Effort { rounds: 3, turn_ns: 5e5 },
    sizes: [1_000, 10_000],
    loads: [2, 2],
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("times: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Failure> {
    let (options, chosen): (Vec<&str>, Vec<&str>) =
        arguments.iter().map(String::as_str).partition(|argument| argument.starts_with("--"));
    let extent = match options.as_slice() {
        [] => WHOLE,
        ["--quick"] => QUICK,
        _ => return Err(Failure::Usage(format!("options: --quick; not {}", options.join(" ")))),
    };
    if let Some(unknown) = chosen.iter().find(|section| !SECTIONS.contains(section)) {
        return Err(Failure::Usage(format!("sections: {}; not {unknown}", SECTIONS.join(", "))));
    }
    for section in SECTIONS.into_iter().filter(|section| chosen.is_empty() || chosen.contains(section)) {
        match section {
            "candidates" => println!("### The candidates\n\n{}", candidates()),
            "evaluate" => evaluate::print(&load_and_check()?, extent.tasks, extent.every_flag),
            "threads" => threads::print(&load_and_check()?, extent.threads),
            "load" => load::print(extent.sizes, extent.loads)?,
            _ => change::print(extent.sizes)?,
        }
    }
    Ok(())
}

fn candidates() -> Table {
    let mut table = Table::new(3, ["candidate", "version", "what is called"]);
    for candidate in ALL {
        let version = format!("{} {}", candidate.package, version(candidate.package));
        table.row(vec![candidate.name.to_owned(), version, candidate.called.to_owned()]);
    }
    table
}
