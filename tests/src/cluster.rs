//! Several servers on one store, in this process: each has a runtime of its own, so that ending it is as sudden as
//! `kill -9`. What they do on a real etcd is told elsewhere; here the store can be cut off, emptied and set back.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use flagd_client::{Builder, Client};
use flagd_core::key::EnvironmentName;
use flagd_core::revision::Revision;
use flagd_proto::admin::admin_client::AdminClient;
use flagd_proto::admin::{
    ChangeRequest, ChangeResponse, ClientsResponse, EnvironmentStatus, StatusRequest, WaitProgress,
    WaitRequest, change_request::Operation,
};
use flagd_server::clock::Clock;
use flagd_server::serve::{Settings, serve};
use flagd_server::store::memory::Memory;
use flagd_server::store::{
    Answer, Append, Appended, BlobId, Created, Quota, RecordKind, RecordWrite, Store, StoreError,
};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tonic::transport::Channel;

use crate::world::{connect, eventually};

/// A store in memory that tests take away, and exchange for another one.
#[derive(Debug)]
pub struct Exchangeable(RwLock<Option<Arc<Memory>>>);

impl Exchangeable {
    /// An empty one.
    #[must_use]
    pub fn new() -> Arc<Exchangeable> {
        Arc::new(Exchangeable(RwLock::new(Some(Arc::new(Memory::new(u64::MAX))))))
    }

    /// A copy of what is in it.
    #[must_use]
    pub fn backup(&self) -> Arc<Memory> {
        Arc::new(self.now().expect("the store is there").copy())
    }

    /// Whoever asks from now on gets this one; `None`: no answer.
    pub fn exchange(&self, store: Option<Arc<Memory>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = store;
    }

    fn now(&self) -> Result<Arc<Memory>, StoreError> {
        let now = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        now.ok_or_else(|| StoreError::Unavailable("it was taken away by the test".to_owned()))
    }
}

/// Passes a call on to the store of this moment.
macro_rules! passed_on {
    ($self:ident, $store:ident => $call:expr) => {
        Box::pin(async move {
            let $store = $self.now()?;
            let answer = $call.await;
            // An answer that comes after the store was taken away is none.
            $self.now()?;
            answer
        })
    };
}

impl Store for Exchangeable {
    fn describe(&self) -> String {
        "memory".to_owned()
    }
    fn environments(&self) -> Answer<'_, Vec<EnvironmentName>> {
        passed_on!(self, store => store.environments())
    }
    fn create<'a>(&'a self, environment: &'a EnvironmentName, head: Bytes) -> Answer<'a, Created> {
        passed_on!(self, store => store.create(environment, head))
    }
    fn head<'a>(&'a self, environment: &'a EnvironmentName) -> Answer<'a, Option<Bytes>> {
        passed_on!(self, store => store.head(environment))
    }
    fn append<'a>(&'a self, environment: &'a EnvironmentName, append: Append) -> Answer<'a, Appended> {
        passed_on!(self, store => store.append(environment, append))
    }
    fn changes<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        from: Revision,
        max_bytes: usize,
    ) -> Answer<'a, Vec<(Revision, Bytes)>> {
        passed_on!(self, store => store.changes(environment, from, max_bytes))
    }
    fn oldest<'a>(&'a self, environment: &'a EnvironmentName) -> Answer<'a, Option<Revision>> {
        passed_on!(self, store => store.oldest(environment))
    }
    fn wait<'a>(&'a self, environment: &'a EnvironmentName, seen: &'a Bytes) -> Answer<'a, Bytes> {
        passed_on!(self, store => store.wait(environment, seen))
    }
    fn put_blob<'a>(&'a self, environment: &'a EnvironmentName, bytes: Bytes) -> Answer<'a, BlobId> {
        passed_on!(self, store => store.put_blob(environment, bytes))
    }
    fn get_blob<'a>(&'a self, environment: &'a EnvironmentName, id: BlobId) -> Answer<'a, Option<Bytes>> {
        passed_on!(self, store => store.get_blob(environment, id))
    }
    fn put_records<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        writes: Vec<RecordWrite>,
    ) -> Answer<'a, ()> {
        passed_on!(self, store => store.put_records(environment, writes))
    }
    fn get_record<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        kind: RecordKind,
        key: &'a str,
    ) -> Answer<'a, Option<Bytes>> {
        passed_on!(self, store => store.get_record(environment, kind, key))
    }
    fn list_records<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        kind: RecordKind,
    ) -> Answer<'a, Vec<(String, Bytes)>> {
        passed_on!(self, store => store.list_records(environment, kind))
    }
    fn announce(&self, server: u128, announcement: Bytes) -> Answer<'_, ()> {
        passed_on!(self, store => store.announce(server, announcement))
    }
    fn withdraw(&self, server: u128) -> Answer<'_, ()> {
        passed_on!(self, store => store.withdraw(server))
    }
    fn announced(&self) -> Answer<'_, Vec<(u128, Bytes)>> {
        passed_on!(self, store => store.announced())
    }
    fn quota(&self) -> Answer<'_, Quota> {
        passed_on!(self, store => store.quota())
    }
}

