//! Clients of several environments in one process: one connection, and nobody is in another's way.

use std::sync::mpsc;
use std::time::Duration;

use flagd_client::{Client, Connections};
use flagd_proto::admin::admin_client::AdminClient;
use flagd_proto::admin::change_request::Operation;
use flagd_proto::admin::{ChangeRequest, CreateEnvironmentRequest, Put, PutMode};
use flagd_tests::load::publish;
use flagd_tests::{World, big_list, eventually, user};
use tonic::transport::Channel;

const ENVIRONMENTS: usize = 20;
const PATIENCE: Duration = Duration::from_mins(1);

fn name(number: usize) -> String {
    format!("region-{number}")
}

/// Environments with the flag `a`, on for everybody, and a client of each; all share what they are given.
async fn regions(world: &World, count: usize, shared: &Connections) -> Vec<Client> {
    let mut admin = world.admin().await;
    let mut clients = Vec::new();
    for number in 0..count {
        let create = CreateEnvironmentRequest { name: name(number), actor: "tester".into() };
        admin.create_environment(create).await.expect("it is new");
        publish(&mut admin, &name(number), "a", "first").await.expect("recorded");
        let builder = world.builder(&format!("shop-{number}")).environment(name(number)).connections(shared);
        let client = builder.start().await.expect("nothing is wrong in the code");
        assert!(client.ready(PATIENCE).await, "{:?}", client.status());
        clients.push(client);
    }
    clients
}

/// Connections that are open beside the one that asks.
async fn connections(world: &World) -> u64 {
    world.server_metric("flagd_connections_open").await - 1
}

#[tokio::test]
async fn twenty_environments_of_one_process_share_one_connection() {
    let mut world = World::start().await;
    let shared = Connections::new();
    let clients = regions(&world, ENVIRONMENTS, &shared).await;
    drop(shared);
    eventually("one connection is left", async || connections(&world).await == 1).await;
    let kill = ["kill", "a", "--environment", &name(7)];
    world.flagctl(kill).await.succeeds().says("applied by 1 of 1").done();
    for (number, client) in clients.iter().enumerate() {
        assert_eq!(client.is_enabled("a", &user("u")), number != 7, "{}", name(number));
    }

    world.kill_server().await;
    eventually("all have noticed", async || {
        clients.iter().all(|client| client.status().staleness.is_stale())
    })
    .await;
    world.start_server().await;
    eventually("all are back", async || clients.iter().all(|client| !client.status().staleness.is_stale()))
        .await;
    eventually("on one connection", async || connections(&world).await == 1).await;
}

#[tokio::test]
async fn a_client_that_ends_says_bye_for_itself_alone() {
    let world = World::start().await;
    let shared = Connections::new();
    let mut clients = regions(&world, 3, &shared).await;
    let first = clients.remove(0);
    first.shutdown().await;
    assert_eq!(world.metric_of(&name(0), "flagd_clients_expected").await, 0, "it has said Bye");
    for number in 1..3 {
        let kill = ["kill", "a", "--environment", &name(number)];
        world.flagctl(kill).await.succeeds().says("applied by 1 of 1").done();
    }
    assert!(
        clients.iter().all(|client| client.status().counters.connects == 1),
        "the others never broke off"
    );
    drop(clients);
    eventually("nobody is left, nor a connection", async || connections(&world).await == 0).await;
}

#[tokio::test]
async fn a_client_that_hangs_keeps_no_other_on_its_connection_from_anything() {
    let world = World::start().await;
    let shared = Connections::new();
    let clients = regions(&world, 2, &shared).await;
    let (let_go, hangs) = mpsc::channel::<()>();
    let (told, hears) = mpsc::channel();
    let hangs = std::sync::Mutex::new(hangs);
    let _stuck = clients[0].on_change(move |_| {
        let thread = std::thread::current().name().map(str::to_owned);
        // Whoever listens has left when this happens once more.
        let _ = told.send(thread);
        let _ = hangs.lock().expect("nobody panics").recv();
    });
    let mut admin = world.admin().await;
    let after = put_lists(&mut admin, &name(0)).await;
    let thread = tokio::task::spawn_blocking(move || hears.recv().expect("a change came"));
    assert_eq!(thread.await.expect("joined").as_deref(), Some("flagd-feed"), "states are put in use there");

    let kill = ["kill", "a", "--environment", &name(1)];
    world.flagctl(kill).await.succeeds().says("applied by 1 of 1").done();
    let kill = ["kill", "a", "--environment", &name(0), "--timeout", "1s"];
    world.flagctl(kill).await.exits(3).says("applied by 0 of 1").done();

    drop(let_go);
    eventually("it catches up", async || clients[0].revision() == after + 1).await;
    assert!(!clients[0].is_enabled("a", &user("u")));
}

/// Far more than what one stream may hold back. Answers with the revision.
async fn put_lists(admin: &mut AdminClient<Channel>, environment: &str) -> u64 {
    let mut revision = 0;
    for number in 0..6 {
        let put = Put { file: big_list(number).into(), mode: PutMode::Create.into() };
        let request = ChangeRequest {
            environment: environment.to_owned(),
            actor: "tester".into(),
            operation: Some(Operation::Put(put)),
            ..ChangeRequest::default()
        };
        revision = admin.change(request).await.expect("recorded").into_inner().revision;
    }
    revision
}
