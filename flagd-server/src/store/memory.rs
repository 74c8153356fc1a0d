//! A store in memory: for tests, and for `--ephemeral`, where nothing is to be left behind.
//!
//! It promises what every store promises except that it survives: when the process ends, everything is gone. It
//! counts its bytes, so a quota can be tried out on it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use flagd_core::key::EnvironmentName;
use flagd_core::revision::Revision;
use tokio::sync::watch;

use super::announcements::Announcements;
use super::{Answer, Append, Appended, BlobId, Created, Quota, RecordKind, RecordWrite, Store, StoreError};
use crate::limits::BLOB_MAX_BYTES;

/// A store that forgets everything at the end.
#[derive(Debug)]
pub struct Memory {
    limit_bytes: u64,
    environments: Mutex<BTreeMap<EnvironmentName, Environment>>,
    announcements: Announcements,
}

#[derive(Debug)]
struct Environment {
    head: watch::Sender<Bytes>,
    changes: BTreeMap<Revision, Bytes>,
    blobs: BTreeMap<BlobId, Bytes>,
    records: BTreeMap<(RecordKind, String), Bytes>,
}

impl Memory {
    /// An empty store that takes about `limit_bytes`.
    #[must_use]
    pub fn new(limit_bytes: u64) -> Memory {
        Memory { limit_bytes, environments: Mutex::default(), announcements: Announcements::default() }
    }

