//! The operators, each on every type of value.

use std::cmp::Ordering;
use std::net::IpAddr;

use serde_json::{Map, Value};

use super::version::{Version, satisfies};
use super::{Number, moment};

/// Whether the one test of a condition holds for what its attribute is.
pub(crate) fn holds(condition: &Map<String, Value>, found: Option<&Value>) -> bool {
    if let Some(wanted) = condition.get("exists") {
        return found.is_some() == wanted.as_bool().unwrap();
    }
    match found {
        None => false,
        Some(Value::Array(list)) => list.iter().any(|each| element(condition, each)),
        Some(value) => element(condition, value),
    }
}

fn element(condition: &Map<String, Value>, value: &Value) -> bool {
    let ignore_case = condition.get("ignoreCase") == Some(&Value::Bool(true));
    let fold = |text: &str| if ignore_case { lower(text) } else { text.to_owned() };
    let (operator, operand) =
        condition.iter().find(|(name, _)| !matches!(name.as_str(), "attribute" | "ignoreCase")).unwrap();
    let any_text = |test: &dyn Fn(&str, &str) -> bool| {
        let Some(text) = value.as_str() else { return false };
        one_or_more(operand).iter().any(|each| test(&fold(text), &fold(each.as_str().unwrap())))
    };
    match operator.as_str() {
        "equals" => equal(value, operand, &fold),
        "in" => operand.as_array().unwrap().iter().any(|each| equal(value, each, &fold)),
        "startsWith" => any_text(&|text, part| text.starts_with(part)),
        "endsWith" => any_text(&|text, part| text.ends_with(part)),
        "contains" => any_text(&|text, part| text.contains(part)),
        "matches" => any_text(&|text, pattern| regex::Regex::new(pattern).unwrap().is_match(text)),
        "lessThan" => compared(value, operand, |order| order == Ordering::Less),
        "atMost" => compared(value, operand, |order| order != Ordering::Greater),
        "greaterThan" => compared(value, operand, |order| order == Ordering::Greater),
        "atLeast" => compared(value, operand, |order| order != Ordering::Less),
        "before" => {
            any_text(&|text, at| moment::read(text).is_some_and(|read| read < moment::read(at).unwrap()))
        }
        "after" => {
            any_text(&|text, at| moment::read(text).is_some_and(|read| read >= moment::read(at).unwrap()))
        }
        "semver" => {
            any_text(&|text, wanted| Version::read(text).is_some_and(|version| satisfies(wanted, &version)))
        }
        "cidr" => any_text(&|text, network| {
            text.parse().is_ok_and(|address: IpAddr| {
                is_in(address, network) || mapped(address).is_some_and(|v4| is_in(v4, network))
            })
        }),
        other => unreachable!("no operator: {other}"),
    }
}

fn one_or_more(operand: &Value) -> &[Value] {
    operand.as_array().map_or(std::slice::from_ref(operand), Vec::as_slice)
}

/// Each character by its own lower-case mapping.
fn lower(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

fn equal(value: &Value, operand: &Value, fold: &dyn Fn(&str) -> String) -> bool {
    match (value, operand) {
        (Value::String(a), Value::String(b)) => fold(a) == fold(b),
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Number(a), Value::Number(b)) => Number::read(a).compare(operand_number(b)) == Ordering::Equal,
        _ => false,
    }
}

/// A whole number within 64 bits is that number, however it is written.
fn operand_number(number: &serde_json::Number) -> Number {
    match Number::read(number) {
        Number::Float(float) if float.fract() == 0.0 && (-9.2e18..9.2e18).contains(&float) => {
            Number::Whole(float as i64)
        }
        other => other,
    }
}

/// The bounds of the four comparisons are 64-bit floats.
fn compared(value: &Value, operand: &Value, wanted: impl Fn(Ordering) -> bool) -> bool {
    let Value::Number(number) = value else { return false };
    wanted(Number::read(number).compare(Number::Float(operand.as_f64().unwrap())))
}

fn mapped(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map(IpAddr::V4),
        IpAddr::V4(_) => None,
    }
}

fn is_in(address: IpAddr, network: &str) -> bool {
    let (base, length) =
        network.split_once('/').map_or((network, None), |(base, length)| (base, Some(length)));
    let length: Option<u32> = length.map(|length| length.parse().unwrap());
    match (address, base.parse::<IpAddr>().unwrap()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            first_bits(a.to_bits().into(), 32, length) == first_bits(b.to_bits().into(), 32, length)
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            first_bits(a.to_bits(), 128, length) == first_bits(b.to_bits(), 128, length)
        }
        _ => false,
    }
}

fn first_bits(bits: u128, width: u32, length: Option<u32>) -> u128 {
    bits.checked_shr(width - length.unwrap_or(width)).unwrap_or(0)
}
