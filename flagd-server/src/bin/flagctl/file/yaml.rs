//! YAML 1.2 as JSON, digit by digit and line by line.
//!
//! Two things go wrong when YAML is read into ordinary values: `off` and `no` turn into booleans (that was
//! YAML 1.1), and numbers turn into floats. So scalars are resolved here, by YAML 1.2's core schema, from the
//! parser's events, and numbers keep their digits. JSON does not care for white space: each value is put on
//! the line (and, where it fits, in the column) where it stands in the YAML, so that whoever checks the JSON
//! tells problems at the author's places.

use std::collections::BTreeMap;

use flagd_core::limits::FILE_MAX_BYTES;
use flagd_core::problem::{Problem, TextPosition};
use serde_saphyr::granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StructureStyle, Tag};

/// Deepest nesting; definitions need far less.
const DEPTH_MAX: usize = 128;

/// Reads one document.
pub(crate) fn to_json(yaml: &str) -> Result<String, Problem> {
    let mut writer =
        Writer { events: Parser::new_from_str(yaml), out: Out::default(), anchors: BTreeMap::new() };
    let mut documents = 0;
    loop {
        let (event, span) = writer.next(Marker::new(0, 1, 0))?;
        match event {
            Event::StreamEnd => break,
            Event::StreamStart | Event::DocumentEnd => {}
            Event::DocumentStart(..) if documents == 0 => documents = 1,
            Event::DocumentStart(..) => {
                return Err(problem(span.start, "a file holds one document; this is the second"));
            }
            event => writer.value(event, span, 0)?,
        }
    }
    if documents == 0 {
        return Err(Problem::new("", "the file is empty").hint("a file of definitions begins with `flags:`"));
    }
    Ok(writer.out.text)
}

struct Writer<'y, E: Iterator<Item = Result<(Event<'y>, Span), ScanError>>> {
    events: E,
    out: Out,
    /// The JSON of anchored values, on one line.
    anchors: BTreeMap<usize, String>,
}

/// JSON text that is written at the places of another text.
struct Out {
    text: String,
    line: usize,
    column: usize,
}

impl Default for Out {
    fn default() -> Out {
        Out { text: String::new(), line: 1, column: 0 }
    }
}

impl Out {
    /// Moves forward to a place; never back.
    fn go_to(&mut self, place: Marker) {
        while self.line < place.line() {
            self.text.push('\n');
            self.line += 1;
            self.column = 0;
        }
        while self.line == place.line() && self.column < place.col() {
            self.text.push(' ');
            self.column += 1;
        }
    }

    fn push(&mut self, json: &str) {
        self.text.push_str(json);
        self.column += json.chars().count();
    }
}

