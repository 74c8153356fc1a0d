//! What a cluster goes through: members of etcd and servers that die, freeze and lose each other, under changes and
//! clients, on a real etcd. Promises 2, 3, 6, 7 and 9 hold all the while.
//!
//! All choices come from one seed, which is printed; so is what happened when a test fails (see `Servers`). The tests
//! run one after the other, because each of them has the machine for itself in mind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use flagd_proto::admin::change_request::Operation;
use flagd_proto::admin::{
    ChangeRequest, EntryName, Expectation, FlagName, FlagNames, GetRequest, HistoryChange, Put, PutMode,
};
use flagd_tests::etcd::EtcdCluster;
use flagd_tests::proxy::{Passage, Proxy};
use flagd_tests::{Crowd, Dice, Operator, Servers, eventually, is_passing};
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::task::block_in_place;

const FLAG: u32 = 1;

async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

fn request(id: String, operation: Operation) -> ChangeRequest {
    ChangeRequest {
        environment: "default".into(),
        actor: id.clone(),
        request_id: id,
        operation: Some(operation),
        ..ChangeRequest::default()
    }
}

/// A whole definition of a flag that is on for everybody; each text makes another one.
fn put(flag: &str, text: &str) -> Operation {
    let file = format!(r#"{{"flags": {{"{flag}": {{"rollout": 100, "description": "{text}"}}}}}}"#);
    Operation::Put(Put { file: file.into(), mode: PutMode::CreateOrReplace.into() })
}

fn kill(flag: &str) -> Operation {
    Operation::Kill(FlagNames { flags: vec![flag.into()] })
}

fn revive(flag: &str) -> Operation {
    Operation::Revive(FlagNames { flags: vec![flag.into()] })
}

/// Creates `steady`, which every client evaluates all the time, and these flags.
async fn create(servers: &Servers, flags: &[&str]) {
    let flags = flags.iter().chain(["steady"].iter());
    for flag in flags {
        let id = format!("create-{flag}");
        servers.operator(0).change(request(id, put(flag, "new"))).await.expect("recorded");
    }
}

/// Revisions without gaps, and for each acknowledged request its line at the revision that was answered.
fn must_hold(history: &[HistoryChange], acknowledged: &BTreeMap<String, u64>) {
    let revisions: Vec<_> = history.iter().map(|change| change.revision).collect();
    assert_eq!(revisions, (1..=history.len() as u64).collect::<Vec<_>>(), "the history has a gap");
    let mut found = BTreeMap::new();
    for change in history {
        if let Some(before) = found.insert(change.actor.clone(), change.revision) {
            panic!("{} was recorded twice: at {before} and {}", change.actor, change.revision);
        }
    }
    for (id, revision) in acknowledged {
        assert_eq!(found.get(id), Some(revision), "{id} was acknowledged");
    }
}

const CHANGES: u64 = 1_000;
const DEATHS: u64 = 20;
const WRITERS: u64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_kill_9_of_members_and_servers_during_1000_changes_and_50_clients() {
    let _alone = alone().await;
    let mut dice = Dice::new();
    let mut servers = Servers::start(3).await;
    let story = servers.story.clone();
    story.tell(format!("FLAGD_TEST_SEED={}", dice.seed()));
    create(&servers, &[]).await;
    let mut crowd = Crowd::gather(&servers, 50).await;

    // The writers may only go so far ahead of the deaths, so that these are spread over the changes.
    let allowed = watch::Sender::new(0_u64);
    let written = Arc::new(AtomicU64::new(0));
    let writer = |writer: u64| {
        let mut operator = servers.operator(dice_free(writer, servers.count()));
        let (mut allowed, written) = (allowed.subscribe(), Arc::clone(&written));
        tokio::spawn(async move {
            let mut acknowledged = BTreeMap::new();
            for number in (writer..CHANGES).step_by(usize::try_from(WRITERS).expect("small")) {
                allowed.wait_for(|allowed| number < *allowed).await.expect("the test goes on");
                let id = format!("change-{number}");
                let change = put(&format!("flag-{}", number % 97), &id);
                let answer = operator.change(request(id.clone(), change)).await.expect("recorded");
                acknowledged.insert(id, answer.revision);
                written.fetch_add(1, Ordering::SeqCst);
            }
            acknowledged
        })
    };
    let writers: Vec<_> = (0..WRITERS).map(writer).collect();

    let step = CHANGES / DEATHS;
    for death in 0..DEATHS {
        allowed.send_replace((death + 1) * step);
        let at = death * step + dice.throw(step / 2);
        eventually("the writers go on", async || written.load(Ordering::SeqCst) >= at).await;
        let away = Duration::from_millis(dice.throw(600));
        let victim = dice.pick(3 + servers.count());
        if victim < 3 {
            story.note(format!("kill -9 of member {victim} for {away:?} after {at} changes"));
            block_in_place(|| servers.etcd.kill(victim));
            tokio::time::sleep(away).await;
            block_in_place(|| servers.etcd.restart(victim));
        } else {
            story.note(format!("kill -9 of server {} for {away:?} after {at} changes", victim - 3));
            servers.kill_server(victim - 3).await;
            tokio::time::sleep(away).await;
            servers.start_server(victim - 3).await;
        }
        story.note("it is back");
    }
    let healed = Instant::now();
    let mut acknowledged = BTreeMap::new();
    for writer in writers {
        acknowledged.extend(writer.await.expect("the writer ends"));
    }
    let last = *acknowledged.values().max().expect("changes");
    crowd.converge(last).await;
    story.tell(format!("all clients on one digest {:?} after the last one came back", healed.elapsed()));
    assert_eq!(acknowledged.len() as u64, CHANGES);
    for number in 0..servers.count() {
        must_hold(&servers.history(number).await, &acknowledged);
    }
    crowd.must_be_sound().await;
    story.tell(format!("{} evaluations, all right", crowd.evaluations.load(Ordering::SeqCst)));
}

fn dice_free(writer: u64, count: usize) -> usize {
    usize::try_from(writer).expect("small") % count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_and_the_leader_frozen_for_20_s_under_a_kill_each_second() {
    let _alone = alone().await;
    let servers = Servers::start(2).await;
    let story = servers.story.clone();
    create(&servers, &["shop"]).await;
    let mut crowd = Crowd::gather(&servers, 20).await;
    let leader = block_in_place(|| servers.etcd.leader());
    let mut number = 0;
    for (who, member) in [("a follower", (leader + 1) % 3), ("the leader", leader)] {
        block_in_place(|| servers.etcd.freeze(member));
        story.note(format!("{who} is frozen"));
        let frozen = Instant::now();
        let mut took = Vec::new();
        while frozen.elapsed() < Duration::from_secs(20) {
            let began = Instant::now();
            let change = if number % 2 == 0 { kill("shop") } else { revive("shop") };
            let mut operator = servers.operator(number % 2);
            let id = format!("kill-{number}");
            let answer = operator.change(request(id, change)).await.expect("a kill gets through");
            crowd.converge(answer.revision).await;
            took.push(began.elapsed());
            number += 1;
            tokio::time::sleep(Duration::from_secs(1).saturating_sub(began.elapsed())).await;
        }
        block_in_place(|| servers.etcd.thaw(member));
        took.sort();
        let (median, max) = (took[took.len() / 2], took[took.len() - 1]);
        story.tell(format!("{who} frozen: {} kills, median {median:?}, slowest {max:?}", took.len()));
    }
    let history = servers.history(1).await;
    must_hold(&history, &BTreeMap::new());
    crowd.converge(history.len() as u64).await;
    crowd.must_be_sound().await;
}

/// When the servers said that they are stale.
#[derive(Debug, Default)]
struct Readiness {
    /// After the loss, both for the first time.
    unready_after: Option<Duration>,
}

impl Readiness {
    /// Asks both servers. Whoever is asked later than ten seconds after the loss says that it is stale; a slow machine
    /// can only make that more true, because what counts is when it was asked.
    async fn look(&mut self, servers: &Servers, lost: Instant) {
        let asked = lost.elapsed();
        let pages = [servers.http(0, "/readyz").await, servers.http(1, "/readyz").await];
        let are_stale = pages.iter().all(|page| page.starts_with("HTTP/1.1 503"));
        assert!(are_stale || asked < Duration::from_secs(10), "fresh {asked:?} after the loss: {pages:?}");
        if are_stale {
            self.unready_after.get_or_insert(lost.elapsed());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_a_quorum_for_30_s_writes_fail_soon_and_everything_else_goes_on() {
    let _alone = alone().await;
    let mut servers = Servers::start(2).await;
    let story = servers.story.clone();
    create(&servers, &["shop"]).await;
    let mut crowd = Crowd::gather(&servers, 20).await;
    let head = servers.revision(0).await;
    let evaluations = crowd.evaluations.load(Ordering::SeqCst);
    block_in_place(|| {
        servers.etcd.kill(0);
        servers.etcd.kill(1);
    });
    let lost = Instant::now();
    story.note("two of three members are dead");
    let (mut slowest, mut number) = (Duration::ZERO, 0);
    let mut readiness = Readiness::default();
    while lost.elapsed() < Duration::from_secs(30) {
        // Several at a time, so that they queue.
        let began = Instant::now();
        let mut writes = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let id = format!("lost-{number}");
            let change = if number % 4 == 3 { kill("shop") } else { put("shop", &id) };
            let mut operator = servers.operator(number % 2);
            writes.spawn(async move { (operator.change_once(request(id, change)).await, began.elapsed()) });
            number += 1;
        }
        while let Some(write) = writes.join_next().await {
            let (result, took) = write.expect("it ends");
            let status = result.expect_err("there is no quorum");
            slowest = slowest.max(took);
            story.note(format!("a write failed after {took:?}: {status}"));
            assert!(is_passing(&status) && status.message().contains("the store did not answer"), "{status}");
            assert!(took < Duration::from_secs(5), "a write took {took:?}: {status}");
        }
        assert_eq!(crowd.connected(), crowd.clients.len(), "streams go on");
        for _ in 0..20 {
            readiness.look(&servers, lost).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    story.tell(format!("{number} writes failed, the slowest within {slowest:?}; {readiness:?}"));
    assert!(readiness.unready_after.is_some(), "the servers never said that they are stale");
    let is_behind = |client: &flagd_client::Client| {
        matches!(client.status().connection, flagd_client::Connection::ServerBehind { .. })
    };
    eventually("all clients know that their servers are stale", async || crowd.clients.iter().all(is_behind))
        .await;
    assert!(crowd.evaluations.load(Ordering::SeqCst) > evaluations, "evaluation goes on");

    block_in_place(|| servers.etcd.restart_all(&[0, 1]));
    let healed = Instant::now();
    let answer = servers.operator(0).change(request("after".into(), put("shop", "after"))).await;
    let revision = answer.expect("recorded").revision;
    crowd.converge(revision).await;
    story.tell(format!("a change reached all clients {:?} after the quorum was back", healed.elapsed()));
    for number in 0..2 {
        eventually("the server says that it is fresh", async || {
            servers.http(number, "/readyz").await.starts_with("HTTP/1.1 200")
        })
        .await;
    }
    // A write that was answered "unknown" may have been recorded, once; none may come from nowhere.
    let history = servers.history(0).await;
    must_hold(&history, &BTreeMap::new());
    assert!(history.len() as u64 > head);
    crowd.must_be_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_compaction_beyond_a_stopped_server_takes_nothing_from_it() {
    let _alone = alone().await;
    let mut servers = Servers::start(2).await;
    create(&servers, &["shop"]).await;
    let mut crowd = Crowd::gather(&servers, 6).await;
    servers.kill_server(1).await;
    let mut revision = 0;
    for number in 0..50 {
        let id = format!("change-{number}");
        let answer = servers.operator(0).change(request(id.clone(), put("shop", &id))).await;
        revision = answer.expect("recorded").revision;
    }
    block_in_place(|| servers.etcd.compact());
    servers.start_server(1).await;
    servers.story.note("the server is back after the compaction");
    assert_eq!(servers.revision(1).await, revision);
    assert_eq!(servers.history(1).await, servers.history(0).await);
    let answer = servers.operator(1).change(request("after".into(), put("shop", "after"))).await;
    crowd.converge(answer.expect("recorded").revision).await;
    let only =
        flagd_client::Client::builder(servers.url(1)).environment("default").name("only").app("story", "1");
    let only = only.start().await.expect("nothing is wrong in the code");
    eventually("a new client has it", async || only.status().revision == revision + 1).await;
    crowd.must_be_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn half_open_connections_to_etcd_hide_no_change_of_another_server() {
    let _alone = alone().await;
    let etcd = block_in_place(|| EtcdCluster::start(3));
    let mut proxies = Vec::new();
    for endpoint in etcd.endpoints() {
        proxies.push(Proxy::start(&endpoint).await);
    }
    let through: Vec<_> = proxies.iter().map(Proxy::address).collect();
    let direct = etcd.endpoints();
    let servers = Servers::start_on(etcd, &[direct, through]).await;
    create(&servers, &["shop"]).await;
    // Clients of the server behind the proxies, and of no other.
    let behind =
        flagd_client::Client::builder(servers.url(1)).environment("default").name("behind").app("s", "1");
    let behind = behind.start().await.expect("nothing is wrong in the code");
    let mut number = 0;
    for (which, passage) in
        [(0, Passage::SwallowAnswers), (1, Passage::SwallowAll), (2, Passage::SwallowAnswers)]
    {
        proxies[which].set(passage);
        let began = Instant::now();
        for _ in 0..5 {
            number += 1;
            let id = format!("change-{number}");
            let answer = servers.operator(0).change(request(id.clone(), put("shop", &id))).await;
            let revision = answer.expect("recorded").revision;
            eventually("the server behind the proxies shows it", async || {
                behind.status().revision == revision
            })
            .await;
        }
        let swallowed = proxies[which].swallowed();
        let took = began.elapsed();
        servers.story.tell(format!(
            "proxy {which} {passage:?}: five changes came through in {took:?}, {swallowed} bytes swallowed"
        ));
        proxies[which].set(Passage::Open);
    }
    // All three at once: it goes on with what it has, and heals.
    for proxy in &proxies {
        proxy.set(Passage::SwallowAll);
    }
    let answer = servers.operator(0).change(request("unseen".into(), kill("shop"))).await;
    let revision = answer.expect("recorded").revision;
    eventually("the server says that it is stale", async || {
        servers.http(1, "/readyz").await.starts_with("HTTP/1.1 503")
    })
    .await;
    assert!(behind.is_enabled("steady", &flagd_tests::user("u")), "it goes on");
    for proxy in &proxies {
        proxy.set(Passage::Open);
    }
    let healed = Instant::now();
    eventually("the kill arrives", async || behind.status().revision == revision).await;
    servers.story.tell(format!(
        "cut off from all members, then healed: the kill arrived after {:?}",
        healed.elapsed()
    ));
    assert!(!behind.is_enabled("shop", &flagd_tests::user("u")));
}

const EDITORS: u64 = 100;
const EDITED_FLAGS: u64 = 5;

/// A read or a write of a flag, and when it was under way.
#[derive(Debug)]
struct Done {
    flag: String,
    /// The revision that was read or made.
    revision: u64,
    began: Instant,
    ended: Instant,
}

/// What an editor did until a write of its own was recorded.
#[derive(Debug)]
struct Edited {
    id: String,
    /// What the write said that it saw.
    expected: u64,
    write: Done,
    reads: Vec<Done>,
}

/// Reads, waits perhaps, and writes on what was read, until a write of its own is recorded.
async fn edit(servers: Vec<Operator>, editor: u64, pause: Option<Duration>) -> Edited {
    let flag = format!("flag-{}", editor % EDITED_FLAGS);
    let mut operator = servers[usize::try_from(editor).expect("small") % servers.len()].clone();
    let done = |revision, began| Done { flag: flag.clone(), revision, began, ended: Instant::now() };
    let mut reads = Vec::new();
    for attempt in 0.. {
        let name = EntryName { kind: FLAG, key: flag.clone() };
        let get = GetRequest { environment: "default".into(), name: Some(name), at_revision: 0 };
        let began = Instant::now();
        let Ok(read) = operator.get(get).await else { continue };
        // A view that may be old says so, and promises nothing.
        if read.view_age_ms == 0 {
            reads.push(done(read.revision, began));
        }
        if let Some(pause) = pause
            && attempt == 0
        {
            tokio::time::sleep(pause).await;
        }
        let id = format!("editor-{editor}-{attempt}");
        let expected = flagd_proto::stream::EntryId { kind: FLAG, key: flag.clone() };
        let mut request = request(id.clone(), put(&flag, &id));
        request.expectations = vec![Expectation { id: Some(expected), revision: read.revision }];
        let began = Instant::now();
        match operator.change(request).await {
            Ok(answer) => {
                let write = done(answer.revision, began);
                return Edited { id, expected: read.revision, write, reads };
            }
            Err(status) => assert_eq!(status.code(), tonic::Code::Aborted, "{status}"),
        }
    }
    unreachable!("it goes on until it succeeds")
}

/// The history is an order of all writes in which each is based on the one before it. It is linearizable if it also
/// agrees with the clock: what began after a write had ended comes after it, and reads it or something later.
fn must_be_linearizable(edits: &[Edited]) {
    for Edited { write: before, .. } in edits {
        for Edited { id, write, reads, .. } in edits {
            let is_later = |done: &&Done| done.began > before.ended;
            if is_later(&write) {
                assert!(write.revision > before.revision, "{id} was written before {before:?}: {write:?}");
            }
            for read in reads.iter().filter(is_later).filter(|read| read.flag == before.flag) {
                assert!(read.revision >= before.revision, "{id} did not see {before:?}: {read:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_racing_editors_some_of_them_slow_lose_no_update() {
    let _alone = alone().await;
    let mut dice = Dice::new();
    let mut servers = Servers::start(2).await;
    let story = servers.story.clone();
    story.tell(format!("FLAGD_TEST_SEED={}", dice.seed()));
    create(&servers, &["flag-0", "flag-1", "flag-2", "flag-3", "flag-4"]).await;
    let operators = vec![servers.operator(0), servers.operator(1)];
    let mut editors = tokio::task::JoinSet::new();
    for editor in 0..EDITORS {
        let pause = (dice.throw(10) == 0).then(|| Duration::from_millis(500 + dice.throw(1_500)));
        editors.spawn(edit(operators.clone(), editor, pause));
    }
    // One member of etcd and one server die in the middle of it.
    let victim = dice.pick(3);
    block_in_place(|| servers.etcd.kill(victim));
    servers.kill_server(1).await;
    story.note(format!("member {victim} and server 1 are dead"));
    servers.start_server(1).await;
    block_in_place(|| servers.etcd.restart(victim));
    let mut edits = Vec::new();
    while let Some(edited) = editors.join_next().await {
        edits.push(edited.expect("the editor ends"));
    }
    let wrote: BTreeMap<_, _> =
        edits.iter().map(|edit| (edit.id.clone(), (edit.expected, edit.write.revision))).collect();
    let history = servers.history(0).await;
    must_hold(&history, &wrote.iter().map(|(id, (_, revision))| (id.clone(), *revision)).collect());
    // Every write is based on the one before it, flag by flag.
    let mut newest: BTreeMap<String, u64> = BTreeMap::new();
    for change in &history {
        let entry = change.touched.iter().find_map(|touched| touched.id.clone()).expect("an entry");
        let before = newest.insert(entry.key.clone(), change.revision).unwrap_or(0);
        if let Some((expected, _)) = wrote.get(&change.actor) {
            assert_eq!(*expected, before, "{} was written over what nobody had read", change.actor);
        }
    }
    must_be_linearizable(&edits);
    assert_eq!(wrote.len() as u64, EDITORS);
    assert_eq!(history.len() as u64, 6 + EDITORS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_of_3000_flags_is_one_revision_on_etcd() {
    let _alone = alone().await;
    let etcd = block_in_place(|| EtcdCluster::start(1));
    let endpoints = etcd.endpoints();
    let servers = Servers::start_on(etcd, &[endpoints]).await;
    let text = "x".repeat(200);
    let flags: Vec<_> = (0..3_000)
        .map(|n| format!(r#""flag-{n}": {{"rollout": 100, "description": "{text} {n}"}}"#))
        .collect();
    let file = format!(r#"{{"flags": {{{}}}}}"#, flags.join(","));
    let operation = Operation::Put(Put { file: file.into(), mode: PutMode::Create.into() });
    let began = Instant::now();
    let answer = servers.operator(0).change(request("import".into(), operation)).await.expect("recorded");
    servers.story.tell(format!("3,000 flags in {:?}", began.elapsed()));
    assert_eq!(answer.revision, 1);
    assert_eq!(servers.history(0).await.len(), 1);
    let client = servers.builder("shop", 0).start().await.expect("nothing is wrong in the code");
    eventually("the client has them", async || client.status().revision == 1).await;
    assert!(client.is_enabled("flag-2999", &flagd_tests::user("u")));
    let disable = Operation::Disable(FlagName { flag: "flag-7".into() });
    let next = servers.operator(0).change(request("disable".into(), disable)).await.expect("recorded");
    assert_eq!(next.revision, 2);
}
