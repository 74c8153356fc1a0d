//! A client that does only what it is told: for stories about clients that lag, vanish or lie.

use flagd_proto::stream::stream_client::StreamClient;
use flagd_proto::stream::{
    Ack, Bye, ClientMessage, ClientState, Hello, NeedFull, Position, ServerMessage, client_message,
    server_message,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// A stream to a server without the client library on top. Dropping it cuts the stream without Bye.
#[derive(Debug)]
pub struct RawClient {
    send: mpsc::Sender<ClientMessage>,
    receive: Streaming<ServerMessage>,
}

impl RawClient {
    /// Connects under a name and says Hello without a state.
    pub async fn connect(url: &str, name: &str) -> RawClient {
        RawClient::connect_with(url, Hello { name: name.to_owned(), ..RawClient::hello() }).await
    }

    /// A Hello of a new instance to the environment `default`.
    #[must_use]
    pub fn hello() -> Hello {
        let instance: [u8; 16] = std::array::from_fn(|_| rand_byte());
        Hello {
            environment: "default".into(),
            instance: instance.to_vec().into(),
            connect_counter: 1,
            name: "raw".into(),
            app: "story".into(),
            app_version: "1.0".into(),
            sdk: "raw/1".into(),
            level: flagd_core::definition::LEVEL,
            state: Some(ClientState::default()),
            relay: false,
        }
    }

    /// Connects with exactly this Hello.
    pub async fn connect_with(url: &str, hello: Hello) -> RawClient {
        let (send, messages) = mpsc::channel(16);
        send.send(ClientMessage { message: Some(client_message::Message::Hello(hello)) })
            .await
            .expect("room");
        let channel = tonic::transport::Endpoint::new(url.to_owned())
            .expect("a URL")
            .connect()
            .await
            .expect("the server runs");
        let mut client = StreamClient::new(channel).max_decoding_message_size(8 << 20);
        let receive = client.follow(ReceiverStream::new(messages)).await.expect("a stream").into_inner();
        RawClient { send, receive }
    }

    /// The next message; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<server_message::Message> {
        self.receive.message().await.ok().flatten().and_then(|message| message.message)
    }

    /// Says what it has in use.
    pub async fn ack(&mut self, state: ClientState) {
        self.say(client_message::Message::Ack(Ack { state: Some(state) })).await;
    }

    /// Asks for the whole state.
    pub async fn need_full(&mut self, why: &str) {
        self.say(client_message::Message::NeedFull(NeedFull { why: why.to_owned(), state: None })).await;
    }

    /// Takes its leave, unless the server did before.
    pub async fn bye(&mut self) {
        let message = ClientMessage { message: Some(client_message::Message::Bye(Bye {})) };
        if self.send.send(message).await.is_ok() {
            while self.next().await.is_some() {}
        }
    }

    async fn say(&mut self, message: client_message::Message) {
        self.send.send(ClientMessage { message: Some(message) }).await.expect("the stream is open");
    }

    /// Acknowledges whatever it is sent, until the stream ends.
    pub async fn follow_on(mut self) {
        while let Some(message) = self.next().await {
            let position = match message {
                server_message::Message::Full(part) if part.last => part.position,
                server_message::Message::UpToDate(now) => now.position,
                server_message::Message::Delta(delta) if !delta.more => Some(Position {
                    epoch: delta.epoch,
                    revision: delta.to,
                    digest: delta.digest,
                    digest_algorithm: delta.digest_algorithm,
                }),
                _ => continue,
            };
            self.ack(ClientState { position, ..ClientState::default() }).await;
        }
    }

    /// Reads the whole state and acknowledges it.
    pub async fn follow_to_head(&mut self) -> Position {
        loop {
            let position = match self.next().await.expect("the stream goes on") {
                server_message::Message::Full(part) if part.last => part.position,
                server_message::Message::UpToDate(now) => now.position,
                _ => continue,
            };
            let position = position.expect("a position");
            self.ack(ClientState { position: Some(position.clone()), ..ClientState::default() }).await;
            return position;
        }
    }
}

/// Randomness without a dependency: the standard library seeds each hasher differently.
fn rand_byte() -> u8 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish().to_le_bytes()[0]
}
