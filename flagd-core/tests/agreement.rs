//! The engine against a second evaluator that was written from `docs/evaluation.md` alone.
//!
//! Definitions and contexts are drawn so that they meet often: a handful of names and of values, each chosen
//! because it lies on one side or the other of a rule. A disagreement is a mistake in the page, in the second
//! evaluator or in the engine, and proptest makes it small.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test: a panic is a failed test, and the second evaluator is obvious before it is careful"
)]

use std::collections::BTreeMap;

use flagd_core::context::{Attribute, Context};
use flagd_core::edit::{self, Author, Edit, PutMode};
use flagd_core::entry::{EntryId, EntryKind, EntryWrite};
use flagd_core::key::EnvironmentName;
use flagd_core::revision::Epoch;
use flagd_core::snapshot::Snapshot;
use flagd_core::state::State;
use flagd_core::time::Timestamp;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

mod reference;

use reference::{Answer, Environment, Kill};

/// Text on both sides of every operator's rules.
const TEXTS: &[&str] = &[
    "",
    "x",
    "X",
    "xy",
    "yx",
    "Straße",
    "STRASSE",
    "straße",
    "İ",
    "i̇",
    "ǅ",
    "ǆ",
    "Σ",
    "ς",
    "σ",
    "K",
    "k",
    "e\u{301}",
    "é",
    "É",
    "😀",
    "a\0b",
    "17",
    "1",
    "1.5",
    "true",
    " x",
    "ab",
    "abc",
    "u-1",
    "u-2",
    "1.2.3",
    "1.2.3-alpha",
    "1.2.3-alpha.1",
    "1.2.3-alpha.beta",
    "1.2.3-0",
    "1.2.3-rc.1+5",
    "1.2.3+x.-",
    "v1.2.3",
    "1.2",
    "1.2.03",
    "0.0.3",
    "0.0.4",
    "0.2.3",
    "0.3.0",
    "0.2.3-beta",
    "1.3.0",
    "1.2.4-alpha",
    "2.0.0",
    "2.0.0-alpha",
    "1.0.0",
    "1.0.0-1",
    "1.2.3-01",
    "1.2.3-",
    "18446744073709551615.0.0",
    "18446744073709551616.0.0",
    "1.2.3 ",
    "1.2.3.4",
    "1.10.0",
    "1.2.3-10",
    "1.2.3-9",
    "10.0.0.1",
    "10.255.255.255",
    "11.0.0.0",
    "::ffff:10.0.0.1",
    "::ffff:0a00:0001",
    "2001:db8::1",
    "2001:DB8:0:0::1",
    "2001:db9::",
    "::1",
    "::10.0.0.1",
    "010.0.0.1",
    "10.0.0.1/32",
    "10.0.0.1:80",
    "fe80::1%eth0",
    "192.168.1.129",
    "0.0.0.0",
    "255.255.255.255",
    "2026-01-01T00:00:00Z",
    "2026-01-01T00:00:00.0009Z",
    "2025-12-31T23:59:59.9999Z",
    "2025-12-31T23:59:60Z",
    "2026-01-01T00:59:59.999+01:00",
    "2026-01-01t00:00:00z",
    "2026-01-01 00:00:00Z",
    "2026-01-01T00:00:00",
    "2026-01-01",
    "2026-02-29T00:00:00Z",
    "2024-02-29T00:00:00-00:00",
    "2026-01-01T24:00:00Z",
    "0000-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999Z",
    "2026-01-01T00:00:00.Z",
    "2026-01-01T00:00:00+24:00",
];

/// Numbers at the edges of what is held and compared; as JSON, because 1, 1.0 and 1e0 are three texts.
const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "0.0",
    "-0.0",
    "1",
    "1.0",
    "1e0",
    "-1",
    "17",
    "17.0",
    "1.5",
    "0.1",
    "0.30000000000000004",
    "10",
    "9.999999999999999",
    "1e1",
    "9007199254740991",
    "9007199254740992",
    "9007199254740992.0",
    "9007199254740994",
    "9007199254740994.0",
    "-9007199254740992.0",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "1e300",
    "-1e300",
    "5e-324",
    "1e16",
    "10000000000000000",
    "0.5",
];

