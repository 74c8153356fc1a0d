//! A store that fails in the middle: whatever it did, the caller learns the truth or that it is unknown.

use std::collections::VecDeque;
use std::sync::Mutex;

use flagd_core::revision::Revision;

use super::*;
use crate::store::{Answer, Append, Appended, BlobId, Created, Quota, RecordKind, RecordWrite, StoreError};

/// What becomes of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It happens, and the answer is lost.
    AnswerLost,
    /// It does not happen, and nobody says so.
    Dropped,
    /// The store is full.
    Full,
    /// It does not happen, and from then on the store says nothing at all.
    Silence,
    /// It does not happen, and from then on nobody can read answers to requests.
    Blind,
}

/// A memory store whose appends meet these faults, in order.
#[derive(Debug)]
struct Faulty {
    store: Memory,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    blind: Arc<Mutex<bool>>,
    silent: Arc<Mutex<bool>>,
}

impl Faulty {
    fn new() -> (Faulty, Arc<Mutex<VecDeque<Fault>>>) {
        let faults = Arc::new(Mutex::new(VecDeque::new()));
        (
            Faulty {
                store: Memory::new(1 << 40),
                faults: Arc::clone(&faults),
                blind: Arc::default(),
                silent: Arc::default(),
            },
            faults,
        )
    }
}

fn gone() -> StoreError {
    StoreError::Unavailable("the connection broke".to_owned())
}

impl Store for Faulty {
    fn describe(&self) -> String {
        self.store.describe()
    }
    fn environments(&self) -> Answer<'_, Vec<EnvironmentName>> {
        self.store.environments()
    }
    fn create<'a>(&'a self, environment: &'a EnvironmentName, head: bytes::Bytes) -> Answer<'a, Created> {
        self.store.create(environment, head)
    }
    fn head<'a>(&'a self, environment: &'a EnvironmentName) -> Answer<'a, Option<bytes::Bytes>> {
        if *self.silent.lock().unwrap() {
            return Box::pin(std::future::pending());
        }
        self.store.head(environment)
    }
    fn append<'a>(&'a self, environment: &'a EnvironmentName, append: Append) -> Answer<'a, Appended> {
        let fault = self.faults.lock().unwrap().pop_front();
        Box::pin(async move {
            match fault {
                None => self.store.append(environment, append).await,
                Some(Fault::AnswerLost) => {
                    self.store.append(environment, append).await?;
                    Err(gone())
                }
                Some(Fault::Dropped) => Err(gone()),
                Some(Fault::Full) => Err(StoreError::Full("no space left".to_owned())),
                Some(Fault::Silence) => {
                    *self.silent.lock().unwrap() = true;
                    std::future::pending().await
                }
                Some(Fault::Blind) => {
                    *self.blind.lock().unwrap() = true;
                    Err(gone())
                }
            }
        })
    }
    fn changes<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        from: Revision,
        max_bytes: usize,
    ) -> Answer<'a, Vec<(Revision, bytes::Bytes)>> {
        self.store.changes(environment, from, max_bytes)
    }
    fn oldest<'a>(&'a self, environment: &'a EnvironmentName) -> Answer<'a, Option<Revision>> {
        self.store.oldest(environment)
    }
    fn wait<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        seen: &'a bytes::Bytes,
    ) -> Answer<'a, bytes::Bytes> {
        self.store.wait(environment, seen)
    }
    fn put_blob<'a>(&'a self, environment: &'a EnvironmentName, bytes: bytes::Bytes) -> Answer<'a, BlobId> {
        self.store.put_blob(environment, bytes)
    }
    fn get_blob<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        id: BlobId,
    ) -> Answer<'a, Option<bytes::Bytes>> {
        self.store.get_blob(environment, id)
    }
    fn put_records<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        writes: Vec<RecordWrite>,
    ) -> Answer<'a, ()> {
        self.store.put_records(environment, writes)
    }
    fn get_record<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        kind: RecordKind,
        key: &'a str,
    ) -> Answer<'a, Option<bytes::Bytes>> {
        if *self.blind.lock().unwrap() && kind == RecordKind::Request {
            return Box::pin(async { Err(gone()) });
        }
        self.store.get_record(environment, kind, key)
    }
    fn list_records<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        kind: RecordKind,
    ) -> Answer<'a, Vec<(String, bytes::Bytes)>> {
        self.store.list_records(environment, kind)
    }
    fn announce(&self, server: u128, announcement: bytes::Bytes) -> Answer<'_, ()> {
        self.store.announce(server, announcement)
    }
    fn withdraw(&self, server: u128) -> Answer<'_, ()> {
        self.store.withdraw(server)
    }
    fn announced(&self) -> Answer<'_, Vec<(u128, bytes::Bytes)>> {
        self.store.announced()
    }
    fn quota(&self) -> Answer<'_, Quota> {
        self.store.quota()
    }
}

