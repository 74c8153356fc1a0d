//! Statsig's SDK, without a network and without exposures.
//!
//! A boolean flag is a gate, a four-way flag an experiment whose groups divide the buckets. The segment is a gate that
//! the rule asks for, with the members as a list that is looked up by hash.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use statsig_rust::{
    ExperimentEvaluationOptions, FeatureGateEvaluationOptions, Statsig, StatsigBootstrapSpecsAdapter,
    StatsigOptions, StatsigUser, StatsigUserBuilder,
};
use tokio::runtime::Runtime;

use crate::engine::{Candidate, Change, Definitions, Engine, Failure, Loading, Source, Tally, Walk, letter};
use crate::spec::{
    COUNTRIES, Condition, Flag, Kind, LETTERS, Rule, SEGMENT, Serve, Spec, User, VERSION, with,
};

pub(super) const CANDIDATE: Candidate = Candidate {
    name: "statsig",
    package: "statsig-rust",
    called: "`check_gate_with_options`, `get_experiment_with_options`; no exposures",
    loading: Loading::Parses,
    change: Change::Reload,
    source: Source::Text,
    definitions,
    load,
};

/// Buckets of an experiment.
const BUCKETS: usize = 1_000;

struct Sdk {
    statsig: Statsig,
    users: Vec<StatsigUser>,
    // After the SDK: what it has started runs here.
    _runtime: Runtime,
}

/// Conditions stand beside the gates, once each, under a number.
#[derive(Default)]
struct Conditions(BTreeMap<String, String>);

impl Conditions {
    fn number(&mut self, condition: &Value) -> String {
        let next = self.0.len().to_string();
        self.0.entry(condition.to_string()).or_insert(next).clone()
    }
}

fn definitions(spec: &Spec) -> String {
    let mut conditions = Conditions::default();
    let (mut gates, mut experiments) = (Map::new(), Map::new());
    for flag in &spec.flags {
        match flag.kind() {
            Kind::Boolean => gates.insert(flag.name.clone(), gate(flag, &mut conditions)),
            Kind::Letter => experiments.insert(flag.name.clone(), experiment(flag, &mut conditions)),
        };
    }
    if !spec.members.is_empty() {
        let number = conditions.number(&condition("unit_id", "any", &Value::Null, &json!(spec.members)));
        let rules = json!([rule("members", 100, &[number], &json!(true))]);
        let segment = entry("feature_gate", "segment", SEGMENT, &rules, &json!(false));
        gates.insert(format!("segment:{SEGMENT}"), segment);
    }
    let numbered: Map<String, Value> = conditions
        .0
        .into_iter()
        .map(|(text, number)| (number, serde_json::from_str(&text).unwrap_or_default()))
        .collect();
    let document = json!({
        "feature_gates": gates, "dynamic_configs": experiments, "layer_configs": {}, "condition_map": numbered,
        "experiment_to_layer": {}, "has_updates": true, "time": 1_700_000_000_000_u64, "response_format": "dcs-v2",
    });
    document.to_string()
}

fn entry(kind: &str, entity: &str, name: &str, rules: &Value, default: &Value) -> Value {
    json!({
        "type": kind, "entity": entity, "salt": name, "enabled": true, "defaultValue": default, "rules": rules,
        "idType": "userID", "version": 1,
    })
}

fn rule(name: &str, share: u32, conditions: &[String], value: &Value) -> Value {
    json!({
        "name": name, "id": name, "salt": name, "passPercentage": share, "conditions": conditions,
        "returnValue": value, "idType": "userID",
    })
}

fn condition(kind: &str, operator: &str, field: &Value, target: &Value) -> Value {
    json!({
        "type": kind, "operator": operator, "field": field, "targetValue": target, "additionalValues": {},
        "idType": "userID",
    })
}

