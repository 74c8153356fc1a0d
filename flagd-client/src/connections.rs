//! Connections that several clients of one process share: one per server, whatever the number of environments.
//!
//! A connection belongs to a runtime, and a client's runtime ends with the client; so shared connections have a thread
//! of their own, which does nothing but move bytes. What comes on a stream is read on its client's thread: a client
//! whose disk or callback hangs lets its own window fill up and keeps nobody else from anything. There is no list of
//! connections beyond this handle, and a connection that no stream uses is closed. Nothing here decides when to
//! connect.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tonic::transport::{Channel, Endpoint};

use crate::feed::Server;
use crate::limits::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES, STREAMS_PER_CONNECTION_MAX};

/// Connections that several clients share: give it to each of them with [`Builder::connections`].
///
/// Clients of different environments, or of the same, have one connection to each server that they follow, and a
/// stream each on it. Everything else is a client's own: its thread, its states, its back-off, its `Bye`. Up to 64
/// clients share one connection; more open another one. A client that does not take what it is sent holds up to 512 KiB
/// back and delays no other. An idle client costs about 125 KiB beside its state, most of which is its thread.
///
/// ```no_run
/// use flagd_client::{Client, Connections};
///
/// let shared = Connections::new();
/// let clients: Result<Vec<Client>, _> = ["production", "staging"]
///     .map(|name| Client::builder("http://127.0.0.1:8013").environment(name).connections(&shared).start_blocking())
///     .into_iter()
///     .collect();
/// # drop(clients);
/// ```
///
/// The handle may be dropped; connections live as long as clients use them.
///
/// [`Builder::connections`]: crate::Builder::connections
#[derive(Clone, Debug, Default)]
pub struct Connections {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By the server's address; several when more clients follow it than one connection takes.
    lines: Mutex<HashMap<String, Vec<Arc<Line>>>>,
    driver: Mutex<Option<Driver>>,
}

/// The thread that moves the bytes; it ends when this is dropped.
#[derive(Debug)]
struct Driver {
    handle: Handle,
    _alive: oneshot::Sender<()>,
}

/// A place for one connection to one server.
#[derive(Debug)]
struct Line {
    places: Arc<Semaphore>,
    /// Attempts that have ended; read before waiting for the one that is going on.
    attempts: AtomicU64,
    /// Locked while somebody connects: the others wait for the same attempt.
    state: tokio::sync::Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    live: Weak<Channel>,
    failure: Option<String>,
}

/// A stream's right to a connection, which lives as long as somebody has one.
#[derive(Debug)]
pub(crate) struct Lease {
    channel: Arc<Channel>,
    _place: OwnedSemaphorePermit,
}

impl Lease {
    /// What streams are opened on.
    pub(crate) fn channel(&self) -> Channel {
        (*self.channel).clone()
    }
}

impl Connections {
    /// No connections yet; the first client begins.
    #[must_use]
    pub fn new() -> Connections {
        Connections::default()
    }

    /// Starts the thread if there is none. An error is the system's.
    pub(crate) fn begin(&self) -> std::io::Result<()> {
        let mut driver = self.inner.driver.lock().unwrap_or_else(PoisonError::into_inner);
        if driver.is_none() {
            *driver = Some(drive()?);
        }
        Ok(())
    }

    /// A place on a connection to this server, which is opened unless there is one. Whoever comes while it is being
    /// opened waits for the same attempt, and has its failure too.
    pub(crate) async fn lease(&self, server: &Server) -> Result<Lease, String> {
        let handle = {
            let driver = self.inner.driver.lock().unwrap_or_else(PoisonError::into_inner);
            driver.as_ref().map(|driver| driver.handle.clone()).ok_or("the connections have ended")?
        };
        let (line, place) = self.place(&server.address)?;
        let attempts = line.attempts.load(Ordering::Acquire);
        let mut state = line.state.lock().await;
        if let Some(channel) = state.live.upgrade() {
            return Ok(Lease { channel, _place: place });
        }
        if line.attempts.load(Ordering::Acquire) != attempts
            && let Some(failure) = &state.failure
        {
            return Err(failure.clone());
        }
        let connected = connect(&handle, server.endpoint.clone()).await;
        line.attempts.fetch_add(1, Ordering::AcqRel);
        match connected {
            Ok(channel) => {
                let channel = Arc::new(channel);
                *state = State { live: Arc::downgrade(&channel), failure: None };
                Ok(Lease { channel, _place: place })
            }
            Err(failure) => {
                state.failure = Some(failure.clone());
                Err(failure)
            }
        }
    }

