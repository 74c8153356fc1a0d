//! Tells whoever wants to know that the state or the connection changed.
//!
//! A queue per listener would be unbounded or would lose something, and a listener wants to know how things
//! are, not how they were. So a subscription yields the newest [`Update`] and skips those in between; there is
//! no queue. Waiting works under any executor, or on a plain thread. This file does not know who makes the
//! updates.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

use crate::status::Connection;

/// How things are after something changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Update {
    /// The revision that evaluations use; 0 before there is a state.
    pub revision: u64,
    /// The connection to the server.
    pub connection: Connection,
}

type Callback = Arc<dyn Fn(&Update) + Send + Sync>;

struct Board {
    /// Counts updates; a subscription remembers which it saw.
    version: u64,
    update: Update,
    closed: bool,
    next_id: u64,
    wakers: Vec<(u64, Waker)>,
    callbacks: Vec<(u64, Callback)>,
}

/// The place where updates are put up.
pub(crate) struct Bulletin {
    board: Mutex<Board>,
    changed: Condvar,
}

impl fmt::Debug for Bulletin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let board = self.lock();
        f.debug_struct("Bulletin")
            .field("version", &board.version)
            .field("update", &board.update)
            .finish_non_exhaustive()
    }
}

impl Bulletin {
    pub(crate) fn new(connection: Connection) -> Bulletin {
        let board = Board {
            version: 0,
            update: Update { revision: 0, connection },
            closed: false,
            next_id: 0,
            wakers: Vec::new(),
            callbacks: Vec::new(),
        };
        Bulletin { board: Mutex::new(board), changed: Condvar::new() }
    }

    /// Nothing here is left half-done by a panic, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn update(&self) -> Update {
        self.lock().update.clone()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Puts up how things are; says whether that is news.
    pub(crate) fn put(&self, change: impl FnOnce(&mut Update)) -> bool {
        let mut board = self.lock();
        let before = board.update.clone();
        change(&mut board.update);
        if board.update == before {
            return false;
        }
        board.version += 1;
        let update = board.update.clone();
        let wakers = std::mem::take(&mut board.wakers);
        let callbacks = board.callbacks.clone();
        drop(board);
        self.changed.notify_all();
        wake(wakers);
        for (id, callback) in callbacks {
            let call = std::panic::AssertUnwindSafe(|| callback(&update));
            if std::panic::catch_unwind(call).is_err() {
                tracing::error!("a change callback panicked; it will not be called again");
                self.remove_callback(id);
            }
        }
        true
    }

    /// Wakes everybody who waits, so that they look at the clock again.
    #[cfg(feature = "remote")]
    pub(crate) fn wake_all(&self) {
        let wakers = std::mem::take(&mut self.lock().wakers);
        self.changed.notify_all();
        wake(wakers);
    }

    /// No update will follow.
    #[cfg(any(feature = "remote", test))]
    pub(crate) fn close(&self) {
        let mut board = self.lock();
        board.closed = true;
        let wakers = std::mem::take(&mut board.wakers);
        drop(board);
        self.changed.notify_all();
        wake(wakers);
    }

    pub(crate) fn subscribe(self: &Arc<Bulletin>) -> Changes {
        let mut board = self.lock();
        board.next_id += 1;
        Changes { id: board.next_id, seen: board.version, bulletin: Arc::clone(self) }
    }

    pub(crate) fn call(self: &Arc<Bulletin>, callback: Callback) -> Subscription {
        let mut board = self.lock();
        board.next_id += 1;
        let id = board.next_id;
        board.callbacks.push((id, callback));
        Subscription { id, bulletin: Arc::clone(self) }
    }

    fn remove_callback(&self, id: u64) {
        let mut board = self.lock();
        let (gone, kept) =
            std::mem::take(&mut board.callbacks).into_iter().partition(|(known, _)| *known == id);
        board.callbacks = kept;
        drop(board);
        // Outside the lock: what the callback owns may come back here when it is dropped.
        let gone: Vec<(u64, Callback)> = gone;
        drop(gone);
    }

