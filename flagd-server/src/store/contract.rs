//! What every store must do, as one suite of tests.
//!
//! A store that passes is safe to put under the log: nothing acknowledged is lost, nobody sees two orders, and a
//! waiter misses nothing. A new store writes `contract::suite!(async { ... })` in its tests and is done; one that
//! survives its process adds `survives_reopening`.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use flagd_core::key::EnvironmentName;
use flagd_core::revision::Revision;

use super::{Answer, Append, Appended, BlobId, Created, RecordKind, RecordWrite, Store, StoreError};
use crate::limits::{ANNOUNCED_FOR, BLOB_MAX_BYTES};

/// Runs every test of the suite, each on a store of its own from the future that is given; beside the store it gives
/// what must be kept until the test's end, such as a folder.
macro_rules! suite {
    ($open:expr) => {
        crate::store::contract::suite! { $open;
            load_then_next_has_no_gap_and_no_repeat
            a_lost_comparison_changes_nothing
            of_racing_appenders_exactly_one_wins_each_revision
            two_watchers_see_one_order
            a_wait_that_is_dropped_loses_nothing
            a_wait_returns_at_once_when_the_head_has_moved
            records_are_written_with_the_append_or_not_at_all
            records_are_listed_by_kind_and_removed
            blobs_are_named_by_their_bytes
            creating_twice_changes_nothing
            nothing_comes_from_writing_to_a_missing_environment
            environments_are_apart
            changes_come_in_pages
            a_head_can_move_alone
            announcements_hold_until_withdrawn_or_for_a_while
        }
    };
    ($open:expr; $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let (store, _kept): (std::sync::Arc<dyn crate::store::Store>, _) = $open.await;
                crate::store::contract::$name(store).await;
            }
        )*
    };
}
pub(crate) use suite;

fn name(text: &str) -> EnvironmentName {
    EnvironmentName::new(text).unwrap()
}

fn head(revision: u64) -> Bytes {
    Bytes::from(format!("head {revision}"))
}

fn body(revision: u64) -> Bytes {
    Bytes::from(format!("change {revision}"))
}

/// The append that makes `revision` out of the one before.
fn next(revision: u64) -> Append {
    Append {
        expected_head: head(revision - 1),
        head: head(revision),
        revision: Revision(revision),
        change: Some(body(revision)),
        records: Vec::new(),
    }
}

fn record(kind: RecordKind, key: &str, value: Option<&'static str>) -> RecordWrite {
    RecordWrite { kind, key: key.to_owned(), value: value.map(|value| Bytes::from_static(value.as_bytes())) }
}

async fn with_changes(store: &dyn Store, environment: &EnvironmentName, changes: u64) {
    assert_eq!(store.create(environment, head(0)).await.unwrap(), Created::New);
    for revision in 1..=changes {
        assert_eq!(store.append(environment, next(revision)).await.unwrap(), Appended::Recorded);
    }
}

/// A bound on what must happen anyway, so that a store which loses a wake-up fails instead of hanging.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(1), what).await.expect("the store never answered")
}

/// Polls a future once.
async fn is_pending<T>(future: &mut Answer<'_, T>) -> bool {
    std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

pub(crate) async fn load_then_next_has_no_gap_and_no_repeat(store: Arc<dyn Store>) {
    let default = name("default");
    with_changes(&*store, &default, 3).await;
    let appender = {
        let (store, default) = (Arc::clone(&store), default.clone());
        tokio::spawn(async move {
            for revision in 4..=40 {
                store.append(&default, next(revision)).await.unwrap();
            }
        })
    };
    let mut seen_head = head(0);
    let mut seen = Vec::new();
    while seen.len() < 40 {
        seen_head = soon(store.wait(&default, &seen_head)).await.unwrap();
        let from = Revision(seen.len() as u64 + 1);
        seen.extend(store.changes(&default, from, 1 << 20).await.unwrap());
    }
    let wanted: Vec<_> = (1..=40).map(|revision| (Revision(revision), body(revision))).collect();
    assert_eq!(seen, wanted);
    appender.await.unwrap();
}

pub(crate) async fn a_lost_comparison_changes_nothing(store: Arc<dyn Store>) {
    let default = name("default");
    with_changes(&*store, &default, 2).await;
    let mut late = next(2);
    late.head = Bytes::from_static(b"another");
    late.change = Some(Bytes::from_static(b"another"));
    late.records = vec![record(RecordKind::Request, "late", Some("answer"))];
    assert_eq!(store.append(&default, late).await.unwrap(), Appended::Lost(head(2)));
    assert_eq!(store.head(&default).await.unwrap(), Some(head(2)));
    let changes = store.changes(&default, Revision(1), 1 << 20).await.unwrap();
    assert_eq!(changes, [(Revision(1), body(1)), (Revision(2), body(2))]);
    assert_eq!(store.get_record(&default, RecordKind::Request, "late").await.unwrap(), None);
}

pub(crate) async fn of_racing_appenders_exactly_one_wins_each_revision(store: Arc<dyn Store>) {
    let default = name("default");
    with_changes(&*store, &default, 0).await;
    let race = |racer: &'static str| {
        let (store, default) = (Arc::clone(&store), default.clone());
        tokio::spawn(async move {
            let mut won = Vec::new();
            for revision in 1..=30 {
                let change = Some(Bytes::from_static(racer.as_bytes()));
                match store.append(&default, Append { change, ..next(revision) }).await.unwrap() {
                    Appended::Recorded => {
                        won.push((Revision(revision), Bytes::from_static(racer.as_bytes())));
                    }
                    Appended::Lost(found) => assert_ne!(found, head(revision - 1)),
                }
                // Whoever is ahead waits for nobody; whoever is behind catches up by losing.
            }
            won
        })
    };
    let (one, two) = (race("one"), race("two"));
    let mut won = one.await.unwrap();
    won.extend(two.await.unwrap());
    won.sort();
    assert_eq!(won.len(), 30, "each revision has one winner");
    assert_eq!(store.changes(&default, Revision(1), 1 << 20).await.unwrap(), won);
}

