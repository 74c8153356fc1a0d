//! `flagd.stream.v1.Stream/Follow`: one session per stream, as docs/protocol.md says under "The server's half".
//!
//! A session has no task of its own: the HTTP/2 connection polls it when it can write. What it may send is decided in
//! `hub::subscriber` and `hub::resume`; here is only who says what when. A stream that ends without `Bye`, in
//! whatever way, leaves its client as lost.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flagd_core::problem::nearest;
use flagd_proto::frame::Frame;
use flagd_proto::framed::stream_server;
use flagd_proto::stream::{ClientMessage, Hello, RefusedWhy, client_message::Message};
use futures_util::FutureExt as _;
use tokio::sync::{oneshot, watch};
use tokio::time::Sleep;
use tonic::{Request, Response, Status, Streaming};

use super::connection::Peer;
use super::gate::Gate;
use crate::hub::advance::Shown;
use crate::hub::environment::{Full, Memory};
use crate::hub::resume::{Greeting, greet};
use crate::hub::roster::{Admission, Introduction, Seat};
use crate::hub::standing::Report;
use crate::hub::subscriber::{Pulled, Subscriber};
use crate::hub::{Environment, Hub, frames};
use crate::limits;
use crate::metrics::ServerMetrics;
use crate::store::StoreError;

mod hello;

/// A stuck receiver keeps others from their full states no longer than this.
const FULL_SEND_MAX: Duration = Duration::from_secs(15);
/// After so many frames without a look at what the client says it is listened to.
const FRAMES_PER_LOOK: u32 = 32;
/// `GoAway`: come back after this long at the earliest ...
const RETRY_BASE_MS: u64 = 500;
/// ... and up to this much later, so that not all come back at once.
const RETRY_SPREAD_MS: u64 = 2_000;

type Answers = Pin<Box<dyn futures_util::Stream<Item = Result<Frame, Status>> + Send>>;
type Inbound = Streaming<ClientMessage>;
/// A full state; the sender is dropped when its last part was taken.
type Granted = (Full, oneshot::Sender<()>);

/// The stream service.
#[derive(Clone, Debug)]
pub(crate) struct StreamService {
    hub: Arc<Hub>,
    metrics: Arc<ServerMetrics>,
    gate: Arc<Gate>,
}

impl StreamService {
    /// The service for a router.
    pub(crate) fn server(
        hub: Arc<Hub>,
        metrics: Arc<ServerMetrics>,
    ) -> stream_server::StreamServer<StreamService> {
        let gate = Gate::new(limits::HELLOS_PER_SECOND, limits::HELLOS_AT_ONCE, Instant::now());
        stream_server::StreamServer::new(StreamService { hub, metrics, gate: Arc::new(gate) })
            .max_decoding_message_size(limits::CLIENT_MESSAGE_MAX_BYTES)
            .max_encoding_message_size(limits::SERVER_MESSAGE_MAX_BYTES)
    }
}

#[tonic::async_trait]
impl stream_server::Stream for StreamService {
    type FollowStream = Answers;

    async fn follow(&self, request: Request<Inbound>) -> Result<Response<Answers>, Status> {
        let address = request.extensions().get::<Peer>().map(|peer| peer.0.to_string()).unwrap_or_default();
        let waiting = Waiting { service: self.clone(), inbound: request.into_inner(), address };
        let session = Session::Waiting(Box::new(waiting));
        Ok(Response::new(Box::pin(futures_util::stream::unfold(session, Session::next))))
    }
}

/// A stream from its first message to its last.
enum Session {
    Waiting(Box<Waiting>),
    Following(Box<Following>),
    Leaving(Farewell),
}

/// How a stream ends.
enum Farewell {
    /// With one last message.
    Say(Frame),
    /// With an error.
    Fail(Status),
    /// Without a word: the client has gone, or knows.
    Silent,
}

impl Session {
    async fn next(mut self) -> Option<(Result<Frame, Status>, Session)> {
        loop {
            self = match self {
                // Boxed, because its room would otherwise be part of every later step: kept by each stream, and moved
                // with each frame.
                Session::Waiting(waiting) => match Box::pin(waiting.greet()).await {
                    Ok(following) => Session::Following(Box::new(following)),
                    Err(farewell) => Session::Leaving(farewell),
                },
                Session::Following(mut following) => match following.next().await {
                    Ok(frame) => return Some((Ok(frame), Session::Following(following))),
                    Err(farewell) => Session::Leaving(farewell),
                },
                Session::Leaving(Farewell::Say(frame)) => {
                    return Some((Ok(frame), Session::Leaving(Farewell::Silent)));
                }
                Session::Leaving(Farewell::Fail(status)) => {
                    return Some((Err(status), Session::Leaving(Farewell::Silent)));
                }
                Session::Leaving(Farewell::Silent) => return None,
            };
        }
    }
}

