//! `ramp`: raises or lowers one variant's share at one place.
//!
//! What a variant gains another one loses. That is the off variant unless somebody says otherwise, so that a
//! ramp never takes units away from a third variant by accident. A ramp whose place or variant is not clear is
//! refused with ready commands instead of being guessed.

use super::certain::{Certain, certain};
use super::consequence::{Dark, dark};
use super::lay::{rule_at, serve_at, stretches, unit_of};
use super::put::flag_bytes;
use super::view::View;
use super::{Draft, EditError, PlaceChoice, Severity, sentence};
use crate::canonical::percent;
use crate::definition::{FlagDefinition, Layout, Place, Ppm, Serve, Split};
use crate::entry::{EntryId, EntryWrite};
use crate::key::{FlagKey, VariantName};
use crate::problem::nearest;
use crate::split::{reweigh, shares};
use crate::time::Timestamp;

/// What is asked for.
#[derive(Debug)]
pub(super) struct Wish<'e> {
    pub(super) flag: &'e FlagKey,
    pub(super) variant: Option<&'e VariantName>,
    pub(super) share: Ppm,
    pub(super) place: &'e PlaceChoice,
    pub(super) from: Option<&'e VariantName>,
}

/// Drafts a variant's new share.
pub(super) fn ramp(before: &View<'_>, wish: &Wish<'_>, now: Timestamp) -> Result<Draft, EditError> {
    let live = before.known_flag(wish.flag)?;
    let variant = choose_variant(live, wish)?;
    let place = choose_place(live, wish, variant)?;
    let from = choose_from(live, wish, variant)?;
    let Some(serve) = serve_at(live, place) else {
        return Err(EditError::Refused(format!("`{}` has no {}", wish.flag, sentence::place(place))));
    };
    let off = &live.off_variant;
    let old = stretches(serve, off);
    let mut wanted = shares(&old);
    let had = wanted.get(variant).copied().unwrap_or_default();
    let given = wanted.get(from).copied().unwrap_or_default();
    let mut draft = Draft::default();
    if had == wish.share {
        let text = format!("{}: {variant} is at {} already", sentence::place(place), sentence::share(had));
        draft.note(Severity::Info, EntryId::flag(wish.flag), text);
        return Ok(draft);
    }
    let left = (given.0 + had.0).checked_sub(wish.share.0);
    let Some(left) = left else {
        return Err(not_enough(wish, place, (variant, had), (from, given), &wanted));
    };
    wanted.insert(variant.clone(), wish.share);
    wanted.insert(from.clone(), Ppm(left));
    wanted.retain(|_, ppm| ppm.0 > 0);
    let layout = Layout::Stretches(reweigh(&old, &wanted, off));
    let ramped = Serve::Split(Split { layout, by: unit_of(serve).map(Box::from) });
    let definition = replaced(live, place, ramped);
    draft.writes.push(EntryWrite::set(EntryId::flag(wish.flag), flag_bytes(wish.flag, &definition)));
    note_unseen(before, wish.flag, live, place, now, &mut draft);
    Ok(draft)
}

fn replaced(live: &FlagDefinition, place: Place<'_>, serve: Serve) -> FlagDefinition {
    let mut definition = live.clone();
    match place {
        Place::Otherwise => definition.otherwise = serve,
        Place::Rule(name) => {
            if let Some(rule) = definition.rules.iter_mut().find(|rule| rule.name == *name) {
                rule.serve = serve;
            }
        }
    }
    definition
}

