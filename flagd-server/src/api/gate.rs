//! Admits arrivals at a bounded rate and tells the rest when to come back.
//!
//! After a restart everybody comes at once. A bucket of tokens lets a first crowd in; each of the rest is given its own
//! turn at the rate that the server takes, so that they do not come back as another crowd. Who comes when all places
//! are taken is sent away for longer. Synchronous, with time and chance as arguments; knows no stream.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::{self, Admission};

/// Lets through at a bounded rate, and a crowd at once.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// The time that one arrival takes at the bounded rate.
    spacing: Duration,
    /// How far ahead of the rate arrivals may be.
    slack: Duration,
    /// When all who were let through would have come at the bounded rate.
    until: Instant,
}

impl Bucket {
    /// A bucket for this many arrivals a second, and this many at once.
    pub(crate) fn new(per_second: u32, at_once: u32, now: Instant) -> Bucket {
        let spacing = Duration::from_secs(1) / per_second.max(1);
        Bucket { spacing, slack: spacing * at_once.max(1), until: now }
    }

    /// Lets one more through, or not.
    fn take(&mut self, now: Instant) -> bool {
        let until = self.until.max(now) + self.spacing;
        let free = until.saturating_duration_since(now) <= self.slack;
        if free {
            self.until = until;
        }
        free
    }

    /// Lets one more through after this time.
    pub(crate) fn queue(&mut self, now: Instant) -> Duration {
        self.until = self.until.max(now) + self.spacing;
        self.until.saturating_duration_since(now).saturating_sub(self.slack)
    }
}

/// The gate.
#[derive(Debug)]
pub(crate) struct Gate {
    places: usize,
    taken: Arc<AtomicUsize>,
    turns: Mutex<Turns>,
}

#[derive(Debug)]
struct Turns {
    admitted: Bucket,
    /// The last turn that was promised to somebody sent away.
    promised_until: Instant,
}

/// The place of somebody who was let in; dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Ticket(Arc<AtomicUsize>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Why somebody is sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Away {
    /// Too many came at once; its turn comes after this time.
    Turn(Duration),
    /// All places are taken.
    Crowded,
}

impl Away {
    /// For how long, in milliseconds, uniform in `random` where there is a choice.
    pub(crate) fn retry_after_ms(self, random: u64) -> u64 {
        match self {
            Away::Turn(turn) => retry_after_ms(turn, random),
            Away::Crowded => retry_after_ms(limits::CROWDED_RETRY_AFTER, random),
        }
    }

    /// In words.
    pub(crate) fn why(self) -> &'static str {
        match self {
            Away::Turn(_) => "too many clients come at once",
            Away::Crowded => "this server has as many streams as it takes",
        }
    }
}

impl Gate {
    /// A gate with these limits.
    pub(crate) fn new(admission: &Admission, now: Instant) -> Gate {
        let admitted = Bucket::new(admission.streams_per_second, admission.streams_at_once, now);
        Gate {
            places: admission.streams_max,
            taken: Arc::default(),
            turns: Mutex::new(Turns { admitted, promised_until: now }),
        }
    }

    /// Lets somebody in, or says why not.
    pub(crate) fn admit(&self, now: Instant) -> Result<Ticket, Away> {
        self.taken.fetch_add(1, Ordering::AcqRel);
        // Frees the place again unless it is given.
        let ticket = Ticket(Arc::clone(&self.taken));
        if self.taken.load(Ordering::Acquire) > self.places {
            return Err(Away::Crowded);
        }
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.admitted.take(now) {
            return Ok(ticket);
        }
        let turn = turns.promised_until.max(now) + turns.admitted.spacing;
        turns.promised_until = turn.min(now + limits::RETRY_AFTER_MAX);
        Err(Away::Turn(turn.saturating_duration_since(now)))
    }
}

