//! The default store: one file, fsynced, no set-up.
//!
//! The database library blocks, so every call runs on a blocking thread. One process writes the file; others may
//! read it meanwhile (that is how a backup is taken of a running server). After an input/output error the library
//! refuses everything until the file is opened anew, so this file does that: the failed call reports its error,
//! never success, and the next one finds a working database or another honest error.
//!
//! Nobody can miss a head: a waiter first subscribes to a counter and then reads the head, and the counter is moved
//! after every commit by the thread that committed, even when the future that asked for it is gone.
//!
//! It does not know what the bytes mean.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use flagd_core::key::EnvironmentName;
use flagd_core::revision::Revision;
use redb::{
    Database, Durability, ReadOnlyDatabase, ReadTransaction, ReadableDatabase, ReadableTable,
    TableDefinition, WriteTransaction,
};
use tokio::sync::watch;

use super::announcements::Announcements;
use super::{Answer, Append, Appended, BlobId, Created, Quota, RecordKind, RecordWrite, Store, StoreError};
use crate::limits::BLOB_MAX_BYTES;

mod import;
mod open;
mod tables;

pub(super) use import::Part;
pub use open::OpenError;
pub(super) use open::{folder_of, sync_folder};
use tables::{kind_number, must_exist, must_exist_to_write, write_records};

/// The layout of the file; another number is another layout.
const FORMAT: u64 = 1;

const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");
const HEADS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("heads");
const CHANGES: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("changes");
const BLOBS: TableDefinition<'_, (&str, u128), &[u8]> = TableDefinition::new("blobs");
const RECORDS: TableDefinition<'_, (&str, u8, &str), &[u8]> = TableDefinition::new("records");

/// A store in one file.
#[derive(Clone)]
pub struct Redb {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    limit_bytes: u64,
    opener: Opener,
    slot: RwLock<Slot>,
    /// One counter per environment that somebody waits for; moved after every commit of a head.
    commits: Mutex<HashMap<EnvironmentName, watch::Sender<u64>>>,
    /// One process owns the file, so whoever announces itself is in it.
    announcements: Announcements,
}

struct Slot {
    /// `None` between a failure and the next successful opening.
    handle: Option<Handle>,
    /// How often the file was opened, so that of many calls that failed together one opens it anew.
    openings: u64,
}

type Opener = Box<dyn Fn() -> Result<Handle, redb::DatabaseError> + Send + Sync>;

enum Handle {
    Writer(Database),
    Reader(ReadOnlyDatabase),
}

/// What became of the work inside a transaction.
enum Done<T> {
    Commit(T),
    /// Nothing is to be written.
    Abort(T),
}

/// Why the work inside a transaction failed.
enum Failure {
    Ours(StoreError),
    Database(redb::Error),
    /// While it was being committed: it may be in the file nevertheless.
    Commit(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Database(error.into())
    }
}

impl fmt::Debug for Redb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redb").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

impl Redb {
    /// Opens the file, or makes it; folders above it are made too.
    ///
    /// # Errors
    /// [`OpenError`], which names the file and says what to do.
    pub fn create(path: &Path, limit_bytes: u64) -> Result<Redb, OpenError> {
        let is_new = !path.exists();
        if is_new {
            open::make_parent(path)?;
        }
        let store = Redb::with(path, limit_bytes, open::writer(path, open::Missing::Create))?;
        if is_new {
            open::keep_name(path)?;
        }
        Ok(store)
    }

    /// Opens a file that must exist.
    ///
    /// # Errors
    /// [`OpenError`], which names the file and says what to do.
    pub fn open(path: &Path, limit_bytes: u64) -> Result<Redb, OpenError> {
        Redb::with(path, limit_bytes, open::writer(path, open::Missing::Refuse))
    }

