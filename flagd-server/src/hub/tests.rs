//! The hub on a store in memory: it shows what is appended, survives what the store does, and never goes back.

use std::time::Duration;

use flagd_core::entry::{EntryId, EntryKind, EntryWrite};
use flagd_core::revision::{Digest, Epoch};
use flagd_proto::Message as _;
use flagd_proto::stream::{ServerMessage, server_message::Message};

use super::fulls::Encoding;
use super::resume::{Greeting, greet};
use super::roster::{Admission, Introduction};
use super::standing::Report;
use super::*;
use crate::store::log::{NewChange, Origin, Outcome, RosterEntry};
use crate::store::memory::Memory;
use crate::store::{Created, Store};

mod behind;
mod outage;

/// Where a client says that it stands, made of where the log stands.
type Claim = fn(Position) -> Position;

const LONG: Duration = Duration::from_mins(1);

fn name() -> EnvironmentName {
    EnvironmentName::new("default").unwrap()
}

async fn fresh() -> Log {
    let log = Log::new(Arc::new(Memory::new(u64::MAX)) as Arc<dyn Store>);
    assert_eq!(log.create(&name(), 5).await.unwrap(), Created::New);
    log
}

async fn start(log: &Log) -> (Arc<Hub>, Arc<Environment>) {
    let hub = Hub::start(log.clone(), Clock::fixed(1_000_000)).await.unwrap();
    let environment = hub.environment(&name()).await.unwrap();
    (hub, environment)
}

