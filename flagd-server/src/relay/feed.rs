//! Follows one environment of the server above and shows what comes.
//!
//! What does not come out at its digest is never shown: everything is asked for anew, later and later, and meanwhile the
//! last good state is served. The view never goes back, not even when the server above does. The disk comes
//! afterwards (`keeper`): a kill does not wait for it.

use std::sync::Arc;
use std::time::Duration;

use flagd_core::key::EnvironmentName;
use flagd_core::revision::{Position, Revision};
use flagd_core::state::{Delta, DeltaError, State};
use flagd_proto::Bytes;
use flagd_proto::convert;
use flagd_proto::stream::stream_client::StreamClient;
use flagd_proto::stream::{ClientMessage, ClientState, Hello, NeedFull, client_message::Message};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::codec::CompressionEncoding;

use super::intake::{Intake, Step};
use super::keeper::{self, Keeper};
use super::upstream::{Turn, Upstream};
use super::{Relay, backoff};
use crate::hub::Environment;
use crate::hub::advance::{Core, HeadIs, compile, head_is};
use crate::limits;
use crate::store::StoreError;
use crate::store::log::{Change, Origin};

/// Silence for so long means that the connection is broken.
const SILENCE_MAX: Duration = limits::HEARTBEAT_INTERVAL.saturating_mul(3);
/// A stream that lasted so long was healthy: the next failure is a first one.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);
/// A server that was asked for everything and sends something else for so long is given up.
const FULL_PATIENCE: Duration = Duration::from_mins(2);
/// Our messages on their way up.
const OUTBOX: usize = 4;

/// How a stream ended.
struct Ended {
    why: String,
    retry_after: Option<Duration>,
}

impl Ended {
    fn broken(why: impl Into<String>) -> Ended {
        Ended { why: why.into(), retry_after: None }
    }
}

/// Follows an environment until told to stop. `opened` is told when it is shown for the first time.
pub(super) async fn feed(
    relay: Arc<Relay>,
    name: EnvironmentName,
    opened: watch::Sender<Option<Arc<Environment>>>,
    mut stopped: watch::Receiver<bool>,
) {
    let environment = opened.borrow().clone();
    let shower = Shower { relay: Arc::clone(&relay), name, core: None, keeper: None, opened };
    let mut feed = Feed { relay: Arc::clone(&relay), shower };
    if let Some(environment) = environment {
        let kept = State::clone(&environment.shown().state);
        feed.shower.keeper = Some(Keeper::start(environment, keeper::Known::State(kept)));
    }
    let mut turn = Turn::default();
    while let Some(upstream) = turn.of(&relay.upstreams) {
        let began = Instant::now();
        let ended = tokio::select! {
            biased;
            // An error means that the server is gone, which is the same.
            _ = stopped.wait_for(|stopped| *stopped) => break,
            ended = feed.follow(upstream) => ended,
        };
        if began.elapsed() >= HEALTHY_AFTER {
            turn.went_well();
        }
        let Ended { why, retry_after } = ended;
        let pause = turn.next(retry_after);
        tracing::warn!(
            environment = %feed.shower.name, url = %upstream.url, why, pause_ms = pause.as_millis(),
            "the server above is not followed; the last view is served"
        );
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => break,
            () = tokio::time::sleep(pause) => {}
        }
    }
    if let Some(keeper) = feed.shower.keeper.take() {
        keeper.stop().await;
    }
}

struct Feed {
    relay: Arc<Relay>,
    shower: Shower,
}

