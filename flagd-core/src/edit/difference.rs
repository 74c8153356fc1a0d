//! What differs between two stored definitions, field by field, in words short enough for a terminal.
//!
//! It reads JSON and not the typed definition, so that it can also show definitions which this version does
//! not wholly understand. The names of the fields are those that `apply` uses for drift and conflicts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::sentence;
use crate::definition::SegmentList;

/// A field that two definitions do not share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldDifference {
    /// The field: `otherwise`, `rules.dach.serve`, `variants.on`.
    pub field: String,
    /// What it was; `None` when it was left out.
    pub before: Option<String>,
    /// What it is; `None` when it is left out.
    pub after: Option<String>,
}

/// A part of a segment's list that is not the same before and after: its bytes, `None` where it is not there.
#[derive(Clone, Debug)]
pub struct PartDifference<'b> {
    /// Which list.
    pub list: SegmentList,
    /// What it was.
    pub before: Option<&'b [u8]>,
    /// What it is.
    pub after: Option<&'b [u8]>,
}

/// The fields in which two stored definitions differ, in the order in which a definition has them. `None` is a
/// definition that is not there. Of a segment, `parts` are those that are not the same.
#[must_use]
pub fn difference(
    before: Option<&[u8]>,
    after: Option<&[u8]>,
    parts: &[PartDifference<'_>],
) -> Vec<FieldDifference> {
    let (mut old, mut new) = (Fields::read(before), Fields::read(after));
    for part in parts {
        old.add_units(part.list, part.before);
        new.add_units(part.list, part.after);
    }
    let mut found = Vec::new();
    let mut names: Vec<&String> = old.order.iter().collect();
    names.extend(new.order.iter().filter(|name| !old.texts.contains_key(*name)));
    names.sort_by_key(|name| rank(name));
    for field in names {
        let (before, after) = (old.text(field), new.text(field));
        if before != after {
            found.push(FieldDifference { field: field.clone(), before, after });
        }
    }
    for list in ["include", "exclude"] {
        let (was, is) = (old.units(list), new.units(list));
        let units = |of: &BTreeSet<String>, but: &BTreeSet<String>| {
            let units: Vec<&String> = of.difference(but).collect();
            if units.is_empty() { None } else { Some(sentence::list(&units)) }
        };
        let (before, after) = (units(&was, &is), units(&is, &was));
        if before.is_some() || after.is_some() {
            found.push(FieldDifference { field: list.to_owned(), before, after });
        }
    }
    found
}

/// The order in which a definition is written.
fn rank(field: &str) -> usize {
    const ORDER: [&str; 12] = [
        "description",
        "owner",
        "tags",
        "metadata",
        "variants",
        "offVariant",
        "enabled",
        "salt",
        "requires",
        "rules",
        "otherwise",
        "by",
    ];
    let head = field.split('.').next().unwrap_or(field);
    ORDER.iter().position(|name| *name == head).unwrap_or(ORDER.len())
}

/// A definition as texts by field.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// Names in the order of the definition.
    order: Vec<String>,
    texts: BTreeMap<String, String>,
    lists: BTreeMap<String, BTreeSet<String>>,
}

