//! Relays between a server and its clients: real processes, which die and come back.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use flagd_client::{Builder, Client};
use flagd_proto::admin::StatusRequest;
use flagd_proto::admin::admin_client::AdminClient;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tonic::transport::Channel;

use crate::command::{Output, binaries};
use crate::world::{connect, eventually, free_port, http, run};

/// Longest time that a process may take to end; not a measure of speed.
const END_MAX: Duration = Duration::from_mins(1);

/// A relay, with a folder of its own for what it keeps.
#[derive(Debug)]
pub struct Relay {
    name: String,
    upstream: String,
    folder: TempDir,
    port: u16,
    process: Option<Child>,
}

impl Relay {
    /// A relay of the server at these addresses, started, which shows the environment `default`.
    pub async fn start(name: &str, upstream: &str) -> Relay {
        let mut relay = Relay::stopped(name, upstream);
        relay.launch().await;
        relay.shows("default").await;
        relay
    }

    /// A relay that was never started.
    #[must_use]
    pub fn stopped(name: &str, upstream: &str) -> Relay {
        let folder = tempfile::Builder::new().prefix("flagd-relay-").tempdir().expect("a temporary folder");
        let (name, upstream) = (name.to_owned(), upstream.to_owned());
        Relay { name, upstream, folder, port: free_port(), process: None }
    }

    /// Starts the process, again on the same port and folder, and waits until it answers.
    pub async fn launch(&mut self) {
        assert!(self.process.is_none(), "the relay runs already");
        let log = std::fs::File::options().create(true).append(true).open(self.log_file()).expect("a log");
        let process = Command::new(binaries().join("flagd"))
            .args(["--listen", &format!("127.0.0.1:{}", self.port), "--upstream", &self.upstream])
            .args(["--server-name", &self.name, "--store"])
            .arg(self.store())
            .env_remove("FLAGD_STORE")
            .env_remove("FLAGD_LISTEN")
            .env_remove("FLAGD_UPSTREAM")
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone().expect("one more handle")))
            .stderr(Stdio::from(log))
            .kill_on_drop(true)
            .spawn()
            .expect("flagd starts");
        self.process = Some(process);
        eventually("the relay answers", async || {
            let exited =
                self.process.as_mut().and_then(|process| process.try_wait().expect("a child can be asked"));
            assert!(exited.is_none(), "the relay ended at once:\n{}", self.log());
            match connect(&self.url()).await {
                Some(mut admin) => admin.status(StatusRequest::default()).await.is_ok(),
                None => false,
            }
        })
        .await;
    }

    /// Waits until an environment is shown.
    pub async fn shows(&self, environment: &str) {
        eventually("the relay shows the environment", async || {
            let request = StatusRequest { environment: environment.to_owned() };
            self.admin().await.status(request).await.is_ok()
        })
        .await;
    }

    /// `kill -9`.
    pub async fn kill(&mut self) {
        self.process.take().expect("the relay runs").kill().await.expect("a child can be killed");
    }

    /// Asks it to end, and waits for it.
    pub async fn stop(&mut self) {
        let mut process = self.process.take().expect("the relay runs");
        signal(&process, "-TERM").await;
        let ended = tokio::time::timeout(END_MAX, process.wait()).await;
        let ended = ended.expect("it ends when asked").expect("it ends");
        assert!(ended.success(), "the relay ended with {ended}:\n{}", self.log());
    }

    /// Loses its disk while it is stopped.
    pub fn forget(&self) {
        assert!(self.process.is_none(), "the relay still runs");
        std::fs::remove_file(self.store()).expect("it had kept something");
    }

    /// Follows another server from its next start on.
    pub fn follow(&mut self, upstream: &str) {
        upstream.clone_into(&mut self.upstream);
    }

    /// Stands still, as a machine does that is out of memory.
    pub async fn freeze(&self) {
        signal(self.process.as_ref().expect("the relay runs"), "-STOP").await;
    }

    /// Goes on.
    pub async fn thaw(&self) {
        signal(self.process.as_ref().expect("the relay runs"), "-CONT").await;
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The file in which it keeps what it has shown.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.folder.path().join("relay.redb")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("relay.log")
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The operators' API, for what flagctl does not show.
    pub async fn admin(&self) -> AdminClient<Channel> {
        connect(&self.url()).await.expect("the relay runs")
    }

    /// One page of its plain HTTP.
    pub async fn http(&self, path: &str) -> String {
        http(self.port, path).await
    }

    /// Runs `flagctl` against this relay.
    pub async fn flagctl<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        let mut command = Command::new(binaries().join("flagctl"));
        command
            .args(args)
            .env("FLAGD_SERVERS", self.url())
            .env("FLAGD_ACTOR", "tester")
            .env("XDG_CONFIG_HOME", self.folder().join("config"))
            .env_remove("FLAGD_ENVIRONMENT")
            .env("NO_COLOR", "1")
            .current_dir(self.folder());
        run(command, "").await
    }

    /// A builder for a client of this relay, without a disk state.
    pub fn builder(&self, name: &str) -> Builder {
        Client::builder(self.url()).environment("default").name(name).app("story", "1.0")
    }

    /// A client of this relay that is connected and up to date.
    pub async fn connected_client(&self, name: &str) -> Client {
        let client = self.builder(name).start().await.expect("nothing is wrong in the code");
        assert!(client.ready(END_MAX).await, "the relay answers:\n{}", self.log());
        client
    }
}

impl Drop for Relay {
    #[expect(clippy::print_stderr, reason = "it explains a failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the log of relay {}\n{}", self.name, self.log());
        }
    }
}

async fn signal(process: &Child, signal: &str) {
    let pid = process.id().expect("it runs").to_string();
    Command::new("kill").args([signal, &pid]).status().await.expect("`kill` runs");
}
