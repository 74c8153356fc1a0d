//! Behind relays a confirmation still means every client. A relay is not a client, and while it is away its roster is
//! lost, not done.

use flagd_proto::admin::StatusRequest;
use flagd_proto::peer::peer_client::PeerClient;
use flagd_proto::peer::relay_message::Message;
use flagd_proto::peer::{Member, RelayHello, RelayMessage, RosterPart};
use flagd_proto::stream::ClientState;
use flagd_tests::{RawClient, Relay, World, connect, eventually, user};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

#[tokio::test]
async fn a_kill_through_two_levels_is_confirmed_by_all_and_names_the_one_that_does_not_acknowledge() {
    let world = World::with_flag("new-cart").await;
    let east = Relay::start("east", &world.url()).await;
    let rack = Relay::start("rack-7", &east.url()).await;
    let till = rack.connected_client("till").await;
    let shop = east.connected_client("shop").await;
    let office = world.connected_client("office").await;
    everybody_is_known(&world, 3).await;
    world.flagctl(["kill", "new-cart"]).await.succeeds().says("applied by 3 of 3 clients").done();
    for client in [&till, &shop, &office] {
        assert!(!client.is_enabled("new-cart", &user("u-17")));
    }

    let mut frozen = RawClient::connect(&rack.url(), "frozen-till").await;
    frozen.follow_to_head().await;
    everybody_is_known(&world, 4).await;
    let revived = world.flagctl(["revive", "new-cart", "--wait", "--timeout", "2s"]).await.exits(3);
    revived.says("applied by 3 of 4 clients").says("frozen-till (lagging").says("via east > rack-7").done();
    assert!(till.is_enabled("new-cart", &user("u-17")), "the others have it all the same");
}

#[tokio::test]
async fn a_relay_is_no_client_and_with_nobody_behind_it_nobody_can_confirm() {
    let world = World::with_flag("new-cart").await;
    let _east = Relay::start("east", &world.url()).await;
    is_connected(&world, "east").await;
    world.flagctl(["clients"]).await.succeeds().says("no client follows this environment").done();
    world.flagctl(["kill", "new-cart"]).await.exits(3).says("nobody can confirm").done();
    let status = world.flagctl(["status"]).await.succeeds();
    status.says("clients: 0 connected").says("relay east: 0 clients connected").done();
}

#[tokio::test]
async fn a_relay_that_dies_takes_nobody_with_it_who_would_count_as_done() {
    let world = World::with_flag("new-cart").await;
    let mut east = Relay::start("east", &world.url()).await;
    let till = east.connected_client("till").await;
    everybody_is_known(&world, 1).await;
    world.flagctl(["kill", "new-cart"]).await.succeeds().says("applied by 1 of 1 client").done();
    east.kill().await;
    is_away(&world, "east").await;
    // The very revision that the client has acknowledged: what it does now is not known.
    let again = world.flagctl(["kill", "new-cart", "--timeout", "1s"]).await.exits(3);
    again.says("till (lost").says("via east").says("relay east is away").done();

    east.launch().await;
    everybody_is_known(&world, 1).await;
    world.flagctl(["revive", "new-cart", "--wait"]).await.succeeds().says("applied by 1 of 1 client").done();
    assert!(till.is_enabled("new-cart", &user("u-17")));
}

#[tokio::test]
async fn a_relay_that_dies_with_nobody_behind_it_may_have_somebody_whom_nobody_knows() {
    let world = World::with_flag("new-cart").await;
    let mut east = Relay::start("east", &world.url()).await;
    let _office = world.connected_client("office").await;
    is_connected(&world, "east").await;
    east.freeze().await;
    is_away(&world, "east").await;
    let killed = world.flagctl(["kill", "new-cart", "--timeout", "1s"]).await.exits(3);
    killed.says("applied by 1 of 1 client").says("relay east is away").done();
    east.thaw().await;
    is_connected(&world, "east").await;
    world.flagctl(["kill", "new-cart"]).await.succeeds().says("applied by 1 of 1 client").done();
    // Who ends on purpose has told everything.
    east.stop().await;
    world.flagctl(["kill", "new-cart"]).await.succeeds().says("applied by 1 of 1 client").done();
}

