//! The order of an evaluation, the reasons, units, and what an explanation tells.

use std::cell::Cell;

use serde_json::json;

use super::*;

const ALL_ON: &str = r#"{"otherwise": "on"}"#;

#[test]
fn the_order_is_killed_disabled_requirement_rule_otherwise() {
    let ruled = r#"{"rules": [{"name": "first", "if": {"attribute": "plan", "equals": "pro"}, "serve": "off"},
        {"name": "second", "if": {"attribute": "plan", "exists": true}, "serve": "on"}], "otherwise": "on"}"#;
    let strict = r#"{"requires": [{"flag": "all", "serves": ["on"]}, {"flag": "none", "serves": ["on"]}],
        "rules": [{"name": "r", "if": {"attribute": "plan", "exists": true}, "serve": "on"}], "otherwise": "on"}"#;
    let mut world = World::new();
    world.change(&[
        ("flag", "all", ALL_ON),
        ("flag", "none", "{}"),
        ("flag", "ruled", ruled),
        ("flag", "disabled", &ruled.replacen('{', r#"{"enabled": false, "#, 1)),
        ("flag", "strict", strict),
        ("flag", "strict-disabled", &strict.replacen('{', r#"{"enabled": false, "#, 1)),
        (
            "flag",
            "needs-strict",
            r#"{"requires": [{"flag": "strict", "serves": ["off"]}], "otherwise": "on"}"#,
        ),
        ("flag", "killed", ALL_ON),
        (
            "kill",
            "killed",
            r#"{"offVariant": "off", "value": false, "by": "me", "at": "2026-11-23T08:00:00Z"}"#,
        ),
        (
            "flag",
            "needs-killed",
            r#"{"requires": [{"flag": "killed", "serves": ["on"]}], "otherwise": "on"}"#,
        ),
    ]);
    assert_eq!(world.snapshot.refused(), []);
    let pro = Context::new("u").with("plan", "pro");
    let basic = Context::new("u").with("plan", "basic");
    let cases: &[(&str, &Context, &str)] = &[
        ("nowhere", &pro, "- (NotFound)"),
        ("", &pro, "- (NotFound)"),
        ("all", &pro, "on (Otherwise)"),
        ("ruled", &pro, "off (Rule(first))"),
        ("ruled", &basic, "on (Rule(second))"),
        ("ruled", &Context::new("u"), "on (Otherwise)"),
        ("disabled", &pro, "off (Disabled)"),
        ("strict", &pro, "off (Requirement(none))"),
        ("strict-disabled", &pro, "off (Disabled)"),
        ("needs-strict", &pro, "on (Otherwise)"),
        ("killed", &pro, "off (Killed)"),
        ("needs-killed", &pro, "off (Requirement(killed))"),
    ];
    for (key, context, want) in cases {
        let evaluation = world.snapshot.evaluate(key, context, Timestamp::default());
        assert_eq!(shown(&evaluation), *want, "{key} for {context:?}");
        assert_eq!(evaluation.position, world.state.position());
        assert_eq!(evaluation.value.is_some(), evaluation.variant.is_some(), "{key}");
    }
}

#[test]
fn a_split_needs_a_unit_unless_one_variant_owns_the_line() {
    let mut world = World::new();
    world.change(&[
        ("flag", "half", r#"{"otherwise": {"split": [{"on": 50}, {"off": 50}]}}"#),
        ("flag", "half-by", r#"{"otherwise": {"split": [{"on": 50}, {"off": 50}], "by": "company.id"}}"#),
        ("flag", "whole", r#"{"otherwise": {"split": [{"on": 100}]}}"#),
        ("flag", "whole-by", r#"{"otherwise": {"split": [{"on": 60}, {"on": 40}], "by": "company.id"}}"#),
        (
            "flag",
            "ruled",
            r#"{"rules": [{"name": "r", "if": {"attribute": "x", "exists": false},
            "serve": {"split": [{"on": 50}, {"off": 50}]}}], "otherwise": "on"}"#,
        ),
    ]);
    assert_eq!(world.snapshot.refused(), []);
    let nobody = Context::anonymous();
    for (key, want) in [
        ("half", "off (NoUnit)"),
        ("half-by", "off (NoUnit)"),
        ("whole", "on (Otherwise)"),
        ("whole-by", "on (Otherwise)"),
        ("ruled", "off (NoUnit)"),
    ] {
        assert_eq!(shown(&world.snapshot.evaluate(key, &nobody, Timestamp::default())), want, "{key}");
    }
    // A unit is its text, whatever its type; `half-by` has its own salt, so compare within one flag.
    let company = |id: serde_json::Value| Context::anonymous().with("company", json!({"id": id}));
    for number in 0..100 {
        let serve = |context: Context| {
            world.snapshot.evaluate("half-by", &context, Timestamp::default()).variant.map(str::to_owned)
        };
        let text = serve(company(json!(number.to_string())));
        assert_eq!(text, serve(company(json!(number))));
        assert_eq!(text, serve(company(json!(f64::from(number)))));
    }
}

#[test]
fn points_decide_like_the_line_says() {
    let text = r#"{"variants": {"a": 1, "b": 2, "c": 3, "d": 4}, "offVariant": "d",
        "otherwise": {"split": [{"a": 10}, {"b": 20}, {"a": 0.0001}, {"c": 30}, {"d": 39.9999}]}}"#;
    let mut world = World::new();
    world.change(&[("flag", "f", text)]);
    let ends = [(100_000, "a"), (300_000, "b"), (300_001, "a"), (600_001, "c"), (1_000_000, "d")];
    for n in 0..20_000 {
        let unit = format!("user-{n}");
        let point = crate::split::Point::of(crate::split::Seed::of("f"), &unit).0;
        let want = ends.iter().find(|(end, _)| point < *end).unwrap().1;
        let got = world.snapshot.evaluate("f", &Context::new(unit), Timestamp::default()).variant;
        assert_eq!(got, Some(want), "point {point}");
    }
}

#[test]
fn segments_exclude_then_include_then_ask() {
    let mut world = World::new();
    let flag = |segment: &str| {
        format!(r#"{{"rules": [{{"name": "r", "if": {{"segment": "{segment}"}}, "serve": "on"}}]}}"#)
    };
    world.change(&[
        (
            "segment",
            "staff",
            r#"{"include": ["in", "both"], "exclude": ["both", "out"],
            "if": {"attribute": "email", "endsWith": "@example.com"}}"#,
        ),
        ("segment", "listed", r#"{"by": "company", "include": ["acme", "17"]}"#),
        ("segment", "nested", r#"{"if": {"not": {"segment": "staff"}}}"#),
        ("flag", "staff", &flag("staff")),
        ("flag", "listed", &flag("listed")),
        ("flag", "nested", &flag("nested")),
    ]);
    assert_eq!(world.snapshot.refused(), []);
    let mail = |key: &str| Context::new(key).with("email", "a@example.com");
    let cases: &[(&str, Context, bool)] = &[
        ("staff", Context::new("in"), true),
        ("staff", mail("both"), false),
        ("staff", mail("out"), false),
        ("staff", mail("other"), true),
        ("staff", Context::new("other"), false),
        ("staff", Context::anonymous().with("email", "a@example.com"), true),
        ("listed", Context::new("acme"), false),
        ("listed", Context::new("u").with("company", "acme"), true),
        ("listed", Context::new("u").with("company", 17), true),
        ("listed", Context::new("u").with("company", 17.0), true),
        ("listed", Context::new("u").with("company", 17.5), false),
        ("nested", Context::new("in"), false),
        ("nested", Context::new("other"), true),
    ];
    for (key, context, want) in cases {
        let evaluation = world.snapshot.evaluate(key, context, Timestamp::default());
        assert_eq!(evaluation.variant == Some("on"), *want, "{key} for {:?}", context.targeting_key());
    }
}

#[test]
fn the_time_is_asked_for_once_and_only_where_it_matters() {
    let window = r#"{"rules": [
        {"name": "plan", "if": {"attribute": "plan", "equals": "pro"}, "serve": "on"},
        {"name": "window", "if": {"all": [{"time": {"after": "2026-11-23T08:00:00Z"}},
            {"time": {"before": "2026-11-24T08:00:00Z"}}]}, "serve": "on"}]}"#;
    let mut world = World::new();
    world.change(&[("flag", "f", window)]);
    let at = |text: &str| Timestamp::parse(text).unwrap();
    let cases: &[(&str, Context, Timestamp, u32, &str)] = &[
        ("no need", Context::new("u").with("plan", "pro"), at("2026-11-23T09:00:00Z"), 0, "on (Rule(plan))"),
        ("first moment", Context::new("u"), at("2026-11-23T08:00:00Z"), 1, "on (Rule(window))"),
        ("last moment", Context::new("u"), at("2026-11-24T07:59:59.999Z"), 1, "on (Rule(window))"),
        ("over", Context::new("u"), at("2026-11-24T08:00:00Z"), 1, "off (Otherwise)"),
        ("not yet", Context::new("u"), at("2026-11-23T07:59:59.999Z"), 1, "off (Otherwise)"),
    ];
    for (case, context, now, times, want) in cases {
        let asked = Cell::new(0);
        let evaluation = world.snapshot.evaluate_lazily("f", context, || {
            asked.set(asked.get() + 1);
            *now
        });
        assert_eq!((shown(&evaluation).as_str(), asked.get()), (*want, *times), "{case}");
    }
}

#[test]
fn an_explanation_tells_every_step() {
    let mut world = World::new();
    world.change(&[
        ("flag", "base", ALL_ON),
        ("segment", "staff", r#"{"include": ["u-17"]}"#),
        (
            "flag",
            "f",
            r#"{"requires": [{"flag": "base", "serves": ["on"]}],
            "rules": [
              {"name": "staff", "if": {"segment": "staff"}, "serve": "on"},
              {"name": "dach", "if": {"all": [{"attribute": "country", "in": ["DE", "AT"]},
                 {"not": {"attribute": "beta", "exists": true}}]},
               "serve": {"split": [{"on": 25}, {"off": 75}], "by": "company"}},
              {"name": "late", "if": {"attribute": "x", "exists": true}, "serve": "on"}]}"#,
        ),
    ]);
    let context = Context::new("user-1").with("country", "DE").with("company", 17);
    let explanation = world.snapshot.explain("f", &context, Timestamp::default());
    let told: Vec<String> = explanation
        .steps
        .iter()
        .map(|step| format!("{}{} -> {}", "  ".repeat(step.depth as usize), step.what, step.outcome))
        .collect();
    let point = crate::split::Point::of(crate::split::Seed::of("f"), "17").0;
    let stretch = if point < 250_000 { "`on` (0..250000)" } else { "`off` (250000..1000000)" };
    assert_eq!(
        told,
        [
            "requires `base` to serve `on` -> met: it serves `on` (Otherwise)".to_owned(),
            "rule \"staff\" -> did not hold".to_owned(),
            "  segment `staff` -> did not hold: \"user-1\" is not listed".to_owned(),
            "rule \"dach\" -> held".to_owned(),
            "  all of -> held".to_owned(),
            "    attribute `country` in [\"DE\", \"AT\"] -> held: `country` is \"DE\"".to_owned(),
            "    not -> held".to_owned(),
            "      attribute `beta` exists -> did not hold: `beta` is absent".to_owned(),
            format!("split by `company` -> point {point} of \"17\" lies in {stretch}"),
            "rule \"late\" -> not reached".to_owned(),
        ]
    );
    let evaluation = world.snapshot.evaluate("f", &context, Timestamp::default());
    assert_eq!(explanation.variant.as_deref(), evaluation.variant);
    assert_eq!(explanation.value.as_ref(), evaluation.value);
    assert_eq!(explanation.reason, "Rule(dach)");
    assert_eq!(explanation.revision, 1);
}

#[test]
fn flags_are_listed_with_their_types() {
    let mut world = World::new();
    world.change(&[
        ("flag", "b", "{}"),
        ("flag", "a", r#"{"variants": {"x": "1", "y": "2"}, "offVariant": "x"}"#),
        ("flag", "broken", "{"),
        ("kill", "only-a-kill", r#"{"offVariant": "off", "value": 5}"#),
    ]);
    // `a` and `b` came with the broken one.
    assert_eq!(world.snapshot.flag_keys(), ["only-a-kill"]);
    world.change(&[("flag", "broken", "")]);
    assert_eq!(world.snapshot.flag_keys(), ["a", "b", "only-a-kill"]);
    let types = ["a", "b", "broken", "only-a-kill"].map(|key| world.snapshot.flag_type(key));
    assert_eq!(types, [Some(FlagType::String), Some(FlagType::Boolean), None, Some(FlagType::Number)]);
}

#[test]
fn rules_that_hold_for_nobody_or_everybody_are_not_looked_at_and_are_explained_all_the_same() {
    let mut world = World::new();
    let never = r#"{"all": [{"attribute": "p", "equals": "x"}, {"attribute": "p", "exists": false}]}"#;
    let always = r#"{"any": [{"attribute": "p", "exists": true}, {"attribute": "p", "exists": false}]}"#;
    let flag = format!(
        r#"{{"rules": [{{"name": "never", "if": {never}, "serve": "on"}}, {{"name": "always", "if": {always}, "serve": "on"}},
            {{"name": "late", "if": {{"attribute": "p", "equals": "x"}}, "serve": "off"}}]}}"#
    );
    world.change(&[("flag", "f", &flag)]);
    assert_eq!(world.serves("f"), "on (Rule(always))");
    let explanation = world.snapshot.explain("f", &Context::new("u"), Timestamp::default());
    let rules: Vec<&str> =
        explanation.steps.iter().filter(|step| step.depth == 0).map(|step| &*step.outcome).collect();
    assert_eq!(rules, ["did not hold", "held", "not reached"]);
}
