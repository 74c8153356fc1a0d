//! Whether an HTTP/2 connection lives, looked at once in a while.
//!
//! One that says nothing is asked with a ping, and has gone when it does not answer. One that answers and carries no
//! request for minutes is told to go: it holds a place that somebody else may need. One that asks nothing after it came
//! is closed at once. Synchronous: it counts looks, and whoever looks knows the time.

use std::time::Duration;

use crate::limits;

/// The time between two looks.
pub(super) const LOOK_INTERVAL: Duration = limits::KEEPALIVE_TIMEOUT;

/// Who is told to go has so many looks for it.
const LOOKS_TO_GO: u32 = 3;

/// What is seen at one look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Something came in since the last look.
    pub(super) heard: bool,
    /// A request is being answered.
    pub(super) busy: bool,
    /// Nothing was asked so far.
    pub(super) new: bool,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Fine,
    /// Ask whether it is there.
    Ping,
    /// Tell it to come back when it has a question.
    Dismiss,
    /// Close it: it is not there, or it has never asked anything.
    Close,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    silent_looks: u32,
    idle_looks: u32,
}

impl Pulse {
    /// Looks once.
    pub(super) fn look(&mut self, seen: Seen) -> Verdict {
        if seen.new {
            return Verdict::Close;
        }
        self.silent_looks = if seen.heard { 0 } else { self.silent_looks + 1 };
        self.idle_looks = if seen.busy { 0 } else { self.idle_looks + 1 };
        let idle = LOOK_INTERVAL.saturating_mul(self.idle_looks);
        let silence = LOOK_INTERVAL.saturating_mul(self.silent_looks);
        if silence >= limits::KEEPALIVE_INTERVAL + limits::KEEPALIVE_TIMEOUT
            || idle >= limits::IDLE_TIMEOUT + LOOK_INTERVAL * LOOKS_TO_GO
        {
            Verdict::Close
        } else if idle >= limits::IDLE_TIMEOUT {
            Verdict::Dismiss
        } else if silence >= limits::KEEPALIVE_INTERVAL {
            Verdict::Ping
        } else {
            Verdict::Fine
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: Seen = Seen { heard: true, busy: true, new: false };

    /// What is done at the looks from the first one on; what is fine is left out.
    fn looks(seen: impl Fn(u32) -> Seen) -> Vec<(u32, Verdict)> {
        let mut pulse = Pulse::default();
        (1..=40)
            .map(|at| (at, pulse.look(seen(at))))
            .filter(|(_, verdict)| *verdict != Verdict::Fine)
            .collect()
    }

    #[test]
    fn what_is_seen_decides() {
        assert_eq!(looks(|_| FINE), []);
        let new = looks(|_| Seen { new: true, ..FINE });
        assert_eq!(new.first(), Some(&(1, Verdict::Close)), "it asked nothing");
        let gone = looks(|_| Seen { heard: false, ..FINE });
        assert_eq!(gone[..2], [(2, Verdict::Ping), (3, Verdict::Close)]);
        let answers = looks(|at| Seen { heard: at % 3 == 0, ..FINE });
        assert!(answers.iter().all(|(at, verdict)| at % 3 == 2 && *verdict == Verdict::Ping), "{answers:?}");
        let idle = looks(|_| Seen { busy: false, ..FINE });
        assert_eq!(idle.first(), Some(&(30, Verdict::Dismiss)), "after five minutes");
        assert_eq!(idle[3], (33, Verdict::Close), "it did not go");
        let now_and_then = looks(|at| Seen { busy: at % 29 == 0, ..FINE });
        assert_eq!(now_and_then, []);
    }
}
