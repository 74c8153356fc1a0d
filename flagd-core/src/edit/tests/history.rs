//! What a rollback puts back.

use super::*;
use crate::revision::Revision;

fn versions(list: &[(u64, &str, Option<&str>)]) -> Vec<Version> {
    let version = |(revision, operation, bytes): &(u64, &str, Option<&str>)| Version {
        revision: Revision(*revision),
        bytes_after: bytes.map(|bytes| bytes.as_bytes().into()),
        parts_after: 0,
        operation: (*operation).to_owned(),
        time: author().now,
        actor: "ada".to_owned(),
    };
    list.iter().map(version).collect()
}

#[test]
fn a_version_that_differs_in_its_parts_alone_is_another_one() {
    let mut story = versions(&[(3, "create", Some("a")), (5, "add", Some("a")), (9, "add", Some("a"))]);
    assert!(matches!(choose_rollback(&story, None), Err(RollbackError::NothingBefore { .. })));
    for (version, parts) in story.iter_mut().zip([1, 2, 2]) {
        version.parts_after = parts;
    }
    assert_eq!(choose_rollback(&story, None).unwrap().written, Revision(3));
    story[2].operation = "rollback".to_owned();
    let Err(RollbackError::AfterRollback { candidates, .. }) = choose_rollback(&story, None) else {
        panic!("nothing is guessed after a rollback");
    };
    assert_eq!(candidates.iter().map(|version| version.revision.0).collect::<Vec<_>>(), [3]);
}

#[test]
fn back_is_the_definition_before_the_latest_change() {
    let story = versions(&[(3, "create", Some("a")), (5, "ramp", Some("b")), (9, "edit", Some("c"))]);
    let choose = |to: Option<u64>| choose_rollback(&story, to.map(Revision));
    let chosen = choose(None).unwrap();
    assert_eq!(
        (chosen.written, chosen.bytes.as_deref(), chosen.undone),
        (Revision(5), Some(&b"b"[..]), vec![Revision(9)])
    );
    let cases = [(3, 3), (4, 3), (5, 5), (8, 5), (9, 9), (100, 9)];
    for (asked, written) in cases {
        assert_eq!(choose(Some(asked)).unwrap().written, Revision(written), "--to {asked}");
    }
    assert_eq!(choose(Some(3)).unwrap().undone, [Revision(9), Revision(5)]);
    assert_eq!(choose(Some(2)), Err(RollbackError::TooOld { asked: Revision(2), oldest: Revision(3) }));
}

#[test]
fn after_a_rollback_somebody_must_choose() {
    let mut list = vec![
        (1, "create", Some("a")),
        (2, "ramp", Some("b")),
        (3, "ramp", Some("c")),
        (4, "rollback", Some("b")),
    ];
    let Err(RollbackError::AfterRollback { latest, candidates }) = choose_rollback(&versions(&list), None)
    else {
        panic!()
    };
    assert_eq!(latest, Revision(4));
    assert_eq!(
        candidates.iter().map(|v| v.revision.0).collect::<Vec<_>>(),
        [3, 1],
        "each other definition once, the latest first"
    );
    assert_eq!(
        choose_rollback(&versions(&list), Some(Revision(3))).unwrap().bytes.as_deref(),
        Some(&b"c"[..])
    );
    list.push((5, "ramp", Some("d")));
    assert_eq!(choose_rollback(&versions(&list), None).unwrap().written, Revision(4));
}

#[test]
fn there_may_be_nothing_to_go_back_to() {
    assert_eq!(choose_rollback(&[], None), Err(RollbackError::NoHistory));
    let created = versions(&[(7, "create", Some("a"))]);
    assert_eq!(choose_rollback(&created, None), Err(RollbackError::NothingBefore { created: Revision(7) }));
    let archived = versions(&[(7, "create", Some("a")), (8, "archive", None)]);
    assert_eq!(choose_rollback(&archived, None).unwrap().bytes.as_deref(), Some(&b"a"[..]), "it comes back");
}

#[test]
fn what_a_definition_uses_and_has_changed_since_is_named() {
    let mut world = World::file(
        r#"{"flags": {"f": {"requires": [{"flag": "g", "serves": ["on"]}], "rules": [{"name": "r", "if": {"segment": "s"}, "serve": "on"}]},
            "g": {"requires": [{"flag": "h", "serves": ["on"]}]}, "h": {}, "x": {}},
            "segments": {"s": {"if": {"segment": "t"}}, "t": {"include": ["u"]}}}"#,
    );
    let id = EntryId::new(EntryKind::FLAG, "f");
    let bytes = world.state.get(&id).unwrap().bytes.clone();
    let since = world.state.revision();
    world.edit(&ramp("h 5%"));
    world.edit(&ramp("x 5%"));
    world.edit(&Edit::SegmentAdd {
        segment: segment_key("t"),
        units: vec!["v".to_owned()],
        list: SegmentList::Include,
    });
    world.write(vec![EntryWrite::remove(EntryId::new(EntryKind::FLAG, "g"))]);
    let changed = changed_since(&id, &bytes, since, |id| world.state.get(id));
    let shown: Vec<String> =
        changed.iter().map(|c| format!("{} {:?}", c.id, c.revision.map(|r| r.0))).collect();
    assert_eq!(shown, ["flag `g` None", "segment `t` Some(4)"], "g is gone, and with it the way to h");
}
