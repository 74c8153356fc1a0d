//! What holds after any sequence of edits.

use proptest::prelude::*;

use super::*;
use crate::canonical::{Form, write_flag, write_segment};
use crate::check::{Definitions, check_references};
use crate::context::Context;
use crate::definition::{Ppm, Stretch};
use crate::snapshot::Snapshot;
use crate::split::{LINE, flows, shares};

const KEYS: [&str; 4] = ["a", "b", "c", "d"];
const VARIANTS: [&str; 3] = ["blue", "off", "red"];

fn key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&KEYS[..])
}

fn variant() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&VARIANTS[..])
}

/// Whole percentages that sum to 100.
fn percentages() -> impl Strategy<Value = [u32; 3]> {
    (0..=100_u32, 0..=100_u32).prop_map(|(a, b)| {
        let (low, high) = (a.min(b), a.max(b));
        [low, high - low, 100 - high]
    })
}

fn serve() -> impl Strategy<Value = String> {
    let by = prop::sample::select(&["", r#", "by": "company""#][..]);
    prop_oneof![
        variant().prop_map(|variant| format!("\"{variant}\"")),
        (percentages(), by.clone()).prop_map(|([x, y, z], by)| format!(
            r#"{{"split": {{"blue": {x}, "off": {y}, "red": {z}}}{by}}}"#
        )),
        (percentages(), variant(), variant(), variant(), by).prop_map(
            |([x, y, z], one, two, three, by)| format!(
                r#"{{"split": [{{"{one}": {x}}}, {{"{two}": {y}}}, {{"{three}": {z}}}]{by}}}"#
            )
        ),
    ]
}

fn flag() -> impl Strategy<Value = String> {
    let condition = prop::sample::select(
        &[
            r#"{"attribute": "x", "equals": 1}"#,
            r#"{"segment": "s"}"#,
            r#"{"attribute": "x", "exists": true}"#,
        ][..],
    );
    let rule = (0..3, condition, serve()).prop_map(|(name, condition, serve)| {
        (name, format!(r#"{{"name": "r{name}", "if": {condition}, "serve": {serve}}}"#))
    });
    let rules = prop::collection::vec(rule, 0..4).prop_map(|mut rules| {
        rules.sort_by_key(|(name, _)| *name);
        rules.dedup_by_key(|(name, _)| *name);
        rules.into_iter().map(|(_, rule)| rule).collect::<Vec<_>>().join(", ")
    });
    let requires = prop_oneof![
        3 => Just(String::new()),
        1 => (key(), variant()).prop_map(|(key, variant)| format!(r#", "requires": [{{"flag": "{key}", "serves": ["{variant}"]}}]"#)),
    ];
    (rules, serve(), any::<bool>(), requires).prop_map(|(rules, otherwise, enabled, requires)| {
        format!(
            r#"{{"variants": {{"blue": 1, "off": 0, "red": 2}}, "offVariant": "off", "enabled": {enabled}, "rules": [{rules}], "otherwise": {otherwise}{requires}}}"#
        )
    })
}

fn file() -> impl Strategy<Value = String> {
    prop::collection::btree_map(key(), flag(), 1..3).prop_map(|flags| {
        let flags: Vec<String> = flags.into_iter().map(|(key, flag)| format!("\"{key}\": {flag}")).collect();
        format!(r#"{{"flags": {{{}}}, "segments": {{"s": {{"include": ["u"]}}}}}}"#, flags.join(", "))
    })
}

fn ramps() -> impl Strategy<Value = Edit> {
    (key(), variant(), 0..=LINE, prop::option::of(variant()), 0..4_u32).prop_map(
        |(flag, variant, share, from, rule)| {
            let place = match rule {
                3 => PlaceChoice::Otherwise,
                rule => PlaceChoice::Rule(RuleName::new(&format!("r{rule}")).unwrap()),
            };
            let name = |variant| VariantName::new(variant).unwrap();
            let (variant, from) = (Some(name(variant)), from.map(name));
            Edit::Ramp { flag: flag_key(flag), variant, share: Ppm(share), place, from }
        },
    )
}

/// One thing that somebody does; `Apply` gets its base when it is done.
fn step() -> impl Strategy<Value = Edit> {
    let take = prop::sample::select(&[Take::Ask, Take::File, Take::Live][..]);
    prop_oneof![
        4 => file().prop_map(|file| Edit::Put { file, mode: PutMode::CreateOrReplace }),
        4 => (file(), take).prop_map(|(file, take)| Edit::Apply { file, base: BTreeMap::new(), take }),
        4 => ramps(),
        1 => key().prop_map(|key| Edit::Enable(flag_key(key))),
        1 => key().prop_map(|key| Edit::Disable(flag_key(key))),
        1 => key().prop_map(|key| Edit::Archive(flag_key(key))),
        1 => key().prop_map(|key| Edit::Unarchive(flag_key(key))),
        1 => Just(Edit::SegmentAdd { segment: segment_key("s"), units: vec!["v".to_owned()], list: SegmentList::Include }),
        1 => Just(Edit::ArchiveSegment(segment_key("s"))),
        1 => Just(Edit::UnarchiveSegment(segment_key("s"))),
    ]
}

/// Does a step if it is possible.
fn attempt(world: &mut World, edit: &Edit) -> Option<Plan> {
    match edit {
        Edit::Apply { file, take, .. } => world.apply("ci", file, *take).ok(),
        other => {
            let plan = world.plan(other).ok()?;
            world.write(plan.writes.clone());
            Some(plan)
        }
    }
}

fn holds_together(world: &World) {
    let view = view::View::of(&world.state);
    let keys: Vec<FlagKey> = view.flag_keys().into_iter().map(flag_key).collect();
    let segments: Vec<SegmentKey> = view.segment_keys().into_iter().map(segment_key).collect();
    let flags = keys.iter().map(|key| (key, view.known_flag(key).unwrap())).collect();
    let segments = segments.iter().map(|key| (key, view.known_segment(key).unwrap())).collect();
    assert_eq!(check_references(&flags, &segments, &view), []);
    for key in &keys {
        let flag = view.flag(key).unwrap();
        assert_eq!(write_flag(key, flag, Form::Stored), world.text(&EntryId::flag(key)), "canonical");
        for (_, serve) in flag.places() {
            let line = lay::stretches(serve, &flag.off_variant);
            assert_eq!(line.iter().map(|stretch| stretch.length.0).sum::<u32>(), LINE);
        }
        assert!(!world.has(EntryKind::TOMBSTONE, key.as_str()), "alive and archived");
    }
}

/// All places of all flags as they lie.
fn lines(world: &World) -> Vec<(String, String, Vec<Stretch>)> {
    let view = view::View::of(&world.state);
    let mut lines = Vec::new();
    for key in view.flag_keys() {
        let flag = view.flag(&flag_key(key)).unwrap();
        for (place, serve) in flag.places() {
            lines.push((key.to_owned(), place.to_string(), lay::stretches(serve, &flag.off_variant)));
        }
    }
    lines
}

fn export(world: &World) -> String {
    let view = view::View::of(&world.state);
    let flag = |key: &str| {
        format!(
            "\"{key}\": {}",
            write_flag(&flag_key(key), view.flag(&flag_key(key)).unwrap(), Form::Readable)
        )
    };
    let segment = |key: &str| {
        let key = segment_key(key);
        format!("\"{key}\": {}", write_segment(&key, view.segment(&key).unwrap(), Form::Readable))
    };
    let flags: Vec<String> = view.flag_keys().into_iter().map(flag).collect();
    let segments: Vec<String> = view.segment_keys().into_iter().map(segment).collect();
    format!("{{\"flags\": {{{}}}, \"segments\": {{{}}}}}", flags.join(","), segments.join(","))
}

/// Some of everybody.
fn contexts() -> Vec<Context> {
    let units = (0..40).map(|n| Context::new(format!("user-{n}")).with("company", format!("c-{}", n % 7)));
    let special = ["u", "v"].map(Context::new);
    let mut all: Vec<Context> = units.chain(special).chain([Context::anonymous()]).collect();
    all.extend(all.clone().into_iter().map(|context| context.with("x", 1)));
    all.extend(all.clone().into_iter().take(20).map(|context| context.with("x", 2)));
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn whatever_is_planned_holds_together(steps in prop::collection::vec(step(), 1..12)) {
        let mut world = World::empty();
        for edit in &steps {
            attempt(&mut world, edit);
            holds_together(&world);
        }
    }

    #[test]
    fn an_export_into_an_empty_environment_moves_nobody(steps in prop::collection::vec(step(), 1..12)) {
        let mut world = World::empty();
        for edit in &steps {
            attempt(&mut world, edit);
        }
        let copy = World::file(&export(&world));
        prop_assert_eq!(lines(&copy), lines(&world));
    }

    #[test]
    fn nothing_but_revive_lifts_a_kill(first in file(), steps in prop::collection::vec(step(), 1..12)) {
        let mut world = World::empty();
        let put = Edit::Put { file: first, mode: PutMode::CreateOrReplace };
        prop_assume!(attempt(&mut world, &put).is_some());
        for key in KEYS {
            let _ = attempt(&mut world, &kills(&[key]));
        }
        let kills = |world: &World| -> Vec<(EntryId, Arc<[u8]>)> {
            world.state.entries_of(EntryKind::KILL).map(|(id, entry)| (id.clone(), entry.bytes.clone())).collect()
        };
        let before = kills(&world);
        prop_assert!(!before.is_empty());
        for edit in &steps {
            if let Some(plan) = attempt(&mut world, edit) {
                let killed = |effect: &&Effect| before.iter().any(|(id, _)| *id.key == *effect.flag.as_str());
                for effect in plan.effects.iter().filter(killed).filter(|e| world.has(EntryKind::FLAG, e.flag.as_str())) {
                    prop_assert_eq!(effect.movement, Movement::Nothing, "{:?}", effect);
                }
            }
        }
        prop_assert_eq!(kills(&world), before);
    }

    #[test]
    fn a_ramp_moves_exactly_what_it_says(
        serve in serve(), variant in variant(), from in variant(), up in any::<bool>(), part in 0..=100_u32,
    ) {
        let flag = |serve: &str| {
            format!(r#""f": {{"variants": {{"blue": 1, "off": 0, "red": 2}}, "offVariant": "off", "otherwise": {serve}}}"#)
        };
        prop_assume!(variant != from);
        let mut world = World::of(&flag(&serve));
        let line = |world: &World| lay::stretches(&world.flag("f").otherwise, &world.flag("f").off_variant);
        let was = line(&world);
        let name = |variant| VariantName::new(variant).unwrap();
        let (variant, from) = (name(variant), name(from));
        let had = |variant: &VariantName| shares(&was).get(variant).map_or(0, |ppm| ppm.0);
        let moved = if up { had(&from) } else { had(&variant) } / 100 * part;
        let share = Ppm(if up { had(&variant) + moved } else { had(&variant) - moved });
        let place = PlaceChoice::Otherwise;
        let ramp = |share| {
            let (variant, from) = (Some(variant.clone()), Some(from.clone()));
            Edit::Ramp { flag: flag_key("f"), variant, share, place: place.clone(), from }
        };
        let plan = world.edit(&ramp(share));
        let wanted = match (moved, up) {
            (0, _) => vec![],
            (_, true) => vec![((from.clone(), variant.clone()), Ppm(moved))],
            (_, false) => vec![((variant.clone(), from.clone()), Ppm(moved))],
        };
        prop_assert_eq!(flows(&was, &line(&world)).into_iter().collect::<Vec<_>>(), wanted);
        let off = name("off");
        let movement = match (moved, up) {
            (0, _) => None,
            _ if from != off && variant != off => Some(Movement::Moves),
            (_, up) => Some(if up == (from == off) { Movement::OnlyAdds } else { Movement::OnlyRemoves }),
        };
        prop_assert_eq!(plan.effects.first().map(|effect| effect.movement), movement);
        let too_much = had(&variant) + had(&from) + 1;
        if too_much <= LINE {
            prop_assert!(matches!(World::of(&flag(&serve)).plan(&ramp(Ppm(too_much))), Err(EditError::Refused(_))));
        }
    }

    #[test]
    fn what_is_said_of_units_is_so(steps in prop::collection::vec(step(), 1..8), killed in prop::option::of(key())) {
        let mut world = World::empty();
        for edit in steps.iter().cloned().chain(killed.map(|key| kills(&[key]))).chain(killed.map(|key| revives(&[key]))) {
            let before = Snapshot::build(&world.state, &BTreeMap::new());
            let Some(plan) = attempt(&mut world, &edit) else { continue };
            let after = Snapshot::build(&world.state, &BTreeMap::new());
            for effect in &plan.effects {
                for context in contexts() {
                    let serve = |snapshot: &Snapshot| {
                        let variant = snapshot.evaluate(effect.flag.as_str(), &context, author().now).variant;
                        variant.unwrap_or("off").to_owned()
                    };
                    let (was, is) = (serve(&before), serve(&after));
                    let holds = match effect.movement {
                        Movement::Nothing => was == is,
                        Movement::OnlyAdds => was == is || was == "off",
                        Movement::OnlyRemoves => was == is || is == "off",
                        _ => true,
                    };
                    prop_assert!(holds, "{:?}: {} -> {} for {:?}", effect, was, is, context);
                }
            }
            let about = |key: &str| plan.effects.iter().any(|effect| effect.flag.as_str() == key);
            for key in KEYS.into_iter().filter(|key| !about(key)) {
                let direction = plan.consequences.iter().find(|one| one.flag.as_str() == key).map(|one| one.direction);
                for context in contexts() {
                    let serve = |snapshot: &Snapshot| {
                        snapshot.evaluate(key, &context, author().now).variant.unwrap_or("off").to_owned()
                    };
                    let (was, is) = (serve(&before), serve(&after));
                    let holds = match direction {
                        None | Some(Direction::Stays) => was == is,
                        Some(Direction::ComesOn) => was == is || was == "off",
                        Some(Direction::GoesOff) => was == is || is == "off",
                        Some(Direction::Depends) => true,
                    };
                    prop_assert!(holds, "{} {:?}: {} -> {} for {:?} after {:?}", key, direction, was, is, context, edit);
                }
            }
        }
    }

    #[test]
    fn applying_the_same_file_again_changes_nothing(first in file(), second in file()) {
        let mut world = World::empty();
        prop_assume!(world.apply("ci", &first, Take::Ask).is_ok());
        let again = world.apply("ci", &first, Take::Ask).unwrap();
        prop_assert_eq!((again.writes.len(), again.drift.len()), (0, 0));
        // Nobody else has changed anything, so the file simply wins ...
        let other = Edit::Put { file: second.clone(), mode: PutMode::CreateOrReplace };
        let mut put = world.clone();
        prop_assume!(attempt(&mut put, &other).is_some());
        let plan = world.apply("ci", &second, Take::Ask).unwrap();
        prop_assert_eq!(plan.drift, []);
        let same: Vec<_> = lines(&world).into_iter().zip(lines(&put)).filter(|(a, b)| flows(&a.2, &b.2) != BTreeMap::new()).collect();
        prop_assert_eq!(same, vec![]);
    }
}