/// Numbers only of contexts: a definition refuses what cannot be held.
const LOOSE_NUMBERS: &[&str] = &[
    "9007199254740993",
    "9223372036854775809",
    "18446744073709551615",
    "0.1000000000000000055511151231257827",
    "18446744073709551616",
    "1e-400",
    "9223372036854775807.0",
    "-9223372036854775809",
    "122.416294033786585",
    "7.2057594037927933e16",
    "0.000000000000000000000000123456789012345678",
];

const REQUIREMENTS: &[&str] = &[
    "*",
    "1",
    "1.2",
    "1.2.3",
    "^1.2.3",
    "^0.2.3",
    "^0.0.3",
    "^0",
    "^0.0",
    "^0.2",
    "~1",
    "~1.2",
    "~1.2.3",
    "~0.2.3-alpha",
    "=1",
    "=1.2",
    "=1.2.3",
    ">1",
    ">1.2",
    ">1.2.3",
    ">=1.2",
    ">=1.2.3",
    "<1",
    "<1.2",
    "<2",
    "<2.0.0",
    "<=1",
    "<=1.2",
    "<=1.2.3",
    "1.*",
    "1.2.x",
    ">=1.*",
    ">=1.2.3-alpha",
    ">1.2.3-alpha, <2",
    ">=1.2.3-alpha.1, <1.2.3",
    "^1.2.3-alpha",
    "=1.2.3-rc.1",
    "=1, >=1.2.3-0",
    "^1, >=1.2.3-0",
    "~1.2, >=1.2.3-0",
    " >= 1.2.3 , < 3 ",
    "<=2.0.0-alpha",
    "<2.0.0-beta",
    ">=1.2.3+build",
    ">=1, >=1.0.0-0",
    "<=1, >=1.0.0-0",
    "<2, >=2.0.0-0",
    "^1.2, >=1.2.4-0",
];

const NETWORKS: &[&str] = &[
    "10.0.0.0/8",
    "10.1.2.3/8",
    "10.0.0.1",
    "0.0.0.0/0",
    "::/0",
    "2001:db8::/32",
    "2001:db8::1",
    "::ffff:0:0/96",
    "::ffff:10.0.0.0/104",
    "::1/128",
    "192.168.1.128/25",
    "255.255.255.255/32",
    "11.0.0.0/31",
];

const PATTERNS: &[&str] =
    &["^x", "y$", "^[0-9]+$", "(?i)^STRASSE$", "^.$", r"\p{Lu}", "a.b", "", r"^\d{4}-", "(?s)^a.b$", "^$|x"];

const MOMENTS: &[&str] = &[
    "2026-01-01T00:00:00Z",
    "2026-01-01T01:00:00+01:00",
    "2025-12-31T23:59:59.999Z",
    "2025-12-31T23:59:60Z",
    "2026-01-01T00:00:00.0005Z",
    "1970-01-01T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999Z",
];

const ATTRIBUTES: &[&str] =
    &["a", "b", "o", "o.p", "o.q", "o.p.q", "o..p", ".p", "targetingKey", "targetingKey.a", "o.", "z"];

fn one_of(texts: &'static [&'static str]) -> impl Strategy<Value = Value> + Clone {
    select(texts).prop_map(Value::from)
}

fn number(texts: &'static [&'static str]) -> impl Strategy<Value = Value> + Clone {
    select(texts).prop_map(|text| serde_json::from_str(text).unwrap())
}

fn affix() -> impl Strategy<Value = Value> + Clone {
    one_of(TEXTS).prop_filter("not empty", |text| text != "")
}

fn scalar() -> impl Strategy<Value = Value> + Clone {
    prop_oneof![4 => one_of(TEXTS), 3 => number(NUMBERS), 1 => any::<bool>().prop_map(Value::from)]
}

