//! Who is there, who is away, and who may be forgotten.

use super::*;
use crate::hub::roster::Roster;

const NOW: u64 = 10_000_000;

fn entry(relay: u128, link_counter: u64) -> RelayEntry {
    RelayEntry { relay, name: format!("relay-{relay}"), link_counter, last_seen_ms: NOW }
}

fn arrive(relays: &Relays, roster: &Roster, relay: u128, counter: u64) -> (Link, oneshot::Receiver<()>) {
    let link = roster.link();
    match relays.arrive(entry(relay, counter), link, "10.0.0.1:1".to_owned()) {
        Arrival::Admitted { replaced, .. } => {
            assert!(relays.sightings().iter().all(|seen| seen.relay != relay || seen.address.is_none()));
            assert!(relays.complete(relay, link) && !relays.complete(relay, link));
            (link, replaced)
        }
        Arrival::Stale => panic!("stale"),
    }
}

/// Names, each with whether it is connected.
fn all(relays: &Relays) -> Vec<(String, bool)> {
    relays.sightings().into_iter().map(|seen| (seen.name, seen.address.is_some())).collect()
}

fn list(names: &[(&str, bool)]) -> Vec<(String, bool)> {
    names.iter().map(|(name, connected)| ((*name).to_owned(), *connected)).collect()
}

#[test]
fn a_relay_is_away_from_the_end_of_its_link_until_it_is_back_or_forgotten() {
    let (relays, roster) = (Relays::default(), Roster::default());
    let (link, _replaced) = arrive(&relays, &roster, 1, 1);
    assert_eq!(all(&relays), list(&[("relay-1", true)]));
    relays.leave(1, link, NOW);
    assert_eq!(all(&relays), list(&[("relay-1", false)]));
    let (link, _replaced) = arrive(&relays, &roster, 1, 2);
    relays.expire(NOW + 10 * limits::LOST_AFTER_MS);
    assert_eq!(all(&relays), list(&[("relay-1", true)]));
    relays.leave(1, link, NOW);
    relays.expire(NOW + limits::LOST_AFTER_MS - 1);
    assert_eq!(all(&relays), list(&[("relay-1", false)]));
    relays.expire(NOW + limits::LOST_AFTER_MS);
    assert_eq!(all(&relays), []);
}

#[test]
fn a_relay_that_says_farewell_is_forgotten_at_once() {
    let (relays, roster) = (Relays::default(), Roster::default());
    let (link, _replaced) = arrive(&relays, &roster, 1, 1);
    relays.take_unsaved();
    relays.farewell(1, link);
    relays.leave(1, link, NOW);
    assert_eq!(all(&relays), []);
    let gone = RelayGone { relay: 1, link_counter: 1, seen_before_ms: u64::MAX };
    assert_eq!(relays.take_unsaved(), (vec![], vec![gone]));
}

#[test]
fn of_two_links_of_one_relay_the_newer_one_counts() {
    let (relays, roster) = (Relays::default(), Roster::default());
    let (old, mut replaced) = arrive(&relays, &roster, 1, 1);
    let (_new, _) = arrive(&relays, &roster, 1, 2);
    assert_eq!(replaced.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    relays.leave(1, old, NOW);
    relays.farewell(1, old);
    assert_eq!(all(&relays), list(&[("relay-1", true)]));
    let late = relays.arrive(entry(1, 1), roster.link(), String::new());
    assert!(matches!(late, Arrival::Stale));
}

#[test]
fn relays_behind_relays_are_told_with_the_way_to_them() {
    let (relays, roster) = (Relays::default(), Roster::default());
    let (one, _one) = arrive(&relays, &roster, 1, 1);
    let (two, _two) = arrive(&relays, &roster, 2, 1);
    let below = |counter, connected: bool| RelaySighting {
        relay: 9,
        name: "rack".to_owned(),
        link_counter: counter,
        address: connected.then(|| "10.0.0.9:1".to_owned()),
        last_seen_ms: NOW,
    };
    relays.told(1, one, vec![below(1, false)]);
    assert_eq!(all(&relays), list(&[("relay-1", true), ("relay-2", true), ("relay-1 > rack", false)]));
    relays.told(2, two, vec![below(2, true)]);
    assert_eq!(
        all(&relays),
        list(&[("relay-1", true), ("relay-2", true), ("relay-2 > rack", true)]),
        "it has moved"
    );
    relays.leave(2, two, NOW);
    assert_eq!(all(&relays), list(&[("relay-1", true), ("relay-2", false), ("relay-1 > rack", false)]));
}

#[test]
fn what_the_store_knows_of_relays_survives_and_what_it_does_not_know_has_said_farewell() {
    let (relays, roster) = (Relays::default(), Roster::default());
    relays.remember(vec![entry(1, 4), entry(2, 4)], NOW);
    assert_eq!(all(&relays), list(&[("relay-1", false), ("relay-2", false)]));
    let (_link, _replaced) = arrive(&relays, &roster, 1, 5);
    let away = relays.away();
    assert_eq!(away, [2]);
    let stored =
        vec![RelayEntry { last_seen_ms: NOW - 2 * limits::LOST_AFTER_MS, ..entry(3, 1) }, entry(4, 1)];
    assert!(relays.reconcile(&away, stored.clone(), NOW));
    assert_eq!(all(&relays), list(&[("relay-1", true), ("relay-4", false)]), "3 is a leftover");
    assert!(!relays.reconcile(&[], stored, NOW));
}
