//! Announcements of servers: keys under a lease, so that a server that dies is gone from the list by itself.
//!
//! The lease is kept alive by whoever says again that it is there; if it has expired, or the key was removed, saying it
//! makes it anew. Nothing but this list hangs on a lease: a lease guards no write.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::connection::{self, Fault};
use super::keys::server_of;
use super::transaction::Transaction;
use super::{Etcd, wire};
use crate::limits::ANNOUNCED_FOR;
use crate::store::StoreError;

/// Most servers read.
const SERVERS_MAX: i64 = 1_000;

/// The leases of the servers that announce themselves through this store.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<HashMap<u128, i64>>);

impl Leases {
    fn lock(&self) -> MutexGuard<'_, HashMap<u128, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Etcd {
    pub(super) async fn announce_under_lease(
        &self,
        server: u128,
        announcement: Bytes,
    ) -> Result<(), StoreError> {
        let known = self.leases.lock().get(&server).copied();
        let lease = match known {
            Some(lease) if self.keep_alive(lease).await? => lease,
            _ => self.grant(server).await?,
        };
        // The key may be gone, or be of an earlier lease: then it is written, else this only looks.
        let key = self.keys.server(server);
        let transaction = Transaction::new()
            .if_value(key.clone(), announcement.clone())
            .if_lease(key.clone(), lease)
            .else_put_leased(key, announcement, lease);
        match transaction.run(&self.connections).await {
            Ok(_) => Ok(()),
            Err(fault) => {
                // Perhaps the lease has just expired; the next time there is a new one.
                self.leases.lock().remove(&server);
                Err(self.explain(fault).await)
            }
        }
    }

    /// Whether the lease lives.
    async fn keep_alive(&self, lease: i64) -> Result<bool, StoreError> {
        let request = wire::LeaseKeepAliveRequest { id: lease };
        let kept: Result<wire::LeaseKeepAliveResponse, Fault> =
            self.connections.call(connection::LEASE_KEEP_ALIVE, request).await;
        match kept {
            Ok(kept) => Ok(kept.ttl > 0),
            Err(fault) => Err(self.explain(fault).await),
        }
    }

    async fn grant(&self, server: u128) -> Result<i64, StoreError> {
        let ttl = i64::try_from(ANNOUNCED_FOR.as_secs()).unwrap_or(i64::MAX);
        let granted: Result<wire::LeaseGrantResponse, Fault> =
            self.connections.call(connection::LEASE_GRANT, wire::LeaseGrantRequest { ttl }).await;
        match granted {
            Ok(granted) => {
                self.leases.lock().insert(server, granted.id);
                Ok(granted.id)
            }
            Err(fault) => Err(self.explain(fault).await),
        }
    }

    pub(super) async fn withdraw_server(&self, server: u128) -> Result<(), StoreError> {
        self.leases.lock().remove(&server);
        self.run(Transaction::new().remove(self.keys.server(server))).await.map(drop)
    }

    pub(super) async fn announced_servers(&self) -> Result<Vec<(u128, Bytes)>, StoreError> {
        let all = Transaction::new().get_some(self.keys.servers(), SERVERS_MAX, 0);
        let found = self.run(all).await?.ranges.into_iter().flat_map(|range| range.kvs);
        let read = |kv: wire::KeyValue| {
            let wrong = || StoreError::Corrupt(format!("{}: a server has no id", self.config.prefix));
            Ok((server_of(&kv.key).ok_or_else(wrong)?, kv.value))
        };
        found.map(read).collect()
    }
}
