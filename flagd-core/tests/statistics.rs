//! The line as statistics sees it: uniform, independent between flags, exhaustive, and moved as little as can be.
//!
//! All seeds are fixed, so a run never flickers; the thresholds say how likely a *good* hash would have failed
//! with seeds chosen at random. Every statistic is normal or chi-square and is held to seven standard deviations
//! ([`SIGMAS`]). One such test of a good hash fails with a probability of at most 2.6e-12 (both tails of the normal
//! distribution); this file computes fewer than 10,000 of them, so the whole file fails a good hash with less than
//! 3e-8, far under one in a million. What is not a statistic (edges, ramps, movement) is exact.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a test: a panic is a failed test, and counts are small"
)]

use std::collections::BTreeMap;

use flagd_core::context::Context;
use flagd_core::definition::{Ppm, Stretch};
use flagd_core::edit::{self, Author, Edit, PutMode};
use flagd_core::key::{EnvironmentName, VariantName};
use flagd_core::revision::Epoch;
use flagd_core::snapshot::Snapshot;
use flagd_core::split::{self, LINE, Point, Seed};
use flagd_core::state::State;
use flagd_core::time::Timestamp;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// How far a statistic may be from what is expected.
const SIGMAS: f64 = 7.0;

/// The two ends of what chi-square with this many degrees of freedom may be.
///
/// Wilson and Hilferty: the cube root of chi-square / k is nearly normal, with mean 1 - 2/9k and variance 2/9k. Far
/// out it errs by a small factor in the probability, which the distance between 3e-8 and 1e-6 swallows.
fn chi_square_range(degrees: f64) -> std::ops::Range<f64> {
    let variance = 2.0 / (9.0 * degrees);
    let at = |sigmas: f64| degrees * (1.0 - variance + sigmas * variance.sqrt()).powi(3);
    at(-SIGMAS)..at(SIGMAS)
}

/// Counts are equally likely in every cell: as many degrees of freedom as cells, less one for the sum.
fn assert_uniform(counts: &[u32], what: &str) {
    let total: u32 = counts.iter().sum();
    let expected = f64::from(total) / counts.len() as f64;
    assert!(expected > 10.0, "{what}: too few units for chi-square");
    let chi: f64 = counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
    let range = chi_square_range(counts.len() as f64 - 1.0);
    assert!(range.contains(&chi), "{what}: chi-square {chi:.1} is not within {range:.1?}");
}

/// `SplitMix64`: enough chance to draw units and shares from, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u32) -> u32 {
        (self.next() % u64::from(end)) as u32
    }
}

const SALTS: [&str; 6] = ["new-checkout", "a", "b", "flag-1", "flag-2", "Zürich"];

/// 1,000 cells of 1,000 points, for each salt.
fn assert_units_are_uniform(name: &str, units: &[String]) {
    for salt in SALTS {
        let seed = Seed::of(salt);
        let mut cells = [0_u32; 1_000];
        for unit in units {
            cells[Point::of(seed, unit).0 as usize / 1_000] += 1;
        }
        assert_uniform(&cells, &format!("{name} under {salt}"));
    }
}