pub(crate) async fn two_watchers_see_one_order(store: Arc<dyn Store>) {
    let default = name("default");
    with_changes(&*store, &default, 0).await;
    let watch = || {
        let (store, default) = (Arc::clone(&store), default.clone());
        tokio::spawn(async move {
            let (mut seen_head, mut seen) = (head(0), Vec::new());
            while seen.len() < 25 {
                seen_head = soon(store.wait(&default, &seen_head)).await.unwrap();
                seen.extend(store.changes(&default, Revision(seen.len() as u64 + 1), 8).await.unwrap());
                if seen.len() < 25 && seen_head == head(25) {
                    seen_head = head(0);
                }
            }
            seen
        })
    };
    let (one, two) = (watch(), watch());
    for revision in 1..=25 {
        store.append(&default, next(revision)).await.unwrap();
    }
    let (one, two) = (one.await.unwrap(), two.await.unwrap());
    assert_eq!(one, two);
    assert_eq!(one.last(), Some(&(Revision(25), body(25))));
}

pub(crate) async fn a_wait_that_is_dropped_loses_nothing(store: Arc<dyn Store>) {
    let default = name("default");
    with_changes(&*store, &default, 1).await;
    for revision in 2..=12 {
        let seen = head(revision - 1);
        let mut dropped = store.wait(&default, &seen);
        // Polled once, in the middle of its work, and given up.
        let pending = is_pending(&mut dropped).await;
        assert!(pending, "nothing has happened yet");
        drop(dropped);
        store.append(&default, next(revision)).await.unwrap();
        assert_eq!(soon(store.wait(&default, &seen)).await.unwrap(), head(revision));
    }
}

pub(crate) async fn a_wait_returns_at_once_when_the_head_has_moved(store: Arc<dyn Store>) {
    let default = name("default");
    with_changes(&*store, &default, 5).await;
    assert_eq!(soon(store.wait(&default, &head(2))).await.unwrap(), head(5));
    // And one that waits already is woken by the append.
    let seen = head(5);
    let append = async {
        tokio::task::yield_now().await;
        store.append(&default, next(6)).await.unwrap()
    };
    let (woken, _) = tokio::join!(soon(store.wait(&default, &seen)), append);
    assert_eq!(woken.unwrap(), head(6));
}

pub(crate) async fn records_are_written_with_the_append_or_not_at_all(store: Arc<dyn Store>) {
    let default = name("default");
    with_changes(&*store, &default, 0).await;
    let records = vec![
        record(RecordKind::Request, "r-1", Some("first answer")),
        record(RecordKind::Source, "ci", Some("base")),
    ];
    store.append(&default, Append { records, ..next(1) }).await.unwrap();
    let answer = store.get_record(&default, RecordKind::Request, "r-1").await.unwrap();
    assert_eq!(answer.as_deref(), Some(&b"first answer"[..]));
    let records = vec![record(RecordKind::Request, "r-1", Some("second answer"))];
    let lost = store.append(&default, Append { records, ..next(1) }).await.unwrap();
    assert_eq!(lost, Appended::Lost(head(1)));
    let answer = store.get_record(&default, RecordKind::Request, "r-1").await.unwrap();
    assert_eq!(answer.as_deref(), Some(&b"first answer"[..]));
}

