//! The listener: takes connections, and keeps each of them within its limits.
//!
//! tonic's own server leaves most HTTP/2 limits unset or switches them off; here hyper's builder is set by hand, from
//! `limits`. HTTP/1.1 and HTTP/2 come through the same port. A connection that asks nothing is closed, one too many
//! is closed before it costs anything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::Service as _;

use crate::api::gate::Bucket;
use crate::limits::{self, Admission};
use crate::metrics::ServerMetrics;

mod gather;

use gather::Gather;

/// The pause after the system refused to give a connection: it has run out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// From where a request came; an extension of every request.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// The other end of the connection.
    pub(crate) address: SocketAddr,
    streams: Arc<AtomicUsize>,
}

impl Peer {
    /// Tells the connection that it carries one more stream that is written to again and again.
    pub(crate) fn open_stream(&self) -> OpenStream {
        self.streams.fetch_add(1, Ordering::Relaxed);
        OpenStream(Arc::clone(&self.streams))
    }
}

/// A stream that its connection knows of.
#[derive(Debug)]
pub(crate) struct OpenStream(Arc<AtomicUsize>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The two protocols with all their limits.
fn protocols() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HANDSHAKE_TIMEOUT)
        .max_buf_size(limits::HEADER_LIST_MAX_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION_MAX)
        .max_local_error_reset_streams(limits::LOCAL_ERROR_RESET_STREAMS_MAX)
        .max_pending_accept_reset_streams(limits::PENDING_ACCEPT_RESET_STREAMS_MAX)
        .max_header_list_size(limits::HEADER_LIST_MAX_BYTES)
        .keep_alive_interval(limits::KEEPALIVE_INTERVAL)
        .keep_alive_timeout(limits::KEEPALIVE_TIMEOUT);
    builder
}

/// Takes connections until `closing`; returns those that are open then, each of which finishes what it has begun.
pub(crate) async fn accept(
    listener: TcpListener,
    router: Router,
    metrics: Arc<ServerMetrics>,
    admission: Admission,
    mut closing: watch::Receiver<bool>,
) -> JoinSet<()> {
    let protocols = protocols();
    let mut connections = JoinSet::new();
    let rate = admission.connections_per_second;
    let mut bucket = Bucket::new(rate, rate, Instant::now());
    loop {
        let accepted = tokio::select! {
            biased;
            // An error means that the server is gone, which is the same.
            _ = closing.wait_for(|closing| *closing) => return connections,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "no connection could be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if connections.len() >= admission.connections_max {
            metrics.connections_refused.count();
            continue;
        }
        // The next ones wait in the system's queue meanwhile.
        tokio::time::sleep(bucket.queue(Instant::now())).await;
        let open = Open::count(&metrics);
        let (protocols, router, closing) = (protocols.clone(), router.clone(), closing.clone());
        connections.spawn(async move {
            serve(stream, peer, &protocols, router, closing).await;
            drop(open);
        });
    }
}

/// Counts an open connection as long as it lives, also when its task is aborted.
struct Open(Arc<ServerMetrics>);

impl Open {
    fn count(metrics: &Arc<ServerMetrics>) -> Open {
        metrics.connections.count();
        metrics.connections_open.enter();
        Open(Arc::clone(metrics))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections_open.leave();
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    protocols: &Builder<TokioExecutor>,
    router: Router,
    mut closing: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "the connection was closed at once");
        return;
    }
    let asked = Arc::new(AtomicBool::new(false));
    let streams = Arc::new(AtomicUsize::new(0));
    let service = hyper::service::service_fn({
        let (asked, streams) = (Arc::clone(&asked), Arc::clone(&streams));
        move |mut request: hyper::Request<Incoming>| {
            asked.store(true, Ordering::Relaxed);
            request.extensions_mut().insert(Peer { address: peer, streams: Arc::clone(&streams) });
            let mut router = router.clone();
            async move { router.call(request).await }
        }
    });
    let mut connection =
        std::pin::pin!(protocols.serve_connection(TokioIo::new(Gather::new(stream, streams)), service));
    let mut handshake = std::pin::pin!(tokio::time::sleep(limits::HANDSHAKE_TIMEOUT));
    let (mut is_new, mut is_closing) = (true, false);
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, error, "a connection broke");
                }
                return;
            }
            _ = closing.wait_for(|closing| *closing), if !is_closing => {
                is_closing = true;
                connection.as_mut().graceful_shutdown();
            }
            () = handshake.as_mut(), if is_new => {
                is_new = false;
                if !asked.load(Ordering::Relaxed) {
                    tracing::debug!(%peer, "a connection asked nothing and was closed");
                    return;
                }
            }
        }
    }
}
