//! Why an operator's wish was not granted; every variant is another answer to "what now?".
//!
//! Unless a variant says otherwise, nothing was changed. This file does not know gRPC: `api::status` gives
//! each variant its code and its words on the wire.

use flagd_core::edit::EditError;
use flagd_core::entry::EntryId;
use flagd_core::key::EnvironmentName;
use flagd_core::revision::Revision;
use flagd_proto::admin;

use crate::store::StoreError;

/// Why the control layer refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The request itself is wrong. Do: mend it as the message says.
    #[error("{message}")]
    Request {
        /// What is wrong, with the place and the reason.
        message: String,
        /// What would make it right; empty when the message says it all.
        hint: String,
    },
    /// The request or a context is larger than is taken. Do: make it smaller or send it in pieces.
    #[error("{what} has at most {max_bytes} bytes; this one has {bytes}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        max_bytes: usize,
    },
    /// There is no such environment. Do: check the name, or create it.
    #[error("there is no environment `{name}`")]
    UnknownEnvironment {
        /// The name asked for.
        name: EnvironmentName,
        /// Names that look like it, else all there are.
        nearest: Vec<String>,
    },
    /// The environment exists already. Do: use it, or another name.
    #[error("there is an environment `{0}` already")]
    EnvironmentExists(EnvironmentName),
    /// The server has as many environments as it takes. Do: use one of them.
    #[error("a server has at most {0} environments")]
    TooManyEnvironments(usize),
    /// This server knows the environment, but the store has no head for it. Do: look at the store; nothing is written
    /// until its data is back.
    #[error(
        "the store has lost the head of `{0}`; this server goes on serving what it knows and refuses changes"
    )]
    HeadMissing(EnvironmentName),
    /// The wish cannot be planned. Do: as the inner error says.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// A read names an entry that does not exist. Do: check the spelling.
    #[error("no {id} in `{environment}`")]
    UnknownEntry {
        /// What was named.
        id: EntryId,
        /// Where.
        environment: EnvironmentName,
        /// Keys that look like it.
        nearest: Vec<String>,
    },
    /// Somebody else wrote first. Do: look at what changed, decide again.
    #[error("{}", conflict_sentence(.0))]
    Conflict(Vec<admin::Conflict>),
    /// Expected clients do not understand the definition. Do: upgrade them, or repeat with `--anyway`.
    #[error("this needs level {level} of the definition language; {} that should get it know less", counted(.clients.len(), "client"))]
    Level {
        /// The level of what would be written.
        level: u32,
        /// The clients below it.
        clients: Vec<admin::ClientInfo>,
    },
    /// The store is too full for anything but kill, revive and disable. Do: give it space.
    #[error("the store is too full: {0}; only kill, revive and disable are accepted")]
    Quota(String),
    /// Whether the change was recorded is unknown. Do: ask again with the same request id.
    #[error("the store did not answer; whether the change was recorded is unknown: {why}")]
    OutcomeUnknown {
        /// The id to ask again with.
        request_id: String,
        /// What the store said last.
        why: String,
    },
    /// The revision cannot be had. Do: choose one between `oldest` and `newest`.
    #[error(
        "revision {revision} is not in the history of `{environment}`, which reaches from {oldest} to {newest}"
    )]
    NoSuchRevision {
        /// Where.
        environment: EnvironmentName,
        /// What was asked for.
        revision: Revision,
        /// How far back history reaches.
        oldest: Revision,
        /// The head.
        newest: Revision,
    },
    /// A rollback has more than one sensible target. Do: name one with `--to`.
    #[error("{message}")]
    ChooseRevision {
        /// Why it is not clear.
        message: String,
        /// Where one could go back to, newest first.
        candidates: Vec<admin::HistoryChange>,
    },
    /// This server is a relay and records nothing; nothing was changed. Do: ask the server that it follows.
    #[error("this is a relay of {upstream}, which {cannot}")]
    Relay {
        /// Where that server is.
        upstream: String,
        /// What a relay does not do.
        cannot: &'static str,
    },
    /// This server cannot act now; nothing was changed. Do: ask again, here or at another server.
    #[error("{0}")]
    Unavailable(String),
    /// The store failed while nothing was being written. Do: as the inner error says.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A mistake in flagd: planning panicked; nothing was changed. Do: report it.
    #[error("flagd made a mistake: {0}")]
    Internal(String),
}

impl ControlError {
    /// A request that is wrong in itself.
    pub(crate) fn request(message: impl Into<String>) -> ControlError {
        ControlError::Request { message: message.into(), hint: String::new() }
    }
}

fn conflict_sentence(conflicts: &[admin::Conflict]) -> String {
    let Some(first) = conflicts.first() else { return "somebody else wrote first".to_owned() };
    let what = match &first.id {
        Some(id) => flagd_proto::convert::entry_id_from_wire(id).to_string(),
        None => "an entry".to_owned(),
    };
    let found = match first.found_revision {
        0 => "is gone".to_owned(),
        revision => format!("was changed at revision {revision}"),
    };
    let by = if first.changed_by.is_empty() { String::new() } else { format!(" by {}", first.changed_by) };
    let seen = match first.expected_revision {
        0 => "this change expects that it does not exist".to_owned(),
        revision => format!("this change is based on revision {revision}"),
    };
    let more = match conflicts.len() {
        0 | 1 => String::new(),
        n => format!(" (and {} more)", n - 1),
    };
    format!("{what} {found}{by}; {seen}{more}")
}

/// `1 client`, `2 clients`.
pub(crate) fn counted(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}
