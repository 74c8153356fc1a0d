//! Whether definitions hold together: references, cycles, depths.
//!
//! A definition that is right in itself can still name a flag that is not there or close a circle of
//! requirements. This is checked against the whole environment before a change is recorded, also when an
//! import brings 100,000 flags, so every step is close to linear and nothing recurses along a chain.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::definition::{Condition, FlagDefinition, SegmentDefinition, push_key};
use crate::key::{FlagKey, SegmentKey, VariantName};
use crate::limits;
use crate::problem::{Problem, Problems, nearest};

mod chains;
mod reach;
mod together;
mod warnings;

pub(crate) use reach::Fate;

use chains::{Chain, chains};
pub use together::file_warnings;
pub use warnings::warnings;

/// How the definitions of an environment look up one another.
pub trait Definitions {
    /// The flag's definition, if it exists and is understood.
    fn flag(&self, key: &FlagKey) -> Option<&FlagDefinition>;
    /// The segment's definition, if it exists and is understood.
    fn segment(&self, key: &SegmentKey) -> Option<&SegmentDefinition>;
    /// All flag keys, for guesses.
    fn flag_keys(&self) -> Vec<&str>;
    /// All segment keys, for guesses.
    fn segment_keys(&self) -> Vec<&str>;
}

/// Checks that every reference of `flags` and `segments` resolves in `all` (which includes them), that no cycle
/// runs through them and that no chain is too deep, also none that begins elsewhere and leads through them.
/// Whoever changes a definition passes those that refer to it too: they may name a variant that is gone.
#[must_use]
pub fn check_references(
    flags: &BTreeMap<&FlagKey, &FlagDefinition>,
    segments: &BTreeMap<&SegmentKey, &SegmentDefinition>,
    all: &dyn Definitions,
) -> Vec<Problem> {
    let mut problems = Problems::default();
    let guesses = Guesses { all, flags: OnceCell::new(), segments: OnceCell::new() };
    for (key, definition) in flags {
        check_requirements(key, definition, &guesses, &mut problems);
        for (index, rule) in definition.rules.iter().enumerate() {
            let path = || format!("{}.rules[{index}].if", entry_path("flags", key.as_str()));
            check_segments(&rule.condition, &path, &guesses, &mut problems);
        }
    }
    for (key, definition) in segments {
        if let Some(condition) = &definition.condition {
            let path = || format!("{}.if", entry_path("segments", key.as_str()));
            check_segments(condition, &path, &guesses, &mut problems);
        }
    }
    check_flag_chains(flags, all, &mut problems);
    check_segment_chains(segments, all, &mut problems);
    problems.into_vec()
}

fn entry_path(kind: &str, key: &str) -> String {
    let mut path = kind.to_owned();
    push_key(&mut path, key);
    path
}

/// Most unknown names for which the nearest one is looked up: each look-up reads all keys.
const GUESSES_MAX: usize = 20;

/// All names, listed when the first one is missing.
struct Guesses<'d> {
    all: &'d dyn Definitions,
    flags: OnceCell<BTreeSet<&'d str>>,
    segments: OnceCell<BTreeSet<&'d str>>,
}

impl Guesses<'_> {
    fn missing_flag(&self, path: String, key: &FlagKey, found: usize) -> Problem {
        let keys = self.flags.get_or_init(|| self.all.flag_keys().into_iter().collect());
        missing("flag", path, key.as_str(), keys, found)
    }

    fn missing_segment(&self, path: String, key: &SegmentKey, found: usize) -> Problem {
        let keys = self.segments.get_or_init(|| self.all.segment_keys().into_iter().collect());
        missing("segment", path, key.as_str(), keys, found)
    }
}

fn missing(what: &str, path: String, name: &str, keys: &BTreeSet<&str>, found: usize) -> Problem {
    if keys.contains(name) {
        let message =
            format!("the {what} `{name}` is not understood by this version, so nothing can refer to it");
        return Problem::new(path, message);
    }
    let problem = Problem::new(path, format!("there is no {what} `{name}`"));
    let guess = if found < GUESSES_MAX { nearest(name, keys.iter().copied()) } else { None };
    match guess {
        Some(near) => problem.hint(format!("did you mean \"{near}\"?")),
        None => problem,
    }
}

