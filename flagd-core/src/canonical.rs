//! The one text of a definition.
//!
//! Store, stream and digest hold bytes, so two servers that mean the same must write the same. The stored form
//! has a fixed order of members, states what its author may leave out and leaves out what is empty; reading it
//! gives back an equal definition and writing that gives back the same bytes. The readable form is the same in
//! meaning, for people. This file decides nothing about a definition; it only writes.

use serde_json::Value;

use crate::definition::{
    About, Case, Condition, FlagDefinition, Kill, Layout, Operator, Ppm, Requirement, Rule, Scalar,
    SegmentDefinition, SegmentList, Serve, Split, Stretch, Switch, Test, Tombstone, Units,
};
use crate::key::{FlagKey, SegmentKey, VariantName};
use crate::part;
use crate::split;
use crate::time::Timestamp;

mod writer;

use writer::{Layout as TextLayout, Writer};

/// For whom a definition is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For store, stream and digest: compact; splits as they are laid (callers lay shares first).
    Stored,
    /// For people (`get`, `export`): splits as an object of shares where a new split would lie the same way,
    /// else as a list; otherwise identical to the stored form in meaning.
    Readable,
}

/// The JSON text of a flag's definition. Deterministic: equal definitions give equal bytes.
#[must_use]
pub fn write_flag(key: &FlagKey, definition: &FlagDefinition, form: Form) -> String {
    let mut writer = Writer::new(text_layout(form));
    writer.object(|w| {
        w.member("variants", |w| {
            w.object(|w| {
                for (name, value) in &definition.variants {
                    w.member(name.as_str(), |w| w.value(value));
                }
            });
        });
        w.member("offVariant", |w| w.string(definition.off_variant.as_str()));
        if definition.switch == Switch::Disabled {
            w.member("enabled", |w| w.raw("false"));
        }
        if *definition.salt != *key.as_str() {
            w.member("salt", |w| w.string(&definition.salt));
        }
        if !definition.requires.is_empty() {
            w.member("requires", |w| w.list(&definition.requires, requirement));
        }
        if !definition.rules.is_empty() {
            w.member("rules", |w| {
                w.list(&definition.rules, |w, each| rule(w, each, &definition.off_variant, form));
            });
        }
        w.member("otherwise", |w| serve(w, &definition.otherwise, &definition.off_variant, form));
        about(w, &definition.about);
    });
    writer.into_text()
}

/// The JSON text of a segment's definition. In the stored form a long list is only mentioned: it is stored in parts,
/// which [`part::entries`] writes.
#[must_use]
pub fn write_segment(_key: &SegmentKey, definition: &SegmentDefinition, form: Form) -> String {
    let mut writer = Writer::new(text_layout(form));
    writer.object(|w| {
        if let Some(by) = &definition.by {
            w.member("by", |w| w.string(by));
        }
        for list in SegmentList::BOTH {
            match definition.units(list) {
                units if is_mentioned(units, form) => {
                    w.member(list.parts_member(), |w| w.raw(&part::PARTS.to_string()));
                }
                units if units.is_empty() => {}
                units => w.member(list.member(), |w| w.list(units.listed(), |w, unit| w.string(unit))),
            }
        }
        if let Some(each) = &definition.condition {
            w.member("if", |w| condition(w, each));
        }
        about(w, &definition.about);
    });
    writer.into_text()
}

/// Whether a list is only mentioned: in the stored form if it is long, else only when there is nothing to show.
fn is_mentioned(units: &Units, form: Form) -> bool {
    match form {
        Form::Stored => part::is_in_parts(units),
        Form::Readable => *units == Units::InParts,
    }
}

/// The compact text of a list of units.
pub(crate) fn write_units<'u>(units: impl IntoIterator<Item = &'u str>) -> String {
    let mut writer = Writer::new(TextLayout::Compact);
    let units: Vec<&str> = units.into_iter().collect();
    writer.list(&units, |w, unit| w.string(unit));
    writer.into_text()
}

/// The length of a string with its quotes and escapes.
pub(crate) fn string_bytes(text: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x8 | 0xc => 1,
        0..0x20 => 5,
        _ => 0,
    };
    2 + text.len() + text.bytes().map(escaped).sum::<usize>()
}

/// The JSON text of a kill.
#[must_use]
pub fn write_kill(kill: &Kill) -> String {
    let mut writer = Writer::new(TextLayout::Compact);
    writer.object(|w| {
        if let Some(name) = &kill.off_variant {
            w.member("offVariant", |w| w.string(name.as_str()));
        }
        if let Some(value) = &kill.value {
            w.member("value", |w| w.value(value));
        }
        author(w, &kill.by, kill.at, kill.reason.as_deref());
    });
    writer.into_text()
}

