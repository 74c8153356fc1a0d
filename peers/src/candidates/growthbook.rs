//! `GrowthBook`'s evaluation, asked on a borrowed instance.
//!
//! The SDK's client copies the whole instance, features and groups, for each check; `GrowthBook::check` is what it
//! calls on the copy.

use std::collections::HashMap;

use growthbook_rust::dto::{GrowthBookFeature, GrowthBookResponse};
use growthbook_rust::growthbook::GrowthBook;
use growthbook_rust::model_public::{GrowthBookAttribute, SavedGroup};
use serde_json::{Map, Value, json};

use crate::engine::{Candidate, Change, Definitions, Engine, Failure, Loading, Source, Tally, Walk, letter};
use crate::measure::{Clock, Stopwatch};
use crate::spec::{COUNTRIES, Condition, Flag, LETTERS, Rule, SEGMENT, Serve, Spec, User, VERSION, with};

pub(super) const CANDIDATE: Candidate = Candidate {
    name: "growthbook check()",
    package: "growthbook-rust",
    called: "`GrowthBook::check` on a borrowed instance",
    loading: Loading::Parses,
    change: Change::CallersMap,
    source: Source::Text,
    definitions,
    load,
};

struct Book {
    book: GrowthBook,
    attributes: Vec<Option<Vec<GrowthBookAttribute>>>,
}

fn definitions(spec: &Spec) -> String {
    let features: Map<String, Value> =
        spec.flags.iter().map(|flag| (flag.name.clone(), feature(flag))).collect();
    json!({"features": features, "savedGroups": {SEGMENT: spec.members}}).to_string()
}

fn feature(flag: &Flag) -> Value {
    let default = match flag.otherwise {
        Serve::On => json!(true),
        Serve::FourWays => json!("d"),
        Serve::Off | Serve::Share(_) => json!(false),
    };
    let mut rules: Vec<Value> = flag.rules.iter().map(|rule| written_rule(flag, rule)).collect();
    if matches!(flag.otherwise, Serve::Share(_) | Serve::FourWays) {
        rules.push(written_rule(flag, &Rule { conditions: Vec::new(), serve: flag.otherwise }));
    }
    json!({"defaultValue": default, "rules": rules})
}

fn written_rule(flag: &Flag, rule: &Rule) -> Value {
    let written = match rule.serve {
        Serve::On => json!({"force": true}),
        Serve::Off => json!({"force": false}),
        Serve::Share(share) => {
            json!({"force": true, "coverage": f64::from(share) / 100.0, "hashAttribute": "id"})
        }
        Serve::FourWays => {
            json!({"key": flag.name, "variations": LETTERS, "weights": [0.25, 0.25, 0.25, 0.25], "hashAttribute": "id"})
        }
    };
    let condition: Map<String, Value> = rule.conditions.iter().map(condition).collect();
    if condition.is_empty() { written } else { with(written, "condition", Value::Object(condition)) }
}

fn condition(condition: &Condition) -> (String, Value) {
    match condition {
        Condition::Equals { attribute, text } => ((*attribute).to_owned(), json!(text)),
        Condition::InCountries { attribute } => ((*attribute).to_owned(), json!({"$in": COUNTRIES})),
        Condition::VersionAtLeast { attribute } => ((*attribute).to_owned(), json!({"$vgte": VERSION})),
        Condition::Member => ("id".to_owned(), json!({"$inGroup": SEGMENT})),
    }
}

fn load(definitions: &Definitions) -> Result<Box<dyn Engine>, Failure> {
    let response: GrowthBookResponse =
        serde_json::from_str(&definitions.text).map_err(Failure::definitions)?;
    let saved_groups: HashMap<String, SavedGroup> = match &response.saved_groups {
        Some(Value::Object(groups)) => {
            groups.iter().map(|(id, group)| (id.clone(), SavedGroup::from(group))).collect()
        }
        _ => HashMap::new(),
    };
    let book = GrowthBook {
        forced_variations: None,
        features: response.features.unwrap_or_default(),
        attributes: None,
        sticky_bucket_service: None,
        saved_groups,
    };
    Ok(Box::new(Book { book, attributes: Vec::new() }))
}

impl Engine for Book {
    fn meet(&mut self, users: &[User]) {
        let attributes = |user: &User| {
            let id = json!({"id": user.id});
            let attributes = user.attributes.iter();
            let attributes = attributes.fold(id, |all, (name, text)| with(all, name, json!(text)));
            GrowthBookAttribute::from(attributes).ok()
        };
        self.attributes = users.iter().map(attributes).collect();
    }

    fn walk(&self, walk: &Walk<'_>) -> Tally {
        let attributes = |user: usize| self.attributes.get(user);
        walk.tally(
            |flag, user| attributes(user).is_some_and(|it| self.book.check(flag, it).on),
            |flag, user| {
                attributes(user).and_then(|it| self.book.check(flag, it).value.as_str().and_then(letter))
            },
        )
    }

    fn change(&mut self, flag: &Flag) -> Result<f64, Failure> {
        let text = feature(flag).to_string();
        let watch = Stopwatch::start(Clock::Thread);
        let feature: GrowthBookFeature = serde_json::from_str(&text).map_err(Failure::definitions)?;
        drop(self.book.features.insert(flag.name.clone(), feature));
        Ok(watch.elapsed_ns())
    }
}
