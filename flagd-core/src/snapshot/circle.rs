//! Finds definitions that use themselves by way of others.
//!
//! Circles may share members, so what is found are *knots*: the largest sets in which each reaches each. There is
//! one answer whatever the order in which one looks, which matters because who is refused depends on it. Walks
//! without recursion and looks at each definition once (Tarjan's way): forged references may form long chains and
//! dense nets. What uses what is the caller's knowledge.

use std::collections::{HashMap, HashSet};

use crate::entry::EntryId;

/// The knots that can be reached from `starts`; a definition that uses itself is one.
pub(super) fn knots<'a>(
    starts: impl Iterator<Item = &'a EntryId>,
    uses_of: impl Fn(&EntryId) -> Vec<EntryId>,
) -> Vec<Vec<EntryId>> {
    let mut walk = Walk::default();
    for start in starts {
        let needs = uses_of(start);
        if needs.is_empty() || walk.numbers.contains_key(start) {
            continue;
        }
        walk.enter(start.clone(), needs);
        while let Some(step) = walk.path.last_mut() {
            let Some(next) = step.rest.pop() else {
                walk.leave();
                continue;
            };
            match walk.numbers.get(&next) {
                None => {
                    let below = uses_of(&next);
                    walk.enter(next, below);
                }
                Some(number) if walk.open_ids.contains(&next) => {
                    step.lowest = step.lowest.min(*number);
                    step.uses_itself |= step.id == next;
                }
                Some(_) => {}
            }
        }
    }
    walk.found
}

/// One definition on the way from the start.
struct Step {
    id: EntryId,
    /// What it uses and was not looked at yet.
    rest: Vec<EntryId>,
    number: usize,
    /// The lowest number that is reached from here and whose knot is not complete.
    lowest: usize,
    uses_itself: bool,
}

#[derive(Default)]
struct Walk {
    path: Vec<Step>,
    /// In which order the definitions were entered.
    numbers: HashMap<EntryId, usize>,
    /// Entered, and not yet known to belong to a complete knot.
    open: Vec<EntryId>,
    open_ids: HashSet<EntryId>,
    found: Vec<Vec<EntryId>>,
}

impl Walk {
    fn enter(&mut self, id: EntryId, uses: Vec<EntryId>) {
        let number = self.numbers.len();
        self.numbers.insert(id.clone(), number);
        self.open.push(id.clone());
        self.open_ids.insert(id.clone());
        self.path.push(Step { id, rest: uses, number, lowest: number, uses_itself: false });
    }

    fn leave(&mut self) {
        let Some(step) = self.path.pop() else { return };
        if let Some(above) = self.path.last_mut() {
            above.lowest = above.lowest.min(step.lowest);
        }
        if step.lowest < step.number {
            return;
        }
        let first = self.open.iter().rposition(|id| *id == step.id).unwrap_or_default();
        let knot = self.open.split_off(first);
        for id in &knot {
            self.open_ids.remove(id);
        }
        if knot.len() > 1 || step.uses_itself {
            self.found.push(knot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::EntryKind;

    /// Who uses whom.
    type Edges = &'static [(u32, u32)];

    #[test]
    fn knots_are_found_and_chains_are_not() {
        let id = |n: u32| EntryId::new(EntryKind::FLAG, &n.to_string());
        let cases: &[(&str, Edges, &[&[u32]])] = &[
            ("nothing", &[], &[]),
            ("a chain", &[(0, 1), (1, 2), (2, 3)], &[]),
            ("a diamond", &[(0, 1), (0, 2), (1, 3), (2, 3)], &[]),
            ("itself", &[(0, 0)], &[&[0]]),
            ("two", &[(0, 1), (1, 0)], &[&[0, 1]]),
            ("behind a chain", &[(0, 1), (1, 2), (2, 3), (3, 1)], &[&[1, 2, 3]]),
            ("two apart", &[(0, 1), (1, 0), (2, 3), (3, 2)], &[&[0, 1], &[2, 3]]),
            ("one uses the other", &[(0, 1), (1, 0), (1, 2), (2, 3), (3, 2)], &[&[2, 3], &[0, 1]]),
            ("a shared member", &[(0, 1), (1, 0), (1, 2), (2, 1), (3, 0)], &[&[0, 1, 2]]),
            ("a short and a long way", &[(0, 1), (0, 3), (1, 2), (2, 0), (3, 2)], &[&[0, 1, 2, 3]]),
        ];
        for (name, edges, want) in cases {
            let ids: Vec<EntryId> = (0..4).map(id).collect();
            let uses_of =
                |of: &EntryId| edges.iter().filter(|(a, _)| id(*a) == *of).map(|(_, b)| id(*b)).collect();
            let want: Vec<Vec<EntryId>> =
                want.iter().map(|list| list.iter().map(|n| id(*n)).collect()).collect();
            let sorted = |mut knots: Vec<Vec<EntryId>>| {
                for knot in &mut knots {
                    knot.sort();
                }
                knots
            };
            let found = sorted(knots(ids.iter(), uses_of));
            assert_eq!(found, want, "{name}");
            let backwards = sorted(knots(ids.iter().rev(), uses_of));
            let all_found = backwards.iter().all(|knot| found.contains(knot));
            assert!(found.len() == backwards.len() && all_found, "{name}");
        }
    }

    #[test]
    fn a_chain_of_a_hundred_thousand_needs_no_stack() {
        let next = |id: &EntryId| {
            let n: u32 = id.key.parse().unwrap();
            if n < 100_000 { vec![EntryId::new(EntryKind::FLAG, &(n + 1).to_string())] } else { vec![] }
        };
        assert!(knots([EntryId::new(EntryKind::FLAG, "0")].iter(), next).is_empty());
    }
}
