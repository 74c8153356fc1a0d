//! Copies are whole or not there; what is restored is younger than what it replaces.

use std::collections::BTreeMap;
use std::sync::Arc;

use flagd_core::entry::{EntryId, EntryKind, EntryWrite};
use flagd_core::revision::Revision;
use flagd_core::state::State;

use super::*;
use crate::store::log::{NewChange, Origin};
use crate::store::memory::Memory;

fn name(text: &str) -> EnvironmentName {
    EnvironmentName::new(text).unwrap()
}

async fn append(
    log: &Log,
    environment: &EnvironmentName,
    writes: Vec<EntryWrite>,
    request_id: &str,
) -> State {
    let mut state = log.load(environment).await.unwrap();
    let new = NewChange {
        origin: Origin { request_id: request_id.to_owned(), source: "ci".to_owned(), ..Origin::default() },
        time_ms: 2_000,
        source_base: Some(BTreeMap::from([(EntryId::new(EntryKind::FLAG, "a"), Arc::from(*b"base"))])),
        writes,
        answer: b"answer".to_vec(),
        fingerprint: 7,
    };
    let Outcome::Recorded(delta) = log.append(environment, &state, new).await.unwrap() else {
        panic!("lost")
    };
    state.apply(&delta).unwrap();
    state
}

fn flags(count: usize, bytes: usize) -> Vec<EntryWrite> {
    let write = |n| EntryWrite::set(EntryId::new(EntryKind::FLAG, &format!("flag-{n}")), vec![b'x'; bytes]);
    (0..count).map(write).collect()
}

/// A store with two environments: a large change, a checkpoint, small changes, a request, a source.
async fn filled(store: Arc<dyn Store>) -> Log {
    let log = Log::new(store);
    for (environment, size) in [("production", 500), ("staging", 3)] {
        let environment = name(environment);
        log.create(&environment, 1_000).await.unwrap();
        let state = append(&log, &environment, flags(size, 1_000), "r-1").await;
        log.checkpoint(&state).await.unwrap();
        append(&log, &environment, flags(1, 2), "r-2").await;
    }
    log.settle().await;
    log
}

async fn assert_same(one: &Log, two: &Log) {
    assert_eq!(one.environments().await.unwrap(), two.environments().await.unwrap());
    for environment in one.environments().await.unwrap() {
        assert_eq!(one.load(&environment).await.unwrap(), two.load(&environment).await.unwrap());
        let (all, from) = (usize::MAX, Revision::ZERO);
        let changes = one.changes(&environment, from, all).await.unwrap();
        assert_eq!(changes, two.changes(&environment, from, all).await.unwrap());
        let base = one.source_base(&environment, "ci").await.unwrap();
        assert_eq!(base, two.source_base(&environment, "ci").await.unwrap());
        assert!(two.first_answer(&environment, "r-1", 3_000).await.unwrap().is_some());
    }
}