fn choose_variant<'d>(live: &'d FlagDefinition, wish: &Wish<'_>) -> Result<&'d VariantName, EditError> {
    if let Some(variant) = wish.variant {
        return known_variant(live, wish.flag, variant);
    }
    let others: Vec<&VariantName> = live.variants.keys().filter(|name| **name != live.off_variant).collect();
    if let [only] = others.as_slice() {
        return Ok(only);
    }
    let why =
        format!("`{}` has {}; say which one", wish.flag, sentence::counted(live.variants.len(), "variant"));
    let place = match wish.place {
        PlaceChoice::Only => None,
        PlaceChoice::Otherwise => Some(Place::Otherwise),
        PlaceChoice::Rule(name) => Some(Place::Rule(name)),
    };
    let choices =
        others.into_iter().map(|variant| arguments(wish, Some(variant), place, wish.from)).collect();
    Err(EditError::Ambiguous { why, choices })
}

fn known_variant<'d>(
    live: &'d FlagDefinition,
    flag: &FlagKey,
    variant: &VariantName,
) -> Result<&'d VariantName, EditError> {
    if let Some((known, _)) = live.variants.get_key_value(variant) {
        return Ok(known);
    }
    let names: Vec<&str> = live.variants.keys().map(VariantName::as_str).collect();
    let guess = nearest(variant.as_str(), names.iter().copied());
    let guess = guess.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    let text = format!("`{flag}` has no variant `{variant}`, only {}{guess}", sentence::list(&names));
    Err(EditError::Refused(text))
}

fn choose_place<'d>(
    live: &'d FlagDefinition,
    wish: &'d Wish<'_>,
    variant: &VariantName,
) -> Result<Place<'d>, EditError> {
    match wish.place {
        PlaceChoice::Otherwise => return Ok(Place::Otherwise),
        PlaceChoice::Rule(name) => {
            return match rule_at(live, name) {
                Some(rule) => Ok(Place::Rule(&rule.name)),
                None => Err(no_such_rule(live, wish.flag, name.as_str())),
            };
        }
        PlaceChoice::Only => {}
    }
    let splits: Vec<Place<'_>> =
        live.places().filter(|(_, serve)| matches!(serve, Serve::Split(_))).map(|(place, _)| place).collect();
    let (why, candidates) = match (splits.as_slice(), &live.otherwise) {
        ([only], _) => return Ok(*only),
        ([], Serve::Variant(plain)) if *plain == live.off_variant || plain == variant => {
            return Ok(Place::Otherwise);
        }
        ([], Serve::Variant(plain)) => {
            let why =
                format!("`{}` has no split, and otherwise serves {plain} to everybody; say where", wish.flag);
            let places: Vec<Place<'_>> = live.places().map(|(place, _)| place).collect();
            (why, places)
        }
        (many, _) => (format!("`{}` has {} splits; say which one", wish.flag, many.len()), many.to_vec()),
    };
    let choices = candidates
        .into_iter()
        .map(|place| {
            // Whoever owns a whole line is the only one who can give.
            let owner = match serve_at(live, place) {
                Some(Serve::Variant(owner)) if *owner != live.off_variant && owner != variant => Some(owner),
                _ => None,
            };
            arguments(wish, wish.variant.or_else(|| named(live, variant)), Some(place), wish.from.or(owner))
        })
        .collect();
    Err(EditError::Ambiguous { why, choices })
}

/// The variant, where a command must name it.
fn named<'v>(live: &FlagDefinition, variant: &'v VariantName) -> Option<&'v VariantName> {
    (live.variants.len() > 2).then_some(variant)
}

fn no_such_rule(live: &FlagDefinition, flag: &FlagKey, name: &str) -> EditError {
    let rules: Vec<&str> = live.rules.iter().map(|rule| rule.name.as_str()).collect();
    let guess = nearest(name, rules.iter().copied());
    let guess = guess.map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
    let quoted: Vec<String> = rules.iter().map(|rule| format!("\"{rule}\"")).collect();
    let has = if quoted.is_empty() { "it has no rules".to_owned() } else { sentence::list(&quoted) };
    EditError::Refused(format!("`{flag}` has no rule \"{name}\": {has}{guess}"))
}

