//! Any bytes in the place of a client: what `scripts/fuzz` and the tests hold the connection to.

use super::{
    BLOCK_MAX_BYTES, Connection, Ends, Event, Fault, HeaderMap, PREFACE, Place, StatusCode, WRITE_BYTES,
    Waits, frame, limits,
};

/// Answers whatever these bytes ask after a greeting, a piece of each answer at a time.
///
/// # Panics
///
/// When the connection loses count of its windows, or keeps more than it may.
pub(crate) fn any_bytes(bytes: &[u8]) {
    let mut connection = Connection::new();
    let mut greeting = PREFACE.to_vec();
    frame::write(&mut greeting, frame::SETTINGS, 0, 0, &[]);
    assert!(answer(&mut connection, &greeting).is_ok(), "the greeting is refused");
    // What ends the connection ends the test.
    if answer(&mut connection, bytes).is_ok() {
        connection.hold_together();
    }
}

fn answer(connection: &mut Connection, mut bytes: &[u8]) -> Result<(), Fault> {
    loop {
        let event = connection.next(&mut bytes)?;
        let has_come = event.is_some();
        match event {
            Some(Event::Request { place, ends, .. }) => {
                connection.begin(place, StatusCode::OK, &HeaderMap::new(), Ends::Later);
                if ends == Ends::Here {
                    say(connection, place);
                }
            }
            Some(Event::Data { place, bytes, ends }) => {
                connection.release(place, bytes.len() / 2);
                if ends == Ends::Here {
                    say(connection, place);
                }
            }
            Some(Event::Trailers { place, .. } | Event::Reset { place }) => connection.forget(place),
            None => {}
        }
        connection.hold_together();
        let is_full = connection.is_full();
        connection.out().clear();
        while let Some(place) = connection.next_in_line() {
            say(connection, place);
        }
        if !has_come && !is_full {
            return Ok(());
        }
    }
}

fn say(connection: &mut Connection, place: Place) {
    let some = [0; 1_000];
    if let Some(some) = some.get(..connection.room(place).min(some.len())) {
        connection.data(place, some, Ends::Later);
    }
}

impl Connection {
    /// What is always true.
    pub(super) fn hold_together(&mut self) {
        let most = i64::from(limits::WINDOW_BYTES);
        let unread: i64 =
            self.streams.all().map(|(_, stream)| most - stream.allowed - i64::from(stream.released)).sum();
        assert_eq!(most - self.allowed - i64::from(self.released), unread, "a window is lost");
        assert!(self.out.len() < 2 * WRITE_BYTES, "more is written than may be");
        assert!(self.block.as_ref().is_none_or(|block| block.bytes.len() <= BLOCK_MAX_BYTES));
        let lines = self.heads.iter().chain(&self.line).copied().collect::<Vec<_>>();
        assert!(lines.len() <= 2 * self.streams.len() + 200, "{} stand in line", lines.len());
        for (place, stream) in self.streams.all() {
            let times = lines.iter().filter(|waits| **waits == (place, stream.id)).count();
            assert_eq!(times, usize::from(stream.waits == Waits::InLine), "in line, and how often");
            assert!(stream.waits != Waits::Window || stream.window <= 0, "it waits outside the line");
        }
    }
}
