//! What the server was asked to do: options from the command line, the environment and a file, resolved once.
//!
//! Two steps, so that no option is declared twice or half understood: [`Typed`] is what somebody wrote on the
//! command line; [`Config`] is what all sources together mean. The command line wins over the environment, the
//! environment over the file, the file over the defaults. Everything is checked before anything is opened, a name
//! that is not known is never skipped, and each error names the place where the value was written.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::limits::{Admission, QUOTA_DEFAULT_BYTES};
use crate::store::etcd::EtcdConfig;
use crate::telemetry::{LogFormat, LogLevel, LogSettings};

mod admission;
mod sources;
mod typed;
mod values;

pub use sources::{Place, unknown_variables};
pub use typed::{Typed, TypedCommand, TypedOptions};

use sources::Sources;

/// How long the server waits for what is under way when it is asked to stop, unless told otherwise.
const DRAIN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// What the process is to do, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Serve, back up or restore.
    pub command: Command,
    /// Where the log of changes is kept.
    pub store: StoreChoice,
    /// Size at which the store takes no more writes.
    pub quota_bytes: u64,
    /// Where the servers are that this one relays; empty: it is no relay.
    pub upstream: Vec<String>,
    /// Where the server listens.
    pub listen: SocketAddr,
    /// The server's name, for people.
    pub server_name: String,
    /// Where the other servers of a cluster reach it; `None`: where it listens.
    pub advertise: Option<String>,
    /// How long a stopping server waits for what is under way.
    pub drain_timeout: Duration,
    /// How many are let in, and how fast.
    pub admission: Admission,
    /// Form and amount of the server's log.
    pub log: LogSettings,
    /// Whether the server says what to type next.
    pub banner: Banner,
}

/// What the process does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run the server.
    Serve,
    /// Copy the store to a new file.
    Backup {
        /// The new file.
        to: PathBuf,
    },
    /// Make a store from a backup.
    Restore {
        /// The backup.
        from: PathBuf,
        /// The store's file.
        to: PathBuf,
        /// What becomes of a store that is there.
        existing: Existing,
    },
}

/// What a restore does with a store that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It is left alone, and nothing is restored.
    Refuse,
    /// It is kept under another name.
    MoveAside,
}

/// Where the log of changes is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreChoice {
    /// In a file.
    Redb(PathBuf),
    /// In memory, until the process ends.
    Memory,
    /// In etcd, together with other servers.
    Etcd(Box<EtcdConfig>),
}

/// Whether the server says what to type next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Banner {
    /// It does.
    Shown,
    /// It prints nothing to the standard output.
    Hidden,
}

/// Why the options do not mean anything. Nothing was opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value cannot be read. Do: write it as the message says.
    #[error("{place}: `{value}` {reason}")]
    Value {
        /// Where it was written.
        place: Place,
        /// What was written.
        value: String,
        /// What is wrong with it, and how it is written.
        reason: String,
    },
    /// The file holds an option that does not exist. Do: correct the name.
    #[error("{}: there is no option `{name}`{}", file.display(), guess(nearest.as_deref()))]
    UnknownOption {
        /// The file.
        file: PathBuf,
        /// The name.
        name: String,
        /// The option that may have been meant.
        nearest: Option<String>,
    },
    /// The file is not TOML. Do: correct it where the message says.
    #[error("{}: {reason}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// The file cannot be read. Do: check the path.
    #[error("{}: {source}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Options contradict each other. Do: drop one.
    #[error("{0}")]
    Contradiction(String),
    /// The address can be reached from other machines, and nothing protects it yet. Do: listen on a loopback
    /// address, or say `--insecure`.
    #[error(
        "{place}: `{listen}` can be reached from other machines, and this version has neither encryption nor \
         authentication: whoever reaches it could change flags; listen on 127.0.0.1 (behind a proxy that has both), \
         or accept that with --insecure"
    )]
    Insecure {
        /// Where the address was written.
        place: Place,
        /// The address.
        listen: SocketAddr,
    },
}

fn guess(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!(", did you mean `{name}`?"))
}

/// What a process may look at beside its command line. Tests give their own.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Reads an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// Reads a file.
    pub file: &'a dyn Fn(&Path) -> std::io::Result<String>,
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Surroundings")
    }
}

