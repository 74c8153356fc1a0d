//! Which etcd endpoint to ask next: the one that answered last, and not the one that has just failed.
//!
//! A breaker orders and never forbids: when every endpoint has failed, the one whose turn comes first is tried, so
//! an outage ends as soon as etcd is back and not when some timer fires. Everything here is a function of what
//! happened and of the time, which is an argument.

use std::time::Duration;

/// How long an endpoint is passed over after its first failure; twice as long after each further one.
const COOL_DOWN_FIRST: Duration = Duration::from_millis(500);
/// And this long at the most.
const COOL_DOWN_MAX: Duration = Duration::from_secs(15);
/// The pause after the first failed attempt.
const PAUSE_FIRST_MS: u64 = 50;
/// The longest pause between attempts.
const PAUSE_MAX_MS: u64 = 5_000;

/// What is known about one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Breaker {
    failures: u32,
    /// Passed over until then.
    open_until: Duration,
}

impl Breaker {
    fn is_open(self, now: Duration) -> bool {
        self.failures > 0 && now < self.open_until
    }
}

/// What is known about all endpoints. Times count from any one moment.
#[derive(Clone, Debug)]
pub(super) struct Breakers {
    each: Vec<Breaker>,
    preferred: usize,
}

impl Breakers {
    pub(super) fn new(endpoints: usize) -> Breakers {
        Breakers { each: vec![Breaker::default(); endpoints], preferred: 0 }
    }

    /// The endpoints in the order in which to try them.
    pub(super) fn order(&self, now: Duration) -> Vec<usize> {
        let count = self.each.len();
        let mut order: Vec<usize> = (0..count).map(|step| (self.preferred + step) % count.max(1)).collect();
        // A stable sort: among closed ones the preferred comes first, among open ones the next to close.
        order.sort_by_key(|endpoint| {
            let breaker = self.each.get(*endpoint).copied().unwrap_or_default();
            if breaker.is_open(now) { breaker.open_until } else { Duration::ZERO }
        });
        order
    }

    /// An endpoint for a watch: not the one that answers requests, nor the one where the last watch failed, if there
    /// is a choice.
    pub(super) fn for_watch(&self, failed: Option<usize>, now: Duration) -> usize {
        let order = self.order(now);
        let busy = order.first().copied().unwrap_or_default();
        let is_open = |endpoint: usize| self.each.get(endpoint).is_some_and(|breaker| breaker.is_open(now));
        let score = |endpoint: usize| (is_open(endpoint), Some(endpoint) == failed, endpoint == busy);
        order.into_iter().min_by_key(|endpoint| score(*endpoint)).unwrap_or(busy)
    }

    pub(super) fn succeeded(&mut self, endpoint: usize) {
        if let Some(breaker) = self.each.get_mut(endpoint) {
            *breaker = Breaker::default();
            self.preferred = endpoint;
        }
    }

    /// Answers whether the breaker opened with this failure; one that was open already only stays so for longer.
    pub(super) fn failed(&mut self, endpoint: usize, now: Duration) -> bool {
        let Some(breaker) = self.each.get_mut(endpoint) else { return false };
        let was_open = breaker.is_open(now);
        let doublings = breaker.failures.min(10);
        breaker.failures = breaker.failures.saturating_add(1);
        breaker.open_until = now + (COOL_DOWN_FIRST * 2_u32.pow(doublings)).min(COOL_DOWN_MAX);
        !was_open
    }
}

/// How long to pause before attempt `attempt` (0 is the first), given 32 random bits: between half and the whole of
/// a time that doubles.
pub(super) fn pause(attempt: u32, random: u32) -> Duration {
    let whole_ms = (PAUSE_FIRST_MS << attempt.min(10)).min(PAUSE_MAX_MS);
    let half_ms = whole_ms / 2;
    Duration::from_millis(half_ms + ((half_ms * u64::from(random)) >> 32))
}

#[cfg(test)]
mod tests {
    use super::*;

    enum Event {
        Fail(usize, u64),
        Succeed(usize),
    }
    use Event::{Fail, Succeed};

