//! How long a kill takes from its sending until every client has acknowledged it, on two servers and a three-node etcd.
//!
//! `cargo run --release -p flagd-tests --example kill_figures [-- CLIENTS KILLS LOSSES]`
//!
//! The method is printed with the figures. It measures this machine with everything on it: the members of etcd, the
//! servers and the clients share its processors and its disk.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a program for people at a terminal: it prints, and ends when something is wrong"
)]

use std::time::{Duration, Instant};

use flagd_client::Client;
use flagd_proto::admin::change_request::Operation;
use flagd_proto::admin::{ChangeRequest, FlagNames, Put, PutMode, WaitRequest, WaitVerdict};
use flagd_tests::{Operator, Servers};
use tokio::task::block_in_place;

/// What one kill or revive took.
struct Figure {
    /// From sending it to the answer that it is recorded.
    recorded: Duration,
    /// From sending it to the answer that all clients have acknowledged it.
    confirmed: Duration,
    /// From recording to the last acknowledgement, as the server that recorded it tells.
    acknowledged: Duration,
}

async fn measure(servers: &Servers, operator: &mut Operator, number: usize, clients: u32) -> Figure {
    let flags = FlagNames { flags: vec!["shop".into()] };
    let operation = if number.is_multiple_of(2) { Operation::Kill(flags) } else { Operation::Revive(flags) };
    let request = ChangeRequest {
        environment: "default".into(),
        actor: "figures".into(),
        request_id: format!("figure-{number}"),
        operation: Some(operation),
        ..ChangeRequest::default()
    };
    let began = Instant::now();
    let answer = operator.change(request).await.expect("recorded");
    let recorded = began.elapsed();
    let wait = WaitRequest {
        environment: "default".into(),
        revision: answer.revision,
        timeout_ms: 60_000,
        ..WaitRequest::default()
    };
    let mut told = servers.admin(operator.server()).wait(wait).await.expect("an answer").into_inner();
    let mut last = None;
    while let Some(progress) = told.message().await.expect("the server goes on") {
        last = Some(progress);
    }
    let last = last.expect("something was said");
    assert_eq!(last.verdict, i32::from(WaitVerdict::Confirmed), "{last:?}");
    assert_eq!(last.applied, clients, "{last:?}");
    Figure { recorded, confirmed: began.elapsed(), acknowledged: Duration::from_micros(last.elapsed_us) }
}

/// A heading and what stands below it.
type Column = (&'static str, fn(&Figure) -> Duration);

fn print(title: &str, figures: &[Figure]) {
    println!("\n{title}, {} changes", figures.len());
    let columns: [Column; 3] = [
        ("sent to recorded", |figure| figure.recorded),
        ("sent to confirmed", |figure| figure.confirmed),
        ("recorded to last ack", |figure| figure.acknowledged),
    ];
    for (name, column) in columns {
        let mut times: Vec<_> = figures.iter().map(column).collect();
        times.sort();
        let at = |per_mille: usize| {
            times[(times.len() * per_mille / 1_000).min(times.len() - 1)].as_secs_f64() * 1e3
        };
        println!("  {name:22} p50 {:9.2} ms   p99 {:9.2} ms   max {:9.2} ms", at(500), at(990), at(1_000));
    }
}

#[tokio::main]
async fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).map(|text| text.parse().expect("a number")).collect();
    let number = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    let (clients, kills, losses) = (number(0, 200), number(1, 200), number(2, 5));
    let mut servers = Servers::start(2).await;
    let file = r#"{"flags": {"shop": {"rollout": 100}}}"#;
    let create = ChangeRequest {
        environment: "default".into(),
        actor: "figures".into(),
        request_id: "create".into(),
        operation: Some(Operation::Put(Put { file: file.into(), mode: PutMode::Create.into() })),
        ..ChangeRequest::default()
    };
    servers.operator(0).change(create).await.expect("recorded");
    let mut crowd: Vec<Client> = Vec::new();
    for number in 0..clients {
        let builder = servers.builder(&format!("client-{number}"), number % 2);
        crowd.push(builder.start().await.expect("it starts"));
    }
    for client in &crowd {
        assert!(client.ready(Duration::from_mins(1)).await, "a client is not connected");
    }
    let expected = u32::try_from(clients).expect("a small number");
    println!(
        "A kill or revive of one flag is sent to one of two servers on a three-node etcd, in turn, one at a time; then\n\
         `Wait` is asked of the same server until it is confirmed by all {clients} clients, which are spread over both\n\
         servers (several addresses each) and live in this process, each on a thread of its own. `recorded to last ack`\n\
         is the server's own word. Everything runs on this one machine: {} processors, {}.",
        std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        if cfg!(debug_assertions) { "unoptimised" } else { "optimised" },
    );

    let mut figures = Vec::new();
    let mut sent = 0;
    for _ in 0..kills {
        let mut operator = servers.operator(sent % 2);
        figures.push(measure(&servers, &mut operator, sent, expected).await);
        sent += 1;
    }
    print("Healthy", &figures);

    let (mut figures, mut after) = (Vec::new(), Vec::new());
    for _ in 0..losses {
        let leader = block_in_place(|| servers.etcd.leader());
        let mut operator = servers.operator(sent % 2);
        block_in_place(|| servers.etcd.kill(leader));
        figures.push(measure(&servers, &mut operator, sent, expected).await);
        sent += 1;
        // With one member away, as long as it is.
        for _ in 0..10 {
            let mut operator = servers.operator(sent % 2);
            after.push(measure(&servers, &mut operator, sent, expected).await);
            sent += 1;
        }
        block_in_place(|| servers.etcd.restart(leader));
    }
    print("Sent right after `kill -9` of the leader of etcd", &figures);
    print("With that member away", &after);
}
