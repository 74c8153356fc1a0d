//! Why a flag serves what it serves, in sentences.
//!
//! The evaluator tells an observer each step; this one writes them down. So an explanation is never a second
//! opinion: it is the evaluation itself. The sentences are for people and may change; programs read the
//! evaluation's fields.

use std::fmt::Write as _;

use serde_json::Value;

use crate::context::{Attribute, Context};
use crate::definition::{self, Case, Scalar};
use crate::split::{LINE, Point};
use crate::time::Timestamp;

use super::compile::{Requirement, Rule, Segment};
use super::condition::Path;
use super::evaluate::{Evaluator, Observer, Served};
use super::stretch::Split;
use super::{Explanation, Snapshot, Step};

/// How many operands a sentence lists before it only counts the rest.
const LISTED_MAX: usize = 10;

/// How many steps are written down; a definition at the limits of the language would fill megabytes.
const STEPS_MAX: usize = 10_000;

pub(super) fn explain(snapshot: &Snapshot, key: &str, context: &Context, now: Timestamp) -> Explanation {
    let mut evaluator = Evaluator::new(snapshot, context, || now, Scribe::default());
    let served = evaluator.key(key);
    Explanation {
        flag: key.to_owned(),
        value: served.value.cloned(),
        variant: served.variant.map(str::to_owned),
        reason: served.reason.to_string(),
        revision: snapshot.position().revision.0,
        steps: evaluator.observer.steps,
    }
}

/// Writes down every step; a step's outcome is filled in when it is closed.
#[derive(Debug, Default)]
struct Scribe {
    steps: Vec<Step>,
    /// The steps that are open; `None` for one past the limit.
    open: Vec<Option<usize>>,
}

impl Observer for Scribe {
    const LISTENS: bool = true;

    fn open(&mut self, what: impl FnOnce() -> String) {
        let place = (self.steps.len() < STEPS_MAX).then_some(self.steps.len());
        if place.is_some() {
            let depth = u32::try_from(self.open.len()).unwrap_or(u32::MAX);
            self.steps.push(Step { depth, what: what(), outcome: String::new() });
        }
        self.open.push(place);
    }

    fn close(&mut self, outcome: impl FnOnce() -> String) {
        if let Some(place) = self.open.pop().flatten()
            && let Some(step) = self.steps.get_mut(place)
        {
            step.outcome = outcome();
        }
    }
}

pub(super) fn rule(rule: &Rule) -> String {
    format!("rule \"{}\"", rule.name)
}

pub(super) fn held(held: bool) -> String {
    if held { "held" } else { "did not hold" }.to_owned()
}

pub(super) fn not_reached() -> String {
    "not reached".to_owned()
}

pub(super) fn all() -> String {
    "all of".to_owned()
}

pub(super) fn any() -> String {
    "any of".to_owned()
}

pub(super) fn not() -> String {
    "not".to_owned()
}

pub(super) fn requirement(requirement: &Requirement) -> String {
    format!("requires `{}` to serve {}", requirement.key, join(&requirement.serves, " or "))
}

pub(super) fn requirement_outcome(served: &Served<'_>, met: bool) -> String {
    let outcome = match served.variant {
        Some(variant) => format!("it serves `{variant}` ({})", served.reason),
        None => format!("it serves no variant ({})", served.reason),
    };
    format!("{}: {outcome}", if met { "met" } else { "not met" })
}

pub(super) fn segment(key: &str) -> String {
    format!("segment `{key}`")
}

pub(super) fn no_such_segment(is_too_deep: bool) -> String {
    if is_too_deep { "did not hold: nested too deeply" } else { "did not hold: no such segment" }.to_owned()
}

pub(super) fn listed(unit: Option<&str>, list: &str) -> String {
    let held = held(list == "include");
    format!("{held}: {:?} is listed in `{list}`", unit.unwrap_or_default())
}

pub(super) fn not_listed(segment: &Segment, unit: Option<&str>, is_in: bool) -> String {
    let who = match unit {
        Some(unit) => format!("{unit:?} is not listed"),
        None => format!("there is no unit ({})", source(segment.by.as_ref())),
    };
    match (&segment.condition, is_in) {
        (Some(_), true) => format!("held: {who}, the condition holds"),
        (Some(_), false) => format!("did not hold: {who}, and the condition does not hold"),
        (None, _) => format!("did not hold: {who}"),
    }
}

pub(super) fn time(after: Option<Timestamp>, before: Option<Timestamp>) -> String {
    let after = after.map(|moment| format!("from {moment}"));
    let before = before.map(|moment| format!("until {moment}"));
    let bounds: Vec<String> = [Some("time".to_owned()), after, before].into_iter().flatten().collect();
    bounds.join(" ")
}

pub(super) fn time_outcome(now: Timestamp, is_in: bool) -> String {
    format!("{}: it is {now}", held(is_in))
}

pub(super) fn split(split: &Split) -> String {
    format!("split by {}", source(split.by()))
}

