//! An environment at one revision, compiled for evaluation.
//!
//! A snapshot is immutable and answers from itself alone: one pointer swap puts a whole change in use, and
//! whoever holds a snapshot sees one revision for as long as they like. The next snapshot is derived from the
//! last one and shares everything that did not change, which is also how a refused definition keeps its last
//! good version. `docs/evaluation.md` says what the answers mean; this file does not know where states come from.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::context::Context;
use crate::definition::FlagType;
use crate::entry::{EntryId, EntryKind};
use crate::part::PartName;
use crate::revision::{Position, Revision};
use crate::state::State;
use crate::time::Timestamp;

mod circle;
mod compile;
mod condition;
mod evaluate;
mod explain;
mod index;
mod ladder;
mod part;
mod refusal;
mod short;
mod slot;
mod slots;
mod stretch;
mod unit;
mod unit_set;
mod version;

use compile::{Compiler, Definition};
use refusal::Held;
use slot::{FlagSlot, SegmentSlot};
use slots::Slots;

pub use short::ShortWay;

/// An environment at one revision, compiled for evaluation. Immutable; the next one is derived from it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    position: Position,
    flags: Slots<FlagSlot>,
    segments: Slots<SegmentSlot>,
    /// The entries that are not in use as the state holds them.
    held: Arc<BTreeMap<EntryId, Held>>,
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

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NotFound => f.write_str("NotFound"),
            Reason::Refused => f.write_str("Refused"),
            Reason::Killed => f.write_str("Killed"),
            Reason::Disabled => f.write_str("Disabled"),
            Reason::Requirement(flag) => write!(f, "Requirement({flag})"),
            Reason::Rule(name) => write!(f, "Rule({name})"),
            Reason::Otherwise => f.write_str("Otherwise"),
            Reason::NoUnit => f.write_str("NoUnit"),
        }
    }
}

impl Snapshot {
    /// A snapshot of a state, with the last good versions of entries that it may not understand.
    #[must_use]
    pub fn build(state: &State, last_good: &BTreeMap<EntryId, Arc<[u8]>>) -> Snapshot {
        let nowhere = Position { revision: Revision::ZERO, ..state.position() };
        let mut start = Snapshot { position: nowhere, ..Snapshot::empty() };
        for (id, bytes) in last_good {
            let mut compiler = Compiler::new(&mut start.flags, &mut start.segments);
            if let Ok(definition) = compiler.definition(id, bytes) {
                start.put_in_use(id, Some(&definition));
            }
        }
        start.derive(state, Touched::All)
    }

    /// The snapshot of `state`, keeping what did not change, and the last good version of what is refused.
    #[must_use]
    pub fn derive(&self, state: &State, touched: Touched<'_>) -> Snapshot {
        refusal::derive(self, state, touched)
    }

    /// Epoch, revision and digest of the state that this snapshot was made of.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// The entries that are refused, by id: their last good versions serve, or nothing does. Bytes that came again
    /// with a change that is refused are listed too, though what serves is the same.
    #[must_use]
    pub fn refused(&self) -> Vec<Refusal> {
        let refusal = |(id, held): (&EntryId, &Held)| Refusal {
            id: id.clone(),
            why: Arc::clone(&held.why),
            last_good: match self.in_use(id) {
                Some(definition) => Some(Arc::clone(&definition.origin().bytes)),
                // Known to have been empty, which is more than not to be known.
                None => self.is_empty_part(id).then(|| Arc::from(*b"[]")),
            },
        };
        self.held.iter().map(refusal).collect()
    }

