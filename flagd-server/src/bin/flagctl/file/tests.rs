//! Files as teams keep them: JSON, YAML, many of them, and wrong ones.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::*;

fn yaml(text: &str) -> Value {
    serde_json::from_str(&yaml::to_json(text).unwrap()).unwrap()
}

fn problems(failure: Failure) -> Vec<String> {
    match failure {
        Failure::Problems(problems) => {
            problems.iter().map(|problem| format!("{}: {}", problem.file, problem.problem)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn yaml_scalars_follow_the_core_schema_of_1_2() {
    let cases = [
        ("off", json!("off")),
        ("no", json!("no")),
        ("NO", json!("NO")),
        ("yes", json!("yes")),
        ("on", json!("on")),
        ("true", json!(true)),
        ("False", json!(false)),
        ("~", json!(null)),
        ("'true'", json!("true")),
        ("\"a\\tb\"", json!("a\tb")),
        ("17", json!(17)),
        ("-17", json!(-17)),
        ("+17", json!(17)),
        ("007", json!(7)),
        ("0x1F", json!(31)),
        ("0o17", json!(15)),
        (".5", json!(0.5)),
        ("5.", json!(5)),
        ("1e3", json!(1e3)),
        ("1_000", json!("1_000")),
        ("1.2.3", json!("1.2.3")),
        ("'>=2.3.0'", json!(">=2.3.0")),
        ("2026-11-23", json!("2026-11-23")),
        ("12:30", json!("12:30")),
        ("-x", json!("-x")),
        ("!!str 17", json!("17")),
    ];
    for (text, want) in cases {
        assert_eq!(yaml(&format!("a: {text}")), json!({ "a": want }), "{text}");
    }
}

#[test]
fn yaml_numbers_keep_their_digits() {
    let json = yaml::to_json("a: 98.50000000000000000001").unwrap();
    assert!(json.contains("98.50000000000000000001"), "{json}");
}

#[test]
fn yaml_structures_and_aliases_become_json() {
    let text = "\
# a comment
flags:
  new-checkout:
    variants: {on: true, off: false}
    offVariant: off
    rules:
    - name: dach
      if: &dach
        attribute: country
        in: [DE, AT, CH]
      serve: on
    - {name: again, if: *dach, serve: off}
    description: |
      two
      lines
";
    let want = json!({"flags": {"new-checkout": {
        "variants": {"on": true, "off": false},
        "offVariant": "off",
        "rules": [
            {"name": "dach", "if": {"attribute": "country", "in": ["DE", "AT", "CH"]}, "serve": "on"},
            {"name": "again", "if": {"attribute": "country", "in": ["DE", "AT", "CH"]}, "serve": "off"},
        ],
        "description": "two\nlines\n",
    }}});
    assert_eq!(yaml(text), want);
}

#[test]
fn each_value_of_a_yaml_file_stays_on_its_line() {
    let text = "flags:\n  # why\n  a:\n    otherwise:\n      split:\n        on: 25\n        off: 75\n";
    let json = yaml::to_json(text).unwrap();
    let line = |of: &str| json.lines().position(|line| line.contains(of)).map(|at| at + 1);
    assert_eq!(
        (line("\"a\""), line("\"split\""), line("25"), line("75")),
        (Some(3), Some(5), Some(6), Some(7))
    );
    let column = json.lines().nth(5).unwrap().find("\"on\"");
    assert_eq!(column, Some(8), "the column, too");
}

#[test]
fn wrong_yaml_is_told_with_its_place() {
    let cases = [
        ("a: [1, 2", "1:"),
        ("a: b: c", "1:"),
        ("a: 1\n---\nb: 2", "2:1: a file holds one document"),
        ("a: .inf", "1:4: `.inf` is no number"),
        ("a: !color red", "1:"),
        ("[1, 2]: 3", "1:1: the name of a member must be plain text"),
        ("a: &x [*x]", "1:8: this alias stands inside"),
        ("", "the file is empty"),
    ];
    for (text, want) in cases {
        let problem = yaml::to_json(text).unwrap_err().to_string();
        assert!(problem.starts_with(want), "{text:?}: {problem}");
    }
}

#[test]
fn aliases_of_aliases_do_not_blow_up() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let alias = format!("*a{}", level - 1);
        let _ = writeln!(text, "a{level}: &a{level} [{}]", vec![alias; 10].join(", "));
    }
    let problem = yaml::to_json(&text).unwrap_err();
    assert!(problem.message.contains("exceeds"), "{problem}");
}

#[test]
fn a_format_is_told_by_name_or_by_look() {
    let cases = [
        ("a.json", "{}", "{}"),
        ("a.YAML", "a: 1", "{\"a\": 1}"),
        ("standard input", " {\"a\": 1}", "{\"a\": 1}"),
        ("standard input", "a: 1", "{\"a\": 1}"),
        ("a.json", "\u{feff}{}", "{}"),
    ];
    for (name, text, want) in cases {
        let json = source(name, text, format_by_name(Path::new(name))).unwrap().json;
        let value: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value, serde_json::from_str::<Value>(want).unwrap(), "{name}");
    }
}

fn json_source(name: &str, json: &str) -> Source {
    Source { name: name.into(), json: json.into() }
}

#[test]
fn several_files_become_one() {
    let merged = merge(vec![
        json_source("a.json", r#"{"flags": {"a": {"rollout": 1.50}}, "$schema": "x"}"#),
        json_source("b.json", r#"{"segments": {"s": {"include": ["u"]}}, "flags": {"b": {}}}"#),
    ])
    .unwrap();
    assert_eq!(merged.json, r#"{"flags":{"a":{"rollout":1.50},"b":{}},"segments":{"s":{"include":["u"]}}}"#);
    let keys: Vec<String> =
        merged.keys().into_iter().map(|(section, key)| section.word().to_owned() + "." + &key).collect();
    assert_eq!(keys, ["flags.a", "flags.b", "segments.s"]);
    let located = |path: &str| {
        let mut problem = Problem::new(path, "x");
        problem.position = Some(flagd_core::problem::TextPosition { line: 9, column: 9 });
        let located = merged.locate(problem);
        assert_eq!(located.problem.position, None, "lines of the sum mean nothing");
        located.file
    };
    assert_eq!(located("flags.b.rules[0]"), "b.json");
    assert_eq!(located("flags.a"), "a.json");
    assert_eq!(located("flags.ab"), "");
}

#[test]
fn one_file_goes_as_it_is() {
    let text = r#"{ "flags": { "a": {} }, "flagz": 1 }"#;
    let file = merge(vec![json_source("a.json", text)]).unwrap();
    assert_eq!(file.json, text, "the server is the judge");
    let located = file.locate(Problem::new("flags.a", "x"));
    assert_eq!(located.file, "a.json");
}

#[test]
fn a_key_in_two_places_names_both() {
    let failure = merge(vec![
        json_source("a.json", r#"{"flags": {"a": {}, "b": {}}}"#),
        json_source("b.json", r#"{"flags": {"a": {}}}"#),
        json_source("c.json", r#"{"flags": {"c": {}, "c": {}}}"#),
        json_source("d.json", r#"{"flag": {}}"#),
        json_source("e.json", r"[]"),
    ])
    .unwrap_err();
    assert_eq!(
        problems(failure),
        [
            "d.json: flag: a file of definitions holds only `flags` and `segments`",
            "e.json: a file of definitions is an object with `flags` and `segments`",
            "b.json: flags.a: the key stands also in a.json; each key may stand in one place only",
            "c.json: flags.c: the key stands twice in this file; each key may stand in one place only",
        ]
    );
}

#[test]
fn folders_are_read_in_the_order_of_names() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    for (name, text) in [
        ("b.yaml", "flags: {b: {}}"),
        ("a.json", r#"{"flags": {"a": {}}}"#),
        ("sub/c.yml", "flags: {c: {}}"),
        (".hidden.json", "{"),
        ("readme.md", "not ours"),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let merged = read(&[folder.path().to_owned()]).unwrap();
    assert_eq!(merged.json, r#"{"flags":{"a":{},"b":{},"c":{}},"segments":{}}"#);
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(read(&[empty.path().to_owned()]), Err(Failure::Local(_))));
    assert!(matches!(read(&[empty.path().join("no.json")]), Err(Failure::Local(_))));
}

#[test]
fn a_tree_is_laid_out_for_reading_and_read_back() {
    let json = r#"{"flags":{"new-checkout":{"variants":{"on":true,"off":false},"rules":[{"name":"a rule with a long name","if":{"all":[{"attribute":"country","in":["DE","AT","CH"]},{"attribute":"appVersion","semver":">=2.3.0"}]},"serve":{"split":{"on":1.50,"off":98.50}}}],"tags":[],"metadata":{},"otherwise":"off"}}}"#;
    let tree = Tree::parse(json).unwrap();
    assert_eq!(tree.to_json(), json, "nothing is lost");
    assert_eq!(Tree::parse(&tree.to_pretty_json()), Ok(tree.clone()));
    let same = |a: &str, b: &str| {
        assert_eq!(serde_json::from_str::<Value>(a).unwrap(), serde_json::from_str::<Value>(b).unwrap());
    };
    same(&yaml::to_json(&tree.to_yaml()).unwrap(), json);
    insta::assert_snapshot!("pretty_json", tree.to_pretty_json());
    insta::assert_snapshot!("yaml", tree.to_yaml());
}

mod round_trips {
    use proptest::prelude::*;

    use super::*;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
            prop::sample::select(vec!["off", "no", "~", "1.5", "- a", "a: b", "#", "\u{1b}", "\n"])
                .prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("\\PC{0,6}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_for_people_is_read_back(value in any_json()) {
            let tree = Tree::parse(&value.to_string()).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Value>(&tree.to_pretty_json()).unwrap(), &value);
            let yaml = tree.to_yaml();
            let json = yaml::to_json(&yaml).map_err(|problem| TestCaseError::fail(format!("{problem}\n{yaml}")))?;
            prop_assert_eq!(&serde_json::from_str::<Value>(&json).unwrap(), &value, "{}", yaml);
        }
    }
}
