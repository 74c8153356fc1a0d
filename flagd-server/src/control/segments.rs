//! Segments as people speak of them: with whole lists, and with what happened to a list told as units.
//!
//! A long list is stored in parts, which are entries of their own. They come after the segment's definition in every
//! change that touches them, and nobody outside of the store, the stream and this file is shown one.

use std::collections::HashMap;

use flagd_core::definition::{SegmentDefinition, SegmentList, Units};
use flagd_core::edit::PartDifference;
use flagd_core::entry::EntryId;
use flagd_core::key::SegmentKey;
use flagd_core::part::{self, PartName};
use flagd_core::state::State;

use super::definitions::read_segment;

/// A segment's definition from its stored bytes, with the lists that the state has in parts; or the first reason why it
/// is not understood.
pub(super) fn read_whole_segment(
    state: &State,
    key: &str,
    bytes: &[u8],
) -> Result<(SegmentKey, SegmentDefinition), String> {
    let (key, definition) = read_segment(key, bytes)?;
    let parts = |list| {
        let stored = state.parts_of(key.as_str(), list);
        stored.map(|(number, _, entry)| (number, &*entry.bytes)).collect()
    };
    let whole = part::whole(definition, parts)?;
    Ok((key, whole))
}

/// How many units a list has.
pub(super) fn count(state: &State, key: &str, definition: &SegmentDefinition, list: SegmentList) -> u32 {
    let units = match definition.units(list) {
        Units::Listed(units) => units.len(),
        Units::InParts => state.parts_of(key, list).map(|(_, _, entry)| part::count(&entry.bytes)).sum(),
    };
    u32::try_from(units).unwrap_or(u32::MAX)
}

/// Parts that differ, by the segment that they are part of.
pub(super) type PartDifferences<'b> = HashMap<EntryId, Vec<PartDifference<'b>>>;

/// Of entries, each with its bytes before and after, those that are parts.
pub(super) fn parts_among<'b>(
    entries: impl IntoIterator<Item = (&'b EntryId, Option<&'b [u8]>, Option<&'b [u8]>)>,
) -> PartDifferences<'b> {
    let mut found = PartDifferences::new();
    for (id, before, after) in entries {
        if let Some(PartName { segment, list, .. }) = PartName::of(id) {
            let part = PartDifference { list, before, after };
            found.entry(EntryId::segment(&segment)).or_default().push(part);
        }
    }
    found
}
