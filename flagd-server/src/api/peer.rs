//! `flagd.peer.v1.Peer`: tells other servers of the cluster which clients are expected here.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use flagd_proto::Message as _;
use flagd_proto::peer::peer_server::{self, PeerServer};
use flagd_proto::peer::{Member, RosterPart, RosterRequest};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::cluster::{Cluster, wire};
use crate::hub::roster::News;
use crate::hub::{Environment, Hub};
use crate::limits;
use crate::store::StoreError;

/// Parts that wait for a slow asker.
const PARTS_BUFFER: usize = 4;
/// The rest between two looks at the roster, per client in it: many acknowledgements go in a few parts.
const BREATH_PER_CLIENT: Duration = Duration::from_micros(2);
/// The longest rest.
const BREATH_MAX: Duration = Duration::from_millis(50);

/// Answers other servers.
#[derive(Clone, Debug)]
pub(crate) struct PeerService {
    hub: Arc<Hub>,
    server: u128,
}

/// The service for a router.
pub(crate) fn service(hub: Arc<Hub>, cluster: &Cluster) -> PeerServer<PeerService> {
    PeerServer::new(PeerService { hub, server: cluster.id() })
}

#[tonic::async_trait]
impl peer_server::Peer for PeerService {
    type RosterStream = Pin<Box<dyn futures_util::Stream<Item = Result<RosterPart, Status>> + Send>>;

    async fn roster(&self, request: Request<RosterRequest>) -> Result<Response<Self::RosterStream>, Status> {
        let request = request.into_inner();
        if wire::instance_from_wire(&request.server) != Ok(self.server) {
            return Err(Status::failed_precondition("this is another server than the one that is meant"));
        }
        let missing = || Status::not_found(format!("there is no environment `{}` here", request.environment));
        let Ok(name) = request.environment.parse() else { return Err(missing()) };
        let environment = match self.hub.environment(&name).await {
            Ok(environment) => environment,
            Err(StoreError::NoEnvironment(_)) => return Err(missing()),
            Err(error) => return Err(Status::unavailable(error.to_string())),
        };
        let (parts, received) = mpsc::channel(PARTS_BUFFER);
        let telling = tell(Arc::clone(&self.hub), environment, request.below_level, parts);
        tokio::spawn(telling);
        Ok(Response::new(Box::pin(ReceiverStream::new(received).map(Ok))))
    }
}

/// Tells everybody, then every change, until the asker has heard enough or the server stops.
async fn tell(
    hub: Arc<Hub>,
    environment: Arc<Environment>,
    below_level: u32,
    parts: mpsc::Sender<RosterPart>,
) {
    let mut told = HashMap::new();
    let mut seen = 0;
    loop {
        let mut news = environment.roster_news(&mut told);
        if below_level > 0 {
            news.changed.retain(|sighting| sighting.known.level < below_level);
        }
        for part in split(news) {
            if parts.send(part).await.is_err() {
                return;
            }
        }
        let breath = BREATH_PER_CLIENT * u32::try_from(told.len()).unwrap_or(u32::MAX);
        tokio::select! {
            () = hub.closing() => return,
            () = parts.closed() => return,
            () = async {
                tokio::time::sleep(breath.min(BREATH_MAX)).await;
                tokio::select! {
                    now_seen = environment.roster_changed(seen) => seen = now_seen,
                    () = tokio::time::sleep(limits::PEER_HEARTBEAT_INTERVAL) => {}
                }
            } => {}
        }
    }
}

/// In messages of a bounded size; the last one, which may be empty, says that it is the last.
fn split(news: News) -> Vec<RosterPart> {
    let mut parts = Vec::new();
    let mut part = RosterPart::default();
    let mut bytes = 0;
    for sighting in news.changed {
        let member: Member = wire::member_to_wire(sighting);
        bytes += member.encoded_len();
        part.members.push(member);
        if bytes >= limits::PEER_PART_BYTES {
            bytes = 0;
            parts.push(std::mem::take(&mut part));
        }
    }
    for instance in news.gone {
        bytes += size_of::<u128>();
        part.gone.push(wire::instance_to_wire(instance));
        if bytes >= limits::PEER_PART_BYTES {
            bytes = 0;
            parts.push(std::mem::take(&mut part));
        }
    }
    part.complete = true;
    parts.push(part);
    parts
}
