//! A server on a store of its own, and everybody who talks to it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use flagd_client::{Builder, Client, Context};
use flagd_proto::admin::admin_client::AdminClient;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tonic::transport::{Channel, Endpoint};

use crate::command::{Output, binaries};
use crate::load::process;

/// Longest time that anything may take before a story fails; not a measure of speed.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server on a store of its own, and everybody who talks to it.
#[derive(Debug)]
pub struct World {
    folder: TempDir,
    port: u16,
    server: Option<Child>,
    /// Another store than the file in the folder.
    elsewhere: Option<String>,
    /// Further options of the server.
    options: Vec<String>,
    /// Memory that the server may take; one that wants more ends.
    memory_mib: Option<u32>,
}

impl World {
    /// A world whose server runs on an embedded store with the environment `default`.
    pub async fn start() -> World {
        let mut world = World::stopped();
        world.start_server().await;
        world
    }

    /// The same, on another store: what `--store` takes.
    pub async fn start_on(store: String) -> World {
        let mut world = World { elsewhere: Some(store), ..World::stopped() };
        world.start_server().await;
        world
    }

    /// The same, with further options of the server.
    pub async fn start_with(options: &[&str]) -> World {
        let options = options.iter().map(ToString::to_string).collect();
        let mut world = World { options, ..World::stopped() };
        world.start_server().await;
        world
    }

    /// The same, with a server that ends when it wants more memory than this.
    pub async fn start_within(memory_mib: u32, options: &[&str]) -> World {
        let options = options.iter().map(ToString::to_string).collect();
        let mut world = World { options, memory_mib: Some(memory_mib), ..World::stopped() };
        world.start_server().await;
        world
    }

    /// A world whose server was never started.
    #[must_use]
    pub fn stopped() -> World {
        let folder = tempfile::Builder::new().prefix("flagd-story-").tempdir().expect("a temporary folder");
        let (server, elsewhere, memory_mib) = (None, None, None);
        World { folder, port: free_port(), server, elsewhere, options: Vec::new(), memory_mib }
    }

    /// A world with one flag: boolean, on for everybody.
    pub async fn with_flag(key: &str) -> World {
        let world = World::start().await;
        world.create(&format!(r#"{{"flags": {{"{key}": {{"rollout": 100}}}}}}"#)).await;
        world
    }

    /// Where the server is, or will be.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The folder of this world.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The store's file.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.folder().join("flagd.redb")
    }

    /// Writes a file into the folder.
    #[must_use]
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder().join(name);
        std::fs::write(&path, text).expect("the folder is writable");
        path
    }

