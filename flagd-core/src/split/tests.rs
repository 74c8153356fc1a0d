//! The promises of the line: golden points, moving the minimum, sticky and uniform shares.

use proptest::prelude::*;

use super::*;

fn name(text: &str) -> VariantName {
    VariantName::new(text).unwrap()
}

/// A layout, or shares, in short.
type Lengths = &'static [(&'static str, u32)];

fn line(stretches: &[(&str, u32)]) -> Vec<Stretch> {
    stretches
        .iter()
        .map(|(variant, length)| Stretch { variant: name(variant), length: Ppm(*length) })
        .collect()
}

fn weights(shares: &[(&str, u32)]) -> BTreeMap<VariantName, Ppm> {
    shares.iter().map(|(variant, share)| (name(variant), Ppm(*share))).collect()
}

/// The owner of each point of a line, as one letter per `step` points.
fn owner(stretches: &[Stretch], point: u32) -> &str {
    let mut end = 0;
    stretches
        .iter()
        .find(|s| {
            end += s.length.0;
            point < end
        })
        .map_or("-", |s| s.variant.as_str())
}

#[test]
fn points_are_what_the_reference_implementation_gives() {
    let file: serde_json::Value = serde_json::from_str(include_str!("../../testdata/line.json")).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    assert!(vectors.len() >= 90, "{} vectors", vectors.len());
    for vector in vectors {
        let unit = match vector["unit"].as_str() {
            Some(unit) => unit.to_owned(),
            None => vector["repeat"]
                .as_str()
                .unwrap()
                .repeat(vector["times"].as_u64().unwrap().try_into().unwrap()),
        };
        let seed = Seed::of(vector["salt"].as_str().unwrap());
        assert_eq!(format!("{:016x}", seed.0), vector["seed"].as_str().unwrap(), "{vector}");
        assert_eq!(u64::from(Point::of(seed, &unit).0), vector["point"].as_u64().unwrap(), "{vector}");
    }
}

#[test]
fn hashes_spread_over_the_whole_line() {
    let cases: &[(&str, u64, u32)] = &[
        ("the lowest hash", 0, 0),
        ("the lower half counts for nothing", 0xffff_ffff, 0),
        ("last of the first half", (1 << 63) - 1, 499_999),
        ("first of the second half", 1 << 63, 500_000),
        ("the highest hash", u64::MAX, LINE - 1),
    ];
    for (case, hash, want) in cases {
        assert_eq!(Point::from_hash(*hash), Point(*want), "{case}");
    }
}

#[test]
fn shares_are_laid_by_name_with_the_off_variant_last() {
    let cases: &[(&str, Lengths, &str, Lengths)] = &[
        ("off last", &[("off", 750_000), ("on", 250_000)], "off", &[("on", 250_000), ("off", 750_000)]),
        ("byte order", &[("b", 1), ("B", 2), ("a", 999_997)], "z", &[("B", 2), ("a", 999_997), ("b", 1)]),
        ("empty shares left out", &[("a", 0), ("b", LINE), ("off", 0)], "off", &[("b", LINE)]),
        ("never all", &[("a", 0)], "a", &[("a", 0)]),
    ];
    for (case, given, off, want) in cases {
        assert_eq!(lay(&weights(given), &name(off)), line(want), "{case}");
    }
}

