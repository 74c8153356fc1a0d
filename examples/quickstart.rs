//! A service that asks for a flag and prints a line whenever somebody's answer flips.
//!
//! It shows that a change made with `flagctl` arrives in a running program within milliseconds, with its revision
//! and its reason, and that the program goes on when the server is gone. Run it beside a server:
//!
//! ```text
//! cargo run --example quickstart
//! ```
//!
//! `FLAGD_SERVERS` and `FLAGD_ENVIRONMENT` say where else to look; with `FLAGD_CACHE_DIR` it also starts without a
//! server, from the state in that folder. Ctrl-C ends it with a `Bye`, so that the server does not wait for it
//! any longer.

#![expect(clippy::print_stdout, reason = "lines on the terminal are what this example shows")]

use std::time::Duration;

use flagd_client::{Client, Context};
use flagd_examples::{client_from_environment, time_of_day};

const FLAG: &str = "new-checkout";
const USERS: [&str; 8] = ["ada", "ben", "cleo", "dan", "eva", "finn", "gus", "hana"];
const EVERY: Duration = Duration::from_millis(200);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let flags = client_from_environment("quickstart").start().await?;
    println!("Asking for `{FLAG}` as ada, ben, cleo, dan, eva, finn, gus and hana; Ctrl-C ends it.");
    let mut service = Service::new(&flags);
    let mut clock = tokio::time::interval(EVERY);
    let mut changes = flags.changes();
    loop {
        tokio::select! {
            _ = clock.tick() => service.turn(&flags),
            Some(_) = changes.next() => service.turn(&flags),
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    flags.shutdown().await;
    println!("{}  said goodbye to the server", time_of_day());
    Ok(())
}

/// What was printed last, so that only news is printed.
struct Service {
    users: Vec<(&'static str, Context, bool)>,
    connection: String,
}

impl Service {
    fn new(flags: &Client) -> Service {
        let users: Vec<_> = USERS
            .map(|user| (user, Context::new(user).with("country", "DE")))
            .map(|(user, context)| (user, flags.is_enabled(FLAG, &context), context))
            .map(|(user, on, context)| (user, context, on))
            .into();
        let on: Vec<&str> = users.iter().filter(|(_, _, on)| *on).map(|(user, ..)| *user).collect();
        let detail = flags.is_enabled_detail(FLAG, &Context::new(USERS[0]));
        let on = if on.is_empty() { "nobody".to_owned() } else { on.join(", ") };
        println!(
            "{}  {FLAG}  on for {on}   (revision {}, {})",
            time_of_day(),
            detail.revision,
            detail.reason
        );
        Service { users, connection: String::new() }
    }

    /// Asks for everybody and tells what is new.
    fn turn(&mut self, flags: &Client) {
        let status = flags.status();
        let connection = status.connection.to_string();
        if connection != self.connection {
            let age = if status.staleness.is_stale() { "stale" } else { "current" };
            println!("{}  {connection}   (revision {}, {age})", time_of_day(), status.revision);
            self.connection = connection;
        }
        // One revision for all users of this turn.
        let page = flags.snapshot();
        for (user, context, before) in &mut self.users {
            let now = page.is_enabled_detail(FLAG, context);
            if now.value != *before {
                println!(
                    "{}  {user}  {FLAG}  {} -> {}   (revision {}, {})",
                    time_of_day(),
                    word(*before),
                    word(now.value),
                    now.revision,
                    now.reason
                );
                *before = now.value;
            }
        }
    }
}

fn word(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}
