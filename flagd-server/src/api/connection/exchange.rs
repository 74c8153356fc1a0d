//! A request that a task of its own answers, and what that task and the request's connection hand each other.
//!
//! The connection brings what the client says and carries away what is answered, as far as the client takes it. Each side
//! wakes the other. Both may go at any time: a client that gives up ends the task's work, and a task that ends without
//! having answered is told to the client.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use thiserror::Error;

use crate::http2::{Ends, Outlet, Reason};
use crate::limits;

/// What is on its way between a task and its connection.
struct Exchange {
    shared: Mutex<Shared>,
    connection: Waker,
}

#[derive(Default)]
struct Shared {
    asked: BytesMut,
    trailers: Option<HeaderMap>,
    has_asked_all: bool,
    /// Whether the rest of the request is of no use.
    is_unread: bool,
    /// What was read and may come anew, in bytes.
    read_bytes: usize,
    reader: Option<Waker>,
    said: VecDeque<Said>,
    said_bytes: usize,
    /// How often something was carried away.
    carried: u64,
    writer: Option<Waker>,
    /// Whether the client or its connection has gone.
    is_gone: bool,
}

/// A part of an answer.
enum Said {
    Head(StatusCode, HeaderMap, Ends),
    Data(Bytes, Ends),
    Trailers(HeaderMap),
    BrokenOff,
}

impl Shared {
    /// Whether so much was answered and not carried away that no more may be.
    fn is_full(&self) -> bool {
        self.said_bytes >= limits::SEND_BUFFER_BYTES
    }

    /// Whether the next part may be carried away. If there is one and it may not, it stands in line: what has a body with
    /// those who need a window, so that it does not overtake them again and again.
    fn may_carry(&self, outlet: &mut Outlet<'_>) -> bool {
        match self.said.front() {
            None => false,
            Some(Said::Data(data, _)) if !data.is_empty() => outlet.room() > 0,
            Some(_) => outlet.may_say(),
        }
    }
}

impl Exchange {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The client has gone.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the client has gone")]
pub(super) struct Gone;

/// The connection's side. Dropped when the client has gone.
pub(super) struct Carried {
    exchange: Arc<Exchange>,
    /// How often something had been carried away when that was asked last.
    seen: u64,
    looks_without_progress: u32,
}

/// The request's body, for the task.
pub(super) struct Asked(Arc<Exchange>);

/// The answer, for the task. Dropped before it is whole, it is broken off.
pub(super) struct Answering {
    exchange: Arc<Exchange>,
    is_whole: bool,
}

/// The three ends of a new exchange. `connection` is woken when there is something to carry.
pub(super) fn exchange(connection: Waker, ends: Ends) -> (Carried, Asked, Answering) {
    let shared = Mutex::new(Shared { has_asked_all: ends == Ends::Here, ..Shared::default() });
    let exchange = Arc::new(Exchange { shared, connection });
    let answering = Answering { exchange: Arc::clone(&exchange), is_whole: false };
    let asked = Asked(Arc::clone(&exchange));
    (Carried { exchange, seen: 0, looks_without_progress: 0 }, asked, answering)
}

impl Carried {
    /// Brings more of the request. Returns how many bytes of it nobody wants.
    pub(super) fn bring(&self, bytes: &[u8], ends: Ends) -> usize {
        let mut shared = self.exchange.shared();
        let is_unread = shared.is_unread;
        if !is_unread {
            shared.asked.extend_from_slice(bytes);
        }
        shared.has_asked_all |= ends == Ends::Here;
        wake(shared, |shared| &mut shared.reader);
        if is_unread { bytes.len() } else { 0 }
    }

    /// How often it was asked since anything was carried away that was to be.
    pub(super) fn looks_without_progress(&mut self) -> u32 {
        let shared = self.exchange.shared();
        let before = std::mem::replace(&mut self.seen, shared.carried);
        let has_progress = before != shared.carried || shared.said.is_empty();
        self.looks_without_progress = if has_progress { 0 } else { self.looks_without_progress + 1 };
        self.looks_without_progress
    }

    /// Brings what the client says at the end.
    pub(super) fn bring_trailers(&self, trailers: HeaderMap) {
        let mut shared = self.exchange.shared();
        shared.trailers = Some(trailers);
        shared.has_asked_all = true;
        wake(shared, |shared| &mut shared.reader);
    }

