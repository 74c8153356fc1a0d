//! An environment's definitions, each parsed at most once and only when somebody looks at it.
//!
//! Parsing 100,000 definitions to change one would make every change slow; parsing one definition at each
//! look would make large changes quadratic. A view parses on demand and remembers. A second view can lie over
//! the first: the environment as it would be after some writes, sharing all that they do not touch.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::EditError;
use crate::check::Definitions;
use crate::definition::{
    FlagDefinition, Kill, SegmentDefinition, SegmentList, Tombstone, parse_flag, parse_kill, parse_segment,
    parse_tombstone,
};
use crate::entry::{EntryId, EntryKind, EntryWrite};
use crate::key::{FlagKey, SegmentKey, VariantName};
use crate::part::{self, PartNumber};
use crate::problem::{Problem, nearest};
use crate::revision::Revision;
use crate::state::State;

/// The definitions of a state, or of a state after some writes.
#[derive(Debug)]
pub(super) struct View<'a> {
    state: &'a State,
    under: Option<&'a View<'a>>,
    written: BTreeMap<&'a EntryId, Option<&'a Arc<[u8]>>>,
    flags: BTreeMap<&'a str, Slot<'a, FlagDefinition>>,
    segments: BTreeMap<&'a str, Slot<'a, SegmentDefinition>>,
    reach: RefCell<BTreeMap<FlagKey, Reach>>,
}

/// The variants that a flag can serve; `None` when that cannot be told.
type Reach = Option<BTreeSet<VariantName>>;

#[derive(Debug)]
struct Slot<'a, T> {
    /// `None` when a write removes it.
    bytes: Option<&'a Arc<[u8]>>,
    parsed: OnceCell<Result<Box<T>, Vec<Problem>>>,
}

impl<'a, T> Slot<'a, T> {
    fn new(bytes: Option<&'a Arc<[u8]>>) -> Slot<'a, T> {
        Slot { bytes, parsed: OnceCell::new() }
    }

    fn parsed(&self, parse: impl Fn(&str) -> Result<T, Vec<Problem>>) -> Option<Result<&T, &[Problem]>> {
        let bytes = self.bytes?;
        let parsed = self.parsed.get_or_init(|| match std::str::from_utf8(bytes) {
            Ok(text) => parse(text).map(Box::new),
            Err(error) => Err(vec![Problem::new("", format!("the stored bytes are not text: {error}"))]),
        });
        Some(parsed.as_deref().map_err(Vec::as_slice))
    }
}

fn bad_key(error: &crate::key::NameError) -> Vec<Problem> {
    vec![Problem::new("", error.to_string())]
}

impl<'a> View<'a> {
    /// The state as it is.
    pub(super) fn of(state: &'a State) -> View<'a> {
        let flags = state.entries_of(EntryKind::FLAG);
        let segments = state.entries_of(EntryKind::SEGMENT);
        View {
            state,
            under: None,
            written: BTreeMap::new(),
            flags: flags.map(|(id, entry)| (&*id.key, Slot::new(Some(&entry.bytes)))).collect(),
            segments: segments.map(|(id, entry)| (&*id.key, Slot::new(Some(&entry.bytes)))).collect(),
            reach: RefCell::default(),
        }
    }

    /// The environment as these writes would leave it.
    pub(super) fn after(&'a self, writes: &'a [EntryWrite]) -> View<'a> {
        let of_kind = |kind| writes.iter().filter(move |write| write.id.kind == kind);
        View {
            state: self.state,
            under: Some(self),
            written: writes.iter().map(|write| (&write.id, write.bytes.as_ref())).collect(),
            flags: of_kind(EntryKind::FLAG).map(|w| (&*w.id.key, Slot::new(w.bytes.as_ref()))).collect(),
            segments: of_kind(EntryKind::SEGMENT)
                .map(|w| (&*w.id.key, Slot::new(w.bytes.as_ref())))
                .collect(),
            reach: RefCell::default(),
        }
    }

    /// The bytes of an entry.
    pub(super) fn bytes(&self, id: &EntryId) -> Option<&'a Arc<[u8]>> {
        match self.written.get(id) {
            Some(bytes) => *bytes,
            None => match self.under {
                Some(under) => under.bytes(id),
                None => self.state.get(id).map(|entry| &entry.bytes),
            },
        }
    }

