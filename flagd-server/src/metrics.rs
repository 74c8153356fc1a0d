//! Counters of the server, and the text in which Prometheus reads them.
//!
//! Counting is one relaxed addition, so it may happen anywhere. No label comes from a user, except the name of an
//! environment, and their number is bounded. What can be looked up where it is true (clients, revisions, ages) is not
//! kept here; `api/http` reads it when it renders.

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flagd_core::state::DeltaError;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one.
    pub fn count(&self) {
        self.add(1);
    }

    /// Counts several.
    pub fn add(&self, several: u64) {
        self.0.fetch_add(several, Ordering::Relaxed);
    }

    /// How many so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number of things that are there now.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// One came.
    pub fn enter(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One went.
    pub fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many are there.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The upper bounds of a latency's buckets, in microseconds.
const BOUNDS_US: [u64; 14] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000,
    30_000_000,
];

/// How long something took, in buckets.
#[derive(Debug, Default)]
pub struct Latency {
    buckets: [AtomicU64; BOUNDS_US.len()],
    count: Counter,
    sum_us: Counter,
}

impl Latency {
    /// Notes one.
    pub fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some((_, bucket)) = BOUNDS_US.iter().zip(&self.buckets).find(|(bound, _)| us <= **bound) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.count.count();
        self.sum_us.add(us);
    }
}

/// Why clients asked for the full state; what a client writes is sorted into these.
#[derive(Debug, Default)]
pub struct NeedFull {
    /// A digest did not come out.
    pub digest: Counter,
    /// A delta did not follow.
    pub revision: Counter,
    /// A message was of another history.
    pub epoch: Counter,
    /// Anything else.
    pub other: Counter,
}

impl NeedFull {
    /// The counter for a reason in a client's words.
    #[must_use]
    pub fn of(&self, why: &str) -> &Counter {
        match why {
            "digest" => &self.digest,
            "revision" => &self.revision,
            "epoch" => &self.epoch,
            _ => &self.other,
        }
    }
}

/// What the store told a view that did not fit, by sort. Each was healed when it was counted or is about to be.
#[derive(Debug, Default)]
pub struct Divergences {
    /// Changes that did not follow the one before: some were left out.
    pub gap: Counter,
    /// A change whose bytes did not give the digest that it promises.
    pub digest: Counter,
    /// The whole state was loaded, and did not add up.
    pub unreadable: Counter,
    /// News of the head that is shown already.
    pub doubled: Counter,
    /// News of a head before the one shown, which a read did not bear out.
    pub late: Counter,
}

impl Divergences {
    /// Counts why a change could not be applied. That a younger epoch has begun is none.
    pub fn note(&self, error: &DeltaError) {
        match error {
            DeltaError::OtherRevision { .. } => self.gap.count(),
            DeltaError::OtherDigest { .. } => self.digest.count(),
            _ => {}
        }
    }
}

/// What is counted per environment.
#[derive(Debug, Default)]
pub struct EnvironmentMetrics {
    /// Streams that have said hello and go on.
    pub streams_open: Gauge,
    /// Deltas put on streams.
    pub deltas_sent: Counter,
    /// Full states put on streams.
    pub fulls_sent: Counter,
    /// Streams that had missed nothing.
    pub up_to_dates_sent: Counter,
    /// Streams that were resumed by the changes they had missed.
    pub catch_ups_sent: Counter,
    /// Acknowledgements taken.
    pub acks: Counter,
    /// Requests for the full state.
    pub need_full: NeedFull,
    /// Times that the view did not follow from the log and was loaded anew.
    pub reloads: Counter,
    /// What did not fit while following the log.
    pub divergences: Divergences,
    /// Reads of the log that failed while following it.
    pub follow_errors: Counter,
    /// From showing a change to its acknowledgement, over all clients.
    pub acknowledged: Latency,
}

