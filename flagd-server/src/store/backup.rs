//! Copies a store to a file, and makes a store from such a copy.
//!
//! A backup that was never read is a hope. So a copy is loaded, every environment of it, digests and all, before it
//! gets its name; whatever has that name is whole. It may be taken of a store that a server is writing to: every
//! environment is copied as it was at one of its heads.
//!
//! Restoring goes back in time, and clients must never do that by accident: every environment starts a younger epoch,
//! above every epoch that the old file knew, and clients follow it because it is younger. The old file is moved aside,
//! never overwritten.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flagd_core::key::EnvironmentName;
use flagd_core::revision::{Epoch, Position};

use super::log::{Log, Outcome, refers_to_blobs};
use super::redb::{OpenError, Part, Redb};
use super::{BlobId, RecordKind, RecordWrite, Store, StoreError};

mod files;

/// Rows are written in transactions of about this size.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// How often an environment that is being written to is read again, until its records belong to its head.
const ATTEMPTS: u32 = 20;
/// Every sort of record is copied.
const KINDS: [RecordKind; 5] =
    [RecordKind::Request, RecordKind::Roster, RecordKind::Source, RecordKind::Checkpoint, RecordKind::Meta];

/// Why a backup or a restore did not happen. Files that were there are as they were.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// A store cannot be opened. Do: what the message says.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A store failed, or what it holds is damaged. Do: what the message says.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file that was to be written exists. Do: name another one; a restore takes `--force`.
    #[error("`{}` exists; {advice}", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
        /// What to do.
        advice: &'static str,
    },
    /// The file system refuses. Do: what the message says.
    #[error("`{}`: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The environment changed faster than it could be read. Do: try again.
    #[error("`{0}` is being written to without a pause; try again")]
    Busy(EnvironmentName),
}

/// An environment that was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Its name.
    pub environment: EnvironmentName,
    /// Where it stood in the source.
    pub was: Position,
    /// Where it stands in the copy: the same in a backup, a younger epoch in a restored store.
    pub is: Position,
    /// How many entries it holds.
    pub entries: usize,
}

/// A store that was made from a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Its environments.
    pub environments: Vec<Copied>,
    /// Where the store that was there is now.
    pub moved_to: Option<PathBuf>,
}

/// Copies a store to a new file and verifies the copy.
///
/// # Errors
/// [`BackupError`]; there is no file of that name then.
pub async fn back_up(from: &dyn Store, to: &Path) -> Result<Vec<Copied>, BackupError> {
    files::must_not_exist(to, "name another file")?;
    let part = files::Unfinished::beside(to)?;
    let copied = copy_and_verify(from, part.path()).await?;
    part.finish(to)?;
    Ok(copied)
}

/// Makes the store `to` from the backup `from`, each environment in a younger epoch. A store that is there is an
/// error, or is moved aside if `move_aside` names where.
///
/// # Errors
/// [`BackupError`]; the store that was there is as it was then.
pub async fn restore(
    from: &Path,
    to: &Path,
    move_aside: Option<PathBuf>,
    now_ms: u64,
) -> Result<Restored, BackupError> {
    let there = to.exists();
    let moved_to = move_aside.filter(|_| there);
    if there && moved_to.is_none() {
        files::must_not_exist(to, "name another file, or say --force to keep it under another name")?;
    }
    let backup = Redb::read_only(from)?;
    // Opened for writing, so that nobody else has it; kept open until it is moved.
    let old = if there { old_store(to)? } else { None };
    let part = files::Unfinished::beside(to)?;
    copy_and_verify(&backup, part.path()).await?;
    let why = format!("restored from {}", from.file_name().unwrap_or(from.as_os_str()).to_string_lossy());
    let restored = Redb::open(part.path(), u64::MAX)?;
    let log = Log::new(std::sync::Arc::new(restored));
    let mut environments = Vec::new();
    for environment in log.environments().await? {
        let floor = match &old {
            // An old store that is damaged is why people restore: its epochs are a help, not a need.
            Some(old) => old.head(&environment).await.ok().flatten().map(|head| head.epoch),
            None => None,
        };
        environments.push(start_epoch(&log, environment, floor, now_ms, &why).await?);
    }
    drop(log);
    if let Some(aside) = &moved_to {
        files::must_not_exist(aside, "move it away")?;
        files::rename(to, aside)?;
    }
    drop(old);
    if let Err(error) = part.finish(to) {
        if let Some(aside) = &moved_to {
            files::rename(aside, to)?;
        }
        return Err(error);
    }
    Ok(Restored { environments, moved_to })
}

