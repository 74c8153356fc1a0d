//! The command that takes a change back, printed with every change.

use std::collections::{BTreeMap, BTreeSet};

use super::lay::{rule_at, stretches};
use super::lists::{ListChange, list_change, touched_parts};
use super::view::View;
use super::{Edit, PlaceChoice, Plan, SegmentList, sentence};
use crate::canonical::percent;
use crate::definition::{FlagDefinition, Ppm, Serve, parse_flag};
use crate::entry::{EntryId, EntryKind, EntryWrite};
use crate::key::{FlagKey, SegmentKey};
use crate::split::{lay, shares};
use crate::state::State;

/// More definitions than this are not taken back by one line.
const COMMANDS_MAX: usize = 5;
/// More units than this are not listed in a command.
const UNITS_MAX: usize = 20;

/// The `flagctl` command that undoes `plan`, which was made of `edit` and `before`. `None` when nothing is
/// written or no single line takes it back.
#[must_use]
pub fn undo(edit: &Edit, plan: &Plan, before: &State) -> Option<String> {
    if plan.writes.is_empty() {
        return None;
    }
    match edit {
        Edit::Enable(flag) => Some(format!("flagctl disable {flag}")),
        Edit::Disable(flag) => Some(format!("flagctl enable {flag}")),
        Edit::Kill(_) => Some(format!("flagctl revive {}", keys(&plan.writes, EntryKind::KILL))),
        Edit::Revive(_) => Some(format!("flagctl kill {}", keys(&plan.writes, EntryKind::KILL))),
        Edit::Archive(flag) => Some(format!("flagctl unarchive {flag}")),
        Edit::Unarchive(flag) => Some(format!("flagctl archive {flag}")),
        Edit::ArchiveSegment(segment) => Some(format!("flagctl unarchive --segment {segment}")),
        Edit::UnarchiveSegment(segment) => Some(format!("flagctl archive --segment {segment}")),
        Edit::Ramp { flag, place, .. } => {
            Some(undo_ramp(flag, place, before).unwrap_or_else(|| back(&[&EntryId::flag(flag)], before)))
        }
        Edit::SegmentAdd { segment, list, .. } => undo_units("remove", segment, *list, plan, before),
        Edit::SegmentRemove { segment, list, .. } => undo_units("add", segment, *list, plan, before),
        Edit::Put { .. } | Edit::Apply { .. } | Edit::Restore { .. } => {
            undo_definitions(&plan.writes, before)
        }
    }
}

fn keys(writes: &[EntryWrite], kind: EntryKind) -> String {
    writes
        .iter()
        .filter(|write| write.id.kind == kind)
        .map(|write| &*write.id.key)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Back to the definitions as they are now. The revision is named, so that the line stays right after more changes.
fn back(definitions: &[&EntryId], before: &State) -> String {
    let name = |id: &&EntryId| match id.kind {
        EntryKind::SEGMENT => format!("--segment {}", id.key),
        _ => id.key.to_string(),
    };
    let names: Vec<String> = definitions.iter().map(name).collect();
    format!("flagctl rollback {} --to {}", names.join(" "), before.revision())
}

/// A ramp is taken back by a ramp where that gives the very same stretches: two variants, laid the usual way.
fn undo_ramp(flag: &FlagKey, place: &PlaceChoice, before: &State) -> Option<String> {
    let bytes = &before.get(&EntryId::flag(flag))?.bytes;
    let definition = parse_flag(flag, std::str::from_utf8(bytes).ok()?).ok()?;
    let (serve, place) = match place {
        PlaceChoice::Otherwise => (&definition.otherwise, " --otherwise".to_owned()),
        PlaceChoice::Rule(name) => {
            let place = format!(" --rule {}", sentence::shell_word(name.as_str()));
            (&rule_at(&definition, name)?.serve, place)
        }
        PlaceChoice::Only => (the_split(&definition)?, String::new()),
    };
    let Serve::Split(_) = serve else { return None };
    let off = &definition.off_variant;
    let lying = stretches(serve, off);
    let shares: BTreeMap<_, Ppm> = shares(&lying);
    let mut others = definition.variants.keys().filter(|name| *name != off);
    let (Some(on), None) = (others.next(), others.next()) else { return None };
    let share = shares.get(on).copied().unwrap_or_default();
    (lay(&shares, off) == lying).then(|| format!("flagctl ramp {flag} {}%{place}", percent(share)))
}

fn the_split(definition: &FlagDefinition) -> Option<&Serve> {
    let mut splits =
        definition.places().map(|(_, serve)| serve).filter(|serve| matches!(serve, Serve::Split(_)));
    splits.next().filter(|_| splits.next().is_none())
}

fn undo_units(
    verb: &str,
    segment: &SegmentKey,
    list: SegmentList,
    plan: &Plan,
    before: &State,
) -> Option<String> {
    let option = match list {
        SegmentList::Include => "",
        SegmentList::Exclude => " --exclude",
    };
    let before = View::of(before);
    let after = before.after(&plan.writes);
    let ListChange { added, removed } =
        list_change(&before, &after, &touched_parts(&plan.writes), segment, list);
    let changed: BTreeSet<Box<str>> = added.into_iter().chain(removed).collect();
    (changed.len() <= UNITS_MAX).then(|| {
        let units: Vec<String> = changed.iter().map(|unit| sentence::shell_word(unit)).collect();
        format!("flagctl segment {verb} {segment}{option} {}", units.join(" "))
    })
}

fn undo_definitions(writes: &[EntryWrite], before: &State) -> Option<String> {
    let definitions: Vec<&EntryWrite> =
        writes.iter().filter(|write| matches!(write.id.kind, EntryKind::FLAG | EntryKind::SEGMENT)).collect();
    if definitions.len() > COMMANDS_MAX {
        return None;
    }
    let (there, new): (Vec<&EntryWrite>, Vec<&EntryWrite>) =
        definitions.into_iter().partition(|write| before.get(&write.id).is_some());
    let (changed, gone): (Vec<&EntryWrite>, Vec<&EntryWrite>) =
        there.into_iter().partition(|w| w.bytes.is_some());
    let each = |verb: &str, write: &EntryWrite| match write.id.kind {
        EntryKind::SEGMENT => format!("flagctl {verb} --segment {}", write.id.key),
        _ => format!("flagctl {verb} {}", write.id.key),
    };
    let mut commands = Vec::new();
    if !changed.is_empty() {
        let ids: Vec<&EntryId> = changed.iter().map(|write| &write.id).collect();
        commands.push(back(&ids, before));
    }
    commands.extend(gone.into_iter().map(|write| each("unarchive", write)));
    commands.extend(new.into_iter().map(|write| each("archive", write)));
    if commands.is_empty() { None } else { Some(commands.join(" && ")) }
}