    /// Starts the server, or starts it again on the same store and port, and waits until it is ready.
    pub async fn start_server(&mut self) {
        assert!(self.server.is_none(), "the server runs already");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder().join("server.log"))
            .expect("a log");
        let server = process::within(self.memory_mib, &binaries().join("flagd"))
            .args(["--listen", &format!("127.0.0.1:{}", self.port), "--store"])
            .arg(self.elsewhere.as_ref().map_or_else(|| self.store().into_os_string(), Into::into))
            .args(&self.options)
            .env_remove("FLAGD_STORE")
            .env_remove("FLAGD_LISTEN")
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone().expect("one more handle")))
            .stderr(Stdio::from(log))
            .kill_on_drop(true)
            .spawn()
            .expect("flagd starts");
        self.server = Some(server);
        eventually("the server answers", async || {
            let exited =
                self.server.as_mut().and_then(|server| server.try_wait().expect("a child can be asked"));
            assert!(exited.is_none(), "flagd ended at once:\n{}", self.server_log());
            self.connected().await
        })
        .await;
    }

    async fn connected(&self) -> bool {
        let Some(mut admin) = connect(&self.url()).await else { return false };
        admin.status(flagd_proto::admin::StatusRequest::default()).await.is_ok()
    }

    /// What the server has logged so far.
    #[must_use]
    pub fn server_log(&self) -> String {
        std::fs::read_to_string(self.folder().join("server.log")).unwrap_or_default()
    }

    /// One page of the server's plain HTTP, such as `/readyz`: status line and headers, then the body.
    pub async fn http(&self, path: &str) -> String {
        http(self.port, path).await
    }

    /// A counter or gauge of the environment `default`.
    pub async fn metric(&self, name: &str) -> u64 {
        self.metric_of("default", name).await
    }

    /// A counter or gauge of an environment.
    pub async fn metric_of(&self, environment: &str, name: &str) -> u64 {
        self.sample(&format!("{name}{{environment=\"{environment}\"}} ")).await
    }

    /// A counter or gauge of the server as a whole.
    pub async fn server_metric(&self, name: &str) -> u64 {
        self.sample(&format!("{name} ")).await
    }

    async fn sample(&self, sample: &str) -> u64 {
        let page = self.http("/metrics").await;
        let line = page.lines().find_map(|line| line.strip_prefix(sample));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no metric {sample}in\n{page}"))
    }

    /// What the server has of the machine's memory now.
    #[must_use]
    pub fn server_memory_bytes(&self) -> u64 {
        let pid = self.server.as_ref().and_then(Child::id).expect("the server runs");
        process::memory(pid).now_bytes
    }

    /// `kill -9`.
    pub async fn kill_server(&mut self) {
        let mut server = self.server.take().expect("the server runs");
        server.kill().await.expect("a child can be killed");
    }

    /// Asks the server to end, and waits for it.
    pub async fn stop_server(&mut self) {
        let mut server = self.server.take().expect("the server runs");
        let pid = server.id().expect("it runs").to_string();
        Command::new("kill").args(["-TERM", &pid]).status().await.expect("`kill` runs");
        let ended = tokio::time::timeout(PATIENCE, server.wait())
            .await
            .expect("the server ends when asked")
            .expect("it ends");
        assert!(ended.success(), "flagd ended with {ended}:\n{}", self.server_log());
    }

    /// Runs one of `flagd`'s own commands, such as `backup`.
    pub async fn flagd<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        let mut command = Command::new(binaries().join("flagd"));
        command.args(args).current_dir(self.folder());
        run(command, "").await
    }

    /// Runs `flagctl` against this server.
    pub async fn flagctl<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        self.flagctl_with_input(args, "").await
    }

    /// Starts `flagctl`, waits until it has said something, presses Ctrl-C, and waits for its end.
    pub async fn flagctl_interrupted(&self, args: &[&str], after: &str) -> Output {
        let said = self.file("said", "");
        let mut command = self.flagctl_command(args);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        command.stdout(Stdio::from(std::fs::File::create(&said).expect("the folder is writable")));
        let line = format!("{:?}", command.as_std());
        let child = command.kill_on_drop(true).spawn().expect("flagctl starts");
        let read = || std::fs::read_to_string(&said).unwrap_or_default();
        eventually("the command has come as far as the story wants", async || read().contains(after)).await;
        let pid = child.id().expect("it runs").to_string();
        Command::new("kill").args(["-INT", &pid]).status().await.expect("`kill` runs");
        let ended = output(line, child).await;
        Output { out: read(), ..ended }
    }

    /// Runs `flagctl` with something on its standard input.
    pub async fn flagctl_with_input<S: AsRef<std::ffi::OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        input: &str,
    ) -> Output {
        run(self.flagctl_command(args), input).await
    }

    fn flagctl_command<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(binaries().join("flagctl"));
        command
            .args(args)
            .env("FLAGD_SERVERS", self.url())
            .env("FLAGD_ACTOR", "tester")
            .env("XDG_CONFIG_HOME", self.folder().join("config"))
            .env_remove("FLAGD_ENVIRONMENT")
            .env("NO_COLOR", "1")
            .current_dir(self.folder());
        command
    }

    /// Creates definitions from JSON text.
    pub async fn create(&self, definitions: &str) {
        let file = self.file("create.json", definitions);
        self.flagctl(["create".as_ref(), "-f".as_ref(), file.as_os_str()]).await.succeeds().done();
    }

    /// A client of this server under a name, started.
    pub async fn client(&self, name: &str) -> Client {
        self.builder(name).start().await.expect("nothing is wrong in the code")
    }

    /// A client of this server that is connected and up to date.
    pub async fn connected_client(&self, name: &str) -> Client {
        let client = self.client(name).await;
        assert!(client.ready(PATIENCE).await, "the server answers:\n{}", self.server_log());
        client
    }

    /// A builder for a client of this server, without a disk state.
    pub fn builder(&self, name: &str) -> Builder {
        Client::builder(self.url()).environment("default").name(name).app("story", "1.0")
    }

    /// A folder for a client's disk state.
    #[must_use]
    pub fn cache(&self, name: &str) -> PathBuf {
        self.folder().join("cache").join(name)
    }

    /// The operators' API, for what flagctl does not show.
    pub async fn admin(&self) -> AdminClient<Channel> {
        connect(&self.url()).await.expect("the server runs")
    }

    /// The head's revision.
    pub async fn revision(&self) -> u64 {
        self.try_revision().await.expect("the server runs and has `default`")
    }

    /// The head's revision; `None` while the server is away.
    pub async fn try_revision(&self) -> Option<u64> {
        let mut admin = connect(&self.url()).await?;
        let status = admin.status(flagd_proto::admin::StatusRequest::default()).await.ok()?.into_inner();
        let mut environments = status.environments.into_iter().filter_map(|status| status.environment);
        environments
            .find(|environment| environment.name == "default")?
            .position
            .map(|position| position.revision)
    }
}

/// The operators' API at an address; `None` while nobody listens there.
pub async fn connect(url: &str) -> Option<AdminClient<Channel>> {
    let channel = Endpoint::new(url.to_owned()).expect("a URL").connect().await.ok()?;
    Some(AdminClient::new(channel).max_decoding_message_size(64 << 20).max_encoding_message_size(64 << 20))
}

pub(crate) async fn run(mut command: Command, input: &str) -> Output {
    let line = format!("{:?}", command.as_std());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A program that does not read its input is no failure of the story.
    let _ = tokio::io::AsyncWriteExt::write_all(&mut stdin, input.as_bytes()).await;
    drop(stdin);
    output(line, child).await
}

async fn output(command: String, child: Child) -> Output {
    let ended = tokio::time::timeout(PATIENCE, child.wait_with_output());
    let output = ended.await.expect("it ends").expect("its output can be read");
    Output {
        command,
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// One page of plain HTTP of a server on loopback: status line and headers, then the body.
pub(crate) async fn http(port: u16, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("the server listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: flagd\r\nConnection: close\r\n\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.expect("the server reads");
    let mut answer = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await.expect("the server answers");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Waits until something holds; fails the story when it does not within a minute.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "this did not happen within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Definitions of about 300 KB: one segment with a long list.
#[must_use]
pub fn big_list(number: usize) -> String {
    let units: Vec<String> = (0..15_000).map(|unit| format!(r#""unit-{number}-{unit:08}""#)).collect();
    format!(r#"{{"segments": {{"big-{number}": {{"include": [{}]}}}}}}"#, units.join(","))
}

/// A context of this targeting key.
#[must_use]
pub fn user(key: &str) -> Context {
    Context::new(key)
}

/// A port that was free a moment ago. The server must come back on the same one, so it cannot be 0.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("loopback works")
        .port()
}
