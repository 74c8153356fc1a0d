//! The listener: takes connections, and keeps each of them within its limits.
//!
//! HTTP/1.1 and HTTP/2 come through the same port; what a connection says first tells which. Both are served with limits
//! that are set by hand, from `limits`: tonic's own server leaves most of them unset or switches them off. A connection
//! that asks nothing is closed, one too many is closed before it costs anything.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::Service as _;

use crate::api::gate::Bucket;
use crate::limits::{self, Admission};
use crate::metrics::ServerMetrics;

mod answer;
mod exchange;
mod http2;
mod pulse;
pub(crate) mod ready;

pub(crate) use http2::Services;

/// The pause after the system refused to give a connection: it has run out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The pause before the rest of somebody's first word is looked for.
const FIRST_WORD_PAUSE: Duration = Duration::from_millis(20);

/// From where a request came; an extension of every request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// The other end of the connection.
    pub(crate) address: SocketAddr,
}

/// Listens, with room for as many that wait as a crowd needs.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A server that starts again takes its old address also while connections of before are being forgotten. On Windows
    // the option means something else.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(limits::ACCEPT_BACKLOG)
}

/// Takes connections until `closing`; returns those that are open then, each of which finishes what it has begun.
pub(crate) async fn accept(
    listener: TcpListener,
    services: Services,
    metrics: Arc<ServerMetrics>,
    admission: Admission,
    mut closing: watch::Receiver<bool>,
) -> JoinSet<()> {
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
        // The next ones wait in the system's queue meanwhile. Any sleep is one of a turn of the runtime at the least.
        let pause = bucket.queue(Instant::now());
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let open = Open::count(&metrics);
        let (services, closing) = (services.clone(), closing.clone());
        connections.spawn(async move {
            serve(stream, peer, services, closing).await;
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

async fn serve(stream: TcpStream, peer: SocketAddr, services: Services, closing: watch::Receiver<bool>) {
    let first = async {
        stream.set_nodelay(true)?;
        Box::pin(tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, first_word(&stream))).await?
    };
    let protocol = match first.await {
        Ok(protocol) => protocol,
        Err(error) => {
            tracing::debug!(%peer, %error, "a connection was closed before it asked anything");
            return;
        }
    };
    // Boxed where it is made: a future that is awaited where it is made is kept twice, and there are thousands of these.
    let serving: Pin<Box<dyn Future<Output = ()> + Send>> = match protocol {
        Protocol::Http1 => Box::pin(serve_http1(stream, peer, services, closing)),
        Protocol::Http2 => Box::pin(http2::serve(stream, peer, services, closing)),
    };
    serving.await;
}

/// What somebody speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// Finds out what somebody speaks and leaves it unread. HTTP/2 begins with a method that no other protocol has (RFC 9113,
/// 3.4).
async fn first_word(stream: &TcpStream) -> io::Result<Protocol> {
    const METHOD: &[u8] = b"PRI";
    let mut said = [0; METHOD.len()];
    loop {
        let length = stream.peek(&mut said).await?;
        let said = said.get(..length).unwrap_or_default();
        if said.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if said == METHOD {
            return Ok(Protocol::Http2);
        }
        if !METHOD.starts_with(said) {
            return Ok(Protocol::Http1);
        }
        // The socket is readable all the while.
        tokio::time::sleep(FIRST_WORD_PAUSE).await;
    }
}

async fn serve_http1(
    stream: TcpStream,
    peer: SocketAddr,
    services: Services,
    mut closing: watch::Receiver<bool>,
) {
    let asked = Arc::new(AtomicBool::new(false));
    let service = hyper::service::service_fn({
        let asked = Arc::clone(&asked);
        move |mut request: hyper::Request<Incoming>| {
            asked.store(true, Ordering::Relaxed);
            request.extensions_mut().insert(Peer { address: peer });
            let mut router = services.router.clone();
            async move { router.call(request).await }
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HANDSHAKE_TIMEOUT)
        .max_buf_size(limits::HEADER_LIST_MAX_BYTES as usize);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut handshake = std::pin::pin!(tokio::time::sleep(limits::HANDSHAKE_TIMEOUT));
    let (mut is_new, mut is_closing) = (true, false);
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, %error, "a connection broke");
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
