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

/// 0000-01-01T00:00:00Z.
const FIRST_MS: i64 = -62_167_219_200_000;
/// 9999-12-31T23:59:59.999Z.
const LAST_MS: i64 = 253_402_300_799_999;

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
        let moment = is_real.then(|| (days_since_1970(year, month, day) * 86_400 + seconds) * 1_000 + millis);
        // An offset can lead past the years that RFC 3339 can write in UTC.
        moment.filter(|millis| (FIRST_MS..=LAST_MS).contains(millis)).map(Self)
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

/// Year, month and day of the Gregorian calendar: the way back from [`days_since_1970`].
fn date_of(days_since_1970: i64) -> (i64, i64, i64) {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    let days = days_since_1970 + 719_468;
    let (era, day_of_era) = (days.div_euclid(DAYS_OF_400_YEARS), days.rem_euclid(DAYS_OF_400_YEARS));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_since_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * months_since_march + 2) / 5 + 1;
    let month = if months_since_march < 10 { months_since_march + 3 } else { months_since_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with as many digits of a fraction as it needs; a plain count outside its years.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !(FIRST_MS..=LAST_MS).contains(&self.0) {
            return write!(f, "{} ms", self.0);
        }
        let (days, of_day) = (self.0.div_euclid(86_400_000), self.0.rem_euclid(86_400_000));
        let (year, month, day) = date_of(days);
        let (seconds, millis) = (of_day / 1_000, of_day % 1_000);
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        match millis {
            0 => {}
            _ if millis % 100 == 0 => write!(f, ".{}", millis / 100)?,
            _ if millis % 10 == 0 => write!(f, ".{:02}", millis / 10)?,
            _ => write!(f, ".{millis:03}")?,
        }
        f.write_str("Z")
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
            ("0000-01-01T00:00:00Z", Some(FIRST_MS)),
            ("9999-12-31T23:59:59.9999Z", Some(LAST_MS)),
            ("0000-01-01T00:00:00+00:01", None),
            ("9999-12-31T23:59:00-00:01", None),
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
            assert_eq!(Timestamp::from_millis(millis).to_string(), text);
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for millis in [1_795_000_000_123, 1_795_000_000_120, 1_795_000_000_100, -1, FIRST_MS, LAST_MS] {
            let moment = Timestamp::from_millis(millis);
            assert_eq!(Timestamp::parse(&moment.to_string()), Some(moment));
        }
        assert_eq!(Timestamp::from_millis(LAST_MS + 1).to_string(), "253402300800000 ms");
    }
}
