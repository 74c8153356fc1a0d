//! Decides where the shares of a definition lie on the line.
//!
//! A file states shares and no order. A new split is laid; a split that exists already, which is one at the
//! same place with the same `by`, is reweighed from where it lies, so that as few units as possible move.

use crate::definition::{FlagDefinition, Layout, Place, Ppm, Rule, Serve, Split, Stretch};
use crate::key::{RuleName, VariantName};
use crate::split::{LINE, lay, reweigh};

/// What a place serves, as stretches: a plain variant owns the whole line.
pub(super) fn stretches(serve: &Serve, off_variant: &VariantName) -> Vec<Stretch> {
    match serve {
        Serve::Variant(variant) => vec![Stretch { variant: variant.clone(), length: Ppm(LINE) }],
        Serve::Split(Split { layout: Layout::Stretches(stretches), .. }) => stretches.clone(),
        Serve::Split(Split { layout: Layout::Shares(shares), .. }) => lay(shares, off_variant),
    }
}

/// The attribute that a place splits by; `None` also for a plain variant.
pub(super) fn unit_of(serve: &Serve) -> Option<&str> {
    match serve {
        Serve::Variant(_) => None,
        Serve::Split(split) => split.by.as_deref(),
    }
}

/// What a definition serves at a place; `None` when it has no such rule.
pub(super) fn serve_at<'d>(definition: &'d FlagDefinition, place: Place<'_>) -> Option<&'d Serve> {
    match place {
        Place::Rule(name) => rule_at(definition, name).map(|rule| &rule.serve),
        Place::Otherwise => Some(&definition.otherwise),
    }
}

/// A rule by its name.
pub(super) fn rule_at<'d>(
    definition: &'d FlagDefinition,
    name: &RuleName,
) -> Option<&'d crate::definition::Rule> {
    definition.rules.iter().find(|rule| rule.name == *name)
}

/// What a rule of `new` was in `live`: the rule of its name, or, where nobody has that name, the only rule with
/// the same condition that `new` no longer has. Units are drawn by the flag's salt, so a name moves nobody.
pub(super) fn former<'d>(live: &'d FlagDefinition, new: &FlagDefinition, rule: &Rule) -> Option<&'d Rule> {
    if let Some(known) = rule_at(live, &rule.name) {
        return Some(known);
    }
    let alike = |each: &&Rule| each.condition == rule.condition;
    let mut gone = live.rules.iter().filter(alike).filter(|old| rule_at(new, &old.name).is_none());
    let mut come = new.rules.iter().filter(alike).filter(|each| rule_at(live, &each.name).is_none());
    match (gone.next(), gone.next(), come.next(), come.next()) {
        (Some(old), None, Some(_), None) => Some(old),
        _ => None,
    }
}

/// Lays every split of `definition` that still states shares; `live` is the flag as it is now.
pub(super) fn lay_shares(definition: &mut FlagDefinition, live: Option<&FlagDefinition>) {
    let off_variant = definition.off_variant.clone();
    let old = |rule: &Rule| live.and_then(|live| former(live, definition, rule)).map(|rule| &rule.serve);
    let old: Vec<Option<&Serve>> = definition.rules.iter().map(old).collect();
    for (rule, old) in definition.rules.iter_mut().zip(old) {
        lay_one(&mut rule.serve, old, &off_variant);
    }
    lay_one(&mut definition.otherwise, live.map(|live| &live.otherwise), &off_variant);
}

fn lay_one(serve: &mut Serve, old: Option<&Serve>, off_variant: &VariantName) {
    let Serve::Split(Split { layout, by }) = serve else { return };
    let Layout::Shares(shares) = layout else { return };
    let laid = match old {
        Some(old @ Serve::Split(split)) if split.by == *by => {
            reweigh(&stretches(old, off_variant), shares, off_variant)
        }
        _ => lay(shares, off_variant),
    };
    *layout = Layout::Stretches(laid);
}
