//! SDK clients whose server is killed: how they come back.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use flagd_client::{Client, Connection};

use super::options::Options;
use super::process;
use super::run::Changer;
use super::server::Server;

/// How often it is looked who is back.
const LOOK: Duration = Duration::from_millis(5);
/// The windows of the curve.
const WINDOW: Duration = Duration::from_millis(100);
/// Longest time until all are connected.
const PATIENCE: Duration = Duration::from_mins(3);
/// Changes before the server is killed.
const CHANGES: usize = 5;

/// Starts clients, kills their server, starts it again, and answers with how they came back.
///
/// # Errors
/// What went wrong: a client that does not start, or is not back in time.
pub async fn restart(options: &Options, say: &dyn Fn(&str)) -> Result<String, String> {
    let mut server = Server::start(options).await?;
    let mut changer = Changer::start(&server.url, &options.environment).await?;
    changer.next().await?;
    say(&format!("starting {} clients of the SDK", options.streams));
    let clients = start_clients(&server, options).await?;
    for _ in 0..CHANGES {
        let (_, _, revision) = changer.next().await?;
        all(&clients, |client| client.status().revision == revision).await?;
    }
    let pid = server.pid.unwrap_or_default();
    process::rest(pid).await;
    let steady = process::memory(pid);
    say("killing the server");
    let connects: Vec<u64> = clients.iter().map(|client| client.status().counters.connects).collect();
    let dead = server.kill_and_restart(options).await?;
    let back = watch(clients.iter().zip(connects).collect(), dead).await?;
    let pid = server.pid.unwrap_or_default();
    process::rest(pid).await;
    let after = process::memory(pid);
    let label = format!("{{environment=\"{}\"}}", options.environment);
    let fulls = server.metric(&format!("flagd_fulls_sent_total{label}")).await;
    let resumed = server.metric(&format!("flagd_catch_ups_sent_total{label}")).await
        + server.metric(&format!("flagd_up_to_dates_sent_total{label}")).await;
    let put_off = server.metric("flagd_hellos_put_off_total").await;
    // The curve says who is connected; that everybody is served says the next change.
    let mut changer = Changer::start(&server.url, &options.environment).await?;
    let (_, _, revision) = changer.next().await?;
    all(&clients, |client| client.status().revision == revision).await?;
    let mut text = curve(&back);
    let _ = writeln!(
        text,
        "resumed without the full state: {resumed} of {} ({:.1} %); full states sent: {fulls}; hellos put off: {put_off}\n\
         server memory: steady {} KiB; after the restart {} KiB, at most {} KiB ({:.2} of steady)",
        resumed + fulls,
        100.0 * quotient(resumed, resumed + fulls),
        steady.now_bytes / 1024,
        after.now_bytes / 1024,
        after.peak_bytes / 1024,
        quotient(after.peak_bytes, steady.now_bytes),
    );
    Ok(text)
}

async fn start_clients(server: &Server, options: &Options) -> Result<Vec<Client>, String> {
    let mut clients = Vec::with_capacity(options.streams);
    for number in 0..options.streams {
        let builder = Client::builder(server.url.as_str())
            .environment(options.environment.as_str())
            .name(format!("load-{number}"))
            .app("load", env!("CARGO_PKG_VERSION"));
        clients.push(builder.start().await.map_err(|error| format!("client {number}: {error}"))?);
    }
    all(&clients, is_connected).await?;
    Ok(clients)
}

pub(super) fn is_connected(client: &Client) -> bool {
    matches!(client.status().connection, Connection::Connected { .. })
}

pub(super) async fn all(clients: &[Client], holds: impl Fn(&Client) -> bool) -> Result<(), String> {
    let began = Instant::now();
    let mut missing: Vec<&Client> = clients.iter().collect();
    loop {
        missing.retain(|client| !holds(client));
        match missing.first() {
            None => return Ok(()),
            Some(client) if began.elapsed() > PATIENCE => {
                return Err(format!(
                    "{} clients are not there, one of them {:?}",
                    missing.len(),
                    client.status()
                ));
            }
            Some(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

/// For each client how long after the death of the server it was back, given how often it had tried to connect before.
async fn watch(mut away: Vec<(&Client, u64)>, dead: Instant) -> Result<Vec<Duration>, String> {
    let mut back = Vec::with_capacity(away.len());
    while !away.is_empty() {
        let now = dead.elapsed();
        if now > PATIENCE {
            return Err(format!("{} clients are not back after {} s", away.len(), PATIENCE.as_secs()));
        }
        away.retain(|(client, connects)| {
            // One that has not tried again has not noticed yet. Some are away for less than the time between two looks.
            let is_back = client.status().counters.connects > *connects && is_connected(client);
            if is_back {
                back.push(now);
            }
            !is_back
        });
        tokio::time::sleep(LOOK).await;
    }
    Ok(back)
}

/// How many came back in each window, drawn, and the fullest one.
fn curve(back: &[Duration]) -> String {
    let windows = windows(back);
    let most = windows.iter().copied().max().unwrap_or_default();
    let first = windows.iter().position(|count| *count > 0).unwrap_or_default();
    let mut text = String::from("\nclients back, by 100 ms since the server was dead\n");
    for (window, count) in windows.iter().enumerate().skip(first) {
        let bar = "#".repeat((count * 40).div_ceil(most.max(1)));
        let _ = writeln!(
            text,
            "  {:5.1} s {count:6} {bar}",
            f64::from(u32::try_from(window).unwrap_or(u32::MAX)) / 10.0
        );
    }
    let last = back.iter().max().copied().unwrap_or_default();
    let _ = writeln!(
        text,
        "all {} back after {:.2} s; the fullest window has {most} ({:.1} %)",
        back.len(),
        last.as_secs_f64(),
        100.0
            * quotient(
                u64::try_from(most).unwrap_or(u64::MAX),
                u64::try_from(back.len()).unwrap_or(u64::MAX)
            ),
    );
    text
}

fn windows(back: &[Duration]) -> Vec<usize> {
    let mut windows = Vec::new();
    for time in back {
        let window = usize::try_from(time.as_millis() / WINDOW.as_millis()).unwrap_or(usize::MAX);
        if windows.len() <= window {
            windows.resize(window + 1, 0);
        }
        if let Some(count) = windows.get_mut(window) {
            *count += 1;
        }
    }
    windows
}

fn quotient(this: u64, that: u64) -> f64 {
    let float = |number: u64| f64::from(u32::try_from(number.min(u64::from(u32::MAX))).unwrap_or(u32::MAX));
    float(this) / float(that.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_count_and_the_fullest_is_named() {
        let back = [120, 130, 190, 310].map(Duration::from_millis);
        assert_eq!(windows(&back), [0, 3, 0, 1]);
        let text = curve(&back);
        assert!(text.contains("all 4 back after 0.31 s; the fullest window has 3 (75.0 %)"), "{text}");
        assert!(!text.contains("0.0 s"), "{text}");
    }
}
