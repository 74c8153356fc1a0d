//! A second evaluator, slow and obvious, written from `docs/evaluation.md` and from nothing else.
//!
//! It reads definitions and contexts as plain JSON, decides every question anew on every call and shares no
//! code with the engine but the hash function and the regular expressions, which the page takes from elsewhere
//! too. Where the two disagree, the page says who is wrong. It expects definitions that the strict reader took.

pub(crate) mod moment;
pub(crate) mod test;
pub(crate) mod version;

use std::cmp::Ordering;

use serde_json::{Map, Value};

/// What the page says that an evaluation answers with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) value: Value,
    pub(crate) variant: Option<String>,
    pub(crate) reason: String,
}

/// What a kill entry holds, as far as it can be read.
#[derive(Clone, Debug)]
pub(crate) struct Kill {
    pub(crate) off_variant: Option<String>,
    pub(crate) value: Option<Value>,
}

/// An environment as the page sees it: definitions as written, kills beside them.
#[derive(Clone, Debug)]
pub(crate) struct Environment {
    pub(crate) flags: Map<String, Value>,
    pub(crate) segments: Map<String, Value>,
    pub(crate) kills: Vec<(String, Kill)>,
}

/// How far chains are followed.
const LINKS_MAX: usize = 32;
/// How many requirements and segments one evaluation looks at.
const LOOKS_MAX: usize = 10_000;

/// One evaluation: the context, the time, and how much has been looked at.
struct Call<'a> {
    environment: &'a Environment,
    context: &'a Value,
    now_ms: i64,
    looks: usize,
}

/// What a flag serves.
pub(crate) fn evaluate(environment: &Environment, key: &str, context: &Value, now_ms: i64) -> Answer {
    Call { environment, context, now_ms, looks: 0 }.flag(key, 0)
}

impl Call<'_> {
    fn flag(&mut self, key: &str, links: usize) -> Answer {
        let environment = self.environment;
        let flag = environment.flags.get(key);
        if let Some((_, kill)) = environment.kills.iter().find(|(killed, _)| killed == key) {
            return killed(key, flag, kill);
        }
        let Some(flag) = flag else {
            return Answer { value: Value::Null, variant: None, reason: "NotFound".into() };
        };
        if flag.get("enabled") == Some(&Value::Bool(false)) {
            return serve(flag, &off_variant(flag), "Disabled");
        }
        for requirement in list(flag, "requires") {
            let required = requirement["flag"].as_str().unwrap();
            if !self.requirement_is_met(required, &requirement["serves"], links) {
                return serve(flag, &off_variant(flag), &format!("Requirement({required})"));
            }
        }
        for rule in list(flag, "rules") {
            if self.condition(&rule["if"], 0) {
                let reason = format!("Rule({})", rule["name"].as_str().unwrap());
                return self.place(key, flag, &rule["serve"], &reason);
            }
        }
        if let Some(share) = flag.get("rollout") {
            let on = points(share);
            let split = serde_json::json!({"split": [{"on": percent(on)}, {"off": percent(1_000_000 - on)}]});
            return self.place(key, flag, &split, "Otherwise");
        }
        match flag.get("otherwise") {
            Some(otherwise) => self.place(key, flag, otherwise, "Otherwise"),
            None => serve(flag, &off_variant(flag), "Otherwise"),
        }
    }

    /// Counts a look; what lies beyond the bounds does not hold.
    fn may_look(&mut self, links: usize) -> bool {
        self.looks += 1;
        links < LINKS_MAX && self.looks <= LOOKS_MAX
    }

    fn requirement_is_met(&mut self, required: &str, serves: &Value, links: usize) -> bool {
        if !self.may_look(links) {
            return false;
        }
        let answer = self.flag(required, links + 1);
        answer.variant.is_some_and(|name| serves.as_array().unwrap().iter().any(|each| *each == *name))
    }

    fn condition(&mut self, condition: &Value, links: usize) -> bool {
        let condition = condition.as_object().unwrap();
        if let Some(list) = condition.get("all") {
            return list.as_array().unwrap().iter().all(|each| self.condition(each, links));
        }
        if let Some(list) = condition.get("any") {
            return list.as_array().unwrap().iter().any(|each| self.condition(each, links));
        }
        if let Some(inner) = condition.get("not") {
            return !self.condition(inner, links);
        }
        if let Some(key) = condition.get("segment") {
            return self.segment(key.as_str().unwrap(), links);
        }
        if let Some(window) = condition.get("time") {
            let side = |name| window.get(name).map(|text| moment::read(text.as_str().unwrap()).unwrap());
            return side("after").is_none_or(|after| after <= self.now_ms)
                && side("before").is_none_or(|before| self.now_ms < before);
        }
        let found = find(self.context, condition["attribute"].as_str().unwrap());
        test::holds(condition, found.as_ref())
    }

    fn segment(&mut self, key: &str, links: usize) -> bool {
        let Some(segment) = self.environment.segments.get(key) else { return false };
        if !self.may_look(links) {
            return false;
        }
        if let Some(unit) = unit(self.context, segment.get("by")) {
            let listed = |name| list(segment, name).iter().any(|each| each.as_str() == Some(&unit));
            if listed("exclude") {
                return false;
            }
            if listed("include") {
                return true;
            }
        }
        segment.get("if").is_some_and(|condition| self.condition(condition, links + 1))
    }

    /// Serves what a rule or `otherwise` says.
    fn place(&self, key: &str, flag: &Value, place: &Value, reason: &str) -> Answer {
        if let Some(name) = place.as_str() {
            return serve(flag, name, reason);
        }
        let stretches = stretches(&place["split"], &off_variant(flag));
        let whole = stretches.iter().filter(|(_, length)| *length > 0).map(|(name, _)| name);
        let mut owners: Vec<&String> = whole.collect();
        owners.dedup();
        if let [only] = owners.as_slice() {
            return serve(flag, only, reason);
        }
        let Some(unit) = unit(self.context, place.get("by")) else {
            return serve(flag, &off_variant(flag), "NoUnit");
        };
        let salt = flag.get("salt").map_or(key, |salt| salt.as_str().unwrap());
        let point = point(salt, &unit);
        let mut end = 0;
        for (name, length) in &stretches {
            end += length;
            if point < end {
                return serve(flag, name, reason);
            }
        }
        unreachable!("the stretches cover the line")
    }
}

