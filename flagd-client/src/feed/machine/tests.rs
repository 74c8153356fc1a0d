//! Every way a stream can begin, go on and end, as stories with the time in the storyteller's hand.

use std::collections::BTreeMap;

use flagd_core::context::Context;
use flagd_core::entry::{EntryId, EntryKind, EntryWrite};
use flagd_core::key::EnvironmentName;
use flagd_core::revision::{Digest, Epoch};
use flagd_core::state::State;
use flagd_core::time::Timestamp;
use flagd_proto::stream::{CatchUp, FullPart, GoAway, Heartbeat, Refused, ServerMessage, UpToDate};

use super::*;
use crate::view::Source;

const ON: &str = r#"{"variants":{"off":false,"on":true},"offVariant":"off","otherwise":"on"}"#;
const OFF: &str = r#"{"variants":{"off":false,"on":true},"offVariant":"off","otherwise":"off"}"#;
const EPOCH: Epoch = Epoch { minted_ms: 5, random: 1 };

fn environment() -> EnvironmentName {
    EnvironmentName::new("default").unwrap()
}

/// The server's side: its state, and what it sends.
struct Server {
    state: State,
}

impl Server {
    fn new() -> Server {
        let mut server = Server { state: State::empty(environment(), EPOCH) };
        server.change(&[("a", Some(ON))]);
        server
    }

    /// Makes the next revision and gives the message that tells of it.
    fn change(&mut self, flags: &[(&str, Option<&str>)]) -> Message {
        let write = |(key, bytes): &(&str, Option<&str>)| EntryWrite {
            id: EntryId::new(EntryKind::FLAG, key),
            bytes: bytes.map(|bytes| bytes.as_bytes().into()),
        };
        self.write(flags.iter().map(write).collect())
    }

    fn kill(&mut self, key: &str) -> Message {
        self.write(vec![EntryWrite::set(EntryId::new(EntryKind::KILL, key), *b"{}")])
    }

    fn revive(&mut self, key: &str) -> Message {
        self.write(vec![EntryWrite::remove(EntryId::new(EntryKind::KILL, key))])
    }

    fn write(&mut self, writes: Vec<EntryWrite>) -> Message {
        let delta = self.state.delta(writes);
        self.state.apply(&delta).unwrap();
        Message::Delta(convert::delta_to_wire(&delta))
    }

    fn position(&self) -> stream::Position {
        convert::position_to_wire(self.state.position())
    }

    fn full(&self) -> Message {
        Message::Full(self.part(0, true))
    }

    fn part(&self, part: u32, last: bool) -> FullPart {
        let entries = self.state.entries().map(|(id, entry)| convert::stored_to_wire(id, entry)).collect();
        FullPart { position: Some(self.position()), entries, part, last }
    }

    fn up_to_date(&self) -> Message {
        Message::UpToDate(UpToDate { position: Some(self.position()) })
    }

    fn heartbeat(&self) -> Message {
        Message::Heartbeat(Heartbeat { position: Some(self.position()), view_age_ms: 0 })
    }

    fn bad_full(&self) -> Message {
        let mut part = self.part(0, true);
        part.position.as_mut().unwrap().digest = Digest(1).to_bytes().to_vec().into();
        Message::Full(part)
    }
}

/// The client's side: the machine, and what it did last, in words.
struct Story {
    machine: Machine,
    now_ms: u64,
    /// What the last event led to.
    done: Vec<Action>,
    published: u32,
}

impl Story {
    /// Nothing on disk.
    fn begin(servers: usize) -> Story {
        let mut story = Story {
            machine: Machine::new(Keeper::new(environment()), servers),
            now_ms: 0,
            done: Vec::new(),
            published: 0,
        };
        story.on(Event::Loaded(Box::default()));
        story.on(Event::Start);
        story
    }

    /// Connected, and at the server's state.
    fn at(server: &Server) -> Story {
        let mut story = Story::begin(1);
        story.on(Event::Opened);
        story.hear(server.full());
        assert_eq!(story.words(), ["publish", "ack", "save", "current"]);
        story
    }

    fn on(&mut self, event: Event) -> &mut Story {
        let moment = Moment { now_ms: self.now_ms, random: u64::MAX };
        self.done = self.machine.on(event, moment);
        self.published += u32::from(self.done.iter().any(|action| matches!(action, Action::Publish(_))));
        self
    }

    fn hear(&mut self, message: Message) -> &mut Story {
        self.on(Event::Message(Box::new(ServerMessage { message: Some(message) })))
    }

    /// Lets time pass up to the one timer.
    fn sleep(&mut self) -> &mut Story {
        self.now_ms = self.machine.next_wake_ms().unwrap();
        self.on(Event::Tick)
    }

