//! What deserves a second look once all definitions of a file are at hand.
//!
//! A flag alone cannot tell that what it requires is never served, or that nobody else has heard of the attribute
//! by which it splits. Both are allowed, and both are nearly always a slip.

use std::collections::{BTreeMap, BTreeSet};

use crate::definition::{
    Condition, FlagDefinition, Layout, ParsedFile, Place, SegmentDefinition, Serve, Split, Switch,
};
use crate::key::{FlagKey, SegmentKey, VariantName};
use crate::problem::{Problem, nearest};

use super::reach::{is_always, is_never};
use super::{Definitions, entry_path, warnings};

impl Definitions for ParsedFile {
    fn flag(&self, key: &FlagKey) -> Option<&FlagDefinition> {
        self.flags.get(key)
    }

    fn segment(&self, key: &SegmentKey) -> Option<&SegmentDefinition> {
        self.segments.get(key)
    }

    fn flag_keys(&self) -> Vec<&str> {
        self.flags.keys().map(FlagKey::as_str).collect()
    }

    fn segment_keys(&self) -> Vec<&str> {
        self.segments.keys().map(SegmentKey::as_str).collect()
    }
}

/// All warnings for a whole file, with full paths: those of each flag ([`warnings`]), requirements that can never
/// hold, and splits on an attribute that no context is likely to have.
#[must_use]
pub fn file_warnings(file: &ParsedFile) -> Vec<Problem> {
    let mut found = Vec::new();
    let names = named_attributes(file);
    for (key, flag) in &file.flags {
        let root = entry_path("flags", key.as_str());
        for mut warning in warnings(key, flag) {
            warning.path = format!("{root}.{}", warning.path);
            found.push(warning);
        }
        unmet_requirements(file, flag, &root, &mut found);
        unheard_attributes(flag, &root, &names, &mut found);
    }
    found
}

fn unmet_requirements(file: &ParsedFile, flag: &FlagDefinition, root: &str, found: &mut Vec<Problem>) {
    for (index, requirement) in flag.requires.iter().enumerate() {
        let Some(required) = file.flags.get(&requirement.flag) else { continue };
        let served = can_serve(required);
        if requirement.serves.iter().any(|name| served.contains(name)) {
            continue;
        }
        let names: Vec<String> = served.iter().map(|name| format!("`{name}`")).collect();
        let why = if required.switch == Switch::Disabled {
            "is not enabled and serves only"
        } else {
            "serves only"
        };
        let message =
            format!("this requirement never holds: `{}` {why} {}", requirement.flag, names.join(", "));
        found.push(Problem::new(format!("{root}.requires[{index}]"), message));
    }
}

/// The variants that a flag serves to anybody at any time, kills aside.
fn can_serve(flag: &FlagDefinition) -> BTreeSet<&VariantName> {
    let off = BTreeSet::from([&flag.off_variant]);
    if flag.switch == Switch::Disabled {
        return off;
    }
    let mut served = if flag.requires.is_empty() { BTreeSet::new() } else { off };
    for rule in flag.rules.iter().filter(|rule| !is_never(&rule.condition)) {
        add_served(&rule.serve, &flag.off_variant, &mut served);
        if is_always(&rule.condition) {
            return served;
        }
    }
    add_served(&flag.otherwise, &flag.off_variant, &mut served);
    served
}

fn add_served<'f>(serve: &'f Serve, off: &'f VariantName, served: &mut BTreeSet<&'f VariantName>) {
    let split = match serve {
        Serve::Variant(name) => {
            served.insert(name);
            return;
        }
        Serve::Split(split) => split,
    };
    let owners: BTreeSet<&VariantName> = match &split.layout {
        Layout::Shares(shares) => {
            shares.iter().filter(|(_, share)| share.0 > 0).map(|(name, _)| name).collect()
        }
        Layout::Stretches(list) => {
            list.iter().filter(|each| each.length.0 > 0).map(|each| &each.variant).collect()
        }
    };
    // A context without a unit gets the off variant, unless one variant owns the whole line.
    if owners.len() > 1 {
        served.insert(off);
    }
    served.extend(owners);
}

/// How often each attribute is named, anywhere in the file.
fn named_attributes(file: &ParsedFile) -> BTreeMap<&str, usize> {
    let mut names = BTreeMap::new();
    for flag in file.flags.values() {
        for rule in &flag.rules {
            in_condition(&rule.condition, &mut names);
        }
        for (_, serve) in flag.places() {
            if let Serve::Split(Split { by: Some(by), .. }) = serve {
                *names.entry(by.as_ref()).or_insert(0) += 1;
            }
        }
    }
    for segment in file.segments.values() {
        if let Some(by) = &segment.by {
            *names.entry(by.as_ref()).or_insert(0) += 1;
        }
        if let Some(condition) = &segment.condition {
            in_condition(condition, &mut names);
        }
    }
    names
}

fn in_condition<'c>(condition: &'c Condition, names: &mut BTreeMap<&'c str, usize>) {
    match condition {
        Condition::All(list) | Condition::Any(list) => list.iter().for_each(|each| in_condition(each, names)),
        Condition::Not(inner) => in_condition(inner, names),
        Condition::Attribute { attribute, .. } => *names.entry(attribute.as_ref()).or_insert(0) += 1,
        Condition::Segment(_) | Condition::Time { .. } => {}
    }
}

/// A split on an attribute that is named nowhere else: most likely no context has it, and then nobody is in.
fn unheard_attributes(
    flag: &FlagDefinition,
    root: &str,
    names: &BTreeMap<&str, usize>,
    found: &mut Vec<Problem>,
) {
    for (index, (place, serve)) in flag.places().enumerate() {
        let Serve::Split(Split { by: Some(by), .. }) = serve else { continue };
        if by.as_ref() == "targetingKey" || names.get(by.as_ref()).is_some_and(|count| *count > 1) {
            continue;
        }
        let place = match place {
            Place::Rule(_) => format!("{root}.rules[{index}].serve.by"),
            Place::Otherwise => format!("{root}.otherwise.by"),
        };
        let message = format!(
            "nothing else in these files names the attribute `{by}`: a context without it is served `{}`",
            flag.off_variant
        );
        let others = names.keys().copied().filter(|name| *name != by.as_ref());
        let problem = Problem::new(place, message);
        found.push(match nearest(by, others.chain(["targetingKey"])) {
            Some(near) => problem.hint(format!("did you mean \"{near}\"?")),
            None => problem.hint("make sure that the application sends it"),
        });
    }
}
