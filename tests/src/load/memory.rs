//! What an idle client of the SDK costs the process that it is in.

use flagd_client::{Client, Connections};

use super::options::{Options, Sharing};
use super::process;
use super::restart::{all, is_connected};
use super::run::Changer;
use super::server::Server;

/// What this process has.
#[derive(Clone, Copy)]
struct Has {
    memory_bytes: u64,
    threads: usize,
    files: usize,
}

impl Has {
    fn now() -> Has {
        let count = |folder: &str| std::fs::read_dir(folder).map_or(0, Iterator::count);
        Has {
            memory_bytes: process::memory(std::process::id()).now_bytes,
            threads: count("/proc/self/task"),
            files: count("/proc/self/fd"),
        }
    }
}

/// Starts clients of the SDK and answers with what each of them costs while it does nothing.
///
/// # Errors
/// What went wrong: a client that does not start or is not connected.
pub async fn memory(options: &Options, say: &dyn Fn(&str)) -> Result<String, String> {
    let server = Server::start(options).await?;
    Changer::start(&server.url, &options.environment).await?.next().await?;
    let shared = Connections::new();
    let start = async |number: usize| {
        let builder = Client::builder(server.url.as_str())
            .environment(options.environment.as_str())
            .name(format!("idle-{number}"))
            .app("load", env!("CARGO_PKG_VERSION"));
        let builder = match options.sharing {
            Sharing::None => builder,
            Sharing::Connections => builder.connections(&shared),
        };
        builder.start().await.map_err(|error| format!("client {number}: {error}"))
    };
    // What every process pays once is not a client's.
    let mut clients = vec![start(0).await?];
    all(&clients, is_connected).await?;
    let before = Has::now();
    say(&format!("starting {} clients of the SDK", options.streams));
    for number in 1..=options.streams {
        clients.push(start(number).await?);
    }
    all(&clients, is_connected).await?;
    let after = Has::now();
    let each = |more: u64| more * 10 / u64::try_from(options.streams).unwrap_or(u64::MAX).max(1);
    let more = |after: usize, before: usize| u64::try_from(after.saturating_sub(before)).unwrap_or(u64::MAX);
    let (memory, threads, files) = (
        each(after.memory_bytes.saturating_sub(before.memory_bytes) / 1024),
        each(more(after.threads, before.threads)),
        each(more(after.files, before.files)),
    );
    let tenths = |number: u64| format!("{}.{}", number / 10, number % 10);
    Ok(format!(
        "\n{} idle clients of one flag, {}: each {} KiB, {} threads, {} open files",
        options.streams,
        match options.sharing {
            Sharing::None => "a connection each",
            Sharing::Connections => "shared connections",
        },
        tenths(memory),
        tenths(threads),
        tenths(files),
    ))
}
