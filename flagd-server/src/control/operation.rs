//! How the history speaks of an operation: a word for code and a line for people.

use flagd_core::canonical::percent;
use flagd_core::edit::{PlaceChoice, PutMode, SegmentList};

use super::error::counted;
use super::request::{Name, Operation};

/// Longer lists of names are cut off.
const NAMES_MAX: usize = 5;

/// The word for code: `ramp`, `kill`, `rollback`.
pub(super) fn verb(operation: &Operation) -> &'static str {
    match operation {
        Operation::Put { mode: PutMode::Create, .. } => "create",
        Operation::Put { mode: PutMode::Replace, .. } => "edit",
        Operation::Put { mode: PutMode::CreateOrReplace, .. } => "import",
        Operation::Apply { .. } => "apply",
        Operation::Enable(_) => "enable",
        Operation::Disable(_) => "disable",
        Operation::Ramp { .. } => "ramp",
        Operation::Kill(_) => "kill",
        Operation::Revive(_) => "revive",
        Operation::Rollback { .. } => "rollback",
        Operation::SegmentAdd { .. } => "segment-add",
        Operation::SegmentRemove { .. } => "segment-remove",
        Operation::Archive(_) => "archive",
        Operation::Unarchive(_) => "unarchive",
    }
}

/// The line for people; `defined` names the definitions of the file, or the flags that were there to be killed.
pub(super) fn text(operation: &Operation, defined: &[String]) -> String {
    let verb = verb(operation);
    match operation {
        Operation::Put { .. } if defined.len() <= NAMES_MAX => format!("{verb} {}", defined.join(", ")),
        Operation::Put { .. } => format!("{verb} {}", counted(defined.len(), "definition")),
        Operation::Apply { source, .. } => {
            format!("apply {} from {source}", counted(defined.len(), "definition"))
        }
        Operation::Enable(flag) | Operation::Disable(flag) => format!("{verb} {flag}"),
        Operation::Ramp { flag, variant, share, place, from } => {
            let variant = variant.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
            let place = match place {
                PlaceChoice::Only => String::new(),
                PlaceChoice::Otherwise => " in otherwise".to_owned(),
                PlaceChoice::Rule(name) => format!(" in rule \"{name}\""),
            };
            let from = from.as_ref().map(|name| format!(" from {name}")).unwrap_or_default();
            format!("ramp {flag}{variant} to {} %{place}{from}", percent(*share))
        }
        Operation::Kill(_) if !defined.is_empty() => format!("{verb} {}", names(defined)),
        Operation::Kill(flags) | Operation::Revive(flags) => format!("{verb} {}", names(flags)),
        Operation::Rollback { flags, segments, to } => {
            let segments = segments.iter().map(|key| format!("segment {key}"));
            let all: Vec<String> = flags.iter().map(ToString::to_string).chain(segments).collect();
            let to = to.map(|to| format!(" to revision {to}")).unwrap_or_default();
            format!("rollback {}{to}", names(&all))
        }
        Operation::SegmentAdd { segment, units, list } => {
            format!("add {} to {}segment {segment}", counted(units.len(), "unit"), of_list(*list))
        }
        Operation::SegmentRemove { segment, units, list } => {
            format!("remove {} from {}segment {segment}", counted(units.len(), "unit"), of_list(*list))
        }
        Operation::Archive(name) | Operation::Unarchive(name) => match name {
            Name::Flag(key) => format!("{verb} {key}"),
            Name::Segment(key) => format!("{verb} segment {key}"),
        },
    }
}

fn of_list(list: SegmentList) -> &'static str {
    match list {
        SegmentList::Include => "",
        SegmentList::Exclude => "the exclude list of ",
    }
}

fn names<T: ToString>(all: &[T]) -> String {
    let shown: Vec<String> = all.iter().take(NAMES_MAX).map(ToString::to_string).collect();
    match all.len().saturating_sub(NAMES_MAX) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
