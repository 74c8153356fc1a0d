//! `kill`, `revive`, `enable`, `disable`: what is served, what follows, and what stays.

use super::*;
use crate::definition::parse_kill;

const FILE: &str = r#"
    "payments": {"rules": [{"name": "staff", "if": {"attribute": "staff", "equals": true}, "serve": "on"}],
        "otherwise": {"split": {"on": 25, "off": 75}}},
    "checkout": {"otherwise": "on", "requires": [{"flag": "payments", "serves": ["on"]}]},
    "upsell": {"otherwise": "on", "requires": [{"flag": "checkout", "serves": ["on"]}]},
    "old-page": {"otherwise": "on", "requires": [{"flag": "checkout", "serves": ["off"]}]},
    "dark": {"otherwise": "off", "requires": [{"flag": "payments", "serves": ["on"]}]},
    "theme": {"variants": {"light": "l", "dark": "d"}, "offVariant": "light", "otherwise": "dark"}"#;

#[test]
fn a_kill_says_what_is_served_and_what_was() {
    let mut world = World::of(FILE);
    let plan = world.edit(&kills(&["payments", "theme"]));
    assert_eq!(
        effects(&plan),
        [
            "payments OnlyRemoves: now serves off = false to everybody; before: rule \"staff\" on, otherwise on 25 %",
            "theme OnlyRemoves: now serves light = \"l\" to everybody; before: dark = \"d\" to everybody",
        ]
    );
    let kill = parse_kill(world.text(&EntryId::new(EntryKind::KILL, "payments")).as_bytes());
    assert_eq!((kill.by.as_str(), kill.at, kill.reason.as_deref()), ("ada", author().now, Some("INC-7")));
    assert_eq!((kill.off_variant, kill.value), (VariantName::new("off").ok(), Some(false.into())));
    assert_eq!(
        undo(&kills(&["payments", "theme"]), &plan, &World::of(FILE).state).unwrap(),
        "flagctl revive payments theme"
    );
}

#[test]
fn a_kill_names_the_flags_that_follow() {
    let mut world = World::of(FILE);
    let follows = |plan: &Plan| -> Vec<String> {
        plan.consequences
            .iter()
            .map(|c| format!("{} {:?} because of {}", c.flag, c.direction, c.because))
            .collect()
    };
    let plan = world.edit(&kills(&["payments"]));
    assert_eq!(
        follows(&plan),
        [
            "checkout GoesOff because of payments",
            "dark Stays because of payments",
            "old-page ComesOn because of checkout",
            "upsell GoesOff because of checkout",
        ]
    );
    assert_eq!(
        told(&plan),
        [
            "Info: `checkout` goes off: it requires `payments`",
            "Warning: `old-page` comes on: it requires `checkout`, which now serves what it asks for",
            "Info: `upsell` goes off: it requires `checkout`",
        ]
    );
    let plan = world.edit(&revives(&["payments"]));
    assert_eq!(
        follows(&plan),
        [
            "checkout ComesOn because of payments",
            "dark Stays because of payments",
            "old-page GoesOff because of checkout",
            "upsell ComesOn because of checkout",
        ]
    );
    assert_eq!(effects(&plan), ["payments OnlyAdds: serves again: rule \"staff\" on, otherwise on 25 %"]);
    world.edit(&kills(&["checkout"]));
    let plan = world.edit(&Edit::Disable(flag_key("payments")));
    assert_eq!(
        follows(&plan),
        [
            "checkout Stays because of payments",
            "dark Stays because of payments",
            "old-page Stays because of checkout",
            "upsell Stays because of checkout",
        ]
    );
}

