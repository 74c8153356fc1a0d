//! One stream of a connection, for whoever answers there.

use http::{HeaderMap, StatusCode};

use super::{Connection, Ends, Place, Reason};

/// A stream, borrowed together with its connection.
#[derive(Debug)]
pub(crate) struct Outlet<'a> {
    connection: &'a mut Connection,
    place: Place,
}

impl<'a> Outlet<'a> {
    /// The stream at a place.
    pub(crate) fn new(connection: &'a mut Connection, place: Place) -> Outlet<'a> {
        Outlet { connection, place }
    }

    /// Begins the answer.
    pub(crate) fn begin(&mut self, status: StatusCode, headers: &HeaderMap, ends: Ends) {
        self.connection.begin(self.place, status, headers, ends);
    }

    /// Whether its beginning or its end may be said now. If not, it is this stream's turn again when there is room.
    pub(crate) fn may_say(&mut self) -> bool {
        self.connection.may_say(self.place)
    }

    /// How many bytes of it may be said now. With none it is this stream's turn again when there is room.
    pub(crate) fn room(&mut self) -> usize {
        self.connection.room(self.place)
    }

    /// Says more of it: at most as much as there is room for.
    pub(crate) fn data(&mut self, bytes: &[u8], ends: Ends) {
        self.connection.data(self.place, bytes, ends);
    }

    /// Ends it.
    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) {
        self.connection.trailers(self.place, trailers);
    }

    /// Ends the stream at once.
    pub(crate) fn reset(&mut self, reason: Reason) {
        self.connection.reset(self.place, reason);
    }

    /// As much of the request was dealt with, and may come anew.
    pub(crate) fn release(&mut self, bytes: usize) {
        self.connection.release(self.place, bytes);
    }
}