/// Equality of some numbers that definitions refuse is left to the parser's own tests.
fn test() -> impl Strategy<Value = Value> + Clone {
    let several = |one: BoxedStrategy<Value>| prop_oneof![one.clone(), vec(one, 1..4).prop_map(Value::from)];
    let cased = prop_oneof![
        scalar().prop_map(|operand| ("equals", operand)),
        vec(scalar(), 1..10).prop_map(|list| ("in", list.into())),
        (select(vec!["startsWith", "endsWith", "contains"]), several(affix().boxed())),
    ];
    let cased = (cased, option::of(any::<bool>())).prop_map(|((operator, operand), ignore_case)| {
        let mut test = json!({operator: operand});
        if let Some(ignore_case) = ignore_case {
            test["ignoreCase"] = ignore_case.into();
        }
        test
    });
    let other = prop_oneof![
        1 => one_of(PATTERNS).prop_filter("not empty", |text| text != "").prop_map(|operand| json!({"matches": operand})),
        3 => (select(vec!["lessThan", "atMost", "greaterThan", "atLeast"]), number(NUMBERS))
            .prop_filter("held", |(_, bound)| bound != &json!(i64::MAX))
            .prop_map(|(operator, bound)| json!({operator: bound})),
        2 => (select(vec!["before", "after"]), one_of(MOMENTS)).prop_map(|(operator, at)| json!({operator: at})),
        3 => one_of(REQUIREMENTS).prop_map(|operand| json!({"semver": operand})),
        3 => several(one_of(NETWORKS).boxed()).prop_map(|operand| json!({"cidr": operand})),
        1 => any::<bool>().prop_map(|wanted| json!({"exists": wanted})),
    ];
    (select(ATTRIBUTES), prop_oneof![1 => cased, 1 => other]).prop_map(|(attribute, mut test)| {
        test["attribute"] = attribute.into();
        test
    })
}

fn window() -> impl Strategy<Value = Value> + Clone {
    // Both sides could cross, which the reader refuses: one side at a time, or the whole of our years.
    prop_oneof![
        (select(vec!["after", "before"]), one_of(MOMENTS)).prop_map(|(side, at)| json!({"time": {side: at}})),
        Just(json!({"time": {"after": "2025-12-31T23:59:59.999Z", "before": "2026-01-01T00:00:00.001Z"}})),
    ]
}

fn condition() -> impl Strategy<Value = Value> {
    let segment = select(vec!["s0", "s1", "s2"]).prop_map(|key| json!({"segment": key}));
    condition_of(prop_oneof![8 => test(), 2 => segment, 1 => window()].boxed())
}

fn condition_of(leaf: BoxedStrategy<Value>) -> impl Strategy<Value = Value> {
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 1..4).prop_map(|list| json!({"all": list})),
            vec(inner.clone(), 1..4).prop_map(|list| json!({"any": list})),
            inner.prop_map(|one| json!({"not": one})),
        ]
    })
}

/// The variants of a flag: names and the members that state them.
fn variants() -> impl Strategy<Value = (Vec<&'static str>, Value)> {
    let three = |values: [Value; 3]| json!({"variants": {"a": values[0], "b": values[1], "z.1": values[2]}});
    let texts = three([json!("A"), json!(""), json!("Z")]);
    let numbers = three([json!(1), json!(1.0), json!(-2.5)]);
    let objects = three([json!({"k": [1, null, {"l": 0.1}]}), json!([]), json!({})]);
    prop_oneof![
        2 => Just((vec!["on", "off"], json!({}))),
        1 => Just((vec!["yes", "no"], json!({"variants": {"yes": true, "no": false}}))),
        3 => (select(vec![texts, numbers, objects]), select(vec!["a", "b", "z.1"])).prop_map(|(mut members, off)| {
            members["offVariant"] = off.into();
            (vec!["a", "b", "z.1"], members)
        }),
    ]
}

fn points_as_percent(points: u32) -> Value {
    serde_json::from_str(&format!("{}.{:04}", points / 10_000, points % 10_000)).unwrap()
}

fn serve(names: Vec<&'static str>) -> impl Strategy<Value = Value> {
    let cut = prop_oneof![0..=1_000_000_u32, select(vec![0, 1, 250_000, 500_000, 999_999, 1_000_000])];
    let lengths = |cuts: Vec<u32>| {
        let mut ends = cuts;
        ends.push(1_000_000);
        ends.sort_unstable();
        let starts: Vec<u32> = std::iter::once(0).chain(ends.clone()).collect();
        ends.into_iter().zip(starts).map(|(end, start)| points_as_percent(end - start)).collect::<Vec<_>>()
    };
    let (listed, split_among) = (names.clone(), names.clone());
    let list = vec((cut.clone(), select(listed)), 1..6).prop_map(move |arms| {
        let cuts = arms.iter().skip(1).map(|(cut, _)| *cut).collect();
        let arms = arms.iter().zip(lengths(cuts)).map(|((_, name), share)| json!({*name: share}));
        Value::from(arms.collect::<Vec<_>>())
    });
    let count = split_among.len();
    let shares = (subsequence(split_among, 1..=count), vec(cut, count)).prop_map(move |(owners, cuts)| {
        let lengths = lengths(cuts[1..owners.len()].to_vec());
        owners.iter().map(|name| (*name).to_owned()).zip(lengths).collect::<Map<_, _>>().into()
    });
    let by = option::of(select(ATTRIBUTES));
    let split = (prop_oneof![list, shares], by).prop_map(|(split, by): (Value, _)| {
        let mut serve = json!({"split": split});
        if let Some(by) = by {
            serve["by"] = by.into();
        }
        serve
    });
    prop_oneof![1 => select(names).prop_map(Value::from), 2 => split]
}