    /// Connections that are lost at once, so that waits have become long; then one more.
    fn lose_again_and_again(&mut self) -> &mut Story {
        for _ in 0..4 {
            self.on(Event::Ended("reset".into())).sleep().on(Event::Opened);
        }
        self
    }

    fn pass(&mut self, ms: u64) -> &mut Story {
        self.now_ms += ms;
        self
    }

    fn words(&self) -> Vec<&'static str> {
        self.done.iter().map(word).collect()
    }

    fn revision(&self) -> u64 {
        self.machine.keeper().view().position.revision.0
    }

    /// What a flag serves now, and why.
    fn serves(&self, key: &str) -> (Option<bool>, String) {
        let view = self.machine.keeper().view();
        let Some(compiled) = &view.compiled else { return (None, "NotReady".into()) };
        let evaluation = compiled.evaluate(key, &Context::new("u"), Timestamp::default());
        (evaluation.value.and_then(serde_json::Value::as_bool), format!("{:?}", evaluation.reason))
    }

    fn is_on(&self, key: &str) -> bool {
        self.serves(key).0 == Some(true)
    }
}

fn word(action: &Action) -> &'static str {
    match action {
        Action::Connect { .. } => "connect",
        Action::Hello => "hello",
        Action::Acknowledge => "ack",
        Action::NeedFull(_) => "need full",
        Action::Bye => "bye",
        Action::Close => "close",
        Action::Publish(_) => "publish",
        Action::WriteKills(_) => "kills",
        Action::SaveState => "save",
        Action::Tell(link) => match link {
            Link::Connecting(_) => "connecting",
            Link::CatchingUp => "catching up",
            Link::Current => "current",
            Link::ServerBehind => "behind",
            Link::Diverged => "diverged",
            Link::Waiting(_) => "waiting",
            Link::Refused(_) => "refused",
        },
    }
}

#[test]
fn a_first_start_connects_says_hello_and_takes_the_full_state() {
    let server = Server::new();
    let mut story = Story::begin(1);
    assert_eq!(story.words(), ["connect", "connecting", "hello"]);
    assert_eq!(story.on(Event::Opened).words(), ["catching up"]);
    assert_eq!(story.hear(server.full()).words(), ["publish", "ack", "save", "current"]);
    assert!(story.is_on("a"));
}

#[test]
fn the_hello_waits_for_the_disk_but_the_connection_does_not() {
    let mut story =
        Story { machine: Machine::new(Keeper::new(environment()), 1), now_ms: 0, done: vec![], published: 0 };
    assert_eq!(story.on(Event::Start).words(), ["connect", "connecting"]);
    let server = Server::new();
    let loaded = Loaded { state: Some((server.state.clone(), BTreeMap::new())), ..Loaded::default() };
    assert_eq!(story.on(Event::Loaded(Box::new(loaded))).words(), ["publish", "hello"]);
    assert_eq!(story.machine.keeper().view().source, Source::Disk);
    story.on(Event::Opened);
    assert_eq!(story.hear(server.up_to_date()).words(), ["current"]);
    // A disk that hangs is given up after one attempt.
    let mut story =
        Story { machine: Machine::new(Keeper::new(environment()), 1), now_ms: 0, done: vec![], published: 0 };
    story.on(Event::Start);
    assert_eq!(story.sleep().words(), ["close", "waiting"]);
    assert_eq!(story.sleep().words(), ["connect", "connecting", "hello"]);
}

#[test]
fn a_server_that_is_faster_than_the_disk_is_greeted_all_the_same() {
    let server = Server::new();
    let fresh = || Story {
        machine: Machine::new(Keeper::new(environment()), 1),
        now_ms: 0,
        done: vec![],
        published: 0,
    };
    let mut story = fresh();
    story.on(Event::Start);
    assert_eq!(story.on(Event::Opened).words(), [""; 0]);
    assert!(!story.machine.may_speak(), "the Hello is the first message");
    assert_eq!(story.on(Event::Loaded(Box::default())).words(), ["hello", "catching up"]);
    assert_eq!(story.hear(server.full()).words(), ["publish", "ack", "save", "current"]);

    // A disk that hangs.
    let mut story = fresh();
    story.on(Event::Start).on(Event::Opened);
    assert_eq!(story.sleep().words(), ["close", "waiting"]);
    assert_eq!(story.sleep().words(), ["connect", "connecting", "hello"]);
    assert_eq!(story.on(Event::Opened).words(), ["catching up"]);
    // It answers in the end: what it knows is told too.
    let loaded = Loaded { state: Some((server.state.clone(), BTreeMap::new())), ..Loaded::default() };
    assert_eq!(story.on(Event::Loaded(Box::new(loaded))).words(), ["publish", "ack"]);

    // Sent away before the Hello.
    let mut story = fresh();
    story.on(Event::Start).on(Event::Opened);
    let go_away = Message::GoAway(GoAway { retry_after_ms: 1_000, why: "busy".into() });
    assert_eq!(story.hear(go_away).words(), ["close", "waiting"]);
}

