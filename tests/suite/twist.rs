//! A store whose news are lost, come twice and come in the wrong order: the servers heal, count it, and nobody goes
//! back in time.
//!
//! The injector stands between a server in this process and a real etcd; nothing is made up but the order and the loss.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flagd_core::key::EnvironmentName;
use flagd_core::revision::Revision;
use flagd_proto::admin::change_request::Operation;
use flagd_proto::admin::{Put, PutMode};
use flagd_server::store::etcd::{Etcd, EtcdConfig};
use flagd_server::store::{
    Answer, Append, Appended, BlobId, Created, Divergences, Past, Quota, RecordKind, RecordWrite, Store,
};
use flagd_tests::etcd::EtcdCluster;
use flagd_tests::meddler::{Meddler, Meddling};
use flagd_tests::{Dice, Node, Story, eventually};

/// What was done to the news.
#[derive(Debug, Default)]
struct Injected {
    dropped: AtomicU64,
    doubled: AtomicU64,
    late: AtomicU64,
    delayed: AtomicU64,
    gaps: AtomicU64,
}

/// An etcd whose `wait` and `changes` are not to be trusted.
#[derive(Debug)]
struct Twisted {
    etcd: Etcd,
    dice: std::sync::Mutex<Dice>,
    /// Heads that somebody has seen who waited, oldest first.
    past: std::sync::Mutex<Vec<Bytes>>,
    injected: Arc<Injected>,
}

impl Twisted {
    fn throw(&self, sides: u64) -> u64 {
        self.dice.lock().expect("no panic").throw(sides)
    }

    /// One of the heads before the one that was seen.
    fn older_than(&self, seen: &Bytes) -> Option<Bytes> {
        let mut past = self.past.lock().expect("no panic");
        if past.last() != Some(seen) {
            past.push(seen.clone());
        }
        let back = 2 + usize::try_from(self.throw(3)).expect("small");
        past.len().checked_sub(back).and_then(|at| past.get(at).cloned())
    }
}

impl Store for Twisted {
    fn describe(&self) -> String {
        self.etcd.describe()
    }
    fn environments(&self) -> Answer<'_, Vec<EnvironmentName>> {
        self.etcd.environments()
    }
    fn create<'a>(&'a self, environment: &'a EnvironmentName, head: Bytes) -> Answer<'a, Created> {
        self.etcd.create(environment, head)
    }
    fn head<'a>(&'a self, environment: &'a EnvironmentName) -> Answer<'a, Option<Bytes>> {
        self.etcd.head(environment)
    }
    fn append<'a>(&'a self, environment: &'a EnvironmentName, append: Append) -> Answer<'a, Appended> {
        self.etcd.append(environment, append)
    }
    fn changes<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        from: Revision,
        max_bytes: usize,
    ) -> Answer<'a, Vec<(Revision, Bytes)>> {
        Box::pin(async move {
            let mut page = self.etcd.changes(environment, from, max_bytes).await?;
            if self.throw(3) == 0 {
                self.injected.delayed.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(self.throw(30))).await;
            }
            // Whoever asks for one change by its number is not following.
            if max_bytes > 1 && page.len() > 1 && self.throw(4) == 0 {
                self.injected.gaps.fetch_add(1, Ordering::SeqCst);
                page.remove(0);
            }
            Ok(page)
        })
    }
    fn oldest<'a>(&'a self, environment: &'a EnvironmentName) -> Answer<'a, Option<Revision>> {
        self.etcd.oldest(environment)
    }
    fn wait<'a>(&'a self, environment: &'a EnvironmentName, seen: &'a Bytes) -> Answer<'a, Bytes> {
        Box::pin(async move {
            let mut after = seen.clone();
            let older = self.older_than(seen);
            loop {
                let head = self.etcd.wait(environment, &after).await?;
                match (self.throw(5), &older) {
                    (0, _) => {
                        self.injected.dropped.fetch_add(1, Ordering::SeqCst);
                        after = head;
                    }
                    (1, _) => {
                        self.injected.doubled.fetch_add(1, Ordering::SeqCst);
                        return Ok(seen.clone());
                    }
                    (2, Some(older)) => {
                        self.injected.late.fetch_add(1, Ordering::SeqCst);
                        return Ok(older.clone());
                    }
                    _ => return Ok(head),
                }
            }
        })
    }
    fn put_blob<'a>(&'a self, environment: &'a EnvironmentName, bytes: Bytes) -> Answer<'a, BlobId> {
        self.etcd.put_blob(environment, bytes)
    }
    fn get_blob<'a>(&'a self, environment: &'a EnvironmentName, id: BlobId) -> Answer<'a, Option<Bytes>> {
        self.etcd.get_blob(environment, id)
    }
    fn put_records<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        writes: Vec<RecordWrite>,
    ) -> Answer<'a, ()> {
        self.etcd.put_records(environment, writes)
    }
    fn get_record<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        kind: RecordKind,
        key: &'a str,
    ) -> Answer<'a, Option<Bytes>> {
        self.etcd.get_record(environment, kind, key)
    }
    fn list_records<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        kind: RecordKind,
    ) -> Answer<'a, Vec<(String, Bytes)>> {
        self.etcd.list_records(environment, kind)
    }
    fn announce(&self, server: u128, announcement: Bytes) -> Answer<'_, ()> {
        self.etcd.announce(server, announcement)
    }
    fn withdraw(&self, server: u128) -> Answer<'_, ()> {
        self.etcd.withdraw(server)
    }
    fn announced(&self) -> Answer<'_, Vec<(u128, Bytes)>> {
        self.etcd.announced()
    }
    fn quota(&self) -> Answer<'_, Quota> {
        self.etcd.quota()
    }
    fn past(&self) -> Answer<'_, Past> {
        self.etcd.past()
    }
    fn mark_used(&self) -> Answer<'_, ()> {
        self.etcd.mark_used()
    }
    fn divergences(&self) -> Divergences {
        self.etcd.divergences()
    }
}

