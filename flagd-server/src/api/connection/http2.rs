//! An HTTP/2 connection: one task, which carries the streams of clients itself.
//!
//! A change wakes thousands of streams. hyper gives each of them a task beside the connection's; here a stream is looked
//! at, puts its frame into the connection's buffer, and the buffer is written, all in one turn of one task
//! (docs/decisions/016). h2 speaks the protocol. Requests that are not streams of clients go to the router, each in a
//! task of its own, as hyper does it.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use axum::Router;
use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Ping, PingPong, RecvStream};
use http::Request;
use slab::Slab;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use super::answer;
use super::pulse::{LOOK_INTERVAL, Pulse, Seen, Verdict};
use super::ready::{Doorbell, Part, Ready, Wakers};
use super::socket::{Heard, Socket};
use crate::api::stream::{Session, StreamService};
use crate::clock::Clock;
use crate::limits;

/// Streams that are looked at before what they wrote goes out: about what the processor's caches hold, and several
/// full buffers.
const STREAMS_PER_WRITE: usize = 128;
/// Looks at who is ready in one turn of the task; after that others have theirs.
const LOOKS_PER_TURN: usize = 8;

/// What answers the requests of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Services {
    /// Streams of clients.
    pub(crate) streams: StreamService,
    /// Everything else.
    pub(crate) router: Router,
    /// What time it is.
    pub(crate) clock: Clock,
}

/// h2 with all its limits.
fn protocol() -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION_MAX)
        .max_local_error_reset_streams(Some(limits::LOCAL_ERROR_RESET_STREAMS_MAX))
        .max_pending_accept_reset_streams(limits::PENDING_ACCEPT_RESET_STREAMS_MAX)
        .max_header_list_size(limits::HEADER_LIST_MAX_BYTES)
        .initial_window_size(limits::WINDOW_BYTES)
        .initial_connection_window_size(limits::WINDOW_BYTES)
        .max_send_buffer_size(limits::SEND_BUFFER_BYTES);
    builder
}

/// Serves one connection to its end. After `closing` it takes no new request.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
    peer: SocketAddr,
    services: Services,
    mut closing: watch::Receiver<bool>,
) {
    let heard = Heard::default();
    // Boxed, because its room would be kept by the connection as long as that lives.
    let handshake = Box::pin(protocol().handshake(Socket::new(socket, heard.clone())));
    let mut http2 = match Box::pin(tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, handshake)).await {
        Ok(Ok(connection)) => Http2::new(connection, peer, services, heard),
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "a connection spoke no HTTP/2");
            return;
        }
        Err(_) => {
            tracing::debug!(%peer, "a connection did not speak and was closed");
            return;
        }
    };
    // An error means that the server is gone, which is the same.
    let mut closing = pin!(async { drop(closing.wait_for(|closing| *closing).await) });
    let mut look = pin!(tokio::time::sleep(LOOK_INTERVAL));
    let ended = std::future::poll_fn(|context| http2.turn(context, closing.as_mut(), look.as_mut())).await;
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection broke");
    }
}

/// A stream of a client, and what wakes it.
struct Seat {
    session: Session,
    doorbell: Arc<Doorbell>,
    wakers: Wakers,
}