#[test]
fn each_delta_is_one_swap_and_one_acknowledgement() {
    let mut server = Server::new();
    let mut story = Story::at(&server);
    assert_eq!(story.hear(server.change(&[("a", Some(OFF))])).words(), ["publish", "ack", "save", "current"]);
    assert!(!story.is_on("a"));
    assert_eq!((story.revision(), story.machine.keeper().position()), (2, Some(server.state.position())));
}

#[test]
fn kills_are_written_after_the_swap_and_before_the_acknowledgement() {
    let mut server = Server::new();
    let mut story = Story::at(&server);
    assert_eq!(story.hear(server.kill("a")).words(), ["publish", "kills", "ack", "save", "current"]);
    assert_eq!(story.serves("a"), (Some(false), "Killed".into()));
    let other = server.change(&[("b", Some(ON))]);
    assert_eq!(story.hear(other).words(), ["publish", "ack", "save", "current"], "the kills are the same");
    assert_eq!(story.hear(server.revive("a")).words(), ["publish", "kills", "ack", "save", "current"]);
    assert!(story.is_on("a"));
}

#[test]
fn catching_up_swaps_once_at_the_end() {
    let mut server = Server::new();
    let mut story = Story::at(&server);
    let published = story.published;
    let missed: Vec<Message> =
        [OFF, ON, OFF, ON, OFF].map(|bytes| server.change(&[("a", Some(bytes))])).into();
    story.hear(Message::CatchUp(CatchUp { until: 6 }));
    for (at, message) in missed.into_iter().enumerate() {
        assert!(story.is_on("a") && story.revision() == 1, "after {at} changes");
        story.hear(message);
    }
    assert_eq!(story.words(), ["publish", "ack", "save", "current"]);
    assert_eq!((story.revision(), story.published), (6, published + 1));
    assert!(!story.is_on("a"));
}

#[test]
fn a_catching_up_that_breaks_off_leaves_what_was_in_use() {
    let mut server = Server::new();
    let mut story = Story::at(&server);
    let second = server.change(&[("a", Some(OFF))]);
    server.change(&[("a", Some(ON))]);
    story.hear(Message::CatchUp(CatchUp { until: 3 })).hear(second);
    story.on(Event::Ended("reset".into()));
    assert_eq!(story.machine.keeper().position().map(|position| position.revision.0), Some(1));
    assert_eq!(story.machine.keeper().reached().map(|position| position.revision.0), Some(1));
    story.sleep().on(Event::Opened);
    assert_eq!(story.hear(server.full()).words(), ["publish", "ack", "save", "current"]);
}

#[test]
fn catching_up_refuses_what_following_refuses() {
    let bad = r#"{"later": 1}"#;
    let mut server = Server::new();
    server.change(&[("b", Some(ON))]);
    let mut following = Story::at(&server);
    let mut catching = Story::at(&server);
    // The last good version of `a` and `c` is one that came during the catching-up; `b` was removed with a change
    // that is refused.
    let changes = [
        server.change(&[("a", Some(OFF)), ("c", Some(ON))]),
        server.kill("d"),
        server.change(&[("a", Some(ON)), ("b", None), ("c", Some(bad))]),
        server.change(&[("d", Some(ON))]),
    ];
    catching.hear(Message::CatchUp(CatchUp { until: server.state.revision().0 }));
    for message in changes {
        following.hear(message.clone());
        catching.hear(message);
    }
    assert_eq!(catching.words(), ["publish", "kills", "ack", "save", "current"]);
    for key in ["a", "b", "c", "d"] {
        assert_eq!(catching.serves(key), following.serves(key), "{key}");
    }
    let refused = |story: &Story| story.machine.keeper().view().refused.clone();
    assert_eq!(refused(&catching), refused(&following));
    assert!(!refused(&following).is_empty());
}

#[test]
fn a_catch_up_beside_obeyed_kills_keeps_them_until_they_are_lifted() {
    for (name, obeyed_at, killed) in [("lifted meanwhile", 3, false), ("younger", 9, true)] {
        let mut server = Server::new();
        let state = Some((server.state.clone(), BTreeMap::new()));
        let mut kills = Kills { epoch: EPOCH, revision: Revision(obeyed_at), ..Kills::default() };
        kills.by_flag.insert("a".into(), b"{}".as_slice().into());
        let mut story = Story {
            machine: Machine::new(Keeper::new(environment()), 1),
            now_ms: 0,
            done: vec![],
            published: 0,
        };
        story.on(Event::Loaded(Box::new(Loaded { state, kills: Some(kills), bootstrap: None })));
        story.on(Event::Start).on(Event::Opened).hear(Message::CatchUp(CatchUp { until: 3 }));
        assert_eq!(story.serves("a").1, "Killed", "{name}");
        let changes = [server.change(&[("a", Some(OFF))]), server.change(&[("a", Some(ON))])];
        for message in changes {
            story.hear(message);
        }
        assert_eq!((story.revision(), story.serves("a").1 == "Killed"), (3, killed), "{name}");
    }
}