pub(super) fn no_unit(split: &Split) -> String {
    match split.by() {
        Some(path) => format!("no unit: `{}` is absent, or neither text nor a whole number", path.as_str()),
        None => "no unit: the context has no targeting key".to_owned(),
    }
}

pub(super) fn point(split: &Split, unit: &str, point: Point, variant: Option<&str>) -> String {
    let mut start = Point(0);
    let mut end = Point(LINE);
    for arm in split.arms() {
        if point < arm.end {
            end = arm.end;
            break;
        }
        start = arm.end;
    }
    let variant = variant.unwrap_or_default();
    format!("point {} of {unit:?} lies in `{variant}` ({}..{})", point.0, start.0, end.0)
}

pub(super) fn attribute_outcome(path: &Path, found: Option<&Attribute>, is_held: bool) -> String {
    let held = held(is_held);
    match found {
        None => format!("{held}: `{}` is absent", path.as_str()),
        Some(attribute) => format!("{held}: `{}` is {}", path.as_str(), value(attribute)),
    }
}

/// A test on an attribute as a sentence.
pub(super) fn test(attribute: &str, test: &definition::Test) -> String {
    use definition::Test;
    let (operator, operand) = match test {
        Test::Equals(scalar, case) => (cased("equals", *case), scalar_text(scalar)),
        Test::In(scalars, case) => (cased("in", *case), list(scalars, scalar_text)),
        Test::StartsWith(operands, case) => (cased("starts with", *case), texts(operands)),
        Test::EndsWith(operands, case) => (cased("ends with", *case), texts(operands)),
        Test::Contains(operands, case) => (cased("contains", *case), texts(operands)),
        Test::Matches(pattern) => ("matches".to_owned(), format!("{pattern:?}")),
        Test::LessThan(bound) => ("less than".to_owned(), bound.to_string()),
        Test::AtMost(bound) => ("at most".to_owned(), bound.to_string()),
        Test::GreaterThan(bound) => ("greater than".to_owned(), bound.to_string()),
        Test::AtLeast(bound) => ("at least".to_owned(), bound.to_string()),
        Test::Before(moment) => ("before".to_owned(), moment.to_string()),
        Test::After(moment) => ("at or after".to_owned(), moment.to_string()),
        Test::Semver(requirement) => ("version".to_owned(), requirement.to_string()),
        Test::Cidr(networks) => ("in network".to_owned(), texts(networks)),
        Test::Exists(true) => ("exists".to_owned(), String::new()),
        Test::Exists(false) => ("does not exist".to_owned(), String::new()),
    };
    format!("attribute `{attribute}` {operator} {operand}").trim_end().to_owned()
}

fn cased(operator: &str, case: Case) -> String {
    match case {
        Case::Sensitive => operator.to_owned(),
        Case::Ignore => format!("{operator} (ignoring case)"),
    }
}

fn texts(operands: &[Box<str>]) -> String {
    match operands {
        [only] => format!("{only:?}"),
        operands => list(operands, |operand| format!("{operand:?}")),
    }
}

fn list<T>(operands: &[T], show: impl Fn(&T) -> String) -> String {
    let mut shown: Vec<String> = operands.iter().take(LISTED_MAX).map(show).collect();
    if operands.len() > LISTED_MAX {
        shown.push(format!("{} more", operands.len() - LISTED_MAX));
    }
    format!("[{}]", shown.join(", "))
}

fn scalar_text(scalar: &Scalar) -> String {
    match scalar {
        Scalar::Bool(value) => value.to_string(),
        Scalar::Integer(number) => number.to_string(),
        Scalar::Number(number) => number.to_string(),
        Scalar::String(text) => format!("{text:?}"),
    }
}

/// A value as JSON, cut off where it is long.
fn value(attribute: &Attribute) -> String {
    const SHOWN_MAX: usize = 200;
    let text = json(attribute).to_string();
    match text.char_indices().nth(SHOWN_MAX) {
        None => text,
        Some((end, _)) => {
            let mut cut = text.get(..end).unwrap_or_default().to_owned();
            let _ = write!(cut, "... ({} bytes)", text.len());
            cut
        }
    }
}

fn json(attribute: &Attribute) -> Value {
    match attribute {
        Attribute::Bool(value) => (*value).into(),
        Attribute::Integer(number) => (*number).into(),
        Attribute::Number(number) => match serde_json::Number::from_f64(*number) {
            Some(number) => number.into(),
            None => number.to_string().into(),
        },
        Attribute::String(text) => text.as_ref().into(),
        Attribute::List(elements) => elements.iter().map(json).collect(),
        Attribute::Object(members) => {
            members.iter().map(|(name, member)| (name.to_string(), json(member))).collect()
        }
    }
}

fn source(by: Option<&Path>) -> String {
    by.map_or_else(|| "targeting key".to_owned(), |path| format!("`{}`", path.as_str()))
}

fn join(names: &[Box<str>], word: &str) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(word)
}
