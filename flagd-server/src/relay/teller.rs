//! Tells the server above which clients are behind this relay, and every change of theirs.
//!
//! A client that is new is told before it gets its first answer, as long as somebody above hears. What is told is what
//! changed since; after a broken link everybody is told again, and those who said Bye meanwhile as gone. Who is
//! neither told nor said to be gone stays lost above. The answers say what the server above shows, which makes this
//! relay's view as fresh as that one's.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use flagd_core::revision::Position;
use flagd_proto::convert;
use flagd_proto::peer::peer_client::PeerClient;
use flagd_proto::peer::relay_message::Message;
use flagd_proto::peer::{RelayAnswer, RelayBye, RelayHello, RelayMessage};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::Relay;
use super::upstream::{Turn, Upstream};
use crate::cluster::wire;
use crate::hub::Environment;
use crate::hub::roster::{News, Telling};
use crate::hub::uplink::{Uplink, Way};
use crate::limits;

/// Parts on their way up.
const OUTBOX: usize = 16;
/// A link that lasted so long was healthy: the next failure is a first one.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);
/// How long the goodbye may take.
const GOODBYE_MAX: Duration = Duration::from_secs(2);

/// Tells one environment's roster until told to stop, as soon as the environment is shown.
pub(super) async fn tell(
    relay: Arc<Relay>,
    mut opened: watch::Receiver<Option<Arc<Environment>>>,
    mut stopped: watch::Receiver<bool>,
) {
    let environment = tokio::select! {
        biased;
        // An error means that the server is gone, which is the same.
        _ = stopped.wait_for(|stopped| *stopped) => return,
        opened = opened.wait_for(Option::is_some) => opened.ok().and_then(|open| open.clone()),
    };
    let Some(environment) = environment else { return };
    let Some(uplink) = environment.uplink().cloned() else { return };
    let mut teller = Teller {
        told: HashMap::new(),
        last_counter: 0,
        relay: Arc::clone(&relay),
        environment: Arc::clone(&environment),
        uplink: Arc::clone(&uplink),
        stopped: stopped.clone(),
    };
    let mut turn = Turn::default();
    loop {
        let Some(upstream) = turn.of(&relay.upstreams) else { return };
        let began = Instant::now();
        let ended = teller.link(upstream).await;
        uplink.set(Way::Closed);
        if *stopped.borrow() {
            return;
        }
        if began.elapsed() >= HEALTHY_AFTER {
            turn.went_well();
        }
        let pause = turn.next(None);
        if let Err(why) = ended {
            tracing::warn!(
                environment = %environment.name(), url = %upstream.url, why, pause_ms = pause.as_millis(),
                "the server above does not hear of this relay's clients"
            );
        }
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

struct Teller {
    relay: Arc<Relay>,
    environment: Arc<Environment>,
    uplink: Arc<Uplink>,
    /// What was told of whom; outlasts a link, so that it is known who has gone since.
    told: HashMap<u128, u64>,
    last_counter: u64,
    stopped: watch::Receiver<bool>,
}

/// Whether the roster is to be looked at: thousands of clients are, each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Something may have changed.
    Needed,
    /// It is only time for a sign of life.
    Needless,
}

/// A telling on its way.
struct Pending {
    /// It is heard when so many messages are.
    messages: u64,
    telling: u64,
    asked_ms: u64,
}

/// One link to the server above.
struct Open {
    outbox: mpsc::Sender<RelayMessage>,
    answers: Streaming<RelayAnswer>,
    sent: u64,
    pending: VecDeque<Pending>,
    relays_version: Option<u64>,
}

impl Teller {
    /// One link, from its beginning to its end.
    async fn link(&mut self, upstream: &Upstream) -> Result<(), String> {
        let mut open = self.open(upstream).await?;
        tracing::info!(environment = %self.environment.name(), url = %upstream.url, "the server above hears this relay");
        for stamp in self.told.values_mut() {
            *stamp = 0;
        }
        // What the bell said when the roster was last looked at; a first look is due.
        let mut seen = 0;
        let mut looked = None;
        let mut resting: Pin<Box<dyn Future<Output = u64> + Send>> = Box::pin(std::future::ready(seen));
        let mut silent_at = Instant::now() + limits::RELAY_SILENCE_MAX;
        let mut stopped = self.stopped.clone();
        let mut told_to_stop =
            std::pin::pin!(async move { stopped.wait_for(|stopped| *stopped).await.is_ok() });
        loop {
            tokio::select! {
                biased;
                _ = told_to_stop.as_mut() => {
                    let goodbye = tokio::time::timeout(GOODBYE_MAX, self.goodbye(&mut open));
                    return goodbye.await.unwrap_or_else(|_| Err("no answer to the goodbye".to_owned()));
                }
                answer = answer(&mut open.answers, silent_at) => {
                    self.hear(&mut open, &answer?);
                    silent_at = Instant::now() + limits::RELAY_SILENCE_MAX;
                }
                now_seen = &mut resting => {
                    seen = now_seen;
                    let look = if looked == Some(seen) { Look::Needless } else { Look::Needed };
                    looked = Some(seen);
                    self.tell(&mut open, look).await?;
                    let environment = Arc::clone(&self.environment);
                    let clients = self.told.len();
                    resting = Box::pin(async move { wire::breathe(&environment, clients, seen).await });
                }
            }
        }
    }

    async fn open(&mut self, upstream: &Upstream) -> Result<Open, String> {
        let environment = &self.environment;
        let identity =
            environment.log.identity(environment.name()).await.map_err(|error| error.to_string())?;
        // Higher than the last one also when this process has not made that.
        self.last_counter = environment.clock.now_ms().max(self.last_counter + 1);
        let (outbox, said) = mpsc::channel(OUTBOX);
        let hello = RelayHello {
            environment: environment.name().to_string(),
            relay: wire::instance_to_wire(identity),
            link_counter: self.last_counter,
            name: self.relay.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        // The room was made a moment ago.
        let _ = outbox.send(RelayMessage { message: Some(Message::Hello(hello)) }).await;
        let mut client = PeerClient::new(upstream.channel.clone());
        let opening = client.relay(ReceiverStream::new(said));
        let answer = tokio::time::timeout(limits::RELAY_SILENCE_MAX, opening).await;
        let answer = answer.map_err(|_| "no answer".to_owned())?;
        let answers = answer.map_err(|status| status.message().to_owned())?.into_inner();
        let mut open = Open { outbox, answers, sent: 0, pending: VecDeque::new(), relays_version: None };
        // The answer to the hello: the store above knows this relay.
        self::answer(&mut open.answers, Instant::now() + limits::RELAY_SILENCE_MAX).await?;
        Ok(open)
    }

    /// Tells what changed, or gives a sign of life.
    async fn tell(&mut self, open: &mut Open, look: Look) -> Result<(), String> {
        let asked_ms = self.environment.clock.now_ms();
        let telling = self.uplink.told.begin();
        let version = Some(self.environment.relays.version());
        let relays = (open.relays_version != version).then(|| self.environment.relays.sightings());
        open.relays_version = version;
        let mut news = match look {
            Look::Needed => self.environment.roster_news(&mut self.told, Telling::Compact),
            Look::Needless => News::default(),
        };
        news.gone.retain(|instance| self.environment.roster.said_bye(*instance));
        for part in wire::parts_to_wire(wire::Part { news, relays, complete: true }) {
            open.send(Message::Part(part)).await?;
        }
        open.pending.push_back(Pending { messages: open.sent, telling, asked_ms });
        Ok(())
    }

    fn hear(&self, open: &mut Open, answer: &RelayAnswer) {
        let mut confirmed_ms = None;
        while let Some(pending) = open.pending.pop_front_if(|pending| pending.messages <= answer.heard) {
            self.uplink.told.done(pending.telling);
            self.uplink.set(Way::Open);
            confirmed_ms = Some(pending.asked_ms);
        }
        let position = answer.position.as_ref().and_then(|at| convert::position_from_wire(at).ok());
        if let (Some(asked_ms), Some(position)) = (confirmed_ms, position)
            && reaches(self.environment.shown().position(), position)
        {
            self.environment.confirm_later(asked_ms.saturating_sub(answer.view_age_ms));
        }
    }

    /// The last things that are to be told, and that no more come.
    async fn goodbye(&mut self, open: &mut Open) -> Result<(), String> {
        self.tell(open, Look::Needed).await?;
        open.send(Message::Bye(RelayBye {})).await?;
        while answer(&mut open.answers, Instant::now() + limits::RELAY_SILENCE_MAX).await?.heard < open.sent {
        }
        Ok(())
    }
}

impl Open {
    async fn send(&mut self, message: Message) -> Result<(), String> {
        let send = self.outbox.send(RelayMessage { message: Some(message) });
        match tokio::time::timeout(limits::RELAY_SILENCE_MAX, send).await {
            Ok(Ok(())) => {
                self.sent += 1;
                Ok(())
            }
            Ok(Err(_)) => Err("the link has ended".to_owned()),
            Err(_) => Err("it takes nothing".to_owned()),
        }
    }
}

/// The next answer, which must be there before `silent_at`.
async fn answer(answers: &mut Streaming<RelayAnswer>, silent_at: Instant) -> Result<RelayAnswer, String> {
    match tokio::time::timeout_at(silent_at, answers.message()).await {
        Ok(Ok(Some(answer))) => Ok(answer),
        Ok(Ok(None)) => Err("the link has ended".to_owned()),
        Ok(Err(status)) => Err(status.message().to_owned()),
        Err(_) => Err(format!("silence for {:?}", limits::RELAY_SILENCE_MAX)),
    }
}

/// Whether what is shown here is all that the server above shows.
fn reaches(shown: Position, above: Position) -> bool {
    (shown.epoch, shown.revision) >= (above.epoch, above.revision)
}
