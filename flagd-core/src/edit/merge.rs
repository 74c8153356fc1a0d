//! The three-way merge of one flag, field by field.
//!
//! A field is what a person thinks of as one setting: a variant's value, a rule's condition, what a rule
//! serves, the order of the rules. Two splits are the same in the terms of the file: by their shares when the
//! file states shares, point by point when it states stretches; where they lie is then no disagreement.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::difference::Fields;
use super::lay::{rule_at, stretches, unit_of};
use super::{FieldDrift, Take};
use crate::definition::{About, FlagDefinition, Layout, Ppm, Rule, Serve, Split, Stretch};
use crate::entry::EntryId;
use crate::key::{RuleName, VariantName};
use crate::split::{join, shares};

/// Three versions of one thing; without a base this source has never applied it.
#[derive(Debug)]
pub(super) struct Three<'d, T> {
    pub(super) base: Option<&'d T>,
    pub(super) file: &'d T,
    pub(super) live: &'d T,
}

impl<T> Clone for Three<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Three<'_, T> {}

impl<'d, T> Three<'d, T> {
    /// The same three versions of a part.
    pub(super) fn part<P>(self, part: impl Fn(&'d T) -> P) -> Parts<P> {
        Parts { base: self.base.map(&part), file: part(self.file), live: part(self.live) }
    }
}

/// Three versions of a part, by value.
#[derive(Debug)]
pub(super) struct Parts<P> {
    pub(super) base: Option<P>,
    pub(super) file: P,
    pub(super) live: P,
}

/// Whose version is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    File,
    Live,
}

/// What a merge has found out so far.
#[derive(Debug)]
pub(super) struct Merge<'a> {
    id: &'a EntryId,
    take: Take,
    bytes: [Option<&'a Arc<[u8]>>; 3],
    drift: Vec<FieldDrift>,
    conflicts: Vec<FieldDrift>,
}

impl<'a> Merge<'a> {
    /// A merge of one entry; the bytes are those of base, file and live, for showing what differs.
    pub(super) fn new(id: &'a EntryId, take: Take, bytes: [Option<&'a Arc<[u8]>>; 3]) -> Merge<'a> {
        Merge { id, take, bytes, drift: Vec::new(), conflicts: Vec::new() }
    }

    /// Drift and conflicts.
    pub(super) fn into_findings(self) -> (Vec<FieldDrift>, Vec<FieldDrift>) {
        (self.drift, self.conflicts)
    }

    /// Decides one field whose versions are compared with `==`.
    pub(super) fn field<P: PartialEq>(&mut self, name: &str, parts: Parts<P>) -> P {
        match self.decide(name, &parts, |a, b| a == b) {
            Kept::File => parts.file,
            Kept::Live => parts.live,
        }
    }

    /// Decides one field.
    fn decide<P>(&mut self, name: &str, parts: &Parts<P>, same: impl Fn(&P, &P) -> bool) -> Kept {
        let Parts { base, file, live } = parts;
        let kept = decide(base.as_ref(), file, live, same, self.take);
        let told = || self.tell(name);
        match kept {
            Decision::Same => Kept::Live,
            Decision::File => Kept::File,
            Decision::Drift => {
                self.drift.push(told());
                Kept::Live
            }
            Decision::Conflict => {
                self.conflicts.push(told());
                Kept::Live
            }
        }
    }

    fn tell(&self, name: &str) -> FieldDrift {
        let [base, file, live] = self.bytes.map(|bytes| {
            let fields = Fields::read(bytes.map(|bytes| &bytes[..]));
            fields.text(name).or_else(|| fields.rule(name))
        });
        FieldDrift { id: self.id.clone(), field: name.to_owned(), base, file, live }
    }

    /// Notes the units of a list that are live, or gone, though the file says otherwise.
    pub(super) fn units(&mut self, decision: Decision, drift: FieldDrift) {
        match decision {
            Decision::Conflict => self.conflicts.push(drift),
            _ => self.drift.push(drift),
        }
    }

    pub(super) fn id(&self) -> &EntryId {
        self.id
    }

    pub(super) fn take(&self) -> Take {
        self.take
    }
}

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// File and live state agree.
    Same,
    /// The file's version.
    File,
    /// The live version, though the file's differs.
    Drift,
    /// Nobody can tell.
    Conflict,
}

