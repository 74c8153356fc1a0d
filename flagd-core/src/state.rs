//! Everything an environment holds at one revision, as bytes.
//!
//! A state is what servers and clients agree about: entries, and the digest over them. It applies a change
//! only to exactly the state that the change starts from and only if the digest comes out as promised, so a
//! lost, doubled or reordered change becomes an error and never a silent divergence. It does not understand
//! the entries; that is the snapshot's work, and a state may hold entries that no snapshot can compile.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::definition::SegmentList;
use crate::entry::{EntryId, EntryKind, EntryWrite, StoredEntry};
use crate::key::EnvironmentName;
use crate::part::{self, PartNumber};
use crate::revision::{Digest, EntryHash, Epoch, Position, Revision};

/// An environment at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    environment: EnvironmentName,
    epoch: Epoch,
    revision: Revision,
    digest: Digest,
    entries: BTreeMap<EntryId, StoredEntry>,
}

/// One change on its way to a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// The history it belongs to.
    pub epoch: Epoch,
    /// The revision it applies to.
    pub from: Revision,
    /// The revision it makes: always the one after `from`.
    pub to: Revision,
    /// The digest afterwards.
    pub digest_after: Digest,
    /// The entries it sets or removes, each at most once.
    pub writes: Vec<EntryWrite>,
}

/// Why a delta does not apply. The state is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeltaError {
    /// The delta is of another history. Do: ask for the full state.
    #[error("the change belongs to epoch {found}, this state to {expected}")]
    OtherEpoch {
        /// The state's epoch.
        expected: Epoch,
        /// The delta's epoch.
        found: Epoch,
    },
    /// The delta starts elsewhere. Do: ask for the full state, or skip it when it is of the past.
    #[error("the change applies to revision {found}, this state is at {expected}")]
    OtherRevision {
        /// The state's revision.
        expected: Revision,
        /// Where the delta starts.
        found: Revision,
    },
    /// The bytes do not add up to the promised digest. Do: ask for the full state.
    #[error("the change promises digest {expected}, its bytes give {found}")]
    OtherDigest {
        /// What the delta promised.
        expected: Digest,
        /// What came out.
        found: Digest,
    },
}

impl State {
    /// An environment without entries, at revision 0.
    #[must_use]
    pub fn empty(environment: EnvironmentName, epoch: Epoch) -> State {
        let digest = Digest::empty(&environment);
        State { environment, epoch, revision: Revision::ZERO, digest, entries: BTreeMap::new() }
    }

    /// A state from its entries; the digest is computed.
    #[must_use]
    pub fn from_entries(
        environment: EnvironmentName,
        epoch: Epoch,
        revision: Revision,
        entries: impl IntoIterator<Item = (EntryId, StoredEntry)>,
    ) -> State {
        let mut state = State { revision, ..State::empty(environment, epoch) };
        for (id, entry) in entries {
            state.digest = state.digest.plus(EntryHash::of(&id, &entry.bytes));
            if let Some(double) = state.entries.insert(id.clone(), entry) {
                state.digest = state.digest.minus(EntryHash::of(&id, &double.bytes));
            }
        }
        state
    }

    /// The environment's name.
    #[must_use]
    pub fn environment(&self) -> &EnvironmentName {
        &self.environment
    }

