//! What is said: answers, as far as there is room for them, and what keeps the connection going.

use super::{
    Answer, Connection, Ends, Farewell, Fault, HeaderMap, INITIAL_WINDOW_SIZE, LEAVING,
    MAX_CONCURRENT_STREAMS, MAX_HEADER_LIST_SIZE, Place, Reason, StatusCode, THERE, WINDOW_AT_FIRST,
    WRITE_BYTES, Waits, frame, head, hpack, limits,
};

/// So much must be free again before the other end is told, in bytes.
const RELEASED_MIN: u32 = limits::WINDOW_BYTES / 2;
/// So many that have left may stand in line before they are looked for.
const LINE_SLACK: usize = 64;
/// Every number that a client's stream may have.
const ALL_STREAMS: u32 = 0x7fff_ffff;

impl Connection {
    /// What is to be written; whoever writes takes from its front.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Begins an answer.
    pub(crate) fn begin(&mut self, place: Place, status: StatusCode, headers: &HeaderMap, ends: Ends) {
        let mut block = Vec::with_capacity(64);
        head::write_answer(&mut block, status, headers);
        self.say_block(place, &[Answer::Due], &block, ends);
    }

    /// How much of an answer may be said now, in bytes. With none the stream stands in line for it.
    pub(crate) fn room(&mut self, place: Place) -> usize {
        let is_full = self.is_full() || self.window <= 0;
        let Some(stream) = self.streams.get(place) else { return 0 };
        if stream.window > 0 && !is_full {
            let window = usize::try_from(self.window.min(stream.window)).unwrap_or_default();
            return window.min(frame::PAYLOAD_MAX);
        }
        if stream.waits == Waits::InLine {
            return 0;
        }
        if stream.window <= 0 {
            stream.waits = Waits::Window;
            return 0;
        }
        stream.waits = Waits::InLine;
        let id = stream.id;
        self.prune_line();
        self.line.push_back((place, id));
        0
    }

    /// Those who have left the line are not looked for one by one.
    pub(super) fn prune_line(&mut self) {
        if self.line.len() > 2 * self.streams.len() + LINE_SLACK {
            let streams = &mut self.streams;
            self.line.retain(|(place, id)| streams.get(*place).is_some_and(|stream| stream.id == *id));
        }
    }

    /// Whether what needs no window may be said now. If not, the stream stands in line for it.
    pub(crate) fn may_say(&mut self, place: Place) -> bool {
        if !self.is_full() {
            return true;
        }
        if let Some(stream) = self.streams.get(place)
            && std::mem::replace(&mut stream.waits, Waits::InLine) != Waits::InLine
        {
            self.heads.push_back((place, stream.id));
        }
        false
    }

    /// The next stream that waited for room and may have some.
    pub(crate) fn next_in_line(&mut self) -> Option<Place> {
        while self.has_turn() {
            let next = self.heads.pop_front().or_else(|| self.line.pop_front());
            let (place, id) = next?;
            if let Some(stream) = self.streams.get(place)
                && stream.id == id
            {
                stream.waits = Waits::Nothing;
                return Some(place);
            }
        }
        None
    }

    /// Whether somebody in line may have room.
    pub(crate) fn has_turn(&self) -> bool {
        let is_waiting = !self.heads.is_empty() || (!self.line.is_empty() && self.window > 0);
        is_waiting && !self.is_full()
    }

    /// Says more of an answer: at most as much as there is room for.
    pub(crate) fn data(&mut self, place: Place, bytes: &[u8], ends: Ends) {
        let Some(stream) = self.streams.get(place) else { return };
        if !matches!(stream.answer, Answer::Begun | Answer::Said) {
            return;
        }
        if !bytes.is_empty() {
            stream.answer = Answer::Said;
        }
        let length = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        stream.window -= length;
        self.window -= length;
        let flags = match ends {
            Ends::Here => {
                stream.answer = Answer::Done;
                frame::END_STREAM
            }
            Ends::Later => 0,
        };
        frame::write(&mut self.out, frame::DATA, flags, stream.id, &[bytes]);
    }

    /// Ends an answer.
    pub(crate) fn trailers(&mut self, place: Place, trailers: &HeaderMap) {
        let mut block = Vec::with_capacity(64);
        head::write_trailers(&mut block, trailers);
        self.say_block(place, &[Answer::Begun, Answer::Said], &block, Ends::Here);
    }

    /// Ends a stream at once.
    pub(crate) fn reset(&mut self, place: Place, reason: Reason) {
        let Some(stream) = self.streams.get(place) else { return };
        stream.answer = Answer::Done;
        stream.is_asking = false;
        let id = stream.id;
        self.write_reset(id, reason);
    }