pub(crate) async fn records_are_listed_by_kind_and_removed(store: Arc<dyn Store>) {
    let default = name("default");
    with_changes(&*store, &default, 0).await;
    let writes = vec![
        record(RecordKind::Roster, "b", Some("2")),
        record(RecordKind::Roster, "a", Some("1")),
        record(RecordKind::Meta, "a", Some("3")),
    ];
    store.put_records(&default, writes).await.unwrap();
    let listed = store.list_records(&default, RecordKind::Roster).await.unwrap();
    let wanted = [("a".to_owned(), Bytes::from_static(b"1")), ("b".to_owned(), Bytes::from_static(b"2"))];
    assert_eq!(listed, wanted);
    let writes = vec![record(RecordKind::Roster, "a", None), record(RecordKind::Roster, "b", Some("4"))];
    store.put_records(&default, writes).await.unwrap();
    let listed = store.list_records(&default, RecordKind::Roster).await.unwrap();
    assert_eq!(listed, [("b".to_owned(), Bytes::from_static(b"4"))]);
    assert_eq!(store.list_records(&default, RecordKind::Meta).await.unwrap().len(), 1);
}

pub(crate) async fn blobs_are_named_by_their_bytes(store: Arc<dyn Store>) {
    let default = name("default");
    with_changes(&*store, &default, 0).await;
    let largest = Bytes::from(vec![7; BLOB_MAX_BYTES]);
    let id = store.put_blob(&default, largest.clone()).await.unwrap();
    assert_eq!(id, BlobId::of(&largest));
    assert_eq!(store.put_blob(&default, largest.clone()).await.unwrap(), id);
    assert_eq!(store.get_blob(&default, id).await.unwrap(), Some(largest));
    assert_eq!(store.get_blob(&default, BlobId(1)).await.unwrap(), None);
    let one_past = Bytes::from(vec![7; BLOB_MAX_BYTES + 1]);
    assert!(matches!(store.put_blob(&default, one_past).await, Err(StoreError::TooLarge { .. })));
}

pub(crate) async fn creating_twice_changes_nothing(store: Arc<dyn Store>) {
    let default = name("default");
    assert_eq!(store.head(&default).await.unwrap(), None);
    with_changes(&*store, &default, 2).await;
    assert_eq!(store.create(&default, head(9)).await.unwrap(), Created::Existed);
    assert_eq!(store.head(&default).await.unwrap(), Some(head(2)));
    assert_eq!(store.environments().await.unwrap(), [default]);
}

fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::NoEnvironment(_))), "no error: {:?}", result.ok());
}

pub(crate) async fn nothing_comes_from_writing_to_a_missing_environment(store: Arc<dyn Store>) {
    let missing = name("missing");
    refused(store.append(&missing, next(1)).await);
    refused(store.put_blob(&missing, Bytes::from_static(b"blob")).await);
    refused(store.put_records(&missing, vec![record(RecordKind::Meta, "a", Some("1"))]).await);
    refused(store.changes(&missing, Revision(1), 1).await);
    refused(store.oldest(&missing).await);
    refused(store.get_blob(&missing, BlobId(1)).await);
    refused(store.get_record(&missing, RecordKind::Meta, "a").await);
    refused(store.list_records(&missing, RecordKind::Meta).await);
    refused(soon(store.wait(&missing, &head(0))).await);
    assert_eq!(store.head(&missing).await.unwrap(), None);
    assert_eq!(store.environments().await.unwrap(), []);
}

pub(crate) async fn environments_are_apart(store: Arc<dyn Store>) {
    // One name begins with the other, and one sorts right after the other's rows.
    let (one, two) = (name("prod"), name("prod-2"));
    with_changes(&*store, &one, 3).await;
    with_changes(&*store, &two, 1).await;
    store.put_records(&two, vec![record(RecordKind::Meta, "a", Some("1"))]).await.unwrap();
    let blob = store.put_blob(&one, Bytes::from_static(b"blob")).await.unwrap();
    assert_eq!(store.changes(&one, Revision(1), 1 << 20).await.unwrap().len(), 3);
    assert_eq!(store.changes(&two, Revision(1), 1 << 20).await.unwrap().len(), 1);
    assert_eq!(store.get_record(&one, RecordKind::Meta, "a").await.unwrap(), None);
    assert_eq!(store.list_records(&one, RecordKind::Meta).await.unwrap(), []);
    assert_eq!(store.get_blob(&two, blob).await.unwrap(), None);
    assert_eq!(store.environments().await.unwrap(), [one.clone(), two.clone()]);
    // A change of one does not wake who waits for the other.
    let seen = head(1);
    let mut waiting = store.wait(&two, &seen);
    assert!(is_pending(&mut waiting).await);
    store.append(&one, next(4)).await.unwrap();
    store.append(&two, next(2)).await.unwrap();
    assert_eq!(soon(waiting).await.unwrap(), head(2));
}