    /// Opens a file that must exist, for reading only; a server may be writing to it meanwhile.
    ///
    /// # Errors
    /// [`OpenError`], which names the file and says what to do.
    pub fn read_only(path: &Path) -> Result<Redb, OpenError> {
        Redb::with(path, u64::MAX, open::reader(path))
    }

    fn with(path: &Path, limit_bytes: u64, opener: Opener) -> Result<Redb, OpenError> {
        let handle = open::open(path, &opener)?;
        open::check_format(path, &handle)?;
        let inner = Inner {
            path: path.to_owned(),
            limit_bytes,
            opener,
            slot: RwLock::new(Slot { handle: Some(handle), openings: 1 }),
            commits: Mutex::default(),
            announcements: Announcements::default(),
        };
        Ok(Redb { inner: Arc::new(inner) })
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Answer<'_, T> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            match tokio::task::spawn_blocking(move || work(&inner)).await {
                Ok(result) => result,
                Err(error) => Err(StoreError::Unavailable(format!("a database thread ended: {error}"))),
            }
        })
    }
}

impl Inner {
    fn read<T>(&self, work: impl Fn(&ReadTransaction) -> Result<T, Failure>) -> Result<T, StoreError> {
        let attempt = || {
            self.on_handle(|handle| {
                let transaction = match handle {
                    Handle::Writer(database) => database.begin_read()?,
                    Handle::Reader(database) => database.begin_read()?,
                };
                work(&transaction)
            })
        };
        match attempt() {
            // The failure was another call's; the file has been opened anew since.
            Err(Failure::Database(redb::Error::PreviousIo)) => attempt(),
            other => other,
        }
        .map_err(|failure| self.explain(failure))
    }