    /// The parts of one of a segment's lists.
    pub(super) fn parts(&self, segment: &str, list: SegmentList) -> BTreeMap<PartNumber, &'a Arc<[u8]>> {
        let Some(under) = self.under else {
            let parts = self.state.parts_of(segment, list);
            return parts.map(|(number, _, entry)| (number, &entry.bytes)).collect();
        };
        let mut parts = under.parts(segment, list);
        let (first, prefix) = part::range(segment, list);
        let written = self.written.range::<EntryId, _>(first..);
        let is_of_list = |id: &EntryId| id.kind == EntryKind::SEGMENT_PART && id.key.starts_with(&prefix);
        for (id, bytes) in written.take_while(|(id, _)| is_of_list(id)) {
            let Some(number) = id.key.strip_prefix(&prefix).and_then(PartNumber::of_digits) else { continue };
            match bytes {
                Some(bytes) => drop(parts.insert(number, bytes)),
                None => drop(parts.remove(&number)),
            }
        }
        parts
    }

    /// The revision that wrote an entry of the state below all writes.
    pub(super) fn revision(&self, id: &EntryId) -> Revision {
        self.state.get(id).map_or(self.state.revision(), |entry| entry.revision)
    }

    /// How many entries of a kind there are.
    pub(super) fn count(&self, kind: EntryKind) -> usize {
        let Some(under) = self.under else { return self.state.entries_of(kind).count() };
        let written = self.written.iter().filter(|(id, _)| id.kind == kind);
        written.fold(under.count(kind), |count, (id, bytes)| match (under.bytes(id), bytes) {
            (None, Some(_)) => count + 1,
            (Some(_), None) => count.saturating_sub(1),
            _ => count,
        })
    }

    /// A flag's definition, or why it is not understood; `None` when there is none.
    pub(super) fn read_flag(&self, key: &str) -> Option<Result<&FlagDefinition, &[Problem]>> {
        match (self.flags.get(key), self.under) {
            (Some(slot), _) => slot.parsed(|text| match FlagKey::new(key) {
                Ok(key) => parse_flag(&key, text),
                Err(error) => Err(bad_key(&error)),
            }),
            (None, Some(under)) => under.read_flag(key),
            (None, None) => None,
        }
    }

    /// A segment's definition, or why it is not understood; `None` when there is none.
    pub(super) fn read_segment(&self, key: &str) -> Option<Result<&SegmentDefinition, &[Problem]>> {
        match (self.segments.get(key), self.under) {
            (Some(slot), _) => slot.parsed(|text| match SegmentKey::new(key) {
                Ok(key) => parse_segment(&key, text),
                Err(error) => Err(bad_key(&error)),
            }),
            (None, Some(under)) => under.read_segment(key),
            (None, None) => None,
        }
    }

    /// A flag that is about to be rewritten.
    ///
    /// # Errors
    /// [`EditError::Unknown`], or [`EditError::NotUnderstood`] when this server may not rewrite it.
    pub(super) fn known_flag(&self, key: &FlagKey) -> Result<&FlagDefinition, EditError> {
        match self.read_flag(key.as_str()) {
            None => Err(self.unknown(EntryId::flag(key))),
            Some(Err(problems)) => Err(not_understood(EntryId::flag(key), problems)),
            Some(Ok(definition)) => Ok(definition),
        }
    }

    /// A segment that is about to be rewritten.
    ///
    /// # Errors
    /// [`EditError::Unknown`], or [`EditError::NotUnderstood`] when this server may not rewrite it.
    pub(super) fn known_segment(&self, key: &SegmentKey) -> Result<&SegmentDefinition, EditError> {
        match self.read_segment(key.as_str()) {
            None => Err(self.unknown(EntryId::segment(key))),
            Some(Err(problems)) => Err(not_understood(EntryId::segment(key), problems)),
            Some(Ok(definition)) => Ok(definition),
        }
    }

    /// The refusal of a key that does not exist, with keys of the same kind that look like it; or, for an archived
    /// one, the refusal that says so.
    pub(super) fn unknown(&self, id: EntryId) -> EditError {
        let (tombstone, option) = match id.kind {
            EntryKind::FLAG => (Some(EntryKind::TOMBSTONE), ""),
            EntryKind::SEGMENT => (Some(EntryKind::SEGMENT_TOMBSTONE), "--segment "),
            _ => (None, ""),
        };
        if tombstone.is_some_and(|kind| self.bytes(&EntryId::new(kind, &id.key)).is_some()) {
            let key = &id.key;
            let nobody = if id.kind == EntryKind::FLAG { ": nobody is served it" } else { "" };
            let way_out = format!("`flagctl unarchive {option}{key}` brings it back");
            return EditError::Refused(format!("{id} is archived{nobody}; {way_out}"));
        }
        let nearest = self.nearest(&id);
        EditError::Unknown { id, nearest }
    }

    /// The key of the same kind that looks most like this one.
    pub(super) fn nearest(&self, id: &EntryId) -> Vec<String> {
        let keys = self.entries(id.kind).into_iter().map(|(key, _)| key);
        nearest(&id.key, keys).map(str::to_owned).into_iter().collect()
    }

    /// The kill of a flag.
    pub(super) fn kill(&self, key: &str) -> Option<Kill> {
        self.bytes(&EntryId::new(EntryKind::KILL, key)).map(|bytes| parse_kill(bytes))
    }

    /// Whether a flag is killed.
    pub(super) fn is_killed(&self, key: &str) -> bool {
        self.bytes(&EntryId::new(EntryKind::KILL, key)).is_some()
    }

    /// What was remembered of the variants that a flag can serve.
    pub(super) fn reach(&self, key: &FlagKey) -> Option<Reach> {
        self.reach.borrow().get(key).cloned()
    }

    /// Remembers which variants a flag can serve.
    pub(super) fn remember_reach(&self, key: &FlagKey, reach: Reach) {
        self.reach.borrow_mut().insert(key.clone(), reach);
    }

    /// The tombstone of a flag; an error when it is not understood.
    pub(super) fn tombstone(&self, key: &FlagKey) -> Result<Option<Tombstone>, EditError> {
        let id = EntryId::tombstone(key);
        match self.bytes(&id).map(|bytes| parse_tombstone(bytes)) {
            None => Ok(None),
            Some(Some(tombstone)) => Ok(Some(tombstone)),
            Some(None) => Err(EditError::NotUnderstood {
                id,
                why: "it was written by a newer version of flagd".to_owned(),
            }),
        }
    }

    /// Keys and bytes of all entries of one kind, in byte order of the keys.
    pub(super) fn entries(&self, kind: EntryKind) -> Vec<(&'a str, &'a Arc<[u8]>)> {
        let Some(under) = self.under else {
            return self.state.entries_of(kind).map(|(id, entry)| (&*id.key, &entry.bytes)).collect();
        };
        let mut entries: BTreeMap<&str, &Arc<[u8]>> = under.entries(kind).into_iter().collect();
        for (id, bytes) in self.written.iter().filter(|(id, _)| id.kind == kind) {
            match bytes {
                Some(bytes) => drop(entries.insert(&id.key, bytes)),
                None => drop(entries.remove(&*id.key)),
            }
        }
        entries.into_iter().collect()
    }
}

fn not_understood(id: EntryId, problems: &[Problem]) -> EditError {
    let why = problems.first().map_or_else(|| "it cannot be read".to_owned(), ToString::to_string);
    EditError::NotUnderstood { id, why }
}

impl Definitions for View<'_> {
    fn flag(&self, key: &FlagKey) -> Option<&FlagDefinition> {
        self.read_flag(key.as_str())?.ok()
    }

    fn segment(&self, key: &SegmentKey) -> Option<&SegmentDefinition> {
        self.read_segment(key.as_str())?.ok()
    }

    fn flag_keys(&self) -> Vec<&str> {
        self.entries(EntryKind::FLAG).into_iter().map(|(key, _)| key).collect()
    }

    fn segment_keys(&self) -> Vec<&str> {
        self.entries(EntryKind::SEGMENT).into_iter().map(|(key, _)| key).collect()
    }
}