impl Feed {
    /// One stream, from its beginning to its end.
    async fn follow(&mut self, upstream: &Upstream) -> Ended {
        let (outbox, mut messages) = match self.open(upstream, self.shower.position()).await {
            Ok(open) => open,
            Err(ended) => return ended,
        };
        let mut intake = Intake::new(self.shower.name.clone());
        let mut fulls = 0;
        let mut asked = Instant::now();
        loop {
            let uplink = self.shower.opened.borrow().as_ref().and_then(|open| open.uplink().cloned());
            let claimed = async {
                match &uplink {
                    Some(uplink) => uplink.claimed().await,
                    None => std::future::pending().await,
                }
            };
            let message = tokio::select! {
                message = tokio::time::timeout(SILENCE_MAX, messages.message()) => message,
                claimed = claimed => {
                    self.pass_on(upstream, claimed).await;
                    continue;
                }
            };
            let message = match message {
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) => return Ended::broken("the stream has ended"),
                Ok(Err(status)) => return Ended::broken(status.message()),
                Err(_) => return Ended::broken(format!("silence for {SILENCE_MAX:?}")),
            };
            if intake.awaits_full() && asked.elapsed() >= FULL_PATIENCE {
                return Ended::broken("the full state that was asked for does not come");
            }
            let step = match intake.take(message, self.shower.position()) {
                Step::Leave { retry_after, why } => return Ended { why, retry_after: Some(retry_after) },
                step => self.shower.take(step).await,
            };
            match step {
                Ok(Shown::Newer) => fulls = 0,
                Ok(Shown::AsBefore) => {}
                Err(NotShown::Older) => return Ended::broken("it shows something older than this relay"),
                Err(NotShown::Disk(error)) => return Ended::broken(error.to_string()),
                Err(NotShown::Wrong(why)) => {
                    fulls += 1;
                    self.shower.complain(fulls, why);
                    let pause = backoff::delay(fulls, u64::MAX).saturating_mul(u32::from(fulls > 2));
                    tokio::time::sleep(pause).await;
                    let need = NeedFull { why: why.to_owned(), state: None };
                    if outbox.send(wrap(Message::NeedFull(need))).await.is_err() {
                        return Ended::broken("the stream has ended");
                    }
                    intake = Intake::after_asking(self.shower.name.clone());
                    asked = Instant::now();
                }
            }
        }
    }

    /// Opens a stream and says hello with this position.
    async fn open(
        &self,
        upstream: &Upstream,
        position: Option<Position>,
    ) -> Result<(mpsc::Sender<ClientMessage>, Streaming<flagd_proto::stream::ServerMessage>), Ended> {
        let (outbox, said) = mpsc::channel(OUTBOX);
        // The room was made a moment ago.
        let _ = outbox.send(wrap(Message::Hello(self.hello(position)))).await;
        let mut client = StreamClient::new(upstream.channel.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(limits::SERVER_MESSAGE_MAX_BYTES + limits::CLIENT_MESSAGE_MAX_BYTES);
        let opening = client.follow(ReceiverStream::new(said));
        match tokio::time::timeout(limits::RELAY_SILENCE_MAX, opening).await {
            Ok(Ok(answer)) => Ok((outbox, answer.into_inner())),
            Ok(Err(status)) => Err(Ended::broken(status.message())),
            Err(_) => Err(Ended::broken("no answer")),
        }
    }

    fn hello(&self, position: Option<Position>) -> Hello {
        let position = position.map(convert::position_to_wire);
        Hello {
            environment: self.shower.name.to_string(),
            // A relay is in no roster; there it has a name of its own.
            instance: Bytes::from_static(&[0; 16]),
            connect_counter: 1,
            name: self.relay.name.clone(),
            app: "flagd".to_owned(),
            app_version: env!("CARGO_PKG_VERSION").to_owned(),
            sdk: format!("flagd-relay/{}", env!("CARGO_PKG_VERSION")),
            level: flagd_core::definition::LEVEL,
            state: Some(ClientState { position, ..ClientState::default() }),
            relay: true,
        }
    }

    /// A client behind this relay has a state in use of which nobody told us: the server above is told, as if that client
    /// had come to it. If history was cut, it begins a younger one, which then comes here as everything does.
    async fn pass_on(&self, upstream: &Upstream, claimed: Position) {
        if self.shower.position().is_some_and(|at| at.epoch > claimed.epoch) {
            return;
        }
        let asked = async {
            let (_outbox, mut messages) = self.open(upstream, Some(claimed)).await?;
            messages.message().await.map_err(|status| Ended::broken(status.message()))
        };
        match tokio::time::timeout(limits::RELAY_SILENCE_MAX, asked).await {
            Ok(Ok(_)) => tracing::warn!(
                environment = %self.shower.name, epoch = %claimed.epoch, revision = claimed.revision.0,
                "a client has a state in use that this relay was never told of; the server above was asked"
            ),
            Ok(Err(Ended { why, .. })) => {
                tracing::warn!(why, "the server above could not be asked of a client's state");
            }
            Err(_) => tracing::warn!("the server above does not say what it thinks of a client's state"),
        }
    }
}

fn wrap(message: Message) -> ClientMessage {
    ClientMessage { message: Some(message) }
}

/// What became of a step.
enum Shown {
    Newer,
    AsBefore,
}

/// Why a step was not taken.
enum NotShown {
    /// It did not fit or add up.
    Wrong(&'static str),
    /// It would lead back.
    Older,
    /// There is no place to keep the environment in.
    Disk(StoreError),
}

/// Shows what comes.
struct Shower {
    relay: Arc<Relay>,
    name: EnvironmentName,
    /// `None`: to be made from what is shown.
    core: Option<Core>,
    keeper: Option<Keeper>,
    opened: watch::Sender<Option<Arc<Environment>>>,
}

impl Shower {
    fn environment(&self) -> Option<Arc<Environment>> {
        self.opened.borrow().clone()
    }