#[test]
fn kills_beside_a_state_that_a_server_confirms_are_lifted() {
    type Confirms = fn(&Server) -> Message;
    let cases: [(&str, Confirms); 3] = [
        ("a full state", |server| server.full()),
        ("up to date", |server| server.up_to_date()),
        ("a heartbeat", |server| server.heartbeat()),
    ];
    for (name, confirms) in cases {
        let server = Server::new();
        let state = Some((server.state.clone(), BTreeMap::new()));
        let mut kills = Kills { epoch: EPOCH, revision: server.state.revision(), ..Kills::default() };
        kills.by_flag.insert("a".into(), b"{}".as_slice().into());
        let mut story = Story {
            machine: Machine::new(Keeper::new(environment()), 1),
            now_ms: 0,
            done: vec![],
            published: 0,
        };
        story.on(Event::Loaded(Box::new(Loaded { state, kills: Some(kills), bootstrap: None })));
        story.on(Event::Start).on(Event::Opened);
        assert_eq!(story.serves("a").1, "Killed", "{name}");
        story.hear(confirms(&server));
        assert!(story.words().contains(&"publish") && story.words().contains(&"ack"), "{name}");
        assert!(story.is_on("a") && story.machine.keeper().obeyed_kills().count() == 0, "{name}");
    }
}

#[test]
fn nothing_follows_a_catch_up_to_where_we_are() {
    let server = Server::new();
    let mut story = Story::at(&server);
    assert_eq!(story.hear(Message::CatchUp(CatchUp { until: 1 })).words(), ["current"]);
}

#[test]
fn the_parts_of_a_full_state_are_put_in_use_together() {
    let mut server = Server::new();
    server.change(&[("b", Some(ON))]);
    let whole = server.part(0, true);
    let (one, two) = whole.entries.split_at(1);
    let first = FullPart { entries: one.to_vec(), last: false, ..whole.clone() };
    let second = FullPart { entries: two.to_vec(), part: 1, ..whole.clone() };
    let mut story = Story::begin(1);
    story.on(Event::Opened);
    assert_eq!(story.hear(Message::Full(first.clone())).words(), [""; 0]);
    assert_eq!(story.serves("a").1, "NotReady");
    assert_eq!(story.hear(server.heartbeat()).words(), [""; 0], "a heartbeat in between asks for nothing");
    assert_eq!(story.hear(Message::Full(second.clone())).words(), ["publish", "ack", "save", "current"]);
    assert!(story.is_on("a") && story.is_on("b"));

    let skipped = FullPart { part: 2, ..second };
    let mut story = Story::begin(1);
    story.on(Event::Opened).hear(Message::Full(first)).hear(Message::Full(skipped));
    assert_eq!(story.words(), [""; 0], "nothing is used, it will be asked for again");
    assert_eq!(story.sleep().words(), ["need full"]);
}

#[test]
fn the_parts_of_a_change_are_put_in_use_together() {
    let mut server = Server::new();
    let mut story = Story::at(&server);
    let Message::Delta(whole) = server.change(&[("b", Some(ON)), ("c", Some(ON))]) else { panic!("a delta") };
    let (one, two) = whole.entries.split_at(1);
    let first = stream::Delta { entries: one.to_vec(), more: true, ..whole.clone() };
    let second = stream::Delta { entries: two.to_vec(), ..whole.clone() };
    assert_eq!(story.hear(Message::Delta(first.clone())).words(), [""; 0]);
    assert_eq!(story.serves("b").1, "NotFound");
    assert_eq!(story.hear(Message::Delta(second.clone())).words(), ["publish", "ack", "save", "current"]);
    assert!(story.is_on("b") && story.is_on("c"));

    let foreign = stream::Delta { to: 9, ..second };
    let mut story = Story::at(&Server::new());
    story.hear(Message::Delta(first)).hear(Message::Delta(foreign));
    assert_eq!(story.words(), ["catching up", "need full"]);
}

type Wrong = fn(&mut Server) -> Message;

/// None of these changes what is in use.
fn nothing_is_applied(cases: &[(&str, Wrong, &[&str])]) {
    for (name, wrong, want) in cases {
        let mut server = Server::new();
        let mut story = Story::at(&server);
        let message = wrong(&mut server);
        assert_eq!(story.hear(message).words(), *want, "{name}");
        assert!(story.is_on("a") && story.revision() == 1, "{name}");
    }
}

