//! A server that says whatever the story tells it to: for clients that must find out.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use flagd_core::revision::{Digest, Position};
use flagd_core::state::{Delta, State};
use flagd_proto::convert::{delta_to_wire, position_to_wire, stored_to_wire};
use flagd_proto::stream::stream_server::{Stream, StreamServer};
use flagd_proto::stream::{ClientMessage, FullPart, ServerMessage, client_message, server_message};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// One stream of one client, seen from a server that lies.
#[derive(Debug)]
pub struct Liar {
    url: String,
    streams: mpsc::Receiver<Conversation>,
}

/// What is said on one stream.
#[derive(Debug)]
pub struct Conversation {
    send: mpsc::Sender<Result<ServerMessage, Status>>,
    receive: Streaming<ClientMessage>,
}

#[derive(Debug)]
struct Service(Arc<Mutex<mpsc::Sender<Conversation>>>);

type Answers = Pin<Box<dyn tokio_stream::Stream<Item = Result<ServerMessage, Status>> + Send>>;

#[tonic::async_trait]
impl Stream for Service {
    type FollowStream = Answers;

    async fn follow(&self, request: Request<Streaming<ClientMessage>>) -> Result<Response<Answers>, Status> {
        let (send, answers) = mpsc::channel(64);
        let streams = self.0.lock().expect("no panic").clone();
        let conversation = Conversation { send, receive: request.into_inner() };
        streams.send(conversation).await.map_err(|_| Status::unavailable("the story is over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}

impl Liar {
    /// Listens on a port of the system's choice.
    pub async fn start() -> Liar {
        let (accepted, streams) = mpsc::channel(16);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback works");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let service = StreamServer::new(Service(Arc::new(Mutex::new(accepted))));
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        Liar { url, streams }
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The next stream that a client opens.
    pub async fn stream(&mut self) -> Conversation {
        self.streams.recv().await.expect("a client comes")
    }
}

impl Conversation {
    /// The next thing that the client says.
    pub async fn hears(&mut self) -> client_message::Message {
        self.receive
            .message()
            .await
            .expect("the stream goes on")
            .and_then(|said| said.message)
            .expect("something is said")
    }

    /// Waits until the client says something that fits.
    pub async fn waits_for<T>(&mut self, fits: impl Fn(client_message::Message) -> Option<T>) -> T {
        loop {
            if let Some(found) = fits(self.hears().await) {
                return found;
            }
        }
    }

    /// Says something.
    pub async fn says(&self, message: server_message::Message) {
        self.send.send(Ok(ServerMessage { message: Some(message) })).await.expect("the client listens");
    }

    /// Sends the whole state, with a digest that may be a lie.
    pub async fn says_full(&self, state: &State, digest: Digest) {
        let position = Position { digest, ..state.position() };
        let entries = state.entries().map(|(id, entry)| stored_to_wire(id, entry)).collect();
        let part = FullPart { position: Some(position_to_wire(position)), entries, part: 0, last: true };
        self.says(server_message::Message::Full(part)).await;
    }

    /// Sends one change.
    pub async fn says_delta(&self, delta: &Delta) {
        self.says(server_message::Message::Delta(delta_to_wire(delta))).await;
    }
}