    /// Waits on this thread until `done` says so, the deadline has passed, or no update will follow.
    pub(crate) fn wait_until(&self, deadline: Option<Instant>, mut done: impl FnMut() -> bool) -> bool {
        let mut board = self.lock();
        loop {
            // `done` may look at this board.
            let version = board.version;
            drop(board);
            if done() {
                return true;
            }
            board = self.lock();
            if board.closed {
                return false;
            }
            if board.version != version {
                continue;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            board = match left {
                Some(Duration::ZERO) => return false,
                Some(left) => {
                    self.changed.wait_timeout(board, left).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(board).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Asks to be woken at the next update.
    fn register(&self, id: u64, waker: &Waker) {
        let mut board = self.lock();
        match board.wakers.iter_mut().find(|(known, _)| *known == id) {
            Some((_, known)) => known.clone_from(waker),
            None => board.wakers.push((id, waker.clone())),
        }
    }
}

fn wake(wakers: Vec<(u64, Waker)>) {
    for (_, waker) in wakers {
        waker.wake();
    }
}

/// A subscription to changes; see [`Client::changes`](crate::Client::changes).
#[derive(Debug)]
pub struct Changes {
    id: u64,
    seen: u64,
    bulletin: Arc<Bulletin>,
}

impl Changes {
    /// The newest update, if there was one since the last that this subscription yielded.
    pub fn try_next(&mut self) -> Option<Update> {
        let board = self.bulletin.lock();
        if board.version == self.seen {
            return None;
        }
        self.seen = board.version;
        Some(board.update.clone())
    }

    /// Waits for the next update under any executor. `None` when the client was closed. Dropping the future
    /// loses nothing.
    #[expect(clippy::should_implement_trait, reason = "a future, not an iterator")]
    pub fn next(&mut self) -> impl Future<Output = Option<Update>> + Send + '_ {
        NextUpdate { changes: self }
    }

    /// Waits for the next update on this thread. `None` when the time is over or the client was closed.
    pub fn next_blocking(&mut self, timeout: Duration) -> Option<Update> {
        let bulletin = Arc::clone(&self.bulletin);
        let deadline = Instant::now().checked_add(timeout);
        let mut found = None;
        bulletin.wait_until(deadline, || {
            found = self.try_next();
            found.is_some()
        });
        found
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        let id = self.id;
        let mut board = self.bulletin.lock();
        let gone: Vec<_> = board.wakers.extract_if(.., |(known, _)| *known == id).collect();
        drop(board);
        drop(gone);
    }
}

struct NextUpdate<'c> {
    changes: &'c mut Changes,
}

impl Future for NextUpdate<'_> {
    type Output = Option<Update>;

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Option<Update>> {
        // Registered before looking, so that an update in between wakes us.
        self.changes.bulletin.register(self.changes.id, task.waker());
        match self.changes.try_next() {
            Some(update) => Poll::Ready(Some(update)),
            None if self.changes.bulletin.is_closed() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// Resolves when a condition holds, a deadline has passed or the client is closed. Somebody else must call
/// [`Bulletin::wake_all`] at the deadline.
pub(crate) struct Until<F> {
    changes: Changes,
    deadline: Option<Instant>,
    done: F,
}

impl<F: FnMut() -> bool + Unpin> Until<F> {
    pub(crate) fn new(bulletin: &Arc<Bulletin>, deadline: Option<Instant>, done: F) -> Until<F> {
        Until { changes: bulletin.subscribe(), deadline, done }
    }
}

impl<F: FnMut() -> bool + Unpin> Future for Until<F> {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<bool> {
        self.changes.bulletin.register(self.changes.id, task.waker());
        if (self.done)() {
            return Poll::Ready(true);
        }
        let late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if late || self.changes.bulletin.is_closed() { Poll::Ready(false) } else { Poll::Pending }
    }
}

/// Keeps a callback registered; dropping it takes the callback away. See [`Client::on_change`](crate::Client::on_change).
#[derive(Debug)]
#[must_use = "dropping the subscription takes the callback away"]
pub struct Subscription {
    id: u64,
    bulletin: Arc<Bulletin>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.bulletin.remove_callback(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn bulletin() -> Arc<Bulletin> {
        Arc::new(Bulletin::new(Connection::Embedded))
    }

    #[test]
    fn a_subscription_yields_the_newest_and_skips_those_between() {
        let bulletin = bulletin();
        let mut changes = bulletin.subscribe();
        assert_eq!(changes.try_next(), None);
        bulletin.put(|update| update.revision = 1);
        bulletin.put(|update| update.revision = 2);
        assert_eq!(changes.try_next().map(|update| update.revision), Some(2));
        assert_eq!(changes.try_next(), None);
        assert!(!bulletin.put(|update| update.revision = 2), "no news");
    }

    #[test]
    fn a_waiting_thread_is_woken_by_an_update_and_by_the_end() {
        let bulletin = bulletin();
        let mut changes = bulletin.subscribe();
        let waiting = std::thread::spawn(move || {
            let first = changes.next_blocking(Duration::from_mins(1));
            (first, changes.next_blocking(Duration::from_mins(1)))
        });
        bulletin.put(|update| update.revision = 7);
        while bulletin.board.lock().unwrap().version == 0 {
            std::thread::yield_now();
        }
        bulletin.close();
        let (first, second) = waiting.join().unwrap();
        assert!(first.is_none_or(|update| update.revision == 7));
        assert_eq!(second, None);
    }

    #[tokio::test]
    async fn a_task_is_woken() {
        let bulletin = bulletin();
        let mut changes = bulletin.subscribe();
        let task = tokio::spawn(async move { changes.next().await });
        tokio::task::yield_now().await;
        bulletin.put(|update| update.revision = 3);
        assert_eq!(task.await.unwrap().map(|update| update.revision), Some(3));
    }

    #[test]
    fn callbacks_are_called_until_they_are_dropped_or_panic() {
        let bulletin = bulletin();
        let seen = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&seen);
        let kept = bulletin.call(Arc::new(move |update| {
            count.fetch_add(update.revision, Ordering::Relaxed);
        }));
        let _bad = bulletin.call(Arc::new(|_| panic!("a callback of the test")));
        bulletin.put(|update| update.revision = 1);
        bulletin.put(|update| update.revision = 10);
        assert_eq!(seen.load(Ordering::Relaxed), 11);
        assert_eq!(bulletin.lock().callbacks.len(), 1, "the panicking one is gone");
        drop(kept);
        bulletin.put(|update| update.revision = 100);
        assert_eq!(seen.load(Ordering::Relaxed), 11);
    }
}
