//! Every limit of a definition: accepted at the limit, refused one past it.

use std::fmt::Write as _;

use crate::definition::{parse_file, parse_flag, parse_segment};
use crate::key::{FlagKey, SegmentKey};
use crate::limits;

/// What is limited, the limit, a text with that many of it, and a part of the message one past it.
type Row = (&'static str, usize, fn(usize) -> String, &'static str);

fn repeat(n: usize, each: impl Fn(usize) -> String) -> String {
    (0..n).map(each).collect::<Vec<_>>().join(",")
}

fn filler(n: usize) -> String {
    "x".repeat(n)
}

fn test_rows(rows: &[Row], parse: impl Fn(&str) -> Result<(), Vec<crate::problem::Problem>>) {
    for (name, limit, make, message) in rows {
        let at_limit = parse(&make(*limit));
        assert!(at_limit.is_ok(), "{name} at {limit}: {:?}", at_limit.unwrap_err().first());
        let problems = parse(&make(limit + 1)).expect_err(name);
        assert_eq!(problems.len(), 1, "{name}: {problems:?}");
        assert!(problems[0].message.contains(message), "{name}: {}", problems[0]);
        assert!(problems[0].message.contains(&limit.to_string()), "{name}: {}", problems[0]);
    }
}

/// A value whose compact form has this many bytes.
fn value_of(bytes: usize) -> String {
    format!(r#"{{"variants":{{"v":"{}"}},"offVariant":"v"}}"#, filler(bytes - 2))
}

fn nested(n: usize, open: &str, inner: &str, close: &str) -> String {
    format!("{}{inner}{}", open.repeat(n), close.repeat(n))
}

#[test]
#[expect(clippy::too_many_lines, reason = "one row per case")]
fn limits_of_a_flag() {
    let rows: &[Row] = &[
        (
            "variants",
            limits::VARIANTS_MAX,
            |n| {
                format!(r#"{{"variants":{{{}}},"offVariant":"v0"}}"#, repeat(n, |i| format!(r#""v{i}":{i}"#)))
            },
            "variants",
        ),
        (
            "a variant's name",
            limits::KEY_MAX_BYTES,
            |n| format!(r#"{{"variants":{{"v":1,"{}":1}},"offVariant":"v"}}"#, filler(n)),
            "a variant name has at most",
        ),
        ("a value", limits::VALUE_MAX_BYTES, value_of, "a variant's value has at most"),
        (
            "depth of a value",
            limits::VALUE_DEPTH_MAX,
            |n| format!(r#"{{"variants":{{"v":{}}},"offVariant":"v"}}"#, nested(n, "[", "1", "]")),
            "nested at most",
        ),
        (
            "rules",
            limits::RULES_MAX,
            |n| {
                format!(
                    r#"{{"rules":[{}]}}"#,
                    repeat(n, |i| format!(r#"{{"name":"r{i}","if":{{"segment":"s"}},"serve":"on"}}"#))
                )
            },
            "this list has at most",
        ),
        (
            "a rule's name",
            limits::KEY_MAX_BYTES,
            |n| format!(r#"{{"rules":[{{"name":"{}","if":{{"segment":"s"}},"serve":"on"}}]}}"#, filler(n)),
            "a rule name has at most",
        ),
        (
            "conditions in all rules together",
            limits::CONDITIONS_MAX,
            |n| {
                let tests =
                    |n| format!(r#"{{"any":[{}]}}"#, repeat(n - 1, |_| r#"{"segment":"s"}"#.to_owned()));
                let (first, second) = (tests(1_000), tests(n - 1_000));
                format!(
                    r#"{{"rules":[{{"name":"a","if":{first},"serve":"on"}},{{"name":"b","if":{second},"serve":"on"}}]}}"#
                )
            },
            "a definition has at most",
        ),
        (
            "requirements",
            limits::REQUIRES_MAX,
            |n| {
                format!(
                    r#"{{"requires":[{}]}}"#,
                    repeat(n, |i| format!(r#"{{"flag":"r{i}","serves":["on"]}}"#))
                )
            },
            "this list has at most",
        ),
        (
            "variants of a requirement",
            limits::VARIANTS_MAX,
            |n| {
                format!(
                    r#"{{"requires":[{{"flag":"r","serves":[{}]}}]}}"#,
                    repeat(n, |i| format!(r#""v{i}""#))
                )
            },
            "this list has at most",
        ),
        (
            "stretches",
            limits::STRETCHES_MAX,
            |n| {
                let stretches = repeat(n - 1, |i| format!(r#"{{"{}":0.0001}}"#, ["on", "off"][i % 2]));
                format!(
                    r#"{{"otherwise":{{"split":[{stretches},{{"on":{}}}]}}}}"#,
                    crate::canonical::percent_of(1_000_001 - n as u64)
                )
            },
            "this list has at most",
        ),
        (
            "by",
            limits::OPERAND_MAX_BYTES,
            |n| format!(r#"{{"otherwise":{{"split":{{"on":100}},"by":"{}"}}}}"#, filler(n)),
            "the name of an attribute has at most",
        ),
        ("salt", limits::SALT_MAX_BYTES, |n| format!(r#"{{"salt":"{}"}}"#, filler(n)), "a salt has at most"),
        (
            "description",
            limits::DESCRIPTION_MAX_BYTES,
            |n| format!(r#"{{"description":"{}"}}"#, filler(n)),
            "`description` has at most",
        ),
        (
            "owner",
            limits::LABEL_MAX_BYTES,
            |n| format!(r#"{{"owner":"{}"}}"#, filler(n)),
            "`owner` has at most",
        ),
        (
            "a tag",
            limits::LABEL_MAX_BYTES,
            |n| format!(r#"{{"tags":["{}"]}}"#, filler(n)),
            "a tag has at most",
        ),
        (
            "tags",
            limits::TAGS_MAX,
            |n| format!(r#"{{"tags":[{}]}}"#, repeat(n, |i| format!("\"{i}\""))),
            "this list has at most",
        ),
        (
            "a key of metadata",
            limits::LABEL_MAX_BYTES,
            |n| format!(r#"{{"metadata":{{"{}":1}}}}"#, filler(n)),
            "a key of `metadata` has at most",
        ),
        (
            "metadata",
            limits::METADATA_MAX_BYTES,
            |n| {
                // Spaces do not count: only the compact form does.
                format!(r#"{{"metadata":  {{ "a":   "{}" }} }}"#, filler(n - r#"{"a":""}"#.len()))
            },
            "`metadata` has at most",
        ),
        (
            "depth of metadata",
            limits::VALUE_DEPTH_MAX,
            |n| format!(r#"{{"metadata":{{"a":{}}}}}"#, nested(n - 1, "[", "1", "]")),
            "nested at most",
        ),
    ];
    test_rows(rows, |text| parse_flag(&FlagKey::new("k").unwrap(), text).map(drop));
}

#[test]
fn limits_of_the_lists_of_a_segment() {
    let rows: &[Row] = &[
        (
            "units",
            limits::SEGMENT_UNITS_MAX,
            |n| format!(r#"{{"include":[{}]}}"#, repeat(n, |i| format!("\"{i}\""))),
            "this list has at most",
        ),
        (
            "excluded units",
            limits::SEGMENT_UNITS_MAX,
            |n| format!(r#"{{"exclude":[{}]}}"#, repeat(n, |i| format!("\"{i}\""))),
            "this list has at most",
        ),
        (
            "a unit",
            limits::UNIT_MAX_BYTES,
            |n| format!(r#"{{"include":["{}"]}}"#, filler(n)),
            "a unit has at most",
        ),
        (
            "both lists, as compact JSON",
            limits::SEGMENT_LISTS_MAX_BYTES,
            |n| {
                // Each unit is 1,000 bytes of its list, the last one as long as it must be.
                let units = (n - 6) / 1_000;
                let list = |units| repeat(units, |i| format!("\"{i:0>997}\""));
                let (include, exclude) = (list(units / 2), list(units - units / 2));
                format!(
                    r#"{{"include":[{include}],"exclude":[{exclude},">{}"]}}"#,
                    filler(n - 6 - units * 1_000)
                )
            },
            "the lists of a segment have at most",
        ),
    ];
    test_rows(rows, |text| parse_segment(&SegmentKey::new("s").unwrap(), text).map(drop));
}

#[test]
fn limits_of_a_segment_and_of_conditions() {
    let rows: &[Row] = &[
        (
            "the key of a segment",
            limits::KEY_MAX_BYTES,
            |n| format!(r#"{{"if":{{"segment":"{}"}}}}"#, filler(n)),
            "a segment key has at most",
        ),
        (
            "depth of conditions",
            limits::CONDITION_DEPTH_MAX,
            |n| format!(r#"{{"if":{}}}"#, nested(n - 1, r#"{"not":"#, r#"{"segment":"s"}"#, "}")),
            "nested at most",
        ),
        (
            "conditions",
            limits::CONDITIONS_MAX,
            |n| format!(r#"{{"if":{{"any":[{}]}}}}"#, repeat(n - 1, |_| r#"{"segment":"s"}"#.to_owned())),
            "a definition has at most",
        ),
        (
            "operands",
            limits::OPERANDS_MAX,
            |n| format!(r#"{{"if":{{"attribute":"a","in":[{}]}}}}"#, repeat(n, |i| i.to_string())),
            "this list has at most",
        ),
        (
            "texts",
            limits::OPERANDS_MAX,
            |n| format!(r#"{{"if":{{"attribute":"a","contains":[{}]}}}}"#, repeat(n, |i| format!("\"{i}\""))),
            "this list has at most",
        ),
        (
            "an operand",
            limits::OPERAND_MAX_BYTES,
            |n| format!(r#"{{"if":{{"attribute":"a","equals":"{}"}}}}"#, filler(n)),
            "an operand has at most",
        ),
        (
            "a text",
            limits::OPERAND_MAX_BYTES,
            |n| format!(r#"{{"if":{{"attribute":"a","endsWith":"{}"}}}}"#, filler(n)),
            "an operand has at most",
        ),
        (
            "the name of an attribute",
            limits::OPERAND_MAX_BYTES,
            |n| format!(r#"{{"if":{{"attribute":"{}","equals":1}}}}"#, filler(n)),
            "the name of an attribute has at most",
        ),
        (
            "a pattern",
            limits::REGEX_MAX_BYTES,
            |n| format!(r#"{{"if":{{"attribute":"a","matches":"{}"}}}}"#, filler(n)),
            "a pattern has at most",
        ),
        (
            "a requirement on a version",
            limits::OPERAND_MAX_BYTES,
            |n| {
                let pad = filler(n - ">=1.2.3-".len());
                format!(r#"{{"if":{{"attribute":"a","semver":">=1.2.3-{pad}"}}}}"#)
            },
            "a requirement on a version has at most",
        ),
        (
            "the stored form",
            limits::DEFINITION_MAX_BYTES,
            |n| {
                // 522 operands of 1,000 bytes and one that makes up the rest.
                let operands = repeat(522, |i| format!("\"{i:0>1000}\""));
                let fixed = r#"{"if":{"attribute":"a","in":[]}}"#.len() + operands.len() + r#",">""#.len();
                let rest = filler(n - fixed);
                format!(r#"{{ "if": {{"attribute": "a", "in" : [{operands},">{rest}"]}} }}"#)
            },
            "a stored definition has at most",
        ),
    ];
    test_rows(rows, |text| parse_segment(&SegmentKey::new("s").unwrap(), text).map(drop));
}

#[test]
fn limits_of_a_file() {
    let rows: &[Row] = &[
        (
            "flags",
            limits::FLAGS_MAX,
            |n| format!(r#"{{"flags":{{{}}}}}"#, repeat(n, |i| format!("\"{i}\":{{}}"))),
            "at most",
        ),
        (
            "segments",
            limits::SEGMENTS_MAX,
            |n| format!(r#"{{"segments":{{{}}}}}"#, repeat(n, |i| format!("\"{i}\":{{}}"))),
            "at most",
        ),
        (
            "a flag's key",
            limits::KEY_MAX_BYTES,
            |n| format!(r#"{{"flags":{{"{}":{{}}}}}}"#, filler(n)),
            "a flag key has at most",
        ),
        ("bytes", limits::FILE_MAX_BYTES, |n| format!("{{{}}}", " ".repeat(n - 2)), "a file has at most"),
    ];
    test_rows(rows, |text| parse_file(text).map(drop));
}

#[test]
fn nesting_without_end_is_refused_and_not_followed() {
    let key = FlagKey::new("k").unwrap();
    for (name, open, close) in [("not", r#"{"not":"#, "}"), ("all", r#"{"all":["#, "]}")] {
        let deep = nested(100_000, open, "1", close);
        let text = format!(r#"{{"rules":[{{"name":"r","if":{deep},"serve":"on"}}]}}"#);
        assert_eq!(parse_flag(&key, &text).unwrap_err().len(), 1, "{name}");
    }
    let text = format!(r#"{{"metadata":{{"a":{}}}}}"#, nested(100_000, "[", "", "]"));
    assert_eq!(parse_flag(&key, &text).unwrap_err().len(), 1);
}

#[test]
fn problems_past_the_limit_are_counted() {
    let mut text = String::from("{");
    for i in 0..limits::PROBLEMS_MAX + 7 {
        let _ = write!(text, "{}\"unknown{i}\":1", if i == 0 { "" } else { "," });
    }
    text.push('}');
    let problems = parse_flag(&FlagKey::new("k").unwrap(), &text).unwrap_err();
    assert_eq!(problems.len(), limits::PROBLEMS_MAX + 1);
    assert!(problems.last().unwrap().message.starts_with("7 more"), "{:?}", problems.last());
}
