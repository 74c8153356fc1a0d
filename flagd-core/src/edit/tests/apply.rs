//! `apply`: the matrix of base, file and live, and the stories behind it.

use super::*;

fn flags(flags: &str) -> String {
    format!("{{\"flags\": {{{flags}}}}}")
}

/// What came of one cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Nothing is written, nothing is said.
    Same,
    /// The file's version is live now.
    File,
    /// The live version stayed and is listed as drift.
    Drift,
    /// It was refused as a conflict.
    Conflict,
}

/// Applies `base`, edits to `live`, applies `file`: what became of the fields named `field`.
fn outcome(base: Option<&str>, file: &str, live: &str, field: &str, take: Take) -> (Outcome, World) {
    let mut world = World::empty();
    if let Some(base) = base {
        world.apply("ci", base, Take::Ask).unwrap();
    }
    world.edit(&Edit::Put { file: live.to_owned(), mode: PutMode::CreateOrReplace });
    let before = world.state.clone();
    match world.apply("ci", file, take) {
        Err(EditError::FieldConflicts(conflicts)) => {
            let fields: Vec<&str> = conflicts.iter().map(|conflict| conflict.field.as_str()).collect();
            assert_eq!(fields, [field]);
            assert_eq!(world.state, before, "a refused apply changes nothing");
            (Outcome::Conflict, world)
        }
        Err(error) => panic!("{error:?}"),
        Ok(plan) => {
            let fields: Vec<&str> = plan.drift.iter().map(|drift| drift.field.as_str()).collect();
            match (fields.as_slice(), plan.writes.len()) {
                ([], 0) => (Outcome::Same, world),
                ([], 1) => (Outcome::File, world),
                ([one], 0) if *one == field => (Outcome::Drift, world),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Three different values of every field of a flag, each a whole flag, and the field's name.
const FLAG_FIELDS: &[(&str, [&str; 3])] = &[
    ("description", [r#"{"description": "a"}"#, r#"{"description": "b"}"#, "{}"]),
    ("owner", [r#"{"owner": "a"}"#, r#"{"owner": "b"}"#, "{}"]),
    ("tags", [r#"{"tags": ["a"]}"#, r#"{"tags": ["b", "a"]}"#, "{}"]),
    ("metadata", [r#"{"metadata": {"a": 1}}"#, r#"{"metadata": {"a": 2}}"#, "{}"]),
    (
        "variants.b",
        [
            r#"{"variants": {"a": 1, "b": 2}, "offVariant": "a", "otherwise": "a"}"#,
            r#"{"variants": {"a": 1, "b": 3}, "offVariant": "a", "otherwise": "a"}"#,
            r#"{"variants": {"a": 1}, "offVariant": "a", "otherwise": "a"}"#,
        ],
    ),
    (
        "offVariant",
        [
            r#"{"variants": {"a": 1, "b": 2, "c": 3}, "offVariant": "a", "otherwise": "a"}"#,
            r#"{"variants": {"a": 1, "b": 2, "c": 3}, "offVariant": "b", "otherwise": "a"}"#,
            r#"{"variants": {"a": 1, "b": 2, "c": 3}, "offVariant": "c", "otherwise": "a"}"#,
        ],
    ),
    (
        "requires",
        [
            r#"{"requires": [{"flag": "g", "serves": ["on"]}]}"#,
            r#"{"requires": [{"flag": "g", "serves": ["off"]}]}"#,
            "{}",
        ],
    ),
    (
        "rules.r.if",
        [
            r#"{"rules": [{"name": "r", "if": {"attribute": "x", "equals": 1}, "serve": "on"}]}"#,
            r#"{"rules": [{"name": "r", "if": {"attribute": "x", "equals": 2}, "serve": "on"}]}"#,
            r#"{"rules": [{"name": "r", "if": {"attribute": "x", "exists": true}, "serve": "on"}]}"#,
        ],
    ),
    (
        "rules.r.serve",
        [
            r#"{"rules": [{"name": "r", "if": {"attribute": "x", "equals": 1}, "serve": "on"}]}"#,
            r#"{"rules": [{"name": "r", "if": {"attribute": "x", "equals": 1}, "serve": {"split": {"on": 5, "off": 95}}}]}"#,
            r#"{"rules": [{"name": "r", "if": {"attribute": "x", "equals": 1}, "serve": {"split": {"on": 5, "off": 95}, "by": "y"}}]}"#,
        ],
    ),
    (
        "rules",
        [
            r#"{"rules": [{"name": "r", "if": {"attribute": "x", "equals": 1}, "serve": "on"}, {"name": "s", "if": {"attribute": "x", "equals": 2}, "serve": "off"}, {"name": "t", "if": {"attribute": "x", "equals": 3}, "serve": "on"}]}"#,
            r#"{"rules": [{"name": "s", "if": {"attribute": "x", "equals": 2}, "serve": "off"}, {"name": "r", "if": {"attribute": "x", "equals": 1}, "serve": "on"}, {"name": "t", "if": {"attribute": "x", "equals": 3}, "serve": "on"}]}"#,
            r#"{"rules": [{"name": "t", "if": {"attribute": "x", "equals": 3}, "serve": "on"}, {"name": "s", "if": {"attribute": "x", "equals": 2}, "serve": "off"}, {"name": "r", "if": {"attribute": "x", "equals": 1}, "serve": "on"}]}"#,
        ],
    ),
    ("otherwise", [r#"{"rollout": 10}"#, r#"{"rollout": 25}"#, r#"{"otherwise": "on"}"#]),
    (
        "otherwise",
        [
            r#"{"otherwise": {"split": [{"on": 10}, {"off": 90}]}}"#,
            r#"{"otherwise": {"split": [{"off": 90}, {"on": 10}]}}"#,
            r#"{"otherwise": {"split": [{"off": 45}, {"on": 10}, {"off": 45}]}}"#,
        ],
    ),
];

/// Fields that have two values only: presence of a rule, of a unit, the switch.
const TWO_VALUED: &[(&str, [&str; 2])] = &[
    ("enabled", [r#"{"enabled": true}"#, r#"{"enabled": false}"#]),
    (
        "rules.r",
        [
            r#"{"rules": [{"name": "r", "if": {"attribute": "x", "equals": 1}, "serve": {"split": {"on": 5, "off": 95}}}]}"#,
            r#"{"rules": []}"#,
        ],
    ),
    (
        "rules.r",
        [
            r#"{"rules": [{"name": "r", "if": {"attribute": "x", "equals": 1}, "serve": "on"}]}"#,
            r#"{"rules": []}"#,
        ],
    ),
];

/// Base, file and live as numbers of versions, and the outcome for each way to take it.
type Row<'r> = (&'r str, Option<usize>, usize, usize, [Outcome; 3]);

const MATRIX: &[Row<'_>] = &[
    ("nothing changed", Some(0), 0, 0, [Outcome::Same; 3]),
    ("only the file changed", Some(0), 1, 0, [Outcome::File; 3]),
    ("only live changed", Some(0), 0, 1, [Outcome::Drift; 3]),
    ("both changed to the same", Some(0), 1, 1, [Outcome::Same; 3]),
    ("both changed differently", Some(0), 1, 2, [Outcome::Conflict, Outcome::File, Outcome::Drift]),
    ("never applied, the same", None, 1, 1, [Outcome::Same; 3]),
    ("never applied, different", None, 0, 1, [Outcome::Conflict, Outcome::File, Outcome::Drift]),
];

const TAKES: [Take; 3] = [Take::Ask, Take::File, Take::Live];

fn check_row(
    field: &str,
    row: &Row<'_>,
    rotate: usize,
    version: impl Fn(usize) -> String,
    read: impl Fn(&World) -> String,
) {
    let (name, base, file, live, want) = row;
    for (take, want) in TAKES.into_iter().zip(want) {
        let [base, file, live] = [base.unwrap_or(0), *file, *live].map(|n| version(n + rotate));
        let base = row.1.map(|_| base.as_str());
        let (found, world) = outcome(base, &file, &live, field, take);
        assert_eq!(found, *want, "{field}, {name}, {take:?}, from version {rotate}");
        let mut expected = World::empty();
        let left = if matches!(found, Outcome::File | Outcome::Same) { &file } else { &live };
        expected.edit(&Edit::Put { file: left.clone(), mode: PutMode::Create });
        assert_eq!(read(&world), read(&expected), "{field}, {name}, {take:?}, from version {rotate}");
    }
}

fn shares_of(world: &World) -> String {
    // What is the same in shares may lie elsewhere, so the readable form is compared where it can be.
    world.text(&EntryId::new(EntryKind::FLAG, "f"))
}

#[test]
fn every_field_is_merged_by_the_same_rule() {
    for (field, versions) in FLAG_FIELDS {
        for rotate in 0..3 {
            let version = |n: usize| {
                let g = r#""g": {}"#;
                flags(&format!("\"f\": {}, {g}", versions[n % 3]))
            };
            for row in MATRIX {
                check_row(field, row, rotate, version, shares_of);
            }
        }
    }
    for (field, versions) in TWO_VALUED {
        for rotate in 0..2 {
            let version = |n: usize| flags(&format!("\"f\": {}", versions[n % 2]));
            for row in MATRIX.iter().filter(|row| row.0 != "both changed differently") {
                check_row(field, row, rotate, version, shares_of);
            }
        }
    }
}

#[test]
fn segments_are_merged_field_by_field_and_unit_by_unit() {
    let fields: &[(&str, [&str; 2])] = &[
        ("include", [r#"{"include": ["a", "b"]}"#, r#"{"include": ["a"]}"#]),
        ("exclude", [r#"{"include": ["a"], "exclude": ["x"]}"#, r#"{"include": ["a"]}"#]),
        ("if", [r#"{"if": {"attribute": "x", "equals": 1}}"#, r#"{"if": {"attribute": "x", "equals": 2}}"#]),
        ("by", [r#"{"by": "company", "include": ["a"]}"#, r#"{"include": ["a"]}"#]),
        ("owner", [r#"{"owner": "o", "include": ["a"]}"#, r#"{"include": ["a"]}"#]),
    ];
    for (field, versions) in fields {
        for rotate in 0..2 {
            let version = |n: usize| format!("{{\"segments\": {{\"s\": {}}}}}", versions[n % 2]);
            for row in MATRIX.iter().filter(|row| row.0 != "both changed differently") {
                check_row(field, row, rotate, version, |world| {
                    world.text(&EntryId::new(EntryKind::SEGMENT, "s"))
                });
            }
        }
    }
    let file = |units: &str| format!("{{\"segments\": {{\"s\": {{\"include\": [{units}]}}}}}}");
    let mut world = World::empty();
    world.apply("ci", &file(r#""a", "b", "c""#), Take::Ask).unwrap();
    let night = |units: &[&str]| units.iter().map(|unit| (*unit).to_owned()).collect::<Vec<_>>();
    let (segment, list) = (segment_key("s"), SegmentList::Include);
    world.edit(&Edit::SegmentAdd { segment: segment.clone(), units: night(&["night", "b2"]), list });
    world.edit(&Edit::SegmentRemove { segment, units: night(&["a"]), list });
    let plan = world.apply("ci", &file(r#""a", "b2", "c", "d""#), Take::Ask).unwrap();
    let include: Vec<String> = world.segment("s").include.listed().iter().map(ToString::to_string).collect();
    assert_eq!(include, ["b2", "c", "d", "night"], "b was taken out of the file, a out of the environment");
    let drift: Vec<_> = plan
        .drift
        .iter()
        .map(|d| (d.field.as_str(), d.base.as_deref(), d.file.as_deref(), d.live.as_deref()))
        .collect();
    assert_eq!(drift, [("include", None, None, Some("night")), ("include", Some("a"), Some("a"), None)]);
}

#[test]
fn a_ramp_at_night_survives_the_pipeline_in_the_morning() {
    let file = flags(r#""f": {"description": "old", "rollout": 10}, "g": {"rollout": 1}"#);
    let mut world = World::empty();
    world.apply("ci", &file, Take::Ask).unwrap();
    world.ramp("f 25%");
    for _ in 0..2 {
        let plan = world.apply("ci", &file.replace("old", "new"), Take::Ask).unwrap();
        assert_eq!(
            plan.drift,
            [FieldDrift {
                id: EntryId::new(EntryKind::FLAG, "f"),
                field: "otherwise".to_owned(),
                base: Some("on 10 %, off 90 %".to_owned()),
                file: Some("on 10 %, off 90 %".to_owned()),
                live: Some("on 25 %, off 75 %".to_owned()),
            }]
        );
        assert_eq!(world.otherwise("f"), "on 250000, off 750000");
        assert_eq!(world.field("f", "description").unwrap(), "new");
    }
    let raised = file.replace("old", "new").replace("10", "30");
    let error = world.apply("ci", &raised, Take::Ask).unwrap_err();
    assert_eq!(
        error.to_string(),
        "1 field changed both in the file and in the environment; run it again with `--take file` or `--take live`"
    );
    let plan = world.apply("ci", &raised, Take::File).unwrap();
    assert_eq!(effects(&plan), ["f OnlyAdds: otherwise: on 25 % -> 30 %, only adds (5 % of its units)"]);
    assert_eq!(plan.drift, []);
    assert_eq!(world.apply("ci", &raised, Take::Ask).unwrap().writes, []);
}

#[test]
fn taking_the_live_state_settles_a_conflict_for_good() {
    let file = flags(r#""f": {"rollout": 10}"#);
    let mut world = World::empty();
    world.apply("ci", &file, Take::Ask).unwrap();
    world.ramp("f 25%");
    let raised = file.replace("10", "30");
    assert_eq!(world.apply("ci", &raised, Take::Live).unwrap().drift.len(), 1);
    let plan = world.apply("ci", &raised, Take::Ask).unwrap();
    assert_eq!((plan.writes.len(), plan.drift.len()), (0, 1));
    let plan = world.apply("ci", &file.replace("10", "25"), Take::Ask).unwrap();
    assert_eq!((plan.writes.len(), plan.drift.len()), (0, 0), "the file has come round to what is live");
}

#[test]
fn shares_that_win_move_as_few_units_as_possible() {
    let colours = |split: &str| {
        flags(&format!(
            r#""f": {{"variants": {{"a": 1, "b": 2, "c": 3}}, "offVariant": "c", "otherwise": {{"split": {split}}}}}"#
        ))
    };
    let mut world = World::empty();
    world.apply("ci", &colours(r#"{"a": 50, "b": 50}"#), Take::Ask).unwrap();
    let plan = world.apply("ci", &colours(r#"{"a": 40, "b": 40, "c": 20}"#), Take::Ask).unwrap();
    let moved: u32 = plan.effects[0].flows.iter().map(|flow| flow.share.0).sum();
    assert_eq!(moved, 200_000);
    assert_ne!(world.otherwise("f"), "a 400000, b 400000, c 200000", "it was reweighed, not laid");
    let plan = world.apply("ci", &colours(r#"{"c": 20, "a": 40, "b": 40}"#), Take::Ask).unwrap();
    assert_eq!((plan.writes.len(), plan.drift.len()), (0, 0), "the same shares are no difference");
}

#[test]
fn where_shares_lie_is_no_change_of_a_rule() {
    let colours = |split: &str| {
        let rules = if split.is_empty() {
            String::new()
        } else {
            format!(
                r#"{{"name": "r", "if": {{"attribute": "x", "equals": 1}}, "serve": {{"split": {split}}}}}"#
            )
        };
        flags(&format!(
            r#""f": {{"variants": {{"a": 1, "b": 2, "c": 3}}, "offVariant": "c", "rules": [{rules}], "otherwise": "c"}}"#
        ))
    };
    let mut world = World::empty();
    world.apply("ci", &colours(r#"{"a": 50, "b": 50}"#), Take::Ask).unwrap();
    world.apply("ci", &colours(r#"{"a": 40, "b": 40, "c": 20}"#), Take::Ask).unwrap();
    let mut put = world.clone();
    put.edit(&Edit::Put { file: colours(""), mode: PutMode::Replace });
    let plan = put.apply("ci", &colours(r#"{"a": 40, "b": 40, "c": 20}"#), Take::Ask).unwrap();
    assert_eq!((plan.writes.len(), plan.drift.len()), (0, 1), "live lost the rule, the file has not changed");
    let plan = world.apply("ci", &colours(""), Take::Ask).unwrap();
    assert_eq!((plan.writes.len(), plan.drift.len()), (1, 0), "the file lost the rule, live has not changed");
}

#[test]
fn a_definition_that_is_not_in_the_file_is_left_alone() {
    let mut world = World::of(r#""other": {"rollout": 3}"#);
    world.apply("ci", &flags(r#""f": {}, "g": {}"#), Take::Ask).unwrap();
    let plan = world.apply("ci", &flags(r#""g": {}"#), Take::Ask).unwrap();
    assert_eq!(plan.writes, []);
    let left = "Info: applied by this source earlier and not in this file: flag `f`; it is left as it is";
    assert_eq!(told(&plan), [left]);
    assert_eq!(plan.base.keys().map(ToString::to_string).collect::<Vec<_>>(), ["flag `f`", "flag `g`"]);
    world.edit(&Edit::Archive(flag_key("f")));
    let plan = world.apply("ci", &flags(r#""g": {}"#), Take::Ask).unwrap();
    assert_eq!((told(&plan), plan.base.len()), (vec![], 2), "there is nothing to say of what is gone");
}

#[test]
fn files_that_are_applied_one_by_one_do_not_forget_each_other() {
    let (a, b) = (flags(r#""f": {"rollout": 10}"#), flags(r#""g": {"rollout": 10}"#));
    let mut world = World::empty();
    world.apply("ci", &a, Take::Ask).unwrap();
    world.apply("ci", &b, Take::Ask).unwrap();
    world.ramp("f 50%");
    let plan = world.apply("ci", &a, Take::Ask).unwrap();
    assert_eq!((plan.writes.len(), plan.drift.len()), (0, 1), "the file has not changed, so the ramp stays");
    assert_eq!(world.otherwise("f"), "on 500000, off 500000");
}

#[test]
fn what_somebody_archived_stays_archived() {
    let file = flags(r#""f": {"rollout": 10}"#);
    let mut world = World::empty();
    world.apply("ci", &file, Take::Ask).unwrap();
    world.edit(&Edit::Archive(flag_key("f")));
    let plan = world.apply("ci", &file, Take::Ask).unwrap();
    assert_eq!((plan.writes.len(), plan.drift.len()), (0, 1));
    let changed = file.replace("10", "20");
    assert!(matches!(world.apply("ci", &changed, Take::Ask), Err(EditError::FieldConflicts(_))));
    assert_eq!(world.apply("ci", &changed, Take::Live).unwrap().writes, []);
    let changed = file.replace("10", "30");
    world.apply("ci", &changed, Take::File).unwrap();
    assert_eq!(world.otherwise("f"), "on 300000, off 700000");
    assert!(!world.has(EntryKind::TOMBSTONE, "f"));
}

#[test]
fn the_first_apply_to_live_flags_wants_to_be_told() {
    let mut world = World::of(r#""f": {"rollout": 10}, "same": {"rollout": 4}"#);
    let file = flags(r#""f": {"rollout": 20, "owner": "me"}, "same": {"rollout": 4}"#);
    let error = world.apply("ci", &file, Take::Ask).unwrap_err();
    assert_eq!(
        error.to_string(),
        "2 fields differ from the environment, and this source has not applied them before; run it again with `--take file` or `--take live`"
    );
    let one = flags(r#""f": {"rollout": 20}"#);
    assert_eq!(
        world.apply("ci", &one, Take::Ask).unwrap_err().to_string(),
        "1 field differs from the environment, and this source has not applied it before; run it again with `--take file` or `--take live`"
    );
    world.apply("ci", &file, Take::File).unwrap();
    assert_eq!(world.otherwise("f"), "on 200000, off 800000");
}

/// A name; the rules in the base, in the file, live, and merged.
type Case<'c> = (&'c str, &'c [&'c str], &'c [&'c str], &'c [&'c str], &'c [&'c str]);

#[test]
fn rules_of_both_sides_keep_their_places() {
    let rule = |name: &str| {
        format!(r#"{{"name": "{name}", "if": {{"attribute": "x", "equals": 1}}, "serve": "on"}}"#)
    };
    let file = |names: &[&str]| {
        flags(&format!(
            "\"f\": {{\"rules\": [{}]}}",
            names.iter().map(|name| rule(name)).collect::<Vec<_>>().join(", ")
        ))
    };
    let cases: &[Case<'_>] = &[
        ("both add", &["a", "b"], &["a", "file", "b"], &["live", "a", "b"], &["live", "a", "file", "b"]),
        ("file removes, live adds behind it", &["a", "b"], &["b"], &["a", "live", "b"], &["live", "b"]),
        ("file reorders, live adds", &["a", "b"], &["b", "a"], &["a", "live", "b"], &["b", "a", "live"]),
        ("live reorders, file adds", &["a", "b"], &["a", "b", "file"], &["b", "a"], &["b", "file", "a"]),
        ("live removes, file adds", &["a", "b"], &["a", "b", "file"], &["a"], &["a", "file"]),
    ];
    for (name, base, in_file, live, want) in cases {
        let mut world = World::empty();
        world.apply("ci", &file(base), Take::Ask).unwrap();
        world.edit(&Edit::Put { file: file(live), mode: PutMode::Replace });
        world.apply("ci", &file(in_file), Take::Ask).unwrap();
        let rules: Vec<String> = world.flag("f").rules.iter().map(|rule| rule.name.to_string()).collect();
        assert_eq!(rules, *want, "{name}");
    }
}

#[test]
fn a_merge_that_does_not_hold_together_is_refused() {
    let colours = |variants: &str, otherwise: &str| {
        flags(&format!(
            r#""f": {{"variants": {{{variants}}}, "offVariant": "a", "otherwise": "{otherwise}"}}"#
        ))
    };
    let mut world = World::empty();
    world.apply("ci", &colours(r#""a": 1, "b": 2"#, "a"), Take::Ask).unwrap();
    world.edit(&Edit::Put { file: colours(r#""a": 1, "b": 2"#, "b"), mode: PutMode::Replace });
    let error = world.apply("ci", &colours(r#""a": 1"#, "a"), Take::Ask).unwrap_err();
    let EditError::Invalid(problems) = error else { panic!("{error:?}") };
    assert!(problems[0].path.starts_with("flags.f.otherwise"), "{problems:?}");
}

#[test]
fn two_sources_do_not_disturb_each_other() {
    let mut world = World::empty();
    world.apply("a", &flags(r#""f": {"rollout": 10}"#), Take::Ask).unwrap();
    world.apply("b", &flags(r#""g": {"rollout": 10}"#), Take::Ask).unwrap();
    let plan = world.apply("a", &flags(r#""f": {"rollout": 20}"#), Take::Ask).unwrap();
    assert_eq!((plan.writes.len(), plan.notes.len()), (1, 0));
}