#[test]
fn a_change_that_does_not_fit_is_not_applied() {
    nothing_is_applied(&[
        (
            "a gap",
            |server| {
                server.change(&[("a", Some(OFF))]);
                server.change(&[("a", Some(OFF))])
            },
            &["catching up", "need full"],
        ),
        (
            "another digest",
            |server| match server.change(&[("a", Some(OFF))]) {
                Message::Delta(delta) => {
                    Message::Delta(stream::Delta { digest: Digest(1).to_bytes().to_vec().into(), ..delta })
                }
                other => other,
            },
            &["catching up", "need full"],
        ),
        (
            "another epoch",
            |server| {
                server.state.start_epoch(Epoch { minted_ms: 6, random: 1 });
                server.change(&[("a", Some(OFF))])
            },
            &["catching up", "need full"],
        ),
        (
            "another digest algorithm",
            |server| match server.change(&[("a", Some(OFF))]) {
                Message::Delta(delta) => Message::Delta(stream::Delta { digest_algorithm: 2, ..delta }),
                other => other,
            },
            &["catching up", "need full"],
        ),
    ]);
}

#[test]
fn a_server_elsewhere_is_asked_for_everything_and_one_behind_is_not() {
    nothing_is_applied(&[
        (
            "up to date, but elsewhere",
            |server| {
                server.change(&[("a", Some(OFF))]);
                server.up_to_date()
            },
            &["catching up", "need full"],
        ),
        (
            "a heartbeat ahead of us",
            |server| {
                server.change(&[("a", Some(OFF))]);
                server.heartbeat()
            },
            &["catching up", "need full"],
        ),
        (
            "a heartbeat with another digest",
            |server| {
                let mut other = Server { state: State::empty(environment(), EPOCH) };
                other.change(&[("x", Some(ON))]);
                assert_eq!(other.state.revision(), server.state.revision());
                other.heartbeat()
            },
            &["catching up", "need full"],
        ),
        (
            "a heartbeat of a younger epoch",
            |server| {
                server.state.start_epoch(Epoch { minted_ms: 6, random: 1 });
                server.heartbeat()
            },
            &["catching up", "need full"],
        ),
        ("a heartbeat where we are", |server| server.heartbeat(), &["current"]),
        (
            "a heartbeat of a server that is blind",
            |server| {
                let position = Some(server.position());
                Message::Heartbeat(Heartbeat { position, view_age_ms: VIEW_AGE_MAX_MS + 1 })
            },
            &["behind"],
        ),
        ("the same full state again", |server| server.full(), &["ack", "current"]),
        (
            "an older full state",
            |server| {
                *server = Server { state: State::empty(environment(), EPOCH) };
                server.full()
            },
            &["behind"],
        ),
        (
            "an older history, however far",
            |server| {
                server.state = State::empty(environment(), Epoch { minted_ms: 4, random: 9 });
                for _ in 0..9 {
                    server.change(&[("a", Some(OFF))]);
                }
                server.full()
            },
            &["behind"],
        ),
    ]);
}

#[test]
fn a_delta_of_the_past_is_ignored() {
    let mut server = Server::new();
    let first = server.change(&[("a", Some(OFF))]);
    let mut story = Story::at(&server);
    assert_eq!(story.hear(first).words(), [""; 0]);
}

#[test]
fn a_younger_history_replaces_ours() {
    let mut server = Server::new();
    server.change(&[("b", Some(ON))]);
    let mut story = Story::at(&server);
    let mut restored = Server { state: State::empty(environment(), Epoch { minted_ms: 6, random: 0 }) };
    restored.change(&[("a", Some(OFF))]);
    assert_eq!(story.hear(restored.full()).words(), ["publish", "ack", "save", "current"]);
    assert_eq!((story.revision(), story.is_on("a")), (1, false));
}

#[test]
fn while_the_full_state_is_awaited_deltas_are_ignored() {
    let mut server = Server::new();
    let mut story = Story::at(&server);
    server.change(&[("a", Some(OFF))]);
    story.hear(server.heartbeat());
    assert_eq!(story.words(), ["catching up", "need full"]);
    assert_eq!(story.hear(server.change(&[("a", Some(ON))])).words(), [""; 0]);
    assert_eq!(story.hear(server.full()).words(), ["publish", "ack", "save", "current"]);
    assert_eq!(story.revision(), 3);
}

#[test]
fn a_server_that_never_sends_the_full_state_is_left() {
    let mut server = Server::new();
    let mut story = Story::at(&server);
    server.change(&[("a", Some(OFF))]);
    story.hear(server.heartbeat());
    for _ in 0..FULL_PATIENCE_MS / 10_000 - 1 {
        assert_eq!(story.pass(10_000).hear(server.heartbeat()).words(), [""; 0]);
    }
    story.pass(10_000).on(Event::Tick);
    assert_eq!(story.words(), ["close", "waiting"]);
}

