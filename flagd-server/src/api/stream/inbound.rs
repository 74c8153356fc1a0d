//! What a client says, message by message, out of the body of its request.
//!
//! A message may come in pieces, and several may come at once. One that came whole is read where it lies; only a rest is
//! kept, and nothing while a client is silent.

use flagd_proto::Message as _;
use flagd_proto::frame::PREFIX_BYTES;
use flagd_proto::stream::ClientMessage;
use tonic::Status;

use crate::http2::Ends;
use crate::limits;

/// Cuts what a client says into messages.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    /// What has come and was not read: less than a message, unless somebody keeps more for later.
    kept: Vec<u8>,
    /// How much of it was read since.
    read: usize,
    has_ended: bool,
}

/// What there is to be heard.
#[expect(
    clippy::large_enum_variant,
    reason = "it is heard at once; a box would be one for each acknowledgement"
)]
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    /// A message.
    Message(ClientMessage),
    /// Nothing yet.
    Nothing,
    /// The client has said its last.
    End,
}

impl Inbound {
    /// Keeps what has come for later.
    pub(super) fn keep(&mut self, came: &[u8], ends: Ends) {
        self.kept.extend_from_slice(came);
        self.ended(ends);
    }

    /// Notes whether more comes.
    pub(super) fn ended(&mut self, ends: Ends) {
        self.has_ended |= ends == Ends::Here;
    }

    /// The next message of what was kept and then of `came`, from which it is taken. What is no whole message is kept.
    pub(super) fn next(&mut self, came: &mut &[u8]) -> Result<Heard, Status> {
        if self.kept.is_empty() {
            if let Some((message, behind)) = cut(came)? {
                *came = behind;
                return decode(message);
            }
            self.kept.extend_from_slice(std::mem::take(came));
        } else {
            self.kept.extend_from_slice(std::mem::take(came));
            let unread = self.kept.get(self.read..).unwrap_or_default();
            if let Some((message, behind)) = cut(unread)? {
                let heard = decode(message);
                self.read = self.kept.len() - behind.len();
                if behind.is_empty() {
                    *self = Inbound { has_ended: self.has_ended, ..Inbound::default() };
                }
                return heard;
            }
            self.kept.drain(..std::mem::take(&mut self.read));
        }
        match (self.has_ended, self.kept.is_empty()) {
            (false, _) => Ok(Heard::Nothing),
            (true, true) => Ok(Heard::End),
            (true, false) => Err(Status::internal("the stream ends in the middle of a message")),
        }
    }
}

/// A message, and what is behind it.
type Cut<'a> = (&'a [u8], &'a [u8]);

/// The first message and what is behind it; `None` when it has not come whole.
fn cut(bytes: &[u8]) -> Result<Option<Cut<'_>>, Status> {
    let Some(length) = length(bytes)? else { return Ok(None) };
    let behind = bytes.get(PREFIX_BYTES..).unwrap_or_default();
    Ok(behind.split_at_checked(length))
}

fn decode(message: &[u8]) -> Result<Heard, Status> {
    ClientMessage::decode(message).map(Heard::Message).map_err(|error| {
        Status::invalid_argument(format!("the message is no flagd.stream.v1.ClientMessage: {error}"))
    })
}

