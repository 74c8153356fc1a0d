//! How relays are taken into an environment: their clients into the roster, themselves into the list of relays.

use tokio::sync::oneshot;

use super::Environment;
use super::relays::{Arrival, RelaySighting};
use super::roster::News;
use super::roster::behind::{Crowded, Heard, Link};
use crate::store::log::RelayEntry;

/// A relay that may tell; when it is dropped, the relay is away.
#[derive(Debug)]
pub(crate) struct Linked<'a> {
    environment: &'a Environment,
    relay: u128,
    link: Link,
}

impl Environment {
    /// A relay says hello; it must not be believed before the store knows it. `None`: a newer link of it is there.
    pub(crate) fn link(
        &self,
        mut entry: RelayEntry,
        address: String,
    ) -> Option<(Linked<'_>, oneshot::Receiver<()>)> {
        let link = self.roster.link();
        let relay = entry.relay;
        entry.last_seen_ms = self.clock.now_ms();
        match self.relays.arrive(entry, link, address) {
            Arrival::Stale => None,
            Arrival::Admitted { replaced, before } => {
                if let Some(before) = before {
                    self.roster.unlink(before, self.clock.now_ms());
                }
                self.ring();
                Some((Linked { environment: self, relay, link }, replaced))
            }
        }
    }
}

impl Linked<'_> {
    /// The relay tells what changed of its clients.
    ///
    /// # Errors
    /// [`Crowded`]: the roster does not hold them all, so the link must end.
    pub(crate) fn hear(&self, news: News) -> Result<Heard, Crowded> {
        let is_news = !news.is_empty();
        let heard = self.environment.roster.hear(self.link, news, self.environment.clock.now_ms());
        if is_news {
            self.environment.ring();
        }
        heard
    }

    /// The relay has told all its clients.
    pub(crate) fn complete(&self) {
        if self.environment.relays.complete(self.relay, self.link) {
            self.environment.ring();
        }
    }

    /// The relay tells which relays are behind it.
    pub(crate) fn told(&self, below: Vec<RelaySighting>) {
        self.environment.relays.told(self.relay, self.link, below);
        self.environment.ring();
    }

    /// The relay ends on purpose and has told everything.
    pub(crate) fn farewell(self) {
        self.environment.relays.farewell(self.relay, self.link);
    }
}

impl Drop for Linked<'_> {
    fn drop(&mut self) {
        let now_ms = self.environment.clock.now_ms();
        let lost = self.environment.roster.unlink(self.link, now_ms);
        self.environment.relays.leave(self.relay, self.link, now_ms);
        self.environment.save_soon.notify_one();
        self.environment.ring();
        tracing::info!(environment = %self.environment.name(), lost, "a relay's link has ended");
    }
}