    fn position(&self) -> Option<Position> {
        self.environment().map(|environment| environment.shown().position())
    }

    async fn take(&mut self, step: Step) -> Result<Shown, NotShown> {
        match step {
            Step::Nothing | Step::Leave { .. } => Ok(Shown::AsBefore),
            Step::Changes(deltas) => self.go_on(&deltas),
            Step::Whole(state) => self.jump(*state).await,
            Step::Shows { position, view_age_ms } => self.hear(position, view_age_ms),
            Step::NeedFull(why) => Err(NotShown::Wrong(why)),
        }
    }

    fn go_on(&mut self, deltas: &[Delta]) -> Result<Shown, NotShown> {
        let Some(environment) = self.environment() else { return Err(NotShown::Wrong("revision")) };
        let shown = environment.shown();
        let now_ms = self.relay.hub.clock().now_ms();
        let changes: Vec<_> = deltas.iter().map(|delta| Arc::new(change_of(delta, now_ms))).collect();
        let core = self.core.get_or_insert_with(|| Core::resume(&shown));
        match core.advance(&shown, &changes) {
            Ok((next, records)) => {
                drop(shown);
                environment.show_next(next, records, &changes);
                if let Some(keeper) = &self.keeper {
                    keeper.keep(changes);
                }
                Ok(Shown::Newer)
            }
            Err(error) => {
                self.core = None;
                environment.metrics().divergences.note(&error);
                Err(NotShown::Wrong(match error {
                    DeltaError::OtherEpoch { .. } => "epoch",
                    DeltaError::OtherRevision { .. } => "revision",
                    _ => "digest",
                }))
            }
        }
    }

    async fn jump(&mut self, state: State) -> Result<Shown, NotShown> {
        let Some(environment) = self.environment() else { return self.open(state).await };
        let shown = environment.shown();
        match head_is(shown.position(), state.position()) {
            HeadIs::Shown => return Ok(Shown::AsBefore),
            HeadIs::Cut => return Err(NotShown::Older),
            HeadIs::Ahead | HeadIs::Younger => {}
        }
        environment.metrics().reloads.count();
        let (core, next) = compile(move || Core::jump(&shown, state)).await.map_err(NotShown::Disk)?;
        self.core = Some(core);
        environment.show_jump(next);
        if let Some(keeper) = &self.keeper {
            keeper.keep_whole();
        }
        Ok(Shown::Newer)
    }

    /// Shows the environment for the first time.
    async fn open(&mut self, state: State) -> Result<Shown, NotShown> {
        let hub = &self.relay.hub;
        hub.log().make_room(&self.name, state.position().epoch).await.map_err(NotShown::Disk)?;
        let (core, shown) = compile(move || Core::new(state)).await.map_err(NotShown::Disk)?;
        let now_ms = hub.clock().now_ms();
        let environment = hub.show(&self.name, shown, now_ms).await.map_err(NotShown::Disk)?;
        self.core = Some(core);
        let keeper = Keeper::start(Arc::clone(&environment), keeper::Known::Nothing);
        keeper.keep_whole();
        self.keeper = Some(keeper);
        self.opened.send_replace(Some(environment));
        Ok(Shown::Newer)
    }

    fn hear(&self, position: Option<Position>, view_age_ms: u64) -> Result<Shown, NotShown> {
        let Some(environment) = self.environment() else { return Ok(Shown::AsBefore) };
        let Some(position) = position else { return Ok(Shown::AsBefore) };
        match head_is(environment.shown().position(), position) {
            HeadIs::Shown => {
                environment.confirm_later(self.relay.hub.clock().now_ms().saturating_sub(view_age_ms));
                Ok(Shown::AsBefore)
            }
            HeadIs::Ahead | HeadIs::Younger => Err(NotShown::Wrong("revision")),
            HeadIs::Cut if position.revision == Revision::ZERO => Ok(Shown::AsBefore),
            HeadIs::Cut => Err(NotShown::Older),
        }
    }

    fn complain(&self, fulls: u32, why: &str) {
        tracing::warn!(environment = %self.name, why, fulls, "what came from the server above did not fit; all is asked for anew");
        if fulls >= limits::RELAY_FULLS_ALARM
            && let Some(environment) = self.environment()
        {
            environment.alarm(
                "what the server above sends does not add up; this relay goes on with its last good state"
                    .to_owned(),
            );
        }
    }
}

/// A change as far as the stream tells it.
fn change_of(delta: &Delta, now_ms: u64) -> Change {
    Change {
        revision: delta.to,
        epoch: delta.epoch,
        digest: delta.digest_after,
        time_ms: now_ms,
        origin: Origin::default(),
        entries: delta.writes.iter().map(|write| (write.clone(), Revision::ZERO)).collect(),
    }
}
