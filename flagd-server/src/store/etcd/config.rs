//! What is said about an etcd: where it is, who we are there, and how patient we are.
//!
//! `etcd://host:2379,host:2379/prefix?user=flagd&password-file=PATH&ca=PATH&cert=PATH&key=PATH&quota=2GiB`
//!
//! A password is never part of the address, because addresses end up in process lists, logs and error messages: it
//! is read from a file, each time a connection is made, so that it can be changed while the server runs. The same
//! goes for certificates.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The port that etcd listens on unless told otherwise.
const PORT_DEFAULT: u16 = 2379;
/// The prefix of all keys unless another is named.
const PREFIX_DEFAULT: &str = "flagd";
/// etcd's own quota unless it was started with another.
const QUOTA_DEFAULT_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// Most endpoints; a cluster has seven members at the most.
const ENDPOINTS_MAX: usize = 16;
/// Longest prefix.
const PREFIX_MAX_BYTES: usize = 128;

const OPTIONS: &[&str] = &["user", "password-file", "ca", "cert", "key", "quota"];

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text into keeping.
    #[must_use]
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The text, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// An etcd, and how to talk to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdConfig {
    /// Hosts with ports, at least one.
    pub endpoints: Vec<String>,
    /// What all keys begin with, without slashes.
    pub prefix: String,
    /// Who we say we are.
    pub user: Option<User>,
    /// How the connection is protected; `None` for not at all.
    pub tls: Option<Tls>,
    /// etcd's quota, for versions that do not tell it.
    pub quota_bytes: u64,
    /// How patient we are.
    pub patience: Patience,
}

/// A user of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// A file that holds the password and nothing else; a line break at its end is ignored.
    pub password_file: PathBuf,
}

/// Certificates, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Who must have signed etcd's certificate.
    pub ca: PathBuf,
    /// Our own certificate and its key, for etcds that ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// One attempt at one endpoint, with the connection if there is none.
    pub attempt: Duration,
    /// A call with all its attempts.
    pub call: Duration,
    /// Between two reads of a head that somebody waits for.
    pub head_read_interval: Duration,
    /// How much later than such a read the watch may show the same before it counts as having lost it.
    pub watch_grace: Duration,
    /// A ping follows this silence on a connection. etcd takes more than one ping in 5 s for an attack and cuts the
    /// connection, so this must be longer.
    pub keep_alive_interval: Duration,
    /// And a connection on which it is not answered for this long is given up.
    pub keep_alive_timeout: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            attempt: Duration::from_secs(1),
            // Longer than an election takes, shorter than the three seconds that are promised.
            call: Duration::from_millis(2_800),
            head_read_interval: Duration::from_secs(2),
            watch_grace: Duration::from_millis(500),
            keep_alive_interval: Duration::from_secs(6),
            keep_alive_timeout: Duration::from_secs(2),
        }
    }
}

/// Why the address of an etcd means nothing. It is never shown whole: somebody may have put a password into it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EtcdConfigError {
    /// It does not begin as one. Do: write `etcd://HOST:PORT`.
    #[error("begins not with etcd://; write etcd://HOST:PORT,HOST:PORT/PREFIX")]
    Scheme,
    /// It names no host, or too many. Do: name the members of the cluster.
    #[error("names {0} hosts; write 1 to {ENDPOINTS_MAX} of them: etcd://HOST:PORT,HOST:PORT/PREFIX")]
    HostCount(usize),
    /// A host cannot be read. Do: write it as `HOST:PORT` or `[IPV6]:PORT`.
    #[error("names a host `{0}`, which is not HOST, HOST:PORT or [IPV6]:PORT")]
    Host(String),
    /// Credentials stand in it. Do: use `user` and `password-file`.
    #[error(
        "holds credentials; addresses are shown in process lists, so write ?user=NAME&password-file=PATH instead"
    )]
    Credentials,
    /// The prefix cannot be one. Do: use letters, digits, `-`, `_` and `.`.
    #[error(
        "has a prefix that is not 1 to {PREFIX_MAX_BYTES} of a-z, A-Z, 0-9, `-`, `_`, `.` in one part: `{0}`"
    )]
    Prefix(String),
    /// An option does not exist. Do: use one that does.
    #[error("has an option `{name}`; there are {}", OPTIONS.join(", "))]
    Option {
        /// The name.
        name: String,
    },
    /// An option stands twice. Do: drop one.
    #[error("has the option `{0}` twice")]
    Twice(String),
    /// An option has no value. Do: give it one.
    #[error("has the option `{0}` without a value; write {0}=VALUE")]
    NoValue(String),
    /// An option needs another one. Do: add it.
    #[error("has the option `{has}`, which needs `{needs}` beside it")]
    Needs {
        /// The one that is there.
        has: &'static str,
        /// The one that is not.
        needs: &'static str,
    },
    /// The quota cannot be read. Do: write it as the message says.
    #[error("has the quota `{0}`, which is not a size such as 2GiB, 512MiB or a number of bytes")]
    Quota(String),
}

