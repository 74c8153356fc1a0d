//! The log, held against a plain replay: whatever is appended, checkpointed or cut, every state comes back.

use flagd_core::entry::EntryKind;
use proptest::prelude::*;

use super::*;
use crate::limits::{CHECKPOINT_EVERY_CHANGES, QUOTA_DEFAULT_BYTES, REQUEST_KEPT_MS};
use crate::store::RecordWrite;
use crate::store::memory::Memory;
use crate::store::redb::Redb;

fn name() -> EnvironmentName {
    EnvironmentName::new("default").unwrap()
}

async fn fresh() -> (Arc<Memory>, Log, State) {
    let store = Arc::new(Memory::new(QUOTA_DEFAULT_BYTES));
    let log = Log::new(Arc::clone(&store) as Arc<dyn Store>);
    assert_eq!(log.create(&name(), 1_000).await.unwrap(), Created::New);
    let state = log.load(&name()).await.unwrap();
    (store, log, state)
}

fn flag(key: &str) -> EntryId {
    EntryId::new(EntryKind::FLAG, key)
}

fn set(key: &str, bytes: &str) -> EntryWrite {
    EntryWrite::set(flag(key), bytes.as_bytes())
}

fn change(writes: Vec<EntryWrite>) -> NewChange {
    let origin = Origin { actor: "ada".to_owned(), verb: "put".to_owned(), ..Origin::default() };
    NewChange { origin, time_ms: 2_000, writes, answer: Vec::new(), fingerprint: 7, source_base: None }
}

async fn append(log: &Log, state: &mut State, new: NewChange) -> Delta {
    match log.append(&name(), state, new).await.unwrap() {
        Outcome::Recorded(delta) => {
            if delta.epoch != state.position().epoch {
                state.start_epoch(delta.epoch);
            }
            state.apply(&delta).unwrap();
            delta
        }
        Outcome::Lost => panic!("nobody else writes here"),
    }
}

async fn start_epoch(log: &Log, state: &mut State) {
    let Outcome::Recorded(delta) = log.start_epoch(&name(), state, 5, "restored").await.unwrap() else {
        panic!("nobody else writes here");
    };
    assert!(delta.epoch > state.position().epoch, "younger, even with a clock in the past");
    state.start_epoch(delta.epoch);
    state.apply(&delta).unwrap();
}

#[tokio::test]
async fn a_new_environment_is_empty_and_at_revision_0() {
    let (_, log, state) = fresh().await;
    assert_eq!((state.revision(), state.len()), (Revision::ZERO, 0));
    assert_eq!(state.position().digest, Digest::empty(&name()));
    assert_eq!(state.position().epoch.minted_ms, 1_000);
    assert_eq!(log.head(&name()).await.unwrap(), Some(state.position()));
    assert_eq!(log.create(&name(), 9_000).await.unwrap(), Created::Existed);
    assert_eq!(log.load(&name()).await.unwrap(), state);
    assert_eq!(log.oldest(&name()).await.unwrap(), Revision::ZERO);
    let other = EnvironmentName::new("other").unwrap();
    assert_eq!(log.head(&other).await.unwrap(), None);
    assert!(matches!(log.load(&other).await, Err(StoreError::NoEnvironment(_))));
}

#[tokio::test]
async fn a_change_comes_back_as_it_was_made() {
    let (_, log, mut state) = fresh().await;
    append(&log, &mut state, change(vec![set("a", "1"), set("b", "2")])).await;
    let origin = Origin {
        actor: "ada".to_owned(),
        reason: "errors doubled".to_owned(),
        request_id: "r-1".to_owned(),
        operation: "remove a".to_owned(),
        verb: "archive".to_owned(),
        source: "ci".to_owned(),
    };
    let writes = vec![EntryWrite::remove(flag("a")), set("c", "3"), set("b", "4")];
    let new = NewChange { origin: origin.clone(), time_ms: 77, writes: writes.clone(), ..change(vec![]) };
    let delta = append(&log, &mut state, new).await;
    let found = log.change(&name(), Revision(2)).await.unwrap().unwrap();
    let previous = [Revision(1), Revision::ZERO, Revision(1)];
    let wanted = Change {
        revision: Revision(2),
        epoch: state.position().epoch,
        digest: state.position().digest,
        time_ms: 77,
        origin,
        entries: writes.into_iter().zip(previous).collect(),
    };
    assert_eq!(found, wanted);
    assert_eq!(found.delta(), delta);
    assert_eq!(log.change(&name(), Revision(3)).await.unwrap(), None);
    assert_eq!(log.changes(&name(), Revision::ZERO, 1).await.unwrap().len(), 1);
    assert_eq!(log.changes(&name(), Revision(1), 10).await.unwrap(), [wanted]);
    assert_eq!(log.changes(&name(), Revision(2), 10).await.unwrap(), []);
}

