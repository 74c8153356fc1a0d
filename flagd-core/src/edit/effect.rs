//! What a change does to units: who is served something else, as far as that can be told without contexts.
//!
//! A place (a rule, or `otherwise`) whose condition stays the same is compared exactly, point by point. Where
//! conditions change, who is affected depends on contexts, and that is what is then said, except where it can
//! only go one way. Movement is told relative to the off variant: leaving it is being added.

use std::collections::{BTreeMap, BTreeSet};

use super::consequence::{Dark, dark, served};
use super::lay::{former, rule_at, stretches, unit_of};
use super::lists::{TouchedParts, list_change, touched_parts};
use super::reference::{Keys, flags_using_segments};
use super::view::View;
use super::{Effect, Flow, Movement, kill, sentence, touched_flags};
use crate::check::Definitions;
use crate::definition::{FlagDefinition, Place, Ppm, Requirement, SegmentList, Serve};
use crate::entry::{EntryId, EntryWrite};
use crate::key::{FlagKey, SegmentKey, VariantName};
use crate::split::{flows, shares};

/// What is said when there is nothing to say.
pub(super) const NOTHING: &str = "no unit is served anything else";

/// What these writes do to the flags that they touch, and to those that use a written segment.
pub(super) fn effects(before: &View<'_>, after: &View<'_>, writes: &[EntryWrite]) -> Vec<Effect> {
    let segments = Keys::written(writes).segments;
    let touched = touched_parts(writes);
    let mut flags: BTreeSet<FlagKey> =
        touched_flags(writes).iter().filter_map(|key| FlagKey::new(key).ok()).collect();
    flags.extend(flags_using_segments(after, segments.clone()));
    let about_segments: BTreeMap<SegmentKey, String> = segments
        .into_iter()
        .filter_map(|key| {
            let text = segment_change(before, after, &touched, &key)?;
            Some((key, text))
        })
        .collect();
    flags.iter().filter_map(|flag| effect(before, after, flag, &about_segments)).collect()
}

/// What happens to one flag, gathered part by part.
#[derive(Debug, Default)]
struct Account {
    movement: Option<Movement>,
    parts: Vec<String>,
    flows: Vec<Flow>,
}

impl Account {
    fn add(&mut self, movement: Movement, part: impl Into<String>) {
        self.movement = Some(self.movement.map_or(movement, |so_far| both(so_far, movement)));
        self.parts.push(part.into());
    }

    fn into_effect(self, flag: &FlagKey) -> Effect {
        let summary = match self.parts.as_slice() {
            [] => NOTHING.to_owned(),
            parts => parts.join("; "),
        };
        let movement = self.movement.unwrap_or(Movement::Nothing);
        Effect { flag: flag.clone(), movement, summary, flows: self.flows }
    }
}

/// Two movements at once.
pub(super) fn both(a: Movement, b: Movement) -> Movement {
    match (a, b) {
        (Movement::OnlyAdds, Movement::OnlyRemoves) | (Movement::OnlyRemoves, Movement::OnlyAdds) => {
            Movement::Moves
        }
        // True of one flag and not of the other.
        (Movement::CallersDefault, other) | (other, Movement::CallersDefault)
            if !matches!(other, Movement::Nothing | Movement::CallersDefault) =>
        {
            Movement::Unknown
        }
        _ => a.max(b),
    }
}

