//! An answer with its reasons.
//!
//! A plain getter gives a value; the `_detail` getters say why it is that value, at which revision, and
//! whether a server still confirms it. These types own their text, so that an answer may be logged after the
//! snapshot that gave it is gone. They do not know how an answer is found.

use std::fmt;
use std::time::Duration;

use flagd_core::snapshot::Reason as CoreReason;

/// A value and why it is served.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Detail<T> {
    /// What the plain getter returns.
    pub value: T,
    /// The variant that was served; `None` when the caller's default was.
    pub variant: Option<String>,
    /// Why.
    pub reason: Reason,
    /// The revision of the state that answered; 0 before there is one.
    pub revision: u64,
    /// Whether a server confirms that this is the newest state.
    pub stale: Staleness,
}

/// Why a flag serves what it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// There is no state yet: the caller's default.
    NotReady,
    /// No such flag: the caller's default.
    NotFound,
    /// The flag has another type than the getter: the caller's default.
    TypeMismatch,
    /// This client does not understand the flag's definition and has no last good one: the caller's default.
    Refused,
    /// The flag is killed: its off variant.
    Killed,
    /// The flag is disabled: its off variant.
    Disabled,
    /// This required flag does not serve what is required: the off variant.
    Requirement(String),
    /// This rule held.
    Rule(String),
    /// No rule held.
    Otherwise,
    /// The split that was due found no unit in the context: the off variant.
    NoUnit,
    /// The engine gave a reason that this version of the client has no word for.
    Other,
}

impl Reason {
    pub(crate) fn of(reason: CoreReason<'_>) -> Reason {
        match reason {
            CoreReason::NotFound => Reason::NotFound,
            CoreReason::Refused => Reason::Refused,
            CoreReason::Killed => Reason::Killed,
            CoreReason::Disabled => Reason::Disabled,
            CoreReason::Requirement(flag) => Reason::Requirement(flag.to_owned()),
            CoreReason::Rule(name) => Reason::Rule(name.to_owned()),
            CoreReason::Otherwise => Reason::Otherwise,
            CoreReason::NoUnit => Reason::NoUnit,
            _ => Reason::Other,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Requirement(flag) => write!(f, "Requirement({flag})"),
            Reason::Rule(name) => write!(f, "Rule({name})"),
            other => fmt::Debug::fmt(other, f),
        }
    }
}

/// Whether a server confirms the state that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Staleness {
    /// A connected server says that this is its state; or there is no server by design (embedded, tests).
    Current,
    /// No server confirms it at the moment. Values never expire: what to do about their age is yours to say.
    Stale {
        /// How long ago a server last confirmed it; `None` when none ever did.
        age: Option<Duration>,
    },
}

impl Staleness {
    /// Whether no server confirms the state at the moment.
    #[must_use]
    pub fn is_stale(self) -> bool {
        matches!(self, Staleness::Stale { .. })
    }
}

impl fmt::Display for Staleness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Staleness::Current => f.write_str("current"),
            Staleness::Stale { age: None } => f.write_str("stale, never confirmed by a server"),
            Staleness::Stale { age: Some(age) } => {
                write!(f, "stale, last confirmed {} s ago", age.as_secs())
            }
        }
    }
}
