//! From single times to the table that is printed.

use std::fmt;
use std::time::{Duration, Instant};

/// Times of the same thing, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spread(Vec<Duration>);

impl FromIterator<Duration> for Spread {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Spread {
        let mut times: Vec<_> = times.into_iter().collect();
        times.sort_unstable();
        Spread(times)
    }
}

impl Spread {
    /// The time that this share of all does not exceed; zero without any.
    #[must_use]
    pub fn at(&self, per_mille: usize) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get((self.0.len() * per_mille / 1_000).min(last)).copied().unwrap_or_default()
    }

    /// The shortest.
    #[must_use]
    pub fn best(&self) -> Duration {
        self.at(0)
    }

    /// The one in the middle.
    #[must_use]
    pub fn median(&self) -> Duration {
        self.at(500)
    }
}

/// One line of a table of times: best, p50, p90, p99, max, in a unit.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was timed.
    pub what: String,
    /// The times.
    pub times: Spread,
    /// What a column counts.
    pub unit: Unit,
}

/// What times are told in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
}

impl Row {
    /// The heading over such lines.
    pub(super) const HEADING: &str =
        "                                                  best       p50       p90       p99       max";
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (factor, unit) = match self.unit {
            Unit::Ms => (1e3, "ms"),
            Unit::Us => (1e6, "us"),
        };
        write!(f, "{:42} {unit}", self.what)?;
        for per_mille in [0, 500, 900, 990, 1_000] {
            write!(f, " {:9.2}", self.times.at(per_mille).as_secs_f64() * factor)?;
        }
        Ok(())
    }
}

/// One push to all receivers.
#[derive(Clone, Debug, Default)]
pub(super) struct Push {
    /// From sending it to the first receiver's having it.
    pub(super) first: Duration,
    /// To half of them.
    pub(super) median: Duration,
    /// To all.
    pub(super) last: Duration,
    /// What it cost the server, per receiver.
    pub(super) cpu: Duration,
}

impl Push {
    /// From the times of arrival, in order, and what all of it cost.
    pub(super) fn new(sent: Instant, arrived: &[Instant], cpu: Duration) -> Push {
        let after = |time: Option<&Instant>| time.map(|time| time.duration_since(sent)).unwrap_or_default();
        let receivers = u32::try_from(arrived.len()).unwrap_or(u32::MAX).max(1);
        Push {
            first: after(arrived.first()),
            median: after(arrived.get(arrived.len() / 2)),
            last: after(arrived.last()),
            cpu: cpu / receivers,
        }
    }
}

/// The lines for pushes of one sort.
pub(super) fn rows(name: &str, pushes: &[Push]) -> Vec<Row> {
    type Column = (&'static str, Unit, fn(&Push) -> Duration);
    let columns: [Column; 4] = [
        ("first received", Unit::Ms, |push| push.first),
        ("half received", Unit::Ms, |push| push.median),
        ("last received", Unit::Ms, |push| push.last),
        ("server CPU per update", Unit::Us, |push| push.cpu),
    ];
    columns
        .into_iter()
        .map(|(what, unit, column)| Row {
            what: format!("{name}: {what}"),
            times: pushes.iter().map(column).collect(),
            unit,
        })
        .collect()
}

/// How one thing relates to another, by the medians of the turns' ratios and by the bests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ratio {
    /// Of the turns, each of which has both.
    pub(super) median: f64,
    /// Of the best of each.
    pub(super) best: f64,
}

/// Compares turn by turn: a slow moment of the machine slows both.
pub(super) fn ratio(these: &[Push], others: &[Push], column: fn(&Push) -> Duration) -> Ratio {
    let over = |this: Duration, that: Duration| this.as_secs_f64() / that.as_secs_f64().max(f64::EPSILON);
    let mut turns: Vec<f64> =
        these.iter().zip(others).map(|(this, that)| over(column(this), column(that))).collect();
    turns.sort_by(f64::total_cmp);
    let best = |pushes: &[Push]| pushes.iter().map(column).collect::<Spread>().best();
    Ratio {
        median: turns.get(turns.len() / 2).copied().unwrap_or_default(),
        best: over(best(these), best(others)),
    }
}

impl Ratio {
    /// Of what one has more than the other.
    pub(super) fn without_the_whole(self) -> Ratio {
        Ratio { median: self.median - 1.0, best: self.best - 1.0 }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} (median of turns), {:.2} (best over best)", self.median, self.best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_times() {
        let times: Spread = (1..=100).rev().map(Duration::from_millis).collect();
        let at = |per_mille| times.at(per_mille).as_millis();
        assert_eq!([at(0), at(500), at(900), at(990), at(1_000)], [1, 51, 91, 100, 100]);
        assert_eq!(Spread::default().at(500), Duration::ZERO);
    }

    #[test]
    fn a_push_is_told_per_receiver() {
        let sent = Instant::now();
        let arrived: Vec<_> = [10, 20, 30, 40].map(|ms| sent + Duration::from_millis(ms)).to_vec();
        let push = Push::new(sent, &arrived, Duration::from_micros(20));
        assert_eq!((push.first.as_millis(), push.median.as_millis(), push.last.as_millis()), (10, 30, 40));
        assert_eq!(push.cpu.as_micros(), 5);
    }

    #[test]
    fn ratios_are_those_of_turns_and_of_bests() {
        let push = |ms| Push { last: Duration::from_millis(ms), ..Push::default() };
        let measured = [push(20), push(60), push(30)];
        let floor = [push(10), push(20), push(10)];
        let got = ratio(&measured, &floor, |push| push.last);
        assert!((got.median - 3.0).abs() < 1e-9 && (got.best - 2.0).abs() < 1e-9, "{got}");
    }
}
