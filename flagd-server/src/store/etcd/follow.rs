//! Knows the newest head of an environment that somebody waits for, whatever the watch does.
//!
//! Two tasks feed one view: a watch, which is fast and not to be trusted (etcd has lost events in many versions, and
//! a broken connection is silent), and a linearizable read every few seconds, which is slow and true. What this
//! process itself reads or writes is offered to the view as well. Newer is what has a greater revision in etcd; only a
//! read that began later, and was repeated, may lead back (an etcd that was restored from a backup).
//!
//! When a read shows what the watch has not shown a moment later, the watch has lost it: that is counted, and the
//! watch is opened anew somewhere else. A task that panics is started again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::connection::{self, Connections, Fault};
use super::{EtcdCounters, breaker, wire};
use crate::store::etcd::config::Patience;

/// A watch that lasted this long did not fail at once, so the next one is opened without a long pause.
const LASTED: Duration = Duration::from_secs(5);

/// A head, and how new it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// `None` when there is none.
    pub(super) head: Option<Bytes>,
    /// The revision in etcd that wrote or removed it; for one found missing, the revision at which it was missing.
    pub(super) at: i64,
}

/// What a linearizable read of a head found.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) seen: Seen,
    cluster_id: u64,
    /// etcd's revision at that moment.
    revision: i64,
}

impl Look {
    pub(super) fn of(answer: wire::RangeResponse) -> Look {
        let header = answer.header.unwrap_or_default();
        let found = answer.kvs.into_iter().next();
        let at = found.as_ref().map_or(header.revision, |kv| kv.mod_revision);
        let seen = Seen { head: found.map(|kv| kv.value), at };
        Look { seen, cluster_id: header.cluster_id, revision: header.revision }
    }
}

/// Reads a head so that everything acknowledged before is seen.
pub(super) async fn look(connections: &Connections, key: &Bytes) -> Result<Look, Fault> {
    let request = wire::RangeRequest { key: key.clone(), ..wire::RangeRequest::default() };
    Ok(Look::of(connections.call(connection::RANGE, request).await?))
}

/// Keeps an environment's newest head; its tasks end with it.
pub(super) struct Follower {
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    key: Bytes,
    connections: Arc<Connections>,
    counters: Arc<EtcdCounters>,
    patience: Patience,
    newest: watch::Sender<Seen>,
    shown: Mutex<Shown>,
    confirmed: Mutex<Instant>,
    /// Asks for a new watch.
    reopen: Notify,
    /// Asks for a read now.
    read_now: Notify,
}

/// What the watch has shown so far.
#[derive(Clone, Copy, Debug)]
struct Shown {
    /// How often a watch was opened; 0 while none is open.
    open: u64,
    opened: u64,
    at: i64,
    is_there: bool,
}

/// Why a watch ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("it lost what a read has shown")]
    Asked,
    #[error("etcd ended it")]
    Closed,
    #[error("etcd canceled it")]
    Canceled,
    #[error("etcd has compacted what it was to show, up to revision {0}")]
    Compacted(i64),
    #[error("another etcd answers")]
    OtherCluster,
    #[error("etcd went back from revision {from} to {to}")]
    WentBack { from: i64, to: i64 },
    #[error("{0}")]
    Broken(Fault),
    #[error("it could not be opened: {0}")]
    CannotOpen(Fault),
    #[error("the head could not be read: {0}")]
    CannotRead(Fault),
}

