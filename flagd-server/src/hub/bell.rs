//! Wakes all streams of an environment.
//!
//! A stream is asleep until something happens, and nearly always that is the same for all: a change is shown, the view
//! has become stale, the server stops. So all of them listen to one bell, each through an ear of its own that lasts as
//! long as it does, and find out themselves what it rang for. Who has heard has nothing to do to hear again.
//!
//! They are woken some at a time, and the next ones when these have written. Of thousands that are woken at once the
//! first would write only after the last was looked at, and each is looked at twice, by who wakes and by its
//! connection: by then the processor has forgotten what it knew of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slab::Slab;
use tokio::sync::{Notify, watch};

/// How many are woken before these are let go first. Of one connection as many frames go into one write as fit into
/// its buffer, about thirty; of a thousand connections not more should be in work than the processor's caches hold.
const TOGETHER: usize = 128;

/// What of a listener is told that the bell has rung. It must not wait, and may be told although nothing is new.
pub(crate) trait Ear: std::fmt::Debug + Send + Sync {
    /// It has rung.
    fn rung(&self);
}

/// A bell that streams listen to.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rings: AtomicU64,
    rung: Notify,
    ears: Mutex<Slab<Arc<dyn Ear>>>,
}

/// A stream that listens.
#[derive(Debug)]
pub(crate) struct Listener {
    bell: Arc<Bell>,
    place: usize,
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
        let ears = self.ears();
        let until = from.saturating_add(TOGETHER).min(ears.capacity());
        for place in from..until {
            if let Some(ear) = ears.get(place) {
                ear.rung();
            }
        }
        (until < ears.capacity()).then_some(until)
    }

    fn wake_all(&self) {
        let mut next = Some(0);
        while let Some(from) = next {
            next = self.wake_some(from);
        }
    }

    fn ears(&self) -> MutexGuard<'_, Slab<Arc<dyn Ear>>> {
        self.ears.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// Listens from now on: whenever it rings, `ear` is told.
    pub(crate) fn to(bell: &Arc<Bell>, ear: Arc<dyn Ear>) -> Listener {
        let place = bell.ears().insert(ear);
        Listener { bell: Arc::clone(bell), place, heard: None }
    }

    /// Whether it has rung since the last call; always at the first one.
    pub(crate) fn has_rung(&mut self) -> bool {
        // Who rings in between is heard here, and tells the ear later.
        let rings = self.bell.rings.load(Ordering::SeqCst);
        self.heard.replace(rings) != Some(rings)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.bell.ears().try_remove(self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::thread::Thread;

    #[derive(Debug, Default)]
    struct Counter(AtomicUsize);

    impl Ear for Counter {
        fn rung(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Counter {
        fn told(&self) -> usize {
            self.0.swap(0, Ordering::SeqCst)
        }
    }

    fn ring(bell: &Bell) {
        bell.ring();
        bell.wake_all();
    }

    #[tokio::test]
    async fn all_of_many_are_told_of_each_ring_and_when_it_stops() {
        let bell = Arc::new(Bell::default());
        let (stop, stopped) = watch::channel(false);
        let counter = Arc::new(Counter::default());
        let mut listeners: Vec<Listener> =
            (0..=3 * TOGETHER).map(|_| Listener::to(&bell, Arc::clone(&counter) as Arc<dyn Ear>)).collect();
        listeners.drain(5..10);
        let ringing = tokio::spawn(ringer(Arc::clone(&bell), stopped));
        let mut told = 0;
        for _ in 0..3 {
            assert!(listeners.iter_mut().all(Listener::has_rung));
            bell.ring();
            while told < listeners.len() {
                tokio::task::yield_now().await;
                told += counter.told();
            }
            assert_eq!(told, listeners.len());
            told = 0;
        }
        stop.send_replace(true);
        ringing.await.unwrap();
        assert_eq!(counter.told(), listeners.len(), "nobody sleeps on");
    }

    #[test]
    fn who_listens_hears_that_it_rang() {
        let bell = Arc::new(Bell::default());
        let counter = Arc::new(Counter::default());
        let mut listener = Listener::to(&bell, Arc::clone(&counter) as Arc<dyn Ear>);
        assert!(listener.has_rung(), "whatever was before");
        assert!(!listener.has_rung());
        assert_eq!(counter.told(), 0);
        ring(&bell);
        ring(&bell);
        assert_eq!(counter.told(), 2);
        assert!(listener.has_rung() && !listener.has_rung());
    }

    #[test]
    fn who_has_gone_is_forgotten() {
        let bell = Arc::new(Bell::default());
        let listen = || Listener::to(&bell, Arc::new(Counter::default()));
        let (first, second) = (listen(), listen());
        drop(first);
        assert_eq!(bell.ears().len(), 1);
        let third = listen();
        assert_eq!((second.place, third.place, bell.ears().len()), (1, 0, 2));
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
                    let mut listener = Listener::to(&bell, Arc::new(Unpark(std::thread::current())));
                    while shown.load(Ordering::SeqCst) < RINGS {
                        while !listener.has_rung() {
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

    #[derive(Debug)]
    struct Unpark(Thread);

    impl Ear for Unpark {
        fn rung(&self) {
            self.0.unpark();
        }
    }
}
