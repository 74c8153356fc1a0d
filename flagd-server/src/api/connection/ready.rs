//! Who of a connection has something to do: its streams, its socket, its clock.
//!
//! A connection is one task. Whatever one of its parts waits for rings that part's doorbell, which notes the part and
//! wakes the task, unless the task is awake and will look anyway. So a part that has nothing to do costs nothing when
//! another one is woken, and what a stream and its socket do for each other (a frame to write, a message that came)
//! is done in the same turn of the task. Nearly every connection carries a few streams: those are bits of one word,
//! the others stand in a line. Synchronous; knows no protocol.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use futures_util::task::AtomicWaker;

use crate::hub::bell::Ear;

/// The task looks again before it sleeps.
const AWAKE: u64 = 1 << 63;
const SOCKET: u64 = 1 << 62;
const CLOCK: u64 = 1 << 61;
/// Somebody stands in the line.
const LINE: u64 = 1 << 60;
/// So many streams are bits; the rest stands in the line.
const BITS: usize = 60;

/// Who has something to do. As a waker it is the socket's doorbell.
#[derive(Debug, Default)]
pub(super) struct Ready {
    noted: AtomicU64,
    task: AtomicWaker,
    line: Mutex<VecDeque<usize>>,
}

/// A part of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// What it waits for beside its socket and its streams: the time, and the end of the server.
    Clock,
    /// The stream at this place.
    Stream(usize),
}

/// Those who were noted at one moment, except the socket.
#[derive(Debug)]
pub(super) struct Noted<'a> {
    ready: &'a Ready,
    bits: u64,
    from_line: usize,
}

impl Ready {
    /// The task begins a turn.
    pub(super) fn begin(&self, task: &Waker) {
        self.task.register(task);
        self.noted.fetch_or(AWAKE, Ordering::SeqCst);
    }

    /// The task wants to sleep. Whether it must not, because somebody was noted whom it did not look at.
    pub(super) fn end(&self) -> bool {
        self.noted.fetch_and(!AWAKE, Ordering::SeqCst) != AWAKE
    }

    /// Those who have something to do, except the socket; of those in the line at most so many.
    pub(super) fn take(&self, from_line: usize) -> Noted<'_> {
        let bits = self.noted.fetch_and(AWAKE | SOCKET, Ordering::SeqCst) & !(AWAKE | SOCKET);
        Noted { ready: self, bits, from_line }
    }

    /// Whether the socket has something to do; asked once it has not.
    pub(super) fn take_socket(&self) -> bool {
        self.noted.fetch_and(!SOCKET, Ordering::SeqCst) & SOCKET != 0
    }

    /// Whether anybody has something to do.
    pub(super) fn is_one_noted(&self) -> bool {
        self.noted.load(Ordering::SeqCst) & !AWAKE != 0
    }

    fn line(&self) -> MutexGuard<'_, VecDeque<usize>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, bit: u64) {
        // Whoever was noted before has woken the task, and an awake task looks before it sleeps.
        if self.noted.fetch_or(bit, Ordering::SeqCst) == 0 {
            self.task.wake();
        }
    }

    fn note_part(&self, part: Part) {
        match part {
            Part::Clock => self.note(CLOCK),
            Part::Stream(place) if place < BITS => self.note(1 << place),
            Part::Stream(place) => {
                self.line().push_back(place);
                self.note(LINE);
            }
        }
    }
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.note(SOCKET);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.note(SOCKET);
    }
}

impl Iterator for Noted<'_> {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        if self.bits & CLOCK != 0 {
            self.bits &= !CLOCK;
            return Some(Part::Clock);
        }
        let place = self.bits.trailing_zeros() as usize;
        if place < BITS {
            self.bits &= self.bits - 1;
            return Some(Part::Stream(place));
        }
        if self.bits & LINE == 0 {
            return None;
        }
        if self.from_line == 0 {
            // The rest is for the next look.
            self.ready.note(LINE);
            self.bits = 0;
            return None;
        }
        self.from_line -= 1;
        self.ready.line().pop_front().map(Part::Stream)
    }
}

/// What of a part is woken: nothing, or more than one thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Woken(u8);

impl Woken {
    const BELL: u8 = 1;
    const REST: u8 = 2;

    /// Whether it may have been anything but the bell.
    pub(crate) fn by_the_rest(self) -> bool {
        self.0 & Woken::REST != 0
    }
}