fn effect(
    before: &View<'_>,
    after: &View<'_>,
    flag: &FlagKey,
    segments: &BTreeMap<SegmentKey, String>,
) -> Option<Effect> {
    let mut account = Account::default();
    let (was_dark, is_dark) = (dark(before, flag), dark(after, flag));
    match (before.read_flag(flag.as_str()), after.read_flag(flag.as_str())) {
        (None, None) => return None,
        (None, Some(new)) => {
            let known = before.bytes(&EntryId::tombstone(flag)).is_some();
            let word = if known { "back from the archive" } else { "new flag" };
            appears(new.ok(), is_dark.as_ref(), word, &mut account);
        }
        (Some(_), None) if is_dark == Some(Dark::Killed) => {
            let now = kill::served_while_killed(after, flag.as_str());
            account.add(Movement::Nothing, format!("still killed: serves {now} to everybody"));
        }
        (Some(old), None) => {
            let before = sentence_before(old.ok(), was_dark.as_ref());
            account
                .add(Movement::CallersDefault, format!("everybody gets the caller's own default; {before}"));
        }
        (Some(old), Some(new)) => match (&was_dark, &is_dark) {
            (None, Some(why)) => goes_dark(after, flag, old.ok(), new.ok(), why, &mut account),
            (Some(_), None) => comes_back(old.ok(), new.ok(), &mut account),
            (Some(was), Some(why)) => {
                let now = dark_sentence(after, flag, new.ok(), why);
                let before = dark_sentence(before, flag, old.ok(), was);
                stays_dark(old.ok(), new.ok(), why, &mut account);
                if was != why {
                    account.parts = vec![format!("now serves {now}; before: {before}")];
                }
            }
            (None, None) => match (old, new) {
                (Ok(old), Ok(new)) => {
                    compare(old, new, &mut account);
                    through_segments(after, new, segments, &mut account);
                }
                _ => account.add(Movement::Unknown, "what it served before is not understood by this server"),
            },
        },
    }
    Some(account.into_effect(flag))
}

fn appears(new: Option<&FlagDefinition>, why: Option<&Dark>, word: &str, account: &mut Account) {
    let Some(new) = new else {
        return account.add(Movement::Unknown, format!("{word}, not understood by this server"));
    };
    if let Some(why) = why {
        return account
            .add(Movement::Nothing, format!("{word}: {} to everybody ({})", sentence::off(new), told(why)));
    }
    let movement = if serves_more(new) { Movement::OnlyAdds } else { Movement::Nothing };
    account.add(movement, format!("{word}: {}", sentence::serves(new)));
    account.flows = gains(new);
}

fn goes_dark(
    after: &View<'_>,
    flag: &FlagKey,
    old: Option<&FlagDefinition>,
    new: Option<&FlagDefinition>,
    why: &Dark,
    account: &mut Account,
) {
    let now = dark_sentence(after, flag, new, why);
    let movement = if old.is_none_or(serves_more) { Movement::OnlyRemoves } else { Movement::Nothing };
    account.add(movement, format!("now serves {now}; {}", sentence_before(old, None)));
    account.flows = old.map(gains).unwrap_or_default();
    for flow in &mut account.flows {
        std::mem::swap(&mut flow.from, &mut flow.to);
    }
}

fn comes_back(old: Option<&FlagDefinition>, new: Option<&FlagDefinition>, account: &mut Account) {
    let Some(new) = new else {
        return account.add(
            Movement::Unknown,
            "serves what its definition says, which this server does not understand",
        );
    };
    let same_off = old.is_some_and(|old| off_value(old) == off_value(new));
    let movement = match (same_off, serves_more(new)) {
        (false, _) => Movement::Moves,
        (true, true) => Movement::OnlyAdds,
        (true, false) => Movement::Nothing,
    };
    account.add(movement, format!("serves again: {}", sentence::serves(new)));
    account.flows = gains(new);
}

fn stays_dark(old: Option<&FlagDefinition>, new: Option<&FlagDefinition>, why: &Dark, account: &mut Account) {
    let (Some(old), Some(new)) = (old, new) else {
        return account.add(Movement::Nothing, format!("nobody sees it: {}", told(why)));
    };
    let mut would = Account::default();
    compare(old, new, &mut would);
    account.parts = would.parts;
    // A kill carries the value that it serves; otherwise the definition's counts.
    let other_value = *why != Dark::Killed && off_value(old) != off_value(new);
    let movement = if other_value { Movement::Moves } else { Movement::Nothing };
    account.add(movement, format!("nobody sees it: {}", told(why)));
}

