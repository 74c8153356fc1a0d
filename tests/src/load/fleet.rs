//! Many streams over some connections, each of which follows an environment and acknowledges what it is sent.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use flagd_proto::Message as _;
use flagd_proto::stream::{
    Ack, Bye, ClientMessage, ClientState, Delta, Hello, Position, ServerMessage, client_message,
    server_message,
};
use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::arrivals::{self, Arrivals};
use super::wire::{self, Frame};

/// The method that streams call.
pub(super) const PATH: &str = "/flagd.stream.v1.Stream/Follow";
/// Given back to the connection's window in portions of this, in bytes.
const WIDEN_AT_BYTES: u32 = 1 << 20;
/// How long streams may take to end after their Bye.
const LEAVING_MAX: Duration = Duration::from_secs(10);

/// What a fleet is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the server is.
    pub address: SocketAddr,
    /// What all streams follow.
    pub environment: String,
    /// How many streams, over all connections.
    pub streams: usize,
    /// How many connections they are spread over.
    pub connections: usize,
    /// Streams opened in a second.
    pub hellos_per_second: u32,
}

/// Whether what is received is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// At once.
    Given,
    /// Not at all; the next one that is given makes up for it.
    Withheld,
}

/// Streams that are open.
#[derive(Debug)]
pub struct Fleet {
    shared: Arc<Shared>,
    lines: JoinSet<()>,
    leaving: watch::Sender<bool>,
}

#[derive(Debug)]
struct Shared {
    environment: String,
    authority: String,
    /// Tells the instances of this fleet from those of others.
    seed: u64,
    arrivals: Arrivals,
    gives_acks: AtomicBool,
    put_off: AtomicUsize,
    delta_bytes: AtomicUsize,
    /// The last change that was decoded: all streams are sent the same bytes.
    heard: Mutex<Option<(Vec<u8>, Arc<Heard>)>>,
}

/// What a message of the server means for a stream.
#[derive(Debug)]
enum Heard {
    Delta {
        from: u64,
        to: u64,
        more: bool,
        ack: Vec<u8>,
    },
    /// The whole state, or that there is nothing to send.
    State {
        revision: u64,
        ack: Vec<u8>,
    },
    GoAway {
        retry_after: Duration,
    },
    Refused(String),
    Nothing,
}

impl Fleet {
    /// Opens all streams and waits until each has the state and has acknowledged it.
    ///
    /// # Errors
    /// Why a stream cannot be opened.
    pub async fn connect(plan: &Plan) -> Result<Fleet, String> {
        let shared = Arc::new(Shared {
            environment: plan.environment.clone(),
            authority: plan.address.to_string(),
            seed: seed(),
            arrivals: Arrivals::of(plan.streams),
            gives_acks: AtomicBool::new(true),
            put_off: AtomicUsize::new(0),
            delta_bytes: AtomicUsize::new(0),
            heard: Mutex::default(),
        });
        let (leaving, left) = watch::channel(false);
        let mut lines = JoinSet::new();
        let began = Instant::now();
        let connections = plan.connections.clamp(1, plan.streams.max(1));
        for connection in 0..connections {
            // Every connection takes its share; numbers say in which order streams open.
            let numbers =
                (connection * plan.streams / connections)..((connection + 1) * plan.streams / connections);
            let opening = numbers.enumerate().map(|(slot, number)| {
                let after = Duration::from_secs(1) * u32::try_from(number).unwrap_or(u32::MAX);
                (Reverse((began + after / plan.hellos_per_second.max(1), slot)), Slot::new(number))
            });
            let (opening, slots): (BinaryHeap<_>, Vec<_>) = opening.unzip();
            lines.spawn(follow(Arc::clone(&shared), plan.address, opening, slots, left.clone()));
        }
        let seconds =
            u64::try_from(plan.streams).unwrap_or(u64::MAX) / u64::from(plan.hellos_per_second.max(1));
        shared.arrivals.all_ready(Duration::from_secs(2 * seconds)).await?;
        Ok(Fleet { shared, lines, leaving })
    }

