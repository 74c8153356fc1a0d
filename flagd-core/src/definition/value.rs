//! Reads a JSON value that a flag serves or keeps, exactly as it was written or not at all.
//!
//! A generic reader would keep the last of two equal keys and round numbers; both would serve something that
//! nobody wrote. This file does not know what the value is for.

use serde_json::{Map, Value};

use super::json::{At, Kind, Reader};
use super::number;
use crate::canonical;
use crate::limits;

impl<'a> Reader<'a> {
    /// A value of any kind, nulls included.
    pub(super) fn value(&mut self, at: &At<'_, 'a>) -> Option<Value> {
        self.nested_value(at, 0)
    }

    /// An object as a map of values, whose compact form has at most `max_bytes`.
    pub(super) fn map(
        &mut self,
        at: &At<'_, 'a>,
        what: &str,
        max_bytes: usize,
    ) -> Option<Map<String, Value>> {
        if at.kind() != Kind::Object {
            self.wrong_type(at, "an object");
            return None;
        }
        let value = self.value(at)?;
        self.check_size(at, what, &value, max_bytes)?;
        match value {
            Value::Object(map) => Some(map),
            _ => None,
        }
    }

    /// Checks the length of the value's compact form.
    pub(super) fn check_size(
        &mut self,
        at: &At<'_, 'a>,
        what: &str,
        value: &Value,
        max_bytes: usize,
    ) -> Option<()> {
        // The compact form of a short text is short: an escape such as \n shrinks or stays, a number grows little.
        if at.text.len() < max_bytes / 4 {
            return Some(());
        }
        let bytes = canonical::write_value(value).len();
        if bytes > max_bytes {
            self.problem(
                at,
                format!("{what} has at most {max_bytes} bytes as compact JSON; this one has {bytes}"),
            );
            return None;
        }
        Some(())
    }

    fn nested_value(&mut self, at: &At<'_, 'a>, depth: usize) -> Option<Value> {
        let kind = at.kind();
        if depth == limits::VALUE_DEPTH_MAX && matches!(kind, Kind::Array | Kind::Object) {
            let message = format!("arrays and objects are nested at most {} deep", limits::VALUE_DEPTH_MAX);
            self.problem(at, message);
            return None;
        }
        match kind {
            Kind::Null => Some(Value::Null),
            Kind::Boolean => Some(Value::Bool(at.text == "true")),
            Kind::String => self.string(at).map(|text| Value::String(text.into_owned())),
            Kind::Number => {
                let number = number::value(at.text);
                if number.is_none() {
                    self.problem_hint(at, inexact(at.text), "write it as a string, or with fewer digits");
                }
                number.map(Value::Number)
            }
            Kind::Array => {
                let elements = self.list(at, "a list", usize::MAX)?;
                let mut list = Vec::with_capacity(elements.len());
                for (index, text) in elements.into_iter().enumerate() {
                    list.extend(self.nested_value(&at.index(index, text), depth + 1));
                }
                Some(Value::Array(list))
            }
            Kind::Object => {
                let object = self.members(at, "an object", |_| false)?;
                let mut map = Map::new();
                for member in object.members() {
                    let value = self.nested_value(&at.key(&member.name, member.text), depth + 1);
                    map.extend(value.map(|value| (member.name.clone().into_owned(), value)));
                }
                Some(Value::Object(map))
            }
        }
    }
}

/// What is wrong with a number that cannot be held.
pub(super) fn inexact(text: &str) -> String {
    let shown: String = text.chars().take(60).collect();
    let dots = if shown.len() < text.len() { "..." } else { "" };
    format!("the number {shown}{dots} cannot be held exactly in 64 bits")
}
