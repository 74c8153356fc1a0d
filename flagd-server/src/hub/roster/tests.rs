//! Stories of one client and another, with a clock made of numbers.

use super::*;
use crate::hub::Verdict;
use flagd_core::revision::{Digest, Epoch, Position, Revision};

const NOW: u64 = 1_000_000;

fn at(revision: u64) -> Position {
    Position { epoch: Epoch { minted_ms: 5, random: 0 }, revision: Revision(revision), digest: Digest(1) }
}

fn known(instance: u128, connect_counter: u64) -> RosterEntry {
    RosterEntry {
        instance,
        connect_counter,
        name: format!("shop-{instance}"),
        app: "shop".to_owned(),
        app_version: "1".to_owned(),
        sdk: "test".to_owned(),
        level: 1,
        last_seen_ms: 0,
        position: None,
    }
}

fn report(revision: u64) -> Report {
    Report { position: Some(at(revision)), ..Report::default() }
}

fn hello(instance: u128, connect_counter: u64, revision: u64) -> Introduction {
    Introduction {
        known: known(instance, connect_counter),
        report: report(revision),
        address: "127.0.0.1:9".to_owned(),
    }
}

fn admit(roster: &Roster, hello: Introduction, now_ms: u64) -> (Seat, oneshot::Receiver<()>, bool) {
    match roster.connect(hello, now_ms) {
        Admission::Admitted { seat, replaced, first_seen } => (seat, replaced, first_seen),
        other => panic!("{other:?}"),
    }
}

fn standings(roster: &Roster, revision: u64, now_ms: u64) -> Vec<(String, Standing)> {
    let target = Target { position: at(revision), touched: vec![] };
    let standings = roster.standings(&target, now_ms, |_| true);
    standings.clients.into_iter().map(|client| (client.client.name, client.standing)).collect()
}

fn one(name: &str, standing: Standing) -> Vec<(String, Standing)> {
    vec![(name.to_owned(), standing)]
}

#[test]
fn a_client_lags_until_it_acknowledges() {
    let roster = Roster::default();
    let (seat, _replaced, first_seen) = admit(&roster, hello(1, 1, 3), NOW);
    assert!(first_seen);
    assert_eq!(standings(&roster, 3, NOW), one("shop-1", Standing::Applied));
    assert_eq!(standings(&roster, 4, NOW), one("shop-1", Standing::Lagging));
    roster.report(seat, report(4), NOW + 5);
    assert_eq!(standings(&roster, 4, NOW + 5), one("shop-1", Standing::Applied));
}

#[test]
fn who_leaves_without_bye_is_lost_for_fifteen_minutes() {
    let roster = Roster::default();
    let (seat, _replaced, _) = admit(&roster, hello(1, 1, 3), NOW);
    assert!(roster.leave(seat, NOW + 10));
    let last = NOW + 10 + limits::LOST_AFTER_MS - 1;
    assert_eq!(standings(&roster, 4, last), one("shop-1", Standing::Lost));
    assert_eq!(roster.expire(last), 0);
    assert_eq!(standings(&roster, 4, last + 1), vec![]);
    assert_eq!(roster.expire(last + 1), 1);
    assert_eq!(roster.take_unsaved().unwrap().gone, [1]);
}

#[test]
fn bye_removes() {
    let roster = Roster::default();
    let (seat, _replaced, _) = admit(&roster, hello(1, 1, 3), NOW);
    assert!(roster.bye(seat));
    assert!(!roster.leave(seat, NOW), "the end of the stream changes nothing any more");
    assert_eq!(roster.counts(NOW), ClientCounts::default());
    let unsaved = roster.take_unsaved().unwrap();
    assert_eq!((unsaved.seen.len(), unsaved.gone), (0, vec![1]));
}

