//! The servers of one cluster: who is there, and what all of them together know of their clients.
//!
//! A confirmation must span all servers, and the store is too slow a place to ask: so each server announces itself in
//! the store and is then asked directly. Whoever is asked tells its roster and every change of it, so that the last
//! acknowledgement is known here milliseconds later. A server that is there and does not answer is named, and
//! nothing is confirmed meanwhile. It knows nothing of operators or of clients' streams.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use flagd_proto::peer::Announcement;
use flagd_proto::peer::peer_client::PeerClient;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};

use crate::hub::merge::Merged;
use crate::hub::standing;
use crate::hub::{ClientStanding, Environment, Hub};
use crate::limits;
use crate::store::StoreError;

mod listen;
mod watching;
pub(crate) mod wire;

pub(crate) use watching::Watching;

/// Every so many announcements the absent clients are looked up in the store.
const RECONCILE_EVERY: u32 = 5;
/// How long the farewell to the others may take.
const WITHDRAW_MAX: Duration = Duration::from_secs(1);

/// This server and the others.
#[derive(Debug)]
pub struct Cluster {
    hub: Arc<Hub>,
    id: u128,
    name: String,
    url: String,
    peers: watch::Sender<Peers>,
    /// Held while the list is read, so that an older list never replaces a newer one.
    refreshing: tokio::sync::Mutex<()>,
}

/// The other servers.
type Peers = Arc<[Arc<Peer>]>;

/// Another server.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: u128,
    pub(crate) name: String,
    pub(crate) url: String,
    client: PeerClient<Channel>,
}

/// Another server, as operators are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSeen {
    /// Its name.
    pub name: String,
    /// Where it is reached.
    pub url: String,
}

