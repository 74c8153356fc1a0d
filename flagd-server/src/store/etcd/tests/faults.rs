//! What a cluster goes through, done to the store: members that die or freeze, a lost quorum, a watch that shows
//! nothing, a compaction, an etcd from yesterday, no space left.

use std::sync::atomic::AtomicU64;
use std::time::Instant;

use tokio::time::timeout;

use super::proxy::{Passage, Proxy};
use super::*;

/// A bound on what must happen anyway, so that a store which loses a wake-up fails instead of hanging.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_mins(1), what).await.expect("the store never answered")
}

/// Calls `done` until it holds.
async fn until(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_mins(1), "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Appends until it is recorded, as a caller does that looks its request up after an unknown outcome.
async fn append(store: &Etcd, revision: u64) {
    let began = Instant::now();
    loop {
        match store.append(&name(), next(revision)).await {
            Ok(Appended::Recorded) => return,
            // Only this test writes: an attempt that was given up has landed.
            Ok(Appended::Lost(found)) if found == head(revision) => return,
            Ok(Appended::Lost(found)) => panic!("revision {revision} lost against {found:?}"),
            Err(StoreError::Unavailable(why)) => {
                assert!(began.elapsed() < Duration::from_mins(1), "revision {revision}: {why}");
            }
            Err(error) => panic!("revision {revision}: {error}"),
        }
    }
}

async fn all_changes(store: &Etcd) -> Vec<u64> {
    let mut found = Vec::new();
    loop {
        let from = Revision(found.len() as u64 + 1);
        let page = soon(store.changes(&name(), from, 1 << 20)).await.unwrap();
        if page.is_empty() {
            return found;
        }
        for (revision, bytes) in page {
            assert_eq!(bytes, next(revision.0).change.unwrap());
            found.push(revision.0);
        }
    }
}

/// Follows the head from a task, as a hub does, up to a revision; answers with the revisions seen.
fn follow(store: &Arc<Etcd>, up_to: u64) -> tokio::task::JoinHandle<Vec<u64>> {
    let store = Arc::clone(store);
    tokio::spawn(async move {
        let (mut seen, mut revisions) = (head(0), Vec::new());
        while seen != head(up_to) {
            seen = match store.wait(&name(), &seen).await {
                Ok(head) => head,
                // Without a quorum not even the first head can be read.
                Err(StoreError::Unavailable(_)) => continue,
                Err(error) => panic!("{error}"),
            };
            let text = std::str::from_utf8(&seen).unwrap().strip_prefix("head ").unwrap();
            revisions.push(text.parse().unwrap());
        }
        revisions
    })
}

fn must_only_rise(revisions: &[u64]) {
    assert!(revisions.is_sorted_by(|one, two| one < two), "went back: {revisions:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_die_one_after_the_other_lose_no_acknowledged_change() {
    let mut cluster = EtcdCluster::start(3);
    let config = config(&cluster.endpoints());
    let (writer, reader) = (Arc::new(Etcd::new(config.clone())), Arc::new(Etcd::new(config)));
    writer.create(&name(), head(0)).await.unwrap();
    let follower = follow(&reader, 300);
    let appended = Arc::new(AtomicU64::new(0));
    let writing = {
        let (writer, appended) = (Arc::clone(&writer), Arc::clone(&appended));
        tokio::spawn(async move {
            for revision in 1..=300 {
                append(&writer, revision).await;
                appended.store(revision, Ordering::SeqCst);
                // So slow that the deaths fall among the appends.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
    };
    for (victim, after) in [(0, 20), (1, 100), (2, 180)] {
        until("changes before the next death", || appended.load(Ordering::SeqCst) >= after).await;
        cluster = tokio::task::spawn_blocking(move || {
            cluster.kill(victim);
            cluster.restart(victim);
            cluster
        })
        .await
        .unwrap();
    }
    writing.await.unwrap();
    let seen = soon(follower).await.unwrap();
    must_only_rise(&seen);
    assert_eq!(all_changes(&reader).await, (1..=300).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_member_delays_and_stops_nothing() {
    let cluster = EtcdCluster::start(3);
    let config = config(&cluster.endpoints());
    let (writer, reader) = (Arc::new(Etcd::new(config.clone())), Arc::new(Etcd::new(config)));
    writer.create(&name(), head(0)).await.unwrap();
    let follower = follow(&reader, 60);
    let leader = cluster.leader();
    let mut revision = 0;
    for member in [(leader + 1) % 3, leader] {
        cluster.freeze(member);
        for _ in 0..30 {
            revision += 1;
            append(&writer, revision).await;
        }
        cluster.thaw(member);
    }
    must_only_rise(&soon(follower).await.unwrap());
    assert_eq!(all_changes(&reader).await, (1..=60).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_appends_fail_soon_and_come_back_with_it() {
    let mut cluster = EtcdCluster::start(3);
    let store = Arc::new(Etcd::new(config(&cluster.endpoints())));
    store.create(&name(), head(0)).await.unwrap();
    append(&store, 1).await;
    cluster.kill(1);
    cluster.kill(2);
    let began = Instant::now();
    let refused = store.append(&name(), next(2)).await;
    assert!(began.elapsed() < Duration::from_secs(3), "took {:?}", began.elapsed());
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    let began = Instant::now();
    assert!(matches!(store.head(&name()).await, Err(StoreError::Unavailable(_))));
    assert!(began.elapsed() < Duration::from_secs(3), "took {:?}", began.elapsed());
    let follower = follow(&store, 2);
    cluster = tokio::task::spawn_blocking(move || {
        cluster.restart_all(&[1, 2]);
        cluster
    })
    .await
    .unwrap();
    append(&store, 2).await;
    assert_eq!(soon(follower).await.unwrap().last(), Some(&2));
    assert_eq!(all_changes(&store).await, [1, 2]);
    drop(cluster);
}

/// A store whose calls go to the member itself and whose first watch goes through the proxy.
async fn with_a_proxied_watch(mend: impl FnOnce(&mut EtcdConfig)) -> (Arc<Etcd>, Proxy, Etcd) {
    let direct = one().endpoints();
    let proxy = Proxy::start(&direct[0]).await;
    let mut config = config(&[direct[0].clone(), proxy.address()]);
    let writer = Etcd::new(EtcdConfig { endpoints: direct, ..config.clone() });
    mend(&mut config);
    let store = Arc::new(Etcd::new(config));
    writer.create(&name(), head(0)).await.unwrap();
    (store, proxy, writer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_whose_answer_is_lost_is_found_to_have_been_made() {
    let direct = one().endpoints();
    let proxy = Proxy::start(&direct[0]).await;
    let mut config = config(&[proxy.address(), direct[0].clone()]);
    config.patience.attempt = Duration::from_millis(300);
    let bystander = Etcd::new(EtcdConfig { endpoints: direct, ..config.clone() });

    // Each time a store of its own, whose first endpoint is the proxy and whose second is not.
    let store = Etcd::new(config.clone());
    store.head(&name()).await.unwrap();
    proxy.set(Passage::SwallowAnswers);
    assert_eq!(store.create(&name(), head(0)).await.unwrap(), Created::New);
    assert_eq!(store.counters().failed_attempts.get(), 1);
    assert_eq!(bystander.head(&name()).await.unwrap(), Some(head(0)));
    proxy.set(Passage::Open);

    let store = Etcd::new(config.clone());
    store.head(&name()).await.unwrap();
    proxy.set(Passage::SwallowAnswers);
    assert_eq!(store.append(&name(), next(1)).await.unwrap(), Appended::Recorded);
    assert_eq!(store.counters().failed_attempts.get(), 1);
    assert_eq!(all_changes(&bystander).await, [1]);
    let alone = Append { change: None, head: Bytes::from_static(b"younger"), ..next(2) };
    let store = Etcd::new(config.clone());
    assert_eq!(store.append(&name(), alone).await.unwrap(), Appended::Recorded);
    proxy.set(Passage::Open);

    // Of somebody else's change at the same revision it does not believe that it is its own.
    let store = Etcd::new(config);
    store.head(&name()).await.unwrap();
    proxy.set(Passage::SwallowAll);
    let back = Append { expected_head: Bytes::from_static(b"younger"), ..next(2) };
    let theirs = Append { change: Some(Bytes::from_static(b"theirs")), ..back.clone() };
    assert_eq!(bystander.append(&name(), theirs).await.unwrap(), Appended::Recorded);
    assert_eq!(store.append(&name(), back).await.unwrap(), Appended::Lost(head(2)));
    assert_eq!(store.counters().failed_attempts.get(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_the_watch_loses_is_found_by_the_read_and_counted() {
    let (store, proxy, writer) = with_a_proxied_watch(|config| {
        // Only the read can find it: the silence of the connection would be noticed much later.
        config.patience.keep_alive_interval = Duration::from_hours(1);
        config.patience.head_read_interval = Duration::from_millis(500);
        config.patience.watch_grace = Duration::from_millis(100);
    })
    .await;
    let waiting = follow(&store, 1);
    until("a watch", || store.counters().watches.get() == 1).await;
    append(&writer, 1).await;
    assert_eq!(soon(waiting).await.unwrap(), [1]);
    assert_eq!(store.counters().lost_events.get(), 0);
    proxy.set(Passage::SwallowAnswers);
    append(&writer, 2).await;
    assert_eq!(soon(store.wait(&name(), &head(1))).await.unwrap(), head(2));
    until("the divergence is counted and another watch opened", || {
        store.counters().lost_events.get() == 1 && store.counters().watches.get() == 2
    })
    .await;
    assert!(proxy.swallowed() > 0);
    append(&writer, 3).await;
    assert_eq!(soon(store.wait(&name(), &head(2))).await.unwrap(), head(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_half_open_is_given_up() {
    let (store, proxy, writer) = with_a_proxied_watch(|config| {
        // Only the ping can find it. etcd takes offence at pings in such numbers, but none arrives.
        config.patience.head_read_interval = Duration::from_hours(1);
        config.patience.keep_alive_interval = Duration::from_millis(500);
        config.patience.keep_alive_timeout = Duration::from_millis(200);
    })
    .await;
    let waiting = follow(&store, 2);
    until("a watch", || store.counters().watches.get() == 1).await;
    proxy.set(Passage::SwallowAll);
    append(&writer, 1).await;
    append(&writer, 2).await;
    assert_eq!(soon(waiting).await.unwrap().last(), Some(&2));
    assert!(store.counters().watch_ends.get() >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_under_the_watch_loses_nothing() {
    let mut cluster = EtcdCluster::start(1);
    let proxy = Proxy::start(&cluster.endpoints()[0]).await;
    let direct = config(&cluster.endpoints());
    let writer = Etcd::new(direct.clone());
    let store = Arc::new(Etcd::new(EtcdConfig { endpoints: vec![proxy.address()], ..direct }));
    writer.create(&name(), head(0)).await.unwrap();
    let waiting = follow(&store, 50);
    until("a watch", || store.counters().watches.get() == 1).await;
    proxy.set(Passage::SwallowAll);
    for revision in 1..=49 {
        append(&writer, revision).await;
    }
    cluster.compact();
    // Gone and back: the watch must not insist on revisions that etcd has forgotten.
    cluster.kill(0);
    proxy.set(Passage::Open);
    cluster.restart(0);
    append(&writer, 50).await;
    must_only_rise(&soon(waiting).await.unwrap());
    assert_eq!(all_changes(&store).await, (1..=50).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_from_yesterday_is_believed_and_counted() {
    let mut cluster = EtcdCluster::start(1);
    let mut config = config(&cluster.endpoints());
    config.patience.head_read_interval = Duration::from_millis(200);
    let store = Arc::new(Etcd::new(config));
    store.create(&name(), head(0)).await.unwrap();
    append(&store, 1).await;
    let backup = cluster.folder().join("backup");
    cluster.snapshot(0, &backup);
    for revision in 2..=5 {
        append(&store, revision).await;
    }
    assert_eq!(soon(store.wait(&name(), &head(4))).await.unwrap(), head(5));
    cluster.restore(&backup);
    assert_eq!(soon(store.wait(&name(), &head(5))).await.unwrap(), head(1));
    assert_eq!(store.counters().went_back.get(), 1);
    // And the watch goes on from there.
    append(&store, 2).await;
    assert_eq!(soon(store.wait(&name(), &head(1))).await.unwrap(), head(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_environment_that_is_removed_is_missed_and_not_made_again() {
    let config = config(&one().endpoints());
    let prefix = format!("/{}/", config.prefix);
    let store = Arc::new(Etcd::new(config));
    store.create(&name(), head(0)).await.unwrap();
    append(&store, 1).await;
    let waiting = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.wait(&name(), &head(1)).await })
    };
    until("a watch", || store.counters().watches.get() == 1).await;
    one().etcdctl_at(0, &["del", "--prefix", &prefix]).unwrap();
    assert!(matches!(soon(waiting).await.unwrap(), Err(StoreError::NoEnvironment(_))));
    assert!(matches!(store.append(&name(), next(2)).await, Err(StoreError::NoEnvironment(_))));
    assert_eq!(store.head(&name()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_etcd_would_refuse_is_refused_before_it_is_sent() {
    let store = Etcd::new(config(&one().endpoints()));
    store.create(&name(), head(0)).await.unwrap();
    let large = |bytes: usize| Append { change: Some(vec![7; bytes].into()), ..next(1) };
    assert!(matches!(store.append(&name(), large(1_300 << 10)).await, Err(StoreError::TooLarge { .. })));
    assert_eq!(store.append(&name(), large(1_200 << 10)).await.unwrap(), Appended::Recorded);
    let record = |number| RecordWrite {
        kind: RecordKind::Roster,
        key: format!("{number}"),
        value: Some(Bytes::from_static(b"client")),
    };
    let many = |count: usize| (0..count).map(record).collect::<Vec<_>>();
    let most = crate::limits::RECORDS_AT_ONCE_MAX;
    store.put_records(&name(), many(most)).await.unwrap();
    let with_records = Append { records: many(most), ..next(2) };
    assert_eq!(store.append(&name(), with_records).await.unwrap(), Appended::Recorded);
    assert!(matches!(store.put_records(&name(), many(most + 5)).await, Err(StoreError::TooMany { .. })));
    assert_eq!(store.list_records(&name(), RecordKind::Roster).await.unwrap().len(), most);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_beyond_one_answer_come_in_smaller_pages() {
    let store = Etcd::new(config(&one().endpoints()));
    store.create(&name(), head(0)).await.unwrap();
    // Small ones first, so that the scan aims too high for the large ones that follow.
    for revision in 1..=30 {
        let bytes = if revision <= 20 { 10 } else { 1 << 20 };
        let change = Some(Bytes::from(vec![7; bytes]));
        let appended = store.append(&name(), Append { change, ..next(revision) }).await.unwrap();
        assert_eq!(appended, Appended::Recorded);
    }
    let found = store.changes(&name(), Revision(1), usize::MAX).await.unwrap();
    assert!(found.iter().map(|(revision, _)| revision.0).eq(1..=30));
    assert!(found.iter().skip(20).all(|(_, bytes)| bytes.len() == 1 << 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_etcd_says_so_and_still_lets_records_go() {
    let cluster = EtcdCluster::start_with(1, &["--quota-backend-bytes", "4194304"]);
    let mut config = config(&cluster.endpoints());
    config.quota_bytes = 4 << 20;
    let store = Etcd::new(config);
    store.create(&name(), head(0)).await.unwrap();
    let mut number = 0_u32;
    let error = loop {
        let mut bytes = vec![7; BLOB_MAX_BYTES];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        match store.put_blob(&name(), bytes.into()).await {
            Ok(_) => number += 1,
            Err(error) => break error,
        }
        assert!(number < 100, "the quota does not hold");
    };
    assert!(matches!(error, StoreError::Full(_)), "{error}");
    let quota = store.quota().await.unwrap();
    assert!(quota.used_bytes >= quota.limit_bytes * 3 / 4, "{quota:?}");
    assert!(matches!(store.append(&name(), next(1)).await, Err(StoreError::Full(_))));
    let removal = RecordWrite { kind: RecordKind::Meta, key: "a".to_owned(), value: None };
    store.put_records(&name(), vec![removal]).await.unwrap();
    assert_eq!(store.head(&name()).await.unwrap(), Some(head(0)));
}
