//! The server that is measured, and the relays between it and the clients.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::options::{Options, StoreKind};
use super::process::{self, Pinned};
use crate::command::binaries;
use crate::world::{connect, free_port, http};

/// How long a server may take until it answers.
const START_MAX: Duration = Duration::from_mins(1);

/// The server that is measured.
#[derive(Debug)]
pub(super) struct Server {
    /// Where changes are made.
    pub(super) url: String,
    /// Where clients go: the same, or the last relay.
    pub(super) edge_url: String,
    pub(super) port: u16,
    /// The process to which clients go. `None` when it is somebody else's, and elsewhere.
    pub(super) pid: Option<u32>,
    relays: Vec<Pinned>,
    own: Option<(Pinned, TempDir)>,
}

/// What a process has used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    /// Resident now.
    pub(super) memory_bytes: u64,
    /// Since it began.
    pub(super) cpu: Duration,
}

impl Server {
    /// Starts a server of the tool's own and its relays, or takes the one that it was given.
    pub(super) async fn start(options: &Options) -> Result<Server, String> {
        if let Some(url) = &options.server {
            let port = address_of(url).await?.port();
            let (url, edge_url) = (url.clone(), url.clone());
            return Ok(Server { url, edge_url, port, pid: options.pid, relays: Vec::new(), own: None });
        }
        let folder = tempfile::Builder::new().prefix("flagd-load-").tempdir();
        let folder = folder.map_err(|error| format!("no temporary folder: {error}"))?;
        let port = free_port();
        let child = spawn(options, folder.path(), port)?;
        let url = url_of(port);
        let mut server = Server {
            edge_url: url.clone(),
            url,
            port,
            pid: Some(child.pid()),
            relays: Vec::new(),
            own: Some((child, folder)),
        };
        server.answers().await?;
        for number in 0..options.relays {
            server.add_relay(options, number).await?;
        }
        Ok(server)
    }

    /// Clients go to one more relay from now on.
    async fn add_relay(&mut self, options: &Options, number: usize) -> Result<(), String> {
        let (_, folder) = self.own.as_ref().ok_or("only a server of its own gets relays")?;
        let (port, store) = (free_port(), folder.path().join(format!("relay-{number}.redb")));
        let (listen, store, name) =
            (format!("127.0.0.1:{port}"), store.display().to_string(), format!("relay-{number}"));
        let args = [
            "--listen",
            &listen,
            "--upstream",
            &self.edge_url,
            "--store",
            &store,
            "--server-name",
            &name,
            "--quiet",
        ];
        let relay = start(options, folder.path(), args)?;
        self.pid = Some(relay.pid());
        self.relays.push(relay);
        let began = Instant::now();
        // It answers for itself before it has anything to show.
        while connect(&url_of(port)).await.is_none() || !http(port, "/readyz").await.contains(" 200 ") {
            if began.elapsed() > START_MAX {
                return Err(format!("relay {number} does not answer:\n{}", self.log()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.edge_url = url_of(port);
        Ok(())
    }

    /// `kill -9`, and the same again on the same store and port. Answers with when it was dead.
    pub(super) async fn kill_and_restart(&mut self, options: &Options) -> Result<Instant, String> {
        let (child, folder) = self.own.take().ok_or("only a server of its own can be killed")?;
        child.kill().await.map_err(|error| format!("the server cannot be killed: {error}"))?;
        let dead = Instant::now();
        let child = spawn(options, folder.path(), self.port)?;
        self.pid = Some(child.pid());
        self.own = Some((child, folder));
        Ok(dead)
    }

    async fn answers(&self) -> Result<(), String> {
        let began = Instant::now();
        while connect(&self.url).await.is_none() {
            if began.elapsed() > START_MAX {
                return Err(format!("the server does not answer:\n{}", self.log()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    fn log(&self) -> String {
        let log = self.own.as_ref().map(|(_, folder)| folder.path().join(LOG));
        log.and_then(|log| std::fs::read_to_string(log).ok()).unwrap_or_default()
    }

    /// A sample of `/metrics`; 0 when it is not there.
    pub(super) async fn metric(&self, sample: &str) -> u64 {
        let page = http(self.port, "/metrics").await;
        let value = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).unwrap_or_default()
    }

    /// What the process has used to which clients go.
    pub(super) fn cpu(&self) -> Duration {
        self.pid.map(process::cpu).unwrap_or_default()
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.pid.map(process::memory).unwrap_or_default().now_bytes
    }

    /// What the server has used behind which the relays are; `None` without relays.
    pub(super) fn above(&self) -> Option<Used> {
        let (child, _) = self.own.as_ref().filter(|_| !self.relays.is_empty())?;
        let pid = child.pid();
        Some(Used { memory_bytes: process::memory(pid).now_bytes, cpu: process::cpu(pid) })
    }

    /// Waits until it has nothing to do; a moment when that cannot be seen.
    pub(super) async fn rest(&self) {
        match self.pid {
            Some(pid) => process::rest(pid).await,
            None => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
}

/// The file in a server's folder that holds its log, and its relays'.
const LOG: &str = "server.log";

fn url_of(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn spawn(options: &Options, folder: &Path, port: u16) -> Result<Pinned, String> {
    let store = match options.store {
        StoreKind::Memory => "memory".to_owned(),
        StoreKind::Redb => format!("redb:{}", folder.join("flagd.redb").display()),
    };
    let listen = format!("127.0.0.1:{port}");
    let admit = options.admit.map(|admit| admit.to_string());
    let mut args = vec!["--listen", &listen, "--store", &store, "--quiet"];
    if let Some(admit) = &admit {
        args.extend(["--streams-per-second", admit, "--streams-at-once", admit]);
    }
    start(options, folder, args)
}

fn start<'a>(
    options: &Options,
    folder: &Path,
    args: impl IntoIterator<Item = &'a str>,
) -> Result<Pinned, String> {
    let program = options.flagd.clone().unwrap_or_else(|| binaries().join("flagd"));
    Pinned::spawn(&program, args, options.memory_mib, Stdio::null(), &folder.join(LOG))
        .map_err(|error| format!("{} does not start: {error}", program.display()))
}

pub(super) async fn address_of(url: &str) -> Result<SocketAddr, String> {
    let host = url.strip_prefix("http://").ok_or_else(|| format!("`{url}` is no http:// address"))?;
    let mut found = tokio::net::lookup_host(host.trim_end_matches('/'))
        .await
        .map_err(|error| format!("`{url}` is not found: {error}"))?;
    found.next().ok_or_else(|| format!("`{url}` has no address"))
}
