//! `ConfigCat`'s SDK, offline.
//!
//! It gets its definitions from a cache that gives them once, as if they had been downloaded, so that no check pays
//! for a cache. Its checks take the user by value: the copy is part of a check.

use std::sync::Mutex;

use configcat::{Client, ConfigCache, PollingMode, User as TheirUser};
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use crate::engine::{Candidate, Change, Definitions, Engine, Failure, Loading, Source, Tally, Walk, letter};
use crate::spec::{COUNTRIES, Condition, Flag, Kind, LETTERS, Rule, SEGMENT, Serve, Spec, User, VERSION};

pub(super) const CANDIDATE: Candidate = Candidate {
    name: "configcat",
    package: "configcat",
    called: "`Client::get_value`, with a copy of the user; offline",
    loading: Loading::Parses,
    change: Change::Reload,
    source: Source::Text,
    definitions,
    load,
};

/// Looks like a key; nobody is asked for it.
const SDK_KEY: &str = "configcat-sdk-1/0000000000000000000000/0000000000000000000000";

/// Comparators, by the numbers of the format.
mod comparator {
    pub(super) const ONE_OF: u8 = 0;
    pub(super) const VERSION_AT_LEAST: u8 = 9;
    pub(super) const EQUALS: u8 = 28;
}

struct ConfigCat {
    client: Client,
    runtime: Runtime,
    users: Vec<TheirUser>,
}

/// A cache that gives what it holds once.
struct Once(Mutex<Option<String>>);

impl ConfigCache for Once {
    fn read(&self, _key: &str) -> Option<String> {
        self.0.lock().ok()?.take()
    }

    fn write(&self, _key: &str, _value: &str) {}
}

/// The cache's format: when it was fetched, its tag, the document.
fn definitions(spec: &Spec) -> String {
    let settings: Map<String, Value> =
        spec.flags.iter().map(|flag| (flag.name.clone(), setting(flag))).collect();
    let members = json!({"a": TheirUser::IDENTIFIER, "c": comparator::ONE_OF, "l": spec.members});
    let document = json!({"p": {"s": "salt"}, "f": settings, "s": [{"n": SEGMENT, "r": [members]}]});
    format!("1700000000000\ntag\n{document}")
}

fn setting(flag: &Flag) -> Value {
    let rules: Vec<Value> = flag.rules.iter().map(targeting).collect();
    let (kind, value) = match (flag.kind(), flag.otherwise) {
        (Kind::Letter, _) => (1, json!({"s": "d"})),
        (Kind::Boolean, serve) => (0, json!({"b": serve == Serve::On})),
    };
    json!({"t": kind, "v": value, "r": rules, "p": options(flag.otherwise)})
}

fn targeting(rule: &Rule) -> Value {
    let conditions: Vec<Value> = rule.conditions.iter().map(condition).collect();
    match rule.serve {
        Serve::On | Serve::Off => json!({"c": conditions, "s": {"v": {"b": rule.serve == Serve::On}}}),
        split => json!({"c": conditions, "p": options(split)}),
    }
}

fn condition(condition: &Condition) -> Value {
    match condition {
        Condition::Equals { attribute, text } => {
            json!({"u": {"a": attribute, "c": comparator::EQUALS, "s": text}})
        }
        Condition::InCountries { attribute } => {
            json!({"u": {"a": attribute, "c": comparator::ONE_OF, "l": COUNTRIES}})
        }
        Condition::VersionAtLeast { attribute } => {
            json!({"u": {"a": attribute, "c": comparator::VERSION_AT_LEAST, "s": VERSION}})
        }
        Condition::Member => json!({"s": {"s": 0, "c": 0}}),
    }
}

fn options(serve: Serve) -> Value {
    match serve {
        Serve::On | Serve::Off => Value::Null,
        Serve::Share(share) => json!([{"p": share, "v": {"b": true}}, {"p": 100 - share, "v": {"b": false}}]),
        Serve::FourWays => LETTERS.iter().map(|name| json!({"p": 25, "v": {"s": name}})).collect(),
    }
}

fn load(definitions: &Definitions) -> Result<Box<dyn Engine>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let cache = Once(Mutex::new(Some(definitions.text.clone())));
    let builder = Client::builder(SDK_KEY).offline(true).polling_mode(PollingMode::Manual);
    let (client, settings) = runtime.block_on(async {
        let client = builder.cache(Box::new(cache)).build().map_err(Failure::definitions)?;
        // The first question reads the cache.
        let settings = client.get_all_keys().await.len();
        Ok::<_, Failure>((client, settings))
    })?;
    if settings == 0 {
        return Err(Failure::definitions("no settings"));
    }
    Ok(Box::new(ConfigCat { client, runtime, users: Vec::new() }))
}

impl Engine for ConfigCat {
    fn meet(&mut self, users: &[User]) {
        let user = |user: &User| {
            let attributes = user.attributes.iter();
            attributes.fold(TheirUser::new(&user.id), |user, (name, text)| user.custom(name, text.as_str()))
        };
        self.users = users.iter().map(user).collect();
    }

    fn walk(&self, walk: &Walk<'_>) -> Tally {
        let is_on = async |flag: &str, user: usize| {
            self.client.get_value(flag, false, self.users.get(user).cloned()).await
        };
        let letter_of = async |flag: &str, user: usize| {
            letter(&self.client.get_value(flag, String::new(), self.users.get(user).cloned()).await)
        };
        self.runtime.handle().block_on(walk.tally_async(is_on, letter_of))
    }
}
