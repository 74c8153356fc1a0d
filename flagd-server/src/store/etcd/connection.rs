//! Owns the connections to etcd: one per endpoint for calls, one more for each watch.
//!
//! The members of a cluster die, freeze, lose their quorum and come back, and a call must neither hang on one of them
//! nor fail because of one. So every attempt has a deadline, an endpoint that failed is passed over for a while, and
//! a call goes on to the next one until its own deadline. An attempt that failed may still have had its effect, or
//! have it later; therefore only calls that may be repeated go through [`Connections::call`]: reads, transactions
//! guarded by a comparison, writes that say the same each time.
//!
//! A connection on which an attempt ran out of time is not used again: it may be half open, and nothing would ever
//! be heard from it. Large answers on a connection can starve a watch (etcd#15402), so watches have their own.
//! Texts of errors are shown to people and never looked at.

use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use http::uri::PathAndQuery;
use prost::Message;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tonic::client::Grpc;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::EtcdCounters;
use super::breaker::{self, Breakers};
use super::config::{EtcdConfig, Patience, Secret, Tls, User};
use super::wire;

/// A method of etcd's.
#[derive(Clone, Copy)]
pub(super) struct Method(&'static str);

pub(super) const RANGE: Method = Method("/etcdserverpb.KV/Range");
pub(super) const TXN: Method = Method("/etcdserverpb.KV/Txn");
pub(super) const STATUS: Method = Method("/etcdserverpb.Maintenance/Status");
pub(super) const ALARM: Method = Method("/etcdserverpb.Maintenance/Alarm");
/// A stream, of which one request and one answer are used.
pub(super) const LEASE_KEEP_ALIVE: Method = Method("/etcdserverpb.Lease/LeaseKeepAlive");
pub(super) const LEASE_GRANT: Method = Method("/etcdserverpb.Lease/LeaseGrant");
const WATCH: Method = Method("/etcdserverpb.Watch/Watch");
const AUTHENTICATE: Method = Method("/etcdserverpb.Auth/Authenticate");

/// With less time left than this, another attempt is not worth it.
const ATTEMPT_MIN: Duration = Duration::from_millis(20);

/// Why etcd did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Fault {
    /// Nobody answered properly in time. Another endpoint or another moment may help.
    #[error("{0}")]
    Unavailable(String),
    /// We are not let in, or not to this.
    #[error("{0}")]
    Refused(String),
    /// The range is too large for one answer, or the revision is no longer (or not yet) there.
    #[error("{0}")]
    OutOfRange(String),
    /// There is no space, or too much was asked at a time.
    #[error("{0}")]
    Exhausted(String),
    /// The request, or the configuration, is wrong in itself.
    #[error("{0}")]
    Wrong(String),
}

impl Fault {
    fn of(status: &Status) -> Fault {
        let text = format!("{}: {}", status.code().description(), describe(status));
        match status.code() {
            Code::OutOfRange => Fault::OutOfRange(text),
            Code::ResourceExhausted => Fault::Exhausted(text),
            Code::Unauthenticated | Code::PermissionDenied => Fault::Refused(text),
            Code::InvalidArgument | Code::FailedPrecondition | Code::NotFound | Code::Unimplemented => {
                Fault::Wrong(text)
            }
            _ => Fault::Unavailable(text),
        }
    }

    /// The endpoint is at fault, so another one may do better.
    fn blames_the_endpoint(&self) -> bool {
        matches!(self, Fault::Unavailable(_))
    }
}

/// A status says "transport error" and hides why; the innermost source knows.
fn describe(status: &Status) -> String {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(status);
    let mut innermost = None;
    while let Some(error) = cause {
        innermost = Some(error);
        cause = error.source();
    }
    innermost.map_or_else(|| status.message().to_owned(), |error| format!("{} ({error})", status.message()))
}

/// All endpoints of one etcd.
pub(super) struct Connections {
    places: Vec<Place>,
    user: Option<User>,
    tls: Option<Tls>,
    patience: Patience,
    breakers: Mutex<Breakers>,
    began: Instant,
    counters: Arc<EtcdCounters>,
}

struct Place {
    address: String,
    /// Numbers the connections, so that only the one that failed is given up.
    connects: AtomicU64,
    link: tokio::sync::Mutex<Option<Link>>,
}

/// A connection to one endpoint, signed in.
#[derive(Clone)]
pub(super) struct Link {
    number: u64,
    channel: Channel,
    token: Option<AsciiMetadataValue>,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.places.iter().map(|place| &place.address)).finish()
    }
}