impl EtcdConfig {
    /// Reads an address.
    ///
    /// # Errors
    /// [`EtcdConfigError`], to be put after the name of the place where the address was written.
    pub fn parse(url: &str) -> Result<EtcdConfig, EtcdConfigError> {
        let rest = url.strip_prefix("etcd://").ok_or(EtcdConfigError::Scheme)?;
        let (place, options) = rest.split_once('?').map_or((rest, None), |(place, o)| (place, Some(o)));
        if place.contains('@') {
            return Err(EtcdConfigError::Credentials);
        }
        let (hosts, prefix) = place.split_once('/').unwrap_or((place, ""));
        let endpoints = endpoints(hosts)?;
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let mut options = Options::read(options.unwrap_or_default())?;
        let user = match (options.take("user"), options.take("password-file")) {
            (None, None) => None,
            (Some(name), Some(file)) => Some(User { name, password_file: file.into() }),
            (Some(_), None) => return Err(needs("user", "password-file")),
            (None, Some(_)) => return Err(needs("password-file", "user")),
        };
        let tls = tls(&mut options)?;
        let quota_bytes = options.take("quota").map_or(Ok(QUOTA_DEFAULT_BYTES), |text| size(&text))?;
        let prefix = if prefix.is_empty() { PREFIX_DEFAULT.to_owned() } else { check_prefix(prefix)? };
        Ok(EtcdConfig { endpoints, prefix, user, tls, quota_bytes, patience: Patience::default() })
    }
}

fn needs(has: &'static str, needs: &'static str) -> EtcdConfigError {
    EtcdConfigError::Needs { has, needs }
}

fn endpoints(hosts: &str) -> Result<Vec<String>, EtcdConfigError> {
    let hosts: Vec<&str> = hosts.split(',').filter(|host| !host.is_empty()).collect();
    if hosts.is_empty() || hosts.len() > ENDPOINTS_MAX {
        return Err(EtcdConfigError::HostCount(hosts.len()));
    }
    hosts.into_iter().map(endpoint).collect()
}

fn endpoint(text: &str) -> Result<String, EtcdConfigError> {
    let wrong = || EtcdConfigError::Host(text.to_owned());
    let (host, port) = if let Some(bracketed) = text.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']').ok_or_else(wrong)?;
        let address: std::net::Ipv6Addr = address.parse().map_err(|_| wrong())?;
        (
            format!("[{address}]"),
            if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(wrong)?) },
        )
    } else {
        let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
        (host.to_owned(), port)
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
    if host.is_empty() || (!host.starts_with('[') && !host.chars().all(is_name)) {
        return Err(wrong());
    }
    let port: u16 = port.map_or(Ok(PORT_DEFAULT), str::parse).map_err(|_| wrong())?;
    Ok(format!("{host}:{port}"))
}

fn check_prefix(prefix: &str) -> Result<String, EtcdConfigError> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
    if prefix.len() > PREFIX_MAX_BYTES || !prefix.chars().all(is_allowed) {
        return Err(EtcdConfigError::Prefix(prefix.to_owned()));
    }
    Ok(prefix.to_owned())
}

fn tls(options: &mut Options) -> Result<Option<Tls>, EtcdConfigError> {
    let identity = match (options.take("cert"), options.take("key")) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some((cert.into(), key.into())),
        (Some(_), None) => return Err(needs("cert", "key")),
        (None, Some(_)) => return Err(needs("key", "cert")),
    };
    match (options.take("ca"), identity) {
        (Some(ca), identity) => Ok(Some(Tls { ca: ca.into(), identity })),
        (None, None) => Ok(None),
        (None, Some(_)) => Err(needs("cert", "ca")),
    }
}

fn size(text: &str) -> Result<u64, EtcdConfigError> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let (number, shift) =
        units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift))).unwrap_or((text, 0));
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.filter(|bytes| *bytes > 0).ok_or_else(|| EtcdConfigError::Quota(text.to_owned()))
}

/// The options that were not asked for yet.
struct Options(Vec<(String, String)>);

impl Options {
    fn read(text: &str) -> Result<Options, EtcdConfigError> {
        let mut read: Vec<(String, String)> = Vec::new();
        for option in text.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            if name == "password" {
                return Err(EtcdConfigError::Credentials);
            }
            if !OPTIONS.contains(&name) {
                return Err(EtcdConfigError::Option { name: name.to_owned() });
            }
            if value.is_empty() {
                return Err(EtcdConfigError::NoValue(name.to_owned()));
            }
            if read.iter().any(|(there, _)| there == name) {
                return Err(EtcdConfigError::Twice(name.to_owned()));
            }
            read.push((name.to_owned(), value.to_owned()));
        }
        Ok(Options(read))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(there, _)| there == name)?;
        Some(self.0.swap_remove(at).1)
    }
}

#[cfg(test)]
mod tests;