#[tokio::test]
async fn who_was_not_first_has_changed_nothing() {
    let (store, log, mut state) = fresh().await;
    let seen_before = state.clone();
    append(&log, &mut state, change(vec![set("a", "1")])).await;
    let mut late = change(vec![set("a", "2")]);
    late.origin.request_id = "late".to_owned();
    assert!(matches!(log.append(&name(), &seen_before, late).await.unwrap(), Outcome::Lost));
    assert!(matches!(log.start_epoch(&name(), &seen_before, 9_000, "no").await.unwrap(), Outcome::Lost));
    assert_eq!(log.load(&name()).await.unwrap(), state);
    assert_eq!(store.list_records(&name(), RecordKind::Request).await.unwrap(), []);
}

#[tokio::test]
async fn a_change_of_three_thousand_flags_is_one_revision() {
    let (store, log, mut state) = fresh().await;
    let body = "x".repeat(1_000);
    let writes = (0..3_000).map(|n| set(&format!("flag-{n}"), &body)).collect();
    append(&log, &mut state, change(writes)).await;
    let row = store.changes(&name(), Revision(1), 0).await.unwrap().remove(0).1;
    assert!(row.len() < 1_000, "the row that moves the head has {} bytes", row.len());
    assert_eq!(state.revision(), Revision(1));
    assert_eq!(log.load(&name()).await.unwrap(), state);
    assert_eq!(log.change(&name(), Revision(1)).await.unwrap().unwrap().entries.len(), 3_000);
    // A single entry larger than a blob.
    let largest = "y".repeat(flagd_core::limits::DEFINITION_MAX_BYTES);
    append(&log, &mut state, change(vec![set("large", &largest)])).await;
    log.checkpoint(&state).await.unwrap();
    assert_eq!(log.load(&name()).await.unwrap(), state);
}

#[tokio::test]
async fn loading_reads_a_checkpoint_and_passes_over_damaged_ones() {
    let (store, log, mut state) = fresh().await;
    for n in 0..6 {
        append(&log, &mut state, change(vec![set(&format!("flag-{n}"), "1")])).await;
        if n % 2 == 1 {
            log.checkpoint(&state).await.unwrap();
        }
    }
    let keys: Vec<_> = store.list_records(&name(), RecordKind::Checkpoint).await.unwrap();
    assert_eq!(keys.len(), 3);
    let damage = async |key: &str, value: &'static [u8]| {
        let value = Some(Bytes::from_static(value));
        let write = RecordWrite { kind: RecordKind::Checkpoint, key: key.to_owned(), value };
        store.put_records(&name(), vec![write]).await.unwrap();
    };
    // The newest is noise, the one before is well-formed and empty, the oldest is whole.
    damage(&keys[2].0, b"\xff\xff noise").await;
    assert_eq!(log.load(&name()).await.unwrap(), state);
    damage(&keys[1].0, b"").await;
    assert_eq!(log.load(&name()).await.unwrap(), state);
    damage(&keys[0].0, b"").await;
    assert_eq!(log.load(&name()).await.unwrap(), state, "from the beginning");
    assert_eq!(log.state_at(&name(), Revision(5)).await.unwrap().unwrap().len(), 5);
    assert_eq!(log.state_at(&name(), Revision(7)).await.unwrap(), None);
}