    /// Nobody here has anything more to do with a stream. What it leaves open is ended, and its place is free.
    pub(crate) fn forget(&mut self, place: Place) {
        let Some(stream) = self.streams.close(place) else { return };
        if self.streams.len() == 0 && self.line.capacity() + self.heads.capacity() > LINE_SLACK {
            (self.line, self.heads) = Default::default();
        }
        let unread = i64::from(limits::WINDOW_BYTES) - stream.allowed - i64::from(stream.released);
        self.release_all(usize::try_from(unread).unwrap_or_default());
        match (stream.answer, stream.is_asking) {
            (Answer::Done, false) => {}
            // The answer is whole; what else is asked is not wanted (RFC 9113, 8.1).
            (Answer::Done, true) => self.write_reset(stream.id, Reason::NoError),
            (Answer::Due | Answer::Begun | Answer::Said, _) => {
                self.write_reset(stream.id, Reason::InternalError);
            }
        }
    }

    /// What came of a request was dealt with, and as much may come anew.
    pub(crate) fn release(&mut self, place: Place, bytes: usize) {
        self.release_all(bytes);
        let Some(stream) = self.streams.get(place) else { return };
        stream.released = stream.released.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if stream.released >= RELEASED_MIN && stream.is_asking {
            let released = std::mem::take(&mut stream.released);
            stream.allowed += i64::from(released);
            let id = stream.id;
            self.write_window(id, released);
        }
    }

    /// Asks whether the other end is there.
    pub(crate) fn ping(&mut self) {
        frame::write(&mut self.out, frame::PING, 0, 0, &[&THERE]);
    }

    /// Tells the other end to go. What it asks until it knows that is still answered (RFC 9113, 6.8).
    pub(crate) fn dismiss(&mut self) {
        if self.farewell == Farewell::Unsaid {
            self.farewell = Farewell::Said;
            self.write_go_away(ALL_STREAMS, Reason::NoError, "");
            frame::write(&mut self.out, frame::PING, 0, 0, &[&LEAVING]);
        }
    }

    /// Says why the connection ends. Nothing is to be said after it.
    pub(crate) fn fail(&mut self, fault: &Fault) {
        self.write_go_away(self.streams.highest_taken, fault.reason, fault.what);
    }

    pub(super) fn greet(&mut self) {
        // What is said first; the tests read it.
        let settings = [
            (MAX_CONCURRENT_STREAMS, limits::STREAMS_PER_CONNECTION_MAX),
            (INITIAL_WINDOW_SIZE, limits::WINDOW_BYTES),
            (MAX_HEADER_LIST_SIZE, limits::HEADER_LIST_MAX_BYTES),
        ];
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend_from_slice(&name.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        frame::write(&mut self.out, frame::SETTINGS, 0, 0, &[&payload]);
        let more = i64::from(limits::WINDOW_BYTES) - WINDOW_AT_FIRST;
        self.write_window(0, u32::try_from(more).unwrap_or_default());
    }

    /// Whether so much is to be written that nothing else is taken.
    pub(crate) fn is_full(&self) -> bool {
        self.out.len() >= WRITE_BYTES
    }

    /// The other end knows that it was told to go.
    pub(super) fn leave(&mut self) {
        self.farewell = Farewell::Heard;
        self.write_go_away(self.streams.highest_taken, Reason::NoError, "");
    }

    /// What came was dealt with, or nobody wants it.
    pub(super) fn release_all(&mut self, bytes: usize) {
        self.released = self.released.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if self.released >= RELEASED_MIN {
            let released = std::mem::take(&mut self.released);
            self.allowed += i64::from(released);
            self.write_window(0, released);
        }
    }

    fn say_block(&mut self, place: Place, due: &[Answer], block: &[u8], ends: Ends) {
        let Some(stream) = self.streams.get(place) else { return };
        if !due.contains(&stream.answer) {
            return;
        }
        stream.answer = if ends == Ends::Here { Answer::Done } else { Answer::Begun };
        let id = stream.id;
        self.write_block(id, block, ends);
    }

    /// Writes headers into as many frames as they need.
    pub(super) fn write_block(&mut self, id: u32, fields: &[u8], ends: Ends) {
        let mut block = Vec::new();
        if std::mem::take(&mut self.forgets) {
            hpack::write_forgotten(&mut block);
        }
        block.extend_from_slice(fields);
        let mut parts = block.chunks(frame::PAYLOAD_MAX).peekable();
        let (mut kind, mut flags) = (frame::HEADERS, if ends == Ends::Here { frame::END_STREAM } else { 0 });
        loop {
            let part = parts.next().unwrap_or_default();
            let last = if parts.peek().is_none() { frame::END_HEADERS } else { 0 };
            frame::write(&mut self.out, kind, flags | last, id, &[part]);
            if last != 0 {
                return;
            }
            (kind, flags) = (frame::CONTINUATION, 0);
        }
    }

    pub(super) fn write_reset(&mut self, id: u32, reason: Reason) {
        self.told_gone = id;
        frame::write(&mut self.out, frame::RST_STREAM, 0, id, &[&reason.number().to_be_bytes()]);
    }

    fn write_window(&mut self, id: u32, more: u32) {
        frame::write(&mut self.out, frame::WINDOW_UPDATE, 0, id, &[&more.to_be_bytes()]);
    }

    fn write_go_away(&mut self, last: u32, reason: Reason, why: &str) {
        let [last, reason] = [last, reason.number()].map(u32::to_be_bytes);
        frame::write(&mut self.out, frame::GOAWAY, 0, 0, &[&last, &reason, why.as_bytes()]);
    }
}
