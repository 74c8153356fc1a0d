//! What a change does to flags that require a changed flag, directly or through others.
//!
//! A flag follows a flag that it requires: going off, coming on, or some of both. The surprising cases are the
//! reason for this file: a flag that requires another one to serve its *off* variant comes on when that one is
//! killed, and goes off for more and more users while that one is ramped up. What is said of the whole change
//! counts followers in, so that "only adds" is never said of a change that takes a flag away from somebody.

use std::collections::{BTreeMap, BTreeSet};

use super::consequence::{Dark, Met, dark, met};
use super::effect::{NOTHING, both, serves_more};
use super::reference::{Keys, all_users};
use super::view::View;
use super::{Consequence, Direction, Effect, Followers, Movement, Note, Plan, Severity, touched_flags};
use crate::check::Definitions;
use crate::definition::Requirement;
use crate::entry::{EntryId, EntryWrite};
use crate::key::FlagKey;

/// What happens to the units of each flag, as far as known.
type Moved = BTreeMap<FlagKey, Movement>;

impl Plan {
    /// What the whole change does to users, flags that follow included.
    #[must_use]
    pub fn movement(&self) -> Movement {
        let followers = self.consequences.iter().map(|one| match one.direction {
            Direction::Stays => Movement::Nothing,
            Direction::GoesOff => Movement::OnlyRemoves,
            Direction::ComesOn => Movement::OnlyAdds,
            Direction::Depends => Movement::Unknown,
        });
        self.effects.iter().map(|effect| effect.movement).chain(followers).fold(Movement::Nothing, both)
    }
}