#[tokio::test]
async fn clients_that_leave_a_relay_for_the_server_are_done_when_they_say_so_there() {
    let world = World::with_flag("new-cart").await;
    let mut east = Relay::start("east", &world.url()).await;
    let builder = east.builder("till").server(world.url());
    let till = builder.start().await.expect("nothing is wrong in the code");
    everybody_is_known(&world, 1).await;
    world.flagctl(["clients"]).await.succeeds().says("via east").done();
    east.stop().await;
    eventually("the client has come to the server itself", async || {
        let clients = world.flagctl(["clients", "--output", "json"]).await.succeeds().json();
        clients["clients"][0]["via"] == "" && clients["clients"][0]["connected"] == true
    })
    .await;
    world.flagctl(["kill", "new-cart"]).await.succeeds().says("applied by 1 of 1 client").done();
    assert!(!till.is_enabled("new-cart", &user("u-17")));
}

#[tokio::test]
async fn without_its_server_a_relay_serves_what_it_kept_also_after_a_restart() {
    let mut world = World::with_flag("new-cart").await;
    let mut east = Relay::start("east", &world.url()).await;
    let early = east.connected_client("early").await;
    world.flagctl(["kill", "new-cart"]).await.done();
    eventually("the relay's client has it", async || !early.is_enabled("new-cart", &user("u"))).await;
    east.stop().await;
    world.kill_server().await;
    east.launch().await;
    east.shows("default").await;
    let late = east.builder("late").start().await.expect("nothing is wrong in the code");
    eventually("a new client has the kept state", async || late.status().revision == early.status().revision)
        .await;
    assert!(!late.is_enabled("new-cart", &user("u")), "a kill that was relayed stays relayed");
    eventually("who asks is told that it may be old", async || {
        east.http("/readyz").await.starts_with("HTTP/1.1 503")
    })
    .await;

    world.start_server().await;
    world.flagctl(["revive", "new-cart"]).await.done();
    eventually("the relay goes on", async || late.is_enabled("new-cart", &user("u"))).await;
    eventually("and is fresh", async || east.http("/readyz").await.starts_with("HTTP/1.1 200")).await;
}

#[tokio::test]
async fn after_a_restart_of_the_server_those_behind_relays_are_lost_until_the_relays_are_back() {
    let mut world = World::with_flag("new-cart").await;
    let east = Relay::start("east", &world.url()).await;
    let _till = east.connected_client("till").await;
    everybody_is_known(&world, 1).await;
    world.kill_server().await;
    east.freeze().await;
    world.start_server().await;
    let killed = world.flagctl(["kill", "new-cart", "--timeout", "1s"]).await.exits(3);
    killed.says("till (lost").says("via east").says("relay east is away").done();
    east.thaw().await;
    everybody_is_known(&world, 1).await;
    world.flagctl(["kill", "new-cart"]).await.succeeds().says("applied by 1 of 1 client").done();
}

#[tokio::test]
async fn a_relay_resumes_its_clients_by_what_they_missed() {
    let world = World::with_flag("new-cart").await;
    let mut east = Relay::start("east", &world.url()).await;
    let early = east.connected_client("early").await;
    let before = early.status().revision;
    for share in ["10%", "20%", "30%"] {
        world.flagctl(["ramp", "new-cart", share, "--yes"]).await.succeeds().done();
    }
    eventually("the relay's client has it", async || early.status().revision == before + 3).await;
    east.stop().await;
    east.launch().await;
    east.shows("default").await;
    eventually("it is resumed by what it is told next", async || {
        world.flagctl(["ramp", "new-cart", "40%", "--yes"]).await.done();
        early.status().revision > before + 3
    })
    .await;
    let metrics = east.http("/metrics").await;
    assert!(metrics.contains("flagd_fulls_sent_total{environment=\"default\"} 0"), "{metrics}");
}

