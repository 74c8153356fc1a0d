//! What a flag serves: `docs/evaluation.md` as code, in the same order.
//!
//! The evaluator is total. It borrows everything, so it neither allocates nor counts references; it walks a
//! bounded number of flags and segments, so that even forged definitions that refer to one another in a circle
//! come to an end. An observer is told every step; the one that does not listen costs nothing.

use std::cell::Cell;
use std::hint::black_box;

use serde_json::Value;

use crate::check::Fate;
use crate::context::{Attribute, Context};
use crate::definition::{SegmentList, Switch};
use crate::split::Point;
use crate::time::Timestamp;

use super::compile::{Condition, Flag, Killed, ON_OFF, Requirement, Rule, Segment, Serve, Variant};
use super::condition::{Path, Test};
use super::explain as say;
use super::ladder::Climb;
use super::slot::{FlagSlot, SegmentSlot};
use super::stretch::Split;
use super::unit::{Buffer, unit};
use super::{Reason, Snapshot};

/// The longest chain of requirements, or of segments, that is followed; the writer's limit is far below. A link
/// beyond it does not hold.
const DEPTH_MAX: u32 = 32;

/// How many requirements and segments one evaluation looks at; what comes after does not hold. Without this
/// bound a few hundred flags that all require one another's neighbours would take for ever.
const VISITS_MAX: u32 = 10_000;

/// Told about each step. Both closures make sentences and are not called by whoever does not listen.
pub(super) trait Observer {
    /// Whether anybody does: who listens is shown every step, also those that could be spared.
    const LISTENS: bool;
    /// Something is about to be looked at.
    fn open(&mut self, what: impl FnOnce() -> String);
    /// What came out of what was opened last.
    fn close(&mut self, outcome: impl FnOnce() -> String);
}

/// Does not listen.
pub(super) struct Nobody;

impl Observer for Nobody {
    const LISTENS: bool = false;

    #[inline]
    fn open(&mut self, _: impl FnOnce() -> String) {}
    #[inline]
    fn close(&mut self, _: impl FnOnce() -> String) {}
}

/// What a flag serves, before the position is put to it.
#[derive(Clone, Copy)]
pub(super) struct Served<'s> {
    pub(super) value: Option<&'s Value>,
    pub(super) variant: Option<&'s str>,
    pub(super) reason: Reason<'s>,
}

/// What a flag serves, found the shortest way; [`Evaluator::key`] is the same without short ways.
#[inline]
pub(super) fn serve<'s>(
    snapshot: &'s Snapshot,
    slot: &'s FlagSlot,
    context: &Context,
    now: impl Fn() -> Timestamp,
) -> Served<'s> {
    let way = slot.short_way();
    if let Some(is_on) = way.is_on_for_everybody() {
        return on_or_off(usize::from(is_on));
    }
    match way.is_on(context) {
        // A place computed, not a branch: see `ShortWay::is_on`.
        Some(is_on) => on_or_off(black_box(usize::from(is_on))),
        None => serve_slot(snapshot, slot, context, now),
    }
}

#[inline]
fn on_or_off<'s>(place: usize) -> Served<'s> {
    match ON_OFF.get(place) {
        Some(variant) => variant.served(Reason::Otherwise),
        None => nothing(Reason::Otherwise),
    }
}

/// A call of its own, so that the short way stays short.
#[inline(never)]
fn serve_slot<'s>(
    snapshot: &'s Snapshot,
    slot: &'s FlagSlot,
    context: &Context,
    now: impl Fn() -> Timestamp,
) -> Served<'s> {
    if let (Some(flag), None) = (slot.flag(), slot.kill())
        && flag.is_plain
    {
        return flag.serve_otherwise(context);
    }
    Evaluator::new(snapshot, context, now, Nobody).slot(slot, 0)
}

/// One evaluation on its way.
pub(super) struct Evaluator<'r, 's, N, O> {
    snapshot: &'s Snapshot,
    context: &'r Context,
    now: N,
    /// The time, once it was asked for: one evaluation sees one moment.
    asked: Cell<Option<Timestamp>>,
    visits: u32,
    /// The attribute looked up last: rules in a row mostly ask for the same one.
    last: Option<(&'s Path, Option<&'r Attribute>)>,
    pub(super) observer: O,
}

impl<'r, 's, N: Fn() -> Timestamp, O: Observer> Evaluator<'r, 's, N, O> {
    #[inline]
    pub(super) fn new(snapshot: &'s Snapshot, context: &'r Context, now: N, observer: O) -> Self {
        Evaluator { snapshot, context, now, asked: Cell::new(None), visits: 0, last: None, observer }
    }

