//! Any valid definition, for property tests of every part that takes one.
//!
//! What comes out is accepted by the parser and holds what the parser would make of it; references point
//! nowhere in particular.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::Value;

use super::{
    About, Case, Condition, FlagDefinition, FlagType, Kill, Layout, Ppm, Requirement, Rule, Scalar,
    SegmentDefinition, Serve, Split, Stretch, Switch, Test, Tombstone, words,
};
use crate::key::{FlagKey, RuleName, SegmentKey, VariantName};
use crate::split::LINE;
use crate::time::Timestamp;

/// A text that is not empty, with everything that makes writers of JSON stumble.
pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z]{1,8}",
        2 => "\\PC{1,8}",
        1 => Just("a\"\\/\n\r\t\u{8}\u{c}\u{1}\u{7f}\u{2028}\u{e9}\u{1f600}".to_owned()),
    ]
}

/// A flag's key; never one that [`requirements`](flag) name.
pub(crate) fn flag_key() -> impl Strategy<Value = FlagKey> {
    "k[A-Za-z0-9._-]{0,10}".prop_map(|text| FlagKey::new(&text).unwrap())
}

/// A segment's key.
pub(crate) fn segment_key() -> impl Strategy<Value = SegmentKey> {
    "[a-d]".prop_map(|text| SegmentKey::new(&text).unwrap())
}

/// A moment that RFC 3339 can tell.
pub(crate) fn timestamp() -> impl Strategy<Value = Timestamp> {
    (-62_135_596_800_000..253_402_207_200_000_i64).prop_map(Timestamp::from_millis)
}

fn finite() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), (-1000..1000_i32).prop_map(|n| f64::from(n) / 4.0)]
        .prop_filter("finite", |number| number.is_finite())
}

/// Any JSON value.
pub(crate) fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        finite().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::Array),
            btree_map(text(), inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// JSON made of the language's own words in any order: mostly wrong, nearly right, now and then a definition.
pub(crate) fn nearly_a_definition() -> impl Strategy<Value = Value> {
    let names: Vec<&str> =
        [words::FLAG, words::SEGMENT, words::RULE, words::SPLIT, words::CONDITION, words::TIME]
            .concat()
            .into_iter()
            .chain(words::OPERATORS.map(words::Operator::name))
            .chain([words::IGNORE_CASE, "on", "off"])
            .collect();
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        select(vec![0, 25, 75, 100]).prop_map(Value::from),
        finite().prop_map(Value::from),
        select(vec!["on", "off", "staff", ">=1", "10.0.0.0/8", "2026-11-23T08:00:00Z", "("])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 4, move |inner| {
        prop_oneof![
            1 => vec(inner.clone(), 0..3).prop_map(Value::Array),
            3 => btree_map(select(names.clone()), inner, 0..4)
                .prop_map(|map| map.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Value>()),
        ]
    })
}

fn value_of(flag_type: FlagType) -> BoxedStrategy<Value> {
    match flag_type {
        FlagType::Boolean => any::<bool>().prop_map(Value::from).boxed(),
        FlagType::String => text().prop_map(Value::from).boxed(),
        FlagType::Number => {
            prop_oneof![any::<i64>().prop_map(Value::from), finite().prop_map(Value::from)].boxed()
        }
        FlagType::Json => {
            btree_map(text(), json(), 0..3).prop_map(|map| Value::Object(map.into_iter().collect())).boxed()
        }
    }
}

fn about() -> impl Strategy<Value = About> {
    let tags = vec(text(), 0..4).prop_map(|tags| {
        let mut seen = BTreeSet::new();
        tags.into_iter().filter(|tag| seen.insert(tag.clone())).collect::<Vec<_>>()
    });
    (proptest::option::of(text()), proptest::option::of(text()), tags, btree_map(text(), json(), 0..3))
        .prop_map(|(description, owner, tags, metadata)| About {
            description,
            owner,
            tags,
            metadata: metadata.into_iter().collect(),
        })
}

fn scalar() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        any::<bool>().prop_map(Scalar::Bool),
        any::<i64>().prop_map(Scalar::Integer),
        finite()
            .prop_filter("not an integer", |n| n.fract() != 0.0
                || !(-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(n))
            .prop_map(Scalar::Number),
        text().prop_map(|text| Scalar::String(text.into())),
    ]
}

fn texts() -> impl Strategy<Value = Vec<Box<str>>> {
    vec(text().prop_map(Into::into), 1..4)
}

