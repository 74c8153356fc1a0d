//! Wakes all streams of an environment.
//!
//! A stream is asleep until something happens, and nearly always that is the same for all: a change is shown, the view
//! has become stale, the server stops. So all of them listen to one bell, each with one place for whoever polls it,
//! and find out themselves what it rang for. Listening again costs no lock.
//!
//! They are woken some at a time, and the next ones when these have written. Of thousands that are woken at once the
//! first would write only after the last was looked at, and each is looked at three times, by who wakes, by the
//! stream and by its connection: by then the processor has forgotten what it knew of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use slab::Slab;
use tokio::sync::{Notify, watch};

/// How many are woken before these are let go first. Of one connection as many frames go into one write as fit into
/// its buffer, about thirty; of a thousand connections not more should be in work than the processor's caches hold.
const TOGETHER: usize = 128;

/// A bell that streams listen to.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rings: AtomicU64,
    rung: Notify,
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
    /// To be called after that is visible which it rings for; [`ringer`] wakes everybody.
    pub(crate) fn ring(&self) {
        self.rings.fetch_add(1, Ordering::SeqCst);
        self.rung.notify_one();
    }

    /// Wakes the listeners of some places, and tells where to go on; `None` behind the last one.
    fn wake_some(&self, from: usize) -> Option<usize> {
        let listeners = self.listeners();
        let until = from.saturating_add(TOGETHER).min(listeners.capacity());
        for place in from..until {
            if let Some(waker) = listeners.get(place) {
                waker.wake();
            }
        }
        (until < listeners.capacity()).then_some(until)
    }

    fn wake_all(&self) {
        let mut next = Some(0);
        while let Some(from) = next {
            next = self.wake_some(from);
        }
    }

    fn listeners(&self) -> MutexGuard<'_, Slab<Arc<AtomicWaker>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes whoever listens to a bell, each time it is rung, until told to stop. Rings that come meanwhile make one more
/// round: who is woken finds everything that there is.
pub(crate) async fn ringer(bell: Arc<Bell>, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            biased;
            // An error means that the hub is gone, which is the same.
            _ = stopped.wait_for(|stopped| *stopped) => break,
            () = bell.rung.notified() => {}
        }
        let mut next = bell.wake_some(0);
        while let Some(from) = next {
            // This task is looked at again when nobody else is to be: then those have written.
            tokio::task::yield_now().await;
            next = bell.wake_some(from);
        }
    }
    bell.wake_all();
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

    fn ring(bell: &Bell) {
        bell.ring();
        bell.wake_all();
    }

    #[tokio::test]
    async fn all_of_many_are_woken_for_each_ring_and_when_it_stops() {
        let bell = Arc::new(Bell::default());
        let (stop, stopped) = watch::channel(false);
        let counter = Arc::new(Counter::default());
        let waker = Waker::from(Arc::clone(&counter));
        let mut listeners: Vec<Listener> = (0..=3 * TOGETHER).map(|_| Listener::to(&bell)).collect();
        listeners.drain(5..10);
        let ringing = tokio::spawn(ringer(Arc::clone(&bell), stopped));
        let mut seen = 0;
        for _ in 0..3 {
            assert!(listeners.iter_mut().all(|listener| listener.has_rung(&waker)));
            bell.ring();
            while seen < listeners.len() {
                tokio::task::yield_now().await;
                seen += counter.woken();
            }
            assert_eq!(seen, listeners.len());
            seen = 0;
        }
        assert!(listeners.iter_mut().all(|listener| listener.has_rung(&waker)));
        stop.send_replace(true);
        ringing.await.unwrap();
        assert_eq!(counter.woken(), listeners.len(), "nobody sleeps on");
    }

    #[test]
    fn who_listens_is_woken_once_and_hears_that_it_rang() {
        let bell = Arc::new(Bell::default());
        let counter = Arc::new(Counter::default());
        let waker = Waker::from(Arc::clone(&counter));
        let mut listener = Listener::to(&bell);
        ring(&bell);
        assert!(listener.has_rung(&waker), "whatever was before");
        assert!(!listener.has_rung(&waker));
        assert_eq!(counter.woken(), 0);
        ring(&bell);
        ring(&bell);
        assert_eq!(counter.woken(), 1, "it has not looked since");
        assert!(listener.has_rung(&waker) && !listener.has_rung(&waker));
        ring(&bell);
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
        for count in 1..=RINGS {
            shown.store(count, Ordering::SeqCst);
            ring(&bell);
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
