//! Reads JSON without losing what a person needs to mend it: positions, duplicate keys, numbers as written.
//!
//! A tree of plain values forgets where things stood, keeps the last of two equal keys and turns numbers into
//! floats. Here a value is a slice of the source, taken apart one level at a time by `serde_json`; its place in
//! the source gives line and column, and only what is wrong costs anything. This file knows nothing of flags.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::limits;
use crate::problem::{Problem, Problems, TextPosition, nearest};

/// The kinds of JSON values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

impl Kind {
    /// The kind of a value, from its text.
    pub(super) fn of(text: &str) -> Kind {
        match text.as_bytes().first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b't' | b'f') => Kind::Boolean,
            Some(b'n') => Kind::Null,
            _ => Kind::Number,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Boolean => "a boolean",
            Kind::Number => "a number",
            Kind::String => "a string",
            Kind::Array => "a list",
            Kind::Object => "an object",
        }
    }
}

/// A value and the way to it from the root. Built on the stack; rendered only when something is wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'p, 'a> {
    parent: Option<&'p At<'p, 'a>>,
    segment: Segment<'p>,
    /// The value's text, a slice of the source.
    pub(super) text: &'a str,
}

#[derive(Clone, Copy, Debug)]
enum Segment<'p> {
    Root,
    Key(&'p str),
    Index(usize),
}

impl<'a> At<'_, 'a> {
    /// The outermost value.
    pub(super) fn root(text: &'a str) -> At<'a, 'a> {
        At { parent: None, segment: Segment::Root, text }
    }

    /// A member of this object.
    pub(super) fn key<'q>(&'q self, name: &'q str, text: &'a str) -> At<'q, 'a> {
        At { parent: Some(self), segment: Segment::Key(name), text }
    }

    /// An element of this list.
    pub(super) fn index(&self, index: usize, text: &'a str) -> At<'_, 'a> {
        At { parent: Some(self), segment: Segment::Index(index), text }
    }

    /// The value's kind.
    pub(super) fn kind(&self) -> Kind {
        Kind::of(self.text)
    }
}

impl fmt::Display for At<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut way: Vec<&At<'_, '_>> = Vec::new();
        let mut next = Some(self);
        while let Some(at) = next {
            way.push(at);
            next = at.parent;
        }
        let mut path = String::new();
        for at in way.iter().rev() {
            match at.segment {
                Segment::Root => {}
                Segment::Key(name) => push_key(&mut path, name),
                Segment::Index(index) => write!(path, "[{index}]")?,
            }
        }
        f.write_str(&path)
    }
}

/// Adds a key to a path: `.name`, or `["odd name"]` where a dot would mislead.
pub(crate) fn push_key(path: &mut String, name: &str) {
    let plain =
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '$'));
    if !plain {
        // Writing to a String does not fail.
        let _ = write!(path, "[{name:?}]");
        return;
    }
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

/// One member of an object, as slices of the source.
#[derive(Clone, Debug)]
pub(super) struct Member<'a> {
    /// The key, unescaped.
    pub(super) name: Cow<'a, str>,
    /// The key as it stands in the source.
    pub(super) key_text: &'a str,
    /// The value as it stands in the source.
    pub(super) text: &'a str,
}

/// The members of an object, each key once.
#[derive(Clone, Debug, Default)]
pub(super) struct Object<'a> {
    members: Vec<Member<'a>>,
    left_out: bool,
}

impl<'a> Object<'a> {
    /// The value of a member.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.members.iter().find(|member| member.name == name).map(|member| member.text)
    }

    /// Whether members were left out because their keys were wrong or came twice.
    pub(super) fn left_out(&self) -> bool {
        self.left_out
    }

    /// All members, in the author's order.
    pub(super) fn members(&self) -> &[Member<'a>] {
        &self.members
    }
}

/// Collects what is wrong with one source.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    source: &'a str,
    found: Vec<(usize, Problem)>,
    left_off: usize,
    /// How many conditions the definition at hand has so far.
    pub(super) conditions: usize,
}

