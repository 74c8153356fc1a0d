//! Who uses whom: flags that require a flag, flags and segments that use a segment.
//!
//! A definition names what it uses; the reverse is asked when something changes. No index is kept: the stored
//! text of a definition that uses `x` contains `"x"`, and looking for that in all texts is fast enough even for
//! 100,000 of them, while parsing them all is not.

use std::collections::BTreeSet;

use super::view::View;
use crate::definition::{FlagDefinition, SegmentDefinition};
use crate::entry::{EntryKind, EntryWrite};
use crate::key::{FlagKey, SegmentKey};

/// With more keys than this, parsing every definition is cheaper than looking for each key.
const NEEDLES_MAX: usize = 16;

/// Flags and segments, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) flags: BTreeSet<FlagKey>,
    pub(super) segments: BTreeSet<SegmentKey>,
}

impl Keys {
    pub(super) fn is_empty(&self) -> bool {
        self.flags.is_empty() && self.segments.is_empty()
    }

    /// The definitions that these writes touch.
    pub(super) fn written(writes: &[EntryWrite]) -> Keys {
        let mut keys = Keys::default();
        for write in writes {
            match write.id.kind {
                EntryKind::FLAG => keys.flags.extend(FlagKey::new(&write.id.key).ok()),
                EntryKind::SEGMENT => keys.segments.extend(SegmentKey::new(&write.id.key).ok()),
                _ => {}
            }
        }
        keys
    }
}

/// The definitions that use one of `used` directly.
pub(super) fn direct_users(view: &View<'_>, used: &Keys) -> Keys {
    let mut users = Keys::default();
    if used.is_empty() {
        return users;
    }
    let needles: Vec<String> = used
        .flags
        .iter()
        .map(FlagKey::as_str)
        .chain(used.segments.iter().map(SegmentKey::as_str))
        .map(|key| format!("\"{key}\""))
        .collect();
    for (key, bytes) in view.entries(EntryKind::FLAG) {
        if mentions(bytes, &needles)
            && let Some(Ok(definition)) = view.read_flag(key)
            && flag_uses(definition, used)
        {
            users.flags.extend(FlagKey::new(key).ok());
        }
    }
    for (key, bytes) in view.entries(EntryKind::SEGMENT) {
        if mentions(bytes, &needles)
            && let Some(Ok(definition)) = view.read_segment(key)
            && segment_uses(definition, used)
        {
            users.segments.extend(SegmentKey::new(key).ok());
        }
    }
    users
}

/// The definitions that use one of `used` directly or through others, without `used` themselves.
pub(super) fn all_users(view: &View<'_>, used: &Keys) -> Keys {
    let mut found = Keys::default();
    let mut next = direct_users(view, used);
    loop {
        next.flags.retain(|key| !found.flags.contains(key) && !used.flags.contains(key));
        next.segments.retain(|key| !found.segments.contains(key) && !used.segments.contains(key));
        if next.is_empty() {
            return found;
        }
        found.flags.extend(next.flags.iter().cloned());
        found.segments.extend(next.segments.iter().cloned());
        next = direct_users(view, &next);
    }
}

/// The flags whose answers may depend on one of these segments.
pub(super) fn flags_using_segments(view: &View<'_>, segments: BTreeSet<SegmentKey>) -> BTreeSet<FlagKey> {
    let mut segments = Keys { flags: BTreeSet::new(), segments };
    let mut flags = BTreeSet::new();
    let mut frontier = segments.clone();
    while !frontier.is_empty() {
        let users = direct_users(view, &frontier);
        flags.extend(users.flags);
        frontier = Keys { flags: BTreeSet::new(), segments: &users.segments - &segments.segments };
        segments.segments.extend(frontier.segments.iter().cloned());
    }
    flags
}

fn mentions(bytes: &[u8], needles: &[String]) -> bool {
    if needles.len() > NEEDLES_MAX {
        return true;
    }
    // Bytes that are not text cannot be parsed either; the parser says so.
    std::str::from_utf8(bytes)
        .map_or(true, |text| needles.iter().any(|needle| text.contains(needle.as_str())))
}

fn flag_uses(definition: &FlagDefinition, used: &Keys) -> bool {
    definition.requires.iter().any(|requirement| used.flags.contains(&requirement.flag))
        || definition.segments().into_iter().any(|segment| used.segments.contains(segment))
}

fn segment_uses(definition: &SegmentDefinition, used: &Keys) -> bool {
    definition.segments().into_iter().any(|segment| used.segments.contains(segment))
}
