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
use flagd_server::store::{Answer, Append, Appended, BlobId, Created, Quota, RecordKind, RecordWrite, Store};
use flagd_tests::etcd::EtcdCluster;
use flagd_tests::{Dice, Node, Story, eventually};

/// What was done to the news.
#[derive(Debug, Default)]
struct Injected {
    dropped: AtomicU64,
    doubled: AtomicU64,
    reordered: AtomicU64,
    delayed: AtomicU64,
    gaps: AtomicU64,
}

/// An etcd whose `wait` and `changes` are not to be trusted.
#[derive(Debug)]
struct Twisted {
    etcd: Etcd,
    dice: std::sync::Mutex<Dice>,
    /// Heads that were seen, oldest first.
    past: std::sync::Mutex<Vec<Bytes>>,
    injected: Arc<Injected>,
}

impl Twisted {
    fn throw(&self, sides: u64) -> u64 {
        self.dice.lock().expect("no panic").throw(sides)
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
            loop {
                let head = self.etcd.wait(environment, &after).await?;
                let older = {
                    let mut past = self.past.lock().expect("no panic");
                    if past.last() != Some(&head) {
                        past.push(head.clone());
                    }
                    let back = 2 + usize::try_from(self.throw(3)).expect("small");
                    past.len().checked_sub(back).and_then(|at| past.get(at).cloned())
                };
                match (self.throw(5), older) {
                    (0, _) => {
                        self.injected.dropped.fetch_add(1, Ordering::SeqCst);
                        after = head;
                    }
                    (1, _) => {
                        self.injected.doubled.fetch_add(1, Ordering::SeqCst);
                        return Ok(seen.clone());
                    }
                    (2, Some(older)) => {
                        self.injected.reordered.fetch_add(1, Ordering::SeqCst);
                        return Ok(older);
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
    for (what, count) in
        [("dropped", &injected.dropped), ("doubled", &injected.doubled), ("reordered", &injected.reordered)]
    {
        assert!(count.load(Ordering::SeqCst) > 0, "nothing was {what}: {injected:?}");
    }
    if injected.gaps.load(Ordering::SeqCst) > 0 {
        let metrics = node.http("/metrics").await;
        let reloads = metrics.lines().find(|line| line.starts_with("flagd_reloads_total{"));
        assert!(reloads.is_some_and(|line| !line.ends_with(" 0")), "not counted: {reloads:?}");
    }
}
