//! `enable` and `disable`: whether a flag's rules are looked at.

use super::put::{flag_bytes, note_kill};
use super::view::View;
use super::{Checks, Draft, EditError, Followers, Severity};
use crate::definition::Switch;
use crate::entry::{EntryId, EntryWrite};
use crate::key::FlagKey;

/// Drafts that the rules are looked at again.
pub(super) fn enable(before: &View<'_>, key: &FlagKey) -> Result<Draft, EditError> {
    let mut draft = turn(before, key, Switch::Enabled, Checks::Whole)?;
    if let Some(kill) = before.kill(key.as_str()) {
        let text = format!(
            "`{key}` stays off: {} killed it at {}; `flagctl revive {key}` lifts that",
            kill.by, kill.at
        );
        draft.note(Severity::Warning, EntryId::flag(key), text);
    }
    Ok(draft)
}

/// Drafts that everybody is served the off variant.
pub(super) fn disable(before: &View<'_>, key: &FlagKey) -> Result<Draft, EditError> {
    let mut draft = turn(before, key, Switch::Disabled, Checks::None)?;
    note_kill(before, key, &mut draft);
    Ok(draft)
}

fn turn(before: &View<'_>, key: &FlagKey, switch: Switch, checks: Checks) -> Result<Draft, EditError> {
    let live = before.known_flag(key)?;
    let mut draft = Draft { checks, followers: Followers::All, ..Draft::default() };
    if live.switch == switch {
        let word = match switch {
            Switch::Enabled => "enabled",
            Switch::Disabled => "disabled",
        };
        draft.note(Severity::Info, EntryId::flag(key), format!("`{key}` is {word} already"));
        return Ok(draft);
    }
    let mut definition = live.clone();
    definition.switch = switch;
    draft.writes.push(EntryWrite::set(EntryId::flag(key), flag_bytes(key, &definition)));
    Ok(draft)
}
