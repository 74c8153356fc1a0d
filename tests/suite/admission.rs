//! Who is let in, and for how long: each limit where it still lets through, and one past it.

use std::time::{Duration, Instant};

use flagd_proto::Message as _;
use flagd_proto::admin::admin_client::AdminClient;
use flagd_proto::stream::stream_client::StreamClient;
use flagd_proto::stream::{Ack, ClientMessage, ClientState, client_message, server_message::Message};
use flagd_server::limits;
use flagd_tests::load::{Slow, publish};
use flagd_tests::{RawClient, World, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: flagd\r\n\r\n";

async fn connect(world: &World) -> TcpStream {
    TcpStream::connect(world.url().trim_start_matches("http://")).await.expect("the server listens")
}

async fn channel(world: &World) -> Channel {
    Endpoint::new(world.url()).expect("a URL").connect().await.expect("the server listens")
}

/// Asks on a connection that stays open; whether there is an answer.
async fn answers(connection: &mut TcpStream) -> bool {
    let mut answer = [0; 15];
    let asked = connection.write_all(HEALTH).await.is_ok();
    asked && connection.read_exact(&mut answer).await.is_ok() && &answer == b"HTTP/1.1 200 OK"
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_the_others_are_not() {
    let world = World::start_with(&["--connections-max", "3"]).await;
    let mut open = Vec::new();
    eventually("three are taken", async || {
        let mut connection = connect(&world).await;
        if answers(&mut connection).await {
            open.push(connection);
        }
        open.len() == 3
    })
    .await;
    assert!(!answers(&mut connect(&world).await).await, "the fourth one is closed");
    open.pop();
    eventually("the place is free again", async || answers(&mut connect(&world).await).await).await;
}

#[tokio::test]
async fn connections_beyond_the_rate_wait_and_are_all_taken() {
    let world = World::start_with(&["--connections-per-second", "5"]).await;
    let began = Instant::now();
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..15 {
        let mut connection = connect(&world).await;
        asking.spawn(async move { answers(&mut connection).await });
    }
    assert!(asking.join_all().await.into_iter().all(|answered| answered));
    // Five at once; the other ten take two seconds, however quick the machine is.
    assert!(began.elapsed() >= Duration::from_millis(1_900), "{:?}", began.elapsed());
}

#[tokio::test]
async fn one_stream_too_many_is_sent_away_for_a_while() {
    let world = World::start_with(&["--streams-max", "2"]).await;
    let mut first = RawClient::connect(&world.url(), "first").await;
    first.follow_to_head().await;
    let mut second = RawClient::connect(&world.url(), "second").await;
    second.follow_to_head().await;
    let mut third = RawClient::connect(&world.url(), "third").await;
    let Some(Message::GoAway(away)) = third.next().await else { panic!("the third one is taken") };
    assert!(away.retry_after_ms >= 30_000, "{away:?}");
    drop(second);
    eventually("the place is free again", async || {
        let mut third = RawClient::connect(&world.url(), "third").await;
        matches!(third.next().await, Some(Message::Full(_) | Message::UpToDate(_)))
    })
    .await;
    publish(&mut world.admin().await, "default", "a", "a change").await.expect("recorded");
    assert!(matches!(first.next().await, Some(Message::Delta(_))), "who is in stays in");
}

#[tokio::test]
async fn arrivals_beyond_the_rate_are_told_their_turn() {
    let world = World::start_with(&["--streams-per-second", "1", "--streams-at-once", "2"]).await;
    let mut told_ms = Vec::new();
    for number in 0..60 {
        let mut client = RawClient::connect(&world.url(), &format!("shop-{number}")).await;
        if let Some(Message::GoAway(away)) = client.next().await {
            told_ms.push(away.retry_after_ms);
        }
    }
    // Two at once, and one for each second that this has taken.
    assert!(told_ms.len() > 10, "{told_ms:?}");
    let turns = told_ms.len() as u64;
    let (first, last) = (told_ms[0], told_ms[told_ms.len() - 1]);
    assert!((500..6_500).contains(&first), "{told_ms:?}");
    assert!(last > first && last <= turns * 1_000 + 4_500, "{told_ms:?}");
}

/// The time until the server closes a connection.
async fn closed_after(mut connection: TcpStream) -> Duration {
    let began = Instant::now();
    let mut rest = Vec::new();
    // A reset is an end, too.
    let _ = connection.read_to_end(&mut rest).await;
    began.elapsed()
}

#[tokio::test]
async fn whoever_says_nothing_is_not_waited_for() {
    let world = World::start().await;
    let silent = connect(&world).await;
    let mut half_a_preface = connect(&world).await;
    half_a_preface.write_all(b"PRI * HTTP/2.0\r\n\r\nS").await.expect("sent");
    let mut no_request = connect(&world).await;
    no_request.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.expect("sent");
    let mut half_a_request = connect(&world).await;
    half_a_request.write_all(&HEALTH[..20]).await.expect("sent");
    let mut idle = connect(&world).await;
    assert!(answers(&mut idle).await);
    let no_hello = async {
        let began = Instant::now();
        let mut client = StreamClient::new(channel(&world).await);
        let (_open, messages) = tokio::sync::mpsc::channel::<ClientMessage>(1);
        let mut told = client.follow(ReceiverStream::new(messages)).await.expect("opened").into_inner();
        let message = told.message().await.expect("it says why").and_then(|message| message.message);
        assert!(matches!(message, Some(Message::Refused(_))), "{message:?}");
        began.elapsed()
    };
    let (silent, half_a_preface, no_request, half_a_request, idle, no_hello) = tokio::join!(
        closed_after(silent),
        closed_after(half_a_preface),
        closed_after(no_request),
        closed_after(half_a_request),
        closed_after(idle),
        no_hello
    );
    for (name, after) in [
        ("silent", silent),
        ("half a preface", half_a_preface),
        ("no request", no_request),
        ("half a request", half_a_request),
        ("idle after an answer", idle),
        ("no Hello", no_hello),
    ] {
        assert!(after > limits::HANDSHAKE_TIMEOUT / 2, "{name}: cut off after {after:?}");
    }
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_cut_off() {
    let world = World::start().await;
    let address = world.url().trim_start_matches("http://").parse().expect("an address");
    let began = Instant::now();
    let silent = Slow::connect(address, "default", 1).await.expect("taken");
    silent.hurry();
    eventually("it is cut off", async || silent.cut_off() == 1).await;
    assert!(began.elapsed() > limits::KEEPALIVE_INTERVAL, "{:?}", began.elapsed());
    eventually("and counts as lost", async || world.metric("flagd_clients_lost").await == 1).await;
}

#[tokio::test]
async fn a_message_of_the_largest_size_is_taken_and_one_byte_more_ends_the_stream() {
    let world = World::with_flag("a").await;
    let mut admin = world.admin().await;
    for (more, goes_on) in [(0, true), (1, false)] {
        let mut client = RawClient::connect(&world.url(), "shop").await;
        let at = client.follow_to_head().await;
        let state = ClientState { position: Some(at), ..ClientState::default() };
        client.ack(padded(&state, limits::CLIENT_MESSAGE_MAX_BYTES + more)).await;
        // The server has read the message when it has answered what was asked behind it.
        publish(&mut admin, "default", "b", &format!("change {more}")).await.expect("recorded");
        let mut told = Vec::new();
        while told.len() < 2 {
            let Some(message) = client.next().await else { break };
            told.push(message);
            if goes_on {
                break;
            }
        }
        assert_eq!(told.iter().any(|message| matches!(message, Message::Delta(_))), goes_on, "{told:?}");
    }
}

/// A state whose `Ack` is this large on the wire.
fn padded(state: &ClientState, bytes: usize) -> ClientState {
    let with = |length: usize| ClientState { obeyed_kills: vec!["k".repeat(length)], ..state.clone() };
    let size = |length| {
        let ack = Ack { state: Some(with(length)) };
        ClientMessage { message: Some(client_message::Message::Ack(ack)) }.encoded_len()
    };
    let length =
        (bytes - 100..=bytes).find(|length| size(*length) == bytes).expect("lengths have one size each");
    with(length)
}

#[tokio::test]
async fn headers_beyond_the_limit_are_refused_on_either_protocol() {
    let world = World::start().await;
    let limit = limits::HEADER_LIST_MAX_BYTES as usize;
    // What else stands in the head of a request, at the most.
    let others = 1_024;
    for (bytes, fits) in [(limit - others, true), (limit + 1, false)] {
        let mut admin = AdminClient::new(channel(&world).await);
        let mut request = tonic::Request::new(flagd_proto::admin::StatusRequest::default());
        request.metadata_mut().insert("x-filler", "f".repeat(bytes).parse().expect("ASCII"));
        assert_eq!(admin.status(request).await.is_ok(), fits, "HTTP/2, {bytes} bytes");

        let mut connection = connect(&world).await;
        let head = format!("GET /healthz HTTP/1.1\r\nHost: flagd\r\nX-Filler: {}\r\n\r\n", "f".repeat(bytes));
        let mut answer = [0; 12];
        let asked = connection.write_all(head.as_bytes()).await.is_ok();
        let answered = asked && connection.read_exact(&mut answer).await.is_ok();
        assert_eq!(answered && &answer == b"HTTP/1.1 200", fits, "HTTP/1.1, {bytes} bytes");
    }
}