    /// From now on.
    pub fn set_acks(&self, acks: Acks) {
        self.shared.gives_acks.store(acks == Acks::Given, Ordering::Relaxed);
    }

    /// Waits until all streams have a revision; answers with when each of them had it, in order.
    ///
    /// # Errors
    /// What went wrong: a revision was missed, a stream ended, somebody does not have it.
    pub async fn received(&self, revision: u64) -> Result<Vec<Instant>, String> {
        self.shared.arrivals.all_received(revision).await
    }

    /// What the last change was on the wire of each stream, frame and all, in bytes.
    #[must_use]
    pub fn change_bytes(&self) -> usize {
        wire::wire_bytes(self.shared.delta_bytes.load(Ordering::Relaxed))
    }

    /// How many streams were told to come back later before they were taken.
    #[must_use]
    pub fn put_off(&self) -> usize {
        self.shared.put_off.load(Ordering::Relaxed)
    }

    /// Says Bye on all streams and waits until the server has ended them.
    ///
    /// # Errors
    /// What went wrong since the fleet was opened.
    pub async fn leave(mut self) -> Result<(), String> {
        self.leaving.send_replace(true);
        let all_gone = async { while self.lines.join_next().await.is_some() {} };
        if tokio::time::timeout(LEAVING_MAX, all_gone).await.is_err() {
            return Err(format!("{} connections did not end after Bye", self.lines.len()));
        }
        match self.shared.arrivals.wrongs().first() {
            Some(wrong) => Err(wrong.clone()),
            None => Ok(()),
        }
    }
}

/// Randomness without a dependency: the standard library seeds each hasher differently.
pub(super) fn seed() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

impl Shared {
    fn hear(&self, message: &[u8]) -> Result<Arc<Heard>, String> {
        let mut last = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, heard)) = last.as_ref().filter(|(bytes, _)| bytes == message) {
            return Ok(Arc::clone(heard));
        }
        let decoded =
            ServerMessage::decode(message).map_err(|error| format!("a message is none: {error}"))?;
        let heard = Arc::new(meaning(decoded));
        if let Heard::Delta { .. } = &*heard {
            self.delta_bytes.store(message.len(), Ordering::Relaxed);
            *last = Some((message.to_vec(), Arc::clone(&heard)));
        }
        Ok(heard)
    }
}

fn meaning(message: ServerMessage) -> Heard {
    match message.message {
        Some(server_message::Message::Delta(delta)) => {
            let Delta { epoch, from, to, digest, digest_algorithm, more, .. } = delta;
            let ack = ack(Position { epoch, revision: to, digest, digest_algorithm });
            Heard::Delta { from, to, more, ack }
        }
        Some(server_message::Message::Full(part)) if part.last => state(part.position),
        Some(server_message::Message::UpToDate(now)) => state(now.position),
        Some(server_message::Message::GoAway(go)) => {
            Heard::GoAway { retry_after: Duration::from_millis(go.retry_after_ms) }
        }
        Some(server_message::Message::Refused(refused)) => Heard::Refused(refused.message),
        _ => Heard::Nothing,
    }
}

fn state(position: Option<Position>) -> Heard {
    let position = position.unwrap_or_default();
    Heard::State { revision: position.revision, ack: ack(position) }
}

fn ack(position: Position) -> Vec<u8> {
    let state = ClientState { position: Some(position), ..ClientState::default() };
    said(client_message::Message::Ack(Ack { state: Some(state) }))
}

fn said(message: client_message::Message) -> Vec<u8> {
    ClientMessage { message: Some(message) }.encode_to_vec()
}