fn one_of(texts: &'static [&'static str]) -> impl Strategy<Value = Box<str>> {
    select(texts).prop_map(Box::from)
}

/// Any test of one attribute.
pub(crate) fn test() -> impl Strategy<Value = Test> {
    let case = || any::<bool>().prop_map(|ignore| if ignore { Case::Ignore } else { Case::Sensitive });
    prop_oneof![
        (scalar(), case()).prop_map(|(scalar, case)| Test::Equals(scalar, case)),
        (vec(scalar(), 1..4), case()).prop_map(|(scalars, case)| Test::In(scalars, case)),
        (texts(), case()).prop_map(|(texts, case)| Test::StartsWith(texts, case)),
        (texts(), case()).prop_map(|(texts, case)| Test::EndsWith(texts, case)),
        (texts(), case()).prop_map(|(texts, case)| Test::Contains(texts, case)),
        one_of(&["^a+$", "b", "(?i)x|y", "\\d{1,3}", "\\p{Greek}"]).prop_map(Test::Matches),
        finite().prop_map(Test::LessThan),
        finite().prop_map(Test::AtMost),
        finite().prop_map(Test::GreaterThan),
        finite().prop_map(Test::AtLeast),
        timestamp().prop_map(Test::Before),
        timestamp().prop_map(Test::After),
        one_of(&[">=2.3.0, <3", "^1", "~1.2", "=1.2.3-rc.1", "*", "1.*"]).prop_map(Test::Semver),
        vec(one_of(&["10.0.0.0/8", "192.168.1.7", "2001:db8::/32", "::1", "0.0.0.0/0"]), 1..3)
            .prop_map(Test::Cidr),
        any::<bool>().prop_map(Test::Exists),
    ]
}

/// Any condition.
pub(crate) fn condition() -> impl Strategy<Value = Condition> {
    let attribute = prop_oneof![Just("country".to_owned()), Just("a.b".to_owned()), text()];
    let leaf = prop_oneof![
        6 => (attribute, test()).prop_map(|(name, test)| Condition::Attribute { attribute: name.into(), test }),
        1 => segment_key().prop_map(Condition::Segment),
        1 => (timestamp(), 1..1_000_000_i64, 0..3_u8).prop_map(|(start, length, sides)| Condition::Time {
            after: (sides != 1).then_some(start),
            before: (sides != 2).then_some(Timestamp::from_millis(start.as_millis() + length)),
        }),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 1..4).prop_map(Condition::All),
            vec(inner.clone(), 1..4).prop_map(Condition::Any),
            inner.prop_map(|condition| Condition::Not(Box::new(condition))),
        ]
    })
}

/// Lengths that sum to the whole line, one for each of `count`.
fn lengths(count: usize) -> impl Strategy<Value = Vec<Ppm>> {
    let cut = prop_oneof![0..=LINE, Just(0), Just(LINE), (0..=100_u32).prop_map(|percent| percent * 10_000)];
    vec(cut, count - 1).prop_map(|mut cuts| {
        cuts.push(LINE);
        cuts.sort_unstable();
        let starts = std::iter::once(0).chain(cuts.clone());
        cuts.iter().zip(starts).map(|(end, start)| Ppm(end - start)).collect()
    })
}

/// Stretches owned by some of these variants.
pub(crate) fn stretches(variants: Vec<VariantName>) -> impl Strategy<Value = Vec<Stretch>> {
    vec(select(variants), 1..6).prop_flat_map(|owners| {
        lengths(owners.len()).prop_map(move |lengths| {
            let pairs = owners.clone().into_iter().zip(lengths);
            pairs.map(|(variant, length)| Stretch { variant, length }).collect()
        })
    })
}

/// Shares of some of these variants.
pub(crate) fn shares(variants: Vec<VariantName>) -> impl Strategy<Value = BTreeMap<VariantName, Ppm>> {
    let count = variants.len();
    subsequence(variants, 1..=count).prop_flat_map(|owners| {
        lengths(owners.len()).prop_map(move |lengths| owners.clone().into_iter().zip(lengths).collect())
    })
}