/// The rule of the three-way merge.
pub(super) fn decide<P>(
    base: Option<&P>,
    file: &P,
    live: &P,
    same: impl Fn(&P, &P) -> bool,
    take: Take,
) -> Decision {
    if same(file, live) {
        return Decision::Same;
    }
    match base {
        Some(base) if same(base, live) => Decision::File,
        Some(base) if same(base, file) => Decision::Drift,
        _ => match take {
            Take::Ask => Decision::Conflict,
            Take::File => Decision::File,
            Take::Live => Decision::Drift,
        },
    }
}

/// Merges a flag; splits of the file that win may still state shares. Type and salt are live's.
pub(super) fn merge_flag(three: Three<'_, FlagDefinition>, merge: &mut Merge<'_>) -> FlagDefinition {
    let about = merge_about(&three.part(|flag| &flag.about), merge);
    let mut variants = BTreeMap::new();
    let names: BTreeSet<&VariantName> =
        three.file.variants.keys().chain(three.live.variants.keys()).collect();
    for name in names {
        let value = merge.field(&format!("variants.{name}"), three.part(|flag| flag.variants.get(name)));
        variants.extend(value.map(|value| (name.clone(), value.clone())));
    }
    let off_variant = merge.field("offVariant", three.part(|flag| &flag.off_variant)).clone();
    let switch = merge.field("enabled", three.part(|flag| flag.switch));
    let requires = merge.field("requires", three.part(|flag| &flag.requires)).clone();
    let rules = merge_rules(three, merge);
    let otherwise = merge_serve("otherwise", three, &three.part(|flag| &flag.otherwise), merge).clone();
    FlagDefinition {
        about,
        variants,
        off_variant,
        switch,
        salt: three.live.salt.clone(),
        requires,
        rules,
        otherwise,
    }
}

/// Merges what cannot change an answer.
pub(super) fn merge_about(about: &Parts<&About>, merge: &mut Merge<'_>) -> About {
    let three = Three { base: about.base, file: about.file, live: about.live };
    About {
        description: merge.field("description", three.part(|about| &about.description)).clone(),
        owner: merge.field("owner", three.part(|about| &about.owner)).clone(),
        tags: merge.field("tags", three.part(|about| &about.tags)).clone(),
        metadata: merge.field("metadata", three.part(|about| &about.metadata)).clone(),
    }
}

fn merge_rules(three: Three<'_, FlagDefinition>, merge: &mut Merge<'_>) -> Vec<Rule> {
    let mut kept: Vec<Rule> = Vec::new();
    let only_live = three.live.rules.iter().filter(|rule| rule_at(three.file, &rule.name).is_none());
    for rule in three.file.rules.iter().chain(only_live) {
        kept.extend(merge_rule(&rule.name, three, merge));
    }
    let order = merge_order(three, &kept, merge);
    let place = |rule: &Rule| order.iter().position(|name| *name == rule.name);
    kept.sort_by_key(place);
    kept
}

/// One rule: part by part where file and environment both have it, else its presence as a whole.
fn merge_rule(name: &RuleName, three: Three<'_, FlagDefinition>, merge: &mut Merge<'_>) -> Option<Rule> {
    let (Some(file), Some(live)) = (rule_at(three.file, name), rule_at(three.live, name)) else {
        let parts = three.part(|flag| rule_at(flag, name));
        let terms = parts.file.map_or(Terms::Shares, |rule| Terms::of_file(&rule.serve));
        let off = &three.file.off_variant;
        let kept = merge.decide(&format!("rules.{name}"), &parts, |a, b| match (a, b) {
            (Some(a), Some(b)) => a.condition == b.condition && terms.same(&a.serve, &b.serve, off),
            (a, b) => a.is_none() && b.is_none(),
        });
        return match kept {
            Kept::File => parts.file.cloned(),
            Kept::Live => parts.live.cloned(),
        };
    };
    let base = three.base.and_then(|base| rule_at(base, name));
    let condition =
        Parts { base: base.map(|rule| &rule.condition), file: &file.condition, live: &live.condition };
    let serve = Parts { base: base.map(|rule| &rule.serve), file: &file.serve, live: &live.serve };
    Some(Rule {
        name: name.clone(),
        condition: merge.field(&format!("rules.{name}.if"), condition).clone(),
        serve: merge_serve(&format!("rules.{name}.serve"), three, &serve, merge).clone(),
    })
}

