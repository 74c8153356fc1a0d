//! Promise 8: no stampede, and a slow client slows nobody.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use flagd_client::{Client, Connection, Subscription};
use flagd_tests::load::{Acks, Fleet, Plan, publish};
use flagd_tests::{RawClient, World, big_list, eventually, user};

const CROWD: usize = 60;
const FLEET: usize = 200;

#[tokio::test]
async fn a_crowd_comes_back_by_itself_spread_and_without_asking_for_everything() {
    let mut world = World::with_flag("a").await;
    let mut crowd = Vec::new();
    for number in 0..CROWD {
        crowd.push(world.connected_client(&format!("shop-{number}")).await);
    }
    let attempts: Vec<Attempt> = crowd.iter().map(Attempt::watch).collect();
    let killed = Instant::now();
    world.kill_server().await;
    eventually("all have noticed", async || crowd.iter().all(|client| client.status().staleness.is_stale()))
        .await;
    assert!(crowd.iter().all(|client| client.is_enabled("a", &user("u"))), "all go on");
    world.start_server().await;
    world.create(r#"{"flags": {"b": {"rollout": 10}}}"#).await;
    eventually("all are back", async || crowd.iter().all(|client| !client.status().staleness.is_stale()))
        .await;
    must_be_spread(killed, &attempts);
    assert_eq!(world.metric("flagd_fulls_sent_total").await, 0, "nobody needed the whole state");
    let resumed =
        world.metric("flagd_up_to_dates_sent_total").await + world.metric("flagd_catch_ups_sent_total").await;
    assert_eq!(resumed, CROWD as u64, "all went on where they were");
    world.flagctl(["kill", "a"]).await.succeeds().says(&format!("applied by {CROWD} of {CROWD}")).done();
}

/// When a client tried to connect again for the first time.
struct Attempt {
    first: Arc<OnceLock<Instant>>,
    _subscription: Subscription,
}

impl Attempt {
    fn watch(client: &Client) -> Attempt {
        let first = Arc::new(OnceLock::new());
        let noted = Arc::clone(&first);
        let subscription = client.on_change(move |update| {
            if matches!(update.connection, Connection::Connecting { .. }) {
                noted.get_or_init(Instant::now);
            }
        });
        Attempt { first, _subscription: subscription }
    }
}

/// First attempts are uniform over 5 s. Counted is how many came up to some moments: a machine that is slow can only
/// put attempts off. Of 60 clients a right one has more than 14 within 0.1 s with a chance of 8e-13, more than 26 within
/// 0.5 s with 4e-12, more than 36 within 1 s with 3e-12; without the spread all 60 come within 0.25 s.
fn must_be_spread(since: Instant, attempts: &[Attempt]) {
    let after = |attempt: &Attempt| attempt.first.get().expect("it tried").duration_since(since);
    for (ms, most) in [(100, 14), (500, 26), (1_000, 36)] {
        let within = Duration::from_millis(ms);
        let early = attempts.iter().filter(|attempt| after(attempt) <= within).count();
        assert!(early <= most, "{early} of {} clients tried within {ms} ms", attempts.len());
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_slows_nobody() {
    let world = World::with_flag("a").await;
    let shop = world.connected_client("shop").await;
    let stuck = RawClient::connect(&world.url(), "stuck").await;
    eventually("the stuck one is expected", async || world.flagctl(["clients"]).await.out.contains("stuck"))
        .await;
    // Far more than what fits into the buffers between the server and a client that does not read.
    for number in 0..8 {
        world.create(&big_list(number)).await;
    }
    let killed = world.flagctl(["kill", "a", "--timeout", "2s"]).await.exits(3);
    killed.says("applied by 1 of 2").says("stuck").done();
    assert!(!shop.is_enabled("a", &user("u")));
    drop(stuck);
}

#[tokio::test]
async fn many_streams_over_few_connections_miss_no_revision() {
    let world = World::with_flag("a").await;
    let mut admin = world.admin().await;
    let address = world.url().trim_start_matches("http://").parse().expect("an address");
    let plan = Plan {
        address,
        environment: "default".into(),
        streams: FLEET,
        connections: 4,
        hellos_per_second: 900,
    };
    let fleet = Fleet::connect(&plan).await.expect("all are taken");
    for number in 0..10 {
        let change = publish(&mut admin, "default", "b", &format!("change {number}")).await;
        let arrived = fleet.received(change.expect("recorded")).await.expect("all have it");
        assert_eq!(arrived.len(), FLEET);
    }
    world.flagctl(["kill", "a"]).await.succeeds().says(&format!("applied by {FLEET} of {FLEET}")).done();

    fleet.set_acks(Acks::Withheld);
    let silent = world.flagctl(["kill", "b", "--timeout", "1s"]).await.exits(3);
    silent.says(&format!("applied by 0 of {FLEET}")).done();

    fleet.leave().await.expect("nobody missed anything");
    assert_eq!(world.metric("flagd_clients_expected").await, 0, "all have said Bye");
}
