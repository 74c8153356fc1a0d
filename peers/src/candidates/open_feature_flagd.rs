//! OpenFeature's own flagd: the in-process provider for Rust, reading a file, without its cache of answers.
//!
//! Its language has shared rules but no lists by name, so the members of the segment stand in the rule.

use open_feature::EvaluationContext;
use open_feature::provider::FeatureProvider;
use open_feature_flagd::{FlagdOptions, FlagdProvider, ResolverType};
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use crate::engine::{Candidate, Change, Definitions, Engine, Failure, Loading, Source, Tally, Walk, letter};
use crate::spec::{COUNTRIES, Condition, Flag, Kind, LETTERS, Serve, Spec, User, VERSION, with};

pub(super) const CANDIDATE: Candidate = Candidate {
    name: "OpenFeature flagd provider",
    package: "open-feature-flagd",
    called: "`resolve_bool_value`, `resolve_string_value`; file mode, no cache",
    loading: Loading::Parses,
    change: Change::Reload,
    source: Source::File,
    definitions,
    load,
};

/// What is hashed for a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// The flag's key and the targeting key, which the provider adds itself.
    Implied,
    /// The same, spelled out in the rule.
    Spelled,
}

struct InProcess {
    // Before the runtime: its tasks end with it.
    provider: FlagdProvider,
    runtime: Runtime,
    contexts: Vec<EvaluationContext>,
}

fn definitions(spec: &Spec) -> String {
    document(spec, Unit::Implied)
}

/// A document in the provider's language.
pub(super) fn document(spec: &Spec, unit: Unit) -> String {
    let flag = |flag: &Flag| (flag.name.clone(), their_flag(flag, &spec.members, unit));
    let flags: Map<String, Value> = spec.flags.iter().map(flag).collect();
    json!({"flags": flags}).to_string()
}

/// One flag in the provider's language.
pub(super) fn their_flag(flag: &Flag, members: &[String], unit: Unit) -> Value {
    let (variants, default): (Value, &str) = match flag.kind() {
        Kind::Boolean if flag.otherwise == Serve::On => (json!({"on": true, "off": false}), "on"),
        Kind::Boolean => (json!({"on": true, "off": false}), "off"),
        Kind::Letter => (LETTERS.iter().map(|name| ((*name).to_owned(), json!(name))).collect(), "d"),
    };
    let written = json!({"state": "ENABLED", "variants": variants, "defaultVariant": default});
    match targeting(flag, members, unit) {
        Some(targeting) => with(written, "targeting", targeting),
        None => written,
    }
}

fn targeting(flag: &Flag, members: &[String], unit: Unit) -> Option<Value> {
    if flag.rules.is_empty() {
        return match flag.otherwise {
            Serve::On | Serve::Off => None,
            split => Some(serve(flag, split, unit)),
        };
    }
    let mut chain = Vec::new();
    for rule in &flag.rules {
        let conditions: Vec<Value> = rule.conditions.iter().map(|it| condition(it, members)).collect();
        chain.push(match conditions.as_slice() {
            [one] => one.clone(),
            all => json!({"and": all}),
        });
        chain.push(serve(flag, rule.serve, unit));
    }
    chain.push(serve(flag, flag.otherwise, unit));
    Some(json!({"if": chain}))
}

fn condition(condition: &Condition, members: &[String]) -> Value {
    let attribute = |name: &str| json!({"var": name});
    match condition {
        Condition::Equals { attribute: name, text } => json!({"==": [attribute(name), text]}),
        Condition::InCountries { attribute: name } => json!({"in": [attribute(name), COUNTRIES]}),
        Condition::VersionAtLeast { attribute: name } => json!({"sem_ver": [attribute(name), ">=", VERSION]}),
        Condition::Member => json!({"in": [attribute("targetingKey"), members]}),
    }
}

fn serve(flag: &Flag, serve: Serve, unit: Unit) -> Value {
    let fractional = |mut parts: Vec<Value>| {
        if unit == Unit::Spelled {
            parts.insert(0, json!({"cat": [flag.name, {"var": "targetingKey"}]}));
        }
        json!({"fractional": parts})
    };
    match serve {
        Serve::On => json!("on"),
        Serve::Off => json!("off"),
        Serve::Share(share) => fractional(vec![json!(["on", share]), json!(["off", 100 - share])]),
        Serve::FourWays => fractional(LETTERS.iter().map(|name| json!([name, 25])).collect()),
    }
}

fn load(definitions: &Definitions) -> Result<Box<dyn Engine>, Failure> {
    let path = definitions.file.as_ref().map(|file| file.path().to_string_lossy().into_owned());
    let options = FlagdOptions {
        resolver_type: ResolverType::File,
        source_configuration: path,
        cache_settings: None,
        ..FlagdOptions::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let provider = runtime.block_on(FlagdProvider::new(options)).map_err(Failure::definitions)?;
    Ok(Box::new(InProcess { provider, runtime, contexts: Vec::new() }))
}

impl Engine for InProcess {
    fn meet(&mut self, users: &[User]) {
        let context = |user: &User| {
            let attributes = user.attributes.iter();
            attributes.fold(
                EvaluationContext::default().with_targeting_key(user.id.as_str()),
                |context, (name, text)| context.with_custom_field(*name, text.as_str()),
            )
        };
        self.contexts = users.iter().map(context).collect();
    }

    fn walk(&self, walk: &Walk<'_>) -> Tally {
        let is_on = async |flag: &str, user: usize| {
            let Some(context) = self.contexts.get(user) else { return false };
            self.provider.resolve_bool_value(flag, context).await.is_ok_and(|details| details.value)
        };
        let letter_of = async |flag: &str, user: usize| {
            let details = self.provider.resolve_string_value(flag, self.contexts.get(user)?).await.ok()?;
            letter(&details.value)
        };
        self.runtime.handle().block_on(walk.tally_async(is_on, letter_of))
    }
}
