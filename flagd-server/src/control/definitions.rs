//! Reads definitions out of a state for people: by name, also of archived ones, and who uses whom.

use std::collections::BTreeSet;

use flagd_core::definition::{FlagDefinition, SegmentDefinition, parse_flag, parse_segment, parse_tombstone};
use flagd_core::entry::{EntryId, EntryKind};
use flagd_core::key::{FlagKey, SegmentKey};
use flagd_core::state::State;

use super::request::Name;

/// A flag's definition from its stored bytes, or the first reason why it is not understood.
pub(super) fn read_flag(key: &str, bytes: &[u8]) -> Result<(FlagKey, FlagDefinition), String> {
    let key = FlagKey::new(key).map_err(|error| error.to_string())?;
    let definition = parse_flag(&key, text(bytes)?).map_err(|problems| first(&problems))?;
    Ok((key, definition))
}

/// A segment's definition from its stored bytes, or the first reason why it is not understood.
pub(super) fn read_segment(key: &str, bytes: &[u8]) -> Result<(SegmentKey, SegmentDefinition), String> {
    let key = SegmentKey::new(key).map_err(|error| error.to_string())?;
    let definition = parse_segment(&key, text(bytes)?).map_err(|problems| first(&problems))?;
    Ok((key, definition))
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|error| error.to_string())
}

fn first(problems: &[flagd_core::problem::Problem]) -> String {
    problems.first().map(ToString::to_string).unwrap_or_default()
}

/// The flags and segments that use an entry directly: keys of flags, then `segment KEY`.
pub(super) fn users(state: &State, target: &Name) -> Vec<String> {
    // The stored text of a definition that uses `x` holds `"x"`; looking for that is much cheaper than reading all.
    let needle = match target {
        Name::Flag(key) => format!("\"{key}\""),
        Name::Segment(key) => format!("\"{key}\""),
    };
    let mentions = |bytes: &[u8]| contains(bytes, needle.as_bytes());
    let mut users = Vec::new();
    for (id, entry) in state.entries_of(EntryKind::FLAG).filter(|(_, entry)| mentions(&entry.bytes)) {
        let Ok((_, definition)) = read_flag(&id.key, &entry.bytes) else { continue };
        let matched = match target {
            Name::Flag(key) => definition.requires.iter().any(|requirement| requirement.flag == *key),
            Name::Segment(key) => definition.segments().contains(&key),
        };
        if matched {
            users.push(id.key.to_string());
        }
    }
    let Name::Segment(key) = target else { return users };
    for (id, entry) in state.entries_of(EntryKind::SEGMENT).filter(|(_, entry)| mentions(&entry.bytes)) {
        if read_segment(&id.key, &entry.bytes)
            .is_ok_and(|(_, definition)| definition.segments().contains(&key))
        {
            users.push(format!("segment {}", id.key));
        }
    }
    users
}

fn contains(text: &[u8], needle: &[u8]) -> bool {
    text.windows(needle.len()).any(|window| window == needle)
}

/// Every entry whose changes belong to the history of a flag or a segment: its own, and those of every segment and
/// flag that it uses now, directly or through others.
pub(super) fn related(state: &State, name: &Name) -> BTreeSet<EntryId> {
    let mut found = BTreeSet::new();
    let mut next = vec![name.clone()];
    while let Some(name) = next.pop() {
        if !found.insert(name.entry()) {
            continue;
        }
        found.insert(name.tombstone());
        match &name {
            Name::Flag(key) => {
                found.insert(EntryId::kill(key));
                let Some(definition) = live_or_archived(state, key) else { continue };
                next.extend(
                    definition.requires.iter().map(|requirement| Name::Flag(requirement.flag.clone())),
                );
                next.extend(definition.segments().into_iter().cloned().map(Name::Segment));
            }
            Name::Segment(key) => {
                let stored = state.get(&name.entry()).or_else(|| state.get(&name.tombstone()));
                let Some(Ok((_, definition))) = stored.map(|entry| read_segment(key.as_str(), &entry.bytes))
                else {
                    continue;
                };
                next.extend(definition.segments().into_iter().cloned().map(Name::Segment));
            }
        }
    }
    found
}

fn live_or_archived(state: &State, key: &FlagKey) -> Option<FlagDefinition> {
    if let Some(entry) = state.get(&EntryId::flag(key)) {
        return read_flag(key.as_str(), &entry.bytes).ok().map(|(_, definition)| definition);
    }
    let tombstone = parse_tombstone(&state.get(&EntryId::tombstone(key))?.bytes)?;
    parse_flag(key, &tombstone.definition).ok()
}
