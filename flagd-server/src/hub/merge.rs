//! Many servers' accounts of their clients become one. Pure; docs/protocol.md, "Servers among themselves", is normative.
//!
//! A client is known by its instance, and its connect counter says which account of it is the newest: a client that was
//! cut off from one server and turned up at another is told by both. Where nobody can tell, it is lost, never
//! applied.
//!
//! Somebody who waits for a change looks at thousands of clients again and again, so they are compared where they lie
//! (`Glimpse`); who wants to keep one copies it.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

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
    /// The same, looked at.
    pub(crate) fn glimpse(&self) -> Glimpse<'_> {
        let Sighting { known, report, connected, address, server } = self;
        Glimpse { known, report: report.as_ref(), connected: *connected, address, server }
    }
}

/// A sighting that is looked at where it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glimpse<'a> {
    /// Who it is.
    pub(crate) known: &'a RosterEntry,
    /// As in [`Sighting`].
    pub(crate) report: Option<&'a Report>,
    /// Whether it is connected now.
    pub(crate) connected: bool,
    /// From where; empty when it is not connected.
    pub(crate) address: &'a str,
    /// The name of the server that tells this.
    pub(crate) server: &'a str,
}

impl<'a> Glimpse<'a> {
    /// The same when the server that told it cannot be asked any more: who was there is lost until somebody else has
    /// seen it.
    pub(crate) fn out_of_sight(self) -> Glimpse<'a> {
        Glimpse { report: None, connected: false, address: "", ..self }
    }

    /// To keep.
    pub(crate) fn copied(self) -> Sighting {
        Sighting {
            known: self.known.clone(),
            report: self.report.cloned(),
            connected: self.connected,
            address: self.address.to_owned(),
            server: self.server.to_owned(),
        }
    }
}

/// What another server has told of its clients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hearsay<'a> {
    /// By instance.
    pub(crate) clients: &'a HashMap<u128, Sighting>,
    /// How much of it holds.
    pub(crate) trust: Trust,
}

/// How much of what a server has told still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// All of it.
    Current,
    /// Who was there, and nothing that they said: the server cannot be asked.
    OutOfSight,
}

impl<'a> Hearsay<'a> {
    fn of(&self, instance: u128) -> Option<Glimpse<'a>> {
        self.clients.get(&instance).map(|sighting| self.weigh(sighting))
    }

    fn weigh(&self, sighting: &'a Sighting) -> Glimpse<'a> {
        match self.trust {
            Trust::Current => sighting.glimpse(),
            Trust::OutOfSight => sighting.glimpse().out_of_sight(),
        }
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

/// What is known beside the clients.
#[derive(Clone, Debug, Default)]
pub(crate) struct Around {
    /// Each relay once.
    pub(crate) relays: Vec<RelaySighting>,
    /// The servers that are there and did not answer.
    pub(crate) unanswered: Vec<String>,
}

/// Shows each client once, by its newest account. `own` shows the clients of this server to whom it is given; nobody is
/// copied.
pub(crate) fn each_once(
    own: impl FnOnce(&mut dyn FnMut(Glimpse<'_>)),
    others: &[Hearsay<'_>],
    mut visit: impl FnMut(Glimpse<'_>),
) {
    // Those of whom several tell: few, and shown by the first who does.
    let mut shown = HashSet::new();
    own(&mut |client| visit(newest(client, others, &mut shown)));
    let mut others = others;
    while let Some((first, later)) = others.split_first() {
        for sighting in first.clients.values() {
            if !shown.contains(&sighting.known.instance) {
                visit(newest(first.weigh(sighting), later, &mut shown));
            }
        }
        others = later;
    }
}

/// The newest of several accounts of one client. Notes it in `told_again` when there are others.
fn newest<'a>(first: Glimpse<'a>, others: &[Hearsay<'a>], told_again: &mut HashSet<u128>) -> Glimpse<'a> {
    let instance = first.known.instance;
    let mut newest = first;
    for other in others.iter().filter_map(|server| server.of(instance)) {
        told_again.insert(instance);
        if compare(other, newest) == Ordering::Greater {
            newest = other;
        }
    }
    newest
}

/// The later connection counts; of one connection, who sees it; else who was told something; else who heard last.
pub(crate) fn compare(a: Glimpse<'_>, b: Glimpse<'_>) -> Ordering {
    let rank = |client: Glimpse<'_>| {
        let known = client.known;
        (known.connect_counter, client.connected, client.report.is_some(), known.last_seen_ms)
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
        connected(server, counter).glimpse().out_of_sight().copied()
    }

    /// The first account is this server's; `trust` is in the others.
    fn merge(accounts: &[Vec<Sighting>], trust: Trust) -> Vec<Sighting> {
        let by_instance = |account: &Vec<Sighting>| -> HashMap<u128, Sighting> {
            account.iter().map(|one| (one.known.instance, one.clone())).collect()
        };
        let told: Vec<_> = accounts.iter().skip(1).map(by_instance).collect();
        let others: Vec<_> = told.iter().map(|clients| Hearsay { clients, trust }).collect();
        let own = |show: &mut dyn FnMut(Glimpse<'_>)| {
            accounts.iter().take(1).flatten().for_each(|one| show(one.glimpse()));
        };
        let mut merged = Vec::new();
        each_once(own, &others, |client| merged.push(client.copied()));
        merged.sort_by_key(|sighting| sighting.known.instance);
        merged
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
            let mut accounts: Vec<_> = accounts.into_iter().map(|one| vec![one]).collect();
            assert_eq!(merge(&accounts, Trust::Current), std::slice::from_ref(&want), "{name}");
            accounts.reverse();
            assert_eq!(
                merge(&accounts, Trust::Current),
                std::slice::from_ref(&want),
                "{name}, in the other order"
            );
            accounts.insert(0, Vec::new());
            assert_eq!(merge(&accounts, Trust::Current), [want], "{name}, told by others only");
        }
    }

    #[test]
    fn clients_are_apart_by_instance_and_nobody_is_forgotten() {
        let other = |server: &str| {
            let mut other = connected(server, 1);
            other.known.instance = 8;
            other
        };
        let accounts = [vec![connected("a", 1)], vec![], vec![other("b"), left("b", 2, 1)]];
        assert_eq!(merge(&accounts, Trust::Current), [left("b", 2, 1), other("b")]);
        assert_eq!(merge(&[], Trust::Current), []);
        assert_eq!(merge(&[vec![], vec![]], Trust::Current), []);
    }

    #[test]
    fn of_whom_a_silent_server_told_it_is_only_known_who_they_are() {
        let silent = Trust::OutOfSight;
        assert_eq!(merge(&[vec![], vec![connected("b", 2)]], silent), [remembered("b", 2)]);
        assert_eq!(merge(&[vec![left("a", 1, 5)], vec![connected("b", 2)]], silent), [remembered("b", 2)]);
        assert_eq!(merge(&[vec![left("a", 2, 5)], vec![connected("b", 2)]], silent), [left("a", 2, 5)]);
    }
}
