//! What a change costs with thousands of clients: how long until all have it and have acknowledged it, and how much of the
//! server. `--help` says what can be asked.
//!
//! `ulimit -n 65000; cargo run --release -p flagd-tests --example load -- --streams 5000 --floor 5000`

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people at a terminal")]

use std::process::ExitCode;

use flagd_tests::load::{
    HELP, Options, Task, flood, measure, memory, pin_self, restart, serve_floor, slow, storm,
};
use tokio::net::TcpListener;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("the system refuses what is needed: {error}");
    if let Task::Floor(bytes) = options.task {
        // As many threads as it may use processors, like the server that it is compared with.
        let runtime = tokio::runtime::Runtime::new().map_err(failed)?;
        return runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
            println!("{}", listener.local_addr().map_err(failed)?.port());
            serve_floor(listener, bytes).await.map_err(failed)?;
            Ok(String::new())
        });
    }
    if options.task == Task::Help {
        return Ok(HELP.to_owned());
    }
    let say = |line: &str| eprintln!("{line}");
    say(pin_self());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let task = async {
            match options.task {
                Task::Restart => restart(options, &say).await,
                Task::Storm => storm(options, &say).await,
                Task::Slow => slow(options, &say).await,
                Task::Flood => flood(options, &say).await,
                Task::Memory => memory(options, &say).await,
                _ => measure(options, &say).await,
            }
        };
        task.await
    })
}
