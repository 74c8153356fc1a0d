//! What relays tell, beside what clients say here: the newest account counts, and nobody is done because a relay left.

use std::collections::HashMap;
use std::time::Duration;

use flagd_core::revision::{Digest, Epoch, Revision};

use super::*;
use crate::hub::merge::Merged;
use crate::hub::roster::{Admission, Introduction, Telling};
use crate::hub::standing::judge;
use crate::hub::{Standing, Target};
use crate::store::log::RosterEntry;

const NOW: u64 = 1_000_000;

fn at(revision: u64) -> Position {
    Position { epoch: Epoch { minted_ms: 5, random: 0 }, revision: Revision(revision), digest: Digest(1) }
}

fn report(revision: u64) -> Report {
    Report { position: Some(at(revision)), ..Report::default() }
}

fn known(instance: u128, connect_counter: u64) -> RosterEntry {
    RosterEntry {
        instance,
        connect_counter,
        name: format!("till-{instance}"),
        app: String::new(),
        app_version: String::new(),
        sdk: String::new(),
        level: 1,
        last_seen_ms: 0,
        position: None,
        via: String::new(),
    }
}

fn seen(instance: u128, connect_counter: u64, revision: u64) -> Sighting {
    Sighting {
        known: RosterEntry { via: "east".to_owned(), ..known(instance, connect_counter) },
        report: Some(report(revision)),
        connected: true,
        address: "10.0.0.1:1".to_owned(),
        server: String::new(),
    }
}

fn left(instance: u128, connect_counter: u64, revision: u64) -> Sighting {
    Sighting { connected: false, address: String::new(), ..seen(instance, connect_counter, revision) }
}

fn told(changed: Vec<Sighting>) -> News {
    News { changed, ..News::default() }
}

fn standings(roster: &Roster, revision: u64, now_ms: u64) -> Vec<(u128, Standing)> {
    let target = Target { position: at(revision), touched: Vec::new() };
    let merged = Merged { clients: roster.sightings(now_ms), ..Merged::default() };
    let judged = judge(merged, &target, at(revision).epoch, |_| true);
    judged.clients.into_iter().map(|client| (client.client.instance, client.standing)).collect()
}

fn hello(instance: u128, connect_counter: u64, revision: u64) -> Introduction {
    Introduction {
        known: known(instance, connect_counter),
        report: report(revision),
        address: "here".to_owned(),
    }
}

#[test]
fn clients_behind_a_relay_count_until_its_link_ends_and_then_are_lost() {
    let roster = Roster::default();
    let link = roster.link();
    assert_eq!(roster.hear(link, told(vec![seen(1, 1, 7), left(2, 1, 7)]), NOW), Ok(Heard::FirstSeen));
    assert_eq!(standings(&roster, 7, NOW), [(1, Standing::Applied), (2, Standing::Applied)]);
    assert_eq!(standings(&roster, 8, NOW), [(1, Standing::Lagging), (2, Standing::Lost)]);
    assert_eq!(roster.unlink(link, NOW), 2);
    assert_eq!(
        standings(&roster, 7, NOW),
        [(1, Standing::Lost), (2, Standing::Lost)],
        "unknown is never done"
    );
    assert_eq!(roster.sightings(NOW).iter().filter(|one| one.known.via == "east").count(), 2);
    assert_eq!(roster.expire(NOW + limits::LOST_AFTER_MS - 1), 0);
    assert_eq!(roster.expire(NOW + limits::LOST_AFTER_MS), 2);
}

#[test]
fn a_link_that_ended_says_nothing_any_more() {
    let roster = Roster::default();
    let (old, new) = (roster.link(), roster.link());
    roster.hear(old, told(vec![seen(1, 1, 7)]), NOW).unwrap();
    roster.unlink(old, NOW);
    roster.hear(new, told(vec![seen(1, 1, 7)]), NOW).unwrap();
    assert_eq!(roster.unlink(old, NOW), 0);
    let arrived = News { arrived: vec![(at(9), vec![1])], ..News::default() };
    roster.hear(old, arrived.clone(), NOW).unwrap();
    let gone = News { gone: vec![1], ..News::default() };
    roster.hear(old, gone.clone(), NOW).unwrap();
    assert_eq!(standings(&roster, 9, NOW), [(1, Standing::Lagging)]);
    roster.hear(new, arrived, NOW).unwrap();
    assert_eq!(standings(&roster, 9, NOW), [(1, Standing::Applied)]);
    roster.hear(new, gone, NOW).unwrap();
    assert_eq!(standings(&roster, 9, NOW), []);
}

