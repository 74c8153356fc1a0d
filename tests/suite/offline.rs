//! Promise 7: clients start and go on without the server, and a kill once applied stays applied.

use std::path::{Path, PathBuf};
use std::time::Duration;

use flagd_client::Reason;
use flagd_tests::{World, eventually, user};

#[tokio::test]
async fn a_client_started_while_the_server_is_down_serves_the_last_state_and_catches_up() {
    let mut world = World::with_flag("a").await;
    let cache = world.cache("shop");
    let first = world.builder("shop").cache_dir(&cache).start().await.expect("started");
    assert!(first.ready(Duration::from_mins(1)).await, "the server answers");
    first.shutdown().await;
    world.stop_server().await;

    let shop = world
        .builder("shop")
        .cache_dir(&cache)
        .start_timeout(Duration::from_millis(50))
        .start()
        .await
        .expect("started");
    let answer = shop.bool_detail("a", &user("u"), false);
    assert!(answer.value && answer.stale.is_stale(), "{answer:?}");
    assert!(shop.status().staleness.is_stale());

    world.start_server().await;
    world.flagctl(["disable", "a", "--wait", "--timeout", "60s"]).await.done();
    eventually("the client catches up", async || {
        let answer = shop.bool_detail("a", &user("u"), true);
        !answer.value && !answer.stale.is_stale()
    })
    .await;
}

#[tokio::test]
async fn a_client_that_was_down_during_a_kill_does_not_serve_the_feature_once_the_server_has_answered() {
    let world = World::with_flag("a").await;
    let cache = world.cache("shop");
    let first = world.builder("shop").cache_dir(&cache).start().await.expect("started");
    assert!(first.ready(Duration::from_mins(1)).await, "the server answers");
    first.shutdown().await;
    world.flagctl(["kill", "a", "--no-wait"]).await.succeeds().done();
    let shop = world
        .builder("shop")
        .cache_dir(&cache)
        .start_timeout(Duration::from_mins(1))
        .start()
        .await
        .expect("started");
    assert!(!shop.is_enabled("a", &user("u")));
}

#[tokio::test]
async fn a_kill_that_was_acknowledged_holds_after_a_restart_without_a_server() {
    let mut world = World::with_flag("a").await;
    let cache = world.cache("shop");
    let first = world.builder("shop").cache_dir(&cache).start().await.expect("started");
    assert!(first.ready(Duration::from_mins(1)).await, "the server answers");
    eventually("the state before the kill is on disk", async || states(&cache).len() == 1).await;
    world.flagctl(["kill", "a"]).await.succeeds().says("applied by 1 of 1").done();
    first.shutdown().await;
    world.stop_server().await;
    // The state with the kill is lost: the one before it says "on", and the kill stands in a file of its own.
    let mut states = states(&cache);
    assert_eq!(states.len(), 2, "{states:?}");
    std::fs::remove_file(states.pop().expect("the newest")).expect("a state is lost");
    let shop = world
        .builder("shop")
        .cache_dir(&cache)
        .start_timeout(Duration::from_millis(50))
        .start()
        .await
        .expect("started");
    let answer = shop.bool_detail("a", &user("u"), true);
    assert_eq!((answer.value, answer.reason), (false, Reason::Killed));
    assert!(shop.status().staleness.is_stale());
}

/// The states on disk, oldest first.
fn states(cache: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![cache.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in
            std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry").path())
        {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.file_name().is_some_and(|name| {
                name.to_string_lossy().starts_with("state_") && name.to_string_lossy().ends_with(".flagd")
            }) {
                found.push(entry);
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn without_server_and_disk_the_codes_defaults_are_served() {
    let world = World::stopped();
    let shop = world
        .builder("shop")
        .start_timeout(Duration::from_millis(50))
        .start()
        .await
        .expect("an absent server is no error");
    assert!(!shop.is_enabled("a", &user("u")));
    assert_eq!(shop.string("ranking", &user("u"), "v1"), "v1");
    assert!(!shop.ready(Duration::from_millis(50)).await, "`ready` is for deployments that want to fail");
}

#[tokio::test]
async fn clients_go_on_while_the_server_is_away() {
    let mut world = World::with_flag("a").await;
    let shop = world.connected_client("shop").await;
    world.kill_server().await;
    eventually("the client notices", async || shop.status().staleness.is_stale()).await;
    let answer = shop.bool_detail("a", &user("u"), false);
    assert!(answer.value && answer.stale.is_stale());
    world.start_server().await;
    eventually("the client is back", async || !shop.status().staleness.is_stale()).await;
}
