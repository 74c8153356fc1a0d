//! Chooses what a rollback puts back, from the changes that altered an entry.
//!
//! "Back" is the definition before the latest change that altered it. After a rollback that would be the very
//! definition somebody just fled from, so then nothing is guessed: the candidates are listed instead.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::definition::{parse_flag, parse_segment};
use crate::entry::{EntryId, EntryKind, StoredEntry};
use crate::key::{FlagKey, SegmentKey};
use crate::revision::Revision;
use crate::time::Timestamp;

/// The operations that put an older definition back.
const PUTTING_BACK: [&str; 2] = ["rollback", "restore"];

/// A change that altered an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The change.
    pub revision: Revision,
    /// The entry's bytes afterwards; `None` when the change removed it.
    pub bytes_after: Option<Arc<[u8]>>,
    /// Stands for the parts of a segment's lists: versions with the same parts have the same number. 0 where nothing
    /// is kept in parts.
    pub parts_after: u128,
    /// The name of the operation, for people: `ramp`, `rollback`.
    pub operation: String,
    /// When.
    pub time: Timestamp,
    /// Who.
    pub actor: String,
}

impl Version {
    fn content(&self) -> (Option<&[u8]>, u128) {
        (self.bytes_after.as_deref(), self.parts_after)
    }
}

/// What a rollback puts back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The change that wrote the definition that comes back.
    pub written: Revision,
    /// The definition; `None` when the entry was not there.
    pub bytes: Option<Arc<[u8]>>,
    /// The changes that are taken back, the latest first.
    pub undone: Vec<Revision>,
}

/// Why nothing is put back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RollbackError {
    /// No change altered it in the history that is kept. Do: check the key.
    #[error("nothing has changed it in the history that is kept")]
    NoHistory,
    /// The first change that the history has of it is the latest. Do: `archive` it, or `edit` it.
    #[error(
        "revision {created} is the first that the history has of it; there is nothing before it to go back to"
    )]
    NothingBefore {
        /// That change.
        created: Revision,
    },
    /// The latest change was itself a rollback. Do: choose one of the candidates with `--to`.
    #[error(
        "the latest change, revision {latest}, was a rollback itself; say with --to which revision to go back to"
    )]
    AfterRollback {
        /// That change.
        latest: Revision,
        /// Earlier changes that left another definition, the latest first.
        candidates: Vec<Version>,
    },
    /// The entry has no definition as old as that in the history that is kept. Do: choose a later revision.
    #[error("the history has no definition of it as of revision {asked}; the oldest is of revision {oldest}")]
    TooOld {
        /// What was asked for.
        asked: Revision,
        /// The oldest change that it has.
        oldest: Revision,
    },
}

/// Chooses what to put back: the definition as it was at `to`, or before the latest change that altered it.
///
/// `versions` are the changes that altered the entry, the oldest first.
///
/// # Errors
/// [`RollbackError`] when there is nothing to go back to, or more than one answer.
pub fn choose_rollback(versions: &[Version], to: Option<Revision>) -> Result<Choice, RollbackError> {
    let (Some(oldest), Some(latest)) = (versions.first(), versions.last()) else {
        return Err(RollbackError::NoHistory);
    };
    let chosen = match to {
        Some(asked) => versions
            .iter()
            .rfind(|version| version.revision <= asked)
            .ok_or(RollbackError::TooOld { asked, oldest: oldest.revision })?,
        None if PUTTING_BACK.contains(&latest.operation.as_str()) => {
            return Err(RollbackError::AfterRollback {
                latest: latest.revision,
                candidates: candidates(versions),
            });
        }
        None => versions
            .iter()
            .rfind(|version| version.content() != latest.content())
            .ok_or(RollbackError::NothingBefore { created: latest.revision })?,
    };
    let undone = versions.iter().rev().map(|v| v.revision).take_while(|revision| *revision > chosen.revision);
    Ok(Choice { written: chosen.revision, bytes: chosen.bytes_after.clone(), undone: undone.collect() })
}

/// Earlier definitions that are not the present one, each once, the latest first.
fn candidates(versions: &[Version]) -> Vec<Version> {
    let mut seen: BTreeSet<_> = versions.last().map(Version::content).into_iter().collect();
    versions.iter().rev().filter(|version| seen.insert(version.content())).cloned().collect()
}

/// A segment or a required flag that is no longer as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedReference {
    /// The segment or the flag.
    pub id: EntryId,
    /// The change that wrote it as it is now; `None` when it is gone.
    pub revision: Option<Revision>,
}

/// The segments and required flags that a definition uses, directly or through others, and that have changed
/// since it was written at `since`. `lookup` gives the entries as they are now.
#[must_use]
pub fn changed_since<'s>(
    id: &EntryId,
    bytes: &[u8],
    since: Revision,
    lookup: impl Fn(&EntryId) -> Option<&'s StoredEntry>,
) -> Vec<ChangedReference> {
    let mut seen: BTreeSet<EntryId> = BTreeSet::from([id.clone()]);
    let mut next = references(id, bytes);
    let mut changed = Vec::new();
    while let Some(used) = next.pop() {
        if !seen.insert(used.clone()) {
            continue;
        }
        match lookup(&used) {
            None => changed.push(ChangedReference { id: used, revision: None }),
            Some(entry) => {
                next.extend(references(&used, &entry.bytes));
                if entry.revision > since {
                    changed.push(ChangedReference { id: used, revision: Some(entry.revision) });
                }
            }
        }
    }
    changed.sort_by(|a, b| a.id.cmp(&b.id));
    changed
}

/// What a stored definition names; nothing when it is not understood.
fn references(id: &EntryId, bytes: &[u8]) -> Vec<EntryId> {
    let Ok(text) = std::str::from_utf8(bytes) else { return Vec::new() };
    match id.kind {
        EntryKind::FLAG => {
            let parsed = FlagKey::new(&id.key).ok().and_then(|key| parse_flag(&key, text).ok());
            let Some(definition) = parsed else { return Vec::new() };
            let flags = definition.requires.iter().map(|requirement| EntryId::flag(&requirement.flag));
            flags.chain(definition.segments().into_iter().map(EntryId::segment)).collect()
        }
        EntryKind::SEGMENT => {
            let parsed = SegmentKey::new(&id.key).ok().and_then(|key| parse_segment(&key, text).ok());
            let Some(definition) = parsed else { return Vec::new() };
            definition.segments().into_iter().map(EntryId::segment).collect()
        }
        _ => Vec::new(),
    }
}
