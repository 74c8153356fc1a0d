//! What a client goes through with definitions that it cannot take: histories, step by step.

use super::*;

const ON: &str = r#"{"otherwise": "on"}"#;
const OFF: &str = "{}";
/// Of a later version of the language.
const LATER: &str = r#"{"otherwise": "on", "quantum": true}"#;
const KILL: &str = r#"{"offVariant": "off", "value": false, "by": "me", "at": "2026-11-23T08:00:00Z"}"#;

type Writes = &'static [(&'static str, &'static str, &'static str)];

/// One change, what flags serve after it, and what is refused after it.
struct Step(Writes, &'static [(&'static str, &'static str)], &'static [&'static str]);

/// Plays a history. After each change a client that restarts from its disk must agree with the one that went on.
fn play(story: &str, steps: &[Step]) {
    let mut world = World::new();
    for (n, Step(writes, serves, refused)) in steps.iter().enumerate() {
        world.change(writes);
        let restarted = world.restarted();
        for (key, want) in *serves {
            assert_eq!(world.serves(key), *want, "{story}: {key} after change {}", n + 1);
            let after_restart = shown(&restarted.evaluate(key, &Context::new("u"), Timestamp::default()));
            assert_eq!(after_restart, *want, "{story}: {key} after a restart at change {}", n + 1);
        }
        assert_eq!(world.refused(), *refused, "{story}: refused after change {}", n + 1);
        assert_eq!(restarted.refused().len(), refused.len(), "{story}: after a restart at change {}", n + 1);
    }
}

#[test]
fn a_bad_definition_keeps_the_last_good_version() {
    play(
        "good, bad, fixed",
        &[
            Step(&[("flag", "f", OFF)], &[("f", "off (Otherwise)")], &[]),
            Step(&[("flag", "f", LATER)], &[("f", "off (Otherwise)")], &["flag f"]),
            Step(&[("flag", "g", ON)], &[("f", "off (Otherwise)"), ("g", "on (Otherwise)")], &["flag f"]),
            Step(&[("flag", "f", ON)], &[("f", "on (Otherwise)")], &[]),
        ],
    );
    play(
        "without a last good version the caller's default is due",
        &[
            Step(&[("flag", "f", LATER)], &[("f", "- (Refused)")], &["flag f"]),
            Step(&[("flag", "f", "")], &[("f", "- (NotFound)")], &[]),
        ],
    );
    play(
        "back to the very bytes in use",
        &[
            Step(&[("flag", "f", ON)], &[("f", "on (Otherwise)")], &[]),
            Step(&[("flag", "f", "\u{0}")], &[("f", "on (Otherwise)")], &["flag f"]),
            Step(&[("flag", "f", ON)], &[("f", "on (Otherwise)")], &[]),
        ],
    );
    play(
        "a key that no flag can have",
        &[Step(&[("flag", "a b", ON)], &[("a b", "- (Refused)")], &["flag a b"])],
    );
}

#[test]
fn a_kill_gets_through() {
    play(
        "through a bad definition",
        &[
            Step(&[("flag", "f", ON)], &[("f", "on (Otherwise)")], &[]),
            Step(&[("flag", "f", LATER)], &[("f", "on (Otherwise)")], &["flag f"]),
            Step(&[("kill", "f", KILL)], &[("f", "off (Killed)")], &["flag f"]),
            Step(&[("kill", "f", "")], &[("f", "on (Otherwise)")], &["flag f"]),
        ],
    );
    play(
        "in the very change that is refused",
        &[
            Step(&[("flag", "f", ON)], &[], &[]),
            Step(&[("flag", "g", LATER), ("kill", "f", KILL)], &[("f", "off (Killed)")], &["flag g"]),
        ],
    );
    play(
        "without any good definition",
        &[Step(&[("flag", "f", LATER), ("kill", "f", KILL)], &[("f", "off (Killed)")], &["flag f"])],
    );
    play("without a definition at all", &[Step(&[("kill", "f", KILL)], &[("f", "off (Killed)")], &[])]);
    play(
        "as garbage: the off variant of the definition, else the caller's default",
        &[
            Step(&[("flag", "f", ON), ("kill", "f", "\u{1}garbage")], &[("f", "off (Killed)")], &[]),
            Step(&[("kill", "g", "garbage")], &[("g", "- (Killed)")], &[]),
        ],
    );
}

#[test]
fn a_change_is_put_in_use_whole_or_not_at_all() {
    play(
        "siblings wait for each other",
        &[
            Step(&[("flag", "f", OFF), ("flag", "g", OFF)], &[], &[]),
            Step(
                &[("flag", "f", ON), ("flag", "g", LATER)],
                &[("f", "off (Otherwise)"), ("g", "off (Otherwise)")],
                &["flag f", "flag g"],
            ),
            Step(&[("flag", "g", ON)], &[("f", "on (Otherwise)"), ("g", "on (Otherwise)")], &[]),
        ],
    );
    play(
        "an entry of an unknown kind holds back its siblings",
        &[
            Step(&[("flag", "f", OFF)], &[], &[]),
            Step(
                &[("flag", "f", ON), ("99", "x", "?")],
                &[("f", "off (Otherwise)")],
                &["flag f", "entry of unknown kind 99 x"],
            ),
            Step(&[("99", "x", "")], &[("f", "on (Otherwise)")], &[]),
        ],
    );
    play(
        "a removal waits too",
        &[
            Step(&[("flag", "f", ON), ("flag", "g", ON)], &[], &[]),
            Step(
                &[("flag", "f", ""), ("tombstone", "f", "{}"), ("flag", "g", LATER)],
                &[("f", "on (Otherwise)"), ("g", "on (Otherwise)")],
                &["flag f", "flag g"],
            ),
            Step(&[("flag", "h", ON)], &[("f", "on (Otherwise)")], &["flag f", "flag g"]),
            Step(&[("flag", "g", OFF)], &[("f", "- (NotFound)"), ("g", "off (Otherwise)")], &[]),
        ],
    );
    play(
        "a removal without a tombstone waits too",
        &[
            Step(&[("flag", "f", ON), ("flag", "g", ON)], &[], &[]),
            Step(
                &[("flag", "f", ""), ("flag", "g", LATER)],
                &[("f", "on (Otherwise)")],
                &["flag f", "flag g"],
            ),
            Step(&[("flag", "g", OFF)], &[("f", "- (NotFound)")], &[]),
        ],
    );
}

const STAFF: &str = r#"{"rules": [{"name": "staff", "if": {"segment": "staff"}, "serve": "on"}]}"#;
const STAFF_ELSE_ON: &str =
    r#"{"rules": [{"name": "staff", "if": {"segment": "staff"}, "serve": "off"}], "otherwise": "on"}"#;
const US: &str = r#"{"include": ["u"]}"#;
const NOT_US: &str = r#"{"include": ["v"]}"#;

#[test]
fn who_relies_on_a_refused_entry_waits_with_it() {
    play(
        "a user written before goes on with the last good segment",
        &[
            Step(&[("segment", "staff", US)], &[], &[]),
            Step(&[("flag", "f", STAFF)], &[("f", "on (Rule(staff))")], &[]),
            Step(&[("segment", "staff", LATER)], &[("f", "on (Rule(staff))")], &["segment staff"]),
            Step(&[("flag", "f", STAFF_ELSE_ON)], &[("f", "on (Rule(staff))")], &["flag f", "segment staff"]),
            Step(&[("segment", "staff", NOT_US)], &[("f", "on (Otherwise)")], &[]),
        ],
    );
    play(
        "a chain of users, each of its own change",
        &[
            Step(&[("segment", "staff", LATER)], &[], &["segment staff"]),
            Step(
                &[("segment", "both", r#"{"if": {"segment": "staff"}}"#)],
                &[],
                &["segment both", "segment staff"],
            ),
            Step(
                &[("flag", "f", r#"{"rules": [{"name": "r", "if": {"segment": "both"}, "serve": "on"}]}"#)],
                &[("f", "- (Refused)")],
                &["flag f", "segment both", "segment staff"],
            ),
            Step(&[("segment", "staff", US)], &[("f", "on (Rule(r))")], &[]),
        ],
    );
    play(
        "a flag and the flag it requires",
        &[
            Step(
                &[("flag", "base", LATER), ("flag", "x", ON)],
                &[("x", "- (Refused)")],
                &["flag base", "flag x"],
            ),
            Step(
                &[(
                    "flag",
                    "top",
                    r#"{"requires": [{"flag": "base", "serves": ["on"]}], "otherwise": "on"}"#,
                )],
                &[("top", "- (Refused)")],
                &["flag base", "flag top", "flag x"],
            ),
            Step(&[("flag", "base", ON)], &[("top", "on (Otherwise)"), ("x", "on (Otherwise)")], &[]),
        ],
    );
    play(
        "what a last good version uses is not removed under it",
        &[
            Step(&[("segment", "staff", US), ("flag", "f", STAFF)], &[("f", "on (Rule(staff))")], &[]),
            Step(&[("flag", "f", LATER)], &[("f", "on (Rule(staff))")], &["flag f"]),
            Step(&[("segment", "staff", "")], &[("f", "on (Rule(staff))")], &["flag f", "segment staff"]),
            Step(&[("flag", "f", OFF)], &[("f", "off (Otherwise)")], &[]),
        ],
    );
}

#[test]
fn what_refers_to_nothing_or_to_itself_is_refused() {
    let requires = |other: &str| {
        format!(r#"{{"requires": [{{"flag": "{other}", "serves": ["on"]}}], "otherwise": "on"}}"#)
    };
    let mut world = World::new();
    world.change(&[("flag", "a", &requires("nowhere"))]);
    assert_eq!(world.refused(), ["flag a"]);
    assert!(world.snapshot.refused()[0].why.contains("flag `nowhere`, which does not exist"));
    world.change(&[("flag", "a", ON)]).change(&[("flag", "b", &requires("a"))]).change(&[(
        "flag",
        "c",
        &requires("b"),
    )]);
    assert_eq!(world.refused(), Vec::<String>::new());
    assert_eq!(world.serves("c"), "on (Otherwise)");
    world.change(&[("flag", "a", &requires("c"))]);
    assert_eq!(world.refused(), ["flag a"]);
    assert!(world.snapshot.refused()[0].why.contains("circle"));
    assert_eq!(world.serves("c"), "on (Otherwise)");
    // The same state loaded whole and without anything on disk: nobody has a last good version.
    let fresh = Snapshot::build(&world.state, &BTreeMap::new());
    assert_eq!(fresh.refused().len(), 3);
    assert_eq!(shown(&fresh.evaluate("c", &Context::new("u"), Timestamp::default())), "- (Refused)");
    world.change(&[("flag", "a", OFF)]);
    assert_eq!(world.refused(), Vec::<String>::new());
    assert_eq!(world.serves("c"), "off (Requirement(b))");
}

#[test]
fn what_goes_on_serving_closes_no_circle() {
    const NEEDS_A: &str = r#"{"otherwise": "on", "requires": [{"flag": "a", "serves": ["on"]}]}"#;
    const NEEDS_B: &str = r#"{"otherwise": "on", "requires": [{"flag": "b", "serves": ["on"]}]}"#;
    play(
        "a removal that would have to wait for the one that closes the circle",
        &[
            Step(&[("flag", "a", ON)], &[], &[]),
            Step(&[("flag", "b", NEEDS_A)], &[("b", "on (Otherwise)")], &[]),
            Step(&[("flag", "a", NEEDS_B)], &[("a", "on (Otherwise)")], &["flag a"]),
            Step(&[("flag", "b", "")], &[("a", "on (Otherwise)"), ("b", "- (NotFound)")], &["flag a"]),
            Step(&[("flag", "b", ON)], &[("a", "on (Otherwise)"), ("b", "on (Otherwise)")], &[]),
        ],
    );
    play(
        "the new version opens the circle, but is refused with its neighbour",
        &[
            Step(&[("flag", "a", ON)], &[], &[]),
            Step(&[("flag", "b", NEEDS_A)], &[("b", "on (Otherwise)")], &[]),
            Step(&[("flag", "a", NEEDS_B)], &[("a", "on (Otherwise)")], &["flag a"]),
            Step(
                &[("flag", "b", OFF), ("flag", "c", LATER)],
                &[("a", "on (Otherwise)"), ("b", "on (Otherwise)")],
                &["flag a", "flag b", "flag c"],
            ),
            Step(&[("flag", "c", ON)], &[("a", "off (Requirement(b))"), ("b", "off (Otherwise)")], &[]),
        ],
    );
}

/// A flag that is on where all of these are.
fn needs(others: &[&str]) -> String {
    let requires: Vec<String> =
        others.iter().map(|other| format!(r#"{{"flag": "{other}", "serves": ["on"]}}"#)).collect();
    format!(r#"{{"requires": [{}], "otherwise": "on"}}"#, requires.join(", "))
}

#[test]
fn of_circles_with_common_members_the_one_written_last_is_refused_whatever_it_is_called() {
    let orders = ["abcd", "dcba", "bdac", "cadb", "badc", "dbca"];
    for order in orders {
        let [one, two, three, four] = [0, 1, 2, 3].map(|n| &order[n..=n]);
        let mut world = World::new();
        world.change(&[("flag", one, ON), ("flag", two, ON), ("flag", three, ON), ("flag", four, ON)]);
        world.change(&[("flag", two, &needs(&[one]))]).change(&[("flag", three, &needs(&[one, two]))]);
        world.change(&[("flag", four, &needs(&[two, three]))]);
        world.change(&[("flag", one, &needs(&[three, two, four]))]);
        assert_eq!(world.refused(), [format!("flag {one}")], "{order}");
        assert_eq!(world.serves(four), "on (Otherwise)", "{order}");
        // Read whole, with nothing to fall back on: the others are refused for what they use.
        let fresh = Snapshot::build(&world.state, &BTreeMap::new()).refused();
        let closing = fresh.iter().filter(|refusal| refusal.why.contains("circle"));
        assert_eq!(closing.map(|refusal| refusal.id.key.to_string()).collect::<Vec<_>>(), [one], "{order}");
        assert_eq!(fresh.len(), 4, "{order}");
    }
}

#[test]
fn a_whole_state_replaces_what_went_before() {
    let mut world = World::new();
    world.change(&[("flag", "f", ON), ("flag", "g", ON), ("flag", "h", ON)]).change(&[("kill", "f", KILL)]);
    let before = world.snapshot.clone();
    world.change(&[("kill", "f", ""), ("flag", "g", ""), ("flag", "h", OFF)]);
    let whole = before.derive(&world.state, Touched::All);
    for key in ["f", "g", "h"] {
        let served = shown(&whole.evaluate(key, &Context::new("u"), Timestamp::default()));
        assert_eq!(served, world.serves(key), "{key}");
    }
    assert_eq!(whole.position(), world.state.position());
}

#[test]
fn what_did_not_change_is_not_compiled_again() {
    let mut world = World::new();
    world.change(&[("flag", "f", ON), ("flag", "g", STAFF), ("segment", "staff", US)]);
    let before = world.snapshot.clone();
    world.change(&[("segment", "staff", NOT_US)]);
    assert_eq!(world.serves("g"), "off (Otherwise)");
    let whole = before.derive(&world.state, Touched::All);
    for snapshot in [&world.snapshot, &whole] {
        for key in ["f", "g"] {
            let flag = |of: &Snapshot| of.flags.find(key).unwrap().flag().cloned().unwrap();
            assert!(Arc::ptr_eq(&flag(&before), &flag(snapshot)), "{key}");
        }
    }
}