/// One stream's place on its connection.
#[derive(Debug)]
struct Slot {
    number: usize,
    connect_counter: u64,
    /// 0: not open.
    stream: u32,
    at: Option<u64>,
    window_bytes: i64,
    /// The beginning of a message whose end is yet to come.
    partial: Vec<u8>,
    come_back_after: Option<Duration>,
}

impl Slot {
    fn new(number: usize) -> Slot {
        Slot {
            number,
            connect_counter: 0,
            stream: 0,
            at: None,
            window_bytes: 0,
            partial: Vec::new(),
            come_back_after: None,
        }
    }
}

/// One connection.
struct Line {
    shared: Arc<Shared>,
    socket: TcpStream,
    slots: Vec<Slot>,
    opening: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Whose streams 1, 3, 5, ... are.
    owners: Vec<usize>,
    open: usize,
    out: Vec<u8>,
    partial: Vec<u8>,
    /// What waits for the connection's window.
    queue: VecDeque<(u32, Vec<u8>)>,
    window_bytes: i64,
    stream_window_bytes: i64,
    read_bytes: u32,
    is_leaving: bool,
}

async fn follow(
    shared: Arc<Shared>,
    address: SocketAddr,
    opening: BinaryHeap<Reverse<(Instant, usize)>>,
    slots: Vec<Slot>,
    left: watch::Receiver<bool>,
) {
    if let Some(Reverse((first, _))) = opening.peek() {
        tokio::time::sleep_until((*first).into()).await;
    }
    let connected = async {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok::<_, std::io::Error>(socket)
    };
    let socket = match connected.await {
        Ok(socket) => socket,
        Err(error) => return shared.arrivals.wrong(format!("no connection to {address}: {error}")),
    };
    let line = Line {
        shared: Arc::clone(&shared),
        socket,
        slots,
        opening,
        owners: Vec::new(),
        open: 0,
        out: wire::OPENING.to_vec(),
        partial: Vec::new(),
        queue: VecDeque::new(),
        window_bytes: wire::FIRST_WINDOW_BYTES,
        stream_window_bytes: wire::FIRST_WINDOW_BYTES,
        read_bytes: 0,
        is_leaving: false,
    };
    if let Err(why) = line.run(left).await {
        shared.arrivals.wrong(why);
    }
}

impl Line {
    async fn run(mut self, mut left: watch::Receiver<bool>) -> Result<(), String> {
        loop {
            let next = self.opening.peek().map(|Reverse((at, _))| (*at).into());
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let may_leave = !self.is_leaving;
            tokio::select! {
                biased;
                ended = std::future::poll_fn(|context| self.poll(context)) => match ended {
                    Err(_) if self.is_leaving => return Ok(()),
                    ended => ended?,
                },
                () = due => self.open_due(),
                // Without the fleet there is nobody to follow for, either.
                _ = left.wait_for(|left| *left), if may_leave => self.say_bye(),
            }
            if self.is_leaving && self.open == 0 {
                return Ok(());
            }
        }
    }

    /// Writes and reads what can be; ready when a stream has ended.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), String>> {
        let open = self.open;
        loop {
            while !self.out.is_empty() {
                match Pin::new(&mut self.socket).poll_write(context, &self.out) {
                    Poll::Ready(Ok(written)) => drop(self.out.drain(..written)),
                    Poll::Ready(Err(error)) => {
                        return Poll::Ready(Err(format!("a connection broke: {error}")));
                    }
                    Poll::Pending => break,
                }
            }
            if self.open < open {
                return Poll::Ready(Ok(()));
            }
            match self.poll_read(context) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), String>> {
        arrivals::with_scratch(|scratch| {
            let bytes = ready!(arrivals::poll_read(&mut self.socket, context, scratch))?;
            Poll::Ready(self.take(bytes))
        })
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.partial.is_empty() {
            let mut rest = bytes;
            self.take_frames(&mut rest)?;
            self.partial.extend(rest);
            return Ok(());
        }
        let mut whole = std::mem::take(&mut self.partial);
        whole.extend(bytes);
        let mut rest: &[u8] = &whole;
        self.take_frames(&mut rest)?;
        self.partial.extend(rest);
        Ok(())
    }

