//! Stories through a real client on a real port.

use std::net::SocketAddr;

use flagd_core::entry::{EntryId, EntryKind, EntryWrite, StoredEntry};
use flagd_core::key::EnvironmentName;
use flagd_core::revision::{Epoch, Position, Revision};
use flagd_core::state::State;
use flagd_proto::Message as _;
use flagd_proto::convert;
use flagd_proto::stream::stream_client::StreamClient;
use flagd_proto::stream::{self, ClientMessage, ServerMessage, client_message, server_message::Message};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::health_check_response::ServingStatus as Told;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::*;
use crate::hub::{Environment, Standing, Target, Verdict};
use crate::limits;
use crate::store::log::{NewChange, Origin, Outcome};
use crate::store::memory::Memory;

/// A server on a port that the system chose.
struct Running {
    address: SocketAddr,
    hub: Arc<Hub>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(store: &Arc<Memory>) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let settings = Settings {
            store: Arc::clone(store) as Arc<dyn Store>,
            clock: Clock::system(),
            server_name: "test".to_owned(),
            advertise: None,
            drain_timeout: Duration::from_secs(10),
            admission: limits::Admission::default(),
            upstream: Vec::new(),
        };
        let server = Server::build(settings, address).await.unwrap();
        let hub = Arc::clone(&server.hub);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(listener, async move { drop(stopped.await) }));
        Running { address, hub, stop, task }
    }

    async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    async fn environment(&self) -> Arc<Environment> {
        self.hub.environment(&default()).await.unwrap()
    }

    async fn append(&self, writes: Vec<EntryWrite>) -> Position {
        let log = self.hub.log();
        let state = log.load(&default()).await.unwrap();
        let origin = Origin { actor: "test".to_owned(), verb: "put".to_owned(), ..Origin::default() };
        let change =
            NewChange { origin, time_ms: 7, writes, answer: Vec::new(), fingerprint: 0, source_base: None };
        match log.append(&default(), &state, change).await.unwrap() {
            Outcome::Recorded(_) => log.head(&default()).await.unwrap().unwrap(),
            Outcome::Lost => panic!("nobody else writes"),
        }
    }

    /// Waits until the only expected client stands there.
    async fn stands(&self, target: &Target, want: Option<Standing>) {
        let environment = self.environment().await;
        let mut seen = 0;
        loop {
            let standings = environment.standings(target);
            if standings.clients.first().map(|client| client.standing) == want {
                return;
            }
            seen = environment.roster_changed(seen).await;
        }
    }

    async fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\n")).await
    }

    async fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{request}Host: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

fn store() -> Arc<Memory> {
    Arc::new(Memory::new(u64::MAX))
}

fn default() -> EnvironmentName {
    EnvironmentName::new("default").unwrap()
}