    /// No such flag, killed, disabled, a requirement not met, the first rule that holds, else `otherwise`.
    #[inline]
    pub(super) fn key(&mut self, key: &str) -> Served<'s> {
        match self.snapshot.flags.find(key) {
            Some(slot) => self.slot(slot, 0),
            None => nothing(Reason::NotFound),
        }
    }

    #[inline]
    fn slot(&mut self, slot: &'s FlagSlot, depth: u32) -> Served<'s> {
        if let Some(kill) = slot.kill() {
            return kill.serve(slot.flag().map(AsRef::as_ref));
        }
        match slot.flag() {
            Some(flag) => self.flag(flag, depth),
            None if slot.is_refused() => nothing(Reason::Refused),
            None => nothing(Reason::NotFound),
        }
    }

    #[inline]
    fn flag(&mut self, flag: &'s Flag, depth: u32) -> Served<'s> {
        if flag.switch == Switch::Disabled {
            return flag.off(Reason::Disabled);
        }
        for requirement in &flag.requires {
            if !self.requirement(requirement, depth) {
                return flag.off(Reason::Requirement(&requirement.key));
            }
        }
        let mut rules = match self.climb(flag) {
            Climb::Holds(rule) => return self.serve(flag, &rule.serve, Reason::Rule(&rule.name)),
            Climb::Left(rules) => rules.iter(),
        };
        for rule in rules.by_ref() {
            if self.rule(rule) {
                let served = self.serve(flag, &rule.serve, Reason::Rule(&rule.name));
                self.not_reached(rules);
                return served;
            }
        }
        self.serve(flag, &flag.otherwise, Reason::Otherwise)
    }

    /// The rule that is known to hold first, or those left to try.
    #[inline]
    fn climb(&mut self, flag: &'s Flag) -> Climb<'s> {
        match &flag.ladder {
            Some(ladder) if !O::LISTENS => ladder.climb(&flag.rules, self.context),
            _ => Climb::Left(&flag.rules),
        }
    }

    fn requirement(&mut self, requirement: &'s Requirement, depth: u32) -> bool {
        self.observer.open(|| say::requirement(requirement));
        let served = match self.snapshot.flags.at(requirement.flag) {
            Some(slot) if self.may_visit(depth) => self.slot(slot, depth + 1),
            _ => nothing(Reason::NotFound),
        };
        let met =
            served.variant.is_some_and(|variant| requirement.serves.iter().any(|name| **name == *variant));
        self.observer.close(|| say::requirement_outcome(&served, met));
        met
    }

    #[inline]
    fn rule(&mut self, rule: &'s Rule) -> bool {
        match rule.fate {
            Fate::Never if !O::LISTENS => return false,
            Fate::Always if !O::LISTENS => return true,
            _ => {}
        }
        self.observer.open(|| say::rule(rule));
        let held = self.condition(&rule.condition, 0);
        self.observer.close(|| say::held(held));
        held
    }

    fn not_reached(&mut self, rules: impl Iterator<Item = &'s Rule>) {
        for rule in rules {
            self.observer.open(|| say::rule(rule));
            self.observer.close(say::not_reached);
        }
    }

    /// `depth` counts segments, not conditions: conditions are as deep as their definition is.
    #[inline]
    fn condition(&mut self, condition: &'s Condition, depth: u32) -> bool {
        match condition {
            Condition::Attribute { path, test, described } => self.attribute(path, test, described),
            _ => self.compound(condition, depth),
        }
    }

    #[inline]
    fn attribute(&mut self, path: &'s Path, test: &'s Test, described: &'s str) -> bool {
        let found = self.find(path);
        let held = test.holds(found);
        self.observer.open(|| described.to_owned());
        self.observer.close(|| say::attribute_outcome(path, found, held));
        held
    }

    fn compound(&mut self, condition: &'s Condition, depth: u32) -> bool {
        match condition {
            Condition::Attribute { path, test, described } => self.attribute(path, test, described),
            Condition::All(conditions) => {
                self.observer.open(say::all);
                let held = conditions.iter().all(|condition| self.condition(condition, depth));
                self.observer.close(|| say::held(held));
                held
            }
            Condition::Any(conditions) => {
                self.observer.open(say::any);
                let held = conditions.iter().any(|condition| self.condition(condition, depth));
                self.observer.close(|| say::held(held));
                held
            }
            Condition::Not(condition) => {
                self.observer.open(say::not);
                let held = !self.condition(condition, depth);
                self.observer.close(|| say::held(held));
                held
            }
            Condition::Segment { slot, key } => {
                self.observer.open(|| say::segment(key));
                let slot = self.snapshot.segments.at(*slot);
                let segment = slot.and_then(|slot| Some((slot, slot.segment.as_deref()?)));
                match segment {
                    Some((slot, segment)) if self.may_visit(depth) => self.segment(slot, segment, depth + 1),
                    _ => {
                        self.observer.close(|| say::no_such_segment(segment.is_some()));
                        false
                    }
                }
            }
            Condition::Time { after, before } => self.time(*after, *before),
        }
    }

    /// In `exclude`: out. Else in `include`: in. Else whatever the condition says; without one: out.
    fn segment(&mut self, slot: &'s SegmentSlot, segment: &'s Segment, depth: u32) -> bool {
        let mut buffer = Buffer::default();
        let unit = unit(self.context, segment.by.as_ref(), &mut buffer);
        if unit.is_some_and(|unit| slot.lists(segment, SegmentList::Exclude, unit)) {
            self.observer.close(|| say::listed(unit, "exclude"));
            return false;
        }
        if unit.is_some_and(|unit| slot.lists(segment, SegmentList::Include, unit)) {
            self.observer.close(|| say::listed(unit, "include"));
            return true;
        }
        let held = segment.condition.as_ref().is_some_and(|condition| self.condition(condition, depth));
        self.observer.close(|| say::not_listed(segment, unit, held));
        held
    }

    fn time(&mut self, after: Option<Timestamp>, before: Option<Timestamp>) -> bool {
        let now = self.asked.get().unwrap_or_else(|| (self.now)());
        self.asked.set(Some(now));
        let held = after.is_none_or(|after| now >= after) && before.is_none_or(|before| now < before);
        self.observer.open(|| say::time(after, before));
        self.observer.close(|| say::time_outcome(now, held));
        held
    }

    #[inline]
    fn serve(&mut self, flag: &'s Flag, serve: &'s Serve, reason: Reason<'s>) -> Served<'s> {
        match serve {
            Serve::Variant(variant) => flag.serve(*variant, reason),
            Serve::Split(split) => self.split(flag, split, reason),
        }
    }

    #[inline]
    fn split(&mut self, flag: &'s Flag, split: &'s Split, reason: Reason<'s>) -> Served<'s> {
        self.observer.open(|| say::split(split));
        let mut buffer = Buffer::default();
        let Some(unit) = unit(self.context, split.by(), &mut buffer) else {
            self.observer.close(|| say::no_unit(split));
            return flag.off(Reason::NoUnit);
        };
        let point = Point::of(flag.seed, unit);
        let served = flag.serve(split.owner(point), reason);
        self.observer.close(|| say::point(split, unit, point, served.variant));
        served
    }

    #[inline]
    fn find(&mut self, path: &'s Path) -> Option<&'r Attribute> {
        match self.last {
            Some((last, found)) if std::ptr::eq(last, path) => found,
            _ => {
                let found = path.find(self.context);
                self.last = Some((path, found));
                found
            }
        }
    }

    fn may_visit(&mut self, depth: u32) -> bool {
        self.visits = self.visits.saturating_add(1);
        depth < DEPTH_MAX && self.visits <= VISITS_MAX
    }
}

impl Killed {
    /// The value that the kill itself names; else the off variant of whatever definition is in use.
    #[cold]
    fn serve<'s>(&'s self, flag: Option<&'s Flag>) -> Served<'s> {
        match (&self.value, flag) {
            (Some(value), _) => {
                Served { value: Some(value), variant: self.variant.as_deref(), reason: Reason::Killed }
            }
            (None, Some(flag)) => flag.off(Reason::Killed),
            (None, None) => nothing(Reason::Killed),
        }
    }
}

impl Variant {
    #[inline]
    fn served<'s>(&'s self, reason: Reason<'s>) -> Served<'s> {
        Served { value: Some(&self.value), variant: Some(&self.name), reason }
    }
}

impl Flag {
    #[inline]
    fn serve<'s>(&'s self, variant: u32, reason: Reason<'s>) -> Served<'s> {
        match self.variants.get(variant) {
            Some(variant) => variant.served(reason),
            None => nothing(reason),
        }
    }

    /// What is served where nothing is to be looked at before `otherwise`, and nobody listens.
    #[inline]
    fn serve_otherwise(&self, context: &Context) -> Served<'_> {
        let split = match &self.otherwise {
            Serve::Variant(variant) => return self.serve(*variant, Reason::Otherwise),
            Serve::Split(split) => split,
        };
        let mut buffer = Buffer::default();
        match unit(context, split.by(), &mut buffer) {
            Some(unit) => self.serve(split.owner(Point::of(self.seed, unit)), Reason::Otherwise),
            None => self.off(Reason::NoUnit),
        }
    }

    #[inline]
    pub(super) fn off<'s>(&'s self, reason: Reason<'s>) -> Served<'s> {
        self.serve(self.off_variant, reason)
    }
}

#[inline]
pub(super) fn nothing(reason: Reason<'_>) -> Served<'_> {
    Served { value: None, variant: None, reason }
}