/// The JSON text of a tombstone.
#[must_use]
pub fn write_tombstone(tombstone: &Tombstone) -> String {
    let mut writer = Writer::new(TextLayout::Compact);
    writer.object(|w| {
        w.member("type", |w| w.string(tombstone.flag_type.word()));
        w.member("salt", |w| w.string(&tombstone.salt));
        w.member("definition", |w| {
            // The stored bytes go in as they are; what is no object (nobody understood it) goes in as text.
            let text = &*tombstone.definition;
            let object = text.starts_with('{') && text.ends_with('}');
            if object && serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok() {
                w.raw(text);
            } else {
                w.string(text);
            }
        });
        author(w, &tombstone.by, tombstone.at, tombstone.reason.as_deref());
    });
    writer.into_text()
}

/// The compact text of any value, members in byte order.
pub(crate) fn write_value(value: &Value) -> String {
    let mut writer = Writer::new(TextLayout::Compact);
    writer.value(value);
    writer.into_text()
}

/// The text of one place that serves, compact: a variant's name in quotes or a split.
#[must_use]
pub fn write_serve(each: &Serve, off_variant: &VariantName, form: Form) -> String {
    let mut writer = Writer::new(TextLayout::Compact);
    serve(&mut writer, each, off_variant, form);
    writer.into_text()
}

/// The text of a condition, compact.
#[must_use]
pub fn write_condition(each: &Condition) -> String {
    let mut writer = Writer::new(TextLayout::Compact);
    condition(&mut writer, each);
    writer.into_text()
}

/// A percentage as decimal text without trailing zeros: 250000 ppm is `25`, 15000 is `1.5`.
#[must_use]
pub fn percent(ppm: Ppm) -> String {
    percent_of(u64::from(ppm.0))
}

/// The same for sums, which may be over 100.
pub(crate) fn percent_of(ppm: u64) -> String {
    let (whole, fraction) = (ppm / 10_000, ppm % 10_000);
    if fraction == 0 {
        return whole.to_string();
    }
    format!("{whole}.{fraction:04}").trim_end_matches('0').to_owned()
}

/// Reads a percentage of at most four decimals; `None` for anything else or over 100.
#[must_use]
pub fn parse_percent(text: &str) -> Option<Ppm> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return None,
        None => (text, ""),
    };
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 3 || fraction.len() > 4 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let ppm = format!("{whole}{fraction:0<4}").parse::<u32>().ok()?;
    (ppm <= split::LINE).then_some(Ppm(ppm))
}

fn text_layout(form: Form) -> TextLayout {
    match form {
        Form::Stored => TextLayout::Compact,
        Form::Readable => TextLayout::Indented,
    }
}

fn about(w: &mut Writer, about: &About) {
    if let Some(description) = &about.description {
        w.member("description", |w| w.string(description));
    }
    if let Some(owner) = &about.owner {
        w.member("owner", |w| w.string(owner));
    }
    if !about.tags.is_empty() {
        w.member("tags", |w| w.list(&about.tags, |w, tag| w.string(tag)));
    }
    if !about.metadata.is_empty() {
        w.member("metadata", |w| w.map(&about.metadata));
    }
}

fn author(w: &mut Writer, by: &str, at: Timestamp, reason: Option<&str>) {
    w.member("by", |w| w.string(by));
    w.member("at", |w| w.string(&at.to_string()));
    if let Some(reason) = reason {
        w.member("reason", |w| w.string(reason));
    }
}

fn requirement(w: &mut Writer, requirement: &Requirement) {
    w.object(|w| {
        w.member("flag", |w| w.string(requirement.flag.as_str()));
        w.member("serves", |w| w.list(&requirement.serves, |w, name| w.string(name.as_str())));
    });
}

fn rule(w: &mut Writer, rule: &Rule, off_variant: &VariantName, form: Form) {
    w.object(|w| {
        w.member("name", |w| w.string(rule.name.as_str()));
        w.member("if", |w| condition(w, &rule.condition));
        w.member("serve", |w| serve(w, &rule.serve, off_variant, form));
    });
}

