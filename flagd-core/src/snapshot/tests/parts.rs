//! Segments whose lists are kept in parts: who is in, what is refused, and what goes on serving then.

use super::*;
use crate::definition::SegmentList;
use crate::part::{self, PartNumber};

const IN_PARTS: &str = r#"{"includeParts":4096}"#;
const USER: &str = r#"{"rules": [{"name": "r", "if": {"segment": "s"}, "serve": "on"}]}"#;

fn key(unit: &str) -> String {
    part::id("s", SegmentList::Include, PartNumber::of(unit)).key.to_string()
}

/// The part of these units, which all belong to the part of the first.
fn bytes(units: &[&str]) -> String {
    let bytes = part::write(units.iter().copied()).unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn is_in(snapshot: &Snapshot, unit: &str) -> &'static str {
    match snapshot.evaluate("f", &Context::new(unit), Timestamp::default()).variant {
        Some("on") => "in",
        Some(_) => "out",
        None => "refused",
    }
}

/// Who of `a` and `b`, two units of different parts, is in; the same after a restart and from the whole state.
fn check(world: &World, a: &str, b: &str, refused: &[&str], story: &str) {
    let restarted = world.restarted();
    for snapshot in [&world.snapshot, &restarted] {
        assert_eq!((is_in(snapshot, "a"), is_in(snapshot, "b")), (a, b), "{story}");
    }
    assert_eq!(world.refused(), refused, "{story}");
    assert_eq!(restarted.refused().len(), refused.len(), "{story}");
}

fn world_with_a() -> World {
    let mut world = World::new();
    assert_ne!(key("a"), key("b"));
    world.change(&[("flag", "f", USER), ("segment", "s", IN_PARTS), ("6", &key("a"), &bytes(&["a"]))]);
    world
}

