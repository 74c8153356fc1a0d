//! A connection that is served, and a client of somebody else's HTTP/2.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::routing::{get, post};
use bytes::Bytes;
use flagd_proto::Message as _;
use flagd_proto::stream::{ClientMessage, Hello, client_message};
use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinHandle;

use super::*;
use crate::hub::Hub;
use crate::limits::Admission;
use crate::metrics::ServerMetrics;
use crate::store::log::Log;
use crate::store::memory::Memory;

/// A server's services, with these handlers.
async fn services(router: Router, clock: Clock) -> Services {
    let log = Log::new(Arc::new(Memory::new(u64::MAX)));
    crate::serve::begin(&log, &clock).await.unwrap();
    let hub = Hub::start(log, clock.clone()).await.unwrap();
    let streams = StreamService::new(hub, Arc::new(ServerMetrics::default()), &Admission::default());
    Services { streams, router, clock }
}

/// The other end of a connection that is served, its task, and what closes the server.
async fn open() -> (DuplexStream, JoinHandle<()>, watch::Sender<bool>) {
    open_with(Router::new().fallback(|| async { "hello" })).await
}

async fn open_with(router: Router) -> (DuplexStream, JoinHandle<()>, watch::Sender<bool>) {
    let services = services(router, Clock::fixed(784_111_777_000)).await;
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (close, closing) = watch::channel(false);
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    (far, tokio::spawn(serve(near, peer, services, closing)), close)
}

#[tokio::test(start_paused = true)]
async fn who_carries_nothing_for_five_minutes_is_dismissed_and_who_is_silent_is_closed() {
    for (answers, from, until) in [(true, 290, 320), (false, 30, 41)] {
        let (far, serving, _close) = open().await;
        let (mut requests, connection) = h2::client::handshake(far).await.unwrap();
        let mut connection = Box::pin(connection);
        let (answer, _) =
            requests.send_request(Request::get("http://test/").body(()).unwrap(), true).unwrap();
        let answer = tokio::select! {
            answer = answer => answer.unwrap(),
            _ = connection.as_mut() => panic!("the connection goes on"),
        };
        assert_eq!(answer.headers()["date"], "Sun, 06 Nov 1994 08:49:37 GMT");
        drop(answer);
        let began = Instant::now();
        if answers {
            connection.await.unwrap();
            serving.await.unwrap();
        } else {
            // It is there and never looked at again.
            serving.await.unwrap();
            drop(connection);
        }
        let took = began.elapsed().as_secs();
        assert!((from..until).contains(&took), "{took} s");
    }
}

