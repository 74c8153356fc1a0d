//! The question that both benchmarks ask, and the hand-written limit.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::collections::HashMap;

use flagd_client::{Client, Context};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Flags in the environment.
pub(crate) const FLAGS: usize = 1_000;
/// Questions per measured round.
pub(crate) const ROUND: usize = 1_000;
/// Sixteen bytes.
pub(crate) const USER: &str = "user-0123456789a";

/// A client with 1,000 flags of a 25 % split, and the order in which they are asked.
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) user: Context,
    pub(crate) names: Vec<String>,
    order: Vec<usize>,
    contexts: Vec<Context>,
}

impl World {
    pub(crate) fn new() -> World {
        let names: Vec<String> = (0..FLAGS).map(|number| format!("flag-of-team-{number:06}")).collect();
        let flags: Vec<String> = names.iter().map(|name| format!(r#""{name}": {{"rollout": 25}}"#)).collect();
        let text = format!(r#"{{"flags": {{{}}}}}"#, flags.join(","));
        let client = match Client::embedded(&text) {
            Ok(client) => client,
            Err(error) => panic!("{error}"),
        };
        let mut seed = 1_u64;
        let order = (0..ROUND).map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).unwrap_or(0) % FLAGS
        });
        let contexts = (0..ROUND).map(|number| Context::new(format!("user-{number:011}"))).collect();
        World { client, user: Context::new(USER), order: order.collect(), names, contexts }
    }

    /// The name to ask for in this turn.
    pub(crate) fn key(&self, turn: usize) -> &str {
        self.order.get(turn).and_then(|at| self.names.get(*at)).map_or("", String::as_str)
    }

    /// The user to ask for in this turn, sixteen bytes each.
    #[inline]
    pub(crate) fn context(&self, turn: usize) -> &Context {
        self.contexts.get(turn).unwrap_or(&self.user)
    }

    /// The same user's key.
    #[inline]
    pub(crate) fn unit(&self, turn: usize) -> &str {
        self.context(turn).targeting_key().unwrap_or_default()
    }
}

/// The least that any client could do.
pub(crate) struct Limit {
    seeds: HashMap<Box<str>, u64, foldhash::fast::FixedState>,
}

impl Limit {
    pub(crate) fn of(world: &World) -> Limit {
        let seeds = world.names.iter().map(|name| (name.as_str().into(), xxh3_64(name.as_bytes())));
        Limit { seeds: seeds.collect() }
    }

    #[inline]
    pub(crate) fn is_enabled(&self, name: &str, unit: &str) -> bool {
        self.seeds.get(name).is_some_and(|seed| Limit::is_on(*seed, unit))
    }

    /// The limit of whoever knows the flag already.
    #[inline]
    pub(crate) fn is_on(seed: u64, unit: &str) -> bool {
        let point = ((xxh3_64_with_seed(unit.as_bytes(), seed) >> 32) * 1_000_000) >> 32;
        point < 250_000
    }

    pub(crate) fn seed(&self, name: &str) -> u64 {
        self.seeds.get(name).copied().unwrap_or_default()
    }
}
