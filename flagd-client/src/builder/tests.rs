//! What a start fails on, what it does not fail on, and how it ends.

use std::time::{Duration, Instant};

use super::*;
use crate::{Context, Reason, Source};

/// A port of the loopback where nobody listens: the listener that owned it is gone.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn quick(url: &str) -> Builder {
    Client::builder(url).start_timeout(Duration::from_millis(50))
}

#[test]
fn a_start_fails_only_on_what_is_wrong_in_the_program() {
    let url = nobody();
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.json");
    std::fs::write(&bad, r#"{"flags": {"a": {"otherwise": "nope"}}}"#).unwrap();
    let cases = [
        ("no address", Client::builder("::"), "is no address"),
        ("another scheme", Client::builder("https://127.0.0.1"), "only http://"),
        ("a second address", Client::builder(url.as_str()).server("ftp://x"), "only http://"),
        ("environment", Client::builder(url.as_str()).environment("Prod uction"), "environment"),
        ("name", Client::builder(url.as_str()).name("x".repeat(257)), "at most 256"),
        ("no bootstrap", Client::builder(url.as_str()).bootstrap_file("/nowhere/at/all.json"), "cannot read"),
        ("bad bootstrap", Client::builder(url.as_str()).bootstrap_file(&bad), "flags.a"),
    ];
    for (name, builder, want) in cases {
        match builder.start_blocking() {
            Ok(_) => panic!("{name}: started"),
            Err(error) => assert!(error.to_string().contains(want), "{name}: {error}"),
        }
    }
}

#[test]
fn without_a_server_there_are_the_codes_defaults() {
    let client = quick(&nobody()).start_blocking().unwrap();
    let detail = client.bool_detail("a", &Context::new("u"), true);
    assert_eq!((detail.value, detail.reason), (true, Reason::NotReady));
    assert!(!client.ready_blocking(Duration::from_millis(1)));
    client.close();
    assert_eq!(client.status().connection, Connection::Closed);
}

#[tokio::test]
async fn a_start_works_under_an_executor_and_waits_no_longer_than_told() {
    let client = quick(&nobody()).start().await.unwrap();
    assert!(!client.ready(Duration::from_millis(1)).await);
    assert!(client.staleness().is_stale());
    client.shutdown().await;
    assert_eq!(client.status().connection, Connection::Closed);
}

#[test]
fn a_bootstrap_serves_until_there_is_something_better() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flags.json");
    std::fs::write(&file, r#"{"flags": {"a": {"otherwise": "on"}}}"#).unwrap();
    let client = quick(&nobody()).bootstrap_file(&file).cache_dir(folder.path()).start_blocking().unwrap();
    assert!(client.is_enabled("a", &Context::new("u")));
    let status = client.status();
    assert_eq!((status.source, status.revision), (Source::Bootstrap, 0));
    assert!(status.staleness.is_stale());
}

#[test]
fn dropping_the_last_clone_ends_the_feed() {
    let client = quick(&nobody()).start_blocking().unwrap();
    let mut changes = client.changes();
    let second = client.clone();
    drop(client);
    assert_ne!(second.status().connection, Connection::Closed);
    drop(second);
    let deadline = Instant::now() + Duration::from_mins(1);
    while changes.next_blocking(deadline.saturating_duration_since(Instant::now())).is_some() {}
    assert!(Instant::now() < deadline, "the feed goes on without a client");
}
