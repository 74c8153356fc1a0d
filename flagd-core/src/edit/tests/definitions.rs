//! `create`, `edit`, `archive`, `restore`, segments and limits.

use super::*;
use crate::limits;

fn problems(error: EditError) -> Vec<String> {
    match error {
        EditError::Invalid(problems) => problems.iter().map(ToString::to_string).collect(),
        other => vec![other.to_string()],
    }
}

#[test]
fn whether_a_definition_may_exist_is_said() {
    let world = World::of(r#""f": {}"#);
    let try_put =
        |flag: &str, mode| world.plan(&put(&format!("\"{flag}\": {{}}"), mode)).map(|plan| plan.writes.len());
    assert_eq!(
        try_put("f", PutMode::Create).unwrap_err().to_string(),
        "flag `f` already exists (written at revision 1)"
    );
    assert_eq!(try_put("g", PutMode::Create).unwrap(), 1);
    assert_eq!(try_put("f", PutMode::Replace).unwrap(), 0, "it is the same");
    assert_eq!(
        try_put("ff", PutMode::Replace).unwrap_err().to_string(),
        "no flag `ff` in this environment; did you mean `f`?"
    );
    assert_eq!(try_put("f", PutMode::CreateOrReplace).unwrap(), 0);
    assert_eq!(try_put("g", PutMode::CreateOrReplace).unwrap(), 1);
}

#[test]
fn type_and_salt_never_change() {
    let mut world = World::of(r#""f": {"salt": "pepper"}"#);
    let cases = [
        (
            r#""f": {"salt": "pepper", "variants": {"off": "a"}, "offVariant": "off", "otherwise": "off"}"#,
            "flags.f.variants: a flag's type never changes: `f` is a boolean flag, these variants make it a string flag (use another key for the new flag)",
        ),
        (
            r#""f": {}"#,
            "flags.f.salt: a flag's salt never changes, because that would draw all units anew: it is \"pepper\", not \"f\" (write \"salt\": \"pepper\", or use another key)",
        ),
    ];
    let apply = |file: &str| Edit::Apply {
        file: format!("{{\"flags\": {{{file}}}}}"),
        base: BTreeMap::new(),
        take: Take::File,
    };
    for (file, want) in cases {
        assert_eq!(problems(world.plan(&put(file, PutMode::Replace)).unwrap_err()), [want]);
        assert_eq!(problems(world.plan(&apply(file)).unwrap_err()), [want]);
    }
    let other = World::of(r#""f": {"variants": {"off": "a"}, "offVariant": "off", "otherwise": "off"}"#);
    let bytes = other.state.get(&EntryId::new(EntryKind::FLAG, "f")).unwrap().bytes.clone();
    let restore = Edit::Restore { entries: vec![(EntryId::new(EntryKind::FLAG, "f"), Some(bytes))] };
    assert_eq!(problems(world.plan(&restore).unwrap_err()).len(), 2);
    world.edit(&Edit::Archive(flag_key("f")));
    for (file, want) in [
        (
            r#""f": {"salt": "pepper", "variants": {"off": "a"}, "offVariant": "off", "otherwise": "off"}"#,
            "flag `f` was archived: it was a boolean flag and this is a string flag; use another key",
        ),
        (
            r#""f": {}"#,
            "flag `f` was archived: its salt was \"pepper\" and this one's is \"f\"; write the old salt, or use another key",
        ),
    ] {
        assert_eq!(world.plan(&put(file, PutMode::Create)).unwrap_err().to_string(), want);
        assert_eq!(world.plan(&apply(file)).unwrap_err().to_string(), want);
    }
    assert!(matches!(world.plan(&restore), Err(EditError::Retired { .. })));
    let plan = world.put(r#""f": {"salt": "pepper", "owner": "me"}"#);
    assert_eq!(
        told(&plan),
        [
            "Info: `f` was archived; it comes back with this definition (`flagctl unarchive f` brings back the old one)"
        ]
    );
    assert!(!world.has(EntryKind::TOMBSTONE, "f"));
}

#[test]
fn what_is_not_understood_can_be_replaced_but_keeps_type_and_salt() {
    let mut world = World::empty();
    let stored = r#"{"variants":{"a":1},"offVariant":"a","salt":"s","hyper":true}"#;
    world.write(vec![EntryWrite::set(EntryId::new(EntryKind::FLAG, "f"), stored.as_bytes())]);
    assert_eq!(problems(world.plan(&put(r#""f": {}"#, PutMode::Replace)).unwrap_err()).len(), 2);
    let plan = world.put(r#""f": {"variants": {"a": 2}, "offVariant": "a", "salt": "s", "otherwise": "a"}"#);
    assert_eq!(
        told(&plan),
        ["Warning: the stored definition was not understood by this server; it is replaced as a whole"]
    );
}

#[test]
fn references_resolve_against_file_and_environment_together() {
    let mut world =
        World::of(r#""f": {"variants": {"on": true, "off": false, "more": true}, "offVariant": "off"}"#);
    world.put(r#""user": {"requires": [{"flag": "f", "serves": ["more"]}]}"#);
    let file = r#"{"flags": {"g": {"rules": [{"name": "r", "if": {"segment": "s"}, "serve": "on"}],
        "requires": [{"flag": "f", "serves": ["on"]}]}}, "segments": {"s": {"include": ["u"]}}}"#;
    world.edit(&Edit::Put { file: file.to_owned(), mode: PutMode::Create });
    let wrong = problems(
        world
            .plan(&put(r#""h": {"requires": [{"flag": "ff", "serves": ["on"]}]}"#, PutMode::Create))
            .unwrap_err(),
    );
    assert!(wrong[0].contains("ff"), "{wrong:?}");
    let wrong = problems(world.plan(&put(r#""f": {}"#, PutMode::Replace)).unwrap_err());
    assert!(
        wrong[0].contains("flags.user") && wrong[0].contains("more"),
        "the user names the variant: {wrong:?}"
    );
    let circle = r#""f": {"variants": {"on": true, "off": false, "more": true}, "offVariant": "off", "requires": [{"flag": "user", "serves": ["on"]}]}"#;
    assert!(world.plan(&put(circle, PutMode::Replace)).is_err());
    for edit in [Edit::Archive(flag_key("f")), Edit::ArchiveSegment(segment_key("s"))] {
        assert!(matches!(world.plan(&edit), Err(EditError::Refused(_))), "{edit:?}");
    }
    let gone = Edit::Restore { entries: vec![(EntryId::new(EntryKind::FLAG, "f"), None)] };
    assert!(matches!(world.plan(&gone), Err(EditError::Invalid(_))));
}

#[test]
fn users_are_found_when_many_definitions_change_at_once() {
    let flag = |n: usize, more: &str| {
        format!(
            r#""f{n}": {{"variants": {{"on": true, "off": false{more}}}, "offVariant": "off", "otherwise": "off"}}"#
        )
    };
    let all = |more: &str| (0..40).map(|n| flag(n, more)).collect::<Vec<_>>().join(", ");
    let mut world = World::of(&all(r#", "more": true"#));
    assert_eq!(world.edit(&put(&all(""), PutMode::Replace)).writes.len(), 40);
    world.put(&all(r#", "more": true"#));
    world.put(r#""user": {"requires": [{"flag": "f33", "serves": ["more"]}]}"#);
    let wrong = problems(world.plan(&put(&all(""), PutMode::Replace)).unwrap_err());
    assert!(wrong.len() == 1 && wrong[0].contains("flags.user"), "{wrong:?}");
}

#[test]
fn a_split_is_reweighed_while_it_is_the_same_split() {
    let colours = |split: &str| {
        format!(
            r#""f": {{"variants": {{"a": 1, "b": 2, "c": 3}}, "offVariant": "c", "otherwise": {{"split": {split}}}}}"#
        )
    };
    let fifty = colours(r#"{"a": 50, "b": 50}"#);
    let cases: &[(&str, String, &str, bool)] = &[
        ("shares", colours(r#"{"a": 40, "b": 40, "c": 20}"#), "a 400000, b 400000, c 200000", false),
        (
            "another unit",
            colours(r#"{"a": 40, "b": 40, "c": 20}, "by": "company""#),
            "a 400000, b 400000, c 200000",
            true,
        ),
        (
            "stretches are literal",
            colours(r#"[{"c": 20}, {"b": 40}, {"a": 40}]"#),
            "c 200000, b 400000, a 400000",
            true,
        ),
    ];
    for (name, file, laid, literal) in cases {
        let mut world = World::of(&fifty);
        world.put(file);
        assert_eq!(world.otherwise("f") == *laid, *literal, "{name}: {}", world.otherwise("f"));
    }
}

#[test]
fn an_archived_flag_comes_back_byte_for_byte() {
    let mut world = World::of(
        r#""f": {"rollout": 12.5, "description": "x \u0001 \"y\"", "metadata": {"z": [1, {"b": 1, "a": 2}]}}"#,
    );
    let id = EntryId::new(EntryKind::FLAG, "f");
    let was = world.text(&id);
    let plan = world.edit(&Edit::Archive(flag_key("f")));
    assert_eq!(
        effects(&plan),
        ["f CallersDefault: everybody gets the caller's own default; before: otherwise on 12.5 %"]
    );
    assert_eq!(plan.movement(), Movement::CallersDefault);
    assert!(world.has(EntryKind::TOMBSTONE, "f") && !world.has(EntryKind::FLAG, "f"));
    assert_eq!(told(&world.edit(&Edit::Archive(flag_key("f")))), ["Info: `f` is archived already"]);
    assert_eq!(told(&world.plan(&kills(&["f", "f"])).unwrap_or_default()), Vec::<String>::new());
    world.edit(&Edit::Unarchive(flag_key("f")));
    assert_eq!(world.text(&id), was);
    assert_eq!(told(&world.edit(&Edit::Unarchive(flag_key("f")))), ["Info: `f` is not archived"]);
    let unknown = world.plan(&Edit::Unarchive(flag_key("g"))).unwrap_err();
    assert!(matches!(unknown, EditError::Unknown { .. }));
}

#[test]
fn a_segment_comes_back_too() {
    let file = r#"{"segments": {"s": {"include": ["u"]}}}"#;
    let mut world = World::file(file);
    let id = EntryId::new(EntryKind::SEGMENT, "s");
    let was = world.text(&id);
    world.edit(&Edit::ArchiveSegment(segment_key("s")));
    assert!(!world.has(EntryKind::SEGMENT, "s"));
    world.edit(&Edit::UnarchiveSegment(segment_key("s")));
    assert_eq!(world.text(&id), was);
    world.edit(&Edit::ArchiveSegment(segment_key("s")));
    let plan = world.edit(&Edit::Put { file: file.to_owned(), mode: PutMode::Create });
    assert_eq!(plan.writes.len(), 2, "the tombstone goes");
}

#[test]
fn a_restore_puts_back_the_very_bytes() {
    let mut world = World::of(r#""f": {"rollout": 10}"#);
    let id = EntryId::new(EntryKind::FLAG, "f");
    let was = world.state.get(&id).unwrap().bytes.clone();
    world.ramp("f 50%");
    let restore = Edit::Restore { entries: vec![(id.clone(), Some(Arc::clone(&was)))] };
    let plan = world.edit(&restore);
    assert_eq!(world.state.get(&id).unwrap().bytes, was);
    assert_eq!(
        effects(&plan),
        ["f OnlyRemoves: otherwise: on 50 % -> 10 %, only removes (40 % of its units)"]
    );
    let plan = world.edit(&Edit::Restore { entries: vec![(id.clone(), None)] });
    assert_eq!(
        told(&plan),
        ["Info: `f` was not there then: it is archived; `flagctl unarchive f` brings it back"]
    );
    assert!(world.has(EntryKind::TOMBSTONE, "f"));
    world.edit(&restore);
    assert!(!world.has(EntryKind::TOMBSTONE, "f"));
    let broken: Arc<[u8]> = Arc::from(*b"{\"otherwise\":\"nobody\"}");
    let wrong = problems(world.plan(&Edit::Restore { entries: vec![(id, Some(broken))] }).unwrap_err());
    assert!(wrong[0].starts_with("flags.f"), "{wrong:?}");
    let strange = EntryId::new(EntryKind::from_number(77), "f");
    assert!(matches!(
        world.plan(&Edit::Restore { entries: vec![(strange, None)] }),
        Err(EditError::NotUnderstood { .. })
    ));
}

#[test]
fn units_come_and_go_literally() {
    let mut world = World::file(
        r#"{"flags": {"f": {"rules": [{"name": "r", "if": {"segment": "outer"}, "serve": "on"}]}},
            "segments": {"s": {"include": ["b"], "exclude": ["x"]}, "outer": {"if": {"segment": "s"}}}}"#,
    );
    let units = |units: &[&str]| units.iter().map(|unit| (*unit).to_owned()).collect::<Vec<_>>();
    let (segment, list) = (segment_key("s"), SegmentList::Include);
    let add = Edit::SegmentAdd { segment: segment.clone(), units: units(&["a", " a", "b", "x", "a"]), list };
    let before = world.state.clone();
    let plan = world.edit(&add);
    assert_eq!(
        told(&plan),
        ["Info: 3 added, 1 was there already", "Warning: on `exclude` too, and so out all the same: x"]
    );
    assert_eq!(effects(&plan), ["f Unknown: adds 3 units to segment \"s\""]);
    assert_eq!(
        world.segment("s").include.listed().iter().map(|u| &**u).collect::<Vec<_>>(),
        [" a", "a", "b", "x"]
    );
    assert_eq!(undo(&add, &plan, &before).unwrap(), "flagctl segment remove s ' a' a x");
    let plan = world.edit(&Edit::SegmentRemove { segment: segment.clone(), units: units(&["a", "z"]), list });
    assert_eq!(told(&plan), ["Info: 1 removed; not on the list: z"]);
    for (name, wrong, want) in [
        ("empty", String::new(), "segments.s.include: a unit must not be empty"),
        (
            "too long",
            "u".repeat(limits::UNIT_MAX_BYTES + 1),
            "segments.s.include: a unit has at most 1024 bytes; one of these has 1025",
        ),
    ] {
        let edit = Edit::SegmentAdd { segment: segment.clone(), units: vec![wrong], list };
        assert_eq!(problems(world.plan(&edit).unwrap_err()), [want], "{name}");
    }
    let longest = Edit::SegmentAdd { segment, units: vec!["u".repeat(limits::UNIT_MAX_BYTES)], list };
    assert_eq!(world.edit(&longest).writes.len(), 1);
}

#[test]
fn the_number_of_segments_has_a_limit_and_archived_flags_count() {
    let segments: Vec<String> =
        (0..limits::SEGMENTS_MAX).map(|n| format!("\"s{n}\": {{\"include\": [\"u\"]}}")).collect();
    let mut world = World::file(&format!("{{\"segments\": {{{}}}}}", segments.join(",")));
    let one_more =
        Edit::Put { file: r#"{"segments": {"t": {"include": ["u"]}}}"#.to_owned(), mode: PutMode::Create };
    assert_eq!(
        problems(world.plan(&one_more).unwrap_err()),
        ["segments: an environment has at most 10000; this makes 10001"]
    );
    let stone = |n| EntryWrite::set(EntryId::new(EntryKind::TOMBSTONE, &format!("t{n}")), *b"{}");
    world.write((0..limits::FLAGS_MAX).map(stone).collect());
    let wrong = problems(world.plan(&put(r#""f": {}"#, PutMode::Create)).unwrap_err());
    assert_eq!(
        wrong,
        ["flags: an environment has, archived flags included, at most 100000; this makes 100001"]
    );
    world.write(vec![EntryWrite::remove(EntryId::new(EntryKind::TOMBSTONE, "t0"))]);
    assert_eq!(world.edit(&put(r#""f": {}"#, PutMode::Create)).writes.len(), 1);
}

#[test]
fn a_definition_has_a_largest_size() {
    let value = "v".repeat(limits::VALUE_MAX_BYTES - 2);
    let variants = |n: usize| (0..n).map(|n| format!("\"v{n}\": \"{value}\"")).collect::<Vec<_>>().join(",");
    let flag =
        |n| format!(r#""f": {{"variants": {{{}}}, "offVariant": "v0", "otherwise": "v0"}}"#, variants(n));
    let wrong = problems(World::empty().plan(&put(&flag(8), PutMode::Create)).unwrap_err());
    assert!(wrong[0].contains("at most 524288 bytes"), "{wrong:?}");
    assert_eq!(World::empty().plan(&put(&flag(7), PutMode::Create)).unwrap().writes.len(), 1);
}

#[test]
fn definitions_are_undone_by_the_right_command() {
    let mut world = World::of(r#""e": {"rollout": 10}, "f": {"rollout": 10}"#);
    let cases = [
        (r#""f": {"rollout": 20}"#, Some("flagctl rollback f --to 1")),
        (r#""g": {}"#, Some("flagctl archive g")),
        (r#""f": {"rollout": 20}, "g": {}"#, Some("flagctl rollback f --to 1 && flagctl archive g")),
        (r#""f": {"rollout": 20}, "e": {"rollout": 20}"#, Some("flagctl rollback e f --to 1")),
        (r#""f": {"rollout": 10}"#, None),
    ];
    for (file, want) in cases {
        let edit = put(file, PutMode::CreateOrReplace);
        let plan = world.plan(&edit).unwrap();
        assert_eq!(undo(&edit, &plan, &world.state).as_deref(), want, "{file}");
    }
    let edit = Edit::Archive(flag_key("f"));
    let before = world.state.clone();
    let plan = world.edit(&edit);
    assert_eq!(undo(&edit, &plan, &before).unwrap(), "flagctl unarchive f");
}
