//! Who has applied a change: verdicts, ends, and what is listed.

use flagd_proto::admin::{WaitProgress, WaitRequest, WaitVerdict};
use tokio::sync::mpsc;

use super::*;

async fn wait(world: &World, request: WaitRequest) -> Vec<WaitProgress> {
    let waiting = world.control.wait(request).await.unwrap();
    let (answers, mut received) = mpsc::channel(4);
    let run = tokio::spawn(async move { waiting.run(&answers).await });
    let mut told = Vec::new();
    while let Some(progress) = received.recv().await {
        told.push(progress);
    }
    run.await.unwrap().unwrap();
    told
}

fn ask(revision: u64, timeout_ms: u64) -> WaitRequest {
    WaitRequest { environment: "production".into(), revision, timeout_ms, ..WaitRequest::default() }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_never_success_and_is_said_soon() {
    let world = World::with_flags().await;
    let began = tokio::time::Instant::now();
    let told = wait(&world, ask(1, 60_000)).await;
    let last = told.last().unwrap();
    assert_eq!((last.verdict(), last.done, last.expected), (WaitVerdict::Nobody, true, 0));
    assert!(began.elapsed() < std::time::Duration::from_secs(5));
    assert_eq!(told.len(), 2, "at once, and when it is sure");
}

#[tokio::test(start_paused = true)]
async fn who_is_lost_is_missing_until_the_time_is_over() {
    let world = World::with_roster(&[client("shop", 1), client("cart", 1)]).await;
    world.recorded(create(FILE)).await;
    let told = wait(&world, ask(1, 2_000)).await;
    let last = told.last().unwrap();
    assert_eq!((last.verdict(), last.done), (WaitVerdict::Unconfirmed, true));
    assert_eq!((last.expected, last.applied, last.unlisted), (2, 0, 0));
    let missing: Vec<_> = last.missing.iter().map(|c| (c.name.as_str(), c.standing())).collect();
    assert_eq!(missing, [("cart", admin::ClientStanding::Lost), ("shop", admin::ClientStanding::Lost)]);
    assert!(last.elapsed_us >= 2_000_000, "{}", last.elapsed_us);
    assert!(!told[0].done);
}

#[tokio::test(start_paused = true)]
async fn without_a_timeout_the_present_state_is_the_answer() {
    let world = World::with_roster(&[client("shop", 1)]).await;
    let told = wait(&world, ask(0, 0)).await;
    assert_eq!((told.len(), told[0].done, told[0].verdict()), (1, true, WaitVerdict::Unconfirmed));
}

#[tokio::test(start_paused = true)]
async fn of_many_missing_clients_some_are_listed_and_all_are_counted() {
    let clients: Vec<RosterEntry> = (0..300_u128)
        .map(|n| RosterEntry { instance: n, name: format!("c{n:03}"), ..client("c", 1) })
        .collect();
    let world = World::with_roster(&clients).await;
    let told = wait(&world, ask(0, 0)).await;
    assert_eq!((told[0].missing.len(), told[0].unlisted, told[0].expected), (200, 100, 300));
}

#[tokio::test]
async fn a_revision_that_is_yet_to_come_cannot_be_waited_for() {
    let world = World::with_flags().await;
    let error = world.control.wait(ask(7, 1_000)).await.unwrap_err();
    assert!(matches!(error, ControlError::NoSuchRevision { .. }), "{error:?}");
}