#[test]
fn after_three_full_states_that_do_not_add_up_it_has_diverged_and_obeys_kills() {
    let mut server = Server::new();
    let mut story = Story::at(&server);
    server.change(&[("a", Some(OFF)), ("b", Some(ON))]);
    server.kill("b");
    story.hear(server.heartbeat());
    for attempt in 1..BAD_FULLS_MAX {
        assert_eq!(story.hear(server.bad_full()).words(), [""; 0], "{attempt}");
        assert_eq!(story.sleep().words(), ["need full"], "{attempt}");
    }
    server.kill("a");
    assert_eq!(story.hear(server.bad_full()).words(), ["diverged", "publish", "kills", "ack"]);
    assert!(story.machine.is_diverged());
    assert_eq!(story.serves("a"), (Some(false), "Killed".into()));
    assert_eq!(story.revision(), 1, "it stays where it is");
    assert_eq!(story.machine.keeper().obeyed_kills().map(AsRef::as_ref).collect::<Vec<_>>(), ["a", "b"]);
    // Later deltas do not apply, but their kills count.
    server.change(&[("c", Some(ON))]);
    assert_eq!(story.hear(server.kill("c")).words(), ["publish", "kills", "ack"]);
    assert_eq!(story.machine.keeper().obeyed_kills().count(), 3);
    let before = story.revision();
    assert_eq!(story.hear(server.change(&[("a", Some(ON))])).words(), [""; 0]);
    assert_eq!(story.revision(), before);
    // It goes on asking, slowly, and a state that adds up ends it.
    for _ in 0..3 {
        story.pass(20_000).hear(server.heartbeat());
    }
    assert_eq!(story.on(Event::Tick).words(), ["need full"]);
    // Until that one comes kills are obeyed as before, and nobody is asked again.
    assert_eq!(story.hear(server.kill("d")).words(), ["publish", "kills", "ack"]);
    assert_eq!(story.hear(server.change(&[("c", Some(OFF))])).words(), [""; 0]);
    assert_eq!(story.hear(server.full()).words(), ["publish", "ack", "save", "current"]);
    assert!(!story.machine.is_diverged());
    assert_eq!((story.revision(), story.machine.keeper().obeyed_kills().count()), (9, 0));
    assert_eq!(story.serves("a"), (Some(false), "Killed".into()), "the state holds the kill itself now");
}

#[test]
fn a_diverged_client_lets_go_of_a_kill_only_when_it_is_known_to_be_lifted() {
    type Later = fn(&mut Server, FullPart) -> Message;
    let cases: [(&str, Later, &[&str]); 5] = [
        (
            "a part was lost",
            |server, _| Message::Full(FullPart { entries: vec![], ..server.part(1, true) }),
            &["a", "b"],
        ),
        (
            "an entry cannot be read",
            |server, _| {
                let mut part = server.part(0, true);
                part.entries = vec![stream::Entry::default()];
                Message::Full(part)
            },
            &["a", "b"],
        ),
        ("of the past", |_, past| Message::Full(past), &["a", "b"]),
        (
            "lifted, all parts read",
            |server, _| {
                server.revive("a");
                server.bad_full()
            },
            &["b"],
        ),
        (
            "lifted, the digest is of a kind that we do not know",
            |server, _| {
                server.revive("a");
                let mut part = server.part(0, true);
                part.position.as_mut().unwrap().digest_algorithm = 2;
                Message::Full(part)
            },
            &["b"],
        ),
    ];
    for (name, later, want) in cases {
        let mut server = Server::new();
        let mut story = Story::at(&server);
        let mut past = server.part(0, true);
        past.position.as_mut().unwrap().digest = Digest(1).to_bytes().to_vec().into();
        server.kill("a");
        server.kill("b");
        for _ in 0..BAD_FULLS_MAX {
            story.hear(server.bad_full());
        }
        let message = later(&mut server, past);
        story.hear(message);
        assert!(story.machine.is_diverged(), "{name}");
        let obeyed: Vec<&str> = story.machine.keeper().obeyed_kills().map(AsRef::as_ref).collect();
        assert_eq!(obeyed, want, "{name}");
        assert_eq!(story.serves("a").1 == "Killed", want.contains(&"a"), "{name}");
    }
}

