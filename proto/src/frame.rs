//! A message that is encoded once and sent to many.
//!
//! A change goes to every subscriber as the same bytes. With tonic's usual codec each stream would encode it
//! again; here the answer of the stream service is a [`Frame`], and the codec only copies its bytes into the
//! HTTP/2 buffer.

use bytes::{BufMut, Bytes};
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::stream::{ClientMessage, ServerMessage};

/// The buffer that each stream keeps for encoding, in bytes; tonic's default of 8 KiB is the largest part of an
/// idle stream's memory.
const ENCODE_BUFFER_BYTES: usize = 640;
/// When a stream hands its buffer on, in bytes.
const YIELD_THRESHOLD_BYTES: usize = 32 * 1024;

/// An encoded [`ServerMessage`], shared by all streams that send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(Bytes);

impl Frame {
    /// Encodes a message, once.
    #[must_use]
    pub fn encode(message: &ServerMessage) -> Frame {
        Frame(message.encode_to_vec().into())
    }

    /// The encoded bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// How many bytes it is.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it is empty (an empty message).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&ServerMessage> for Frame {
    fn from(message: &ServerMessage) -> Frame {
        Frame::encode(message)
    }
}

/// Takes client messages apart and copies frames out.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameCodec;

impl Codec for FrameCodec {
    type Encode = Frame;
    type Decode = ClientMessage;
    type Encoder = FrameCodec;
    type Decoder = FrameCodec;

    fn encoder(&mut self) -> FrameCodec {
        FrameCodec
    }

    fn decoder(&mut self) -> FrameCodec {
        FrameCodec
    }
}

impl Encoder for FrameCodec {
    type Item = Frame;
    type Error = Status;

    fn encode(&mut self, frame: Frame, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&frame.0);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(ENCODE_BUFFER_BYTES, YIELD_THRESHOLD_BYTES)
    }
}

impl Decoder for FrameCodec {
    type Item = ClientMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<ClientMessage>, Status> {
        ClientMessage::decode(buffer).map(Some).map_err(|error| {
            Status::invalid_argument(format!("the message is no flagd.stream.v1.ClientMessage: {error}"))
        })
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(ENCODE_BUFFER_BYTES, YIELD_THRESHOLD_BYTES)
    }
}