fn put(text: &str) -> Operation {
    let file = format!(r#"{{"flags": {{"shop": {{"rollout": 100, "description": "{text}"}}}}}}"#);
    Operation::Put(Put { file: file.into(), mode: PutMode::CreateOrReplace.into() })
}

const CHANGES: u64 = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn news_dropped_doubled_and_reordered_during_300_changes_are_healed_and_counted() {
    let dice = Dice::new();
    let story = Story::default();
    story.tell(format!("FLAGD_TEST_SEED={}", dice.seed()));
    let etcd = tokio::task::block_in_place(|| EtcdCluster::start(1));
    let config = EtcdConfig::parse(&format!("etcd://{}/twist", etcd.endpoints()[0])).expect("an address");
    let injected = Arc::new(Injected::default());
    let straight = Node::start("straight", Arc::new(Etcd::new(config.clone()))).await;
    let twisted = Twisted {
        etcd: Etcd::new(config),
        dice: dice.into(),
        past: std::sync::Mutex::default(),
        injected: Arc::clone(&injected),
    };
    let node = Node::start("twisted", Arc::new(twisted)).await;
    let client = node.client("behind").await;
    let wrongs = Arc::new(AtomicU64::new(0));
    let _watching = {
        let (newest, wrongs) = (AtomicU64::new(0), Arc::clone(&wrongs));
        client.on_change(move |update| {
            if newest.swap(update.revision, Ordering::SeqCst) > update.revision {
                wrongs.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    for number in 0..CHANGES {
        straight.change(put(&format!("change {number}"))).await;
    }
    let written = Instant::now();
    eventually("the client behind the twisted news has all", async || client.status().revision == CHANGES)
        .await;
    story.tell(format!("healed {:?} after the last change; {injected:?}", written.elapsed()));
    let direct = straight.client("direct").await;
    assert_eq!(client.status().digest, direct.status().digest);
    assert_eq!(client.status().epoch, direct.status().epoch);
    assert_eq!(wrongs.load(Ordering::SeqCst), 0, "the client went back");
    assert_eq!(straight.status().await.alarms, Vec::<String>::new(), "nothing was cut");
    assert_eq!(
        straight.status().await.environment.and_then(|e| e.position).map_or(0, |p| p.revision),
        CHANGES
    );
    let dropped = injected.dropped.load(Ordering::SeqCst);
    assert!(dropped > 0, "{injected:?}");
    // What was told wrongly is counted one for one. (What was not told at all is found by a read, several at a time.)
    let counted = async |sorts: &[&str]| {
        let metrics = node.http("/metrics").await;
        let count = |sort: &&str| {
            sample(
                &metrics,
                &format!("flagd_view_divergences_total{{environment=\"default\",sort=\"{sort}\"}}"),
            )
        };
        sorts.iter().map(count).sum::<u64>()
    };
    for (sorts, injected) in [
        (&["doubled"][..], &injected.doubled),
        (&["late"], &injected.late),
        // A change that is left out is missed where it would have followed, or where the whole state is put together.
        (&["gap", "unreadable"], &injected.gaps),
    ] {
        let injected = injected.load(Ordering::SeqCst);
        assert!(injected > 0, "none {sorts:?}");
        eventually(&format!("{injected} {sorts:?} are counted"), async || counted(sorts).await == injected)
            .await;
    }
    assert_eq!(counted(&["digest"]).await, 0);
}

/// The value of a sample in a page of metrics.
fn sample(metrics: &str, name: &str) -> u64 {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in\n{metrics}"))
}

const MEDDLINGS: u32 = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_a_watch_of_etcd_loses_doubles_and_delays_are_healed_and_counted_one_for_one() {
    let mut dice = Dice::new();
    let story = Story::default();
    story.tell(format!("FLAGD_TEST_SEED={}", dice.seed()));
    let etcd = tokio::task::block_in_place(|| EtcdCluster::start(1));
    let direct = EtcdConfig::parse(&format!("etcd://{}/meddled", etcd.endpoints()[0])).expect("an address");
    let meddler = Meddler::start(&etcd.endpoints()[0]).await;
    let mut through = EtcdConfig { endpoints: vec![meddler.address().to_owned()], ..direct.clone() };
    // A machine that is busy for a moment must not look like a watch that loses something.
    through.patience.watch_grace = Duration::from_secs(3);
    let straight = Node::start("straight", Arc::new(Etcd::new(direct))).await;
    let node = Node::start("meddled-with", Arc::new(Etcd::new(through))).await;
    let client = node.client("behind").await;
    let mut injected =
        [(Meddling::Lose, "lost", 0), (Meddling::Double, "doubled", 0), (Meddling::Delay, "late", 0)];
    let (mut changes, mut watches) = (0, 0);
    for round in 0..MEDDLINGS {
        // A watch that is just being given up has nobody to tell of a change.
        eventually("the server watches", async || meddler.is_watched_after(watches)).await;
        // Each sort comes, the rest is chance.
        let first = usize::try_from(round).expect("small");
        let which = if first < injected.len() { first } else { dice.pick(injected.len()) };
        let (meddling, sort, count) = &mut injected[which];
        story.note(format!("{meddling:?} after change {changes}"));
        meddler.next(*meddling);
        while meddler.is_pending() {
            changes += 1;
            straight.change(put(&format!("change {changes}"))).await;
            eventually("the change is shown", async || client.status().revision == changes).await;
        }
        *count += 1;
        // Whatever is lost or late ends the watch.
        watches += u64::from(*meddling != Meddling::Double);
        let name = format!("flagd_store_divergences_total{{sort=\"{sort}\"}}");
        let counted = async || sample(&node.http("/metrics").await, &name) == *count;
        eventually(&format!("it is counted: {count} {sort}; {}", story.all()), counted).await;
    }
    story.tell(format!("{changes} changes, {injected:?}"));
    // Nothing was counted that was not done.
    let metrics = node.http("/metrics").await;
    for (_, sort, count) in injected {
        assert_eq!(
            sample(&metrics, &format!("flagd_store_divergences_total{{sort=\"{sort}\"}}")),
            count,
            "{sort}"
        );
    }
    for sort in ["stale-read", "went-back"] {
        assert_eq!(
            sample(&metrics, &format!("flagd_store_divergences_total{{sort=\"{sort}\"}}")),
            0,
            "{sort}"
        );
    }
    let other = straight.client("direct").await;
    assert_eq!(client.status().digest, other.status().digest);
}
