//! RFC 3339 as the page describes it: an offset is demanded, what is finer than a millisecond is cut off.

/// Milliseconds since 1970, or nothing when the text is no moment.
pub(crate) fn read(text: &str) -> Option<i64> {
    let pattern = r"^([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))$";
    let parts = regex::Regex::new(pattern).unwrap().captures(text)?;
    let number = |index: usize| parts.get(index).map_or(0, |part| part.as_str().parse::<i64>().unwrap());
    let (year, month, day) = (number(1), number(2), number(3));
    let (hour, minute, second) = (number(4), number(5), number(6));
    let (offset_hour, offset_minute) = (number(9), number(10));
    let real_day = (1..=12).contains(&month) && day >= 1 && day <= days_in(year, month);
    if !real_day || hour > 23 || minute > 59 || second > 60 || offset_hour > 23 || offset_minute > 59 {
        return None;
    }
    let fraction = parts.get(7).map_or("", |part| part.as_str());
    let millis: i64 = format!("{fraction:0<3}")[..3].parse().unwrap();
    let sign = if parts.get(8).is_some_and(|part| part.as_str() == "-") { -1 } else { 1 };
    // Counted day by day from the year 0: slow, and nothing in it can be wrong.
    let mut days = -719_528;
    for before in 0..year {
        days += (1..=12).map(|month| days_in(before, month)).sum::<i64>();
    }
    days += (1..month).map(|before| days_in(year, before)).sum::<i64>() + day - 1;
    let minutes = (days * 24 + hour) * 60 + minute - sign * (offset_hour * 60 + offset_minute);
    let moment = (minutes * 60 + second.min(59)) * 1000 + millis;
    // The years that RFC 3339 can write in UTC.
    (-719_528 * 86_400_000..2_932_897 * 86_400_000).contains(&moment).then_some(moment)
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    }
}
