//! References, circles, chains and warnings, on small environments and one large.

use std::collections::BTreeMap;

use super::*;
use crate::definition::{ParsedFile, parse_file, parse_flag};

struct All<'f> {
    file: &'f ParsedFile,
    /// A flag that is there and not understood.
    opaque: Option<&'f str>,
}

impl Definitions for All<'_> {
    fn flag(&self, key: &FlagKey) -> Option<&FlagDefinition> {
        self.file.flags.get(key)
    }
    fn segment(&self, key: &SegmentKey) -> Option<&SegmentDefinition> {
        self.file.segments.get(key)
    }
    fn flag_keys(&self) -> Vec<&str> {
        self.file.flags.keys().map(FlagKey::as_str).chain(self.opaque).collect()
    }
    fn segment_keys(&self) -> Vec<&str> {
        self.file.segments.keys().map(SegmentKey::as_str).collect()
    }
}

/// The problems with the named flags and segments of a file; with all when none is named.
fn problems(file: &str, named: &[&str]) -> Vec<String> {
    let file = parse_file(file).unwrap_or_else(|problems| panic!("{problems:?}"));
    let asked = |key: &str| named.is_empty() || named.contains(&key);
    let flags: BTreeMap<_, _> = file.flags.iter().filter(|(key, _)| asked(key.as_str())).collect();
    let segments: BTreeMap<_, _> = file.segments.iter().filter(|(key, _)| asked(key.as_str())).collect();
    let all = All { file: &file, opaque: Some("from-the-future") };
    check_references(&flags, &segments, &all).iter().map(ToString::to_string).collect()
}

