//! A definition as people write it, once it is known to be well-formed.
//!
//! These types are the one schema of the language: `definition::parse` is the only way from JSON text to them
//! and `canonical` the only way back. They keep what the author said (shares stay shares); what a split looks
//! like on the line is decided when a change is planned, and how fast it evaluates when it is compiled.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::key::{FlagKey, RuleName, SegmentKey, VariantName};
use crate::time::Timestamp;

#[cfg(test)]
pub(crate) mod arbitrary;
mod condition;
mod flag;
mod json;
mod number;
mod parse;
mod record;
mod schema;
mod segment;
#[cfg(test)]
mod tests;
mod units;
mod value;
mod words;

pub(crate) use condition::{compile_pattern, read_network};
pub(crate) use json::push_key;
pub(crate) use words::Operator;

pub use json::position_of;
pub use parse::{ParsedFile, parse_file, parse_flag, parse_segment, parse_stored_flag, parse_stored_segment};
pub use record::{parse_kill, parse_tombstone};
pub use schema::schema;
pub use units::{SegmentList, Units};

/// The version of the definition language that this code understands wholly.
pub const LEVEL: u32 = 1;

/// What people write about a flag.
#[derive(Clone, Debug, PartialEq)]
pub struct FlagDefinition {
    /// What cannot change an answer.
    pub about: About,
    /// The values that the flag can serve; at least one, all of one type.
    pub variants: BTreeMap<VariantName, Value>,
    /// What a killed or disabled flag serves; one of `variants`.
    pub off_variant: VariantName,
    /// Whether the rules are looked at.
    pub switch: Switch,
    /// What is hashed with the unit: the key unless stated, and never changed.
    pub salt: Box<str>,
    /// Other flags that must serve one of some variants; else this one serves its off variant.
    pub requires: Vec<Requirement>,
    /// Tried in order; the first that holds decides.
    pub rules: Vec<Rule>,
    /// What is served when no rule holds.
    pub otherwise: Serve,
}

/// What cannot change an answer; clients skip it unread.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    /// A sentence for people.
    pub description: Option<String>,
    /// Who answers for the flag.
    pub owner: Option<String>,
    /// Words to filter by, in the author's order, without repetition.
    pub tags: Vec<String>,
    /// Anything else, kept as it is.
    pub metadata: serde_json::Map<String, Value>,
}

/// Whether a flag's rules are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Rules are tried.
    Enabled,
    /// The flag serves its off variant to everybody.
    Disabled,
}

/// The one type that all variants of a flag share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FlagType {
    /// `true` and `false`.
    Boolean,
    /// Text.
    String,
    /// Numbers, whole or not.
    Number,
    /// Objects and arrays.
    Json,
}

impl FlagType {
    /// The type of a value; `None` for null, which no variant may be.
    #[must_use]
    pub fn of(value: &Value) -> Option<FlagType> {
        match value {
            Value::Null => None,
            Value::Bool(_) => Some(FlagType::Boolean),
            Value::Number(_) => Some(FlagType::Number),
            Value::String(_) => Some(FlagType::String),
            Value::Array(_) | Value::Object(_) => Some(FlagType::Json),
        }
    }

    /// The word for people and for tombstones.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            FlagType::Boolean => "boolean",
            FlagType::String => "string",
            FlagType::Number => "number",
            FlagType::Json => "json",
        }
    }

    /// The type of this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<FlagType> {
        let all = [FlagType::Boolean, FlagType::String, FlagType::Number, FlagType::Json];
        all.into_iter().find(|flag_type| flag_type.word() == word)
    }
}

/// Another flag must serve one of these variants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The other flag.
    pub flag: FlagKey,
    /// The variants that satisfy; at least one, in byte order.
    pub serves: Vec<VariantName>,
}

/// A condition and what to serve when it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Unique in its flag.
    pub name: RuleName,
    /// When the rule applies.
    pub condition: Condition,
    /// What it serves, also to units in its off arm.
    pub serve: Serve,
}

/// What is served at one place (a rule, or `otherwise`).
#[derive(Clone, Debug, PartialEq)]
pub enum Serve {
    /// The same to everybody.
    Variant(VariantName),
    /// By chance.
    Split(Split),
}

/// What to serve when it depends on chance.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// Who owns which part of the line.
    pub layout: Layout,
    /// The attribute whose value is the unit; the targeting key when `None`.
    pub by: Option<Box<str>>,
}

/// The two forms of a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Shares without an order, summing to [`LINE`](crate::split::LINE). Where they lie is decided when the
    /// change is planned; stored definitions never hold this form.
    Shares(BTreeMap<VariantName, Ppm>),
    /// Stretches in order, summing to [`LINE`](crate::split::LINE); taken literally. A variant may own several.
    Stretches(Vec<Stretch>),
}

/// A length on the line: parts per million, `0..=1_000_000`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ppm(pub u32);

/// A part of the line and its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Who is served there.
    pub variant: VariantName,
    /// How long it is.
    pub length: Ppm,
}

/// What people write about a segment.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentDefinition {
    /// What cannot change an answer.
    pub about: About,
    /// The attribute whose value is listed; the targeting key when `None`.
    pub by: Option<Box<str>>,
    /// Units that are in, unless excluded.
    pub include: Units,
    /// Units that are out whatever else holds.
    pub exclude: Units,
    /// Who else is in.
    pub condition: Option<Condition>,
}

