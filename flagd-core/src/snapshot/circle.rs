//! Finds definitions that use themselves by way of others.
//!
//! Walks without recursion and looks at each definition once: forged references may form long chains and
//! dense nets. What uses what is the caller's knowledge.

use std::collections::HashSet;

use crate::entry::EntryId;

/// Some of the circles that can be reached from `starts`: at least one if there is any.
pub(super) fn circles<'a>(
    starts: impl Iterator<Item = &'a EntryId>,
    uses_of: impl Fn(&EntryId) -> Vec<EntryId>,
) -> Vec<Vec<EntryId>> {
    let mut found = Vec::new();
    let mut done: HashSet<EntryId> = HashSet::new();
    for start in starts.filter(|start| !uses_of(start).is_empty()) {
        if done.contains(start) {
            continue;
        }
        let mut path: Vec<(EntryId, Vec<EntryId>)> = vec![(start.clone(), uses_of(start))];
        let mut on_path: HashSet<EntryId> = HashSet::from([start.clone()]);
        while let Some((id, rest)) = path.last_mut() {
            let Some(used) = rest.pop() else {
                on_path.remove(id);
                done.insert(id.clone());
                path.pop();
                continue;
            };
            if on_path.contains(&used) {
                let circle = path.iter().map(|(id, _)| id).skip_while(|id| **id != used);
                found.push(circle.cloned().collect());
            } else if !done.contains(&used) {
                on_path.insert(used.clone());
                let below = uses_of(&used);
                path.push((used, below));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::EntryKind;

    /// Who uses whom.
    type Edges = &'static [(u32, u32)];

    #[test]
    fn circles_are_found_and_chains_are_not() {
        let id = |n: u32| EntryId::new(EntryKind::FLAG, &n.to_string());
        let cases: &[(&str, Edges, &[&[u32]])] = &[
            ("nothing", &[], &[]),
            ("a chain", &[(0, 1), (1, 2), (2, 3)], &[]),
            ("a diamond", &[(0, 1), (0, 2), (1, 3), (2, 3)], &[]),
            ("itself", &[(0, 0)], &[&[0]]),
            ("two", &[(0, 1), (1, 0)], &[&[0, 1]]),
            ("behind a chain", &[(0, 1), (1, 2), (2, 3), (3, 1)], &[&[1, 2, 3]]),
            ("two apart", &[(0, 1), (1, 0), (2, 3), (3, 2)], &[&[0, 1], &[2, 3]]),
        ];
        for (name, edges, want) in cases {
            let ids: Vec<EntryId> = (0..4).map(id).collect();
            let uses_of =
                |of: &EntryId| edges.iter().filter(|(a, _)| id(*a) == *of).map(|(_, b)| id(*b)).collect();
            let want: Vec<Vec<EntryId>> =
                want.iter().map(|list| list.iter().map(|n| id(*n)).collect()).collect();
            assert_eq!(circles(ids.iter(), uses_of), want, "{name}");
        }
    }

    #[test]
    fn a_chain_of_a_hundred_thousand_needs_no_stack() {
        let next = |id: &EntryId| {
            let n: u32 = id.key.parse().unwrap();
            if n < 100_000 { vec![EntryId::new(EntryKind::FLAG, &(n + 1).to_string())] } else { vec![] }
        };
        assert!(circles([EntryId::new(EntryKind::FLAG, "0")].iter(), next).is_empty());
    }
}