fn flag(key: &str, enabled: bool) -> EntryWrite {
    let text = format!(r#"{{"variants":{{"on":true,"off":false}},"offVariant":"off","enabled":{enabled}}}"#);
    EntryWrite::set(EntryId::new(EntryKind::FLAG, key), text.into_bytes())
}

/// A client as the protocol describes it, with nothing of the SDK.
struct Client {
    to: mpsc::Sender<ClientMessage>,
    from: Streaming<ServerMessage>,
    state: Option<State>,
}

impl Client {
    async fn hello(server: &Running, hello: stream::Hello, state: Option<State>) -> Client {
        let (to, messages) = mpsc::channel(4);
        let position = state.as_ref().map(|state| convert::position_to_wire(state.position()));
        let said = stream::Hello {
            state: Some(stream::ClientState { position, ..stream::ClientState::default() }),
            ..hello
        };
        to.send(ClientMessage { message: Some(client_message::Message::Hello(said)) }).await.unwrap();
        let mut client = StreamClient::new(server.channel().await);
        let from = client.follow(ReceiverStream::new(messages)).await.unwrap().into_inner();
        Client { to, from, state }
    }

    async fn say(&self, message: client_message::Message) {
        self.to.send(ClientMessage { message: Some(message) }).await.unwrap();
    }

    async fn ack(&self) {
        let position = self.state.as_ref().map(|state| convert::position_to_wire(state.position()));
        let state = Some(stream::ClientState { position, ..stream::ClientState::default() });
        self.say(client_message::Message::Ack(stream::Ack { state })).await;
    }

    async fn next(&mut self) -> Message {
        self.from.message().await.unwrap().expect("the stream goes on").message.unwrap()
    }

    async fn full(&mut self) -> Position {
        let mut entries: Vec<(EntryId, StoredEntry)> = Vec::new();
        loop {
            let part = match self.next().await {
                Message::Full(part) => part,
                other => panic!("{other:?}"),
            };
            entries.extend(part.entries.iter().map(|entry| convert::stored_from_wire(entry).unwrap()));
            if part.last {
                let at = convert::position_from_wire(&part.position.unwrap()).unwrap();
                let state = State::from_entries(default(), at.epoch, at.revision, entries);
                assert_eq!(state.position(), at, "the parts add up to the promised digest");
                self.state = Some(state);
                return at;
            }
        }
    }

    async fn delta(&mut self) -> Position {
        match self.next().await {
            Message::Delta(delta) => {
                let state = self.state.as_mut().unwrap();
                state.apply(&convert::delta_from_wire(&delta).unwrap()).unwrap();
                state.position()
            }
            other => panic!("{other:?}"),
        }
    }

    async fn end(mut self) -> Result<(), Status> {
        while self.from.message().await?.is_some() {}
        Ok(())
    }
}

fn hello(connect_counter: u64) -> stream::Hello {
    stream::Hello {
        environment: "default".to_owned(),
        instance: vec![7; 16].into(),
        connect_counter,
        name: "shop-1".to_owned(),
        level: 1,
        ..stream::Hello::default()
    }
}

fn target(position: Position) -> Target {
    Target { position, touched: vec![] }
}

#[tokio::test]
async fn from_hello_to_applied() {
    let server = Running::start(&store()).await;
    server.append(vec![flag("a", true)]).await;
    let mut client = Client::hello(&server, hello(1), None).await;
    let first = client.full().await;
    assert_eq!(first.revision, Revision(1));
    client.ack().await;
    server.stands(&target(first), Some(Standing::Applied)).await;

    let second = server.append(vec![flag("a", false), flag("b", true)]).await;
    server.stands(&target(second), Some(Standing::Lagging)).await;
    assert_eq!(client.delta().await, second, "two flags are one change and one message");
    client.ack().await;
    server.stands(&target(second), Some(Standing::Applied)).await;
    assert_eq!(server.environment().await.standings(&target(second)).verdict(), Verdict::Confirmed);

    client.say(client_message::Message::Bye(stream::Bye {})).await;
    server.stands(&target(second), None).await;
    assert_eq!(server.environment().await.standings(&target(second)).verdict(), Verdict::Nobody);
    client.end().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn what_an_operator_does_reaches_a_client_and_is_confirmed() {
    use flagd_proto::admin::admin_client::AdminClient;
    use flagd_proto::admin::{self, change_request::Operation};

    let server = Running::start(&store()).await;
    let mut client = Client::hello(&server, hello(1), None).await;
    client.full().await;
    client.ack().await;
    let mut admin = AdminClient::new(server.channel().await);
    let file = br#"{"flags":{"new-checkout":{"rollout":100}}}"#;
    let put = admin::Put { file: file.to_vec().into(), mode: admin::PutMode::Create.into() };
    let kill = admin::FlagNames { flags: vec!["new-checkout".to_owned()] };
    for operation in [Operation::Put(put), Operation::Kill(kill)] {
        let request = admin::ChangeRequest {
            environment: "default".to_owned(),
            actor: "test".to_owned(),
            operation: Some(operation),
            ..admin::ChangeRequest::default()
        };
        let answer = admin.change(request).await.unwrap().into_inner();
        let at = client.delta().await;
        assert_eq!(at.revision.0, answer.revision);
        let wait = admin::WaitRequest {
            environment: "default".to_owned(),
            revision: answer.revision,
            timeout_ms: 60_000,
            ..admin::WaitRequest::default()
        };
        let mut progress = admin.wait(wait).await.unwrap().into_inner();
        let first = progress.message().await.unwrap().unwrap();
        assert_eq!((first.expected, first.applied, first.missing.len()), (1, 0, 1), "not before it says so");
        client.ack().await;
        let mut last = first;
        while let Some(next) = progress.message().await.unwrap() {
            last = next;
        }
        assert!(last.done);
        assert_eq!((last.verdict(), last.applied), (admin::WaitVerdict::Confirmed, 1));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_was_away_catches_up() {
    let server = Running::start(&store()).await;
    let first = server.append(vec![flag("a", true), flag("b", true), flag("c", true), flag("d", true)]).await;
    let mut client = Client::hello(&server, hello(1), None).await;
    client.full().await;
    let state = client.state.take();
    drop(client);
    server.stands(&target(Position { revision: Revision(9), ..first }), Some(Standing::Lost)).await;

    let mut last = first;
    for enabled in [false, true, false] {
        last = server.append(vec![flag("a", enabled)]).await;
    }
    let environment = server.environment().await;
    environment.view_at(last, Duration::from_mins(1)).await;
    let mut client = Client::hello(&server, hello(2), state).await;
    match client.next().await {
        Message::CatchUp(catch_up) => assert_eq!(catch_up.until, last.revision.0),
        other => panic!("{other:?}"),
    }
    for _ in 0..3 {
        client.delta().await;
    }
    assert_eq!(client.state.as_ref().unwrap().position(), last);
    let state = client.state.take();
    drop(client);
    let mut client = Client::hello(&server, hello(3), state).await;
    assert!(matches!(client.next().await, Message::UpToDate(_)));
    server.stop().await;
}

#[tokio::test]
async fn a_client_resumes_after_the_servers_restart() {
    let store = store();
    let server = Running::start(&store).await;
    let first = server.append(vec![flag("a", true), flag("b", true)]).await;
    let mut client = Client::hello(&server, hello(1), None).await;
    client.full().await;
    let stopping = tokio::spawn(server.stop());
    match client.next().await {
        Message::GoAway(go_away) => assert!((500..4_500).contains(&go_away.retry_after_ms)),
        other => panic!("{other:?}"),
    }
    let state = client.state.take();
    client.end().await.unwrap();
    stopping.await.unwrap();

    let server = Running::start(&store).await;
    let later = Position { revision: Revision(first.revision.0 + 1), ..first };
    server.stands(&target(later), Some(Standing::Lost)).await;
    server.append(vec![flag("b", false)]).await;
    let mut client = Client::hello(&server, hello(2), state).await;
    assert!(matches!(client.next().await, Message::CatchUp(_) | Message::UpToDate(_)));
    client.delta().await;
    client.ack().await;
    server.stands(&target(later), Some(Standing::Applied)).await;
    server.stop().await;
}

#[tokio::test]
async fn need_full_is_answered_by_everything() {
    let server = Running::start(&store()).await;
    server.append(vec![flag("a", true)]).await;
    let mut client = Client::hello(&server, hello(1), None).await;
    let first = client.full().await;
    let need = stream::NeedFull { why: "digest".to_owned(), state: None };
    client.say(client_message::Message::NeedFull(need)).await;
    assert_eq!(client.full().await, first);
    let metrics = server.get("/metrics").await;
    assert!(metrics.contains("flagd_need_full_total{environment=\"default\",why=\"digest\"} 1"), "{metrics}");
    assert!(metrics.contains("flagd_fulls_sent_total{environment=\"default\"} 2"), "{metrics}");
    server.stop().await;
}

/// What comes back for a Hello, as bytes: the header that names the encoding, and the first byte of each message.
async fn flags_of_messages(
    server: &Running,
    takes: Option<&str>,
    messages: usize,
) -> (Option<String>, Vec<u8>) {
    let socket = TcpStream::connect(server.address).await.unwrap();
    let (mut requests, connection) = h2::client::handshake(socket).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut request = ::http::Request::post("http://test/flagd.stream.v1.Stream/Follow")
        .header("content-type", "application/grpc");
    if let Some(takes) = takes {
        request = request.header("grpc-accept-encoding", takes);
    }
    let (answer, mut said) = requests.send_request(request.body(()).unwrap(), false).unwrap();
    let hello = ClientMessage { message: Some(client_message::Message::Hello(hello(1))) }.encode_to_vec();
    let mut framed = vec![0];
    framed.extend(u32::try_from(hello.len()).unwrap().to_be_bytes());
    framed.extend(hello);
    said.send_data(framed.into(), false).unwrap();
    let answer = answer.await.unwrap();
    let named = answer.headers().get("grpc-encoding").map(|name| name.to_str().unwrap().to_owned());
    let (mut body, mut bytes, mut flags) = (answer.into_body(), Vec::new(), Vec::new());
    while flags.len() < messages {
        bytes.extend(body.data().await.unwrap().unwrap());
        while let Some([flag, length @ ..]) = bytes.first_chunk::<5>() {
            let end = 5 + u32::from_be_bytes(*length) as usize;
            if bytes.len() < end {
                break;
            }
            flags.push(*flag);
            bytes.drain(..end);
            if flags.len() == 1 {
                server.append(vec![flag_of(8)]).await;
            }
        }
    }
    connection.abort();
    (named, flags)
}

fn flag_of(weight: usize) -> EntryWrite {
    EntryWrite::set(EntryId::new(EntryKind::from_number(99), "large"), vec![b'x'; weight * 1_000])
}

#[tokio::test]
async fn full_states_go_compressed_to_those_who_take_that_and_changes_to_nobody() {
    for (takes, named, flags) in [
        (None, None, [0, 0]),
        (Some("identity"), None, [0, 0]),
        (Some("identity,deflate, gzip"), Some("gzip"), [1, 0]),
    ] {
        let server = Running::start(&store()).await;
        server.append(vec![flag_of(9)]).await;
        let found = flags_of_messages(&server, takes, 2).await;
        assert_eq!(found, (named.map(ToOwned::to_owned), flags.to_vec()), "{takes:?}");
        server.stop().await;
    }
}

#[tokio::test]
async fn who_makes_no_sense_is_refused_in_words() {
    let server = Running::start(&store()).await;
    let rows = [
        (
            stream::Hello { environment: "defualt".to_owned(), ..hello(1) },
            stream::RefusedWhy::UnknownEnvironment,
            "did you mean `default`?",
        ),
        (
            stream::Hello { environment: "Not A Name".to_owned(), ..hello(1) },
            stream::RefusedWhy::UnknownEnvironment,
            "it has `default`",
        ),
        (
            stream::Hello { instance: vec![1].into(), ..hello(1) },
            stream::RefusedWhy::BadHello,
            "`instance` must have 16 bytes",
        ),
        (
            stream::Hello { app: "x".repeat(limits::CLIENT_MESSAGE_MAX_BYTES), ..hello(1) },
            stream::RefusedWhy::BadHello,
            "at most",
        ),
    ];
    for (said, why, part) in rows {
        let mut client = Client::hello(&server, said, None).await;
        match client.next().await {
            Message::Refused(refused) => {
                assert_eq!(refused.why(), why);
                assert!(refused.message.contains(part), "{}", refused.message);
            }
            other => panic!("{other:?}"),
        }
        client.end().await.unwrap();
    }
    server.stop().await;
}

#[tokio::test]
async fn the_highest_connect_counter_counts() {
    let server = Running::start(&store()).await;
    let mut old = Client::hello(&server, hello(1), None).await;
    let at = old.full().await;
    let mut new = Client::hello(&server, hello(2), old.state.clone()).await;
    assert!(matches!(new.next().await, Message::UpToDate(_)));
    assert_eq!(old.end().await.unwrap_err().code(), Code::Aborted);
    let stale = Client::hello(&server, hello(1), None).await;
    assert_eq!(stale.end().await.unwrap_err().code(), Code::Aborted);
    server.stands(&target(at), Some(Standing::Applied)).await;
    server.stop().await;
}

#[tokio::test]
async fn a_change_larger_than_a_message_arrives_whole() {
    let server = Running::start(&store()).await;
    let mut client = Client::hello(&server, hello(1), None).await;
    client.full().await;
    let kind = EntryKind::from_number(99);
    let writes =
        (0..5).map(|n| EntryWrite::set(EntryId::new(kind, &format!("e{n}")), vec![b'x'; 500_000])).collect();
    let at = server.append(writes).await;
    let mut whole: Option<stream::Delta> = None;
    loop {
        let Message::Delta(part) = client.next().await else { panic!("a change") };
        let more = part.more;
        match &mut whole {
            None => whole = Some(part),
            Some(whole) => whole.entries.extend(part.entries),
        }
        if !more {
            break;
        }
    }
    let state = client.state.as_mut().unwrap();
    state.apply(&convert::delta_from_wire(&whole.unwrap()).unwrap()).unwrap();
    assert_eq!(state.position(), at);
    server.stop().await;
}

#[tokio::test]
async fn the_endpoints_for_machines() {
    let server = Running::start(&store()).await;
    server.append(vec![flag("a", true)]).await;
    let mut client = Client::hello(&server, hello(1), None).await;
    let at = client.full().await;
    client.ack().await;
    server.stands(&target(at), Some(Standing::Applied)).await;

    assert!(server.get("/healthz").await.starts_with("HTTP/1.1 200"));
    let ready = server.get("/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 200") && ready.contains("\"ready\":true"), "{ready}");
    assert!(ready.contains("\"name\":\"default\",\"revision\":1"), "{ready}");
    let metrics = server.get("/metrics").await;
    for line in [
        "flagd_revision{environment=\"default\"} 1",
        "flagd_streams_open{environment=\"default\"} 1",
        "flagd_clients_expected{environment=\"default\"} 1",
        "flagd_clients_lost{environment=\"default\"} 0",
        "flagd_acks_total{environment=\"default\"} 1",
        "flagd_store_up 1",
        "flagd_connections_open 2",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    let nothing = server.get("/nothing").await;
    assert!(
        nothing.starts_with("HTTP/1.1 404") && nothing.ends_with("there is nothing at /nothing\n"),
        "{nothing}"
    );
    server.stop().await;
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let server = Running::start(&store()).await;
    let answer = server
        .ask("POST /flagd.stream.v9.Stream/Follow HTTP/1.1\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n")
        .await;
    let unimplemented = format!("grpc-status: {}\r\n", i32::from(Code::Unimplemented));
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(&unimplemented), "{answer}");
    assert!(answer.contains("/flagd.stream.v9.Stream/Follow"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn health_and_reflection_name_the_services() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_response::MessageResponse};

    let server = Running::start(&store()).await;
    let mut health = HealthClient::new(server.channel().await);
    for service in health_names() {
        let told =
            health.check(HealthCheckRequest { service: service.to_owned() }).await.unwrap().into_inner();
        assert_eq!(told.status(), Told::Serving, "{service}");
    }
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(server.channel().await);
    let mut answers =
        reflection.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("a list of services")
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["flagd.stream.v1.Stream", "flagd.admin.v1.Admin", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    drop(answers);
    server.stop().await;
}

#[tokio::test]
async fn health_turns_before_the_server_goes() {
    let server = Running::start(&store()).await;
    let mut health = HealthClient::new(server.channel().await);
    let mut watch = health.watch(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), Told::Serving);
    let stopping = tokio::spawn(server.stop());
    assert_eq!(watch.message().await.unwrap().unwrap().status(), Told::NotServing);
    drop(watch);
    drop(health);
    stopping.await.unwrap();
}

#[tokio::test]
async fn the_limits_of_http_2_are_announced() {
    let server = Running::start(&store()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // The preface and an empty SETTINGS frame.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "the first frame is SETTINGS");
    let mut settings = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
    stream.read_exact(&mut settings).await.unwrap();
    let settings: Vec<(u16, u32)> = settings
        .chunks(6)
        .map(|setting| {
            let id = u16::from_be_bytes(setting[..2].try_into().unwrap());
            (id, u32::from_be_bytes(setting[2..].try_into().unwrap()))
        })
        .collect();
    assert!(settings.contains(&(3, limits::STREAMS_PER_CONNECTION_MAX)), "{settings:?}");
    assert!(settings.contains(&(6, limits::HEADER_LIST_MAX_BYTES)), "{settings:?}");
    drop(stream);
    server.stop().await;
}

#[tokio::test]
async fn a_fresh_store_gets_one_environment_and_an_old_one_no_more() {
    let store = store();
    let server = Running::start(&store).await;
    let epoch = |server: &Running| server.hub.environments()[0].view().state.position().epoch;
    let first: Epoch = epoch(&server);
    server.stop().await;
    let server = Running::start(&store).await;
    assert_eq!(server.hub.environments().len(), 1);
    assert_eq!(epoch(&server), first);
    server.stop().await;
}