    fn take_frames(&mut self, rest: &mut &[u8]) -> Result<(), String> {
        while let Some(frame) = wire::take(rest) {
            match frame {
                Frame::Data { stream, bytes } => self.take_data(stream, bytes)?,
                Frame::Ended { stream } => self.take_end(stream)?,
                Frame::Settings { window_bytes } => {
                    wire::settings_taken(&mut self.out);
                    let more = window_bytes.map_or(0, |window| window - self.stream_window_bytes);
                    self.stream_window_bytes += more;
                    self.slots.iter_mut().for_each(|slot| slot.window_bytes += more);
                }
                Frame::Ping(ping) => wire::pong(&mut self.out, ping),
                Frame::Window { stream: 0, more_bytes } => {
                    self.window_bytes += more_bytes;
                    self.say_queued();
                }
                Frame::Window { stream, more_bytes } => {
                    if let Some(slot) = self.slot(stream) {
                        slot.window_bytes += more_bytes;
                    }
                }
                Frame::Leaving | Frame::Other => {}
            }
        }
        Ok(())
    }

    fn slot(&mut self, stream: u32) -> Option<&mut Slot> {
        let owner = self.owners.get(usize::try_from(stream.checked_sub(1)? / 2).ok()?)?;
        self.slots.get_mut(*owner).filter(|slot| slot.stream == stream)
    }

    fn take_data(&mut self, stream: u32, bytes: &[u8]) -> Result<(), String> {
        self.read_bytes += u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if self.read_bytes >= WIDEN_AT_BYTES {
            wire::widen(&mut self.out, std::mem::take(&mut self.read_bytes));
        }
        let Some(slot) = self.slot(stream) else { return Ok(()) };
        if slot.partial.is_empty() {
            let mut rest = bytes;
            self.take_messages(stream, &mut rest)?;
            self.keep(stream, rest);
            return Ok(());
        }
        slot.partial.extend(bytes);
        let whole = std::mem::take(&mut slot.partial);
        let mut rest: &[u8] = &whole;
        self.take_messages(stream, &mut rest)?;
        self.keep(stream, rest);
        Ok(())
    }

    fn keep(&mut self, stream: u32, rest: &[u8]) {
        if let Some(slot) = self.slot(stream) {
            slot.partial.extend(rest);
        }
    }

    fn take_messages(&mut self, stream: u32, rest: &mut &[u8]) -> Result<(), String> {
        while let Some(message) = wire::message(rest) {
            let heard = self.shared.hear(message)?;
            let Some(slot) = self.slot(stream) else { return Ok(()) };
            match &*heard {
                Heard::Delta { from, .. } if slot.at != Some(*from) => {
                    return Err(format!(
                        "stream {} is at {:?} and was sent a change of {from}",
                        slot.number, slot.at
                    ));
                }
                Heard::Delta { more: true, .. } | Heard::Nothing => {}
                Heard::Delta { to, ack, .. } => {
                    slot.at = Some(*to);
                    self.shared.arrivals.received(*to);
                    if self.shared.gives_acks.load(Ordering::Relaxed) {
                        self.say(stream, ack)?;
                    }
                }
                Heard::State { .. } if slot.at.is_some() => {
                    return Err(format!("stream {} was sent the whole state again", slot.number));
                }
                Heard::State { revision, ack } => {
                    slot.at = Some(*revision);
                    self.shared.arrivals.ready();
                    self.say(stream, ack)?;
                }
                Heard::GoAway { retry_after } => slot.come_back_after = Some(*retry_after),
                Heard::Refused(why) => return Err(format!("the server refuses a stream: {why}")),
            }
        }
        Ok(())
    }