impl<'a> Reader<'a> {
    /// Checks that the source is JSON and begins to read it.
    ///
    /// # Errors
    /// The one problem with the syntax.
    pub(super) fn new(source: &'a str) -> Result<(Reader<'a>, &'a str), Problem> {
        match serde_json::from_str::<&RawValue>(source) {
            Ok(root) => Ok((Reader { source, found: Vec::new(), left_off: 0, conditions: 0 }, root.get())),
            Err(error) => Err(syntax_problem(source, &error)),
        }
    }

    /// Notes a problem with a value.
    pub(super) fn problem(&mut self, at: &At<'_, 'a>, message: impl Into<String>) {
        self.note(at, at.text, message, None);
    }

    /// Notes a problem with a value and its fix.
    pub(super) fn problem_hint(
        &mut self,
        at: &At<'_, 'a>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.note(at, at.text, message, Some(hint.into()));
    }

    /// Notes a problem with a value; `place` is the part of the source that the position points at.
    pub(super) fn note(
        &mut self,
        at: &At<'_, 'a>,
        place: &'a str,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        if self.found.len() >= limits::PROBLEMS_MAX {
            self.left_off += 1;
            return;
        }
        let offset = place.as_ptr().addr().saturating_sub(self.source.as_ptr().addr());
        let problem = Problem { path: at.to_string(), position: None, message: message.into(), hint };
        self.found.push((offset, problem));
    }

    /// Notes that a value has the wrong type.
    pub(super) fn wrong_type(&mut self, at: &At<'_, 'a>, wanted: &str) {
        let message = format!("this must be {wanted}, not {}", at.kind().words());
        let hint = match at.kind() {
            Kind::String
                if wanted.contains("number")
                    || wanted.contains("percentage")
                    || wanted == "true or false" =>
            {
                let inner = at.text.trim_matches('"').trim_end_matches('%').trim();
                let fits =
                    Kind::of(inner) != Kind::String && serde_json::from_str::<&RawValue>(inner).is_ok();
                fits.then(|| format!("write {inner} without quotes"))
            }
            Kind::Number | Kind::Boolean if wanted.contains("string") => {
                Some(format!("write \"{}\"", at.text))
            }
            Kind::String
                if (wanted == "a list" || wanted.ends_with("strings") || wanted.ends_with("variants"))
                    && at.text.len() < 80 =>
            {
                Some(format!("write [{}]", at.text))
            }
            Kind::Null => Some("leave the member out instead".to_owned()),
            _ => None,
        };
        self.note(at, at.text, message, hint);
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_clean(&self) -> bool {
        self.found.is_empty()
    }

    /// Everything that is wrong, in the order of the source.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut found = self.found;
        found.sort_by_key(|(offset, _)| *offset);
        let mut cursor =
            Cursor { source: self.source, offset: 0, position: TextPosition { line: 1, column: 1 } };
        let mut problems = Problems::default();
        for (offset, mut problem) in found {
            problem.position = Some(cursor.advance(offset));
            problems.push(problem);
        }
        for _ in 0..self.left_off {
            problems.push(Problem::new("", ""));
        }
        problems.into_vec()
    }

    /// A string.
    pub(super) fn string(&mut self, at: &At<'_, 'a>) -> Option<Cow<'a, str>> {
        if at.kind() != Kind::String {
            self.wrong_type(at, "a string");
            return None;
        }
        let text = unescape(at.text);
        if text.is_none() {
            self.problem(at, "this string holds half of a surrogate pair, which is no character");
        }
        text
    }

    /// A string that is not empty and not longer than a limit.
    pub(super) fn text(&mut self, at: &At<'_, 'a>, what: &str, max_bytes: usize) -> Option<Cow<'a, str>> {
        let text = self.string(at)?;
        if text.is_empty() {
            self.problem(at, format!("{what} must not be empty"));
            return None;
        }
        if text.len() > max_bytes {
            self.problem(at, format!("{what} has at most {max_bytes} bytes; this one has {}", text.len()));
            return None;
        }
        Some(text)
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, at: &At<'_, 'a>) -> Option<bool> {
        if at.kind() != Kind::Boolean {
            self.wrong_type(at, "true or false");
            return None;
        }
        Some(at.text == "true")
    }

    /// The elements of a list of at most `max` elements.
    pub(super) fn list(&mut self, at: &At<'_, 'a>, what: &str, max: usize) -> Option<Vec<&'a str>> {
        if at.kind() != Kind::Array {
            self.wrong_type(at, what);
            return None;
        }
        let elements = elements(at.text);
        if elements.len() > max {
            self.problem(at, format!("this list has at most {max} elements; it has {}", elements.len()));
            return None;
        }
        Some(elements)
    }

    /// The members of an object; a duplicate key is a problem unless `tolerated` says that it does not matter.
    pub(super) fn members(
        &mut self,
        at: &At<'_, 'a>,
        what: &str,
        tolerated: impl Fn(&str) -> bool,
    ) -> Option<Object<'a>> {
        if at.kind() != Kind::Object {
            self.wrong_type(at, what);
            return None;
        }
        let mut object = Object::default();
        let mut seen: BTreeSet<Cow<'a, str>> = BTreeSet::new();
        for RawMember { key_text, text } in raw_members(at.text) {
            let Some(name) = unescape(key_text) else {
                self.note(
                    at,
                    key_text,
                    "this key holds half of a surrogate pair, which is no character",
                    None,
                );
                object.left_out = true;
                continue;
            };
            // A search of a handful is faster than a set; a file's map of flags needs the set.
            let few = object.members.len() < 16;
            if object.members.len() == 16 && seen.is_empty() {
                seen.extend(object.members.iter().map(|member| member.name.clone()));
            }
            let double = if few { object.get(&name).is_some() } else { !seen.insert(name.clone()) };
            if double && tolerated(&name) {
                continue;
            }
            if double {
                self.note(&at.key(&name, text), key_text, format!("`{name}` is given twice"), None);
                object.left_out = true;
                continue;
            }
            object.members.push(Member { name, key_text, text });
        }
        Some(object)
    }

    /// The members of an object that has only these.
    pub(super) fn object(&mut self, at: &At<'_, 'a>, what: &str, names: &[&str]) -> Option<Object<'a>> {
        self.object_with(at, what, names, |_| false)
    }

    /// The members of an object that has only these, some of which are skipped unread.
    pub(super) fn object_with(
        &mut self,
        at: &At<'_, 'a>,
        what: &str,
        names: &[&str],
        tolerated: impl Fn(&str) -> bool,
    ) -> Option<Object<'a>> {
        let object = self.members(at, what, tolerated)?;
        for member in &object.members {
            if !names.contains(&member.name.as_ref()) {
                let hint = match nearest(&member.name, names.iter().copied()) {
                    Some(name) => format!("did you mean \"{name}\"?"),
                    None => format!("{what} has {}", listed(names)),
                };
                let message = format!("unknown member `{}`", member.name);
                self.note(&at.key(&member.name, member.text), member.key_text, message, Some(hint));
            }
        }
        Some(object)
    }
}

