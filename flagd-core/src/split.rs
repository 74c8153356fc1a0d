//! Turns "20 % of users" into a yes or no that never flickers. (placeholder: owned by core B)
use std::collections::BTreeMap;

use crate::definition::{Ppm, Stretch};
use crate::key::VariantName;

/// Points on the line. One point is one part in a million.
pub const LINE: u32 = 1_000_000;

/// What is hashed into every unit's point: `XXH3-64(salt as UTF-8, seed 0)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// The seed of a salt.
    #[must_use]
    pub fn of(_salt: &str) -> Seed {
        todo!()
    }
}

/// Where a unit falls on the line: `0..LINE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point(pub u32);

impl Point {
    /// The point of a unit: `((XXH3-64(unit, seed) >> 32) * LINE) >> 32`.
    #[must_use]
    pub fn of(_seed: Seed, _unit: &str) -> Point {
        todo!()
    }
}

/// Lays shares on an empty line: variants in byte order of their names, the off variant last, empty shares left
/// out (but never all). The sum of `shares` is [`LINE`].
#[must_use]
pub fn lay(_shares: &BTreeMap<VariantName, Ppm>, _off_variant: &VariantName) -> Vec<Stretch> {
    todo!()
}

/// The shares that a list of stretches gives each variant.
#[must_use]
pub fn shares(_stretches: &[Stretch]) -> BTreeMap<VariantName, Ppm> {
    todo!()
}

/// Changes shares moving as few units as possible. `wanted` sums to [`LINE`]; a variant that is not named gets
/// nothing. A growing variant only gains; a shrinking one lets go of its highest points first, the off variant
/// of its lowest, so that an on/off ramp stays one stretch each. Neighbouring stretches of one owner are joined.
#[must_use]
pub fn reweigh(
    _old: &[Stretch],
    _wanted: &BTreeMap<VariantName, Ppm>,
    _off_variant: &VariantName,
) -> Vec<Stretch> {
    todo!()
}

/// Joins neighbouring stretches of one owner and drops empty ones (a line is never left empty).
#[must_use]
pub fn join(_stretches: Vec<Stretch>) -> Vec<Stretch> {
    todo!()
}

/// How much of the line passes from one owner to another between two layouts: `(from, to) -> ppm`, only where they differ.
#[must_use]
pub fn flows(_before: &[Stretch], _after: &[Stretch]) -> BTreeMap<(VariantName, VariantName), Ppm> {
    todo!()
}
