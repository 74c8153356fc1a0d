//! `LaunchDarkly`'s evaluation crate, which its server SDK evaluates with.
//!
//! The crate leaves the store to its caller. This one hands out borrowed flags, which spares the copy that the SDK's
//! store makes for each check; segments it must hand out as copies, for the crate's trait says so.

use std::collections::HashMap;

use launchdarkly_server_sdk_evaluation::{
    AttributeValue, Context, ContextBuilder, Flag as TheirFlag, FlagValue, Segment, Store, evaluate,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::engine::{Candidate, Change, Definitions, Engine, Failure, Loading, Source, Tally, Walk, letter};
use crate::measure::{Clock, Stopwatch};
use crate::spec::{
    COUNTRIES, Condition, Flag, Kind, LETTERS, Rule, SEGMENT, Serve, Spec, User, VERSION, with,
};

pub(super) const CANDIDATE: Candidate = Candidate {
    name: "launchdarkly eval",
    package: "launchdarkly-server-sdk-evaluation",
    called: "`evaluate` on a borrowed flag; no events",
    loading: Loading::Parses,
    change: Change::CallersMap,
    source: Source::Text,
    definitions,
    load,
};

#[derive(Deserialize)]
struct Data {
    flags: HashMap<String, TheirFlag>,
    segments: HashMap<String, Segment>,
}

struct LaunchDarkly {
    data: Data,
    contexts: Vec<Context>,
}

impl Store for Data {
    fn flag(&self, key: &str) -> Option<TheirFlag> {
        self.flags.get(key).cloned()
    }

    fn segment(&self, key: &str) -> Option<Segment> {
        self.segments.get(key).cloned()
    }
}

fn definitions(spec: &Spec) -> String {
    let flags: Map<String, Value> =
        spec.flags.iter().map(|flag| (flag.name.clone(), their_flag(flag))).collect();
    let segment = json!({
        "key": SEGMENT, "included": spec.members, "excluded": [], "rules": [], "salt": SEGMENT, "version": 1,
    });
    json!({"flags": flags, "segments": {SEGMENT: segment}}).to_string()
}

fn their_flag(flag: &Flag) -> Value {
    let rules: Vec<Value> = flag.rules.iter().enumerate().map(rule).collect();
    let variations = match flag.kind() {
        Kind::Boolean => json!([true, false]),
        Kind::Letter => json!(LETTERS),
    };
    json!({
        "key": flag.name, "version": 1, "on": true, "targets": [], "contextTargets": [], "prerequisites": [],
        "rules": rules, "fallthrough": serve(flag.otherwise), "offVariation": 1, "variations": variations,
        "salt": flag.name, "clientSideAvailability": {"usingMobileKey": false, "usingEnvironmentId": false},
    })
}

fn rule((at, rule): (usize, &Rule)) -> Value {
    let clauses: Vec<Value> = rule.conditions.iter().map(clause).collect();
    let written = with(serve(rule.serve), "id", json!(format!("r{at}")));
    with(with(written, "clauses", json!(clauses)), "trackEvents", json!(false))
}

fn clause(condition: &Condition) -> Value {
    let clause = |attribute: &str, op: &str, values: Value, negate: bool| json!({"contextKind": "user", "attribute": attribute, "op": op, "values": values, "negate": negate});
    match condition {
        Condition::Equals { attribute, text } => clause(attribute, "in", json!([text]), false),
        Condition::InCountries { attribute } => clause(attribute, "in", json!(COUNTRIES), false),
        // There is no "at least": every context has a version, so it is "not less".
        Condition::VersionAtLeast { attribute } => {
            clause(attribute, "semVerLessThan", json!([VERSION]), true)
        }
        Condition::Member => clause("", "segmentMatch", json!([SEGMENT]), false),
    }
}

/// Weights add up to 100,000.
fn serve(serve: Serve) -> Value {
    let rollout = |weights: &[u32]| {
        let weighted = |(at, weight)| json!({"variation": at, "weight": weight});
        let variations: Vec<Value> = weights.iter().enumerate().map(weighted).collect();
        json!({"rollout": {"contextKind": "user", "variations": variations}})
    };
    match serve {
        Serve::On => json!({"variation": 0}),
        Serve::Off => json!({"variation": 1}),
        Serve::Share(share) => rollout(&[share * 1_000, (100 - share) * 1_000]),
        Serve::FourWays => rollout(&[25_000; 4]),
    }
}

fn load(definitions: &Definitions) -> Result<Box<dyn Engine>, Failure> {
    let data: Data = serde_json::from_str(&definitions.text).map_err(Failure::definitions)?;
    Ok(Box::new(LaunchDarkly { data, contexts: Vec::new() }))
}

impl LaunchDarkly {
    #[inline]
    fn value(&self, flag: &str, user: usize) -> Option<&FlagValue> {
        let (flag, context) = (self.data.flags.get(flag)?, self.contexts.get(user)?);
        evaluate(&self.data, flag, context, None).value
    }
}

impl Engine for LaunchDarkly {
    fn meet(&mut self, users: &[User]) {
        let context = |user: &User| {
            let mut builder = ContextBuilder::new(user.id.clone());
            for (name, text) in &user.attributes {
                builder.set_value(name, AttributeValue::String(text.clone()));
            }
            builder.build().ok()
        };
        self.contexts = users.iter().filter_map(context).collect();
    }

    fn walk(&self, walk: &Walk<'_>) -> Tally {
        walk.tally(
            |flag, user| matches!(self.value(flag, user), Some(FlagValue::Bool(true))),
            |flag, user| match self.value(flag, user) {
                Some(FlagValue::Str(text)) => letter(text),
                _ => None,
            },
        )
    }

    fn change(&mut self, flag: &Flag) -> Result<f64, Failure> {
        let text = their_flag(flag).to_string();
        let watch = Stopwatch::start(Clock::Thread);
        let flag: TheirFlag = serde_json::from_str(&text).map_err(Failure::definitions)?;
        drop(self.data.flags.insert(flag.key.clone(), flag));
        Ok(watch.elapsed_ns())
    }
}