/// What is counted per server.
#[derive(Debug, Default)]
pub struct ServerMetrics {
    /// Connections open now.
    pub connections_open: Gauge,
    /// Connections taken.
    pub connections: Counter,
    /// Connections turned away because there were too many.
    pub connections_refused: Counter,
    /// Streams refused at their Hello.
    pub hellos_refused: Counter,
    /// Streams told to come back later because too many came at once.
    pub hellos_put_off: Counter,
}

/// Prometheus' text format, as it is written.
#[derive(Debug, Default)]
pub struct Text(String);

/// The labels of a sample: names are ours, values are escaped.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Text {
    /// Begins a metric; its samples follow.
    pub fn metric(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    /// One sample.
    pub fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl fmt::Display) {
        self.line(format_args!("{name}{} {value}", Braces(labels)));
    }

    /// The samples of a latency, in seconds.
    pub fn latency(&mut self, name: &str, labels: Labels<'_>, latency: &Latency) {
        let mut below = 0;
        for (bound, bucket) in BOUNDS_US.iter().zip(&latency.buckets) {
            below += bucket.load(Ordering::Relaxed);
            let bound = Seconds(*bound).to_string();
            let with_bound: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.sample(&format!("{name}_bucket"), &with_bound, below);
        }
        let all: Vec<_> = labels.iter().copied().chain([("le", "+Inf")]).collect();
        self.sample(&format!("{name}_bucket"), &all, latency.count.get().max(below));
        self.sample(&format!("{name}_sum"), labels, Seconds(latency.sum_us.get()));
        self.sample(&format!("{name}_count"), labels, latency.count.get().max(below));
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{line}");
    }

    /// What was written.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

/// Microseconds, shown as seconds without going through a float.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

struct Braces<'a>(Labels<'a>);

impl fmt::Display for Braces<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "{" } else { "," })?;
            write!(f, "{name}=\"")?;
            for letter in value.chars() {
                match letter {
                    '"' => f.write_str("\\\"")?,
                    '\\' => f.write_str("\\\\")?,
                    '\n' => f.write_str("\\n")?,
                    other => f.write_char(other)?,
                }
            }
            f.write_str("\"")?;
        }
        if self.0.is_empty() { Ok(()) } else { f.write_str("}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let latency = Latency::default();
        latency.observe(Duration::from_millis(1));
        latency.observe(Duration::from_millis(2));
        latency.observe(Duration::from_mins(1));
        let mut text = Text::default();
        text.metric("flagd_x_seconds", "histogram", "How long.");
        text.latency("flagd_x_seconds", &[("environment", "a\"b\\\n")], &latency);
        text.sample("flagd_up", &[], 1);
        let text = text.into_string();
        assert!(
            text.starts_with("# HELP flagd_x_seconds How long.\n# TYPE flagd_x_seconds histogram\n"),
            "{text}"
        );
        for line in [
            "flagd_x_seconds_bucket{environment=\"a\\\"b\\\\\\n\",le=\"0.000500\"} 0",
            "flagd_x_seconds_bucket{environment=\"a\\\"b\\\\\\n\",le=\"0.001000\"} 1",
            "flagd_x_seconds_bucket{environment=\"a\\\"b\\\\\\n\",le=\"0.002500\"} 2",
            "flagd_x_seconds_bucket{environment=\"a\\\"b\\\\\\n\",le=\"+Inf\"} 3",
            "flagd_x_seconds_sum{environment=\"a\\\"b\\\\\\n\"} 60.003000",
            "flagd_x_seconds_count{environment=\"a\\\"b\\\\\\n\"} 3",
            "flagd_up 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn reasons_of_clients_make_no_labels() {
        let need_full = NeedFull::default();
        for why in ["digest", "epoch", "whatever a client writes", ""] {
            need_full.of(why).count();
        }
        let counts = [&need_full.digest, &need_full.revision, &need_full.epoch, &need_full.other];
        assert_eq!(counts.map(Counter::get), [1, 0, 1, 2]);
    }
}