#[test]
fn reweighing_moves_the_minimum() {
    let cases: &[(&str, Lengths, Lengths, Lengths)] = &[
        (
            "ramp up",
            &[("on", 10), ("off", 999_990)],
            &[("on", 50), ("off", 999_950)],
            &[("on", 50), ("off", 999_950)],
        ),
        (
            "ramp down",
            &[("on", 50), ("off", 999_950)],
            &[("on", 10), ("off", 999_990)],
            &[("on", 10), ("off", 999_990)],
        ),
        ("to all", &[("on", 50), ("off", 999_950)], &[("on", LINE)], &[("on", LINE)]),
        ("from none", &[("off", LINE)], &[("on", 7), ("off", 999_993)], &[("on", 7), ("off", 999_993)]),
        (
            "50/50 to 40/40/20 moves 20 %",
            &[("a", 500_000), ("b", 500_000)],
            &[("a", 400_000), ("b", 400_000), ("c", 200_000)],
            &[("a", 400_000), ("c", 100_000), ("b", 400_000), ("c", 100_000)],
        ),
        (
            "a variant in the middle grows out of off's lowest points",
            &[("a", 100), ("b", 100), ("off", 999_800)],
            &[("a", 200), ("b", 100), ("off", 999_700)],
            &[("a", 100), ("b", 100), ("a", 100), ("off", 999_700)],
        ),
        (
            "and gives the same points back",
            &[("a", 100), ("b", 100), ("a", 100), ("off", 999_700)],
            &[("a", 100), ("b", 100), ("off", 999_800)],
            &[("a", 100), ("b", 100), ("off", 999_800)],
        ),
        (
            "two variants grow in byte order",
            &[("off", LINE)],
            &[("b", 100), ("a", 200), ("off", 999_700)],
            &[("a", 200), ("b", 100), ("off", 999_700)],
        ),
        (
            "off lets go lowest first though it owns two stretches",
            &[("off", 100), ("a", 100), ("off", 999_800)],
            &[("a", 250), ("off", 999_750)],
            &[("a", 250), ("off", 999_750)],
        ),
    ];
    for (case, old, wanted, want) in cases {
        assert_eq!(reweigh(&line(old), &weights(wanted), &name("off")), line(want), "{case}");
    }
}

#[test]
fn joining_keeps_the_line() {
    let cases: &[(&str, Lengths, Lengths)] = &[
        ("neighbours", &[("a", 1), ("a", 2), ("b", 3)], &[("a", 3), ("b", 3)]),
        ("neighbours around an empty one", &[("a", 1), ("b", 0), ("a", 2)], &[("a", 3)]),
        ("an empty one alone stays", &[("a", 0)], &[("a", 0)]),
        ("an empty one first", &[("a", 0), ("b", 5)], &[("b", 5)]),
        ("nothing", &[], &[]),
    ];
    for (case, given, want) in cases {
        assert_eq!(join(line(given)), line(want), "{case}");
    }
}

#[test]
fn flows_name_who_loses_to_whom() {
    let before = line(&[("a", 500_000), ("b", 500_000)]);
    let after = line(&[("a", 400_000), ("c", 100_000), ("b", 400_000), ("c", 100_000)]);
    let want: BTreeMap<_, _> =
        [((name("a"), name("c")), Ppm(100_000)), ((name("b"), name("c")), Ppm(100_000))].into();
    assert_eq!(flows(&before, &after), want);
    assert!(flows(&before, &before).is_empty());
    assert!(flows(&before, &line(&[("a", 250_000), ("a", 250_000), ("b", 500_000)])).is_empty());
}

#[test]
fn ramps_only_add_and_shares_hold_over_a_million_units() {
    let units: Vec<String> = (0..1_000_000).map(|n| format!("user-{n}")).collect();
    let seed = Seed::of("ramp");
    let mut stretches = line(&[("off", LINE)]);
    let mut on = vec![false; units.len()];
    for share in [10_000, 50_000, 250_000, 500_000, LINE] {
        stretches = reweigh(&stretches, &weights(&[("on", share), ("off", LINE - share)]), &name("off"));
        let mut count = 0_u32;
        for (unit, was_on) in units.iter().zip(&mut on) {
            let is_on = owner(&stretches, Point::of(seed, unit).0) == "on";
            assert!(is_on || !*was_on, "{unit} fell out at {share}");
            *was_on = is_on;
            count += u32::from(is_on);
        }
        let p = f64::from(share) / f64::from(LINE);
        let sigma = (p * (1.0 - p) * f64::from(LINE)).sqrt();
        assert!(
            (f64::from(count) - f64::from(share)).abs() <= 4.0 * sigma,
            "{count} units on at {share} ppm"
        );
    }
}

#[test]
fn points_are_uniform_and_flags_independent() {
    const CELLS: usize = 100;
    let (first, second) = (Seed::of("first"), Seed::of("second"));
    let cell = |seed, unit: &str| usize::try_from(Point::of(seed, unit).0).unwrap() * CELLS / 1_000_000;
    let mut alone = [0_u32; CELLS];
    let mut together = [0_u32; CELLS];
    for n in 0..1_000_000 {
        let unit = format!("{n}");
        let (a, b) = (cell(first, &unit), cell(second, &unit));
        alone[a] += 1;
        together[(a / 10) * 10 + b / 10] += 1;
    }
    // Chi-square with 99 degrees of freedom passes 160 once in ten thousand draws; the units are fixed.
    for (what, counts) in [("one flag", alone), ("two flags", together)] {
        let square: f64 = counts.iter().map(|c| (f64::from(*c) - 10_000.0).powi(2) / 10_000.0).sum();
        assert!(square < 160.0, "{what}: {square}");
    }
}

