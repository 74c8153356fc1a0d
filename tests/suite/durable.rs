//! Promise 2: an acknowledged change is never lost. Promise 9: no lost update; a retry gets the first answer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flagd_proto::admin::{ChangeRequest, FlagName, HistoryRequest, Put, PutMode, change_request};
use flagd_tests::{RawClient, World, eventually, user};

const WRITES: usize = 1_000;

fn create(key: &str) -> ChangeRequest {
    ChangeRequest {
        environment: "default".into(),
        request_id: format!("create-{key}"),
        actor: "writer".into(),
        operation: Some(change_request::Operation::Put(Put {
            file: format!(r#"{{"flags": {{"{key}": {{"rollout": 100}}}}}}"#).into(),
            mode: PutMode::Create.into(),
        })),
        ..ChangeRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_during_a_thousand_writes_loses_none_that_was_acknowledged() {
    let mut world = World::start().await;
    let shop = world.connected_client("shop").await;
    let done = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (url, done) = (world.url(), Arc::clone(&done));
        async move {
            let mut acknowledged = Vec::new();
            for number in 0..WRITES {
                let key = format!("flag-{number}");
                // The server dies now and then: ask again with the same request id until there is an answer.
                loop {
                    if let Some(mut admin) = flagd_tests::connect(&url).await
                        && let Ok(answer) = admin.change(create(&key)).await
                    {
                        acknowledged.push((key, answer.into_inner().revision));
                        break;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            }
            done.store(true, Ordering::SeqCst);
            acknowledged
        }
    });
    for at in [100, 400, 700] {
        eventually("the writer goes on", async || world.try_revision().await.unwrap_or(0) >= at).await;
        world.kill_server().await;
        world.start_server().await;
    }
    let acknowledged = writer.await.expect("the writer ends");
    assert!(done.load(Ordering::SeqCst));

    let revisions: BTreeSet<u64> = acknowledged.iter().map(|(_, revision)| *revision).collect();
    assert_eq!(revisions.len(), WRITES, "two answers name one revision");
    assert_eq!(revisions.last().copied(), Some(WRITES as u64), "a change was recorded twice");
    let history = all_revisions(&world).await;
    assert_eq!(history, (1..=WRITES as u64).collect::<Vec<_>>(), "the history has a gap");
    eventually("the client has all of them", async || shop.status().revision == WRITES as u64).await;
    for (key, _) in &acknowledged {
        assert!(shop.is_enabled(key, &user("u")), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_forgets_no_client_that_was_answered() {
    let mut world = World::with_flag("new-cart").await;
    let mut answered = Vec::new();
    for number in 0..8 {
        let mut client = RawClient::connect(&world.url(), &format!("shop-{number}")).await;
        client.follow_to_head().await;
        answered.push(client);
    }
    // The last of them was told its flags a moment ago.
    world.kill_server().await;
    drop(answered);
    world.start_server().await;
    let mut killed = world.flagctl(["kill", "new-cart", "--timeout", "1s"]).await.exits(3);
    for number in 0..8 {
        killed = killed.says(&format!("shop-{number}"));
    }
}

async fn all_revisions(world: &World) -> Vec<u64> {
    let mut admin = world.admin().await;
    let mut revisions = Vec::new();
    loop {
        let before_revision = revisions.last().copied().unwrap_or(0);
        let request = HistoryRequest {
            environment: "default".into(),
            limit: 500,
            before_revision,
            ..HistoryRequest::default()
        };
        let page = admin.history(request).await.expect("a history").into_inner();
        revisions.extend(page.changes.iter().map(|change| change.revision));
        if !page.more {
            break;
        }
    }
    revisions.reverse();
    revisions
}

#[tokio::test]
async fn clients_resume_by_delta_after_a_restart() {
    let mut world = World::with_flag("a").await;
    let shop = world.connected_client("shop").await;
    world.kill_server().await;
    world.start_server().await;
    world.flagctl(["disable", "a", "--wait", "--timeout", "60s"]).await.succeeds().done();
    assert!(!shop.is_enabled("a", &user("u")));
    assert_eq!(
        world.metric("flagd_fulls_sent_total").await,
        0,
        "after the restart nobody needed the whole state"
    );
}

#[tokio::test]
async fn a_store_file_from_yesterday_is_recognised() {
    let mut world = World::with_flag("a").await;
    let shop = world.connected_client("shop").await;
    world.stop_server().await;
    let yesterday = world.folder().join("yesterday.redb");
    std::fs::copy(world.store(), &yesterday).expect("a copy");
    world.start_server().await;
    world.flagctl(["disable", "a", "--wait", "--timeout", "60s"]).await.succeeds().done();
    let epoch = shop.status().epoch;
    world.stop_server().await;
    std::fs::copy(&yesterday, world.store()).expect("somebody restores the wrong way");
    world.start_server().await;
    eventually("the client is brought to the younger history", async || shop.status().epoch > epoch).await;
    assert!(shop.is_enabled("a", &user("u")), "yesterday it was on");
    world.flagctl(["status"]).await.succeeds().says("cut").done();
    world.flagctl(["history"]).await.succeeds().says("epoch").done();
}

#[tokio::test]
async fn a_retry_gets_the_first_answer() {
    let mut world = World::start().await;
    let mut admin = world.admin().await;
    let first = admin.change(create("a")).await.expect("recorded").into_inner();
    let disable = ChangeRequest {
        environment: "default".into(),
        actor: "writer".into(),
        operation: Some(change_request::Operation::Disable(FlagName { flag: "a".into() })),
        ..ChangeRequest::default()
    };
    admin.change(disable).await.expect("recorded");
    world.kill_server().await;
    world.start_server().await;
    let again = world.admin().await.change(create("a")).await.expect("the first answer").into_inner();
    assert!(again.repeated_answer);
    assert_eq!(again.revision, first.revision);
    assert_eq!(world.revision().await, 2);
}

#[tokio::test]
async fn a_backup_is_restored_as_a_younger_history() {
    let mut world = World::with_flag("a").await;
    let before = world.flagctl(["export"]).await.succeeds().out;
    world.stop_server().await;
    let backup = world.folder().join("backup.redb");
    world
        .flagd(["backup".as_ref(), "--store".as_ref(), world.store().as_os_str(), backup.as_os_str()])
        .await
        .succeeds()
        .done();
    world.start_server().await;
    world.flagctl(["disable", "a"]).await.succeeds().done();
    world.stop_server().await;
    let refused = world
        .flagd(["restore".as_ref(), backup.as_os_str(), "--to".as_ref(), world.store().as_os_str()])
        .await;
    assert_ne!(refused.code, 0, "an existing store is not overwritten: {refused:?}");
    let store = world.store();
    let args =
        ["restore".as_ref(), backup.as_os_str(), "--to".as_ref(), store.as_os_str(), "--force".as_ref()];
    world.flagd(args).await.succeeds().done();
    world.start_server().await;
    assert_eq!(world.flagctl(["export"]).await.succeeds().out, before);
    world.flagctl(["history"]).await.succeeds().says("restored").done();
}

#[tokio::test]
async fn an_empty_store_put_up_by_mistake_empties_nobody_and_confirms_nothing() {
    let mut world = World::with_flag("a").await;
    let shop = world.connected_client("shop").await;
    world.stop_server().await;
    let right = world.folder().join("right.redb");
    std::fs::rename(world.store(), &right).expect("moved");
    world.start_server().await;
    eventually("the operator is told", async || {
        world.flagctl(["status"]).await.out.contains("is it the right store")
    })
    .await;
    assert!(shop.is_enabled("a", &user("u")), "an empty store is no reason to forget");
    let clients = world.flagctl(["clients", "--output", "json"]).await.succeeds().json();
    let clients = clients["clients"].as_array().expect("a list");
    assert!(
        clients.iter().all(|client| client["standing"] != "applied"),
        "who is sent away confirms nothing: {clients:?}"
    );
    world.stop_server().await;
    std::fs::rename(&right, world.store()).expect("moved back");
    world.start_server().await;
    world.flagctl(["kill", "a", "--timeout", "60s"]).await.succeeds().says("applied by 1 of 1").done();
    assert!(!shop.is_enabled("a", &user("u")));
}
