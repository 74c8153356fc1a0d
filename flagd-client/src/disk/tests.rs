//! What a later process finds, after crashes, damage, other versions, other environments and other processes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use flagd_core::entry::{EntryId, EntryKind, StoredEntry};
use flagd_core::state::State;

use super::*;

fn environment() -> EnvironmentName {
    EnvironmentName::new("production").unwrap()
}

fn saved(minted_ms: u64, revision: u64) -> SavedState {
    let entry =
        StoredEntry { bytes: format!("{revision}").into_bytes().into(), revision: Revision(revision) };
    let entries = [(EntryId::new(EntryKind::FLAG, "a"), entry)];
    let epoch = Epoch { minted_ms, random: 9 };
    let mut last_good = BTreeMap::new();
    last_good.insert(EntryId::new(EntryKind::FLAG, "a"), b"good".as_slice().into());
    SavedState {
        state: State::from_entries(environment(), epoch, Revision(revision), entries),
        last_good,
        confirmed_at_ms: Some(17),
    }
}

fn kills(revision: u64) -> Kills {
    let mut kills = Kills { revision: Revision(revision), ..Kills::default() };
    kills.by_flag.insert("a".into(), b"{}".as_slice().into());
    kills
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn revision_found(disk: &Disk) -> Option<u64> {
    disk.load().unwrap().state.map(|state| state.state.revision().0)
}

#[test]
fn what_is_written_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), environment());
    assert_eq!(disk.save_state(&saved(1, 5)).unwrap(), Role::Writer);
    disk.save_kills(&kills(6)).unwrap();
    let found = Disk::new(folder.path(), environment()).load().unwrap();
    assert_eq!(found.state, Some(saved(1, 5)));
    assert_eq!(found.kills, Some(kills(6)));
    assert!(found.skipped.is_empty());
}

#[test]
fn an_absent_folder_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let found = Disk::new(&folder.path().join("not/there"), environment()).load().unwrap();
    assert!(found.state.is_none() && found.kills.is_none() && found.skipped.is_empty());
}

#[test]
fn three_states_are_kept_and_the_youngest_history_wins() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), environment());
    for (minted_ms, revision) in [(1, 8), (1, 9), (1, 10), (1, 100), (2, 3)] {
        disk.save_state(&saved(minted_ms, revision)).unwrap();
    }
    let states = files(disk.folder()).into_iter().filter(|name| name.starts_with(STATE_PREFIX)).count();
    assert_eq!(states, STATES_KEPT);
    assert_eq!(revision_found(&disk), Some(3), "revision 3 of the younger history");
}

#[test]
fn a_file_that_does_not_verify_is_passed_over() {
    type Damage = fn(&Path);
    let cases: &[(&str, Damage, &str)] = &[
        ("one bit", |path| edit(path, |bytes| *bytes.last_mut().unwrap() ^= 1), "damaged"),
        ("cut in the body", |path| edit(path, |bytes| bytes.truncate(bytes.len() - 1)), "damaged"),
        ("cut in the header", |path| edit(path, |bytes| bytes.truncate(10)), "cut short"),
        ("empty", |path| edit(path, Vec::clear), "cut short"),
        ("something else", |path| edit(path, |bytes| bytes[0] = b'x'), "no such file"),
        ("a later version", |path| edit(path, |bytes| bytes[8] = 2), "written in format 2"),
        (
            "another environment's",
            |path| {
                let other = EnvironmentName::new("staging").unwrap();
                let state = State::empty(other, Epoch::default());
                let state = SavedState { state, last_good: BTreeMap::new(), confirmed_at_ms: None };
                fs::write(path, format::write_state(&state)).unwrap();
            },
            "environment `staging`",
        ),
    ];
    for (name, damage, want) in cases {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path(), environment());
        disk.save_state(&saved(1, 1)).unwrap();
        disk.save_state(&saved(1, 2)).unwrap();
        damage(&disk.folder().join(state_name(saved(1, 2).state.position())));
        let found = disk.load().unwrap();
        assert_eq!(found.state, Some(saved(1, 1)), "{name}");
        assert!(found.skipped.len() == 1 && found.skipped[0].contains(want), "{name}: {:?}", found.skipped);
    }
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_state_that_lies_about_its_digest_is_not_used() {
    let mut forged = saved(1, 1);
    forged.confirmed_at_ms = None;
    let mut bytes = format::write_state(&forged);
    // The digest stands behind the environment's name and the place; the checksum is made right again.
    let at = 28 + 8 + "production".len() + 24;
    bytes[at] ^= 1;
    let checksum = xxhash_rust::xxh3::xxh3_128(&bytes[28..]);
    bytes[12..28].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(format::read_state(&bytes, &environment()), Err(FormatError::Digest));
}

#[test]
fn damaged_kills_leave_the_state_alone() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), environment());
    disk.save_state(&saved(1, 1)).unwrap();
    disk.save_kills(&kills(1)).unwrap();
    edit(&disk.folder().join(KILLS_FILE), |bytes| bytes.truncate(30));
    let found = disk.load().unwrap();
    assert!(found.state.is_some() && found.kills.is_none());
    assert_eq!(found.skipped.len(), 1);
}

#[test]
fn one_process_writes_others_read_and_the_lock_passes_on() {
    let folder = tempfile::tempdir().unwrap();
    let writer = Disk::new(folder.path(), environment());
    writer.save_state(&saved(1, 1)).unwrap();
    let reader = Disk::new(folder.path(), environment());
    assert_eq!(revision_found(&reader), Some(1));
    assert_eq!(reader.save_state(&saved(1, 2)).unwrap(), Role::Reader);
    assert_eq!(reader.save_kills(&kills(2)).unwrap(), Role::Reader);
    assert_eq!(revision_found(&reader), Some(1), "nothing was written");
    drop(writer);
    assert_eq!(reader.save_state(&saved(1, 2)).unwrap(), Role::Writer);
    assert_eq!(revision_found(&reader), Some(2));
}

#[test]
fn what_a_crash_left_behind_is_ignored_and_swept() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), environment());
    fs::create_dir_all(disk.folder()).unwrap();
    let leftover = format!("{}.1-0{TEMPORARY_SUFFIX}", state_name(saved(9, 9).state.position()));
    fs::write(disk.folder().join(&leftover), b"half a st").unwrap();
    assert_eq!(revision_found(&disk), None);
    disk.save_state(&saved(1, 1)).unwrap();
    assert!(!files(disk.folder()).contains(&leftover));
}

#[test]
fn environments_have_folders_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    Disk::new(folder.path(), environment()).save_state(&saved(1, 1)).unwrap();
    let other = Disk::new(folder.path(), EnvironmentName::new("staging").unwrap());
    assert_eq!(revision_found(&other), None);
}
