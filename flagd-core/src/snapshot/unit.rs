//! The string that is hashed: a targeting key or an attribute, as text.
//!
//! 17 and 17.0 are one unit, because one program sends one and another the other. Numbers are written into a
//! buffer on the stack, so that finding the unit never allocates.

use crate::context::{Attribute, Context};

use super::condition::Path;

/// Every whole number up to this is exactly one `f64`; beyond it two numbers would be one unit.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Room for the digits and the sign of any `i64`.
#[derive(Default)]
pub(super) struct Buffer([u8; 20]);

/// The unit that a split or a segment asks for; the targeting key when it names nothing.
#[inline]
pub(super) fn unit<'a>(context: &'a Context, by: Option<&Path>, buffer: &'a mut Buffer) -> Option<&'a str> {
    match by {
        None => context.targeting_key(),
        Some(path) => unit_of(path.find(context)?, buffer).filter(|unit| !unit.is_empty()),
    }
}

fn unit_of<'a>(attribute: &'a Attribute, buffer: &'a mut Buffer) -> Option<&'a str> {
    match attribute {
        Attribute::String(text) => Some(text),
        Attribute::Integer(number) => buffer.write(*number),
        Attribute::Number(number) if number.fract() == 0.0 && number.abs() <= EXACT_MAX => {
            #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53, just above")]
            let whole = *number as i64;
            buffer.write(whole)
        }
        _ => None,
    }
}

impl Buffer {
    /// The decimal digits of a number, written from the end.
    fn write(&mut self, number: i64) -> Option<&str> {
        let mut rest = number.unsigned_abs();
        let mut start = self.0.len();
        for place in self.0.iter_mut().rev() {
            *place = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
            start -= 1;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            start = start.checked_sub(1)?;
            *self.0.get_mut(start)? = b'-';
        }
        std::str::from_utf8(self.0.get(start..)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_whole_numbers_are_units() {
        let cases: &[(&str, Attribute, Option<&str>)] = &[
            ("text", Attribute::String("acme".into()), Some("acme")),
            ("empty text", Attribute::String("".into()), None),
            ("zero", Attribute::Integer(0), Some("0")),
            ("17", Attribute::Integer(17), Some("17")),
            ("negative", Attribute::Integer(-17), Some("-17")),
            ("largest", Attribute::Integer(i64::MAX), Some("9223372036854775807")),
            ("smallest", Attribute::Integer(i64::MIN), Some("-9223372036854775808")),
            ("17.0", Attribute::Number(17.0), Some("17")),
            ("minus zero", Attribute::Number(-0.0), Some("0")),
            ("2^53", Attribute::Number(EXACT_MAX), Some("9007199254740992")),
            ("minus 2^53", Attribute::Number(-EXACT_MAX), Some("-9007199254740992")),
            ("past 2^53", Attribute::Number(9_007_199_254_740_994.0), None),
            ("17.5", Attribute::Number(17.5), None),
            ("NaN", Attribute::Number(f64::NAN), None),
            ("infinity", Attribute::Number(f64::INFINITY), None),
            ("boolean", Attribute::Bool(true), None),
            ("list", Attribute::List(vec![Attribute::Integer(1)]), None),
            ("object", Attribute::Object(vec![]), None),
        ];
        let by = Path::of("id");
        for (name, attribute, want) in cases {
            let context = Context::new("key").with("id", attribute.clone());
            assert_eq!(unit(&context, Some(&by), &mut Buffer::default()), *want, "{name}");
        }
    }

    #[test]
    fn without_a_name_the_targeting_key_is_the_unit() {
        assert_eq!(unit(&Context::new("key"), None, &mut Buffer::default()), Some("key"));
        assert_eq!(unit(&Context::anonymous(), None, &mut Buffer::default()), None);
        assert_eq!(
            unit(&Context::new("key"), Some(&Path::of("targetingKey")), &mut Buffer::default()),
            Some("key")
        );
    }
}