fn serve(w: &mut Writer, serve: &Serve, off_variant: &VariantName, form: Form) {
    match serve {
        Serve::Variant(name) => w.string(name.as_str()),
        Serve::Split(split) => w.object(|w| {
            w.member("split", |w| split_layout(w, split, off_variant, form));
            if let Some(by) = &split.by {
                w.member("by", |w| w.string(by));
            }
        }),
    }
}

fn split_layout(w: &mut Writer, split: &Split, off_variant: &VariantName, form: Form) {
    let object = |w: &mut Writer, shares: &std::collections::BTreeMap<VariantName, Ppm>| {
        w.object(|w| {
            for (name, share) in shares {
                w.member(name.as_str(), |w| w.raw(&percent(*share)));
            }
        });
    };
    match &split.layout {
        Layout::Shares(shares) => object(w, shares),
        Layout::Stretches(stretches) => {
            if form == Form::Readable {
                let shares = split::shares(stretches);
                if split::lay(&shares, off_variant) == *stretches {
                    return object(w, &shares);
                }
            }
            w.list(stretches, |w, Stretch { variant, length }| {
                w.object(|w| w.member(variant.as_str(), |w| w.raw(&percent(*length))));
            });
        }
    }
}

fn condition(w: &mut Writer, each: &Condition) {
    w.object(|w| match each {
        Condition::All(list) => w.member("all", |w| w.list(list, condition)),
        Condition::Any(list) => w.member("any", |w| w.list(list, condition)),
        Condition::Not(inner) => w.member("not", |w| condition(w, inner)),
        Condition::Segment(key) => w.member("segment", |w| w.string(key.as_str())),
        Condition::Time { after, before } => w.member("time", |w| {
            w.object(|w| {
                for (name, moment) in [("after", after), ("before", before)] {
                    if let Some(moment) = moment {
                        w.member(name, |w| w.string(&moment.to_string()));
                    }
                }
            });
        }),
        Condition::Attribute { attribute, test } => {
            w.member("attribute", |w| w.string(attribute));
            write_test(w, test);
        }
    });
}

fn write_test(w: &mut Writer, test: &Test) {
    let texts = |w: &mut Writer, list: &[Box<str>]| match list {
        [only] => w.string(only),
        list => w.list(list, |w, each| w.string(each)),
    };
    w.member(test.operator().name(), |w| match test {
        Test::Equals(operand, _) => scalar(w, operand),
        Test::In(operands, _) => w.list(operands, scalar),
        Test::StartsWith(list, _) | Test::EndsWith(list, _) | Test::Contains(list, _) | Test::Cidr(list) => {
            texts(w, list);
        }
        Test::Matches(written) | Test::Semver(written) => w.string(written),
        Test::LessThan(bound) | Test::AtMost(bound) | Test::GreaterThan(bound) | Test::AtLeast(bound) => {
            w.number(*bound);
        }
        Test::Before(moment) | Test::After(moment) => w.string(&moment.to_string()),
        Test::Exists(wanted) => w.raw(if *wanted { "true" } else { "false" }),
    });
    if let Test::Equals(_, case)
    | Test::In(_, case)
    | Test::StartsWith(_, case)
    | Test::EndsWith(_, case)
    | Test::Contains(_, case) = test
        && *case == Case::Ignore
    {
        w.member("ignoreCase", |w| w.raw("true"));
    }
}

fn scalar(w: &mut Writer, scalar: &Scalar) {
    match scalar {
        Scalar::Bool(value) => w.raw(if *value { "true" } else { "false" }),
        Scalar::Integer(value) => w.raw(&value.to_string()),
        Scalar::Number(value) => w.number(*value),
        Scalar::String(text) => w.string(text),
    }
}

impl Test {
    /// The operator that this test was written with.
    pub(crate) fn operator(&self) -> Operator {
        match self {
            Test::Equals(..) => Operator::Equals,
            Test::In(..) => Operator::In,
            Test::StartsWith(..) => Operator::StartsWith,
            Test::EndsWith(..) => Operator::EndsWith,
            Test::Contains(..) => Operator::Contains,
            Test::Matches(_) => Operator::Matches,
            Test::LessThan(_) => Operator::LessThan,
            Test::AtMost(_) => Operator::AtMost,
            Test::GreaterThan(_) => Operator::GreaterThan,
            Test::AtLeast(_) => Operator::AtLeast,
            Test::Before(_) => Operator::Before,
            Test::After(_) => Operator::After,
            Test::Semver(_) => Operator::Semver,
            Test::Cidr(_) => Operator::Cidr,
            Test::Exists(_) => Operator::Exists,
        }
    }
}

#[cfg(test)]
mod tests;