#[test]
fn the_newest_account_of_a_client_counts() {
    type Row = (&'static str, fn(&Roster, Link, Link), Standing);
    let rows: [Row; 7] = [
        (
            "it moved from one relay to another, and the first has not noticed",
            |roster, east, west| {
                roster.hear(west, told(vec![seen(1, 2, 9)]), NOW).unwrap();
                roster.hear(east, told(vec![seen(1, 1, 7)]), NOW).unwrap();
            },
            Standing::Applied,
        ),
        (
            "it moved, the first one notices late, and has lost it",
            |roster, east, west| {
                roster.hear(east, told(vec![seen(1, 1, 7)]), NOW).unwrap();
                roster.hear(west, told(vec![seen(1, 2, 9)]), NOW).unwrap();
                roster.hear(east, told(vec![left(1, 1, 7)]), NOW).unwrap();
                roster.unlink(east, NOW);
            },
            Standing::Applied,
        ),
        (
            "it came here, and the relay still tells of it",
            |roster, east, _| {
                roster.hear(east, told(vec![seen(1, 1, 7)]), NOW).unwrap();
                assert!(matches!(roster.connect(hello(1, 2, 9), NOW), Admission::Admitted { .. }));
                roster.hear(east, told(vec![seen(1, 1, 7)]), NOW).unwrap();
            },
            Standing::Applied,
        ),
        (
            "it went from here to a relay, and the connection here looks alive",
            |roster, east, _| {
                let Admission::Admitted { mut replaced, .. } = roster.connect(hello(1, 1, 7), NOW) else {
                    panic!("not admitted")
                };
                roster.hear(east, told(vec![seen(1, 2, 9)]), NOW).unwrap();
                assert!(
                    replaced
                        .try_recv()
                        .is_err_and(|error| error == tokio::sync::oneshot::error::TryRecvError::Closed)
                );
            },
            Standing::Applied,
        ),
        (
            "a relay tells of a connection that is here",
            |roster, east, _| {
                assert!(matches!(roster.connect(hello(1, 1, 9), NOW), Admission::Admitted { .. }));
                roster.hear(east, told(vec![seen(1, 1, 9)]), NOW).unwrap();
                assert_eq!(roster.unlink(east, NOW), 0);
            },
            Standing::Applied,
        ),
        (
            "an older connection is no way back in",
            |roster, east, _| {
                roster.hear(east, told(vec![seen(1, 2, 9)]), NOW).unwrap();
                assert!(matches!(roster.connect(hello(1, 1, 7), NOW), Admission::Stale));
            },
            Standing::Applied,
        ),
        (
            "the relay that had it last has gone, and the one before remembers it as done",
            |roster, east, west| {
                roster.hear(east, told(vec![left(1, 1, 9)]), NOW).unwrap();
                roster.hear(west, told(vec![seen(1, 2, 9)]), NOW).unwrap();
                roster.unlink(west, NOW);
                roster.hear(east, told(vec![left(1, 1, 9)]), NOW).unwrap();
            },
            Standing::Lost,
        ),
    ];
    for (name, story, want) in rows {
        let roster = Roster::default();
        story(&roster, roster.link(), roster.link());
        assert_eq!(standings(&roster, 9, NOW), [(1, want)], "{name}");
    }
}

#[test]
fn who_said_bye_is_not_brought_back_by_a_relay_that_has_not_heard_of_it() {
    let roster = Roster::default();
    let (east, west) = (roster.link(), roster.link());
    roster.hear(east, told(vec![seen(1, 1, 7)]), NOW).unwrap();
    roster.hear(west, told(vec![seen(1, 2, 7)]), NOW).unwrap();
    roster.hear(west, News { gone: vec![1], ..News::default() }, NOW).unwrap();
    roster.hear(east, told(vec![left(1, 1, 7)]), NOW).unwrap();
    assert_eq!(standings(&roster, 7, NOW), []);
}

#[test]
fn a_bye_is_remembered_until_it_is_forgotten() {
    let roster = Roster::default();
    let east = roster.link();
    roster.hear(east, told(vec![seen(1, 1, 7)]), NOW).unwrap();
    roster.hear(east, News { gone: vec![1], ..News::default() }, NOW).unwrap();
    roster.expire(NOW + limits::LOST_AFTER_MS);
    roster.forget_byes(Duration::from_mins(1));
    assert!(roster.said_bye(1));
    roster.forget_byes(Duration::ZERO);
    assert!(!roster.said_bye(1));
}

#[test]
fn a_relay_that_comes_back_does_not_lengthen_the_time_for_which_somebody_is_lost() {
    let roster = Roster::default();
    let link = roster.link();
    roster.hear(link, told(vec![seen(1, 1, 7)]), NOW).unwrap();
    roster.unlink(link, NOW);
    let half = NOW + limits::LOST_AFTER_MS / 2;
    roster.hear(roster.link(), told(vec![left(1, 1, 7)]), half).unwrap();
    assert_eq!(roster.expire(NOW + limits::LOST_AFTER_MS), 1);
}

#[test]
fn who_only_moved_on_is_told_in_few_bytes_and_everybody_else_whole() {
    let roster = Roster::default();
    let link = roster.link();
    roster.hear(link, told(vec![seen(1, 1, 7), seen(2, 1, 7), seen(3, 1, 7)]), NOW).unwrap();
    let mut heard = HashMap::new();
    let mut news = |telling| {
        let News { changed, arrived, gone } = roster.news(&mut heard, telling, NOW);
        let mut changed: Vec<_> = changed.into_iter().map(|one| one.known.instance).collect();
        changed.sort_unstable();
        let arrived: Vec<_> = arrived
            .into_iter()
            .map(|(position, mut instances)| {
                instances.sort_unstable();
                (position.revision.0, instances)
            })
            .collect();
        (changed, arrived, gone)
    };
    assert_eq!(news(Telling::Compact), (vec![1, 2, 3], vec![], vec![]));
    let all_on = |revision| News { arrived: vec![(at(revision), vec![1, 2, 3])], ..News::default() };
    roster.hear(link, all_on(8), NOW).unwrap();
    assert_eq!(news(Telling::Compact), (vec![], vec![(8, vec![1, 2, 3])], vec![]));
    roster.hear(link, all_on(9), NOW).unwrap();
    assert_eq!(news(Telling::Whole), (vec![1, 2, 3], vec![], vec![]), "who does not understand it");
    let holding = Report { held_snapshots: 1, ..report(9) };
    roster.hear(link, told(vec![Sighting { report: Some(holding), ..seen(2, 1, 9) }]), NOW).unwrap();
    assert_eq!(news(Telling::Compact), (vec![2], vec![], vec![]), "one that holds a snapshot");
    roster.hear(link, all_on(10), NOW).unwrap();
    assert_eq!(
        news(Telling::Compact),
        (vec![2], vec![(10, vec![1, 3])], vec![]),
        "one that has let go of it"
    );
    roster.hear(link, told(vec![left(3, 1, 10)]), NOW).unwrap();
    roster.hear(link, News { gone: vec![1], ..News::default() }, NOW).unwrap();
    assert_eq!(news(Telling::Compact), (vec![3], vec![], vec![1]));
}

#[test]
fn what_a_relay_tells_is_remembered_across_a_restart() {
    let roster = Roster::default();
    roster.hear(roster.link(), told(vec![seen(1, 3, 7)]), NOW).unwrap();
    let saved = roster.take_unsaved().expect("something to save").seen;
    let restarted = Roster::default();
    restarted.remember(saved, NOW);
    assert_eq!(standings(&restarted, 7, NOW), [(1, Standing::Lost)]);
    assert_eq!(restarted.sightings(NOW)[0].known.via, "east");
    assert_eq!(restarted.hear(restarted.link(), told(vec![seen(1, 3, 7)]), NOW), Ok(Heard::Known));
    assert_eq!(standings(&restarted, 7, NOW), [(1, Standing::Applied)]);
    assert!(restarted.take_unsaved().is_some_and(|unsaved| unsaved.seen.len() == 1));
    let link = restarted.link();
    restarted.hear(link, told(vec![seen(1, 3, 7)]), NOW).unwrap();
    assert!(restarted.take_unsaved().is_none(), "nothing that the store should know has changed");
}
