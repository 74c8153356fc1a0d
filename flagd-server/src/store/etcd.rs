//! The store of a cluster: several servers share one log in etcd.
//!
//! An append is one transaction that compares the head's whole value, so it does not matter which server, which
//! endpoint or which attempt writes: of all that start from one head, one wins. That is also what makes an append
//! repeatable. When an attempt fails, nobody knows whether it had its effect or will have it later; the next one is
//! the same transaction, and it either wins (then no other can) or finds another head. In that case it reads, in the
//! same transaction, the change at its own revision: changes are never overwritten, so if the bytes there are ours,
//! it was an earlier attempt that won, and if they are not, none can win any more. Only when no attempt is answered
//! is the outcome unknown, and the caller must look its request id up; as long as an attempt may still be on its way
//! that may be too early to find it, but then every other append from the same head competes with it.
//!
//! The view that `wait` gives is fed by a watch and held against linearizable reads: see `follow`. Connections,
//! deadlines and fail-over: see `connection`. Records that are not part of an append are last-write-wins, and a write
//! of them that was given up may still land late.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flagd_core::key::EnvironmentName;
use flagd_core::revision::Revision;

use super::{
    Answer, Append, Appended, BlobId, Created, Divergences, Past, Quota, RecordKind, RecordWrite, Store,
    StoreError,
};
use crate::limits::BLOB_MAX_BYTES;
use crate::metrics::Counter;

mod announce;
mod breaker;
pub mod config;
mod connection;
mod follow;
mod keys;
mod past;
mod scan;
mod transaction;
mod version;
mod wire;

pub use config::{EtcdConfig, EtcdConfigError};

use connection::{Connections, Fault};
use follow::{Follower, Look, Seen};
use keys::Keys;
use transaction::Transaction;

/// A store in etcd.
pub struct Etcd {
    config: EtcdConfig,
    keys: Keys,
    connections: Arc<Connections>,
    counters: Arc<EtcdCounters>,
    followers: Mutex<HashMap<EnvironmentName, Follower>>,
    leases: announce::Leases,
}

/// What has happened between this process and etcd.
#[derive(Debug, Default)]
pub struct EtcdCounters {
    /// Attempts that an endpoint did not answer, or not in time.
    pub failed_attempts: Counter,
    /// Endpoints that were passed over from then on.
    pub breaker_openings: Counter,
    /// Watches that were opened.
    pub watches: Counter,
    /// Watches that ended, for whatever reason.
    pub watch_ends: Counter,
    /// Heads that a read found and the watch had not shown a moment later.
    pub lost_events: Counter,
    /// Events that a watch had shown a moment before, or that the read before it had found.
    pub doubled_events: Counter,
    /// Events, or answers of a watch, that were older than what it had shown.
    pub late_events: Counter,
    /// Reads that were older than what was known, and that a second read did not confirm.
    pub stale_reads: Counter,
    /// Heads that went back and stayed there.
    pub went_back: Counter,
    /// Tasks that panicked and were started again.
    pub panics: Counter,
}

/// What an endpoint says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointReport {
    /// Where it is.
    pub address: String,
    /// Its version, or why it did not tell.
    pub version: Result<String, String>,
    /// What the operator should know about this version.
    pub warning: Option<String>,
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd").field("endpoints", &self.connections).finish_non_exhaustive()
    }
}

impl Etcd {
    /// A store in this etcd. Nothing is connected yet: that happens when it is needed, and whenever it is again.
    #[must_use]
    pub fn new(config: EtcdConfig) -> Etcd {
        let counters = Arc::new(EtcdCounters::default());
        Etcd {
            keys: Keys::new(&config.prefix),
            connections: Arc::new(Connections::new(&config, Arc::clone(&counters))),
            followers: Mutex::default(),
            leases: announce::Leases::default(),
            config,
            counters,
        }
    }

    /// Asks every endpoint for its version, and logs what the operator should know. To be called once at the start.
    pub async fn inspect(&self) -> Vec<EndpointReport> {
        let count = self.connections.len();
        let within = self.config.patience.attempt;
        let ask = |endpoint| async move {
            let status: Result<wire::StatusResponse, Fault> =
                self.connections.call_at(endpoint, within, connection::STATUS, wire::StatusRequest {}).await;
            let address = self.connections.address(endpoint).to_owned();
            match status {
                Ok(status) => {
                    let warning = version::warning(&status.version);
                    EndpointReport { address, version: Ok(status.version), warning }
                }
                Err(fault) => EndpointReport { address, version: Err(fault.to_string()), warning: None },
            }
        };
        let reports = futures_util::future::join_all((0..count).map(ask)).await;
        for EndpointReport { address, version, warning } in &reports {
            match (version, warning) {
                (Ok(version), None) => tracing::info!(endpoint = %address, %version, "etcd"),
                (Ok(_), Some(warning)) => tracing::warn!(endpoint = %address, "{warning}"),
                (Err(error), _) => {
                    tracing::warn!(endpoint = %address, %error, "an etcd endpoint does not answer");
                }
            }
        }
        reports
    }

