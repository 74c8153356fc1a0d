//! A real cluster on loopback: three members of etcd and several flagd processes, which die and come back.
//!
//! Everything that a test does to it, and what came of it, is noted with the time; the notes are printed when the test
//! fails, together with the seed that all choices were made from (`FLAGD_TEST_SEED` makes the same ones again).

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use flagd_client::{Builder, Client, Connection, Context, Subscription};
use flagd_proto::admin::admin_client::AdminClient;
use flagd_proto::admin::{
    ChangeRequest, ChangeResponse, GetRequest, GetResponse, HistoryChange, HistoryRequest, StatusRequest,
};
use tokio::process::{Child, Command};
use tokio::task::{JoinHandle, block_in_place};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::command::binaries;
use crate::etcd::EtcdCluster;
use crate::world::{eventually, free_port, http};

/// How long one attempt of a change may take before the next server is asked; longer than what a server promises.
const ATTEMPT_MAX: Duration = Duration::from_secs(8);
/// How long a change is tried before the story fails.
const CHANGE_MAX: Duration = Duration::from_mins(2);

/// Choices that can be made again.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// From `FLAGD_TEST_SEED`, else from somewhere.
    #[must_use]
    pub fn new() -> Dice {
        let given = std::env::var("FLAGD_TEST_SEED").ok();
        let given = given.map(|text| text.parse().expect("FLAGD_TEST_SEED is a number"));
        Dice(given.unwrap_or_else(|| RandomState::new().hash_one("seed") >> 16) | 1)
    }

    /// The seed, as long as nothing was thrown.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.0
    }

    /// A number below `sides`.
    pub fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides.max(1)
    }

    /// The same, as an index.
    pub fn pick(&mut self, sides: usize) -> usize {
        usize::try_from(self.throw(sides as u64)).expect("a small number")
    }
}

impl Default for Dice {
    fn default() -> Dice {
        Dice::new()
    }
}

/// What has happened, for whoever has to understand a failure.
#[derive(Clone, Debug)]
pub struct Story(Arc<(Instant, Mutex<Vec<String>>)>);

impl Default for Story {
    fn default() -> Story {
        Story(Arc::new((Instant::now(), Mutex::default())))
    }
}

impl Story {
    /// Notes something.
    pub fn note(&self, text: impl AsRef<str>) {
        let line = format!("{:8.3} s  {}", self.0.0.elapsed().as_secs_f64(), text.as_ref());
        self.0.1.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// Notes something and prints it also when all is well.
    #[expect(clippy::print_stderr, reason = "a test says what it measured")]
    pub fn tell(&self, text: impl AsRef<str>) {
        eprintln!("{}", text.as_ref());
        self.note(text);
    }

    /// All of it.
    #[must_use]
    pub fn all(&self) -> String {
        self.0.1.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }
}

/// One flagd.
#[derive(Debug)]
struct Server {
    port: u16,
    store: String,
    process: Option<Child>,
    admin: AdminClient<Channel>,
}

/// An etcd and the servers on it.
#[derive(Debug)]
pub struct Servers {
    /// The etcd.
    pub etcd: EtcdCluster,
    /// What has happened.
    pub story: Story,
    folder: tempfile::TempDir,
    flagds: Vec<Server>,
}

impl Servers {
    /// So many servers on an etcd of three members.
    pub async fn start(count: usize) -> Servers {
        let etcd = block_in_place(|| EtcdCluster::start(3));
        let endpoints = etcd.endpoints();
        Servers::start_on(etcd, &vec![endpoints; count]).await
    }

    /// A server for each list of endpoints; these may be proxies in front of the etcd's.
    pub async fn start_on(etcd: EtcdCluster, endpoints: &[Vec<String>]) -> Servers {
        let folder = tempfile::Builder::new().prefix("flagd-cluster-").tempdir().expect("a temporary folder");
        let server = |endpoints: &Vec<String>| {
            let port = free_port();
            let url = format!("http://127.0.0.1:{port}");
            let channel = Endpoint::new(url).expect("a URL").connect_timeout(Duration::from_secs(1));
            let admin = AdminClient::new(channel.connect_lazy()).max_decoding_message_size(64 << 20);
            Server { port, store: format!("etcd://{}/story", endpoints.join(",")), process: None, admin }
        };
        let flagds = endpoints.iter().map(server).collect();
        let mut all = Servers { etcd, story: Story::default(), folder, flagds };
        for number in 0..endpoints.len() {
            all.start_server(number).await;
        }
        all
    }