/// How long the message is whose prefix stands here; `None` when it is not here whole.
fn length(bytes: &[u8]) -> Result<Option<usize>, Status> {
    let Some([flag, length @ ..]) = bytes.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    if *flag != 0 {
        return Err(Status::unimplemented("messages must not be compressed"));
    }
    let (length, most) = (u32::from_be_bytes(*length) as usize, limits::CLIENT_MESSAGE_MAX_BYTES);
    if length > most {
        return Err(Status::out_of_range(format!("a message has {length} bytes, at most {most} are taken")));
    }
    Ok(Some(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flagd_proto::stream::{NeedFull, client_message};
    use proptest::prelude::*;

    fn need(why: &str) -> ClientMessage {
        let need = NeedFull { why: why.to_owned(), state: None };
        ClientMessage { message: Some(client_message::Message::NeedFull(need)) }
    }

    fn framed(message: &ClientMessage) -> Vec<u8> {
        let message = message.encode_to_vec();
        let mut bytes = vec![0];
        bytes.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        bytes.extend(message);
        bytes
    }

    /// All messages in these pieces, and how the stream ended.
    fn hear(pieces: Vec<Vec<u8>>) -> (Vec<ClientMessage>, Result<(), tonic::Code>) {
        let (mut inbound, mut heard) = (Inbound::default(), Vec::new());
        let all = || {
            for piece in pieces {
                let mut came = &piece[..];
                while let Heard::Message(message) = inbound.next(&mut came)? {
                    heard.push(message);
                }
            }
            inbound.ended(Ends::Here);
            let end = inbound.next(&mut &[][..])?;
            assert_eq!(end, Heard::End);
            Ok(())
        };
        let ended = all().map_err(|status: Status| status.code());
        (heard, ended)
    }

    proptest! {
        #[test]
        fn messages_come_out_however_they_are_cut(
            whys in prop::collection::vec("[a-z]{0,40}", 0..6),
            cuts in prop::collection::vec(1..30_usize, 1..10),
        ) {
            let messages: Vec<ClientMessage> = whys.iter().map(|why| need(why)).collect();
            let mut bytes: Vec<u8> = messages.iter().flat_map(framed).collect();
            let mut pieces = Vec::new();
            for cut in cuts.iter().cycle() {
                if bytes.is_empty() {
                    break;
                }
                let rest = bytes.split_off((*cut).min(bytes.len()));
                pieces.push(std::mem::replace(&mut bytes, rest));
            }
            prop_assert_eq!(hear(pieces), (messages, Ok(())));
        }
    }

    #[test]
    fn what_is_no_message_is_named() {
        let most = u32::try_from(limits::CLIENT_MESSAGE_MAX_BYTES).unwrap();
        let prefix = |flag: u8, length: u32| {
            let mut bytes = vec![flag];
            bytes.extend(length.to_be_bytes());
            bytes
        };
        let largest = need(&"x".repeat(limits::CLIENT_MESSAGE_MAX_BYTES - 16));
        assert_eq!(hear(vec![framed(&largest)]).0.len(), 1, "just below the limit");
        let cases = [
            ("one byte above the limit", prefix(0, most + 1), tonic::Code::OutOfRange),
            ("the longest that can be said", prefix(0, u32::MAX), tonic::Code::OutOfRange),
            ("compressed", prefix(1, 3), tonic::Code::Unimplemented),
            ("cut off in the prefix", vec![0, 0], tonic::Code::Internal),
            ("cut off in the message", prefix(0, 3), tonic::Code::Internal),
            ("no protobuf", [prefix(0, 2), vec![0xff, 0xff]].concat(), tonic::Code::InvalidArgument),
        ];
        for (name, bytes, code) in cases {
            let good = framed(&need("a"));
            let at_once = hear(vec![[good.clone(), bytes.clone()].concat()]);
            assert_eq!(at_once, (vec![need("a")], Err(code)), "{name}");
            let pieces = bytes.iter().map(|byte| vec![*byte]);
            let in_pieces = hear(std::iter::once(good).chain(pieces).collect());
            assert_eq!(in_pieces, (vec![need("a")], Err(code)), "{name}, byte by byte");
        }
    }

    /// A client that sends a long message byte by byte costs one copy of it, not one for each byte.
    #[test]
    fn a_long_message_in_small_pieces_is_kept_once() {
        let message = need(&"x".repeat(limits::CLIENT_MESSAGE_MAX_BYTES / 2));
        let pieces = framed(&message).chunks(7).map(<[u8]>::to_vec).collect();
        assert_eq!(hear(pieces), (vec![message], Ok(())));
    }

    #[test]
    fn nothing_is_kept_while_a_client_is_silent() {
        let mut inbound = Inbound::default();
        let (bytes, nothing) = (framed(&need("a")), &mut &[][..]);
        assert_eq!(inbound.next(&mut &bytes[..]).unwrap(), Heard::Message(need("a")));
        assert_eq!((inbound.next(nothing).unwrap(), inbound.kept.capacity()), (Heard::Nothing, 0));
        let (half, other) = bytes.split_at(7);
        assert_eq!(inbound.next(&mut &half[..]).unwrap(), Heard::Nothing);
        assert_eq!(inbound.next(&mut &other[..]).unwrap(), Heard::Message(need("a")));
        assert_eq!((inbound.next(nothing).unwrap(), inbound.kept.capacity()), (Heard::Nothing, 0));
    }

    /// Many messages that were kept for later cost one look at each, not one at all of them for each.
    #[test]
    fn what_was_kept_is_heard_first() {
        let mut inbound = Inbound::default();
        let whys: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        for why in &whys[..98] {
            inbound.keep(&framed(&need(why)), Ends::Later);
        }
        let late = [framed(&need("98")), framed(&need("99"))].concat();
        let mut came = &late[..];
        for why in whys {
            assert_eq!(inbound.next(&mut came).unwrap(), Heard::Message(need(&why)));
        }
        inbound.keep(&[], Ends::Here);
        assert_eq!((inbound.next(&mut came).unwrap(), inbound.kept.capacity()), (Heard::End, 0));
    }
}
