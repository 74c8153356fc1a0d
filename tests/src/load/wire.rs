//! As much of HTTP/2 and gRPC as one method of one server needs, written down by hand.
//!
//! A general client costs more per message than the server does, and on a machine that both share it would be the client
//! that is measured. This one reads no headers, keeps no tables and never says how the stream is to be compressed. It knows
//! nothing of flagd.

/// What a client says first of all: the preface, windows as large as they go, and no pushes.
pub(super) const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
    \x00\x00\x0c\x04\x00\x00\x00\x00\x00\
    \x00\x02\x00\x00\x00\x00\
    \x00\x04\x7f\xff\xff\xff\
    \x00\x00\x04\x08\x00\x00\x00\x00\x00\x7f\xff\x00\x00";
/// The window that a connection has before anybody says otherwise, in bytes.
pub(super) const FIRST_WINDOW_BYTES: i64 = 65_535;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// Of a frame, and of a gRPC message inside.
const FRAME_HEADER_BYTES: usize = 9;
const MESSAGE_HEADER_BYTES: usize = 5;
const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// Bytes of a stream's messages.
    Data { stream: u32, bytes: &'a [u8] },
    /// A stream has ended.
    Ended { stream: u32 },
    /// Settings, with the window of new streams if they name it; to be answered.
    Settings { window_bytes: Option<i64> },
    /// To be answered with the same.
    Ping([u8; 8]),
    /// More may be sent, on a stream or (0) at all.
    Window { stream: u32, more_bytes: i64 },
    /// The connection is to end.
    Leaving,
    /// Nothing that matters here.
    Other,
}

/// Takes the next whole frame off the front.
pub(super) fn take<'a>(bytes: &mut &'a [u8]) -> Option<Frame<'a>> {
    let (header, rest) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>()?;
    let [a, b, c, kind, flags, stream @ ..] = *header;
    let length = u32::from_be_bytes([0, a, b, c]);
    let (body, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
    let ends = flags & END_STREAM != 0;
    Some(match kind {
        // An empty one that ends the stream; flagd ends streams with headers.
        DATA if ends && body.is_empty() => Frame::Ended { stream },
        DATA => Frame::Data { stream, bytes: body },
        HEADERS if ends => Frame::Ended { stream },
        RST_STREAM => Frame::Ended { stream },
        SETTINGS if flags & ACK == 0 => Frame::Settings { window_bytes: window_of(body) },
        PING if flags & ACK == 0 => body.first_chunk().map_or(Frame::Other, |bytes| Frame::Ping(*bytes)),
        GOAWAY => Frame::Leaving,
        WINDOW_UPDATE => body.first_chunk().map_or(Frame::Other, |more| Frame::Window {
            stream,
            more_bytes: i64::from(u32::from_be_bytes(*more)),
        }),
        _ => Frame::Other,
    })
}

fn window_of(settings: &[u8]) -> Option<i64> {
    settings.chunks_exact(6).find_map(|setting| {
        let (name, value) = setting.split_first_chunk::<2>()?;
        let value = u32::from_be_bytes(*value.first_chunk()?);
        (*name == INITIAL_WINDOW_SIZE).then_some(i64::from(value))
    })
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, parts: [&[u8]; 2]) {
    let length = u32::try_from(parts.iter().map(|part| part.len()).sum::<usize>()).unwrap_or(u32::MAX);
    let [_, length @ ..] = length.to_be_bytes();
    out.extend(length);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    for part in parts {
        out.extend(part);
    }
}

/// Opens a stream of a gRPC method.
pub(super) fn open(out: &mut Vec<u8>, stream: u32, authority: &str, path: &str) {
    // Indexed names of the static table, values as they are: POST, http, then :path, :authority, content-type, te.
    let mut block = vec![0x83, 0x86];
    let mut literal = |name: &[u8], value: &str| {
        block.extend(name);
        block.push(u8::try_from(value.len()).unwrap_or(u8::MAX) & 0x7f);
        block.extend(value.as_bytes());
    };
    literal(&[0x04], path);
    literal(&[0x01], authority);
    literal(&[0x0f, 0x10], "application/grpc");
    literal(&[0x00, 0x02, b't', b'e'], "trailers");
    frame(out, HEADERS, END_HEADERS, stream, [&block, &[]]);
}

