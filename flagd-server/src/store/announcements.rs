//! Announcements of a store that only this process uses: they are kept in memory and pass away by themselves.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use tokio::time::Instant;

use crate::limits::ANNOUNCED_FOR;

/// Who has announced itself, and until when that holds.
#[derive(Debug, Default)]
pub(crate) struct Announcements(Mutex<BTreeMap<u128, (Bytes, Instant)>>);

impl Announcements {
    /// Says it once more.
    pub(crate) fn announce(&self, server: u128, announcement: Bytes) {
        self.with(|all| drop(all.insert(server, (announcement, Instant::now() + ANNOUNCED_FOR))));
    }

    /// Takes it back.
    pub(crate) fn withdraw(&self, server: u128) {
        self.with(|all| drop(all.remove(&server)));
    }

    /// Those that hold now.
    pub(crate) fn all(&self) -> Vec<(u128, Bytes)> {
        self.with(|all| {
            let now = Instant::now();
            all.retain(|_, (_, until)| *until > now);
            all.iter().map(|(server, (announcement, _))| (*server, announcement.clone())).collect()
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<u128, (Bytes, Instant)>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
