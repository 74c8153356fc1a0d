//! Promise 6: no client goes back in time or sees half a change. Promise 3: clients converge.

use std::time::Duration;

use flagd_tests::{World, eventually, user};

#[tokio::test]
async fn a_client_away_for_six_changes_never_serves_an_intermediate_one() {
    let mut world = World::start().await;
    world.create(r#"{"flags": {"a": {"variants": {"v1": 1, "v2": 2, "v3": 3, "v4": 4, "v5": 5, "v6": 6, "v7": 7}, "offVariant": "v1", "otherwise": "v1"}}}"#).await;
    let cache = world.cache("shop");
    let first = world.builder("shop").cache_dir(&cache).start().await.expect("started");
    assert!(first.ready(Duration::from_mins(1)).await, "the server answers");
    assert_eq!(first.integer("a", &user("u"), 0), 1);
    first.shutdown().await;
    for version in 2..=7 {
        let variant = format!("v{version}=100%");
        world
            .flagctl(["ramp", "a", &variant, "--otherwise", "--from", &format!("v{}", version - 1), "--yes"])
            .await
            .succeeds()
            .done();
    }
    world.stop_server().await;
    let shop = world
        .builder("shop")
        .cache_dir(&cache)
        .start_timeout(Duration::from_millis(20))
        .start()
        .await
        .expect("started");
    let seen = std::thread::spawn({
        let shop = shop.clone();
        move || {
            let mut seen = Vec::new();
            while seen.last() != Some(&7) {
                let value = shop.integer("a", &user("u"), 0);
                if seen.last() != Some(&value) {
                    seen.push(value);
                }
            }
            seen
        }
    });
    world.start_server().await;
    let seen =
        tokio::task::spawn_blocking(move || seen.join().expect("the watcher ends")).await.expect("joined");
    assert_eq!(seen, [1, 7]);
    assert_eq!(world.metric("flagd_fulls_sent_total").await, 0, "six small changes are caught up as deltas");
}

#[tokio::test]
async fn clients_follow_and_hold_one_digest() {
    let world = World::start().await;
    let mut fleet = Vec::new();
    for number in 0..5 {
        fleet.push(world.connected_client(&format!("shop-{number}")).await);
    }
    for number in 0..20 {
        world.create(&format!(r#"{{"flags": {{"flag-{number}": {{"rollout": {number}}}}}}}"#)).await;
    }
    eventually("all are at one position", async || {
        let positions: Vec<_> = fleet
            .iter()
            .map(|client| {
                let s = client.status();
                (s.revision, s.digest.clone())
            })
            .collect();
        positions.iter().all(|position| position.0 == 20 && *position == positions[0])
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_answers_from_one_revision() {
    let world = World::with_flag("a").await;
    let shop = world.connected_client("shop").await;
    let page = shop.snapshot();
    world.flagctl(["disable", "a", "--wait"]).await.succeeds().done();
    assert!(page.is_enabled("a", &user("u")) && !shop.is_enabled("a", &user("u")));
}

#[tokio::test]
async fn a_change_back_to_an_earlier_state_is_delivered() {
    let world = World::with_flag("a").await;
    let shop = world.connected_client("shop").await;
    for (verb, on) in [("disable", false), ("enable", true), ("disable", false)] {
        world.flagctl([verb, "a", "--wait"]).await.succeeds().done();
        assert_eq!(shop.is_enabled("a", &user("u")), on, "{verb}");
    }
}

#[tokio::test]
async fn the_application_is_told_of_changes() {
    let world = World::with_flag("a").await;
    let shop = world.connected_client("shop").await;
    let mut changes = shop.changes();
    world.flagctl(["disable", "a"]).await.succeeds().done();
    let change = tokio::task::spawn_blocking(move || changes.next_blocking(Duration::from_mins(1)))
        .await
        .expect("joined");
    assert!(change.is_some());
}
