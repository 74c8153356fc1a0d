//! The file behind the store: who may open it, what happens when the disk fails, and what is said.

use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicI64, Ordering};

use redb::backends::FileBackend;
use redb::{BackendError, Builder, ConcurrencyMode, StorageBackend};

use super::*;
use crate::store::contract;

const PLENTY: u64 = 1 << 40;

/// A place for a file, in a folder that goes away with this.
#[derive(Debug)]
struct InFolder {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

fn folder() -> InFolder {
    let folder = tempfile::tempdir().unwrap();
    InFolder { path: folder.path().join("data").join("flagd.redb"), _folder: folder }
}

contract::suite!(async {
    let place = folder();
    (Arc::new(Redb::create(&place.path, PLENTY).unwrap()) as Arc<dyn Store>, place)
});

fn name() -> EnvironmentName {
    EnvironmentName::new("default").unwrap()
}

fn head(revision: u64) -> Bytes {
    Bytes::from(format!("head {revision}"))
}

fn next(revision: u64) -> Append {
    Append {
        expected_head: head(revision - 1),
        head: head(revision),
        revision: Revision(revision),
        change: Some(Bytes::from(vec![7; 3_000])),
        records: vec![],
    }
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let place = folder();
    let store = Arc::new(Redb::create(&place.path, PLENTY).unwrap());
    contract::survives_reopening(store, || Arc::new(Redb::open(&place.path, PLENTY).unwrap())).await;
}

#[tokio::test]
async fn what_a_killed_server_leaves_holds_every_acknowledged_change() {
    let place = folder();
    let store = Redb::create(&place.path, PLENTY).unwrap();
    store.create(&name(), head(0)).await.unwrap();
    let left = place.path.with_extension("left");
    for revision in 1..=20 {
        store.append(&name(), next(revision)).await.unwrap();
        // The bytes in the file at this moment are what `kill -9` at this moment leaves.
        std::fs::copy(&place.path, &left).unwrap();
        // Every other time the first to look at it is a backup.
        let found =
            if revision % 2 == 0 { Redb::open(&left, PLENTY) } else { Redb::read_only(&left) }.unwrap();
        assert_eq!(found.head(&name()).await.unwrap(), Some(head(revision)));
        assert_eq!(found.changes(&name(), Revision(1), 1 << 20).await.unwrap().len() as u64, revision);
    }
}

#[tokio::test]
async fn a_second_server_is_told_who_has_the_file() {
    let place = folder();
    let first = Redb::create(&place.path, PLENTY).unwrap();
    let error = Redb::create(&place.path, PLENTY).unwrap_err();
    assert!(matches!(error, OpenError::InUse(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("flagd.redb") && text.contains("--store"), "{text}");
    first.create(&name(), head(0)).await.unwrap();
    drop(first);
    let second = Redb::create(&place.path, PLENTY).unwrap();
    assert_eq!(second.head(&name()).await.unwrap(), Some(head(0)));
}

#[tokio::test]
async fn a_reader_follows_a_running_server_and_cannot_write() {
    let place = folder();
    let server = Redb::create(&place.path, PLENTY).unwrap();
    server.create(&name(), head(0)).await.unwrap();
    server.append(&name(), next(1)).await.unwrap();
    let reader = Redb::read_only(&place.path).unwrap();
    assert_eq!(reader.head(&name()).await.unwrap(), Some(head(1)));
    server.append(&name(), next(2)).await.unwrap();
    assert_eq!(reader.head(&name()).await.unwrap(), Some(head(2)));
    assert!(matches!(reader.append(&name(), next(3)).await, Err(StoreError::Unavailable(_))));
    server.append(&name(), next(3)).await.unwrap();
}

#[test]
fn what_is_no_store_is_refused_and_left_alone() {
    let place = folder();
    std::fs::create_dir_all(place.path.parent().unwrap()).unwrap();
    let cases: &[(&str, Vec<u8>)] = &[
        ("a text", b"{\"flags\": {}}\n".repeat(1_000)),
        ("a short text", b"hello".to_vec()),
        ("zeros", vec![0; 100_000]),
        ("noise", (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()),
    ];
    for (case, bytes) in cases {
        std::fs::write(&place.path, bytes).unwrap();
        let error = Redb::create(&place.path, PLENTY).unwrap_err();
        assert!(matches!(error, OpenError::NotAStore { .. }), "{case}: {error:?}");
        let text = error.to_string();
        assert!(text.contains("flagd.redb") && text.contains("does not begin like one"), "{case}: {text}");
        assert_eq!(&std::fs::read(&place.path).unwrap(), bytes, "{case}");
    }
    std::fs::write(&place.path, b"").unwrap();
    for opened in [Redb::read_only(&place.path), Redb::open(&place.path, PLENTY)] {
        let error = opened.unwrap_err();
        assert!(error.to_string().contains("is empty"), "{error}");
    }
    let missing = place.path.with_extension("missing");
    assert!(matches!(Redb::open(&missing, PLENTY), Err(OpenError::Missing(_))));
    assert!(!missing.exists());
}

#[tokio::test]
async fn a_torn_file_is_an_error_and_not_a_panic() {
    let place = folder();
    let store = Redb::create(&place.path, PLENTY).unwrap();
    store.create(&name(), head(0)).await.unwrap();
    for revision in 1..=50 {
        store.append(&name(), next(revision)).await.unwrap();
    }
    drop(store);
    let whole = std::fs::read(&place.path).unwrap();
    for keep in [10, 100, 4_096, whole.len() / 2] {
        std::fs::write(&place.path, &whole[..keep]).unwrap();
        let error = Redb::open(&place.path, PLENTY).unwrap_err();
        assert!(error.to_string().contains("flagd.redb"), "{keep}: {error}");
    }
}

#[test]
fn a_file_of_another_layout_is_refused() {
    let place = folder();
    drop(Redb::create(&place.path, PLENTY).unwrap());
    let database = Database::open(&place.path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(ABOUT).unwrap().insert("format", FORMAT + 1).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = Redb::create(&place.path, PLENTY).unwrap_err();
    assert!(matches!(error, OpenError::OtherFormat { found, .. } if found == FORMAT + 1), "{error:?}");
}

#[tokio::test]
async fn a_database_of_another_program_is_refused() {
    let place = folder();
    std::fs::create_dir_all(place.path.parent().unwrap()).unwrap();
    let database = Database::create(&place.path).unwrap();
    let transaction = database.begin_write().unwrap();
    let theirs: TableDefinition<'_, &str, &str> = TableDefinition::new("theirs");
    transaction.open_table(theirs).unwrap().insert("a", "b").unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = Redb::create(&place.path, PLENTY).unwrap_err();
    assert!(matches!(error, OpenError::NotAStore { .. }), "{error:?}");
}

#[tokio::test]
async fn above_the_quota_blobs_and_environments_stop_and_appends_go_on() {
    let place = folder();
    let store = Redb::create(&place.path, PLENTY).unwrap();
    store.create(&name(), head(0)).await.unwrap();
    drop(store);
    let store = Redb::create(&place.path, 4_096).unwrap();
    let refused = store.put_blob(&name(), Bytes::from_static(b"b")).await;
    assert!(matches!(&refused, Err(StoreError::Full(why)) if why.contains("quota")), "{refused:?}");
    let other = EnvironmentName::new("other").unwrap();
    assert!(matches!(store.create(&other, head(0)).await, Err(StoreError::Full(_))));
    assert_eq!(store.append(&name(), next(1)).await.unwrap(), Appended::Recorded);
    assert_eq!(store.head(&name()).await.unwrap(), Some(head(1)));
}

/// The file grows by doubling; how full the store is must not.
#[cfg(unix)]
#[tokio::test]
async fn what_the_file_has_in_reserve_is_not_in_use() {
    let place = folder();
    let store = Redb::create(&place.path, PLENTY).unwrap();
    store.create(&name(), head(0)).await.unwrap();
    let length = || std::fs::metadata(&place.path).unwrap().len();
    let (mut before, mut revision) = (length(), 0);
    // Until it has doubled from a length that makes its first pages small.
    while before < 4_000_000 || length() < before * 3 / 2 {
        before = length();
        revision += 1;
        let change = Some(Bytes::from(vec![7; 100_000]));
        store.append(&name(), Append { change, ..next(revision) }).await.unwrap();
    }
    let used = store.quota().await.unwrap().used_bytes;
    assert!(used >= revision * 100_000 / 2, "{used} bytes for {revision} changes");
    assert!(used < length() * 3 / 4, "{used} bytes of {} are said to be in use", length());
}

/// A file on a disk that fails after a number of writes, until it is told to work again.
#[derive(Debug)]
struct Failing {
    file: FileBackend,
    faults: Arc<Faults>,
}

#[derive(Debug)]
struct Faults {
    /// Writes that still succeed.
    left: AtomicI64,
    errno: i32,
}

impl Faults {
    fn step(&self) -> io::Result<()> {
        if self.left.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Ok(());
        }
        Err(io::Error::from_raw_os_error(self.errno))
    }

    fn heal(&self) {
        self.left.store(i64::MAX, Ordering::SeqCst);
    }
}

impl StorageBackend for Failing {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.faults.step()?;
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.faults.step()?;
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.faults.step()?;
        self.file.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }
    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }
    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }
    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

fn on_failing_disk(path: &Path, errno: i32) -> (Redb, Arc<Faults>) {
    open::make_parent(path).unwrap();
    let faults = Arc::new(Faults { left: AtomicI64::new(i64::MAX), errno });
    let (path_again, faults_again) = (path.to_owned(), Arc::clone(&faults));
    let opener: Opener = Box::new(move || {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path_again)?;
        let backend = Failing { file: FileBackend::new(file)?, faults: Arc::clone(&faults_again) };
        let mut builder = Builder::new();
        builder.set_concurrency_mode(ConcurrencyMode::SingleWriter);
        builder.create_with_backend(backend).map(Handle::Writer)
    });
    (Redb::with(path, PLENTY, opener).unwrap(), faults)
}

/// Whatever write fails, of whatever append: an error and never success, no half change, and all goes on afterwards.
#[tokio::test]
async fn a_disk_that_fails_at_any_write_loses_nothing_acknowledged() {
    const DISK_FULL: i32 = 28;
    const INPUT_OUTPUT: i32 = 5;
    for errno in [DISK_FULL, INPUT_OUTPUT] {
        let place = folder();
        let (store, faults) = on_failing_disk(&place.path, errno);
        store.create(&name(), head(0)).await.unwrap();
        let (mut revision, mut failed, mut unknown_and_there) = (0, 0, 0);
        for writes_until_failure in 0..40 {
            faults.left.store(writes_until_failure % 14, Ordering::SeqCst);
            let appended = store.append(&name(), next(revision + 1)).await;
            faults.heal();
            let found = store.head(&name()).await.unwrap();
            let happened = found == Some(head(revision + 1));
            assert!(happened || found == Some(head(revision)), "{found:?} after revision {revision}");
            match &appended {
                Ok(_) => assert!(happened, "acknowledged and not there"),
                Err(StoreError::Full(_)) => {
                    assert_eq!(errno, DISK_FULL);
                    assert!(!happened, "`nothing was written`, and it is there");
                }
                Err(StoreError::Unavailable(_)) => unknown_and_there += u32::from(happened),
                Err(other) => panic!("{other:?}"),
            }
            failed += u32::from(appended.is_err());
            revision += u64::from(happened);
            let changes = store.changes(&name(), Revision(1), 1 << 20).await.unwrap();
            assert_eq!(changes.len() as u64, revision);
        }
        assert!(failed > 10, "the disk failed only {failed} times");
        assert!(unknown_and_there > 0, "no append failed after it had reached the file");
        assert_eq!(store.append(&name(), next(revision + 1)).await.unwrap(), Appended::Recorded);
    }
}

/// A disk that stays full: every write says so, and the first one after there is space again succeeds.
#[tokio::test]
async fn a_disk_that_stays_full_recovers_by_itself() {
    let place = folder();
    let (store, faults) = on_failing_disk(&place.path, 28);
    store.create(&name(), head(0)).await.unwrap();
    store.append(&name(), next(1)).await.unwrap();
    faults.left.store(0, Ordering::SeqCst);
    // The file cannot be opened anew either, so nobody knows what became of the first one.
    assert!(matches!(store.append(&name(), next(2)).await, Err(StoreError::Unavailable(_))));
    for _ in 0..3 {
        assert!(matches!(store.append(&name(), next(2)).await, Err(StoreError::Full(_))));
    }
    faults.heal();
    assert_eq!(store.append(&name(), next(2)).await.unwrap(), Appended::Recorded);
    assert_eq!(store.changes(&name(), Revision(1), 1 << 20).await.unwrap().len(), 2);
}
