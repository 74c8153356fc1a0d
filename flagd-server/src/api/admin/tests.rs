//! The operators' service over a real connection: what fits, what ends, who has confirmed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use flagd_proto::Message as _;
use flagd_proto::admin::admin_client::AdminClient;
use flagd_proto::admin::change_request::Operation;
use flagd_proto::admin::{
    self, ChangeRequest, ErrorCode, ErrorDetail, WaitRequest, WaitVerdict, WatchRequest,
};
use flagd_proto::stream::{self, ClientMessage, client_message, server_message, stream_client::StreamClient};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use crate::clock::Clock;
use crate::serve::{Settings, serve};
use crate::store::memory::Memory;

struct World {
    channel: Channel,
    stop: Option<oneshot::Sender<()>>,
}

impl World {
    async fn new() -> World {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let settings = Settings {
            store: Arc::new(Memory::new(1 << 40)),
            clock: Clock::system(),
            server_name: "flagd-test".to_owned(),
            advertise: None,
            drain_timeout: Duration::from_secs(5),
            admission: crate::limits::Admission::default(),
            upstream: Vec::new(),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(async move { serve(listener, settings, async { drop(stopped.await) }).await.unwrap() });
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        World { channel, stop: Some(stop) }
    }

    fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel.clone()).max_encoding_message_size(usize::MAX)
    }

    async fn change(&self, operation: Operation) -> Result<admin::ChangeResponse, tonic::Status> {
        let request = ChangeRequest {
            environment: "default".into(),
            actor: "ada".into(),
            operation: Some(operation),
            ..ChangeRequest::default()
        };
        self.admin().change(request).await.map(tonic::Response::into_inner)
    }
}

fn create(file: String) -> Operation {
    Operation::Put(admin::Put { file: file.into_bytes().into(), mode: admin::PutMode::Create.into() })
}

fn detail(status: &tonic::Status) -> ErrorDetail {
    ErrorDetail::decode(status.details()).unwrap()
}

#[tokio::test]
async fn an_error_with_ten_thousand_problems_arrives() {
    let world = World::new().await;
    let flags: Vec<String> = (0..10_000).map(|n| format!(r#""flag-{n}": {{"rolout": 5}}"#)).collect();
    let status = world.change(create(format!(r#"{{"flags": {{{}}}}}"#, flags.join(",")))).await.unwrap_err();
    let detail = detail(&status);
    assert_eq!((status.code(), detail.code()), (Code::InvalidArgument, ErrorCode::Invalid));
    assert!(detail.problems[0].hint.contains("rollout"), "{:?}", detail.problems[0]);
    assert_eq!(detail.server, "flagd-test");
}

#[tokio::test]
async fn a_file_larger_than_the_usual_message_is_taken() {
    let world = World::new().await;
    let units: Vec<String> = (0..20_000).map(|n| format!("\"{n:0>20}\"")).collect();
    let units = units.join(",");
    let segments: Vec<String> = (0..10).map(|n| format!(r#""s{n}": {{"include": [{units}]}}"#)).collect();
    let file = format!(r#"{{"segments": {{{}}}}}"#, segments.join(","));
    assert!(file.len() > 4 * 1024 * 1024);
    assert_eq!(world.change(create(file.clone())).await.unwrap().revision, 1);
    let request = admin::ExportRequest { environment: "default".into(), at_revision: 0 };
    let mut parts = world.admin().export(request).await.unwrap().into_inner();
    let mut bytes = 0;
    while let Some(part) = parts.message().await.unwrap() {
        bytes += part.text.len();
    }
    assert!(bytes >= file.len(), "{bytes}");
}

/// Follows `default` and tells what it is sent.
async fn follow(world: &World) -> (mpsc::Sender<ClientMessage>, Streaming<stream::ServerMessage>) {
    let (say, said) = mpsc::channel(4);
    let hello = stream::Hello {
        environment: "default".into(),
        instance: vec![7; 16].into(),
        connect_counter: 1,
        name: "shop-1".into(),
        level: 1,
        state: Some(stream::ClientState::default()),
        ..stream::Hello::default()
    };
    say.send(ClientMessage { message: Some(client_message::Message::Hello(hello)) }).await.unwrap();
    let heard = StreamClient::new(world.channel.clone()).follow(ReceiverStream::new(said)).await.unwrap();
    (say, heard.into_inner())
}

#[tokio::test]
async fn a_kill_is_confirmed_by_the_client_that_acknowledges_it() {
    let world = World::new().await;
    world.change(create(r#"{"flags": {"new-checkout": {"rollout": 25}}}"#.to_owned())).await.unwrap();
    let (say, mut heard) = follow(&world).await;
    assert!(matches!(
        heard.message().await.unwrap().unwrap().message,
        Some(server_message::Message::Full(_))
    ));
    let kill = Operation::Kill(admin::FlagNames { flags: vec!["new-checkout".into()] });
    let answer = world.change(kill).await.unwrap();
    let request = WaitRequest {
        environment: "default".into(),
        revision: answer.revision,
        timeout_ms: 30_000,
        ..WaitRequest::default()
    };
    let mut progress = world.admin().wait(request).await.unwrap().into_inner();
    let first = progress.message().await.unwrap().unwrap();
    assert_eq!((first.expected, first.applied, first.verdict()), (1, 0, WaitVerdict::Unconfirmed));
    assert_eq!(first.missing[0].name, "shop-1");
    let state = stream::ClientState { position: answer.position, ..stream::ClientState::default() };
    let ack = client_message::Message::Ack(stream::Ack { state: Some(state) });
    say.send(ClientMessage { message: Some(ack) }).await.unwrap();
    let last = loop {
        let next = progress.message().await.unwrap().unwrap();
        if next.done {
            break next;
        }
    };
    assert_eq!((last.expected, last.applied, last.verdict()), (1, 1, WaitVerdict::Confirmed));
    assert!(last.elapsed_us > 0 && last.missing.is_empty());
    assert!(progress.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_watch_ends_with_words_when_the_server_stops() {
    let mut world = World::new().await;
    let request = WatchRequest { environment: "default".into(), after_revision: 0 };
    let mut watch = world.admin().watch(request).await.unwrap().into_inner();
    world.change(create(r#"{"flags": {"a": {}}}"#.to_owned())).await.unwrap();
    assert_eq!(watch.message().await.unwrap().unwrap().change.unwrap().revision, 1);
    world.stop.take().unwrap().send(()).unwrap();
    let status = watch.message().await.unwrap_err();
    assert_eq!((status.code(), detail(&status).code()), (Code::Unavailable, ErrorCode::Unavailable));
}
