//! Where in a history a state stands: epoch, revision, digest.
//!
//! A revision alone proves nothing once somebody restored a backup, and a digest alone cannot tell a
//! rollback from the state that it restores. The three together can: histories are ordered by epoch, changes
//! of one history by revision, and the digest says whether two parties hold the same bytes there.

use std::fmt;

use xxhash_rust::xxh3::Xxh3;

use crate::entry::EntryId;
use crate::key::EnvironmentName;

/// The number of the digest's algorithm; it travels with every digest so that it can be replaced one day.
pub const DIGEST_ALGORITHM: u32 = 1;

/// The number of a change: 1, 2, 3, ... per environment, without gaps. 0 is the empty beginning.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// The state before the first change.
    pub const ZERO: Revision = Revision(0);

    /// The revision that follows this one.
    #[must_use]
    pub const fn next(self) -> Revision {
        Revision(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The identity of a history, ordered by age: the larger one is younger and wins.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Epoch {
    /// When the history began, in milliseconds since 1970. At least one more than its predecessor's.
    pub minted_ms: u64,
    /// Random bits that tell apart two histories of the same millisecond.
    pub random: u64,
}

impl Epoch {
    /// An epoch younger than `older`, even when the clock stands before it.
    #[must_use]
    pub fn younger_than(older: Option<Epoch>, now_ms: u64, random: u64) -> Epoch {
        let floor = older.map_or(0, |epoch| epoch.minted_ms.saturating_add(1));
        Epoch { minted_ms: now_ms.max(floor), random }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}-{:016x}", self.minted_ms, self.random)
    }
}

impl std::str::FromStr for Epoch {
    type Err = ();
    /// Reads what [`fmt::Display`] writes.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (minted, random) = text.split_once('-').ok_or(())?;
        Ok(Epoch {
            minted_ms: u64::from_str_radix(minted, 16).map_err(drop)?,
            random: u64::from_str_radix(random, 16).map_err(drop)?,
        })
    }
}

/// The hash of an environment's whole state: the sum modulo 2^128 of one XXH3-128 per entry.
///
/// A sum does not depend on order and is kept up to date by one subtraction and one addition per entry. It
/// finds divergence; it is no defence against somebody who forges entries on purpose.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub u128);

impl Digest {
    /// The digest of an environment without entries. The name is hashed in, so that states of two
    /// environments never pass for each other.
    #[must_use]
    pub fn empty(environment: &EnvironmentName) -> Digest {
        let mut hash = Xxh3::new();
        feed(&mut hash, b"environment");
        feed(&mut hash, environment.as_str().as_bytes());
        Digest(hash.digest128())
    }

    /// The digest with one more entry.
    #[must_use]
    pub fn plus(self, entry: EntryHash) -> Digest {
        Digest(self.0.wrapping_add(entry.0))
    }

    /// The digest without an entry that it holds.
    #[must_use]
    pub fn minus(self, entry: EntryHash) -> Digest {
        Digest(self.0.wrapping_sub(entry.0))
    }

    /// Sixteen bytes, big-endian, for the wire.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Reads what [`Digest::to_bytes`] writes; `None` for any other length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Digest> {
        Some(Digest(u128::from_be_bytes(bytes.try_into().ok()?)))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Digest {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Digest)
    }
}

/// The share of one entry in the digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHash(pub u128);

impl EntryHash {
    /// XXH3-128, seed 0, over the kind's number (four little-endian bytes), the key and the stored
    /// bytes, each behind its length as eight little-endian bytes.
    #[must_use]
    pub fn of(id: &EntryId, bytes: &[u8]) -> EntryHash {
        let mut hash = Xxh3::new();
        feed(&mut hash, &id.kind.number().to_le_bytes());
        feed(&mut hash, id.key.as_bytes());
        feed(&mut hash, bytes);
        EntryHash(hash.digest128())
    }
}

fn feed(hash: &mut Xxh3, bytes: &[u8]) {
    hash.update(&(bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// Which state of which history: what a head is, and what a client acknowledges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Position {
    /// The history.
    pub epoch: Epoch,
    /// The last change in it.
    pub revision: Revision,
    /// The state after that change.
    pub digest: Digest,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::EntryKind;

    #[test]
    fn an_epoch_is_younger_even_with_a_clock_in_the_past() {
        let old = Epoch { minted_ms: 5_000, random: u64::MAX };
        let new = Epoch::younger_than(Some(old), 10, 0);
        assert!(new > old);
        assert_eq!(new.to_string().parse::<Epoch>(), Ok(new));
    }

    #[test]
    fn the_digest_does_not_depend_on_order_and_forgets_what_is_removed() {
        let environment = EnvironmentName::new("default").unwrap();
        let empty = Digest::empty(&environment);
        let a = EntryHash::of(&EntryId::new(EntryKind::FLAG, "a"), b"1");
        let b = EntryHash::of(&EntryId::new(EntryKind::FLAG, "b"), b"2");
        assert_eq!(empty.plus(a).plus(b), empty.plus(b).plus(a));
        assert_eq!(empty.plus(a).plus(b).minus(a), empty.plus(b));
        assert_ne!(empty, Digest::empty(&EnvironmentName::new("other").unwrap()));
    }

    #[test]
    fn lengths_keep_parts_apart() {
        let one = EntryHash::of(&EntryId::new(EntryKind::FLAG, "ab"), b"c");
        let two = EntryHash::of(&EntryId::new(EntryKind::FLAG, "a"), b"bc");
        assert_ne!(one, two);
    }

    /// The algorithm is part of the protocol: these values never change.
    #[test]
    fn golden_digest() {
        let environment = EnvironmentName::new("default").unwrap();
        let entry = EntryHash::of(&EntryId::new(EntryKind::KILL, "new-checkout"), b"{}");
        assert_eq!(Digest::empty(&environment).to_string(), "6d6b8317463d412911e3cd7671e7a722");
        assert_eq!(Digest::empty(&environment).plus(entry).to_string(), "537b4f2beefe5ba044969ab75f52fdfa");
    }
}
