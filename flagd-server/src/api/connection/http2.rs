//! An HTTP/2 connection: one task, which carries the streams of clients itself.
//!
//! A change wakes thousands of streams. Here a stream is looked at, puts its frame into the connection's buffer, and the
//! buffer is written, all in one turn of one task (docs/decisions/016). What the protocol says is in `crate::http2`; this
//! pumps it: bytes from the socket into it, events from it to whom they concern, and what it has to say to the socket.
//! Requests that are not streams of clients go to the router, each in a task of its own.
//!
//! Nothing is kept for a connection that is silent: what is read goes through a buffer of the thread, and so does what
//! is written, as long as the socket takes it.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use axum::Router;
use http::request::Parts;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use super::answer;
use super::exchange::{Carried, exchange};
use super::pulse::{LOOK_INTERVAL, Pulse, Seen, Verdict};
use super::ready::{Doorbell, Part, Ready};
use crate::api::stream::{Session, StreamService, Wants};
use crate::clock::Clock;
use crate::http2::{Connection, Ends, Event, Fault, Outlet, Place, Reason};
use crate::limits;

/// Streams that are looked at before what they wrote goes out: about what the processor's caches hold, and a full buffer.
const STREAMS_PER_WRITE: usize = 128;
/// Looks at who is ready in one turn of the task; after that others have theirs.
const LOOKS_PER_TURN: usize = 8;
/// Things that came in, requests and parts of them, that are brought to somebody in one turn.
const EVENTS_PER_TURN: usize = 1_024;
/// Times that the socket is written to and read from in one look.
const ROUNDS_PER_LOOK: usize = 8;
/// So much is read at once, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// A thread keeps no larger buffer, in bytes: a few large answers' heads may need more for once.
const SCRATCH_MAX_BYTES: usize = 256 * 1024;

/// Why a connection ends that was opened for nothing. Nothing is wrong with that.
const NOTHING_ASKED: Fault = Fault { reason: Reason::NoError, what: "nothing was asked" };

/// What answers the requests of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Services {
    /// Streams of clients.
    pub(crate) streams: StreamService,
    /// Everything else.
    pub(crate) router: Router,
    /// What time it is.
    pub(crate) clock: Clock,
}

/// Buffers that the connections of a thread use in turns.
#[derive(Debug, Default)]
struct Scratch {
    read: Vec<u8>,
    write: Vec<u8>,
}

thread_local! {
    static SCRATCH: Cell<Scratch> = const { Cell::new(Scratch { read: Vec::new(), write: Vec::new() }) };
}

/// Serves one connection to its end. After `closing` it takes no new request.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
    peer: SocketAddr,
    services: Services,
    mut closing: watch::Receiver<bool>,
) {
    let mut http2 = Http2::new(socket, peer, services);
    // An error means that the server is gone, which is the same.
    let mut closing = pin!(async { drop(closing.wait_for(|closing| *closing).await) });
    let mut look = pin!(tokio::time::sleep(LOOK_INTERVAL));
    let ended = std::future::poll_fn(|context| http2.turn(context, closing.as_mut(), look.as_mut())).await;
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection broke");
    }
}

/// Who answers a request.
enum Seat {
    /// A client is followed here.
    Client { session: Session, doorbell: Arc<Doorbell>, waker: Waker },
    /// A task answers it.
    Task { carried: Carried, doorbell: Arc<Doorbell> },
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// The rest is written, nothing is read.
    Ending,
}

/// Where there may be something to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Nowhere, until the socket wakes.
    Nowhere,
    Socket,
    /// In what was read before, which had to wait because something was to be written first; then in the socket.
    Unread,
}

/// What reading has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Something,
    /// Nothing, until the socket wakes.
    Nothing,
    /// The other end has gone.
    End,
}

