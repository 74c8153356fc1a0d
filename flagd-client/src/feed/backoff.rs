//! How long to wait before the next attempt.
//!
//! A server that dies loses all its clients in one moment, and must not be met by all of them in one moment when it is
//! back; nor must the next server of the list. So every wait is drawn at random from the whole range up to a bound
//! (full jitter), the first one after a loss from a range wide enough to spread the crowd, and bounds grow. Random
//! bits are an argument: no clock, no source of chance. Why the numbers are what they are stands in decision 014.

/// The bound of the first wait where no crowd is to be feared: a client that never had a connection, a full state
/// that did not add up.
pub(crate) const BASE_MS: u64 = 250;
/// The bound of the first wait after a connection was lost.
pub(crate) const SPREAD_MS: u64 = 5_000;
/// The bound of the wait between two servers of one round.
pub(crate) const STEP_MS: u64 = 250;
/// The largest bound.
pub(crate) const CAP_MS: u64 = 30_000;

/// Which attempts have failed, and how long the next one waits.
///
/// Attempts go in rounds, each of which tries every server once. Before a round there is a long wait, which spreads
/// the crowd; between the servers of a round a short one, because the crowd is spread already and whoever has no
/// connection hears of no kill.
#[derive(Clone, Debug)]
pub(crate) struct Rounds {
    servers: usize,
    /// Rounds that came to nothing since the last connection that held.
    failed: u32,
    /// Servers that this round has not tried yet.
    left: usize,
    /// There was a connection: whoever loses it is not the only one.
    had_connection: bool,
}

impl Rounds {
    /// Before the first attempt.
    pub(crate) fn of(servers: usize) -> Rounds {
        let servers = servers.max(1);
        Rounds { servers, failed: 0, left: servers, had_connection: false }
    }

    /// An attempt begins.
    pub(crate) fn attempt(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// The attempt led to a connection.
    pub(crate) fn connected(&mut self) {
        self.had_connection = true;
    }

    /// The connection held for long enough to forget what was before it.
    pub(crate) fn held(&mut self) {
        self.failed = 0;
    }

    /// The wait after an attempt that led to no connection.
    pub(crate) fn after_failure_ms(&mut self, random: u64) -> u64 {
        if self.left > 0 { scale(STEP_MS, random) } else { self.after_loss_ms(random) }
    }

    /// The wait after a connection that was lost.
    pub(crate) fn after_loss_ms(&mut self, random: u64) -> u64 {
        let bound_ms = if self.had_connection { spread_bound_ms(self.failed) } else { bound_ms(self.failed) };
        self.failed = self.failed.saturating_add(1);
        self.begin();
        scale(bound_ms, random)
    }

    /// The next attempt is the first one of a round.
    pub(crate) fn begin(&mut self) {
        self.left = self.servers;
    }
}

/// A wait in `0..=min(CAP_MS, BASE_MS * 2^attempt)`, uniform in `random`.
pub(crate) fn delay_ms(attempt: u32, random: u64) -> u64 {
    scale(bound_ms(attempt), random)
}

/// A wait in `[at_least_ms, 1.5 x at_least_ms]`, for a server that says when to come back.
pub(crate) fn spread_ms(at_least_ms: u64, random: u64) -> u64 {
    at_least_ms.saturating_add(scale(at_least_ms / 2, random))
}

fn bound_ms(attempt: u32) -> u64 {
    let bound_ms = 1_u64.checked_shl(attempt).and_then(|factor| BASE_MS.checked_mul(factor));
    bound_ms.unwrap_or(CAP_MS).min(CAP_MS)
}

/// Grows by half, not to the double: most servers are back within seconds, and the crowd stays as wide as it is.
fn spread_bound_ms(failed_rounds: u32) -> u64 {
    // Six steps lead from the base beyond the cap.
    (0..failed_rounds.min(6)).fold(SPREAD_MS, |bound_ms, _| bound_ms * 3 / 2).min(CAP_MS)
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

    /// The longest waits of attempts, each of which fails.
    fn bounds(rounds: &mut Rounds, attempts: usize) -> Vec<u64> {
        let mut attempt = || {
            rounds.attempt();
            rounds.after_failure_ms(u64::MAX)
        };
        (0..attempts).map(|_| attempt()).collect()
    }

    #[test]
    fn a_client_that_starts_tries_all_servers_soon() {
        assert_eq!(bounds(&mut Rounds::of(1), 4), [250, 500, 1_000, 2_000]);
        assert_eq!(bounds(&mut Rounds::of(3), 6), [250, 250, 250, 250, 250, 500]);
        assert_eq!(bounds(&mut Rounds::of(0), 2), [250, 500], "no server is one that never answers");
    }

    #[test]
    fn whoever_lost_a_connection_waits_long_before_a_round_and_shortly_within_it() {
        for (servers, want) in [
            (1, vec![5_000, 7_500, 11_250, 16_875, 25_312]),
            (2, vec![5_000, 250, 7_500, 250, 11_250]),
            (3, vec![5_000, 250, 250, 7_500, 250]),
        ] {
            let mut rounds = Rounds::of(servers);
            rounds.attempt();
            rounds.connected();
            let mut waits = vec![rounds.after_loss_ms(u64::MAX)];
            waits.extend(bounds(&mut rounds, 4));
            assert_eq!(waits, want, "{servers} servers");
        }
        assert_eq!(
            bounds(&mut Rounds { failed: u32::MAX, had_connection: true, ..Rounds::of(1) }, 1),
            [CAP_MS]
        );
    }

    #[test]
    fn only_a_connection_that_held_makes_waits_short_again() {
        let mut rounds = Rounds::of(1);
        let mut lose = |held: bool| {
            rounds.attempt();
            rounds.connected();
            if held {
                rounds.held();
            }
            rounds.after_loss_ms(u64::MAX)
        };
        let waits = [false, false, false, true, false].map(&mut lose);
        assert_eq!(waits, [5_000, 7_500, 11_250, 5_000, 7_500]);
    }

    /// A server that comes back after any time is met by its clients at no more than 5 % of them in 100 ms.
    #[test]
    fn no_moment_of_return_meets_a_crowd() {
        const CLIENTS: u64 = 20_000;
        let mut chance = Chance::new(3);
        for down_ms in [0, 300, 1_000, 3_000, 5_000, 9_000, 20_000, 60_000] {
            let mut windows = vec![0_u64; 2_000];
            for _ in 0..CLIENTS {
                let mut rounds = Rounds::of(1);
                rounds.attempt();
                rounds.connected();
                let mut at_ms = rounds.after_loss_ms(chance.next());
                while at_ms < down_ms {
                    rounds.attempt();
                    at_ms += rounds.after_failure_ms(chance.next());
                }
                windows[usize::try_from((at_ms - down_ms) / 100).unwrap()] += 1;
            }
            // Expected are at most 3.7 %, just before 5 s; with so many clients ten standard deviations below 5 %.
            let most = windows.iter().max().unwrap();
            assert!(most * 20 <= CLIENTS, "{most} of {CLIENTS} come within 100 ms after {down_ms} ms");
            let last = windows.iter().rposition(|count| *count > 0).unwrap();
            assert!(last < 600, "the last comes after {last} windows");
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
