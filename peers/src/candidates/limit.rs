//! What no evaluation by name can beat, written by hand: a hash map, a seeded hash of the key, a comparison.
//!
//! It stands beside the engines as a scale. It gives the answers of a 25 % split to every question, so its answers
//! are not compared with those that are due.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::engine::{Candidate, Change, Definitions, Engine, Failure, Loading, Source, Tally, Walk};
use crate::spec::{Spec, User};

pub(super) const CANDIDATE: Candidate = Candidate {
    name: "the limit, by hand",
    package: "flagd-peers",
    called: "hash map, seeded XXH3, comparison",
    loading: Loading::Compiles,
    change: Change::Reload,
    source: Source::Text,
    definitions,
    load,
};

/// A quarter of all hashes, by their upper halves.
const BELOW: u64 = (1 << 32) / 4;

struct Limit {
    flags: HashMap<Box<str>, Split, FixedState>,
    keys: Vec<String>,
}

struct Split {
    seed: u64,
    below: u64,
}

fn definitions(spec: &Spec) -> String {
    let names: Vec<&str> = spec.flags.iter().map(|flag| flag.name.as_str()).collect();
    serde_json::json!(names).to_string()
}

fn load(definitions: &Definitions) -> Result<Box<dyn Engine>, Failure> {
    let names: Vec<Box<str>> = serde_json::from_str(&definitions.text).map_err(Failure::definitions)?;
    let split = |name: Box<str>| {
        let seed = xxh3_64_with_seed(name.as_bytes(), 0);
        (name, Split { seed, below: BELOW })
    };
    Ok(Box::new(Limit { flags: names.into_iter().map(split).collect(), keys: Vec::new() }))
}

impl Limit {
    fn is_on(&self, flag: &str, user: usize) -> bool {
        let (Some(flag), Some(key)) = (self.flags.get(flag), self.keys.get(user)) else { return false };
        (xxh3_64_with_seed(key.as_bytes(), flag.seed) >> 32) < flag.below
    }
}

impl Engine for Limit {
    fn meet(&mut self, users: &[User]) {
        self.keys = users.iter().map(|user| user.id.clone()).collect();
    }

    fn walk(&self, walk: &Walk<'_>) -> Tally {
        walk.tally(
            |flag, user| self.is_on(flag, user),
            |flag, user| Some(b'a' + u8::from(self.is_on(flag, user))),
        )
    }
}
