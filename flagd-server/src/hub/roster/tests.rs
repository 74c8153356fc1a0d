//! Stories of one client and another, with a clock made of numbers.

use super::*;
use crate::hub::merge::Merged;
use crate::hub::standing::{below_level, judge};
use crate::hub::{ClientCounts, Standing, Standings, Target, Verdict};
use flagd_core::entry::EntryId;
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
        via: String::new(),
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

fn gone(unsaved: &Unsaved) -> Vec<u128> {
    unsaved.gone.iter().map(|gone| gone.instance).collect()
}

fn all(roster: &Roster, target: &Target, now_ms: u64) -> Standings {
    judge(
        Merged { clients: roster.sightings(now_ms), ..Merged::default() },
        target,
        target.position.epoch,
        |_| true,
    )
}

fn standings(roster: &Roster, revision: u64, now_ms: u64) -> Vec<(String, Standing)> {
    let target = Target { position: at(revision), touched: vec![] };
    let standings = all(roster, &target, now_ms);
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
    assert_eq!(gone(&roster.take_unsaved().unwrap()), [1]);
}

#[test]
fn bye_removes() {
    let roster = Roster::default();
    let (seat, _replaced, _) = admit(&roster, hello(1, 1, 3), NOW);
    assert!(roster.bye(seat));
    assert!(!roster.leave(seat, NOW), "the end of the stream changes nothing any more");
    assert_eq!(ClientCounts::of(&roster.sightings(NOW)), ClientCounts::default());
    let unsaved = roster.take_unsaved().unwrap();
    assert_eq!((unsaved.seen.len(), gone(&unsaved)), (0, vec![1]));
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
    assert_eq!(all(&roster, &target, NOW).verdict(), Verdict::Unconfirmed);
    let (_seat, _replaced, first_seen) = admit(&roster, hello(1, 5, 9), NOW + 1);
    assert!(!first_seen);
    assert_eq!(all(&roster, &target, NOW).verdict(), Verdict::Confirmed);
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
    assert_eq!((&second.seen, gone(&second)), (&first.seen, vec![1]));
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
    let below = |level| below_level(roster.sightings_below(level, NOW), level);
    let names: Vec<_> = below(2).into_iter().map(|client| client.client.name).collect();
    assert_eq!(names, ["shop-1"]);
    assert!(below(1).is_empty());
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
    assert_eq!(
        ClientCounts::of(&roster.sightings(NOW)),
        ClientCounts { expected: 3, lost: 1, refused_entries: 1, diverged: 1 }
    );
}

/// What the store says of a client.
fn stored(instance: u128, connect_counter: u64, last_seen_ms: u64) -> RosterEntry {
    RosterEntry { last_seen_ms, ..known(instance, connect_counter) }
}

#[test]
fn what_other_servers_left_in_the_store_is_learned() {
    let roster = Roster::default();
    let (seat, _replaced, _) = admit(&roster, hello(1, 3, 9), NOW);
    let reconcile = |stored| roster.reconcile(&roster.absent(), stored, NOW);
    assert!(!reconcile(vec![stored(1, 3, NOW)]), "what is known here is no news");
    assert_eq!(standings(&roster, 9, NOW), one("shop-1", Standing::Applied));
    assert!(reconcile(vec![stored(1, 3, NOW), stored(2, 1, NOW)]));
    let both = [("shop-1".to_owned(), Standing::Applied), ("shop-2".to_owned(), Standing::Lost)];
    assert_eq!(standings(&roster, 9, NOW), both);
    let leftover = NOW.saturating_sub(limits::LOST_AFTER_MS + limits::ROSTER_REFRESH_MS + 1);
    assert!(!reconcile(vec![stored(2, 1, NOW), stored(3, 1, leftover)]) || leftover == 0);
    // It was at a server that is gone, later than here.
    assert!(reconcile(vec![stored(1, 4, NOW), stored(2, 1, NOW)]));
    assert_eq!(
        all(&roster, &Target { position: at(9), touched: vec![] }, NOW).clients[0].standing,
        Standing::Lost
    );
    assert!(!roster.leave(seat, NOW), "its seat is empty");
}

#[test]
fn who_said_bye_to_another_server_is_expected_no_longer() {
    let roster = Roster::default();
    let (seat, _replaced, _) = admit(&roster, hello(1, 1, 9), NOW);
    let (_seat, _kept, _) = admit(&roster, hello(2, 1, 9), NOW);
    roster.leave(seat, NOW);
    assert!(!roster.reconcile(&roster.absent(), vec![], NOW), "the store was not told yet that it is there");
    roster.take_unsaved();
    assert!(roster.reconcile(&roster.absent(), vec![], NOW));
    assert_eq!(standings(&roster, 9, NOW), one("shop-2", Standing::Applied));
}

#[test]
fn news_tell_what_was_not_told() {
    let roster = Roster::default();
    let mut told = HashMap::new();
    let mut news = |now_ms| {
        let News { changed, arrived, gone } = roster.news(&mut told, Telling::Whole, now_ms);
        assert!(arrived.is_empty(), "that was not asked for");
        let changed: Vec<_> = changed.iter().map(|one| (one.known.instance, one.connected)).collect();
        (changed, gone)
    };
    let nothing = || (vec![], vec![]);
    assert_eq!(news(NOW), nothing());
    let (seat, _replaced, _) = admit(&roster, hello(1, 1, 9), NOW);
    assert_eq!(news(NOW), (vec![(1, true)], vec![]));
    assert_eq!(news(NOW), nothing());
    roster.report(seat, report(10), NOW);
    assert_eq!(news(NOW), (vec![(1, true)], vec![]));
    roster.leave(seat, NOW);
    assert_eq!(news(NOW), (vec![(1, false)], vec![]));
    assert_eq!(news(NOW + limits::LOST_AFTER_MS), (vec![], vec![1]));
    let (seat, _replaced, _) = admit(&roster, hello(1, 2, 9), NOW);
    assert_eq!(news(NOW), (vec![(1, true)], vec![]));
    roster.bye(seat);
    assert_eq!(news(NOW), (vec![], vec![1]));
}

#[test]
fn what_the_store_said_before_a_goodbye_does_not_bring_the_client_back() {
    let roster = Roster::default();
    let (seat, _replaced, _) = admit(&roster, hello(1, 2, 9), NOW);
    let read_before = vec![stored(1, 2, NOW)];
    roster.bye(seat);
    assert!(!roster.reconcile(&[], read_before, NOW));
    assert_eq!(gone(&roster.take_unsaved().unwrap()), [1], "the store is told");
    assert!(roster.reconcile(&[], vec![stored(1, 3, NOW)], NOW), "it came back, to another server");
}
