//! Wakes all streams of an environment.
//!
//! A stream is asleep until something happens, and nearly always that is the same for all: a change is shown, the view
//! has become stale, the server stops. So all of them listen to one bell, each with one place for whoever polls it,
//! and find out themselves what it rang for. Listening again costs no lock; ringing costs one for all of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use slab::Slab;

/// A bell that streams listen to.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rings: AtomicU64,
    listeners: Mutex<Slab<Arc<AtomicWaker>>>,
}

/// A stream that listens.
#[derive(Debug)]
pub(crate) struct Listener {
    bell: Arc<Bell>,
    place: usize,
    waker: Arc<AtomicWaker>,
    /// How often it had rung when this one looked last.
    heard: Option<u64>,
}

impl Bell {
    /// Wakes everybody. To be called after that is visible which it rings for.
    pub(crate) fn ring(&self) {
        self.rings.fetch_add(1, Ordering::SeqCst);
        for (_, waker) in self.listeners().iter() {
            waker.wake();
        }
    }

    fn listeners(&self) -> MutexGuard<'_, Slab<Arc<AtomicWaker>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    /// Listens from now on.
    pub(crate) fn to(bell: &Arc<Bell>) -> Listener {
        let waker = Arc::new(AtomicWaker::new());
        let place = bell.listeners().insert(Arc::clone(&waker));
        Listener { bell: Arc::clone(bell), place, waker, heard: None }
    }

    /// Whether it has rung since the last call; always at the first one. Whoever rings later wakes `waker`.
    pub(crate) fn has_rung(&mut self, waker: &Waker) -> bool {
        // In this order: who rings in between is heard, or wakes.
        self.waker.register(waker);
        let rings = self.bell.rings.load(Ordering::SeqCst);
        self.heard.replace(rings) != Some(rings)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.bell.listeners().try_remove(self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    #[derive(Debug, Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Counter {
        fn woken(&self) -> usize {
            self.0.swap(0, Ordering::SeqCst)
        }
    }

    #[test]
    fn who_listens_is_woken_once_and_hears_that_it_rang() {
        let bell = Arc::new(Bell::default());
        let counter = Arc::new(Counter::default());
        let waker = Waker::from(Arc::clone(&counter));
        let mut listener = Listener::to(&bell);
        bell.ring();
        assert!(listener.has_rung(&waker), "whatever was before");
        assert!(!listener.has_rung(&waker));
        assert_eq!(counter.woken(), 0);
        bell.ring();
        bell.ring();
        assert_eq!(counter.woken(), 1, "it has not looked since");
        assert!(listener.has_rung(&waker) && !listener.has_rung(&waker));
        bell.ring();
        assert_eq!(counter.woken(), 1);
    }

    #[test]
    fn who_has_gone_is_forgotten() {
        let bell = Arc::new(Bell::default());
        let (first, second) = (Listener::to(&bell), Listener::to(&bell));
        drop(first);
        assert_eq!(bell.listeners().len(), 1);
        let third = Listener::to(&bell);
        assert_eq!((second.place, third.place, bell.listeners().len()), (1, 0, 2));
    }

    /// Many listeners on other threads miss no ring: each goes on until it has seen the last one.
    #[test]
    fn no_ring_is_missed() {
        const RINGS: u64 = 20_000;
        let bell = Arc::new(Bell::default());
        let shown = Arc::new(AtomicU64::new(0));
        let listeners: Vec<_> = (0..4)
            .map(|_| {
                let (bell, shown) = (Arc::clone(&bell), Arc::clone(&shown));
                std::thread::spawn(move || {
                    let mut listener = Listener::to(&bell);
                    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
                    while shown.load(Ordering::SeqCst) < RINGS {
                        while !listener.has_rung(&waker) {
                            std::thread::park();
                        }
                    }
                })
            })
            .collect();
        for ring in 1..=RINGS {
            shown.store(ring, Ordering::SeqCst);
            bell.ring();
        }
        for listener in listeners {
            listener.join().unwrap();
        }
    }

    struct Unpark(std::thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
}