/// A gRPC message on a stream.
pub(super) fn say(out: &mut Vec<u8>, stream: u32, message: &[u8]) {
    let mut header = [0; MESSAGE_HEADER_BYTES];
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    if let Some(place) = header.last_chunk_mut::<4>() {
        *place = length.to_be_bytes();
    }
    frame(out, DATA, 0, stream, [&header, message]);
}

/// What a message takes of the windows, in bytes.
pub(super) fn windowed_bytes(message: &[u8]) -> i64 {
    i64::try_from(message.len() + MESSAGE_HEADER_BYTES).unwrap_or(i64::MAX)
}

/// What a message of this length is on the wire, in bytes.
pub(super) const fn wire_bytes(message_bytes: usize) -> usize {
    message_bytes + MESSAGE_HEADER_BYTES + FRAME_HEADER_BYTES
}

/// Settings were taken note of.
pub(super) fn settings_taken(out: &mut Vec<u8>) {
    frame(out, SETTINGS, ACK, 0, [&[], &[]]);
}

/// The answer to a ping.
pub(super) fn pong(out: &mut Vec<u8>, ping: [u8; 8]) {
    frame(out, PING, ACK, 0, [&ping, &[]]);
}

/// So many bytes of the connection's window are free again.
pub(super) fn widen(out: &mut Vec<u8>, bytes: u32) {
    frame(out, WINDOW_UPDATE, 0, 0, [&bytes.to_be_bytes(), &[]]);
}

/// Takes the next whole gRPC message off the front of a stream's bytes.
pub(super) fn message<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (header, rest) = bytes.split_first_chunk::<MESSAGE_HEADER_BYTES>()?;
    let length = u32::from_be_bytes(*header.last_chunk::<4>()?);
    let (message, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_can_be_taken_apart() {
        let mut out = Vec::new();
        say(&mut out, 7, b"news");
        pong(&mut out, [1; 8]);
        settings_taken(&mut out);
        widen(&mut out, 77);
        assert_eq!(out.len(), wire_bytes(4) + 17 + 9 + 13);
        let mut rest: &[u8] = &out;
        let Some(Frame::Data { stream: 7, mut bytes }) = take(&mut rest) else { panic!("{rest:?}") };
        assert_eq!(message(&mut bytes), Some(&b"news"[..]));
        assert_eq!((message(&mut bytes), bytes), (None, &[][..]));
        // Answers are not answered.
        assert_eq!(take(&mut rest), Some(Frame::Other));
        assert_eq!(take(&mut rest), Some(Frame::Other));
        assert_eq!(take(&mut rest), Some(Frame::Window { stream: 0, more_bytes: 77 }));
        assert_eq!(take(&mut rest), None);
    }

    #[test]
    fn half_a_frame_and_half_a_message_wait() {
        let mut out = Vec::new();
        say(&mut out, 1, b"news");
        for length in 0..out.len() {
            let mut part = out.get(..length).unwrap_or_default();
            assert_eq!((take(&mut part), part.len()), (None, length));
        }
        let mut half: &[u8] = &[0, 0, 0, 0, 9, b'n'];
        assert_eq!((message(&mut half), half.len()), (None, 6));
    }

    #[test]
    fn the_opening_is_a_preface_and_two_frames() {
        let mut frames = OPENING.strip_prefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap_or_default();
        assert_eq!(take(&mut frames), Some(Frame::Settings { window_bytes: Some(0x7fff_ffff) }));
        assert_eq!(take(&mut frames), Some(Frame::Window { stream: 0, more_bytes: 0x7fff_0000 }));
        assert!(frames.is_empty());
    }

    #[test]
    fn ends_are_seen() {
        for (kind, flags, want) in [
            (HEADERS, END_STREAM | END_HEADERS, Frame::Ended { stream: 3 }),
            (HEADERS, END_HEADERS, Frame::Other),
            (RST_STREAM, 0, Frame::Ended { stream: 3 }),
            (GOAWAY, 0, Frame::Leaving),
        ] {
            let mut out = Vec::new();
            frame(&mut out, kind, flags, 3, [&[0; 4], &[]]);
            let mut rest: &[u8] = &out;
            assert_eq!(take(&mut rest), Some(want));
        }
    }
}