/// The store that is to be replaced, if it can be read at all.
fn old_store(path: &Path) -> Result<Option<Log>, BackupError> {
    match Redb::open(path, u64::MAX) {
        Ok(old) => Ok(Some(Log::new(std::sync::Arc::new(old)))),
        Err(OpenError::NotAStore { .. } | OpenError::Empty(_) | OpenError::OtherFormat { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn start_epoch(
    log: &Log,
    environment: EnvironmentName,
    floor: Option<Epoch>,
    now_ms: u64,
    why: &str,
) -> Result<Copied, BackupError> {
    let state = log.load(&environment).await?;
    match log.start_epoch_above(&environment, &state, floor, now_ms, why).await? {
        Outcome::Recorded(delta) => Ok(Copied {
            environment,
            was: state.position(),
            is: Position { epoch: delta.epoch, revision: delta.to, digest: delta.digest_after },
            entries: state.len(),
        }),
        Outcome::Lost => Err(BackupError::Busy(environment)),
    }
}

async fn copy_and_verify(from: &dyn Store, to: &Path) -> Result<Vec<Copied>, BackupError> {
    let copy = Redb::create(to, u64::MAX)?;
    for environment in from.environments().await? {
        copy_environment(from, &copy, &environment).await?;
    }
    drop(copy);
    // From the disk, as whoever needs it will read it.
    let log = Log::new(std::sync::Arc::new(Redb::open(to, u64::MAX)?));
    let mut copied = Vec::new();
    for environment in log.environments().await? {
        let state = log.load(&environment).await?;
        let position = state.position();
        copied.push(Copied { environment, was: position, is: position, entries: state.len() });
    }
    Ok(copied)
}

/// The head, and all records as they were while it was the head.
async fn head_and_records(
    from: &dyn Store,
    environment: &EnvironmentName,
) -> Result<(Bytes, Vec<RecordWrite>), BackupError> {
    let missing = || StoreError::NoEnvironment(environment.clone());
    let mut head = from.head(environment).await?.ok_or_else(missing)?;
    for _ in 0..ATTEMPTS {
        let mut records = Vec::new();
        for kind in KINDS {
            let listed = from.list_records(environment, kind).await?;
            records.extend(listed.into_iter().map(|(key, value)| RecordWrite {
                kind,
                key,
                value: Some(value),
            }));
        }
        let found = from.head(environment).await?.ok_or_else(missing)?;
        if found == head {
            return Ok((head, records));
        }
        head = found;
    }
    Err(BackupError::Busy(environment.clone()))
}

async fn copy_environment(
    from: &dyn Store,
    to: &Redb,
    environment: &EnvironmentName,
) -> Result<(), BackupError> {
    let (head, records) = head_and_records(from, environment).await?;
    let last = Log::position(environment, &head)?.revision;
    let mut blobs = BTreeSet::new();
    let mut next = from.oldest(environment).await?.unwrap_or(last.next());
    while next <= last {
        let mut changes = from.changes(environment, next, PART_BYTES).await?;
        changes.retain(|(revision, _)| *revision <= last);
        let Some((newest, _)) = changes.last() else {
            return Err(StoreError::Corrupt(format!("change {next} of `{environment}` is missing")).into());
        };
        next = newest.next();
        for (_, change) in &changes {
            blobs.extend(refers_to_blobs(None, change)?);
        }
        to.import(environment, Part { changes, ..Part::default() }).await?;
    }
    for record in &records {
        if let Some(value) = &record.value {
            blobs.extend(refers_to_blobs(Some(record.kind), value)?);
        }
    }
    copy_blobs(from, to, environment, blobs).await?;
    to.import(environment, Part { records, head: Some(head), ..Part::default() }).await?;
    Ok(())
}

async fn copy_blobs(
    from: &dyn Store,
    to: &Redb,
    environment: &EnvironmentName,
    ids: BTreeSet<BlobId>,
) -> Result<(), BackupError> {
    let (mut blobs, mut bytes) = (Vec::new(), 0);
    for id in ids {
        // A blob that is missing belongs to a damaged checkpoint, or the verification will say what lacks it.
        let Some(blob) = from.get_blob(environment, id).await? else { continue };
        bytes += blob.len();
        blobs.push((id, blob));
        if bytes >= PART_BYTES {
            let blobs = std::mem::take(&mut blobs);
            to.import(environment, Part { blobs, ..Part::default() }).await?;
            bytes = 0;
        }
    }
    to.import(environment, Part { blobs, ..Part::default() }).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