#[tokio::test]
async fn a_state_that_is_not_the_heads_is_never_handed_out() {
    let (store, log, mut state) = fresh().await;
    append(&log, &mut state, change(vec![set("a", "1")])).await;
    // Somebody writes a head that the changes do not lead to.
    let seen = store.head(&name()).await.unwrap().unwrap();
    let wrong = Position { digest: Digest(7), ..state.position() };
    let forged = Append {
        expected_head: seen,
        head: encoding::head_to_bytes(wrong),
        revision: Revision(2),
        change: None,
        records: vec![],
    };
    store.append(&name(), forged).await.unwrap();
    let error = log.load(&name()).await.unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt(why) if why.contains("default")), "{error}");
}

#[tokio::test]
async fn checkpoints_are_written_by_themselves() {
    let (store, log, mut state) = fresh().await;
    for n in 0..=CHECKPOINT_EVERY_CHANGES {
        append(&log, &mut state, change(vec![set("a", &n.to_string())])).await;
    }
    log.settle().await;
    let keys = store.list_records(&name(), RecordKind::Checkpoint).await.unwrap();
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0].0, checkpoint::key(state.revision()));
    // By size too: eleven changes of half a megabyte are more than four megabytes.
    let body = "x".repeat(500_000);
    for n in 0..11 {
        append(&log, &mut state, change(vec![set("large", &format!("{n}{body}"))])).await;
    }
    log.settle().await;
    assert_eq!(store.list_records(&name(), RecordKind::Checkpoint).await.unwrap().len(), 2);
    assert_eq!(Log::new(store).load(&name()).await.unwrap(), state);
}

#[tokio::test]
async fn a_request_gets_its_first_answer_for_a_day() {
    let (_, log, mut state) = fresh().await;
    let mut new = change(vec![set("a", "1")]);
    new.origin.request_id = "r-1".to_owned();
    new.answer = b"done".to_vec();
    let made_ms = new.time_ms;
    append(&log, &mut state, new).await;
    let answer = log.first_answer(&name(), "r-1", made_ms + REQUEST_KEPT_MS).await.unwrap();
    let expected = FirstAnswer { revision: Revision(1), answer: b"done".to_vec(), fingerprint: Some(7) };
    assert_eq!(answer, Some(expected));
    assert_eq!(log.first_answer(&name(), "r-2", made_ms).await.unwrap(), None);
    assert_eq!(log.housekeeping(made_ms + REQUEST_KEPT_MS).await.unwrap(), 0);
    assert_eq!(log.first_answer(&name(), "r-1", made_ms + REQUEST_KEPT_MS + 1).await.unwrap(), None);
    assert_eq!(log.housekeeping(made_ms + REQUEST_KEPT_MS + 1).await.unwrap(), 1);
    assert_eq!(log.first_answer(&name(), "r-1", made_ms).await.unwrap(), None);
}

#[tokio::test]
async fn the_roster_and_the_sources_are_remembered() {
    let (_, log, mut state) = fresh().await;
    let client = |instance: u128, position| RosterEntry {
        instance,
        connect_counter: 3,
        name: "shop-1".to_owned(),
        app: "shop".to_owned(),
        app_version: "1.2".to_owned(),
        sdk: "rust 0.1".to_owned(),
        level: 1,
        last_seen_ms: 44,
        position,
        via: "east".to_owned(),
    };
    let (one, two) = (client(1, Some(state.position())), client(u128::MAX, None));
    log.save_roster(&name(), &[one.clone(), two.clone()], &[]).await.unwrap();
    assert_eq!(log.roster(&name()).await.unwrap(), [one.clone(), two.clone()]);
    let later = RosterEntry { last_seen_ms: 99, ..two };
    log.save_roster(&name(), std::slice::from_ref(&later), &[1]).await.unwrap();
    assert_eq!(log.roster(&name()).await.unwrap(), [later]);

    let base: BTreeMap<EntryId, Arc<[u8]>> =
        (0..500).map(|n| (flag(&format!("f-{n}")), Arc::from(vec![b'x'; 2_000]))).collect();
    assert_eq!(log.source_base(&name(), "ci").await.unwrap(), BTreeMap::new());
    let mut new = NewChange { source_base: Some(base.clone()), ..change(vec![set("a", "1")]) };
    new.origin.source = "ci".to_owned();
    append(&log, &mut state, new).await;
    assert_eq!(log.source_base(&name(), "ci").await.unwrap(), base);
    assert_eq!(log.source_base(&name(), "other").await.unwrap(), BTreeMap::new());
}