    fn write<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<Done<T>, Failure>,
    ) -> Result<T, StoreError> {
        self.attempt(work).map_err(|failure| self.explain(failure))
    }

    /// Writes, and tells of a full disk only when what was to be written is not in the file.
    fn write_or_absent<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<Done<T>, Failure>,
        is_absent: impl Fn(&ReadTransaction) -> Result<bool, Failure>,
    ) -> Result<T, StoreError> {
        self.attempt(work).map_err(|failure| match failure {
            // The file has been opened anew since: what it shows now is what it will go on showing.
            Failure::Commit(error) if is_full(&error) && matches!(self.read(is_absent), Ok(true)) => {
                self.explain(Failure::Database(error))
            }
            other => self.explain(other),
        })
    }

    fn attempt<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<Done<T>, Failure>,
    ) -> Result<T, Failure> {
        self.on_handle(|handle| {
            let Handle::Writer(database) = handle else {
                let why = format!("{} is open for reading only", self.path.display());
                return Err(Failure::Ours(StoreError::Unavailable(why)));
            };
            let mut transaction = database.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            match work(&transaction)? {
                Done::Commit(value) => {
                    transaction.commit().map_err(|error| Failure::Commit(error.into()))?;
                    Ok(value)
                }
                Done::Abort(value) => {
                    transaction.abort()?;
                    Ok(value)
                }
            }
        })
    }

    fn on_handle<T>(&self, work: impl FnOnce(&Handle) -> Result<T, Failure>) -> Result<T, Failure> {
        let (result, openings) = {
            let mut slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
            if slot.handle.is_none() {
                let openings = slot.openings;
                drop(slot);
                self.reopen(openings)?;
                slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
            }
            let closed = || Err(Failure::Database(redb::Error::DatabaseClosed));
            (slot.handle.as_ref().map_or_else(closed, work), slot.openings)
        };
        if let Err(Failure::Database(error) | Failure::Commit(error)) = &result
            && needs_reopening(error)
        {
            tracing::error!(file = %self.path.display(), %error, "the store failed; opening it anew");
            if let Err(error) = self.reopen(openings) {
                // The next call tries again; this one reports its own error either way.
                tracing::error!(file = %self.path.display(), %error, "the store cannot be opened anew");
            }
        }
        result
    }

    /// Closes the file and opens it again, unless somebody has done so since it was opened for the `openings`th time.
    fn reopen(&self, openings: u64) -> Result<(), redb::Error> {
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        if slot.openings != openings {
            return Ok(());
        }
        // Two handles on one file exclude each other: the old one goes first.
        slot.handle = None;
        slot.handle = Some((self.opener)()?);
        slot.openings = slot.openings.wrapping_add(1);
        Ok(())
    }

    fn explain(&self, failure: Failure) -> StoreError {
        let error = match failure {
            Failure::Ours(error) => return error,
            Failure::Commit(error) => {
                return StoreError::Unavailable(format!("{}: commit: {error}", self.path.display()));
            }
            Failure::Database(error) => error,
        };
        let file = self.path.display();
        match error {
            full if is_full(&full) => StoreError::Full(format!("no space left for {file}: {full}")),
            redb::Error::Corrupted(why) => StoreError::Corrupt(format!("{file}: {why}")),
            redb::Error::ValueTooLarge(bytes) => StoreError::TooLarge { bytes, max_bytes: BLOB_MAX_BYTES },
            other => StoreError::Unavailable(format!("{file}: {other}")),
        }
    }

    fn quota(&self) -> Result<Quota, StoreError> {
        let used_bytes = open::bytes_on_disk(&self.path)
            .map_err(|error| StoreError::Unavailable(format!("{}: {error}", self.path.display())))?;
        Ok(Quota { used_bytes, limit_bytes: self.limit_bytes })
    }

    /// Only what makes a store grow asks this: a kill must get through while there is any room on the disk.
    fn check_space(&self) -> Result<(), StoreError> {
        let Quota { used_bytes, limit_bytes } = self.quota()?;
        if used_bytes < limit_bytes {
            return Ok(());
        }
        let file = self.path.display();
        Err(StoreError::Full(format!("{file} has {used_bytes} bytes, its quota is {limit_bytes}")))
    }

    fn subscribe(&self, environment: &EnvironmentName) -> watch::Receiver<u64> {
        let mut commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        commits.entry(environment.clone()).or_default().subscribe()
    }

    fn announce(&self, environment: &EnvironmentName) {
        let commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = commits.get(environment) {
            counter.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    fn head(&self, environment: &EnvironmentName) -> Result<Option<Bytes>, StoreError> {
        self.read(|transaction| {
            let heads = transaction.open_table(HEADS)?;
            Ok(heads.get(environment.as_str())?.map(|head| Bytes::copy_from_slice(head.value())))
        })
    }

    fn append(&self, environment: &EnvironmentName, append: &Append) -> Result<Appended, StoreError> {
        let work = |transaction: &WriteTransaction| {
            let name = environment.as_str();
            let mut heads = transaction.open_table(HEADS)?;
            let found = heads.get(name)?.map(|head| Bytes::copy_from_slice(head.value()));
            let Some(found) = found else {
                return Err(Failure::Ours(StoreError::NoEnvironment(environment.clone())));
            };
            if found != append.expected_head {
                return Ok(Done::Abort(Appended::Lost(found)));
            }
            heads.insert(name, &*append.head)?;
            if let Some(change) = &append.change {
                transaction.open_table(CHANGES)?.insert((name, append.revision.0), &**change)?;
            }
            write_records(transaction, name, &append.records)?;
            Ok(Done::Commit(Appended::Recorded))
        };
        let appended = self.write_or_absent(work, |transaction| {
            let heads = transaction.open_table(HEADS)?;
            Ok(heads.get(environment.as_str())?.is_some_and(|head| *head.value() == *append.expected_head))
        });
        // Also after an error: the change may have landed, and a waiter that looks in vain looks again.
        self.announce(environment);
        appended
    }
}

/// Writing after such an error would only repeat it.
fn needs_reopening(error: &redb::Error) -> bool {
    matches!(
        error,
        redb::Error::Io(_)
            | redb::Error::PreviousIo
            | redb::Error::Backend(_)
            | redb::Error::DatabaseClosed
            | redb::Error::LockPoisoned(_)
    )
}

fn is_full(error: &redb::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error, redb::Error::Io(io) if matches!(io.kind(), StorageFull | QuotaExceeded | FileTooLarge))
}

