//! What the candidates allocate. `scripts/peers` runs this after `times`; arguments choose sections.
//!
//! Its allocator counts, by thread. Every measurement of memory is made by a process of its own, which this program
//! starts from itself, so that no engine finds what another one left behind.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the tables are the output")]

use std::process::ExitCode;

use flagd_peers::engine::Failure;

mod allocations;
mod memory;

const SECTIONS: [&str; 2] = ["allocations", "memory"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("counts: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Failure> {
    if let [word, candidate, flags] = arguments
        && word == memory::OF
    {
        return memory::print_of(candidate, flags);
    }
    let (options, chosen): (Vec<&str>, Vec<&str>) =
        arguments.iter().map(String::as_str).partition(|argument| argument.starts_with("--"));
    let sizes = match options.as_slice() {
        [] => [10_000, 100_000],
        ["--quick"] => [1_000, 10_000],
        _ => return Err(Failure::Usage(format!("options: --quick; not {}", options.join(" ")))),
    };
    if let Some(unknown) = chosen.iter().find(|section| !SECTIONS.contains(section)) {
        return Err(Failure::Usage(format!("sections: {}; not {unknown}", SECTIONS.join(", "))));
    }
    let is_chosen = |section: &str| chosen.is_empty() || chosen.contains(&section);
    if is_chosen("allocations") {
        allocations::print()?;
    }
    if is_chosen("memory") {
        memory::print(sizes)?;
    }
    Ok(())
}
