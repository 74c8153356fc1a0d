//! `ramp`: which variant, which place, who gives, and what is said about it.

use super::*;

const ON_OFF: &str = r#""f": {"rollout": 10}"#;
const PLACES: &str = r#""f": {
    "rules": [
        {"name": "staff", "if": {"attribute": "staff", "equals": true}, "serve": "on"},
        {"name": "dach", "if": {"attribute": "country", "in": ["DE", "AT"]}, "serve": {"split": {"on": 25, "off": 75}, "by": "company"}},
        {"name": "the rest", "if": {"attribute": "country", "equals": "FR"}, "serve": {"split": {"on": 5, "off": 95}}}
    ],
    "otherwise": {"split": {"on": 1, "off": 99}}}"#;
const COLOURS: &str = r#""f": {"variants": {"red": "r", "green": "g", "none": ""}, "offVariant": "none",
    "otherwise": {"split": {"green": 30, "red": 20, "none": 50}}}"#;

#[test]
fn a_ramp_changes_one_share_at_one_place() {
    let cases: &[(&str, &str, &str, &str)] = &[
        ("up", ON_OFF, "f 25%", "on 250000, off 750000"),
        ("down", ON_OFF, "f 0.5%", "on 5000, off 995000"),
        ("to nobody", ON_OFF, "f 0%", "off 1000000"),
        ("to everybody", ON_OFF, "f 100%", "on 1000000"),
        ("from plainly off", r#""f": {}"#, "f 25%", "on 250000, off 750000"),
        ("down from plainly on", r#""f": {"otherwise": "on"}"#, "f 25%", "on 250000, off 750000"),
        ("the named place", PLACES, "f 2% --otherwise", "on 20000, off 980000"),
        ("a third variant is left alone", COLOURS, "f red=40%", "green 300000, red 400000, none 300000"),
        ("losses return to the off variant", COLOURS, "f red=5%", "green 300000, red 50000, none 650000"),
        ("from another variant", COLOURS, "f red=40% --from green", "green 100000, red 400000, none 500000"),
        (
            "losses to another variant",
            COLOURS,
            "f red=10% --from green",
            "green 300000, red 100000, green 100000, none 500000",
        ),
        ("the off variant of two", ON_OFF, "f off=50%", "on 500000, off 500000"),
    ];
    for (name, flags, wish, want) in cases {
        let mut world = World::of(flags);
        world.ramp(wish);
        assert_eq!(world.otherwise("f"), *want, "{name}");
    }
}

#[test]
fn a_split_that_nobody_is_in_stays_a_split() {
    let mut world = World::of(ON_OFF);
    world.ramp("f 0%");
    world.ramp("f 100%");
    assert_eq!(world.field("f", "otherwise").unwrap(), "on 100 %");
    let plan = world.ramp("f 30%");
    assert_eq!(
        effects(&plan),
        ["f OnlyRemoves: otherwise: on 100 % -> 30 %, only removes (70 % of its units)"]
    );
}

#[test]
fn an_unclear_ramp_is_answered_with_ready_commands() {
    let cases: &[(&str, &str, &str, &str, &[&str])] = &[
        (
            "several splits",
            PLACES,
            "f 50%",
            "`f` has 3 splits; say which one",
            &["f 50% --rule dach", "f 50% --rule 'the rest'", "f 50% --otherwise"],
        ),
        (
            "several variants",
            COLOURS,
            "f 50% --otherwise",
            "`f` has 3 variants; say which one",
            &["f green=50% --otherwise", "f red=50% --otherwise"],
        ),
        (
            "everybody has a third variant",
            r#""f": {"variants": {"a": 1, "b": 2, "c": 3}, "offVariant": "c", "otherwise": "b"}"#,
            "f a=10%",
            "`f` has no split, and otherwise serves b to everybody; say where",
            &["f a=10% --otherwise --from b"],
        ),
    ];
    for (name, flags, wish, want_why, want) in cases {
        let world = World::of(flags);
        let Err(EditError::Ambiguous { why, choices }) = world.plan(&ramp(wish)) else { panic!("{name}") };
        assert_eq!((why.as_str(), choices.as_slice()), (*want_why, want.map_owned().as_slice()), "{name}");
        for choice in choices.iter().filter(|choice| !choice.contains('\'')) {
            let plan = world.plan(&ramp(choice)).unwrap_or_else(|error| panic!("{name}: {choice}: {error}"));
            assert_eq!(plan.writes.len(), 1, "{name}: {choice}");
        }
    }
}

trait MapOwned {
    fn map_owned(&self) -> Vec<String>;
}

impl MapOwned for &[&str] {
    fn map_owned(&self) -> Vec<String> {
        self.iter().map(|text| (*text).to_owned()).collect()
    }
}

#[test]
fn an_impossible_ramp_says_what_is_possible() {
    let cases: &[(&str, &str, &str, &str)] = &[
        (
            "off has too little",
            COLOURS,
            "f red=80%",
            "otherwise: red needs 60 % more, and none has only 50 %; at most 70 % is possible, or take it --from green (30 %)",
        ),
        (
            "no such variant",
            COLOURS,
            "f gren=80%",
            "`f` has no variant `gren`, only green, none, red; did you mean `green`?",
        ),
        (
            "no such rule",
            PLACES,
            "f 5% --rule dack",
            "`f` has no rule \"dack\": \"staff\", \"dach\", \"the rest\"; did you mean \"dach\"?",
        ),
        ("no rules at all", ON_OFF, "f 5% --rule x", "`f` has no rule \"x\": it has no rules"),
        (
            "the off variant of three",
            COLOURS,
            "f none=80%",
            "none is the off variant of `f`: say with --from which variant gives or takes",
        ),
        (
            "from itself",
            COLOURS,
            "f red=80% --from red",
            "--from names red itself; name the variant that gives or takes",
        ),
        ("unknown flag", ON_OFF, "g 5%", "no flag `g` in this environment; did you mean `f`?"),
    ];
    for (name, flags, wish, want) in cases {
        let error = World::of(flags).plan(&ramp(wish)).unwrap_err();
        assert_eq!(error.to_string(), *want, "{name}");
    }
}

#[test]
fn a_plain_rule_can_be_opened_to_a_share() {
    let mut world = World::of(PLACES);
    let plan = world.ramp("f 50% --rule staff");
    assert_eq!(
        effects(&plan),
        ["f OnlyRemoves: rule \"staff\": on 100 % -> 50 %, only removes (50 % of its units)"]
    );
    assert_eq!(
        plan.effects[0].flows,
        [Flow {
            place: "staff".to_owned(),
            from: VariantName::new("on").unwrap(),
            to: VariantName::new("off").unwrap(),
            share: crate::definition::Ppm(500_000),
        }]
    );
    let plan = world.ramp("f 30% --rule dach");
    assert_eq!(effects(&plan), ["f OnlyAdds: rule \"dach\": on 25 % -> 30 %, only adds (5 % of its units)"]);
    assert_eq!(world.field("f", "rules.dach.serve").unwrap(), "on 30 %, off 70 % by company");
}

#[test]
fn what_is_so_already_is_no_change() {
    let plan = World::of(ON_OFF).plan(&ramp("f 10%")).unwrap();
    assert_eq!((plan.writes.len(), plan.effects.len()), (0, 0));
    assert_eq!(told(&plan), ["Info: otherwise: on is at 10 % already"]);
}

/// A name, the flags, what happened first, the ramp, and what is said.
type Case<'c> = (&'c str, String, &'c [Edit], &'c str, Option<&'c str>);

#[test]
fn it_says_when_nobody_will_see_it() {
    let always = r#"{"name": "all", "if": {"any": [{"time": {"after": "2020-01-01T00:00:00Z"}}, {"attribute": "a", "exists": true}]}, "serve": "off"}"#;
    let never = r#"{"name": "past", "if": {"time": {"before": "2020-01-01T00:00:00Z"}}, "serve": {"split": {"on": 5, "off": 95}}}"#;
    let cases: &[Case<'_>] = &[
        ("seen", ON_OFF.to_owned(), &[], "f 25%", None),
        (
            "killed",
            ON_OFF.to_owned(),
            &[kills(&["f"])],
            "f 25%",
            Some("Warning: nobody will see this: `f` is killed; `flagctl revive f` lifts that"),
        ),
        (
            "disabled",
            ON_OFF.to_owned(),
            &[Edit::Disable(flag_key("f"))],
            "f 25%",
            Some("Warning: nobody will see this: `f` is disabled; `flagctl enable f` turns it on"),
        ),
        (
            "requirement killed",
            format!(r#"{ON_OFF}, "g": {{"rollout": 5, "requires": [{{"flag": "f", "serves": ["on"]}}]}}"#),
            &[kills(&["f"])],
            "g 25%",
            Some("Warning: nobody will see this: it requires `f`, which is killed"),
        ),
        (
            "an earlier rule catches all",
            format!(r#""f": {{"rules": [{always}], "otherwise": {{"split": {{"on": 1, "off": 99}}}}}}"#),
            &[],
            "f 25%",
            Some("Warning: nobody will see this: rule \"all\" comes earlier and holds for everybody"),
        ),
        (
            "the rule never holds",
            format!(r#""f": {{"rules": [{never}]}}"#),
            &[],
            "f 25%",
            Some("Warning: nobody will see this: the condition of rule \"past\" never holds"),
        ),
    ];
    for (name, flags, first, wish, want) in cases {
        let mut world = World::of(flags);
        for edit in *first {
            world.edit(edit);
        }
        let plan = world.ramp(wish);
        let unseen: Vec<String> =
            told(&plan).into_iter().filter(|note| note.contains("nobody will see")).collect();
        assert_eq!(unseen.first().map(String::as_str), *want, "{name}");
        let expected = if ["killed", "disabled", "requirement killed"].contains(name) {
            Movement::Nothing
        } else {
            Movement::OnlyAdds
        };
        assert_eq!(plan.effects[0].movement, expected, "{name}");
    }
}

#[test]
fn a_ramp_is_undone_by_a_ramp_or_by_the_very_bytes() {
    let cases = [
        ("on and off", ON_OFF, "f 25%", "flagctl ramp f 10%"),
        ("a named place", PLACES, "f 50% --rule dach", "flagctl ramp f 25% --rule dach"),
        ("plain before", r#""f": {}"#, "f 50%", "flagctl rollback f --to 1"),
        ("three variants", COLOURS, "f red=40%", "flagctl rollback f --to 1"),
    ];
    for (name, flags, wish, want) in cases {
        let world = World::of(flags);
        let plan = world.plan(&ramp(wish)).unwrap();
        assert_eq!(undo(&ramp(wish), &plan, &world.state).as_deref(), Some(want), "{name}");
    }
}