    /// What has happened so far.
    #[must_use]
    pub fn counters(&self) -> &EtcdCounters {
        &self.counters
    }

    /// How long ago a linearizable read last confirmed the head that `wait` gives; `None` when nobody has waited.
    #[must_use]
    pub fn confirmed_age(&self, environment: &EnvironmentName) -> Option<Duration> {
        self.followers().get(environment).map(Follower::confirmed_age)
    }

    fn followers(&self) -> MutexGuard<'_, HashMap<EnvironmentName, Follower>> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn offer(&self, environment: &EnvironmentName, seen: &Seen) {
        if let Some(follower) = self.followers().get(environment) {
            follower.offer(seen.clone());
        }
    }

    async fn look(&self, environment: &EnvironmentName) -> Result<Look, StoreError> {
        let look = follow::look(&self.connections, &self.keys.head(environment)).await;
        let look = match look {
            Ok(look) => look,
            Err(fault) => return Err(self.explain(fault).await),
        };
        self.offer(environment, &look.seen);
        Ok(look)
    }

    async fn subscribe(
        &self,
        environment: &EnvironmentName,
    ) -> Result<tokio::sync::watch::Receiver<Seen>, StoreError> {
        if let Some(follower) = self.followers().get(environment) {
            return Ok(follower.subscribe());
        }
        let look = self.look(environment).await?;
        if look.seen.head.is_none() {
            return Err(StoreError::NoEnvironment(environment.clone()));
        }
        let key = self.keys.head(environment);
        let start =
            || Follower::start(key, look.seen, &self.connections, &self.counters, self.config.patience);
        Ok(self.followers().entry(environment.clone()).or_insert_with(start).subscribe())
    }

    async fn run(&self, transaction: Transaction) -> Result<transaction::Outcome, StoreError> {
        match transaction.run(&self.connections).await {
            Ok(outcome) => Ok(outcome),
            Err(fault) => Err(self.explain(fault).await),
        }
    }

    /// What a fault means for who asked. "Exhausted" has two meanings, and the alarms tell which.
    async fn explain(&self, fault: Fault) -> StoreError {
        let place = self.describe();
        if let Fault::Exhausted(why) = &fault {
            let alarms: Result<wire::AlarmResponse, Fault> =
                self.connections.call(connection::ALARM, wire::AlarmRequest {}).await;
            let is_full = |alarms: wire::AlarmResponse| {
                alarms.alarms.iter().any(|member| member.alarm == wire::ALARM_NO_SPACE)
            };
            if alarms.is_ok_and(is_full) {
                return StoreError::Full(format!(
                    "{place}: {why}; compact and defragment etcd, then disarm its alarm"
                ));
            }
        }
        StoreError::Unavailable(format!("{place}: {fault}"))
    }

    async fn append_once(
        &self,
        environment: &EnvironmentName,
        append: &Append,
    ) -> Result<Appended, StoreError> {
        let head = self.keys.head(environment);
        let change = self.keys.change(environment, append.revision);
        let mut transaction = Transaction::new()
            .if_value(head.clone(), append.expected_head.clone())
            .put(head.clone(), append.head.clone());
        if let Some(bytes) = &append.change {
            transaction = transaction.put(change.clone(), bytes.clone());
        }
        for write in &append.records {
            transaction = transaction.record(self.keys.record(environment, write.kind, &write.key), write);
        }
        let transaction = transaction.else_get(head.clone()).else_get(change);
        let outcome = self.run(transaction.checked()?).await?;
        if outcome.succeeded {
            self.offer(environment, &Seen { head: Some(append.head.clone()), at: outcome.revision });
            return Ok(Appended::Recorded);
        }
        let mut ranges = outcome.ranges.into_iter();
        let (head, found) = (ranges.next().and_then(first), ranges.next().and_then(first));
        let Some(head) = head else { return Err(StoreError::NoEnvironment(environment.clone())) };
        self.offer(environment, &Seen { head: Some(head.value.clone()), at: head.mod_revision });
        let is_ours = match &append.change {
            Some(ours) => found.is_some_and(|kv| kv.value == *ours),
            // It moves the head alone, to an epoch with random bits that nobody else can have drawn.
            None => head.value == append.head,
        };
        Ok(if outcome.repeated && is_ours { Appended::Recorded } else { Appended::Lost(head.value) })
    }
}