struct Http2<S> {
    socket: S,
    connection: Connection,
    stage: Stage,
    /// What was read and could not be taken yet.
    unread: Vec<u8>,
    source: Source,
    /// So much more may be brought to somebody in this turn.
    events_left: usize,
    seats: Vec<Option<Box<Seat>>>,
    ready: Arc<Ready>,
    socket_waker: Waker,
    clock: Arc<Doorbell>,
    clock_waker: Waker,
    services: Services,
    peer: SocketAddr,
    pulse: Pulse,
    heard: bool,
    asked: bool,
    is_closing: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http2<S> {
    fn new(socket: S, peer: SocketAddr, services: Services) -> Http2<S> {
        let ready = Arc::<Ready>::default();
        let clock = Doorbell::new(&ready, Part::Clock);
        let http2 = Http2 {
            socket,
            connection: Connection::new(),
            stage: Stage::Open,
            unread: Vec::new(),
            source: Source::Socket,
            events_left: 0,
            seats: Vec::new(),
            socket_waker: Waker::from(Arc::clone(&ready)),
            clock_waker: Waker::from(Arc::clone(&clock)),
            clock,
            ready,
            services,
            peer,
            pulse: Pulse::default(),
            heard: false,
            asked: false,
            is_closing: false,
        };
        http2.clock_waker.wake_by_ref();
        http2
    }

    /// One turn of the task: whoever is ready is looked at, until nobody is.
    fn turn(
        &mut self,
        context: &mut Context<'_>,
        closing: Pin<&mut impl Future<Output = ()>>,
        look: Pin<&mut Sleep>,
    ) -> Poll<io::Result<()>> {
        let mut scratch = SCRATCH.take();
        self.borrow(&mut scratch);
        let ready = Arc::clone(&self.ready);
        ready.begin(context.waker());
        self.events_left = EVENTS_PER_TURN;
        let ended = self.looks(&ready, &mut scratch, closing, look);
        if ended.is_pending() && ready.end() {
            context.waker().wake_by_ref();
        }
        self.give_back(&mut scratch);
        SCRATCH.set(scratch);
        ended
    }

    /// What is to be written is put into the thread's buffer, unless something is left from before.
    fn borrow(&mut self, scratch: &mut Scratch) {
        let out = self.connection.out();
        if out.capacity() == 0 {
            std::mem::swap(out, &mut scratch.write);
        }
    }

    /// What could not be written is kept by itself.
    fn give_back(&mut self, scratch: &mut Scratch) {
        let out = self.connection.out();
        if scratch.write.capacity() == 0 {
            let left = out.as_slice().to_vec();
            scratch.write = std::mem::replace(out, left);
            scratch.write.clear();
            scratch.write.shrink_to(SCRATCH_MAX_BYTES);
        } else if out.is_empty() {
            *out = Vec::new();
        }
    }

    fn looks(
        &mut self,
        ready: &Ready,
        scratch: &mut Scratch,
        mut closing: Pin<&mut impl Future<Output = ()>>,
        mut look: Pin<&mut Sleep>,
    ) -> Poll<io::Result<()>> {
        for _ in 0..LOOKS_PER_TURN {
            let now = Instant::now();
            for part in ready.take(STREAMS_PER_WRITE) {
                match part {
                    Part::Stream(place) => self.look_at_stream(Place(place), now),
                    Part::Clock => {
                        if self.look_at_clock(closing.as_mut(), look.as_mut()).is_ready() {
                            return Poll::Ready(Ok(()));
                        }
                    }
                }
            }
            if ready.take_socket() && self.source == Source::Nowhere {
                self.source = Source::Socket;
            }
            if let Poll::Ready(ended) = self.look_at_socket(&mut scratch.read, now) {
                return Poll::Ready(ended);
            }
            if !ready.is_one_noted() {
                break;
            }
        }
        Poll::Pending
    }

    fn look_at_stream(&mut self, place: Place, now: Instant) {
        // One that has ended meanwhile may still have been noted.
        let Some(Some(seat)) = self.seats.get_mut(place.0).map(Option::as_deref_mut) else { return };
        let outlet = &mut Outlet::new(&mut self.connection, place);
        let looked = match seat {
            Seat::Client { session, doorbell, waker } => {
                let woken = doorbell.take();
                session.poll(&mut Context::from_waker(waker), woken, now, outlet)
            }
            Seat::Task { carried, doorbell } => {
                doorbell.take();
                carried.carry(outlet)
            }
        };
        if looked.is_ready() {
            self.leave(place);
        }
    }

    /// A stream is done, or nobody wants it any more.
    fn leave(&mut self, place: Place) {
        if let Some(seat) = self.seats.get_mut(place.0) {
            *seat = None;
        }
        self.connection.forget(place);
        if self.connection.carried() == 0 {
            self.seats = Vec::new();
        }
    }

    /// Writes and reads as long as one makes room for the other, up to a bound.
    fn look_at_socket(&mut self, scratch: &mut Vec<u8>, now: Instant) -> Poll<io::Result<()>> {
        for _ in 0..ROUNDS_PER_LOOK {
            while let Some(place) = self.connection.next_in_line() {
                self.look_at_stream(place, now);
            }
            let is_written = self.write()?;
            if is_written && (self.stage == Stage::Ending || self.connection.is_done()) {
                return self.shut_down(scratch);
            }
            match self.read(scratch, now)? {
                Read::Something => {}
                // The socket took a whole buffer, and somebody waits for that.
                Read::Nothing if is_written && self.connection.has_turn() => {}
                Read::Nothing => return Poll::Pending,
                Read::End => return Poll::Ready(Ok(())),
            }
        }
        self.socket_waker.wake_by_ref();
        Poll::Pending
    }

    /// Ends the connection. What has come and was not read is read: a system that throws it away tells the other end in a
    /// way that may overtake what was said last.
    fn shut_down(&mut self, scratch: &mut Vec<u8>) -> Poll<io::Result<()>> {
        let context = &mut Context::from_waker(&self.socket_waker);
        let ended = Pin::new(&mut self.socket).poll_shutdown(context);
        scratch.resize(READ_BYTES, 0);
        for _ in 0..ROUNDS_PER_LOOK {
            let mut unread = ReadBuf::new(scratch);
            let read = Pin::new(&mut self.socket).poll_read(context, &mut unread);
            if !matches!(read, Poll::Ready(Ok(()))) || unread.filled().is_empty() {
                break;
            }
        }
        ended
    }

    /// Writes what the socket takes; whether that was all.
    fn write(&mut self) -> io::Result<bool> {
        let out = self.connection.out();
        let context = &mut Context::from_waker(&self.socket_waker);
        while !out.is_empty() {
            match Pin::new(&mut self.socket).poll_write(context, out) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(bytes)) if bytes == out.len() => out.clear(),
                Poll::Ready(Ok(bytes)) => drop(out.drain(..bytes)),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Reads once, unless so much is to be written that nothing is taken, and takes what was read.
    fn read(&mut self, scratch: &mut Vec<u8>, now: Instant) -> io::Result<Read> {
        if self.stage == Stage::Ending || self.connection.is_full() {
            return Ok(Read::Nothing);
        }
        if self.events_left == 0 {
            // The rest is for the next turn, after others have had theirs.
            self.socket_waker.wake_by_ref();
            return Ok(Read::Nothing);
        }
        match self.source {
            Source::Nowhere => return Ok(Read::Nothing),
            Source::Unread => {
                self.source = Source::Socket;
                self.take_unread(now);
                return Ok(Read::Something);
            }
            Source::Socket => {}
        }
        scratch.resize(READ_BYTES, 0);
        let mut buffer = ReadBuf::new(scratch);
        let context = &mut Context::from_waker(&self.socket_waker);
        match Pin::new(&mut self.socket).poll_read(context, &mut buffer) {
            Poll::Pending => {
                self.source = Source::Nowhere;
                return Ok(Read::Nothing);
            }
            Poll::Ready(read) => read?,
        }
        let came = buffer.filled();
        if came.is_empty() {
            return Ok(Read::End);
        }
        self.heard = true;
        if self.unread.is_empty() {
            let left = self.take(came, now);
            self.unread = left.to_vec();
        } else {
            self.unread.extend_from_slice(came);
            self.take_unread(now);
        }
        Ok(Read::Something)
    }

    fn take_unread(&mut self, now: Instant) {
        let unread = std::mem::take(&mut self.unread);
        let left = self.take(&unread, now);
        self.unread = if left.len() == unread.len() { unread } else { left.to_vec() };
    }

    /// Takes what came apart, and brings it to whom it concerns; what is left must be shown again.
    fn take<'a>(&mut self, mut came: &'a [u8], now: Instant) -> &'a [u8] {
        while self.events_left > 0 {
            match self.connection.next(&mut came) {
                Ok(Some(event)) => {
                    self.events_left -= 1;
                    self.bring(event, now);
                }
                Ok(None) => {
                    if self.connection.is_full() {
                        self.source = Source::Unread;
                    }
                    return came;
                }
                Err(fault) => {
                    self.fail(&fault);
                    return &[];
                }
            }
        }
        self.source = Source::Unread;
        came
    }

