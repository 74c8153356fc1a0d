//! Clients that read one byte a second.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::figures::{Row, Spread, Unit};
use super::options::Options;
use super::run::{Changer, put};
use super::server::{Server, address_of};
use super::{Fleet, Plan, fleet, process, wire};

/// Between two bytes.
const PAUSE: Duration = Duration::from_secs(1);
/// What the system keeps of what was not read, in bytes; it doubles that.
const SYSTEM_BUFFER_BYTES: u32 = 4 * 1024;
/// Read at once by clients that hurry, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// Slow clients, each on a connection of its own. Dropping them breaks their connections.
#[derive(Debug)]
pub struct Slow {
    tally: Arc<Tally>,
    hurry: watch::Sender<bool>,
    _readers: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Tally {
    read_bytes: AtomicUsize,
    cut_off: AtomicUsize,
}

impl Slow {
    /// Connects, says Hello, and reads one byte a second from then on.
    ///
    /// # Errors
    /// Why a connection cannot be opened.
    pub async fn connect(address: SocketAddr, environment: &str, count: usize) -> Result<Slow, String> {
        let (hurry, hurries) = watch::channel(false);
        let tally = Arc::new(Tally::default());
        let mut readers = JoinSet::new();
        for number in 0..count {
            let opened = open(address, environment, number).await;
            let socket = opened.map_err(|error| format!("slow client {number}: {error}"))?;
            readers.spawn(read(socket, Arc::clone(&tally), hurries.clone()));
        }
        Ok(Slow { tally, hurry, _readers: readers })
    }

    /// From now on they read all that there is.
    pub fn hurry(&self) {
        self.hurry.send_replace(true);
    }

    /// Bytes that they have read, all together.
    #[must_use]
    pub fn read_bytes(&self) -> usize {
        self.tally.read_bytes.load(Ordering::Relaxed)
    }

    /// How many were cut off by the server.
    #[must_use]
    pub fn cut_off(&self) -> usize {
        self.tally.cut_off.load(Ordering::Relaxed)
    }
}

async fn open(address: SocketAddr, environment: &str, number: usize) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(SYSTEM_BUFFER_BYTES)?;
    let mut socket = socket.connect(address).await?;
    let mut out = wire::OPENING.to_vec();
    wire::open(&mut out, 1, &address.to_string(), fleet::PATH);
    let hello = fleet::hello(environment, fleet::seed(), number, 1, "slow");
    wire::say(&mut out, 1, &hello);
    socket.write_all(&out).await?;
    Ok(socket)
}

async fn read(mut socket: TcpStream, tally: Arc<Tally>, mut hurries: watch::Receiver<bool>) {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let hurry = *hurries.borrow();
        let room = if hurry { READ_BYTES } else { 1 };
        match socket.read(buffer.get_mut(..room).unwrap_or_default()).await {
            Ok(length @ 1..) => tally.read_bytes.fetch_add(length, Ordering::Relaxed),
            Ok(0) | Err(_) => break,
        };
        if !hurry {
            // Without the handle it is over anyway.
            let _ = tokio::time::timeout(PAUSE, hurries.wait_for(|hurry| *hurry)).await;
        }
    }
    tally.cut_off.fetch_add(1, Ordering::Relaxed);
}

/// Makes changes without slow clients and with them, and answers with what that did to the others and to the server.
///
/// # Errors
/// What went wrong: a revision that was missed, a server that does not answer.
pub async fn slow(options: &Options, say: &dyn Fn(&str)) -> Result<String, String> {
    let server = Server::start(options).await?;
    let mut changer = Changer::start(&server.url, &options.environment).await?;
    changer.next().await?;
    let address = address_of(&server.url).await?;
    say(&format!("opening {} streams over {} connections", options.streams, options.connections));
    let fleet = Fleet::connect(&Plan {
        address,
        environment: options.environment.clone(),
        streams: options.streams,
        connections: options.connections,
        hellos_per_second: options.hellos_per_second,
    })
    .await?;
    say("changes without slow clients");
    let without = changes(&mut changer, &fleet, options).await?;
    server.rest().await;
    let before_bytes = server.memory_bytes();
    let slow = Slow::connect(address, &options.environment, options.slow).await?;
    say(&format!("changes with {} slow clients", options.slow));
    let with = changes(&mut changer, &fleet, options).await?;
    server.rest().await;
    let memory = server.pid.map(process::memory).unwrap_or_default();
    let sent_bytes = options.changes * options.bytes;
    let cut_off = slow.cut_off();
    slow.hurry();
    // Nobody tells when a client has read all that is left for it; heartbeats come every ten seconds.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let read_bytes = slow.read_bytes() / options.slow.max(1);
    drop(slow);
    fleet.leave().await?;
    let mut text = format!(
        "\n{} streams, {} slow clients, {} changes of {} KiB each way\n{}\n",
        options.streams,
        options.slow,
        options.changes,
        options.bytes / 1024,
        Row::HEADING
    );
    for (what, times) in
        [("without slow clients: last received", without), ("with them: last received", with)]
    {
        let _ = writeln!(text, "{}", Row { what: what.to_owned(), times, unit: Unit::Ms });
    }
    let _ = writeln!(
        text,
        "server memory: {} KiB before slow clients, {} KiB after the changes, at most {} KiB\n\
         slow clients cut off meanwhile: {cut_off} of {}; read by each of the others when it hurries: {} KiB of {}",
        before_bytes / 1024,
        memory.now_bytes / 1024,
        memory.peak_bytes / 1024,
        options.slow,
        read_bytes / 1024,
        sent_bytes / 1024,
    );
    Ok(text)
}

/// How long each change took to the last of the others.
async fn changes(changer: &mut Changer, fleet: &Fleet, options: &Options) -> Result<Spread, String> {
    let mut times = Vec::new();
    for number in 0..options.changes {
        let sent = Instant::now();
        let file = bulk(number, options.bytes);
        let revision = put(&mut changer.admin, &options.environment, file).await?;
        let arrived = fleet.received(revision).await?;
        times.extend(arrived.last().map(|last| last.duration_since(sent)));
        tokio::time::sleep(options.pause).await;
    }
    Ok(times.into_iter().collect())
}

/// A flag of about this many bytes; a new one for each number.
#[must_use]
pub fn bulk(number: usize, bytes: usize) -> String {
    // A value has at most 64 KiB, a definition 512 KiB.
    let mut left = bytes.min(400 * 1024);
    let mut variants = vec![format!(r#""off": "change {number}""#)];
    while left > 0 {
        let length = left.min(60 * 1024);
        left -= length;
        variants.push(format!(r#""v{}": "{}""#, variants.len(), "x".repeat(length)));
    }
    format!(r#"{{"flags": {{"bulk": {{"variants": {{{}}}, "offVariant": "off"}}}}}}"#, variants.join(", "))
}
