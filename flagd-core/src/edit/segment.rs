//! `segment add` and `segment remove`: single units on a segment's lists.

use std::collections::BTreeSet;

use super::lists::{OpenList, path};
use super::view::View;
use super::{Draft, EditError, SegmentList, Severity, sentence};
use crate::entry::EntryId;
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
    let asked: BTreeSet<&str> = units.iter().map(String::as_str).collect();
    let mut open = OpenList::new(before, key, live, list, &asked)?;
    let added = asked.iter().filter(|unit| open.insert(unit)).count();
    let mut draft = Draft::default();
    let there = asked.len() - added;
    if there > 0 {
        let was = if there == 1 { "was" } else { "were" };
        let text = format!("{added} added, {there} {was} there already");
        draft.note(Severity::Info, EntryId::segment(key), text);
    }
    if list == SegmentList::Include {
        let mut excluded = OpenList::new(before, key, live, SegmentList::Exclude, &asked)?;
        let barred: Vec<&str> = asked.iter().copied().filter(|unit| excluded.contains(unit)).collect();
        if !barred.is_empty() {
            let text = format!("on `exclude` too, and so out all the same: {}", sentence::list(&barred));
            draft.note(Severity::Warning, EntryId::segment(key), text);
        }
    }
    open.draft(&mut draft)?;
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
    let asked: BTreeSet<&str> = units.iter().map(String::as_str).collect();
    let mut open = OpenList::new(before, key, live, list, &asked)?;
    let absent: Vec<&str> = asked.iter().copied().filter(|unit| !open.remove(unit)).collect();
    let mut draft = Draft::default();
    if !absent.is_empty() {
        let removed = asked.len() - absent.len();
        let text = format!("{removed} removed; not on the list: {}", sentence::list(&absent));
        draft.note(Severity::Info, EntryId::segment(key), text);
    }
    open.draft(&mut draft)?;
    Ok(draft)
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
