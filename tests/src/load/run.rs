//! Changes, one at a time, and the tables of what they cost.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use flagd_proto::admin::admin_client::AdminClient;
use flagd_proto::admin::change_request::Operation;
use flagd_proto::admin::{ChangeRequest, EntryName, Put, PutMode, WaitProgress, WaitRequest, WaitVerdict};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tonic::transport::Channel;

use super::figures::{self, Push, Row, Spread, Unit};
use super::floor::{FloorCrowd, Manner};
use super::options::{Options, StoreKind};
use super::process::{self, Pinned};
use super::{Acks, Fleet, Plan};
use crate::command::binaries;
use crate::world::{connect, free_port, http};

/// How long a server may take until it answers.
const START_MAX: Duration = Duration::from_mins(1);
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

/// The server that is measured.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) url: String,
    pub(super) port: u16,
    /// None when it is somebody else's, and elsewhere.
    pub(super) pid: Option<u32>,
    own: Option<(Pinned, TempDir)>,
}

impl Server {
    /// Starts a server of the tool's own, or takes the one that it was given.
    pub(super) async fn start(options: &Options) -> Result<Server, String> {
        if let Some(url) = &options.server {
            let port = address_of(url).await?.port();
            return Ok(Server { url: url.clone(), port, pid: options.pid, own: None });
        }
        let folder = tempfile::Builder::new().prefix("flagd-load-").tempdir();
        let folder = folder.map_err(|error| format!("no temporary folder: {error}"))?;
        let port = free_port();
        let child = spawn(options, folder.path(), port)?;
        let server = Server {
            url: format!("http://127.0.0.1:{port}"),
            port,
            pid: Some(child.pid()),
            own: Some((child, folder)),
        };
        server.answers().await?;
        Ok(server)
    }

    /// `kill -9`, and the same again on the same store and port. Answers with when it was dead.
    pub(super) async fn kill_and_restart(&mut self, options: &Options) -> Result<Instant, String> {
        let (child, folder) = self.own.take().ok_or("only a server of its own can be killed")?;
        child.kill().await.map_err(|error| format!("the server cannot be killed: {error}"))?;
        let dead = Instant::now();
        let child = spawn(options, folder.path(), self.port)?;
        self.pid = Some(child.pid());
        self.own = Some((child, folder));
        Ok(dead)
    }

    async fn answers(&self) -> Result<(), String> {
        let began = Instant::now();
        while connect(&self.url).await.is_none() {
            if began.elapsed() > START_MAX {
                let log = self.own.as_ref().map(|(_, folder)| folder.path().join("server.log"));
                let log = log.and_then(|log| std::fs::read_to_string(log).ok()).unwrap_or_default();
                return Err(format!("the server does not answer:\n{log}"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// A sample of `/metrics`; 0 when it is not there.
    pub(super) async fn metric(&self, sample: &str) -> u64 {
        let page = http(self.port, "/metrics").await;
        let value = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).unwrap_or_default()
    }

    fn cpu(&self) -> Duration {
        self.pid.map(process::cpu).unwrap_or_default()
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.pid.map(process::memory).unwrap_or_default().now_bytes
    }

    /// Waits until it has nothing to do; a moment when that cannot be seen.
    pub(super) async fn rest(&self) {
        match self.pid {
            Some(pid) => process::rest(pid).await,
            None => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
}

fn spawn(options: &Options, folder: &Path, port: u16) -> Result<Pinned, String> {
    let program = options.flagd.clone().unwrap_or_else(|| binaries().join("flagd"));
    let store = match options.store {
        StoreKind::Memory => "memory".to_owned(),
        StoreKind::Redb => format!("redb:{}", folder.join("flagd.redb").display()),
    };
    let listen = format!("127.0.0.1:{port}");
    let admit = options.admit.map(|admit| admit.to_string());
    let mut args = vec!["--listen", &listen, "--store", &store, "--quiet"];
    if let Some(admit) = &admit {
        args.extend(["--streams-per-second", admit, "--streams-at-once", admit]);
    }
    Pinned::spawn(&program, args, options.memory_mib, Stdio::null(), &folder.join("server.log"))
        .map_err(|error| format!("{} does not start: {error}", program.display()))
}

pub(super) async fn address_of(url: &str) -> Result<SocketAddr, String> {
    let host = url.strip_prefix("http://").ok_or_else(|| format!("`{url}` is no http:// address"))?;
    let mut found = tokio::net::lookup_host(host.trim_end_matches('/'))
        .await
        .map_err(|error| format!("`{url}` is not found: {error}"))?;
    found.next().ok_or_else(|| format!("`{url}` has no address"))
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
    let before_bytes = server.memory_bytes();
    say(&format!("opening {} streams over {} connections", options.streams, options.connections));
    let began = Instant::now();
    let fleet = Fleet::connect(&Plan {
        address: address_of(&server.url).await?,
        environment: options.environment.clone(),
        streams: options.streams,
        connections: options.connections,
        hellos_per_second: options.hellos_per_second,
    })
    .await?;
    let took = began.elapsed();
    server.rest().await;
    let opening = Opening { first_revision, took, before_bytes, idle_bytes: server.memory_bytes() };
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