impl Follower {
    /// Starts to follow the head at `key`, last seen as `first`.
    pub(super) fn start(
        key: Bytes,
        first: Seen,
        connections: &Arc<Connections>,
        counters: &Arc<EtcdCounters>,
        patience: Patience,
    ) -> Follower {
        let shown = Shown { open: 0, opened: 0, at: first.at, is_there: first.head.is_some() };
        let shared = Arc::new(Shared {
            key,
            connections: Arc::clone(connections),
            counters: Arc::clone(counters),
            patience,
            newest: watch::Sender::new(first),
            shown: Mutex::new(shown),
            confirmed: Mutex::new(Instant::now()),
            reopen: Notify::new(),
            read_now: Notify::new(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(keep_watching(Arc::clone(&shared)));
        let reader = Arc::clone(&shared);
        tasks.spawn(async move { keep_going(&reader.counters, || keep_reading(Arc::clone(&reader))).await });
        Follower { shared, _tasks: tasks }
    }

    /// The newest head, now and whenever there is another one.
    pub(super) fn subscribe(&self) -> watch::Receiver<Seen> {
        self.shared.newest.subscribe()
    }

    /// Says what was read or written by somebody else in this process.
    pub(super) fn offer(&self, seen: Seen) {
        if seen.at < self.shared.newest.borrow().at {
            // Late, or etcd went back: a read that begins now tells which.
            self.shared.read_now.notify_one();
        }
        self.shared.offer(seen);
    }

    /// How long ago a linearizable read last said what the head is.
    pub(super) fn confirmed_age(&self) -> Duration {
        self.shared.confirmed.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

impl Shared {
    fn offer(&self, seen: Seen) {
        self.newest.send_if_modified(|newest| {
            let is_newer = seen.at > newest.at;
            if is_newer {
                *newest = seen;
            }
            is_newer
        });
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look(&self) -> Result<Look, Fault> {
        let look = look(&self.connections, &self.key).await?;
        *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Ok(look)
    }

    /// Whether the watch that is open has not shown what a read has shown; which watch, if so.
    fn is_behind(&self, seen: &Seen) -> Option<u64> {
        let shown = *self.shown();
        let behind = if seen.head.is_some() { seen.at > shown.at } else { shown.is_there };
        (behind && shown.open != 0).then_some(shown.open)
    }
}

/// Runs `work` again whenever it panics.
async fn keep_going<F>(counters: &EtcdCounters, work: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut attempt = 0;
    loop {
        let mut one = JoinSet::new();
        one.spawn(work());
        match one.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                counters.panics.count();
                tracing::error!(%error, "a task beside the etcd store panicked; starting it again");
            }
            _ => return,
        }
        tokio::time::sleep(breaker::pause(attempt, connection::random())).await;
        attempt += 1;
    }
}

/// Reads the head now and then, for ever.
async fn keep_reading(shared: Arc<Shared>) {
    let interval = shared.patience.head_read_interval;
    loop {
        // Up to a quarter earlier, so that many servers do not read at the same moment.
        let early = (interval / 4).mul_f64(f64::from(connection::random()) / f64::from(u32::MAX));
        tokio::select! {
            () = tokio::time::sleep(interval.saturating_sub(early)) => {}
            () = shared.read_now.notified() => {}
        }
        let before = shared.newest.borrow().at;
        let Ok(found) = shared.look().await else { continue };
        if found.seen.at < before {
            believe_if_repeated(&shared, before).await;
            continue;
        }
        shared.offer(found.seen.clone());
        let Some(watch) = shared.is_behind(&found.seen) else { continue };
        // On its way, perhaps.
        tokio::time::sleep(shared.patience.watch_grace).await;
        if shared.is_behind(&found.seen) == Some(watch) {
            shared.counters.lost_events.count();
            tracing::warn!(key = %show(&shared.key), "etcd's watch has not shown what a read has; opening another");
            shared.reopen.notify_one();
        }
    }
}

/// A head that is older than one seen before the read began: a member that answers from the past, or an etcd that
/// was restored. A second read, which goes through the whole cluster again, decides.
async fn believe_if_repeated(shared: &Shared, before: i64) {
    let Ok(again) = shared.look().await else { return };
    if again.seen.at >= before {
        shared.counters.stale_reads.count();
        shared.offer(again.seen);
        return;
    }
    shared.counters.went_back.count();
    tracing::error!(
        key = %show(&shared.key), from = before, to = again.seen.at,
        "etcd went back; was it restored from a backup?"
    );
    shared.newest.send_replace(again.seen);
    shared.reopen.notify_one();
}

fn show(key: &Bytes) -> String {
    String::from_utf8_lossy(key).into_owned()
}

/// Opens one watch after the other, for ever.
async fn keep_watching(shared: Arc<Shared>) {
    let (mut failed, mut attempt) = (None, 0);
    loop {
        let endpoint = shared.connections.for_watch(failed);
        let began = Instant::now();
        let mut one = JoinSet::new();
        one.spawn(watch_once(Arc::clone(&shared), endpoint));
        let end = one.join_next().await;
        shared.shown().open = 0;
        shared.counters.watch_ends.count();
        let at = shared.connections.address(endpoint);
        match end {
            Some(Ok(end)) => {
                if let End::CannotOpen(fault) = &end {
                    shared.connections.failed(endpoint, fault);
                }
                tracing::debug!(endpoint = at, key = %show(&shared.key), %end, "a watch ended; opening another");
            }
            Some(Err(error)) if error.is_panic() => {
                shared.counters.panics.count();
                tracing::error!(endpoint = at, %error, "a watch panicked; opening another");
            }
            _ => return,
        }
        failed = Some(endpoint);
        attempt = if began.elapsed() >= LASTED { 0 } else { attempt + 1 };
        tokio::time::sleep(breaker::pause(attempt, connection::random())).await;
    }
}

/// Reads the head and watches it from the next revision on, until something is wrong.
async fn watch_once(shared: Arc<Shared>, endpoint: usize) -> End {
    let base = match shared.look().await {
        Ok(base) => base,
        Err(fault) => return End::CannotRead(fault),
    };
    let opening = shared.connections.watch(endpoint, shared.key.clone(), base.revision.saturating_add(1));
    let mut stream = match opening.await {
        Ok(stream) => stream,
        Err(fault) => return End::CannotOpen(fault),
    };
    {
        let mut shown = shared.shown();
        let opened = shown.opened + 1;
        *shown = Shown { open: opened, opened, at: base.seen.at, is_there: base.seen.head.is_some() };
    }
    shared.counters.watches.count();
    shared.offer(base.seen.clone());
    let mut revision = 0;
    loop {
        let message = tokio::select! {
            () = shared.reopen.notified() => return End::Asked,
            message = stream.message() => message,
        };
        let response = match message {
            Ok(Some(response)) => response,
            Ok(None) => return End::Closed,
            Err(status) => return End::Broken(Fault::Unavailable(status.to_string())),
        };
        if let Err(end) = take(&shared, &base, &mut revision, response) {
            return end;
        }
    }
}

/// Takes one message of a watch. Fragments need no joining: a revision writes the head once at the most.
fn take(shared: &Shared, base: &Look, revision: &mut i64, response: wire::WatchResponse) -> Result<(), End> {
    if response.compact_revision != 0 {
        return Err(End::Compacted(response.compact_revision));
    }
    if response.canceled {
        return Err(End::Canceled);
    }
    if let Some(header) = response.header {
        if header.cluster_id != base.cluster_id {
            return Err(End::OtherCluster);
        }
        if header.revision < *revision {
            shared.counters.late_events.count();
            return Err(End::WentBack { from: *revision, to: header.revision });
        }
        *revision = header.revision;
    }
    for kv in response.events.into_iter().filter_map(|event| event.kv) {
        let at = kv.mod_revision;
        let head = (kv.version != 0).then_some(kv.value);
        let mut shown = shared.shown();
        match at.cmp(&shown.at) {
            std::cmp::Ordering::Greater => (shown.at, shown.is_there) = (at, head.is_some()),
            // By the watch, or by the read before it.
            std::cmp::Ordering::Equal => shared.counters.doubled_events.count(),
            std::cmp::Ordering::Less => shared.counters.late_events.count(),
        }
        drop(shown);
        shared.offer(Seen { head, at });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_started_again_and_counted() {
        let counters = Arc::new(EtcdCounters::default());
        let runs = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let work = {
            let runs = Arc::clone(&runs);
            move || {
                let run = runs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                async move { assert!(run >= 2, "run {run} panics") }
            }
        };
        keep_going(&counters, work).await;
        assert_eq!(counters.panics.get(), 2);
        assert_eq!(runs.load(std::sync::atomic::Ordering::Relaxed), 3);
    }
}