async fn world() -> (World, Arc<Mutex<VecDeque<Fault>>>) {
    let (store, faults) = Faulty::new();
    let world = World::on(store, &[]).await;
    world.recorded(create(FILE)).await;
    (world, faults)
}

#[tokio::test(start_paused = true)]
async fn a_change_happens_once_whatever_becomes_of_the_answers() {
    let rows: &[(&str, &[Fault])] = &[
        ("the answer is lost", &[Fault::AnswerLost]),
        ("the append is lost", &[Fault::Dropped]),
        ("first the append, then the answer", &[Fault::Dropped, Fault::Dropped, Fault::AnswerLost]),
    ];
    for (name, failing) in rows {
        for with_id in ["", "r-1"] {
            let (world, faults) = world().await;
            faults.lock().unwrap().extend(*failing);
            let request =
                ChangeRequest { request_id: with_id.into(), ..request(segment_add("staff", "u-9")) };
            let answer = world.control.change(request).await.unwrap();
            assert_eq!((answer.revision, answer.recorded), (2, true), "{name}");
            assert_eq!(world.head().await, 2, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_found_out_is_unknown_and_a_retry_settles_it() {
    let (world, faults) = world().await;
    faults.lock().unwrap().extend([Fault::Dropped; 5]);
    let request = ChangeRequest { request_id: "r-1".into(), ..request(segment_add("staff", "u-9")) };
    let error = world.control.change(request.clone()).await.unwrap_err();
    assert!(
        matches!(&error, ControlError::OutcomeUnknown { request_id, .. } if request_id == "r-1"),
        "{error:?}"
    );
    let answer = world.control.change(request.clone()).await.unwrap();
    assert_eq!((answer.revision, answer.repeated_answer), (2, false));
    assert!(world.control.change(request).await.unwrap().repeated_answer);
}

#[tokio::test(start_paused = true)]
async fn without_a_look_at_the_request_ids_the_outcome_is_unknown() {
    let (world, faults) = world().await;
    faults.lock().unwrap().push_back(Fault::Blind);
    let error = world.ask(kill(&["dark-mode"])).await.unwrap_err();
    assert!(matches!(error, ControlError::OutcomeUnknown { .. }), "{error:?}");
}

/// That there is no room now says nothing of the append before.
#[tokio::test(start_paused = true)]
async fn a_disk_that_fills_after_an_unknown_append_leaves_it_unknown() {
    let (world, faults) = world().await;
    faults.lock().unwrap().extend([Fault::Dropped, Fault::Full, Fault::Full, Fault::Full, Fault::Full]);
    let error = world.ask(kill(&["dark-mode"])).await.unwrap_err();
    assert!(matches!(error, ControlError::OutcomeUnknown { .. }), "{error:?}");
}

#[tokio::test]
async fn a_full_disk_is_a_refusal_and_nothing_else() {
    let (world, faults) = world().await;
    faults.lock().unwrap().push_back(Fault::Full);
    let error = world.ask(kill(&["dark-mode"])).await.unwrap_err();
    assert!(matches!(error, ControlError::Quota(_)), "{error:?}");
    assert_eq!(world.head().await, 1);
    world.recorded(kill(&["dark-mode"])).await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_store_fails_every_write_within_three_seconds() {
    let (world, faults) = world().await;
    faults.lock().unwrap().push_back(Fault::Silence);
    let began = tokio::time::Instant::now();
    let writes = (0..5).map(|number| {
        let disable = Operation::Disable(admin::FlagName { flag: "dark-mode".to_owned() });
        world.control.change(ChangeRequest { request_id: format!("write-{number}"), ..request(disable) })
    });
    let results = futures_util::future::join_all(writes).await;
    assert!(began.elapsed() < std::time::Duration::from_secs(3), "took {:?}", began.elapsed());
    let unknown = results.iter().filter(|result| matches!(result, Err(ControlError::OutcomeUnknown { .. })));
    assert_eq!(unknown.count(), 1, "the others were not tried: {results:?}");
    let untried = results.iter().filter(|result| matches!(result, Err(ControlError::Store(_))));
    assert_eq!(untried.count(), 4, "{results:?}");

    let began = tokio::time::Instant::now();
    let kill = Operation::Kill(admin::FlagNames { flags: vec!["dark-mode".to_owned()] });
    let refused = world.ask(kill).await;
    assert!(matches!(refused, Err(ControlError::Store(StoreError::Unavailable(_)))), "{refused:?}");
    assert!(began.elapsed() < std::time::Duration::from_secs(3), "took {:?}", began.elapsed());
}