/// A flag that may require flags with smaller numbers.
fn flag(index: usize) -> impl Strategy<Value = Value> {
    (variants(), any::<bool>()).prop_flat_map(move |((names, members), is_short)| {
        let rules = vec((condition(), serve(names.clone())), 0..4);
        let required = subsequence((0..index).collect::<Vec<_>>(), 0..=index.min(2));
        let salt = option::of(select(vec!["salt", "f0", "Zürich"]));
        let is_off = prop::bool::weighted(0.1);
        let otherwise = option::of(serve(names));
        (rules, required, salt, is_off, otherwise).prop_map(move |(rules, required, salt, is_off, otherwise)| {
            let mut flag = members.clone();
            let rules = rules.into_iter().enumerate();
            let rules: Vec<Value> =
                rules.map(|(n, (condition, serve))| json!({"name": format!("r {n}"), "if": condition, "serve": serve})).collect();
            flag["rules"] = rules.into();
            let required: Vec<Value> = required.iter().map(|n| json!({"flag": format!("f{n}"), "serves": []})).collect();
            flag["requires"] = required.into();
            if let Some(salt) = salt {
                flag["salt"] = salt.into();
            }
            if is_off {
                flag["enabled"] = false.into();
            }
            match otherwise {
                Some(_) if is_short && flag.get("variants").is_none() => flag["rollout"] = json!(33.3333),
                Some(otherwise) => flag["otherwise"] = otherwise,
                None => {}
            }
            flag
        })
    })
}

fn segment(index: usize) -> impl Strategy<Value = Value> {
    let units = || subsequence(vec!["u-1", "u-2", "17", "x", "-1", "0", "1"], 0..4);
    let leaf = if index == 0 {
        test().boxed()
    } else {
        prop_oneof![4 => test(), 1 => Just(json!({"segment": format!("s{}", index - 1)}))].boxed()
    };
    (units(), units(), option::of(condition_of(leaf)), option::of(select(ATTRIBUTES))).prop_map(
        |(include, exclude, condition, by)| {
            let mut segment = json!({"include": include, "exclude": exclude});
            if let Some(condition) = condition {
                segment["if"] = condition;
            }
            if let Some(by) = by {
                segment["by"] = by.into();
            }
            segment
        },
    )
}

/// Flags f0 to f3, segments s0 to s2; each requirement asks for a variant that the required flag has, or two.
fn definitions() -> impl Strategy<Value = Value> {
    let flags = (flag(0), flag(1), flag(2), flag(3));
    let segments = (segment(0), segment(1), segment(2));
    (flags, segments, vec(any::<u8>(), 8)).prop_map(|(flags, segments, dice)| {
        let mut flags = vec![flags.0, flags.1, flags.2, flags.3];
        let names: Vec<Vec<String>> = flags.iter().map(names_of).collect();
        let mut dice = dice.into_iter().cycle();
        for flag in &mut flags {
            for requirement in flag["requires"].as_array_mut().unwrap() {
                let required: usize = requirement["flag"].as_str().unwrap()[1..].parse().unwrap();
                let first = usize::from(dice.next().unwrap());
                let take = 1 + usize::from(dice.next().unwrap() % 2);
                let cycle = names[required].iter().cycle().skip(first % names[required].len());
                requirement["serves"] = cycle.take(take).cloned().collect::<Vec<_>>().into();
            }
        }
        let flags: Map<_, _> =
            flags.into_iter().enumerate().map(|(n, flag)| (format!("f{n}"), flag)).collect();
        json!({"flags": flags, "segments": {"s0": segments.0, "s1": segments.1, "s2": segments.2}})
    })
}

