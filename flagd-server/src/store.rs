//! The log is the database: what any store must be able to do, and nothing more.
//!
//! The trait is as small as its weakest backend (etcd: transactions of a handful of operations on small values).
//! It knows bytes, not definitions: `log` gives them meaning. Every implementation passes `contract`.
//!
//! One rule makes everything else possible: a change is appended only if the environment's head is still exactly
//! the value that the writer saw. After any error the outcome of an append is unknown until its request record
//! was looked up.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use flagd_core::key::EnvironmentName;
use flagd_core::revision::Revision;

pub(crate) mod announcements;
pub mod backup;
#[cfg(test)]
pub(crate) mod contract;
pub mod etcd;
pub mod log;
pub mod memory;
pub mod redb;

/// What a store's methods return: boxed, so that the server can hold any store.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Why a store did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The environment does not exist. Do: create it, or check the name.
    #[error("there is no environment `{0}` in this store")]
    NoEnvironment(EnvironmentName),
    /// The store could not be reached or failed; an append may or may not have happened. Do: look the request id up.
    #[error("the store did not answer: {0}")]
    Unavailable(String),
    /// The disk or the quota is full; nothing was written. Do: give it space.
    #[error("the store is full: {0}")]
    Full(String),
    /// What is stored is not what this version wrote. Do: restore a backup; nothing was changed.
    #[error("the store holds something that cannot be read: {0}")]
    Corrupt(String),
    /// The store is kept by a relay and a server was started on it, or the other way round; nothing was changed. Do:
    /// name another with `--store`.
    #[error("{0}")]
    OtherUse(String),
    /// The value is larger than the store takes. Do: use blobs (a mistake of the caller's).
    #[error("a value of {bytes} bytes is larger than the store's limit of {max_bytes}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max_bytes: usize,
    },
    /// More is written at once than the store takes. Do: write it in parts (a mistake of the caller's).
    #[error("{writes} writes at once are more than the store's limit of {max_writes}")]
    TooMany {
        /// How many.
        writes: usize,
        /// The limit.
        max_writes: usize,
    },
}

/// The name of a blob: XXH3-128 of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(pub u128);

impl BlobId {
    /// The name of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> BlobId {
        BlobId(xxhash_rust::xxh3::xxh3_128(bytes))
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The sorts of records beside the log. Records are not changes: they have no revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// First answers to request ids.
    Request,
    /// Clients that are expected to acknowledge.
    Roster,
    /// What an `apply` source applied last.
    Source,
    /// Whole states at a revision; key: the revision, zero-padded.
    Checkpoint,
    /// Alarms and other facts about the environment.
    Meta,
}

/// One edit of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordWrite {
    /// Its sort.
    pub kind: RecordKind,
    /// Its key.
    pub key: String,
    /// The value; `None` removes it.
    pub value: Option<Bytes>,
}

/// What one transaction appends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The head as the writer saw it, as a whole value.
    pub expected_head: Bytes,
    /// The head afterwards.
    pub head: Bytes,
    /// The change's revision: its key in the log.
    pub revision: Revision,
    /// The encoded change; `None` moves the head alone (a younger epoch).
    pub change: Option<Bytes>,
    /// Records written in the same transaction; a handful.
    pub records: Vec<RecordWrite>,
}

/// How an append ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is recorded and will survive `kill -9`.
    Recorded,
    /// The head was another one: this. Nothing was written.
    Lost(Bytes),
}

/// Whether an environment came into being.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// Now.
    New,
    /// It was there already; nothing was changed.
    Existed,
}

/// Whether a store was in use before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Past {
    /// Nothing was ever kept in it, as far as that can be known.
    New,
    /// Environments were kept in it, whether they are there or not.
    Used,
    /// It cannot be told. Do: give the store the right to tell; why it has it not.
    Unknown(String),
}