impl Config {
    /// Reads this process's command line, environment and file. Help, the version, and a command line that cannot
    /// be read end the process here, with what is to be said about it.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn of_this_process() -> Result<Config, ConfigError> {
        let typed = <Typed as clap::Parser>::parse();
        let variable = |name: &str| std::env::var_os(name);
        let file = |path: &Path| std::fs::read_to_string(path);
        Config::resolve(typed, Surroundings { variable: &variable, file: &file })
    }

    /// What all sources together mean.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn resolve(typed: Typed, around: Surroundings<'_>) -> Result<Config, ConfigError> {
        let sources = Sources::read(&typed.options, around)?;
        let quota_bytes = sources.get("quota", values::size)?;
        let upstream = sources.get("upstream", values::urls)?.unwrap_or_default();
        let mut store = store(&sources, &upstream)?;
        if let (StoreChoice::Etcd(etcd), Some(quota_bytes)) = (&mut store, quota_bytes) {
            etcd.quota_bytes = quota_bytes;
        }
        let command = match typed.command {
            None => Command::Serve,
            Some(TypedCommand::Backup { to }) => {
                must_be_a_file(&store, "backup")?;
                Command::Backup { to }
            }
            Some(TypedCommand::Restore { from, to, force }) => {
                let to = match (to, &store) {
                    (Some(to), _) => to,
                    (None, StoreChoice::Redb(path)) => path.clone(),
                    (None, StoreChoice::Memory | StoreChoice::Etcd(_)) => {
                        return Err(ConfigError::Contradiction(
                            "restore writes a file; name it with --to FILE".to_owned(),
                        ));
                    }
                };
                let existing = if force { Existing::MoveAside } else { Existing::Refuse };
                Command::Restore { from, to, existing }
            }
        };
        let listen = listen(&sources)?;
        let advertise = advertise(&sources, &store, listen)?;
        Ok(Config {
            command,
            store,
            quota_bytes: quota_bytes.unwrap_or(QUOTA_DEFAULT_BYTES),
            upstream,
            listen,
            server_name: server_name(&sources, around)?,
            advertise,
            drain_timeout: sources.get("drain-timeout", values::duration)?.unwrap_or(DRAIN_TIMEOUT_DEFAULT),
            admission: admission::admission(&sources)?,
            log: LogSettings {
                format: sources.get("log-format", values::log_format)?.unwrap_or(LogFormat::Text),
                level: sources.get("log-level", values::log_level)?.unwrap_or(LogLevel::Info),
            },
            banner: match sources.get("quiet", values::yes_or_no)? {
                Some(true) => Banner::Hidden,
                _ => Banner::Shown,
            },
        })
    }
}

/// `--ephemeral` is short for a store in memory; a place that says both says nothing. A relay keeps a file of its own.
fn store(sources: &Sources, upstream: &[String]) -> Result<StoreChoice, ConfigError> {
    let store = sources.placed("store", values::store)?;
    if !upstream.is_empty()
        && let Some((place, StoreChoice::Etcd(_))) = &store
    {
        return Err(ConfigError::Contradiction(format!(
            "a relay keeps what it was shown in a file of its own, {place} names an etcd; drop it, or drop --upstream and \
             run one more server on that etcd"
        )));
    }
    let ephemeral = sources.placed("ephemeral", values::yes_or_no)?.filter(|(_, yes)| *yes);
    let file = if upstream.is_empty() { "data/flagd.redb" } else { "data/relay.redb" };
    let default = || StoreChoice::Redb(PathBuf::from(file));
    match (store, ephemeral) {
        (None, None) => Ok(default()),
        (Some((_, store)), None) => Ok(store),
        (None, Some(_)) => Ok(StoreChoice::Memory),
        (Some((there, store)), Some((here, _))) => match there.rank().cmp(&here.rank()) {
            std::cmp::Ordering::Less => Ok(store),
            std::cmp::Ordering::Greater => Ok(StoreChoice::Memory),
            std::cmp::Ordering::Equal if store == StoreChoice::Memory => Ok(store),
            std::cmp::Ordering::Equal => {
                let both = format!("{there} keeps the changes, {here} in memory only; drop one of them");
                Err(ConfigError::Contradiction(both))
            }
        },
    }
}

/// Where others reach this server; with a store that servers share it must be an address.
fn advertise(
    sources: &Sources,
    store: &StoreChoice,
    listen: SocketAddr,
) -> Result<Option<String>, ConfigError> {
    let advertise = sources.get("advertise", values::url)?;
    if advertise.is_none() && matches!(store, StoreChoice::Etcd(_)) && listen.ip().is_unspecified() {
        return Err(ConfigError::Contradiction(format!(
            "the other servers of the cluster cannot reach this one at {listen}; say where with \
             --advertise http://HOST:{}",
            listen.port()
        )));
    }
    Ok(advertise)
}

fn must_be_a_file(store: &StoreChoice, command: &str) -> Result<(), ConfigError> {
    match store {
        StoreChoice::Redb(_) => Ok(()),
        StoreChoice::Etcd(_) => Err(ConfigError::Contradiction(format!(
            "{command} copies a store in a file; etcd has backups of its own (etcdctl snapshot save)"
        ))),
        StoreChoice::Memory => Err(ConfigError::Contradiction(format!(
            "{command} needs a store in a file; name it with --store FILE"
        ))),
    }
}

fn listen(sources: &Sources) -> Result<SocketAddr, ConfigError> {
    let default = SocketAddr::from(([127, 0, 0, 1], 8013));
    let Some((place, listen)) = sources.placed("listen", values::address)? else {
        return Ok(default);
    };
    let insecure = sources.get("insecure", values::yes_or_no)?.unwrap_or(false);
    if !listen.ip().is_loopback() && !insecure {
        return Err(ConfigError::Insecure { place, listen });
    }
    Ok(listen)
}

/// The name that was given, else the machine's if the environment tells it.
fn server_name(sources: &Sources, around: Surroundings<'_>) -> Result<String, ConfigError> {
    if let Some(name) = sources.get("server-name", values::name)? {
        return Ok(name);
    }
    let machine = (around.variable)("HOSTNAME").and_then(|name| name.into_string().ok());
    Ok(machine.and_then(|name| values::name(&name).ok()).unwrap_or_else(|| "flagd".to_owned()))
}

#[cfg(test)]
mod tests;
