//! Writes JSON text whose every byte is decided here.
//!
//! The stored bytes are hashed and compared, so escapes, spaces and the order of members are part of the
//! format and must not depend on the settings of a library.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// How the text is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Without any space.
    Compact,
    /// A line for each member and element, indented by two spaces a level.
    Indented,
}

/// A text on its way.
#[derive(Debug)]
pub(super) struct Writer {
    text: String,
    layout: Layout,
    depth: usize,
    /// Whether the object or list at hand has no element yet.
    fresh: bool,
}

impl Writer {
    pub(super) fn new(layout: Layout) -> Writer {
        Writer { text: String::new(), layout, depth: 0, fresh: true }
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// An object; `fill` writes its members.
    pub(super) fn object(&mut self, fill: impl FnOnce(&mut Writer)) {
        self.nest('{', '}', fill);
    }

    /// A list of elements, each written by `write`.
    pub(super) fn list<'t, T: 't>(
        &mut self,
        elements: impl IntoIterator<Item = &'t T>,
        mut write: impl FnMut(&mut Writer, &'t T),
    ) {
        self.nest('[', ']', |w| {
            for element in elements {
                w.separate();
                write(w, element);
            }
        });
    }

    /// A member of the object at hand; `fill` writes its value.
    pub(super) fn member(&mut self, name: &str, fill: impl FnOnce(&mut Writer)) {
        self.separate();
        self.string(name);
        self.text.push_str(if self.layout == Layout::Compact { ":" } else { ": " });
        fill(self);
    }

    /// A string: only what JSON demands is escaped.
    pub(super) fn string(&mut self, text: &str) {
        self.text.push('"');
        for c in text.chars() {
            match c {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                c if c < ' ' => {
                    // Writing to a String does not fail.
                    let _ = write!(self.text, "\\u{:04x}", u32::from(c));
                }
                c => self.text.push(c),
            }
        }
        self.text.push('"');
    }

    /// Text that is JSON already.
    pub(super) fn raw(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// A number: whole ones that a float counts exactly without point, others in the fewest digits.
    pub(super) fn number(&mut self, value: f64) {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if value.fract() == 0.0 && value.abs() <= EXACT {
            // `+ 0.0` turns the negative zero into the other one.
            let _ = write!(self.text, "{:.0}", value + 0.0);
        } else {
            let _ = write!(self.text, "{value:?}");
        }
    }

    /// Any value; members of objects in byte order.
    pub(super) fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.raw("null"),
            Value::Bool(true) => self.raw("true"),
            Value::Bool(false) => self.raw("false"),
            Value::Number(number) => self.value_number(number),
            Value::String(text) => self.string(text),
            Value::Array(list) => self.list(list, Writer::value),
            Value::Object(map) => self.map(map),
        }
    }

    /// A map; members in byte order, whatever order the map keeps.
    pub(super) fn map(&mut self, map: &Map<String, Value>) {
        let mut members: Vec<(&String, &Value)> = map.iter().collect();
        members.sort_unstable_by_key(|(name, _)| *name);
        self.object(|w| members.into_iter().for_each(|(name, value)| w.member(name, |w| w.value(value))));
    }

    /// A served number keeps its form: 1.0 stays 1.0, for readers that tell whole numbers from others.
    fn value_number(&mut self, number: &serde_json::Number) {
        let _ = match number.as_f64().filter(|_| number.is_f64()) {
            Some(value) => write!(self.text, "{value:?}"),
            None => write!(self.text, "{number}"),
        };
    }

    fn nest(&mut self, open: char, close: char, fill: impl FnOnce(&mut Writer)) {
        self.text.push(open);
        self.depth += 1;
        self.fresh = true;
        fill(self);
        self.depth -= 1;
        if !self.fresh {
            self.new_line();
        }
        self.fresh = false;
        self.text.push(close);
    }

    fn separate(&mut self) {
        if !self.fresh {
            self.text.push(',');
        }
        self.fresh = false;
        self.new_line();
    }

    fn new_line(&mut self) {
        if self.layout == Layout::Indented {
            self.text.push('\n');
            (0..self.depth).for_each(|_| self.text.push_str("  "));
        }
    }
}
