//! How a client is doing, told to people and to health checks.
//!
//! Everything here is a copy made on request: asking for the status costs something, evaluating does not. It
//! does not know how the facts come about.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::detail::Staleness;
use crate::misuse::MissedKey;
use crate::view::Source;

/// Everything a client can tell about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The environment that is followed.
    pub environment: String,
    /// The identity of this client, 128 random bits in hexadecimal; what `flagctl clients` lists.
    pub instance: String,
    /// Where the state that answers came from.
    pub source: Source,
    /// The revision that evaluations use; 0 before there is a state.
    pub revision: u64,
    /// The history that the revision belongs to; empty without a server's state.
    pub epoch: String,
    /// The digest of the state, in hexadecimal; empty without a server's state.
    pub digest: String,
    /// Whether a server confirms the state, and when one last did.
    pub staleness: Staleness,
    /// The connection.
    pub connection: Connection,
    /// Whether the client cannot reach the server's digest: it keeps its last good state and obeys kills.
    pub diverged: bool,
    /// Flags whose kills are obeyed although the state in use does not hold them.
    pub obeyed_kills: Vec<String>,
    /// Entries that are not in use as the state holds them.
    pub refused: Vec<RefusedEntry>,
    /// Older snapshots that the program still holds.
    pub held: HeldSnapshots,
    /// The state on disk.
    pub disk: DiskStatus,
    /// The kills in use could not be written down: they are obeyed and acknowledged, but this program would not know
    /// them if it were started again and no server answered.
    pub kills_unwritten: bool,
    /// What was counted since the start.
    pub counters: Counters,
    /// Keys that were asked for in vain, at most a thousand.
    pub missed: Vec<MissedKey>,
}

/// The connection to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Connection {
    /// There is none by design: embedded definitions, or a test.
    Embedded,
    /// A connection is being opened.
    Connecting {
        /// The server's address.
        server: String,
    },
    /// Connected; the server's newest state is on its way.
    CatchingUp {
        /// The server's address.
        server: String,
    },
    /// Connected, and the state is the server's.
    Connected {
        /// The server's address.
        server: String,
    },
    /// Connected, but the server itself has not seen its store for a while or is behind this client.
    ServerBehind {
        /// The server's address.
        server: String,
    },
    /// Connected, but this client cannot reach the server's digest; see [`Status::diverged`].
    Diverged {
        /// The server's address.
        server: String,
    },
    /// Not connected; the next attempt comes by itself.
    Waiting {
        /// Why the last attempt or connection ended.
        why: String,
    },
    /// The server will not serve this client as it is; it is asked again now and then.
    Refused {
        /// The server's words.
        message: String,
    },
    /// The client was closed.
    Closed,
    /// The client failed and cannot go on: flags keep their last values until the program is started again. That
    /// is a fault of the client; the log says where.
    Failed,
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Connection::Embedded => f.write_str("embedded, no server"),
            Connection::Connecting { server } => write!(f, "connecting to {server}"),
            Connection::CatchingUp { server } => write!(f, "catching up with {server}"),
            Connection::Connected { server } => write!(f, "connected to {server}"),
            Connection::ServerBehind { server } => write!(f, "connected to {server}, which is behind"),
            Connection::Diverged { server } => write!(f, "connected to {server}, but diverged from it"),
            Connection::Waiting { why } => write!(f, "not connected: {why}"),
            Connection::Refused { message } => write!(f, "refused by the server: {message}"),
            Connection::Closed => f.write_str("closed"),
            Connection::Failed => {
                f.write_str("failed: updates have ended until the program is started again")
            }
        }
    }
}

/// An entry that is not in use as the state holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedEntry {
    /// What it is: `flag`, `segment` ...
    pub kind: String,
    /// Its key.
    pub key: String,
    /// Why it is not used.
    pub why: String,
    /// Whether an earlier version still serves; without one callers get their defaults.
    pub last_good: bool,
}

/// Older snapshots that the program still holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldSnapshots {
    /// How many revisions.
    pub count: u32,
    /// The oldest one's revision; 0 without any.
    pub oldest_revision: u64,
    /// Since when the oldest is no longer the newest.
    pub oldest_age: Duration,
}

/// The state on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskStatus {
    /// No `cache_dir` was given.
    Off,
    /// This process writes the folder.
    Writing {
        /// The folder.
        folder: PathBuf,
    },
    /// Another process writes the folder; this one only read it at its start.
    ReadOnly {
        /// The folder.
        folder: PathBuf,
    },
    /// The last attempt to read or write failed. The state in memory is not affected.
    Failing {
        /// The folder.
        folder: PathBuf,
        /// What went wrong.
        message: String,
    },
}

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Getters that were asked before there was a state.
    pub not_ready: u64,
    /// Getters that found no such flag.
    pub not_found: u64,
    /// Getters that found a flag of another type.
    pub type_mismatch: u64,
    /// States that were put in use.
    pub updates: u64,
    /// Attempts to connect.
    pub connects: u64,
    /// Times that the whole state had to be asked for because something did not fit.
    pub need_full: u64,
    /// Reads and writes of the disk that failed.
    pub disk_errors: u64,
}