/// A client of an environment that is there (it would be answered) or is not (it is refused), which never has room.
async fn takes_nothing(environment: &str) -> Duration {
    let (far, _serving, _close) = open().await;
    let mut protocol = h2::client::Builder::new();
    let (mut requests, connection) =
        protocol.initial_window_size(0).handshake::<_, Bytes>(far).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://test/flagd.stream.v1.Stream/Follow")
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let (answer, mut said) = requests.send_request(request, false).unwrap();
    let hello = Hello {
        environment: environment.to_owned(),
        instance: vec![1; 16].into(),
        connect_counter: 1,
        ..Hello::default()
    };
    let hello = ClientMessage { message: Some(client_message::Message::Hello(hello)) };
    let hello = hello.encode_to_vec();
    let length = u32::try_from(hello.len()).unwrap().to_be_bytes();
    said.send_data([&[0], &length[..], &hello].concat().into(), false).unwrap();
    let mut body = answer.await.unwrap().into_body();
    let began = Instant::now();
    let ended = tokio::time::timeout(Duration::from_mins(5), body.data()).await.expect("it ends");
    let ended = ended.unwrap().unwrap_err();
    assert_eq!(ended.reason(), Some(h2::Reason::CANCEL));
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_client_takes_nothing_ends() {
    for (environment, least) in [
        ("default", limits::STUCK_MAX.saturating_sub(limits::HEARTBEAT_INTERVAL)),
        ("other", limits::FAREWELL_MAX),
    ] {
        let took = takes_nothing(environment).await;
        assert!(least <= took && took < least + Duration::from_secs(25), "{environment}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_nothing_or_speaks_nothing_is_closed_at_once() {
    let (far, serving, _close) = open().await;
    let (_requests, connection) = h2::client::handshake(far).await.unwrap();
    let began = Instant::now();
    let _ = tokio::time::timeout(Duration::from_mins(1), connection).await.expect("it is closed");
    serving.await.unwrap();
    assert!(began.elapsed() <= 2 * limits::HANDSHAKE_TIMEOUT, "{:?}", began.elapsed());
    let (_far, serving, _close) = open().await;
    let began = Instant::now();
    serving.await.unwrap();
    assert_eq!(began.elapsed().as_secs(), limits::HANDSHAKE_TIMEOUT.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_lets_idle_connections_go_at_once() {
    let (far, serving, close) = open().await;
    let (_requests, connection) = h2::client::handshake(far).await.unwrap();
    close.send_replace(true);
    let began = Instant::now();
    connection.await.unwrap();
    serving.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1));
}

/// Counts as long as a handler works on a request.
#[derive(Clone, Default)]
struct Working(Arc<AtomicUsize>);

impl Working {
    fn begin(&self) -> Working {
        self.0.fetch_add(1, Ordering::SeqCst);
        self.clone()
    }

    async fn settles_at(&self, count: usize) {
        let settled = async {
            while self.0.load(Ordering::SeqCst) != count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), settled).await.expect("it settles");
    }
}

/// Handlers that use a connection in every way.
fn handlers(working: &Working) -> Router {
    let (one, other) = (working.clone(), working.clone());
    Router::new()
        .route("/echo", post(|body: Body| async { body }))
        .route("/unread", post(|| async { "no" }))
        .route("/length", post(|body: Bytes| async move { body.len().to_string() }))
        .route("/large", get(|| async { vec![7; 3_000_000] }))
        .route(
            "/never",
            get(move || async move {
                let working = one.begin();
                let _end = Guard(working);
                std::future::pending::<String>().await
            }),
        )
        .route(
            "/endless",
            get(move || async move {
                let end = Guard(other.begin());
                let pieces = futures_util::stream::iter(std::iter::repeat_with(move || {
                    let _ = &end;
                    Ok::<_, std::io::Error>(Bytes::from_static(&[1; 1_000]))
                }));
                Body::from_stream(pieces)
            }),
        )
        .route("/panic", get(panics))
        .layer(axum::extract::DefaultBodyLimit::disable())
}

struct Guard(Working);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn panics() -> &'static str {
    panic!("a handler panics, as this test wants it to")
}

/// A client of these handlers.
async fn client(working: &Working, builder: &h2::client::Builder) -> h2::client::SendRequest<Bytes> {
    let (far, _, close) = open_with(handlers(working)).await;
    let (requests, connection) = builder.handshake(far).await.unwrap();
    tokio::spawn(async move {
        let _open = close;
        connection.await
    });
    requests
}

/// Sends a request with a body, as the server lets it, and reads the answer to its end.
async fn ask(requests: &h2::client::SendRequest<Bytes>, path: &str, body: Bytes) -> Result<Bytes, h2::Error> {
    let mut requests = requests.clone().ready().await?;
    let method = if body.is_empty() { "GET" } else { "POST" };
    let request = Request::builder().method(method).uri(format!("http://test{path}")).body(()).unwrap();
    let (answer, mut out) = requests.send_request(request, body.is_empty())?;
    let said = tokio::spawn(async move {
        let mut left = body;
        while !left.is_empty() {
            out.reserve_capacity(left.len());
            let Some(Ok(room)) = std::future::poll_fn(|context| out.poll_capacity(context)).await else {
                return;
            };
            let part = left.split_to(room);
            if out.send_data(part, left.is_empty()).is_err() {
                return;
            }
        }
    });
    let mut answer = answer.await?.into_body();
    let mut all = Vec::new();
    while let Some(data) = answer.data().await {
        let data = data?;
        answer.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    said.abort();
    Ok(all.into())
}

#[tokio::test]
async fn bodies_of_any_size_go_both_ways_whatever_the_windows_are() {
    for window in [7, 65_535, 2_000_000] {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(65_535.max(window));
        let requests = client(&Working::default(), &builder).await;
        let size = if window == 7 { 5_000 } else { 3_000_000 };
        let body: Bytes = (0..=255).cycle().take(size).collect::<Vec<u8>>().into();
        assert_eq!(ask(&requests, "/echo", body.clone()).await.unwrap(), body);
        assert_eq!(ask(&requests, "/length", body.clone()).await.unwrap(), size.to_string());
        if window != 7 {
            let all = (0..20).map(|_| ask(&requests, "/large", Bytes::new()));
            for answer in futures_util::future::join_all(all).await {
                assert_eq!(answer.unwrap().len(), 3_000_000);
            }
        }
    }
}

/// What a handler does not read is given back, or the connection would stand still after a megabyte.
#[tokio::test]
async fn what_nobody_reads_costs_no_window() {
    let requests = client(&Working::default(), &h2::client::Builder::new()).await;
    let body = Bytes::from(vec![0; 500_000]);
    for _ in 0..10 {
        assert_eq!(ask(&requests, "/unread", body.clone()).await.unwrap(), "no");
    }
    assert_eq!(ask(&requests, "/length", body).await.unwrap(), "500000");
}

#[tokio::test]
async fn who_gives_up_ends_the_work() {
    let working = Working::default();
    for path in ["/never", "/endless"] {
        let mut requests = client(&working, &h2::client::Builder::new()).await.ready().await.unwrap();
        let request = Request::get(format!("http://test{path}")).body(()).unwrap();
        let (answer, mut out) = requests.send_request(request.clone(), true).unwrap();
        working.settles_at(1).await;
        out.send_reset(h2::Reason::CANCEL);
        drop(answer);
        working.settles_at(0).await;
        // The connection goes on, and its end ends what it carries.
        let (answer, _) = requests.send_request(request, true).unwrap();
        working.settles_at(1).await;
        drop((answer, requests));
        working.settles_at(0).await;
    }
}

#[tokio::test]
async fn a_handler_that_panics_fails_its_own_request() {
    let requests = client(&Working::default(), &h2::client::Builder::new()).await;
    let failed = ask(&requests, "/panic", Bytes::new()).await.unwrap_err();
    assert_eq!(failed.reason(), Some(h2::Reason::INTERNAL_ERROR));
    assert_eq!(ask(&requests, "/length", Bytes::from_static(b"abc")).await.unwrap(), "3");
}

/// A client that asks for much and reads nothing is not read either, until it does.
#[tokio::test]
async fn who_reads_nothing_is_not_listened_to() {
    static PINGS: AtomicUsize = AtomicUsize::new(0);
    let (mut far, _serving, _close) = open_with(handlers(&Working::default())).await;
    far.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let ping = b"\0\0\x08\x06\0\0\0\0\x0012345678";
    let asked = async {
        let mut asked = 0;
        loop {
            far.write_all(ping).await.unwrap();
            asked += 1;
            if asked % 100 == 0 {
                tokio::task::yield_now().await;
            }
            PINGS.store(asked, Ordering::SeqCst);
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(1), asked).await.is_err(), "it is listened to for ever");
    let pings = PINGS.load(Ordering::SeqCst);
    assert!(pings < 20_000, "{pings} pings were taken");
    // As soon as it reads, all of them are answered.
    let mut answered = 0;
    let mut said = Vec::new();
    while answered < pings {
        let mut bytes = [0; 4096];
        let length = far.read(&mut bytes).await.unwrap();
        said.extend_from_slice(&bytes[..length]);
        answered = said
            .windows(17)
            .filter(|said| said[..5] == *b"\0\0\x08\x06\x01" && said[9..] == *b"12345678")
            .count();
    }
}

/// An idle connection keeps none of the buffers that its requests went through.
#[tokio::test]
async fn who_is_silent_keeps_no_buffer() {
    let clock = Clock::fixed(0);
    let services = services(Router::new().fallback(|| async { "hello" }), clock).await;
    let (near, far) = tokio::io::duplex(64 * 1024);
    let mut http2 = Http2::new(near, SocketAddr::from(([127, 0, 0, 1], 1)), services);
    let (mut requests, connection) = h2::client::handshake(far).await.unwrap();
    tokio::spawn(connection);
    let serving = std::future::poll_fn(|context| {
        let look = pin!(tokio::time::sleep(LOOK_INTERVAL));
        http2.turn(context, pin!(std::future::pending()), look)
    });
    let asked = async {
        for _ in 0..3 {
            let (answer, _) =
                requests.send_request(Request::get("http://test/").body(()).unwrap(), true).unwrap();
            let mut body = answer.await.unwrap().into_body();
            while body.data().await.is_some() {}
        }
    };
    tokio::select! {
        _ = serving => panic!("it ends"),
        () = asked => {}
    }
    assert_eq!((http2.connection.out().capacity(), http2.unread.capacity()), (0, 0));
    assert_eq!(http2.connection.carried(), 0);
}

/// A socket that takes whole buffers at once leaves nothing to be woken by: who waits in line goes on all the same.
#[tokio::test(start_paused = true)]
async fn a_long_answer_does_not_wait_for_something_else_to_happen() {
    let services = services(handlers(&Working::default()), Clock::fixed(0)).await;
    let (near, far) = tokio::io::duplex(8 * 1024 * 1024);
    let (_close, closing) = watch::channel(false);
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    tokio::spawn(serve(near, peer, services, closing));
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(4_000_000).initial_connection_window_size(16_000_000);
    let (requests, connection) = builder.handshake(far).await.unwrap();
    tokio::spawn(connection);
    let began = Instant::now();
    let all = (0..4).map(|_| ask(&requests, "/large", Bytes::new()));
    for answer in futures_util::future::join_all(all).await {
        assert_eq!(answer.unwrap().len(), 3_000_000);
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

/// A client that wants an answer and takes nothing of it does not keep it for ever.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_taken_is_ended() {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(0);
    let mut requests = client(&Working::default(), &builder).await.ready().await.unwrap();
    let request = Request::get("http://test/large").body(()).unwrap();
    let (answer, _) = requests.send_request(request, true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    let began = Instant::now();
    let ended = tokio::time::timeout(Duration::from_mins(5), body.data()).await.expect("it ends");
    assert_eq!(ended.unwrap().unwrap_err().reason(), Some(h2::Reason::CANCEL));
    let took = began.elapsed();
    assert!(limits::STUCK_MAX <= took && took < limits::STUCK_MAX + 3 * LOOK_INTERVAL, "{took:?}");
}

/// Requests that come all at once leave others their turn, and none is forgotten.
#[tokio::test]
async fn a_burst_of_requests_is_answered_and_its_room_given_back() {
    let requests = client(&Working::default(), &h2::client::Builder::new()).await;
    for _ in 0..2 {
        let all = (0..3 * EVENTS_PER_TURN).map(|_| ask(&requests, "/length", Bytes::from_static(b"abc")));
        for answer in futures_util::future::join_all(all).await {
            assert_eq!(answer.unwrap(), "3");
        }
    }
}
