//! The short way to what a flag serves, for the flags that most programs have most of.
//!
//! A boolean flag with the usual two variants, without rules and requirements, is decided by a few bytes: the same
//! for everybody, or by the point of the targeting key. They fit into two words, so that a client may also keep
//! them where readers reach them without reaching the snapshot. A short way says what the long way would say, or
//! nothing. It does not know whose it is.

#![expect(
    clippy::inline_always,
    reason = "measured: left to itself the compiler makes calls of these, which cost a third"
)]

use crate::context::Context;
use crate::split::{Point, Seed, upper_half};

use super::compile::{Flag, Serve, Variants};

/// What decides a simple boolean flag, as two words. What it serves, it serves for the reason `Otherwise`.
///
/// The first word is the seed of a split. The second one says of what sort it is, what the two stretches serve, and
/// in its lower half where the first one ends: not as a point, but as the first upper half of a hash that lies
/// beyond, so that a hash need not be scaled to be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShortWay {
    seed: u64,
    rest: u64,
}

/// The same for everybody: what the first stretch serves.
const EVERYBODY: u64 = 1 << 32;
/// By the upper half of the targeting key's hash.
const SPLIT: u64 = 1 << 33;
/// What serves whoever lies past the first stretch; the bit above it, whoever lies in it.
const ABOVE_BIT: u32 = 34;
const BELOW_BIT: u32 = ABOVE_BIT + 1;

impl ShortWay {
    pub(super) fn of(flag: &Flag) -> ShortWay {
        if !flag.is_plain || !matches!(flag.variants, Variants::OnOff) {
            return ShortWay::default();
        }
        let is_on = |variant| flag.variants.get(variant).is_some_and(|variant| variant.value == true);
        match &flag.otherwise {
            Serve::Variant(variant) => ShortWay::everybody(is_on(*variant)),
            Serve::Split(split) if split.by().is_none() => match *split.arms() {
                [below, above] => {
                    ShortWay::split(flag.seed, below.end, is_on(below.variant), is_on(above.variant))
                }
                _ => ShortWay::default(),
            },
            Serve::Split(_) => ShortWay::default(),
        }
    }

    fn everybody(is_on: bool) -> ShortWay {
        ShortWay { seed: 0, rest: EVERYBODY | u64::from(is_on) << BELOW_BIT }
    }

    /// No short way where the first stretch is the whole line: that is no split.
    fn split(seed: Seed, end: Point, below: bool, above: bool) -> ShortWay {
        let Some(end) = upper_half(end) else { return ShortWay::default() };
        let serves = u64::from(below) << BELOW_BIT | u64::from(above) << ABOVE_BIT;
        ShortWay { seed: seed.0, rest: SPLIT | serves | u64::from(end) }
    }

    /// What the flag serves to everybody, if it is the same for all.
    #[inline(always)]
    pub(super) fn is_on_for_everybody(self) -> Option<bool> {
        (self.rest & EVERYBODY != 0).then_some(self.rest >> BELOW_BIT & 1 != 0)
    }

    /// What the flag serves; `None` says nothing, and the flag itself must be asked.
    #[inline(always)]
    #[must_use]
    pub fn is_on(self, context: &Context) -> Option<bool> {
        if self.rest & SPLIT == 0 {
            return self.is_on_for_everybody();
        }
        // Without a unit something else is served, for another reason.
        let hash = Seed(self.seed).hash(context.targeting_key()?);
        let is_below = hash >> 32 < self.rest & 0xffff_ffff;
        // A shift, not a branch: chance is what no branch predictor can learn.
        Some(self.rest >> (ABOVE_BIT + u32::from(is_below)) & 1 != 0)
    }

    /// The two words.
    #[must_use]
    pub fn to_words(self) -> [u64; 2] {
        [self.seed, self.rest]
    }

    /// What [`ShortWay::to_words`] gave.
    #[inline]
    #[must_use]
    pub fn from_words([seed, rest]: [u64; 2]) -> ShortWay {
        ShortWay { seed, rest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::LINE;

    #[test]
    fn a_short_way_serves_what_the_points_say() {
        let user = Context::new("user-1");
        let nobody = Context::anonymous();
        for salt in 0..500 {
            let seed = Seed::of(&format!("salt-{salt}"));
            let point = Point::of(seed, "user-1");
            for end in [0, 1, point.0, point.0 + 1, LINE / 2, LINE - 1].map(Point) {
                for (below, above) in [(false, false), (false, true), (true, false), (true, true)] {
                    let way = ShortWay::split(seed, end, below, above);
                    assert_eq!(ShortWay::from_words(way.to_words()), way);
                    assert_eq!(
                        way.is_on(&user),
                        Some(if point < end { below } else { above }),
                        "{salt}, {end:?}"
                    );
                    assert_eq!(way.is_on(&nobody), None);
                }
            }
        }
        for is_on in [false, true] {
            assert_eq!(ShortWay::everybody(is_on).is_on(&nobody), Some(is_on));
        }
        assert_eq!(ShortWay::default().is_on(&user), None);
        assert_eq!(ShortWay::split(Seed(7), Point(LINE), true, false), ShortWay::default());
    }
}
