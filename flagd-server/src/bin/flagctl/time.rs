//! Moments and lengths of time as people type and read them.
//!
//! People say `30m` (ago), `14:05` (today, here) or paste RFC 3339 from a log. What was typed is kept as
//! [`When`] and only becomes a moment when it is used, against an explicit now. [`now_ms`] is the only place of
//! flagctl that asks for the time.

use std::time::Duration;

use flagd_core::time::Timestamp;
use jiff::tz::TimeZone;

/// A moment as it was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// So long ago.
    Ago(Duration),
    /// At this time of today, here.
    Today(jiff::civil::Time),
    /// Exactly then.
    At(Timestamp),
}

/// Milliseconds since 1970 now.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}

/// Reads `30m`, `14:05` or RFC 3339.
pub(crate) fn parse(text: &str) -> Result<When, String> {
    if let Some(moment) = Timestamp::parse(text) {
        return Ok(When::At(moment));
    }
    if let Ok(length) = parse_duration(text) {
        return Ok(When::Ago(length));
    }
    if let Some(time) = parse_time_of_day(text) {
        return Ok(When::Today(time));
    }
    Err(format!("`{text}` is no time; write 30m (ago), 14:05 (today) or 2026-11-23T08:00:00Z"))
}

/// `14:05` or `14:05:30`.
fn parse_time_of_day(text: &str) -> Option<jiff::civil::Time> {
    let mut parts = text.split(':').map(|part| match part.len() {
        1 | 2 if part.bytes().all(|byte| byte.is_ascii_digit()) => part.parse::<i8>().ok(),
        _ => None,
    });
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = match parts.next() {
        Some(second) => second?,
        None => 0,
    };
    if parts.next().is_some() {
        return None;
    }
    jiff::civil::Time::new(hour, minute, second, 0).ok()
}

/// Reads `500ms`, `10s`, `30m`, `2h`, `7d` and sequences such as `1h30m`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no length of time; write 500ms, 10s, 30m, 2h or 7d");
    let mut total_ms = 0_u64;
    let mut rest = text;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at_checked(digits).ok_or_else(wrong)?;
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit_end).ok_or_else(wrong)?;
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let part =
            number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms)).ok_or_else(wrong)?;
        total_ms = total_ms.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    Ok(Duration::from_millis(total_ms))
}

impl When {
    /// Milliseconds since 1970, for somebody in `zone` for whom it is `now_ms`.
    pub(crate) fn resolve(self, now_ms: u64, zone: &TimeZone) -> Result<u64, String> {
        match self {
            When::Ago(length) => {
                Ok(now_ms.saturating_sub(u64::try_from(length.as_millis()).unwrap_or(u64::MAX)).max(1))
            }
            When::At(moment) => {
                u64::try_from(moment.as_millis()).map_err(|_| "that is before 1970".to_owned())
            }
            When::Today(time) => {
                let now = moment(now_ms).ok_or("the clock of this computer is wrong")?;
                let then = now
                    .to_zoned_datetime(zone.clone())
                    .date()
                    .at(time.hour(), time.minute(), time.second(), 0)
                    .to_zoned_datetime(zone.clone())
                    .map_err(|error| error.to_string())?;
                let then_ms = u64::try_from(then.timestamp().as_millisecond()).unwrap_or(0);
                if then_ms > now_ms {
                    return Err(format!("{time} is still to come today; write the date, too"));
                }
                Ok(then_ms)
            }
        }
    }
}

fn moment(ms: u64) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()
}

/// `2026-11-23 14:05:12`, here; empty for 0.
pub(crate) fn local(ms: u64, zone: &TimeZone) -> String {
    match moment(ms) {
        Some(moment) if ms > 0 => {
            let moment = moment.to_zoned_datetime(zone.clone());
            moment.strftime("%Y-%m-%d %H:%M:%S").to_string()
        }
        _ => String::new(),
    }
}

/// RFC 3339 in UTC; `None` for 0.
pub(crate) fn rfc3339(ms: u64) -> Option<String> {
    let ms = i64::try_from(ms).ok().filter(|ms| *ms > 0)?;
    Some(Timestamp::from_millis(ms).to_string())
}

/// A length in one unit: `850 ms`, `40 s`, `12 min`, `3 h`, `5 d`.
pub(crate) fn length(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

/// A length that began as microseconds: `640 us`, `12 ms`, `1.4 s`.
pub(crate) fn elapsed(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{} ms", us / 1_000),
        1_000_000..60_000_000 => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
        _ => length(us / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn berlin() -> TimeZone {
        TimeZone::fixed(jiff::tz::Offset::from_hours(1).unwrap())
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        let minutes = |n: u64| When::Ago(Duration::from_secs(60 * n));
        let at = |ms| When::At(Timestamp::from_millis(ms));
        let today = |h, m, s| When::Today(jiff::civil::Time::new(h, m, s, 0).unwrap());
        let cases = [
            ("30m", Some(minutes(30))),
            ("1h30m", Some(minutes(90))),
            ("500ms", Some(When::Ago(Duration::from_millis(500)))),
            ("14:05", Some(today(14, 5, 0))),
            ("7:05", Some(today(7, 5, 0))),
            ("14:05:09", Some(today(14, 5, 9))),
            ("1970-01-01T00:00:01Z", Some(at(1_000))),
            ("1970-01-01T01:00:01+01:00", Some(at(1_000))),
            ("24:00", None),
            ("14:5x", None),
            ("14", None),
            ("m", None),
            ("-5m", None),
            ("5y", None),
            ("", None),
            ("99999999999999999999d", None),
        ];
        for (text, want) in cases {
            assert_eq!(parse(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn a_time_becomes_a_moment_here_and_now() {
        // 2026-11-23T12:00:00Z, which is 13:00 in Berlin.
        let now = 1_795_435_200_000;
        let cases = [
            ("30m", Ok(now - 30 * 60_000)),
            ("12:00", Ok(now - 60 * 60_000)),
            ("00:30", Ok(now - 12 * 60 * 60_000 - 30 * 60_000)),
            ("13:01", Err(())),
            ("2026-11-23T11:59:59Z", Ok(now - 1_000)),
        ];
        for (text, want) in cases {
            assert_eq!(parse(text).unwrap().resolve(now, &berlin()).map_err(|_| ()), want, "{text}");
        }
    }

    #[test]
    fn lengths_are_told_in_one_unit() {
        let cases = [
            (850, "850 ms"),
            (40_000, "40 s"),
            (119_999, "119 s"),
            (720_000, "12 min"),
            (10_800_000, "3 h"),
            (432_000_000, "5 d"),
        ];
        for (ms, want) in cases {
            assert_eq!(length(ms), want);
        }
        assert_eq!(
            (elapsed(640).as_str(), elapsed(12_400).as_str(), elapsed(1_460_000).as_str()),
            ("640 us", "12 ms", "1.4 s")
        );
    }

    #[test]
    fn moments_are_shown_here_and_told_in_utc() {
        let ms = 1_795_435_200_000;
        assert_eq!(local(ms, &berlin()), "2026-11-23 13:00:00");
        assert_eq!(rfc3339(ms).as_deref(), Some("2026-11-23T12:00:00Z"));
        assert_eq!((local(0, &berlin()).as_str(), rfc3339(0)), ("", None));
    }
}
