//! `segment add` and `segment remove`: single units on a segment's lists.

use std::collections::BTreeSet;

use super::put::segment_bytes;
use super::view::View;
use super::{Draft, EditError, SegmentList, Severity, sentence};
use crate::definition::SegmentDefinition;
use crate::entry::{EntryId, EntryWrite};
use crate::key::SegmentKey;
use crate::limits;
use crate::problem::{Problem, Problems};

/// Drafts that units are on a list.
pub(super) fn add(
    before: &View<'_>,
    key: &SegmentKey,
    units: &[String],
    list: SegmentList,
) -> Result<Draft, EditError> {
    let live = before.known_segment(key)?;
    check_units(key, units, list)?;
    let mut wanted = listed(live, list);
    let already = wanted.len();
    let asked: BTreeSet<&str> = units.iter().map(String::as_str).collect();
    wanted.extend(asked.iter().copied());
    let added = wanted.len() - already;
    let mut draft = Draft::default();
    let there = asked.len() - added;
    if there > 0 {
        let was = if there == 1 { "was" } else { "were" };
        let text = format!("{added} added, {there} {was} there already");
        draft.note(Severity::Info, EntryId::segment(key), text);
    }
    let barred: Vec<&str> = match list {
        SegmentList::Include => {
            live.exclude.iter().map(|unit| &**unit).filter(|unit| asked.contains(unit)).collect()
        }
        SegmentList::Exclude => Vec::new(),
    };
    if !barred.is_empty() {
        let text = format!("on `exclude` too, and so out all the same: {}", sentence::list(&barred));
        draft.note(Severity::Warning, EntryId::segment(key), text);
    }
    write(key, live, list, &wanted, &mut draft)?;
    Ok(draft)
}

/// Drafts that units are not on a list.
pub(super) fn remove(
    before: &View<'_>,
    key: &SegmentKey,
    units: &[String],
    list: SegmentList,
) -> Result<Draft, EditError> {
    let live = before.known_segment(key)?;
    let mut wanted = listed(live, list);
    let asked: BTreeSet<&str> = units.iter().map(String::as_str).collect();
    let absent: Vec<&str> = asked.iter().copied().filter(|unit| !wanted.remove(unit)).collect();
    let mut draft = Draft::default();
    if !absent.is_empty() {
        let removed = asked.len() - absent.len();
        let text = format!("{removed} removed; not on the list: {}", sentence::list(&absent));
        draft.note(Severity::Info, EntryId::segment(key), text);
    }
    write(key, live, list, &wanted, &mut draft)?;
    Ok(draft)
}

fn listed(definition: &SegmentDefinition, list: SegmentList) -> BTreeSet<&str> {
    let units = match list {
        SegmentList::Include => &definition.include,
        SegmentList::Exclude => &definition.exclude,
    };
    units.iter().map(|unit| &**unit).collect()
}

fn write(
    key: &SegmentKey,
    live: &SegmentDefinition,
    list: SegmentList,
    wanted: &BTreeSet<&str>,
    draft: &mut Draft,
) -> Result<(), EditError> {
    if wanted.len() > limits::SEGMENT_UNITS_MAX {
        let most = limits::SEGMENT_UNITS_MAX;
        let message = format!("a list has at most {most} units; this makes {}", wanted.len());
        let problem = Problem::new(path(key, list), message)
            .hint("use an attribute and a condition, or another segment");
        return Err(EditError::Invalid(vec![problem]));
    }
    let mut definition = live.clone();
    let units = wanted.iter().map(|unit| Box::from(*unit)).collect();
    match list {
        SegmentList::Include => definition.include = units,
        SegmentList::Exclude => definition.exclude = units,
    }
    draft.writes.push(EntryWrite::set(EntryId::segment(key), segment_bytes(key, &definition)));
    Ok(())
}

fn check_units(key: &SegmentKey, units: &[String], list: SegmentList) -> Result<(), EditError> {
    let mut problems = Problems::default();
    for unit in units {
        if unit.is_empty() {
            problems.push(Problem::new(path(key, list), "a unit must not be empty"));
        } else if unit.len() > limits::UNIT_MAX_BYTES {
            let (most, bytes) = (limits::UNIT_MAX_BYTES, unit.len());
            let message = format!("a unit has at most {most} bytes; one of these has {bytes}");
            problems.push(Problem::new(path(key, list), message));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(EditError::Invalid(problems.into_vec())) }
}

fn path(key: &SegmentKey, list: SegmentList) -> String {
    match list {
        SegmentList::Include => format!("segments.{key}.include"),
        SegmentList::Exclude => format!("segments.{key}.exclude"),
    }
}
