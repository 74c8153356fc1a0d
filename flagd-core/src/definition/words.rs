//! Every member name and operator of the language, in one table.
//!
//! The parser accepts these and nothing else, and the JSON Schema for editors is made from them, so that the
//! two cannot drift apart. What the names mean stands in `docs/evaluation.md`.

/// What stands beside flags and segments in a file.
pub(crate) const FILE: &[&str] = &["$schema", "flags", "segments"];
/// What cannot change an answer, in flags and segments.
pub(crate) const ABOUT: &[&str] = &["description", "owner", "tags", "metadata"];
/// The members of a flag.
pub(crate) const FLAG: &[&str] = &[
    "variants",
    "offVariant",
    "enabled",
    "salt",
    "requires",
    "rules",
    "otherwise",
    "rollout",
    "description",
    "owner",
    "tags",
    "metadata",
];
/// The members of a segment.
pub(crate) const SEGMENT: &[&str] =
    &["by", "include", "exclude", "if", "description", "owner", "tags", "metadata"];
/// The members of a stored segment: its lists may be kept in parts.
pub(crate) const STORED_SEGMENT: &[&str] = &[
    "by",
    "include",
    "includeParts",
    "exclude",
    "excludeParts",
    "if",
    "description",
    "owner",
    "tags",
    "metadata",
];
/// The members of a requirement.
pub(crate) const REQUIREMENT: &[&str] = &["flag", "serves"];
/// The members of a rule.
pub(crate) const RULE: &[&str] = &["name", "if", "serve"];
/// The members of a split.
pub(crate) const SPLIT: &[&str] = &["split", "by"];
/// The members of a window of time.
pub(crate) const TIME: &[&str] = &["after", "before"];
/// What makes a condition what it is: exactly one of these.
pub(crate) const CONDITION: &[&str] = &["all", "any", "not", "segment", "time", "attribute"];
/// Beside `attribute` and its operator.
pub(crate) const IGNORE_CASE: &str = "ignoreCase";

/// A test on one attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Equals,
    In,
    StartsWith,
    EndsWith,
    Contains,
    Matches,
    LessThan,
    AtMost,
    GreaterThan,
    AtLeast,
    Before,
    After,
    Semver,
    Cidr,
    Exists,
}

/// What an operator is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    /// A string, number or boolean.
    Scalar,
    /// A list of those.
    Scalars,
    /// A string or a list of strings.
    Texts,
    /// A regular expression.
    Pattern,
    /// A number.
    Number,
    /// An RFC 3339 moment.
    Moment,
    /// A requirement on a version.
    Requirement,
    /// A network or a list of networks.
    Networks,
    /// `true` or `false`.
    Presence,
}

/// All operators.
pub(crate) const OPERATORS: [Operator; 15] = [
    Operator::Equals,
    Operator::In,
    Operator::StartsWith,
    Operator::EndsWith,
    Operator::Contains,
    Operator::Matches,
    Operator::LessThan,
    Operator::AtMost,
    Operator::GreaterThan,
    Operator::AtLeast,
    Operator::Before,
    Operator::After,
    Operator::Semver,
    Operator::Cidr,
    Operator::Exists,
];

impl Operator {
    /// The operator's name in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Operator::Equals => "equals",
            Operator::In => "in",
            Operator::StartsWith => "startsWith",
            Operator::EndsWith => "endsWith",
            Operator::Contains => "contains",
            Operator::Matches => "matches",
            Operator::LessThan => "lessThan",
            Operator::AtMost => "atMost",
            Operator::GreaterThan => "greaterThan",
            Operator::AtLeast => "atLeast",
            Operator::Before => "before",
            Operator::After => "after",
            Operator::Semver => "semver",
            Operator::Cidr => "cidr",
            Operator::Exists => "exists",
        }
    }

    /// The operator of this name.
    pub(crate) fn named(name: &str) -> Option<Operator> {
        OPERATORS.into_iter().find(|operator| operator.name() == name)
    }

    /// What it is given.
    pub(crate) fn operand(self) -> Operand {
        match self {
            Operator::Equals => Operand::Scalar,
            Operator::In => Operand::Scalars,
            Operator::StartsWith | Operator::EndsWith | Operator::Contains => Operand::Texts,
            Operator::Matches => Operand::Pattern,
            Operator::LessThan | Operator::AtMost | Operator::GreaterThan | Operator::AtLeast => {
                Operand::Number
            }
            Operator::Before | Operator::After => Operand::Moment,
            Operator::Semver => Operand::Requirement,
            Operator::Cidr => Operand::Networks,
            Operator::Exists => Operand::Presence,
        }
    }

    /// Whether `ignoreCase` may stand beside it.
    pub(crate) fn knows_case(self) -> bool {
        matches!(self.operand(), Operand::Scalar | Operand::Scalars | Operand::Texts)
    }
}

/// What other systems call our words: the fix for a name that is not merely misspelt.
pub(super) fn translated(foreign: &str) -> Option<&'static str> {
    Some(match foreign.to_ascii_lowercase().replace(['_', '-'], "").as_str() {
        "and" | "allof" => "all",
        "or" | "anyof" | "oneof" => "any",
        "eq" | "is" | "equal" | "==" => "equals",
        "notin" | "noneof" | "notequals" | "neq" | "ne" | "isnot" | "!" => "not",
        "prefix" | "beginswith" => "startsWith",
        "suffix" => "endsWith",
        "regex" | "regexp" | "pattern" | "match" => "matches",
        "substring" | "includes" => "contains",
        "lt" | "less" | "<" => "lessThan",
        "lte" | "le" | "max" | "lessorequal" | "lessthanorequal" | "<=" => "atMost",
        "gt" | "greater" | ">" => "greaterThan",
        "gte" | "ge" | "min" | "greaterorequal" | "greaterthanorequal" | ">=" => "atLeast",
        "version" | "semantic" => "semver",
        "ip" | "network" | "subnet" => "cidr",
        "present" | "defined" => "exists",
        "insegment" | "audience" | "cohort" | "group" => "segment",
        "property" | "field" | "key" => "attribute",
        "caseinsensitive" | "ignorecase" => IGNORE_CASE,
        _ => return None,
    })
}
