//! For arbitrary input: total, the same by deltas as from the whole, only adding.

use proptest::prelude::*;
use serde_json::json;

use super::circle::knots;
use super::*;
use crate::context::Attribute;
use crate::definition::{parse_stored_flag, parse_stored_segment};
use crate::entry::StoredEntry;
use crate::key::{FlagKey, SegmentKey};

/// Few names, so that arbitrary definitions refer to one another, to nothing and to themselves.
const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];

fn any_test() -> impl Strategy<Value = serde_json::Value> {
    let test = prop_oneof![
        Just(json!({"equals": "x"})),
        Just(json!({"equals": 1.5})),
        Just(json!({"in": ["x", "y", 3, true], "ignoreCase": true})),
        Just(json!({"startsWith": "x"})),
        Just(json!({"endsWith": "Y", "ignoreCase": true})),
        Just(json!({"contains": ["y", "z"]})),
        Just(json!({"matches": "^[xy]+$"})),
        Just(json!({"lessThan": 2})),
        Just(json!({"atLeast": -1.5})),
        Just(json!({"before": "2026-11-23T08:00:00Z"})),
        Just(json!({"after": "2020-01-01T00:00:00+02:00"})),
        Just(json!({"semver": "^1.2"})),
        Just(json!({"cidr": "10.0.0.0/8"})),
        any::<bool>().prop_map(|exists| json!({"exists": exists})),
    ];
    (prop::sample::select(vec!["p", "q", "o.p", "targetingKey"]), test).prop_map(|(attribute, mut test)| {
        test["attribute"] = attribute.into();
        test
    })
}

fn any_condition() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        4 => any_test(),
        2 => prop::sample::select(&KEYS[..]).prop_map(|key| json!({"segment": key})),
        1 => Just(json!({"time": {"after": "2026-11-23T08:00:00Z"}})),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..3).prop_map(|list| json!({"all": list})),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|list| json!({"any": list})),
            inner.clone().prop_map(|one| json!({"not": one})),
            // Never and always, whatever the context: an evaluation does not look at these, an explanation does.
            inner.clone().prop_map(|one| json!({"all": [one, {"not": one}]})),
            inner.prop_map(|one| json!({"any": [one, {"not": one}]})),
        ]
    })
}

fn any_serve() -> impl Strategy<Value = serde_json::Value> {
    let split =
        (0_u32..=100, prop::option::of(prop::sample::select(vec!["p", "o.p"]))).prop_map(|(share, by)| {
            let mut split = json!({"split": [{"on": share}, {"off": 100 - share}]});
            if let Some(by) = by {
                split["by"] = by.into();
            }
            split
        });
    prop_oneof![Just(json!("on")), Just(json!("off")), split]
}

fn any_flag() -> impl Strategy<Value = serde_json::Value> {
    let requires = prop::collection::vec((prop::sample::select(&KEYS[..]), any::<bool>()), 0..2);
    let mixed = || prop::collection::vec((any_condition(), any_serve()), 0..3);
    // Rules that ask one attribute for texts are looked up together; whatever follows them is not.
    let rung = prop_oneof![
        4 => prop::sample::select(vec!["x", "y", "z", "1", "x.y"]).prop_map(|text| json!({"attribute": "p", "equals": text})),
        1 => Just(json!({"attribute": "p", "in": ["y", "", "x"]})),
    ];
    let ladder = prop::collection::vec((rung, any_serve()), 3..7);
    let rules = prop_oneof![
        3 => mixed(),
        1 => (ladder, mixed()).prop_map(|(ladder, rest)| ladder.into_iter().chain(rest).collect()),
    ];
    (any::<bool>(), requires, rules, any_serve()).prop_map(|(is_enabled, requires, rules, otherwise)| {
        let requires: Vec<_> = requires
            .into_iter()
            .map(|(flag, on)| json!({"flag": flag, "serves": [if on { "on" } else { "off" }]}))
            .collect();
        let rules: Vec<_> = rules
            .into_iter()
            .enumerate()
            .map(|(n, (condition, serve))| json!({"name": format!("r{n}"), "if": condition, "serve": serve}))
            .collect();
        json!({"enabled": is_enabled, "requires": requires, "rules": rules, "otherwise": otherwise})
    })
}

fn any_segment() -> impl Strategy<Value = serde_json::Value> {
    let units = || prop::collection::btree_set(prop::sample::select(vec!["u", "v", "1", "x"]), 0..3);
    (units(), units(), any_condition()).prop_map(
        |(include, exclude, condition)| json!({"include": include, "exclude": exclude, "if": condition}),
    )
}