#[test]
fn the_highest_connect_counter_counts() {
    let roster = Roster::default();
    let (old, mut old_replaced, _) = admit(&roster, hello(1, 1, 3), NOW);
    let (new, mut new_replaced, first_seen) = admit(&roster, hello(1, 2, 3), NOW);
    assert!(!first_seen);
    assert!(old_replaced.try_recv() == Err(oneshot::error::TryRecvError::Closed));
    assert!(new_replaced.try_recv() == Err(oneshot::error::TryRecvError::Empty));
    assert!(matches!(roster.connect(hello(1, 1, 3), NOW), Admission::Stale));
    roster.report(old, report(9), NOW);
    assert_eq!(standings(&roster, 9, NOW), one("shop-1", Standing::Lagging), "an old stream has no say");
    assert!(!roster.leave(old, NOW) && !roster.bye(old));
    roster.report(new, report(9), NOW);
    assert_eq!(standings(&roster, 9, NOW), one("shop-1", Standing::Applied));
}

#[test]
fn after_a_restart_the_clients_of_before_are_lost_until_they_are_back() {
    let roster = Roster::default();
    let remembered = RosterEntry { position: Some(at(9)), last_seen_ms: 1, ..known(1, 4) };
    roster.remember(vec![remembered], NOW);
    let target = Target { position: at(9), touched: vec![] };
    assert_eq!(standings(&roster, 9, NOW), one("shop-1", Standing::Lost), "what it refuses is not known");
    assert_eq!(roster.standings(&target, NOW, |_| true).verdict(), Verdict::Unconfirmed);
    let (_seat, _replaced, first_seen) = admit(&roster, hello(1, 5, 9), NOW + 1);
    assert!(!first_seen);
    assert_eq!(roster.standings(&target, NOW, |_| true).verdict(), Verdict::Confirmed);
}

#[test]
fn what_the_store_did_not_take_is_told_again() {
    let roster = Roster::default();
    assert!(roster.take_unsaved().is_none());
    let (seat, _replaced, _) = admit(&roster, hello(1, 1, 3), NOW);
    let (_, _replaced_2, _) = admit(&roster, hello(2, 1, 3), NOW);
    roster.bye(seat);
    let first = roster.take_unsaved().unwrap();
    assert!(roster.take_unsaved().is_none());
    roster.put_back(&first);
    let second = roster.take_unsaved().unwrap();
    assert_eq!((second.seen, second.gone), (first.seen, vec![1]));
    roster.mark_all_unsaved();
    assert_eq!(roster.take_unsaved().unwrap().seen.len(), 1);
}

#[test]
fn who_comes_back_between_is_not_forgotten() {
    let roster = Roster::default();
    let (seat, _replaced, _) = admit(&roster, hello(1, 1, 3), NOW);
    roster.bye(seat);
    let (_, _replaced, _) = admit(&roster, hello(1, 2, 3), NOW);
    let unsaved = roster.take_unsaved().unwrap();
    assert_eq!((unsaved.seen.len(), unsaved.gone.len()), (1, 0));
}

#[test]
fn clients_below_a_level_are_named() {
    let roster = Roster::default();
    let (_, _a, _) = admit(&roster, hello(1, 1, 3), NOW);
    let newer = Introduction { known: RosterEntry { level: 2, ..known(2, 1) }, ..hello(2, 1, 3) };
    let (_, _b, _) = admit(&roster, newer, NOW);
    let names: Vec<_> = roster.below_level(2, NOW).into_iter().map(|client| client.client.name).collect();
    assert_eq!(names, ["shop-1"]);
    assert!(roster.below_level(1, NOW).is_empty());
}

#[test]
fn the_counts_add_up() {
    let roster = Roster::default();
    let (gone, _a, _) = admit(&roster, hello(1, 1, 3), NOW);
    let (_, _b, _) = admit(&roster, hello(2, 1, 3), NOW);
    let (sick, _c, _) = admit(&roster, hello(3, 1, 3), NOW);
    roster.leave(gone, NOW);
    let refused = vec![(EntryId::new(flagd_core::entry::EntryKind::FLAG, "a"), "why".to_owned())];
    roster.report(sick, Report { diverged: true, refused, ..report(3) }, NOW);
    assert_eq!(roster.counts(NOW), ClientCounts { expected: 3, lost: 1, refused_entries: 1, diverged: 1 });
}
