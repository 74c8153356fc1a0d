//! How an edit speaks of places, shares and values: short, and in the product's words.

use std::collections::BTreeMap;

use serde_json::Value;

use super::lay::stretches;
use crate::canonical::percent;
use crate::definition::{FlagDefinition, Place, Ppm, Serve};
use crate::key::{FlagKey, VariantName};
use crate::split;

/// Longer values are cut off in sentences.
const VALUE_MAX_CHARS: usize = 60;
/// Longer lists are cut off in sentences.
const LIST_MAX: usize = 5;

/// `rule "dach"`, or `otherwise`.
pub(super) fn place(place: Place<'_>) -> String {
    match place {
        Place::Rule(name) => format!("rule \"{name}\""),
        Place::Otherwise => "otherwise".to_owned(),
    }
}

/// `25 %`.
pub(super) fn share(ppm: Ppm) -> String {
    format!("{} %", percent(ppm))
}

/// What one place serves, without the off variant's part: `on`, `on 25 %`, `a 40 %, b 10 % by companyId`.
pub(super) fn serve(serve: &Serve, off_variant: &VariantName) -> String {
    let split = match serve {
        Serve::Variant(variant) => return variant.to_string(),
        Serve::Split(split) => split,
    };
    let mut shares: BTreeMap<VariantName, Ppm> = split::shares(&stretches(serve, off_variant));
    shares.retain(|_, ppm| ppm.0 > 0);
    if shares.len() > 1 {
        shares.remove(off_variant);
    }
    let parts: Vec<String> =
        shares.iter().map(|(variant, ppm)| format!("{variant} {}", share(*ppm))).collect();
    match &split.by {
        Some(by) => format!("{} by {by}", parts.join(", ")),
        None => parts.join(", "),
    }
}

/// What a flag serves while its rules are looked at: `rule "staff" on, otherwise on 25 %`.
pub(super) fn serves(definition: &FlagDefinition) -> String {
    let off = &definition.off_variant;
    let places: Vec<String> =
        definition.places().map(|(at, what)| format!("{} {}", place(at), serve(what, off))).collect();
    match places.as_slice() {
        [] => String::new(),
        [_] if matches!(&definition.otherwise, Serve::Variant(_)) => match &definition.otherwise {
            Serve::Variant(variant) => {
                format!("{} to everybody", variant_and_value(variant, definition.variants.get(variant)))
            }
            Serve::Split(_) => String::new(),
        },
        some => list(some),
    }
}

/// `off = false`.
pub(super) fn off(definition: &FlagDefinition) -> String {
    variant_and_value(&definition.off_variant, definition.variants.get(&definition.off_variant))
}

/// `off = false`, or only the name where the value is not known.
pub(super) fn variant_and_value(variant: &VariantName, value: Option<&Value>) -> String {
    let Some(value) = value else { return variant.to_string() };
    let text = value.to_string();
    if text.chars().count() <= VALUE_MAX_CHARS {
        return format!("{variant} = {text}");
    }
    let cut: String = text.chars().take(VALUE_MAX_CHARS).collect();
    format!("{variant} = {cut}...")
}

/// `a, b, c and 4 more`.
pub(super) fn list<T: AsRef<str>>(items: &[T]) -> String {
    let shown: Vec<&str> = items.iter().take(LIST_MAX).map(AsRef::as_ref).collect();
    match items.len().saturating_sub(LIST_MAX) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The keys of flags, each in backticks.
pub(super) fn flags<'k>(keys: impl IntoIterator<Item = &'k FlagKey>) -> String {
    list(&keys.into_iter().map(|key| format!("`{key}`")).collect::<Vec<_>>())
}

/// `1 unit`, `2 units`.
pub(super) fn counted(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// One word for a POSIX shell.
pub(super) fn shell_word(text: &str) -> String {
    let plain = |c: char| {
        c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | ':' | '/' | '+' | ',' | '=')
    };
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}