/// One entry to set, or to remove when the text is empty.
fn any_write() -> impl Strategy<Value = (&'static str, &'static str, String)> {
    let text = |value: serde_json::Value| value.to_string();
    let written = prop_oneof![
        8 => any_flag().prop_map(move |value| ("flag", text(value))),
        4 => any_segment().prop_map(move |value| ("segment", text(value))),
        1 => Just(("flag", "{\"later\": 1}".to_owned())),
        1 => Just(("segment", "garbage".to_owned())),
        1 => Just(("kill", r#"{"offVariant": "off", "value": false}"#.to_owned())),
        1 => Just(("kill", "\u{2}".to_owned())),
        1 => Just(("77", "?".to_owned())),
        1 => Just(("flag", String::new())),
        1 => Just(("segment", String::new())),
        2 => Just(("kill", String::new())),
        1 => Just(("77", String::new())),
    ];
    (written, prop::sample::select(&KEYS[..])).prop_map(|((kind, text), key)| (kind, key, text))
}

fn any_history() -> impl Strategy<Value = Vec<Vec<(&'static str, &'static str, String)>>> {
    prop::collection::vec(prop::collection::vec(any_write(), 1..4), 1..8)
}

fn any_attribute() -> impl Strategy<Value = Attribute> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Attribute::Bool),
        any::<i64>().prop_map(Attribute::Integer),
        any::<f64>().prop_map(Attribute::Number),
        prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(1.5), Just(-0.0)].prop_map(Attribute::Number),
        "[xyXYZ1.]{0,4}|10\\.0\\.0\\.1|1\\.2\\.3|2026-11-23T08:00:00Z|\\PC{0,6}"
            .prop_map(|text| Attribute::String(text.into())),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Attribute::List),
            inner.prop_map(|inner| Attribute::Object(vec![("p".into(), inner)])),
        ]
    })
}

fn any_context() -> impl Strategy<Value = Context> {
    let attributes =
        prop::collection::vec((prop::sample::select(vec!["p", "q", "o"]), any_attribute()), 0..4);
    (prop::option::of("[uvx1]{0,2}"), attributes).prop_map(|(key, attributes)| {
        let mut context = key.map_or_else(Context::anonymous, Context::new);
        for (name, attribute) in attributes {
            context.set(name, attribute);
        }
        context
    })
}

/// Whether everything that is used exists, understood or not: no server records anything else.
fn is_whole(state: &State) -> bool {
    let text = |entry: &StoredEntry| String::from_utf8(entry.bytes.to_vec()).unwrap_or_default();
    state.entries().all(|(id, entry)| match id.kind {
        EntryKind::FLAG => {
            parse_stored_flag(&FlagKey::new(&id.key).unwrap(), &text(entry)).map_or(true, |flag| {
                flag.segments().iter().all(|key| state.get(&EntryId::segment(key)).is_some())
                    && flag.requires.iter().all(|one| state.get(&EntryId::flag(&one.flag)).is_some())
            })
        }
        EntryKind::SEGMENT => parse_stored_segment(&SegmentKey::new(&id.key).unwrap(), &text(entry))
            .map_or(true, |segment| {
                segment.segments().iter().all(|key| state.get(&EntryId::segment(key)).is_some())
            }),
        _ => true,
    })
}

/// Only the changes that leave nothing dangling.
fn replay_recordable(history: &[Vec<(&str, &str, String)>]) -> World {
    let mut world = World::new();
    for change in history {
        let before = (world.state.clone(), world.snapshot.clone());
        world.change(&borrowed(change));
        if !is_whole(&world.state) {
            (world.state, world.snapshot) = before;
        }
    }
    world
}

fn borrowed<'a>(change: &'a [(&str, &str, String)]) -> Vec<(&'a str, &'a str, &'a str)> {
    change.iter().map(|(kind, key, text)| (*kind, *key, text.as_str())).collect()
}

