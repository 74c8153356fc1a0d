//! The schema for editors names exactly what the parser knows.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::definition::words::{self, OPERATORS, Operand};
use crate::definition::{parse_flag, parse_segment, schema};
use crate::key::{FlagKey, SegmentKey};

fn member_names(schema: &Value) -> BTreeSet<&str> {
    schema["properties"].as_object().unwrap().keys().map(String::as_str).collect()
}

fn names<'a>(list: &[&'a str]) -> BTreeSet<&'a str> {
    list.iter().copied().collect()
}

#[test]
fn every_member_that_the_parser_knows_is_in_the_schema() {
    let schema = schema();
    let defs = &schema["$defs"];
    assert_eq!(member_names(&schema), names(words::FILE));
    assert_eq!(member_names(&defs["flag"]), names(words::FLAG));
    assert_eq!(member_names(&defs["segment"]), names(words::SEGMENT));
    assert_eq!(member_names(&defs["rule"]), names(words::RULE));
    assert_eq!(member_names(&defs["requirement"]), names(words::REQUIREMENT));
    assert_eq!(member_names(&defs["serve"]["anyOf"][1]), names(words::SPLIT));
    let mut kinds: BTreeSet<String> = BTreeSet::new();
    for kind in defs["condition"]["oneOf"].as_array().unwrap() {
        assert_eq!(kind["additionalProperties"], json!(false));
        kinds.extend(member_names(kind).into_iter().map(str::to_owned));
    }
    let mut want: BTreeSet<String> = OPERATORS.iter().map(|operator| operator.name().to_owned()).collect();
    want.extend(words::CONDITION.iter().map(|name| (*name).to_owned()));
    want.insert(words::IGNORE_CASE.to_owned());
    assert_eq!(kinds, want);
}

#[test]
fn every_member_of_the_tables_is_understood_by_the_parser() {
    for name in words::FLAG {
        let problems = parse_flag(&FlagKey::new("k").unwrap(), &format!(r#"{{"{name}":null}}"#)).unwrap_err();
        assert!(problems.iter().all(|problem| !problem.message.contains("unknown")), "{name}: {problems:?}");
    }
    for name in words::STORED_SEGMENT {
        let problems =
            parse_segment(&SegmentKey::new("s").unwrap(), &format!(r#"{{"{name}":null}}"#)).unwrap_err();
        assert!(problems.iter().all(|problem| !problem.message.contains("unknown")), "{name}: {problems:?}");
    }
}

#[test]
fn every_operator_takes_what_its_row_says() {
    let key = SegmentKey::new("s").unwrap();
    for operator in OPERATORS {
        let operand = match operator.operand() {
            Operand::Scalar => "1",
            Operand::Scalars => r#"["a", 1, true]"#,
            Operand::Texts => r#"["a"]"#,
            Operand::Pattern => r#""^a""#,
            Operand::Number => "1.5",
            Operand::Moment => r#""2026-11-23T08:00:00Z""#,
            Operand::Requirement => r#"">=1""#,
            Operand::Networks => r#""10.0.0.0/8""#,
            Operand::Presence => "true",
        };
        let name = operator.name();
        assert_eq!(words::Operator::named(name), Some(operator));
        let plain = format!(r#"{{"if":{{"attribute":"a","{name}":{operand}}}}}"#);
        assert!(parse_segment(&key, &plain).is_ok(), "{plain}");
        let with_case = format!(r#"{{"if":{{"attribute":"a","{name}":{operand},"ignoreCase":true}}}}"#);
        assert_eq!(parse_segment(&key, &with_case).is_ok(), operator.knows_case(), "{with_case}");
    }
}

#[test]
fn every_reference_in_the_schema_resolves() {
    fn walk(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| walk(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| walk(value, found)),
            _ => {}
        }
    }
    let schema = schema();
    let mut found = BTreeSet::new();
    walk(&schema, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        assert!(schema.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
}