    /// Its name, the number of endpoints, what happened, when it is asked, the order then.
    type OrderCase<'a> = (&'a str, usize, &'a [Event], u64, &'a [usize]);
    /// Its name, the number of endpoints, what happened, where the last watch failed, where the next one goes.
    type WatchCase<'a> = (&'a str, usize, &'a [Event], Option<usize>, usize);

    #[test]
    fn the_order_follows_what_happened() {
        let cases: &[OrderCase<'_>] = &[
            ("nothing happened", 3, &[], 0, &[0, 1, 2]),
            ("the one that answered goes on answering", 3, &[Succeed(1)], 0, &[1, 2, 0]),
            ("a failure sends it to the end", 3, &[Fail(0, 0)], 0, &[1, 2, 0]),
            ("still at the end just before its time", 3, &[Fail(0, 0)], 499, &[1, 2, 0]),
            ("back when its time has come", 3, &[Fail(0, 0)], 500, &[0, 1, 2]),
            ("not back in front of the one that answers", 3, &[Fail(0, 0), Succeed(1)], 500, &[1, 2, 0]),
            ("the second failure lasts twice as long", 3, &[Fail(0, 0), Fail(0, 500)], 1_499, &[1, 2, 0]),
            ("and no longer", 3, &[Fail(0, 0), Fail(0, 500)], 1_500, &[0, 1, 2]),
            (
                "all failed: the next to close first",
                3,
                &[Fail(1, 0), Fail(2, 10), Fail(0, 20)],
                100,
                &[1, 2, 0],
            ),
            ("an answer forgives everything", 2, &[Fail(0, 0), Fail(0, 0), Succeed(0)], 1, &[0, 1]),
            ("one endpoint is always tried", 1, &[Fail(0, 0)], 1, &[0]),
            ("no endpoint", 0, &[], 0, &[]),
        ];
        for (name, endpoints, events, now, wanted) in cases {
            let mut breakers = Breakers::new(*endpoints);
            for event in *events {
                match event {
                    Fail(endpoint, at) => drop(breakers.failed(*endpoint, Duration::from_millis(*at))),
                    Succeed(endpoint) => breakers.succeeded(*endpoint),
                }
            }
            assert_eq!(breakers.order(Duration::from_millis(*now)), *wanted, "{name}");
        }
    }

    #[test]
    fn a_breaker_opens_once_per_outage() {
        let mut breakers = Breakers::new(1);
        assert!(breakers.failed(0, Duration::ZERO));
        assert!(!breakers.failed(0, Duration::from_millis(100)));
        breakers.succeeded(0);
        assert!(breakers.failed(0, Duration::from_millis(200)));
    }

    #[test]
    fn cooling_down_has_a_longest_time() {
        let mut breakers = Breakers::new(2);
        for _ in 0..100 {
            breakers.failed(0, Duration::ZERO);
        }
        assert_eq!(breakers.order(COOL_DOWN_MAX.saturating_sub(Duration::from_millis(1))), [1, 0]);
        assert_eq!(breakers.order(COOL_DOWN_MAX), [0, 1]);
    }

    #[test]
    fn a_watch_goes_where_there_is_least_against_it() {
        let cases: &[WatchCase<'_>] = &[
            ("beside the one that answers", 3, &[], None, 1),
            ("away from where it failed", 3, &[], Some(1), 2),
            ("away from an open one", 3, &[Fail(1, 0)], None, 2),
            ("to the busy one rather than back", 2, &[], Some(1), 0),
            ("back rather than to an open one", 2, &[Fail(0, 0)], Some(1), 1),
            ("there is only one", 1, &[Fail(0, 0)], Some(0), 0),
        ];
        for (name, endpoints, events, failed, wanted) in cases {
            let mut breakers = Breakers::new(*endpoints);
            for event in *events {
                match event {
                    Fail(endpoint, at) => drop(breakers.failed(*endpoint, Duration::from_millis(*at))),
                    Succeed(endpoint) => breakers.succeeded(*endpoint),
                }
            }
            assert_eq!(breakers.for_watch(*failed, Duration::from_millis(1)), *wanted, "{name}");
        }
    }

    #[test]
    fn pauses_double_with_jitter_up_to_a_longest() {
        let cases: &[(&str, u32, u32, u64)] = &[
            ("first, least", 0, 0, 25),
            ("first, most", 0, u32::MAX, 49),
            ("second, least", 1, 0, 50),
            ("longest, least", 40, 0, 2_500),
            ("longest, most", 40, u32::MAX, 4_999),
        ];
        for (name, attempt, random, wanted_ms) in cases {
            assert_eq!(pause(*attempt, *random), Duration::from_millis(*wanted_ms), "{name}");
        }
    }
}
