//! Admits arrivals at a bounded rate and tells the rest when to come back.
//!
//! After a restart everybody comes at once. A bucket of tokens lets a first crowd in; each of the rest is given its own
//! turn at the rate that the server takes, so that they do not come back as another crowd. Synchronous, with the
//! time as an argument; knows no stream.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Nobody is sent away for longer than this.
const RETRY_MAX: Duration = Duration::from_mins(1);

/// The gate.
#[derive(Debug)]
pub(crate) struct Gate {
    /// The time that one arrival takes at the bounded rate.
    spacing: Duration,
    /// How far ahead of the rate arrivals may be.
    slack: Duration,
    turns: Mutex<Turns>,
}

#[derive(Debug)]
struct Turns {
    /// When all who were admitted would have come at the bounded rate.
    admitted_until: Instant,
    /// The last turn that was promised to somebody sent away.
    promised_until: Instant,
}

impl Gate {
    /// A gate for this many arrivals a second, and this many at once.
    pub(crate) fn new(per_second: u32, at_once: u32, now: Instant) -> Gate {
        let spacing = Duration::from_secs(1) / per_second.max(1);
        let turns = Turns { admitted_until: now, promised_until: now };
        Gate { spacing, slack: spacing * at_once, turns: Mutex::new(turns) }
    }

    /// Lets somebody in, or says after which time to come back.
    pub(crate) fn admit(&self, now: Instant) -> Result<(), Duration> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let until = turns.admitted_until.max(now) + self.spacing;
        if until.saturating_duration_since(now) <= self.slack {
            turns.admitted_until = until;
            return Ok(());
        }
        let turn = (turns.promised_until.max(now) + self.spacing).min(now + RETRY_MAX);
        turns.promised_until = turn;
        Err(turn.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(gate: &Gate, arrivals: u32, now: Instant) -> u32 {
        (0..arrivals).map(|_| u32::from(gate.admit(now).is_ok())).sum()
    }

    #[test]
    fn a_crowd_is_let_in_up_to_the_bound_and_then_at_the_rate() {
        let start = Instant::now();
        let gate = Gate::new(100, 20, start);
        assert_eq!(admitted(&gate, 50, start), 20);
        assert_eq!(admitted(&gate, 50, start + Duration::from_millis(100)), 10);
        assert_eq!(admitted(&gate, 50, start + Duration::from_mins(1)), 20, "time alone saves up no more");
    }

    #[test]
    fn who_is_sent_away_gets_a_turn_of_its_own() {
        let start = Instant::now();
        let gate = Gate::new(100, 1, start);
        assert_eq!(gate.admit(start), Ok(()));
        let turns: Vec<_> = (0..3).map(|_| gate.admit(start).unwrap_err().as_millis()).collect();
        assert_eq!(turns, [10, 20, 30]);
    }

    #[test]
    fn nobody_is_sent_away_for_ever() {
        let start = Instant::now();
        let gate = Gate::new(1, 1, start);
        assert_eq!(admitted(&gate, 200, start), 1);
        assert_eq!(gate.admit(start), Err(RETRY_MAX));
    }
}