impl<'y, E: Iterator<Item = Result<(Event<'y>, Span), ScanError>>> Writer<'y, E> {
    fn next(&mut self, place: Marker) -> Result<(Event<'y>, Span), Problem> {
        match self.events.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(problem(*error.marker(), error.info())),
            None => Err(problem(place, "the text ends too early")),
        }
    }

    fn value(&mut self, event: Event<'y>, span: Span, depth: usize) -> Result<(), Problem> {
        if depth > DEPTH_MAX {
            return Err(problem(span.start, format!("nested deeper than {DEPTH_MAX} levels")));
        }
        self.out.go_to(first_character(&event, span.start));
        let begin = self.out.text.len();
        let anchor = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let json = scalar(&text, style, tag.as_deref()).map_err(|why| problem(span.start, why))?;
                self.out.push(&json);
                anchor
            }
            Event::SequenceStart(_, anchor, tag) => {
                no_tag(tag.as_deref(), "seq").map_err(|why| problem(span.start, why))?;
                self.sequence(span.start, depth)?;
                anchor
            }
            Event::MappingStart(_, anchor, tag) => {
                no_tag(tag.as_deref(), "map").map_err(|why| problem(span.start, why))?;
                self.mapping(span.start, depth)?;
                anchor
            }
            Event::Alias(anchor) => {
                let Some(json) = self.anchors.get(&anchor) else {
                    return Err(problem(span.start, "this alias stands inside of what it repeats"));
                };
                self.out.push(json);
                0
            }
            _ => return Err(problem(span.start, "there is no value here")),
        };
        if self.out.text.len() > FILE_MAX_BYTES {
            return Err(problem(
                span.start,
                format!("with all aliases the file exceeds {FILE_MAX_BYTES} bytes"),
            ));
        }
        if anchor > 0 {
            let json = self.out.text.get(begin..).unwrap_or_default().replace('\n', " ");
            self.anchors.insert(anchor, json);
        }
        Ok(())
    }

    fn sequence(&mut self, start: Marker, depth: usize) -> Result<(), Problem> {
        self.out.push("[");
        let mut first = true;
        loop {
            let (event, span) = self.next(start)?;
            if matches!(event, Event::SequenceEnd) {
                self.out.push("]");
                return Ok(());
            }
            if !std::mem::take(&mut first) {
                self.out.push(",");
            }
            self.value(event, span, depth + 1)?;
        }
    }

    fn mapping(&mut self, start: Marker, depth: usize) -> Result<(), Problem> {
        self.out.push("{");
        let mut first = true;
        loop {
            let (event, span) = self.next(start)?;
            let name = match event {
                Event::MappingEnd => {
                    self.out.push("}");
                    return Ok(());
                }
                Event::Scalar(text, ..) => text,
                _ => return Err(problem(span.start, "the name of a member must be plain text")),
            };
            if !std::mem::take(&mut first) {
                self.out.push(",");
            }
            self.out.go_to(span.start);
            self.out.push(&quoted(&name));
            self.out.push(":");
            let (event, span) = self.next(span.start)?;
            self.value(event, span, depth + 1)?;
        }
    }
}

/// A block mapping begins where its first name does; its brace goes into the column before.
fn first_character(event: &Event<'_>, start: Marker) -> Marker {
    match event {
        Event::MappingStart(StructureStyle::Block, ..) => {
            Marker::new(start.index(), start.line(), start.col().saturating_sub(1))
        }
        _ => start,
    }
}

fn problem(place: Marker, message: impl Into<String>) -> Problem {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let mut problem = Problem::new("", message);
    problem.position = Some(TextPosition { line: number(place.line()), column: number(place.col() + 1) });
    problem
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn no_tag(tag: Option<&Tag>, known: &str) -> Result<(), String> {
    match tag {
        None => Ok(()),
        Some(tag) if is_core(tag, known) => Ok(()),
        Some(tag) => Err(format!("the tag `{tag}` means nothing here")),
    }
}

fn is_core(tag: &Tag, suffix: &str) -> bool {
    tag.to_string().trim_start_matches("tag:yaml.org,2002:").trim_start_matches("!!") == suffix
}

/// A scalar as JSON, by the core schema.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<String, String> {
    match tag {
        Some(tag) if is_core(tag, "str") => return Ok(quoted(text)),
        Some(tag) => return Err(format!("the tag `{tag}` means nothing here")),
        None => {}
    }
    if style != ScalarStyle::Plain {
        return Ok(quoted(text));
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok("null".into()),
        "true" | "True" | "TRUE" => return Ok("true".into()),
        "false" | "False" | "FALSE" => return Ok("false".into()),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Err(format!("`{text}` is no number that a flag can hold"));
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) =
            text.strip_prefix(prefix).filter(|digits| digits.chars().all(|c| c.is_digit(radix)))
            && let Ok(number) = u64::from_str_radix(digits, radix)
        {
            return Ok(number.to_string());
        }
    }
    Ok(number(text).unwrap_or_else(|| quoted(text)))
}

/// A decimal number with the same digits in JSON's spelling; `None` for anything else.
fn number(text: &str) -> Option<String> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (rest, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    let mut json = format!("{sign}{whole}");
    if !fraction.is_empty() {
        json.push('.');
        json.push_str(fraction);
    }
    if let Some(exponent) = exponent {
        let exponent_digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        if exponent_digits.is_empty() || !digits(exponent_digits) {
            return None;
        }
        json.push('e');
        json.push_str(exponent);
    }
    Some(json)
}