#[tokio::test]
async fn a_waiter_is_told_of_the_next_change() {
    let (_, log, mut state) = fresh().await;
    let seen = log.look(&name()).await.unwrap();
    assert_eq!(seen.position, state.position());
    let waiting = tokio::spawn({
        let (log, seen) = (log.clone(), seen.clone());
        async move { log.news(&name(), &seen).await }
    });
    append(&log, &mut state, change(vec![set("a", "1")])).await;
    assert_eq!(waiting.await.unwrap().unwrap(), state.position());
    assert_eq!(log.news(&name(), &seen).await.unwrap(), state.position());
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flagd.redb");
    let open = || Log::new(Arc::new(Redb::create(&path, QUOTA_DEFAULT_BYTES).unwrap()));
    let log = open();
    log.create(&name(), 1_000).await.unwrap();
    let mut state = log.load(&name()).await.unwrap();
    let mut new = change((0..400).map(|n| set(&format!("flag-{n}"), &"x".repeat(1_000))).collect());
    new.origin.request_id = "r-1".to_owned();
    append(&log, &mut state, new).await;
    log.checkpoint(&state).await.unwrap();
    append(&log, &mut state, change(vec![set("a", "1")])).await;
    log.settle().await;
    drop(log);
    let log = open();
    assert_eq!(log.load(&name()).await.unwrap(), state);
    assert_eq!(log.state_at(&name(), Revision(1)).await.unwrap().unwrap().len(), 400);
    let answer = log.first_answer(&name(), "r-1", 3_000).await.unwrap().unwrap();
    assert_eq!(answer.revision, Revision(1));
    start_epoch(&log, &mut state).await;
    assert_eq!(log.load(&name()).await.unwrap(), state);
}

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(u8, Option<u8>)>),
    Checkpoint,
    DamageNewestCheckpoint,
    StartEpoch,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let write = proptest::collection::vec((0..12_u8, proptest::option::of(any::<u8>())), 0..5);
    let step = prop_oneof![
        8 => write.prop_map(Step::Write),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::DamageNewestCheckpoint),
        1 => Just(Step::StartEpoch),
    ];
    proptest::collection::vec(step, 0..40)
}

async fn damage_newest_checkpoint(store: &Memory) {
    let checkpoints = store.list_records(&name(), RecordKind::Checkpoint).await.unwrap();
    let Some((key, value)) = checkpoints.into_iter().next_back() else { return };
    let mut record = wire::Checkpoint::decode(value).unwrap();
    record.blobs.push(Bytes::copy_from_slice(&BlobId::of(b"nowhere").0.to_be_bytes()));
    let value = Some(record.encode_to_vec().into());
    let write = RecordWrite { kind: RecordKind::Checkpoint, key, value };
    store.put_records(&name(), vec![write]).await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Loading gives what applying every change gives, now and at every revision in the past.
    #[test]
    fn every_state_of_any_history_comes_back(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (store, log, mut state) = fresh().await;
            append(&log, &mut state, change(vec![set("first", "1")])).await;
            let mut model = vec![state.clone()];
            for step in steps {
                match step {
                    Step::Write(writes) => {
                        let write = |(key, value): (u8, Option<u8>)| EntryWrite {
                            id: flag(&format!("flag-{key}")),
                            bytes: value.map(|value| Arc::from(vec![value; 100])),
                        };
                        append(&log, &mut state, change(writes.into_iter().map(write).collect())).await;
                        model.push(state.clone());
                    }
                    Step::Checkpoint => log.checkpoint(&state).await.unwrap(),
                    Step::DamageNewestCheckpoint => damage_newest_checkpoint(&store).await,
                    Step::StartEpoch => {
                        start_epoch(&log, &mut state).await;
                        model.push(state.clone());
                    }
                }
            }
            let reopened = Log::new(store);
            assert_eq!(&reopened.load(&name()).await.unwrap(), model.last().unwrap());
            for wanted in &model {
                let found = reopened.state_at(&name(), wanted.revision()).await.unwrap();
                assert_eq!(found.as_ref(), Some(wanted));
            }
        });
    }
}
