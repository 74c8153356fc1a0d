//! More clients than a server takes, all at once: when they are all in, and what those notice who were there.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::figures::{Row, Spread, Unit};
use super::options::Options;
use super::process;
use super::run::Changer;
use super::server::{Server, address_of};
use super::{Fleet, Plan};

/// How many times more come than are admitted.
const TIMES: u32 = 6;
/// Streams that are there before the storm, over so many connections.
const ESTABLISHED: (usize, usize) = (50, 5);

/// Lets a storm of clients come, makes changes meanwhile, and answers with the figures.
///
/// # Errors
/// What went wrong: a stream that is never taken, a revision that was missed.
pub async fn storm(options: &Options, say: &dyn Fn(&str)) -> Result<String, String> {
    let server = Server::start(options).await?;
    let mut changer = Changer::start(&server.url, &options.environment).await?;
    changer.next().await?;
    let admit = options.admit.unwrap_or_default();
    let plan = Plan {
        address: address_of(&server.url).await?,
        environment: options.environment.clone(),
        streams: ESTABLISHED.0,
        connections: ESTABLISHED.1,
        hellos_per_second: admit.min(900),
    };
    let established = Fleet::connect(&plan).await?;
    server.rest().await;
    say(&format!("{} changes before the storm", options.changes));
    let mut before = Vec::new();
    for _ in 0..options.changes {
        before.push(one_change(&mut changer, &established).await?);
        tokio::time::sleep(options.pause).await;
    }
    let before_bytes = server.memory_bytes();
    say(&format!("{} streams come at {} a second", options.streams, TIMES * admit));
    let plan = Plan {
        streams: options.streams,
        connections: options.connections,
        hellos_per_second: TIMES * admit,
        ..plan
    };
    let began = Instant::now();
    let mut times = Vec::new();
    let fleet = {
        let mut coming = std::pin::pin!(Fleet::connect(&plan));
        loop {
            tokio::select! {
                fleet = coming.as_mut() => break fleet?,
                took = one_change(&mut changer, &established) => {
                    times.push(took?);
                    tokio::time::sleep(options.pause).await;
                }
            }
        }
    };
    let took = began.elapsed();
    let (_, _, last) = changer.next().await?;
    for all in [&established, &fleet] {
        all.received(last).await?;
    }
    let memory = server.pid.map(process::memory).unwrap_or_default();
    let put_off = fleet.put_off();
    established.leave().await?;
    fleet.leave().await?;
    let streams = u32::try_from(options.streams).unwrap_or(u32::MAX);
    let mut text = format!("\n{streams} streams at {TIMES} times the {admit} a second that are admitted\n");
    let _ = writeln!(
        text,
        "all in after {:.1} s (at the admitted rate: {:.1} s); sent away {put_off} times, {:.2} for each\n\
         server memory: {} KiB before, at most {} KiB{}\n{}",
        took.as_secs_f64(),
        f64::from(streams) / f64::from(admit),
        f64::from(u32::try_from(put_off).unwrap_or(u32::MAX)) / f64::from(streams),
        before_bytes / 1024,
        memory.peak_bytes / 1024,
        options.memory_mib.map(|mib| format!(", and it lives with {mib} MiB")).unwrap_or_default(),
        Row::HEADING,
    );
    for (when, times) in [("before", before), ("meanwhile", times)] {
        let what = format!("{} changes {when}: last of {}", times.len(), ESTABLISHED.0);
        let _ =
            writeln!(text, "{}", Row { what, times: times.into_iter().collect::<Spread>(), unit: Unit::Ms });
    }
    Ok(text)
}

/// How long a change takes to the last of those who were there.
async fn one_change(changer: &mut Changer, established: &Fleet) -> Result<Duration, String> {
    let (sent, _, revision) = changer.next().await?;
    let arrived = established.received(revision).await?;
    Ok(arrived.last().map(|last| last.duration_since(sent)).unwrap_or_default())
}
