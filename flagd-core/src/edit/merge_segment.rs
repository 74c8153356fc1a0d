//! The three-way merge of one segment: its lists unit by unit, everything else field by field.

use std::collections::BTreeSet;

use super::FieldDrift;
use super::apply::units_text;
use super::merge::{Decision, Merge, Three, decide, merge_about};
use crate::definition::{SegmentDefinition, SegmentList, Units};

/// Merges a segment whose lists are whole.
pub(super) fn merge_segment(three: Three<'_, SegmentDefinition>, merge: &mut Merge<'_>) -> SegmentDefinition {
    SegmentDefinition {
        about: merge_about(&three.part(|segment| &segment.about), merge),
        by: merge.field("by", three.part(|segment| &segment.by)).clone(),
        include: merge_list(SegmentList::Include, three, merge),
        exclude: merge_list(SegmentList::Exclude, three, merge),
        condition: merge.field("if", three.part(|segment| &segment.condition)).clone(),
    }
}

/// A unit is on a list or it is not, so with a base there is never a conflict: whoever moved it wins.
fn merge_list(list: SegmentList, three: Three<'_, SegmentDefinition>, merge: &mut Merge<'_>) -> Units {
    let lists = three.part(|segment| {
        let units = segment.units(list).listed().iter();
        units.map(|unit| &**unit).collect::<BTreeSet<&str>>()
    });
    let mut kept: BTreeSet<&str> = lists.file.intersection(&lists.live).copied().collect();
    let mut told: [Told<'_>; 2] = [Told::default(), Told::default()];
    let [drift, conflict] = &mut told;
    for unit in lists.file.symmetric_difference(&lists.live) {
        let is_live = lists.live.contains(unit);
        let was = lists.base.as_ref().map(|base| base.contains(unit));
        let decision = decide(was.as_ref(), &!is_live, &is_live, |a, b| a == b, merge.take());
        let keep = match decision {
            Decision::File => !is_live,
            _ => is_live,
        };
        if keep {
            kept.insert(unit);
        }
        let told = match decision {
            Decision::Drift => &mut *drift,
            Decision::Conflict => &mut *conflict,
            Decision::File | Decision::Same => continue,
        };
        if is_live { told.only_live.push(unit) } else { told.only_file.push(unit) }
    }
    for (decision, told) in [Decision::Drift, Decision::Conflict].into_iter().zip(told) {
        for (file, live) in [(Vec::new(), told.only_live), (told.only_file, Vec::new())] {
            if file.is_empty() && live.is_empty() {
                continue;
            }
            let in_base = |unit: &&&str| lists.base.as_ref().is_some_and(|base| base.contains(**unit));
            let base = units_text(file.iter().chain(&live).filter(in_base).copied());
            let (file, live) = (units_text(file), units_text(live));
            let drift =
                FieldDrift { id: merge.id().clone(), field: list.member().to_owned(), base, file, live };
            merge.units(decision, drift);
        }
    }
    Units::Listed(kept.into_iter().map(Box::from).collect())
}

/// Units on which file and live state differ.
#[derive(Debug, Default)]
struct Told<'d> {
    only_live: Vec<&'d str>,
    only_file: Vec<&'d str>,
}
