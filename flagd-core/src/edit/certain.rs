//! What can be told of a condition without a context: that it always holds, or never.
//!
//! Only what follows from its form and from the time is told; everything else depends.

use super::view::View;
use crate::check::Definitions;
use crate::definition::Condition;
use crate::limits::SEGMENT_DEPTH_MAX;
use crate::time::Timestamp;

/// What is known of a condition from `now` on, as long as time windows do not open or close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Certain {
    Always,
    Never,
    Depends,
}

impl Certain {
    fn not(self) -> Certain {
        match self {
            Certain::Always => Certain::Never,
            Certain::Never => Certain::Always,
            Certain::Depends => Certain::Depends,
        }
    }
}

/// What is known of a condition.
pub(super) fn certain(view: &View<'_>, condition: &Condition, now: Timestamp) -> Certain {
    certain_to(view, condition, now, 0)
}

fn certain_to(view: &View<'_>, condition: &Condition, now: Timestamp, depth: usize) -> Certain {
    let each = |list: &[Condition], decides: Certain| {
        let mut all_same = true;
        for condition in list {
            let one = certain_to(view, condition, now, depth);
            if one == decides {
                return decides;
            }
            all_same &= one == decides.not();
        }
        if all_same { decides.not() } else { Certain::Depends }
    };
    match condition {
        Condition::All(list) => each(list, Certain::Never),
        Condition::Any(list) => each(list, Certain::Always),
        Condition::Not(inner) => certain_to(view, inner, now, depth).not(),
        Condition::Time { before: Some(end), .. } if now >= *end => Certain::Never,
        // One that has begun and never ends; any other window opens or closes some day.
        Condition::Time { after: Some(start), before: None } if now >= *start => Certain::Always,
        Condition::Segment(key) => match view.segment(key) {
            Some(segment) if depth <= SEGMENT_DEPTH_MAX => {
                let rest = match &segment.condition {
                    Some(inner) => certain_to(view, inner, now, depth + 1),
                    None => Certain::Never,
                };
                match rest {
                    Certain::Always if segment.exclude.is_empty() => Certain::Always,
                    Certain::Never if segment.include.is_empty() => Certain::Never,
                    _ => Certain::Depends,
                }
            }
            _ => Certain::Depends,
        },
        Condition::Time { .. } | Condition::Attribute { .. } => Certain::Depends,
    }
}
