//! The state on disk: what a client serves when it starts and no server answers.
//!
//! A program can be killed between any two system calls, several programs may share a folder, and an older or a
//! newer version may have written it. So a file is written whole under a name of its own, synced, renamed,
//! and the folder synced; names tell epoch and revision; every file carries its environment and a checksum;
//! and the newest that verifies is loaded. Kills have a file of their own, written before they are
//! acknowledged: a state may be a second old, a kill may not. One process writes, whoever has the lock. An error
//! here never reaches the state in memory. This file does not know what states mean or when to write.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use flagd_core::key::EnvironmentName;
use flagd_core::revision::{Epoch, Position, Revision};

mod format;

#[cfg(fuzzing)]
pub(crate) use format::bytes::any_bytes;
pub(crate) use format::{FormatError, SavedState};

use crate::feed::Kills;

/// Where in which history; what files are ordered by.
type Place = (Epoch, Revision);

/// How many states are kept.
const STATES_KEPT: usize = 3;
const STATE_PREFIX: &str = "state_";
const STATE_SUFFIX: &str = ".flagd";
const KILLS_FILE: &str = "kills.flagd";
const LOCK_FILE: &str = "lock";
const TEMPORARY_SUFFIX: &str = ".tmp";

/// Why the disk could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DiskError {
    /// The file system refused. Do: check the folder, its permissions and the space left.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Whether this process may write the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It has the lock.
    Writer,
    /// Another process has it.
    Reader,
}

/// What the folder held.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) state: Option<SavedState>,
    pub(crate) kills: Option<Kills>,
    /// Files that were passed over, and why; for the log.
    pub(crate) skipped: Vec<String>,
}

/// One environment's folder.
#[derive(Debug)]
pub(crate) struct Disk {
    environment: EnvironmentName,
    folder: PathBuf,
    /// Held as long as it is open. Looked at, never kept locked while something is written: a state that takes its
    /// time must not keep the kills waiting.
    lock: Mutex<Option<File>>,
}

impl Disk {
    /// The folder of an environment below `cache_dir`. Nothing is touched yet.
    pub(crate) fn new(cache_dir: &Path, environment: EnvironmentName) -> Disk {
        Disk { folder: cache_dir.join(environment.as_str()), environment, lock: Mutex::default() }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The newest state that verifies, and the kills. Files that do not are passed over.
    pub(crate) fn load(&self) -> Result<Found, DiskError> {
        let mut found = Found::default();
        let mut names = self.state_names()?;
        names.sort_by(|a, b| b.cmp(a));
        for (_, path) in names {
            match read(&path).and_then(|bytes| Ok(format::read_state(&bytes, &self.environment)?)) {
                Ok(state) => {
                    found.state = Some(state);
                    break;
                }
                Err(error) => found.skipped.push(format!("{}: {error}", path.display())),
            }
        }
        let path = self.folder.join(KILLS_FILE);
        match read(&path).and_then(|bytes| Ok(format::read_kills(&bytes, &self.environment)?)) {
            Ok(kills) => found.kills = Some(kills),
            Err(LoadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => found.skipped.push(format!("{}: {error}", path.display())),
        }
        Ok(found)
    }

    /// Becomes the writer if nobody else is. Asked again before each write: the process that had the lock may
    /// have ended since.
    pub(crate) fn role(&self) -> Result<Role, DiskError> {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if lock.is_some() {
            return Ok(Role::Writer);
        }
        fs::create_dir_all(&self.folder).map_err(at(&self.folder))?;
        let path = self.folder.join(LOCK_FILE);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let file = private(&mut options).open(&path).map_err(at(&path))?;
        match file.try_lock() {
            Ok(()) => {
                *lock = Some(file);
                self.sweep_leftovers();
                Ok(Role::Writer)
            }
            Err(TryLockError::WouldBlock) => Ok(Role::Reader),
            Err(TryLockError::Error(source)) => Err(DiskError::Io { path, source }),
        }
    }

    /// Writes a state down and removes the oldest beyond those that are kept. Only the writer writes.
    pub(crate) fn save_state(&self, state: &SavedState) -> Result<Role, DiskError> {
        if self.role()? == Role::Reader {
            return Ok(Role::Reader);
        }
        let name = state_name(state.state.position());
        self.replace(&name, &format::write_state(state))?;
        let mut names = self.state_names()?;
        names.sort_by(|a, b| b.cmp(a));
        // A state that cannot be removed now is removed next time.
        let old = names.into_iter().skip(STATES_KEPT).filter(|(_, path)| !path.ends_with(&name));
        for (_, path) in old {
            let _ = fs::remove_file(path);
        }
        Ok(Role::Writer)
    }

    /// Writes the kills down. Only the writer writes.
    pub(crate) fn save_kills(&self, kills: &Kills) -> Result<Role, DiskError> {
        if self.role()? == Role::Reader {
            return Ok(Role::Reader);
        }
        self.replace(KILLS_FILE, &format::write_kills(kills, &self.environment))?;
        Ok(Role::Writer)
    }

    /// Puts a file in place at once and for good, or not at all.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        static UNIQUE: AtomicU64 = AtomicU64::new(0);
        let number = UNIQUE.fetch_add(1, Ordering::Relaxed);
        let temporary = self.folder.join(format!("{name}.{}-{number}{TEMPORARY_SUFFIX}", std::process::id()));
        let written = write_synced(&temporary, bytes)
            .and_then(|()| fs::rename(&temporary, self.folder.join(name)))
            .and_then(|()| sync_folder(&self.folder));
        written.map_err(|source| {
            // It may not even exist; the next writer sweeps what stays.
            let _ = fs::remove_file(&temporary);
            DiskError::Io { path: self.folder.join(name), source }
        })
    }

    fn state_names(&self) -> Result<Vec<(Place, PathBuf)>, DiskError> {
        let listing = match fs::read_dir(&self.folder) {
            Ok(listing) => listing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(at(&self.folder)(error)),
        };
        let paths = listing.filter_map(|entry| Some(entry.ok()?.path()));
        Ok(paths.filter_map(|path| Some((place_of_name(path.file_name()?.to_str()?)?, path))).collect())
    }

    /// What a process left behind that was killed while it wrote. We have the lock: nobody else is writing.
    fn sweep_leftovers(&self) {
        let Ok(listing) = fs::read_dir(&self.folder) else { return };
        for path in listing.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.to_str().is_some_and(|path| path.ends_with(TEMPORARY_SUFFIX)) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Why a file was passed over.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Format(#[from] FormatError),
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    Ok(fs::read(path)?)
}

fn state_name(position: Position) -> String {
    let Position { epoch, revision, digest } = position;
    format!("{STATE_PREFIX}{epoch}_{:020}_{digest}{STATE_SUFFIX}", revision.0)
}

fn place_of_name(name: &str) -> Option<Place> {
    let mut words = name.strip_prefix(STATE_PREFIX)?.strip_suffix(STATE_SUFFIX)?.split('_');
    Some((words.next()?.parse().ok()?, Revision(words.next()?.parse().ok()?)))
}

fn at(path: &Path) -> impl Fn(io::Error) -> DiskError {
    move |source| DiskError::Io { path: path.to_owned(), source }
}

/// Definitions may name people: the files are their owner's alone.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = private(OpenOptions::new().write(true).create_new(true)).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A rename lasts only when the folder is on the disk too.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests;
