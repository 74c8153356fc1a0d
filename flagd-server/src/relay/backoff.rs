//! How long a relay waits before it asks again. Pure: attempt and random bits are arguments.
//!
//! A server that comes back must not be met by all its relays at once, so the wait is drawn at random from the whole
//! range up to a bound that doubles. The bound is lower than a client's: behind a relay thousands wait.

use std::time::Duration;

use crate::limits::{RELAY_RETRY_BASE_MS, RELAY_RETRY_MAX_MS};

/// A wait up to the bound of this attempt, uniform in `random`.
pub(super) fn delay(attempt: u32, random: u64) -> Duration {
    let bound_ms = 1_u64.checked_shl(attempt).and_then(|factor| RELAY_RETRY_BASE_MS.checked_mul(factor));
    scale(bound_ms.unwrap_or(RELAY_RETRY_MAX_MS).min(RELAY_RETRY_MAX_MS), random)
}

/// A wait in `[at_least, 1.5 x at_least]`, for a server that says when to come back.
pub(super) fn spread(at_least: Duration, random: u64) -> Duration {
    let half_ms = u64::try_from(at_least.as_millis() / 2).unwrap_or(u64::MAX);
    at_least.saturating_add(scale(half_ms, random))
}

/// Maps 64 random bits onto `0..=bound_ms`.
fn scale(bound_ms: u64, random: u64) -> Duration {
    let scaled = (u128::from(random) * (u128::from(bound_ms) + 1)) >> 64;
    Duration::from_millis(u64::try_from(scaled).unwrap_or(bound_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_the_cap() {
        for (name, attempt, random, want_ms) in [
            ("first, no luck", 0, u64::MAX, 100),
            ("first, all luck", 0, 0, 0),
            ("half way", 0, u64::MAX / 2, 50),
            ("second", 1, u64::MAX, 200),
            ("seventh", 6, u64::MAX, 5_000),
            ("past the width of the number", 64, u64::MAX, 5_000),
            ("for ever", u32::MAX, u64::MAX, 5_000),
        ] {
            assert_eq!(delay(attempt, random).as_millis(), want_ms, "{name}");
        }
    }

    #[test]
    fn a_servers_wish_is_a_minimum() {
        for (name, random, want_ms) in [("at once", 0, 1_000), ("as late as may be", u64::MAX, 1_500)] {
            assert_eq!(spread(Duration::from_secs(1), random).as_millis(), want_ms, "{name}");
        }
    }
}
