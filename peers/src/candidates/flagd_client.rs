//! flagd's SDK: `Client::is_enabled` and `Client::string`, with and without a snapshot for the request.
//!
//! The client is embedded: it checks a document of definitions as the server would, and needs no server. Its feed's
//! changes are the core's and one swap of a pointer, so they are measured there.

use std::collections::BTreeMap;

use flagd_client::{Client, Context};
use serde_json::{Value, json};

use super::flagd_core;
use crate::engine::{Candidate, Change, Definitions, Engine, Failure, Loading, Source, Tally, Walk, letter};
use crate::spec::{COUNTRIES, Condition, Flag, Kind, LETTERS, Rule, SEGMENT, Serve, Spec, User, VERSION};

pub(super) const CANDIDATE: Candidate = Candidate {
    name: "flagd-client",
    package: "flagd-client",
    called: "`Client::is_enabled`, `Client::string` (a copy)",
    loading: Loading::Compiles,
    change: Change::Reload,
    source: Source::Text,
    definitions,
    load,
};

pub(super) const SNAPSHOT: Candidate = Candidate {
    name: "flagd-client, one snapshot a request",
    called: "`Snapshot::is_enabled`, `Snapshot::str` (borrowed)",
    load: load_for_snapshots,
    ..CANDIDATE
};

struct Embedded {
    client: Client,
    contexts: Vec<Context>,
}

struct OfSnapshots(Embedded);

/// `{"flags": {...}, "segments": {...}}`.
pub(super) fn definitions(spec: &Spec) -> String {
    let flags: BTreeMap<&str, Value> =
        spec.flags.iter().map(|flag| (flag.name.as_str(), definition(flag))).collect();
    let mut segments = BTreeMap::new();
    if !spec.members.is_empty() {
        segments.insert(SEGMENT, json!({"include": spec.members}));
    }
    json!({"flags": flags, "segments": segments}).to_string()
}

/// One flag in flagd's language.
pub(super) fn definition(flag: &Flag) -> Value {
    let rules: Vec<Value> = flag.rules.iter().enumerate().map(rule).collect();
    match flag.kind() {
        Kind::Boolean if rules.is_empty() => json!({"otherwise": serve(flag.otherwise)}),
        Kind::Boolean => json!({"rules": rules, "otherwise": serve(flag.otherwise)}),
        Kind::Letter => {
            let variants: BTreeMap<&str, &str> = LETTERS.into_iter().map(|name| (name, name)).collect();
            json!({"variants": variants, "offVariant": "d", "otherwise": serve(flag.otherwise)})
        }
    }
}

fn rule((at, rule): (usize, &Rule)) -> Value {
    let conditions: Vec<Value> = rule.conditions.iter().map(condition).collect();
    let all = match conditions.as_slice() {
        [one] => one.clone(),
        all => json!({"all": all}),
    };
    json!({"name": format!("r{at}"), "if": all, "serve": serve(rule.serve)})
}

fn condition(condition: &Condition) -> Value {
    match condition {
        Condition::Equals { attribute, text } => json!({"attribute": attribute, "equals": text}),
        Condition::InCountries { attribute } => json!({"attribute": attribute, "in": COUNTRIES}),
        Condition::VersionAtLeast { attribute } => {
            json!({"attribute": attribute, "semver": format!(">={VERSION}")})
        }
        Condition::Member => json!({"segment": SEGMENT}),
    }
}

fn serve(serve: Serve) -> Value {
    match serve {
        Serve::On => json!("on"),
        Serve::Off => json!("off"),
        Serve::Share(share) => json!({"split": [{"on": share}, {"off": 100 - share}]}),
        Serve::FourWays => json!({"split": [{"a": 25}, {"b": 25}, {"c": 25}, {"d": 25}]}),
    }
}

fn embedded(definitions: &Definitions) -> Result<Embedded, Failure> {
    let client = Client::embedded(&definitions.text).map_err(Failure::definitions)?;
    Ok(Embedded { client, contexts: Vec::new() })
}

fn load(definitions: &Definitions) -> Result<Box<dyn Engine>, Failure> {
    Ok(Box::new(embedded(definitions)?))
}

fn load_for_snapshots(definitions: &Definitions) -> Result<Box<dyn Engine>, Failure> {
    Ok(Box::new(OfSnapshots(embedded(definitions)?)))
}

impl Engine for Embedded {
    fn meet(&mut self, users: &[User]) {
        self.contexts = flagd_core::contexts(users);
    }

    fn walk(&self, walk: &Walk<'_>) -> Tally {
        let context = |user: usize| self.contexts.get(user);
        walk.tally(
            |flag, user| context(user).is_some_and(|context| self.client.is_enabled(flag, context)),
            |flag, user| context(user).and_then(|context| letter(&self.client.string(flag, context, ""))),
        )
    }
}

impl Engine for OfSnapshots {
    fn meet(&mut self, users: &[User]) {
        self.0.meet(users);
    }

    fn walk(&self, walk: &Walk<'_>) -> Tally {
        let page = self.0.client.snapshot();
        let context = |user: usize| self.0.contexts.get(user);
        walk.tally(
            |flag, user| context(user).is_some_and(|context| page.is_enabled(flag, context)),
            |flag, user| context(user).and_then(|context| letter(page.str(flag, context, ""))),
        )
    }
}
