//! A connection fed with frames that are written by hand.

use proptest::prelude::{Strategy, any, proptest};

use super::any::any_bytes;
use super::*;

/// What is sent, and what comes of it.
type Row<'a, T> = (&'a str, Vec<Vec<u8>>, T);
/// What is sent first, and then again and again.
type Flood<'a> = (&'a str, Vec<u8>, &'a dyn Fn(u32) -> Vec<u8>);

const REQUEST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":authority", "test"), (":path", "/")];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write(&mut out, kind, flags, stream, &[payload]);
    out
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        hpack::write_field(&mut block, name, value.as_bytes());
    }
    block
}

fn request(stream: u32) -> Vec<u8> {
    frame(frame::HEADERS, frame::END_HEADERS, stream, &block(&REQUEST))
}

fn whole_request(stream: u32) -> Vec<u8> {
    frame(frame::HEADERS, frame::END_HEADERS | frame::END_STREAM, stream, &block(&REQUEST))
}

fn data(stream: u32, bytes: &[u8]) -> Vec<u8> {
    frame(frame::DATA, 0, stream, bytes)
}

fn reset(stream: u32) -> Vec<u8> {
    frame(frame::RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

fn window(stream: u32, more: u32) -> Vec<u8> {
    frame(frame::WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = settings
        .iter()
        .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(frame::SETTINGS, 0, 0, &payload)
}

/// A connection that was greeted and has said its own greeting.
fn open() -> Connection {
    let mut connection = Connection::new();
    let greeting = [PREFACE, &settings(&[])].concat();
    assert!(feed(&mut connection, &greeting).unwrap().is_empty());
    connection.out().clear();
    connection
}

/// What comes of these bytes, in words.
fn feed(connection: &mut Connection, mut bytes: &[u8]) -> Result<Vec<String>, Reason> {
    let mut events = Vec::new();
    while let Some(event) = connection.next(&mut bytes).map_err(|fault| fault.reason)? {
        events.push(match event {
            Event::Request { place, head, ends } => {
                format!("{} {} {} {ends:?}", place.0, head.method, head.uri.path())
            }
            Event::Data { place, bytes, ends } => format!("{} {} bytes {ends:?}", place.0, bytes.len()),
            Event::Trailers { place, trailers } => format!("{} {} trailers", place.0, trailers.len()),
            Event::Reset { place } => format!("{} reset", place.0),
        });
    }
    assert!(bytes.is_empty() || connection.is_full(), "{} bytes are left", bytes.len());
    Ok(events)
}

/// What was said since the last call, in words.
fn said(connection: &mut Connection) -> Vec<String> {
    let out = std::mem::take(connection.out());
    let (mut bytes, mut said) = (&out[..], Vec::new());
    while let Some(frame) = frame::take(&mut bytes).unwrap() {
        let name = match frame.kind {
            frame::DATA => format!("DATA of {}", frame.payload.len()),
            frame::HEADERS => "HEADERS".to_owned(),
            frame::CONTINUATION => "CONTINUATION".to_owned(),
            frame::RST_STREAM => format!("RST_STREAM {}", frame.number().unwrap()),
            frame::SETTINGS => "SETTINGS".to_owned(),
            frame::PING => "PING".to_owned(),
            frame::GOAWAY => {
                let number = |at: usize| u32::from_be_bytes(frame.payload[at..at + 4].try_into().unwrap());
                format!("GOAWAY {} {}", number(0), number(4))
            }
            frame::WINDOW_UPDATE => format!("WINDOW_UPDATE {}", frame.number().unwrap()),
            other => panic!("frame {other}"),
        };
        let flags = if frame.flags == 0 { String::new() } else { format!(" {:#x}", frame.flags) };
        said.push(format!("{} {name}{flags}", frame.stream));
    }
    assert!(bytes.is_empty());
    said
}

fn begin(connection: &mut Connection, place: Place) {
    connection.begin(place, StatusCode::OK, &HeaderMap::new(), Ends::Later);
}

#[test]
fn a_request_is_asked_in_parts_and_answered_in_parts() {
    let mut connection = Connection::new();
    assert_eq!(said(&mut connection), ["0 SETTINGS", "0 WINDOW_UPDATE 983041"]);
    let asked = [
        PREFACE.to_vec(),
        settings(&[]),
        window(0, 10),
        request(1),
        data(1, b"abc"),
        frame(frame::HEADERS, frame::END_HEADERS | frame::END_STREAM, 1, &block(&[("x", "y")])),
    ]
    .concat();
    // However it is cut.
    let mut events = Vec::new();
    let mut kept: Vec<u8> = Vec::new();
    for byte in asked {
        kept.push(byte);
        let mut bytes = &kept[..];
        let before = bytes.len();
        while let Some(event) = connection.next(&mut bytes).unwrap() {
            events.push(format!("{event:?}").split([' ', '{']).next().unwrap().to_owned());
        }
        let taken = before - bytes.len();
        kept.drain(..taken);
    }
    assert_eq!(events, ["Request", "Data", "Trailers"]);
    assert_eq!(said(&mut connection), ["0 SETTINGS 0x1"]);
    let place = Place(0);
    connection.release(place, 3);
    begin(&mut connection, place);
    assert_eq!(connection.room(place), frame::PAYLOAD_MAX);
    connection.data(place, b"abc", Ends::Later);
    connection.trailers(place, &HeaderMap::new());
    connection.data(place, b"too late", Ends::Later);
    connection.forget(place);
    assert_eq!(said(&mut connection), ["1 HEADERS 0x4", "1 DATA of 3", "1 HEADERS 0x5"]);
    assert_eq!(connection.carried(), 0);
}

#[test]
fn what_breaks_the_protocol_ends_the_connection() {
    use Reason::{CompressionError, EnhanceYourCalm, FlowControlError, FrameSizeError, ProtocolError};
    let large = settings(&[(INITIAL_WINDOW_SIZE, 0x8000_0000)]);
    let unfinished = frame(frame::HEADERS, 0, 1, &block(&REQUEST));
    let continued = |stream, bytes| frame(frame::CONTINUATION, 0, stream, bytes);
    let rows: &[Row<'_, Reason>] = &[
        ("data of stream 0", vec![data(0, b"x")], ProtocolError),
        ("data of an idle stream", vec![data(1, b"x")], ProtocolError),
        ("headers of stream 0", vec![request(0)], ProtocolError),
        ("headers of a server's stream", vec![request(2)], ProtocolError),
        ("padding longer than its frame", vec![request(1), frame(0, 8, 1, &[7, 0])], ProtocolError),
        ("headers in no code", vec![frame(1, 4, 1, &[0x80])], CompressionError),
        ("priority of stream 0", vec![frame(frame::PRIORITY, 0, 0, &[0; 5])], ProtocolError),
        ("a priority of four bytes", vec![frame(frame::PRIORITY, 0, 1, &[0; 4])], FrameSizeError),
        ("the end of an idle stream", vec![reset(1)], ProtocolError),
        ("an end of three bytes", vec![request(1), frame(3, 0, 1, &[0; 3])], FrameSizeError),
        ("settings of a stream", vec![frame(frame::SETTINGS, 0, 1, &[])], ProtocolError),
        ("settings of seven bytes", vec![frame(frame::SETTINGS, 0, 0, &[0; 7])], FrameSizeError),
        ("settings taken, with settings", vec![frame(frame::SETTINGS, 1, 0, &[0; 6])], FrameSizeError),
        ("neither pushes nor none", vec![settings(&[(ENABLE_PUSH, 2)])], ProtocolError),
        ("too large a window for streams", vec![large], FlowControlError),
        ("too small frames", vec![settings(&[(MAX_FRAME_SIZE, 16_383)])], ProtocolError),
        ("too large frames", vec![settings(&[(MAX_FRAME_SIZE, 1 << 24)])], ProtocolError),
        ("a push", vec![frame(frame::PUSH_PROMISE, 0, 1, &[0; 4])], ProtocolError),
        ("a ping of a stream", vec![frame(frame::PING, 0, 1, &[0; 8])], ProtocolError),
        ("a ping of seven bytes", vec![frame(frame::PING, 0, 0, &[0; 7])], FrameSizeError),
        ("a farewell of a stream", vec![frame(frame::GOAWAY, 0, 1, &[0; 8])], ProtocolError),
        ("a window opened by nothing", vec![window(0, 0)], ProtocolError),
        ("a window opened too far", vec![window(0, 0x7fff_ffff)], FlowControlError),
        ("the window of an idle stream", vec![window(1, 1)], ProtocolError),
        ("a window of five bytes", vec![frame(frame::WINDOW_UPDATE, 0, 0, &[0; 5])], FrameSizeError),
        ("nothing to continue", vec![continued(1, b"")], ProtocolError),
        ("nothing to continue any more", vec![request(1), continued(1, b"")], ProtocolError),
        ("continued on another stream", vec![unfinished.clone(), continued(3, b"")], ProtocolError),
        ("a frame between", vec![unfinished.clone(), frame(frame::PING, 0, 0, &[0; 8])], ProtocolError),
        (
            "continued too long",
            [vec![unfinished.clone()], vec![continued(1, &[0; 10_000]); 7]].concat(),
            EnhanceYourCalm,
        ),
        (
            "headers that unpack to far too much",
            vec![frame(
                frame::HEADERS,
                frame::END_HEADERS,
                1,
                &[&[0x40, 1, b'b', 0x7f, 0xe1, 0x16][..], &[b'x'; 3_040], &[0xbe; 10_000]].concat(),
            )],
            EnhanceYourCalm,
        ),
    ];
    for (name, frames, reason) in rows {
        assert_eq!(feed(&mut open(), &frames.concat()), Err(*reason), "{name}");
    }
    for (name, bytes) in [
        ("no preface", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("a request instead of settings", [PREFACE, &request(1)].concat()),
        ("settings taken instead of settings", [PREFACE, &frame(frame::SETTINGS, 1, 0, &[])].concat()),
    ] {
        assert_eq!(feed(&mut Connection::new(), &bytes), Err(ProtocolError), "{name}");
    }
}

#[test]
fn what_breaks_a_stream_ends_the_stream_and_nothing_else() {
    use Reason::{FlowControlError, ProtocolError, StreamClosed};
    let with = |more: &[(&str, &str)], flags| {
        frame(frame::HEADERS, frame::END_HEADERS | flags, 1, &block(&[&REQUEST, more].concat()))
    };
    let trailers = |flags, more| frame(frame::HEADERS, frame::END_HEADERS | flags, 1, &block(more));
    let last = frame::END_STREAM;
    let rows: &[Row<'_, Reason>] = &[
        ("malformed", vec![with(&[("X", "upper case")], 0)], ProtocolError),
        ("of no sensible length", vec![with(&[("content-length", "x")], 0)], ProtocolError),
        ("shorter than it says", vec![with(&[("content-length", "1")], last)], ProtocolError),
        ("longer than it says", vec![with(&[("content-length", "1")], 0), data(1, b"xx")], ProtocolError),
        (
            "shorter, with trailers",
            vec![with(&[("content-length", "1")], 0), trailers(last, &[])],
            ProtocolError,
        ),
        ("data behind its end", vec![whole_request(1), data(1, b"x")], StreamClosed),
        ("trailers behind its end", vec![whole_request(1), trailers(last, &[])], StreamClosed),
        ("trailers and no end", vec![request(1), trailers(0, &[])], ProtocolError),
        ("a second request", vec![request(1), whole_request(1)], ProtocolError),
        ("a window opened by nothing", vec![request(1), window(1, 0)], ProtocolError),
        ("a window opened too far", vec![request(1), window(1, 0x7fff_ffff)], FlowControlError),
    ];
    for (name, frames, reason) in rows {
        let mut connection = open();
        let events = feed(&mut connection, &frames.concat()).unwrap();
        assert_eq!(said(&mut connection), [format!("1 RST_STREAM {}", reason.number())], "{name}");
        if !events.is_empty() {
            assert_eq!(events.last().unwrap(), "0 reset", "{name}");
            connection.forget(Place(0));
        }
        // Whatever was on its way is put aside.
        let late = [data(1, b"x"), window(1, 1), request(1), reset(1)].concat();
        assert_eq!(feed(&mut connection, &late).unwrap().len() + said(&mut connection).len(), 0);
        assert_eq!(feed(&mut connection, &whole_request(3)).unwrap(), ["0 POST / Here"], "{name}");
    }
}

#[test]
fn what_is_strange_but_allowed_is_taken() {
    let padded = frame(
        frame::HEADERS,
        frame::END_HEADERS | frame::PADDED | 0x20,
        1,
        &[&[3, 0, 0, 0, 0, 0][..], &block(&REQUEST), &[0; 3]].concat(),
    );
    let whole = block(&REQUEST);
    let (first, second) = whole.split_at(5);
    let rows: &[Row<'_, &[&str]>] = &[
        ("an unknown frame", vec![frame(0x77, 0xff, 0x8000_0007, b"x")], &[]),
        ("an unknown setting", vec![settings(&[(0x99, 7)])], &[]),
        ("a farewell", vec![frame(frame::GOAWAY, 0, 0, &[0; 8])], &[]),
        ("a priority of an idle stream", vec![frame(frame::PRIORITY, 0, 9, &[0; 5])], &[]),
        (
            "padding and priority",
            vec![padded, frame(0, 8, 1, &[1, 7, 0])],
            &["0 POST / Later", "0 1 bytes Later"],
        ),
        (
            "headers in parts",
            vec![
                frame(frame::HEADERS, frame::END_STREAM, 1, first),
                frame(frame::CONTINUATION, 0, 1, &[]),
                frame(frame::CONTINUATION, frame::END_HEADERS, 1, second),
            ],
            &["0 POST / Here"],
        ),
        (
            "numbers that are left out",
            vec![whole_request(101), whole_request(103)],
            &["0 POST / Here", "1 POST / Here"],
        ),
    ];
    for (name, frames, want) in rows {
        assert_eq!(feed(&mut open(), &frames.concat()).unwrap(), *want, "{name}");
    }
}

#[test]
fn too_large_headers_are_answered() {
    let mut connection = open();
    let long = "x".repeat(5_000);
    let mut fields = REQUEST.to_vec();
    fields.push(("a", &long));
    let mut all = block(&fields);
    // Said once and repeated by its number: 17,000 bytes in little more than 5,000.
    all.extend([0x40, 1, b'b', 0x7f, 0xe1, 0x16]);
    all.extend([b'x'; 3_040]);
    all.extend([0xbe; 5]);
    let asked = frame(frame::HEADERS, frame::END_HEADERS | frame::END_STREAM, 1, &all);
    assert_eq!(feed(&mut connection, &asked).unwrap().len(), 0);
    assert_eq!(said(&mut connection), ["1 HEADERS 0x5", "1 RST_STREAM 0"]);
    assert_eq!(feed(&mut connection, &whole_request(3)).unwrap().len(), 1, "the next is read");
}

#[test]
fn one_stream_too_many_is_refused_and_may_be_tried_again() {
    let mut connection = open();
    let most = limits::STREAMS_PER_CONNECTION_MAX;
    for number in 0..most {
        assert_eq!(feed(&mut connection, &request(2 * number + 1)).unwrap().len(), 1);
    }
    assert_eq!(feed(&mut connection, &request(2 * most + 1)).unwrap().len(), 0);
    assert_eq!(said(&mut connection), [format!("{} RST_STREAM 7", 2 * most + 1)]);
    connection.reset(Place(5), Reason::Cancel);
    connection.forget(Place(5));
    assert_eq!(feed(&mut connection, &request(2 * most + 3)).unwrap(), ["5 POST / Later"]);
    // A connection does not keep room for what it carried once.
    for place in 0..most as usize {
        connection.forget(Place(place));
    }
    assert_eq!((connection.carried(), connection.streams.capacity()), (0, 0));
}

#[test]
fn windows_are_kept() {
    let mut connection = open();
    feed(
        &mut connection,
        &[settings(&[(INITIAL_WINDOW_SIZE, 10)]), whole_request(1), whole_request(3)].concat(),
    )
    .unwrap();
    let (one, other) = (Place(0), Place(1));
    begin(&mut connection, one);
    begin(&mut connection, other);
    said(&mut connection);
    assert_eq!(connection.room(one), 10);
    connection.data(one, &[0; 10], Ends::Later);
    assert_eq!((connection.room(one), connection.next_in_line()), (0, None));
    feed(&mut connection, &window(1, 5)).unwrap();
    assert_eq!((connection.next_in_line(), connection.room(one)), (Some(one), 5));
    connection.data(one, &[0; 5], Ends::Later);
    assert_eq!(connection.room(one), 0);
    // What is allowed may become less than what was sent.
    feed(&mut connection, &settings(&[(INITIAL_WINDOW_SIZE, 3)])).unwrap();
    assert_eq!((connection.room(one), connection.room(other)), (0, 3));
    feed(&mut connection, &settings(&[(INITIAL_WINDOW_SIZE, 17)])).unwrap();
    assert_eq!((connection.next_in_line(), connection.room(one), connection.room(other)), (Some(one), 7, 17));
    assert_eq!(connection.next_in_line(), None, "only who waits");
    // The window of the connection counts, too; and of several settings the last.
    let several =
        settings(&[(INITIAL_WINDOW_SIZE, 0), (INITIAL_WINDOW_SIZE, 7), (INITIAL_WINDOW_SIZE, 1_000_000)]);
    feed(&mut connection, &several).unwrap();
    let mut sent = 15;
    while connection.room(other) > 0 {
        let room = connection.room(other);
        connection.data(other, &vec![0; room], Ends::Later);
        connection.out().clear();
        sent += room;
    }
    assert_eq!(sent, 65_535);
    assert_eq!((connection.room(one), connection.next_in_line()), (0, None));
    feed(&mut connection, &window(0, 100)).unwrap();
    assert_eq!((connection.next_in_line(), connection.room(other)), (Some(other), 100));
    assert_eq!((connection.next_in_line(), connection.room(one)), (Some(one), 100));
}

#[test]
fn who_waits_for_the_socket_gets_its_turn_and_nothing_more_is_taken_meanwhile() {
    let mut connection = open();
    feed(&mut connection, &[whole_request(1), whole_request(3), window(0, 1 << 20)].concat()).unwrap();
    let (one, other) = (Place(0), Place(1));
    begin(&mut connection, one);
    begin(&mut connection, other);
    for _ in 0..4 {
        let room = connection.room(one).min(16_000);
        connection.data(one, &vec![0; room], Ends::Later);
    }
    let room = connection.room(one);
    assert!(room > 0, "what fits into the window");
    connection.data(one, &vec![0; room], Ends::Later);
    assert_eq!((connection.room(one), connection.room(other), connection.room(other)), (0, 0, 0));
    assert!(connection.is_full() && connection.next_in_line().is_none());
    let pings = frame(frame::PING, 0, 0, &[0; 8]).repeat(3);
    let mut bytes = &pings[..];
    assert!(connection.next(&mut bytes).unwrap().is_none());
    assert_eq!(bytes.len(), pings.len(), "nothing is answered that cannot be written");
    connection.out().clear();
    assert!(connection.next(&mut bytes).unwrap().is_none() && bytes.is_empty());
    assert_eq!(connection.out().len(), pings.len());
    // The first has used up its window and waits for that.
    assert_eq!((connection.next_in_line(), connection.next_in_line()), (Some(other), None));
}

#[test]
fn what_is_dealt_with_may_come_anew() {
    let mut connection = open();
    feed(&mut connection, &[request(1), request(3)].concat()).unwrap();
    let piece = data(1, &[0; 16_384]);
    let half = usize::try_from(limits::WINDOW_BYTES).unwrap() / 2;
    for _ in 0..half / 16_384 {
        feed(&mut connection, &piece).unwrap();
    }
    connection.release(Place(0), half - 1);
    assert_eq!(said(&mut connection), [""; 0]);
    connection.release(Place(0), 1);
    assert_eq!(said(&mut connection), [format!("0 WINDOW_UPDATE {half}"), format!("1 WINDOW_UPDATE {half}")]);
    for _ in 0..2 * half / 16_384 {
        feed(&mut connection, &piece).unwrap();
    }
    assert_eq!(feed(&mut connection, &data(1, b"x")), Err(Reason::FlowControlError));

    // What nobody reads any more is free again, whenever it comes.
    let mut connection = open();
    feed(&mut connection, &request(1)).unwrap();
    for _ in 0..half / 16_384 / 2 {
        feed(&mut connection, &piece).unwrap();
    }
    connection.forget(Place(0));
    assert_eq!(said(&mut connection), ["1 RST_STREAM 2"]);
    for _ in 0..half / 16_384 / 2 {
        feed(&mut connection, &piece).unwrap();
    }
    assert_eq!(said(&mut connection), [format!("0 WINDOW_UPDATE {half}")]);
    // Padding counts, and is free at once.
    let padding = frame(frame::DATA, frame::PADDED, 3, &[&[255][..], &[0; 255]].concat());
    feed(&mut connection, &request(3)).unwrap();
    for _ in 0..100_000 {
        feed(&mut connection, &padding.repeat(2)).unwrap();
        connection.forgive();
        connection.out().clear();
    }
}

#[test]
fn work_for_nothing_is_counted() {
    let unanswered = |number: u32| [whole_request(2 * number + 1), reset(2 * number + 1)].concat();
    let malformed =
        |number: u32| frame(frame::HEADERS, frame::END_HEADERS, 2 * number + 1, &block(&[("x", "y")]));
    let rows: &[Flood<'_>] = &[
        ("requests that are withdrawn", vec![], &unanswered),
        ("requests that are malformed", vec![], &malformed),
        ("empty data", request(1), &|_| data(1, b"")),
        ("nothing but padding", request(1), &|_| frame(frame::DATA, frame::PADDED, 1, &[1, 0])),
        ("settings", vec![], &|_| settings(&[])),
        ("priorities", vec![], &|_| frame(frame::PRIORITY, 0, 1, &[0; 5])),
        ("empty continuations", frame(frame::HEADERS, 0, 1, &[]), &|_| frame(frame::CONTINUATION, 0, 1, &[])),
    ];
    for (name, first, each) in rows {
        let mut connection = open();
        feed(&mut connection, first).unwrap();
        let mut number = 0;
        let mut go_on = |connection: &mut Connection, count: u32| {
            for _ in 0..count {
                feed(connection, &each(number))?;
                number += 1;
                if first.is_empty() {
                    connection.forget(Place(0));
                }
                connection.out().clear();
            }
            Ok(())
        };
        assert_eq!(go_on(&mut connection, limits::NUISANCES_MAX), Ok(()), "{name}");
        connection.forgive();
        assert_eq!(go_on(&mut connection, limits::NUISANCES_MAX), Ok(()), "{name}");
        assert_eq!(go_on(&mut connection, 1), Err(Reason::EnhanceYourCalm), "{name}");
    }
}

#[test]
fn who_goes_on_after_the_end_is_told_once() {
    let mut connection = open();
    feed(&mut connection, &[whole_request(1), whole_request(3)].concat()).unwrap();
    for place in [Place(0), Place(1)] {
        connection.begin(place, StatusCode::OK, &HeaderMap::new(), Ends::Here);
        connection.forget(place);
    }
    said(&mut connection);
    feed(&mut connection, &[data(1, b"x"), data(1, b"x"), request(1), window(1, 1), reset(1)].concat())
        .unwrap();
    assert_eq!(said(&mut connection), ["1 RST_STREAM 5"]);
    feed(&mut connection, &request(3)).unwrap();
    assert_eq!(said(&mut connection), ["3 RST_STREAM 5"]);
}

#[test]
fn requests_that_were_answered_may_be_withdrawn() {
    let mut connection = open();
    for number in 0..3 * limits::NUISANCES_MAX {
        feed(&mut connection, &whole_request(2 * number + 1)).unwrap();
        begin(&mut connection, Place(0));
        connection.data(Place(0), b"x", Ends::Later);
        // Some do so twice.
        assert_eq!(feed(&mut connection, &reset(2 * number + 1).repeat(2)).unwrap(), ["0 reset", "0 reset"]);
        connection.forget(Place(0));
        feed(&mut connection, &reset(2 * number + 1)).unwrap();
        connection.out().clear();
    }
    // A head alone costs nothing and is no answer.
    let withdraw = |connection: &mut Connection, number: u32| {
        feed(connection, &whole_request(2 * number + 1))?;
        begin(connection, Place(0));
        feed(connection, &reset(2 * number + 1))?;
        connection.forget(Place(0));
        connection.out().clear();
        Ok(())
    };
    let first = 3 * limits::NUISANCES_MAX;
    for number in first..first + limits::NUISANCES_MAX {
        withdraw(&mut connection, number).unwrap();
    }
    assert_eq!(withdraw(&mut connection, first + limits::NUISANCES_MAX), Err(Reason::EnhanceYourCalm));
}

#[test]
fn who_is_told_to_go_is_answered_until_it_knows() {
    let mut connection = open();
    feed(&mut connection, &whole_request(1)).unwrap();
    connection.dismiss();
    connection.dismiss();
    assert_eq!(said(&mut connection), ["0 GOAWAY 2147483647 0", "0 PING"]);
    assert_eq!(feed(&mut connection, &whole_request(3)).unwrap().len(), 1, "it did not know");
    let other = frame(frame::PING, frame::ACK, 0, &THERE);
    feed(&mut connection, &other).unwrap();
    assert!(said(&mut connection).is_empty());
    feed(&mut connection, &frame(frame::PING, frame::ACK, 0, &LEAVING)).unwrap();
    assert_eq!(said(&mut connection), ["0 GOAWAY 3 0"]);
    assert_eq!(feed(&mut connection, &whole_request(5)).unwrap().len(), 0);
    for place in [Place(0), Place(1)] {
        assert!(!connection.is_done());
        begin(&mut connection, place);
        connection.trailers(place, &HeaderMap::new());
        connection.forget(place);
    }
    assert!(connection.is_done());
    connection.fail(&Fault::protocol("why"));
    assert_eq!(
        said(&mut connection).last().unwrap(),
        "0 GOAWAY 3 1",
        "what was put aside may be asked again"
    );
}

#[test]
fn what_is_left_open_is_ended() {
    let mut connection = open();
    feed(&mut connection, &[request(1), request(3), whole_request(5), request(7)].concat()).unwrap();
    begin(&mut connection, Place(1));
    for place in 2..4 {
        connection.begin(Place(place), StatusCode::OK, &HeaderMap::new(), Ends::Here);
    }
    said(&mut connection);
    for place in 0..4 {
        connection.forget(Place(place));
        connection.forget(Place(place));
    }
    assert_eq!(said(&mut connection), ["1 RST_STREAM 2", "3 RST_STREAM 2", "7 RST_STREAM 0"]);
}

/// Who stood in line and has gone is forgotten, also while nobody in line may send.
#[test]
fn the_line_is_as_long_as_those_who_are_there() {
    let mut connection = open();
    feed(&mut connection, &[settings(&[(INITIAL_WINDOW_SIZE, 65_535)]), whole_request(1)].concat()).unwrap();
    begin(&mut connection, Place(0));
    while connection.room(Place(0)) > 0 {
        let room = connection.room(Place(0));
        connection.data(Place(0), &vec![0; room], Ends::Later);
        connection.out().clear();
    }
    feed(&mut connection, &settings(&[(INITIAL_WINDOW_SIZE, 0)])).unwrap();
    for number in 1..1_000 {
        feed(&mut connection, &whole_request(2 * number + 1)).unwrap();
        begin(&mut connection, Place(1));
        assert_eq!(connection.room(Place(1)), 0);
        feed(&mut connection, &window(2 * number + 1, 1)).unwrap();
        connection.reset(Place(1), Reason::Cancel);
        connection.forget(Place(1));
        connection.out().clear();
        assert!(connection.line.len() < 100, "{} stand in line", connection.line.len());
    }
}

#[test]
fn headers_of_any_length_are_said() {
    let mut connection = open();
    feed(&mut connection, &[settings(&[(HEADER_TABLE_SIZE, 0)]), whole_request(1)].concat()).unwrap();
    said(&mut connection);
    let mut headers = HeaderMap::new();
    headers.insert("x-long", "y".repeat(40_000).parse().unwrap());
    connection.begin(Place(0), StatusCode::OK, &headers, Ends::Here);
    assert_eq!(connection.out()[frame::HEADER_BYTES], 0x20, "nothing is to be remembered");
    assert_eq!(said(&mut connection), ["1 HEADERS 0x1", "1 CONTINUATION", "1 CONTINUATION 0x4"]);
}

/// Frames that nearly make sense, so that more than the first one is looked at.
fn nearly_frames() -> impl Strategy<Value = Vec<u8>> {
    let payload = proptest::collection::vec(any::<u8>(), 0..40);
    let frame = (0..11_u8, any::<u8>(), 0..12_u32, payload, 0..8_u8).prop_map(
        |(kind, flags, stream, payload, how)| match how {
            0..=2 => request(stream | 1),
            3 => frame(frame::HEADERS, flags & !frame::PADDED, stream, &block(&REQUEST)),
            4 => frame(frame::DATA, flags & 1, stream, &payload),
            5 => window(stream, u32::from(flags) << 8),
            6 => settings(&[(INITIAL_WINDOW_SIZE, u32::from(flags))]),
            _ => frame(kind, flags, stream, &payload),
        },
    );
    proptest::collection::vec(frame, 0..40).prop_map(|frames| frames.concat())
}

proptest! {
    #[test]
    fn anything_is_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        any_bytes(&bytes);
    }

    #[test]
    fn nearly_anything_is_taken_or_refused(bytes in nearly_frames()) {
        any_bytes(&bytes);
    }
}