/// The differences of two definitions whose rules are looked at.
fn compare(old: &FlagDefinition, new: &FlagDefinition, account: &mut Account) {
    if old.off_variant != new.off_variant {
        let text = format!("off variant {} -> {}", old.off_variant, new.off_variant);
        account.add(Movement::Unknown, text);
    }
    let before = served(old);
    for (variant, value) in &new.variants {
        if old.variants.get(variant).is_some_and(|old| old != value) {
            let movement = if before.contains(variant) || *variant == old.off_variant {
                Movement::Moves
            } else {
                Movement::Nothing
            };
            account.add(movement, format!("variant {variant} has another value"));
        }
    }
    if old.requires != new.requires {
        compare_requirements(&old.requires, &new.requires, account);
    }
    let old = &with_new_names(old, new, account);
    compare_rules(old, new, account);
    at_place(Place::Otherwise, &old.otherwise, &new.otherwise, &new.off_variant, account);
}

/// The old definition with the names that its rules have now.
fn with_new_names(old: &FlagDefinition, new: &FlagDefinition, account: &mut Account) -> FlagDefinition {
    let mut named = old.clone();
    for rule in &new.rules {
        let was = former(old, new, rule).filter(|was| was.name != rule.name);
        let known = was.and_then(|was| named.rules.iter_mut().find(|each| each.name == was.name));
        if let Some(known) = known {
            account
                .add(Movement::Nothing, format!("rule \"{}\" is now called \"{}\"", known.name, rule.name));
            known.name = rule.name.clone();
        }
    }
    named
}

fn compare_requirements(old: &[Requirement], new: &[Requirement], account: &mut Account) {
    let missing = |from: &[Requirement], of: &[Requirement]| -> Vec<String> {
        let text = |r: &Requirement| {
            let serves: Vec<&str> = r.serves.iter().map(VariantName::as_str).collect();
            format!("`{}` to serve {}", r.flag, serves.join(" or "))
        };
        of.iter().filter(|requirement| !from.contains(requirement)).map(text).collect()
    };
    let (added, removed) = (missing(old, new), missing(new, old));
    let movement = match (added.is_empty(), removed.is_empty()) {
        (true, true) => return,
        (false, true) => Movement::OnlyRemoves,
        (true, false) => Movement::OnlyAdds,
        (false, false) => Movement::Unknown,
    };
    let mut parts = Vec::new();
    if !added.is_empty() {
        parts.push(format!("now requires {}", sentence::list(&added)));
    }
    if !removed.is_empty() {
        parts.push(format!("no longer requires {}", sentence::list(&removed)));
    }
    account.add(movement, parts.join(", "));
}

fn compare_rules(old: &FlagDefinition, new: &FlagDefinition, account: &mut Account) {
    let off = &new.off_variant;
    let text = |serve| sentence::serve(serve, off);
    for rule in &old.rules {
        if rule_at(new, &rule.name).is_none() {
            let movement = redirected(&owners(&rule.serve, off), &later(old, new, Some(&rule.name)), off);
            account
                .add(movement, format!("rule \"{}\" removed (it served {})", rule.name, text(&rule.serve)));
        }
    }
    for rule in &new.rules {
        let Some(known) = rule_at(old, &rule.name) else {
            let movement = redirected(&later(new, old, Some(&rule.name)), &owners(&rule.serve, off), off);
            account.add(movement, format!("new rule \"{}\": {}", rule.name, text(&rule.serve)));
            continue;
        };
        if known.condition != rule.condition {
            let mut involved = later(new, old, Some(&rule.name));
            involved.extend(owners(&rule.serve, off));
            let movement = if involved.len() > 1 { Movement::Unknown } else { Movement::Nothing };
            account.add(
                movement,
                format!("rule \"{}\": other condition, who is affected depends on contexts", rule.name),
            );
        }
        at_place(Place::Rule(&rule.name), &known.serve, &rule.serve, off, account);
    }
    let common = |a: &FlagDefinition, b: &FlagDefinition| -> Vec<_> {
        a.rules.iter().filter(|rule| rule_at(b, &rule.name).is_some()).map(|rule| rule.name.clone()).collect()
    };
    if common(old, new) != common(new, old) {
        let involved: BTreeSet<VariantName> =
            new.rules.iter().flat_map(|rule| owners(&rule.serve, off)).collect();
        let movement = if involved.len() > 1 { Movement::Unknown } else { Movement::Nothing };
        account.add(movement, "rules in another order");
    }
}