fn killed(key: &str, flag: Option<&Value>, kill: &Kill) -> Answer {
    let reason = || "Killed".to_owned();
    let _ = key;
    match (&kill.value, flag) {
        (Some(value), _) => {
            Answer { value: value.clone(), variant: kill.off_variant.clone(), reason: reason() }
        }
        (None, Some(flag)) => serve(flag, &off_variant(flag), &reason()),
        (None, None) => Answer { value: Value::Null, variant: None, reason: reason() },
    }
}

fn serve(flag: &Value, name: &str, reason: &str) -> Answer {
    let value = match flag.get("variants") {
        Some(variants) => variants[name].clone(),
        None => Value::Bool(name == "on"),
    };
    Answer { value, variant: Some(name.to_owned()), reason: reason.to_owned() }
}

fn off_variant(flag: &Value) -> String {
    if let Some(name) = flag.get("offVariant") {
        return name.as_str().unwrap().to_owned();
    }
    let Some(variants) = flag.get("variants") else { return "off".to_owned() };
    let mut members = variants.as_object().unwrap().iter();
    members.find(|(_, value)| **value == Value::Bool(false)).unwrap().0.clone()
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The point of a unit on the line.
pub(crate) fn point(salt: &str, unit: &str) -> u64 {
    let seed = xxhash_rust::xxh3::xxh3_64_with_seed(salt.as_bytes(), 0);
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(unit.as_bytes(), seed);
    ((hash >> 32) * 1_000_000) >> 32
}

/// The stretches of a split of which nothing lay before.
fn stretches(split: &Value, off_variant: &str) -> Vec<(String, u64)> {
    let arm = |(name, share): (&String, &Value)| (name.clone(), points(share));
    if let Some(list) = split.as_array() {
        return list.iter().flat_map(|each| each.as_object().unwrap().iter().map(arm)).collect();
    }
    let mut shares: Vec<(String, u64)> = split.as_object().unwrap().iter().map(arm).collect();
    shares.sort_by_key(|(name, _)| (name == off_variant, name.clone()));
    shares
}

/// A percentage of at most four digits after the point, in points of the line.
fn points(share: &Value) -> u64 {
    let text = share.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    if fraction.contains('e') || whole.contains('e') {
        // 0.0001 is written back as 1e-4 or 0.0001; nothing below a tenth of it is a percentage.
        return (share.as_f64().unwrap() * 10_000.0).round() as u64;
    }
    format!("{whole}{fraction:0<4}").parse().unwrap()
}

fn percent(points: u64) -> Value {
    serde_json::from_str(&format!("{}.{:04}", points / 10_000, points % 10_000)).unwrap()
}

/// The attribute of a name: whole first, then the targeting key, then the path.
fn find(context: &Value, name: &str) -> Option<Value> {
    let members = context.as_object().unwrap();
    if name == "targetingKey" {
        return targeting_key(context).map(Value::String);
    }
    if let Some(value) = members.get(name) {
        return Some(value.clone()).filter(|value| !value.is_null());
    }
    let mut parts = name.split('.');
    let mut value = match parts.next()? {
        "targetingKey" => return None,
        first if name.contains('.') => members.get(first)?,
        _ => return None,
    };
    for part in parts {
        value = value.as_object()?.get(part)?;
    }
    Some(value.clone()).filter(|value| !value.is_null())
}

fn targeting_key(context: &Value) -> Option<String> {
    unit_of(context.get("targetingKey")?)
}

/// The string that is hashed and listed.
fn unit(context: &Value, by: Option<&Value>) -> Option<String> {
    match by {
        None => targeting_key(context),
        Some(by) => unit_of(&find(context, by.as_str().unwrap())?),
    }
}

fn unit_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Number(number) => match Number::read(number) {
            Number::Whole(whole) => Some(whole.to_string()),
            Number::Float(float) if float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0 => {
                Some((float as i64).to_string())
            }
            Number::Float(_) => None,
        },
        _ => None,
    }
}

/// A number by its exact value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Whole(i64),
    Float(f64),
}

impl Number {
    pub(crate) fn read(number: &serde_json::Number) -> Number {
        match number.as_i64() {
            Some(whole) => Number::Whole(whole),
            None => Number::Float(number.as_f64().unwrap()),
        }
    }

    /// Exact, never after rounding.
    pub(crate) fn compare(self, other: Number) -> Ordering {
        match (self, other) {
            (Number::Whole(a), Number::Whole(b)) => a.cmp(&b),
            (Number::Float(a), Number::Float(b)) => a.partial_cmp(&b).unwrap(),
            (Number::Float(_), Number::Whole(_)) => other.compare(self).reverse(),
            (Number::Whole(a), Number::Float(b)) => {
                // A float of this size is whole and outside of the 64 bits.
                if b.abs() >= 1e19 {
                    return 0.0_f64.partial_cmp(&b).unwrap();
                }
                let (whole, rest) = (b.trunc() as i128, b.fract());
                i128::from(a).cmp(&whole).then(0.0_f64.partial_cmp(&rest).unwrap())
            }
        }
    }
}
