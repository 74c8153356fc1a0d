//! What a snapshot knows about one name.
//!
//! The short way of a flag lies here, beside its name, so that most flags are evaluated without looking anywhere
//! else. It is derived from the rest of the slot whenever that changes, so the rest may only be changed through
//! this file.

use std::sync::Arc;

use crate::definition::SegmentList;
use crate::part::PartNumber;

use super::compile::{Flag, Killed, Members, Segment};
use super::part::{Part, Parts};
use super::short::ShortWay;

/// What is known about a flag's name.
#[derive(Clone, Debug, Default)]
pub(super) struct FlagSlot {
    short: ShortWay,
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

    /// To be called when all parts of a change were set.
    pub(super) fn gather_parts(&mut self) {
        if let Some(parts) = &mut self.parts {
            Arc::make_mut(parts).gather();
        }
    }
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

    /// The short way to what it serves.
    #[inline]
    pub(super) fn short_way(&self) -> ShortWay {
        self.short
    }

    fn shorten(&mut self) {
        self.short = match &self.flag {
            Some(flag) if self.kill.is_none() => ShortWay::of(flag),
            _ => ShortWay::default(),
        };
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