fn serve(variants: Vec<VariantName>) -> impl Strategy<Value = Serve> {
    let layout = prop_oneof![
        shares(variants.clone()).prop_map(Layout::Shares),
        stretches(variants.clone()).prop_map(Layout::Stretches),
    ];
    let by = proptest::option::of(text().prop_map(Into::into));
    prop_oneof![
        select(variants).prop_map(Serve::Variant),
        (layout, by).prop_map(|(layout, by)| Serve::Split(Split { layout, by })),
    ]
}

fn requires() -> impl Strategy<Value = Vec<Requirement>> {
    let serves = btree_set("[a-c]", 1..3);
    btree_map("r[0-9]", serves, 0..3).prop_map(|map| {
        let requirement = |(flag, serves): (String, BTreeSet<String>)| Requirement {
            flag: FlagKey::new(&flag).unwrap(),
            serves: serves.iter().map(|name| VariantName::new(name).unwrap()).collect(),
        };
        map.into_iter().map(requirement).collect()
    })
}

fn rules(variants: Vec<VariantName>) -> impl Strategy<Value = Vec<Rule>> {
    vec(("[a-z\u{e9}&.]{1,6}", condition(), serve(variants)), 0..4).prop_map(|list| {
        let rule = |(index, (name, condition, serve)): (usize, (String, Condition, Serve))| Rule {
            name: RuleName::new(&format!("{index} {name}")).unwrap(),
            condition,
            serve,
        };
        list.into_iter().enumerate().map(rule).collect()
    })
}

/// Any valid flag.
pub(crate) fn flag() -> impl Strategy<Value = (FlagKey, FlagDefinition)> {
    let flag_type = select(vec![FlagType::Boolean, FlagType::String, FlagType::Number, FlagType::Json]);
    let variants =
        flag_type.prop_flat_map(|flag_type| btree_map("[a-z][a-z0-9.]{0,4}", value_of(flag_type), 1..5));
    (flag_key(), variants).prop_flat_map(|(key, variants)| {
        let variants: BTreeMap<VariantName, Value> =
            variants.into_iter().map(|(name, value)| (VariantName::new(&name).unwrap(), value)).collect();
        let names: Vec<VariantName> = variants.keys().cloned().collect();
        let salt = prop_oneof![Just(key.to_string()), text()];
        let parts = (
            about(),
            select(names.clone()),
            any::<bool>(),
            salt,
            requires(),
            rules(names.clone()),
            serve(names),
        );
        parts.prop_map(move |(about, off_variant, enabled, salt, requires, rules, otherwise)| {
            let definition = FlagDefinition {
                about,
                variants: variants.clone(),
                off_variant,
                switch: if enabled { Switch::Enabled } else { Switch::Disabled },
                salt: salt.into(),
                requires,
                rules,
                otherwise,
            };
            (key.clone(), definition)
        })
    })
}

/// Any valid segment.
pub(crate) fn segment() -> impl Strategy<Value = (SegmentKey, SegmentDefinition)> {
    let units =
        || btree_set(text(), 0..5).prop_map(|set| set.into_iter().map(Into::into).collect::<Vec<Box<str>>>());
    let by = proptest::option::of(text().prop_map(Into::into));
    (segment_key(), about(), by, units(), units(), proptest::option::of(condition())).prop_map(
        |(key, about, by, include, exclude, condition)| {
            (
                key,
                SegmentDefinition { about, by, include: include.into(), exclude: exclude.into(), condition },
            )
        },
    )
}

/// Any kill.
pub(crate) fn kill() -> impl Strategy<Value = Kill> {
    let name = proptest::option::of("[a-z]{1,4}".prop_map(|name| VariantName::new(&name).unwrap()));
    let value = proptest::option::of(json().prop_filter("no null", |value| !value.is_null()));
    (name, value, text(), timestamp(), proptest::option::of(text()))
        .prop_map(|(off_variant, value, by, at, reason)| Kill { off_variant, value, by, at, reason })
}

/// Any tombstone of a flag.
pub(crate) fn tombstone() -> impl Strategy<Value = Tombstone> {
    let definition = prop_oneof![
        3 => flag().prop_map(|(key, flag)| crate::canonical::write_flag(&key, &flag, crate::canonical::Form::Stored)),
        1 => text(),
        1 => Just("{not JSON}".to_owned()),
    ];
    (text(), definition, text(), timestamp(), proptest::option::of(text())).prop_map(
        |(salt, definition, by, at, reason)| Tombstone {
            flag_type: FlagType::Number,
            salt: salt.into(),
            definition: definition.into(),
            by,
            at,
            reason,
        },
    )
}