#[test]
fn a_diverged_client_without_a_state_obeys_kills_and_knows_nothing_else() {
    let mut server = Server::new();
    server.write(vec![EntryWrite::set(
        EntryId::new(EntryKind::KILL, "a"),
        *br#"{"offVariant":"off","value":false,"by":"x","at":"2026-11-23T00:00:00Z"}"#,
    )]);
    let mut story = Story::begin(1);
    story.on(Event::Opened);
    for _ in 0..BAD_FULLS_MAX {
        story.hear(server.bad_full());
    }
    assert!(story.machine.is_diverged());
    assert_eq!(story.serves("a"), (Some(false), "Killed".into()));
    let view = story.machine.keeper().view();
    assert_eq!(
        view.answer(view.find("b"), &Context::new("u"), crate::view::read_bool).why,
        crate::view::Why::NotReady
    );
    assert_eq!(story.machine.keeper().position(), None, "it acknowledges no state");
}

#[test]
fn kills_on_disk_apply_over_an_older_state_until_a_later_one_says_otherwise() {
    let mut server = Server::new();
    let old = server.state.clone();
    server.kill("a");
    let kills = |revision| {
        let mut kills = Kills { epoch: EPOCH, revision: Revision(revision), ..Kills::default() };
        kills.by_flag.insert("a".into(), b"{}".as_slice().into());
        Some(kills)
    };
    server.revive("a");
    let revived = server.state.clone();
    let cases = [
        ("state older than the kills", old, kills(2), "Killed", 1),
        ("state younger than the kills", revived, kills(2), "Otherwise", 0),
    ];
    for (name, state, kills, reason, obeyed) in cases {
        let mut story = Story {
            machine: Machine::new(Keeper::new(environment()), 1),
            now_ms: 0,
            done: vec![],
            published: 0,
        };
        let loaded = Loaded { state: Some((state, BTreeMap::new())), kills, bootstrap: None };
        story.on(Event::Loaded(Box::new(loaded))).on(Event::Start).on(Event::Opened);
        assert_eq!(story.serves("a").1, reason, "{name}");
        assert_eq!(story.machine.keeper().obeyed_kills().count(), obeyed, "{name}");
        story.hear(server.full());
        assert_eq!(story.serves("a").1, "Otherwise", "{name}: the server's word counts");
    }
}