impl Fields {
    /// Reads a stored definition; what is not JSON is one field of its own.
    pub(super) fn read(bytes: Option<&[u8]>) -> Fields {
        let mut fields = Fields::default();
        let Some(bytes) = bytes else { return fields };
        let Ok(Value::Object(members)) = serde_json::from_slice::<Value>(bytes) else {
            fields.put("definition", String::from_utf8_lossy(bytes).into_owned());
            return fields;
        };
        for (name, value) in &members {
            match (name.as_str(), value) {
                ("include" | "exclude", Value::Array(units)) => {
                    let units = units
                        .iter()
                        .map(|unit| unit.as_str().map_or_else(|| unit.to_string(), str::to_owned));
                    fields.lists.insert(name.clone(), units.collect());
                }
                // Where a list is stored is nobody's business; its units are told by their parts.
                ("includeParts" | "excludeParts", _) => {}
                ("variants", Value::Object(variants)) => {
                    for (variant, value) in variants {
                        fields.put(&format!("variants.{variant}"), value.to_string());
                    }
                }
                ("rules", Value::Array(rules)) => fields.put_rules(rules),
                ("otherwise", value) => fields.put(name, serve_text(value)),
                ("tags", Value::Array(tags)) => fields.put(name, texts(tags)),
                ("requires", Value::Array(requirements)) => fields.put(name, requirements_text(requirements)),
                (_, Value::String(text)) => fields.put(name, text.clone()),
                (_, value) => fields.put(name, value.to_string()),
            }
        }
        // A flag is enabled unless it says otherwise; so that a switch always shows both sides.
        if members.contains_key("otherwise") && !members.contains_key("enabled") {
            fields.put("enabled", "true".to_owned());
        }
        fields
    }

    /// What a field says; `None` when the definition leaves it out.
    pub(super) fn text(&self, field: &str) -> Option<String> {
        self.texts.get(field).cloned()
    }

    /// A whole rule, for the field `rules.NAME`.
    pub(super) fn rule(&self, field: &str) -> Option<String> {
        let condition = self.text(&format!("{field}.if"))?;
        Some(format!("if {condition} serve {}", self.text(&format!("{field}.serve"))?))
    }

    /// Takes the units of a part for units of the list.
    fn add_units(&mut self, list: SegmentList, part: Option<&[u8]>) {
        let units: Vec<String> =
            part.and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default();
        self.lists.entry(list.member().to_owned()).or_default().extend(units);
    }

    fn units(&self, list: &str) -> BTreeSet<String> {
        self.lists.get(list).cloned().unwrap_or_default()
    }

    fn put(&mut self, field: &str, text: String) {
        if self.texts.insert(field.to_owned(), text).is_none() {
            self.order.push(field.to_owned());
        }
    }

    fn put_rules(&mut self, rules: &[Value]) {
        let name = |rule: &Value| rule.get("name").and_then(Value::as_str).unwrap_or("?").to_owned();
        let names: Vec<String> = rules.iter().map(name).collect();
        if names.len() > 1 {
            self.put("rules", names.join(", "));
        }
        for rule in rules {
            let name = name(rule);
            if let Some(condition) = rule.get("if") {
                self.put(&format!("rules.{name}.if"), condition.to_string());
            }
            if let Some(serve) = rule.get("serve") {
                self.put(&format!("rules.{name}.serve"), serve_text(serve));
            }
        }
    }
}

/// `on`, or `on 25 %, off 75 % by companyId`, in the order in which the variants lie.
fn serve_text(serve: &Value) -> String {
    let Some(split) = serve.get("split") else {
        return serve.as_str().map_or_else(|| serve.to_string(), str::to_owned);
    };
    let arms = |members: &Map<String, Value>| -> Vec<String> {
        members.iter().map(|(variant, percent)| format!("{variant} {percent} %")).collect()
    };
    let parts = match split {
        Value::Object(members) => arms(members),
        Value::Array(list) => list.iter().filter_map(Value::as_object).flat_map(arms).collect(),
        other => vec![other.to_string()],
    };
    match serve.get("by").and_then(Value::as_str) {
        Some(by) => format!("{} by {by}", parts.join(", ")),
        None => parts.join(", "),
    }
}

fn requirements_text(requirements: &[Value]) -> String {
    let one = |requirement: &Value| {
        let flag = requirement.get("flag").and_then(Value::as_str);
        match (flag, requirement.get("serves").and_then(Value::as_array)) {
            (Some(flag), Some(serves)) => format!("{flag} serves {}", texts(serves)),
            _ => requirement.to_string(),
        }
    };
    requirements.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn texts(values: &[Value]) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    values.iter().map(text).collect::<Vec<_>>().join(", ")
}