#[test]
fn units_come_and_go_part_by_part() {
    let mut world = world_with_a();
    check(&world, "in", "out", &[], "one part");
    world.change(&[("segment", "s", IN_PARTS), ("6", &key("b"), &bytes(&["b"]))]);
    check(&world, "in", "in", &[], "another part");
    world.change(&[("segment", "s", IN_PARTS), ("6", &key("a"), "")]);
    check(&world, "out", "in", &[], "the first part is empty");
    world.change(&[("segment", "s", r#"{"include":["a"]}"#), ("6", &key("b"), "")]);
    check(&world, "in", "out", &[], "in the definition again");
    world.change(&[("segment", "s", r#"{"excludeParts":4096,"include":["a","b"]}"#)]);
    let excluded = part::id("s", SegmentList::Exclude, PartNumber::of("a")).key;
    world.change(&[("6", &excluded, &bytes(&["a"]))]);
    check(&world, "out", "in", &[], "excluded");
}

#[test]
fn a_bad_part_keeps_the_membership_and_what_came_with_it() {
    let (a, b) = (key("a"), key("b"));
    let part_b = format!("segment part {b}");
    let mut world = world_with_a();
    world.change(&[("segment", "s", IN_PARTS), ("6", &b, "[17]"), ("flag", "g", r#"{"otherwise":"on"}"#)]);
    let refused = ["flag g", "segment s", part_b.as_str()];
    check(&world, "in", "out", &refused, "bad where nothing was: known to be empty");
    assert_eq!(world.serves("g"), "- (Refused)");
    // What is written later relies on the part that nobody understands.
    world.change(&[("segment", "s", IN_PARTS), ("6", &a, "")]);
    // The removal of a part counts as refused, so `a` stays.
    let part_a = format!("segment part {a}");
    let mut parts = [part_a.as_str(), part_b.as_str()];
    parts.sort_unstable();
    check(&world, "in", "out", &["flag g", "segment s", parts[0], parts[1]], "a later change waits");
    world.change(&[("segment", "s", IN_PARTS), ("6", &b, &bytes(&["b"]))]);
    check(&world, "out", "in", &[], "mended, all at once");
    world.change(&[("segment", "s", IN_PARTS), ("6", &b, &bytes(&["a"]))]);
    check(&world, "out", "in", &["segment s", &part_b], "a unit of another part");
    world.change(&[("kill", "f", "{}")]);
    assert!(world.serves("f").contains("Killed"), "a kill is obeyed all the same");
}

#[test]
fn without_a_last_good_membership_the_segment_is_refused() {
    let (a, b) = (key("a"), key("b"));
    let mut world = world_with_a();
    world.change(&[("segment", "s", IN_PARTS), ("6", &b, "?")]);
    let fresh = Snapshot::build(&world.state, &BTreeMap::new());
    assert_eq!(is_in(&fresh, "a"), "refused");
    let refused: Vec<String> = fresh.refused().iter().map(|refusal| refusal.id.to_string()).collect();
    let named = |id: &str| refused.iter().any(|one| one.contains(id));
    assert!(named("`s`") && named(&b) && named("`f`"), "{refused:?}");
    let before = world.state.clone();
    world.change(&[("segment", "s", IN_PARTS), ("6", &b, "")]);
    let touched = [id("segment", "s"), id("6", &b)];
    let mended = fresh.derive(&world.state, Touched::Only(&touched));
    assert_eq!((is_in(&mended, "a"), mended.refused()), ("in", vec![]), "{:?}", before.position());
    assert!(world.state.get(&id("6", &a)).is_some());
}

#[test]
fn a_part_without_a_place_is_refused() {
    let a = key("a");
    for (segment, why) in [
        ("", "its segment does not exist"),
        (r#"{"include":["a"]}"#, "its segment does not keep this list in parts"),
        (r#"{"excludeParts":4096}"#, "its segment does not keep this list in parts"),
    ] {
        let mut world = World::new();
        if !segment.is_empty() {
            world.change(&[("segment", "s", segment)]);
        }
        world.change(&[("6", &a, &bytes(&["a"]))]);
        let refusals = world.snapshot.refused();
        assert_eq!((refusals.len(), &*refusals[0].why), (1, why), "{segment}");
        world.change(&[("6", &a, "")]);
        assert_eq!(world.snapshot.refused(), []);
    }
    let mut world = world_with_a();
    world.change(&[("6", "s/include/xyz", "[]")]);
    assert_eq!(&*world.snapshot.refused()[0].why, "its key names no part of a segment");
}

#[test]
fn parts_wait_with_the_definition_that_says_whose_they_are() {
    const LATER: &str = r#"{"includeParts":4096,"by":"company","quantum":true}"#;
    let b = key("b");
    let mut world = world_with_a();
    world.change(&[("segment", "s", LATER)]);
    check(&world, "in", "out", &["segment s"], "the last good definition");
    // A part alone, as no server writes it: it belongs to the definition that is not understood.
    world.change(&[("6", &b, &bytes(&["b"]))]);
    check(
        &world,
        "in",
        "out",
        &["segment s", &format!("segment part {b}")],
        "a part of the later definition",
    );
    world.change(&[("segment", "s", IN_PARTS)]);
    check(&world, "in", "in", &[], "understood again");
}

#[test]
fn an_archived_segment_is_not_missed_and_comes_back_whole() {
    let mut world = world_with_a();
    world.change(&[("flag", "f", "{}")]);
    world.change(&[("segment", "s", ""), ("5", "s", IN_PARTS)]);
    assert_eq!((world.snapshot.refused(), world.restarted().refused()), (vec![], vec![]));
    world.change(&[("segment", "s", IN_PARTS), ("5", "s", ""), ("flag", "f", USER)]);
    check(&world, "in", "out", &[], "back");
    let fresh = Snapshot::build(&world.state, &BTreeMap::new());
    assert_eq!(is_in(&fresh, "a"), "in");
}

#[test]
fn parts_stay_with_a_segment_whose_removal_waits() {
    let mut world = world_with_a();
    // `f` still uses the segment, so no server records this.
    world.change(&[("segment", "s", ""), ("6", &key("a"), ""), ("5", "s", IN_PARTS)]);
    assert_eq!(is_in(&world.snapshot, "a"), "in");
    world.change(&[("flag", "f", "{}")]);
    assert_eq!(world.snapshot.refused(), []);
}

#[test]
fn one_part_more_leaves_all_others_where_they_are() {
    let mut world = world_with_a();
    let units: Vec<String> = (0..20_000).map(|n| format!("u-{n}")).collect();
    let mut segment =
        crate::definition::parse_segment(&crate::key::SegmentKey::new("s").unwrap(), "{}").unwrap();
    segment.include = units.iter().map(|unit| unit.as_str().into()).collect::<Vec<_>>().into();
    let entries = part::entries(&crate::key::SegmentKey::new("s").unwrap(), &segment);
    let texts: Vec<(String, String)> = entries
        .iter()
        .map(|(id, bytes)| (id.key.to_string(), String::from_utf8(bytes.to_vec()).unwrap()))
        .collect();
    let writes: Vec<(&str, &str, &str)> = texts
        .iter()
        .map(|(key, text)| (if key == "s" { "segment" } else { "6" }, key.as_str(), text.as_str()))
        .collect();
    world.change(&writes);
    for unit in &units {
        assert_eq!(is_in(&world.snapshot, unit), "in", "{unit}");
        assert_eq!(is_in(&world.snapshot, &format!("{unit}x")), "out");
    }
}