/// A question about a context, with the answer yes or no.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// All hold; true when empty lists were refused, so never empty.
    All(Vec<Condition>),
    /// At least one holds; never empty.
    Any(Vec<Condition>),
    /// It does not hold: plain negation.
    Not(Box<Condition>),
    /// The context is in the segment.
    Segment(SegmentKey),
    /// `now` is at or after `after` and before `before`; at least one is stated.
    Time {
        /// The first moment at which it holds.
        after: Option<Timestamp>,
        /// The first moment at which it no longer holds.
        before: Option<Timestamp>,
    },
    /// One test on one attribute.
    Attribute {
        /// The attribute's name or path: the whole text as a name first, else split at dots.
        attribute: Box<str>,
        /// The test; false when the attribute is absent or of another type.
        test: Test,
    },
}

/// A test on the value of one attribute. A list matches when any element does.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// The value is this string, number or boolean.
    Equals(Scalar, Case),
    /// The value is one of these.
    In(Vec<Scalar>, Case),
    /// The string begins with one of these.
    StartsWith(Vec<Box<str>>, Case),
    /// The string ends with one of these.
    EndsWith(Vec<Box<str>>, Case),
    /// The string contains one of these.
    Contains(Vec<Box<str>>, Case),
    /// The pattern matches somewhere in the string (use `^` and `$` for the whole).
    Matches(Box<str>),
    /// The number is less.
    LessThan(f64),
    /// The number is less or equal.
    AtMost(f64),
    /// The number is greater.
    GreaterThan(f64),
    /// The number is greater or equal.
    AtLeast(f64),
    /// The RFC 3339 moment is before this one.
    Before(Timestamp),
    /// The RFC 3339 moment is at or after this one.
    After(Timestamp),
    /// The version satisfies this requirement, as written.
    Semver(Box<str>),
    /// The IP address is in one of these networks.
    Cidr(Vec<Box<str>>),
    /// The attribute is present (`true`) or absent (`false`).
    Exists(bool),
}

/// What a string, number or boolean attribute is compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// A boolean.
    Bool(bool),
    /// A number that is exactly an `i64`.
    Integer(i64),
    /// Any other finite number.
    Number(f64),
    /// Text.
    String(Box<str>),
}

/// Whether letters are compared as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// As they are.
    Sensitive,
    /// After `char::to_lowercase` on each character of both sides.
    Ignore,
}

/// A kill: not part of a definition, and read without it.
#[derive(Clone, Debug, PartialEq)]
pub struct Kill {
    /// The off variant's name when the flag was killed; absent when the definition could not be read.
    pub off_variant: Option<VariantName>,
    /// The value served while the kill stands; absent when it could not be known.
    pub value: Option<Value>,
    /// Who killed.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why, if said.
    pub reason: Option<String>,
}

/// What an archived flag leaves behind.
#[derive(Clone, Debug, PartialEq)]
pub struct Tombstone {
    /// The type that the key has for ever.
    pub flag_type: FlagType,
    /// The salt that the key has for ever.
    pub salt: Box<str>,
    /// The last definition, as it was stored.
    pub definition: Box<str>,
    /// Who archived.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why, if said.
    pub reason: Option<String>,
}

impl FlagDefinition {
    /// The type that all variants share.
    #[must_use]
    pub fn flag_type(&self) -> FlagType {
        self.variants.values().find_map(FlagType::of).unwrap_or(FlagType::Boolean)
    }

    /// The smallest version of the language that understands this definition.
    #[must_use]
    pub fn level(&self) -> u32 {
        LEVEL
    }

    /// Every place that serves: the rules in order, then `otherwise`.
    pub fn places(&self) -> impl Iterator<Item = (Place<'_>, &Serve)> {
        let rules = self.rules.iter().map(|rule| (Place::Rule(&rule.name), &rule.serve));
        rules.chain(std::iter::once((Place::Otherwise, &self.otherwise)))
    }

    /// The keys of all segments that the rules use, with repetition.
    #[must_use]
    pub fn segments(&self) -> Vec<&SegmentKey> {
        let mut found = Vec::new();
        for rule in &self.rules {
            rule.condition.collect_segments(&mut found);
        }
        found
    }
}

impl SegmentDefinition {
    /// The smallest version of the language that understands this definition.
    #[must_use]
    pub fn level(&self) -> u32 {
        LEVEL
    }

    /// One of the two lists.
    #[must_use]
    pub fn units(&self, list: SegmentList) -> &Units {
        match list {
            SegmentList::Include => &self.include,
            SegmentList::Exclude => &self.exclude,
        }
    }

    /// One of the two lists, to be changed.
    pub fn units_mut(&mut self, list: SegmentList) -> &mut Units {
        match list {
            SegmentList::Include => &mut self.include,
            SegmentList::Exclude => &mut self.exclude,
        }
    }

    /// The keys of all segments that the condition uses, with repetition.
    #[must_use]
    pub fn segments(&self) -> Vec<&SegmentKey> {
        let mut found = Vec::new();
        if let Some(condition) = &self.condition {
            condition.collect_segments(&mut found);
        }
        found
    }
}

/// A place in a flag that serves something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place<'a> {
    /// A rule.
    Rule(&'a RuleName),
    /// What is served when no rule holds.
    Otherwise,
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Rule(name) => write!(f, "rule `{name}`"),
            Place::Otherwise => f.write_str("otherwise"),
        }
    }
}

impl Condition {
    fn collect_segments<'a>(&'a self, found: &mut Vec<&'a SegmentKey>) {
        match self {
            Condition::All(list) | Condition::Any(list) => {
                for condition in list {
                    condition.collect_segments(found);
                }
            }
            Condition::Not(condition) => condition.collect_segments(found),
            Condition::Segment(key) => found.push(key),
            Condition::Time { .. } | Condition::Attribute { .. } => {}
        }
    }
}
