//! Turns "20 % of users" into a yes or no that never flickers.
//!
//! A unit (usually a user id) is hashed once to a *point* on a line of [`LINE`] points. A split cuts the line
//! into *stretches*, each owned by a variant; the owner of the stretch that holds the point is served. Three
//! promises follow, and the tests hold us to them:
//!
//! * **Sticky.** The point depends only on the salt and the unit, so every process picks the same variant,
//!   today and next year.
//! * **Only-adding.** Changing shares moves as few units as possible: a variant that grows keeps all it has,
//!   and one that shrinks to 20 % and grows back to 50 % gets back the units it had.
//! * **Independent.** The salt seeds the hash, so two flags draw their units independently; two flags of one
//!   salt and disjoint stretches exclude each other.
//!
//! Arithmetic is on integers only: floating point is how two platforms come to disagree about one user.
//! This file knows nothing of rules, contexts or time.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

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
    pub fn of(salt: &str) -> Seed {
        Seed(xxh3_64(salt.as_bytes()))
    }

    /// The hash of a unit: `XXH3-64(unit as UTF-8, seed)`.
    #[must_use]
    #[inline]
    pub fn hash(self, unit: &str) -> u64 {
        xxh3_64_with_seed(unit.as_bytes(), self.0)
    }
}

/// Where a unit falls on the line: `0..LINE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point(pub u32);

impl Point {
    /// The point of a unit: `((XXH3-64(unit, seed) >> 32) * LINE) >> 32`.
    #[must_use]
    #[inline]
    pub fn of(seed: Seed, unit: &str) -> Point {
        Point::from_hash(seed.hash(unit))
    }

    /// Scales the upper half of a hash onto the line; a modulo would favour low points.
    #[must_use]
    #[inline]
    pub fn from_hash(hash: u64) -> Point {
        Point((((hash >> 32) * u64::from(LINE)) >> 32) as u32)
    }
}

/// The smallest upper half of a hash whose point is not below `point`; `None` for the end of the line, which no hash
/// reaches. So "the point of the hash is below `point`" and "the hash's upper half is below this" are one.
#[must_use]
pub fn upper_half(point: Point) -> Option<u32> {
    u32::try_from((u64::from(point.0) << 32).div_ceil(u64::from(LINE))).ok()
}

/// Lays shares on an empty line: variants in byte order of their names, the off variant last, empty shares left
/// out (but never all). The sum of `shares` is [`LINE`].
#[must_use]
pub fn lay(shares: &BTreeMap<VariantName, Ppm>, off_variant: &VariantName) -> Vec<Stretch> {
    let off = shares.iter().filter(|(name, _)| *name == off_variant);
    let others = shares.iter().filter(|(name, _)| *name != off_variant);
    let stretch = |(name, share): (&VariantName, &Ppm)| Stretch { variant: name.clone(), length: *share };
    join(others.chain(off).map(stretch).collect())
}

/// The shares that a list of stretches gives each variant.
#[must_use]
pub fn shares(stretches: &[Stretch]) -> BTreeMap<VariantName, Ppm> {
    let mut shares: BTreeMap<VariantName, Ppm> = BTreeMap::new();
    for stretch in stretches {
        let share = shares.entry(stretch.variant.clone()).or_default();
        share.0 = share.0.saturating_add(stretch.length.0);
    }
    shares
}

/// Changes shares moving as few units as possible. `wanted` sums to [`LINE`]; a variant that is not named gets
/// nothing. A growing variant only gains; a shrinking one lets go of its highest points first, the off variant
/// of its lowest, so that an on/off ramp stays one stretch each. What was let go is handed out in the order of
/// the line to the growing variants in byte order of their names, the off variant last. Neighbouring stretches
/// of one owner are joined.
#[must_use]
pub fn reweigh(
    old: &[Stretch],
    wanted: &BTreeMap<VariantName, Ppm>,
    off_variant: &VariantName,
) -> Vec<Stretch> {
    let before = shares(old);
    let share_in = |of: &BTreeMap<VariantName, Ppm>, name: &VariantName| of.get(name).map_or(0, |ppm| ppm.0);

    let mut pieces: Vec<Piece<'_>> =
        old.iter().map(|s| Piece { owner: Some(&s.variant), length: s.length.0 }).collect();
    for (name, had) in &before {
        let surplus = had.0.saturating_sub(share_in(wanted, name));
        let end = if name == off_variant { End::Lowest } else { End::Highest };
        pieces = let_go(pieces, name, surplus, end);
    }

    let (off, others): (Vec<_>, Vec<_>) = wanted.keys().partition(|name| *name == off_variant);
    let mut growing: Vec<(&VariantName, u32)> = others
        .into_iter()
        .chain(off)
        .map(|name| (name, share_in(wanted, name).saturating_sub(share_in(&before, name))))
        .filter(|(_, gain)| *gain > 0)
        .collect();
    growing.reverse();
    join(hand_out(pieces, growing, off_variant))
}

