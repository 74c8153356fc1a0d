//! Promise 1: a kill tells you who has applied it; unknown is never counted as done. Promise 12: off means off.

use std::time::{Duration, Instant};

use flagd_proto::stream::server_message;
use flagd_tests::{World, eventually, user};

#[tokio::test]
async fn a_kill_is_applied_before_the_command_returns() {
    let world = World::with_flag("new-cart").await;
    let shop = world.connected_client("shop").await;
    assert!(shop.is_enabled("new-cart", &user("u-17")));
    let killed = world.flagctl(["kill", "new-cart", "--reason", "errors doubled"]).await;
    killed.succeeds().says("applied by 1 of 1 client in").done();
    assert!(!shop.is_enabled("new-cart", &user("u-17")));
    world.flagctl(["history", "new-cart"]).await.succeeds().says("errors doubled").done();
}

#[tokio::test]
async fn a_kill_without_clients_is_recorded_but_not_confirmed() {
    let world = World::with_flag("new-cart").await;
    world.flagctl(["kill", "new-cart"]).await.exits(3).says("nobody can confirm").done();
    world.flagctl(["get", "new-cart"]).await.succeeds().says("killed").done();
}

#[tokio::test]
async fn a_second_kill_succeeds_and_waits_as_the_first_did() {
    let world = World::with_flag("new-cart").await;
    let _shop = world.connected_client("shop").await;
    world.flagctl(["kill", "new-cart"]).await.succeeds().done();
    let revision = world.revision().await;
    world.flagctl(["kill", "new-cart"]).await.succeeds().says("applied by 1 of 1").done();
    assert_eq!(world.revision().await, revision, "nothing was left to change");
}

#[tokio::test]
async fn of_several_flags_those_that_exist_are_killed_and_the_others_named() {
    let world = World::with_flag("new-cart").await;
    let shop = world.connected_client("shop").await;
    let killed = world.flagctl(["kill", "new-cart", "new-crat"]).await;
    killed.exits(3).says("new-crat").says("did you mean").done();
    world.flagctl(["history"]).await.succeeds().says("kill new-cart").does_not_say("new-crat").done();
    assert!(!shop.is_enabled("new-cart", &user("u")));
}

#[tokio::test]
async fn a_kill_tells_which_flags_follow_going_off_or_coming_on() {
    let world = World::start().await;
    world
        .create(
            r#"{"flags": {
                "base": {"rollout": 100},
                "child": {"rollout": 100, "requires": [{"flag": "base", "serves": ["on"]}]},
                "fallback": {"rollout": 100, "requires": [{"flag": "base", "serves": ["off"]}]}
            }}"#,
        )
        .await;
    let shop = world.connected_client("shop").await;
    assert!(shop.is_enabled("child", &user("u")) && !shop.is_enabled("fallback", &user("u")));
    let killed = world.flagctl(["kill", "base"]).await.succeeds();
    killed.says("child").says("off").says("fallback").says("on").done();
    assert!(!shop.is_enabled("child", &user("u")) && shop.is_enabled("fallback", &user("u")));
}

#[tokio::test]
async fn right_after_a_restart_a_kill_names_those_who_are_not_back() {
    let mut world = World::with_flag("new-cart").await;
    // The client goes without a word: its process would be gone, here its connection is cut by the server's death
    // and it is told to wait long before it comes back.
    let lost = lost_client(&world, "till-7").await;
    world.kill_server().await;
    drop(lost);
    world.start_server().await;
    world.flagctl(["kill", "new-cart", "--timeout", "1s"]).await.exits(3).says("till-7").says("lost").done();
}

/// A client that is remembered but cannot come back: a raw stream without the client's reconnecting.
async fn lost_client(world: &World, name: &str) -> flagd_tests::RawClient {
    let mut raw = flagd_tests::RawClient::connect(&world.url(), name).await;
    raw.follow_to_head().await;
    let clients = world.flagctl(["clients"]).await.succeeds();
    clients.says(name).done();
    raw
}

