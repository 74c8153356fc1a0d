//! Changes, one at a time, and the tables of what they cost.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use flagd_proto::admin::admin_client::AdminClient;
use flagd_proto::admin::change_request::Operation;
use flagd_proto::admin::{ChangeRequest, EntryName, Put, PutMode, WaitProgress, WaitRequest, WaitVerdict};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tonic::transport::Channel;

use super::figures::{self, Push, Row, Spread, Unit};
use super::floor::{FloorCrowd, Manner};
use super::options::Options;
use super::process::{self, Pinned};
use super::server::{Server, Used, address_of};
use super::{Acks, Fleet, Plan};
use crate::world::connect;

/// How long all clients may take to acknowledge a change, in milliseconds.
const WAIT_MAX_MS: u64 = 120_000;
/// Changes before anything is measured.
const WARM_UPS: usize = 3;
/// Of the kind of an entry: a flag.
const FLAG: u32 = 1;

/// Who changes flags, and which one.
#[derive(Clone, Debug)]
pub(super) struct Changer {
    pub(super) admin: AdminClient<Channel>,
    environment: String,
    flag: String,
    filler_bytes: usize,
    number: usize,
}

/// Records a change of a flag, creating it if need be. Answers with the revision.
///
/// # Errors
/// What the server says.
pub async fn publish(
    admin: &mut AdminClient<Channel>,
    environment: &str,
    flag: &str,
    description: &str,
) -> Result<u64, String> {
    let file = format!(r#"{{"flags": {{"{flag}": {{"description": "{description}", "rollout": 100}}}}}}"#);
    put(admin, environment, file).await
}

/// Records definitions, creating those that are not there. Answers with the revision.
///
/// # Errors
/// What the server says.
pub async fn put(admin: &mut AdminClient<Channel>, environment: &str, file: String) -> Result<u64, String> {
    let put = Put { file: file.into(), mode: PutMode::CreateOrReplace.into() };
    change(admin, environment, Operation::Put(put)).await
}

pub(super) async fn change(
    admin: &mut AdminClient<Channel>,
    environment: &str,
    operation: Operation,
) -> Result<u64, String> {
    let request = ChangeRequest {
        environment: environment.to_owned(),
        actor: "load".into(),
        operation: Some(operation),
        ..ChangeRequest::default()
    };
    let answer = admin.change(request).await.map_err(|status| format!("a change was refused: {status}"))?;
    Ok(answer.into_inner().revision)
}

impl Changer {
    /// Of a flag of its own in an environment.
    pub(super) async fn start(url: &str, environment: &str) -> Result<Changer, String> {
        let admin = connect(url).await.ok_or_else(|| format!("no server answers at {url}"))?;
        let flag = format!("load-{}", std::process::id());
        Ok(Changer { admin, environment: environment.to_owned(), flag, filler_bytes: 300, number: 0 })
    }

    /// The next change: when it was sent and when the answer was there; its revision.
    pub(super) async fn next(&mut self) -> Result<(Instant, Instant, u64), String> {
        self.number += 1;
        let description = format!("{:0>width$}", self.number, width = self.filler_bytes.max(1));
        let sent = Instant::now();
        let revision = publish(&mut self.admin, &self.environment, &self.flag, &description).await?;
        Ok((sent, Instant::now(), revision))
    }

    /// Makes changes as large as they should be, given how large they are.
    fn fit(&mut self, have_bytes: usize, want_bytes: usize) {
        self.filler_bytes = (self.filler_bytes + want_bytes).saturating_sub(have_bytes);
    }

    /// Asks until all have acknowledged a revision. Answers with the last word.
    pub(super) async fn wait(&mut self, revision: u64) -> Result<WaitProgress, String> {
        let request = WaitRequest {
            environment: self.environment.clone(),
            revision,
            timeout_ms: WAIT_MAX_MS,
            ..WaitRequest::default()
        };
        let failed = |status: tonic::Status| format!("`Wait` failed: {status}");
        let mut told = self.admin.wait(request).await.map_err(failed)?.into_inner();
        let mut last = WaitProgress::default();
        while let Some(progress) = told.message().await.map_err(failed)? {
            last = progress;
        }
        Ok(last)
    }

    async fn archive(&mut self) -> Result<(), String> {
        let name = EntryName { kind: FLAG, key: self.flag.clone() };
        change(&mut self.admin, &self.environment, Operation::Archive(name)).await.map(drop)
    }
}

/// What the changes of one run were like.
#[derive(Debug, Default)]
struct Runs {
    silent: Vec<Push>,
    acknowledged: Vec<Push>,
    waited: Vec<Waited>,
    floor_tasks: Vec<Push>,
    floor_loop: Vec<Push>,
}

/// A change that was waited for.
#[derive(Clone, Copy, Debug)]
struct Waited {
    recorded: Duration,
    last_received: Duration,
    confirmed: Duration,
    /// From recording, as the server tells.
    confirmed_by_server: Duration,
}

/// What opening the streams was like.
#[derive(Clone, Copy, Debug)]
struct Opening {
    first_revision: u64,
    took: Duration,
    /// The server's memory before and after.
    before_bytes: u64,
    idle_bytes: u64,
    /// What the server above has used before and after.
    above_before: Option<Used>,
    above: Option<Used>,
}

/// Opens the streams, makes the changes, and answers with the tables.
///
/// # Errors
/// What went wrong: a server that does not answer, a revision that was missed, a client that did not acknowledge.
pub async fn measure(options: &Options, say: &dyn Fn(&str)) -> Result<String, String> {
    let server = Server::start(options).await?;
    let mut changer = Changer::start(&server.url, &options.environment).await?;
    let (_, _, first_revision) = changer.next().await?;
    server.rest().await;
    let (before_bytes, above_before) = (server.memory_bytes(), server.above());
    say(&format!("opening {} streams over {} connections", options.streams, options.connections));
    let began = Instant::now();
    let fleet = Fleet::connect(&Plan {
        address: address_of(&server.edge_url).await?,
        environment: options.environment.clone(),
        streams: options.streams,
        connections: options.connections,
        hellos_per_second: options.hellos_per_second,
    })
    .await?;
    let took = began.elapsed();
    server.rest().await;
    let above = server.above();
    let opening = Opening {
        first_revision,
        took,
        before_bytes,
        idle_bytes: server.memory_bytes(),
        above_before,
        above,
    };
    let measured = make_changes(&server, &mut changer, &fleet, options, opening, say).await;
    // Also after a failure: nobody else should have to wait for clients that were never real.
    let left = fleet.leave().await;
    if options.server.is_some() {
        changer.archive().await?;
    }
    let text = measured?;
    left?;
    Ok(text)
}

async fn make_changes(
    server: &Server,
    changer: &mut Changer,
    fleet: &Fleet,
    options: &Options,
    opening: Opening,
    say: &dyn Fn(&str),
) -> Result<String, String> {
    warm_up(changer, fleet, options).await?;
    say("making changes");
    let runs = take_turns(server, changer, fleet, options, say).await?;
    server.rest().await;
    let after_bytes = server.memory_bytes();
    let per_stream = |bytes: u64| kib(bytes.saturating_sub(opening.before_bytes), options.streams);
    let store = match options.server {
        Some(_) => "unknown".to_owned(),
        None => format!("{:?}", options.store),
    };
    let mut text = format!(
        "\n{} streams over {} connections, {} changes of {} bytes of each sort, store {store}\n",
        options.streams,
        options.connections.min(options.streams),
        options.changes,
        fleet.change_bytes(),
    );
    let _ = writeln!(
        text,
        "connected in {:.2} s at {} a second, {} put off",
        opening.took.as_secs_f64(),
        options.hellos_per_second,
        fleet.put_off(),
    );
    if server.pid.is_some() {
        let (idle, after) = (per_stream(opening.idle_bytes), per_stream(after_bytes));
        let _ = writeln!(text, "server memory per stream: idle {idle}, after all changes {after}");
    }
    tell_above(&mut text, &opening, server.above(), options);
    tell(&mut text, &runs, options);
    // Nobody was sent a change that did not follow; and everybody has and acknowledges the last one.
    let (_, _, last) = changer.next().await?;
    fleet.received(last).await?;
    let said = changer.wait(last).await?;
    confirmed(&said, options)?;
    let _ = writeln!(
        text,
        "no stream missed any of revisions {} to {last}; the last is confirmed by {} of {}",
        opening.first_revision + 1,
        said.applied,
        said.expected,
    );
    Ok(text)
}

/// What the server has used that has relays before it.
fn tell_above(text: &mut String, opening: &Opening, after: Option<Used>, options: &Options) {
    let (Some(before), Some(idle), Some(after)) = (opening.above_before, opening.above, after) else {
        return;
    };
    let per_client = |now: Used| kib(now.memory_bytes.saturating_sub(before.memory_bytes), options.streams);
    let updates = (WARM_UPS + 3 * options.changes).saturating_mul(options.streams);
    let cpu_us = after.cpu.saturating_sub(idle.cpu).as_secs_f64() * 1e6;
    let _ = writeln!(
        text,
        "behind {} relays; the server above them: memory per client idle {}, after all changes {}; CPU per change and \
         client {:.2} us",
        options.relays,
        per_client(idle),
        per_client(after),
        cpu_us / f64::from(u32::try_from(updates).unwrap_or(u32::MAX)),
    );
}

fn kib(bytes: u64, streams: usize) -> String {
    let tenths = bytes * 10 / 1024 / u64::try_from(streams).unwrap_or(u64::MAX).max(1);
    format!("{}.{} KiB", tenths / 10, tenths % 10)
}

async fn warm_up(changer: &mut Changer, fleet: &Fleet, options: &Options) -> Result<(), String> {
    for _ in 0..WARM_UPS {
        let (_, _, revision) = changer.next().await?;
        fleet.received(revision).await?;
        changer.fit(fleet.change_bytes(), options.bytes);
    }
    Ok(())
}

/// One of each sort in every turn, so that a slow moment of the machine is everybody's.
async fn take_turns(
    server: &Server,
    changer: &mut Changer,
    fleet: &Fleet,
    options: &Options,
    say: &dyn Fn(&str),
) -> Result<Runs, String> {
    let mut floor = match options.floor {
        0 => None,
        sockets => Some(start_floor(sockets, fleet.change_bytes()).await?),
    };
    let mut runs = Runs::default();
    for turn in 0..options.changes {
        fleet.set_acks(Acks::Withheld);
        runs.silent.push(push(server, changer, fleet).await?);
        tokio::time::sleep(options.pause).await;
        fleet.set_acks(Acks::Given);
        runs.acknowledged.push(push(server, changer, fleet).await?);
        tokio::time::sleep(options.pause).await;
        runs.waited.push(waited(changer, fleet, options).await?);
        server.rest().await;
        if let Some((process, crowd)) = &mut floor {
            runs.floor_tasks.push(push_floor(process, crowd, Manner::Tasks).await?);
            tokio::time::sleep(options.pause).await;
            runs.floor_loop.push(push_floor(process, crowd, Manner::Loop).await?);
        }
        tokio::time::sleep(options.pause).await;
        if turn % 5 == 4 {
            say(&format!("turn {} of {}", turn + 1, options.changes));
        }
    }
    Ok(runs)
}

async fn push(server: &Server, changer: &mut Changer, fleet: &Fleet) -> Result<Push, String> {
    let before = server.cpu();
    let (sent, _, revision) = changer.next().await?;
    let arrived = fleet.received(revision).await?;
    server.rest().await;
    Ok(Push::new(sent, &arrived, server.cpu().saturating_sub(before)))
}

async fn waited(changer: &mut Changer, fleet: &Fleet, options: &Options) -> Result<Waited, String> {
    let (sent, answered, revision) = changer.next().await?;
    let said = changer.wait(revision).await?;
    let confirmed_after = sent.elapsed();
    confirmed(&said, options)?;
    let arrived = fleet.received(revision).await?;
    Ok(Waited {
        recorded: answered.duration_since(sent),
        last_received: arrived.last().map(|last| last.duration_since(sent)).unwrap_or_default(),
        confirmed: confirmed_after,
        confirmed_by_server: Duration::from_micros(said.elapsed_us),
    })
}

/// All of ours have acknowledged. A server that runs for others, too, has more clients, which may be away.
fn confirmed(said: &WaitProgress, options: &Options) -> Result<(), String> {
    let applied = usize::try_from(said.applied).unwrap_or(usize::MAX);
    let is_confirmed = said.verdict == i32::from(WaitVerdict::Confirmed);
    let ours = options.server.is_some() || applied == options.streams;
    if is_confirmed && ours && applied >= options.streams {
        return Ok(());
    }
    Err(format!("revision {} is applied by {} of {}", said.revision, said.applied, said.expected))
}

async fn start_floor(sockets: usize, bytes: usize) -> Result<(Pinned, FloorCrowd), String> {
    let program = std::env::current_exe().map_err(|error| format!("this program has no path: {error}"))?;
    let args = ["--as-floor".to_owned(), bytes.to_string()];
    let failed = |error: std::io::Error| format!("the floor does not start: {error}");
    let mut floor =
        Pinned::spawn(&program, args, None, Stdio::piped(), Path::new("/dev/stderr")).map_err(failed)?;
    let output = floor.output().ok_or("the floor has no output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).await.map_err(failed)?;
    let port = line.trim().parse().map_err(|_| format!("the floor says `{line}`, which is no port"))?;
    let crowd = FloorCrowd::connect(port, sockets, bytes).await?;
    process::rest(floor.pid()).await;
    Ok((floor, crowd))
}

async fn push_floor(floor: &Pinned, crowd: &mut FloorCrowd, manner: Manner) -> Result<Push, String> {
    let before = process::cpu(floor.pid());
    let (sent, arrived) = crowd.push(manner).await?;
    process::rest(floor.pid()).await;
    Ok(Push::new(sent, &arrived, process::cpu(floor.pid()).saturating_sub(before)))
}

fn tell(text: &mut String, runs: &Runs, options: &Options) {
    type Column = (&'static str, fn(&Waited) -> Duration);
    let columns: [Column; 4] = [
        ("sent -> recorded (answer)", |waited| waited.recorded),
        ("sent -> last received", |waited| waited.last_received),
        ("sent -> all acknowledged (Wait's answer)", |waited| waited.confirmed),
        ("recorded -> all acknowledged (its word)", |waited| waited.confirmed_by_server),
    ];
    let mut rows = figures::rows("no acks", &runs.silent);
    rows.extend(figures::rows("acks", &runs.acknowledged));
    rows.extend(columns.into_iter().map(|(what, column)| Row {
        what: format!("Wait: {what}"),
        times: runs.waited.iter().map(column).collect::<Spread>(),
        unit: Unit::Ms,
    }));
    rows.extend(figures::rows("floor, tasks", &runs.floor_tasks));
    rows.extend(figures::rows("floor, loop", &runs.floor_loop));
    let knows_cpu = options.server.is_none() || options.pid.is_some();
    let _ = writeln!(text, "{}", Row::HEADING);
    for row in rows {
        let is_told = row.times != Spread::default() && (knows_cpu || row.unit == Unit::Ms);
        if is_told {
            let _ = writeln!(text, "{row}");
        }
    }
    if knows_cpu {
        let more = figures::ratio(&runs.acknowledged, &runs.silent, |push| push.cpu);
        let _ = writeln!(text, "CPU, acknowledging to delivering: {}", more.without_the_whole());
    }
    for (name, floor) in [("tasks", &runs.floor_tasks), ("loop", &runs.floor_loop)] {
        if !floor.is_empty() {
            let cpu = figures::ratio(&runs.silent, floor, |push| push.cpu);
            let last = figures::ratio(&runs.silent, floor, |push| push.last);
            let _ = writeln!(text, "CPU per update, no acks, to the floor of {name}: {cpu}");
            let _ = writeln!(text, "last received, no acks, to the floor of {name}: {last}");
        }
    }
}
