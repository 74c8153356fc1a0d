//! The handle that an application keeps.
//!
//! Cheap to clone, and all clones are one client: one feed, one identity, one set of counters. Reading is
//! synchronous and cannot fail. This file does not know how states arrive; that is the feed's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::changes::{Changes, Subscription, Until, Update};
use crate::detail::Staleness;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::status::Status;

/// The flags of one environment. See the [crate's page](crate) for a whole program.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    /// Ends the feed when the last clone is dropped.
    #[cfg(feature = "remote")]
    pub(crate) life: Option<Arc<crate::feed::Life>>,
}

impl Client {
    /// A client without a feed.
    pub(crate) fn without_feed(shared: Arc<Shared>) -> Client {
        Client {
            shared,
            #[cfg(feature = "remote")]
            life: None,
        }
    }

    #[inline]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// One revision of all flags, for the length of a request. It counts as held while it lives.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(Arc::clone(&self.shared))
    }

    /// The revision that evaluations use; 0 before there is a state.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.shared.current.load().position.revision.0
    }

    /// Whether a server confirms the state at this moment.
    #[must_use]
    pub fn staleness(&self) -> Staleness {
        self.shared.staleness()
    }

    /// How the client is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// A subscription to changes of the revision and of the connection, from now on. It works under any
    /// executor and on plain threads, and always yields the newest update.
    #[must_use]
    pub fn changes(&self) -> Changes {
        self.shared.bulletin.subscribe()
    }

    /// Calls `callback` after every change of the revision or of the connection, until the subscription is
    /// dropped. It is called on the client's own thread: it must be quick, and must not wait for the client.
    pub fn on_change(&self, callback: impl Fn(&Update) + Send + Sync + 'static) -> Subscription {
        self.shared.bulletin.call(Arc::new(callback))
    }
}

impl Client {
    /// Waits until a server has confirmed the state, under any executor; for deployments that want to fail
    /// rather than start with old values. `false` when `timeout` has passed.
    pub async fn ready(&self, timeout: Duration) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        #[cfg(feature = "remote")]
        self.wake_at(deadline);
        let shared = Arc::clone(&self.shared);
        Until::new(&self.shared.bulletin, deadline, move || shared.is_confirmed()).await
    }

    /// [`Client::ready`] on this thread.
    #[must_use]
    pub fn ready_blocking(&self, timeout: Duration) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        self.shared.bulletin.wait_until(deadline, || self.shared.is_confirmed())
    }
}

#[cfg(feature = "remote")]
impl Client {
    /// Ends the feed with a `Bye`, so that the server no longer expects this client to acknowledge. All clones
    /// go on answering from the last state. Waits on this thread, for a second at most.
    pub fn close(&self) {
        if let Some(life) = &self.life {
            life.end();
        }
    }

    /// [`Client::close`] under any executor: waits for a second at most, also when the feed hangs in a disk.
    pub async fn shutdown(&self) {
        if let Some(life) = &self.life {
            let deadline = life.stop_by();
            let bulletin = Arc::clone(&self.shared.bulletin);
            Until::new(&self.shared.bulletin, deadline, move || bulletin.is_closed()).await;
        }
    }

    /// Asks the feed to wake everybody who waits at this moment.
    pub(crate) fn wake_at(&self, deadline: Option<Instant>) {
        if let (Some(life), Some(deadline)) = (&self.life, deadline) {
            life.wake_at(deadline);
        }
    }
}