    /// A place on the first line to this server that has one.
    fn place(&self, address: &str) -> Result<(Arc<Line>, OwnedSemaphorePermit), String> {
        let mut lines = self.inner.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = lines.entry(address.to_owned()).or_default();
        let free = |line: &Arc<Line>| {
            let place = Arc::clone(&line.places).try_acquire_owned().ok()?;
            Some((Arc::clone(line), place))
        };
        if let Some(found) = lines.iter().find_map(free) {
            return Ok(found);
        }
        let line = Arc::new(Line {
            places: Arc::new(Semaphore::new(STREAMS_PER_CONNECTION_MAX)),
            attempts: AtomicU64::new(0),
            state: tokio::sync::Mutex::default(),
        });
        lines.push(Arc::clone(&line));
        free(&line).ok_or_else(|| "a new connection has no place".to_owned())
    }
}

/// Connects on the thread of the connections, where the connection then lives.
async fn connect(handle: &Handle, endpoint: Endpoint) -> Result<Channel, String> {
    let endpoint = endpoint
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    match handle.spawn(async move { endpoint.connect().await }).await {
        Ok(connected) => connected.map_err(|error| crate::feed::chain(&error)),
        Err(error) => Err(format!("connecting failed: {error}")),
    }
}

/// Starts the thread that moves the bytes.
fn drive() -> std::io::Result<Driver> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let handle = runtime.handle().clone();
    let (alive, ended) = oneshot::channel::<()>();
    std::thread::Builder::new().name("flagd-connections".into()).spawn(move || {
        // Resolves when the sender is dropped; nothing is ever sent.
        let _ = runtime.block_on(ended);
    })?;
    Ok(Driver { handle, _alive: alive })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(address: &str) -> Server {
        Server { address: address.to_owned(), endpoint: Endpoint::from_shared(address.to_owned()).unwrap() }
    }

    /// A listener, and how many connections it has taken.
    async fn listener() -> (String, Arc<AtomicU64>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let taken = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&taken);
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                open.push(stream);
            }
        });
        (address, taken)
    }

    #[tokio::test]
    async fn one_connection_takes_as_many_as_there_are_places_and_the_next_one_another() {
        let (address, taken) = listener().await;
        let (connections, server) = (Connections::new(), server(&address));
        connections.begin().unwrap();
        let mut leases = Vec::new();
        for _ in 0..STREAMS_PER_CONNECTION_MAX {
            leases.push(connections.lease(&server).await.unwrap());
        }
        assert!(leases.iter().all(|lease| Arc::ptr_eq(&lease.channel, &leases[0].channel)));
        let further = connections.lease(&server).await.unwrap();
        assert!(!Arc::ptr_eq(&further.channel, &leases[0].channel));
        // A place that is given back is used again before anything new is opened.
        leases.pop();
        let again = connections.lease(&server).await.unwrap();
        assert!(Arc::ptr_eq(&again.channel, &leases[0].channel));
        while taken.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn whoever_comes_while_it_is_opened_waits_for_the_same_attempt() {
        let (address, taken) = listener().await;
        let connections = Connections::new();
        connections.begin().unwrap();
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (connections, server) = (connections.clone(), server(&address));
            all.spawn(async move { connections.lease(&server).await });
        }
        let leases: Vec<Lease> = all.join_all().await.into_iter().map(Result::unwrap).collect();
        assert!(leases.iter().all(|lease| Arc::ptr_eq(&lease.channel, &leases[0].channel)));
        // Another server is another connection.
        let (other, _) = listener().await;
        assert!(!Arc::ptr_eq(&connections.lease(&server(&other)).await.unwrap().channel, &leases[0].channel));
        assert_eq!(taken.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_failure_is_everybodys_who_waited_and_nobody_elses() {
        let (address, _) = listener().await;
        let nobody = server("http://127.0.0.1:1");
        let connections = Connections::new();
        connections.begin().unwrap();
        let waiting = futures(&connections, &nobody, 5).await;
        assert!(waiting.iter().all(Result::is_err), "{waiting:?}");
        assert!(connections.lease(&server(&address)).await.is_ok());
        let line = connections.place(&nobody.address).unwrap().0;
        let before = line.attempts.load(Ordering::SeqCst);
        assert!((1..=5).contains(&before));
        assert!(connections.lease(&nobody).await.is_err());
        assert_eq!(line.attempts.load(Ordering::SeqCst), before + 1, "who comes later tries anew");
    }

    async fn futures(connections: &Connections, server: &Server, count: usize) -> Vec<Result<Lease, String>> {
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..count {
            let (connections, server) = (connections.clone(), server.clone());
            all.spawn(async move { connections.lease(&server).await });
        }
        all.join_all().await
    }

    #[tokio::test]
    async fn nobody_without_a_thread_connects() {
        assert!(Connections::new().lease(&server("http://127.0.0.1:1")).await.is_err());
    }
}
