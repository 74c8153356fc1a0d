//! The `JSONLogic` engine of OpenFeature's flagd, used directly: rules compiled once, contexts parsed once.
//!
//! It evaluates rules, not flags: the map from names to rules is the caller's, a plain flag is the rule `"on"`, and the
//! variant's name is taken for the answer. Contexts and the arena belong to one thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem;

use datalogic_rs::bumpalo::Bump;
use datalogic_rs::{Engine as Logics, Logic, ParsedData};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::open_feature_flagd::{Unit, document, their_flag};
use crate::engine::{Candidate, Change, Definitions, Engine, Failure, Loading, Source, Tally, Walk, letter};
use crate::measure::{Clock, Stopwatch};
use crate::spec::{Flag, Spec, User, with};

pub(super) const CANDIDATE: Candidate = Candidate {
    name: "datalogic, compiled",
    package: "datalogic-rs",
    called: "`Engine::evaluate` on a compiled rule; feature `flagd`, arena reused",
    loading: Loading::Compiles,
    change: Change::CallersMap,
    source: Source::Text,
    definitions,
    load,
};

struct Datalogic {
    engine: Logics,
    rules: HashMap<String, Logic>,
    users: Vec<String>,
}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    flags: HashMap<String, Targeted<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Targeted<'a> {
    default_variant: String,
    #[serde(borrow)]
    targeting: Option<&'a RawValue>,
}

/// What a thread evaluates with.
#[derive(Default)]
struct Seat {
    contexts: Vec<ParsedData>,
    arena: Bump,
}

thread_local! {
    static SEAT: RefCell<Seat> = RefCell::default();
}

fn definitions(spec: &Spec) -> String {
    document(spec, Unit::Spelled)
}

fn load(definitions: &Definitions) -> Result<Box<dyn Engine>, Failure> {
    let document: Document<'_> = serde_json::from_str(&definitions.text).map_err(Failure::definitions)?;
    let engine = Logics::new();
    let rule = |(name, flag): (String, Targeted<'_>)| Ok((name, compile(&engine, &flag)?));
    let rules: Result<_, Failure> = document.flags.into_iter().map(rule).collect();
    Ok(Box::new(Datalogic { rules: rules?, engine, users: Vec::new() }))
}

fn compile(engine: &Logics, flag: &Targeted<'_>) -> Result<Logic, Failure> {
    let plain = || format!("{:?}", flag.default_variant);
    match flag.targeting {
        Some(rule) => engine.compile(rule.get()),
        None => engine.compile(plain().as_str()),
    }
    .map_err(Failure::definitions)
}

impl Datalogic {
    /// The name of the variant, as `read` wants it.
    #[inline]
    fn ask<T>(&self, flag: &str, context: &ParsedData, arena: &Bump, read: impl Fn(&str) -> T) -> Option<T> {
        let variant = self.engine.evaluate(self.rules.get(flag)?, context, arena).ok()?;
        variant.as_str().map(read)
    }
}

impl Engine for Datalogic {
    fn meet(&mut self, users: &[User]) {
        let context = |user: &User| {
            let context = json!({"targetingKey": user.id});
            let attributes = user.attributes.iter();
            attributes.fold(context, |context, (name, text)| with(context, name, json!(text))).to_string()
        };
        self.users = users.iter().map(context).collect();
    }

    fn walk(&self, walk: &Walk<'_>) -> Tally {
        SEAT.with_borrow_mut(|seat| {
            if seat.contexts.is_empty() {
                seat.contexts =
                    self.users.iter().filter_map(|user| ParsedData::from_json(user).ok()).collect();
            }
            let arena = RefCell::new(mem::take(&mut seat.arena));
            let tally = walk.tally(
                |flag, user| {
                    let mut arena = arena.borrow_mut();
                    arena.reset();
                    let context = seat.contexts.get(user);
                    context.and_then(|it| self.ask(flag, it, &arena, |name| name == "on")).unwrap_or(false)
                },
                |flag, user| {
                    let mut arena = arena.borrow_mut();
                    arena.reset();
                    self.ask(flag, seat.contexts.get(user)?, &arena, letter)?
                },
            );
            seat.arena = arena.into_inner();
            tally
        })
    }

    fn change(&mut self, flag: &Flag) -> Result<f64, Failure> {
        let text = their_flag(flag, &[], Unit::Spelled).to_string();
        let watch = Stopwatch::start(Clock::Thread);
        let targeted: Targeted<'_> = serde_json::from_str(&text).map_err(Failure::definitions)?;
        let rule = compile(&self.engine, &targeted)?;
        drop(self.rules.insert(flag.name.clone(), rule));
        Ok(watch.elapsed_ns())
    }
}