/// The doorbell of one part. As an ear it is for its environment's bell; as a waker for the rest of what it polls.
#[derive(Debug)]
pub(crate) struct Doorbell {
    ready: Arc<Ready>,
    part: Part,
    woken: AtomicU8,
}

impl Doorbell {
    /// The doorbell of a part.
    pub(super) fn new(ready: &Arc<Ready>, part: Part) -> Arc<Doorbell> {
        Arc::new(Doorbell { ready: Arc::clone(ready), part, woken: AtomicU8::new(0) })
    }

    /// What has woken it since the last call. Asked before the part looks for itself: what comes later wakes again.
    pub(super) fn take(&self) -> Woken {
        Woken(self.woken.swap(0, Ordering::SeqCst))
    }

    fn woken_by(&self, what: u8) {
        if self.woken.fetch_or(what, Ordering::SeqCst) == 0 {
            self.ready.note_part(self.part);
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

    fn taken(ready: &Ready) -> Vec<Part> {
        ready.take(usize::MAX).collect()
    }

    fn parts(places: impl IntoIterator<Item = usize>) -> Vec<Part> {
        places.into_iter().map(Part::Stream).collect()
    }

    #[test]
    fn a_part_is_noted_once_and_knows_what_woke_it() {
        let ready = Arc::new(Ready::default());
        for places in [[4, 7], [4, BITS], [BITS, BITS + 1]] {
            let doorbells = places.map(|place| Doorbell::new(&ready, Part::Stream(place)));
            let [one, other] = &doorbells;
            one.rung();
            other.rung();
            Waker::from(Arc::clone(one)).wake();
            assert_eq!(taken(&ready), parts(places));
            assert_eq!((one.take().by_the_rest(), other.take().by_the_rest()), (true, false));
            assert_eq!(one.take(), Woken::default());
            other.wake_by_ref();
            assert_eq!(taken(&ready), [Part::Stream(places[1])]);
            assert!(other.take().by_the_rest());
            assert_eq!(taken(&ready), []);
        }
    }

    #[test]
    fn the_socket_is_asked_for_by_itself_and_the_clock_comes_first() {
        let ready = Arc::new(Ready::default());
        let clock = Doorbell::new(&ready, Part::Clock);
        Doorbell::new(&ready, Part::Stream(0)).rung();
        Waker::from(Arc::clone(&clock)).wake();
        Waker::from(Arc::clone(&ready)).wake();
        assert_eq!(taken(&ready), [Part::Clock, Part::Stream(0)]);
        assert!(ready.is_one_noted() && ready.take_socket() && !ready.take_socket() && !ready.is_one_noted());
    }

    #[test]
    fn of_a_long_line_some_are_taken_at_a_time() {
        let ready = Arc::new(Ready::default());
        let doorbells: Vec<_> =
            (BITS - 1..BITS + 7).map(|place| Doorbell::new(&ready, Part::Stream(place))).collect();
        for doorbell in &doorbells {
            doorbell.rung();
        }
        let mut looks = Vec::new();
        while ready.is_one_noted() {
            looks.push(ready.take(3).collect::<Vec<_>>());
        }
        let (first, second, third) =
            (parts(BITS - 1..BITS + 3), parts(BITS + 3..BITS + 6), parts(BITS + 6..BITS + 7));
        assert_eq!(looks, [first, second, third]);
    }

    #[test]
    fn the_task_is_woken_only_while_it_sleeps() {
        let ready = Arc::new(Ready::default());
        let woken = Arc::new(Counter::default());
        let (task, part) = (Waker::from(Arc::clone(&woken)), Doorbell::new(&ready, Part::Stream(0)));
        ready.begin(&task);
        part.rung();
        assert_eq!(woken.0.load(Ordering::SeqCst), 0, "it is awake");
        assert!(ready.end(), "and must look again");
        part.rung();
        assert_eq!(woken.0.load(Ordering::SeqCst), 0, "it will");
        ready.begin(&task);
        assert_eq!((taken(&ready), part.take()), (parts([0]), Woken(Woken::BELL)));
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
        let parts: Vec<_> = (0..3).map(|place| Doorbell::new(&ready, Part::Stream(place * BITS))).collect();
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
            for part in taken(&ready) {
                let Part::Stream(place) = part else { panic!("a stream") };
                parts[place / BITS].take();
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
