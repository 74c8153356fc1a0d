//! Promise 8 under crowds that ask too much: too many at once, too slowly, too often.

use std::net::SocketAddr;
use std::time::Duration;

use flagd_client::{Client, Connection};
use flagd_tests::load::{Fleet, Flood, Plan, Slow, Workers, bulk, publish, put};
use flagd_tests::{World, eventually, user};

/// Streams that a server admits in a second, and at once.
const ADMITTED: usize = 15;
/// Memory of a server that must stand a storm, debug build, stacks of threads included.
const MEMORY_MIB: u32 = 256;
/// Longest time that anything may take before a story fails; not a measure of speed.
const PATIENCE: Duration = Duration::from_mins(1);

fn address(world: &World) -> SocketAddr {
    world.url().trim_start_matches("http://").parse().expect("an address")
}

async fn fleet(world: &World, streams: usize, connections: usize, hellos_per_second: u32) -> Fleet {
    let environment = "default".into();
    let plan = Plan { address: address(world), environment, streams, connections, hellos_per_second };
    Fleet::connect(&plan).await.expect("all are taken in the end")
}

#[tokio::test]
async fn of_six_times_as_many_as_are_admitted_all_get_in_and_who_was_there_notices_nothing() {
    let admitted = ADMITTED.to_string();
    let options = ["--streams-per-second", &admitted, "--streams-at-once", &admitted];
    let world = World::start_within(MEMORY_MIB, &options).await;
    let mut admin = world.admin().await;
    publish(&mut admin, "default", "a", "first").await.expect("recorded");
    let established = fleet(&world, 10, 2, 900).await;

    let mut coming = tokio::task::JoinSet::new();
    let crowd = 6 * ADMITTED;
    for number in 0..crowd {
        let builder = world.builder(&format!("shop-{number}")).start_timeout(Duration::from_millis(1));
        coming.spawn(builder.start());
    }
    let crowd: Vec<Client> = coming
        .join_all()
        .await
        .into_iter()
        .map(|client| client.expect("nothing is wrong in the code"))
        .collect();
    let mut changes = 0;
    eventually("all are in", async || {
        changes += 1;
        let change = publish(&mut admin, "default", "b", &format!("change {changes}")).await;
        established.received(change.expect("recorded")).await.expect("who was there gets every change");
        crowd.iter().all(|client| matches!(client.status().connection, Connection::Connected { .. }))
    })
    .await;
    // Whoever obeys is sent away about once; whoever came again at once would be, hundreds of times.
    let sent_away = world.server_metric("flagd_hellos_put_off_total").await;
    assert!(sent_away >= 1, "there was a storm");
    assert!(sent_away <= 4 * crowd.len() as u64, "{sent_away} times {} clients were sent away", crowd.len());
    world
        .flagctl(["kill", "a"])
        .await
        .succeeds()
        .says(&format!("applied by {0} of {0}", crowd.len() + 10))
        .done();
    established.leave().await.expect("nobody missed anything");
}

/// Of 300 changes of 100 KB slow clients take what lies in buffers; the shared log holds 16 MiB for everybody, and who has
/// fallen out of it skips to the newest state. A queue for each of ten would be 300 MB.
#[tokio::test]
async fn ten_clients_that_read_one_byte_a_second_keep_nothing_from_a_hundred_others() {
    const CHANGES: usize = 300;
    const BYTES: usize = 100_000;
    let world = World::start().await;
    let mut admin = world.admin().await;
    put(&mut admin, "default", bulk(0, BYTES)).await.expect("recorded");
    let others = fleet(&world, 100, 10, 900).await;
    let slow = Slow::connect(address(&world), "default", 10).await.expect("ten more");
    eventually("the slow ones are there", async || world.metric("flagd_streams_open").await == 110).await;

    let before_bytes = world.server_memory_bytes();
    for number in 1..=CHANGES {
        let change = put(&mut admin, "default", bulk(number, BYTES)).await.expect("recorded");
        others.received(change).await.expect("the others get every change");
    }
    let more_bytes = world.server_memory_bytes().saturating_sub(before_bytes);
    assert!(more_bytes < 150_000_000, "the server has taken {more_bytes} bytes more");
    slow.hurry();
    // Each skips to the newest state or was cut off meanwhile; either way it is over at some time.
    let mut read_bytes = 0;
    eventually("the slow ones have read all that is left for them", async || {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = std::mem::replace(&mut read_bytes, slow.read_bytes());
        slow.cut_off() == 10 || (read_bytes > 100 && read_bytes == before)
    })
    .await;
    assert!(read_bytes < 10 * CHANGES * BYTES / 2, "{read_bytes} bytes were kept for ten slow clients");
    drop(slow);
    others.leave().await.expect("nobody missed anything");
}

#[tokio::test]
async fn a_kill_under_a_flood_is_confirmed_by_all() {
    let world = World::with_flag("a").await;
    let others = fleet(&world, 40, 4, 900).await;
    let shop = world.connected_client("shop").await;
    let workers = Workers { writers: 3, askers: 4, listers: 2 };
    let flood = Flood::start(&world.url(), "default", 200, workers).await.expect("it begins");
    let patience = format!("{}s", PATIENCE.as_secs());
    for verb in ["kill", "revive", "kill"] {
        let before = flood.done();
        eventually("each sort of work is under way", async || {
            let done = flood.done();
            done.changes > before.changes && done.fulls > before.fulls && done.lists > before.lists
        })
        .await;
        let args: &[&str] = if verb == "kill" { &[verb, "a"] } else { &[verb, "a", "--wait"] };
        let answer = world.flagctl(args.iter().chain(&["--timeout", &patience])).await.succeeds();
        answer.says("applied by 45 of 45").done();
        assert_eq!(shop.is_enabled("a", &user("u")), verb == "revive");
    }
    flood.end().await.expect("nobody was turned away");
    others.leave().await.expect("nobody missed anything");
}
