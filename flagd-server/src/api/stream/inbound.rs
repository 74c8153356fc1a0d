//! What a client says, message by message, out of the body of its request.
//!
//! A message may come in pieces, and several may come at once. One that came whole is read where it lies; only a rest is
//! kept, and nothing while a client is silent.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use flagd_proto::Message as _;
use flagd_proto::frame::PREFIX_BYTES;
use flagd_proto::stream::ClientMessage;
use h2::RecvStream;
use tonic::Status;

use super::super::connection::answer::poll_data;
use crate::limits;

/// The messages of one client.
#[derive(Debug)]
pub(super) struct Inbound {
    body: RecvStream,
    cutter: Cutter,
}

impl Inbound {
    pub(super) fn new(body: RecvStream) -> Inbound {
        Inbound { body, cutter: Cutter::default() }
    }

    /// The next message; `None` when the client has said its last.
    pub(super) async fn message(&mut self) -> Result<Option<ClientMessage>, Status> {
        std::future::poll_fn(|context| self.poll_message(context)).await
    }

    /// The next message; `None` when the client has said its last.
    pub(super) fn poll_message(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<ClientMessage>, Status>> {
        loop {
            if let Some(message) = self.cutter.next()? {
                return Poll::Ready(Ok(Some(message)));
            }
            match ready!(poll_data(&mut self.body, context)) {
                // What comes behind the messages says nothing.
                None => return Poll::Ready(self.cutter.end().map(|()| None)),
                Some(Err(error)) => return Poll::Ready(Err(Status::from_error(Box::new(error)))),
                Some(Ok(data)) => self.cutter.add(data)?,
            }
        }
    }
}

/// Cuts what comes in into messages.
#[derive(Debug, Default)]
struct Cutter {
    /// What came whole and is yet to be read.
    whole: Bytes,
    /// The beginning of a message of which the rest has not come.
    rest: Vec<u8>,
}

impl Cutter {
    /// Nothing more comes.
    fn end(&self) -> Result<(), Status> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(Status::internal("the stream ends in the middle of a message"))
    }

    /// Puts what has come where it is read from.
    fn add(&mut self, data: Bytes) -> Result<(), Status> {
        if self.rest.is_empty() {
            self.whole = data;
            return Ok(());
        }
        // At most a prefix and one message are kept, and a prefix is enough to refuse a message that is too long.
        let wanted = match length(&self.rest)? {
            Some(length) => PREFIX_BYTES + length,
            None => PREFIX_BYTES,
        };
        let (now, later) =
            data.split_at_checked(wanted.saturating_sub(self.rest.len())).unwrap_or((&data, &[]));
        self.rest.extend_from_slice(now);
        let later = data.slice_ref(later);
        match length(&self.rest)? {
            Some(length) if self.rest.len() == PREFIX_BYTES + length => {
                let message = Bytes::from(std::mem::take(&mut self.rest));
                self.whole = if later.is_empty() { message } else { [message, later].concat().into() };
                Ok(())
            }
            Some(_) if !later.is_empty() => self.add(later),
            _ => Ok(()),
        }
    }

    /// A message that has come whole; what is left of one that has not is kept.
    fn next(&mut self) -> Result<Option<ClientMessage>, Status> {
        if self.whole.is_empty() {
            return Ok(None);
        }
        if let Some(length) = length(&self.whole)?
            && self.whole.len() >= PREFIX_BYTES + length
        {
            let message = self.whole.split_to(PREFIX_BYTES + length).split_off(PREFIX_BYTES);
            let message = ClientMessage::decode(message).map_err(|error| {
                Status::invalid_argument(format!("the message is no flagd.stream.v1.ClientMessage: {error}"))
            })?;
            return Ok(Some(message));
        }
        self.rest = std::mem::take(&mut self.whole).to_vec();
        Ok(None)
    }
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
        let (mut cutter, mut heard) = (Cutter::default(), Vec::new());
        let all = || {
            for piece in pieces {
                cutter.add(Bytes::from(piece))?;
                while let Some(message) = cutter.next()? {
                    heard.push(message);
                }
            }
            cutter.end()
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
        let mut cutter = Cutter::default();
        cutter.add(framed(&need("a")).into()).unwrap();
        assert!(matches!(cutter.next(), Ok(Some(_))) && matches!(cutter.next(), Ok(None)));
        assert_eq!((cutter.whole.len(), cutter.rest.capacity()), (0, 0));
    }
}
