//! Promise 9: no lost update. Promise 6: a change to many flags is one revision. Promise 11: any state can be restored.

use std::fmt::Write as _;
use std::task::Poll;

use flagd_tests::{Output, World, eventually, user};

#[tokio::test]
async fn of_two_editors_of_one_flag_one_gets_a_conflict_that_shows_the_difference() {
    let world = World::with_flag("a").await;
    let mine = world.file("mine.json", r#"{"flags": {"a": {"rollout": 100, "description": "mine"}}}"#);
    world.flagctl(["ramp", "a", "50%", "--yes"]).await.succeeds().done();
    let args = ["edit".as_ref(), "-f".as_ref(), mine.as_os_str(), "--expect".as_ref(), "1".as_ref()];
    let conflict = world.flagctl(args).await.exits(1);
    conflict.says("otherwise").says("ramp").says("tester").done();
    assert_eq!(world.revision().await, 2);
}

#[tokio::test]
async fn two_editors_of_different_flags_both_succeed() {
    let world = World::start().await;
    world.create(r#"{"flags": {"a": {"rollout": 0}, "b": {"rollout": 0}}}"#).await;
    let (a, b) = (["ramp", "a", "10%"], ["ramp", "b", "10%"]);
    let (first, second) = tokio::join!(world.flagctl(a), world.flagctl(b));
    first.succeeds().done();
    second.succeeds().done();
    assert_eq!(world.revision().await, 3);
}

/// Switching a flag and editing a segment's units state no revision: each says what it changes and nothing else, and the
/// server makes it of the newest definition, whoever wrote that.
#[tokio::test]
async fn edits_of_one_place_that_are_made_at_once_lose_none() {
    let world = World::start().await;
    world.create(r#"{"flags": {"a": {"rollout": 0}}, "segments": {"staff": {"include": ["u-0"]}}}"#).await;
    let units: Vec<_> = (1..=8).map(|number| format!("u-{number}")).collect();
    let adding = units.iter().map(|unit| world.flagctl(["segment", "add", "staff", unit]));
    let switching = (0..4).map(|number| world.flagctl([["disable", "a"], ["enable", "a"]][number % 2]));
    let ramping = world.flagctl(["ramp", "a", "10%", "--yes"]);
    let (added, switched, ramped) = tokio::join!(all(adding), all(switching), ramping);
    for output in added.into_iter().chain(switched).chain([ramped]) {
        output.succeeds().done();
    }
    world.flagctl(["get", "a", "--output", "json"]).await.succeeds().says("10").done();
    let staff = world.flagctl(["get", "staff", "--segment", "--output", "json"]).await.succeeds();
    for unit in &units {
        assert!(staff.out.contains(&format!("\"{unit}\"")), "{unit} was lost: {}", staff.out);
    }
}

/// All of them at the same time.
async fn all(outputs: impl Iterator<Item = impl Future<Output = Output>>) -> Vec<Output> {
    let mut waiting: Vec<_> = outputs.map(|output| (Box::pin(output), None)).collect();
    std::future::poll_fn(|context| {
        for (output, done) in waiting.iter_mut().filter(|(_, done)| done.is_none()) {
            if let Poll::Ready(output) = output.as_mut().poll(context) {
                *done = Some(output);
            }
        }
        if waiting.iter().all(|(_, done)| done.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    waiting.into_iter().filter_map(|(_, done)| done).collect()
}

#[tokio::test]
async fn apply_keeps_the_ramp_of_the_night_and_lists_the_drift() {
    let world = World::start().await;
    let file = world.file("flags.json", r#"{"flags": {"a": {"rollout": 10, "description": "one"}}}"#);
    let path = file.to_str().expect("a path").to_owned();
    world.flagctl(["apply", "-f", &path, "--source", "git"]).await.succeeds().done();
    world.flagctl(["ramp", "a", "60%"]).await.succeeds().done();
    let _ = world.file("flags.json", r#"{"flags": {"a": {"rollout": 10, "description": "two"}}}"#);
    world
        .flagctl(["apply", "-f", &path, "--source", "git"])
        .await
        .succeeds()
        .says("otherwise")
        .says("60")
        .done();
    let live = world.flagctl(["get", "a"]).await.succeeds();
    live.says("two").says("60").done();
    // Both sides changed the same field: refused until somebody says which one counts.
    let _ = world.file("flags.json", r#"{"flags": {"a": {"rollout": 20, "description": "two"}}}"#);
    world.flagctl(["apply", "-f", &path, "--source", "git"]).await.exits(1).says("--take").done();
    world.flagctl(["apply", "-f", &path, "--source", "git", "--take", "file"]).await.succeeds().done();
    world.flagctl(["get", "a"]).await.succeeds().says("20").done();
}

#[tokio::test]
async fn an_import_of_3000_flags_is_one_revision_and_nobody_sees_half_of_it() {
    let world = World::start().await;
    let shop = world.connected_client("shop").await;
    let file = world.file("import.json", &three_thousand(100));
    let watcher = {
        let shop = shop.clone();
        std::thread::spawn(move || {
            let context = user("u");
            while shop.status().revision < 2 {
                let page = shop.snapshot();
                let on = [0, 1_499, 2_999].map(|number| page.is_enabled(&format!("flag-{number}"), &context));
                assert!(on.iter().all(|answer| *answer == on[0]), "half a change was in use: {on:?}");
            }
        })
    };
    let args = ["create".as_ref(), "-f".as_ref(), file.as_os_str(), "--wait".as_ref()];
    world.flagctl(args).await.succeeds().says("applied by 1 of 1").done();
    assert_eq!(world.revision().await, 1);
    let off = world.file("import.json", &three_thousand(0));
    let args = [
        "apply".as_ref(),
        "-f".as_ref(),
        off.as_os_str(),
        "--take".as_ref(),
        "file".as_ref(),
        "--wait".as_ref(),
    ];
    world.flagctl(args).await.succeeds().done();
    assert_eq!(world.revision().await, 2);
    tokio::task::spawn_blocking(move || watcher.join().expect("the watcher saw only whole states"))
        .await
        .expect("joined");
}

fn three_thousand(share: u32) -> String {
    let mut text = String::from(r#"{"flags": {"#);
    for number in 0..3_000 {
        let comma = if number == 0 { "" } else { "," };
        write!(text, r#"{comma}"flag-{number}": {{"rollout": {share}}}"#).expect("a string takes all");
    }
    text.push_str("}}");
    text
}

#[tokio::test]
async fn a_rollback_puts_back_byte_for_byte_and_a_second_one_asks() {
    let world = World::with_flag("a").await;
    let before = world.flagctl(["get", "a"]).await.succeeds().out;
    world.flagctl(["ramp", "a", "30%", "--yes"]).await.succeeds().done();
    world.flagctl(["rollback", "a"]).await.succeeds().done();
    assert_eq!(world.flagctl(["get", "a"]).await.succeeds().out, before);
    world.flagctl(["rollback", "a"]).await.exits(1).says("--to").done();
    world.flagctl(["rollback", "a", "--to", "2"]).await.succeeds().done();
    world.flagctl(["get", "a"]).await.succeeds().says("30").done();
}

#[tokio::test]
async fn export_and_import_into_an_empty_environment_moves_nobody() {
    let world = World::start().await;
    world.create(r#"{"flags": {"a": {"variants": {"x": "1", "y": "2", "z": "3"}, "offVariant": "z", "otherwise": {"split": {"x": 50, "y": 50}}}}}"#).await;
    world.flagctl(["ramp", "a", "x=70%", "--from", "y", "--yes"]).await.succeeds().done();
    world.flagctl(["ramp", "a", "y=20%", "--yes"]).await.succeeds().done();
    let shop = world.connected_client("shop").await;
    let answers: Vec<String> = (0..500).map(|n| shop.string("a", &user(&format!("user-{n}")), "?")).collect();
    let exported = world.flagctl(["export"]).await.succeeds().out;

    let empty = World::start().await;
    empty.create(&exported).await;
    let other = empty.connected_client("shop").await;
    let again: Vec<String> = (0..500).map(|n| other.string("a", &user(&format!("user-{n}")), "?")).collect();
    assert_eq!(answers, again);
}

#[tokio::test]
async fn an_unknown_environment_is_refused_by_name_and_empties_nobody() {
    let world = World::with_flag("a").await;
    let shop = world.connected_client("shop").await;
    let stray =
        world.builder("stray").environment("prodution").start_timeout(std::time::Duration::from_millis(200));
    let stray = stray.start().await.expect("started");
    eventually("the client is told", async || format!("{:?}", stray.status()).contains("prodution")).await;
    let refused = world.flagctl(["kill", "a", "--environment", "defualt"]).await;
    refused.exits(1).says("defualt").says("default").done();
    assert!(shop.is_enabled("a", &user("u")));
    let environments = world.flagctl(["environment", "list"]).await.succeeds();
    environments.does_not_say("prodution").does_not_say("defualt").done();
}

#[tokio::test]
async fn an_archived_key_does_not_come_back_with_another_meaning() {
    let world = World::with_flag("a").await;
    world.flagctl(["archive", "a"]).await.succeeds().done();
    let other = world.file("other.json", r#"{"flags": {"a": {"variants": {"x": "1"}, "offVariant": "x"}}}"#);
    let refused = world.flagctl(["create".as_ref(), "-f".as_ref(), other.as_os_str()]).await;
    refused.exits(1).says("archived").done();
    world.flagctl(["unarchive", "a"]).await.succeeds().done();
    world.flagctl(["get", "a"]).await.succeeds().done();
}
