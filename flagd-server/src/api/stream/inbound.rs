//! What a client says, message by message, out of the body of its request.
//!
//! A message may come in pieces, and several may come at once. One that came whole is read where it lies; only a rest is
//! kept, and nothing while a client is silent.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use flagd_proto::Message as _;
use flagd_proto::frame::PREFIX_BYTES;
use flagd_proto::stream::ClientMessage;
use http_body::Body as _;
use tonic::Status;

use crate::limits;

/// The messages of one client.
#[derive(Debug)]
pub(super) struct Inbound {
    body: Body,
    /// What came whole and is yet to be read.
    whole: Bytes,
    /// The beginning of a message of which the rest has not come.
    rest: Vec<u8>,
}

impl Inbound {
    pub(super) fn new(body: Body) -> Inbound {
        Inbound { body, whole: Bytes::new(), rest: Vec::new() }
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
            if let Some(message) = self.take_whole()? {
                return Poll::Ready(Ok(Some(message)));
            }
            let data = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                None if self.rest.is_empty() => return Poll::Ready(Ok(None)),
                None => {
                    let status = Status::internal("the stream ends in the middle of a message");
                    return Poll::Ready(Err(status));
                }
                Some(Err(error)) => return Poll::Ready(Err(Status::from_error(Box::new(error)))),
                // What comes behind the messages says nothing.
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            self.add(data)?;
        }
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
    fn take_whole(&mut self) -> Result<Option<ClientMessage>, Status> {
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
    use futures_util::FutureExt as _;
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

    fn inbound(pieces: Vec<Vec<u8>>) -> Inbound {
        let pieces = pieces.into_iter().map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece)));
        Inbound::new(Body::from_stream(futures_util::stream::iter(pieces)))
    }

    /// All messages, and how the stream ended.
    fn hear(mut inbound: Inbound) -> (Vec<ClientMessage>, Result<(), tonic::Code>) {
        let mut heard = Vec::new();
        loop {
            match inbound.message().now_or_never().expect("everything is there") {
                Ok(Some(message)) => heard.push(message),
                Ok(None) => return (heard, Ok(())),
                Err(status) => return (heard, Err(status.code())),
            }
        }
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
            prop_assert_eq!(hear(inbound(pieces)), (messages, Ok(())));
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
        assert_eq!(hear(inbound(vec![framed(&largest)])).0.len(), 1, "just below the limit");
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
            let at_once = hear(inbound(vec![[good.clone(), bytes.clone()].concat()]));
            assert_eq!(at_once, (vec![need("a")], Err(code)), "{name}");
            let pieces = bytes.iter().map(|byte| vec![*byte]);
            let in_pieces = hear(inbound(std::iter::once(good).chain(pieces).collect()));
            assert_eq!(in_pieces, (vec![need("a")], Err(code)), "{name}, byte by byte");
        }
    }

    /// A client that sends a long message byte by byte costs one copy of it, not one for each byte.
    #[test]
    fn a_long_message_in_small_pieces_is_kept_once() {
        let message = need(&"x".repeat(limits::CLIENT_MESSAGE_MAX_BYTES / 2));
        let pieces = framed(&message).chunks(7).map(<[u8]>::to_vec).collect();
        assert_eq!(hear(inbound(pieces)), (vec![message], Ok(())));
    }

    #[test]
    fn nothing_is_kept_while_a_client_is_silent() {
        let mut inbound = inbound(vec![framed(&need("a"))]);
        assert!(inbound.message().now_or_never().is_some());
        assert_eq!((inbound.whole.len(), inbound.rest.capacity()), (0, 0));
    }
}
