//! A store that stops answering: the last view is served, its age grows, and afterwards nothing is missing.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::*;
use crate::store::{Answer, Append, Appended, BlobId, Quota, RecordKind, RecordWrite};

/// A store in memory behind a line that can be cut.
#[derive(Debug)]
struct Line {
    store: Memory,
    cut: AtomicBool,
}

impl Line {
    fn through<'a, T: Send + 'a>(&'a self, answer: Answer<'a, T>) -> Answer<'a, T> {
        Box::pin(async move {
            if self.cut.load(Ordering::SeqCst) {
                return Err(StoreError::Unavailable("the line is cut".to_owned()));
            }
            let answer = answer.await;
            if self.cut.load(Ordering::SeqCst) {
                return Err(StoreError::Unavailable("the line was cut".to_owned()));
            }
            answer
        })
    }
}

impl Store for Line {
    fn describe(&self) -> String {
        self.store.describe()
    }
    fn environments(&self) -> Answer<'_, Vec<EnvironmentName>> {
        self.through(self.store.environments())
    }
    fn create<'a>(&'a self, environment: &'a EnvironmentName, head: Bytes) -> Answer<'a, Created> {
        self.through(self.store.create(environment, head))
    }
    fn head<'a>(&'a self, environment: &'a EnvironmentName) -> Answer<'a, Option<Bytes>> {
        self.through(self.store.head(environment))
    }
    fn append<'a>(&'a self, environment: &'a EnvironmentName, append: Append) -> Answer<'a, Appended> {
        self.through(self.store.append(environment, append))
    }
    fn changes<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        from: Revision,
        max_bytes: usize,
    ) -> Answer<'a, Vec<(Revision, Bytes)>> {
        self.through(self.store.changes(environment, from, max_bytes))
    }
    fn oldest<'a>(&'a self, environment: &'a EnvironmentName) -> Answer<'a, Option<Revision>> {
        self.through(self.store.oldest(environment))
    }
    fn wait<'a>(&'a self, environment: &'a EnvironmentName, seen: &'a Bytes) -> Answer<'a, Bytes> {
        self.through(self.store.wait(environment, seen))
    }
    fn put_blob<'a>(&'a self, environment: &'a EnvironmentName, bytes: Bytes) -> Answer<'a, BlobId> {
        self.through(self.store.put_blob(environment, bytes))
    }
    fn get_blob<'a>(&'a self, environment: &'a EnvironmentName, id: BlobId) -> Answer<'a, Option<Bytes>> {
        self.through(self.store.get_blob(environment, id))
    }
    fn put_records<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        writes: Vec<RecordWrite>,
    ) -> Answer<'a, ()> {
        self.through(self.store.put_records(environment, writes))
    }
    fn get_record<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        kind: RecordKind,
        key: &'a str,
    ) -> Answer<'a, Option<Bytes>> {
        self.through(self.store.get_record(environment, kind, key))
    }
    fn list_records<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        kind: RecordKind,
    ) -> Answer<'a, Vec<(String, Bytes)>> {
        self.through(self.store.list_records(environment, kind))
    }
    fn announce(&self, server: u128, announcement: Bytes) -> Answer<'_, ()> {
        self.through(self.store.announce(server, announcement))
    }
    fn withdraw(&self, server: u128) -> Answer<'_, ()> {
        self.through(self.store.withdraw(server))
    }
    fn announced(&self) -> Answer<'_, Vec<(u128, Bytes)>> {
        self.through(self.store.announced())
    }
    fn quota(&self) -> Answer<'_, Quota> {
        self.through(self.store.quota())
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_makes_the_view_old_and_nothing_else() {
    let line = Arc::new(Line { store: Memory::new(u64::MAX), cut: AtomicBool::new(false) });
    let log = Log::new(Arc::clone(&line) as Arc<dyn Store>);
    log.create(&name(), 5).await.unwrap();
    let before = append(&log, "a", true).await;
    let clock = Clock::fixed(1_000_000);
    let hub = Hub::start(log.clone(), clock.clone()).await.unwrap();
    let environment = hub.environment(&name()).await.unwrap();

    line.cut.store(true, Ordering::SeqCst);
    clock.set(1_060_000);
    // Time is paused: this only lets the follower run into the outage and back off.
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(environment.metrics().follow_errors.get() > 0);
    assert!(environment.metrics().follow_errors.get() < 100, "it is asked less and less often");
    assert_eq!(environment.view().state.position(), before);
    assert_eq!(environment.view_age_ms(), 60_000);
    let claim = report(Some(Position { revision: Revision(99), ..before }));
    assert!(matches!(greet(&environment, &claim).await, Greeting::GoAway(_)), "nobody is sent back");
    assert!(
        matches!(greet(&environment, &report(None)).await, Greeting::Full),
        "who has nothing gets the view"
    );
    let admission = environment.connect(hello(1, None)).0;

    line.cut.store(false, Ordering::SeqCst);
    let after = append(&log, "a", false).await;
    assert_eq!(environment.view_at(after, LONG).await.state.position(), after);
    environment.view_at(Position { revision: Revision(99), ..after }, Duration::from_secs(10)).await;
    assert_eq!(environment.view_age_ms(), 0);
    assert_eq!(log.roster(&name()).await.unwrap().len(), 1, "the roster is saved late and not never");
    drop(admission);
    hub.stop().await;
}
