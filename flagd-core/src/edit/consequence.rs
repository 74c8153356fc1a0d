//! Which flags follow a flag that they require, going off or coming on.
//!
//! Conditions depend on contexts, so what a flag serves is told as the set of variants that it can serve at
//! all. A requirement is then met always, sometimes or never, and comparing that before and after a change says
//! which way a flag follows. The surprising case is the reason for this file: a flag that requires another one
//! to serve its *off* variant comes on when that one is killed.

use std::collections::BTreeSet;

use super::lay::stretches;
use super::reference::{Keys, all_users};
use super::view::View;
use super::{Consequence, Direction, Note, Severity, touched_flags};
use crate::definition::{FlagDefinition, Requirement, Switch};
use crate::entry::{EntryId, EntryWrite};
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
enum Met {
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
    let unmet = definition.requires.iter().find(|requirement| met(view, requirement, depth) == Met::Never);
    unmet.map(|requirement| Dark::Unmet(requirement.flag.clone()))
}

fn met(view: &View<'_>, requirement: &Requirement, depth: u32) -> Met {
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
    if definition.requires.iter().any(|requirement| met(view, requirement, depth) != Met::Always) {
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

/// What follows for flags that require a flag of these writes.
pub(super) fn consequences(before: &View<'_>, after: &View<'_>, writes: &[EntryWrite]) -> Vec<Consequence> {
    let flags: BTreeSet<FlagKey> =
        touched_flags(writes).iter().filter_map(|key| FlagKey::new(key).ok()).collect();
    let roots = Keys { flags, ..Keys::default() };
    let followers = all_users(after, &roots).flags;
    let concerned = |key: &FlagKey| roots.flags.contains(key) || followers.contains(key);
    let mut consequences = Vec::new();
    for flag in &followers {
        let Some(Ok(definition)) = after.read_flag(flag.as_str()) else { continue };
        let concerned: Vec<&Requirement> =
            definition.requires.iter().filter(|r| concerned(&r.flag)).collect();
        let (direction, because) = follow(before, after, flag, &concerned);
        let because = because.or_else(|| concerned.first().map(|requirement| requirement.flag.clone()));
        if let Some(because) = because {
            consequences.push(Consequence { flag: flag.clone(), because, direction });
        }
    }
    consequences
}

/// Which way a flag goes, and the requirement that makes it go.
fn follow(
    before: &View<'_>,
    after: &View<'_>,
    flag: &FlagKey,
    concerned: &[&Requirement],
) -> (Direction, Option<FlagKey>) {
    let (was_dark, is_dark) = (dark(before, flag), dark(after, flag));
    // Killed or disabled itself, or held back by a flag that this change does not concern.
    let held =
        matches!(is_dark, Some(Dark::Killed | Dark::Disabled)) || (was_dark.is_some() && was_dark == is_dark);
    let definition = after.read_flag(flag.as_str()).and_then(Result::ok);
    let serves_more =
        definition.is_some_and(|definition| served(definition).iter().any(|v| *v != definition.off_variant));
    if held || !serves_more {
        return (Direction::Stays, None);
    }
    let changed = |which: fn(Met, Met) -> bool| {
        concerned.iter().find(|r| which(met(before, r, 0), met(after, r, 0))).map(|r| r.flag.clone())
    };
    let worse = changed(|was, is| is < was);
    let better = changed(|was, is| is > was);
    match (is_dark.is_some(), worse, better) {
        (true, Some(because), _) | (false, Some(because), None) => (Direction::GoesOff, Some(because)),
        (false, _, Some(because)) => (Direction::ComesOn, Some(because)),
        (_, None, _) => (Direction::Stays, None),
    }
}

/// The consequences as sentences.
pub(super) fn notes(consequences: &[Consequence]) -> Vec<Note> {
    let sentence = |consequence: &Consequence| {
        let Consequence { flag, because, direction } = consequence;
        let (severity, text) = match direction {
            Direction::Stays => return None,
            Direction::GoesOff => (Severity::Info, format!("`{flag}` goes off: it requires `{because}`")),
            Direction::ComesOn => (
                Severity::Warning,
                format!("`{flag}` comes on: it requires `{because}`, which now serves what it asks for"),
            ),
        };
        Some(Note { severity, about: Some(EntryId::flag(flag)), text })
    };
    consequences.iter().filter_map(sentence).collect()
}
