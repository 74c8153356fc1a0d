//! The single write path, and what operators ask about what was written.
//!
//! Two people change the same flag, a network drops the answer, a store is slow, a server is behind: each of these
//! ends with somebody believing the wrong thing about production unless one place decides. This is the place. It
//! promises that a change is planned on exactly the state that it is recorded on, that nobody's change is lost
//! unseen (all but a kill state what they saw), that a retry gets the first answer, and that an answer
//! "refused" means that nothing was changed.
//!
//! It takes and gives the messages of the admin protocol, because the first answer to a request is recorded as
//! such a message; it does not know gRPC, connections or statuses. What a change does is decided by
//! `flagd_core::edit`; control only brings it what the log knows.

use std::fmt;
use std::sync::Arc;

use dashmap::DashMap;
use flagd_core::key::EnvironmentName;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::hub::Hub;
use crate::store::StoreError;

mod answer;
mod change;
mod changed;
mod clients;
mod definitions;
mod diff;
mod edit;
mod environments;
mod error;
mod evaluate;
mod export;
mod get;
mod history;
mod list;
mod operation;
mod patience;
mod read;
mod readers;
mod request;
mod segments;
mod serves;
mod wait;
mod watch;

#[cfg(test)]
mod tests;

pub use error::ControlError;
pub use wait::Waiting;
pub use watch::Watching;

/// Everything that operators can do and ask.
pub struct Control {
    hub: Arc<Hub>,
    cluster: Arc<Cluster>,
    server: String,
    started: Instant,
    /// One writer at a time per environment inside this process; kills do not queue here.
    lanes: DashMap<EnvironmentName, Arc<patience::Lane>>,
    readers: readers::Readers,
    recorded: changed::Recorded,
    changed: changed::ChangedBy,
}

impl Control {
    /// Control over the environments of a hub that is alone; `server_name` stands at the head of every answer.
    ///
    /// # Errors
    /// What [`Cluster::new`] says.
    pub fn new(hub: Arc<Hub>, server_name: String) -> Result<Arc<Control>, StoreError> {
        let cluster = Cluster::new(Arc::clone(&hub), server_name.clone(), String::new())?;
        Ok(Control::in_cluster(hub, cluster, server_name))
    }

    /// Control over the environments of a hub that is one of several.
    #[must_use]
    pub fn in_cluster(hub: Arc<Hub>, cluster: Arc<Cluster>, server_name: String) -> Arc<Control> {
        Arc::new(Control {
            hub,
            cluster,
            server: server_name,
            started: Instant::now(),
            lanes: DashMap::new(),
            readers: readers::Readers::default(),
            recorded: changed::Recorded::default(),
            changed: changed::ChangedBy::default(),
        })
    }

    /// Whether this server can answer what only a server with a log of its own can; `cannot` says what a relay does not do.
    fn must_be_no_relay(&self, cannot: &'static str) -> Result<(), ControlError> {
        match self.hub.upstream() {
            None => Ok(()),
            Some(upstream) => Err(ControlError::Relay { upstream: upstream.to_owned(), cannot }),
        }
    }

    /// The server's name for itself.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("server", &self.server).finish_non_exhaustive()
    }
}