fn first(range: wire::RangeResponse) -> Option<wire::KeyValue> {
    range.kvs.into_iter().next()
}

impl Store for Etcd {
    fn describe(&self) -> String {
        format!("etcd {} below /{}", self.config.endpoints.join(","), self.config.prefix)
    }

    fn environments(&self) -> Answer<'_, Vec<EnvironmentName>> {
        Box::pin(async move {
            let mut names: Vec<EnvironmentName> = Vec::new();
            let mut after: Option<String> = None;
            loop {
                let rest = self.keys.environments(after.as_deref());
                let outcome = self.run(Transaction::new().get_first_key(rest)).await?;
                let Some(key) = outcome.ranges.into_iter().next().and_then(first) else { break };
                let Some(found) = self.keys.environment_of(&key.key).map(str::to_owned) else { break };
                // Keys without a head are no environment: a deleted one may leave blobs.
                if let Ok(name) = EnvironmentName::new(&found)
                    && self.look(&name).await?.seen.head.is_some()
                {
                    names.push(name);
                }
                after = Some(found);
            }
            names.sort();
            Ok(names)
        })
    }

    fn create<'a>(&'a self, environment: &'a EnvironmentName, head: Bytes) -> Answer<'a, Created> {
        Box::pin(async move {
            let key = self.keys.head(environment);
            let transaction =
                Transaction::new().if_missing(key.clone()).put(key.clone(), head.clone()).else_get(key);
            let outcome = self.run(transaction.checked()?).await?;
            if outcome.succeeded {
                self.offer(environment, &Seen { head: Some(head), at: outcome.revision });
                return Ok(Created::New);
            }
            // Our own head, with our own random bits: an earlier attempt made it.
            let found = outcome.ranges.into_iter().next().and_then(first);
            let is_ours = outcome.repeated && found.is_some_and(|kv| kv.value == head);
            Ok(if is_ours { Created::New } else { Created::Existed })
        })
    }

    fn head<'a>(&'a self, environment: &'a EnvironmentName) -> Answer<'a, Option<Bytes>> {
        Box::pin(async move { Ok(self.look(environment).await?.seen.head) })
    }

    fn append<'a>(&'a self, environment: &'a EnvironmentName, append: Append) -> Answer<'a, Appended> {
        Box::pin(async move { self.append_once(environment, &append).await })
    }

    fn changes<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        from: Revision,
        max_bytes: usize,
    ) -> Answer<'a, Vec<(Revision, Bytes)>> {
        Box::pin(async move {
            let range = self.keys.changes(environment, from);
            let found = self.scan(environment, range, scan::Amount::Bytes(max_bytes)).await?;
            let read = |kv: wire::KeyValue| {
                let wrong = || StoreError::Corrupt(format!("{}: a change has no revision", self.describe()));
                Ok((keys::revision_of(&kv.key).ok_or_else(wrong)?, kv.value))
            };
            found.into_iter().map(read).collect()
        })
    }

    fn oldest<'a>(&'a self, environment: &'a EnvironmentName) -> Answer<'a, Option<Revision>> {
        Box::pin(async move {
            let first_change = self.keys.changes(environment, Revision(0));
            let there = Transaction::new().if_there(self.keys.head(environment)).get_first_key(first_change);
            let outcome = self.run(there).await?;
            if !outcome.succeeded {
                return Err(StoreError::NoEnvironment(environment.clone()));
            }
            let key = outcome.ranges.into_iter().next().and_then(first);
            Ok(key.and_then(|kv| keys::revision_of(&kv.key)))
        })
    }

    fn wait<'a>(&'a self, environment: &'a EnvironmentName, seen: &'a Bytes) -> Answer<'a, Bytes> {
        Box::pin(async move {
            // Everything that this process ever read or wrote was offered to the follower before anybody could see
            // it, so a head there that is not the one seen is a newer one.
            let mut newest = self.subscribe(environment).await?;
            loop {
                match &newest.borrow_and_update().head {
                    None => return Err(StoreError::NoEnvironment(environment.clone())),
                    Some(head) if head != seen => return Ok(head.clone()),
                    Some(_) => {}
                }
                if newest.changed().await.is_err() {
                    return Err(StoreError::Unavailable("the store was closed".to_owned()));
                }
            }
        })
    }

    fn put_blob<'a>(&'a self, environment: &'a EnvironmentName, bytes: Bytes) -> Answer<'a, BlobId> {
        Box::pin(async move {
            if bytes.len() > BLOB_MAX_BYTES {
                return Err(StoreError::TooLarge { bytes: bytes.len(), max_bytes: BLOB_MAX_BYTES });
            }
            let id = BlobId::of(&bytes);
            let (head, key) = (self.keys.head(environment), self.keys.blob(environment, id));
            let there =
                Transaction::new().if_there(head.clone()).if_there(key.clone()).else_get_key(head.clone());
            let there = self.run(there).await?;
            if there.succeeded {
                return Ok(id);
            }
            if there.ranges.into_iter().next().and_then(first).is_none() {
                return Err(StoreError::NoEnvironment(environment.clone()));
            }
            let outcome = self.run(Transaction::new().if_there(head).put(key, bytes).checked()?).await?;
            if outcome.succeeded { Ok(id) } else { Err(StoreError::NoEnvironment(environment.clone())) }
        })
    }

    fn get_blob<'a>(&'a self, environment: &'a EnvironmentName, id: BlobId) -> Answer<'a, Option<Bytes>> {
        Box::pin(self.get(environment, self.keys.blob(environment, id)))
    }

    fn put_records<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        writes: Vec<RecordWrite>,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut transaction = Transaction::new().if_there(self.keys.head(environment));
            for write in &writes {
                transaction =
                    transaction.record(self.keys.record(environment, write.kind, &write.key), write);
            }
            let outcome = self.run(transaction.checked()?).await?;
            if outcome.succeeded { Ok(()) } else { Err(StoreError::NoEnvironment(environment.clone())) }
        })
    }

    fn get_record<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        kind: RecordKind,
        key: &'a str,
    ) -> Answer<'a, Option<Bytes>> {
        Box::pin(self.get(environment, self.keys.record(environment, kind, key)))
    }

    fn list_records<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        kind: RecordKind,
    ) -> Answer<'a, Vec<(String, Bytes)>> {
        Box::pin(async move {
            let range = self.keys.records(environment, kind);
            let found = self.scan(environment, range.clone(), scan::Amount::All).await?;
            let read = |kv: wire::KeyValue| {
                let wrong = || StoreError::Corrupt(format!("{}: a record has no name", self.describe()));
                Ok((keys::name_in(&range, &kv.key).ok_or_else(wrong)?.to_owned(), kv.value))
            };
            found.into_iter().map(read).collect()
        })
    }

    fn announce(&self, server: u128, announcement: Bytes) -> Answer<'_, ()> {
        Box::pin(self.announce_under_lease(server, announcement))
    }

    fn withdraw(&self, server: u128) -> Answer<'_, ()> {
        Box::pin(self.withdraw_server(server))
    }

    fn announced(&self) -> Answer<'_, Vec<(u128, Bytes)>> {
        Box::pin(self.announced_servers())
    }

    fn quota(&self) -> Answer<'_, Quota> {
        Box::pin(async move {
            let status: Result<wire::StatusResponse, Fault> =
                self.connections.call(connection::STATUS, wire::StatusRequest {}).await;
            let status = match status {
                Ok(status) => status,
                Err(fault) => return Err(self.explain(fault).await),
            };
            let bytes = |size: i64| u64::try_from(size).unwrap_or(0);
            let told = Some(bytes(status.db_size_quota)).filter(|quota| *quota > 0);
            let limit_bytes = told.unwrap_or(self.config.quota_bytes);
            Ok(Quota { used_bytes: bytes(status.db_size), limit_bytes })
        })
    }

    fn past(&self) -> Answer<'_, Past> {
        Box::pin(self.read_past())
    }

    fn mark_used(&self) -> Answer<'_, ()> {
        Box::pin(self.write_past())
    }

    fn divergences(&self) -> Divergences {
        let counters = &self.counters;
        Divergences {
            lost: counters.lost_events.get(),
            doubled: counters.doubled_events.get(),
            late: counters.late_events.get(),
            stale_reads: counters.stale_reads.get(),
            went_back: counters.went_back.get(),
        }
    }
}

#[cfg(test)]
mod tests;
