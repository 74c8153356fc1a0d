//! What a flag serves, in the few words that fit a column of a list.

use flagd_core::canonical::percent;
use flagd_core::definition::{FlagDefinition, Kill, Layout, Serve, Split, Switch};
use flagd_core::key::VariantName;
use flagd_core::split;

use super::error::counted;

/// `on 25 %`, `2 rules, otherwise off`; only the off variant where the rules are not looked at.
pub(super) fn serves(definition: &FlagDefinition) -> String {
    let off = &definition.off_variant;
    if definition.switch == Switch::Disabled {
        return off.to_string();
    }
    let otherwise = serve(&definition.otherwise, off);
    match definition.rules.len() {
        0 => otherwise,
        rules => format!("{}, otherwise {otherwise}", counted(rules, "rule")),
    }
}

/// What a killed flag serves.
pub(super) fn serves_killed(kill: &Kill) -> String {
    match (&kill.off_variant, &kill.value) {
        (Some(variant), _) => variant.to_string(),
        (None, Some(value)) => value.to_string(),
        (None, None) => "the caller's default".to_owned(),
    }
}

fn serve(serve: &Serve, off: &VariantName) -> String {
    let Split { layout, by } = match serve {
        Serve::Variant(variant) => return variant.to_string(),
        Serve::Split(split) => split,
    };
    let mut shares = match layout {
        Layout::Shares(shares) => shares.clone(),
        Layout::Stretches(stretches) => split::shares(stretches),
    };
    shares.retain(|_, share| share.0 > 0);
    // The rest is the off variant's; saying so would cost the column half its width.
    if shares.len() > 1 {
        shares.remove(off);
    }
    let parts: Vec<String> =
        shares.iter().map(|(variant, share)| format!("{variant} {} %", percent(*share))).collect();
    let by = by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    format!("{}{by}", parts.join(", "))
}