/// What follows from these effects, in the effects themselves and for flags that are not written.
pub(super) fn follow(
    before: &View<'_>,
    after: &View<'_>,
    writes: &[EntryWrite],
    followers: Followers,
    effects: &mut [Effect],
) -> Vec<Consequence> {
    let mut moved: Moved = effects.iter().map(|effect| (effect.flag.clone(), effect.movement)).collect();
    let that_moves = |(flag, movement): (&FlagKey, &Movement)| {
        if *movement == Movement::Nothing { None } else { Some(flag.clone()) }
    };
    let mut flags: BTreeSet<FlagKey> = moved.iter().filter_map(that_moves).collect();
    if followers == Followers::All {
        flags.extend(touched_flags(writes).iter().filter_map(|key| FlagKey::new(key).ok()));
    }
    let roots = Keys { flags, ..Keys::default() };
    let mut found = all_users(after, &roots).flags;
    found.retain(|flag| !moved.contains_key(flag));
    // Each round moves some flag up in a short order of movements, so this ends, whatever requires what.
    loop {
        let mut changed = change_together(before, after, effects, &mut moved);
        for flag in &found {
            let was = moved.get(flag).copied().unwrap_or(Movement::Nothing);
            let now = both(was, one(before, after, flag, &moved).0);
            if now != was {
                moved.insert(flag.clone(), now);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    let concerned = |key: &FlagKey| roots.flags.contains(key) || found.contains(key);
    let mut consequences = Vec::new();
    for flag in &found {
        let direction = match moved.get(flag).copied().unwrap_or(Movement::Nothing) {
            Movement::Nothing if followers == Followers::Affected => continue,
            Movement::Nothing => Direction::Stays,
            Movement::OnlyAdds => Direction::ComesOn,
            Movement::OnlyRemoves => Direction::GoesOff,
            Movement::Moves | Movement::CallersDefault | Movement::Unknown => Direction::Depends,
        };
        let required = after.flag(flag).map(|definition| definition.requires.as_slice()).unwrap_or_default();
        let first =
            || required.iter().map(|requirement| &requirement.flag).find(|key| concerned(key)).cloned();
        if let Some(because) = one(before, after, flag, &moved).1.or_else(first) {
            consequences.push(Consequence { flag: flag.clone(), because, direction });
        }
    }
    consequences
}

/// Where a written flag and one that it requires change together, what happens to its units depends on both.
fn change_together(before: &View<'_>, after: &View<'_>, effects: &mut [Effect], moved: &mut Moved) -> bool {
    let mut changed = false;
    for effect in effects.iter_mut().filter(|effect| effect.movement != Movement::Unknown) {
        let in_motion =
            |flag: &&FlagKey| moved.get(*flag).is_some_and(|movement| *movement != Movement::Nothing);
        let requires = |view: &View<'_>| {
            let definition = view.flag(&effect.flag)?;
            definition.requires.iter().map(|requirement| &requirement.flag).find(in_motion).cloned()
        };
        let sees = |view: &View<'_>| !matches!(dark(view, &effect.flag), Some(Dark::Killed | Dark::Disabled));
        let Some(because) = requires(after).or_else(|| requires(before)) else { continue };
        if sees(before) || sees(after) {
            effect.movement = Movement::Unknown;
            let follows = format!("`{because}`, which it requires, changes too");
            effect.summary = match effect.summary.as_str() {
                NOTHING => follows,
                own => format!("{own}; {follows}"),
            };
            moved.insert(effect.flag.clone(), Movement::Unknown);
            changed = true;
        }
    }
    changed
}

/// What happens to the units of a flag that is not written, and the required flag that makes it happen.
fn one(before: &View<'_>, after: &View<'_>, flag: &FlagKey, moved: &Moved) -> (Movement, Option<FlagKey>) {
    let Some(definition) = after.flag(flag) else { return (Movement::Nothing, None) };
    let (was_dark, is_dark) = (dark(before, flag).is_some(), dark(after, flag).is_some());
    if (was_dark && is_dark) || !serves_more(definition) {
        return (Movement::Nothing, None);
    }
    let (mut total, mut because) = (Movement::Nothing, None);
    for requirement in &definition.requires {
        let movement = moved.get(&requirement.flag).copied().unwrap_or(Movement::Nothing);
        let one = through(before, after, requirement, movement);
        if one != Movement::Nothing {
            because = because.or_else(|| Some(requirement.flag.clone()));
        }
        total = both(total, one);
    }
    match (total, was_dark, is_dark) {
        (Movement::Nothing, _, _) | (_, false, false) => (total, because),
        (_, _, true) => (Movement::OnlyRemoves, because),
        (_, true, false) => (Movement::OnlyAdds, because),
    }
}

/// What a requirement makes of the movement of the flag that it names.
fn through(before: &View<'_>, after: &View<'_>, requirement: &Requirement, movement: Movement) -> Movement {
    if movement == Movement::Nothing {
        return Movement::Nothing;
    }
    match (met(before, requirement), met(after, requirement)) {
        (Met::Always, Met::Always) | (Met::Never, Met::Never) => return Movement::Nothing,
        (Met::Always, _) | (_, Met::Never) => return Movement::OnlyRemoves,
        (Met::Never, _) | (_, Met::Always) => return Movement::OnlyAdds,
        (Met::Sometimes, Met::Sometimes) => {}
    }
    let off = |view: &View<'_>| view.flag(&requirement.flag).map(|definition| definition.off_variant.clone());
    let asks_for_off = match (off(before), off(after)) {
        (Some(was), Some(is)) if was == is => requirement.serves.contains(&is),
        _ => return Movement::Unknown,
    };
    match (movement, asks_for_off) {
        (Movement::OnlyAdds, false) | (Movement::OnlyRemoves, true) => Movement::OnlyAdds,
        (Movement::OnlyAdds, true) | (Movement::OnlyRemoves, false) => Movement::OnlyRemoves,
        _ => Movement::Unknown,
    }
}

/// Whether a flag's requirement of another one is met for everybody.
fn holds_for_all(view: &View<'_>, flag: &FlagKey, required: &FlagKey) -> bool {
    let mut listed = view.flag(flag).into_iter().flat_map(|definition| &definition.requires);
    listed.any(|requirement| requirement.flag == *required && met(view, requirement) == Met::Always)
}

/// The consequences as sentences.
pub(super) fn notes(before: &View<'_>, after: &View<'_>, consequences: &[Consequence]) -> Vec<Note> {
    let sentence = |consequence: &Consequence| {
        let Consequence { flag, because, direction } = consequence;
        let (severity, text) = match direction {
            Direction::Stays => return None,
            Direction::GoesOff if dark(after, flag).is_some() => {
                (Severity::Info, format!("`{flag}` goes off: it requires `{because}`"))
            }
            Direction::GoesOff => {
                (Severity::Info, format!("`{flag}` goes off for some users: it requires `{because}`"))
            }
            Direction::ComesOn if dark(before, flag).is_some() || holds_for_all(after, flag, because) => (
                Severity::Warning,
                format!("`{flag}` comes on: it requires `{because}`, which now serves what it asks for"),
            ),
            Direction::ComesOn => (
                Severity::Warning,
                format!(
                    "`{flag}` comes on for more users: it requires `{because}`, which now serves more of them what it asks for"
                ),
            ),
            Direction::Depends => {
                (Severity::Warning, format!("`{flag}` may change for some users: it requires `{because}`"))
            }
        };
        Some(Note { severity, about: Some(EntryId::flag(flag)), text })
    };
    consequences.iter().filter_map(sentence).collect()
}
