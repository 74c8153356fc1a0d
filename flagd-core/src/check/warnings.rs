//! What deserves a second look though it is allowed.

use std::collections::BTreeSet;

use crate::definition::{Condition, FlagDefinition, Layout, Place, Serve, Test};
use crate::key::FlagKey;
use crate::problem::Problem;

use super::reach::{implies, is_always, is_never};

/// What deserves a second look though it is allowed: a `not` around a test that no `exists` guards, a rule
/// that can never be reached, a split arm of 0 %. Paths begin at the definition.
#[must_use]
pub fn warnings(_key: &FlagKey, definition: &FlagDefinition) -> Vec<Problem> {
    let mut found = Vec::new();
    for (index, rule) in definition.rules.iter().enumerate() {
        if is_never(&rule.condition) {
            let message = format!("rule `{}` is never reached: nobody can meet its condition", rule.name);
            found
                .push(Problem::new(format!("rules[{index}].if"), message).hint("mend it or remove the rule"));
        }
        let earlier = definition.rules.iter().take(index).find(|each| {
            is_always(&each.condition)
                || !is_never(&rule.condition) && implies(&rule.condition, &each.condition)
        });
        if let Some(earlier) = earlier {
            let message = format!(
                "rule `{}` is never reached: whom it means, `{}` has served",
                rule.name, earlier.name
            );
            found.push(Problem::new(format!("rules[{index}]"), message).hint("move it up or remove it"));
        }
        let mut guards = BTreeSet::new();
        unguarded(&rule.condition, &format!("rules[{index}].if"), Side::Plain, &mut guards, &mut found);
    }
    for (index, (place, serve)) in definition.places().enumerate() {
        let path = match place {
            Place::Rule(_) => format!("rules[{index}].serve.split"),
            Place::Otherwise => "otherwise.split".to_owned(),
        };
        empty_arms(serve, &path, &mut found);
    }
    found
}

/// How many `not` stand around a condition.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// None, or they cancel out.
    Plain,
    /// An odd number.
    Negated,
}

/// Notes tests that hold for contexts without the attribute. `guards` are attributes known to be present: a
/// test that must hold beside this one asks for them.
fn unguarded<'c>(
    condition: &'c Condition,
    path: &str,
    side: Side,
    guards: &mut BTreeSet<&'c str>,
    found: &mut Vec<Problem>,
) {
    match condition {
        Condition::All(list) | Condition::Any(list) => {
            let word = if matches!(condition, Condition::All(_)) { "all" } else { "any" };
            // `exists` beside a test says that its author thought of absence; a plain test in an `all` that
            // must hold does the same.
            let must_hold = side == Side::Plain && word == "all";
            let added: Vec<&str> = list
                .iter()
                .filter_map(|each| guarded_by(each, must_hold))
                .filter(|name| guards.insert(name))
                .collect();
            for (index, inner) in list.iter().enumerate() {
                unguarded(inner, &format!("{path}.{word}[{index}]"), side, guards, found);
            }
            for name in added {
                guards.remove(name);
            }
        }
        Condition::Not(inner) => {
            let side = if side == Side::Plain { Side::Negated } else { Side::Plain };
            unguarded(inner, &format!("{path}.not"), side, guards, found);
        }
        Condition::Attribute { attribute, test } => {
            let exists = matches!(test, Test::Exists(_));
            if side == Side::Negated && !exists && !guards.contains(attribute.as_ref()) {
                let message = format!("this `not` also holds when `{attribute}` is absent");
                let hint = format!(
                    "if that is not meant, add {{\"attribute\": \"{attribute}\", \"exists\": true}} in \"all\""
                );
                found.push(Problem::new(path, message).hint(hint));
            }
        }
        Condition::Segment(_) | Condition::Time { .. } => {}
    }
}

fn guarded_by(condition: &Condition, must_hold: bool) -> Option<&str> {
    match condition {
        Condition::Attribute { attribute, test: Test::Exists(_) } => Some(attribute),
        Condition::Attribute { attribute, .. } if must_hold => Some(attribute),
        _ => None,
    }
}

fn empty_arms(serve: &Serve, path: &str, found: &mut Vec<Problem>) {
    let Serve::Split(split) = serve else { return };
    let empty: Vec<&str> = match &split.layout {
        Layout::Shares(shares) => {
            shares.iter().filter(|(_, share)| share.0 == 0).map(|(name, _)| name.as_str()).collect()
        }
        Layout::Stretches(list) => {
            list.iter().filter(|each| each.length.0 == 0).map(|each| each.variant.as_str()).collect()
        }
    };
    for name in empty {
        found.push(Problem::new(path, format!("`{name}` has a share of 0 %: nobody is served it here")));
    }
}
