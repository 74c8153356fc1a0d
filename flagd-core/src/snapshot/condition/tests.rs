//! Every operator on every type of attribute.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::*;
use crate::definition::parse_stored_flag;
use crate::key::FlagKey;
use crate::snapshot::explain;

/// Whether `test` (the members beside `attribute`) holds for the attribute `a` of this context.
fn holds(test: &str, context: &Context) -> bool {
    let json =
        format!(r#"{{"rules": [{{"name": "r", "if": {{"attribute": "a", {test}}}, "serve": "on"}}]}}"#);
    let flag = parse_stored_flag(&FlagKey::new("f").unwrap(), &json).unwrap_or_else(|problems| {
        let told = problems.iter().fold(String::new(), |mut told, problem| {
            let _ = writeln!(told, "{problem}");
            told
        });
        panic!("{test}: {told}");
    });
    let definition::Condition::Attribute { attribute, test } = &flag.rules[0].condition else {
        panic!("{test} is no test on an attribute");
    };
    assert!(!explain::test(attribute, test).is_empty());
    Test::of(test).unwrap().holds(Path::of(attribute).find(context))
}

/// One value of each type, with names for the table below.
fn values() -> Vec<(&'static str, Context)> {
    let set = |value: Value| Context::new("u").with("a", value);
    vec![
        ("absent", Context::new("u")),
        ("text", set(json!("Berlin"))),
        ("empty", set(json!(""))),
        ("int", set(json!(17))),
        ("float", set(json!(17.5))),
        ("whole", Context::new("u").with("a", 17.0)),
        ("nan", Context::new("u").with("a", f64::NAN)),
        ("inf", Context::new("u").with("a", f64::INFINITY)),
        ("true", set(json!(true))),
        ("false", set(json!(false))),
        ("list", set(json!(["Paris", "Berlin", 17, true]))),
        ("none", set(json!([]))),
        ("nested", set(json!([["Berlin"], [17]]))),
        ("object", set(json!({"Berlin": "Berlin"}))),
        ("moment", set(json!("2026-11-23T09:00:00+01:00"))),
        ("version", set(json!("2.3.1"))),
        ("v4", set(json!("10.1.2.3"))),
        ("v6", set(json!("2001:db8::1"))),
        ("mapped", set(json!("::ffff:10.1.2.3"))),
    ]
}

#[test]
fn every_operator_on_every_type() {
    let cases: &[(&str, &[&str])] = &[
        (r#""equals": "Berlin""#, &["text", "list"]),
        (r#""equals": "berlin""#, &[]),
        (r#""equals": "bERLIN", "ignoreCase": true"#, &["text", "list"]),
        (r#""equals": "17""#, &[]),
        (r#""equals": 17"#, &["int", "whole", "list"]),
        (r#""equals": 17.5"#, &["float"]),
        (r#""equals": true"#, &["true", "list"]),
        (r#""equals": false"#, &["false"]),
        (r#""equals": """#, &["empty"]),
        (r#""in": ["Rome", "Berlin", 17.5, false]"#, &["text", "float", "false", "list"]),
        (r#""in": ["a", "b", "c", "d", "e", "f", "Berlin"]"#, &["text", "list"]),
        (r#""in": ["a", "b", "c", "d", "e", "f", "BERLIN"], "ignoreCase": true"#, &["text", "list"]),
        (r#""in": [16, 17, 18]"#, &["int", "whole", "list"]),
        (r#""startsWith": "Ber""#, &["text", "list"]),
        (r#""startsWith": ["x", "Ber"]"#, &["text", "list"]),
        (r#""startsWith": "ber", "ignoreCase": true"#, &["text", "list"]),
        (r#""startsWith": "Berlin-""#, &[]),
        (r#""endsWith": "lin""#, &["text", "list"]),
        (r#""endsWith": "LIN", "ignoreCase": true"#, &["text", "list"]),
        (r#""contains": "erl""#, &["text", "list"]),
        (r#""contains": "ERL", "ignoreCase": true"#, &["text", "list"]),
        (r#""contains": "erx""#, &[]),
        (r#""matches": "^B.*n$""#, &["text", "list"]),
        (r#""matches": "arlin""#, &[]),
        (r#""lessThan": 17"#, &[]),
        (r#""lessThan": 17.2"#, &["int", "whole", "list"]),
        (r#""atMost": 17"#, &["int", "whole", "list"]),
        (r#""greaterThan": 17"#, &["float"]),
        (r#""atLeast": 17"#, &["int", "float", "whole", "list"]),
        (r#""before": "2026-11-23T08:00:00Z""#, &[]),
        (r#""before": "2026-11-23T08:00:01Z""#, &["moment"]),
        (r#""after": "2026-11-23T08:00:00Z""#, &["moment"]),
        (r#""after": "2026-11-23T08:00:01Z""#, &[]),
        (r#""semver": ">=2.3.0, <3""#, &["version"]),
        (r#""semver": ">=2.4""#, &[]),
        (r#""cidr": "10.0.0.0/8""#, &["v4", "mapped"]),
        (r#""cidr": ["192.168.0.0/16", "2001:db8::/32"]"#, &["v6"]),
        (r#""cidr": "::ffff:10.0.0.0/104""#, &["mapped"]),
        (r#""cidr": "10.1.2.3""#, &["v4", "mapped"]),
        (r#""exists": false"#, &["absent"]),
    ];
    for (test, want) in cases {
        let held: Vec<&str> =
            values().iter().filter(|(_, context)| holds(test, context)).map(|(name, _)| *name).collect();
        assert_eq!(held, *want, "{test}");
    }
    let present = values().iter().filter(|(_, context)| holds(r#""exists": true"#, context)).count();
    assert_eq!(present, values().len() - 1, "everything but the absent one exists");
}

#[test]
fn numbers_are_compared_by_value() {
    let exact = 9_007_199_254_740_993_i64; // 2^53 + 1: no f64
    let cases: &[(&str, Attribute, bool)] = &[
        (r#""equals": 9007199254740993"#, Attribute::Integer(exact), true),
        (r#""equals": 9007199254740993"#, Attribute::Integer(exact - 1), false),
        (r#""equals": 9007199254740993"#, Attribute::Number(9_007_199_254_740_992.0), false),
        (r#""equals": 9007199254740992"#, Attribute::Number(9_007_199_254_740_992.0), true),
        (r#""greaterThan": 9007199254740992"#, Attribute::Integer(exact), true),
        (r#""atMost": 9007199254740992"#, Attribute::Integer(exact), false),
        (r#""lessThan": 1e300"#, Attribute::Integer(i64::MAX), true),
        (r#""greaterThan": -1e300"#, Attribute::Integer(i64::MIN), true),
        (r#""greaterThan": 1e300"#, Attribute::Integer(i64::MAX), false),
        (r#""lessThan": -0.5"#, Attribute::Integer(0), false),
        (r#""lessThan": -0.5"#, Attribute::Integer(-1), true),
        (r#""greaterThan": -1.5"#, Attribute::Integer(-1), true),
        (r#""equals": 0"#, Attribute::Number(-0.0), true),
        (r#""atLeast": 0"#, Attribute::Number(f64::NAN), false),
        (r#""lessThan": 0"#, Attribute::Number(f64::NEG_INFINITY), false),
    ];
    for (test, attribute, want) in cases {
        let context = Context::new("u").with("a", attribute.clone());
        assert_eq!(holds(test, &context), *want, "{attribute:?} {test}");
    }
}

#[test]
fn letters_are_lowered_one_by_one() {
    let cases: &[(&str, &str, bool)] = &[
        (r#""equals": "strasse""#, "STRASSE", true),
        (r#""equals": "stra\u00dfe""#, "STRASSE", false),
        (r#""equals": "\u00e4\u00f6\u00fc""#, "\u{c4}\u{d6}\u{dc}", true),
        // U+0130 becomes two characters, i and a combining dot.
        (r#""equals": "i\u0307stanbul""#, "\u{130}STANBUL", true),
        (r#""contains": "\u0307st""#, "\u{130}STANBUL", true),
        (r#""endsWith": "\u0307""#, "\u{130}", true),
        (r#""startsWith": "\u0130S""#, "\u{130}stanbul", true),
        (r#""in": ["x", "\u0130"]"#, "\u{130}", true),
    ];
    for (test, text, want) in cases {
        let context = Context::new("u").with("a", *text);
        assert_eq!(holds(&format!("{test}, \"ignoreCase\": true"), &context), *want, "{text} {test}");
    }
}

#[test]
fn a_path_is_a_name_first_and_then_a_way() {
    let nested =
        json!({"company": {"id": 7, "country.code": "DE"}, "plain.name": "x", "plain": {"name": "y"}});
    let Value::Object(members) = nested else { unreachable!() };
    let mut context = Context::new("user");
    for (name, value) in &members {
        context.set(name.as_str(), value);
    }
    let cases: &[(&str, Option<Attribute>)] = &[
        ("company.id", Some(Attribute::Integer(7))),
        ("plain.name", Some(Attribute::String("x".into()))),
        ("company.country.code", None),
        ("company.id.x", None),
        ("company.", None),
        (".company", None),
        ("", None),
    ];
    for (path, want) in cases {
        let found = Path::of(path).find(&context).cloned();
        assert_eq!(found, *want, "{path}");
    }
    assert_eq!(Path::of("targetingKey").find(&context), Some(&Attribute::String("user".into())));
    assert!(Path::of("targetingKey").find(&Context::anonymous()).is_none());
}