fn gate(flag: &Flag, conditions: &mut Conditions) -> Value {
    let mut rules = Vec::new();
    let everybody = Rule { conditions: Vec::new(), serve: flag.otherwise };
    for (at, each) in flag.rules.iter().chain([&everybody]).enumerate() {
        let share = match each.serve {
            Serve::Share(share) => share,
            Serve::On => 100,
            Serve::Off | Serve::FourWays => continue,
        };
        let mut numbers: Vec<String> =
            each.conditions.iter().map(|it| conditions.number(&asked(it))).collect();
        if numbers.is_empty() {
            let public = condition("public", "any", &Value::Null, &Value::Null);
            numbers.push(conditions.number(&public));
        }
        rules.push(rule(&format!("{}:{at}", flag.name), share, &numbers, &json!(true)));
    }
    entry("feature_gate", "feature_gate", &flag.name, &json!(rules), &json!(false))
}

fn asked(asked: &Condition) -> Value {
    let field =
        |operator: &str, name: &str, target: Value| condition("user_field", operator, &json!(name), &target);
    match asked {
        Condition::Equals { attribute, text } => field("eq", attribute, json!(text)),
        Condition::InCountries { attribute } => field("any", attribute, json!(COUNTRIES)),
        Condition::VersionAtLeast { attribute } => field("version_gte", attribute, json!(VERSION)),
        Condition::Member => {
            condition("pass_gate", "any", &Value::Null, &json!(format!("segment:{SEGMENT}")))
        }
    }
}

fn experiment(flag: &Flag, conditions: &mut Conditions) -> Value {
    let mut rules = Vec::new();
    for (at, name) in LETTERS.iter().enumerate() {
        let below = (at + 1) * BUCKETS / LETTERS.len();
        let bucket = condition("user_bucket", "lt", &Value::Null, &json!(below));
        let number = conditions.number(&with(bucket, "additionalValues", json!({"salt": flag.name})));
        let group = rule(&format!("{}:{name}", flag.name), 100, &[number], &json!({"value": name}));
        let group = with(group, "isExperimentGroup", json!(true));
        rules.push(with(group, "groupName", json!(name)));
    }
    let experiment = entry("dynamic_config", "experiment", &flag.name, &json!(rules), &json!({}));
    with(experiment, "isActive", json!(true))
}

fn load(definitions: &Definitions) -> Result<Box<dyn Engine>, Failure> {
    let options = StatsigOptions {
        specs_adapter: Some(Arc::new(StatsigBootstrapSpecsAdapter::new(definitions.text.clone()))),
        disable_network: Some(true),
        disable_all_logging: Some(true),
        disable_country_lookup: Some(true),
        disable_disk_access: Some(true),
        ..StatsigOptions::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let statsig = runtime.block_on(async {
        let statsig = Statsig::new("secret-none", Some(Arc::new(options)));
        statsig.initialize().await.map_err(Failure::definitions)?;
        Ok::<_, Failure>(statsig)
    })?;
    Ok(Box::new(Sdk { statsig, users: Vec::new(), _runtime: runtime }))
}

impl Engine for Sdk {
    fn meet(&mut self, users: &[User]) {
        let user = |user: &User| {
            let mut fields: HashMap<String, String> =
                user.attributes.iter().map(|(name, text)| ((*name).to_owned(), text.clone())).collect();
            let country = fields.remove("country");
            let version = fields.remove("appVersion");
            let builder = StatsigUserBuilder::new_with_user_id(user.id.clone());
            builder.country(country).app_version(version).custom_from_str_map(Some(fields)).build()
        };
        self.users = users.iter().map(user).collect();
    }

    fn walk(&self, walk: &Walk<'_>) -> Tally {
        walk.tally(
            |flag, user| {
                let options = FeatureGateEvaluationOptions { disable_exposure_logging: true };
                let check = |user| self.statsig.check_gate_with_options(user, flag, options);
                self.users.get(user).is_some_and(check)
            },
            |flag, user| {
                let options =
                    ExperimentEvaluationOptions { disable_exposure_logging: true, ..Default::default() };
                let experiment =
                    self.statsig.get_experiment_with_options(self.users.get(user)?, flag, options);
                experiment.value.get("value").and_then(Value::as_str).and_then(letter)
            },
        )
    }
}
