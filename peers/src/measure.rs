//! Clocks and samples.
//!
//! Time is that of the processor, not of the wall: the machine is shared, and waiting for a turn is nobody's cost. A
//! candidate's samples are short and many, so that some of them are not disturbed; the best one is what is compared.

use rustix::time::{ClockId, clock_gettime};

/// Whose time is measured.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// Of the calling thread.
    Thread,
    /// Of all threads of this process: for loading, which some engines do on threads of their own.
    Process,
}

/// Runs from its start.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    clock: Clock,
    started_ns: f64,
}

impl Stopwatch {
    /// Starts.
    #[must_use]
    pub fn start(clock: Clock) -> Stopwatch {
        Stopwatch { clock, started_ns: now_ns(clock) }
    }

    /// Nanoseconds of the processor since the start.
    #[must_use]
    pub fn elapsed_ns(&self) -> f64 {
        now_ns(self.clock) - self.started_ns
    }
}

#[expect(clippy::cast_precision_loss, reason = "a process that runs for 100 days is exact to a nanosecond")]
fn now_ns(clock: Clock) -> f64 {
    let now = clock_gettime(match clock {
        Clock::Thread => ClockId::ThreadCPUTime,
        Clock::Process => ClockId::ProcessCPUTime,
    });
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}

/// Measurements of one thing.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds one.
    pub fn push(&mut self, sample: f64) {
        self.0.push(sample);
    }

    /// The smallest; NaN of nothing.
    #[must_use]
    pub fn best(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::min)
    }

    /// The one in the middle; NaN of nothing.
    #[must_use]
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// The sum of all.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.0.iter().sum()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