fn go_away(why: &str) -> Farewell {
    go_away_for(Duration::ZERO, why)
}

fn go_away_for(at_least: Duration, why: &str) -> Farewell {
    // Without randomness everybody comes back at once, which the clients' own jitter still spreads.
    let spread = getrandom::u64().map_or(0, |random| random % RETRY_SPREAD_MS);
    let at_least = u64::try_from(at_least.as_millis()).unwrap_or(u64::MAX);
    Farewell::Say(frames::go_away(at_least.saturating_add(RETRY_BASE_MS + spread), why))
}

/// Before the Hello.
struct Waiting {
    service: StreamService,
    inbound: Inbound,
    address: String,
}

impl Waiting {
    async fn greet(mut self: Box<Self>) -> Result<Following, Farewell> {
        let hub = Arc::clone(&self.service.hub);
        let first = tokio::select! {
            biased;
            () = hub.closing() => return Err(go_away("this server stops")),
            first = tokio::time::timeout(limits::HELLO_TIMEOUT, self.inbound.message()) => first,
        };
        let message = match first {
            Ok(Ok(Some(message))) => message.message,
            Ok(Err(status)) if is_the_clients_fault(&status) => {
                return Err(self.refuse(RefusedWhy::BadHello, status.message().to_owned()));
            }
            Ok(Ok(None) | Err(_)) => return Err(Farewell::Silent),
            Err(_) => {
                let why = format!("no Hello came within {} s", limits::HELLO_TIMEOUT.as_secs());
                return Err(self.refuse(RefusedWhy::BadHello, why));
            }
        };
        let Some(Message::Hello(hello)) = message else {
            return Err(self.refuse(RefusedWhy::BadHello, "the first message must be Hello".to_owned()));
        };
        // Behind a relay many wait, and there are few relays.
        if !hello.relay
            && let Err(wait) = self.service.gate.admit(Instant::now())
        {
            self.service.metrics.hellos_put_off.count();
            return Err(go_away_for(wait, "too many clients come at once"));
        }
        let environment = self.environment(&hello).await?;
        let introduction = hello::introduction(&hello, std::mem::take(&mut self.address))
            .map_err(|why| self.refuse(RefusedWhy::BadHello, why))?;
        let report = introduction.report.clone();
        let (place, replaced) = if hello.relay {
            tracing::info!(environment = %environment.name(), relay = hello.name, "a relay follows");
            (Place { environment: Arc::clone(&environment), seat: None }, None)
        } else {
            let (place, replaced, memory) = Place::take(&environment, introduction)?;
            if let Some(memory) = memory {
                environment.remembered(memory).await;
            }
            (place, Some(replaced))
        };
        let mut following = Following::new(place, replaced, self.inbound);
        match greet(&environment, &report).await {
            Greeting::UpToDate(position) => following.subscriber.queue_up_to_date(position),
            Greeting::CatchUp { changes, until } => {
                environment.metrics().catch_ups_sent.count();
                following.subscriber.queue_catch_up(changes, until);
            }
            Greeting::Full => following.ask_full(Duration::ZERO),
            Greeting::GoAway(why) => return Err(go_away(why)),
        }
        Ok(following)
    }

    async fn environment(&self, hello: &Hello) -> Result<Arc<Environment>, Farewell> {
        let unknown = || self.refuse(RefusedWhy::UnknownEnvironment, self.unknown(&hello.environment));
        let Ok(name) = hello.environment.parse() else { return Err(unknown()) };
        match self.service.hub.environment(&name).await {
            Ok(environment) => Ok(environment),
            // Nothing is known of any environment, so nothing is said about this one.
            Err(StoreError::NoEnvironment(_)) if self.service.hub.vacancy().is_some() => {
                Err(go_away("no environment is served here"))
            }
            Err(StoreError::NoEnvironment(_)) => Err(unknown()),
            Err(error) => {
                tracing::warn!(environment = %name, %error, "an environment could not be opened");
                Err(go_away("the store does not answer"))
            }
        }
    }

    fn unknown(&self, wanted: &str) -> String {
        let environments = self.service.hub.environments();
        let names: Vec<&str> = environments.iter().map(|environment| environment.name().as_str()).collect();
        hello::unknown_environment(wanted, &names, nearest(wanted, names.iter().copied()))
    }

    fn refuse(&self, why: RefusedWhy, message: String) -> Farewell {
        self.service.metrics.hellos_refused.count();
        tracing::info!(address = %self.address, why = why.as_str_name(), %message, "a client was refused");
        Farewell::Say(frames::refused(why, message))
    }
}

/// A client's place in the roster; giving it up in any way but `Bye` leaves the client as lost. A relay has no seat in it.
struct Place {
    environment: Arc<Environment>,
    seat: Option<Seat>,
}

