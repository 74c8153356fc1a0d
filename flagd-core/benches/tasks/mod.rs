//! The six tasks that evaluation is measured by, and the limit beside them.
//!
//! A thousand flags are loaded, about a sixth of each sort; flags and contexts rotate, so that neither one
//! name nor one user stays hot. The limit is what no evaluation by name can beat: look the name up in a hash
//! map, hash sixteen bytes with a seed, compare.

#![allow(
    dead_code,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "shared by benchmarks and a test, each of which uses a part of it; a panic here fails the measurement"
)]

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;

use flagd_core::context::Context;
use flagd_core::edit::{Author, Edit, PutMode, plan};
use flagd_core::entry::{EntryId, EntryKind, StoredEntry};
use flagd_core::key::EnvironmentName;
use flagd_core::revision::{Epoch, Revision};
use flagd_core::snapshot::Snapshot;
use flagd_core::split::Seed;
use flagd_core::state::State;
use flagd_core::time::Timestamp;
use foldhash::fast::FixedState;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Flags of each task; six times this is the thousand.
const FLAGS_EACH: usize = 166;
const CONTEXTS: usize = 1_024;

/// The tasks, in the order of the reports.
pub(crate) const TASKS: [&str; 6] =
    ["plain boolean", "25 % split", "three conditions", "ten rules", "segment of 10,000", "four-way split"];

/// Everything that a measurement needs.
pub(crate) struct Bench {
    snapshot: Snapshot,
    contexts: Vec<Context>,
    /// The flags of each task, shuffled.
    names: Vec<Vec<String>>,
    limit: HashMap<Box<str>, Limit, FixedState>,
    keys: Vec<String>,
}

/// What the hand-written loop keeps of a flag.
struct Limit {
    seed: u64,
    below: u64,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        let mut entries = Vec::new();
        let mut names = vec![Vec::new(); TASKS.len()];
        for (task, names) in names.iter_mut().enumerate() {
            for n in 0..FLAGS_EACH {
                let name = format!("service-feature-{:03}", n * TASKS.len() + task);
                entries.push((EntryId::new(EntryKind::FLAG, &name), definition(task)));
                names.push(name);
            }
            shuffle(names);
        }
        let entries = entries.into_iter().map(|(id, text): (EntryId, String)| {
            (id, StoredEntry { bytes: text.into_bytes().into(), revision: Revision(1) })
        });
        let environment = EnvironmentName::new("bench").expect("a name");
        let entries = entries.chain(stored_segment(&environment));
        let state = State::from_entries(environment.clone(), Epoch::default(), Revision(1), entries);
        let snapshot = Snapshot::build(&state, &BTreeMap::new());
        assert_eq!(snapshot.refused(), [], "every flag is understood");

        let limit = names.iter().flatten().map(|name| {
            let below = (1_u64 << 32) / 4;
            (name.as_str().into(), Limit { seed: Seed::of(name).0, below })
        });
        let keys: Vec<String> =
            (0..CONTEXTS).map(|n| if n % 2 == 0 { member(n * 4) } else { stranger(n) }).collect();
        let contexts = keys.iter().enumerate().map(|(n, key)| context(n, key)).collect();
        Bench { snapshot, contexts, limit: limit.collect(), names, keys }
    }

    /// The `n`-th evaluation of a task; whether it served a value.
    #[inline]
    pub(crate) fn evaluate(&self, task: usize, n: usize) -> bool {
        let names = &self.names[task];
        let (name, context) = (&names[n % names.len()], &self.contexts[n % CONTEXTS]);
        let evaluation = self.snapshot.evaluate(black_box(name), context, Timestamp::from_millis(0));
        black_box(evaluation.value).is_some()
    }

    /// The `n`-th round of the limit.
    #[inline]
    pub(crate) fn limit(&self, n: usize) -> bool {
        let names = &self.names[1];
        let (name, key) = (&names[n % names.len()], &self.keys[n % CONTEXTS]);
        let flag = self.limit.get(black_box(name.as_str())).expect("every name is there");
        black_box((xxh3_64_with_seed(key.as_bytes(), flag.seed) >> 32) < flag.below)
    }

    /// The same, but reading the key out of a context, as every evaluation must.
    #[inline]
    pub(crate) fn limit_with_context(&self, n: usize) -> bool {
        let names = &self.names[1];
        let (name, context) = (&names[n % names.len()], &self.contexts[n % CONTEXTS]);
        let flag = self.limit.get(black_box(name.as_str())).expect("every name is there");
        let key = context.targeting_key().expect("every context has one");
        black_box((xxh3_64_with_seed(key.as_bytes(), flag.seed) >> 32) < flag.below)
    }

    /// The share of contexts that a task serves `on`, or its first variant, for one of its flags.
    pub(crate) fn share(&self, task: usize) -> f64 {
        let first = |context: &&Context| {
            let variant =
                self.snapshot.evaluate(&self.names[task][0], context, Timestamp::from_millis(0)).variant;
            matches!(variant, Some("on" | "a"))
        };
        self.contexts.iter().filter(first).count() as f64 / CONTEXTS as f64
    }
}

