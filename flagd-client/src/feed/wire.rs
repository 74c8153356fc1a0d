//! The one stream of a client: being opened, open, or closed.
//!
//! It knows where a connection comes from - the client's own, or one that it shares - and turns every way in which
//! opening and reading can end into words. When to open and what to do about what comes is decided elsewhere.

use std::future::{Future, pending};
use std::pin::Pin;

use flagd_proto::stream::stream_client::StreamClient;
use flagd_proto::stream::{ClientMessage, ServerMessage};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::codec::CompressionEncoding;

use super::Server;
use crate::connections::{Connections, Lease};

pub(super) type Opening = Pin<Box<dyn Future<Output = Result<Opened, String>>>>;

/// The one stream.
pub(super) enum Wire {
    Closed,
    Opening(Opening),
    Open(Box<Opened>),
}

/// A stream, and what it needs to live.
pub(super) struct Opened {
    stream: Streaming<ServerMessage>,
    _lease: Option<Lease>,
}

/// What came from the stream.
pub(super) enum Incoming {
    Opened(Box<Opened>),
    Message(Box<ServerMessage>),
    Ended(String),
}

impl Wire {
    /// Opens a stream; it is open when [`Wire::next`] says so.
    pub(super) fn open(
        connections: Option<Connections>,
        server: Server,
        outgoing: ReceiverStream<ClientMessage>,
    ) -> Wire {
        Wire::Opening(Box::pin(open(connections, server, outgoing)))
    }

    /// Waits for what comes next; for ever on a stream that is closed.
    pub(super) async fn next(&mut self) -> Incoming {
        match self {
            Wire::Closed => pending().await,
            Wire::Opening(opening) => match opening.await {
                Ok(opened) => Incoming::Opened(Box::new(opened)),
                Err(why) => Incoming::Ended(why),
            },
            Wire::Open(opened) => match opened.stream.message().await {
                Ok(Some(message)) => Incoming::Message(Box::new(message)),
                Ok(None) => Incoming::Ended("the server ended the stream".into()),
                Err(status) => Incoming::Ended(words(&status)),
            },
        }
    }
}

async fn open(
    connections: Option<Connections>,
    server: Server,
    outgoing: ReceiverStream<ClientMessage>,
) -> Result<Opened, String> {
    let (channel, lease) = match connections {
        Some(connections) => {
            let lease = connections.lease(&server).await?;
            (lease.channel(), Some(lease))
        }
        None => (server.endpoint.connect().await.map_err(|error| chain(&error))?, None),
    };
    // The limit of a message holds for what comes out of it as well.
    let mut client = StreamClient::new(channel).accept_compressed(CompressionEncoding::Gzip);
    let answer = client.follow(outgoing).await;
    Ok(Opened { stream: answer.map_err(|status| words(&status))?.into_inner(), _lease: lease })
}

/// What lies beneath an error; tonic's own words are only "transport error".
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    let words: Vec<String> = causes.map(ToString::to_string).collect();
    if words.is_empty() { error.to_string() } else { words.join(": ") }
}

fn words(status: &tonic::Status) -> String {
    format!("{}: {}", status.code(), status.message())
}