#[test]
fn of_several_flags_those_that_exist_are_killed() {
    let mut world = World::of(FILE);
    world.edit(&kills(&["theme"]));
    let plan = world.edit(&kills(&["paymnts", "theme", "checkout", "zzz", "checkout"]));
    assert_eq!(plan.writes.len(), 1);
    assert!(world.has(EntryKind::KILL, "checkout"));
    let notes: Vec<String> = told(&plan).into_iter().take(3).collect();
    assert_eq!(
        notes,
        [
            "Missing: no flag `paymnts`; did you mean `payments`?",
            "Missing: no flag `zzz`",
            "Info: `theme` was killed already, by ada at 2026-11-23T03:00:00Z",
        ]
    );
    let error = world.plan(&kills(&["paymnts", "zzz"])).unwrap_err();
    assert_eq!(error.to_string(), "no flag `paymnts` in this environment; did you mean `payments`?");
    assert!(matches!(world.plan(&kills(&[])), Err(EditError::Refused(_))));
    let again = world.edit(&kills(&["theme"]));
    assert_eq!(again.writes, []);
    let plan = world.edit(&revives(&["payments"]));
    assert_eq!((plan.writes.len(), told(&plan)), (0, vec!["Info: `payments` is not killed".to_owned()]));
}

#[test]
fn what_is_archived_is_called_archived() {
    let mut world = World::file(&format!(r#"{{"flags": {{{FILE}}}, "segments": {{"staff": {{}}}}}}"#));
    world.edit(&Edit::Archive(flag_key("theme")));
    world.edit(&Edit::ArchiveSegment(segment_key("staff")));
    for edit in [kills(&["theme"]), revives(&["theme"]), ramp("theme 5%"), Edit::Disable(flag_key("theme"))] {
        assert_eq!(
            world.plan(&edit).unwrap_err().to_string(),
            "flag `theme` is archived: nobody is served it; `flagctl unarchive theme` brings it back"
        );
    }
    let (segment, units, list) = (segment_key("staff"), vec!["u".to_owned()], SegmentList::Include);
    assert_eq!(
        world.plan(&Edit::SegmentAdd { segment, units, list }).unwrap_err().to_string(),
        "segment `staff` is archived; `flagctl unarchive --segment staff` brings it back"
    );
    let plan = world.edit(&kills(&["theme", "payments"]));
    assert_eq!(told(&plan)[0], "Missing: `theme` is archived: nobody is served it");
}

#[test]
fn a_definition_that_nobody_understands_is_killed_all_the_same() {
    let cases: &[(&str, &str, Option<&str>, Option<serde_json::Value>)] = &[
        (
            "a newer rule",
            r#"{"variants":{"a":1,"b":2},"offVariant":"b","rules":[{"hyper":1}],"otherwise":"a"}"#,
            Some("b"),
            Some(2.into()),
        ),
        ("defaults", r#"{"level":9}"#, Some("off"), Some(false.into())),
        ("no such value", r#"{"variants":{"a":1},"offVariant":"b"}"#, Some("b"), None),
        ("nothing to go by", r#"{"variants":{"a":1},"level":9}"#, None, None),
        ("no JSON", "\u{1}{{", None, None),
        ("an impossible name", r#"{"offVariant":"a b"}"#, None, None),
    ];
    for (name, stored, off, value) in cases {
        let mut world = World::empty();
        let id = EntryId::new(EntryKind::FLAG, "f");
        world.write(vec![EntryWrite::set(id.clone(), stored.as_bytes())]);
        let plan = world.edit(&kills(&["f"]));
        let kill = parse_kill(world.text(&EntryId::new(EntryKind::KILL, "f")).as_bytes());
        assert_eq!(kill.off_variant.as_ref().map(VariantName::as_str), *off, "{name}");
        assert_eq!(kill.value, *value, "{name}");
        assert!(plan.effects[0].summary.contains("before: not known"), "{name}: {:?}", plan.effects);
        let others = [Edit::Enable(flag_key("f")), ramp("f 5%"), Edit::Archive(flag_key("f"))];
        for other in others {
            assert!(matches!(world.plan(&other), Err(EditError::NotUnderstood { .. })), "{name}: {other:?}");
        }
    }
}

#[test]
fn only_revive_lifts_a_kill() {
    let mut world = World::of(FILE);
    let was = world.state.get(&EntryId::new(EntryKind::FLAG, "payments")).unwrap().bytes.clone();
    world.edit(&kills(&["payments"]));
    let kill = world.text(&EntryId::new(EntryKind::KILL, "payments"));
    let id = EntryId::new(EntryKind::FLAG, "payments");
    let kill_id = EntryId::new(EntryKind::KILL, "payments");
    let edits: &[(&str, Edit, &str)] = &[
        (
            "put",
            put(r#""payments": {"otherwise": "on"}"#, PutMode::Replace),
            "Info: `payments` is killed and stays killed; `flagctl revive payments` lifts that",
        ),
        ("disable", Edit::Disable(flag_key("payments")), "stays killed"),
        (
            "enable",
            Edit::Enable(flag_key("payments")),
            "Warning: `payments` stays off: ada killed it at 2026-11-23T03:00:00Z; `flagctl revive payments` lifts that",
        ),
        ("ramp", ramp("payments 50%"), "`payments` is killed"),
        (
            "restore",
            Edit::Restore { entries: vec![(id.clone(), Some(was.clone())), (kill_id, None)] },
            "`payments` stays killed; kills are not put back",
        ),
        (
            "apply",
            Edit::Apply {
                file: r#"{"flags": {"payments": {"rollout": 60}}}"#.to_owned(),
                base: BTreeMap::new(),
                take: Take::File,
            },
            "stays killed",
        ),
    ];
    for (name, edit, want) in edits {
        let plan = world.edit(edit);
        assert!(!plan.writes.is_empty(), "{name}");
        assert_eq!(world.text(&EntryId::new(EntryKind::KILL, "payments")), kill, "{name}");
        assert!(told(&plan).iter().any(|note| note.contains(want)), "{name}: {:?}", told(&plan));
        assert!(
            plan.effects.iter().all(|effect| effect.movement == Movement::Nothing),
            "{name}: {:?}",
            effects(&plan)
        );
    }
    let gone = world.plan(&Edit::Archive(flag_key("payments"))).unwrap_err();
    assert_eq!(
        gone.to_string(),
        "`payments` is required by `checkout`, `dark`; take the requirement out of them first"
    );
    world.edit(&kills(&["theme"]));
    let plan = world.edit(&Edit::Archive(flag_key("theme")));
    assert_eq!(effects(&plan), ["theme Nothing: still killed: serves light = \"l\" to everybody"]);
    let plan = world.edit(&Edit::Unarchive(flag_key("theme")));
    assert_eq!(effects(&plan), ["theme Nothing: back from the archive: light = \"l\" to everybody (killed)"]);
    assert!(world.has(EntryKind::KILL, "theme"));
}

#[test]
fn switching_what_is_switched_already_writes_nothing() {
    let mut world = World::of(FILE);
    let plan = world.edit(&Edit::Enable(flag_key("theme")));
    assert_eq!((plan.writes.len(), told(&plan)), (0, vec!["Info: `theme` is enabled already".to_owned()]));
    let plan = world.edit(&Edit::Disable(flag_key("theme")));
    assert_eq!(
        effects(&plan),
        [
            "theme OnlyRemoves: now serves light = \"l\" to everybody (disabled); before: dark = \"d\" to everybody"
        ]
    );
    assert_eq!(world.edit(&Edit::Disable(flag_key("theme"))).writes, []);
    let plan = world.edit(&kills(&["theme"]));
    assert_eq!(
        effects(&plan),
        [
            "theme Nothing: now serves light = \"l\" to everybody; before: light = \"l\" to everybody (disabled)"
        ]
    );
    let plan = world.edit(&revives(&["theme"]));
    assert_eq!(
        effects(&plan),
        [
            "theme Nothing: now serves light = \"l\" to everybody (disabled); before: light = \"l\" to everybody"
        ]
    );
    let plan = world.edit(&Edit::Enable(flag_key("theme")));
    assert_eq!(effects(&plan), ["theme OnlyAdds: serves again: dark = \"d\" to everybody"]);
}
