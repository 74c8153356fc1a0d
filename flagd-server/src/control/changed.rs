//! Who wrote which revision, remembered so that a list of 10,000 flags does not read 10,000 changes each time,
//! and when this server recorded what, on a clock that never jumps.
//!
//! Both are caches of facts that never change; losing them costs time, never an answer.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use flagd_core::key::EnvironmentName;
use flagd_core::revision::{Epoch, Revision};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::time::Instant;

use crate::store::StoreError;
use crate::store::log::Log;

/// More remembered revisions than this are forgotten at once; they are read again when needed.
const REMEMBERED_MAX: usize = 200_000;
/// How many changes are read from the store at a time.
const READS_AT_A_TIME: usize = 32;
/// How many recorded changes are remembered with their time.
const RECORDED_MAX: usize = 1_024;

/// Who made a change and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) actor: Arc<str>,
    pub(super) time_ms: u64,
}

/// Who wrote which revision of which history.
#[derive(Debug, Default)]
pub(super) struct ChangedBy {
    known: Mutex<HashMap<(EnvironmentName, Epoch, Revision), Who>>,
}

impl ChangedBy {
    /// Who wrote these revisions; one that is no longer in the history is left out.
    pub(super) async fn of(
        &self,
        log: &Log,
        environment: &EnvironmentName,
        epoch: Epoch,
        revisions: BTreeSet<Revision>,
    ) -> Result<HashMap<Revision, Who>, StoreError> {
        let (mut found, missing) = self.split(environment, epoch, revisions);
        let read = stream::iter(missing.into_iter().map(|revision| log.change(environment, revision)))
            .buffer_unordered(READS_AT_A_TIME)
            .try_collect::<Vec<_>>()
            .await?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() > REMEMBERED_MAX {
            known.clear();
        }
        for change in read.into_iter().flatten() {
            let who = Who { actor: change.origin.actor.as_str().into(), time_ms: change.time_ms };
            known.insert((environment.clone(), epoch, change.revision), who.clone());
            found.insert(change.revision, who);
        }
        Ok(found)
    }

    fn split(
        &self,
        environment: &EnvironmentName,
        epoch: Epoch,
        revisions: BTreeSet<Revision>,
    ) -> (HashMap<Revision, Who>, Vec<Revision>) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = HashMap::new();
        let mut missing = Vec::new();
        for revision in revisions {
            match known.get(&(environment.clone(), epoch, revision)) {
                Some(who) => drop(found.insert(revision, who.clone())),
                None => missing.push(revision),
            }
        }
        (found, missing)
    }
}

/// When this server recorded its latest changes.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    latest: Mutex<VecDeque<(EnvironmentName, Epoch, Revision, Instant)>>,
}

impl Recorded {
    /// A change was recorded now.
    pub(super) fn note(&self, environment: &EnvironmentName, epoch: Epoch, revision: Revision) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.len() >= RECORDED_MAX {
            latest.pop_front();
        }
        latest.push_back((environment.clone(), epoch, revision, Instant::now()));
    }

    /// When a change was recorded, if it was here and not long ago.
    pub(super) fn when(
        &self,
        environment: &EnvironmentName,
        epoch: Epoch,
        revision: Revision,
    ) -> Option<Instant> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest
            .iter()
            .rev()
            .find(|(e, p, r, _)| e == environment && *p == epoch && *r == revision)
            .map(|entry| entry.3)
    }
}