struct Http2<S> {
    connection: Connection<Socket<S>, Bytes>,
    pings: Option<PingPong>,
    seats: Slab<Box<Seat>>,
    ready: Arc<Ready>,
    socket_waker: Waker,
    clock: Arc<Doorbell>,
    clock_waker: Waker,
    services: Services,
    peer: SocketAddr,
    heard: Heard,
    pulse: Pulse,
    asked: bool,
    is_closing: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http2<S> {
    fn new(
        mut connection: Connection<Socket<S>, Bytes>,
        peer: SocketAddr,
        services: Services,
        heard: Heard,
    ) -> Http2<S> {
        let ready = Arc::<Ready>::default();
        let clock = Doorbell::new(&ready, Part::Clock);
        let http2 = Http2 {
            pings: connection.ping_pong(),
            connection,
            seats: Slab::new(),
            socket_waker: Waker::from(Arc::clone(&ready)),
            clock_waker: Waker::from(Arc::clone(&clock)),
            clock,
            ready,
            services,
            peer,
            heard,
            pulse: Pulse::default(),
            asked: false,
            is_closing: false,
        };
        http2.socket_waker.wake_by_ref();
        http2.clock_waker.wake_by_ref();
        http2
    }

    /// One turn of the task: whoever is ready is looked at, until nobody is.
    fn turn(
        &mut self,
        context: &mut Context<'_>,
        mut closing: Pin<&mut impl Future<Output = ()>>,
        mut look: Pin<&mut Sleep>,
    ) -> Poll<Result<(), h2::Error>> {
        let ready = Arc::clone(&self.ready);
        ready.begin(context.waker());
        for _ in 0..LOOKS_PER_TURN {
            let now = Instant::now();
            for part in ready.take(STREAMS_PER_WRITE) {
                match part {
                    Part::Stream(place) => self.look_at_stream(place, now),
                    Part::Clock => {
                        if self.look_at_clock(closing.as_mut(), look.as_mut()).is_ready() {
                            return Poll::Ready(Ok(()));
                        }
                    }
                }
            }
            if ready.take_socket()
                && let Poll::Ready(ended) = self.look_at_socket()
            {
                return Poll::Ready(ended);
            }
            if !ready.is_one_noted() {
                break;
            }
        }
        if ready.end() {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn look_at_stream(&mut self, place: usize, now: Instant) {
        // One that has ended meanwhile may still have been noted.
        let Some(seat) = self.seats.get_mut(place) else { return };
        let woken = seat.doorbell.take();
        if seat.session.poll(&seat.wakers, woken, now).is_ready() {
            self.seats.remove(place);
        }
    }

    /// Reads and writes as much as there is.
    fn look_at_socket(&mut self) -> Poll<Result<(), h2::Error>> {
        loop {
            match self.connection.poll_accept(&mut Context::from_waker(&self.socket_waker)) {
                Poll::Ready(Some(Ok((request, respond)))) => self.begin(request, respond),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn begin(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        self.asked = true;
        if !StreamService::is_for(&request) {
            tokio::spawn(answer::answer(request, respond, self.services.clone(), self.peer));
            return;
        }
        let entry = self.seats.vacant_entry();
        let doorbell = Doorbell::new(&self.ready, Part::Stream(entry.key()));
        let wakers = Wakers::of(&doorbell);
        let ear = Arc::clone(&doorbell) as _;
        if let Some(session) = self.services.streams.open(request, respond, self.peer, ear) {
            let seat = entry.insert(Box::new(Seat { session, doorbell, wakers }));
            seat.wakers.rest.wake_by_ref();
        }
    }

    fn look_at_clock(
        &mut self,
        closing: Pin<&mut impl Future<Output = ()>>,
        mut look: Pin<&mut Sleep>,
    ) -> Poll<()> {
        self.clock.take();
        let waker = self.clock_waker.clone();
        let mut context = Context::from_waker(&waker);
        if !self.is_closing && closing.poll(&mut context).is_ready() {
            self.dismiss();
        }
        while look.as_mut().poll(&mut context).is_ready() {
            look.as_mut().reset(Instant::now() + LOOK_INTERVAL);
            let seen =
                Seen { heard: self.heard.take(), busy: self.connection.has_streams(), new: !self.asked };
            match self.pulse.look(seen) {
                Verdict::Fine => {}
                Verdict::Ping => self.ping(),
                Verdict::Dismiss => self.dismiss(),
                Verdict::Close => {
                    tracing::debug!(peer = %self.peer, ?seen, "a connection was closed");
                    return Poll::Ready(());
                }
            }
        }
        Poll::Pending
    }

    /// Takes no more requests, and ends when those are answered that were taken.
    fn dismiss(&mut self) {
        if !std::mem::replace(&mut self.is_closing, true) {
            self.connection.graceful_shutdown();
            self.socket_waker.wake_by_ref();
        }
    }

    fn ping(&mut self) {
        let Some(pings) = &mut self.pings else { return };
        // An answer that came is taken, or the next ping would not go out. What it says is that something came.
        let _ = pings.poll_pong(&mut Context::from_waker(&self.socket_waker));
        if let Err(error) = pings.send_ping(Ping::opaque()) {
            tracing::debug!(peer = %self.peer, %error, "a connection was not asked whether it is there");
        }
        self.socket_waker.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::Hub;
    use crate::limits::Admission;
    use crate::metrics::ServerMetrics;
    use crate::store::log::Log;
    use crate::store::memory::Memory;
    use flagd_proto::Message as _;
    use flagd_proto::stream::{ClientMessage, Hello, client_message};
    use std::time::Duration;
    use tokio::io::DuplexStream;
    use tokio::task::JoinHandle;

    /// The other end of a connection that is served, its task, and what closes the server.
    async fn open() -> (DuplexStream, JoinHandle<()>, watch::Sender<bool>) {
        let clock = Clock::fixed(784_111_777_000);
        let log = Log::new(Arc::new(Memory::new(u64::MAX)));
        crate::serve::begin(&log, &clock).await.unwrap();
        let hub = Hub::start(log, clock.clone()).await.unwrap();
        let streams = StreamService::new(hub, Arc::new(ServerMetrics::default()), &Admission::default());
        let services = Services { streams, router: Router::new().fallback(|| async { "hello" }), clock };
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
}