/// What is in a folder.
fn listed(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_backup_of_any_store_is_the_same_store() {
    let folder = tempfile::tempdir().unwrap();
    let memory = Arc::new(Memory::new(1 << 30));
    let log = filled(Arc::clone(&memory) as Arc<dyn Store>).await;
    let to = folder.path().join("memory.redb");
    back_up(&*memory, &to).await.unwrap();
    assert_same(&log, &Log::new(Arc::new(Redb::open(&to, u64::MAX).unwrap()))).await;

    let file = folder.path().join("flagd.redb");
    let running = Arc::new(Redb::create(&file, u64::MAX).unwrap());
    let server = filled(Arc::clone(&running) as Arc<dyn Store>).await;
    // Of the running server, through a reader of the same file.
    let reader = Redb::read_only(&file).unwrap();
    let to = folder.path().join("copy.redb");
    let copied = back_up(&reader, &to).await.unwrap();
    assert_eq!(copied.len(), 2);
    assert_eq!((copied[0].environment.as_str(), copied[0].entries), ("production", 500));
    assert_eq!(copied[0].is.revision, Revision(2));
    assert_eq!(Some(copied[0].is), server.head(&name("production")).await.unwrap());
    let copy = Log::new(Arc::new(Redb::open(&to, u64::MAX).unwrap()));
    assert_same(&server, &copy).await;
    assert_eq!(listed(folder.path()), ["copy.redb", "flagd.redb", "memory.redb"]);
}

#[tokio::test]
async fn a_backup_taken_while_changes_go_on_is_a_state_that_was() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flagd.redb");
    let log = Log::new(Arc::new(Redb::create(&file, u64::MAX).unwrap()));
    let environment = name("default");
    log.create(&environment, 1_000).await.unwrap();
    let writer = tokio::spawn({
        let (log, environment) = (log.clone(), environment.clone());
        async move {
            for n in 0..60 {
                append(&log, &environment, flags(2, 10 + n), &format!("r-{n}")).await;
            }
        }
    });
    let mut taken = 0;
    while !writer.is_finished() {
        let to = folder.path().join(format!("copy-{taken}.redb"));
        match back_up(&Redb::read_only(&file).unwrap(), &to).await {
            Ok(copied) => {
                taken += 1;
                let [copied] = &copied[..] else { panic!("{copied:?}") };
                let then = log.state_at(&environment, copied.is.revision).await.unwrap().unwrap();
                assert_eq!(copied.is.digest, then.position().digest);
            }
            Err(BackupError::Busy(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    writer.await.unwrap();
    let to = folder.path().join("last.redb");
    let copied = back_up(&Redb::read_only(&file).unwrap(), &to).await.unwrap();
    assert_eq!(copied[0].is.revision, Revision(60));
}

#[tokio::test]
async fn nothing_is_overwritten_and_nothing_half_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Memory::new(1 << 30));
    let log = filled(Arc::clone(&store) as Arc<dyn Store>).await;
    let taken = folder.path().join("taken.redb");
    std::fs::write(&taken, "precious").unwrap();
    assert!(matches!(back_up(&*store, &taken).await, Err(BackupError::Exists { .. })));
    assert_eq!(std::fs::read_to_string(&taken).unwrap(), "precious");
    // A source whose head does not follow from its changes is no backup.
    let environment = name("staging");
    let head = store.head(&environment).await.unwrap().unwrap();
    let mut forged = head.to_vec();
    let at = forged.len() - 3;
    forged[at] ^= 1;
    let append = super::super::Append {
        expected_head: head,
        head: forged.into(),
        revision: Revision(3),
        change: None,
        records: vec![],
    };
    store.append(&environment, append).await.unwrap();
    drop(log);
    let error = back_up(&*store, &folder.path().join("copy.redb")).await.unwrap_err();
    assert!(matches!(error, BackupError::Store(StoreError::Corrupt(_))), "{error}");
    assert_eq!(listed(folder.path()), ["taken.redb"]);
}

#[tokio::test]
async fn a_restored_store_is_younger_than_the_one_it_replaces() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flagd.redb");
    let backup = folder.path().join("copy.redb");
    let environment = name("production");
    let log = filled(Arc::new(Redb::create(&file, u64::MAX).unwrap())).await;
    back_up(&Redb::read_only(&file).unwrap(), &backup).await.unwrap();
    let then = log.load(&environment).await.unwrap();
    // History goes on, in a younger epoch even, and clients see it.
    append(&log, &environment, flags(3, 9), "r-3").await;
    let now = log.load(&environment).await.unwrap();
    log.start_epoch(&environment, &now, 900_000, "a cut").await.unwrap();
    let lost = log.head(&environment).await.unwrap().unwrap();

    // Not over a store that is there, and not under a running server.
    let refused = restore(&backup, &file, None, 5_000).await.unwrap_err();
    assert!(refused.to_string().contains("--force"), "{refused}");
    let aside = folder.path().join("flagd.redb.before");
    let refused = restore(&backup, &file, Some(aside.clone()), 5_000).await.unwrap_err();
    assert!(matches!(refused, BackupError::Open(OpenError::InUse(_))), "{refused}");
    log.settle().await;
    drop(log);

    let restored = restore(&backup, &file, Some(aside.clone()), 5_000).await.unwrap();
    assert_eq!(restored.moved_to, Some(aside.clone()));
    let log = Log::new(Arc::new(Redb::open(&file, u64::MAX).unwrap()));
    let state = log.load(&environment).await.unwrap();
    let copied = restored.environments.iter().find(|copied| copied.environment == environment).unwrap();
    assert_eq!((copied.was, copied.is), (then.position(), state.position()));
    assert!(
        state.position().epoch > lost.epoch,
        "younger than what clients have seen, whatever the clock says"
    );
    assert_eq!(state.position().digest, then.position().digest);
    let change = log.change(&environment, state.revision()).await.unwrap().unwrap();
    assert_eq!(
        (change.origin.verb.as_str(), change.origin.reason.as_str()),
        ("epoch", "restored from copy.redb")
    );
    let old = Log::new(Arc::new(Redb::open(&aside, u64::MAX).unwrap()));
    assert_eq!(old.head(&environment).await.unwrap(), Some(lost));
    assert_eq!(listed(folder.path()), ["copy.redb", "flagd.redb", "flagd.redb.before"]);
}

#[tokio::test]
async fn a_damaged_store_can_be_replaced_and_a_damaged_backup_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let (file, backup) = (folder.path().join("flagd.redb"), folder.path().join("copy.redb"));
    let memory = Arc::new(Memory::new(1 << 30));
    drop(filled(Arc::clone(&memory) as Arc<dyn Store>).await);
    back_up(&*memory, &backup).await.unwrap();
    std::fs::write(&file, b"garbage ".repeat(1_000)).unwrap();
    let aside = folder.path().join("aside");
    restore(&backup, &file, Some(aside.clone()), 5_000).await.unwrap();
    assert_eq!(std::fs::read(&aside).unwrap(), b"garbage ".repeat(1_000));
    let fresh = folder.path().join("fresh.redb");
    let error = restore(&aside, &fresh, None, 5_000).await.unwrap_err();
    assert!(matches!(error, BackupError::Open(OpenError::NotAStore { .. })), "{error}");
    let error = restore(&folder.path().join("nowhere"), &fresh, None, 5_000).await.unwrap_err();
    assert!(matches!(error, BackupError::Open(OpenError::Missing(_))), "{error}");
    assert_eq!(listed(folder.path()), ["aside", "copy.redb", "flagd.redb"]);
}