    /// Starts a server, again at the same address, and waits until it answers.
    pub async fn start_server(&mut self, number: usize) {
        self.launch(number);
        eventually("the server answers", async || {
            let server = self.flagds.get_mut(number).expect("a server");
            let process = server.process.as_mut().expect("it was started");
            if process.try_wait().expect("a child can be asked").is_some() {
                // Without its store it does not start: whoever looks after it tries again.
                self.launch(number);
                return false;
            }
            // A connection is taken before the server has read its store, and without that it ends.
            let status = StatusRequest { environment: "default".into() };
            server.admin.status(status).await.is_ok_and(|status| {
                status.into_inner().environments.iter().any(|status| status.environment.is_some())
            })
        })
        .await;
    }

    fn launch(&mut self, number: usize) {
        let log = self.folder.path().join(format!("server-{number}.log"));
        let log = std::fs::File::options().create(true).append(true).open(log).expect("a log");
        let server = self.flagds.get_mut(number).expect("a server");
        let process = Command::new(binaries().join("flagd"))
            .args(["--listen", &format!("127.0.0.1:{}", server.port), "--store", &server.store])
            .args(["--server-name", &format!("server-{number}")])
            .env_remove("FLAGD_STORE")
            .env_remove("FLAGD_LISTEN")
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone().expect("one more handle")))
            .stderr(Stdio::from(log))
            .kill_on_drop(true)
            .spawn()
            .expect("flagd starts");
        server.process = Some(process);
    }

    /// `kill -9`.
    pub async fn kill_server(&mut self, number: usize) {
        let mut process = self.flagds.get_mut(number).and_then(|s| s.process.take()).expect("it runs");
        process.kill().await.expect("a child can be killed");
    }

    /// Where a server is.
    #[must_use]
    pub fn url(&self, number: usize) -> String {
        format!("http://127.0.0.1:{}", self.flagds.get(number).expect("a server").port)
    }

    /// How many servers there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.flagds.len()
    }

    /// The operators' API of one server; it reconnects by itself.
    #[must_use]
    pub fn admin(&self, number: usize) -> AdminClient<Channel> {
        self.flagds.get(number).expect("a server").admin.clone()
    }

    /// Somebody who makes changes through whichever server answers, beginning at one.
    #[must_use]
    pub fn operator(&self, first: usize) -> Operator {
        let servers: Vec<_> = self.flagds.iter().map(|server| server.admin.clone()).collect();
        Operator { servers, at: first, story: self.story.clone() }
    }

    /// A client that knows all servers and begins at one.
    pub fn builder(&self, name: &str, first: usize) -> Builder {
        let url = |offset: usize| self.url((first + offset) % self.count());
        let builder = (1..self.count()).fold(Client::builder(url(0)), |builder, n| builder.server(url(n)));
        builder.environment("default").name(name).app("story", "1.0")
    }

    /// One page of a server's plain HTTP.
    pub async fn http(&self, number: usize, path: &str) -> String {
        http(self.flagds.get(number).expect("a server").port, path).await
    }

    /// What a server has logged.
    #[must_use]
    pub fn log(&self, number: usize) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("server-{number}.log"))).unwrap_or_default()
    }

    /// The head's revision, as a server tells it.
    pub async fn revision(&self, number: usize) -> u64 {
        let request = StatusRequest { environment: "default".into() };
        let status = again(async || self.admin(number).status(request.clone()).await).await.into_inner();
        let environment = status.environments.into_iter().next().and_then(|status| status.environment);
        environment.and_then(|e| e.position).expect("a position").revision
    }

    /// The whole history, oldest first.
    pub async fn history(&self, number: usize) -> Vec<HistoryChange> {
        let mut changes: Vec<HistoryChange> = Vec::new();
        loop {
            let before_revision = changes.last().map_or(0, |change| change.revision);
            let request = HistoryRequest {
                environment: "default".into(),
                limit: 500,
                before_revision,
                ..HistoryRequest::default()
            };
            let page = again(async || self.admin(number).history(request.clone()).await).await.into_inner();
            changes.extend(page.changes);
            if !page.more {
                changes.reverse();
                return changes;
            }
        }
    }
}