fn merge_serve<'d>(
    name: &str,
    three: Three<'d, FlagDefinition>,
    serve: &Parts<&'d Serve>,
    merge: &mut Merge<'_>,
) -> &'d Serve {
    let terms = Terms::of_file(serve.file);
    let off = &three.file.off_variant;
    let same = |a: &&Serve, b: &&Serve| terms.same(a, b, off);
    match merge.decide(name, serve, same) {
        Kept::File => serve.file,
        Kept::Live => serve.live,
    }
}

/// In which terms splits are compared.
#[derive(Clone, Copy, Debug)]
enum Terms {
    Shares,
    Stretches,
}

/// What is compared of a place. A plain variant is the same as a split that it owns alone.
#[derive(Debug, PartialEq, Eq)]
enum Compared<'s> {
    Shares(Option<&'s str>, BTreeMap<VariantName, Ppm>),
    Stretches(Option<&'s str>, Vec<Stretch>),
}

impl Terms {
    /// The terms that the file uses at this place.
    fn of_file(serve: &Serve) -> Terms {
        match serve {
            Serve::Split(Split { layout: Layout::Stretches(_), .. }) => Terms::Stretches,
            Serve::Split(Split { layout: Layout::Shares(_), .. }) | Serve::Variant(_) => Terms::Shares,
        }
    }

    fn same(self, a: &Serve, b: &Serve, off_variant: &VariantName) -> bool {
        self.of(a, off_variant) == self.of(b, off_variant)
    }

    fn of<'s>(self, serve: &'s Serve, off_variant: &VariantName) -> Compared<'s> {
        let stretches = join(stretches(serve, off_variant));
        match self {
            Terms::Shares => {
                let mut shares = shares(&stretches);
                shares.retain(|_, ppm| ppm.0 > 0);
                Compared::Shares(unit_of(serve), shares)
            }
            Terms::Stretches => Compared::Stretches(unit_of(serve), stretches),
        }
    }
}

/// The order of the rules that are kept. The order of those that all have is one field; a rule that only one
/// side has goes where that side has it, after the same rule.
fn merge_order(three: Three<'_, FlagDefinition>, kept: &[Rule], merge: &mut Merge<'_>) -> Vec<RuleName> {
    let is_kept = |name: &RuleName| kept.iter().any(|rule| rule.name == *name);
    let names = |flag: &FlagDefinition| -> Vec<RuleName> {
        flag.rules.iter().map(|rule| rule.name.clone()).collect()
    };
    let common = |flag: &FlagDefinition| -> Vec<RuleName> {
        let everywhere = |name: &RuleName| {
            let has = |flag: &FlagDefinition| rule_at(flag, name).is_some();
            has(three.file) && has(three.live) && three.base.is_none_or(has)
        };
        names(flag).into_iter().filter(|name| is_kept(name) && everywhere(name)).collect()
    };
    let parts = three.part(common);
    let (first, second) = match merge.decide("rules", &parts, |a, b| a == b) {
        Kept::File => (three.file, three.live),
        Kept::Live => (three.live, three.file),
    };
    let mut order: Vec<RuleName> = names(first).into_iter().filter(is_kept).collect();
    let mut previous: Option<RuleName> = None;
    for name in names(second).into_iter().filter(is_kept) {
        if !order.contains(&name) {
            let at = previous.and_then(|previous| order.iter().position(|other| *other == previous));
            order.insert(at.map_or(0, |at| at + 1), name.clone());
        }
        previous = Some(name);
    }
    order
}