fn choose_from<'d>(
    live: &'d FlagDefinition,
    wish: &Wish<'_>,
    variant: &VariantName,
) -> Result<&'d VariantName, EditError> {
    let from = match wish.from {
        Some(from) => known_variant(live, wish.flag, from)?,
        None if *variant != live.off_variant => return Ok(&live.off_variant),
        None => {
            let mut others = live.variants.keys().filter(|name| *name != variant);
            let (Some(only), None) = (others.next(), others.next()) else {
                let text = format!(
                    "{variant} is the off variant of `{}`: say with --from which variant gives or takes",
                    wish.flag
                );
                return Err(EditError::Refused(text));
            };
            only
        }
    };
    if from == variant {
        return Err(EditError::Refused(format!(
            "--from names {variant} itself; name the variant that gives or takes"
        )));
    }
    Ok(from)
}

fn not_enough(
    wish: &Wish<'_>,
    place: Place<'_>,
    (variant, had): (&VariantName, Ppm),
    (from, given): (&VariantName, Ppm),
    shares: &std::collections::BTreeMap<VariantName, Ppm>,
) -> EditError {
    let missing = Ppm(wish.share.0.saturating_sub(had.0));
    let others: Vec<String> = shares
        .iter()
        .filter(|(name, ppm)| *name != variant && *name != from && ppm.0 > 0)
        .map(|(name, ppm)| format!("--from {name} ({})", sentence::share(*ppm)))
        .collect();
    let way_out = if others.is_empty() {
        format!("{variant} can have at most {}", sentence::share(Ppm(had.0 + given.0)))
    } else {
        format!(
            "at most {} is possible, or take it {}",
            sentence::share(Ppm(had.0 + given.0)),
            others.join(" or ")
        )
    };
    EditError::Refused(format!(
        "{}: {variant} needs {} more, and {from} has only {}; {way_out}",
        sentence::place(place),
        sentence::share(missing),
        sentence::share(given),
    ))
}

/// Ready arguments for `flagctl ramp`.
fn arguments(
    wish: &Wish<'_>,
    variant: Option<&VariantName>,
    place: Option<Place<'_>>,
    from: Option<&VariantName>,
) -> String {
    let variant = variant.map(|variant| format!("{variant}=")).unwrap_or_default();
    let place = match place {
        None => String::new(),
        Some(Place::Otherwise) => " --otherwise".to_owned(),
        Some(Place::Rule(name)) => format!(" --rule {}", sentence::shell_word(name.as_str())),
    };
    let from = from.map(|from| format!(" --from {from}")).unwrap_or_default();
    format!("{} {variant}{}%{place}{from}", wish.flag, percent(wish.share))
}

/// Says when nobody will see the change.
fn note_unseen(
    before: &View<'_>,
    flag: &FlagKey,
    live: &FlagDefinition,
    place: Place<'_>,
    now: Timestamp,
    draft: &mut Draft,
) {
    let mut unseen = |why: String| {
        draft.note(Severity::Warning, EntryId::flag(flag), format!("nobody will see this: {why}"));
    };
    match dark(before, flag) {
        Some(Dark::Killed) => unseen(format!("`{flag}` is killed; `flagctl revive {flag}` lifts that")),
        Some(Dark::Disabled) => unseen(format!("`{flag}` is disabled; `flagctl enable {flag}` turns it on")),
        Some(Dark::Unmet(required)) => unseen(match dark(before, &required) {
            Some(Dark::Killed) => format!("it requires `{required}`, which is killed"),
            Some(Dark::Disabled) => format!("it requires `{required}`, which is disabled"),
            _ => format!("it requires `{required}`, which does not serve what it asks for"),
        }),
        None => {}
    }
    for rule in &live.rules {
        let known = certain(before, &rule.condition, now);
        if place == Place::Rule(&rule.name) {
            if known == Certain::Never {
                unseen(format!("the condition of rule \"{}\" never holds", rule.name));
            }
            return;
        }
        if known == Certain::Always {
            unseen(format!("rule \"{}\" comes earlier and holds for everybody", rule.name));
            return;
        }
    }
}
