//! A segment of 100,000 units through a real server: written at once, changed one unit at a time, put back.

use std::time::Duration;

use flagd_proto::Message as _;
use flagd_proto::stream::server_message;
use flagd_tests::{RawClient, World, eventually, user};
use serde_json::json;

const UNITS: usize = 100_000;

fn unit(n: usize) -> String {
    format!("customer-{n:0>9}")
}

fn definitions(units: usize) -> String {
    let rule = json!({"name": "beta", "if": {"segment": "beta"}, "serve": "on"});
    let units: Vec<String> = (0..units).map(unit).collect();
    json!({"flags": {"a": {"rules": [rule]}}, "segments": {"beta": {"include": units}}}).to_string()
}

#[tokio::test]
async fn a_unit_more_in_a_segment_of_100_000_is_a_small_change_and_can_be_taken_back() {
    let mut world = World::start().await;
    let file = world.file("beta.json", &definitions(UNITS));
    let create = ["create".as_ref(), "-f".as_ref(), file.as_os_str()];
    world.flagctl(create).await.succeeds().done();
    assert_eq!(world.revision().await, 1, "one change");
    let cache = world.cache("shop");
    let shop = world.builder("shop").cache_dir(&cache).start().await.expect("started");
    assert!(shop.ready(Duration::from_mins(1)).await, "the server answers");
    let is_in = |n: usize| shop.is_enabled("a", &user(&unit(n)));
    assert!((0..UNITS).step_by(997).all(is_in) && !is_in(UNITS));

    let mut raw = RawClient::connect(&world.url(), "raw").await;
    raw.follow_to_head().await;
    let added = world.flagctl(["segment", "add", "beta", &unit(UNITS)]).await.succeeds();
    added.says("adds 1 unit").says("segment remove beta").says(&unit(UNITS)).done();
    let delta = loop {
        if let server_message::Message::Delta(delta) = raw.next().await.expect("the stream goes on") {
            break delta;
        }
    };
    assert!(delta.encoded_len() < 4_096, "{} bytes for one unit", delta.encoded_len());
    assert_eq!(delta.entries.len(), 2, "a part and the definition");
    eventually("the client has it", async || is_in(UNITS)).await;
    assert!(is_in(0));

    // What people see is whole lists and units, never parts.
    let listed = world.flagctl(["list", "--segments", "--output", "json"]).await.succeeds().json();
    assert_eq!(listed["segments"][0]["included"], UNITS + 1);
    let history = world.flagctl(["history", "a", "--output", "json"]).await.succeeds();
    history.says(&unit(UNITS)).does_not_say("beta/include").done();
    let diff = world.flagctl(["diff", "--from", "1", "--to", "2"]).await.exits(1);
    diff.says(&unit(UNITS)).does_not_say("beta/include").done();
    let shown = world.flagctl(["get", "--segment", "beta"]).await.succeeds().out;
    assert!(shown.contains(&unit(UNITS)) && shown.contains(&unit(0)) && !shown.contains("includeParts"));

    // A client that restarts without a server has every unit from its disk.
    shop.shutdown().await;
    world.stop_server().await;
    let patience = Duration::from_millis(50);
    let alone =
        world.builder("shop").cache_dir(&cache).start_timeout(patience).start().await.expect("started");
    let is_in = |n: usize| alone.is_enabled("a", &user(&unit(n)));
    eventually("the disk is read", async || is_in(UNITS)).await;
    assert!((0..=UNITS).step_by(997).all(is_in) && !is_in(UNITS + 1));
    assert!(alone.status().staleness.is_stale());

    world.start_server().await;
    world.flagctl(["rollback", "--segment", "beta"]).await.succeeds().says("takes 1 unit off").done();
    eventually("the client has it back", async || alone.status().revision == 3).await;
    assert!(!is_in(UNITS) && is_in(0));
    let exported = world.flagctl(["export"]).await.succeeds().json();
    assert_eq!(exported["segments"]["beta"]["include"].as_array().map(Vec::len), Some(UNITS));
}

#[tokio::test]
async fn who_edits_a_long_list_is_told_of_a_unit_that_came_or_went_meanwhile() {
    let world = World::start().await;
    let file = world.file("beta.json", &definitions(20_000));
    world.flagctl(["create".as_ref(), "-f".as_ref(), file.as_os_str()]).await.succeeds().done();
    world.flagctl(["segment", "remove", "beta", &unit(7)]).await.succeeds().done();
    let args = ["edit".as_ref(), "-f".as_ref(), file.as_os_str(), "--expect".as_ref(), "1".as_ref()];
    world.flagctl(args).await.exits(1).says("beta").says(&unit(7)).done();
    // Out of the archive it comes as it was.
    world.flagctl(["archive", "a"]).await.succeeds().done();
    world.flagctl(["archive", "--segment", "beta"]).await.succeeds().done();
    world.flagctl(["unarchive", "--segment", "beta"]).await.succeeds().done();
    let shown = world.flagctl(["get", "--segment", "beta"]).await.succeeds().out;
    assert!(shown.contains(&unit(8)) && !shown.contains(&unit(7)));
}
