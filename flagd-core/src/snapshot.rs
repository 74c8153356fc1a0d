//! placeholder: owned by core B
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::context::Context;
use crate::definition::FlagType;
use crate::entry::EntryId;
use crate::revision::Position;
use crate::state::State;
use crate::time::Timestamp;

/// An environment at one revision, compiled for evaluation. Immutable; the next one is derived from it.
#[derive(Debug)]
pub struct Snapshot {
    position: Position,
}

/// Which entries a new snapshot must look at.
#[derive(Clone, Copy, Debug)]
pub enum Touched<'a> {
    /// All of them: the state was loaded whole.
    All,
    /// These; all others have the bytes that the previous snapshot saw.
    Only(&'a [EntryId]),
}

/// An entry that is not in use as the state holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The entry.
    pub id: EntryId,
    /// Why, as a sentence.
    pub why: Arc<str>,
    /// The bytes of the version that still serves; `None` when there is none.
    pub last_good: Option<Arc<[u8]>>,
}

/// What a flag serves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation<'s> {
    /// The value; `None` when the caller's default is due.
    pub value: Option<&'s Value>,
    /// The variant's name; `None` when the caller's default is due or a kill could not name it.
    pub variant: Option<&'s str>,
    /// Why.
    pub reason: Reason<'s>,
    /// The state that answered.
    pub position: Position,
}

/// Why a flag serves what it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason<'s> {
    /// No such flag: the caller's default.
    NotFound,
    /// The flag's definition is not understood and there is no last good one: the caller's default.
    Refused,
    /// The flag is killed: its off variant.
    Killed,
    /// The flag is disabled: its off variant.
    Disabled,
    /// This required flag does not serve what is required: the off variant.
    Requirement(&'s str),
    /// This rule held.
    Rule(&'s str),
    /// No rule held.
    Otherwise,
    /// The split that was due found no unit: the off variant.
    NoUnit,
}

impl Snapshot {
    /// A snapshot of a state, with the last good versions of entries that it may not understand.
    #[must_use]
    pub fn build(_state: &State, _last_good: &BTreeMap<EntryId, Arc<[u8]>>) -> Snapshot {
        todo!()
    }

    /// The snapshot of `state`, keeping what did not change, and the last good version of what is refused.
    #[must_use]
    pub fn derive(&self, _state: &State, _touched: Touched<'_>) -> Snapshot {
        todo!()
    }

    /// Epoch, revision and digest of the state that this snapshot was made of.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// The entries that are not in use as the state holds them, by id.
    #[must_use]
    pub fn refused(&self) -> Vec<Refusal> {
        todo!()
    }

    /// What `key` serves to `context` at `now`. Total: no panic, lock, allocation, I/O.
    pub fn evaluate<'s>(&'s self, _key: &str, _context: &Context, _now: Timestamp) -> Evaluation<'s> {
        todo!()
    }

    /// Like [`Snapshot::evaluate`]; asks for the time only where a condition depends on it.
    pub fn evaluate_lazily<'s>(&'s self, _key: &str, _context: &Context, _now: impl Fn() -> Timestamp) -> Evaluation<'s> {
        todo!()
    }

    /// The same evaluation, telling every step.
    #[must_use]
    pub fn explain(&self, _key: &str, _context: &Context, _now: Timestamp) -> Explanation {
        todo!()
    }

    /// The keys of all flags that can be evaluated, in byte order.
    #[must_use]
    pub fn flag_keys(&self) -> Vec<&str> {
        todo!()
    }

    /// The type of a flag; `None` when there is no such flag or no good version of it.
    #[must_use]
    pub fn flag_type(&self, _key: &str) -> Option<FlagType> {
        todo!()
    }
}

/// An evaluation with every step that led to it, ready to be shown or serialised.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Explanation {
    /// The flag asked for.
    pub flag: String,
    /// The value served; `None` (JSON null) when the caller's default is due.
    pub value: Option<Value>,
    /// The variant served.
    pub variant: Option<String>,
    /// The reason, as [`Reason`] prints it.
    pub reason: String,
    /// The revision that answered.
    pub revision: u64,
    /// What was looked at, in order, as sentences with a depth for indentation.
    pub steps: Vec<Step>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Step {
    /// How deep below the flag: a rule is 0, its condition 1 ...
    pub depth: u32,
    /// What was looked at: `rule "dach"`, `attribute country in ["DE", "AT"]`, `split by companyId`.
    pub what: String,
    /// What came out: `held`, `did not hold: country is "FR"`, `not reached`, `point 123456 of "user-1" lies in on (0..250000)`.
    pub outcome: String,
}