#[tokio::test]
async fn at_a_relay_nothing_is_written_and_it_says_who_does() {
    let world = World::with_flag("new-cart").await;
    let east = Relay::start("east", &world.url()).await;
    let _till = east.connected_client("till").await;
    for verb in [
        vec!["kill", "new-cart"],
        vec!["ramp", "new-cart", "5%"],
        vec!["history"],
        vec!["diff", "--from", "1"],
    ] {
        let refused = east.flagctl(&verb).await;
        assert_eq!(refused.code, 1, "{verb:?}: {refused:?}");
        refused.says(&format!("a relay of {}", world.url())).done();
    }
    east.flagctl(["environment", "create", "staging"]).await.exits(1).says("a relay of").done();
    let status = east.flagctl(["status"]).await.succeeds();
    let status = status.says(&format!("a relay of {}", world.url())).says("view: ");
    status.says("clients: 1 connected, 1 up to date").done();
    east.flagctl(["list"]).await.succeeds().says("new-cart").done();
    east.flagctl(["get", "new-cart"]).await.succeeds().says("new-cart").done();
    east.flagctl(["clients"]).await.succeeds().says("till").done();
    east.flagctl(["evaluate", "new-cart", "--key", "u-1"]).await.succeeds().done();
    assert_eq!(world.revision().await, 1, "nothing was written");
}

#[tokio::test]
async fn an_environment_that_is_created_later_is_relayed_too() {
    let world = World::start().await;
    let east = Relay::start("east", &world.url()).await;
    world.flagctl(["environment", "create", "staging"]).await.succeeds().done();
    east.shows("staging").await;
    let client = east.builder("till").environment("staging").start().await.expect("nothing is wrong");
    eventually("a client follows it there", async || client.ready(std::time::Duration::from_secs(1)).await)
        .await;
}

#[tokio::test]
async fn a_definition_above_the_level_of_a_client_behind_a_relay_is_refused() {
    let world = World::start().await;
    let east = Relay::start("east", &world.url()).await;
    let old = flagd_proto::stream::Hello { level: 0, name: "old-till".into(), ..RawClient::hello() };
    let mut old = RawClient::connect_with(&east.url(), old).await;
    old.follow_to_head().await;
    everybody_is_known(&world, 1).await;
    let file = world.file("new.json", r#"{"flags": {"new-cart": {"rollout": 100}}}"#);
    let file = file.to_str().expect("a path");
    world.flagctl(["create", "-f", file]).await.exits(1).says("old-till").done();
    world.flagctl(["create", "-f", file, "--anyway"]).await.done();
    assert_eq!(world.revision().await, 1);
}

#[tokio::test]
async fn a_store_is_a_servers_or_a_relays() {
    let mut world = World::with_flag("new-cart").await;
    let mut east = Relay::start("east", &world.url()).await;
    eventually("the relay has kept it", async || {
        let status =
            east.admin().await.status(StatusRequest::default()).await.expect("an answer").into_inner();
        status.environments.iter().any(|one| one.view_age_ms < 1_000)
    })
    .await;
    east.stop().await;
    world.stop_server().await;
    let store = |path: &std::path::Path| path.to_str().expect("a path").to_owned();
    let as_server = ["--listen", "127.0.0.1:0", "--store", &store(&east.store())].map(str::to_owned);
    world.flagd(as_server).await.exits(1).says("is kept by a relay").done();
    let upstream = world.url();
    let as_relay = ["--listen", "127.0.0.1:0", "--upstream", &upstream, "--store", &store(&world.store())];
    world.flagd(as_relay).await.exits(1).says("is a server's").done();
    world.start_server().await;
    assert!(connect(&world.url()).await.is_some());
}

#[tokio::test]
async fn a_relay_goes_to_the_next_server_when_one_is_away() {
    let world = World::with_flag("new-cart").await;
    let nobody = World::stopped();
    let east = Relay::start("east", &format!("{},{}", nobody.url(), world.url())).await;
    let _till = east.connected_client("till").await;
    everybody_is_known(&world, 1).await;
    world.flagctl(["kill", "new-cart"]).await.succeeds().says("applied by 1 of 1 client").done();
}

#[tokio::test]
async fn of_many_clients_behind_a_relay_those_that_stand_still_are_named() {
    const CLIENTS: usize = 150;
    let world = World::with_flag("new-cart").await;
    let east = Relay::start("east", &world.url()).await;
    let mut following = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let client = RawClient::connect(&east.url(), &format!("till-{number}")).await;
        following.spawn(client.follow_on());
    }
    let mut still = Vec::new();
    for number in 0..2 {
        let mut client = RawClient::connect(&east.url(), &format!("still-{number}")).await;
        client.follow_to_head().await;
        still.push(client);
    }
    everybody_is_known(&world, CLIENTS + still.len()).await;
    let all_but_two = format!("applied by {CLIENTS} of {} clients", CLIENTS + still.len());
    for verb in ["kill", "revive", "kill"] {
        let changed = world.flagctl([verb, "new-cart", "--timeout", "3s"]).await;
        if verb == "kill" {
            changed.exits(3).says(&all_but_two).says("still-0 (lagging").says("still-1 (lagging").done();
        }
    }
    drop(still);
    drop(following);
}

