//! A stream up to the first answer: the Hello, whether it is admitted, and what the client needs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flagd_core::problem::nearest;
use flagd_proto::stream::{Hello, RefusedWhy, client_message::Message};
use tokio::sync::oneshot;
use tonic::Status;

use super::super::gate::Ticket;
use super::following::{Following, Place};
use super::inbound::Heard;
use super::{Farewell, Opening, StreamService, go_away, go_away_for, hello, is_the_clients_fault};
use crate::hub::resume::{Greeting, greet};
use crate::hub::{Environment, frames};
use crate::limits;
use crate::store::StoreError;

/// Before the Hello.
pub(super) struct Waiting {
    service: StreamService,
    opening: Opening,
}

impl Waiting {
    pub(super) fn new(service: StreamService, opening: Opening) -> Waiting {
        Waiting { service, opening }
    }

    /// Hears the Hello, which is what comes `first`, and what follows from it.
    pub(super) async fn greet(
        self,
        first: oneshot::Receiver<Result<Heard, Status>>,
    ) -> Result<Following, Farewell> {
        let hub = Arc::clone(&self.service.hub);
        let first = tokio::select! {
            biased;
            () = hub.closing() => return Err(go_away("this server stops")),
            first = tokio::time::timeout(limits::HELLO_TIMEOUT, first) => first,
        };
        let message = match first {
            Ok(Ok(Ok(Heard::Message(message)))) => message.message,
            Ok(Ok(Err(status))) if is_the_clients_fault(&status) => {
                return Err(self.refuse(RefusedWhy::BadHello, status.message().to_owned()));
            }
            Ok(_) => return Err(Farewell::Silent),
            Err(_) => {
                let why = format!("no Hello came within {} s", limits::HELLO_TIMEOUT.as_secs());
                return Err(self.refuse(RefusedWhy::BadHello, why));
            }
        };
        let Some(Message::Hello(hello)) = message else {
            return Err(self.refuse(RefusedWhy::BadHello, "the first message must be Hello".to_owned()));
        };
        // Behind a relay many wait, and there are few relays.
        let ticket = if hello.relay { None } else { Some(self.admit()?) };
        // Boxed, because its room would otherwise be kept by each stream while the roster is saved.
        let environment = Box::pin(self.environment(&hello)).await?;
        let introduction = hello::introduction(&hello, self.opening.peer.to_string())
            .map_err(|why| self.refuse(RefusedWhy::BadHello, why))?;
        let report = introduction.report.clone();
        let (place, replaced) = if hello.relay {
            tracing::info!(environment = %environment.name(), relay = hello.name, "a relay follows");
            (Place::of_relay(&environment), None)
        } else {
            let (place, replaced, memory) = Place::take(&environment, introduction)?;
            if let Some(memory) = memory {
                environment.remembered(memory).await;
            }
            (place, Some(replaced))
        };
        let mut following = Following::new(place, replaced, ticket, self.opening);
        match Box::pin(greet(&environment, &report)).await {
            Greeting::UpToDate(position) => {
                environment.metrics().up_to_dates_sent.count();
                following.subscriber.queue_up_to_date(position);
            }
            Greeting::CatchUp { changes, until } => {
                environment.metrics().catch_ups_sent.count();
                following.subscriber.queue_catch_up(changes, until);
            }
            Greeting::Full => following.ask_full(Duration::ZERO),
            Greeting::GoAway(why) => return Err(go_away(why)),
        }
        Ok(following)
    }

    fn admit(&self) -> Result<Ticket, Farewell> {
        self.service.gate.admit(Instant::now()).map_err(|away| {
            self.service.metrics.hellos_put_off.count();
            go_away_for(away, away.why())
        })
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
        tracing::info!(address = %self.opening.peer, why = why.as_str_name(), %message, "a client was refused");
        Farewell::Say(frames::refused(why, message))
    }
}