fn check_requirements(
    key: &FlagKey,
    definition: &FlagDefinition,
    guesses: &Guesses<'_>,
    problems: &mut Problems,
) {
    for (index, requirement) in definition.requires.iter().enumerate() {
        let path = |member: &str| format!("{}.requires[{index}].{member}", entry_path("flags", key.as_str()));
        let Some(required) = guesses.all.flag(&requirement.flag) else {
            problems.push(guesses.missing_flag(path("flag"), &requirement.flag, problems.count()));
            continue;
        };
        for (place, name) in requirement.serves.iter().enumerate() {
            if required.variants.contains_key(name) {
                continue;
            }
            let message = format!("the flag `{}` has no variant `{name}`", requirement.flag);
            let problem = Problem::new(path(&format!("serves[{place}]")), message);
            problems.push(match nearest(name.as_str(), required.variants.keys().map(VariantName::as_str)) {
                Some(near) => problem.hint(format!("did you mean \"{near}\"?")),
                None => problem,
            });
        }
    }
}

fn check_segments(
    condition: &Condition,
    path: &dyn Fn() -> String,
    guesses: &Guesses<'_>,
    problems: &mut Problems,
) {
    match condition {
        Condition::All(list) | Condition::Any(list) => {
            let word = if matches!(condition, Condition::All(_)) { "all" } else { "any" };
            for (index, inner) in list.iter().enumerate() {
                check_segments(inner, &|| format!("{}.{word}[{index}]", path()), guesses, problems);
            }
        }
        Condition::Not(inner) => check_segments(inner, &|| format!("{}.not", path()), guesses, problems),
        Condition::Segment(key) => {
            if guesses.all.segment(key).is_none() {
                let problem = guesses.missing_segment(format!("{}.segment", path()), key, problems.count());
                problems.push(problem);
            }
        }
        Condition::Time { .. } | Condition::Attribute { .. } => {}
    }
}

fn check_flag_chains(
    flags: &BTreeMap<&FlagKey, &FlagDefinition>,
    all: &dyn Definitions,
    problems: &mut Problems,
) {
    if flags.values().all(|definition| definition.requires.is_empty()) {
        return;
    }
    // A flag that did not change can begin a chain that became too long, so all are walked.
    let others: Vec<FlagKey> = all.flag_keys().into_iter().filter_map(|key| FlagKey::new(key).ok()).collect();
    let next = |key: &FlagKey| -> Vec<&FlagKey> {
        let definition = all.flag(key);
        definition.map(|flag| flag.requires.iter().map(|each| &each.flag).collect()).unwrap_or_default()
    };
    let starts = flags.keys().copied().chain(&others);
    let found = chains(starts, next, |key| flags.contains_key(key), limits::REQUIRES_DEPTH_MAX);
    for chain in found {
        problems.push(tell(&chain, "flags", "requires", limits::REQUIRES_DEPTH_MAX, FlagKey::as_str));
    }
}

fn check_segment_chains(
    segments: &BTreeMap<&SegmentKey, &SegmentDefinition>,
    all: &dyn Definitions,
    problems: &mut Problems,
) {
    if segments.values().all(|definition| definition.segments().is_empty()) {
        return;
    }
    let others: Vec<SegmentKey> =
        all.segment_keys().into_iter().filter_map(|key| SegmentKey::new(key).ok()).collect();
    let next = |key: &SegmentKey| all.segment(key).map(SegmentDefinition::segments).unwrap_or_default();
    let starts = segments.keys().copied().chain(&others);
    let found = chains(starts, next, |key| segments.contains_key(key), limits::SEGMENT_DEPTH_MAX);
    for chain in found {
        problems.push(tell(&chain, "segments", "if", limits::SEGMENT_DEPTH_MAX, SegmentKey::as_str));
    }
}

/// Most names that are told of one circle.
const NAMES_MAX: usize = 20;

fn tell<K>(chain: &Chain<'_, K>, kind: &str, member: &str, max: usize, text: impl Fn(&K) -> &str) -> Problem {
    let (keys, message) = match chain {
        Chain::Cycle(keys) => (keys, "this is a cycle: "),
        Chain::TooLong(keys) => (keys, "this chain is too long: "),
    };
    let first = keys.first().map(|key| text(key)).unwrap_or_default();
    let shown = keys.len().min(NAMES_MAX);
    let mut names: Vec<&str> = keys.iter().take(shown).map(|key| text(key)).collect();
    let more = format!("... ({} more)", keys.len() - shown);
    if let (true, Some(last)) = (keys.len() > shown, keys.last()) {
        names.extend([more.as_str(), text(last)]);
    }
    let path = format!("{}.{member}", entry_path(kind, first));
    let problem = Problem::new(path, format!("{message}{}", names.join(" -> ")));
    match chain {
        Chain::Cycle(_) => problem,
        Chain::TooLong(_) => problem.hint(format!("at most {max} steps")),
    }
}

#[cfg(test)]
mod tests;