/// Joins neighbouring stretches of one owner and drops empty ones (a line is never left empty).
#[must_use]
pub fn join(stretches: Vec<Stretch>) -> Vec<Stretch> {
    let only = stretches.first().cloned();
    let mut joined: Vec<Stretch> = Vec::with_capacity(stretches.len());
    for stretch in stretches {
        match joined.last_mut() {
            _ if stretch.length.0 == 0 => {}
            Some(last) if last.variant == stretch.variant => {
                last.length.0 = last.length.0.saturating_add(stretch.length.0);
            }
            _ => joined.push(stretch),
        }
    }
    if joined.is_empty() {
        joined.extend(only);
    }
    joined
}

/// How much of the line passes from one owner to another between two layouts: `(from, to) -> ppm`, only where they differ.
#[must_use]
pub fn flows(before: &[Stretch], after: &[Stretch]) -> BTreeMap<(VariantName, VariantName), Ppm> {
    let mut flows: BTreeMap<(VariantName, VariantName), Ppm> = BTreeMap::new();
    let mut left = before.iter().map(|s| (&s.variant, s.length.0));
    let mut right = after.iter().map(|s| (&s.variant, s.length.0));
    let (mut from, mut to) = (left.next(), right.next());
    while let (Some((old, old_length)), Some((new, new_length))) = (from, to) {
        let common = old_length.min(new_length);
        if old != new && common > 0 {
            let flow = flows.entry((old.clone(), new.clone())).or_default();
            flow.0 = flow.0.saturating_add(common);
        }
        from = if old_length == common { left.next() } else { Some((old, old_length - common)) };
        to = if new_length == common { right.next() } else { Some((new, new_length - common)) };
    }
    flows
}

/// A part of the line while shares change: owned, or let go.
struct Piece<'a> {
    owner: Option<&'a VariantName>,
    length: u32,
}

/// Which of its points a shrinking variant lets go of first.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Lowest,
    Highest,
}

/// Frees `surplus` points of `name`, from the given end of what it owns.
fn let_go<'a>(pieces: Vec<Piece<'a>>, name: &VariantName, mut surplus: u32, end: End) -> Vec<Piece<'a>> {
    if surplus == 0 {
        return pieces;
    }
    // Walking from the end that is let go of; put back into the order of the line afterwards.
    let from_end: Box<dyn Iterator<Item = Piece<'a>>> = match end {
        End::Lowest => Box::new(pieces.into_iter()),
        End::Highest => Box::new(pieces.into_iter().rev()),
    };
    let mut walked = Vec::new();
    for piece in from_end {
        if piece.owner != Some(name) {
            walked.push(piece);
            continue;
        }
        let freed = piece.length.min(surplus);
        surplus -= freed;
        walked.push(Piece { owner: None, length: freed });
        walked.push(Piece { owner: piece.owner, length: piece.length - freed });
    }
    if end == End::Highest {
        walked.reverse();
    }
    walked
}

/// Gives the freed pieces, in the order of the line, to the growing variants, the last of the list first.
/// What nobody claims (only when the shares wanted do not sum up) goes to the off variant.
fn hand_out(
    pieces: Vec<Piece<'_>>,
    mut growing: Vec<(&VariantName, u32)>,
    off_variant: &VariantName,
) -> Vec<Stretch> {
    let mut stretches = Vec::with_capacity(pieces.len() + growing.len());
    let mut push = |name: &VariantName, length: u32| {
        stretches.push(Stretch { variant: name.clone(), length: Ppm(length) });
    };
    for Piece { owner, mut length } in pieces {
        if let Some(name) = owner {
            push(name, length);
            continue;
        }
        while length > 0 {
            let Some((name, gain)) = growing.last_mut() else {
                push(off_variant, length);
                break;
            };
            let given = length.min(*gain);
            push(name, given);
            length -= given;
            *gain -= given;
            if *gain == 0 {
                growing.pop();
            }
        }
    }
    stretches
}

#[cfg(test)]
mod tests;
