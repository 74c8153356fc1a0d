//! Frames: nine bytes of header and what they announce (RFC 9113, 4 and 6).

use super::{Fault, Reason};

/// Of every frame.
pub(super) const HEADER_BYTES: usize = 9;
/// The longest payload that we take: what everybody may send unless told otherwise.
pub(super) const PAYLOAD_MAX: usize = 16 * 1024;
/// The longest payload that may be agreed upon.
pub(super) const PAYLOAD_LIMIT: u32 = (1 << 24) - 1;

pub(super) const DATA: u8 = 0x0;
pub(super) const HEADERS: u8 = 0x1;
pub(super) const PRIORITY: u8 = 0x2;
pub(super) const RST_STREAM: u8 = 0x3;
pub(super) const SETTINGS: u8 = 0x4;
pub(super) const PUSH_PROMISE: u8 = 0x5;
pub(super) const PING: u8 = 0x6;
pub(super) const GOAWAY: u8 = 0x7;
pub(super) const WINDOW_UPDATE: u8 = 0x8;
pub(super) const CONTINUATION: u8 = 0x9;

/// Of SETTINGS and PING.
pub(super) const ACK: u8 = 0x1;
pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
const PRIORITIZED: u8 = 0x20;
/// What HEADERS carry when they are prioritized, and what a PRIORITY is.
pub(super) const PRIORITY_BYTES: usize = 5;

/// A frame where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: &'a [u8],
}

/// Takes a whole frame off the front; `None` when it has not come yet.
pub(super) fn take<'a>(bytes: &mut &'a [u8]) -> Result<Option<Frame<'a>>, Fault> {
    let Some((header, behind)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let [a, b, c, kind, flags, stream @ ..] = *header;
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    if length > PAYLOAD_MAX {
        return Err(Fault::new(Reason::FrameSizeError, "a frame is longer than was allowed"));
    }
    let Some((payload, behind)) = behind.split_at_checked(length) else { return Ok(None) };
    *bytes = behind;
    // One bit is reserved and says nothing.
    let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
    Ok(Some(Frame { kind, flags, stream, payload }))
}

impl<'a> Frame<'a> {
    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The payload without the padding around it.
    pub(super) fn unpadded(&self) -> Result<&'a [u8], Fault> {
        if !self.has(PADDED) {
            return Ok(self.payload);
        }
        let (padding, payload) =
            self.payload.split_first().ok_or(Fault::new(Reason::FrameSizeError, "padding has no length"))?;
        let length = payload.len().checked_sub(usize::from(*padding));
        let payload = length.and_then(|length| payload.get(..length));
        payload.ok_or(Fault::protocol("padding is longer than its frame"))
    }

    /// The compressed headers of a HEADERS frame.
    pub(super) fn block(&self) -> Result<&'a [u8], Fault> {
        let payload = self.unpadded()?;
        if !self.has(PRIORITIZED) {
            return Ok(payload);
        }
        // Priorities of this kind are deprecated and mean nothing.
        payload
            .get(PRIORITY_BYTES..)
            .ok_or(Fault::new(Reason::FrameSizeError, "headers are too short for their priority"))
    }

    /// A payload that is one number.
    pub(super) fn number(&self) -> Result<u32, Fault> {
        let number = self.payload.try_into().map(u32::from_be_bytes);
        number.map_err(|_| Fault::new(Reason::FrameSizeError, "a frame is not four bytes long"))
    }
}

/// Writes a frame whose payload is in parts.
pub(super) fn write(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[&[u8]]) {
    let length: usize = payload.iter().map(|part| part.len()).sum();
    // Nobody writes one that is longer than the other end takes, which is at most three bytes of length.
    let [_, length @ ..] = u32::try_from(length).unwrap_or(PAYLOAD_LIMIT).to_be_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    for part in payload {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_taken_and_half_of_it_waits() {
        let mut out = Vec::new();
        write(&mut out, DATA, END_STREAM, 7, &[b"ne", b"ws"]);
        write(&mut out, PING, 0, 0, &[&[1; 8]]);
        for length in 0..out.len() {
            let mut bytes = &out[..length];
            let taken = std::iter::from_fn(|| take(&mut bytes).unwrap()).count();
            assert_eq!(taken, usize::from(length >= 13), "{length}");
        }
        let mut bytes = &out[..];
        let first = take(&mut bytes).unwrap().unwrap();
        assert_eq!(first, Frame { kind: DATA, flags: END_STREAM, stream: 7, payload: b"news" });
        assert_eq!(take(&mut bytes).unwrap().unwrap().payload, [1; 8]);
        assert_eq!((take(&mut bytes), bytes.len()), (Ok(None), 0));
    }

    #[test]
    fn the_length_is_looked_at_before_the_payload_is_here() {
        let reason =
            |mut bytes: &[u8]| take(&mut bytes).map(|frame| frame.is_some()).map_err(|fault| fault.reason);
        assert_eq!(reason(&[0, 0x40, 0, DATA, 0, 0, 0, 0, 1]), Ok(false));
        assert_eq!(reason(&[0, 0x40, 1, DATA, 0, 0, 0, 0, 1]), Err(Reason::FrameSizeError));
    }

    #[test]
    fn padding_and_priorities_are_put_aside() {
        let frame = |flags, payload| Frame { kind: HEADERS, flags, stream: 1, payload };
        for (flags, payload, want) in [
            (0, &b"abc"[..], Ok(&b"abc"[..])),
            (PADDED, b"\x02abc", Ok(b"a")),
            (PADDED, b"\x03abc", Ok(b"")),
            (PADDED, b"\x04abc", Err(Reason::ProtocolError)),
            (PADDED, b"", Err(Reason::FrameSizeError)),
            (PRIORITIZED, b"12345abc", Ok(b"abc")),
            (PRIORITIZED, b"1234", Err(Reason::FrameSizeError)),
            (PADDED | PRIORITIZED, b"\x0112345abc", Ok(b"ab")),
        ] {
            assert_eq!(frame(flags, payload).block().map_err(|fault| fault.reason), want, "{payload:?}");
        }
    }
}