/// It waits long for its next full state by then; a kill does not wait with it.
#[tokio::test]
async fn a_kill_reaches_a_client_that_keeps_asking_for_the_full_state() {
    let world = World::with_flag("new-cart").await;
    let mut raw = flagd_tests::RawClient::connect(&world.url(), "asks-again").await;
    raw.follow_to_head().await;
    // Who asks that often gets one at once, and after that none for 16 s.
    for _ in 0..6 {
        raw.need_full("digest").await;
    }
    let full = raw.next().await;
    assert!(matches!(full, Some(server_message::Message::Full(_))), "{full:?}");
    let asked = Instant::now();
    raw.need_full("digest").await;
    let (told, mut heard) = tokio::sync::oneshot::channel();
    let following = tokio::spawn(async move {
        let said = raw.next().await;
        let Some(server_message::Message::Delta(delta)) = &said else { panic!("{said:?}") };
        let position = flagd_proto::stream::Position {
            epoch: delta.epoch,
            revision: delta.to,
            digest: delta.digest.clone(),
            digest_algorithm: delta.digest_algorithm,
        };
        let _ = told.send(asked.elapsed());
        let state = flagd_proto::stream::ClientState { position: Some(position), ..Default::default() };
        raw.ack(state).await;
        // The full state was asked for, and comes all the same.
        loop {
            match raw.next().await {
                Some(server_message::Message::Heartbeat(_)) => {}
                Some(server_message::Message::Full(_)) => break asked.elapsed(),
                other => panic!("{other:?}"),
            }
        }
    });
    world.flagctl(["kill", "new-cart"]).await.succeeds().says("applied by 1 of 1").done();
    let kill = heard.try_recv().expect("it was told before the command returned");
    let full = following.await.expect("nothing but the kill came before it");
    assert!(kill < Duration::from_secs(10) && full > Duration::from_secs(15), "{kill:?}, {full:?}");
}

#[tokio::test]
async fn a_rolling_restart_of_twenty_clients_with_bye_confirms() {
    let world = World::with_flag("new-cart").await;
    let mut fleet = Vec::new();
    for number in 0..20 {
        fleet.push(world.connected_client(&format!("shop-{number}")).await);
    }
    for number in 0..20 {
        let old = fleet.remove(0);
        old.shutdown().await;
        fleet.push(world.connected_client(&format!("shop-{number}")).await);
    }
    world.flagctl(["kill", "new-cart"]).await.succeeds().says("applied by 20 of 20").done();
    assert!(fleet.iter().all(|client| !client.is_enabled("new-cart", &user("u"))));
}

#[tokio::test]
async fn a_client_that_holds_an_old_snapshot_is_named() {
    let world = World::with_flag("new-cart").await;
    let shop = world.connected_client("shop-with-a-long-request").await;
    let page = shop.snapshot();
    let killed = world.flagctl(["kill", "new-cart"]).await;
    killed.succeeds().says("older snapshot").says("shop-with-a-long-request").done();
    assert!(
        page.is_enabled("new-cart", &user("u")),
        "the request that began before goes on with its revision"
    );
    assert!(!shop.is_enabled("new-cart", &user("u")), "what begins now does not");
    drop(page);
    eventually("the client says that it let go", async || {
        let clients = world.flagctl(["clients", "--output", "json"]).await.succeeds().json();
        clients["clients"][0]["heldSnapshots"] == 0
    })
    .await;
}

#[tokio::test]
async fn a_killed_flag_survives_every_other_verb() {
    let world = World::with_flag("new-cart").await;
    let shop = world.connected_client("shop").await;
    world.flagctl(["ramp", "new-cart", "50%", "--yes"]).await.succeeds().done();
    world.flagctl(["kill", "new-cart"]).await.succeeds().done();
    let file =
        world.file("again.json", r#"{"flags": {"new-cart": {"rollout": 100, "description": "again"}}}"#);
    let file = file.to_str().expect("a path");
    for verb in [
        vec!["apply", "-f", file, "--take", "file"],
        vec!["rollback", "new-cart"],
        vec!["disable", "new-cart"],
        vec!["enable", "new-cart"],
        vec!["ramp", "new-cart", "100%", "--yes"],
        vec!["edit", "-f", file],
    ] {
        let mut args = verb.clone();
        args.push("--wait");
        let output = world.flagctl(&args).await;
        assert!(output.code == 0, "{verb:?}: {output:?}");
        assert!(!shop.is_enabled("new-cart", &user("u")), "{verb:?} brought a killed flag back");
    }
    world.flagctl(["revive", "new-cart", "--wait"]).await.succeeds().done();
    assert!(shop.is_enabled("new-cart", &user("u")));
}

#[tokio::test]
async fn interrupting_the_wait_is_not_interrupting_the_kill() {
    let world = World::with_flag("new-cart").await;
    let raw = flagd_tests::RawClient::connect(&world.url(), "sleeper").await;
    let kill = ["kill", "new-cart", "--timeout", "50s"];
    let output = world.flagctl_interrupted(&kill, "recorded as revision 2").await;
    output.exits(3).says("watching was stopped; the change is recorded").done();
    drop(raw);
    world.flagctl(["get", "new-cart"]).await.succeeds().says("killed").done();
}
