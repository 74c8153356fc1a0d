//! Decides whether a number as written survives being held in 64 bits.
//!
//! A flag that says 0.1 and serves 0.1 is fine though no float is a tenth, because every reader prints the
//! float as 0.1 again. A flag that says 9007199254740993 and serves 9007199254740992 is not. So a decimal is
//! accepted when the shortest text of its float denotes the same number, and all comparing is done on digits.

use crate::definition::Scalar;

/// A decimal number: `digits` times ten to the `exponent`; no zeros at either end of the digits, none for zero.
#[derive(Debug, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// Reads a number in JSON's syntax, or a float as Rust prints it.
    fn read(text: &str) -> Decimal {
        let (negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, power) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        let digits = digits.trim_start_matches('0');
        let kept = digits.trim_end_matches('0');
        if kept.is_empty() {
            return Decimal { negative: false, digits: String::new(), exponent: 0 };
        }
        // A power that i64 cannot hold is far outside every float: any huge value stands for it.
        let huge = if power.starts_with('-') { i64::MIN / 4 } else { i64::MAX / 4 };
        let power = power.parse::<i64>().map_or(huge, |power| power.clamp(i64::MIN / 4, i64::MAX / 4));
        let shift = i64::try_from(digits.len() - kept.len()).unwrap_or(0);
        let places = i64::try_from(fraction.len()).unwrap_or(0);
        Decimal { negative, digits: kept.to_owned(), exponent: power + shift - places }
    }

    /// The whole number, when it is one of at most 38 digits.
    fn whole(&self) -> Option<i128> {
        let zeros = usize::try_from(self.exponent).ok()?;
        if self.digits.len().saturating_add(zeros) > 38 {
            return None;
        }
        let text =
            format!("{}{}", if self.digits.is_empty() { "0" } else { &self.digits }, "0".repeat(zeros));
        let magnitude: i128 = text.parse().ok()?;
        Some(if self.negative { -magnitude } else { magnitude })
    }
}

/// The float whose shortest text denotes this number, if there is one.
pub(super) fn decimal(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    (value.is_finite() && Decimal::read(text) == Decimal::read(&format!("{value:e}"))).then_some(value)
}

/// The number as a bound: a float that is exactly it or whose shortest text denotes it.
pub(super) fn bound(text: &str) -> Option<f64> {
    if let Some(value) = decimal(text) {
        return Some(value + 0.0);
    }
    let whole = Decimal::read(text).whole()?;
    let value: f64 = text.parse().ok()?;
    is_whole(value, whole).then_some(value)
}

/// The number as something to compare with.
pub(super) fn scalar(text: &str) -> Option<Scalar> {
    match Decimal::read(text).whole().and_then(|whole| i64::try_from(whole).ok()) {
        Some(whole) => Some(Scalar::Integer(whole)),
        None => bound(text).map(Scalar::Number),
    }
}

/// The number as a value to serve: whole when it is written without point and power.
pub(super) fn value(text: &str) -> Option<serde_json::Number> {
    if text.contains(['.', 'e', 'E']) {
        return serde_json::Number::from_f64(decimal(text)?);
    }
    let signed = text.parse::<i64>().map(serde_json::Number::from);
    signed.or_else(|_| text.parse::<u64>().map(serde_json::Number::from)).ok()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a cast to i128 saturates, and 38 digits never reach the ends"
)]
fn is_whole(value: f64, whole: i128) -> bool {
    value.is_finite() && value.fract() == 0.0 && value as i128 == whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_that_survive_are_held() {
        let cases: &[(&str, Option<f64>)] = &[
            ("0.1", Some(0.1)),
            ("-0.0", Some(0.0)),
            ("1.0", Some(1.0)),
            ("1e3", Some(1000.0)),
            ("100e-2", Some(1.0)),
            ("0e999999999999999999999", Some(0.0)),
            ("9007199254740993", None),
            ("0.1000000000000000055511151231257827", None),
            ("1e400", None),
            ("1e-400", None),
            ("1e999999999999999999999", None),
            ("5e-324", Some(5e-324)),
        ];
        for (text, want) in cases {
            assert_eq!(decimal(text), *want, "{text}");
        }
    }

    #[test]
    fn whole_numbers_are_compared_as_whole_numbers() {
        let cases: &[(&str, Option<Scalar>)] = &[
            ("1", Some(Scalar::Integer(1))),
            ("1.0", Some(Scalar::Integer(1))),
            ("1e18", Some(Scalar::Integer(1_000_000_000_000_000_000))),
            ("9007199254740993", Some(Scalar::Integer(9_007_199_254_740_993))),
            ("9223372036854775807", Some(Scalar::Integer(i64::MAX))),
            ("-9223372036854775808", Some(Scalar::Integer(i64::MIN))),
            ("9223372036854775808", Some(Scalar::Number(9_223_372_036_854_775_808.0))),
            ("9223372036854775809", None),
            ("1.5", Some(Scalar::Number(1.5))),
            ("123456789012345678901234567890123456789", None),
        ];
        for (text, want) in cases {
            assert_eq!(scalar(text), *want, "{text}");
        }
    }

    #[test]
    fn values_keep_the_form_in_which_they_are_written() {
        let cases: &[(&str, Option<&str>)] = &[
            ("1", Some("1")),
            ("1.0", Some("1.0")),
            ("18446744073709551615", Some("18446744073709551615")),
            ("18446744073709551616", None),
            ("-9223372036854775809", None),
            ("0.25", Some("0.25")),
        ];
        for (text, want) in cases {
            assert_eq!(value(text).map(|number| number.to_string()).as_deref(), *want, "{text}");
        }
    }
}