    fn bring(&mut self, event: Event<'_>, now: Instant) {
        match event {
            Event::Request { place, head, ends } => self.begin(place, *head, ends, now),
            Event::Data { place, bytes, ends } => self.bring_data(place, bytes, ends, now),
            Event::Trailers { place, trailers } => {
                if let Some(Some(seat)) = self.seats.get(place.0)
                    && let Seat::Task { carried, .. } = &**seat
                {
                    carried.bring_trailers(trailers);
                } else {
                    // What the client of a stream says there says nothing.
                    self.bring_data(place, &[], Ends::Here, now);
                }
            }
            Event::Reset { place } => self.leave(place),
        }
    }

    fn bring_data(&mut self, place: Place, bytes: &[u8], ends: Ends, now: Instant) {
        let Some(Some(seat)) = self.seats.get_mut(place.0).map(Option::as_deref_mut) else { return };
        match seat {
            Seat::Client { session, .. } => {
                let outlet = &mut Outlet::new(&mut self.connection, place);
                if session.hear(bytes, ends, now, outlet) == Wants::ALook {
                    self.look_at_stream(place, now);
                }
            }
            Seat::Task { carried, .. } => {
                let unread = carried.bring(bytes, ends);
                self.connection.release(place, unread);
            }
        }
    }