/// Appends a change of one flag; where the log stands then.
async fn append(log: &Log, key: &str, value: bool) -> Position {
    let state = log.load(&name()).await.unwrap();
    let definition =
        format!(r#"{{"variants":{{"on":true,"off":false}},"offVariant":"off","enabled":{value}}}"#);
    let change = NewChange {
        origin: Origin { actor: "test".to_owned(), verb: "put".to_owned(), ..Origin::default() },
        time_ms: 7,
        writes: vec![EntryWrite::set(EntryId::new(EntryKind::FLAG, key), definition.into_bytes())],
        answer: Vec::new(),
        fingerprint: 0,
        source_base: None,
    };
    match log.append(&name(), &state, change).await.unwrap() {
        Outcome::Recorded(_) => log.head(&name()).await.unwrap().unwrap(),
        Outcome::Lost => panic!("nobody else writes"),
    }
}

fn report(position: Option<Position>) -> Report {
    Report { position, ..Report::default() }
}

fn hello(instance: u128, position: Option<Position>) -> Introduction {
    let known = RosterEntry {
        instance,
        connect_counter: 1,
        name: format!("shop-{instance}"),
        app: String::new(),
        app_version: String::new(),
        sdk: String::new(),
        level: 1,
        last_seen_ms: 0,
        position: None,
        via: String::new(),
    };
    Introduction { known, report: report(position), address: String::new() }
}

#[tokio::test(start_paused = true)]
async fn what_is_appended_is_shown_and_announced() {
    let log = fresh().await;
    let (hub, environment) = start(&log).await;
    let mut announcements = environment.announcements();
    for (key, value) in [("a", true), ("b", true), ("a", false)] {
        let head = append(&log, key, value).await;
        let view = environment.view_at(head, LONG).await;
        assert_eq!(view.state.position(), head);
        assert_eq!(view.snapshot.position(), head);
        assert_eq!(announcements.recv().await.unwrap().change.revision, head.revision);
    }
    assert_eq!(environment.view().snapshot.flag_keys(), ["a", "b"]);
    assert_eq!(environment.metrics().reloads.get(), 0);
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_view_that_does_not_come_is_told_as_it_is() {
    let log = fresh().await;
    let (hub, environment) = start(&log).await;
    let head = append(&log, "a", true).await;
    let future = Position { revision: Revision(99), ..head };
    assert_eq!(environment.view_at(future, Duration::from_secs(3)).await.state.revision(), head.revision);
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_environment_of_another_server_is_opened_and_an_unknown_one_is_not() {
    let log = fresh().await;
    let (hub, _) = start(&log).await;
    let staging = EnvironmentName::new("staging").unwrap();
    assert!(matches!(hub.environment(&staging).await, Err(StoreError::NoEnvironment(_))));
    log.create(&staging, 5).await.unwrap();
    assert_eq!(hub.environment(&staging).await.unwrap().name(), &staging);
    assert_eq!(hub.environments().len(), 2);
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_is_resumed_from_the_history_also_after_a_restart() {
    let log = fresh().await;
    let old = append(&log, "a", true).await;
    for value in [false, true, false] {
        append(&log, "a", value).await;
    }
    let (hub, environment) = start(&log).await;
    let Greeting::CatchUp { changes, until } = greet(&environment, &report(Some(old))).await else {
        panic!("the changes since are less than everything")
    };
    assert_eq!(until, environment.view().state.position());
    let revisions: Vec<_> = changes
        .iter()
        .flat_map(|frames| frames.iter())
        .map(|frame| match ServerMessage::decode(frame.message()).unwrap().message {
            Some(Message::Delta(delta)) => (delta.from, delta.to),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(revisions, [(1, 2), (2, 3), (3, 4)]);
    assert!(matches!(greet(&environment, &report(Some(until))).await, Greeting::UpToDate(_)));
    assert!(matches!(greet(&environment, &report(None)).await, Greeting::Full));
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn changes_larger_than_everything_become_a_full_state() {
    let log = fresh().await;
    let old = append(&log, "a", true).await;
    for step in 0..100 {
        append(&log, "a", step % 2 == 0).await;
    }
    let (hub, environment) = start(&log).await;
    assert!(matches!(greet(&environment, &report(Some(old))).await, Greeting::Full));
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_from_a_history_that_was_cut_gets_a_younger_epoch() {
    let other_digest = |at: Position| Position { digest: Digest(1), ..at };
    let later = |at: Position| Position { revision: Revision(at.revision.0 + 7), ..at };
    let rows: [(&str, Claim); 2] = [("later", later), ("another digest", other_digest)];
    for (row, claimed) in rows {
        let log = fresh().await;
        let head = append(&log, "a", true).await;
        let (hub, environment) = start(&log).await;
        assert!(matches!(greet(&environment, &report(Some(claimed(head)))).await, Greeting::Full), "{row}");
        let view = environment.view();
        assert!(view.state.position().epoch > head.epoch, "{row}");
        assert_eq!(view.snapshot.flag_keys(), ["a"], "{row}: the entries are as they were");
        assert_eq!(environment.alarms().len(), 1, "{row}");
        // One confused client must not begin epochs without end.
        let again = claimed(view.state.position());
        assert!(matches!(greet(&environment, &report(Some(again))).await, Greeting::GoAway(_)), "{row}");
        assert_eq!(environment.view().state.position().epoch, view.state.position().epoch, "{row}");
        hub.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_diverged_client_proves_nothing_about_history() {
    let log = fresh().await;
    let head = append(&log, "a", true).await;
    let (hub, environment) = start(&log).await;
    let diverged = Report { diverged: true, ..report(Some(Position { digest: Digest(1), ..head })) };
    assert!(matches!(greet(&environment, &diverged).await, Greeting::Full));
    assert_eq!(environment.view().state.position(), head);
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_of_a_younger_history_is_brought_back_by_one_that_is_younger_still() {
    let log = fresh().await;
    let head = append(&log, "a", true).await;
    let (hub, environment) = start(&log).await;
    let younger = Position { epoch: Epoch { minted_ms: head.epoch.minted_ms + 1, random: 0 }, ..head };
    assert!(matches!(greet(&environment, &report(Some(younger))).await, Greeting::Full));
    assert_eq!(environment.alarms().len(), 1);
    assert!(environment.view().state.position().epoch > younger.epoch, "nobody goes back in time");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_history_of_the_future_is_not_believed() {
    let log = fresh().await;
    let head = append(&log, "a", true).await;
    let (hub, environment) = start(&log).await;
    let future = Position { epoch: Epoch { minted_ms: u64::MAX - 1, random: 0 }, ..head };
    assert!(matches!(greet(&environment, &report(Some(future))).await, Greeting::GoAway(_)));
    assert_eq!(environment.view().state.position(), head);
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_store_sends_away_who_has_a_state() {
    let log = fresh().await;
    let (hub, environment) = start(&log).await;
    let ours = environment.view().state.position();
    let older = Position { epoch: Epoch { minted_ms: ours.epoch.minted_ms - 1, random: 0 }, ..ours };
    let older = Position { revision: Revision(7), ..older };
    assert!(matches!(greet(&environment, &report(Some(older))).await, Greeting::GoAway(_)));
    assert_eq!(environment.alarms().len(), 1);
    // The first change says that the store is meant.
    let head = append(&log, "a", true).await;
    environment.view_at(head, LONG).await;
    assert!(matches!(greet(&environment, &report(Some(older))).await, Greeting::Full));
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_younger_epoch_in_the_log_is_followed() {
    let log = fresh().await;
    let head = append(&log, "a", true).await;
    let (hub, environment) = start(&log).await;
    let state = log.load(&name()).await.unwrap();
    log.start_epoch(&name(), &state, 99, "a backup was restored").await.unwrap();
    let younger = log.head(&name()).await.unwrap().unwrap();
    assert_eq!(environment.view_at(younger, LONG).await.state.position(), younger);
    let after = append(&log, "a", false).await;
    assert_eq!(environment.view_at(after, LONG).await.state.position(), after);
    assert!(after.epoch > head.epoch);
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_roster_survives_a_restart() {
    let log = fresh().await;
    let (hub, environment) = start(&log).await;
    let head = environment.view().state.position();
    let Admission::Admitted { seat, replaced: _kept, .. } = environment.connect(hello(1, Some(head))).0
    else {
        panic!("the roster is empty")
    };
    let Admission::Admitted { seat: other, replaced: _kept_too, .. } =
        environment.connect(hello(2, Some(head))).0
    else {
        panic!("there is room")
    };
    environment.bye(other);
    let target = Target { position: head, touched: vec![] };
    assert_eq!(environment.standings(&target).verdict(), Verdict::Confirmed);
    environment.leave(seat);
    hub.stop().await;

    let (hub, environment) = start(&log).await;
    let standings = environment.standings(&target);
    let names: Vec<_> = standings.clients.iter().map(|c| (c.client.name.as_str(), c.standing)).collect();
    assert_eq!(names, [("shop-1", Standing::Lost)]);
    assert_eq!(standings.verdict(), Verdict::Unconfirmed);
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_client_is_remembered_even_if_the_server_is_killed() {
    let log = fresh().await;
    let (_killed, environment) = start(&log).await;
    // One after the other, so that most of them come while the saver gathers.
    for instance in 1..=20 {
        let (admission, save) = environment.connect(hello(instance, None));
        assert!(matches!(admission, Admission::Admitted { first_seen: true, .. }));
        environment.remembered(save.expect("it is new")).await;
        let remembered = log.roster(&name()).await.unwrap();
        assert!(remembered.iter().any(|known| known.instance == instance), "{instance} is not remembered");
        let again = Introduction {
            known: RosterEntry { connect_counter: 2, ..hello(instance, None).known },
            ..hello(instance, None)
        };
        assert_eq!(environment.connect(again).1, None, "a client that is known waits for nothing");
    }
}

#[tokio::test]
async fn who_does_not_look_at_the_full_state_keeps_nobody_from_it() {
    use futures_util::FutureExt as _;
    let log = fresh().await;
    append(&log, "a", true).await;
    let (hub, environment) = start(&log).await;
    let mut stuck = Box::pin(environment.full(Encoding::Plain));
    assert!(stuck.as_mut().now_or_never().is_none(), "it is not there at once");
    let other =
        tokio::time::timeout(LONG, environment.full(Encoding::Plain)).await.expect("somebody else gets it");
    assert_eq!(other.position, environment.view().state.position());
    drop(stuck);
    hub.stop().await;
}

#[derive(Debug)]
struct Deaf;

impl bell::Ear for Deaf {
    fn rung(&self) {}
}

#[tokio::test(start_paused = true)]
async fn streams_are_told_once_that_the_view_is_stale_and_once_that_it_is_not() {
    let clock = Clock::fixed(1_000_000);
    let hub = Hub::start(fresh().await, clock.clone()).await.unwrap();
    let environment = hub.environment(&name()).await.unwrap();
    let mut listener = environment.listen(Arc::new(Deaf));
    assert!(listener.has_rung());
    for (age_ms, is_told, is_stale) in [
        (limits::VIEW_AGE_MAX_MS, false, false),
        (limits::VIEW_AGE_MAX_MS + 1, true, true),
        (limits::VIEW_AGE_MAX_MS + 2, false, true),
        (0, true, false),
    ] {
        environment.confirm(1_000_000);
        clock.set(1_000_000 + age_ms);
        environment.note_age();
        assert_eq!(listener.has_rung(), is_told, "{age_ms} ms");
        assert_eq!(environment.is_stale(), is_stale, "{age_ms} ms");
    }
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_roster_is_told() {
    let log = fresh().await;
    let (hub, environment) = start(&log).await;
    let seen = environment.roster_changed(0).await;
    let waiting = tokio::spawn({
        let environment = Arc::clone(&environment);
        async move { environment.roster_changed(seen).await }
    });
    let admission = environment.connect(hello(1, None)).0;
    assert!(waiting.await.unwrap() > seen);
    drop(admission);
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_state_is_encoded_once_per_revision() {
    let log = fresh().await;
    append(&log, "a", true).await;
    let (hub, environment) = start(&log).await;
    let (one, two) = (environment.full(Encoding::Plain).await, environment.full(Encoding::Plain).await);
    assert!(Arc::ptr_eq(&one.frames, &two.frames));
    let head = append(&log, "a", false).await;
    environment.view_at(head, LONG).await;
    let three = environment.full(Encoding::Plain).await;
    assert_eq!(three.position, head);
    assert!(!Arc::ptr_eq(&one.frames, &three.frames));
    hub.stop().await;
}
