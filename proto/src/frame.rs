//! A message that is encoded once and sent to many.
//!
//! A change goes to every subscriber as the same bytes, with the five bytes that gRPC puts before a message already in
//! front of them: the body of an answer is these frames and nothing else, so that no stream encodes, copies or
//! keeps room for them. A message may be compressed, which its first byte says. See
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>, "Length-Prefixed-Message".

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::stream::ServerMessage;

/// What stands before a message: whether it is compressed (1 byte), and its length (4 bytes, big-endian).
pub const PREFIX_BYTES: usize = 5;

/// An encoded [`ServerMessage`], shared by all streams that send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(Bytes);

impl Frame {
    /// Encodes a message, once.
    #[must_use]
    pub fn encode(message: &ServerMessage) -> Frame {
        Frame::of(0, &message.encode_to_vec())
    }

    /// A message that was encoded and then compressed, in the way that the stream's headers name.
    #[must_use]
    pub fn of_compressed(compressed: &[u8]) -> Frame {
        Frame::of(1, compressed)
    }

    fn of(flag: u8, message: &[u8]) -> Frame {
        let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + message.len());
        bytes.put_u8(flag);
        // Messages stay far below 4 GiB: their parts have a limit.
        bytes.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
        bytes.extend_from_slice(message);
        Frame(bytes.freeze())
    }

    /// The encoded message, as it goes over the wire.
    #[must_use]
    pub fn message(&self) -> Bytes {
        self.0.slice(PREFIX_BYTES..)
    }

    /// What is written to a stream: the prefix and the message.
    #[must_use]
    pub fn into_data(self) -> Bytes {
        self.0
    }

    /// How many bytes the message is.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len() - PREFIX_BYTES
    }

    /// Whether the message is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{GoAway, server_message};

    #[test]
    fn a_frame_is_the_message_behind_its_length() {
        let why = "x".repeat(300);
        let message = server_message::Message::GoAway(GoAway { retry_after_ms: 7, why });
        let message = ServerMessage { message: Some(message) };
        let frame = Frame::encode(&message);
        assert_eq!((frame.len(), frame.is_empty()), (message.encoded_len(), false));
        assert_eq!(ServerMessage::decode(frame.message()), Ok(message));
        let data = frame.clone().into_data();
        assert_eq!(data.first_chunk(), Some(&[0, 0, 0, 1, 0x34]));
        assert_eq!(&data[PREFIX_BYTES..], &frame.message()[..]);
        assert!(Frame::encode(&ServerMessage::default()).is_empty());
        assert_eq!(&Frame::of_compressed(b"z").into_data()[..], [1, 0, 0, 0, 1, b'z']);
    }
}
