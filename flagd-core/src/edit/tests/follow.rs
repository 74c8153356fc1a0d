//! Flags that follow: what is said of a change counts them in, and saying it never stops a kill.

use super::*;

fn follows(plan: &Plan) -> Vec<String> {
    plan.consequences
        .iter()
        .map(|c| format!("{} {:?} because of {}", c.flag, c.direction, c.because))
        .collect()
}

/// A shop that is there while the payments are not, and one that needs them.
const SHOP: &str = r#"
    "pay": {"rollout": 25},
    "old": {"otherwise": "on", "requires": [{"flag": "pay", "serves": ["off"]}]},
    "new": {"otherwise": "on", "requires": [{"flag": "pay", "serves": ["on"]}]},
    "both": {"otherwise": "on", "requires": [{"flag": "old", "serves": ["on"]}, {"flag": "new", "serves": ["on"]}]},
    "far": {"otherwise": "on", "requires": [{"flag": "old", "serves": ["off"]}]},
    "any": {"otherwise": "on", "requires": [{"flag": "pay", "serves": ["on", "off"]}]},
    "dark": {"otherwise": "off", "requires": [{"flag": "pay", "serves": ["on"]}]}"#;

#[test]
fn a_ramp_names_the_flags_that_follow() {
    let file = SHOP.replace("25", "100");
    let apply = format!(r#"{{"flags": {{{file}}}}}"#);
    let whole = World::of(&file).state.get(&EntryId::new(EntryKind::FLAG, "pay")).unwrap().bytes.clone();
    let verbs = [
        ("ramp", ramp("pay 100%")),
        ("put", put(r#""pay": {"rollout": 100}"#, PutMode::Replace)),
        ("apply", Edit::Apply { file: apply, base: BTreeMap::new(), take: Take::File }),
        ("restore", Edit::Restore { entries: vec![(EntryId::new(EntryKind::FLAG, "pay"), Some(whole))] }),
    ];
    for (verb, edit) in verbs {
        let plan = World::of(SHOP).plan(&edit).unwrap();
        assert_eq!(plan.effects[0].movement, Movement::OnlyAdds, "{verb}");
        assert_eq!(
            follows(&plan),
            [
                "both GoesOff because of old",
                "far ComesOn because of old",
                "new ComesOn because of pay",
                "old GoesOff because of pay",
            ],
            "{verb}"
        );
        assert_eq!(plan.movement(), Movement::Moves, "{verb}: some come, others go");
        let far = "Warning: `far` comes on: it requires `old`, which now serves what it asks for";
        assert!(told(&plan).contains(&far.to_owned()), "{verb}");
        assert!(told(&plan).contains(&"Info: `old` goes off: it requires `pay`".to_owned()), "{verb}");
    }
}

#[test]
fn a_flag_that_follows_for_some_users_is_named_too() {
    let plan = World::of(SHOP).edit(&ramp("pay 50%"));
    assert_eq!(
        told(&plan),
        [
            "Warning: `both` may change for some users: it requires `old`",
            "Warning: `far` comes on for more users: it requires `old`, which now serves more of them what it asks for",
            "Warning: `new` comes on for more users: it requires `pay`, which now serves more of them what it asks for",
            "Info: `old` goes off for some users: it requires `pay`",
        ]
    );
    assert_eq!(plan.movement(), Movement::Unknown);
    let only_new = r#""pay": {"rollout": 25}, "new": {"otherwise": "on", "requires": [{"flag": "pay", "serves": ["on"]}]}"#;
    assert_eq!(World::of(only_new).edit(&ramp("pay 50%")).movement(), Movement::OnlyAdds);
    assert_eq!(World::of(only_new).edit(&ramp("pay 5%")).movement(), Movement::OnlyRemoves);
    let owner = put(r#""pay": {"owner": "me", "rollout": 25}"#, PutMode::Replace);
    assert_eq!(
        follows(&World::of(SHOP).edit(&owner)),
        Vec::<String>::new(),
        "nobody is served anything else"
    );
}

#[test]
fn a_change_of_several_flags_is_not_told_by_one_of_them() {
    let mut world = World::of(r#""up": {"rollout": 5}, "down": {"rollout": 50}"#);
    let plan = world.put(r#""up": {"rollout": 10}, "down": {"rollout": 20}"#);
    assert_eq!(plan.movement(), Movement::Moves);
}

#[test]
fn a_kill_gets_through_a_thicket_of_requirements() {
    // Every flag of a layer requires every flag of the layer below: far more paths than can be walked.
    let layer = |n: usize, below: usize| -> Vec<String> {
        let requires: Vec<String> = (0..below)
            .map(|m| format!(r#"{{"flag": "l{}-{m}", "serves": ["on"]}}"#, n.wrapping_sub(1)))
            .collect();
        let flag = |m| format!(r#""l{n}-{m}": {{"rollout": 50, "requires": [{}]}}"#, requires.join(", "));
        (0..12).map(flag).collect()
    };
    let flags: Vec<String> = (0..8).flat_map(|n| layer(n, if n == 0 { 0 } else { 12 })).collect();
    let mut world = World::of(&flags.join(", "));
    let plan = world.edit(&kills(&["l0-0"]));
    assert_eq!(plan.consequences.len(), 7 * 12);
    assert!(plan.consequences.iter().all(|one| one.direction == Direction::GoesOff));
}

#[test]
fn a_kill_gets_through_a_circle_of_requirements() {
    let mut world = World::empty();
    for (key, other) in [("a", "b"), ("b", "a")] {
        let bytes =
            format!(r#"{{"otherwise": "on", "requires": [{{"flag": "{other}", "serves": ["on"]}}]}}"#);
        world.write(vec![EntryWrite::set(EntryId::new(EntryKind::FLAG, key), bytes.as_bytes())]);
    }
    let plan = world.edit(&kills(&["a"]));
    assert_eq!((plan.writes.len(), follows(&plan)), (1, vec!["b GoesOff because of a".to_owned()]));
}

#[test]
fn an_error_in_telling_is_held_back() {
    let broken: Option<()> = finish::guarded(|| panic!("an error of ours"));
    assert_eq!(broken, None);
    assert_eq!(finish::guarded(|| 1), Some(1));
}
