//! A moment, as a number, so that nobody here is tempted to ask what time it is.
//!
//! Evaluation takes `now` as an argument. This file turns RFC 3339 text into a [`Timestamp`] and back; it
//! does not know the current time, and no function in this crate does.

use std::fmt;

/// Milliseconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Reads RFC 3339 (`2026-11-23T08:00:00Z`, any offset, any fraction; finer than a millisecond is cut off).
    /// `None` when the text is something else. Does not allocate.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // jiff also takes a date without a zone or with a zone in brackets in some of its parsers; RFC 3339
        // has neither, and a moment without an offset would depend on where it is read.
        if text.len() < 20 || text.contains('[') {
            return None;
        }
        let moment: jiff::Timestamp = text.parse().ok()?;
        Some(Self(moment.as_millisecond()))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(moment) => write!(f, "{moment}"),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rfc_3339_is_a_moment() {
        let cases: &[(&str, Option<i64>)] = &[
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1970-01-01T01:00:00+01:00", Some(0)),
            ("1970-01-01T00:00:00.0015Z", Some(1)),
            ("1970-01-01t00:00:00z", Some(0)),
            ("1969-12-31T23:59:59.999Z", Some(-1)),
            ("1970-01-01T00:00:00", None),
            ("1970-01-01", None),
            ("1970-01-01T00:00:00Z[UTC]", None),
            ("now", None),
            ("", None),
        ];
        for (text, want) in cases {
            assert_eq!(Timestamp::parse(text).map(Timestamp::as_millis), *want, "{text}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        let moment = Timestamp::from_millis(1_795_000_000_123);
        assert_eq!(Timestamp::parse(&moment.to_string()), Some(moment));
    }
}
