//! Follows references from name to name: finds circles and chains that are too long.
//!
//! Walks each name once, with a stack of its own, because a file of 100,000 flags may hold one chain of
//! 100,000. This file does not know what the names are.

use std::collections::BTreeMap;

use crate::limits;

/// Something wrong with how names lead to one another.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chain<'k, K> {
    /// The names in order; the first is repeated at the end.
    Cycle(Vec<&'k K>),
    /// The names in order, one step more than is allowed.
    TooLong(Vec<&'k K>),
}

enum Mark<'k, K> {
    /// On the way that is being walked.
    Open,
    /// Walked: the number of steps ahead, the next name on the longest way, and whether any name on any way
    /// is one of those asked about.
    Done { steps: usize, next: Option<&'k K>, concerned: bool },
}

struct Frame<'k, K> {
    key: &'k K,
    ahead: Vec<&'k K>,
    steps: usize,
    next: Option<&'k K>,
    concerned: bool,
}

/// Walks from every start and reports what goes through a name for which `asked` holds: each circle once, and
/// of the chains with more than `max` steps those that are just too long.
pub(super) fn chains<'k, K: Ord>(
    starts: impl Iterator<Item = &'k K>,
    ahead: impl Fn(&'k K) -> Vec<&'k K>,
    asked: impl Fn(&'k K) -> bool,
    max: usize,
) -> Vec<Chain<'k, K>> {
    let mut found = Vec::new();
    let mut marks: BTreeMap<&'k K, Mark<'k, K>> = BTreeMap::new();
    let open = |key: &'k K| Frame { key, ahead: ahead(key), steps: 0, next: None, concerned: asked(key) };
    for start in starts {
        // Enough to mend; looking for more of them could take very long in a thicket of circles.
        if found.len() >= limits::PROBLEMS_MAX {
            break;
        }
        if marks.contains_key(start) {
            continue;
        }
        marks.insert(start, Mark::Open);
        let mut way = vec![open(start)];
        while let Some(mut frame) = way.pop() {
            let Some(key) = frame.ahead.pop() else {
                let Frame { key, steps, next, concerned, .. } = frame;
                marks.insert(key, Mark::Done { steps, next, concerned });
                if steps == max + 1 && concerned {
                    found.push(Chain::TooLong(longest(key, &marks)));
                }
                if let Some(before) = way.last_mut() {
                    before.arrive(key, steps, concerned);
                }
                continue;
            };
            if let Some(Mark::Done { steps, concerned, .. }) = marks.get(key) {
                frame.arrive(key, *steps, *concerned);
            }
            way.push(frame);
            match marks.get(key) {
                Some(Mark::Open) if found.len() >= limits::PROBLEMS_MAX => {}
                Some(Mark::Open) => {
                    let begin = way.iter().position(|frame| frame.key == key).unwrap_or(0);
                    let mut circle: Vec<&K> = way.iter().skip(begin).map(|frame| frame.key).collect();
                    rotate_to(&mut circle, &asked);
                    circle.extend(circle.first().copied());
                    found.push(Chain::Cycle(circle));
                }
                Some(Mark::Done { .. }) => {}
                None => {
                    marks.insert(key, Mark::Open);
                    way.push(open(key));
                }
            }
        }
    }
    found
}

impl<'k, K> Frame<'k, K> {
    /// Takes note of what lies behind a name ahead.
    fn arrive(&mut self, key: &'k K, steps: usize, concerned: bool) {
        self.concerned |= concerned;
        if steps + 1 > self.steps {
            self.steps = steps + 1;
            self.next = Some(key);
        }
    }
}

/// The longest way from a walked name.
fn longest<'k, K: Ord>(start: &'k K, marks: &BTreeMap<&'k K, Mark<'k, K>>) -> Vec<&'k K> {
    let mut way = vec![start];
    let mut key = start;
    while let Some(Mark::Done { next: Some(next), .. }) = marks.get(key) {
        way.push(next);
        key = next;
    }
    way
}

/// Lets a circle begin at a name that was asked about, so that the problem is told where it can be mended.
fn rotate_to<'k, K>(circle: &mut [&'k K], asked: &impl Fn(&'k K) -> bool) {
    if let Some(first) = circle.iter().position(|key| asked(key)) {
        circle.rotate_left(first);
    }
}
