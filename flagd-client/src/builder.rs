//! From what the application says to a running client.
//!
//! Starting fails only on what is wrong in the program or its installation, because only that does not pass by
//! itself; an absent server does. This file does not know what happens after the start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flagd_core::key::{EnvironmentName, NameError};
use flagd_core::revision::Revision;
use tonic::transport::Endpoint;

use crate::changes::Until;
use crate::client::Client;
use crate::connections::Connections;
use crate::disk::Disk;
use crate::feed::{self, Identity, Server, Setup};
use crate::local::{self, DefinitionError};
use crate::shared::{Shared, Undeclared};
use crate::status::Connection;

/// How long a start waits for a server unless told otherwise.
const START_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest name of an application, a version, a client.
const NAME_MAX_BYTES: usize = 256;
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a client cannot start. None of these passes by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address is no server's. Do: write it like `http://127.0.0.1:8013`.
    #[error("`{address}` is no address of a server: {why}")]
    Address {
        /// The address, as it was given.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// The environment's name is wrong. Do: check its spelling.
    #[error("the environment's name is wrong: {0}")]
    Environment(#[from] NameError),
    /// A name is too long. Do: shorten it.
    #[error("the {what} has {bytes} bytes; at most {NAME_MAX_BYTES} are allowed")]
    TooLong {
        /// Which name.
        what: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// The bootstrap file cannot be used. Do: mend it; it is part of the program.
    #[error("the bootstrap file cannot be used: {0}")]
    Bootstrap(#[from] DefinitionError),
    /// The system gives no thread or no random bits. Do: check the process's limits.
    #[error("the system refuses what a client needs: {0}")]
    System(String),
}

/// Collects what a client needs; see [`Client::builder`].
#[derive(Clone, Debug)]
#[must_use = "call `start`"]
pub struct Builder {
    addresses: Vec<String>,
    environment: String,
    app: String,
    app_version: String,
    name: Option<String>,
    cache_dir: Option<PathBuf>,
    bootstrap_file: Option<PathBuf>,
    start_timeout: Duration,
    connections: Option<Connections>,
}

impl Client {
    /// Begins to describe a client of the server at `url`, such as `http://127.0.0.1:8013`.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder {
            addresses: vec![url.into()],
            environment: "default".into(),
            app: String::new(),
            app_version: String::new(),
            name: None,
            cache_dir: None,
            bootstrap_file: None,
            start_timeout: START_TIMEOUT,
            connections: None,
        }
    }
}

impl Builder {
    /// A further server of the same cluster. The servers are tried in turn.
    pub fn server(mut self, url: impl Into<String>) -> Builder {
        self.addresses.push(url.into());
        self
    }

    /// The environment to follow; `default` unless said.
    pub fn environment(mut self, name: impl Into<String>) -> Builder {
        self.environment = name.into();
        self
    }

    /// The application and its version, for the people who read `flagctl clients`.
    pub fn app(mut self, name: impl Into<String>, version: impl Into<String>) -> Builder {
        self.app = name.into();
        self.app_version = version.into();
        self
    }

    /// The name of this client; unless said, the host's (`HOSTNAME`) or the application's, and the process id.
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(name.into());
        self
    }

    /// The folder that keeps the last states, for starts without a server. Several processes may share it.
    pub fn cache_dir(mut self, folder: impl Into<PathBuf>) -> Builder {
        self.cache_dir = Some(folder.into());
        self
    }

    /// A file of definitions that is used as long as there is neither a server nor a state on disk.
    pub fn bootstrap_file(mut self, file: impl Into<PathBuf>) -> Builder {
        self.bootstrap_file = Some(file.into());
        self
    }

    /// How long [`Builder::start`] waits for a server; 2 s unless said.
    pub fn start_timeout(mut self, timeout: Duration) -> Builder {
        self.start_timeout = timeout;
        self
    }

    /// Uses connections that other clients of this process use too; one of its own unless said.
    pub fn connections(mut self, shared: &Connections) -> Builder {
        self.connections = Some(shared.clone());
        self
    }

    /// Starts the client. Resolves, under any executor, with the server's state; after `start_timeout` with the
    /// state on disk, which is marked as stale; or with nothing but the code's defaults.
    ///
    /// # Errors
    /// [`StartError`]: what is wrong in the program, never an absent server.
    pub async fn start(self) -> Result<Client, StartError> {
        let timeout = self.start_timeout;
        let client = self.launch()?;
        let deadline = Instant::now().checked_add(timeout);
        client.wake_at(deadline);
        let shared = Arc::clone(&client.shared);
        Until::new(&client.shared.bulletin, deadline, move || shared.has_answered()).await;
        Ok(client)
    }

    /// [`Builder::start`] on this thread, for programs without an executor.
    ///
    /// # Errors
    /// [`StartError`]: what is wrong in the program, never an absent server.
    pub fn start_blocking(self) -> Result<Client, StartError> {
        let timeout = self.start_timeout;
        let client = self.launch()?;
        let shared = &client.shared;
        shared.bulletin.wait_until(Instant::now().checked_add(timeout), || shared.has_answered());
        Ok(client)
    }

    fn launch(self) -> Result<Client, StartError> {
        let environment = EnvironmentName::new(&self.environment)?;
        let servers = self.addresses.iter().map(|address| server(address)).collect::<Result<Vec<_>, _>>()?;
        let name = self.name.clone().unwrap_or_else(|| default_name(&self.app));
        for (what, text) in [("app", &self.app), ("app's version", &self.app_version), ("name", &name)] {
            if text.len() > NAME_MAX_BYTES {
                return Err(StartError::TooLong { what, bytes: text.len() });
            }
        }
        let bootstrap = match &self.bootstrap_file {
            None => None,
            Some(path) => {
                let text = local::read_file(path)?;
                Some(local::state_of(&text, environment.clone(), Revision::ZERO)?)
            }
        };
        let mut instance = [0; 16];
        getrandom::fill(&mut instance).map_err(|error| StartError::System(error.to_string()))?;
        let identity = Identity {
            environment: self.environment.clone(),
            instance,
            name,
            app: self.app,
            app_version: self.app_version,
        };
        let first = servers.first().map(|server| server.address.clone()).unwrap_or_default();
        let instance = format!("{:032x}", u128::from_be_bytes(instance));
        let connection = Connection::Connecting { server: first };
        let shared = Arc::new(Shared::new(self.environment, instance, connection, Undeclared::Told));
        let disk = self.cache_dir.map(|folder| Disk::new(&folder, environment.clone()));
        let setup = Setup { environment, identity, servers, disk, bootstrap, connections: self.connections };
        let life = feed::start(setup, &shared).map_err(|error| StartError::System(error.to_string()))?;
        Ok(Client { shared, life: Some(Arc::new(life)) })
    }
}

fn server(address: &str) -> Result<Server, StartError> {
    let wrong = |why: &str| StartError::Address { address: address.to_owned(), why: why.to_owned() };
    let url = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let endpoint = Endpoint::from_shared(url.clone()).map_err(|error| wrong(&error.to_string()))?;
    if endpoint.uri().scheme_str() != Some("http") {
        return Err(wrong("only http:// is spoken; put a proxy in front for TLS"));
    }
    if endpoint.uri().host().is_none_or(str::is_empty) {
        return Err(wrong("it names no host"));
    }
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    Ok(Server { address: url, endpoint })
}

fn default_name(app: &str) -> String {
    let host = std::env::var("HOSTNAME").ok().filter(|host| !host.is_empty() && host.len() <= 200);
    let base = host.unwrap_or_else(|| app.to_owned());
    if base.is_empty() { std::process::id().to_string() } else { format!("{base}-{}", std::process::id()) }
}

#[cfg(test)]
mod tests;
