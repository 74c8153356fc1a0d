//! A split as it runs: who owns which stretch of the line.
//!
//! Most splits have a handful of arms; those lie in the split itself, packed into four bytes each, and all of them
//! are looked at together. This file does not know what a variant serves, nor where points come from.

use std::hint::black_box;

use crate::split::Point;

use super::condition::Path;

/// A line with at least two owners.
#[derive(Debug)]
pub(super) struct Split {
    /// The arms, if they are so few; they lie here, not behind a pointer. The places left over lie past the line.
    few: [PackedArm; FEW],
    /// What most splits do not have.
    more: Option<Box<MoreSplit>>,
}

#[derive(Debug, Default)]
struct MoreSplit {
    by: Option<Path>,
    /// All arms, when they are many.
    arms: Box<[Arm]>,
}

/// A stretch of the line, up to (not with) its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arm {
    pub(super) end: Point,
    pub(super) variant: u32,
}

/// How many arms lie in a split itself.
const FEW: usize = 6;

/// An arm in four bytes: its end, then its variant in the lowest byte.
#[derive(Clone, Copy, Debug)]
struct PackedArm(u32);

impl PackedArm {
    const VARIANT_BITS: u32 = 8;
    /// Past the line, where no point is.
    const NOWHERE: PackedArm = PackedArm(u32::MAX);

    /// `None` for a variant whose number does not fit.
    fn of(arm: Arm) -> Option<PackedArm> {
        let variant = u8::try_from(arm.variant).ok()?;
        Some(PackedArm(arm.end.0 << Self::VARIANT_BITS | u32::from(variant)))
    }

    fn arm(self) -> Arm {
        Arm { end: Point(self.0 >> Self::VARIANT_BITS), variant: self.variant() }
    }

    #[inline]
    fn variant(self) -> u32 {
        self.0 & ((1 << Self::VARIANT_BITS) - 1)
    }
}

impl Split {
    /// A split of these arms, which end with the line.
    pub(super) fn of(arms: Vec<Arm>, by: Option<&str>) -> Split {
        let mut few = [PackedArm::NOWHERE; FEW];
        let packed: Option<Vec<PackedArm>> = arms.iter().map(|arm| PackedArm::of(*arm)).collect();
        let has_few = match packed.filter(|packed| packed.len() <= FEW) {
            Some(packed) => {
                few.iter_mut().zip(packed).for_each(|(place, arm)| *place = arm);
                true
            }
            None => false,
        };
        let more =
            MoreSplit { by: by.map(Path::of), arms: if has_few { Box::default() } else { arms.into() } };
        Split { few, more: (more.by.is_some() || !has_few).then(|| Box::new(more)) }
    }

    /// The attribute whose value is the unit, if it is not the targeting key.
    #[inline]
    pub(super) fn by(&self) -> Option<&Path> {
        self.more.as_ref()?.by.as_ref()
    }

    /// Who owns a point. Chance is what no branch predictor can learn, and a wrong guess throws away what the
    /// processor has already done of the next evaluations, which costs more than the whole hash. So the arms that
    /// lie before the point are counted.
    #[inline]
    pub(super) fn owner(&self, point: Point) -> u32 {
        let past = (point.0 + 1) << PackedArm::VARIANT_BITS;
        let before: usize = self.few.iter().map(|arm| usize::from(arm.0 < past)).sum();
        match self.few.get(black_box(before)) {
            Some(arm) if arm.0 != PackedArm::NOWHERE.0 => arm.variant(),
            _ => self.owner_of_many(point),
        }
    }

    #[inline(never)]
    fn owner_of_many(&self, point: Point) -> u32 {
        let arms = self.more.as_ref().map(|more| &*more.arms).unwrap_or_default();
        arms.get(arms.partition_point(|arm| arm.end <= point)).map_or(u32::MAX, |arm| arm.variant)
    }

    /// The arms.
    pub(super) fn arms(&self) -> Vec<Arm> {
        match &self.more {
            Some(more) if !more.arms.is_empty() => more.arms.to_vec(),
            _ => {
                let is_there = |arm: &&PackedArm| arm.0 != PackedArm::NOWHERE.0;
                self.few.iter().take_while(is_there).map(|arm| arm.arm()).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::LINE;

    #[test]
    fn few_and_many_arms_own_what_they_say() {
        for count in [2, 3, FEW, FEW + 1, 40, 300] {
            let length = LINE / u32::try_from(count).unwrap();
            let mut arms: Vec<Arm> =
                (1_u32..).take(count).map(|n| Arm { end: Point(n * length), variant: 300 - n }).collect();
            arms[count - 1].end = Point(LINE);
            for arms in
                [arms.clone(), arms.iter().map(|arm| Arm { variant: arm.variant % 100, ..*arm }).collect()]
            {
                let split = Split::of(arms.clone(), None);
                assert_eq!(split.arms(), arms, "{count}");
                let mut start = 0;
                for arm in &arms {
                    for point in [start, start + 1, arm.end.0 - 1] {
                        assert_eq!(split.owner(Point(point)), arm.variant, "{count} arms, point {point}");
                    }
                    start = arm.end.0;
                }
            }
        }
    }

    #[test]
    fn the_unit_is_named_with_few_and_with_many_arms() {
        let arms =
            |count: u32| (1..=count).map(|n| Arm { end: Point(LINE / count * n), variant: n }).collect();
        for count in [2, 20] {
            assert_eq!(Split::of(arms(count), Some("company")).by().unwrap().as_str(), "company");
            assert!(Split::of(arms(count), None).by().is_none());
        }
    }
}
