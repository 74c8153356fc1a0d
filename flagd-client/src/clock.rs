//! The only place that asks the system what time it is.
//!
//! Evaluation takes the time as an argument, and only conditions on time need it; so it is asked for lazily
//! and here alone. Durations inside the feed come from a monotonic clock and never from this one.

use flagd_core::time::Timestamp;

/// The time of the wall clock; before 1970 counts as 1970.
#[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