    fn begin(&mut self, place: Place, head: Parts, ends: Ends, now: Instant) {
        self.asked = true;
        let doorbell = Doorbell::new(&self.ready, Part::Stream(place.0));
        let waker = Waker::from(Arc::clone(&doorbell));
        let seat = if StreamService::is_for(&head) {
            let outlet = &mut Outlet::new(&mut self.connection, place);
            let ear = Arc::clone(&doorbell) as _;
            let Some(session) = self.services.streams.open(&head.headers, outlet, self.peer, ear) else {
                return self.connection.forget(place);
            };
            waker.wake_by_ref();
            Seat::Client { session, doorbell, waker }
        } else {
            let (carried, asked, answering) = exchange(waker, ends);
            tokio::spawn(answer::answer(head, asked, answering, self.services.clone(), self.peer));
            Seat::Task { carried, doorbell }
        };
        if self.seats.len() <= place.0 {
            self.seats.resize_with(place.0 + 1, || None);
        }
        if let Some(free) = self.seats.get_mut(place.0) {
            *free = Some(Box::new(seat));
        }
        if ends == Ends::Here {
            self.bring_data(place, &[], ends, now);
        }
    }

    /// Ends everything that is carried, and then the connection.
    fn fail(&mut self, fault: &Fault) {
        tracing::debug!(peer = %self.peer, %fault, "a connection is ended");
        self.connection.fail(fault);
        self.seats.clear();
        self.stage = Stage::Ending;
    }

    /// Ends the answers of which the client takes nothing; streams of clients do that themselves.
    fn leave_stuck(&mut self) {
        for place in 0..self.seats.len() {
            if let Some(Some(seat)) = self.seats.get_mut(place)
                && let Seat::Task { carried, .. } = &mut **seat
                && LOOK_INTERVAL.saturating_mul(carried.looks_without_progress()) >= limits::STUCK_MAX
            {
                tracing::debug!(peer = %self.peer, "a client takes nothing of its answer, which is ended");
                self.connection.reset(Place(place), Reason::Cancel);
                self.leave(Place(place));
            }
        }
    }

    fn look_at_clock(
        &mut self,
        closing: Pin<&mut impl Future<Output = ()>>,
        mut look: Pin<&mut Sleep>,
    ) -> Poll<()> {
        self.clock.take();
        let waker = self.clock_waker.clone();
        let mut context = Context::from_waker(&waker);
        if !self.is_closing && closing.poll(&mut context).is_ready() {
            self.is_closing = true;
            if self.stage == Stage::Open {
                self.connection.dismiss();
            }
        }
        while look.as_mut().poll(&mut context).is_ready() {
            look.as_mut().reset(Instant::now() + LOOK_INTERVAL);
            self.connection.forgive();
            self.leave_stuck();
            let seen = Seen {
                heard: std::mem::take(&mut self.heard),
                busy: self.connection.carried() > 0,
                new: !self.asked,
            };
            match self.pulse.look(seen) {
                Verdict::Ping if self.stage == Stage::Open => self.connection.ping(),
                Verdict::Dismiss if self.stage == Stage::Open => self.connection.dismiss(),
                Verdict::Fine | Verdict::Ping | Verdict::Dismiss => {}
                // What is on its way may then be asked again elsewhere.
                Verdict::Close if seen.new && self.stage == Stage::Open => self.fail(&NOTHING_ASKED),
                Verdict::Close => {
                    tracing::debug!(peer = %self.peer, ?seen, "a connection was closed");
                    return Poll::Ready(());
                }
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