/// What this process was told by a store that did not fit, by sort, since it began. All of it was healed except
/// `went_back`, which is for the hub to decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Divergences {
    /// A head that a read has found, and whoever should have told of it had not a moment later.
    pub lost: u64,
    /// Told twice.
    pub doubled: u64,
    /// Told after something newer.
    pub late: u64,
    /// A read that was older than what was known, which a second read did not bear out.
    pub stale_reads: u64,
    /// Heads that went back and stayed there: a backup was restored.
    pub went_back: u64,
}

/// How full a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Bytes in use.
    pub used_bytes: u64,
    /// Bytes it may use.
    pub limit_bytes: u64,
}

/// A place that keeps logs. Futures may be dropped at any await: a dropped append may or may not have happened,
/// everything else is without effect then.
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// What and where it is, for people, without secrets: `redb data/flagd.redb`.
    fn describe(&self) -> String;

    /// All environments, by name.
    fn environments(&self) -> Answer<'_, Vec<EnvironmentName>>;

    /// Brings an environment into being with this head. The only way a head comes from nothing.
    fn create<'a>(&'a self, environment: &'a EnvironmentName, head: Bytes) -> Answer<'a, Created>;

    /// The head, read so that every append acknowledged before is seen; `None` when there is no such environment.
    fn head<'a>(&'a self, environment: &'a EnvironmentName) -> Answer<'a, Option<Bytes>>;

    /// Appends a change if the head is still the expected one, in one transaction.
    fn append<'a>(&'a self, environment: &'a EnvironmentName, append: Append) -> Answer<'a, Appended>;

    /// Changes from `from` on, in order, about `max_bytes` of them but at least one if there is one.
    fn changes<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        from: Revision,
        max_bytes: usize,
    ) -> Answer<'a, Vec<(Revision, Bytes)>>;

    /// The revision of the oldest change kept; `None` when there is none.
    fn oldest<'a>(&'a self, environment: &'a EnvironmentName) -> Answer<'a, Option<Revision>>;

    /// Waits until the head is another one than `seen` and returns it. Returns at once when it is already.
    fn wait<'a>(&'a self, environment: &'a EnvironmentName, seen: &'a Bytes) -> Answer<'a, Bytes>;

    /// Keeps a blob; writing one that is there is no work.
    fn put_blob<'a>(&'a self, environment: &'a EnvironmentName, bytes: Bytes) -> Answer<'a, BlobId>;

    /// A blob; `None` when it is not there.
    fn get_blob<'a>(&'a self, environment: &'a EnvironmentName, id: BlobId) -> Answer<'a, Option<Bytes>>;

    /// Writes records, all or none; at most [`RECORDS_AT_ONCE_MAX`](crate::limits::RECORDS_AT_ONCE_MAX).
    fn put_records<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        writes: Vec<RecordWrite>,
    ) -> Answer<'a, ()>;

    /// One record.
    fn get_record<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        kind: RecordKind,
        key: &'a str,
    ) -> Answer<'a, Option<Bytes>>;

    /// All records of a sort, by key.
    fn list_records<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        kind: RecordKind,
    ) -> Answer<'a, Vec<(String, Bytes)>>;

    /// Says that a server is there, and how to reach it, for [`ANNOUNCED_FOR`](crate::limits::ANNOUNCED_FOR) from
    /// now on; whoever stays says it again. A server that dies is gone from the list by itself.
    fn announce(&self, server: u128, announcement: Bytes) -> Answer<'_, ()>;

    /// Takes a server's announcement back.
    fn withdraw(&self, server: u128) -> Answer<'_, ()>;

    /// The announcements that hold now, linearizable, by server.
    fn announced(&self) -> Answer<'_, Vec<(u128, Bytes)>>;

    /// How full the store is.
    fn quota(&self) -> Answer<'_, Quota>;

    /// Whether environments were ever kept here. A store that can only be lost as a whole is new when it is empty.
    fn past(&self) -> Answer<'_, Past> {
        Box::pin(std::future::ready(Ok(Past::New)))
    }

    /// Leaves a mark that environments are kept here, which outlasts them; see [`Store::past`].
    fn mark_used(&self) -> Answer<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// What did not fit so far. A store that is read where it is written has nothing to tell.
    fn divergences(&self) -> Divergences {
        Divergences::default()
    }
}
