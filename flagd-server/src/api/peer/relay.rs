//! Hears relays: each tells here which clients are behind it, as long as it lives.
//!
//! docs/protocol.md, "Relays", is normative. A relay's hello is answered when the store knows the relay, so that a
//! server that restarts knows whom it has not heard; a part with somebody new is answered when those above know of
//! them, where this server is a relay itself. A link that is silent, breaks, or says what makes no sense ends, and the
//! relay is away until it is back.

use std::pin::Pin;
use std::sync::Arc;

use flagd_proto::convert;
use flagd_proto::peer::relay_message::Message;
use flagd_proto::peer::{RelayAnswer, RelayHello, RelayMessage, RosterPart};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::PeerService;
use crate::cluster::wire;
use crate::hub::links::Linked;
use crate::hub::roster::behind::Heard;
use crate::hub::{Environment, Hub, relays};
use crate::limits;
use crate::store::log::RelayEntry;

/// Answers that wait for a slow relay.
const ANSWERS_BUFFER: usize = 16;

pub(super) type Answers = Pin<Box<dyn futures_util::Stream<Item = Result<RelayAnswer, Status>> + Send>>;

/// Hears a relay until its link ends.
pub(super) fn hear(service: PeerService, inbound: Streaming<RelayMessage>, address: String) -> Answers {
    let (answers, received) = mpsc::channel(ANSWERS_BUFFER);
    tokio::spawn(async move {
        let session = Session { server: service.name.clone(), inbound, answers: answers.clone() };
        if let Err(status) = session.run(&service, address).await {
            tracing::warn!(%status, "a relay's link ends");
            // The relay may have gone, which is why the link ends.
            let _ = answers.try_send(Err(status));
        }
    });
    Box::pin(ReceiverStream::new(received).map(|answer| answer))
}

/// Clients that a relay told and that are yet to be remembered. What it tells meanwhile is taken into the roster, and
/// answered together: a thousand arrivals in small parts would otherwise wait for as many saves, and with them
/// everything that the relay tells afterwards.
struct Saving {
    /// So many messages are answered when it has ended.
    heard: u64,
    remembered: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Saving {
    fn begin(environment: &Arc<Environment>, heard: u64) -> Saving {
        let (environment, memory) = (Arc::clone(environment), environment.remember_soon());
        let remembered = Box::pin(async move { environment.remembered(memory).await });
        Saving { heard, remembered }
    }
}

/// How many messages may be answered now; never, without a save.
async fn saved(saving: &mut Option<Saving>) -> u64 {
    let Some(saving) = saving else { return std::future::pending().await };
    saving.remembered.as_mut().await;
    saving.heard
}

struct Session {
    server: String,
    inbound: Streaming<RelayMessage>,
    answers: mpsc::Sender<Result<RelayAnswer, Status>>,
}

impl Session {
    async fn run(mut self, service: &PeerService, address: String) -> Result<(), Status> {
        let Some(Message::Hello(hello)) = self.next(&service.hub).await? else {
            return Err(Status::invalid_argument("a relay says hello first"));
        };
        let environment = service.environment(&hello.environment).await?;
        let entry = introduced(&hello)?;
        let name = entry.name.clone();
        tracing::info!(environment = %environment.name(), relay = name, address, "a relay tells its clients");
        let stale = || Status::aborted("a newer link of this relay is open; this one is closed");
        let (linked, mut replaced) = environment.link(entry, address).ok_or_else(stale)?;
        environment.remembered(environment.remember_soon()).await;
        let mut heard = 0;
        self.answer(&environment, heard).await?;
        let mut linked = Some(linked);
        let mut saving: Option<Saving> = None;
        // The last message with somebody new.
        let mut newest = 0;
        while let Some(link) = linked.as_ref() {
            let hub = &service.hub;
            let message = tokio::select! {
                biased;
                _ = &mut replaced => return Err(stale()),
                saved = saved(&mut saving) => {
                    saving = (newest > saved).then(|| Saving::begin(&environment, heard));
                    self.answer(&environment, if saving.is_some() { saved } else { heard }).await?;
                    continue;
                }
                message = self.next(hub) => message?,
            };
            heard += 1;
            match message {
                None => return Ok(()),
                Some(Message::Part(part)) => {
                    if take(&environment, link, part, &name)? == Heard::FirstSeen {
                        newest = heard;
                        saving.get_or_insert_with(|| Saving::begin(&environment, heard));
                    }
                }
                Some(Message::Bye(_)) => {
                    tracing::info!(environment = %environment.name(), relay = name, "a relay ends");
                    if let Some(link) = linked.take() {
                        link.farewell();
                    }
                    if saving.take().is_some() {
                        environment.remembered(environment.remember_soon()).await;
                    }
                }
                Some(Message::Hello(_)) => return Err(Status::invalid_argument("hello is said once")),
            }
            if saving.is_none() {
                self.answer(&environment, heard).await?;
            }
        }
        Ok(())
    }