fn names_of(flag: &Value) -> Vec<String> {
    match flag.get("variants") {
        Some(variants) => variants.as_object().unwrap().keys().cloned().collect(),
        None => vec!["on".to_owned(), "off".to_owned()],
    }
}

fn attribute() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        6 => one_of(TEXTS),
        3 => number(NUMBERS),
        1 => number(LOOSE_NUMBERS),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            2 => vec(inner.clone(), 0..4).prop_map(Value::from),
            1 => (option::of(inner.clone()), option::of(inner.clone()), option::of(inner)).prop_map(|(p, q, empty)| {
                let members = [("p", p), ("q", q), ("", empty)];
                members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect::<Map<_, _>>().into()
            }),
        ]
    })
}

fn context() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        4 => select(vec!["u-1", "u-2", "17", "x", "", "é", "😀"]).prop_map(|key| Some(Value::from(key))),
        1 => Just(Some(json!(17))),
        2 => (0..100_000).prop_map(|n| Some(Value::from(format!("user-{n}")))),
        1 => Just(None),
    ];
    let attributes = vec((select(vec!["a", "b", "o", "o.p", "", "o."]), attribute()), 0..5);
    (key, attributes).prop_map(|(key, attributes)| {
        let mut members: Map<String, Value> =
            attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        members.extend(key.map(|key| ("targetingKey".to_owned(), key)));
        Value::from(members)
    })
}

/// Kills of flags, of which the last has no definition; as bytes, some of which nobody can read.
fn kills() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    let bytes = select(vec![
        r#"{"offVariant":"dark","value":{"a":[1,2.5]},"by":"x","at":"2026-01-01T00:00:00Z"}"#,
        r#"{"value":7}"#,
        r#"{"offVariant":"b"}"#,
        r#"{"offVariant":"not a name","value":null}"#,
        "\u{0}no JSON",
        "[]",
    ]);
    vec((select(vec!["f0", "f1", "f9"]), bytes), 0..2)
}

fn snapshot(definitions: &Value, kills: &[(&str, &str)]) -> Result<Snapshot, String> {
    let mut state = State::empty(EnvironmentName::new("default").unwrap(), Epoch::default());
    let author = Author { actor: "a".into(), reason: None, now: Timestamp::default() };
    let put = Edit::Put { file: definitions.to_string(), mode: PutMode::Create };
    let mut writes = edit::plan(&state, &put, &author).map_err(|error| format!("{error}: {error:?}"))?.writes;
    for (key, bytes) in kills {
        writes.push(EntryWrite::set(EntryId::new(EntryKind::KILL, key), bytes.as_bytes()));
    }
    let delta = state.delta(writes);
    state.apply(&delta).unwrap();
    Ok(Snapshot::build(&state, &BTreeMap::new()))
}

fn environment(definitions: &Value, kills: &[(&str, &str)]) -> Environment {
    let members = |name| definitions[name].as_object().unwrap().clone();
    let kill = |bytes: &str| {
        let read: Value = serde_json::from_str(bytes).unwrap_or_default();
        let name = read["offVariant"].as_str().filter(|name| !name.contains(' '));
        let value = read.get("value").filter(|value| !value.is_null());
        Kill { off_variant: name.map(str::to_owned), value: value.cloned() }
    };
    // The last write of an entry is what the state holds.
    let kills = kills.iter().rev().map(|(key, bytes)| ((*key).to_owned(), kill(bytes))).collect();
    Environment { flags: members("flags"), segments: members("segments"), kills }
}

