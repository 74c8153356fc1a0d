//! The tally says what the whole list would say, and a look at those who have applied the change copies nobody.

use super::*;
use crate::hub::merge::Sighting;
use crate::hub::standing::Report;
use crate::store::log::RosterEntry;

const NOW: u64 = 10_000_000;
const CHANGE: Revision = Revision(9);

fn client(instance: u128) -> Sighting {
    let known = RosterEntry {
        instance,
        connect_counter: 1,
        name: format!("c{:03}", (instance * 7_919) % 400),
        app: "shop".to_owned(),
        app_version: "1".to_owned(),
        sdk: "test".to_owned(),
        level: 1,
        last_seen_ms: NOW,
        position: None,
        via: String::new(),
    };
    Sighting {
        known,
        report: Some(Report::default()),
        connected: true,
        address: "127.0.0.1:9".to_owned(),
        server: String::new(),
    }
}

fn holding(instance: u128, oldest: Option<u64>) -> Sighting {
    let report = Report { held_snapshots: 1, held_oldest: oldest.map(Revision), ..Report::default() };
    Sighting { report: Some(report), ..client(instance) }
}

fn lost(instance: u128) -> Sighting {
    Sighting { connected: false, address: String::new(), ..client(instance) }
}

fn look(clients: &[(Sighting, Standing)], lost: &mut Lost, now_ms: u64) -> Tally {
    let mut count = Count::new(CHANGE, lost);
    for (client, standing) in clients {
        count.add(client.glimpse(), *standing);
    }
    let mut tally = count.done(Around::default());
    lost.keep(&mut tally, now_ms);
    tally
}

fn instances(listed: &Listed) -> Vec<u128> {
    listed.first.iter().map(|client| client.client.instance).collect()
}

#[test]
fn the_lists_are_the_beginnings_of_the_whole_lists_by_name() {
    let missing = (0..500).map(|n| (client(n), Standing::Lagging));
    let holders = (500..900).map(|n| (holding(n, Some(8)), Standing::Applied));
    let others = [
        (client(900), Standing::Applied),
        (holding(901, Some(9)), Standing::Applied),
        (holding(902, None), Standing::Applied),
        (holding(903, Some(1)), Standing::Refused),
    ];
    let clients: Vec<_> = missing.chain(holders).chain(others).collect();
    let tally = look(&clients, &mut Lost::default(), NOW);
    let whole = |wanted: &dyn Fn(u128) -> bool| {
        let mut list: Vec<_> = clients.iter().map(|(client, _)| &client.known).collect();
        list.retain(|known| wanted(known.instance));
        list.sort_by_key(|known| (&known.name, known.instance));
        list.into_iter().map(|known| known.instance).take(limits::WAIT_LISTED_MAX).collect::<Vec<_>>()
    };
    assert_eq!((tally.expected, tally.applied), (904, 403));
    assert_eq!((tally.missing.count, tally.holders.count), (501, 401));
    assert_eq!(instances(&tally.missing), whole(&|n| n < 500 || n == 903));
    assert_eq!(instances(&tally.holders), whole(&|n| (500..900).contains(&n) || n == 902));
    assert!(tally.copied < 904, "{}", tally.copied);
}

/// Name, the time of the look, who turns up beside one who has applied the change, and how many are expected, have
/// applied it, and are missing.
type Row = (&'static str, u64, Option<(Sighting, Standing)>, [usize; 3]);

#[test]
fn whoever_was_expected_stays_expected() {
    let late = NOW + limits::LOST_AFTER_MS;
    let rows: Vec<Row> = vec![
        ("given up", late, None, [2, 1, 1]),
        ("it said Bye", late - 1, None, [1, 1, 0]),
        ("still lost", late - 1, Some((lost(2), Standing::Lost)), [2, 1, 1]),
        ("it came back and has applied it", late, Some((client(2), Standing::Applied)), [2, 2, 0]),
        ("it came back and lags", late, Some((client(2), Standing::Lagging)), [2, 1, 1]),
    ];
    for (name, now_ms, then, want) in rows {
        let mut absent = Lost::default();
        let other = || (client(1), Standing::Applied);
        look(&[other(), (lost(2), Standing::Lost)], &mut absent, NOW);
        let clients: Vec<_> = std::iter::once(other()).chain(then).collect();
        for again in 1..3 {
            let tally = look(&clients, &mut absent, now_ms);
            let got = [tally.expected, tally.applied, tally.missing.count];
            assert_eq!(got, want, "{name}, look {again}");
            let all = if want[2] == 0 { Verdict::Confirmed } else { Verdict::Unconfirmed };
            assert_eq!(tally.verdict(), all, "{name}, look {again}");
        }
    }
}

#[test]
fn who_is_given_up_comes_last_and_counts_as_it_stood() {
    let mut absent = Lost::default();
    let held = Sighting { connected: false, ..holding(3, Some(1)) };
    look(&[(held, Standing::Applied), (lost(2), Standing::Lost)], &mut absent, NOW);
    let tally = look(&[(client(7), Standing::Lagging)], &mut absent, NOW + limits::LOST_AFTER_MS);
    assert_eq!((tally.expected, tally.applied), (3, 1));
    assert_eq!((instances(&tally.missing), instances(&tally.holders)), (vec![7, 2], vec![3]));
}

#[test]
fn a_look_at_those_who_have_applied_the_change_allocates_nothing_for_each() {
    let clients: Vec<_> = (0..1_000).map(|n| (client(n), Standing::Applied)).collect();
    let counted = allocation_counter::measure(|| {
        let tally = look(&clients, &mut Lost::default(), NOW);
        assert_eq!((tally.applied, tally.copied), (1_000, 0));
    });
    assert_eq!(counted.count_total, 0);
}