pub(crate) async fn changes_come_in_pages(store: Arc<dyn Store>) {
    let default = name("default");
    with_changes(&*store, &default, 5).await;
    let size = body(1).len();
    let revisions = |page: Vec<(Revision, Bytes)>| page.iter().map(|(r, _)| r.0).collect::<Vec<_>>();
    let cases: &[(&str, u64, usize, &[u64])] = &[
        ("at least one", 2, 0, &[2]),
        ("exactly two", 2, size * 2, &[2, 3]),
        ("one byte short of two", 2, size * 2 - 1, &[2]),
        ("all that are left", 4, 1 << 20, &[4, 5]),
        ("none yet", 6, 1 << 20, &[]),
        ("from before the first", 0, size, &[1]),
    ];
    for (case, from, max_bytes, wanted) in cases {
        let page = store.changes(&default, Revision(*from), *max_bytes).await.unwrap();
        assert_eq!(revisions(page), *wanted, "{case}");
    }
    assert_eq!(store.oldest(&default).await.unwrap(), Some(Revision(1)));
    let empty = name("empty");
    store.create(&empty, head(0)).await.unwrap();
    assert_eq!(store.oldest(&empty).await.unwrap(), None);
}

pub(crate) async fn a_head_can_move_alone(store: Arc<dyn Store>) {
    let default = name("default");
    with_changes(&*store, &default, 1).await;
    let alone = Append { change: None, head: Bytes::from_static(b"younger"), ..next(2) };
    assert_eq!(store.append(&default, alone).await.unwrap(), Appended::Recorded);
    assert_eq!(store.head(&default).await.unwrap().as_deref(), Some(&b"younger"[..]));
    assert_eq!(store.changes(&default, Revision(1), 1 << 20).await.unwrap().len(), 1);
}

/// For stores that keep what they are told: everything is there again. The first store must be closed, not merely
/// dropped by the caller, when `reopen` runs.
pub(crate) async fn survives_reopening(store: Arc<dyn Store>, reopen: impl FnOnce() -> Arc<dyn Store>) {
    let default = name("default");
    with_changes(&*store, &default, 3).await;
    let blob = store.put_blob(&default, Bytes::from_static(b"blob")).await.unwrap();
    store.put_records(&default, vec![record(RecordKind::Roster, "a", Some("1"))]).await.unwrap();
    let records = vec![record(RecordKind::Request, "r", Some("answer"))];
    store.append(&default, Append { records, ..next(4) }).await.unwrap();
    drop(store);
    let store = reopen();
    assert_eq!(store.environments().await.unwrap(), std::slice::from_ref(&default));
    assert_eq!(store.head(&default).await.unwrap(), Some(head(4)));
    let changes = store.changes(&default, Revision(1), 1 << 20).await.unwrap();
    assert_eq!(changes, (1..=4).map(|r| (Revision(r), body(r))).collect::<Vec<_>>());
    assert_eq!(store.get_blob(&default, blob).await.unwrap().as_deref(), Some(&b"blob"[..]));
    let roster = store.get_record(&default, RecordKind::Roster, "a").await.unwrap();
    assert_eq!(roster.as_deref(), Some(&b"1"[..]));
    let answer = store.get_record(&default, RecordKind::Request, "r").await.unwrap();
    assert_eq!(answer.as_deref(), Some(&b"answer"[..]));
    assert_eq!(store.append(&default, next(5)).await.unwrap(), Appended::Recorded);
}

pub(crate) async fn announcements_hold_until_withdrawn_or_for_a_while(store: Arc<dyn Store>) {
    let text = |text: &'static str| Bytes::from_static(text.as_bytes());
    assert_eq!(store.announced().await.unwrap(), []);
    store.announce(7, text("a")).await.unwrap();
    store.announce(u128::MAX, text("b")).await.unwrap();
    assert_eq!(store.announced().await.unwrap(), [(7, text("a")), (u128::MAX, text("b"))]);
    store.announce(7, text("a, again")).await.unwrap();
    assert_eq!(store.announced().await.unwrap(), [(7, text("a, again")), (u128::MAX, text("b"))]);
    store.withdraw(u128::MAX).await.unwrap();
    store.withdraw(9).await.unwrap();
    assert_eq!(store.announced().await.unwrap(), [(7, text("a, again"))]);
    // Who says nothing more is gone by itself; who says it again stays.
    store.announce(8, text("c")).await.unwrap();
    let only_c = async {
        loop {
            store.announce(8, text("c")).await.unwrap();
            if store.announced().await.unwrap() == [(8, text("c"))] {
                return;
            }
            tokio::time::sleep(ANNOUNCED_FOR / 10).await;
        }
    };
    soon(only_c).await;
    assert_eq!(store.environments().await.unwrap(), [], "announcements are no environments");
}