/// A server in this process.
#[derive(Debug)]
pub struct Node {
    name: String,
    port: u16,
    runtime: Option<Runtime>,
    stop: Option<oneshot::Sender<()>>,
}

impl Node {
    /// Starts a server on a store, and waits until it answers.
    pub async fn start(name: &str, store: Arc<dyn Store>) -> Node {
        Node::start_at(name, store, 0).await
    }

    async fn start_at(name: &str, store: Arc<dyn Store>, port: u16) -> Node {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let (stop, stopped) = oneshot::channel::<()>();
        let (bound, port_bound) = oneshot::channel();
        let server_name = name.to_owned();
        runtime.spawn(async move {
            let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a port");
            bound.send(listener.local_addr().expect("an address").port()).expect("the test goes on");
            let settings = Settings {
                store,
                clock: Clock::system(),
                server_name,
                advertise: None,
                drain_timeout: Duration::from_secs(5),
                admission: flagd_server::limits::Admission::default(),
                upstream: Vec::new(),
            };
            serve(listener, settings, async { drop(stopped.await) }).await.expect("it serves");
        });
        let port = port_bound.await.expect("the server listens");
        let node = Node { name: name.to_owned(), port, runtime: Some(runtime), stop: Some(stop) };
        eventually("the server answers", async || connect(&node.url()).await.is_some()).await;
        node
    }

    /// Where it is, or was.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// As `kill -9`: every task and connection ends at once.
    pub fn kill(&mut self) {
        self.runtime.take().expect("it runs").shutdown_background();
    }

    /// Asks it to end, waits until nobody listens any more, and takes it away.
    pub async fn stop(&mut self) {
        drop(self.stop.take());
        eventually("the server ends", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err()
        })
        .await;
        // Saving the roster and withdrawing come after that.
        let runtime = self.runtime.take().expect("it runs");
        tokio::task::spawn_blocking(move || {
            while runtime.metrics().num_alive_tasks() > 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
            runtime.shutdown_background();
        })
        .await
        .expect("it ends");
    }

    /// Starts it again at the same address.
    pub async fn restart(&mut self, store: Arc<dyn Store>) {
        *self = Node::start_at(&self.name, store, self.port).await;
    }

    /// A client whose only server is this one, up to date.
    pub async fn client(&self, name: &str) -> Client {
        connected(Client::builder(self.url()), name).await
    }

    /// A client that begins here and knows the others, too.
    pub async fn client_of_all(&self, others: &[&Node], name: &str) -> Client {
        let builder =
            others.iter().fold(Client::builder(self.url()), |builder, other| builder.server(other.url()));
        connected(builder, name).await
    }

    /// The operators' API.
    pub async fn admin(&self) -> AdminClient<Channel> {
        connect(&self.url()).await.expect("the server runs")
    }

    /// Makes a change through this server.
    pub async fn change(&self, operation: Operation) -> ChangeResponse {
        self.try_change(operation).await.expect("recorded")
    }

    /// The same, or why not.
    ///
    /// # Errors
    /// What the server says.
    pub async fn try_change(&self, operation: Operation) -> Result<ChangeResponse, tonic::Status> {
        let request = ChangeRequest {
            environment: "default".into(),
            actor: "story".into(),
            operation: Some(operation),
            ..ChangeRequest::default()
        };
        self.admin().await.change(request).await.map(tonic::Response::into_inner)
    }

    /// Waits until a revision (0: the head) is confirmed or the time is over; the last that was said.
    pub async fn wait(&self, revision: u64, timeout: Duration) -> WaitProgress {
        let timeout_ms = u64::try_from(timeout.as_millis()).expect("a short time");
        let request =
            WaitRequest { environment: "default".into(), revision, timeout_ms, ..WaitRequest::default() };
        let mut answers = self.admin().await.wait(request).await.expect("an answer").into_inner();
        let mut last = None;
        while let Some(progress) = answers.message().await.expect("the server goes on") {
            last = Some(progress);
        }
        last.expect("something was said")
    }

    /// The clients that this server knows of.
    pub async fn clients(&self) -> ClientsResponse {
        let request = flagd_proto::admin::ClientsRequest { environment: "default".into() };
        self.admin().await.clients(request).await.expect("an answer").into_inner()
    }

    /// How the environment `default` does.
    pub async fn status(&self) -> EnvironmentStatus {
        let request = StatusRequest { environment: "default".into() };
        let status = self.admin().await.status(request).await.expect("an answer").into_inner();
        status.environments.into_iter().next().expect("the environment")
    }

    /// One page of its plain HTTP.
    pub async fn http(&self, path: &str) -> String {
        crate::world::http(self.port, path).await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn connected(builder: Builder, name: &str) -> Client {
    let client =
        builder.environment("default").name(name).app("story", "1.0").start().await.expect("it starts");
    assert!(client.ready(Duration::from_mins(1)).await, "the server answers");
    client
}
