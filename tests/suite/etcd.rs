//! Several servers on a real etcd: what `cluster` tells of a store in memory, where it could be another.

use std::sync::Arc;
use std::time::Duration;

use flagd_client::Connection;
use flagd_proto::admin::change_request::Operation;
use flagd_proto::admin::{ClientStanding, FlagName, FlagNames, Put, PutMode, WaitVerdict};
use flagd_server::store::Store;
use flagd_server::store::etcd::{Etcd, EtcdConfig};
use flagd_tests::etcd::EtcdCluster;
use flagd_tests::{Node, RawClient, eventually, user};

const LONG: Duration = Duration::from_mins(1);

fn store(etcd: &EtcdCluster) -> Arc<dyn Store> {
    let url = format!("etcd://{}/flagd", etcd.endpoints().join(","));
    Arc::new(Etcd::new(EtcdConfig::parse(&url).expect("a URL")))
}

fn create(flag: &str) -> Operation {
    let file = format!(r#"{{"flags": {{"{flag}": {{"rollout": 100}}}}}}"#).into();
    Operation::Put(Put { file, mode: PutMode::Create.into() })
}

fn disable(flag: &str) -> Operation {
    Operation::Disable(FlagName { flag: flag.to_owned() })
}

fn kill(flag: &str) -> Operation {
    Operation::Kill(FlagNames { flags: vec![flag.to_owned()] })
}

async fn two_servers(etcd: &EtcdCluster) -> (Node, Node) {
    let a = Node::start("a", store(etcd)).await;
    let b = Node::start("b", store(etcd)).await;
    let created = a.change(create("new-cart")).await;
    // Who asks b is answered when it shows this: a client that comes to it sooner would begin with nothing.
    b.wait(created.revision, Duration::ZERO).await;
    (a, b)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_is_confirmed_across_servers_and_the_clients_of_a_dead_one_are_lost_until_they_move() {
    let etcd = EtcdCluster::start(1);
    let (a, mut b) = two_servers(&etcd).await;
    let _here = a.client("here").await;
    let moving = b.client_of_all(&[&a], "moving").await;
    let killed = a.change(kill("new-cart")).await;
    let waited = b.wait(killed.revision, LONG).await;
    assert_eq!((waited.verdict(), waited.applied), (WaitVerdict::Confirmed, 2), "{waited:?}");

    let mut staying = RawClient::connect(&b.url(), "staying").await;
    staying.follow_to_head().await;
    let remembered = store(&etcd);
    let name = "default".parse().expect("a name");
    eventually("the store remembers all three", async || {
        let kind = flagd_server::store::RecordKind::Roster;
        remembered.list_records(&name, kind).await.is_ok_and(|records| records.len() == 3)
    })
    .await;
    b.kill();
    let revived = a.change(Operation::Revive(FlagNames { flags: vec!["new-cart".into()] })).await;
    let waited = a.wait(revived.revision, Duration::from_secs(2)).await;
    assert_eq!(waited.verdict(), WaitVerdict::Unconfirmed, "{waited:?}");
    assert!(waited.missing.iter().any(|c| c.name == "staying" && c.standing() == ClientStanding::Lost));
    eventually("the client has moved", async || moving.is_enabled("new-cart", &user("u"))).await;
    eventually("the dead server left the list by itself", async || {
        remembered.announced().await.is_ok_and(|servers| servers.len() == 1)
    })
    .await;
    eventually("only the one that did not turn up is missing", async || {
        let waited = a.wait(revived.revision, Duration::ZERO).await;
        let missing: Vec<_> = waited.missing.iter().map(|client| client.name.as_str()).collect();
        missing == ["staying"] && waited.applied == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_etcd_makes_the_servers_stale_and_nothing_else() {
    let etcd = EtcdCluster::start(1);
    let (a, b) = two_servers(&etcd).await;
    let there = b.client("there").await;
    etcd.freeze(0);
    assert!(a.try_change(disable("new-cart")).await.is_err(), "nothing can be recorded");
    let not_ready = async || b.http("/readyz").await.starts_with("HTTP/1.1 503");
    eventually("readiness tells the truth", not_ready).await;
    let age = async || b.http("/metrics").await.contains("flagd_store_up 0");
    eventually("and so do the metrics", age).await;
    let status = b.status().await;
    assert!(status.view_age_ms > 0, "{status:?}");
    let behind = async || matches!(there.status().connection, Connection::ServerBehind { .. });
    eventually("and so does the client", behind).await;
    assert!(there.is_enabled("new-cart", &user("u")), "evaluation goes on");
    etcd.thaw(0);
    eventually("it is ready again", async || b.http("/readyz").await.starts_with("HTTP/1.1 200")).await;
    let changed = a.change(kill("new-cart")).await;
    assert_eq!(b.wait(changed.revision, LONG).await.verdict(), WaitVerdict::Confirmed);
    assert!(!there.is_enabled("new-cart", &user("u")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_prefix_is_not_filled_again() {
    let etcd = EtcdCluster::start(3);
    let (a, b) = two_servers(&etcd).await;
    let there = b.client("there").await;
    etcd.etcdctl_at(0, &["del", "--prefix", "/flagd/"]).expect("etcd deletes");
    for node in [&a, &b] {
        let alarmed = async || node.status().await.alarms.iter().any(|alarm| alarm.contains("lost the head"));
        eventually("operators are told", alarmed).await;
        let refused = node.try_change(disable("new-cart")).await.expect_err("nothing is written");
        assert!(refused.message().contains("lost the head"), "{refused}");
    }
    let announced = store(&etcd);
    let again = async || announced.announced().await.is_ok_and(|servers| servers.len() == 2);
    eventually("the servers announce themselves again", again).await;
    let _c = Node::start("c", store(&etcd)).await;
    assert!(announced.environments().await.expect("etcd answers").is_empty(), "nothing was created");
    assert!(there.is_enabled("new-cart", &user("u")), "they go on serving");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_that_was_emptied_while_no_server_ran_is_not_taken_for_a_new_one() {
    let etcd = EtcdCluster::start(1);
    let (mut a, mut b) = two_servers(&etcd).await;
    let backup = etcd.folder().join("before.db");
    let there = b.client_of_all(&[&a], "there").await;
    let at = there.revision();
    a.kill();
    b.kill();
    etcd.snapshot(0, &backup);
    // As somebody types it who forgets the last slash.
    etcd.etcdctl_at(0, &["del", "--prefix", "/flagd"]).expect("etcd deletes");
    a.restart(store(&etcd)).await;
    assert!(store(&etcd).environments().await.expect("etcd answers").is_empty(), "nothing was created");
    assert!(a.http("/readyz").await.starts_with("HTTP/1.1 503"));
    assert!(a.http("/readyz").await.contains("it was emptied"));
    assert!(a.http("/metrics").await.contains("flagd_store_vacant 1\n"));
    let status = flagd_proto::admin::StatusRequest::default();
    let told = a.admin().await.status(status.clone()).await.expect("an answer").into_inner();
    assert!(told.alarms.iter().any(|alarm| alarm.contains("it was emptied")), "{told:?}");
    let refused = a.try_change(disable("new-cart")).await.expect_err("nothing is written");
    assert!(refused.message().contains("default"), "{refused}");
    let not_served = async || !matches!(there.status().connection, Connection::Connected { .. });
    eventually("the client knows that nobody serves it", not_served).await;
    assert!(there.is_enabled("new-cart", &user("u")), "it goes on with what it has");
    assert_eq!(there.revision(), at);

    // What the operators want is theirs to say: what was there comes back by itself, ...
    let mut etcd = etcd;
    etcd.restore(&backup);
    let ready = async || a.http("/readyz").await.starts_with("HTTP/1.1 200");
    eventually("the server serves what was given back", ready).await;
    let served = async || matches!(there.status().connection, Connection::Connected { .. });
    eventually("and the client is there again", served).await;
    assert_eq!(there.revision(), at);

    // ... and an environment that is created is there.
    a.kill();
    drop(there);
    etcd.etcdctl_at(0, &["del", "--prefix", "/flagd/"]).expect("etcd deletes");
    a.restart(store(&etcd)).await;
    assert!(a.http("/readyz").await.starts_with("HTTP/1.1 503"));
    let wanted =
        flagd_proto::admin::CreateEnvironmentRequest { name: "default".into(), ..Default::default() };
    a.admin().await.create_environment(wanted).await.expect("created");
    assert!(a.http("/readyz").await.starts_with("HTTP/1.1 200"));
    let told = a.admin().await.status(status).await.expect("an answer").into_inner();
    assert_eq!(told.alarms, Vec::<String>::new());
    assert_eq!(a.change(create("new-cart")).await.revision, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_is_followed_by_a_younger_epoch_under_running_servers_and_clients() {
    let mut etcd = EtcdCluster::start(3);
    let (a, b) = two_servers(&etcd).await;
    let (here, there) = (a.client("here").await, b.client_of_all(&[&a], "there").await);
    let backup = etcd.folder().join("yesterday.db");
    etcd.snapshot(0, &backup);
    a.change(disable("new-cart")).await;
    let last = a.change(create("new-search")).await;
    assert_eq!(a.wait(last.revision, LONG).await.verdict(), WaitVerdict::Confirmed);
    let epoch = here.status().epoch;
    etcd.restore(&backup);
    for client in [&here, &there] {
        eventually("the client has the younger history", async || client.status().epoch > epoch).await;
        assert!(client.is_enabled("new-cart", &user("u")), "as in the backup");
    }
    eventually("both agree", async || here.status().epoch == there.status().epoch).await;
    let told = format!("revisions 2 to {} of epoch", last.revision);
    for node in [&a, &b] {
        let named = async || {
            node.status().await.alarms.iter().any(|alarm| alarm.contains(&told) && alarm.contains("lost"))
        };
        eventually("operators are told what is lost", named).await;
    }
    let changed = a.change(kill("new-cart")).await;
    let waited = b.wait(changed.revision, LONG).await;
    assert_eq!((waited.verdict(), waited.applied), (WaitVerdict::Confirmed, 2), "{waited:?}");
    assert!(!here.is_enabled("new-cart", &user("u")) && !there.is_enabled("new-cart", &user("u")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_of_etcd_is_in_no_line_of_the_log_however_much_it_tells() {
    const PASSWORD: &str = "correct-horse-battery";
    let mut etcd = EtcdCluster::start(1);
    etcd.enable_users("of-root", PASSWORD, "/flagd/");
    let mark = ["role", "grant-permission", "flags", "readwrite", "/~flagd-stores/flagd"];
    etcd.etcdctl_at(0, &mark).expect("etcd grants");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (password, log) = (folder.path().join("password"), folder.path().join("log"));
    std::fs::write(&password, PASSWORD).expect("the folder is writable");
    let store =
        format!("etcd://{}?user=flagd&password-file={}", etcd.endpoints()[0], password.to_string_lossy());
    let output = std::fs::File::create(&log).expect("the folder is writable");
    let _server = tokio::process::Command::new(flagd_tests::binaries().join("flagd"))
        .args(["--listen", "127.0.0.1:0", "--store", &store, "--log-level", "trace"])
        .stdin(std::process::Stdio::null())
        .stdout(output.try_clone().expect("one more handle"))
        .stderr(output)
        .kill_on_drop(true)
        .spawn()
        .expect("flagd starts");
    let told = || String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
    eventually("it serves", async || told().contains("serving")).await;
    // Signing in anew, after the tokens are gone.
    etcd.kill(0);
    eventually("it misses etcd", async || told().contains("cannot be followed")).await;
    etcd.restart(0);
    let url = told()
        .split_once("listening on ")
        .and_then(|(_, rest)| rest.split_once(','))
        .map(|(at, _)| at.to_owned());
    let mut admin =
        flagd_tests::connect(&format!("http://{}", url.expect("an address"))).await.expect("it runs");
    let change = flagd_proto::admin::ChangeRequest {
        environment: "default".into(),
        actor: "story".into(),
        operation: Some(create("new-cart")),
        ..Default::default()
    };
    eventually("it is let in again", async || admin.change(change.clone()).await.is_ok()).await;
    assert!(!told().contains("horse"), "{}", told());
}
