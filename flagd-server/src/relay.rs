//! A relay: shows what another server shows, and tells it which clients have applied what.
//!
//! A server has as many streams as it has. Behind relays there may be ten times as many, and a confirmation still means
//! each of them. Per environment a `feed` follows the server above as a client does and verifies what comes, a `keeper`
//! writes it to the disk afterwards, and a `teller` tells the roster upwards. A relay decides nothing: positions are
//! those of the server above, bytes are passed on whether they are understood or not, and nothing is written that was
//! not shown there. Without the server above it goes on with what it has, also after a restart, and says how old
//! that is.

use std::collections::HashSet;
use std::sync::Arc;

use flagd_core::key::EnvironmentName;
use flagd_proto::peer::EnvironmentsRequest;
use flagd_proto::peer::peer_client::PeerClient;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::hub::Hub;
use crate::limits;

mod backoff;
mod feed;
mod intake;
mod keeper;
mod teller;
mod upstream;

use upstream::{Turn, Upstream};

/// Why there is no environment on a relay that has just begun.
const NOTHING_YET: &str =
    "this relay keeps no environment and was told of none yet by the servers that it follows";

/// A relay of other servers.
#[derive(Debug)]
pub struct Relay {
    hub: Arc<Hub>,
    /// In the order in which they are tried.
    upstreams: Vec<Upstream>,
    name: String,
}

/// Why a relay cannot be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// An address of a server to follow is none. Do: write it as `http://HOST:PORT`.
    #[error("`{url}` is no address of a server: {why}")]
    Address {
        /// What was written.
        url: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Relay {
    /// A relay of the servers at these addresses, which are tried in turn; `name` is what they call it.
    ///
    /// # Errors
    /// [`RelayError::Address`].
    pub fn new(hub: Arc<Hub>, urls: &[String], name: String) -> Result<Arc<Relay>, RelayError> {
        let upstreams = urls.iter().map(|url| Upstream::new(url)).collect::<Result<_, _>>()?;
        hub.await_environments(NOTHING_YET.to_owned());
        Ok(Arc::new(Relay { hub, upstreams, name }))
    }

    /// Follows every environment of the server above until told to stop; then says goodbye to it.
    pub async fn run(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let mut tasks = JoinSet::new();
        let mut followed = HashSet::new();
        for environment in self.hub.environments() {
            followed.insert(environment.name().clone());
            self.follow(&mut tasks, environment.name().clone(), &stopped);
        }
        let mut turn = Turn::default();
        loop {
            let pause = match turn.of(&self.upstreams) {
                None => limits::RELAY_ENVIRONMENTS_INTERVAL,
                Some(upstream) => match self.environments(upstream).await {
                    Ok(names) => {
                        turn.went_well();
                        for name in names {
                            if followed.insert(name.clone()) {
                                self.follow(&mut tasks, name, &stopped);
                            }
                        }
                        limits::RELAY_ENVIRONMENTS_INTERVAL
                    }
                    Err(why) => {
                        tracing::warn!(url = %upstream.url, why, "the server above does not say which environments there are");
                        turn.next(None)
                    }
                },
            };
            tokio::select! {
                biased;
                // An error means that the server is gone, which is the same.
                _ = stopped.wait_for(|stopped| *stopped) => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of the relay had failed");
            }
        }
    }

    fn follow(
        self: &Arc<Self>,
        tasks: &mut JoinSet<()>,
        name: EnvironmentName,
        stopped: &watch::Receiver<bool>,
    ) {
        let opened = watch::Sender::new(self.hub.opened(&name));
        tasks.spawn(teller::tell(Arc::clone(self), opened.subscribe(), stopped.clone()));
        tasks.spawn(feed::feed(Arc::clone(self), name, opened, stopped.clone()));
    }

    /// The environments of a server above.
    async fn environments(&self, upstream: &Upstream) -> Result<Vec<EnvironmentName>, String> {
        let mut client = PeerClient::new(upstream.channel.clone());
        let asked = client.environments(EnvironmentsRequest {});
        let answer = tokio::time::timeout(limits::RELAY_SILENCE_MAX, asked).await;
        let answer = answer.map_err(|_| "no answer".to_owned())?;
        let answer = answer.map_err(|status| status.message().to_owned())?.into_inner();
        let names = answer.environments.iter().take(limits::ENVIRONMENTS_MAX);
        names.map(|name| name.parse().map_err(|_| format!("`{name}` names no environment"))).collect()
    }
}
