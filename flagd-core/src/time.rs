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
        // Read by hand: jiff's parser allocates when it has to describe an error, takes more than RFC 3339,
        // and evaluation reads moments out of contexts.
        let mut rest = Text(text.as_bytes());
        let (year, month, day) = (rest.number(4)?, rest.then(b"-")?.number(2)?, rest.then(b"-")?.number(2)?);
        let (hour, minute, second) =
            (rest.then(b"Tt")?.number(2)?, rest.then(b":")?.number(2)?, rest.then(b":")?.number(2)?);
        let millis = rest.fraction()?;
        let offset_minutes = rest.offset()?;
        let is_real = (1..=12).contains(&month)
            && (1..=days_of_month(year, month)).contains(&day)
            && hour <= 23
            && minute <= 59
            && second <= 60
            && rest.0.is_empty();
        // A leap second is the second before it: this scale has none.
        let seconds = (hour * 60 + minute - offset_minutes) * 60 + second.min(59);
        is_real.then(|| Self((days_since_1970(year, month, day) * 86_400 + seconds) * 1_000 + millis))
    }
}

/// What is left to be read.
struct Text<'a>(&'a [u8]);

impl Text<'_> {
    /// Exactly this many digits.
    fn number(&mut self, digits: usize) -> Option<i64> {
        let (number, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        number
            .iter()
            .try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
    }

    /// One of these characters.
    fn then(&mut self, allowed: &[u8]) -> Option<&mut Self> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        allowed.contains(first).then_some(self)
    }

    /// A fraction of a second in milliseconds, if there is one.
    fn fraction(&mut self) -> Option<i64> {
        let Some((b'.', rest)) = self.0.split_first() else { return Some(0) };
        let end = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, rest) = rest.split_at_checked(end).filter(|(digits, _)| !digits.is_empty())?;
        self.0 = rest;
        let padded = digits.iter().copied().chain(std::iter::repeat(b'0')).take(3);
        Some(padded.fold(0, |sum, byte| sum * 10 + i64::from(byte - b'0')))
    }

    /// `Z`, or hours and minutes east of Greenwich, in minutes.
    fn offset(&mut self) -> Option<i64> {
        let (sign, rest) = self.0.split_first()?;
        self.0 = rest;
        let east = match sign {
            b'Z' | b'z' => return Some(0),
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        let (hours, minutes) = (self.number(2)?, self.then(b":")?.number(2)?);
        (hours <= 23 && minutes <= 59).then_some(east * (hours * 60 + minutes))
    }
}

fn days_of_month(year: i64, month: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days of the Gregorian calendar. Years are counted from March, so that a leap day is a year's last day.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let march_year = if month > 2 { year } else { year - 1 };
    let months_since_march = (month + 9) % 12;
    let leap_days = march_year.div_euclid(4) - march_year.div_euclid(100) + march_year.div_euclid(400);
    march_year * 365 + leap_days + (153 * months_since_march + 2) / 5 + day - 1 - 719_468
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
            ("2024-02-29T12:00:00+05:30", Some(1_709_188_200_000)),
            ("2016-12-31T23:59:60Z", Some(1_483_228_799_000)),
            ("0000-03-01T00:00:00Z", Some(-62_162_035_200_000)),
            ("1970-01-01T00:00:00", None),
            ("1970-01-01 00:00:00Z", None),
            ("1970-01-01T00:00:00.Z", None),
            ("1970-01-01T00:00:00+0100", None),
            ("1970-01-01T00:00:00+24:00", None),
            ("1970-01-01T24:00:00Z", None),
            ("1970-01-01T00:60:00Z", None),
            ("2023-02-29T00:00:00Z", None),
            ("1970-13-01T00:00:00Z", None),
            ("1970-00-01T00:00:00Z", None),
            ("1970-01-00T00:00:00Z", None),
            ("1970-01-01T00:00:00Zx", None),
            ("+1970-01-01T00:00:00Z", None),
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
    fn moments_are_those_of_jiff() {
        // Steps of about 36 days from year 1 to year 9999.
        for step in 0..100_000_i64 {
            let millis = -62_135_596_800_000 + step * 3_155_378_971;
            let text = jiff::Timestamp::from_millisecond(millis).unwrap().to_string();
            assert_eq!(Timestamp::parse(&text), Some(Timestamp::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        let moment = Timestamp::from_millis(1_795_000_000_123);
        assert_eq!(Timestamp::parse(&moment.to_string()), Some(moment));
    }
}
