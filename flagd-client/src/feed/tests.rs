//! A feed that hangs or dies does not take the application with it.

use std::sync::mpsc;

use super::*;
use crate::client::Client;
use crate::shared::Undeclared;

fn shared() -> Arc<Shared> {
    let connection = Connection::Connecting { server: "s".into() };
    Arc::new(Shared::new("default".into(), String::new(), connection, Undeclared::Told))
}

#[test]
fn a_shutdown_does_not_wait_for_a_feed_that_hangs() {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        // No feed: nobody will ever say that it has ended. Dropping the handle does not wait on this thread.
        let shared = shared();
        let thread = std::thread::current().id();
        let life = Life { control: Arc::default(), shared: Arc::clone(&shared), thread };
        let client = Client { shared, life: Some(Arc::new(life)) };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(client.shutdown());
        sender.send(()).unwrap();
    });
    receiver.recv_timeout(Duration::from_mins(1)).expect("the shutdown gives up");
}

#[test]
fn a_feed_that_panics_says_so() {
    for (name, panics, want) in
        [("closed", false, Connection::Closed), ("panicked", true, Connection::Failed)]
    {
        let shared = shared();
        shared.confirm();
        let end = End(Arc::clone(&shared));
        let feed = std::thread::spawn(move || {
            let _end = end;
            assert!(!panics, "a feed of the test");
        });
        assert_eq!(feed.join().is_err(), panics, "{name}");
        let status = shared.status();
        assert_eq!(status.connection, want, "{name}");
        assert!(!shared.is_confirmed() && shared.bulletin.is_closed(), "{name}");
    }
}

/// A pump that has not begun, inside a runtime.
fn pump(shared: &Arc<Shared>) -> (tokio::runtime::Runtime, pump::Pump) {
    let setup = Setup {
        connections: None,
        environment: environment(),
        identity: Identity {
            environment: "default".into(),
            instance: [1; 16],
            name: String::new(),
            app: String::new(),
            app_version: String::new(),
        },
        servers: Vec::new(),
        disk: None,
        bootstrap: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let inside = runtime.enter();
    let pump = pump::Pump::new(setup, Arc::clone(shared), Arc::default());
    drop(inside);
    (runtime, pump)
}

fn environment() -> flagd_core::key::EnvironmentName {
    flagd_core::key::EnvironmentName::new("default").unwrap()
}

fn kills() -> Kills {
    let mut kills = Kills::default();
    kills.by_flag.insert("a".into(), b"{}".as_slice().into());
    kills
}

#[test]
fn a_state_that_hangs_in_the_disk_holds_up_neither_a_kill_nor_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (runtime, mut pump) = pump(&shared());
    let (_hangs, saving) = tokio::sync::oneshot::channel();
    pump.take_disk(Disk::new(folder.path(), environment()), Some(saving));
    assert!(pump.write(&kills()));
    let found = Disk::new(folder.path(), environment()).load().unwrap();
    assert_eq!(found.kills, Some(kills()));
    runtime.block_on(pump.finish_saving());
}

/// Root may write everywhere, so a folder stands where the file of kills belongs.
#[test]
fn kills_that_cannot_be_written_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let shared = shared();
    let (_runtime, mut pump) = pump(&shared);
    pump.take_disk(Disk::new(folder.path(), environment()), None);
    let obstacle = folder.path().join("default/kills.flagd");
    std::fs::create_dir_all(obstacle.join("in the way")).unwrap();
    assert!(!pump.write(&kills()));
    let status = shared.status();
    assert!(status.kills_unwritten && status.counters.disk_errors == 1, "{status:?}");
    std::fs::remove_dir_all(&obstacle).unwrap();
    assert!(pump.write(&kills()));
    assert!(!shared.status().kills_unwritten);
}
