//! What a snapshot knows about one name.
//!
//! Most flags are boolean and ask for nothing but the targeting key. What they serve is decided by a few bytes,
//! and those lie here, beside the name: such a flag is evaluated without looking anywhere else. They are
//! derived from the rest of the slot whenever it changes, so the rest may only be changed through this file.

use std::hint::select_unpredictable;
use std::sync::Arc;

use crate::context::Context;
use crate::definition::{SegmentList, Switch};
use crate::part::PartNumber;
use crate::split::{Point, Seed};

use super::compile::{Flag, Killed, Members, ON_OFF, Segment, Serve, Variant, Variants};
use super::part::{Part, Parts};

/// What is known about a flag's name.
#[derive(Clone, Debug, Default)]
pub(super) struct FlagSlot {
    short: Short,
    flag: Option<Arc<Flag>>,
    kill: Option<Arc<Killed>>,
    is_refused: bool,
}

/// What is known about a segment's name.
#[derive(Clone, Debug, Default)]
pub(super) struct SegmentSlot {
    pub(super) segment: Option<Arc<Segment>>,
    /// The parts of its long lists, if it has any; they change without the segment.
    pub(super) parts: Option<Arc<Parts>>,
}

impl SegmentSlot {
    /// Whether a unit is on a list of the segment, which is this slot's.
    #[inline]
    pub(super) fn lists(&self, segment: &Segment, list: SegmentList, unit: &str) -> bool {
        match segment.members(list) {
            Members::Listed(units) => units.contains(unit),
            Members::InParts => self.parts.as_ref().is_some_and(|parts| parts.contains(list, unit)),
        }
    }

    pub(super) fn set_part(&mut self, list: SegmentList, number: PartNumber, part: Option<Arc<Part>>) {
        Arc::make_mut(self.parts.get_or_insert_default()).set(list, number, part);
    }
}

/// The short way to what a flag serves where no rule holds, for a flag that has no rules: nothing that must be
/// looked at before `otherwise`, and the variants of nearly every boolean flag.
#[derive(Clone, Copy, Debug, Default)]
enum Short {
    /// There is none.
    #[default]
    None,
    /// The same for everybody.
    Everybody { on: bool },
    /// By the point of the targeting key.
    Split { seed: Seed, end: Point, below: bool, above: bool },
}

impl FlagSlot {
    /// The definition in use, if any.
    #[inline]
    pub(super) fn flag(&self) -> Option<&Arc<Flag>> {
        self.flag.as_ref()
    }

    #[inline]
    pub(super) fn kill(&self) -> Option<&Killed> {
        self.kill.as_deref()
    }

    /// Whether the state holds a definition that is refused.
    #[inline]
    pub(super) fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// A kill that knows its value answers even where there is no definition.
    pub(super) fn can_be_evaluated(&self) -> bool {
        self.flag.is_some() || self.kill().is_some_and(|kill| kill.value.is_some())
    }

    pub(super) fn set_flag(&mut self, flag: Option<Arc<Flag>>) {
        self.flag = flag;
        self.shorten();
    }

    pub(super) fn set_kill(&mut self, kill: Option<Arc<Killed>>) {
        self.kill = kill;
        self.shorten();
    }

    pub(super) fn set_refused(&mut self, is_refused: bool) {
        self.is_refused = is_refused;
    }

    /// What `otherwise` serves, when that is decided without the flag; `None` says nothing.
    #[inline]
    pub(super) fn served_shortly(&self, context: &Context) -> Option<&'static Variant> {
        let [off, on] = &ON_OFF;
        let is_on = match self.short {
            Short::None => return None,
            Short::Everybody { on } => on,
            Short::Split { seed, end, below, above } => {
                // Without a unit something else is served, for another reason.
                let point = Point::of(seed, context.targeting_key()?);
                select_unpredictable(point < end, below, above)
            }
        };
        Some(select_unpredictable(is_on, on, off))
    }

    fn shorten(&mut self) {
        self.short = match &self.flag {
            Some(flag) if self.kill.is_none() => Short::of(flag),
            _ => Short::None,
        };
    }
}

impl Short {
    fn of(flag: &Flag) -> Short {
        let is_plain = flag.switch == Switch::Enabled && flag.requires.is_empty() && flag.rules.is_empty();
        if !is_plain || !matches!(flag.variants, Variants::OnOff) {
            return Short::None;
        }
        let is_on = |variant| flag.variants.get(variant).is_some_and(|variant| variant.value == true);
        match &flag.otherwise {
            Serve::Variant(variant) => Short::Everybody { on: is_on(*variant) },
            Serve::Split(split) if split.by.is_none() && split.middle.is_empty() => Short::Split {
                seed: flag.seed,
                end: split.first.end,
                below: is_on(split.first.variant),
                above: is_on(split.last),
            },
            Serve::Split(_) => Short::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_and_a_name_fill_one_line_of_memory() {
        assert_eq!(size_of::<FlagSlot>() + size_of::<crate::text::Text>(), 64);
    }
}