    /// Epoch, revision and digest.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, revision: self.revision, digest: self.digest }
    }

    /// The revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// One entry.
    #[must_use]
    pub fn get(&self, id: &EntryId) -> Option<&StoredEntry> {
        self.entries.get(id)
    }

    /// All entries, by kind and key.
    pub fn entries(&self) -> impl Iterator<Item = (&EntryId, &StoredEntry)> {
        self.entries.iter()
    }

    /// All entries of one kind, by key.
    pub fn entries_of(&self, kind: EntryKind) -> impl Iterator<Item = (&EntryId, &StoredEntry)> {
        self.entries.range(EntryId::new(kind, "")..).take_while(move |(id, _)| id.kind == kind)
    }

    /// The parts of one of a segment's lists, by number. Keys that name no part are passed over.
    pub fn parts_of(
        &self,
        segment: &str,
        list: SegmentList,
    ) -> impl Iterator<Item = (PartNumber, &EntryId, &StoredEntry)> {
        let (first, prefix) = part::range(segment, list);
        let number = move |id: &EntryId| {
            let digits = id.key.strip_prefix(&prefix).filter(|_| id.kind == EntryKind::SEGMENT_PART)?;
            Some(PartNumber::of_digits(digits))
        };
        let within = self.entries.range(first..).map_while(move |(id, entry)| Some((number(id)?, id, entry)));
        within.filter_map(|(number, id, entry)| Some((number?, id, entry)))
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The digest that these writes would give. Later writes of one entry win over earlier ones.
    #[must_use]
    pub fn digest_after(&self, writes: &[EntryWrite]) -> Digest {
        let mut last: BTreeMap<&EntryId, Option<&Arc<[u8]>>> = BTreeMap::new();
        for write in writes {
            last.insert(&write.id, write.bytes.as_ref());
        }
        let mut digest = self.digest;
        for (id, bytes) in last {
            if let Some(old) = self.entries.get(id) {
                digest = digest.minus(EntryHash::of(id, &old.bytes));
            }
            if let Some(new) = bytes {
                digest = digest.plus(EntryHash::of(id, new));
            }
        }
        digest
    }

    /// Goes one change further.
    ///
    /// # Errors
    /// [`DeltaError`] when the delta starts elsewhere or its digest is wrong; the state is then unchanged.
    pub fn apply(&mut self, delta: &Delta) -> Result<(), DeltaError> {
        if delta.epoch != self.epoch {
            return Err(DeltaError::OtherEpoch { expected: self.epoch, found: delta.epoch });
        }
        if delta.from != self.revision || delta.to != self.revision.next() {
            return Err(DeltaError::OtherRevision { expected: self.revision, found: delta.from });
        }
        let found = self.digest_after(&delta.writes);
        if found != delta.digest_after {
            return Err(DeltaError::OtherDigest { expected: delta.digest_after, found });
        }
        for write in &delta.writes {
            match &write.bytes {
                Some(bytes) => {
                    let entry = StoredEntry { bytes: Arc::clone(bytes), revision: delta.to };
                    self.entries.insert(write.id.clone(), entry);
                }
                None => drop(self.entries.remove(&write.id)),
            }
        }
        self.digest = found;
        self.revision = delta.to;
        Ok(())
    }

    /// The delta that these writes make of this state.
    #[must_use]
    pub fn delta(&self, writes: Vec<EntryWrite>) -> Delta {
        Delta {
            epoch: self.epoch,
            from: self.revision,
            to: self.revision.next(),
            digest_after: self.digest_after(&writes),
            writes,
        }
    }

    /// The same entries at the beginning of a younger history.
    pub fn start_epoch(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State::empty(EnvironmentName::new("default").unwrap(), Epoch::default())
    }

    fn set(key: &str, bytes: &str) -> EntryWrite {
        EntryWrite::set(EntryId::new(EntryKind::FLAG, key), bytes.as_bytes())
    }

    #[test]
    fn deltas_give_what_the_full_state_gives() {
        let mut state = state();
        for writes in [
            vec![set("a", "1"), set("b", "2")],
            vec![set("a", "3"), EntryWrite::remove(EntryId::new(EntryKind::FLAG, "b"))],
            vec![EntryWrite::remove(EntryId::new(EntryKind::FLAG, "never"))],
        ] {
            let delta = state.delta(writes);
            state.apply(&delta).unwrap();
        }
        let entries: Vec<_> = state.entries().map(|(id, entry)| (id.clone(), entry.clone())).collect();
        let full = State::from_entries(state.environment.clone(), state.epoch, state.revision, entries);
        assert_eq!(full, state);
        assert_eq!(state.len(), 1);
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let mut state = state();
        let first = state.delta(vec![set("a", "1")]);
        state.apply(&first).unwrap();
        let before = state.clone();
        assert!(matches!(state.apply(&first), Err(DeltaError::OtherRevision { .. })));
        let mut forged = state.delta(vec![set("a", "2")]);
        forged.writes = vec![set("a", "9")];
        assert!(matches!(state.apply(&forged), Err(DeltaError::OtherDigest { .. })));
        let mut foreign = state.delta(vec![]);
        foreign.epoch = Epoch { minted_ms: 1, random: 1 };
        assert!(matches!(state.apply(&foreign), Err(DeltaError::OtherEpoch { .. })));
        assert_eq!(state, before);
    }

    #[test]
    fn one_kind_is_listed_alone() {
        let mut state = state();
        let kill = EntryWrite::set(EntryId::new(EntryKind::KILL, "a"), *b"{}");
        let delta = state.delta(vec![set("a", "1"), kill, set("b", "1")]);
        state.apply(&delta).unwrap();
        let keys: Vec<_> = state.entries_of(EntryKind::FLAG).map(|(id, _)| id.key.to_string()).collect();
        assert_eq!(keys, ["a", "b"]);
    }
}