/// Shares of up to five variants, any of them empty, summing to the line.
fn any_shares() -> impl Strategy<Value = BTreeMap<VariantName, Ppm>> {
    prop::collection::vec(prop_oneof![Just(0), Just(LINE), 0..=LINE, 0_u32..=5], 4).prop_map(|mut cuts| {
        cuts.sort_unstable();
        let ends = cuts.iter().copied().chain([LINE]);
        let mut start = 0;
        let lengths = ends.map(|end| Ppm(end - std::mem::replace(&mut start, end)));
        ["a", "b", "c", "off", "z"].into_iter().map(name).zip(lengths).collect()
    })
}

/// Any literal list of stretches.
fn any_line() -> impl Strategy<Value = Vec<Stretch>> {
    (
        prop::collection::vec(0..=LINE, 0..8),
        prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "off"]), 8),
    )
        .prop_map(|(mut cuts, owners)| {
            cuts.sort_unstable();
            let mut start = 0;
            let ends = cuts.into_iter().chain([LINE]);
            let lengths = ends.map(|end| end - std::mem::replace(&mut start, end));
            owners
                .iter()
                .zip(lengths)
                .map(|(owner, length)| Stretch { variant: name(owner), length: Ppm(length) })
                .collect()
        })
}

fn nonzero(mut shares: BTreeMap<VariantName, Ppm>) -> BTreeMap<VariantName, Ppm> {
    shares.retain(|_, share| share.0 > 0);
    shares
}

proptest! {
    #[test]
    fn any_reweighing_gives_the_shares_wanted_and_moves_the_minimum(old in any_line(), wanted in any_shares()) {
        let new = reweigh(&old, &wanted, &name("off"));
        prop_assert_eq!(nonzero(shares(&new)), nonzero(wanted.clone()));

        let before = shares(&old);
        let had = |variant: &VariantName| before.get(variant).map_or(0, |share| share.0);
        let loss: u32 = before.iter().map(|(variant, share)| share.0.saturating_sub(wanted.get(variant).map_or(0, |w| w.0))).sum();
        let flows = flows(&old, &new);
        prop_assert_eq!(flows.values().map(|flow| flow.0).sum::<u32>(), loss);
        for (from, to) in flows.keys() {
            prop_assert!(wanted.get(from).map_or(0, |w| w.0) < had(from), "{} lost though it does not shrink", from);
            prop_assert!(wanted[to].0 > had(to), "{} gained though it does not grow", to);
        }
        for pair in new.windows(2) {
            prop_assert_ne!(&pair[0].variant, &pair[1].variant);
        }
        prop_assert!(new.iter().all(|s| s.length.0 > 0));
    }

    #[test]
    fn the_same_shares_move_nobody(old in any_line()) {
        prop_assert_eq!(reweigh(&old, &shares(&old), &name("off")), join(old));
    }

    #[test]
    fn ramps_in_any_sequence_stay_one_stretch_each(ramps in prop::collection::vec(0..=LINE, 1..20)) {
        let mut stretches = line(&[("off", LINE)]);
        for share in ramps {
            let wanted = weights(&[("on", share), ("off", LINE - share)]);
            stretches = reweigh(&stretches, &wanted, &name("off"));
            prop_assert_eq!(&stretches, &lay(&wanted, &name("off")));
        }
    }

    #[test]
    fn laying_gives_the_shares_wanted(wanted in any_shares()) {
        prop_assert_eq!(nonzero(shares(&lay(&wanted, &name("off")))), nonzero(wanted));
    }
}

#[test]
fn a_point_is_below_another_when_its_hash_is_below_that_ones_first() {
    assert_eq!((upper_half(Point(0)), upper_half(Point(LINE))), (Some(0), None));
    for point in 1..LINE {
        let first = upper_half(Point(point)).unwrap();
        let of = |half: u32| Point::from_hash(u64::from(half) << 32 | 0xffff_ffff);
        assert!(of(first) >= Point(point) && of(first - 1) < Point(point), "{point}");
    }
    assert_eq!(Point::from_hash(u64::MAX), Point(LINE - 1));
}
