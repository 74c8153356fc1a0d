//! The composition root: a store goes in, a server comes out.
//!
//! Everything that runs is started here and has ended when [`serve`] returns. The order of stopping matters: first
//! the load balancers are told, then the clients, then what they have begun is finished, and only then is the roster
//! saved, so that it says who was there and has gone.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flagd_proto::admin::admin_server::AdminServer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::api::connection::{self, Services};
use crate::api::{self, admin::AdminService, http, stream, stream::StreamService};
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::control::Control;
use crate::hub::Hub;
use crate::limits::Admission;
use crate::metrics::ServerMetrics;
use crate::relay::{Relay, RelayError};
use crate::store::log::Log;
use crate::store::{Store, StoreError};

mod begin;

pub use begin::{FIRST_ENVIRONMENT, begin};

/// What a server is made of.
#[derive(Debug)]
pub struct Settings {
    /// Where its log is.
    pub store: Arc<dyn Store>,
    /// What time it is.
    pub clock: Clock,
    /// What it calls itself in every answer.
    pub server_name: String,
    /// Where the other servers of a cluster reach it; `None`: at the address where it listens.
    pub advertise: Option<String>,
    /// How long it waits at the end for what has begun.
    pub drain_timeout: Duration,
    /// How many it lets in, and how fast.
    pub admission: Admission,
    /// Where the servers are that it relays, in the order in which they are tried; empty: it is no relay.
    pub upstream: Vec<String>,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The store did not answer or could not be read. Do: what the error says.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be a relay. Do: what the error says.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// The socket has no address. Do: report it with the system's error.
    #[error("the address where the server listens is not known: {0}")]
    Listener(std::io::Error),
    /// The descriptions for gRPC reflection do not fit together. Do: report it; it is a mistake of the build.
    #[error("the descriptions of the services cannot be served: {0}")]
    Descriptors(#[from] tonic_reflection::server::Error),
}

/// Listens, with room for as many connections that wait as a crowd needs. To be called within a runtime.
///
/// # Errors
/// What the system says, for instance that the address is taken.
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    connection::listen(address)
}

/// Serves until `shutdown` resolves, and a little longer for those who are still being answered.
///
/// # Errors
/// [`ServeError`] when it cannot start. Once it serves it goes on, whatever the store does.
pub async fn serve(
    listener: TcpListener,
    settings: Settings,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let address = listener.local_addr().map_err(ServeError::Listener)?;
    Server::build(settings, address).await?.run(listener, shutdown).await;
    Ok(())
}

/// A server that is put together and does not listen yet.
struct Server {
    hub: Arc<Hub>,
    cluster: Arc<Cluster>,
    relay: Option<Arc<Relay>>,
    metrics: Arc<ServerMetrics>,
    health: HealthReporter,
    services: Services,
    name: String,
    drain_timeout: Duration,
    admission: Admission,
}

impl Server {
    async fn build(settings: Settings, address: SocketAddr) -> Result<Server, ServeError> {
        let Settings { store, clock, server_name, advertise, drain_timeout, admission, upstream } = settings;
        let (hub, relay) = open(Log::new(store), clock, &server_name, &upstream).await?;
        let url = advertise.unwrap_or_else(|| format!("http://{address}"));
        let cluster = Cluster::new(Arc::clone(&hub), server_name.clone(), url)?;
        let metrics = Arc::new(ServerMetrics::default());
        let (health, health_service) = tonic_health::server::health_reporter();
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(flagd_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?;
        let watched = http::Watched {
            hub: Arc::clone(&hub),
            cluster: Arc::clone(&cluster),
            metrics: Arc::clone(&metrics),
            started: Instant::now(),
        };
        let router = http::routes(watched);
        let streams = StreamService::new(Arc::clone(&hub), Arc::clone(&metrics), &admission);
        let router = api::with_service(router, api::peer::service(Arc::clone(&hub), &cluster));
        let control = Control::in_cluster(Arc::clone(&hub), Arc::clone(&cluster), server_name.clone());
        let router = api::with_service(router, api::admin::service(control));
        let router = api::with_service(router, health_service);
        let router = api::with_service(router, reflection).fallback(api::fallback);
        let name = server_name;
        let services = Services { streams, router, clock: hub.clock().clone() };
        Ok(Server { hub, cluster, relay, metrics, health, services, name, drain_timeout, admission })
    }

    async fn run(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let Server { hub, cluster, relay, metrics, health, services, name, drain_timeout, admission } = self;
        cluster.begin().await;
        let gone = watch::Sender::new(false);
        let announcing = tokio::spawn(cluster.run(gone.subscribe()));
        let drained = watch::Sender::new(false);
        let relaying = relay.map(|relay| tokio::spawn(relay.run(drained.subscribe())));
        set_health(&health, ServingStatus::Serving).await;
        let closing = watch::Sender::new(false);
        let mut accepting =
            std::pin::pin!(connection::accept(listener, services, metrics, admission, closing.subscribe()));
        tracing::info!(server = %name, store = %hub.log().describe(), "serving");
        let mut connections = tokio::select! {
            // It ends only when told to.
            connections = accepting.as_mut() => connections,
            () = shutdown => {
                tracing::info!("stopping");
                set_health(&health, ServingStatus::NotServing).await;
                hub.close_streams();
                closing.send_replace(true);
                accepting.await
            }
        };
        let finish = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(drain_timeout, finish).await.is_err() {
            tracing::warn!(connections = connections.len(), "the rest is cut off");
            connections.shutdown().await;
        }
        // Not before: who was connected here is told as lost to the server above.
        drained.send_replace(true);
        if let Some(relaying) = relaying
            && let Err(error) = relaying.await
        {
            tracing::error!(%error, "the relaying had failed");
        }
        hub.stop().await;
        // Not before: who leaves the list has left its clients in the store.
        gone.send_replace(true);
        if let Err(error) = announcing.await {
            tracing::error!(%error, "the announcing had failed");
        }
        hub.log().settle().await;
        tracing::info!("stopped");
    }
}

/// The environments, on the log of a server or of a relay.
async fn open(
    log: Log,
    clock: Clock,
    name: &str,
    upstream: &[String],
) -> Result<(Arc<Hub>, Option<Arc<Relay>>), ServeError> {
    if !upstream.is_empty() {
        log.must_be_a_relays().await?;
        let hub = Hub::start_relay(log, clock, upstream.join(",")).await?;
        let relay = Relay::new(Arc::clone(&hub), upstream, name.to_owned())?;
        return Ok((hub, Some(relay)));
    }
    let vacant = begin(&log, &clock).await?;
    let hub = Hub::start(log, clock).await?;
    if let Some(why) = vacant {
        hub.leave_vacant(why);
    }
    Ok((hub, None))
}

/// The names under which health is told: the server as a whole, and each service.
fn health_names() -> [&'static str; 3] {
    let admin = <AdminServer<AdminService> as NamedService>::NAME;
    ["", stream::NAME, admin]
}

async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for name in health_names() {
        health.set_service_status(name, status).await;
    }
}

#[cfg(test)]
mod tests;