/// What somebody is told whose turn comes after this time, in milliseconds: never at once, and with a random part, so
/// that even those of one moment do not come back in one. Turns beyond the longest time that is told share its second
/// half.
pub(crate) fn retry_after_ms(turn: Duration, random: u64) -> u64 {
    let (spread, base) = if turn <= limits::RETRY_AFTER_MAX {
        (limits::RETRY_AFTER_SPREAD, turn + limits::RETRY_AFTER_MIN)
    } else {
        (limits::RETRY_AFTER_MAX / 2, limits::RETRY_AFTER_MAX / 2)
    };
    let spread_ms = (u128::from(random) * spread.as_millis()) >> 64;
    u64::try_from(base.as_millis() + spread_ms).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(streams_per_second: u32, streams_at_once: u32, now: Instant) -> Gate {
        Gate::new(&Admission { streams_per_second, streams_at_once, ..Admission::default() }, now)
    }

    fn admitted(gate: &Gate, arrivals: u32, now: Instant) -> u32 {
        (0..arrivals).map(|_| u32::from(gate.admit(now).is_ok())).sum()
    }

    #[test]
    fn a_crowd_is_let_in_up_to_the_bound_and_then_at_the_rate() {
        let start = Instant::now();
        let gate = gate(100, 20, start);
        assert_eq!(admitted(&gate, 50, start), 20);
        assert_eq!(admitted(&gate, 50, start + Duration::from_millis(100)), 10);
        assert_eq!(admitted(&gate, 50, start + Duration::from_mins(1)), 20, "time alone saves up no more");
    }

    #[test]
    fn who_is_sent_away_gets_a_turn_of_its_own() {
        let start = Instant::now();
        let gate = gate(100, 1, start);
        assert!(gate.admit(start).is_ok());
        let turns: Vec<_> = (0..3).map(|_| gate.admit(start).unwrap_err()).collect();
        assert_eq!(turns, [10, 20, 30].map(|ms| Away::Turn(Duration::from_millis(ms))));
    }

    #[test]
    fn a_place_that_is_left_is_free_again() {
        let start = Instant::now();
        let gate = Gate::new(&Admission { streams_max: 2, ..Admission::default() }, start);
        let mut tickets: Vec<_> = (0..2).map(|_| gate.admit(start).unwrap()).collect();
        assert_eq!(gate.admit(start).unwrap_err(), Away::Crowded);
        assert_eq!(gate.admit(start).unwrap_err(), Away::Crowded, "asking takes no place");
        tickets.pop();
        assert!(gate.admit(start).is_ok());
    }

    #[test]
    fn what_is_told_is_the_turn_and_a_random_part() {
        let max_ms = u64::try_from(limits::RETRY_AFTER_MAX.as_millis()).unwrap();
        let cases = [
            ("at once, no luck", 0, u64::MAX, 4_499),
            ("at once, all luck", 0, 0, 500),
            ("half way", 0, u64::MAX / 2, 2_499),
            ("a turn in a minute", 60_000, 0, 60_500),
            ("the last turn", max_ms, 0, max_ms + 500),
            ("beyond it, all luck", max_ms + 1, 0, max_ms / 2),
            ("beyond it, no luck", max_ms * 9, u64::MAX, max_ms - 1),
        ];
        for (name, turn_ms, random, want_ms) in cases {
            assert_eq!(retry_after_ms(Duration::from_millis(turn_ms), random), want_ms, "{name}");
        }
        assert_eq!(Away::Crowded.retry_after_ms(0), 30_500);
    }

    #[test]
    fn a_queue_passes_a_crowd_and_then_one_after_the_other() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, 3, start);
        let waits: Vec<_> = (0..5).map(|_| bucket.queue(start).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100, 200]);
        assert_eq!(bucket.queue(start + Duration::from_secs(9)), Duration::ZERO);
    }

    /// A small generator of numbers that look random.
    fn chance(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state ^ (*state >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    /// Six times as many as are admitted come for ten seconds. Each does what it is told, and adds up to half of it as
    /// docs/protocol.md says.
    #[test]
    fn those_who_obey_come_back_at_about_the_rate_and_get_in() {
        const PER_SECOND: u32 = 100;
        const CLIENTS: usize = 6_000;
        let (start, mut seed) = (Instant::now(), 9);
        let gate = gate(PER_SECOND, PER_SECOND, start);
        let arrivals = (0..CLIENTS).map(|number| std::cmp::Reverse((number * 10_000 / CLIENTS, 0)));
        let mut coming: std::collections::BinaryHeap<_> = arrivals.collect();
        let (mut came, mut inside, mut refusals) = (vec![0_usize; 1_000], Vec::new(), 0);
        while let Some(std::cmp::Reverse((at_ms, again))) = coming.pop() {
            came[at_ms / 1_000] += 1;
            let now = start + Duration::from_millis(u64::try_from(at_ms).unwrap());
            match gate.admit(now) {
                Ok(ticket) => inside.push((ticket, at_ms)),
                Err(away) => {
                    refusals += 1;
                    let told_ms = away.retry_after_ms(chance(&mut seed));
                    let more_ms = (u128::from(chance(&mut seed)) * u128::from(told_ms / 2)) >> 64;
                    let wait_ms = usize::try_from(told_ms).unwrap() + usize::try_from(more_ms).unwrap();
                    coming.push(std::cmp::Reverse((at_ms + wait_ms, again + 1)));
                }
            }
        }
        assert_eq!(inside.len(), CLIENTS);
        let most = came.iter().skip(11).max().unwrap();
        assert!(*most < 150, "{most} came in one second once the storm was over");
        let last_ms = inside.last().unwrap().1;
        assert!(last_ms < 2 * CLIENTS * 10, "the last one is in after {last_ms} ms");
        assert!(refusals < 2 * CLIENTS, "{refusals} refusals");
    }
}
