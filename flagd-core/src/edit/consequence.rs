//! Which variants a flag can serve at all, and so how far a requirement is met.
//!
//! Conditions depend on contexts, so what a flag serves is told as a set of variants. A requirement is then met
//! always, sometimes or never, and a flag whose requirement is never met is dark. What a flag can serve depends on
//! what the flags that it requires can serve; the view remembers that, because many flags that all require each
//! other's neighbours make more paths than anybody can walk.

use std::collections::BTreeSet;

use super::lay::stretches;
use super::view::View;
use crate::definition::{FlagDefinition, Requirement, Switch};
use crate::key::{FlagKey, VariantName};

/// A chain of stored requirements longer than this is not followed; far above what a write may make.
const DEPTH_MAX: u32 = 64;

/// Why a flag serves its off variant to everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Dark {
    Killed,
    Disabled,
    Unmet(FlagKey),
}

/// How far a requirement is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Met {
    Never,
    Sometimes,
    Always,
}

/// Why `key` serves its off variant to everybody; `None` when its rules are looked at, for some at least.
pub(super) fn dark(view: &View<'_>, key: &FlagKey) -> Option<Dark> {
    dark_to(view, key, 0)
}

fn dark_to(view: &View<'_>, key: &FlagKey, depth: u32) -> Option<Dark> {
    if view.is_killed(key.as_str()) {
        return Some(Dark::Killed);
    }
    let definition = view.read_flag(key.as_str())?.ok()?;
    if definition.switch == Switch::Disabled {
        return Some(Dark::Disabled);
    }
    let unmet = definition.requires.iter().find(|requirement| met_to(view, requirement, depth) == Met::Never);
    unmet.map(|requirement| Dark::Unmet(requirement.flag.clone()))
}

/// How far a requirement is met.
pub(super) fn met(view: &View<'_>, requirement: &Requirement) -> Met {
    met_to(view, requirement, 0)
}

fn met_to(view: &View<'_>, requirement: &Requirement, depth: u32) -> Met {
    match possible(view, &requirement.flag, depth + 1) {
        None => Met::Sometimes,
        Some(variants) => {
            match variants.iter().filter(|variant| requirement.serves.contains(variant)).count() {
                0 => Met::Never,
                count if count == variants.len() => Met::Always,
                _ => Met::Sometimes,
            }
        }
    }
}

/// The variants that a flag can serve; `None` when that cannot be told.
fn possible(view: &View<'_>, key: &FlagKey, depth: u32) -> Option<BTreeSet<VariantName>> {
    if depth > DEPTH_MAX {
        return None;
    }
    if let Some(known) = view.reach(key) {
        return known;
    }
    // Whoever asks again before it is found, through a circle, learns that it cannot be told.
    view.remember_reach(key, None);
    let reach = find_possible(view, key, depth);
    view.remember_reach(key, reach.clone());
    reach
}

fn find_possible(view: &View<'_>, key: &FlagKey, depth: u32) -> Option<BTreeSet<VariantName>> {
    let definition = view.read_flag(key.as_str());
    if let Some(kill) = view.kill(key.as_str()) {
        let off = kill.off_variant.or_else(|| Some(definition?.ok()?.off_variant.clone()));
        return off.map(|off| BTreeSet::from([off]));
    }
    let Some(definition) = definition else { return Some(BTreeSet::new()) };
    let definition = definition.ok()?;
    if dark_to(view, key, depth).is_some() {
        return Some(BTreeSet::from([definition.off_variant.clone()]));
    }
    let mut variants = served(definition);
    if definition.requires.iter().any(|requirement| met_to(view, requirement, depth) != Met::Always) {
        variants.insert(definition.off_variant.clone());
    }
    Some(variants)
}

/// The variants that a flag's places serve to somebody.
pub(super) fn served(definition: &FlagDefinition) -> BTreeSet<VariantName> {
    let places = definition.places();
    let owners = places.flat_map(|(_, serve)| stretches(serve, &definition.off_variant));
    owners.filter(|stretch| stretch.length.0 > 0).map(|stretch| stretch.variant).collect()
}