impl Place {
    fn take(
        environment: &Arc<Environment>,
        hello: Introduction,
    ) -> Result<(Place, oneshot::Receiver<()>, Option<Memory>), Farewell> {
        let (instance, name) = (hello.known.instance, hello.known.name.clone());
        let (admission, memory) = environment.connect(hello);
        match admission {
            Admission::Admitted { seat, replaced, first_seen } => {
                tracing::debug!(environment = %environment.name(), %instance, name, first_seen, "a client connected");
                environment.metrics().streams_open.enter();
                let place = Place { environment: Arc::clone(environment), seat: Some(seat) };
                Ok((place, replaced, memory))
            }
            Admission::Stale => Err(Farewell::Fail(Status::aborted(
                "a newer stream of this instance is open; this one is closed",
            ))),
            Admission::Crowded => Err(go_away("this environment has as many clients as it takes")),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(seat) = self.seat else { return };
        // After a Bye the seat is empty and nothing happens.
        self.environment.leave(seat);
        self.environment.metrics().streams_open.leave();
    }
}

impl Place {
    fn report(&self, report: Report) {
        if let Some(seat) = self.seat {
            self.environment.report(seat, report);
        }
    }

    fn bye(&self) {
        if let Some(seat) = self.seat {
            self.environment.bye(seat);
        }
    }
}

/// After the Hello.
struct Following {
    place: Place,
    replaced: Option<oneshot::Receiver<()>>,
    closing: watch::Receiver<bool>,
    news: watch::Receiver<Arc<Shown>>,
    inbound: Inbound,
    subscriber: Subscriber,
    full: Option<oneshot::Receiver<Granted>>,
    staleness: watch::Receiver<bool>,
    heartbeat: Pin<Box<Sleep>>,
    last_frame: tokio::time::Instant,
    frames_since_look: u32,
}

/// What a stream waits for.
enum Event {
    Closing,
    Replaced,
    Said(Box<Result<Option<ClientMessage>, Status>>),
    Full(Option<Granted>),
    News,
    Aged,
    Quiet,
}

impl Following {
    fn new(place: Place, replaced: Option<oneshot::Receiver<()>>, inbound: Inbound) -> Following {
        let mut staleness = place.environment.staleness();
        if *staleness.borrow() {
            staleness.mark_changed();
        }
        Following {
            staleness,
            closing: place.environment.closing.clone(),
            news: place.environment.news(),
            place,
            replaced,
            inbound,
            subscriber: Subscriber::default(),
            full: None,
            heartbeat: Box::pin(tokio::time::sleep(limits::HEARTBEAT_INTERVAL)),
            last_frame: tokio::time::Instant::now(),
            frames_since_look: 0,
        }
    }

    /// The next frame to write, or how the stream ends.
    async fn next(&mut self) -> Result<Frame, Farewell> {
        loop {
            self.look()?;
            if let Some(frame) = self.subscriber.pop() {
                self.last_frame = tokio::time::Instant::now();
                self.frames_since_look += 1;
                return Ok(frame);
            }
            if self.full.is_none() {
                self.news.mark_unchanged();
                match self.place.environment.deltas(|log| self.subscriber.pull(log)) {
                    Pulled::Change => {
                        self.place.environment.metrics().deltas_sent.count();
                        continue;
                    }
                    Pulled::FellOut => self.ask_full(Duration::ZERO),
                    Pulled::Nothing => {}
                }
            }
            if let Some(heartbeat) = self.wait().await? {
                return Ok(heartbeat);
            }
        }
    }

    /// Listens to the client now and then also while there is always something to write.
    fn look(&mut self) -> Result<(), Farewell> {
        if self.frames_since_look < FRAMES_PER_LOOK {
            return Ok(());
        }
        self.frames_since_look = 0;
        if *self.closing.borrow() {
            return Err(go_away("this server stops"));
        }
        while let Some(message) = self.inbound.message().now_or_never() {
            self.take(message)?;
        }
        Ok(())
    }

