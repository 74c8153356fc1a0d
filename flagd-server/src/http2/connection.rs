//! One connection: what comes in is taken apart, what is said is put into frames.
//!
//! What the other end can make us do is bounded in four ways. It gets no more room than its windows and settings say.
//! What it asks for by itself (a ping, settings) is answered only as fast as it reads, because its owner writes before
//! it feeds more. What makes work for nothing (requests withdrawn before they were answered, broken streams, empty
//! frames) is counted, and ends the connection when it is too much in too short a time. And a request's headers are
//! never kept beyond their limit, however they are packed.

use std::collections::VecDeque;

use http::request::Parts;
use http::{HeaderMap, StatusCode};

use super::frame::{self, Frame};
use super::head::{self, Fields, Unfit};
use super::hpack::{self, Decoder};
use super::streams::{Answer, Known, Place, Stream, Streams, WINDOW_LIMIT, Waits};
use super::{Fault, Reason};
use crate::limits;

#[cfg(any(test, fuzzing))]
pub(super) mod any;
mod say;

/// What a client says first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The window of everything before anybody says otherwise, in bytes.
const WINDOW_AT_FIRST: i64 = 65_535;
/// Packed headers beyond this are not read, in bytes; those beyond the limit of headers are, and then answered.
const BLOCK_MAX_BYTES: usize = 4 * limits::HEADER_LIST_MAX_BYTES as usize;
/// So much is written at a time; streams wait while more than this is yet to be written, in bytes.
const WRITE_BYTES: usize = 64 * 1024;
/// Of the settings (RFC 9113, 6.5.2).
const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;
const TOO_LARGE: Fault = Fault::new(Reason::FlowControlError, "a window is too large");
/// The ping whose answer tells that the other end knows that it is to go.
const LEAVING: [u8; 8] = *b"leaving!";
/// The ping that asks whether it is there.
const THERE: [u8; 8] = *b"are you?";

/// What comes in.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// A request; `ends` tells whether that is all of it.
    Request {
        /// Where it stands from now on, until it is forgotten.
        place: Place,
        /// What it asks for.
        head: Box<Parts>,
        /// Whether more comes.
        ends: Ends,
    },
    /// More of a request. As many bytes are to be released once they are dealt with.
    Data {
        /// Which request.
        place: Place,
        /// What came.
        bytes: &'a [u8],
        /// Whether more comes.
        ends: Ends,
    },
    /// The end of a request, and what it says there.
    Trailers {
        /// Which request.
        place: Place,
        /// What it says.
        trailers: HeaderMap,
    },
    /// Nobody wants the answer any more, or it cannot be given.
    Reset {
        /// Which request; it is to be forgotten.
        place: Place,
    },
}

/// Whether something is the last of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// It is.
    Here,
    /// More follows.
    Later,
}

impl Ends {
    fn when(is_last: bool) -> Ends {
        if is_last { Ends::Here } else { Ends::Later }
    }
}

/// Headers of which more frames follow.
#[derive(Debug)]
struct Block {
    stream: u32,
    ends: Ends,
    bytes: Vec<u8>,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The preface is to come.
    New,
    /// Settings are to come.
    Greeted,
    /// Requests may come.
    Open,
}

/// Whether the other end was told to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Farewell {
    /// It was not.
    Unsaid,
    /// It was; what it asks until it knows that is answered.
    Said,
    /// It knows; what it asks from now on is not answered.
    Heard,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stage: Stage,
    farewell: Farewell,
    /// What is to be written.
    out: Vec<u8>,
    streams: Streams,
    decoder: Decoder,
    block: Option<Box<Block>>,
    /// Streams that wait for their turn to send, with their numbers: a place may be another's by then. Those in the
    /// first line need no window.
    heads: VecDeque<(Place, u32)>,
    line: VecDeque<(Place, u32)>,
    /// What we may send on all streams, in bytes.
    window: i64,
    /// What the other end may send on all streams, in bytes, and what of it is free again.
    allowed: i64,
    released: u32,
    /// The window that the other end gives to each stream, in bytes.
    window_of_stream: i64,
    /// Whether it wants to remember less headers than it could.
    forgets: bool,
    /// The last stream of which it was said that it has ended.
    told_gone: u32,
    nuisances: u32,
}