    /// What the relay says next; `None` when it has gone.
    async fn next(&mut self, hub: &Hub) -> Result<Option<Message>, Status> {
        loop {
            let next = tokio::time::timeout(limits::RELAY_SILENCE_MAX, self.inbound.message());
            let message = tokio::select! {
                biased;
                () = hub.closing() => return Err(Status::unavailable("this server stops")),
                message = next => message,
            };
            let silent =
                |_| Status::deadline_exceeded(format!("silence for {:?}", limits::RELAY_SILENCE_MAX));
            match message.map_err(silent)?? {
                None => return Ok(None),
                // One of a later version, which this one does not know, is a sign of life as well.
                Some(RelayMessage { message: None }) => {}
                Some(RelayMessage { message }) => return Ok(message),
            }
        }
    }

    async fn answer(&mut self, environment: &Environment, heard: u64) -> Result<(), Status> {
        let answer = RelayAnswer {
            heard,
            position: Some(convert::position_to_wire(environment.shown().position())),
            view_age_ms: environment.view_age_ms(),
            server: self.server.clone(),
        };
        let send = tokio::time::timeout(limits::RELAY_SILENCE_MAX, self.answers.send(Ok(answer)));
        match send.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Status::cancelled("the relay has gone")),
            Err(_) => Err(Status::deadline_exceeded("the relay takes no answers")),
        }
    }
}

fn introduced(hello: &RelayHello) -> Result<RelayEntry, Status> {
    let relay = wire::instance_from_wire(&hello.relay)
        .map_err(|_| Status::invalid_argument("`relay` must have 16 bytes"))?;
    if hello.name.is_empty() || hello.name.len() > limits::HELLO_TEXT_MAX_BYTES {
        let max = limits::HELLO_TEXT_MAX_BYTES;
        return Err(Status::invalid_argument(format!("`name` must have 1 to {max} bytes")));
    }
    Ok(RelayEntry { relay, name: hello.name.clone(), link_counter: hello.link_counter, last_seen_ms: 0 })
}

/// Takes a part into the roster.
fn take(
    environment: &Environment,
    link: &Linked<'_>,
    part: RosterPart,
    relay: &str,
) -> Result<Heard, Status> {
    let makes_no_sense = |error| Status::invalid_argument(format!("a part makes no sense: {error}"));
    let wire::Part { mut news, relays, complete } = wire::part_from_wire(part, "").map_err(makes_no_sense)?;
    for sighting in &mut news.changed {
        sighting.known.via = relays::path(relay, &sighting.known.via);
    }
    let heard = link.hear(news).map_err(|_| {
        let name = environment.name();
        environment
            .alarm(format!("`{name}` has more clients than a server keeps in mind; nothing is confirmed"));
        Status::resource_exhausted("the roster is full")
    })?;
    // In this order: no relay is there before its clients are known.
    if let Some(below) = relays {
        link.told(below);
    }
    if complete {
        link.complete();
    }
    Ok(heard)
}
