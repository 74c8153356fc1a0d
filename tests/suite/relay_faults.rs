//! Relays on a bad day: several servers above, history that was cut, a server that lies, a disk that does not come back.

use std::sync::Arc;
use std::time::Duration;

use flagd_client::Client;
use flagd_core::entry::{EntryId, EntryKind};
use flagd_core::revision::Digest;
use flagd_core::state::State;
use flagd_proto::admin::change_request::Operation;
use flagd_proto::admin::{ClientStanding, FlagName, FlagNames, Put, PutMode, WaitVerdict};
use flagd_proto::convert;
use flagd_proto::stream::client_message;
use flagd_server::store::Store;
use flagd_tests::{Exchangeable, Liar, Node, RawClient, Relay, World, eventually, forge, user};

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

fn revive(flag: &str) -> Operation {
    Operation::Revive(FlagNames { flags: vec![flag.to_owned()] })
}

fn disable(flag: &str) -> Operation {
    Operation::Disable(FlagName { flag: flag.to_owned() })
}

/// Waits until a server knows these clients, by name, all connected.
async fn knows(node: &Node, names: &[&str]) {
    eventually("the server knows the clients", async || {
        let clients = node.clients().await;
        let found: Vec<_> = clients.clients.iter().map(|client| client.name.as_str()).collect();
        found == names
            && clients.clients.iter().all(|client| client.connected)
            && clients.away_relays.is_empty()
    })
    .await;
}

#[tokio::test]
async fn servers_of_a_cluster_know_the_clients_behind_each_others_relays() {
    let store = Exchangeable::new();
    let a = Node::start("a", shared(&store)).await;
    let mut b = Node::start("b", shared(&store)).await;
    a.change(create("new-cart")).await;
    let east = Relay::start("east", &format!("{},{}", b.url(), a.url())).await;
    let till = east.connected_client("till").await;
    let mut slow = RawClient::connect(&east.url(), "slow").await;
    slow.follow_to_head().await;
    knows(&a, &["slow", "till"]).await;

    let killed = a.change(kill("new-cart")).await;
    let waited = a.wait(killed.revision, SHORT).await;
    assert_eq!(waited.verdict(), WaitVerdict::Unconfirmed);
    let missing: Vec<_> =
        waited.missing.iter().map(|c| (c.name.as_str(), c.via.as_str(), c.standing())).collect();
    assert_eq!(missing, [("slow", "east", ClientStanding::Lagging)]);
    let position = a.status().await.environment.and_then(|environment| environment.position);
    slow.ack(flagd_proto::stream::ClientState { position, ..Default::default() }).await;
    assert_eq!(a.wait(killed.revision, LONG).await.verdict(), WaitVerdict::Confirmed);
    assert!(!till.is_enabled("new-cart", &user("u")));

    // Its server dies: until the relay has turned up at the other one nothing is known of its clients.
    b.kill();
    let waited = a.wait(killed.revision, Duration::ZERO).await;
    assert_eq!(waited.verdict(), WaitVerdict::Unconfirmed, "{waited:?}");
    knows(&a, &["slow", "till"]).await;
    let waited = a.wait(killed.revision, LONG).await;
    assert_eq!((waited.verdict(), waited.expected), (WaitVerdict::Confirmed, 2), "{waited:?}");
}

#[tokio::test]
async fn when_history_is_cut_those_behind_a_relay_follow_the_younger_one() {
    let store = Exchangeable::new();
    let a = Node::start("a", shared(&store)).await;
    a.change(create("new-cart")).await;
    let east = Relay::start("east", &a.url()).await;
    let till = east.connected_client("till").await;
    let backup = store.backup();
    a.change(disable("new-cart")).await;
    eventually("the client has the change that will be lost", async || {
        !till.is_enabled("new-cart", &user("u"))
    })
    .await;
    store.exchange(Some(backup));
    eventually("the client follows the younger history", async || till.is_enabled("new-cart", &user("u")))
        .await;
    knows(&a, &["till"]).await;
    let killed = a.change(kill("new-cart")).await;
    assert_eq!(a.wait(killed.revision, LONG).await.verdict(), WaitVerdict::Confirmed);
}

#[tokio::test]
async fn what_only_a_client_behind_a_relay_knows_of_a_lost_history_is_passed_on() {
    let store = Exchangeable::new();
    let mut a = Node::start("a", shared(&store)).await;
    a.change(create("new-cart")).await;
    let mut east = Relay::start("east", &a.url()).await;
    let till = east.connected_client("till").await;
    let backup = store.backup();
    a.change(disable("new-cart")).await;
    eventually("the client has the change that will be lost", async || {
        !till.is_enabled("new-cart", &user("u"))
    })
    .await;
    // The store is set back while no server runs, and the relay loses its disk: only the client knows.
    a.stop().await;
    east.kill().await;
    east.forget();
    store.exchange(Some(backup));
    a.restart(shared(&store)).await;
    east.launch().await;
    eventually("the client follows the younger history", async || till.is_enabled("new-cart", &user("u")))
        .await;
    let alarms = a.status().await.alarms;
    assert!(alarms.iter().any(|alarm| alarm.contains("history was cut")), "{alarms:?}");
    let clients = a.clients().await.clients;
    assert_eq!(clients.len(), 1, "who asked on a client's behalf is no client: {clients:?}");
}