/// Every operator with every operand above that it takes.
fn all_tests() -> Vec<Value> {
    let texts = || TEXTS.iter().map(|text| json!(text)).filter(|text| text != "");
    let numbers = || NUMBERS.iter().map(|text| serde_json::from_str::<Value>(text).unwrap());
    let mut all: Vec<Value> = Vec::new();
    for ignore_case in [false, true] {
        for operand in texts().chain(numbers()).chain([json!(""), json!(true), json!(false)]) {
            all.push(json!({"equals": operand, "ignoreCase": ignore_case}));
            // Few operands and many are looked up in different ways.
            all.push(json!({"in": [operand], "ignoreCase": ignore_case}));
            all.push(json!({"in": [1, 2, 3, "p", "q", "r", "s", 0.25, operand], "ignoreCase": ignore_case}));
        }
        for operator in ["startsWith", "endsWith", "contains"] {
            all.extend(texts().map(|operand| json!({operator: operand, "ignoreCase": ignore_case})));
        }
    }
    for operator in ["lessThan", "atMost", "greaterThan", "atLeast"] {
        let held = numbers().filter(|bound| bound != &json!(i64::MAX));
        all.extend(held.map(|operand| json!({operator: operand})));
    }
    let plain: [(&str, &[&str]); 5] = [
        ("matches", PATTERNS),
        ("before", MOMENTS),
        ("after", MOMENTS),
        ("semver", REQUIREMENTS),
        ("cidr", NETWORKS),
    ];
    for (operator, operands) in plain {
        let operands = operands.iter().filter(|operand| !operand.is_empty());
        all.extend(operands.map(|operand| json!({operator: operand})));
    }
    all.extend([json!({"exists": true}), json!({"exists": false})]);
    all
}

#[test]
fn every_operand_on_every_value_agrees() {
    let mut flags = Map::new();
    for (n, mut test) in all_tests().into_iter().enumerate() {
        test["attribute"] = "a".into();
        flags.insert(format!("f{n}"), json!({"rules": [{"name": "r", "if": test, "serve": "on"}]}));
    }
    let definitions = json!({"flags": flags, "segments": {}});
    let snapshot = snapshot(&definitions, &[]).unwrap();
    let environment = environment(&definitions, &[]);
    let texts = TEXTS.iter().map(|text| json!(text));
    let numbers = NUMBERS.iter().chain(LOOSE_NUMBERS).map(|text| serde_json::from_str(text).unwrap());
    let others =
        [json!(null), json!(true), json!(false), json!({}), json!([]), json!({"a": "x"}), json!([["x"]])];
    let (mut asked, mut held) = (0, 0);
    for value in texts.chain(numbers).chain(others) {
        let context = json!({"a": value});
        let engines = Context::from_json(&context).unwrap();
        for (key, flag) in &flags {
            let said = snapshot.evaluate(key, &engines, Timestamp::default()).variant == Some("on");
            let meant = reference::evaluate(&environment, key, &context, 0).variant.as_deref() == Some("on");
            assert_eq!(said, meant, "{} on {value}", flag["rules"][0]["if"]);
            asked += 1;
            held += usize::from(said);
        }
    }
    assert!(asked > 100_000 && held > 3_000, "{held} of {asked} held: the tables do not meet");
}

/// Layers of flags that each require all of the layer below: 12 x 12 x 12 x 12 looks, twice what is allowed.
fn thicket() -> Value {
    let mut flags = Map::new();
    for layer in 0..5 {
        for n in 0..12 {
            let below = |each| json!({"flag": format!("f{}.{each}", layer - 1), "serves": ["on"]});
            let required: Vec<Value> = if layer == 0 { vec![] } else { (0..12).map(below).collect() };
            let rule = json!({"name": "r", "if": {"segment": "s"}, "serve": "on"});
            flags.insert(
                format!("f{layer}.{n}"),
                json!({"requires": required, "rules": [rule], "otherwise": "on"}),
            );
        }
    }
    json!({"flags": flags, "segments": {"s": {"include": ["u"]}}})
}

#[test]
fn a_thicket_ends_for_both_at_the_same_look() {
    let definitions = thicket();
    let snapshot = snapshot(&definitions, &[]).unwrap();
    let environment = environment(&definitions, &[]);
    for context in [json!({"targetingKey": "u"}), json!({})] {
        let engines = Context::from_json(&context).unwrap();
        for layer in 0..5 {
            let key = format!("f{layer}.0");
            let said = snapshot.evaluate(&key, &engines, Timestamp::default()).reason.to_string();
            assert_eq!(
                said,
                reference::evaluate(&environment, &key, &context, 0).reason,
                "{key} for {context}"
            );
            assert_eq!(said.starts_with("Requirement"), layer == 4, "{key}: {said}");
        }
    }
}