fn replay(history: &[Vec<(&str, &str, String)>]) -> World {
    let mut world = World::new();
    for change in history {
        world.change(&borrowed(change));
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn evaluation_answers_for_every_input_and_explains_itself(
        history in any_history(), context in any_context(), now in any::<i64>(),
    ) {
        let world = replay(&history);
        let now = Timestamp::from_millis(now);
        for key in KEYS.iter().chain(&["nowhere"]) {
            let evaluation = world.snapshot.evaluate(key, &context, now);
            let explanation = world.snapshot.explain(key, &context, now);
            prop_assert_eq!(explanation.value.as_ref(), evaluation.value);
            prop_assert_eq!(explanation.variant.as_deref(), evaluation.variant);
            prop_assert_eq!(explanation.reason, evaluation.reason.to_string());
            prop_assert!(explanation.steps.iter().all(|step| !step.what.is_empty() && !step.outcome.is_empty()));
            if world.state.get(&id("kill", key)).is_some() {
                prop_assert_eq!(evaluation.reason, Reason::Killed);
            }
        }
    }

    #[test]
    fn deltas_end_where_the_whole_state_does(history in any_history(), context in any_context()) {
        let world = replay_recordable(&history);
        let restarted = world.restarted();
        let whole = World::new().snapshot.derive(&world.state, Touched::All);
        if world.snapshot.refused().is_empty() {
            prop_assert_eq!(whole.refused(), vec![]);
        }
        let ids = |snapshot: &Snapshot| -> Vec<EntryId> {
            snapshot.refused().into_iter().map(|refusal| refusal.id).collect()
        };
        prop_assert_eq!(ids(&restarted), ids(&world.snapshot));
        for key in KEYS {
            let want = shown(&world.snapshot.evaluate(key, &context, Timestamp::default()));
            prop_assert_eq!(&shown(&restarted.evaluate(key, &context, Timestamp::default())), &want, "{}", key);
            if world.snapshot.refused().is_empty() {
                prop_assert_eq!(&shown(&whole.evaluate(key, &context, Timestamp::default())), &want, "{}", key);
            }
        }
    }

    #[test]
    fn what_is_not_refused_is_in_use(history in any_history()) {
        let world = replay(&history);
        let refused: BTreeMap<EntryId, Refusal> =
            world.snapshot.refused().into_iter().map(|refusal| (refusal.id.clone(), refusal)).collect();
        for (id, entry) in world.state.entries() {
            let in_use = world.snapshot.in_use(id).map(|definition| Arc::clone(&definition.origin().bytes));
            match refused.get(id) {
                Some(refusal) => {
                    prop_assert_eq!(&refusal.last_good, &in_use);
                    prop_assert!(!refusal.why.is_empty());
                }
                None if id.kind == EntryKind::KILL => {}
                None => prop_assert_eq!(in_use.as_ref(), Some(&entry.bytes)),
            }
        }
        for (id, _) in world.snapshot.all_in_use() {
            prop_assert!(world.state.get(&id).is_some() || refused.contains_key(&id), "{} is gone", id);
        }
        let in_use: BTreeMap<EntryId, Vec<EntryId>> = world
            .snapshot
            .all_in_use()
            .map(|(id, definition)| (id, definition.origin().uses.to_vec()))
            .collect();
        let circles = knots(in_use.keys(), |id| in_use.get(id).cloned().unwrap_or_default());
        prop_assert_eq!(circles, Vec::<Vec<EntryId>>::new());
    }

    #[test]
    fn ramping_up_only_adds(shares in prop::collection::btree_set(0_u32..=1_000_000, 1..6)) {
        let mut world = World::new();
        let mut before = vec![false; 300];
        for share in shares {
            let (on, off) = (percent(share), percent(1_000_000 - share));
            let text = format!(r#"{{"otherwise": {{"split": [{{"on": {on}}}, {{"off": {off}}}]}}}}"#);
            world.change(&[("flag", "f", &text)]);
            prop_assert!(world.snapshot.refused().is_empty(), "{:?}", world.snapshot.refused());
            for (n, was_on) in before.iter_mut().enumerate() {
                let context = Context::new(format!("user-{n}"));
                let is_on = world.snapshot.evaluate("f", &context, Timestamp::default()).variant == Some("on");
                prop_assert!(is_on || !*was_on, "user-{} fell out at {}", n, share);
                *was_on = is_on;
            }
        }
    }
}

fn percent(ppm: u32) -> String {
    format!("{}.{:04}", ppm / 10_000, ppm % 10_000)
}

#[test]
fn requirements_that_fan_out_without_end_come_to_an_end() {
    // Eight levels of sixteen flags, each requiring all of the next level: 16^8 paths.
    let mut world = World::new();
    let keys: Vec<String> = (0..8).flat_map(|level| (0..16).map(move |n| format!("f-{level}-{n}"))).collect();
    let texts: Vec<String> = (0..8)
        .flat_map(|level| {
            let requires: Vec<_> = (0..16)
                .filter(|_| level < 7)
                .map(|n| json!({"flag": format!("f-{}-{n}", level + 1), "serves": ["on"]}))
                .collect();
            std::iter::repeat_n(json!({"requires": requires, "otherwise": "on"}).to_string(), 16)
        })
        .collect();
    let writes: Vec<(&str, &str, &str)> =
        keys.iter().zip(&texts).map(|(key, text)| ("flag", key.as_str(), text.as_str())).collect();
    world.change(&writes);
    assert_eq!(world.snapshot.refused(), []);
    assert_eq!(world.serves("f-7-0"), "on (Otherwise)");
    assert_eq!(world.serves("f-5-0"), "on (Otherwise)");
    assert_eq!(world.serves("f-0-0"), "off (Requirement(f-1-0))");
}