#[test]
fn a_bootstrap_is_replaced_and_is_no_earlier_version() {
    let bootstrap = Server::new().state;
    let mut story =
        Story { machine: Machine::new(Keeper::new(environment()), 1), now_ms: 0, done: vec![], published: 0 };
    let loaded = Loaded { bootstrap: Some(bootstrap), ..Loaded::default() };
    story.on(Event::Loaded(Box::new(loaded))).on(Event::Start).on(Event::Opened);
    assert!(story.is_on("a"));
    assert_eq!(story.machine.keeper().position(), None, "a bootstrap is not acknowledged");
    let mut server = Server::new();
    server.change(&[("a", Some(r#"{"later": 1}"#))]);
    story.hear(server.full());
    assert_eq!(story.serves("a"), (None, "Refused".into()));
    assert_eq!(story.machine.keeper().view().source, Source::Server);
}

#[test]
fn a_refused_entry_keeps_its_last_good_version_and_the_digest_goes_on_matching() {
    let mut server = Server::new();
    let mut story = Story::at(&server);
    story.hear(server.change(&[("a", Some(r#"{"later": 1}"#))]));
    assert_eq!(story.words(), ["publish", "ack", "save", "current"]);
    assert!(story.is_on("a"), "the last good version serves");
    assert_eq!(story.machine.keeper().view().refused.len(), 1);
    story.hear(server.kill("a"));
    assert_eq!(story.serves("a"), (Some(false), "Killed".into()));
    assert_eq!(story.hear(server.heartbeat()).words(), ["current"]);
}

#[test]
fn every_end_leads_to_another_attempt() {
    type End = fn(&mut Story);
    let go_away = |after_ms| Message::GoAway(GoAway { retry_after_ms: after_ms, why: "busy".into() });
    let refused = Message::Refused(Refused { why: 1, message: "no environment `x`".into() });
    let cases: &[(&str, End, u64, &str)] = &[
        (
            "the server ends it",
            |story| {
                story.on(Event::Ended("end".into()));
            },
            backoff::SPREAD_MS,
            "waiting",
        ),
        (
            "silence",
            |story| {
                story.sleep();
            },
            backoff::SPREAD_MS,
            "waiting",
        ),
        (
            "it held for long",
            |story| {
                story.lose_again_and_again().pass(HEALTHY_MS).on(Event::Ended("end".into()));
            },
            backoff::SPREAD_MS,
            "waiting",
        ),
        (
            "it held for a moment, again",
            |story| {
                story.pass(HEALTHY_MS - 1).on(Event::Ended("end".into())).sleep();
                story.on(Event::Opened).pass(HEALTHY_MS - 1).on(Event::Ended("end".into()));
            },
            backoff::SPREAD_MS * 3 / 2,
            "waiting",
        ),
    ];
    for (name, end, wait_ms, told) in cases {
        let mut story = Story::at(&Server::new());
        end(&mut story);
        assert_eq!(story.words(), ["close", *told], "{name}");
        assert_eq!(story.machine.next_wake_ms(), Some(story.now_ms + wait_ms), "{name}");
        assert!(story.is_on("a"), "{name}: what is in use stays");
        assert_eq!(story.sleep().words(), ["connect", "connecting", "hello"], "{name}");
    }
    for (name, message, wake_ms, told) in [
        ("sent away", go_away(1_000), 1_500, "waiting"),
        ("sent away, but not for how long", go_away(0), backoff::BASE_MS * 3 / 2, "waiting"),
        ("sent away for nonsensically long", go_away(u64::MAX), RETRY_AFTER_MAX_MS * 3 / 2, "waiting"),
        ("refused", refused, backoff::CAP_MS, "refused"),
    ] {
        let mut story = Story::at(&Server::new());
        story.hear(message);
        assert_eq!(story.words(), ["close", told], "{name}");
        assert_eq!(story.machine.next_wake_ms(), Some(wake_ms), "{name}");
        assert_eq!(story.sleep().words(), ["connect", "connecting", "hello"], "{name}");
    }
}

#[test]
fn a_connection_that_held_is_a_good_one_however_it_ends() {
    let ends = [
        ("sent away", Message::GoAway(GoAway { retry_after_ms: 1_000, why: "busy".into() })),
        ("refused", Message::Refused(Refused { why: 1, message: "no environment `x`".into() })),
    ];
    for (name, message) in ends {
        let mut story = Story::at(&Server::new());
        story.lose_again_and_again().pass(HEALTHY_MS).hear(message).sleep();
        story.on(Event::Ended("reset".into()));
        assert_eq!(story.machine.next_wake_ms(), Some(story.now_ms + backoff::SPREAD_MS), "{name}");
    }
}

#[test]
fn attempts_that_fail_wait_longer_and_try_each_server_in_turn() {
    let mut story = Story::begin(2);
    let mut seen = Vec::new();
    for _ in 0..6 {
        let before_ms = story.now_ms;
        story.on(Event::Ended("refused".into())).sleep();
        let Some(Action::Connect { server }) = story.done.first() else { panic!("{:?}", story.words()) };
        seen.push((*server, story.now_ms - before_ms));
    }
    assert_eq!(seen, [(1, 250), (0, 250), (1, 250), (0, 500), (1, 250), (0, 1_000)]);
    assert_eq!(story.machine.connect_counter(), 7);
}

#[test]
fn a_client_of_several_servers_goes_to_the_others_one_after_the_other_once_the_crowd_is_spread() {
    let mut story = Story::begin(3);
    story.on(Event::Opened).on(Event::Ended("reset".into()));
    let mut waits = Vec::new();
    for _ in 0..4 {
        waits.push(story.machine.next_wake_ms().map(|at_ms| at_ms - story.now_ms));
        story.sleep().on(Event::Ended("refused".into()));
    }
    let ms = |ms| Some(ms);
    assert_eq!(waits, [ms(backoff::SPREAD_MS), ms(250), ms(250), ms(backoff::SPREAD_MS * 3 / 2)]);
}

#[test]
fn an_end_that_was_heard_already_changes_nothing() {
    let mut story = Story::at(&Server::new());
    story.on(Event::Ended("one".into()));
    assert_eq!(story.on(Event::Ended("two".into())).words(), [""; 0]);
    assert_eq!(story.hear(Server::new().full()).words(), [""; 0], "nor does a late message");
}

#[test]
fn an_opening_that_hangs_is_given_up() {
    let mut story = Story::begin(1);
    assert_eq!(story.machine.next_wake_ms(), Some(OPEN_TIMEOUT_MS));
    assert_eq!(story.sleep().words(), ["close", "waiting"]);
}

#[test]
fn a_message_of_a_later_version_is_a_sign_of_life() {
    let mut story = Story::at(&Server::new());
    story.pass(SILENCE_MS - 1).on(Event::Message(Box::new(ServerMessage { message: None })));
    assert_eq!(story.words(), [""; 0]);
    assert_eq!(story.machine.next_wake_ms(), Some(SILENCE_MS - 1 + SILENCE_MS));
}

#[test]
fn the_end_says_bye_where_somebody_listens() {
    let mut connected = Story::at(&Server::new());
    assert_eq!(connected.on(Event::Stop).words(), ["bye"]);
    assert_eq!(connected.machine.next_wake_ms(), None);
    let mut greeting = Story::begin(1);
    assert_eq!(greeting.on(Event::Stop).words(), ["bye"], "the Hello may have been heard");
    let mut waiting = Story::begin(1);
    waiting.on(Event::Ended("refused".into()));
    assert_eq!(waiting.on(Event::Stop).words(), ["close"]);
}
