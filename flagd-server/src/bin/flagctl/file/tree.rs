//! A JSON text as a tree that keeps the order of members and the digits of numbers.
//!
//! Percentages are decimal text; a detour over floats or sorted maps would give people back another file than
//! they wrote. This file lays trees out as JSON or YAML for reading and knows nothing of flags.

use std::fmt::Write as _;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Longest line that an object or a list is put on as a whole.
const LINE_MAX_CHARS: usize = 100;

/// A JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tree {
    /// Anything without members, as JSON text.
    Scalar(String),
    /// A list.
    List(Vec<Tree>),
    /// An object; members in the order in which they were written, also those that repeat a name.
    Object(Vec<(String, Tree)>),
}

struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

impl Tree {
    /// Reads JSON.
    pub(crate) fn parse(text: &str) -> Result<Tree, String> {
        let raw: &RawValue = serde_json::from_str(text).map_err(|error| error.to_string())?;
        Tree::from_raw(raw.get()).map_err(|error| error.to_string())
    }

    fn from_raw(text: &str) -> Result<Tree, serde_json::Error> {
        match text.as_bytes().first() {
            Some(b'{') => {
                let Members(members) = serde_json::from_str(text)?;
                let read = |(name, raw): (String, Box<RawValue>)| Ok((name, Tree::from_raw(raw.get())?));
                members.into_iter().map(read).collect::<Result<_, _>>().map(Tree::Object)
            }
            Some(b'[') => {
                let elements: Vec<&RawValue> = serde_json::from_str(text)?;
                elements
                    .into_iter()
                    .map(|raw| Tree::from_raw(raw.get()))
                    .collect::<Result<_, _>>()
                    .map(Tree::List)
            }
            _ => Ok(Tree::Scalar(text.to_owned())),
        }
    }

    /// Compact JSON.
    pub(crate) fn to_json(&self) -> String {
        let mut text = String::new();
        self.write_line(&mut text, "");
        text
    }

    /// JSON for reading: short values on one line, the rest indented.
    pub(crate) fn to_pretty_json(&self) -> String {
        let mut text = String::new();
        self.write_pretty(&mut text, 0, 0);
        text.push('\n');
        text
    }

    fn write_line(&self, text: &mut String, space: &str) {
        match self {
            Tree::Scalar(scalar) => text.push_str(scalar),
            Tree::List(elements) => {
                text.push('[');
                for (at, element) in elements.iter().enumerate() {
                    if at > 0 {
                        text.push(',');
                        text.push_str(space);
                    }
                    element.write_line(text, space);
                }
                text.push(']');
            }
            Tree::Object(members) if members.is_empty() => text.push_str("{}"),
            Tree::Object(members) => {
                text.push('{');
                text.push_str(space);
                for (at, (name, member)) in members.iter().enumerate() {
                    if at > 0 {
                        text.push(',');
                        text.push_str(space);
                    }
                    let _ = write!(text, "{}:{space}", quoted(name));
                    member.write_line(text, space);
                }
                text.push_str(space);
                text.push('}');
            }
        }
    }

    /// `depth` is the indentation of the line, `used` what already stands on it.
    fn write_pretty(&self, text: &mut String, depth: usize, used: usize) {
        let mut line = String::new();
        self.write_line(&mut line, " ");
        // The first two levels are the file and its sections: they are always opened.
        if depth >= 2 && used + line.chars().count() <= LINE_MAX_CHARS || matches!(self, Tree::Scalar(_)) {
            text.push_str(&line);
            return;
        }
        let new_line = |text: &mut String, depth: usize| {
            text.push('\n');
            text.push_str(&"  ".repeat(depth));
        };
        match self {
            Tree::Scalar(_) => {}
            Tree::List(elements) => {
                text.push('[');
                for (at, element) in elements.iter().enumerate() {
                    text.push_str(if at > 0 { "," } else { "" });
                    new_line(text, depth + 1);
                    element.write_pretty(text, depth + 1, 2 * (depth + 1));
                }
                new_line(text, depth);
                text.push(']');
            }
            Tree::Object(members) => {
                text.push('{');
                for (at, (name, member)) in members.iter().enumerate() {
                    text.push_str(if at > 0 { "," } else { "" });
                    new_line(text, depth + 1);
                    let name = quoted(name);
                    let _ = write!(text, "{name}: ");
                    member.write_pretty(text, depth + 1, 2 * (depth + 1) + name.chars().count() + 2);
                }
                new_line(text, depth);
                text.push('}');
            }
        }
    }

    /// YAML 1.2 for reading.
    pub(crate) fn to_yaml(&self) -> String {
        let mut text = String::new();
        self.write_yaml(&mut text, 0, YamlPlace::Top);
        text
    }

    fn write_yaml(&self, text: &mut String, depth: usize, place: YamlPlace) {
        let lead = match place {
            YamlPlace::Top => "",
            YamlPlace::AfterName | YamlPlace::AfterDash => " ",
        };
        match self {
            Tree::Scalar(scalar) => {
                let _ = writeln!(text, "{lead}{}", yaml_scalar(scalar));
            }
            Tree::List(elements) if elements.is_empty() => {
                let _ = writeln!(text, "{lead}[]");
            }
            Tree::Object(members) if members.is_empty() => {
                let _ = writeln!(text, "{lead}{{}}");
            }
            Tree::List(elements) => {
                text.push_str(if place == YamlPlace::Top { "" } else { "\n" });
                for element in elements {
                    let _ = write!(text, "{}-", "  ".repeat(depth));
                    element.write_yaml(text, depth + 1, YamlPlace::AfterDash);
                }
            }
            Tree::Object(members) => {
                if place == YamlPlace::AfterName {
                    text.push('\n');
                }
                for (at, (name, member)) in members.iter().enumerate() {
                    // The first member of a list's element stands on the line of the dash.
                    if at == 0 && place == YamlPlace::AfterDash {
                        text.push(' ');
                    } else {
                        text.push_str(&"  ".repeat(depth));
                    }
                    let _ = write!(text, "{}:", yaml_scalar(&quoted(name)));
                    member.write_yaml(text, depth + 1, YamlPlace::AfterName);
                }
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum YamlPlace {
    Top,
    AfterName,
    AfterDash,
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A JSON scalar as YAML: a string loses its quotes where no reader of YAML, old or new, could take it for
/// anything else.
fn yaml_scalar(json: &str) -> String {
    let Some(inner) = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return json.to_owned();
    };
    let plain = inner.starts_with(|c: char| c.is_ascii_alphabetic())
        && inner.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'));
    let word = inner.to_ascii_lowercase();
    let reserved =
        matches!(word.as_str(), "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n");
    if plain && !reserved { inner.to_owned() } else { json.to_owned() }
}