#[test]
fn sequential_numbers_are_uniform() {
    assert_units_are_uniform("numbers", &(0..300_000).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn uuids_are_uniform() {
    let mut chance = Chance(4);
    let v4: Vec<String> = (0..100_000).map(|_| uuid(chance.next(), chance.next(), 4)).collect();
    assert_units_are_uniform("UUID v4", &v4);
    // Version 7 begins with the time: one every 37 ms, so that long parts are common to many.
    let v7 = (0..100_000_u64)
        .map(|n| uuid((1_795_000_000_000 + n * 37) << 16 | chance.next() >> 48, chance.next(), 7));
    assert_units_are_uniform("UUID v7", &v7.collect::<Vec<_>>());
}

fn uuid(high: u64, low: u64, version: u64) -> String {
    let high = high & !0xf000 | version << 12;
    let low = low & !(3 << 62) | 2 << 62;
    let (a, b, c) = (high >> 32, high >> 16 & 0xffff, high & 0xffff);
    format!("{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", low >> 48, low & 0xffff_ffff_ffff)
}

#[test]
fn addresses_are_uniform() {
    let names = ["anna", "ben", "chen", "dora", "emre"];
    let mails = (0..100_000).map(|n| format!("{}.{n}@example{}.com", names[n % 5], n % 7));
    assert_units_are_uniform("e-mails", &mails.collect::<Vec<_>>());
}

#[test]
fn single_characters_are_uniform() {
    let all: Vec<String> = ('\0'..=char::MAX).map(String::from).collect();
    assert_eq!(all.len(), 1_112_064, "every character that exists");
    for salt in ["new-checkout", "a"] {
        let mut cells = [0_u32; 1_000];
        for unit in &all {
            cells[Point::of(Seed::of(salt), unit).0 as usize / 1_000] += 1;
        }
        assert_uniform(&cells, &format!("characters under {salt}"));
    }
}

#[test]
fn long_common_prefixes_are_uniform() {
    for length in [15, 120, 237, 1_000] {
        let prefix = "p".repeat(length);
        let units: Vec<String> = (0..40_000).map(|n| format!("{prefix}{n}")).collect();
        assert_units_are_uniform(&format!("a prefix of {length}"), &units);
    }
}

#[test]
fn other_scripts_are_uniform() {
    let units: Vec<String> = (0..100_000).map(|n| format!("ü日{n}😀e\u{301}")).collect();
    assert_units_are_uniform("non-ASCII", &units);
}

/// Under two salts the pair of tenths that a unit falls into is one of 100, all equally likely.
fn assert_independent(one: &str, other: &str, first: u32) {
    let (a, b) = (Seed::of(one), Seed::of(other));
    let mut table = [0_u32; 100];
    for n in first..first + 20_000 {
        let unit = n.to_string();
        let tenth = |seed| Point::of(seed, &unit).0 as usize / 100_000;
        table[tenth(a) * 10 + tenth(b)] += 1;
    }
    assert_uniform(&table, &format!("{one} beside {other}"));
}

#[test]
fn flags_are_independent() {
    let mut chance = Chance(200);
    let words = ["checkout", "search", "dark-mode", "ranking", "payments", "beta", "v2", "mobile", "api"];
    let mut salt = || {
        let words = [words[chance.below(9) as usize], words[chance.below(9) as usize]];
        format!("{}-{}-{}", words[0], words[1], chance.below(1_000))
    };
    for pair in 0..200 {
        let (one, other) = (salt(), salt());
        assert_ne!(one, other);
        assert_independent(&one, &other, pair * 20_000);
    }
}

#[test]
fn salts_one_character_apart_are_independent() {
    for n in 0..20_u8 {
        let letter = char::from(b'a' + n);
        assert_independent(&format!("flag-{n}"), &format!("flag-{}", n + 1), 0);
        assert_independent(&letter.to_string(), &char::from(b'b' + n).to_string(), 0);
        assert_independent(&format!("new-checkou{letter}"), &format!("new-checkout{letter}"), 0);
        assert_independent(&format!("{letter}-flag"), &format!("{}-flag", letter.to_ascii_uppercase()), 0);
    }
}

#[test]
fn one_bit_of_a_unit_moves_every_bit_of_its_place() {
    // The upper half of the hash is scaled onto the line. With n samples the share of flips of one bit has the
    // standard deviation 1 / (2 sqrt n): 7 of them are 0.0111 at 100,000.
    const SAMPLES: u32 = 100_000;
    let allowed = SIGMAS * 0.5 / f64::from(SAMPLES).sqrt();
    let seed = Seed::of("new-checkout").0;
    // The algorithm changes at 16, 128 and 240 bytes, and at 4 and 8 within the shortest.
    let places = [
        (6, 0, 0),
        (8, 7, 6),
        (16, 0, 0),
        (16, 3, 1),
        (16, 7, 2),
        (16, 8, 0),
        (16, 15, 3),
        (17, 16, 4),
        (129, 64, 0),
        (241, 100, 5),
        (300, 0, 1),
    ];
    for (length, byte, bit) in places {
        let mut flips = [0_u32; 32];
        for n in 0..SAMPLES {
            let mut unit = format!("{n:0length$}").into_bytes();
            let before = xxh3_64_with_seed(&unit, seed);
            unit[byte] ^= 1 << bit;
            let changed = (before ^ xxh3_64_with_seed(&unit, seed)) >> 32;
            (0..32).for_each(|place| flips[place] += (changed >> place & 1) as u32);
        }
        for (place, count) in flips.iter().enumerate() {
            let share = f64::from(*count) / f64::from(SAMPLES);
            assert!(
                (share - 0.5).abs() < allowed,
                "bit {bit} of byte {byte} of {length} flips place {place} in {share}"
            );
        }
    }
}

#[test]
fn one_bit_of_a_salt_moves_every_unit() {
    let mut table = [0_u32; 100];
    for n in 0..50_000 {
        let mut salt = format!("salt-{n}").into_bytes();
        let tenth =
            |salt: &[u8]| Point::of(Seed::of(std::str::from_utf8(salt).unwrap()), "u").0 as usize / 100_000;
        let before = tenth(&salt);
        salt[4] ^= 1;
        table[before * 10 + tenth(&salt)] += 1;
    }
    assert_uniform(&table, "a bit of the salt");
}

#[test]
fn every_hash_has_a_point_and_every_point_has_hashes() {
    assert_eq!((Point::from_hash(0).0, Point::from_hash(u64::MAX).0), (0, LINE - 1));
    for point in 1..LINE {
        // The first upper half that reaches this point; the one before it belongs to the point before.
        let first = ((u64::from(point) << 32).div_ceil(u64::from(LINE))) << 32;
        assert_eq!((Point::from_hash(first).0, Point::from_hash(first - 1).0), (point, point - 1));
    }
}

fn snapshot(definitions: &str) -> Snapshot {
    let mut state = State::empty(EnvironmentName::new("default").unwrap(), Epoch::default());
    let author = Author { actor: "a".into(), reason: None, now: Timestamp::default() };
    let put = Edit::Put { file: definitions.to_owned(), mode: PutMode::Create };
    let delta = state.delta(edit::plan(&state, &put, &author).unwrap().writes);
    state.apply(&delta).unwrap();
    Snapshot::build(&state, &BTreeMap::new())
}

#[test]
fn the_edges_are_exact() {
    // Found by search: under the salt `edge` these units have the first two and the last two points of the line.
    let units = [("edge-24106", 0), ("edge-188057", 1), ("edge-777282", 999_998), ("edge-3816613", 999_999)];
    let shares = [
        ("0", 0),
        ("0.0001", 1),
        ("0.0002", 2),
        ("99.9998", 999_998),
        ("99.9999", 999_999),
        ("100", 1_000_000),
    ];
    for (share, ppm) in shares {
        let snapshot = snapshot(&format!(r#"{{"flags": {{"f": {{"rollout": {share}, "salt": "edge"}}}}}}"#));
        for (unit, point) in units {
            assert_eq!(Point::of(Seed::of("edge"), unit).0, point, "{unit}");
            let answer = snapshot.evaluate("f", &Context::new(unit), Timestamp::default());
            assert_eq!(answer.variant, Some(if point < ppm { "on" } else { "off" }), "{unit} at {share} %");
        }
        let nobody = snapshot.evaluate("f", &Context::anonymous(), Timestamp::default());
        assert_eq!(nobody.variant, Some(if ppm == LINE { "on" } else { "off" }), "no unit at {share} %");
    }
}

fn name(text: &str) -> VariantName {
    VariantName::new(text).unwrap()
}

#[test]
fn a_ramp_only_adds_over_every_edge() {
    let (on, off) = (name("on"), name("off"));
    let shares = |ppm: u32| BTreeMap::from([(on.clone(), Ppm(ppm)), (off.clone(), Ppm(LINE - ppm))]);
    let mut line = split::lay(&shares(0), &off);
    // Every edge is passed in steps of 1 to 13 points; a share below an edge is one stretch from the beginning.
    let mut chance = Chance(13);
    let mut ppm = 0;
    while ppm < LINE {
        ppm = LINE.min(ppm + 1 + chance.below(13));
        line = split::reweigh(&line, &shares(ppm), &off);
        assert_eq!((&line[0].variant, line[0].length), (&on, Ppm(ppm)), "nobody fell out at {ppm}");
    }
    assert_eq!(line.len(), 1);
}

#[test]
fn who_is_in_stays_in_while_the_share_rises() {
    let flags: Vec<String> = (0..=200)
        .map(|step| format!(r#""f{step}": {{"rollout": {}.{}, "salt": "ramp"}}"#, step / 2, step % 2 * 5))
        .collect();
    let snapshot = snapshot(&format!(r#"{{"flags": {{{}}}}}"#, flags.join(",")));
    for unit in 0..1_000 {
        let context = Context::new(format!("user-{unit}"));
        let is_in = |step: usize| {
            let answer = snapshot.evaluate(&format!("f{step}"), &context, Timestamp::default());
            answer.variant == Some("on")
        };
        let first = (0..=200).find(|step| is_in(*step)).expect("everybody is in at 100 %");
        assert!(first > 0, "nobody is in at 0 %");
        assert!((first..=200).all(is_in), "{unit} came in at step {first} and fell out");
    }
}

/// Shares of up to `arms` variants, some of them 0.
fn any_shares(chance: &mut Chance, arms: u32) -> BTreeMap<VariantName, Ppm> {
    let mut cuts: Vec<u32> = (1..arms).map(|_| chance.below(LINE + 1)).collect();
    cuts.push(LINE);
    cuts.sort_unstable();
    let mut start = 0;
    let lengths = cuts.into_iter().map(|end| Ppm(end - std::mem::replace(&mut start, end)));
    lengths.enumerate().map(|(n, length)| (name(&format!("v{n:02}")), length)).collect()
}

/// Who owns each part of the line between two cuts of either layout.
fn owners<'s>(before: &'s [Stretch], after: &'s [Stretch]) -> Vec<(u32, &'s VariantName, &'s VariantName)> {
    let ends = |line: &'s [Stretch]| -> Vec<(u32, &'s VariantName)> {
        let mut end = 0;
        line.iter()
            .map(|stretch| {
                end += stretch.length.0;
                (end, &stretch.variant)
            })
            .collect()
    };
    let (before, after) = (ends(before), ends(after));
    let mut cuts: Vec<u32> = before.iter().chain(&after).map(|(end, _)| *end).collect();
    cuts.sort_unstable();
    let mut start = 0;
    let owner = |line: &[(u32, &'s VariantName)], point| line.iter().find(|(end, _)| point < *end).unwrap().1;
    let mut found = Vec::new();
    for cut in cuts {
        if cut > start {
            found.push((cut - start, owner(&before, start), owner(&after, start)));
            start = cut;
        }
    }
    found
}

#[test]
fn reweighing_moves_the_minimum() {
    let mut chance = Chance(20);
    for round in 0..300 {
        let off = name(&format!("v{:02}", chance.below(20)));
        let arms = 1 + chance.below(20);
        let mut had = any_shares(&mut chance, arms);
        let mut line = split::lay(&had, &off);
        for step in 0..5 {
            let arms = 1 + chance.below(20);
            let wanted = any_shares(&mut chance, arms);
            let after = split::reweigh(&line, &wanted, &off);
            let share =
                |of: &BTreeMap<VariantName, Ppm>, name: &VariantName| of.get(name).map_or(0, |ppm| ppm.0);
            let all: std::collections::BTreeSet<&VariantName> = had.keys().chain(wanted.keys()).collect();
            let mut moved = 0;
            for (length, from, to) in owners(&line, &after) {
                if from != to {
                    moved += length;
                    assert!(
                        share(&wanted, from) < share(&had, from),
                        "{round}.{step}: {from} does not shrink"
                    );
                    assert!(share(&wanted, to) > share(&had, to), "{round}.{step}: {to} does not grow");
                }
            }
            // Whatever is gained has to move, so the sum of the gains is the minimum.
            let gains: u32 =
                all.iter().map(|name| share(&wanted, name).saturating_sub(share(&had, name))).sum();
            assert_eq!(moved, gains, "{round}.{step}");
            let laid = split::shares(&after);
            assert!(all.iter().all(|name| share(&laid, name) == share(&wanted, name)), "{round}.{step}");
            (line, had) = (after, wanted);
        }
    }
}