/// Flags in a chain: each requires the next.
fn chain(names: &[&str]) -> String {
    let flags: Vec<String> = names
        .iter()
        .zip(names.iter().skip(1).map(Some).chain([None]))
        .map(|(name, next)| match next {
            Some(next) => format!(r#""{name}":{{"requires":[{{"flag":"{next}","serves":["on"]}}]}}"#),
            None => format!(r#""{name}":{{}}"#),
        })
        .collect();
    flags.join(",")
}

fn required(name: &str, by: &str) -> String {
    format!(r#""{by}":{{"requires":[{{"flag":"{name}","serves":["on"]}}]}}"#)
}

#[test]
fn references_resolve_or_are_named_with_the_nearest() {
    let cases: &[(&str, String, &[&str])] = &[
        ("all there", format!(r#"{{"flags":{{{}}}}}"#, chain(&["a", "b", "c"])), &[]),
        (
            "an unknown flag",
            format!(r#"{{"flags":{{{},"payments-v2":{{}}}}}}"#, required("payments-v3", "a")),
            &[r#"flags.a.requires[0].flag: there is no flag `payments-v3` (did you mean "payments-v2"?)"#],
        ),
        (
            "a flag of a later version",
            format!(r#"{{"flags":{{{}}}}}"#, required("from-the-future", "a")),
            &["flags.a.requires[0].flag: the flag `from-the-future` is not understood by this version, so nothing can refer to it"],
        ),
        (
            "a variant that the other flag does not have",
            r#"{"flags":{"b":{},"a":{"requires":[{"flag":"b","serves":["on","onn"]}]}}}"#.to_owned(),
            &[r#"flags.a.requires[0].serves[1]: the flag `b` has no variant `onn` (did you mean "on"?)"#],
        ),
        (
            "an unknown segment, deep in a rule",
            r#"{"flags":{"a":{"rules":[{"name":"r","if":{"all":[{"not":{"any":[{"segment":"stuff"}]}}]},"serve":"on"}]}},
                "segments":{"staff":{}}}"#
                .to_owned(),
            &[r#"flags.a.rules[0].if.all[0].not.any[0].segment: there is no segment `stuff` (did you mean "staff"?)"#],
        ),
        (
            "an unknown segment in a segment with an odd name",
            r#"{"segments":{"my.team":{"if":{"segment":"x"}}}}"#.to_owned(),
            &[r#"segments["my.team"].if.segment: there is no segment `x`"#],
        ),
    ];
    for (name, file, want) in cases {
        assert_eq!(problems(file, &[]), *want, "{name}");
    }
}

#[test]
fn circles_are_named_whole_and_once() {
    let two = format!(r#"{{"flags":{{{},{}}}}}"#, required("b", "a"), required("a", "b"));
    assert_eq!(problems(&two, &[]), ["flags.a.requires: this is a cycle: a -> b -> a"]);
    assert_eq!(problems(&two, &["b"]), ["flags.b.requires: this is a cycle: b -> a -> b"]);

    let behind = format!(
        r#"{{"flags":{{{},{},{},"z":{{}}}}}}"#,
        required("b", "a"),
        required("c", "b"),
        r#""c":{"requires":[{"flag":"b","serves":["on"]},{"flag":"z","serves":["on"]}]}"#
    );
    assert_eq!(problems(&behind, &[]), ["flags.b.requires: this is a cycle: b -> c -> b"]);

    let segments = r#"{"segments":{"a":{"if":{"segment":"b"}},"b":{"if":{"any":[{"segment":"c"},{"segment":"a"}]}},"c":{"if":{"segment":"c"}}}}"#;
    let mut found = problems(segments, &[]);
    found.sort();
    assert_eq!(
        found,
        ["segments.a.if: this is a cycle: a -> b -> a", "segments.c.if: this is a cycle: c -> c"]
    );
}

#[test]
fn chains_have_a_limit() {
    let names: Vec<String> = (0..=limits::REQUIRES_DEPTH_MAX + 1).map(|i| format!("f{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let at_limit = format!(r#"{{"flags":{{{}}}}}"#, chain(&names[1..]));
    assert_eq!(problems(&at_limit, &[]), Vec::<String>::new());
    let past = format!(r#"{{"flags":{{{}}}}}"#, chain(&names));
    let want = format!("flags.f0.requires: this chain is too long: {} (at most 8 steps)", names.join(" -> "));
    assert_eq!(problems(&past, &[]), [want.as_str()]);
    assert_eq!(problems(&past, &["f5"]), [want.as_str()], "a change in the middle is told at the beginning");
    assert_eq!(
        problems(&past, &["f9"]),
        Vec::<String>::new(),
        "a flag that requires nothing makes no chain longer"
    );

    let segment = |i: usize| format!(r#""s{i}":{{"if":{{"not":{{"segment":"s{}"}}}}}}"#, i + 1);
    let segments = |n: usize| {
        let list: Vec<String> = (0..n).map(segment).collect();
        format!(r#"{{"segments":{{{},"s{n}":{{}}}}}}"#, list.join(","))
    };
    assert_eq!(problems(&segments(limits::SEGMENT_DEPTH_MAX), &[]), Vec::<String>::new());
    let found = problems(&segments(limits::SEGMENT_DEPTH_MAX + 1), &[]);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("segments.s0.if: this chain is too long: s0 -> s1"), "{found:?}");
}

#[test]
fn a_chain_of_every_flag_that_an_environment_may_hold_is_walked() {
    let count = limits::FLAGS_MAX;
    let template = parse_flag(&FlagKey::new("k").unwrap(), "{}").unwrap();
    let key = |i: usize| FlagKey::new(&format!("f{i}")).unwrap();
    let mut file = ParsedFile::default();
    for i in 0..count {
        let requires = vec![crate::definition::Requirement {
            flag: key((i + 1) % count),
            serves: vec![VariantName::new("on").unwrap()],
        }];
        file.flags.insert(key(i), FlagDefinition { requires, ..template.clone() });
    }
    let flags: BTreeMap<_, _> = file.flags.iter().collect();
    let found = check_references(&flags, &BTreeMap::new(), &All { file: &file, opaque: None });
    // One circle; and one chain, which ends where the circle closes.
    let cycles: Vec<&Problem> =
        found.iter().filter(|problem| problem.message.starts_with("this is a cycle")).collect();
    assert_eq!(cycles.len(), 1);
    let told = &cycles[0].message;
    assert!(told.contains("f0 -> f1 -> f2 ->") && told.ends_with("... (99981 more) -> f0"), "{told}");
}

#[test]
fn what_deserves_a_second_look() {
    let rule = |condition: &str| format!(r#"{{"rules":[{{"name":"r","if":{condition},"serve":"on"}}]}}"#);
    let not = r#"{"not":{"attribute":"country","equals":"DE"}}"#;
    let absent = "rules[0].if.not: this `not` also holds when `country` is absent \
                  (if that is not meant, add {\"attribute\": \"country\", \"exists\": true} in \"all\")";
    let second = |conditions: [&str; 2]| {
        let [a, b] = conditions;
        format!(r#"{{"rules":[{{"name":"a","if":{a},"serve":"on"}},{{"name":"b","if":{b},"serve":"off"}}]}}"#)
    };
    let never =
        "rules[1]: rule `b` is never reached: whom it means, `a` has served (move it up or remove it)";
    let (s, t) = (r#"{"segment":"s"}"#, r#"{"segment":"t"}"#);
    let both = format!(r#"{{"all":[{s},{t}]}}"#);
    let either = format!(r#"{{"any":[{s},{t}]}}"#);
    let cases: &[(&str, String, &[&str])] = &[
        ("nothing", "{}".to_owned(), &[]),
        ("a bare not", rule(not), &[absent]),
        (
            "guarded by exists",
            rule(&format!(r#"{{"all":[{{"attribute":"country","exists":true}},{not}]}}"#)),
            &[],
        ),
        (
            "guarded by another test that must hold",
            rule(&format!(r#"{{"all":[{not},{{"attribute":"country","matches":"^D"}}]}}"#)),
            &[],
        ),
        (
            "guarded by exists inside",
            rule(r#"{"not":{"any":[{"attribute":"a","exists":false},{"attribute":"a","equals":1}]}}"#),
            &[],
        ),
        ("a not within a not", rule(&format!(r#"{{"not":{not}}}"#)), &[]),
        ("a not around exists", rule(r#"{"not":{"attribute":"a","exists":true}}"#), &[]),
        ("a not around a segment", rule(&format!(r#"{{"not":{s}}}"#)), &[]),
        ("the same condition twice", second([s, s]), &[never]),
        ("part of an earlier condition", second([&either, s]), &[never]),
        ("narrower than an earlier condition", second([s, &both]), &[never]),
        ("wider than an earlier condition", second([&both, s]), &[]),
        ("another condition", second([s, t]), &[]),
        (
            "a share of nothing",
            r#"{"rollout":0}"#.to_owned(),
            &["otherwise.split: `on` has a share of 0 %: nobody is served it here"],
        ),
        (
            "a stretch of nothing in a rule",
            r#"{"rules":[{"name":"r","if":{"segment":"s"},"serve":{"split":[{"on":0},{"off":100}]}}]}"#
                .to_owned(),
            &["rules[0].serve.split: `on` has a share of 0 %: nobody is served it here"],
        ),
    ];
    for (name, text, want) in cases {
        let key = FlagKey::new("k").unwrap();
        let found = warnings(&key, &parse_flag(&key, text).unwrap());
        let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(shown, *want, "{name}");
    }
}

#[test]
fn what_can_never_be_is_told() {
    let file = |text: &str| -> Vec<String> {
        let parsed = crate::definition::parse_file(text).unwrap();
        file_warnings(&parsed).iter().map(ToString::to_string).collect()
    };
    let condition = |text: &str| {
        file(&format!(r#"{{"flags":{{"f":{{"rules":[{{"name":"r","if":{text},"serve":"on"}}]}}}}}}"#))
    };
    let a = r#"{"attribute":"a","equals":1}"#;
    let never: &[String] = &[
        format!(r#"{{"all":[{a},{{"attribute":"a","exists":false}}]}}"#),
        r#"{"all":[{"segment":"s"},{"not":{"segment":"s"}}]}"#.to_owned(),
        r#"{"all":[{"time":{"after":"2026-01-02T00:00:00Z"}},{"time":{"before":"2026-01-01T00:00:00Z"}}]}"#.to_owned(),
        r#"{"all":[{"attribute":"a","lessThan":5},{"not":{"any":[{"attribute":"a","atMost":5},{"segment":"s"}]}}]}"#.to_owned(),
        r#"{"not":{"any":[{"attribute":"a","exists":true},{"attribute":"a","exists":false}]}}"#.to_owned(),
    ];
    for text in never {
        let found = condition(text);
        assert!(
            found[0].starts_with("flags.f.rules[0].if: rule `r` is never reached: nobody"),
            "{text}: {found:?}"
        );
    }
    let possible = [
        // A list may hold both.
        r#"{"all":[{"attribute":"a","equals":1},{"attribute":"a","equals":2}]}"#.to_owned(),
        r#"{"all":[{"time":{"after":"2026-01-01T00:00:00Z"}},{"time":{"before":"2026-01-02T00:00:00Z"}}]}"#
            .to_owned(),
        format!(r#"{{"all":[{a},{{"attribute":"b","exists":false}}]}}"#),
    ];
    for text in possible {
        assert_eq!(condition(&text), Vec::<String>::new(), "{text}");
    }
    let shadowed = |first: &str, second: &str| {
        let rule = |name: &str, text: &str| format!(r#"{{"name":"{name}","if":{text},"serve":"on"}}"#);
        let found =
            file(&format!(r#"{{"flags":{{"f":{{"rules":[{},{}]}}}}}}"#, rule("x", first), rule("y", second)));
        found
            .iter()
            .any(|line| line.starts_with("flags.f.rules[1]: rule `y` is never reached: whom it means, `x`"))
    };
    let test = |text: &str| format!(r#"{{"attribute":"a",{text}}}"#);
    for (wide, narrow) in [
        (r#""in":["x","y"]"#, r#""equals":"y""#),
        (r#""in":["x","y",1]"#, r#""in":[1,"x"]"#),
        (r#""lessThan":5"#, r#""lessThan":4"#),
        (r#""atLeast":5"#, r#""greaterThan":5"#),
        (r#""exists":true"#, r#""semver":"1""#),
        (r#""after":"2026-01-01T00:00:00Z""#, r#""after":"2027-01-01T00:00:00Z""#),
    ] {
        assert!(shadowed(&test(wide), &test(narrow)), "{wide} shadows {narrow}");
        assert!(!shadowed(&test(narrow), &test(wide)), "{narrow} does not shadow {wide}");
    }
}

#[test]
fn a_file_as_a_whole_deserves_a_second_look() {
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "a requirement on a disabled flag",
            r#"{"flags":{"a":{"enabled":false,"otherwise":"on"},"b":{"requires":[{"flag":"a","serves":["on"]}]}}}"#,
            &["flags.b.requires[0]: this requirement never holds: `a` is not enabled and serves only `off`"],
        ),
        (
            "a requirement on a variant without a share",
            r#"{"flags":{"a":{"otherwise":"on"},"b":{"requires":[{"flag":"a","serves":["off"]}]}}}"#,
            &["flags.b.requires[0]: this requirement never holds: `a` serves only `on`"],
        ),
        (
            "a requirement that a context without a unit meets",
            r#"{"flags":{"a":{"variants":{"x":1,"y":2,"z":3},"offVariant":"z","otherwise":{"split":{"x":50,"y":50}}},"b":{"requires":[{"flag":"a","serves":["z"]}]}}}"#,
            &[],
        ),
        (
            "a split on a misspelt attribute",
            r#"{"flags":{"a":{"otherwise":{"split":{"on":50,"off":50},"by":"companyld"}}},"segments":{"s":{"by":"companyId"}}}"#,
            &[
                "flags.a.otherwise.by: nothing else in these files names the attribute `companyld`: a context without it \
               is served `off` (did you mean \"companyId\"?)",
            ],
        ),
        (
            "a split on an attribute that others name",
            r#"{"flags":{"a":{"otherwise":{"split":{"on":50,"off":50},"by":"companyId"}}},"segments":{"s":{"by":"companyId"}}}"#,
            &[],
        ),
    ];
    for (name, text, want) in cases {
        let found = file_warnings(&crate::definition::parse_file(text).unwrap());
        let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(shown, *want, "{name}");
    }
}
