//! The server's half of HTTP/2 (RFC 9113) and of its header compression (RFC 7541), as a state machine.
//!
//! Ten thousand clients hold one connection each and say almost nothing. A general library keeps 28 KiB of buffers for
//! each of them and a lock around every stream; here an idle connection keeps no buffer at all, what comes in is taken
//! apart where it lies, and streams belong to one owner (docs/decisions/018).
//!
//! Synchronous: bytes go in, events come out, and what is to be written stands in one buffer. It knows no socket, no
//! clock and no gRPC. Whoever feeds it must write what it has to say before it feeds more: that bounds what an answer to
//! a flood of questions can take.

use std::fmt;

use thiserror::Error;

mod connection;
mod frame;
mod head;
mod hpack;
mod outlet;
mod streams;

#[cfg(fuzzing)]
pub(crate) use connection::any::any_bytes;
pub(crate) use connection::{Connection, Ends, Event};
pub(crate) use outlet::Outlet;
pub(crate) use streams::Place;

/// Why a stream or a connection ends, by its number (RFC 9113, 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It is done.
    NoError = 0x0,
    /// The other end broke the rules.
    ProtocolError = 0x1,
    /// We cannot go on.
    InternalError = 0x2,
    /// More was sent than was allowed.
    FlowControlError = 0x3,
    /// A frame came for half of a stream that had ended.
    StreamClosed = 0x5,
    /// A frame has the wrong length.
    FrameSizeError = 0x6,
    /// It was not begun, and may be tried again.
    RefusedStream = 0x7,
    /// It is no longer wanted.
    Cancel = 0x8,
    /// Headers could not be read, and so none after them.
    CompressionError = 0x9,
    /// The other end makes work for nothing.
    EnhanceYourCalm = 0xb,
}

impl Reason {
    /// The number that stands for it on the wire.
    pub(crate) fn number(self) -> u32 {
        self as u32
    }
}

/// What the other end did that ends the connection.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) struct Fault {
    /// As the other end is told.
    pub(crate) reason: Reason,
    /// In words.
    pub(crate) what: &'static str,
}

impl Fault {
    const fn new(reason: Reason, what: &'static str) -> Fault {
        Fault { reason, what }
    }

    const fn protocol(what: &'static str) -> Fault {
        Fault::new(Reason::ProtocolError, what)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({:?})", self.what, self.reason)
    }
}