    /// What `key` serves to `context` at `now`. Total: no panic, lock, allocation, I/O.
    #[must_use]
    #[inline]
    pub fn evaluate<'s>(&'s self, key: &str, context: &Context, now: Timestamp) -> Evaluation<'s> {
        self.evaluate_lazily(key, context, || now)
    }

    /// Like [`Snapshot::evaluate`]; asks for the time only where a condition depends on it, and then once.
    #[must_use]
    #[inline]
    pub fn evaluate_lazily<'s>(
        &'s self,
        key: &str,
        context: &Context,
        now: impl Fn() -> Timestamp,
    ) -> Evaluation<'s> {
        match self.flag(key) {
            Some(flag) => flag.evaluate_lazily(context, now),
            None => self.told(evaluate::nothing(Reason::NotFound)),
        }
    }

    /// The flag of a name. A name may be known whose flag is gone; evaluating that gives `NotFound`.
    #[must_use]
    #[inline]
    pub fn flag(&self, key: &str) -> Option<FlagRef<'_>> {
        let found = self.flags.find_with_slot(key);
        found.map(|(place, slot)| FlagRef { snapshot: self, slot, place: Place(place) })
    }

    /// Names of flags that may be another thing here than in `other`, or that `other` does not have: these and no
    /// others can differ in what they serve. What both share costs nothing.
    pub fn differing<'a>(&'a self, other: &'a Snapshot) -> impl Iterator<Item = (Place, &'a str, ShortWay)> {
        self.flags.unshared(&other.flags).map(|(slot, key, flag)| (Place(slot), key, flag.short_way()))
    }

    /// How many names of flags it knows, those of flags that are gone included.
    #[must_use]
    pub fn names(&self) -> usize {
        self.flags.len()
    }

    /// A snapshot of nothing, to differ from.
    #[must_use]
    pub fn empty() -> Snapshot {
        Snapshot {
            position: Position::default(),
            flags: Slots::default(),
            segments: Slots::default(),
            held: Arc::default(),
        }
    }

    /// The flag of a name that probably stands at this place: there no name is looked up.
    #[must_use]
    #[inline]
    pub fn flag_at(&self, place: Place, key: &str) -> Option<FlagRef<'_>> {
        match self.flags.find_at(place.0, key) {
            Some(slot) => Some(FlagRef { snapshot: self, slot, place }),
            None => self.flag(key),
        }
    }

    #[inline]
    fn told<'s>(&self, served: evaluate::Served<'s>) -> Evaluation<'s> {
        Evaluation {
            value: served.value,
            variant: served.variant,
            reason: served.reason,
            position: self.position,
        }
    }

    /// The same evaluation, telling every step.
    #[must_use]
    pub fn explain(&self, key: &str, context: &Context, now: Timestamp) -> Explanation {
        explain::explain(self, key, context, now)
    }

    /// The keys of all flags that can be evaluated, in byte order.
    #[must_use]
    pub fn flag_keys(&self) -> Vec<&str> {
        let mut keys: Vec<&str> =
            self.flags.iter().filter(|(_, slot)| slot.can_be_evaluated()).map(|(key, _)| key).collect();
        keys.sort_unstable();
        keys
    }

    /// The type of a flag; `None` when there is no such flag or no good version of it.
    #[must_use]
    pub fn flag_type(&self, key: &str) -> Option<FlagType> {
        let slot = self.flags.find(key)?;
        let of_kill = || slot.kill()?.value.as_ref().and_then(FlagType::of);
        slot.flag().map(|flag| flag.value_type).or_else(of_kill)
    }

    /// The definition in use under an id.
    fn in_use(&self, id: &EntryId) -> Option<Definition> {
        match id.kind {
            EntryKind::FLAG => self.flags.find(&id.key)?.flag().cloned().map(Definition::Flag),
            EntryKind::SEGMENT => self.segments.find(&id.key)?.segment.clone().map(Definition::Segment),
            EntryKind::SEGMENT_PART => {
                let name = PartName::of(id)?;
                let parts = self.segments.find(name.segment.as_str())?.parts.as_ref()?;
                parts.get(name.list, name.number).cloned().map(Definition::Part)
            }
            _ => None,
        }
    }

    /// Whether the list of a segment in use has nobody in this part.
    fn is_empty_part(&self, id: &EntryId) -> bool {
        let Some(name) = PartName::of(id) else { return false };
        let segment = self.segments.find(name.segment.as_str()).and_then(|slot| slot.segment.as_ref());
        segment.is_some_and(|segment| segment.keeps_in_parts(name.list)) && self.in_use(id).is_none()
    }

    /// Every definition in use that can refer to others.
    fn all_in_use(&self) -> impl Iterator<Item = (EntryId, Definition)> {
        let flags = self.flags.iter().filter_map(|(key, slot)| {
            Some((EntryId::new(EntryKind::FLAG, key), Definition::Flag(slot.flag().cloned()?)))
        });
        flags.chain(self.segments.iter().filter_map(|(key, slot)| {
            Some((EntryId::new(EntryKind::SEGMENT, key), Definition::Segment(slot.segment.clone()?)))
        }))
    }

    /// Puts a definition in use, or none. What is in use already is left alone: touching it would copy a chunk.
    fn put_in_use(&mut self, id: &EntryId, definition: Option<&Definition>) {
        let bytes_of = |definition: &Definition| Arc::clone(&definition.origin().bytes);
        if self.in_use(id).as_ref().map(bytes_of) == definition.map(bytes_of) {
            return;
        }
        let (mut flag, mut segment, mut part) = (None, None, None);
        match definition {
            Some(Definition::Flag(new)) => flag = Some(Arc::clone(new)),
            Some(Definition::Segment(new)) => segment = Some(Arc::clone(new)),
            Some(Definition::Part(new)) => part = Some(Arc::clone(new)),
            None => {}
        }
        match (id.kind, PartName::of(id)) {
            (EntryKind::FLAG, _) => self.flags.change(&id.key, |slot| slot.set_flag(flag)),
            (EntryKind::SEGMENT, _) => self.segments.change(&id.key, |slot| slot.segment = segment),
            (_, Some(PartName { segment, list, number })) => {
                self.segments.change(segment.as_str(), |slot| slot.set_part(list, number, part));
            }
            _ => {}
        }
    }
}

/// Where the name of a flag stands in a snapshot, and most likely in others derived from it. Only a hint: whoever
/// uses it says the name too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(slots::Slot);

impl Place {
    /// As a number that [`Place::from_number`] takes back.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }

    /// The place of this number.
    #[must_use]
    pub const fn from_number(number: u32) -> Place {
        Place(number)
    }
}

/// One flag of a snapshot, its name looked up.
#[derive(Clone, Copy, Debug)]
pub struct FlagRef<'s> {
    snapshot: &'s Snapshot,
    slot: &'s slot::FlagSlot,
    place: Place,
}

impl<'s> FlagRef<'s> {
    /// Where its name stands.
    #[must_use]
    #[inline]
    pub fn place(self) -> Place {
        self.place
    }

    /// The short way to what it serves.
    #[must_use]
    #[inline]
    pub fn short_way(self) -> ShortWay {
        self.slot.short_way()
    }

    /// What it serves; asks for the time only where a condition depends on it, and then once.
    #[must_use]
    #[inline]
    pub fn evaluate_lazily(self, context: &Context, now: impl Fn() -> Timestamp) -> Evaluation<'s> {
        self.snapshot.told(evaluate::serve(self.snapshot, self.slot, context, now))
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

#[cfg(test)]
mod tests;