    /// Waits until something happens; a heartbeat is the only frame that comes of it directly.
    async fn wait(&mut self) -> Result<Option<Frame>, Farewell> {
        let waits_for_full = self.full.is_some();
        let event = tokio::select! {
            biased;
            _ = self.closing.wait_for(|closing| *closing) => Event::Closing,
            _ = ready(&mut self.replaced) => Event::Replaced,
            message = self.inbound.message() => Event::Said(Box::new(message)),
            full = ready(&mut self.full) => Event::Full(full.ok()),
            // The hub lives longer than its streams; a closed channel would only end the wait.
            _ = self.news.changed(), if !waits_for_full => Event::News,
            _ = self.staleness.changed() => Event::Aged,
            () = self.heartbeat.as_mut() => Event::Quiet,
        };
        match event {
            Event::Closing => Err(go_away("this server stops")),
            Event::Replaced => {
                Err(Farewell::Fail(Status::aborted("a newer stream of this instance took over")))
            }
            Event::Said(message) => {
                self.frames_since_look = 0;
                self.take(*message).map(|()| None)
            }
            Event::Full(granted) => {
                self.full = None;
                if let Some((full, sending)) = granted {
                    self.place.environment.metrics().fulls_sent.count();
                    self.subscriber.queue_full(full, sending);
                } else {
                    // Whoever prepared it has failed; that is no reason to end the stream.
                    let delay = self.subscriber.full_delay();
                    self.ask_full(delay);
                }
                Ok(None)
            }
            Event::News => Ok(None),
            Event::Aged => Ok(Some(self.beat(tokio::time::Instant::now()))),
            Event::Quiet => Ok(self.beat_if_due()),
        }
    }

    fn beat_if_due(&mut self) -> Option<Frame> {
        let due = self.last_frame + limits::HEARTBEAT_INTERVAL;
        let now = tokio::time::Instant::now();
        if due > now {
            self.heartbeat.as_mut().reset(due);
            return None;
        }
        Some(self.beat(now))
    }

    fn beat(&mut self, now: tokio::time::Instant) -> Frame {
        self.last_frame = now;
        self.heartbeat.as_mut().reset(now + limits::HEARTBEAT_INTERVAL);
        frames::heartbeat(self.subscriber.at(), self.place.environment.view_age_ms())
    }

    fn take(&mut self, message: Result<Option<ClientMessage>, Status>) -> Result<(), Farewell> {
        let environment = &self.place.environment;
        let message = match message {
            Ok(Some(message)) => message.message,
            Ok(None) => return Err(Farewell::Silent),
            Err(status) if is_the_clients_fault(&status) => return Err(Farewell::Fail(status)),
            Err(status) => {
                tracing::debug!(environment = %environment.name(), %status, "a stream broke");
                return Err(Farewell::Silent);
            }
        };
        match message {
            Some(Message::Ack(ack)) => {
                let report = report_of(ack.state.as_ref())?;
                if let Some(took) = self.subscriber.acknowledged(report.position, Instant::now()) {
                    environment.metrics().acknowledged.observe(took);
                }
                environment.metrics().acks.count();
                self.place.report(report);
                Ok(())
            }
            Some(Message::NeedFull(need)) => {
                environment.metrics().need_full.of(&need.why).count();
                let why: String = need.why.chars().take(64).collect();
                tracing::info!(environment = %environment.name(), why, "a client asks for the full state");
                if need.state.is_some() {
                    self.place.report(report_of(need.state.as_ref())?);
                }
                let delay = self.subscriber.full_delay();
                self.ask_full(delay);
                Ok(())
            }
            Some(Message::Bye(_)) => {
                self.place.bye();
                Err(Farewell::Silent)
            }
            Some(Message::Hello(_)) => Err(Farewell::Fail(Status::invalid_argument("Hello is said once"))),
            // A message of a later version that this one does not know.
            None => Ok(()),
        }
    }

    /// Asks for the newest state and the right to send it, unless that was done already. A task prepares both: this
    /// stream may not be looked at for long, and must not keep others from theirs meanwhile.
    fn ask_full(&mut self, delay: Duration) {
        if self.full.is_some() {
            return;
        }
        let (give, full) = oneshot::channel();
        self.full = Some(full);
        tokio::spawn(grant_full(Arc::clone(&self.place.environment), delay, give));
    }
}

/// Waits for its turn, gives the newest state, and keeps the turn until it is sent, given up, or stuck.
async fn grant_full(environment: Arc<Environment>, delay: Duration, mut give: oneshot::Sender<Granted>) {
    let prepare = async {
        tokio::time::sleep(delay).await;
        // The semaphore is never closed.
        let permit = environment.full_sends().acquire_owned().await.ok()?;
        Some((environment.full().await, permit))
    };
    let prepared = tokio::select! {
        () = give.closed() => return,
        prepared = prepare => prepared,
    };
    let Some((full, permit)) = prepared else { return };
    let (sending, sent) = oneshot::channel();
    if give.send((full, sending)).is_ok() {
        let _ = tokio::time::timeout(FULL_SEND_MAX, sent).await;
    }
    drop(permit);
}

/// Too large, or no message: not just a connection that broke.
fn is_the_clients_fault(status: &Status) -> bool {
    matches!(status.code(), tonic::Code::OutOfRange | tonic::Code::InvalidArgument)
}

fn report_of(state: Option<&flagd_proto::stream::ClientState>) -> Result<Report, Farewell> {
    hello::report(state).map_err(|why| Farewell::Fail(Status::invalid_argument(why)))
}

/// Resolves when a future that may be there does; never without one.
async fn ready<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
