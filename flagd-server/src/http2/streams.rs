//! The streams of a connection and how much may be sent on each of them.

use std::collections::HashMap;

use slab::Slab;

/// Where a stream stands; given anew when it has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place(pub(crate) usize);

/// The largest window there is (RFC 9113, 6.9.1).
pub(super) const WINDOW_LIMIT: i64 = 0x7fff_ffff;

/// A connection that carries nothing keeps room for no more streams than this.
pub(super) const IDLE_PLACES_MAX: usize = 16;

/// How far an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing of it was said.
    Due,
    /// It was begun, and has no body so far.
    Begun,
    /// Some of its body was said.
    Said,
    /// All of it was said, or it is not wanted.
    Done,
}

/// What a stream waits for before it says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    Nothing,
    /// That its own window is opened.
    Window,
    /// Its turn.
    InLine,
}

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    /// What we may send, in bytes. Below zero after the other end has lowered what it allows.
    pub(super) window: i64,
    /// What the other end may send, in bytes.
    pub(super) allowed: i64,
    /// What it sent and may send anew as soon as that is worth a frame, in bytes.
    pub(super) released: u32,
    /// What a request says is still to come, in bytes.
    pub(super) announced: Option<u64>,
    /// Whether more of the request comes.
    pub(super) is_asking: bool,
    pub(super) answer: Answer,
    pub(super) waits: Waits,
}

/// What a number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// A stream that was not opened yet.
    Idle,
    /// One that is carried.
    Open(Place),
    /// One that has ended, of which something may still be on its way.
    Gone,
}

/// All streams that are carried.
#[derive(Debug, Default)]
pub(super) struct Streams {
    carried: Slab<Stream>,
    places: HashMap<u32, Place, foldhash::fast::RandomState>,
    /// The highest number that was used, and the highest that was not put aside.
    pub(super) highest: u32,
    pub(super) highest_taken: u32,
}

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.carried.len()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.carried.capacity() + self.places.capacity()
    }

    pub(super) fn open(&mut self, stream: Stream) -> Place {
        let id = stream.id;
        let place = Place(self.carried.insert(stream));
        self.places.insert(id, place);
        place
    }

    pub(super) fn close(&mut self, place: Place) -> Option<Stream> {
        let stream = self.carried.try_remove(place.0)?;
        self.places.remove(&stream.id);
        if self.carried.is_empty() && self.carried.capacity() > IDLE_PLACES_MAX {
            // A burst that is over is no reason to keep its room.
            (self.carried, self.places) = Default::default();
        }
        Some(stream)
    }

    pub(super) fn get(&mut self, place: Place) -> Option<&mut Stream> {
        self.carried.get_mut(place.0)
    }

    /// What a number stands for; those of a server's own streams stand for nothing.
    pub(super) fn known(&self, id: u32) -> Known {
        match self.places.get(&id) {
            Some(place) => Known::Open(*place),
            None if id > self.highest || id.is_multiple_of(2) => Known::Idle,
            None => Known::Gone,
        }
    }

    pub(super) fn all(&mut self) -> impl Iterator<Item = (Place, &mut Stream)> {
        self.carried.iter_mut().map(|(place, stream)| (Place(place), stream))
    }
}