impl Store for Redb {
    fn describe(&self) -> String {
        format!("redb {}", self.inner.path.display())
    }

    fn environments(&self) -> Answer<'_, Vec<EnvironmentName>> {
        self.run(|inner| {
            inner.read(|transaction| {
                let mut names = Vec::new();
                for row in transaction.open_table(HEADS)?.iter()? {
                    let (name, _) = row?;
                    let name = EnvironmentName::new(name.value()).map_err(|error| {
                        Failure::Ours(StoreError::Corrupt(format!("{}: {error}", inner.path.display())))
                    })?;
                    names.push(name);
                }
                Ok(names)
            })
        })
    }

    fn create<'a>(&'a self, environment: &'a EnvironmentName, head: Bytes) -> Answer<'a, Created> {
        let environment = environment.clone();
        self.run(move |inner| {
            inner.check_space()?;
            inner.write(|transaction| {
                let mut heads = transaction.open_table(HEADS)?;
                if heads.get(environment.as_str())?.is_some() {
                    return Ok(Done::Abort(Created::Existed));
                }
                heads.insert(environment.as_str(), &*head)?;
                Ok(Done::Commit(Created::New))
            })
        })
    }

    fn head<'a>(&'a self, environment: &'a EnvironmentName) -> Answer<'a, Option<Bytes>> {
        let environment = environment.clone();
        self.run(move |inner| inner.head(&environment))
    }

    fn append<'a>(&'a self, environment: &'a EnvironmentName, append: Append) -> Answer<'a, Appended> {
        let environment = environment.clone();
        self.run(move |inner| inner.append(&environment, &append))
    }

    fn changes<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        from: Revision,
        max_bytes: usize,
    ) -> Answer<'a, Vec<(Revision, Bytes)>> {
        let environment = environment.clone();
        self.run(move |inner| {
            inner.read(|transaction| {
                must_exist(transaction, &environment)?;
                let name = environment.as_str();
                let mut page = Vec::new();
                let mut bytes = 0;
                for row in transaction.open_table(CHANGES)?.range((name, from.0)..=(name, u64::MAX))? {
                    let (key, change) = row?;
                    bytes += change.value().len();
                    if !page.is_empty() && bytes > max_bytes {
                        break;
                    }
                    page.push((Revision(key.value().1), Bytes::copy_from_slice(change.value())));
                }
                Ok(page)
            })
        })
    }

    fn oldest<'a>(&'a self, environment: &'a EnvironmentName) -> Answer<'a, Option<Revision>> {
        let environment = environment.clone();
        self.run(move |inner| {
            inner.read(|transaction| {
                must_exist(transaction, &environment)?;
                let name = environment.as_str();
                let first = transaction.open_table(CHANGES)?.range((name, 0)..=(name, u64::MAX))?.next();
                Ok(first.transpose()?.map(|(key, _)| Revision(key.value().1)))
            })
        })
    }

    fn wait<'a>(&'a self, environment: &'a EnvironmentName, seen: &'a Bytes) -> Answer<'a, Bytes> {
        Box::pin(async move {
            let missing = || StoreError::NoEnvironment(environment.clone());
            // Before subscribing, so that no counter is kept for a name that does not exist.
            let head = self.head(environment).await?.ok_or_else(missing)?;
            if head != *seen {
                return Ok(head);
            }
            let mut commits = self.inner.subscribe(environment);
            loop {
                commits.mark_unchanged();
                let head = self.head(environment).await?.ok_or_else(missing)?;
                if head != *seen {
                    return Ok(head);
                }
                if commits.changed().await.is_err() {
                    return Err(StoreError::Unavailable("the store was closed".to_owned()));
                }
            }
        })
    }

    fn put_blob<'a>(&'a self, environment: &'a EnvironmentName, bytes: Bytes) -> Answer<'a, BlobId> {
        let environment = environment.clone();
        self.run(move |inner| {
            if bytes.len() > BLOB_MAX_BYTES {
                return Err(StoreError::TooLarge { bytes: bytes.len(), max_bytes: BLOB_MAX_BYTES });
            }
            let id = BlobId::of(&bytes);
            let key = (environment.as_str(), id.0);
            let there = inner.read(|transaction| {
                must_exist(transaction, &environment)?;
                Ok(transaction.open_table(BLOBS)?.get(key)?.is_some())
            })?;
            if there {
                return Ok(id);
            }
            inner.check_space()?;
            let work = |transaction: &WriteTransaction| {
                must_exist_to_write(transaction, &environment)?;
                transaction.open_table(BLOBS)?.insert(key, &*bytes)?;
                Ok(Done::Commit(id))
            };
            inner.write_or_absent(work, |transaction| Ok(transaction.open_table(BLOBS)?.get(key)?.is_none()))
        })
    }

    fn get_blob<'a>(&'a self, environment: &'a EnvironmentName, id: BlobId) -> Answer<'a, Option<Bytes>> {
        let environment = environment.clone();
        self.run(move |inner| {
            inner.read(|transaction| {
                must_exist(transaction, &environment)?;
                let blob = transaction.open_table(BLOBS)?.get((environment.as_str(), id.0))?;
                Ok(blob.map(|blob| Bytes::copy_from_slice(blob.value())))
            })
        })
    }

    fn put_records<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        writes: Vec<RecordWrite>,
    ) -> Answer<'a, ()> {
        let environment = environment.clone();
        self.run(move |inner| {
            inner.write(|transaction| {
                must_exist_to_write(transaction, &environment)?;
                write_records(transaction, environment.as_str(), &writes)?;
                Ok(Done::Commit(()))
            })
        })
    }

    fn get_record<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        kind: RecordKind,
        key: &'a str,
    ) -> Answer<'a, Option<Bytes>> {
        let (environment, key) = (environment.clone(), key.to_owned());
        self.run(move |inner| {
            inner.read(|transaction| {
                must_exist(transaction, &environment)?;
                let records = transaction.open_table(RECORDS)?;
                let record = records.get((environment.as_str(), kind_number(kind), key.as_str()))?;
                Ok(record.map(|record| Bytes::copy_from_slice(record.value())))
            })
        })
    }

    fn list_records<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        kind: RecordKind,
    ) -> Answer<'a, Vec<(String, Bytes)>> {
        let environment = environment.clone();
        self.run(move |inner| {
            inner.read(|transaction| {
                must_exist(transaction, &environment)?;
                let (name, number) = (environment.as_str(), kind_number(kind));
                let mut listed = Vec::new();
                let records = transaction.open_table(RECORDS)?;
                for row in records.range((name, number, "")..(name, number.saturating_add(1), ""))? {
                    let (key, value) = row?;
                    listed.push((key.value().2.to_owned(), Bytes::copy_from_slice(value.value())));
                }
                Ok(listed)
            })
        })
    }

    fn announce(&self, server: u128, announcement: Bytes) -> Answer<'_, ()> {
        self.inner.announcements.announce(server, announcement);
        Box::pin(async { Ok(()) })
    }

    fn withdraw(&self, server: u128) -> Answer<'_, ()> {
        self.inner.announcements.withdraw(server);
        Box::pin(async { Ok(()) })
    }

    fn announced(&self) -> Answer<'_, Vec<(u128, Bytes)>> {
        Box::pin(async { Ok(self.inner.announcements.all()) })
    }

    fn quota(&self) -> Answer<'_, Quota> {
        self.run(Inner::quota)
    }
}

#[cfg(test)]
mod tests;