    /// Carries away what was answered, as far as there is room. Ready when it was all.
    pub(super) fn carry(&self, outlet: &mut Outlet<'_>) -> Poll<()> {
        let mut shared = self.exchange.shared();
        outlet.release(std::mem::take(&mut shared.read_bytes));
        let (was_full, parts, bytes) = (shared.is_full(), shared.said.len(), shared.said_bytes);
        let mut ends = Ends::Later;
        while ends == Ends::Later
            && shared.may_carry(outlet)
            && let Some(said) = shared.said.pop_front()
        {
            match said {
                Said::Head(status, headers, last) => {
                    outlet.begin(status, &headers, last);
                    ends = last;
                }
                Said::Data(mut data, last) => {
                    let room = if data.is_empty() { 0 } else { outlet.room() };
                    let now = data.split_to(data.len().min(room));
                    shared.said_bytes -= now.len();
                    ends = if data.is_empty() { last } else { Ends::Later };
                    outlet.data(&now, ends);
                    if !data.is_empty() {
                        shared.said.push_front(Said::Data(data, last));
                    }
                }
                Said::Trailers(trailers) => {
                    outlet.trailers(&trailers);
                    ends = Ends::Here;
                }
                Said::BrokenOff => {
                    outlet.reset(Reason::InternalError);
                    ends = Ends::Here;
                }
            }
        }
        shared.carried += u64::from((parts, bytes) != (shared.said.len(), shared.said_bytes));
        if was_full && !shared.is_full() {
            wake(shared, |shared| &mut shared.writer);
        }
        if ends == Ends::Here { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        let mut shared = self.exchange.shared();
        shared.is_gone = true;
        let (reader, writer) = (shared.reader.take(), shared.writer.take());
        drop(shared);
        reader.into_iter().chain(writer).for_each(Waker::wake);
    }
}

fn wake(mut shared: MutexGuard<'_, Shared>, sleeper: impl Fn(&mut Shared) -> &mut Option<Waker>) {
    let sleeper = sleeper(&mut shared).take();
    drop(shared);
    if let Some(sleeper) = sleeper {
        sleeper.wake();
    }
}

impl http_body::Body for Asked {
    type Data = Bytes;
    type Error = Gone;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Gone>>> {
        let mut shared = self.0.shared();
        if !shared.asked.is_empty() {
            let data = std::mem::take(&mut shared.asked).freeze();
            shared.read_bytes += data.len();
            drop(shared);
            self.0.connection.wake_by_ref();
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let Some(trailers) = shared.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        if shared.has_asked_all {
            return Poll::Ready(None);
        }
        if shared.is_gone {
            return Poll::Ready(Some(Err(Gone)));
        }
        shared.reader = Some(context.waker().clone());
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        let shared = self.0.shared();
        shared.has_asked_all && shared.asked.is_empty() && shared.trailers.is_none()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut shared = self.0.shared();
        shared.is_unread = true;
        let unread = std::mem::take(&mut shared.asked).len();
        shared.read_bytes += unread;
        drop(shared);
        if unread > 0 {
            self.0.connection.wake_by_ref();
        }
    }
}

impl Answering {
    /// Begins the answer.
    pub(super) fn head(&mut self, status: StatusCode, headers: HeaderMap, ends: Ends) {
        self.say(Said::Head(status, headers, ends), ends, 0);
    }

    /// Ready with whether the client is still there, as soon as it takes more.
    pub(super) fn poll_room(&self, context: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        self.poll(context, |shared| !shared.is_full())
    }

    /// Ready when the client has gone.
    pub(super) fn poll_gone(&self, context: &mut Context<'_>) -> Poll<Gone> {
        match self.poll(context, |_| false) {
            Poll::Ready(Err(gone)) => Poll::Ready(gone),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }

    /// More of the answer.
    pub(super) fn data(&mut self, data: Bytes, ends: Ends) {
        let bytes = data.len();
        if bytes > 0 || ends == Ends::Here {
            self.say(Said::Data(data, ends), ends, bytes);
        }
    }

    /// The end of the answer.
    pub(super) fn trailers(&mut self, trailers: HeaderMap) {
        self.say(Said::Trailers(trailers), Ends::Here, 0);
    }

    fn poll(&self, context: &mut Context<'_>, is_ready: impl Fn(&Shared) -> bool) -> Poll<Result<(), Gone>> {
        let mut shared = self.exchange.shared();
        if shared.is_gone {
            return Poll::Ready(Err(Gone));
        }
        if is_ready(&shared) {
            return Poll::Ready(Ok(()));
        }
        shared.writer = Some(context.waker().clone());
        Poll::Pending
    }

    fn say(&mut self, said: Said, ends: Ends, bytes: usize) {
        self.is_whole = ends == Ends::Here;
        let mut shared = self.exchange.shared();
        shared.said.push_back(said);
        shared.said_bytes += bytes;
        drop(shared);
        self.exchange.connection.wake_by_ref();
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if !self.is_whole {
            self.say(Said::BrokenOff, Ends::Here, 0);
        }
    }
}
