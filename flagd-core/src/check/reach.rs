//! What a condition can come to, as far as its form shows: never, always, or only where another holds.
//!
//! Nothing is guessed: "unknown" is the usual answer, and what is said holds for every context. A list matches when
//! any of its elements does, so `equals` "a" and `equals` "b" together are possible.

use crate::definition::{Case, Condition, Scalar, Test};
use crate::time::Timestamp;

/// What is known of a condition without a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It depends.
    Open,
    /// It holds for nobody.
    Never,
    /// It holds for everybody.
    Always,
}

/// Conditions in a list above which looking at every pair of them costs more than it spares.
const PAIRS_MAX: usize = 32;

impl Fate {
    /// The fate of a condition for an evaluator that may spare itself the looking. One that asks for segments is
    /// open: how many segments were looked at is part of what an evaluation means.
    pub(crate) fn of(condition: &Condition) -> Fate {
        if !is_small(condition) {
            return Fate::Open;
        }
        if is_never(condition) {
            Fate::Never
        } else if is_always(condition) {
            Fate::Always
        } else {
            Fate::Open
        }
    }
}

/// Without segments, and without long lists.
fn is_small(condition: &Condition) -> bool {
    match condition {
        Condition::All(list) | Condition::Any(list) => list.len() <= PAIRS_MAX && list.iter().all(is_small),
        Condition::Not(inner) => is_small(inner),
        Condition::Segment(_) => false,
        Condition::Time { .. } | Condition::Attribute { .. } => true,
    }
}

/// Whether no context meets the condition.
pub(super) fn is_never(condition: &Condition) -> bool {
    match condition {
        Condition::All(list) => {
            list.iter().any(is_never)
                || list.iter().any(|one| list.iter().any(|other| excludes(one, other)))
                || windows_are_apart(list)
        }
        Condition::Any(list) => list.iter().all(is_never),
        Condition::Not(inner) => is_always(inner),
        Condition::Segment(_) | Condition::Time { .. } | Condition::Attribute { .. } => false,
    }
}

/// Whether every context meets the condition.
pub(super) fn is_always(condition: &Condition) -> bool {
    match condition {
        Condition::All(list) => list.iter().all(is_always),
        Condition::Any(list) => {
            list.iter().any(is_always) || list.iter().any(|one| list.iter().any(|other| is_not(one, other)))
        }
        Condition::Not(inner) => is_never(inner),
        Condition::Segment(_) | Condition::Time { .. } | Condition::Attribute { .. } => false,
    }
}

/// Whether whoever meets `a` surely meets `b`, as far as one look shows: `a` demands all that `b` demands, or
/// `b` allows all that `a` allows. Looking deeper would cost more than it tells.
pub(super) fn implies(a: &Condition, b: &Condition) -> bool {
    demands(b).iter().all(|part| demands(a).iter().any(|known| part_implies(known, part)))
        || allowed(a).iter().all(|part| allowed(b).iter().any(|known| part_implies(part, known)))
}

fn demands(condition: &Condition) -> &[Condition] {
    if let Condition::All(list) = condition { list } else { std::slice::from_ref(condition) }
}

fn allowed(condition: &Condition) -> &[Condition] {
    if let Condition::Any(list) = condition { list } else { std::slice::from_ref(condition) }
}

fn part_implies(a: &Condition, b: &Condition) -> bool {
    if a == b {
        return true;
    }
    match (a, b) {
        (
            Condition::Attribute { attribute: of_a, test: a },
            Condition::Attribute { attribute: of_b, test: b },
        ) => of_a == of_b && test_implies(a, b),
        _ => false,
    }
}

fn test_implies(a: &Test, b: &Test) -> bool {
    match (a, b) {
        (Test::Exists(_), _) => false,
        (_, Test::Exists(wanted)) => *wanted,
        (Test::LessThan(a), Test::LessThan(b) | Test::AtMost(b)) | (Test::AtMost(a), Test::AtMost(b)) => {
            a <= b
        }
        (Test::AtMost(a), Test::LessThan(b)) => a < b,
        (Test::GreaterThan(a), Test::GreaterThan(b) | Test::AtLeast(b))
        | (Test::AtLeast(a), Test::AtLeast(b)) => a >= b,
        (Test::AtLeast(a), Test::GreaterThan(b)) => a > b,
        (Test::Before(a), Test::Before(b)) => a <= b,
        (Test::After(a), Test::After(b)) => a >= b,
        (a, b) => match (equal_to(a), equal_to(b)) {
            (Some((a, case_a)), Some((b, case_b))) => case_a == case_b && a.iter().all(|one| b.contains(one)),
            _ => false,
        },
    }
}

fn equal_to(test: &Test) -> Option<(&[Scalar], Case)> {
    match test {
        Test::Equals(scalar, case) => Some((std::slice::from_ref(scalar), *case)),
        Test::In(scalars, case) => Some((scalars, *case)),
        _ => None,
    }
}

fn is_not(one: &Condition, other: &Condition) -> bool {
    matches!(other, Condition::Not(inner) if **inner == *one) || are_presence_and_absence(one, other)
}

fn are_presence_and_absence(one: &Condition, other: &Condition) -> bool {
    match (one, other) {
        (
            Condition::Attribute { attribute: a, test: Test::Exists(true) },
            Condition::Attribute { attribute: b, test: Test::Exists(false) },
        ) => a == b,
        _ => false,
    }
}

/// Whether no context meets both.
fn excludes(one: &Condition, other: &Condition) -> bool {
    match (one, other) {
        (_, Condition::Not(inner)) if implies(one, inner) => true,
        (
            Condition::Attribute { attribute: a, test },
            Condition::Attribute { attribute: b, test: Test::Exists(false) },
        ) => a == b && *test != Test::Exists(false),
        _ => false,
    }
}

/// Whether the windows of time in a list have no moment in common.
fn windows_are_apart(list: &[Condition]) -> bool {
    let windows = list.iter().filter_map(|each| match each {
        Condition::Time { after, before } => Some((*after, *before)),
        _ => None,
    });
    let (mut last_begin, mut first_end): (Option<Timestamp>, Option<Timestamp>) = (None, None);
    for (after, before) in windows {
        last_begin = last_begin.max(after);
        first_end = match (first_end, before) {
            (Some(known), Some(before)) => Some(known.min(before)),
            (known, before) => known.or(before),
        };
    }
    matches!((last_begin, first_end), (Some(begin), Some(end)) if begin >= end)
}
