//! Stored and readable forms, by example and by property.

use proptest::prelude::*;

use super::*;
use crate::definition::{
    About, arbitrary, parse_file, parse_flag, parse_kill, parse_segment, parse_stored_flag,
    parse_stored_segment, parse_tombstone,
};

fn flag_key(text: &str) -> FlagKey {
    FlagKey::new(text).unwrap()
}

fn read(key: &str, text: &str) -> FlagDefinition {
    parse_flag(&flag_key(key), text).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// What a plan makes of a new definition: shares laid on an empty line.
fn laid(mut definition: FlagDefinition) -> FlagDefinition {
    let off = definition.off_variant.clone();
    let lay = |serve: &mut Serve| {
        if let Serve::Split(Split { layout, .. }) = serve
            && let Layout::Shares(shares) = layout
        {
            *layout = Layout::Stretches(split::lay(shares, &off));
        }
    };
    definition.rules.iter_mut().map(|rule| &mut rule.serve).for_each(lay);
    lay(&mut definition.otherwise);
    definition
}

#[test]
fn the_stored_form_states_what_the_author_left_out() {
    let cases: &[(&str, &str, &str)] = &[
        ("nothing", "{}", r#"{"variants":{"off":false,"on":true},"offVariant":"off","otherwise":"off"}"#),
        (
            "a rollout",
            r#"{"rollout": 25}"#,
            r#"{"variants":{"off":false,"on":true},"offVariant":"off","otherwise":{"split":[{"on":25},{"off":75}]}}"#,
        ),
        (
            "a rollout to nobody",
            r#"{"rollout": 0}"#,
            r#"{"variants":{"off":false,"on":true},"offVariant":"off","otherwise":{"split":[{"off":100}]}}"#,
        ),
        (
            "what equals the default is left out, members come in one order",
            r#"{"tags":[], "salt":"k", "enabled":true, "rules":[], "requires":[], "owner":"us", "metadata":{}}"#,
            r#"{"variants":{"off":false,"on":true},"offVariant":"off","otherwise":"off","owner":"us"}"#,
        ),
        (
            "what differs from the default is stated",
            r#"{"salt":"s","enabled":false,"requires":[{"serves":["b","a","b"],"flag":"r"}]}"#,
            concat!(
                r#"{"variants":{"off":false,"on":true},"offVariant":"off","enabled":false,"salt":"s","#,
                r#""requires":[{"flag":"r","serves":["a","b"]}],"otherwise":"off"}"#
            ),
        ),
        (
            "values: members sorted, numbers as they are",
            r#"{"variants":{"v":{"b":1.0,"a":[1e3,10,0.1,18446744073709551615,null,"\u00e9\/"]}},"offVariant":"v"}"#,
            concat!(
                r#"{"variants":{"v":{"a":[1000.0,10,0.1,18446744073709551615,null,"#,
                "\"\u{e9}/\"",
                r#"],"b":1.0}},"offVariant":"v","otherwise":"v"}"#
            ),
        ),
    ];
    for (name, text, want) in cases {
        let definition = laid(read("k", text));
        assert_eq!(write_flag(&flag_key("k"), &definition, Form::Stored), *want, "{name}");
    }
}

#[test]
fn the_readable_form_shows_shares_only_where_they_lie_as_a_new_split_would() {
    let cases: &[(&str, &str, bool)] = &[
        ("laid as new", r#"[{"on":25},{"off":75}]"#, true),
        ("off first", r#"[{"off":75},{"on":25}]"#, false),
        ("in two parts", r#"[{"on":10},{"off":75},{"on":15}]"#, false),
        ("in two neighbouring parts", r#"[{"on":10},{"on":15},{"off":75}]"#, false),
        ("with an empty stretch", r#"[{"on":0},{"off":100}]"#, false),
        ("one owner", r#"[{"on":100}]"#, true),
    ];
    for (name, split, as_shares) in cases {
        let definition = read("k", &format!(r#"{{"otherwise":{{"split":{split}}}}}"#));
        let text = write_flag(&flag_key("k"), &definition, Form::Readable);
        assert_eq!(text.contains("\"split\": {"), *as_shares, "{name}: {text}");
        assert_eq!(laid(read("k", &text)), definition, "{name}");
    }
}

#[test]
fn the_readable_form_is_for_reading() {
    let text = r#"{"description":"Gr\u00fc\u00df","rules":[{"name":"dach","if":{"attribute":"country","in":["DE"]},"serve":"on"}]}"#;
    let want = "{\n  \"variants\": {\n    \"off\": false,\n    \"on\": true\n  },\n  \"offVariant\": \"off\",\n  \"rules\": [\n    {\n      \
                \"name\": \"dach\",\n      \"if\": {\n        \"attribute\": \"country\",\n        \"in\": [\n          \"DE\"\n        ]\n      \
                },\n      \"serve\": \"on\"\n    }\n  ],\n  \"otherwise\": \"off\",\n  \"description\": \"Gr\u{fc}\u{df}\"\n}";
    assert_eq!(write_flag(&flag_key("k"), &read("k", text), Form::Readable), want);
}

#[test]
fn percentages_are_decimal_text() {
    let cases: &[(&str, Option<u32>)] = &[
        ("25", Some(250_000)),
        ("1.5", Some(15_000)),
        ("0.0001", Some(1)),
        ("99.9999", Some(999_999)),
        ("100", Some(1_000_000)),
        ("0", Some(0)),
        ("100.0000", Some(1_000_000)),
        ("100.0001", None),
        ("101", None),
        ("0.00001", None),
        ("-1", None),
        ("+1", None),
        ("1e1", None),
        (".5", None),
        ("5.", None),
        ("", None),
        ("25%", None),
        ("NaN", None),
        ("4294967321", None),
    ];
    for (text, want) in cases {
        assert_eq!(parse_percent(text), want.map(Ppm), "{text}");
    }
    for (ppm, want) in
        [(250_000, "25"), (15_000, "1.5"), (1, "0.0001"), (0, "0"), (1_000_000, "100"), (999_990, "99.999")]
    {
        assert_eq!(percent(Ppm(ppm)), want);
    }
}

/// Name; bytes; then what is read: off variant, value, author.
type Row = (&'static str, &'static [u8], Option<&'static str>, Option<Value>, &'static str);

#[test]
fn a_kill_is_read_as_far_as_it_is_understood() {
    let whole =
        r#"{"offVariant":"off","value":false,"by":"ann","at":"2026-11-23T03:00:00Z","reason":"errors"}"#;
    assert_eq!(write_kill(&parse_kill(whole.as_bytes())), whole);
    let cases: &[Row] = &[
        ("no JSON", b"\xff{", None, None, ""),
        ("cut off", br#"{"offVariant":"off""#, None, None, ""),
        ("a list", b"[]", None, None, ""),
        (
            "of a later version",
            br#"{"offVariant":"off","value":1,"until":{"x":1},"by":"b"}"#,
            Some("off"),
            Some(1.into()),
            "b",
        ),
        ("a wrong name", br#"{"offVariant":"-","value":"v","by":"b"}"#, None, Some("v".into()), "b"),
        ("a null", br#"{"value":null,"by":7}"#, None, None, ""),
        ("a value that cannot be held", br#"{"value":1e999,"offVariant":"off"}"#, Some("off"), None, ""),
        ("half of a pair elsewhere", br#"{"x":"\ud800","value":true}"#, None, Some(true.into()), ""),
        ("a key twice", br#"{"value":1,"value":2}"#, None, Some(1.into()), ""),
    ];
    for (name, bytes, off_variant, value, by) in cases {
        let kill = parse_kill(bytes);
        assert_eq!(kill.off_variant.as_ref().map(VariantName::as_str), *off_variant, "{name}");
        assert_eq!(kill.value, *value, "{name}");
        assert_eq!(kill.by, *by, "{name}");
    }
}

#[test]
fn clients_skip_what_cannot_change_an_answer() {
    let about = concat!(
        r#""description":{"deep":[1e999,"\ud800"]},"owner":null,"owner":7,"#,
        r#""tags":"none","metadata":[{"a":1,"a":2}]"#
    );
    let flag = format!(r#"{{"otherwise":"on",{about}}}"#);
    assert!(parse_flag(&flag_key("k"), &flag).is_err());
    assert_eq!(parse_stored_flag(&flag_key("k"), &flag), parse_flag(&flag_key("k"), r#"{"otherwise":"on"}"#));
    let key = SegmentKey::new("s").unwrap();
    let segment = format!(r#"{{"include":["a"],{about}}}"#);
    assert!(parse_segment(&key, &segment).is_err());
    assert_eq!(parse_stored_segment(&key, &segment), parse_segment(&key, r#"{"include":["a"]}"#));
    for text in [r#"{"otherwise":"on","otherwise":"off"}"#, r#"{"level":2}"#, r#"{"rules":[{}]}"#] {
        assert!(parse_stored_flag(&flag_key("k"), text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back((key, definition) in arbitrary::flag()) {
        let stored = write_flag(&key, &definition, Form::Stored);
        let read = parse_flag(&key, &stored).map_err(|problems| TestCaseError::fail(format!("{problems:?}")))?;
        prop_assert_eq!(&read, &definition);
        prop_assert_eq!(write_flag(&key, &read, Form::Stored), stored.clone());
        prop_assert_eq!(&serde_json::from_str::<Value>(&stored).unwrap()["offVariant"], definition.off_variant.as_str());

        let for_clients = parse_stored_flag(&key, &stored).unwrap();
        prop_assert_eq!(for_clients, FlagDefinition { about: About::default(), ..definition.clone() });

        let readable = parse_flag(&key, &write_flag(&key, &definition, Form::Readable)).unwrap();
        prop_assert_eq!(laid(readable), laid(definition));
    }

    #[test]
    fn segments_are_read_back((key, definition) in arbitrary::segment()) {
        for form in [Form::Stored, Form::Readable] {
            let text = write_segment(&key, &definition, form);
            prop_assert_eq!(parse_segment(&key, &text), Ok(definition.clone()), "{}", text);
        }
        let stored = write_segment(&key, &definition, Form::Stored);
        let for_clients = parse_stored_segment(&key, &stored).unwrap();
        prop_assert_eq!(for_clients, SegmentDefinition { about: About::default(), ..definition });
    }

    #[test]
    fn kills_and_tombstones_are_read_back(kill in arbitrary::kill(), tombstone in arbitrary::tombstone()) {
        prop_assert_eq!(parse_kill(write_kill(&kill).as_bytes()), kill);
        prop_assert_eq!(parse_tombstone(write_tombstone(&tombstone).as_bytes()), Some(tombstone));
    }

    #[test]
    fn an_export_imported_into_an_empty_store_moves_nobody((key, definition) in arbitrary::flag()) {
        let stored = laid(definition);
        let file = format!(r#"{{"flags":{{"{key}":{}}}}}"#, write_flag(&key, &stored, Form::Readable));
        let mut read = parse_file(&file).unwrap();
        prop_assert_eq!(read.flags.remove(&key).map(laid), Some(stored));
    }

    #[test]
    fn every_percentage_is_read_back(ppm in 0..=1_000_000_u32) {
        prop_assert_eq!(parse_percent(&percent(Ppm(ppm))), Some(Ppm(ppm)));
    }

    #[test]
    fn no_text_makes_a_reader_fail(text in any::<String>(), bytes in any::<Vec<u8>>()) {
        let _ = (parse_file(&text), parse_flag(&flag_key("k"), &text), parse_percent(&text));
        let _ = (parse_kill(&bytes), parse_tombstone(&bytes));
    }

    #[test]
    fn what_is_nearly_right_is_refused_or_understood(json in arbitrary::nearly_a_definition()) {
        let (flag, segment) = (flag_key("k"), SegmentKey::new("s").unwrap());
        let text = json.to_string();
        if let Ok(read) = parse_flag(&flag, &text) {
            prop_assert_eq!(parse_flag(&flag, &write_flag(&flag, &read, Form::Stored)), Ok(read));
        }
        if let Ok(read) = parse_segment(&segment, &text) {
            prop_assert_eq!(parse_segment(&segment, &write_segment(&segment, &read, Form::Stored)), Ok(read));
        }
    }

    #[test]
    fn no_damage_makes_a_reader_fail(
        (key, definition) in arbitrary::flag(),
        cut in any::<prop::sample::Index>(),
        splice in "[\\PC\\[\\]{}\",:0-9]{0,4}",
    ) {
        let mut text: Vec<char> = write_flag(&key, &definition, Form::Readable).chars().collect();
        let at = cut.index(text.len());
        text.splice(at..=at, splice.chars());
        let damaged: String = text.into_iter().collect();
        if let Err(problems) = parse_flag(&key, &damaged) {
            prop_assert!(!problems.is_empty());
            prop_assert!(problems.iter().all(|problem| problem.position.is_some()), "{:?}", problems);
        }
        let _ = (parse_file(&damaged), parse_stored_flag(&key, &damaged), parse_kill(damaged.as_bytes()));
    }
}