impl Drop for Servers {
    #[expect(clippy::print_stderr, reason = "it explains a failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- what happened\n{}", self.story.all());
            for number in 0..self.count() {
                let log = self.log(number);
                let tail: Vec<_> = log.lines().rev().take(40).collect();
                let tail: Vec<_> = tail.into_iter().rev().collect();
                eprintln!("--- the end of server-{number}'s log\n{}", tail.join("\n"));
            }
        }
    }
}

/// Makes changes through whichever server answers.
#[derive(Clone, Debug)]
pub struct Operator {
    servers: Vec<AdminClient<Channel>>,
    at: usize,
    story: Story,
}

impl Operator {
    /// Makes a change, and asks again with the same request id until there is an answer. It must have an id.
    ///
    /// # Errors
    /// A refusal.
    pub async fn change(&mut self, request: ChangeRequest) -> Result<ChangeResponse, tonic::Status> {
        assert!(!request.request_id.is_empty(), "without an id nobody can ask again");
        let began = Instant::now();
        loop {
            let why = match self.change_once(request.clone()).await {
                Err(status) if is_passing(&status) => status,
                answer => return answer,
            };
            self.story.note(format!("{} at server {}: {why}", request.request_id, self.at));
            self.at = (self.at + 1) % self.servers.len();
            assert!(began.elapsed() < CHANGE_MAX, "{} has no answer: {why}", request.request_id);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The server that is asked first now: the one that answered last.
    #[must_use]
    pub fn server(&self) -> usize {
        self.at
    }

    /// Reads a flag, as this operator's server shows it; the next server is asked when it does not answer.
    ///
    /// # Errors
    /// What the server says.
    pub async fn get(&mut self, request: GetRequest) -> Result<GetResponse, tonic::Status> {
        let admin = self.servers.get_mut(self.at).expect("a server");
        let answer = tokio::time::timeout(ATTEMPT_MAX, admin.get(request)).await;
        let answer = answer.unwrap_or_else(|_| Err(tonic::Status::deadline_exceeded("no answer")));
        if answer.is_err() {
            self.at = (self.at + 1) % self.servers.len();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        answer.map(tonic::Response::into_inner)
    }

    /// Asks one server, once.
    ///
    /// # Errors
    /// What it says.
    pub async fn change_once(&mut self, request: ChangeRequest) -> Result<ChangeResponse, tonic::Status> {
        let admin = self.servers.get_mut(self.at).expect("a server");
        let answer = tokio::time::timeout(ATTEMPT_MAX, admin.change(request)).await;
        let answer = answer.unwrap_or_else(|_| Err(tonic::Status::deadline_exceeded("no answer")));
        answer.map(tonic::Response::into_inner)
    }
}

/// Asks until there is an answer: an etcd that is busy with something else is no failure of a story that only reads.
async fn again<T>(mut ask: impl AsyncFnMut() -> Result<T, tonic::Status>) -> T {
    let began = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(status) => {
                assert!(is_passing(&status) && began.elapsed() < CHANGE_MAX, "{status}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Whether asking again, here or elsewhere, may help.
#[must_use]
pub fn is_passing(status: &tonic::Status) -> bool {
    // A server that dies in the middle looks like many things.
    matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::DeadlineExceeded | Code::Cancelled | Code::Internal
    )
}

/// Clients that are watched: that none goes back, and that each evaluation is right.
pub struct Crowd {
    /// The clients.
    pub clients: Vec<Client>,
    /// How many evaluations were made.
    pub evaluations: Arc<AtomicU64>,
    wrongs: Arc<Mutex<Vec<String>>>,
    ends: Arc<AtomicBool>,
    evaluating: Option<JoinHandle<()>>,
    _subscriptions: Vec<Subscription>,
}

impl std::fmt::Debug for Crowd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crowd").field("clients", &self.clients.len()).finish_non_exhaustive()
    }
}

impl Crowd {
    /// So many clients, spread over the servers, all connected. The flag `steady` must be on for everybody, always.
    pub async fn gather(servers: &Servers, count: usize) -> Crowd {
        let mut clients = Vec::new();
        for number in 0..count {
            let builder = servers.builder(&format!("client-{number}"), number % servers.count());
            clients.push(builder.start().await.expect("nothing is wrong in the code"));
        }
        for client in &clients {
            assert!(
                client.ready(Duration::from_mins(1)).await,
                "a client is not connected: {:?}",
                client.status()
            );
        }
        let wrongs = Arc::new(Mutex::new(Vec::new()));
        let watch = |(number, client): (usize, &Client)| {
            let newest = AtomicU64::new(0);
            let wrongs = Arc::clone(&wrongs);
            client.on_change(move |update| {
                let before = newest.swap(update.revision, Ordering::SeqCst);
                if update.revision < before {
                    let wrong = format!("client {number} went back from {before} to {}", update.revision);
                    wrongs.lock().unwrap_or_else(PoisonError::into_inner).push(wrong);
                }
            })
        };
        let subscriptions = clients.iter().enumerate().map(watch).collect();
        let (ends, evaluations) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let evaluating = {
            let (clients, wrongs) = (clients.clone(), Arc::clone(&wrongs));
            let (ends, evaluations) = (Arc::clone(&ends), Arc::clone(&evaluations));
            tokio::spawn(async move {
                let mut newest = vec![0; clients.len()];
                while !ends.load(Ordering::SeqCst) {
                    for ((number, client), newest) in clients.iter().enumerate().zip(&mut newest) {
                        let snapshot = client.snapshot();
                        evaluations.fetch_add(1, Ordering::Relaxed);
                        let is_on = client.is_enabled("steady", &Context::new("somebody"));
                        if !is_on || snapshot.revision() < *newest {
                            let at = snapshot.revision();
                            let wrong =
                                format!("client {number}: steady {is_on}, revision {at} after {newest}");
                            wrongs.lock().unwrap_or_else(PoisonError::into_inner).push(wrong);
                        }
                        *newest = snapshot.revision();
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
        };
        Crowd {
            clients,
            evaluations,
            wrongs,
            ends,
            evaluating: Some(evaluating),
            _subscriptions: subscriptions,
        }
    }

    /// Waits until all have this revision and one digest; answers with how long that took.
    pub async fn converge(&self, revision: u64) -> Duration {
        let began = Instant::now();
        eventually(&format!("all clients are at revision {revision}"), async || {
            self.clients.iter().all(|client| client.status().revision == revision)
        })
        .await;
        let took = began.elapsed();
        let digests: std::collections::BTreeSet<_> =
            self.clients.iter().map(|client| client.status().digest).collect();
        assert_eq!(digests.len(), 1, "one revision, several digests: {digests:?}");
        took
    }

    /// How many are connected and have their server's state.
    #[must_use]
    pub fn connected(&self) -> usize {
        let is_connected = |connection: &Connection| {
            matches!(connection, Connection::Connected { .. } | Connection::ServerBehind { .. })
        };
        self.clients.iter().filter(|client| is_connected(&client.status().connection)).count()
    }

    /// Nobody went back, and no evaluation was wrong.
    pub async fn must_be_sound(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        if let Some(evaluating) = self.evaluating.take() {
            evaluating.await.expect("evaluating does not panic");
        }
        let wrongs = self.wrongs.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(
            wrongs.is_empty(),
            "{} wrongs, first {:?}",
            wrongs.len(),
            wrongs.iter().take(5).collect::<Vec<_>>()
        );
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
    }
}