/// Waits until the server knows so many clients, all connected, and no relay is away.
async fn everybody_is_known(world: &World, count: usize) {
    eventually("the server knows of everybody", async || {
        let answer = world.flagctl(["clients", "--output", "json"]).await.succeeds().json();
        let clients = answer["clients"].as_array().expect("a list");
        let none_is_away = answer["awayRelays"].as_array().is_some_and(Vec::is_empty);
        clients.len() == count && none_is_away && clients.iter().all(|client| client["connected"] == true)
    })
    .await;
}

async fn relay(world: &World, name: &str) -> Option<bool> {
    let status = world.flagctl(["status", "--output", "json"]).await.succeeds().json();
    let relays = status["environments"][0]["relays"].as_array().expect("a list").clone();
    relays.iter().find(|relay| relay["name"] == name).map(|relay| relay["connected"] == true)
}

async fn is_connected(world: &World, name: &str) {
    eventually("the relay is connected", async || relay(world, name).await == Some(true)).await;
}

async fn is_away(world: &World, name: &str) {
    eventually("the relay is away", async || relay(world, name).await == Some(false)).await;
}

/// A relay tells arrivals in small parts, as they come. If each were answered before the next one is looked at, what
/// clients say afterwards would wait for as many saves: five thousand clients of one relay had a change confirmed after
/// 54 s.
#[tokio::test]
async fn arrivals_that_a_relay_tells_one_by_one_are_remembered_together() {
    const ARRIVALS: usize = 200;
    let world = World::start().await;
    let (tell, telling) = tokio::sync::mpsc::channel(ARRIVALS + 1);
    let hello = RelayHello {
        environment: "default".into(),
        relay: vec![9; 16].into(),
        link_counter: 1,
        name: "east".into(),
        version: "1".into(),
    };
    let say = |message| RelayMessage { message: Some(message) };
    tell.send(say(Message::Hello(hello))).await.expect("there is room");
    for number in 0..ARRIVALS {
        let member = Member {
            instance: (number as u128).to_be_bytes().to_vec().into(),
            connect_counter: 1,
            name: format!("till-{number}"),
            connected: true,
            state: Some(ClientState::default()),
            ..Member::default()
        };
        let part = RosterPart { members: vec![member], complete: true, ..RosterPart::default() };
        tell.send(say(Message::Part(part))).await.expect("there is room");
    }
    let channel = Endpoint::new(world.url()).expect("a URL").connect().await.expect("the server listens");
    let mut answers =
        PeerClient::new(channel).relay(ReceiverStream::new(telling)).await.expect("opened").into_inner();
    let mut heard = Vec::new();
    while heard.last() != Some(&(ARRIVALS as u64)) {
        heard.push(answers.message().await.expect("the link lives").expect("an answer").heard);
    }
    assert!(heard.is_sorted() && heard.len() < 100, "{heard:?}");
    everybody_is_known(&world, ARRIVALS).await;
}