impl Connections {
    pub(super) fn new(config: &EtcdConfig, counters: Arc<EtcdCounters>) -> Connections {
        let place = |address: &String| Place {
            address: address.clone(),
            connects: AtomicU64::new(0),
            link: tokio::sync::Mutex::new(None),
        };
        Connections {
            places: config.endpoints.iter().map(place).collect(),
            user: config.user.clone(),
            tls: config.tls.clone(),
            patience: config.patience,
            breakers: Mutex::new(Breakers::new(config.endpoints.len())),
            began: Instant::now(),
            counters,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn address(&self, endpoint: usize) -> &str {
        self.places.get(endpoint).map_or("?", |place| &place.address)
    }

    fn breakers(&self) -> MutexGuard<'_, Breakers> {
        self.breakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls whichever endpoint answers. The request may reach several of them.
    pub(super) async fn call<Q, A>(&self, method: Method, request: Q) -> Result<A, Fault>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        Ok(self.call_counting(method, request).await?.0)
    }

    /// The same, with the number of attempts before the one that was answered.
    pub(super) async fn call_counting<Q, A>(&self, method: Method, request: Q) -> Result<(A, u32), Fault>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let deadline = Instant::now() + self.patience.call;
        let (mut attempts, mut refusals) = (0_u32, 0_u32);
        let mut last = Fault::Unavailable("no endpoint was tried".to_owned());
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let order = self.breakers().order(self.began.elapsed());
            let Some(endpoint) = order.first().copied().filter(|_| left >= ATTEMPT_MIN) else {
                return Err(last);
            };
            match self.call_at(endpoint, left, method, request.clone()).await {
                Ok(answer) => return Ok((answer, attempts)),
                Err(fault) if fault.blames_the_endpoint() => last = fault,
                // A token may have grown old, or the store of users a revision: sign in anew, once.
                Err(fault @ (Fault::Refused(_) | Fault::Wrong(_))) if self.user.is_some() => {
                    refusals += 1;
                    if refusals > 1 {
                        return Err(fault);
                    }
                    last = fault;
                }
                Err(fault) => return Err(fault),
            }
            attempts += 1;
            if let Some(round) = self.rounds(attempts) {
                let left = deadline.saturating_duration_since(Instant::now());
                tokio::time::sleep(breaker::pause(round, random()).min(left)).await;
            }
        }
    }

    /// After each round of all endpoints: how many rounds there were before it.
    fn rounds(&self, attempts: u32) -> Option<u32> {
        let round = u32::try_from(self.places.len()).unwrap_or(u32::MAX).max(1);
        attempts.is_multiple_of(round).then(|| (attempts / round).saturating_sub(1))
    }

    /// Calls one endpoint, once.
    pub(super) async fn call_at<Q, A>(
        &self,
        endpoint: usize,
        within: Duration,
        method: Method,
        request: Q,
    ) -> Result<A, Fault>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let within = within.min(self.patience.attempt);
        let used = AtomicU64::new(0);
        let attempt = async {
            let link = self.link(endpoint).await?;
            used.store(link.number, Ordering::Relaxed);
            link.unary(method, request).await.map_err(|status| Fault::of(&status))
        };
        let result = timeout(within, attempt).await.unwrap_or_else(|_| {
            Err(Fault::Unavailable(format!("no answer within {} ms", within.as_millis())))
        });
        match result {
            Ok(answer) => {
                self.breakers().succeeded(endpoint);
                Ok(answer)
            }
            Err(fault) => {
                let gives_up = !matches!(fault, Fault::OutOfRange(_) | Fault::Exhausted(_));
                if gives_up {
                    self.forget(endpoint, used.load(Ordering::Relaxed));
                }
                if fault.blames_the_endpoint() {
                    self.failed(endpoint, &fault);
                    return Err(Fault::Unavailable(format!("{}: {fault}", self.address(endpoint))));
                }
                Err(fault)
            }
        }
    }

    /// Notes that an endpoint failed.
    pub(super) fn failed(&self, endpoint: usize, why: &Fault) {
        self.counters.failed_attempts.count();
        let opened = self.breakers().failed(endpoint, self.began.elapsed());
        if opened {
            self.counters.breaker_openings.count();
            tracing::warn!(endpoint = self.address(endpoint), %why, "an etcd endpoint failed; passing it over");
        }
    }

    async fn link(&self, endpoint: usize) -> Result<Link, Fault> {
        let place = self.place(endpoint)?;
        let mut slot = place.link.lock().await;
        if let Some(link) = &*slot {
            return Ok(link.clone());
        }
        let link = self.connect(place).await?;
        *slot = Some(link.clone());
        Ok(link)
    }

    fn forget(&self, endpoint: usize, number: u64) {
        if let Ok(place) = self.place(endpoint) {
            // Whoever is connecting holds the lock, and what it makes is new.
            if let Ok(mut slot) = place.link.try_lock() {
                slot.take_if(|link| link.number == number);
            }
        }
    }

    fn place(&self, endpoint: usize) -> Result<&Place, Fault> {
        self.places.get(endpoint).ok_or_else(|| Fault::Wrong("there is no such endpoint".to_owned()))
    }

    /// Where the next watch should be opened.
    pub(super) fn for_watch(&self, failed: Option<usize>) -> usize {
        self.breakers().for_watch(failed, self.began.elapsed())
    }

    /// Opens a watch on one key on a connection of its own, freshly signed in: a stale token would cancel the watch
    /// and nothing on a watch renews it.
    pub(super) async fn watch(
        &self,
        endpoint: usize,
        key: Bytes,
        start_revision: i64,
    ) -> Result<Watch, Fault> {
        let open = async {
            let link = self.connect(self.place(endpoint)?).await?;
            link.watch(key, start_revision).await.map_err(|status| Fault::of(&status))
        };
        let within = self.patience.attempt;
        timeout(within, open)
            .await
            .unwrap_or_else(|_| Err(Fault::Unavailable(format!("no watch within {} ms", within.as_millis()))))
    }

    async fn connect(&self, place: &Place) -> Result<Link, Fault> {
        let number = place.connects.fetch_add(1, Ordering::Relaxed) + 1;
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let wrong =
            |error: tonic::transport::Error| Fault::Wrong(format!("{}: {}", place.address, causes(&error)));
        let mut endpoint = Channel::from_shared(format!("{scheme}://{}", place.address))
            .map_err(|error| Fault::Wrong(format!("{}: {error}", place.address)))?
            .connect_timeout(self.patience.attempt)
            .http2_keep_alive_interval(self.patience.keep_alive_interval)
            .keep_alive_timeout(self.patience.keep_alive_timeout)
            // etcd cuts connections on which it is pinged while nothing is asked.
            .keep_alive_while_idle(false);
        if let Some(tls) = &self.tls {
            endpoint = endpoint.tls_config(tls_config(tls).await?).map_err(wrong)?;
        }
        let channel = endpoint.connect().await.map_err(|error| Fault::Unavailable(causes(&error)))?;
        let mut link = Link { number, channel, token: None };
        if let Some(user) = &self.user {
            link.token = Some(sign_in(&link, user).await?);
        }
        Ok(link)
    }
}

