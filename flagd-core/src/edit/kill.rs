//! `kill` and `revive`: the entry that forces a flag to its off variant, above everything else.
//!
//! A kill must get through whatever else is wrong: it expects nothing, checks nothing, and reads the definition
//! leniently. A definition that this server does not understand is killed all the same; the off variant's name
//! and value are then taken from where any definition has them, or left out.

use serde_json::Value;

use super::finish::guarded;
use super::view::View;
use super::{Author, Checks, Draft, EditError, Followers, Severity, sentence};
use crate::canonical::write_kill;
use crate::definition::Kill;
use crate::entry::{EntryId, EntryKind, EntryWrite};
use crate::key::{FlagKey, VariantName};

/// Drafts the kills of those flags that exist.
pub(super) fn kill(before: &View<'_>, keys: &[FlagKey], author: &Author) -> Result<Draft, EditError> {
    let mut draft = Draft { checks: Checks::None, followers: Followers::All, ..Draft::default() };
    let known = |key: &FlagKey| before.bytes(&EntryId::flag(key)).is_some();
    for key in existing(before, keys, known, &mut draft)? {
        if let Some(kill) = before.kill(key.as_str()) {
            let text = format!("`{key}` was killed already, by {} at {}", kill.by, kill.at);
            draft.note(Severity::Info, EntryId::flag(key), text);
            continue;
        }
        let (off_variant, value) = guarded(|| off_variant(before, key)).unwrap_or_default();
        let Author { actor, reason, now } = author;
        let kill = Kill { off_variant, value, by: actor.clone(), at: *now, reason: reason.clone() };
        draft.writes.push(EntryWrite::set(EntryId::kill(key), write_kill(&kill).into_bytes()));
    }
    Ok(draft)
}

/// Drafts that kills are lifted.
pub(super) fn revive(before: &View<'_>, keys: &[FlagKey]) -> Result<Draft, EditError> {
    let mut draft = Draft { checks: Checks::None, followers: Followers::All, ..Draft::default() };
    let known = |key: &FlagKey| {
        before.bytes(&EntryId::flag(key)).is_some() || before.bytes(&EntryId::kill(key)).is_some()
    };
    for key in existing(before, keys, known, &mut draft)? {
        if before.is_killed(key.as_str()) {
            draft.writes.push(EntryWrite::remove(EntryId::kill(key)));
        } else {
            draft.note(Severity::Info, EntryId::flag(key), format!("`{key}` is not killed"));
        }
    }
    Ok(draft)
}

/// The keys that exist, each once; notes the others. None at all is an error.
fn existing<'k>(
    before: &View<'_>,
    keys: &'k [FlagKey],
    known: impl Fn(&FlagKey) -> bool,
    draft: &mut Draft,
) -> Result<Vec<&'k FlagKey>, EditError> {
    let mut found: Vec<&FlagKey> = Vec::new();
    let mut missing: Vec<&FlagKey> = Vec::new();
    for key in keys {
        let list = if known(key) { &mut found } else { &mut missing };
        if !list.contains(&key) {
            list.push(key);
        }
    }
    if let (true, Some(first)) = (found.is_empty(), missing.first()) {
        return Err(before.unknown(EntryId::flag(first)));
    }
    for key in missing {
        let id = EntryId::flag(key);
        let archived = before.bytes(&EntryId::tombstone(key)).is_some();
        let nearest = before.nearest(&id);
        let text = match nearest.first() {
            _ if archived => format!("`{key}` is archived: nobody is served it"),
            Some(near) => format!("no flag `{key}`; did you mean `{near}`?"),
            None => format!("no flag `{key}`"),
        };
        draft.note(Severity::Missing, id, text);
    }
    if found.is_empty() {
        return Err(EditError::Refused("name at least one flag".to_owned()));
    }
    Ok(found)
}

/// The off variant and its value, as well as they can be told.
fn off_variant(before: &View<'_>, key: &FlagKey) -> (Option<VariantName>, Option<Value>) {
    match before.read_flag(key.as_str()) {
        Some(Ok(definition)) => {
            let off = definition.off_variant.clone();
            let value = definition.variants.get(&off).cloned();
            (Some(off), value)
        }
        Some(Err(_)) => {
            before.bytes(&EntryId::flag(key)).map_or((None, None), |bytes| guess_off_variant(bytes))
        }
        None => (None, None),
    }
}

/// Looks only at `offVariant` and `variants`, with the defaults that every level of the language has.
fn guess_off_variant(bytes: &[u8]) -> (Option<VariantName>, Option<Value>) {
    let Ok(Value::Object(members)) = serde_json::from_slice::<Value>(bytes) else { return (None, None) };
    let name = match members.get("offVariant") {
        None => Some("off"),
        Some(name) => name.as_str(),
    };
    let Some(name) = name.and_then(|name| VariantName::new(name).ok()) else { return (None, None) };
    let value = match members.get("variants") {
        None if name.as_str() == "off" => Some(Value::Bool(false)),
        None => None,
        Some(variants) => variants.get(name.as_str()).cloned(),
    };
    // A name without a value that stands in the definition may be a guess too many.
    match value {
        Some(value) if !value.is_null() => (Some(name), Some(value)),
        _ if members.contains_key("offVariant") => (Some(name), None),
        _ => (None, None),
    }
}

/// What a killed flag serves: `off = false`.
pub(super) fn served_while_killed(view: &View<'_>, key: &str) -> String {
    let bytes = view.bytes(&EntryId::new(EntryKind::KILL, key));
    match bytes.and_then(|_| view.kill(key)) {
        Some(Kill { off_variant: Some(name), value, .. }) => {
            sentence::variant_and_value(&name, value.as_ref())
        }
        _ => "the caller's default".to_owned(),
    }
}