/// Lists that are stored in parts: some of each of several forms, numbers as units included.
#[test]
fn lists_in_parts_agree() {
    let odd = ["a\"b", "a\\nb", "line\nbreak", "é", "😀", ",", "\u{1}"];
    let units = |from: u32, to: u32| -> Vec<String> {
        (from..to).map(|n| n.to_string()).chain(odd.map(str::to_owned)).collect()
    };
    let rule = |key: &str| json!({"rules": [{"name": "r", "if": {"segment": key}, "serve": "on"}]});
    let definitions = json!({
        "flags": {"f0": rule("s0"), "f1": rule("s1"), "f2": rule("s2")},
        "segments": {
            "s0": {"include": units(0, 20_000)},
            "s1": {"by": "a", "include": units(0, 20_000), "exclude": units(10_000, 30_000)},
            "s2": {"exclude": units(0, 20_000), "if": {"not": {"segment": "s1"}}},
        },
    });
    let snapshot = snapshot(&definitions, &[]).unwrap();
    let environment = environment(&definitions, &[]);
    let numbers = (0..40_000).step_by(997);
    let mut contexts: Vec<Value> = numbers.clone().map(|n| json!({"targetingKey": n, "a": n})).collect();
    contexts.extend(numbers.map(|n| json!({"a": f64::from(n), "targetingKey": format!("{n}x")})));
    let more = odd.iter().copied().chain(["a\\\"b", "a\nb", "line\\nbreak", "", "\u{2}"]);
    contexts.extend(more.map(|unit| json!({"targetingKey": unit, "a": unit})));
    for context in &contexts {
        let engines = Context::from_json(context).unwrap();
        for key in ["f0", "f1", "f2"] {
            let said = snapshot.evaluate(key, &engines, Timestamp::default()).reason.to_string();
            assert_eq!(
                said,
                reference::evaluate(&environment, key, context, 0).reason,
                "{key} for {context}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_and_the_page_agree(
        definitions in definitions(),
        contexts in vec(context(), 6),
        kills in kills(),
        now_ms in select(vec![0, 1_767_225_600_000, 1_767_225_599_999, 1_767_225_600_001, -62_135_596_800_000]),
    ) {
        let snapshot = snapshot(&definitions, &kills);
        prop_assert!(snapshot.is_ok(), "{}", snapshot.unwrap_err());
        let snapshot = snapshot.unwrap();
        let environment = environment(&definitions, &kills);
        for context in &contexts {
            let engines = Context::from_json(context).unwrap();
            for key in ["f0", "f1", "f2", "f3", "f9", "f10"] {
                let said = snapshot.evaluate(key, &engines, Timestamp::from_millis(now_ms));
                let said = Answer {
                    value: said.value.cloned().unwrap_or_default(),
                    variant: said.variant.map(str::to_owned),
                    reason: said.reason.to_string(),
                };
                let meant = reference::evaluate(&environment, key, context, now_ms);
                prop_assert_eq!(said, meant, "{} for {} at {}", key, context, now_ms);
            }
        }
    }

    #[test]
    fn one_operator_on_one_value_agrees(test in test(), value in attribute(), key in option::of("[a-z]{1,3}")) {
        let flags = json!({"f": {"rules": [{"name": "r", "if": test, "serve": "on"}]}});
        let definitions = json!({"flags": flags, "segments": {}});
        let snapshot = snapshot(&definitions, &[]);
        prop_assert!(snapshot.is_ok(), "{}", snapshot.unwrap_err());
        let environment = environment(&definitions, &[]);
        // The same value under every name that the test may look for.
        let context = json!({"targetingKey": key, "a": value, "b": value, "z": value, "o": {"p": value, "q": value, "": {"p": value}}, "": {"p": value}});
        let said = snapshot.unwrap().evaluate("f", &Context::from_json(&context).unwrap(), Timestamp::default()).reason.to_string();
        prop_assert_eq!(said, reference::evaluate(&environment, "f", &context, 0).reason, "{} on {}", test, context);
    }

    /// The page promises the nearest float; the reader of JSON in use has to keep that promise.
    #[test]
    fn a_number_of_a_context_is_the_nearest_float(digits in "[1-9][0-9]{0,24}", places in 0_usize..25, power in -40_i32..40) {
        let (whole, fraction) = digits.split_at(digits.len().saturating_sub(places).max(1));
        let text = format!("{whole}.{fraction}0e{power}");
        let context: Value = serde_json::from_str(&format!(r#"{{"a": {text}}}"#)).unwrap();
        let context = Context::from_json(&context).unwrap();
        prop_assert_eq!(context.attribute("a"), Some(&Attribute::Number(text.parse().unwrap())), "{}", text);
    }
}