async fn sign_in(link: &Link, user: &User) -> Result<AsciiMetadataValue, Fault> {
    let password = Secret::new(read(&user.password_file).await?);
    let request = wire::AuthenticateRequest {
        name: user.name.clone(),
        password: password.reveal().trim_end_matches(['\r', '\n']).to_owned(),
    };
    let refused = |why: String| {
        Fault::Refused(format!(
            "etcd does not let user `{}` in: {why}; check the name and the password",
            user.name
        ))
    };
    let answer: wire::AuthenticateResponse = match link.unary(AUTHENTICATE, request).await {
        Ok(answer) => answer,
        Err(status) => match Fault::of(&status) {
            Fault::Refused(why) | Fault::Wrong(why) => return Err(refused(why)),
            other => return Err(other),
        },
    };
    let mut token: AsciiMetadataValue =
        answer.token.parse().map_err(|_| refused("its token is no header".to_owned()))?;
    token.set_sensitive(true);
    Ok(token)
}

async fn tls_config(tls: &Tls) -> Result<ClientTlsConfig, Fault> {
    let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(&tls.ca).await?));
    if let Some((cert, key)) = &tls.identity {
        config = config.identity(Identity::from_pem(read(cert).await?, read(key).await?));
    }
    Ok(config)
}

async fn read(path: &std::path::Path) -> Result<String, Fault> {
    let text = tokio::fs::read_to_string(path).await;
    text.map_err(|error| Fault::Wrong(format!("{}: {error}", path.display())))
}

/// The whole chain of an error: the outermost says "transport error" and nothing else.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// 32 random bits; without randomness, none: what they spread is then not spread.
pub(super) fn random() -> u32 {
    getrandom::u32().unwrap_or(0)
}

impl Link {
    fn request<Q>(&self, message: Q) -> Request<Q> {
        let mut request = Request::new(message);
        // A member that has lost its leader says so instead of waiting for one.
        request.metadata_mut().insert("hasleader", AsciiMetadataValue::from_static("true"));
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }

    async fn ready(&self) -> Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|error| Status::unavailable(causes(&error)))?;
        Ok(grpc)
    }

    async fn unary<Q, A>(&self, method: Method, message: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let codec = ProstCodec::<Q, A>::default();
        let path = PathAndQuery::from_static(method.0);
        let answer = self.ready().await?.unary(self.request(message), path, codec).await?;
        Ok(answer.into_inner())
    }

    async fn watch(&self, key: Bytes, start_revision: i64) -> Result<Watch, Status> {
        let create_request = Some(wire::WatchCreateRequest { key, start_revision, fragment: true });
        let create = stream::iter([wire::WatchRequest { create_request }]);
        let (asking, given_up) = oneshot::channel::<Infallible>();
        let requests = create.chain(stream::once(given_up).filter_map(async |_| None));
        let codec = ProstCodec::default();
        let path = PathAndQuery::from_static(WATCH.0);
        let answer = self.ready().await?.streaming(self.request(requests), path, codec).await?;
        Ok(Watch { answers: answer.into_inner(), _asking: asking })
    }
}

/// A watch that is open. etcd ends a watch whose requests end, and a connection stays open for a request that does not
/// end, so the requests go on until this is dropped and no longer.
pub(super) struct Watch {
    answers: Streaming<wire::WatchResponse>,
    _asking: oneshot::Sender<Infallible>,
}

impl Watch {
    /// The next answer; `None` when etcd has ended the watch.
    pub(super) async fn message(&mut self) -> Result<Option<wire::WatchResponse>, Status> {
        self.answers.message().await
    }
}