impl Cluster {
    /// This server among others; `url` is where they reach it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] without random bits for the server's id.
    pub fn new(hub: Arc<Hub>, name: String, url: String) -> Result<Arc<Cluster>, StoreError> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| {
            StoreError::Unavailable(format!("no random bits for the server's id: {error}"))
        })?;
        Ok(Arc::new(Cluster {
            hub,
            id: u128::from_be_bytes(id),
            name,
            url,
            peers: watch::Sender::new(Arc::new([])),
            refreshing: tokio::sync::Mutex::new(()),
        }))
    }

    /// The id of this process.
    #[must_use]
    pub fn id(&self) -> u128 {
        self.id
    }

    /// The name of this server.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The other servers.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerSeen> {
        let peers = self.peers.borrow();
        peers.iter().map(|peer| PeerSeen { name: peer.name.clone(), url: peer.url.clone() }).collect()
    }

    /// Says that this server is there, and looks who else is.
    pub async fn begin(&self) {
        self.round(0).await;
    }

    /// Goes on saying so until told to stop; then says that this server has gone.
    pub async fn run(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let mut rounds = 0_u32;
        loop {
            tokio::select! {
                biased;
                // An error means that the server is gone, which is the same.
                _ = stopped.wait_for(|stopped| *stopped) => break,
                () = tokio::time::sleep(limits::ANNOUNCE_INTERVAL) => {}
            }
            rounds = rounds.wrapping_add(1);
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => break,
                () = self.round(rounds) => {}
            }
        }
        let withdrawn = tokio::time::timeout(WITHDRAW_MAX, self.hub.log().withdraw(self.id)).await;
        if !matches!(withdrawn, Ok(Ok(()))) {
            tracing::warn!(
                "the other servers were not told that this one goes; they notice in a few seconds"
            );
        }
    }

    async fn round(&self, rounds: u32) {
        if let Err(error) = self.announce_and_look(rounds).await {
            tracing::warn!(%error, "the other servers cannot be looked up; those known before are asked");
        }
    }

    async fn announce_and_look(&self, rounds: u32) -> Result<(), StoreError> {
        let announcement = Announcement {
            name: self.name.clone(),
            url: self.url.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            environments: u32::try_from(self.hub.environments().len()).unwrap_or(u32::MAX),
        };
        self.hub.log().announce(self.id, &announcement).await?;
        if self.hub.vacancy().is_some() {
            // Somebody may have given the store back what it had.
            self.hub.open_all().await?;
        }
        self.refresh().await?;
        if rounds.is_multiple_of(RECONCILE_EVERY) && !self.peers.borrow().is_empty() {
            for environment in self.hub.environments() {
                if !environment.relays.away().is_empty() {
                    environment.reconcile_relays().await?;
                }
                if environment.roster.has_absent() {
                    environment.reconcile().await?;
                }
            }
        }
        Ok(())
    }

    /// Reads who is there. A server leaves the list only after it is known here who was connected to it.
    async fn refresh(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.refreshing.lock().await;
        let announced = self.hub.log().announced().await?;
        let before = Arc::clone(&self.peers.borrow());
        let others = announced.into_iter().filter(|(id, _)| *id != self.id);
        let now: Vec<Arc<Peer>> = others.map(|(id, said)| meet(&before, id, &said)).collect();
        let has = |peers: &[Arc<Peer>], wanted: &Peer| peers.iter().any(|peer| peer.id == wanted.id);
        let has_vanished = before.iter().any(|peer| !has(&now, peer));
        for environment in self.hub.environments() {
            if !now.is_empty() {
                environment.shared.store(true, Ordering::Relaxed);
            }
            if has_vanished {
                environment.reconcile().await?;
            }
        }
        for peer in before.iter().filter(|peer| !has(&now, peer)) {
            tracing::info!(server = %peer.name, url = %peer.url, "a server of the cluster has gone");
        }
        for peer in now.iter().filter(|peer| !has(&before, peer)) {
            tracing::info!(server = %peer.name, url = %peer.url, "a server of the cluster is there");
        }
        if has_vanished || now.len() != before.len() {
            self.peers.send_replace(now.into());
        }
        Ok(())
    }

    /// Follows what all servers know of an environment's clients.
    pub(crate) async fn watch(&self, environment: &Arc<Environment>) -> Watching {
        // A server that has just begun must not be missed.
        match tokio::time::timeout(limits::PEER_ANSWER_MAX, self.refresh()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "asking only the servers known before"),
            Err(_) => {
                tracing::warn!("the store does not say who is there; asking only the servers known before");
            }
        }
        self.listen(environment, 0).await
    }

    async fn listen(&self, environment: &Arc<Environment>, below_level: u32) -> Watching {
        let mut watching = Watching::begin(&self.name, environment, self.peers.subscribe(), below_level);
        watching.answered().await;
        watching
    }

    /// What all servers know now of an environment's clients.
    pub(crate) async fn ask(&self, environment: &Arc<Environment>) -> Merged {
        self.watch(environment).await.merged()
    }

    /// The clients that understand less than a level. Servers that began less than a second ago may be missed.
    pub(crate) async fn ask_below_level(
        &self,
        environment: &Arc<Environment>,
        level: u32,
    ) -> Vec<ClientStanding> {
        let is_alone = self.peers.borrow().is_empty();
        let clients = if is_alone {
            environment.sightings_below(level)
        } else {
            self.listen(environment, level).await.merged().clients
        };
        standing::below_level(clients, level)
    }
}

/// Another server by its announcement; one that is known keeps its connection.
fn meet(known: &[Arc<Peer>], id: u128, said: &Announcement) -> Arc<Peer> {
    if let Some(peer) = known.iter().find(|peer| peer.id == id && peer.url == said.url) {
        return Arc::clone(peer);
    }
    let endpoint = match Endpoint::from_shared(said.url.clone()) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            tracing::error!(server = %said.name, url = %said.url, %error, "a server announces an address that is none");
            // Nobody can ask it; with an address where nobody listens it is named as not answering.
            Endpoint::from_static("http://0.0.0.0:0")
        }
    };
    let channel = endpoint
        .connect_timeout(limits::PEER_ANSWER_MAX)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(limits::KEEPALIVE_INTERVAL)
        .keep_alive_timeout(limits::KEEPALIVE_TIMEOUT)
        .connect_lazy();
    let client = PeerClient::new(channel).max_decoding_message_size(limits::PEER_MESSAGE_MAX_BYTES);
    Arc::new(Peer { id, name: said.name.clone(), url: said.url.clone(), client })
}