    /// A copy of all environments as they are now, as a backup would hold them.
    #[must_use]
    pub fn copy(&self) -> Memory {
        let copied = |environment: &Environment| Environment {
            head: watch::Sender::new(environment.head.borrow().clone()),
            changes: environment.changes.clone(),
            blobs: environment.blobs.clone(),
            records: environment.records.clone(),
        };
        let environments = self.lock().iter().map(|(name, one)| (name.clone(), copied(one))).collect();
        Memory { environments: Mutex::new(environments), ..Memory::new(self.limit_bytes) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<EnvironmentName, Environment>> {
        // Every edit below is whole before anything can panic, so a poisoned lock guards sound data.
        self.environments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(
        &self,
        name: &EnvironmentName,
        work: impl FnOnce(&mut Environment) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut environments = self.lock();
        let environment =
            environments.get_mut(name).ok_or_else(|| StoreError::NoEnvironment(name.clone()))?;
        work(environment)
    }

    fn check_space(&self) -> Result<(), StoreError> {
        let used_bytes = self.used_bytes();
        if used_bytes < self.limit_bytes {
            return Ok(());
        }
        Err(StoreError::Full(format!("{used_bytes} of {} bytes of memory are in use", self.limit_bytes)))
    }

    fn used_bytes(&self) -> u64 {
        let size = |environment: &Environment| {
            let changes = environment.changes.values().map(Bytes::len).sum::<usize>();
            let blobs = environment.blobs.values().map(Bytes::len).sum::<usize>();
            let records = environment.records.iter().map(|((_, key), value)| key.len() + value.len());
            changes + blobs + records.sum::<usize>()
        };
        self.lock().values().map(size).sum::<usize>() as u64
    }
}

impl Environment {
    fn write(&mut self, writes: Vec<RecordWrite>) {
        for write in writes {
            match write.value {
                Some(value) => drop(self.records.insert((write.kind, write.key), value)),
                None => drop(self.records.remove(&(write.kind, write.key))),
            }
        }
    }
}

fn ready<'a, T: Send + 'a>(result: Result<T, StoreError>) -> Answer<'a, T> {
    Box::pin(std::future::ready(result))
}

impl Store for Memory {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn environments(&self) -> Answer<'_, Vec<EnvironmentName>> {
        ready(Ok(self.lock().keys().cloned().collect()))
    }

    fn create<'a>(&'a self, environment: &'a EnvironmentName, head: Bytes) -> Answer<'a, Created> {
        if let Err(full) = self.check_space() {
            return ready(Err(full));
        }
        let mut environments = self.lock();
        if environments.contains_key(environment) {
            return ready(Ok(Created::Existed));
        }
        let fresh = Environment {
            head: watch::Sender::new(head),
            changes: BTreeMap::new(),
            blobs: BTreeMap::new(),
            records: BTreeMap::new(),
        };
        environments.insert(environment.clone(), fresh);
        ready(Ok(Created::New))
    }

    fn head<'a>(&'a self, environment: &'a EnvironmentName) -> Answer<'a, Option<Bytes>> {
        let head = self.lock().get(environment).map(|environment| environment.head.borrow().clone());
        ready(Ok(head))
    }

    fn append<'a>(&'a self, environment: &'a EnvironmentName, append: Append) -> Answer<'a, Appended> {
        ready(self.with(environment, |environment| {
            let found = environment.head.borrow().clone();
            if found != append.expected_head {
                return Ok(Appended::Lost(found));
            }
            if let Some(change) = append.change {
                environment.changes.insert(append.revision, change);
            }
            environment.write(append.records);
            environment.head.send_replace(append.head);
            Ok(Appended::Recorded)
        }))
    }

    fn changes<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        from: Revision,
        max_bytes: usize,
    ) -> Answer<'a, Vec<(Revision, Bytes)>> {
        ready(self.with(environment, |environment| {
            let mut page = Vec::new();
            let mut bytes = 0;
            for (revision, change) in environment.changes.range(from..) {
                bytes += change.len();
                if !page.is_empty() && bytes > max_bytes {
                    break;
                }
                page.push((*revision, change.clone()));
            }
            Ok(page)
        }))
    }

    fn oldest<'a>(&'a self, environment: &'a EnvironmentName) -> Answer<'a, Option<Revision>> {
        ready(self.with(environment, |environment| Ok(environment.changes.keys().next().copied())))
    }

    fn wait<'a>(&'a self, environment: &'a EnvironmentName, seen: &'a Bytes) -> Answer<'a, Bytes> {
        let receiver = self.with(environment, |environment| Ok(environment.head.subscribe()));
        Box::pin(async move {
            let mut receiver = receiver?;
            match receiver.wait_for(|head| head != seen).await {
                Ok(head) => Ok(head.clone()),
                Err(_) => Err(StoreError::Unavailable("the store was closed".to_owned())),
            }
        })
    }

    fn put_blob<'a>(&'a self, environment: &'a EnvironmentName, bytes: Bytes) -> Answer<'a, BlobId> {
        if bytes.len() > BLOB_MAX_BYTES {
            return ready(Err(StoreError::TooLarge { bytes: bytes.len(), max_bytes: BLOB_MAX_BYTES }));
        }
        if let Err(full) = self.check_space() {
            return ready(Err(full));
        }
        ready(self.with(environment, |environment| {
            let id = BlobId::of(&bytes);
            environment.blobs.insert(id, bytes);
            Ok(id)
        }))
    }

    fn get_blob<'a>(&'a self, environment: &'a EnvironmentName, id: BlobId) -> Answer<'a, Option<Bytes>> {
        ready(self.with(environment, |environment| Ok(environment.blobs.get(&id).cloned())))
    }

    fn put_records<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        writes: Vec<RecordWrite>,
    ) -> Answer<'a, ()> {
        ready(self.with(environment, |environment| {
            environment.write(writes);
            Ok(())
        }))
    }

    fn get_record<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        kind: RecordKind,
        key: &'a str,
    ) -> Answer<'a, Option<Bytes>> {
        ready(
            self.with(environment, |environment| {
                Ok(environment.records.get(&(kind, key.to_owned())).cloned())
            }),
        )
    }

    fn list_records<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        kind: RecordKind,
    ) -> Answer<'a, Vec<(String, Bytes)>> {
        ready(self.with(environment, |environment| {
            let all = environment.records.range((kind, String::new())..);
            let listed = all.take_while(|((found, _), _)| *found == kind);
            Ok(listed.map(|((_, key), value)| (key.clone(), value.clone())).collect())
        }))
    }

    fn announce(&self, server: u128, announcement: Bytes) -> Answer<'_, ()> {
        self.announcements.announce(server, announcement);
        ready(Ok(()))
    }

    fn withdraw(&self, server: u128) -> Answer<'_, ()> {
        self.announcements.withdraw(server);
        ready(Ok(()))
    }

    fn announced(&self) -> Answer<'_, Vec<(u128, Bytes)>> {
        ready(Ok(self.announcements.all()))
    }

    fn quota(&self) -> Answer<'_, Quota> {
        ready(Ok(Quota { used_bytes: self.used_bytes(), limit_bytes: self.limit_bytes }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    crate::store::contract::suite!(async { (Arc::new(Memory::new(1 << 30)) as Arc<dyn Store>, ()) });

    #[tokio::test]
    async fn a_full_store_takes_no_more_blobs_and_still_a_record() {
        let store = Memory::new(10);
        let name = EnvironmentName::new("default").unwrap();
        store.create(&name, Bytes::from_static(b"0")).await.unwrap();
        store.put_blob(&name, Bytes::from_static(b"0123456789")).await.unwrap();
        assert!(matches!(store.put_blob(&name, Bytes::from_static(b"x")).await, Err(StoreError::Full(_))));
        assert_eq!(store.quota().await.unwrap().used_bytes, 10);
        let value = Some(Bytes::from_static(b"1"));
        store
            .put_records(&name, vec![RecordWrite { kind: RecordKind::Meta, key: "a".to_owned(), value }])
            .await
            .unwrap();
    }
}
