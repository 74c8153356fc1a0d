//! What an environment's state is made of: named entries of bytes.
//!
//! Flags, segments, kills and tombstones are all entries, so the log, the stream, the digest and the disk
//! treat them alike and need not understand them. A kind that this version does not know keeps its number
//! and its bytes: it is kept, hashed and passed on. What the bytes mean stands in `definition` and `canonical`.

use std::fmt;
use std::sync::Arc;

use crate::key::{FlagKey, SegmentKey};
use crate::revision::Revision;

/// The kind of an entry. The numbers are part of the protocol and of the digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryKind(u32);

impl EntryKind {
    /// A flag's definition. Key: the flag's.
    pub const FLAG: EntryKind = EntryKind(1);
    /// A segment's definition. Key: the segment's.
    pub const SEGMENT: EntryKind = EntryKind(2);
    /// A kill: it forces the flag of the same key to its off variant. Key: the flag's.
    pub const KILL: EntryKind = EntryKind(3);
    /// What an archived flag leaves behind: its type and salt for ever, and its last definition. Key: the flag's.
    pub const TOMBSTONE: EntryKind = EntryKind(4);
    /// What an archived segment leaves behind: its last definition. Key: the segment's.
    pub const SEGMENT_TOMBSTONE: EntryKind = EntryKind(5);
    /// Some of the units of a long list of a segment. Key: see [`PartName`](crate::part::PartName).
    pub const SEGMENT_PART: EntryKind = EntryKind(6);

    /// The kind with this number, known to this version or not.
    #[must_use]
    pub const fn from_number(number: u32) -> EntryKind {
        EntryKind(number)
    }

    /// The number, as it stands on the wire and in the digest.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The word for people; `None` for a kind that this version does not know.
    #[must_use]
    pub const fn word(self) -> Option<&'static str> {
        match self.0 {
            1 => Some("flag"),
            2 => Some("segment"),
            3 => Some("kill"),
            4 => Some("tombstone"),
            5 => Some("segment tombstone"),
            6 => Some("segment part"),
            _ => None,
        }
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.word() {
            Some(word) => f.write_str(word),
            None => write!(f, "entry of unknown kind {}", self.0),
        }
    }
}

impl fmt::Debug for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Names one entry of an environment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// What sort of entry.
    pub kind: EntryKind,
    /// Its key; checked by whoever writes the entry, kept as it is by whoever passes it on.
    pub key: Arc<str>,
}

impl EntryId {
    /// Names an entry without checking the key.
    #[must_use]
    pub fn new(kind: EntryKind, key: &str) -> EntryId {
        EntryId { kind, key: key.into() }
    }

    /// The definition of a flag.
    #[must_use]
    pub fn flag(key: &FlagKey) -> EntryId {
        EntryId::new(EntryKind::FLAG, key.as_str())
    }

    /// The definition of a segment.
    #[must_use]
    pub fn segment(key: &SegmentKey) -> EntryId {
        EntryId::new(EntryKind::SEGMENT, key.as_str())
    }

    /// The definition that the entry is a piece of: of a part the segment's, else the entry itself.
    #[must_use]
    pub fn whole(&self) -> EntryId {
        match self.key.split_once('/') {
            Some((segment, _)) if self.kind == EntryKind::SEGMENT_PART => {
                EntryId::new(EntryKind::SEGMENT, segment)
            }
            _ => self.clone(),
        }
    }

    /// The kill of a flag.
    #[must_use]
    pub fn kill(key: &FlagKey) -> EntryId {
        EntryId::new(EntryKind::KILL, key.as_str())
    }

    /// The tombstone of a flag.
    #[must_use]
    pub fn tombstone(key: &FlagKey) -> EntryId {
        EntryId::new(EntryKind::TOMBSTONE, key.as_str())
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.kind, self.key)
    }
}

/// One edit of one entry: its bytes afterwards, or that it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryWrite {
    /// The entry.
    pub id: EntryId,
    /// The bytes after the change; `None` when the change removes the entry.
    pub bytes: Option<Arc<[u8]>>,
}

impl EntryWrite {
    /// Sets an entry.
    #[must_use]
    pub fn set(id: EntryId, bytes: impl Into<Arc<[u8]>>) -> EntryWrite {
        EntryWrite { id, bytes: Some(bytes.into()) }
    }

    /// Removes an entry.
    #[must_use]
    pub fn remove(id: EntryId) -> EntryWrite {
        EntryWrite { id, bytes: None }
    }
}

/// An entry as a state holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// The stored bytes, exactly as the change wrote them.
    pub bytes: Arc<[u8]>,
    /// The change that wrote them. Entries of one change are put in use together or not at all.
    pub revision: Revision,
}
