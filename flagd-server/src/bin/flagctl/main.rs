//! flagctl, the operator's command: what was typed becomes a request to a server, its answer becomes text and
//! an exit code.
//!
//! `args` says what was typed, `command` what is meant by it, `connect` gets an answer, `output` prints it and
//! `error` chooses the exit code. flagctl speaks gRPC only: it never opens a store.

mod args;
mod command;
mod config;
mod confirm;
mod connect;
mod error;
mod file;
mod output;
mod time;
mod wait;

use std::process::ExitCode;

use clap::Parser as _;

use crate::error::{Exit, Failure};

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    let printer = output::Printer::new(cli.global.output);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            printer.failure(None, &Failure::Local(format!("cannot wait for servers: {error}")));
            return Exit::Refused.into();
        }
    };
    runtime.block_on(command::run(cli, printer)).into()
}
