//! What a new definition does to units, and the differences between two of them.

use super::*;

fn rule(name: &str, value: u32, serve: &str) -> String {
    format!(r#"{{"name": "{name}", "if": {{"attribute": "x", "equals": {value}}}, "serve": {serve}}}"#)
}

fn flag(rules: &[String], otherwise: &str) -> String {
    format!(r#""f": {{"rules": [{}], "otherwise": {otherwise}}}"#, rules.join(", "))
}

/// A name, the flag before and after, what that does and how it is told.
type Case = (&'static str, String, String, Movement, &'static str);

#[test]
fn movements_are_told_as_far_as_they_can_be() {
    let half = r#"{"split": {"on": 50, "off": 50}}"#;
    let quarter = r#"{"split": {"on": 25, "off": 75}}"#;
    let by = r#"{"split": {"on": 25, "off": 75}, "by": "company"}"#;
    let off = r#""off""#;
    let cases: Vec<Case> = vec![
        (
            "up",
            flag(&[], quarter),
            flag(&[], half),
            Movement::OnlyAdds,
            "otherwise: on 25 % -> 50 %, only adds (25 % of its units)",
        ),
        (
            "down",
            flag(&[], half),
            flag(&[], off),
            Movement::OnlyRemoves,
            "otherwise: on 50 % -> 0 %, only removes (50 % of its units)",
        ),
        (
            "drawn anew",
            flag(&[], quarter),
            flag(&[], by),
            Movement::Moves,
            "otherwise: split by company, so units are drawn anew",
        ),
        (
            "a list the other way round",
            flag(&[], quarter),
            flag(&[], r#"{"split": [{"off": 75}, {"on": 25}]}"#),
            Movement::Moves,
            "otherwise: same shares, other units, moves 50 % of its units",
        ),
        (
            "one place up, one down",
            flag(&[rule("r", 1, quarter)], half),
            flag(&[rule("r", 1, half)], quarter),
            Movement::Moves,
            "rule \"r\": on 25 % -> 50 %, only adds (25 % of its units); otherwise: on 50 % -> 25 %, only removes (25 % of its units)",
        ),
    ];
    check(cases);
}

#[test]
fn rules_that_come_go_and_change_are_told() {
    let half = r#"{"split": {"on": 50, "off": 50}}"#;
    let quarter = r#"{"split": {"on": 25, "off": 75}}"#;
    let (off, on) = (r#""off""#, r#""on""#);
    let cases: Vec<Case> = vec![
        (
            "a rule for some, nobody else in",
            flag(&[], off),
            flag(&[rule("r", 1, on)], off),
            Movement::OnlyAdds,
            "new rule \"r\": on",
        ),
        (
            "a rule for some, some in",
            flag(&[], half),
            flag(&[rule("r", 1, on)], half),
            Movement::Unknown,
            "new rule \"r\": on",
        ),
        (
            "a rule goes",
            flag(&[rule("r", 1, quarter)], off),
            flag(&[], off),
            Movement::OnlyRemoves,
            "rule \"r\" removed (it served on 25 %)",
        ),
        (
            "another condition",
            flag(&[rule("r", 1, on)], off),
            flag(&[rule("r", 2, on)], off),
            Movement::Unknown,
            "rule \"r\": other condition, who is affected depends on contexts",
        ),
        (
            "another order",
            flag(&[rule("r", 1, on), rule("s", 2, off)], off),
            flag(&[rule("s", 2, off), rule("r", 1, on)], off),
            Movement::Unknown,
            "rules in another order",
        ),
        (
            "only words",
            flag(&[], off),
            r#""f": {"description": "new"}"#.to_owned(),
            Movement::Nothing,
            "no unit is served anything else",
        ),
        (
            "a plain variant as a split",
            flag(&[], on),
            flag(&[], r#"{"split": {"on": 100, "off": 0}}"#),
            Movement::Nothing,
            "no unit is served anything else",
        ),
        (
            "a requirement",
            flag(&[], on),
            r#""f": {"otherwise": "on", "requires": [{"flag": "g", "serves": ["on"]}]}"#.to_owned(),
            Movement::OnlyRemoves,
            "now requires `g` to serve on",
        ),
        (
            "disabled in a file",
            flag(&[], quarter),
            r#""f": {"enabled": false}"#.to_owned(),
            Movement::OnlyRemoves,
            "now serves off = false to everybody (disabled); before: otherwise on 25 %",
        ),
    ];
    check(cases);
}

fn check(cases: Vec<Case>) {
    for (name, before, after, movement, summary) in cases {
        let mut world = World::of(&format!(r#"{before}, "g": {{"rollout": 5}}"#));
        let plan = world.put(&after);
        let found = &plan.effects[0];
        assert_eq!((found.movement, found.summary.as_str()), (movement, summary), "{name}");
    }
}

#[test]
fn a_value_that_is_served_and_changes_moves_units() {
    let colours = |red: &str, otherwise: &str| {
        format!(
            r#""f": {{"variants": {{"none": "", "red": "{red}", "blue": "b"}}, "offVariant": "none", "otherwise": "{otherwise}"}}"#
        )
    };
    for (otherwise, movement) in [("red", Movement::Moves), ("blue", Movement::Nothing)] {
        let mut world = World::of(&colours("r", otherwise));
        assert_eq!(
            effects(&world.put(&colours("R", otherwise))),
            [format!("f {movement:?}: variant red has another value")]
        );
    }
    let mut world = World::of(&colours("r", "blue"));
    let plan = world.put(&colours("r", "red"));
    assert_eq!(
        effects(&plan),
        ["f Moves: otherwise: blue 100 % -> 0 %, red 0 % -> 100 %, moves 100 % of its units"]
    );
}

#[test]
fn a_new_flag_adds_what_it_serves() {
    let plan = World::empty().edit(&put(
        r#""dark": {}, "lit": {"rollout": 1.5}, "off": {"enabled": false, "otherwise": "on"}"#,
        PutMode::Create,
    ));
    assert_eq!(
        effects(&plan),
        [
            "dark Nothing: new flag: off = false to everybody",
            "lit OnlyAdds: new flag: otherwise on 1.5 %",
            "off Nothing: new flag: off = false to everybody (disabled)",
        ]
    );
}

#[test]
fn differences_are_told_field_by_field() {
    let old = World::of(
        r#""f": {"owner": "a", "rollout": 10, "rules": [{"name": "r", "if": {"attribute": "x", "equals": 1}, "serve": "on"}]}"#,
    );
    let new = World::of(
        r#""f": {"tags": ["t", "u"], "enabled": false, "variants": {"on": true, "off": false, "also": true}, "offVariant": "off",
            "otherwise": {"split": {"on": 25, "off": 75}, "by": "company"}}"#,
    );
    let bytes = |world: &World| world.state.get(&EntryId::new(EntryKind::FLAG, "f")).unwrap().bytes.clone();
    let show = |before: Option<&[u8]>, after: Option<&[u8]>| -> Vec<String> {
        let text = |side: Option<String>| side.unwrap_or_else(|| "-".to_owned());
        difference(before, after, &[])
            .into_iter()
            .map(|d| format!("{}: {} -> {}", d.field, text(d.before), text(d.after)))
            .collect()
    };
    assert_eq!(
        show(Some(&bytes(&old)), Some(&bytes(&new))),
        [
            "owner: a -> -",
            "tags: - -> t, u",
            "variants.also: - -> true",
            "enabled: true -> false",
            "rules.r.if: {\"attribute\":\"x\",\"equals\":1} -> -",
            "rules.r.serve: on -> -",
            "otherwise: on 10 %, off 90 % -> on 25 %, off 75 % by company",
        ]
    );
    assert_eq!(show(Some(&bytes(&old)), Some(&bytes(&old))), Vec::<String>::new());
    assert_eq!(show(None, Some(&bytes(&World::of(r#""f": {}"#)))).len(), 5);
    assert_eq!(
        show(Some(br#"{"include":["a","b"]}"#), Some(br#"{"include":["b","c"],"by":"x"}"#)),
        ["by: - -> x", "include: a -> c"]
    );
    assert_eq!(show(Some(b"rubbish"), None), ["definition: rubbish -> -"]);
}

#[test]
fn touched_flags_are_those_whose_entries_are_written() {
    let writes = [EntryKind::KILL, EntryKind::SEGMENT, EntryKind::TOMBSTONE, EntryKind::FLAG]
        .map(|kind| EntryWrite::remove(EntryId::new(kind, &format!("k{}", kind.number()))));
    assert_eq!(touched_flags(&writes).iter().map(|key| &**key).collect::<Vec<_>>(), ["k1", "k3", "k4"]);
}

#[test]
fn a_flag_that_changes_with_what_it_requires_may_do_anything() {
    let mut world = World::of(
        r#""a": {"rollout": 5}, "b": {"otherwise": "on", "requires": [{"flag": "a", "serves": ["on"]}]}"#,
    );
    let plan = world.put(r#""a": {"rollout": 9}, "b": {"owner": "x", "otherwise": "on", "requires": [{"flag": "a", "serves": ["on"]}]}"#);
    assert_eq!(
        effects(&plan),
        [
            "a OnlyAdds: otherwise: on 5 % -> 9 %, only adds (4 % of its units)",
            "b Unknown: `a`, which it requires, changes too",
        ]
    );
}

#[test]
fn a_rule_with_another_name_moves_nobody() {
    let split = |on: u32| format!(r#"{{"split": {{"on": {on}, "off": {}}}}}"#, 100 - on);
    let one = |name: &str, on: u32| flag(&[rule(name, 1, &split(on))], "\"off\"");
    // Not how shares are laid anew: whoever is drawn for "on" stays there all the same.
    let lies = r#"{"split": [{"off": 80}, {"on": 20}]}"#;
    let mut world = World::of(&flag(&[rule("a", 1, lies)], "\"off\""));
    let was = world.flag("f").rules[0].serve.clone();
    assert_eq!(effects(&world.put(&one("b", 20))), [r#"f Nothing: rule "a" is now called "b""#]);
    assert_eq!(world.flag("f").rules[0].serve, was);
    assert_eq!(
        effects(&world.put(&one("c", 25))),
        [
            r#"f OnlyAdds: rule "b" is now called "c"; rule "c": on 20 % -> 25 %, only adds (5 % of its units)"#
        ]
    );
    // Which of two became which cannot be told.
    let two = |one: &str, other: &str| flag(&[rule(one, 1, "\"on\""), rule(other, 1, "\"off\"")], "\"off\"");
    let mut world = World::of(&two("a", "b"));
    assert_eq!(world.put(&two("c", "d")).movement(), Movement::Moves);
}
