//! How long to wait before the next attempt.
//!
//! A server that comes back must not be met by all its clients at once. So the wait is drawn at random from the
//! whole range up to a bound that doubles (full jitter). Attempt and random bits are arguments: no clock, no
//! state, no source of chance.

/// The bound of the first wait.
pub(crate) const BASE_MS: u64 = 250;
/// The largest bound.
pub(crate) const CAP_MS: u64 = 30_000;

/// A wait in `0..=min(CAP_MS, BASE_MS * 2^attempt)`, uniform in `random`.
pub(crate) fn delay_ms(attempt: u32, random: u64) -> u64 {
    let bound_ms = 1_u64.checked_shl(attempt).and_then(|factor| BASE_MS.checked_mul(factor));
    scale(bound_ms.unwrap_or(CAP_MS).min(CAP_MS), random)
}

/// A wait in `[at_least_ms, 1.5 x at_least_ms]`, for a server that says when to come back.
pub(crate) fn spread_ms(at_least_ms: u64, random: u64) -> u64 {
    at_least_ms.saturating_add(scale(at_least_ms / 2, random))
}

/// Maps 64 random bits onto `0..=bound`.
fn scale(bound: u64, random: u64) -> u64 {
    let scaled = (u128::from(random) * (u128::from(bound) + 1)) >> 64;
    u64::try_from(scaled).unwrap_or(bound)
}

/// A small generator of random-looking numbers (splitmix64), so that waiting needs no system call.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_the_cap() {
        let cases = [
            ("first, no luck", 0, u64::MAX, 250),
            ("first, all luck", 0, 0, 0),
            ("half way", 0, u64::MAX / 2, 125),
            ("second", 1, u64::MAX, 500),
            ("eighth", 7, u64::MAX, 30_000),
            ("past the width of the number", 64, u64::MAX, 30_000),
            ("for ever", u32::MAX, u64::MAX, 30_000),
        ];
        for (name, attempt, random, want) in cases {
            assert_eq!(delay_ms(attempt, random), want, "{name}");
        }
    }

    #[test]
    fn a_servers_wish_is_a_minimum() {
        assert_eq!(spread_ms(1_000, 0), 1_000);
        assert_eq!(spread_ms(1_000, u64::MAX), 1_500);
        assert_eq!(spread_ms(0, u64::MAX), 0);
    }

    #[test]
    fn waits_are_spread_over_the_whole_range() {
        let mut chance = Chance::new(7);
        let waits: Vec<u64> = (0..1_000).map(|_| delay_ms(20, chance.next())).collect();
        for tenth in 0..10 {
            let (low, high) = (tenth * CAP_MS / 10, (tenth + 1) * CAP_MS / 10);
            let count = waits.iter().filter(|wait| (low..high).contains(*wait)).count();
            assert!((50..200).contains(&count), "{count} waits in {low}..{high}");
        }
    }
}
