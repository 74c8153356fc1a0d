//! Who of a connection has something to do: its streams, its socket, its clock.
//!
//! A connection is one task. Whatever one of its parts waits for wakes that part's doorbell, which puts the part into
//! a line and wakes the task, unless the task is awake and will look at the line anyway. So a part that has nothing
//! to do costs nothing when another one is woken, and what a stream and its socket do for each other (a frame to
//! write, a message that came) is done in the same turn of the task. Synchronous; knows no protocol.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use futures_util::task::AtomicWaker;

use crate::hub::bell::Ear;

/// The line of a connection. As a waker it is the socket's doorbell.
#[derive(Debug, Default)]
pub(super) struct Ready {
    line: Mutex<VecDeque<usize>>,
    socket: AtomicBool,
    /// Something was put into the line since the task looked last.
    news: AtomicBool,
    /// The task looks at the line again before it sleeps.
    awake: AtomicBool,
    task: AtomicWaker,
}

impl Ready {
    /// The task begins a turn.
    pub(super) fn begin(&self, task: &Waker) {
        self.task.register(task);
        self.awake.store(true, Ordering::SeqCst);
        self.news.store(false, Ordering::SeqCst);
    }

    /// The task wants to sleep. Whether it must not, because something was put into the line after it looked.
    pub(super) fn end(&self) -> bool {
        self.awake.store(false, Ordering::SeqCst);
        self.news.load(Ordering::SeqCst)
    }

    /// The next in the line.
    pub(super) fn next(&self) -> Option<usize> {
        self.line().pop_front()
    }

    /// Whether the socket has something to do; asked once it has not.
    pub(super) fn take_socket(&self) -> bool {
        self.socket.swap(false, Ordering::SeqCst)
    }

    /// Whether anybody has something to do.
    pub(super) fn is_one_ready(&self) -> bool {
        self.socket.load(Ordering::SeqCst) || !self.line().is_empty()
    }

    fn line(&self) -> MutexGuard<'_, VecDeque<usize>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        // In this order: either the task sees the news when it ends its turn, or it is asleep here and is woken.
        self.news.store(true, Ordering::SeqCst);
        if !self.awake.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.socket.store(true, Ordering::SeqCst);
        self.tell();
    }
}

/// What of a part is woken: nothing, or more than one thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Woken(u8);

impl Woken {
    const BELL: u8 = 1;
    const REST: u8 = 2;

    /// Whether anything but the bell may have woken it.
    pub(crate) fn by_more_than_the_bell(self) -> bool {
        self.0 & Woken::REST != 0
    }
}

/// The doorbell of one part. As a waker it is for everything that the part polls; as an ear for its environment's bell.
#[derive(Debug)]
pub(crate) struct Doorbell {
    ready: Arc<Ready>,
    place: usize,
    woken: AtomicU8,
}

impl Doorbell {
    /// The doorbell of the part at this place.
    pub(super) fn new(ready: &Arc<Ready>, place: usize) -> Arc<Doorbell> {
        Arc::new(Doorbell { ready: Arc::clone(ready), place, woken: AtomicU8::new(0) })
    }

    /// What has woken it since the last call. Asked before the part looks for itself: what comes later wakes again.
    pub(super) fn take(&self) -> Woken {
        Woken(self.woken.swap(0, Ordering::SeqCst))
    }

    fn woken_by(&self, what: u8) {
        if self.woken.fetch_or(what, Ordering::SeqCst) == 0 {
            self.ready.line().push_back(self.place);
            self.ready.tell();
        }
    }
}

impl Wake for Doorbell {
    fn wake(self: Arc<Self>) {
        self.woken_by(Woken::REST);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken_by(Woken::REST);
    }
}

impl Ear for Doorbell {
    fn rung(&self) {
        self.woken_by(Woken::BELL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::thread::Thread;

    #[derive(Debug, Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn line(ready: &Ready) -> Vec<usize> {
        std::iter::from_fn(|| ready.next()).collect()
    }

    #[test]
    fn a_part_stands_in_the_line_once_and_knows_what_woke_it() {
        let ready = Arc::new(Ready::default());
        let parts = [4, 7].map(|place| Doorbell::new(&ready, place));
        let [one, other] = &parts;
        one.rung();
        other.rung();
        Waker::from(Arc::clone(one)).wake();
        assert_eq!(line(&ready), [4, 7]);
        assert!(one.take().by_more_than_the_bell() && !other.take().by_more_than_the_bell());
        assert_eq!(one.take(), Woken::default());
        Waker::from(Arc::clone(other)).wake();
        assert_eq!(line(&ready), [7]);
        assert!(!ready.take_socket());
        Waker::from(Arc::clone(&ready)).wake();
        assert!(ready.is_one_ready() && ready.take_socket() && !ready.is_one_ready());
    }

    #[test]
    fn the_task_is_woken_only_while_it_sleeps() {
        let ready = Arc::new(Ready::default());
        let woken = Arc::new(Counter::default());
        let (task, part) = (Waker::from(Arc::clone(&woken)), Doorbell::new(&ready, 0));
        ready.begin(&task);
        part.rung();
        assert_eq!(woken.0.load(Ordering::SeqCst), 0, "it is awake");
        assert!(ready.end(), "and must look again");
        ready.begin(&task);
        assert_eq!((line(&ready), part.take()), (vec![0], Woken(Woken::BELL)));
        assert!(!ready.end());
        part.rung();
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    }

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    /// Others wake parts from their threads; a task that sleeps only when it may misses none of it.
    #[test]
    fn no_wake_is_lost() {
        const WAKES: usize = 20_000;
        let ready = Arc::new(Ready::default());
        let done = Arc::new(AtomicUsize::new(0));
        let parts: Vec<_> = (0..3).map(|place| Doorbell::new(&ready, place)).collect();
        let threads: Vec<_> = parts
            .iter()
            .map(|part| {
                let (part, done) = (Arc::clone(part), Arc::clone(&done));
                std::thread::spawn(move || {
                    for _ in 0..WAKES {
                        done.fetch_add(1, Ordering::SeqCst);
                        part.rung();
                    }
                })
            })
            .collect();
        let task = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut seen = 0;
        while seen < 3 * WAKES {
            ready.begin(&task);
            for place in line(&ready) {
                parts[place].take();
                seen = done.load(Ordering::SeqCst);
            }
            if !ready.end() && seen < 3 * WAKES {
                std::thread::park();
            }
        }
        for thread in threads {
            thread.join().unwrap();
        }
    }
}
