//! Several servers: a confirmation spans all of them, and nobody is forgotten because a server died. On a store in
//! memory that the servers share; the same on a real etcd is told in `etcd`.

use std::sync::Arc;
use std::time::Duration;

use flagd_client::Connection;
use flagd_proto::admin::change_request::Operation;
use flagd_proto::admin::{ClientStanding, FlagName, FlagNames, Put, PutMode, WaitVerdict};
use flagd_server::store::Store;
use flagd_tests::{Exchangeable, Node, RawClient, eventually, user};

const LONG: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_millis(500);

fn shared(store: &Arc<Exchangeable>) -> Arc<dyn Store> {
    Arc::clone(store) as Arc<dyn Store>
}

fn create(flag: &str) -> Operation {
    let file = format!(r#"{{"flags": {{"{flag}": {{"rollout": 100}}}}}}"#).into();
    Operation::Put(Put { file, mode: PutMode::Create.into() })
}

fn kill(flag: &str) -> Operation {
    Operation::Kill(FlagNames { flags: vec![flag.to_owned()] })
}

fn disable(flag: &str) -> Operation {
    Operation::Disable(FlagName { flag: flag.to_owned() })
}

async fn two_servers() -> (Arc<Exchangeable>, Node, Node) {
    let store = Exchangeable::new();
    let a = Node::start("a", shared(&store)).await;
    let b = Node::start("b", shared(&store)).await;
    a.change(create("new-cart")).await;
    (store, a, b)
}

#[tokio::test]
async fn a_kill_is_confirmed_by_the_clients_of_all_servers() {
    let (_store, a, b) = two_servers().await;
    let (here, there) = (a.client("here").await, b.client("there").await);
    for (name, asked) in [("the one that wrote", &a), ("the other one", &b)] {
        let killed = a.change(kill("new-cart")).await;
        let waited = asked.wait(killed.revision, LONG).await;
        assert_eq!(waited.verdict(), WaitVerdict::Confirmed, "{name}: {waited:?}");
        assert_eq!((waited.expected, waited.applied), (2, 2), "{name}");
        assert!(
            !here.is_enabled("new-cart", &user("u")) && !there.is_enabled("new-cart", &user("u")),
            "{name}"
        );
    }
    let clients = b.clients().await;
    let seen: Vec<_> = clients.clients.iter().map(|c| (c.name.as_str(), c.server.as_str())).collect();
    assert_eq!(seen, [("here", "a"), ("there", "b")]);
    let status = a.status().await;
    assert_eq!((status.clients_connected, status.clients_up_to_date, status.clients_lost), (2, 2, 0));
    assert!(b.http("/metrics").await.contains("flagd_clients_expected{environment=\"default\"} 2\n"));
}

#[tokio::test]
async fn a_client_of_another_server_that_lags_is_named() {
    let (_store, a, b) = two_servers().await;
    let _here = a.client("here").await;
    let mut slow = RawClient::connect(&b.url(), "slow").await;
    slow.follow_to_head().await;
    let killed = a.change(kill("new-cart")).await;
    let waited = a.wait(killed.revision, SHORT).await;
    assert_eq!(waited.verdict(), WaitVerdict::Unconfirmed);
    let missing: Vec<_> =
        waited.missing.iter().map(|client| (client.name.as_str(), client.standing())).collect();
    assert_eq!(missing, [("slow", ClientStanding::Lagging)]);
    // It acknowledges while somebody waits: that is told at once, not at the next question.
    let waiting = a.wait(killed.revision, LONG);
    let acknowledging = async {
        let position = a.status().await.environment.and_then(|environment| environment.position);
        slow.ack(flagd_proto::stream::ClientState { position, ..Default::default() }).await;
    };
    let (waited, ()) = tokio::join!(waiting, acknowledging);
    assert_eq!(waited.verdict(), WaitVerdict::Confirmed, "{waited:?}");
}

#[tokio::test]
async fn the_clients_of_a_killed_server_are_lost_until_they_turn_up_elsewhere() {
    let (store, a, mut b) = two_servers().await;
    let _here = a.client("here").await;
    let moving = b.client_of_all(&[&a], "moving").await;
    let staying = RawClient::connect(&b.url(), "staying").await;
    eventually("the store knows both", async || a.clients().await.clients.len() == 3).await;
    // A client seen for the first time is saved at once; the test must not be faster than that.
    let saved = async || {
        let name = "default".parse().expect("a name");
        let kind = flagd_server::store::RecordKind::Roster;
        store.list_records(&name, kind).await.expect("the store is there").len() == 3
    };
    eventually("the roster is saved", saved).await;
    b.kill();
    drop(staying);
    let killed = a.change(kill("new-cart")).await;
    let waited = a.wait(killed.revision, Duration::from_secs(1)).await;
    assert_eq!(waited.verdict(), WaitVerdict::Unconfirmed, "{waited:?}");
    assert!(
        waited.missing.iter().any(|c| c.name == "staying" && c.standing() == ClientStanding::Lost),
        "{waited:?}"
    );
    // Whoever knows another server goes there, and is the same client.
    eventually("the client has moved", async || !moving.is_enabled("new-cart", &user("u"))).await;
    let found = async || {
        let clients = a.clients().await.clients;
        let moved = clients.iter().filter(|c| c.name == "moving").collect::<Vec<_>>();
        assert_eq!(moved.len(), 1, "{clients:?}");
        moved.iter().all(|c| c.standing() == ClientStanding::Applied && c.server == "a" && c.connected)
    };
    eventually("it has applied the kill", found).await;
    // Its server has gone from the list by now or soon; the one that did not turn up stays lost.
    eventually("the dead server is not asked any more", async || {
        a.clients().await.unanswered_servers.is_empty()
    })
    .await;
    let waited = a.wait(killed.revision, SHORT).await;
    let missing: Vec<_> =
        waited.missing.iter().map(|client| (client.name.as_str(), client.standing())).collect();
    assert_eq!(missing, [("staying", ClientStanding::Lost)]);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_named_and_nothing_is_confirmed() {
    let (_store, a, mut b) = two_servers().await;
    let _here = a.client("here").await;
    b.kill();
    let waited = a.wait(0, Duration::ZERO).await;
    assert_eq!(waited.verdict(), WaitVerdict::Unconfirmed, "b may have had clients that nobody knows");
    assert_eq!(waited.unanswered_servers, ["b"]);
    // Some seconds later it is not there any more.
    let waited = a.wait(0, LONG).await;
    assert_eq!((waited.verdict(), waited.expected), (WaitVerdict::Confirmed, 1));
    assert!(waited.unanswered_servers.is_empty());
}

#[tokio::test]
async fn a_goodbye_to_one_server_is_heard_by_all() {
    let (store, a, mut b) = two_servers().await;
    let c = Node::start("c", shared(&store)).await;
    let _here = a.client("here").await;
    let shop = b.client_of_all(&[&c], "shop").await;
    b.stop().await;
    eventually("the client has moved", async || {
        a.clients().await.clients.iter().any(|client| client.name == "shop" && client.server == "c")
    })
    .await;
    // A client that is closed between its Hello and the server's answer leaves without a goodbye.
    let knows = async || matches!(shop.status().connection, Connection::Connected { .. });
    eventually("the client knows that it has moved", knows).await;
    // Now a server that remembers it from the store, too, must learn that it has gone for good.
    shop.shutdown().await;
    eventually("nobody expects it", async || {
        a.clients().await.clients.iter().all(|client| client.name != "shop")
    })
    .await;
    assert_eq!(a.wait(0, LONG).await.verdict(), WaitVerdict::Confirmed);
}

#[tokio::test]
async fn a_rolling_restart_of_the_servers_loses_nobody() {
    let (store, mut a, mut b) = two_servers().await;
    let mut fleet = Vec::new();
    for number in 0..10 {
        let (first, second) = if number % 2 == 0 { (&a, &b) } else { (&b, &a) };
        fleet.push(first.client_of_all(&[second], &format!("shop-{number}")).await);
    }
    for node in [&mut a, &mut b] {
        node.stop().await;
        node.restart(shared(&store)).await;
    }
    let killed = a.change(kill("new-cart")).await;
    let waited = b.wait(killed.revision, LONG).await;
    assert_eq!(waited.verdict(), WaitVerdict::Confirmed, "{waited:?}");
    assert_eq!((waited.expected, waited.applied), (10, 10));
    assert!(fleet.iter().all(|client| !client.is_enabled("new-cart", &user("u"))));
}

#[tokio::test]
async fn a_client_that_moves_to_another_server_is_resumed_from_its_revision() {
    let (_store, a, mut b) = two_servers().await;
    let moving = b.client_of_all(&[&a], "moving").await;
    b.kill();
    let last = a.change(disable("new-cart")).await;
    eventually("the client has what it missed", async || moving.revision() == last.revision).await;
    let metrics = a.http("/metrics").await;
    assert!(metrics.contains("flagd_fulls_sent_total{environment=\"default\"} 0\n"), "{metrics}");
}

#[tokio::test]
async fn a_change_through_one_server_is_seen_by_the_clients_of_the_other() {
    let (_store, a, b) = two_servers().await;
    let there = b.client("there").await;
    let changed = a.change(disable("new-cart")).await;
    eventually("the change arrives", async || there.revision() == changed.revision).await;
    assert!(!there.is_enabled("new-cart", &user("u")));
    assert_eq!(b.status().await.environment.expect("it").position.expect("it").revision, changed.revision);
}

#[tokio::test]
async fn servers_go_on_without_their_store_and_say_how_old_their_view_is() {
    let (store, a, b) = two_servers().await;
    let there = b.client("there").await;
    let kept = store.backup();
    store.exchange(None);
    assert!(a.try_change(disable("new-cart")).await.is_err(), "nothing can be recorded");
    // Nothing was written since, so the copy is the store.
    let stale = async || b.http("/readyz").await.starts_with("HTTP/1.1 503");
    eventually("readiness tells the truth", stale).await;
    assert!(b.http("/readyz").await.contains("\"fresh\":false"));
    let status = b.status().await;
    assert!(status.view_age_ms > 0 && !status.alarms.is_empty(), "{status:?}");
    assert!(there.is_enabled("new-cart", &user("u")), "evaluation goes on");
    let behind = async || matches!(there.status().connection, Connection::ServerBehind { .. });
    eventually("the client knows that its server is behind", behind).await;
    store.exchange(Some(kept));
    eventually("it is ready again", async || b.http("/readyz").await.starts_with("HTTP/1.1 200")).await;
    let changed = a.change(disable("new-cart")).await;
    assert_eq!(b.wait(changed.revision, LONG).await.verdict(), WaitVerdict::Confirmed);
    assert!(!there.is_enabled("new-cart", &user("u")));
}

#[tokio::test]
async fn a_store_that_lost_everything_is_not_filled_again() {
    let (store, a, b) = two_servers().await;
    let there = b.client("there").await;
    let kept = store.backup();
    store.exchange(Some(Exchangeable::new().backup()));
    let alarmed = async || a.status().await.alarms.iter().any(|alarm| alarm.contains("lost the head"));
    eventually("operators are told", alarmed).await;
    let refused = a.try_change(disable("new-cart")).await.expect_err("nothing is written");
    assert!(refused.message().contains("lost the head"), "{refused}");
    let created =
        flagd_proto::admin::CreateEnvironmentRequest { name: "default".into(), ..Default::default() };
    assert!(a.admin().await.create_environment(created).await.is_err(), "its clients would lose every flag");
    // A server that starts now must not take this for a new store.
    eventually("the servers have announced themselves again", async || {
        store.announced().await.expect("the store is there").len() == 2
    })
    .await;
    let c = Node::start("c", shared(&store)).await;
    assert!(store.environments().await.expect("the store is there").is_empty());
    drop(c);
    assert!(there.is_enabled("new-cart", &user("u")), "they go on serving");
    assert!(b.client("late").await.is_enabled("new-cart", &user("u")), "also those who come now");
    store.exchange(Some(kept));
    eventually("writing goes on", async || a.try_change(disable("new-cart")).await.is_ok()).await;
    eventually("it arrives", async || !there.is_enabled("new-cart", &user("u"))).await;
}

#[tokio::test]
async fn a_restored_backup_is_followed_by_a_younger_epoch_that_names_what_is_lost() {
    let (store, a, b) = two_servers().await;
    let (here, there) = (a.client("here").await, b.client("there").await);
    let backup = store.backup();
    for _ in 0..3 {
        a.change(disable("new-cart")).await;
        a.change(Operation::Enable(FlagName { flag: "new-cart".into() })).await;
    }
    let last = a.change(disable("new-cart")).await;
    assert_eq!(a.wait(last.revision, LONG).await.verdict(), WaitVerdict::Confirmed);
    let epoch = here.status().epoch;
    store.exchange(Some(backup));
    for client in [&here, &there] {
        eventually("the client has the younger history", async || client.status().epoch > epoch).await;
        assert!(client.is_enabled("new-cart", &user("u")), "as in the backup");
        assert!(client.revision() < last.revision, "a lower revision, only with the younger epoch");
    }
    eventually("both servers and clients agree", async || {
        here.status().epoch == there.status().epoch && here.revision() == there.revision()
    })
    .await;
    assert_eq!(here.revision(), 2, "one epoch was begun, not one by each server");
    let told = format!("revisions 2 to {} of epoch", last.revision);
    for node in [&a, &b] {
        let alarms = node.status().await.alarms;
        assert!(alarms.iter().any(|alarm| alarm.contains(&told) && alarm.contains("lost")), "{alarms:?}");
    }
    let changed = a.change(disable("new-cart")).await;
    assert_eq!(b.wait(changed.revision, LONG).await.verdict(), WaitVerdict::Confirmed);
}
