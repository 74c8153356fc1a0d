//! How the file is opened, and what people are told when it cannot be.
//!
//! At three in the morning "database already open" helps nobody: every error here names the file and says what to
//! do. A file that is not ours is never written to.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Builder, ConcurrencyMode, DatabaseError, ReadableDatabase, StorageError, TableError};

use super::{ABOUT, BLOBS, CHANGES, FORMAT, Failure, HEADS, Handle, Opener, RECORDS};

/// Memory that the database may use for pages; the server holds its states in memory anyway.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Why a store's file could not be opened. It was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process writes the file. Do: stop it, or choose another file.
    #[error(
        "the store `{}` is in use by another process, probably a flagd that is running already; \
         stop that one, or give this one another file with --store", .0.display()
    )]
    InUse(PathBuf),
    /// There is no such file. Do: check the path.
    #[error("there is no store `{}`; check the path", .0.display())]
    Missing(PathBuf),
    /// The file holds nothing. Do: check the path; a copy may have been cut off.
    #[error("`{}` is empty; check the path, and where the file was copied from", .0.display())]
    Empty(PathBuf),
    /// The file is not a store, or its bytes were damaged. Do: check the path, or restore a backup.
    #[error(
        "`{}` is not a flagd store, or it is damaged ({detail}); it was left as it is; check the path, or restore a \
         backup with `flagd restore`", path.display()
    )]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// What the database says.
        detail: String,
    },
    /// The file was written by another version of flagd. Do: use that version, or restore a backup.
    #[error("the store `{}` has layout {found}, this flagd reads layout {FORMAT}; use the version that wrote it", path.display())]
    OtherFormat {
        /// The file.
        path: PathBuf,
        /// The layout found.
        found: u64,
    },
    /// The file system refuses. Do: what the message says.
    #[error("the store `{}` cannot be opened: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

/// What happens when there is no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Create,
    Refuse,
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    // One process writes, others may read: a backup needs no stop.
    builder.set_cache_size(CACHE_BYTES).set_concurrency_mode(ConcurrencyMode::SingleWriter);
    builder
}

pub(super) fn writer(path: &Path, missing: Missing) -> Opener {
    let path = path.to_owned();
    Box::new(move || match missing {
        Missing::Create => builder().create(&path).map(Handle::Writer),
        Missing::Refuse => builder().open(&path).map(Handle::Writer),
    })
}

pub(super) fn reader(path: &Path) -> Opener {
    let path = path.to_owned();
    Box::new(move || match builder().open_read_only(&path) {
        // Its writer was killed, so nobody has it open: opening it for writing repairs it.
        Err(DatabaseError::RepairAborted) => builder().open(&path).map(Handle::Writer),
        other => other.map(Handle::Reader),
    })
}

/// Makes the folder that the file is to stand in.
pub(super) fn make_parent(path: &Path) -> Result<(), OpenError> {
    std::fs::create_dir_all(folder_of(path)).map_err(|source| OpenError::Io { path: path.to_owned(), source })
}

/// Makes the names of a new file and of its new folder last: a crash right after the first change must not lose the
/// file that the change is in.
pub(super) fn keep_name(path: &Path) -> Result<(), OpenError> {
    let folder = folder_of(path);
    let kept = sync_folder(folder).and_then(|()| sync_folder(folder_of(folder)));
    kept.map_err(|source| OpenError::Io { path: path.to_owned(), source })
}

/// The folder that a path is in.
pub(in crate::store) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Brings the names in a folder to the disk.
pub(in crate::store) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

/// What the file takes of the disk. The database makes its file twice as long when it needs a page more, and what was
/// never written takes no space.
#[cfg(unix)]
pub(super) fn bytes_on_disk(path: &Path) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    // Blocks are counted in 512 bytes, whatever the file system's own blocks are.
    std::fs::metadata(path).map(|file| file.blocks().saturating_mul(512).min(file.len()))
}

/// What the file takes of the disk at most.
#[cfg(not(unix))]
pub(super) fn bytes_on_disk(path: &Path) -> std::io::Result<u64> {
    std::fs::metadata(path).map(|file| file.len())
}

pub(super) fn open(path: &Path, opener: &Opener) -> Result<Handle, OpenError> {
    let damaged = |detail: String| {
        let detail = if begins_like_one(path) { detail } else { "it does not begin like one".to_owned() };
        OpenError::NotAStore { path: path.to_owned(), detail }
    };
    let is_empty = std::fs::metadata(path).is_ok_and(|file| file.len() == 0);
    // A file whose pages were damaged behind the database's back can make the library panic instead of returning.
    let result = catch_unwind(AssertUnwindSafe(opener))
        .map_err(|_| damaged("its pages contradict each other".to_owned()))?;
    result.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            OpenError::InUse(path.to_owned())
        }
        _ if is_empty => OpenError::Empty(path.to_owned()),
        DatabaseError::Storage(StorageError::Io(source)) => match source.kind() {
            std::io::ErrorKind::NotFound => OpenError::Missing(path.to_owned()),
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => {
                damaged(source.to_string())
            }
            _ => OpenError::Io { path: path.to_owned(), source },
        },
        other => damaged(other.to_string()),
    })
}

/// Whether a file has the first bytes of every file of the database library. When it cannot be read, nothing speaks
/// against it.
fn begins_like_one(path: &Path) -> bool {
    use std::io::Read as _;
    let mut start = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(4).read_to_end(&mut start));
    read.is_err() || start == b"redb"
}

/// Makes the tables of a new file, and refuses a file of another layout.
pub(super) fn check_format(path: &Path, handle: &Handle) -> Result<(), OpenError> {
    let damaged = |detail: String| OpenError::NotAStore { path: path.to_owned(), detail };
    let found = match read_format(handle) {
        Ok(found) => found,
        Err(Failure::Database(error) | Failure::Commit(error)) => return Err(damaged(error.to_string())),
        Err(Failure::Ours(error)) => return Err(damaged(error.to_string())),
    };
    match (found, handle) {
        (Some(FORMAT), _) => Ok(()),
        (Some(found), _) => Err(OpenError::OtherFormat { path: path.to_owned(), found }),
        (None, Handle::Reader(_)) => Err(damaged("it is empty".to_owned())),
        (None, Handle::Writer(database)) => match make_tables(database) {
            Ok(()) => Ok(()),
            Err(Failure::Database(redb::Error::Io(source))) => {
                Err(OpenError::Io { path: path.to_owned(), source })
            }
            Err(Failure::Database(error) | Failure::Commit(error)) => Err(damaged(error.to_string())),
            Err(Failure::Ours(error)) => Err(damaged(error.to_string())),
        },
    }
}

fn read_format(handle: &Handle) -> Result<Option<u64>, Failure> {
    let transaction = match handle {
        Handle::Writer(database) => database.begin_read()?,
        Handle::Reader(database) => database.begin_read()?,
    };
    match transaction.open_table(ABOUT) {
        Ok(about) => Ok(about.get("format")?.map(|format| format.value())),
        Err(TableError::TableDoesNotExist(_)) if transaction.list_tables()?.next().is_none() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// All at once, so that readers find every table in any file that has a format.
fn make_tables(database: &redb::Database) -> Result<(), Failure> {
    let transaction = database.begin_write()?;
    transaction.open_table(ABOUT)?.insert("format", FORMAT)?;
    transaction.open_table(HEADS)?;
    transaction.open_table(CHANGES)?;
    transaction.open_table(BLOBS)?;
    transaction.open_table(RECORDS)?;
    transaction.commit()?;
    Ok(())
}
