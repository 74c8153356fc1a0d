//! Many servers' accounts of their clients become one. Pure; docs/protocol.md, "Servers among themselves", is normative.
//!
//! A client is known by its instance, and its connect counter says which account of it is the newest: a client that was
//! cut off from one server and turned up at another is told by both. Where nobody can tell, it is lost, never
//! applied.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::relays::RelaySighting;
use super::standing::Report;
use crate::store::log::RosterEntry;

/// A client as one server knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sighting {
    /// Who it is.
    pub(crate) known: RosterEntry,
    /// What it said last; `None` when only the store remembers it, or when the server that knew cannot be asked.
    pub(crate) report: Option<Report>,
    /// Whether it is connected now.
    pub(crate) connected: bool,
    /// From where; empty when it is not connected.
    pub(crate) address: String,
    /// The name of the server that tells this.
    pub(crate) server: String,
}

impl Sighting {
    /// The same when the server that told it cannot be asked any more: who was there is lost until somebody else has
    /// seen it.
    pub(crate) fn out_of_sight(self) -> Sighting {
        Sighting { report: None, connected: false, address: String::new(), ..self }
    }
}

/// What all servers together know.
#[derive(Clone, Debug, Default)]
pub(crate) struct Merged {
    /// Each client once.
    pub(crate) clients: Vec<Sighting>,
    /// Each relay once.
    pub(crate) relays: Vec<RelaySighting>,
    /// The servers that are there and did not answer.
    pub(crate) unanswered: Vec<String>,
}

/// Each client once, by its newest account.
pub(crate) fn merge(accounts: Vec<Vec<Sighting>>) -> Vec<Sighting> {
    let mut accounts: Vec<_> = accounts.into_iter().filter(|account| !account.is_empty()).collect();
    if accounts.len() < 2 {
        return accounts.pop().unwrap_or_default();
    }
    let mut newest: HashMap<u128, Sighting> = HashMap::new();
    for sighting in accounts.into_iter().flatten() {
        match newest.entry(sighting.known.instance) {
            Entry::Vacant(entry) => drop(entry.insert(sighting)),
            Entry::Occupied(mut entry) => {
                if compare(&sighting, entry.get()) == Ordering::Greater {
                    entry.insert(sighting);
                }
            }
        }
    }
    newest.into_values().collect()
}

/// The later connection counts; of one connection, who sees it; else who was told something; else who heard last.
pub(crate) fn compare(a: &Sighting, b: &Sighting) -> Ordering {
    let rank = |sighting: &Sighting| {
        (
            sighting.known.connect_counter,
            sighting.connected,
            sighting.report.is_some(),
            sighting.known.last_seen_ms,
        )
    };
    rank(a).cmp(&rank(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(counter: u64, last_seen_ms: u64) -> RosterEntry {
        RosterEntry {
            instance: 7,
            connect_counter: counter,
            name: "shop".to_owned(),
            app: String::new(),
            app_version: String::new(),
            sdk: String::new(),
            level: 1,
            last_seen_ms,
            position: None,
            via: String::new(),
        }
    }

    fn connected(server: &str, counter: u64) -> Sighting {
        Sighting {
            known: known(counter, 10),
            report: Some(Report::default()),
            connected: true,
            address: "there".to_owned(),
            server: server.to_owned(),
        }
    }

    fn left(server: &str, counter: u64, last_seen_ms: u64) -> Sighting {
        Sighting {
            known: known(counter, last_seen_ms),
            connected: false,
            address: String::new(),
            ..connected(server, counter)
        }
    }

    fn remembered(server: &str, counter: u64) -> Sighting {
        connected(server, counter).out_of_sight()
    }

    #[test]
    fn the_newest_account_of_a_client_counts() {
        let rows: Vec<(&str, Vec<Sighting>, Sighting)> = vec![
            ("one account", vec![left("a", 1, 5)], left("a", 1, 5)),
            ("it moved", vec![left("a", 1, 99), connected("b", 2)], connected("b", 2)),
            (
                "it moved, and the old connection looks alive",
                vec![connected("a", 1), connected("b", 2)],
                connected("b", 2),
            ),
            (
                "it left the newer one, and the old connection looks alive",
                vec![connected("a", 1), left("b", 2, 5)],
                left("b", 2, 5),
            ),
            ("one sees it, one remembers it", vec![remembered("a", 3), connected("b", 3)], connected("b", 3)),
            ("one was told, one remembers it", vec![remembered("a", 3), left("b", 3, 5)], left("b", 3, 5)),
            ("its newest server has died", vec![connected("a", 3), remembered("b", 4)], remembered("b", 4)),
            ("two saw it leave", vec![left("a", 3, 5), left("b", 3, 6)], left("b", 3, 6)),
            ("two remember it", vec![remembered("a", 3), remembered("b", 2)], remembered("a", 3)),
        ];
        for (name, accounts, want) in rows {
            let one_each = |accounts: &[Sighting]| accounts.iter().map(|one| vec![one.clone()]).collect();
            assert_eq!(merge(one_each(&accounts)), std::slice::from_ref(&want), "{name}");
            let backwards: Vec<_> = accounts.into_iter().rev().collect();
            assert_eq!(merge(one_each(&backwards)), [want], "{name}, in the other order");
        }
    }

    #[test]
    fn clients_are_apart_by_instance_and_nobody_is_forgotten() {
        let other = |server: &str| {
            let mut other = connected(server, 1);
            other.known.instance = 8;
            other
        };
        let mut merged = merge(vec![vec![connected("a", 1)], vec![], vec![other("b"), left("b", 2, 1)]]);
        merged.sort_by_key(|sighting| sighting.known.instance);
        assert_eq!(merged, [left("b", 2, 1), other("b")]);
        assert_eq!(merge(vec![]), []);
        assert_eq!(merge(vec![vec![], vec![]]), []);
    }
}