/// What units pass between when a rule comes or goes.
fn redirected(from: &BTreeSet<VariantName>, to: &BTreeSet<VariantName>, off: &VariantName) -> Movement {
    let only_off = |set: &BTreeSet<VariantName>| set.iter().all(|variant| variant == off);
    match (only_off(from), only_off(to)) {
        _ if from == to && from.len() == 1 => Movement::Nothing,
        (true, true) => Movement::Nothing,
        (true, false) => Movement::OnlyAdds,
        (false, true) => Movement::OnlyRemoves,
        (false, false) => Movement::Unknown,
    }
}

/// What is served, in `has` and in `other`, to units that pass by the rule that only `has` has, or that both have.
fn later(
    has: &FlagDefinition,
    other: &FlagDefinition,
    rule: Option<&crate::key::RuleName>,
) -> BTreeSet<VariantName> {
    let off = &has.off_variant;
    let after = has.rules.iter().skip_while(|each| Some(&each.name) != rule).skip(1);
    let mut variants = owners(&has.otherwise, off);
    variants.extend(owners(&other.otherwise, off));
    for each in after {
        variants.extend(owners(&each.serve, off));
        variants.extend(rule_at(other, &each.name).map(|rule| owners(&rule.serve, off)).unwrap_or_default());
    }
    variants
}

fn owners(serve: &Serve, off: &VariantName) -> BTreeSet<VariantName> {
    stretches(serve, off)
        .into_iter()
        .filter(|stretch| stretch.length.0 > 0)
        .map(|stretch| stretch.variant)
        .collect()
}

/// The difference at one place whose condition is the same, point by point.
fn at_place(place: Place<'_>, old: &Serve, new: &Serve, off: &VariantName, account: &mut Account) {
    let (was, is) = (stretches(old, off), stretches(new, off));
    let by_chance = |serve| owners(serve, off).len() > 1;
    if by_chance(old) && by_chance(new) && unit_of(old) != unit_of(new) {
        let by = unit_of(new).unwrap_or("the targeting key");
        let text = format!("{}: split by {by}, so units are drawn anew", sentence::place(place));
        return account.add(Movement::Moves, text);
    }
    let moved = flows(&was, &is);
    if moved.is_empty() {
        return;
    }
    let total = Ppm(moved.values().map(|ppm| ppm.0).sum());
    let mut movement = Movement::Nothing;
    for (from, to) in moved.keys() {
        let one = match (from == off, to == off) {
            (true, _) => Movement::OnlyAdds,
            (_, true) => Movement::OnlyRemoves,
            _ => Movement::Moves,
        };
        movement = both(movement, one);
    }
    let word = match movement {
        Movement::OnlyAdds => "only adds",
        Movement::OnlyRemoves => "only removes",
        _ => "moves",
    };
    let amount = match word {
        "moves" => format!("moves {} of its units", sentence::share(total)),
        word => format!("{word} ({} of its units)", sentence::share(total)),
    };
    let (was, is) = (shares(&was), shares(&is));
    let text = format!("{}: {}, {amount}", sentence::place(place), share_changes(&was, &is, off));
    account.add(movement, text);
    let name = match place {
        Place::Rule(name) => name.to_string(),
        Place::Otherwise => "otherwise".to_owned(),
    };
    account.flows.extend(moved.into_iter().map(|((from, to), share)| Flow {
        place: name.clone(),
        from,
        to,
        share,
    }));
}

/// `a 50 % -> 40 %, c 0 % -> 20 %`: the variants whose shares change, without the off variant.
fn share_changes(
    was: &BTreeMap<VariantName, Ppm>,
    is: &BTreeMap<VariantName, Ppm>,
    off: &VariantName,
) -> String {
    let of = |shares: &BTreeMap<VariantName, Ppm>, name: &VariantName| {
        shares.get(name).copied().unwrap_or_default()
    };
    let names: BTreeSet<&VariantName> = was.keys().chain(is.keys()).filter(|name| *name != off).collect();
    let changed: Vec<String> = names
        .into_iter()
        .filter(|name| of(was, name) != of(is, name))
        .map(|name| format!("{name} {} -> {}", sentence::share(of(was, name)), sentence::share(of(is, name))))
        .collect();
    if changed.is_empty() { "same shares, other units".to_owned() } else { changed.join(", ") }
}

