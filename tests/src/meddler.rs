//! Stands between a server and etcd and meddles with what etcd's watches tell: an event is left out, told twice, or
//! told after the one that follows it. Everything else passes as it is; nothing is made up.
//!
//! It knows gRPC and no more of etcd than where the events lie in a watch's answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// What is done to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meddling {
    /// It is never told.
    Lose,
    /// It is told twice.
    Double,
    /// It is told after the next one.
    Delay,
}

/// The state of what was asked for last.
#[derive(Debug)]
enum Plan {
    /// Everything passes.
    Pass,
    /// The next event is meddled with.
    Next(Meddling),
    /// An event is kept back until there is another one.
    Held(Bytes),
}

/// A proxy in front of one member of etcd.
#[derive(Debug)]
pub struct Meddler {
    address: String,
    plan: Arc<Mutex<Plan>>,
    watches: Arc<Watches>,
    task: JoinHandle<()>,
}

/// How many watches there were, and are.
#[derive(Debug, Default)]
struct Watches {
    opened: AtomicU64,
    ended: AtomicU64,
}

/// An answer of a watch, as far as it matters.
#[derive(Clone, PartialEq, Message)]
struct Told {
    #[prost(bytes = "bytes", repeated, tag = "11")]
    events: Vec<Bytes>,
}

impl Meddler {
    /// Starts one in front of `host:port`.
    pub async fn start(etcd: &str) -> Meddler {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address").to_string();
        let plan = Arc::new(Mutex::new(Plan::Pass));
        let etcd = Endpoint::from_shared(format!("http://{etcd}")).expect("a URL").connect_lazy();
        let watches = Arc::default();
        let passing = Passing { etcd, plan: Arc::clone(&plan), watches: Arc::clone(&watches) };
        let service = |service| Pass { service, passing: passing.clone() };
        let server = tonic::transport::Server::builder()
            .add_service(Named::<0>(service("KV")))
            .add_service(Named::<1>(service("Watch")))
            .add_service(Named::<2>(service("Lease")))
            .add_service(Named::<3>(service("Maintenance")));
        let task = tokio::spawn(async move {
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.expect("it serves");
        });
        Meddler { address, plan, watches, task }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The next event is meddled with.
    pub fn next(&self, meddling: Meddling) {
        *self.plan() = Plan::Next(meddling);
    }

    /// Whether a watch is open, after so many were opened before it.
    #[must_use]
    pub fn is_watched_after(&self, watches: u64) -> bool {
        let (opened, ended) =
            (self.watches.opened.load(Ordering::SeqCst), self.watches.ended.load(Ordering::SeqCst));
        opened > watches && ended + 1 == opened
    }

    /// Whether what was asked for has not happened yet, or not wholly.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        !matches!(*self.plan(), Plan::Pass)
    }

    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Meddler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What becomes of one answer of a watch.
fn meddle(plan: &Mutex<Plan>, answer: Bytes) -> Vec<Bytes> {
    let has_events = Told::decode(answer.clone()).is_ok_and(|told| !told.events.is_empty());
    if !has_events {
        return vec![answer];
    }
    let mut plan = plan.lock().unwrap_or_else(PoisonError::into_inner);
    match std::mem::replace(&mut *plan, Plan::Pass) {
        Plan::Pass => vec![answer],
        Plan::Next(Meddling::Lose) => Vec::new(),
        Plan::Next(Meddling::Double) => vec![answer.clone(), answer],
        Plan::Next(Meddling::Delay) => {
            *plan = Plan::Held(answer);
            Vec::new()
        }
        Plan::Held(late) => vec![answer, late],
    }
}

/// Passes one call on.
#[derive(Clone, Debug)]
struct Passing {
    etcd: Channel,
    plan: Arc<Mutex<Plan>>,
    watches: Arc<Watches>,
}

type Answers = std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

impl Passing {
    async fn pass(
        self,
        path: PathAndQuery,
        request: Request<Streaming<Bytes>>,
    ) -> Result<Response<Answers>, Status> {
        let (metadata, extensions, messages) = request.into_parts();
        let messages = messages.take_while(Result::is_ok).filter_map(Result::ok);
        let mut etcd = tonic::client::Grpc::new(self.etcd);
        etcd.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let is_watch = path.path() == WATCH;
        let request = Request::from_parts(metadata, extensions, messages);
        let answers = etcd.streaming(request, path, Plainly).await?.into_inner();
        let plan = self.plan;
        let meddled = answers.map(move |answer| match answer {
            Ok(answer) if is_watch => meddle(&plan, answer).into_iter().map(Ok).collect(),
            other => vec![other],
        });
        let (send, receive) = tokio::sync::mpsc::channel(16);
        let watch = is_watch.then(|| Watch::open(self.watches));
        tokio::spawn(async move {
            let _watch = watch;
            let mut meddled = std::pin::pin!(meddled);
            loop {
                let answers = tokio::select! {
                    // Else a watch that is not listened to any more would go on, and be meddled with for nobody.
                    () = send.closed() => return,
                    answers = meddled.next() => answers,
                };
                let Some(answers) = answers else { return };
                for answer in answers {
                    if send.send(answer).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(receive))))
    }
}

/// A watch that is open; etcd has answered it.
struct Watch(Arc<Watches>);

impl Watch {
    fn open(watches: Arc<Watches>) -> Watch {
        watches.opened.fetch_add(1, Ordering::SeqCst);
        Watch(watches)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// Messages as the bytes that they are.
#[derive(Clone, Copy, Debug)]
struct Plainly;

impl Codec for Plainly {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Plainly;
    type Decoder = Plainly;

    fn encoder(&mut self) -> Plainly {
        Plainly
    }

    fn decoder(&mut self) -> Plainly {
        Plainly
    }
}

impl Encoder for Plainly {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Plainly {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(length)))
    }
}

/// One service of etcd's.
#[derive(Clone, Debug)]
struct Pass {
    service: &'static str,
    passing: Passing,
}

/// The same under a name that the router knows.
#[derive(Clone, Debug)]
struct Named<const NUMBER: u8>(Pass);

impl tonic::server::NamedService for Named<0> {
    const NAME: &'static str = "etcdserverpb.KV";
}

impl tonic::server::NamedService for Named<1> {
    const NAME: &'static str = "etcdserverpb.Watch";
}

impl tonic::server::NamedService for Named<2> {
    const NAME: &'static str = "etcdserverpb.Lease";
}

impl tonic::server::NamedService for Named<3> {
    const NAME: &'static str = "etcdserverpb.Maintenance";
}

/// One call, for the side that takes it.
struct Taken {
    passing: Passing,
    path: PathAndQuery,
}

impl tonic::server::StreamingService<Bytes> for Taken {
    type Response = Bytes;
    type ResponseStream = Answers;
    type Future = BoxFuture<Response<Answers>, Status>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        Box::pin(self.passing.clone().pass(self.path.clone(), request))
    }
}

impl<const NUMBER: u8> Service<http::Request<tonic::body::Body>> for Named<NUMBER> {
    type Response = http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let path = request.uri().path_and_query().cloned().expect("a path");
        assert!(path.path().contains(self.0.service), "{path} is of another service");
        let taken = Taken { passing: self.0.passing.clone(), path };
        Box::pin(async move { Ok(tonic::server::Grpc::new(Plainly).streaming(taken, request).await) })
    }
}