/// The segment of 10,000 as a server stores it: a list of this length lies in parts.
fn stored_segment(environment: &EnvironmentName) -> impl Iterator<Item = (EntryId, StoredEntry)> {
    let members: Vec<String> = (0..10_000).map(member).collect();
    let file = serde_json::json!({"segments": {"members": {"include": members}}}).to_string();
    let author = Author { actor: String::new(), reason: None, now: Timestamp::from_millis(0) };
    let edit = Edit::Put { file, mode: PutMode::Create };
    let empty = State::empty(environment.clone(), Epoch::default());
    let plan = plan(&empty, &edit, &author).expect("a segment");
    plan.writes.into_iter().map(|write| {
        let bytes = write.bytes.expect("nothing is removed");
        (write.id, StoredEntry { bytes, revision: Revision(1) })
    })
}

fn definition(task: usize) -> String {
    let split = r#"{"split": [{"on": 25}, {"off": 75}]}"#;
    match task {
        0 => r#"{"otherwise": "on"}"#.to_owned(),
        1 => format!(r#"{{"otherwise": {split}}}"#),
        2 => format!(
            r#"{{"rules": [{{"name": "r", "if": {{"all": [
                {{"attribute": "plan", "equals": "pro"}},
                {{"attribute": "country", "in": ["AT", "BE", "CH", "DE", "DK", "ES", "FR", "IT", "NL", "PL"]}},
                {{"attribute": "appVersion", "semver": ">=2.3.0"}}]}}, "serve": {split}}}]}}"#
        ),
        3 => {
            let rules: Vec<String> = (1..=10)
                .map(|n| {
                    let condition = format!(r#"{{"attribute": "tier", "equals": "tier-{n:02}"}}"#);
                    format!(r#"{{"name": "r{n}", "if": {condition}, "serve": "on"}}"#)
                })
                .collect();
            format!(r#"{{"rules": [{}]}}"#, rules.join(", "))
        }
        4 => r#"{"rules": [{"name": "r", "if": {"segment": "members"}, "serve": "on"}]}"#.to_owned(),
        _ => r#"{"variants": {"a": "a", "b": "b", "c": "c", "d": "d"}, "offVariant": "d",
            "otherwise": {"split": [{"a": 25}, {"b": 25}, {"c": 25}, {"d": 25}]}}"#
            .to_owned(),
    }
}

fn context(n: usize, key: &str) -> Context {
    let countries = ["AT", "BE", "CH", "DE", "DK", "ES", "FR", "IT", "NL", "PL"];
    Context::new(key)
        .with("appVersion", format!("2.{}.{}", 3 + n % 20, n % 10))
        .with("country", countries[n % countries.len()])
        .with("plan", "pro")
        .with("tier", "tier-10")
}

/// Sixteen bytes each.
fn member(n: usize) -> String {
    format!("member-{n:09}")
}

fn stranger(n: usize) -> String {
    format!("strang-{n:09}")
}

/// A fixed shuffle: the order of the names must not be the order of the loading.
fn shuffle(names: &mut [String]) {
    names.sort_by_key(|name| xxh3_64_with_seed(name.as_bytes(), 7));
}