fn through_segments(
    after: &View<'_>,
    new: &FlagDefinition,
    changed: &BTreeMap<SegmentKey, String>,
    account: &mut Account,
) {
    let mut seen: BTreeSet<SegmentKey> = BTreeSet::new();
    let mut next: Vec<SegmentKey> = new.segments().into_iter().cloned().collect();
    while let Some(key) = next.pop() {
        if let Some(segment) = after.segment(&key) {
            next.extend(segment.segments().into_iter().filter(|key| !seen.contains(*key)).cloned());
        }
        if seen.insert(key.clone())
            && let Some(text) = changed.get(&key)
        {
            account.add(Movement::Unknown, text.clone());
        }
    }
}

/// `adds 2 units to segment "staff"`; `None` when nobody's membership changes.
fn segment_change(
    before: &View<'_>,
    after: &View<'_>,
    touched: &TouchedParts,
    key: &SegmentKey,
) -> Option<String> {
    let (old, new) = (before.segment(key)?, after.segment(key)?);
    let [include, exclude] = SegmentList::BOTH.map(|list| list_change(before, after, touched, key, list));
    let mut parts = Vec::new();
    let mut counted = |n: usize, before: &str, after: &str| {
        if n > 0 {
            parts.push(format!("{before} {} {after} segment \"{key}\"", sentence::counted(n, "unit")));
        }
    };
    counted(include.added.len(), "adds", "to");
    counted(include.removed.len(), "takes", "off");
    counted(exclude.added.len(), "excludes", "from");
    counted(exclude.removed.len(), "no longer excludes", "from");
    if old.condition != new.condition {
        parts.push(format!("segment \"{key}\" has another condition"));
    }
    if old.by != new.by {
        parts.push(format!("segment \"{key}\" lists {}", new.by.as_deref().unwrap_or("targeting keys")));
    }
    if parts.is_empty() { None } else { Some(parts.join(", ")) }
}

fn off_value(definition: &FlagDefinition) -> Option<&serde_json::Value> {
    definition.variants.get(&definition.off_variant)
}

pub(super) fn serves_more(definition: &FlagDefinition) -> bool {
    served(definition).iter().any(|variant| *variant != definition.off_variant)
}

/// What passes from the off variant when a flag begins to serve.
fn gains(definition: &FlagDefinition) -> Vec<Flow> {
    let off = &definition.off_variant;
    let mut gains = Vec::new();
    for (place, serve) in definition.places() {
        let name = match place {
            Place::Rule(name) => name.as_str(),
            Place::Otherwise => "otherwise",
        };
        for (to, share) in shares(&stretches(serve, off)) {
            if to != *off && share.0 > 0 {
                gains.push(Flow { place: name.to_owned(), from: off.clone(), to, share });
            }
        }
    }
    gains
}

/// What a flag serves that serves the same to everybody: `off = false to everybody (disabled)`.
fn dark_sentence(view: &View<'_>, flag: &FlagKey, definition: Option<&FlagDefinition>, why: &Dark) -> String {
    match (why, definition) {
        (Dark::Killed, _) | (_, None) => {
            format!("{} to everybody", kill::served_while_killed(view, flag.as_str()))
        }
        (_, Some(definition)) => format!("{} to everybody ({})", sentence::off(definition), told(why)),
    }
}

fn told(why: &Dark) -> String {
    match why {
        Dark::Killed => "killed".to_owned(),
        Dark::Disabled => "disabled".to_owned(),
        Dark::Unmet(flag) => format!("it requires `{flag}`"),
    }
}

fn sentence_before(old: Option<&FlagDefinition>, why: Option<&Dark>) -> String {
    match (old, why) {
        (None, _) => "before: not known, the definition is not understood by this server".to_owned(),
        (Some(old), Some(why)) => format!("before: {} to everybody ({})", sentence::off(old), told(why)),
        (Some(old), None) => format!("before: {}", sentence::serves(old)),
    }
}
