//! `flagd.peer.v1.Peer`: tells other servers of the cluster which clients are expected here, and hears relays (`relay`).

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use flagd_proto::peer::peer_server::{self, PeerServer};
use flagd_proto::peer::{EnvironmentsRequest, EnvironmentsResponse, RelayMessage, RosterPart, RosterRequest};
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::connection::Peer;
use crate::cluster::{Cluster, wire};
use crate::hub::roster::Telling;
use crate::hub::{Environment, Hub};
use crate::limits;
use crate::store::StoreError;

mod relay;

/// Parts that wait for a slow asker.
const PARTS_BUFFER: usize = 4;
/// Answers other servers.
#[derive(Clone, Debug)]
pub(crate) struct PeerService {
    hub: Arc<Hub>,
    server: u128,
    name: String,
    /// When the store was last asked which environments there are.
    looked: Arc<Mutex<Option<Instant>>>,
}

/// The service for a router.
pub(crate) fn service(hub: Arc<Hub>, cluster: &Cluster) -> PeerServer<PeerService> {
    let service =
        PeerService { hub, server: cluster.id(), name: cluster.name().to_owned(), looked: Arc::default() };
    PeerServer::new(service).max_decoding_message_size(limits::PEER_MESSAGE_MAX_BYTES)
}

#[tonic::async_trait]
impl peer_server::Peer for PeerService {
    type RosterStream = Pin<Box<dyn futures_util::Stream<Item = Result<RosterPart, Status>> + Send>>;

    async fn roster(&self, request: Request<RosterRequest>) -> Result<Response<Self::RosterStream>, Status> {
        let request = request.into_inner();
        if wire::instance_from_wire(&request.server) != Ok(self.server) {
            return Err(Status::failed_precondition("this is another server than the one that is meant"));
        }
        let environment = self.environment(&request.environment).await?;
        let (parts, received) = mpsc::channel(PARTS_BUFFER);
        let telling = if request.compact { Telling::Compact } else { Telling::Whole };
        let asked = Asked { below_level: request.below_level, telling };
        tokio::spawn(tell(Arc::clone(&self.hub), environment, asked, parts));
        Ok(Response::new(Box::pin(ReceiverStream::new(received).map(Ok))))
    }

    async fn environments(
        &self,
        _request: Request<EnvironmentsRequest>,
    ) -> Result<Response<EnvironmentsResponse>, Status> {
        self.look_for_more().await;
        let names =
            self.hub.environments().iter().map(|environment| environment.name().to_string()).collect();
        Ok(Response::new(EnvironmentsResponse { environments: names, server: self.name.clone() }))
    }

    type RelayStream = relay::Answers;

    async fn relay(
        &self,
        request: Request<Streaming<RelayMessage>>,
    ) -> Result<Response<Self::RelayStream>, Status> {
        let address =
            request.extensions().get::<Peer>().map(|peer| peer.address.to_string()).unwrap_or_default();
        let inbound = request.into_inner();
        Ok(Response::new(relay::hear(self.clone(), inbound, address)))
    }
}

/// What somebody wants to be told.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// Only clients that understand less than this level; 0: all.
    below_level: u32,
    telling: Telling,
}

impl PeerService {
    /// Opens what another server created meanwhile. Many relays ask; the store is asked for all of them.
    async fn look_for_more(&self) {
        let Ok(mut looked) = self.looked.try_lock() else { return };
        if looked.is_some_and(|at| at.elapsed() < limits::RELAY_ENVIRONMENTS_INTERVAL) {
            return;
        }
        *looked = Some(Instant::now());
        if let Err(error) = self.hub.open_all().await {
            tracing::warn!(%error, "relays are told only of the environments that are open");
        }
    }

    async fn environment(&self, name: &str) -> Result<Arc<Environment>, Status> {
        let missing = || Status::not_found(format!("there is no environment `{name}` here"));
        let Ok(name) = name.parse() else { return Err(missing()) };
        match self.hub.environment(&name).await {
            Ok(environment) => Ok(environment),
            Err(StoreError::NoEnvironment(_)) => Err(missing()),
            Err(error) => Err(Status::unavailable(error.to_string())),
        }
    }
}

/// Tells everybody, then every change, until the asker has heard enough or the server stops.
async fn tell(hub: Arc<Hub>, environment: Arc<Environment>, asked: Asked, parts: mpsc::Sender<RosterPart>) {
    let mut told = HashMap::new();
    let mut seen = 0;
    let mut relays_seen = None;
    loop {
        let relays_version = Some(environment.relays.version());
        let relays = (relays_seen != relays_version).then(|| environment.relays.sightings());
        relays_seen = relays_version;
        let mut news = environment.roster_news(&mut told, asked.telling);
        if asked.below_level > 0 {
            news.changed.retain(|sighting| sighting.known.level < asked.below_level);
        }
        for part in wire::parts_to_wire(wire::Part { news, relays, complete: true }) {
            if parts.send(part).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = hub.closing() => return,
            () = parts.closed() => return,
            now_seen = wire::breathe(&environment, told.len(), seen) => seen = now_seen,
        }
    }
}