    fn take_end(&mut self, stream: u32) -> Result<(), String> {
        let is_leaving = self.is_leaving;
        let Some(slot) = self.slot(stream) else { return Ok(()) };
        slot.stream = 0;
        let (number, at, after) = (slot.number, slot.at, slot.come_back_after.take());
        let owner = self.owners.get(usize::try_from(stream / 2).unwrap_or(usize::MAX)).copied();
        self.open -= 1;
        match (after, owner) {
            _ if is_leaving => {}
            (Some(after), Some(owner)) if at.is_none() => {
                self.shared.put_off.fetch_add(1, Ordering::Relaxed);
                self.opening.push(Reverse((Instant::now() + jittered(after, number), owner)));
            }
            _ => return Err(format!("stream {number} ended at revision {at:?}")),
        }
        Ok(())
    }

    fn open_due(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((_, owner))) =
            self.opening.peek().filter(|Reverse((at, _))| *at <= now).copied()
        {
            self.opening.pop();
            let stream = u32::try_from(2 * self.owners.len() + 1).unwrap_or(u32::MAX);
            let Some(slot) = self.slots.get_mut(owner) else { continue };
            slot.stream = stream;
            slot.window_bytes = self.stream_window_bytes;
            slot.partial.clear();
            slot.connect_counter += 1;
            let Shared { environment, seed, .. } = &*self.shared;
            let hello = hello(environment, *seed, slot.number, slot.connect_counter, "load");
            self.owners.push(owner);
            self.open += 1;
            wire::open(&mut self.out, stream, &self.shared.authority, PATH);
            self.queue.push_back((stream, hello));
        }
        self.say_queued();
    }

    fn say_bye(&mut self) {
        self.is_leaving = true;
        self.opening.clear();
        for slot in self.slots.iter().filter(|slot| slot.stream != 0) {
            self.queue.push_back((slot.stream, said(client_message::Message::Bye(Bye {}))));
        }
        self.say_queued();
    }

    fn say(&mut self, stream: u32, message: &[u8]) -> Result<(), String> {
        let bytes = wire::windowed_bytes(message);
        if let Some(slot) = self.slot(stream) {
            slot.window_bytes -= bytes;
            if slot.window_bytes < 0 {
                return Err(format!("the server does not take what stream {} says", slot.number));
            }
        }
        if self.queue.is_empty() && self.window_bytes >= bytes {
            self.window_bytes -= bytes;
            wire::say(&mut self.out, stream, message);
        } else {
            self.queue.push_back((stream, message.to_vec()));
        }
        Ok(())
    }

    fn say_queued(&mut self) {
        while let Some((stream, message)) = self.queue.pop_front() {
            let bytes = wire::windowed_bytes(&message);
            if self.window_bytes < bytes {
                self.queue.push_front((stream, message));
                return;
            }
            self.window_bytes -= bytes;
            wire::say(&mut self.out, stream, &message);
        }
    }
}

/// Up to half more than what the server tells, as the protocol says; another share for each stream.
fn jittered(after: Duration, number: usize) -> Duration {
    let mixed = u64::try_from(number).unwrap_or(u64::MAX).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    after + after * u32::try_from(mixed).unwrap_or_default() / 2 / (1 << 16)
}

/// The first message of a stream without a state.
pub(super) fn hello(
    environment: &str,
    seed: u64,
    number: usize,
    connect_counter: u64,
    name: &str,
) -> Vec<u8> {
    let number = u64::try_from(number).unwrap_or(u64::MAX);
    let instance = [seed.to_be_bytes(), number.to_be_bytes()].concat();
    said(client_message::Message::Hello(Hello {
        environment: environment.to_owned(),
        instance: instance.into(),
        connect_counter,
        name: format!("{name}-{number}"),
        app: "load".into(),
        app_version: env!("CARGO_PKG_VERSION").into(),
        sdk: "load/1".into(),
        level: flagd_core::definition::LEVEL,
        state: Some(ClientState::default()),
        relay: false,
    }))
}