/// Names as people list them.
pub(super) fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// The text of a JSON string; `None` when it holds a lone surrogate.
pub(super) fn unescape(text: &str) -> Option<Cow<'_, str>> {
    if text.contains('\\') {
        return serde_json::from_str::<String>(text).ok().map(Cow::Owned);
    }
    text.get(1..text.len().saturating_sub(1)).map(Cow::Borrowed)
}

/// The text of a value that is a string; `None` for another value.
pub(super) fn string(text: &str) -> Option<Cow<'_, str>> {
    if Kind::of(text) == Kind::String { unescape(text) } else { None }
}

/// The elements of a list whose syntax was checked.
pub(super) fn elements(text: &str) -> Vec<&str> {
    let raw: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
    raw.into_iter().map(RawValue::get).collect()
}

/// A member before its key is unescaped.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawMember<'a> {
    pub(super) key_text: &'a str,
    pub(super) text: &'a str,
}

/// The members of an object whose syntax was checked, duplicates included.
pub(super) fn raw_members(text: &str) -> Vec<RawMember<'_>> {
    serde_json::from_str::<RawMembers<'_>>(text).map(|members| members.0).unwrap_or_default()
}

struct RawMembers<'a>(Vec<RawMember<'a>>);

impl<'de> Deserialize<'de> for RawMembers<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = RawMembers<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((key, value)) = map.next_entry::<&'de RawValue, &'de RawValue>()? {
                    members.push(RawMember { key_text: key.get(), text: value.get() });
                }
                Ok(RawMembers(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// Where in a text the value at a path stands, as [`Problem::path`] writes paths; the nearest value around it when
/// it is not stated. `None` when the text is not JSON.
#[must_use]
pub fn position_of(source: &str, path: &str) -> Option<TextPosition> {
    let root: &RawValue = serde_json::from_str(source).ok()?;
    let (mut way, mut text, mut place) = (String::new(), root.get(), root.get());
    while way != path {
        let leads = |step: &str| {
            path.strip_prefix(step).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let next = match Kind::of(text) {
            Kind::Object => raw_members(text).into_iter().find_map(|member| {
                let mut step = way.clone();
                push_key(&mut step, &unescape(member.key_text)?);
                leads(&step).then_some((step, member.text, member.key_text))
            }),
            Kind::Array => elements(text).into_iter().enumerate().find_map(|(index, element)| {
                let step = format!("{way}[{index}]");
                leads(&step).then_some((step, element, element))
            }),
            _ => None,
        };
        let Some(found) = next else { break };
        (way, text, place) = found;
    }
    let offset = place.as_ptr().addr().saturating_sub(source.as_ptr().addr());
    let mut cursor = Cursor { source, offset: 0, position: TextPosition { line: 1, column: 1 } };
    Some(cursor.advance(offset))
}

/// Walks a source once and counts lines and characters.
struct Cursor<'a> {
    source: &'a str,
    offset: usize,
    position: TextPosition,
}

impl Cursor<'_> {
    fn advance(&mut self, offset: usize) -> TextPosition {
        let passed = self.source.get(self.offset..offset).unwrap_or_default();
        for c in passed.chars() {
            if c == '\n' {
                self.position.line = self.position.line.saturating_add(1);
                self.position.column = 1;
            } else {
                self.position.column = self.position.column.saturating_add(1);
            }
        }
        self.offset = self.offset.max(offset);
        self.position
    }
}

fn syntax_problem(source: &str, error: &serde_json::Error) -> Problem {
    // Skipping a value tells less about it than reading it does, except that reading gives up on deep nesting.
    let detailed = serde_json::from_str::<serde_json::Value>(source).err();
    let detailed =
        detailed.filter(|other| other.line() == error.line() && !other.to_string().contains("recursion"));
    let error = detailed.as_ref().unwrap_or(error);
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or(&text);
    let line = error.line().max(1);
    let begun = source.split('\n').nth(line - 1).unwrap_or_default();
    // serde_json counts bytes and names the last byte that it looked at.
    let mut bytes = error.column().saturating_sub(1).min(begun.len());
    while !begun.is_char_boundary(bytes) {
        bytes -= 1;
    }
    let column = begun.get(..bytes).unwrap_or_default().chars().count() + 1;
    let position = TextPosition {
        line: u32::try_from(line).unwrap_or(u32::MAX),
        column: u32::try_from(column).unwrap_or(u32::MAX),
    };
    let mut problem = Problem::new("", format!("this is not JSON: {message}"));
    problem.position = Some(position);
    problem
}