impl Connection {
    /// A connection to somebody who has said nothing yet.
    pub(crate) fn new() -> Connection {
        let mut connection = Connection {
            stage: Stage::New,
            farewell: Farewell::Unsaid,
            out: Vec::new(),
            streams: Streams::default(),
            decoder: Decoder::default(),
            block: None,
            heads: VecDeque::new(),
            line: VecDeque::new(),
            window: WINDOW_AT_FIRST,
            allowed: i64::from(limits::WINDOW_BYTES),
            released: 0,
            window_of_stream: WINDOW_AT_FIRST,
            forgets: false,
            told_gone: 0,
            nuisances: 0,
        };
        connection.greet();
        connection
    }

    /// What comes next in `bytes`, from which it is taken. `None` when more must come or what is to be written is to be
    /// written first; what is left of `bytes` is then to be shown again.
    pub(crate) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Event<'a>>, Fault> {
        if self.stage == Stage::New && !self.takes_preface(bytes)? {
            return Ok(None);
        }
        while !self.is_full()
            && let Some(frame) = frame::take(bytes)?
        {
            if let Some(event) = self.take(&frame)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Counts anew what makes work for nothing. Called once in a while.
    pub(crate) fn forgive(&mut self) {
        self.nuisances = 0;
    }

    /// How many requests are carried.
    pub(crate) fn carried(&self) -> usize {
        self.streams.len()
    }

    /// Whether the other end was told to go, knows it, and everything it asked before is done.
    pub(crate) fn is_done(&self) -> bool {
        self.farewell == Farewell::Heard && self.streams.len() == 0
    }

    fn takes_preface(&mut self, bytes: &mut &[u8]) -> Result<bool, Fault> {
        let length = PREFACE.len().min(bytes.len());
        if bytes.get(..length) != PREFACE.get(..length) {
            return Err(Fault::protocol("it does not begin as HTTP/2 does"));
        }
        let Some((_, behind)) = bytes.split_at_checked(PREFACE.len()) else { return Ok(false) };
        *bytes = behind;
        self.stage = Stage::Greeted;
        Ok(true)
    }

    fn take<'a>(&mut self, frame: &Frame<'a>) -> Result<Option<Event<'a>>, Fault> {
        if self.stage == Stage::Greeted && (frame.kind != frame::SETTINGS || frame.has(frame::ACK)) {
            return Err(Fault::protocol("it does not begin with settings"));
        }
        if self.block.is_some() != (frame.kind == frame::CONTINUATION) {
            return Err(Fault::protocol("headers and what continues them belong together"));
        }
        match frame.kind {
            frame::DATA => self.take_data(frame),
            frame::HEADERS => self.take_headers(frame),
            frame::CONTINUATION => self.take_continuation(frame),
            frame::PRIORITY => self.take_priority(frame),
            frame::RST_STREAM => self.take_reset(frame),
            frame::SETTINGS => self.take_settings(frame).map(|()| None),
            frame::PUSH_PROMISE => Err(Fault::protocol("a client does not push")),
            frame::PING => self.take_ping(frame).map(|()| None),
            frame::GOAWAY if frame.stream != 0 => Err(Fault::protocol("GOAWAY belongs to no stream")),
            frame::WINDOW_UPDATE => self.take_window(frame),
            // What is not known says nothing (RFC 9113, 5.5).
            _ => Ok(None),
        }
    }

    /// Something that makes work for nothing.
    fn nuisance(&mut self) -> Result<(), Fault> {
        self.nuisances += 1;
        if self.nuisances > limits::NUISANCES_MAX {
            return Err(Fault::new(Reason::EnhanceYourCalm, "it makes too much work for nothing"));
        }
        Ok(())
    }

    /// Ends a stream for what the other end did with it.
    fn break_off<'a>(&mut self, place: Place, reason: Reason) -> Result<Option<Event<'a>>, Fault> {
        self.nuisance()?;
        self.reset(place, reason);
        Ok(Some(Event::Reset { place }))
    }

    fn take_data<'a>(&mut self, frame: &Frame<'a>) -> Result<Option<Event<'a>>, Fault> {
        let bytes = frame.unpadded()?;
        // Everything counts, also what nobody wants any more; what is no data is free again at once.
        let length = i64::try_from(frame.payload.len()).unwrap_or(WINDOW_LIMIT);
        self.allowed -= length;
        if self.allowed < 0 {
            return Err(Fault::new(Reason::FlowControlError, "more data came than was allowed"));
        }
        let ends = Ends::when(frame.has(frame::END_STREAM));
        if bytes.is_empty() && ends == Ends::Later {
            self.nuisance()?;
        }
        let place = match self.streams.known(frame.stream) {
            Known::Idle => return Err(Fault::protocol("data came for a stream that was not opened")),
            Known::Gone => {
                self.release_all(frame.payload.len());
                self.tell_gone(frame.stream);
                return Ok(None);
            }
            Known::Open(place) => place,
        };
        let Some(stream) = self.streams.get(place) else { return Ok(None) };
        stream.allowed -= length;
        let (is_asking, is_within) = (stream.is_asking, stream.allowed >= 0);
        let is_announced = stream.takes_announced(bytes.len(), ends);
        stream.is_asking &= ends == Ends::Later;
        if is_asking && is_within && is_announced {
            self.release(place, frame.payload.len() - bytes.len());
            return Ok(Some(Event::Data { place, bytes, ends }));
        }
        // What came is given back when the stream is forgotten.
        let reason = match (is_asking, is_within) {
            (false, _) => Reason::StreamClosed,
            (true, false) => Reason::FlowControlError,
            (true, true) => Reason::ProtocolError,
        };
        self.break_off(place, reason)
    }

    fn take_headers<'a>(&mut self, frame: &Frame<'a>) -> Result<Option<Event<'a>>, Fault> {
        if frame.stream.is_multiple_of(2) {
            return Err(Fault::protocol("headers came for a stream that no client opens"));
        }
        let (bytes, ends) = (frame.block()?, Ends::when(frame.has(frame::END_STREAM)));
        if frame.has(frame::END_HEADERS) {
            return self.take_block(frame.stream, ends, bytes);
        }
        self.block = Some(Box::new(Block { stream: frame.stream, ends, bytes: bytes.to_vec() }));
        Ok(None)
    }

    fn take_continuation<'a>(&mut self, frame: &Frame<'a>) -> Result<Option<Event<'a>>, Fault> {
        // What fits into the headers' limit needs none.
        self.nuisance()?;
        let Some(mut block) = self.block.take() else { return Ok(None) };
        if frame.stream != block.stream {
            return Err(Fault::protocol("headers are continued on another stream"));
        }
        if block.bytes.len() + frame.payload.len() > BLOCK_MAX_BYTES {
            return Err(Fault::new(Reason::EnhanceYourCalm, "headers are too long"));
        }
        block.bytes.extend_from_slice(frame.payload);
        if frame.has(frame::END_HEADERS) {
            return self.take_block(block.stream, block.ends, &block.bytes);
        }
        self.block = Some(block);
        Ok(None)
    }

    /// Headers that have come whole. They are read in any case: those after them depend on it.
    fn take_block<'a>(&mut self, id: u32, ends: Ends, block: &[u8]) -> Result<Option<Event<'a>>, Fault> {
        let mut fields = Fields::default();
        self.decoder.decode(block, |name, value| fields.take(name, value))?;
        match self.streams.known(id) {
            Known::Idle => self.take_request(id, ends, fields),
            Known::Open(place) => self.take_trailers(place, ends, fields),
            Known::Gone => {
                self.tell_gone(id);
                self.nuisance().map(|()| None)
            }
        }
    }

    /// Something came on a stream that has ended: on its way when it did, or by mistake. Once is enough to say so.
    fn tell_gone(&mut self, id: u32) {
        if self.told_gone != id {
            self.write_reset(id, Reason::StreamClosed);
        }
    }

    fn take_request<'a>(&mut self, id: u32, ends: Ends, fields: Fields) -> Result<Option<Event<'a>>, Fault> {
        self.streams.highest = id;
        if self.farewell == Farewell::Heard {
            return Ok(None);
        }
        self.streams.highest_taken = id;
        if self.streams.len() >= limits::STREAMS_PER_CONNECTION_MAX as usize {
            self.nuisance()?;
            self.write_reset(id, Reason::RefusedStream);
            return Ok(None);
        }
        let head = fields.request().and_then(|head| Ok((head::content_length(&head.headers)?, head)));
        let (announced, head) = match head {
            Ok(head) => head,
            Err(unfit) => {
                self.nuisance()?;
                self.refuse(id, unfit);
                return Ok(None);
            }
        };
        let mut stream = Stream {
            id,
            window: self.window_of_stream,
            allowed: i64::from(limits::WINDOW_BYTES),
            released: 0,
            announced,
            is_asking: ends == Ends::Later,
            answer: Answer::Due,
            waits: Waits::Nothing,
        };
        if !stream.takes_announced(0, ends) {
            self.nuisance()?;
            self.refuse(id, Unfit::Malformed);
            return Ok(None);
        }
        let place = self.streams.open(stream);
        Ok(Some(Event::Request { place, head: Box::new(head), ends }))
    }

    /// Says no to a request of which nobody here will know.
    fn refuse(&mut self, id: u32, unfit: Unfit) {
        if unfit == Unfit::Malformed {
            return self.write_reset(id, Reason::ProtocolError);
        }
        let mut block = Vec::new();
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        head::write_answer(&mut block, status, &HeaderMap::new());
        self.write_block(id, &block, Ends::Here);
        self.write_reset(id, Reason::NoError);
    }

    fn take_trailers<'a>(
        &mut self,
        place: Place,
        ends: Ends,
        fields: Fields,
    ) -> Result<Option<Event<'a>>, Fault> {
        let Some(stream) = self.streams.get(place) else { return Ok(None) };
        let is_asking = std::mem::replace(&mut stream.is_asking, false);
        let is_announced = stream.takes_announced(0, ends);
        match fields.trailers() {
            _ if !is_asking => self.break_off(place, Reason::StreamClosed),
            Ok(trailers) if ends == Ends::Here && is_announced => {
                Ok(Some(Event::Trailers { place, trailers }))
            }
            Ok(_) | Err(_) => self.break_off(place, Reason::ProtocolError),
        }
    }

    fn take_priority<'a>(&mut self, frame: &Frame<'a>) -> Result<Option<Event<'a>>, Fault> {
        // It is deprecated and means nothing; but some say it.
        self.nuisance()?;
        if frame.stream == 0 {
            return Err(Fault::protocol("a priority belongs to a stream"));
        }
        if frame.payload.len() != frame::PRIORITY_BYTES {
            return Err(Fault::new(Reason::FrameSizeError, "a priority is not five bytes long"));
        }
        Ok(None)
    }

    fn take_reset<'a>(&mut self, frame: &Frame<'a>) -> Result<Option<Event<'a>>, Fault> {
        frame.number()?;
        match self.streams.known(frame.stream) {
            Known::Idle => Err(Fault::protocol("a stream is ended that was not opened")),
            // Some end in this way what has ended already.
            Known::Gone => Ok(None),
            Known::Open(place) => {
                let Some(stream) = self.streams.get(place) else { return Ok(None) };
                stream.is_asking = false;
                let answer = std::mem::replace(&mut stream.answer, Answer::Done);
                if matches!(answer, Answer::Due | Answer::Begun) {
                    // Begun for nothing (CVE-2023-44487).
                    self.nuisance()?;
                }
                Ok(Some(Event::Reset { place }))
            }
        }
    }

    fn take_settings(&mut self, frame: &Frame<'_>) -> Result<(), Fault> {
        const LENGTH: Fault = Fault::new(Reason::FrameSizeError, "settings have the wrong length");
        if frame.stream != 0 {
            return Err(Fault::protocol("settings belong to no stream"));
        }
        if frame.has(frame::ACK) {
            return if frame.payload.is_empty() { Ok(()) } else { Err(LENGTH) };
        }
        let (settings, rest) = frame.payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(LENGTH);
        }
        if self.stage == Stage::Greeted {
            self.stage = Stage::Open;
        } else {
            // Each of them looks at every stream.
            self.nuisance()?;
        }
        let mut window = None;
        for [a, b, value @ ..] in settings {
            let value = u32::from_be_bytes(*value);
            match u16::from_be_bytes([*a, *b]) {
                INITIAL_WINDOW_SIZE if i64::from(value) > WINDOW_LIMIT => return Err(TOO_LARGE),
                INITIAL_WINDOW_SIZE => window = Some(i64::from(value)),
                name => self.take_setting(name, value)?,
            }
        }
        // The last one counts: each looks at all streams.
        if let Some(window) = window {
            self.take_window_of_streams(window)?;
        }
        frame::write(&mut self.out, frame::SETTINGS, frame::ACK, 0, &[]);
        Ok(())
    }

    fn take_setting(&mut self, name: u16, value: u32) -> Result<(), Fault> {
        match name {
            HEADER_TABLE_SIZE => self.forgets = true,
            ENABLE_PUSH if value > 1 => return Err(Fault::protocol("pushes are wanted or not")),
            MAX_FRAME_SIZE => {
                let is_allowed =
                    (frame::PAYLOAD_MAX..=frame::PAYLOAD_LIMIT as usize).contains(&(value as usize));
                if !is_allowed {
                    return Err(Fault::protocol("frames cannot have this size"));
                }
                // Longer ones would keep others waiting.
            }
            // Nothing is pushed, and no answer has many headers.
            _ => {}
        }
        Ok(())
    }

    fn take_window_of_streams(&mut self, window: i64) -> Result<(), Fault> {
        self.prune_line();
        let more = window - std::mem::replace(&mut self.window_of_stream, window);
        for (place, stream) in self.streams.all() {
            stream.window += more;
            if stream.window > WINDOW_LIMIT {
                return Err(TOO_LARGE);
            }
            if stream.may_go_on() {
                self.line.push_back((place, stream.id));
            }
        }
        Ok(())
    }

    fn take_ping(&mut self, frame: &Frame<'_>) -> Result<(), Fault> {
        if frame.stream != 0 {
            return Err(Fault::protocol("a ping belongs to no stream"));
        }
        if frame.payload.len() != THERE.len() {
            return Err(Fault::new(Reason::FrameSizeError, "a ping is not eight bytes long"));
        }
        if !frame.has(frame::ACK) {
            frame::write(&mut self.out, frame::PING, frame::ACK, 0, &[frame.payload]);
        } else if frame.payload == LEAVING && self.farewell == Farewell::Said {
            self.leave();
        }
        Ok(())
    }

    fn take_window<'a>(&mut self, frame: &Frame<'a>) -> Result<Option<Event<'a>>, Fault> {
        let more = i64::from(frame.number()? & 0x7fff_ffff);
        if frame.stream == 0 {
            self.window += more;
            return match (more, self.window) {
                (0, _) => Err(Fault::protocol("a window is opened by nothing")),
                (_, ..=WINDOW_LIMIT) => Ok(None),
                _ => Err(TOO_LARGE),
            };
        }
        self.prune_line();
        let place = match self.streams.known(frame.stream) {
            Known::Idle => return Err(Fault::protocol("the window of a stream is opened that was not")),
            Known::Gone => return Ok(None),
            Known::Open(place) => place,
        };
        let Some(stream) = self.streams.get(place) else { return Ok(None) };
        stream.window += more;
        match (more, stream.window) {
            (0, _) => self.break_off(place, Reason::ProtocolError),
            (_, ..=WINDOW_LIMIT) => {
                if stream.may_go_on() {
                    self.line.push_back((place, stream.id));
                }
                Ok(None)
            }
            _ => self.break_off(place, Reason::FlowControlError),
        }
    }
}

impl Stream {
    /// Counts what came of what the request announced. Whether it can be true.
    fn takes_announced(&mut self, bytes: usize, ends: Ends) -> bool {
        let Some(announced) = &mut self.announced else { return true };
        let left = u64::try_from(bytes).ok().and_then(|bytes| announced.checked_sub(bytes));
        *announced = left.unwrap_or_default();
        left.is_some_and(|left| ends == Ends::Later || left == 0)
    }

    /// Whether it waited for its window, and may send now. It stands in line then.
    fn may_go_on(&mut self) -> bool {
        let may = self.window > 0 && self.waits == Waits::Window;
        if may {
            self.waits = Waits::InLine;
        }
        may
    }
}

#[cfg(test)]
mod tests;
