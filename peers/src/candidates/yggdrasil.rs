//! Unleash's engine, which its SDKs and its Edge evaluate with.
//!
//! An SDK also counts each check (`count_toggle`); that is left out here.

use serde_json::{Value, json};
use unleash_types::client_features::ClientFeaturesDelta;
use unleash_yggdrasil::{ClientFeatures, Context, EngineState};

use crate::engine::{Candidate, Change, Definitions, Engine, Failure, Loading, Source, Tally, Walk, letter};
use crate::measure::{Clock, Stopwatch};
use crate::spec::{COUNTRIES, Condition, Flag, Kind, LETTERS, Rule, Serve, Spec, User, VERSION};

pub(super) const CANDIDATE: Candidate = Candidate {
    name: "yggdrasil",
    package: "unleash-yggdrasil",
    called: "`EngineState::is_enabled`, `get_variant`; no metrics",
    loading: Loading::Compiles,
    change: Change::Own,
    source: Source::Text,
    definitions,
    load,
};

/// The only segment's number.
const SEGMENT_ID: i32 = 1;

struct Yggdrasil {
    engine: EngineState,
    contexts: Vec<Context>,
}

fn definitions(spec: &Spec) -> String {
    let features: Vec<Value> = spec.flags.iter().map(feature).collect();
    let members = json!({"contextName": "userId", "operator": "IN", "values": spec.members});
    let segments = json!([{"id": SEGMENT_ID, "constraints": [members]}]);
    json!({"version": 2, "features": features, "segments": segments}).to_string()
}

fn feature(flag: &Flag) -> Value {
    // Strategies are alternatives, tried in order: a rule each. Without one that holds, the feature is off.
    let mut strategies: Vec<Value> = flag.rules.iter().map(|rule| strategy(flag, rule)).collect();
    if flag.otherwise != Serve::Off {
        let everybody = Rule { conditions: Vec::new(), serve: flag.otherwise };
        strategies.push(strategy(flag, &everybody));
    }
    let variants: Vec<Value> = match flag.kind() {
        Kind::Boolean => Vec::new(),
        Kind::Letter => LETTERS.iter().map(|name| variant(name)).collect(),
    };
    json!({
        "name": flag.name, "type": "release", "enabled": true, "project": "default", "impressionData": false,
        "strategies": strategies, "variants": variants,
    })
}

fn variant(name: &str) -> Value {
    json!({"name": name, "weight": 250, "weightType": "variable", "stickiness": "userId"})
}

fn strategy(flag: &Flag, rule: &Rule) -> Value {
    let constraints: Vec<Value> = rule.conditions.iter().filter_map(constraint).collect();
    let is_member = |condition: &Condition| matches!(condition, Condition::Member);
    let segments: Vec<i32> = rule.conditions.iter().filter(|c| is_member(c)).map(|_| SEGMENT_ID).collect();
    let Serve::Share(share) = rule.serve else {
        return json!({"name": "default", "constraints": constraints, "segments": segments});
    };
    let parameters = json!({"groupId": flag.name, "rollout": share.to_string(), "stickiness": "userId"});
    json!({"name": "flexibleRollout", "parameters": parameters, "constraints": constraints, "segments": segments})
}

fn constraint(condition: &Condition) -> Option<Value> {
    match condition {
        Condition::Equals { attribute, text } => {
            Some(json!({"contextName": attribute, "operator": "IN", "values": [text]}))
        }
        Condition::InCountries { attribute } => {
            Some(json!({"contextName": attribute, "operator": "IN", "values": COUNTRIES}))
        }
        Condition::VersionAtLeast { attribute } => {
            Some(json!({"contextName": attribute, "operator": "SEMVER_GTE", "value": VERSION}))
        }
        Condition::Member => None,
    }
}

fn load(definitions: &Definitions) -> Result<Box<dyn Engine>, Failure> {
    let features: ClientFeatures = serde_json::from_str(&definitions.text).map_err(Failure::definitions)?;
    let engine = EngineState::default();
    match engine.apply_client_features(features) {
        Some(warnings) => Err(Failure::definitions(format_args!("{} warnings", warnings.len()))),
        None => Ok(Box::new(Yggdrasil { engine, contexts: Vec::new() })),
    }
}

impl Engine for Yggdrasil {
    fn meet(&mut self, users: &[User]) {
        let context = |user: &User| Context {
            user_id: Some(user.id.clone()),
            session_id: None,
            environment: None,
            app_name: None,
            current_time: None,
            remote_address: None,
            properties: Some(
                user.attributes.iter().map(|(name, text)| ((*name).to_owned(), text.clone())).collect(),
            ),
        };
        self.contexts = users.iter().map(context).collect();
    }

    fn walk(&self, walk: &Walk<'_>) -> Tally {
        let context = |user: usize| self.contexts.get(user);
        walk.tally(
            |flag, user| context(user).is_some_and(|context| self.engine.is_enabled(flag, context, &None)),
            |flag, user| {
                context(user).and_then(|context| letter(&self.engine.get_variant(flag, context, &None).name))
            },
        )
    }

    fn change(&mut self, flag: &Flag) -> Result<f64, Failure> {
        let event = json!({"type": "feature-updated", "eventId": 1, "feature": feature(flag)});
        let text = json!({"events": [event]}).to_string();
        let watch = Stopwatch::start(Clock::Thread);
        let delta: ClientFeaturesDelta = serde_json::from_str(&text).map_err(Failure::definitions)?;
        match self.engine.apply_delta(&delta) {
            Some(warnings) => Err(Failure::definitions(format_args!("{} warnings", warnings.len()))),
            None => Ok(watch.elapsed_ns()),
        }
    }
}
