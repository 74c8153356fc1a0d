//! Eppo's core, which its SDKs evaluate with.
//!
//! It has no segments: the members stand in the rule as a list of ids. Allocations are marked as not to be logged,
//! which spares the event.

use std::sync::Arc;

use eppo_core::configuration_store::ConfigurationStore;
use eppo_core::eval::{Evaluator, EvaluatorConfig};
use eppo_core::ufc::{AssignmentValue, UniversalFlagConfig, VariationType};
use eppo_core::{Attributes, Configuration, SdkMetadata, Str};
use serde_json::{Map, Value, json};

use crate::engine::{Candidate, Change, Definitions, Engine, Failure, Loading, Source, Tally, Walk, letter};
use crate::spec::{COUNTRIES, Condition, Flag, Kind, LETTERS, Rule, Serve, Spec, User, VERSION};

pub(super) const CANDIDATE: Candidate = Candidate {
    name: "eppo_core",
    package: "eppo_core",
    called: "`Evaluator::get_assignment`; nothing logged",
    loading: Loading::Compiles,
    change: Change::Reload,
    source: Source::Text,
    definitions,
    load,
};

const SHARDS: u32 = 10_000;

struct Eppo {
    evaluator: Evaluator,
    subjects: Vec<(Str, Arc<Attributes>)>,
}

fn definitions(spec: &Spec) -> String {
    let flags: Map<String, Value> =
        spec.flags.iter().map(|flag| (flag.name.clone(), their_flag(flag, spec))).collect();
    let document = json!({
        "createdAt": "2026-01-01T00:00:00.000Z", "format": "SERVER", "environment": {"name": "peers"},
        "flags": flags, "bandits": {},
    });
    document.to_string()
}

fn their_flag(flag: &Flag, spec: &Spec) -> Value {
    let mut allocations: Vec<Value> =
        flag.rules.iter().enumerate().map(|(at, rule)| allocation(flag, at, rule, spec)).collect();
    let everybody = Rule { conditions: Vec::new(), serve: flag.otherwise };
    allocations.push(allocation(flag, flag.rules.len(), &everybody, spec));
    let variation = |key: &str, value: Value| (key.to_owned(), json!({"key": key, "value": value}));
    let (kind, variations): (&str, Map<String, Value>) = match flag.kind() {
        Kind::Boolean => {
            ("BOOLEAN", Map::from_iter([variation("on", json!(true)), variation("off", json!(false))]))
        }
        Kind::Letter => ("STRING", LETTERS.iter().map(|name| variation(name, json!(name))).collect()),
    };
    json!({
        "key": flag.name, "enabled": true, "variationType": kind, "variations": variations,
        "allocations": allocations, "totalShards": SHARDS,
    })
}

fn allocation(flag: &Flag, at: usize, rule: &Rule, spec: &Spec) -> Value {
    let conditions: Vec<Value> = rule.conditions.iter().map(|it| condition(it, spec)).collect();
    let rules = if conditions.is_empty() { json!([]) } else { json!([{"conditions": conditions}]) };
    json!({"key": format!("a{at}"), "rules": rules, "splits": splits(flag, rule.serve), "doLog": false})
}

fn condition(condition: &Condition, spec: &Spec) -> Value {
    let one_of = |attribute: &str, values: Value| json!({"attribute": attribute, "operator": "ONE_OF", "value": values});
    match condition {
        Condition::Equals { attribute, text } => one_of(attribute, json!([text])),
        Condition::InCountries { attribute } => one_of(attribute, json!(COUNTRIES)),
        Condition::VersionAtLeast { attribute } => {
            json!({"attribute": attribute, "operator": "GTE", "value": VERSION})
        }
        // Every subject has its key as this attribute.
        Condition::Member => one_of("id", json!(spec.members)),
    }
}

fn splits(flag: &Flag, serve: Serve) -> Value {
    let whole = |variation: &str| json!([{"variationKey": variation, "shards": []}]);
    let part = |variation: &str, start: u32, end: u32| {
        let shard = json!({"salt": flag.name, "ranges": [{"start": start, "end": end}]});
        json!({"variationKey": variation, "shards": [shard]})
    };
    match serve {
        Serve::On => whole("on"),
        Serve::Off => whole("off"),
        Serve::Share(share) => {
            let border = share * (SHARDS / 100);
            json!([part("on", 0, border), part("off", border, SHARDS)])
        }
        Serve::FourWays => {
            let borders = (0_u32..).map(|at| at * (SHARDS / 4));
            let parts = LETTERS.iter().zip(borders);
            parts.map(|(name, start)| part(name, start, start + SHARDS / 4)).collect()
        }
    }
}

fn load(definitions: &Definitions) -> Result<Box<dyn Engine>, Failure> {
    let sdk_metadata = SdkMetadata { name: "peers", version: "0" };
    let text = definitions.text.clone().into_bytes();
    let flags = UniversalFlagConfig::from_json(sdk_metadata, text).map_err(Failure::definitions)?;
    let configuration_store = Arc::new(ConfigurationStore::new());
    configuration_store.set_configuration(Arc::new(Configuration::from_server_response(flags, None)));
    let evaluator = Evaluator::new(EvaluatorConfig { configuration_store, sdk_metadata });
    Ok(Box::new(Eppo { evaluator, subjects: Vec::new() }))
}

impl Eppo {
    #[inline]
    fn value(&self, flag: &str, user: usize, kind: VariationType) -> Option<AssignmentValue> {
        let (key, attributes) = self.subjects.get(user)?;
        Some(self.evaluator.get_assignment(flag, key, attributes, Some(kind)).ok()??.value)
    }
}

impl Engine for Eppo {
    fn meet(&mut self, users: &[User]) {
        let subject = |user: &User| {
            let attributes = user.attributes.iter();
            let attributes = attributes.map(|(name, text)| (Str::from(*name), text.as_str().into()));
            (Str::from(user.id.as_str()), Arc::new(attributes.collect::<Attributes>()))
        };
        self.subjects = users.iter().map(subject).collect();
    }

    fn walk(&self, walk: &Walk<'_>) -> Tally {
        walk.tally(
            |flag, user| {
                matches!(self.value(flag, user, VariationType::Boolean), Some(AssignmentValue::Boolean(true)))
            },
            |flag, user| match self.value(flag, user, VariationType::String) {
                Some(AssignmentValue::String(text)) => letter(text.as_str()),
                _ => None,
            },
        )
    }
}