#[tokio::test]
async fn a_relay_without_its_disk_comes_back_as_another_one_and_the_first_may_still_be_serving() {
    let world = World::with_flag("new-cart").await;
    let mut east = Relay::start("east", &world.url()).await;
    let _till = east.connected_client("till").await;
    let all = async |count: usize| {
        let answer = world.flagctl(["clients", "--output", "json"]).await.succeeds().json();
        let clients = answer["clients"].as_array().expect("a list");
        clients.iter().filter(|client| client["connected"] == true).count() == count
    };
    eventually("the server knows of the client", async || all(1).await).await;
    east.kill().await;
    east.forget();
    east.launch().await;
    eventually("the client is back", async || all(1).await).await;
    let killed = world.flagctl(["kill", "new-cart", "--timeout", "2s"]).await.exits(3);
    killed.says("applied by 1 of 1 client").says("relay east is away").done();
}

#[tokio::test]
async fn what_nobody_understands_is_relayed_byte_for_byte() {
    let mut world = World::with_flag("new-cart").await;
    let east = Relay::start("east", &world.url()).await;
    let till = east.connected_client("till").await;
    world.stop_server().await;
    let of_tomorrow = EntryId::new(EntryKind::from_number(99), "of-tomorrow");
    let unknown = r#"{"variants":{"off":false,"on":true},"offVariant":"off","rules":[{"name":"moon","if":{"attribute":"moon","phase":"full"},"serve":"on"}],"otherwise":"off"}"#;
    let flag = EntryId::new(EntryKind::FLAG, "new-cart");
    forge(&world.store(), &[(of_tomorrow, Some("?")), (flag, Some(unknown))]).await;
    world.start_server().await;
    eventually("the client has it", async || till.status().revision == 2).await;
    assert!(till.is_enabled("new-cart", &user("u")), "the last good version keeps serving");
    assert!(!till.status().diverged);
    eventually("the server is told who refuses it", async || {
        let clients = world.flagctl(["clients"]).await.succeeds();
        clients.out.contains("via east") && clients.out.contains("refuse") && clients.out.contains("phase")
    })
    .await;
    world.flagctl(["kill", "new-cart"]).await.succeeds().says("applied by 1 of 1").done();
    let late = east.connected_client("late").await;
    assert!(!late.is_enabled("new-cart", &user("u")), "a full state holds it, too");
}

#[tokio::test]
async fn a_state_whose_digest_does_not_come_out_is_never_relayed() {
    let mut world = World::with_flag("new-cart").await;
    let mut east = Relay::start("east", &world.url()).await;
    eventually("the relay has kept it", async || east.connected_client("early").await.status().revision == 1)
        .await;
    east.stop().await;
    world.stop_server().await;
    let mut liar = Liar::start().await;
    east.follow(liar.url());
    east.launch().await;
    east.shows("default").await;
    let till = east.connected_client("till").await;

    let mut stream = liar.stream().await;
    let position = stream.waits_for(hello).await;
    let position = convert::position_from_wire(&position).expect("a position");
    let name = "default".parse().expect("a name");
    let empty = State::from_entries(name, position.epoch, position.revision.next(), []);
    for _ in 0..4 {
        stream.says_full(&empty, Digest(17)).await;
        assert_eq!(stream.waits_for(needs_full).await, "digest");
    }
    assert!(till.is_enabled("new-cart", &user("u")), "nothing of it was passed on");
    east.flagctl(["status"]).await.succeeds().says("does not add up").done();
    // Nor does a relay go back because the server above does.
    let older = State::empty("default".parse().expect("a name"), position.epoch);
    stream.says_full(&older, older.position().digest).await;
    let mut stream = liar.stream().await;
    assert_eq!(stream.waits_for(hello).await.revision, position.revision.0);
    assert!(till.is_enabled("new-cart", &user("u")));
}

/// Where somebody who says hello stands.
fn hello(message: client_message::Message) -> Option<flagd_proto::stream::Position> {
    match message {
        client_message::Message::Hello(hello) => hello.state.and_then(|state| state.position),
        _ => None,
    }
}

fn needs_full(message: client_message::Message) -> Option<String> {
    match message {
        client_message::Message::NeedFull(need) => Some(need.why),
        _ => None,
    }
}

#[tokio::test]
async fn changes_come_through_a_relay_in_order_and_all_of_them() {
    let store = Exchangeable::new();
    let a = Node::start("a", shared(&store)).await;
    a.change(create("new-cart")).await;
    let east = Relay::start("east", &a.url()).await;
    let rack = Relay::start("rack-7", &east.url()).await;
    let mut clients: Vec<Client> = Vec::new();
    for number in 0..5 {
        clients.push(rack.connected_client(&format!("till-{number}")).await);
    }
    let mut last = 0;
    for _ in 0..50 {
        a.change(kill("new-cart")).await;
        last = a.change(revive("new-cart")).await.revision;
    }
    let waited = a.wait(last, LONG).await;
    assert_eq!((waited.verdict(), waited.applied), (WaitVerdict::Confirmed, 5), "{waited:?}");
    for client in &clients {
        assert_eq!(client.status().revision, last);
        assert!(client.is_enabled("new-cart", &user("u")) && !client.status().diverged);
    }
    let metrics = rack.http("/metrics").await;
    let none_asked = "flagd_need_full_total{environment=\"default\",why=\"digest\"} 0";
    assert!(metrics.contains(none_asked), "{metrics}");
}
