//! Promise 3: divergence is found. Here the server lies, and the client must neither believe it nor go silent.

use std::time::Duration;

use flagd_client::{Client, Context};
use flagd_core::definition::{Kill, parse_file};
use flagd_core::edit::{self, Author, Edit, PutMode};
use flagd_core::entry::{EntryId, EntryWrite};
use flagd_core::key::{EnvironmentName, FlagKey};
use flagd_core::revision::{Digest, Epoch};
use flagd_core::state::State;
use flagd_core::time::Timestamp;
use flagd_proto::stream::{ClientState, client_message};
use flagd_tests::{Liar, eventually, user};

fn state() -> State {
    let epoch = Epoch { minted_ms: 1, random: 1 };
    let mut state = State::empty(EnvironmentName::new("default").expect("a name"), epoch);
    let file = r#"{"flags": {"a": {"rollout": 100}, "b": {"rollout": 100}}}"#;
    assert!(parse_file(file).is_ok());
    let put = Edit::Put { file: file.into(), mode: PutMode::Create };
    let writes = edit::plan(&state, &put, &author()).expect("a plan").writes;
    let delta = state.delta(writes);
    state.apply(&delta).expect("a delta of this state");
    state
}

fn author() -> Author {
    Author { actor: "liar".into(), reason: None, now: Timestamp::from_millis(0) }
}

fn kill(key: &str) -> EntryWrite {
    let kill = Kill {
        off_variant: None,
        value: Some(false.into()),
        by: "x".into(),
        at: Timestamp::from_millis(0),
        reason: None,
    };
    let key = FlagKey::new(key).expect("a key");
    EntryWrite::set(EntryId::kill(&key), flagd_core::canonical::write_kill(&kill).into_bytes())
}

fn acknowledged(message: client_message::Message) -> Option<ClientState> {
    match message {
        client_message::Message::Ack(ack) => ack.state,
        _ => None,
    }
}

fn needs_full(message: client_message::Message) -> Option<String> {
    match message {
        client_message::Message::NeedFull(need) => Some(need.why),
        _ => None,
    }
}

async fn client(liar: &Liar) -> Client {
    let builder = Client::builder(liar.url())
        .environment("default")
        .app("story", "1")
        .start_timeout(Duration::from_millis(10));
    builder.start().await.expect("nothing is wrong in the code")
}

#[tokio::test]
async fn a_change_whose_digest_does_not_come_out_is_not_applied() {
    let mut liar = Liar::start().await;
    let client = client(&liar).await;
    let mut stream = liar.stream().await;
    let mut state = state();
    stream.says_full(&state, state.position().digest).await;
    let ack = stream.waits_for(acknowledged).await;
    assert_eq!(ack.position.expect("a position").revision, 1);

    let mut lie = state.delta(vec![kill("a")]);
    lie.digest_after = Digest(17);
    stream.says_delta(&lie).await;
    assert_eq!(stream.waits_for(needs_full).await, "digest");
    assert!(client.is_enabled("a", &user("u")), "nothing of it is in use");
    // A lost change: the next one does not follow what the client has.
    let lost = state.delta(vec![kill("a")]);
    state.apply(&lost).expect("a delta of this state");
    stream.says_full(&state, state.position().digest).await;
    assert_eq!(stream.waits_for(acknowledged).await.position.expect("a position").revision, 2);
    assert!(!client.is_enabled("a", &user("u")), "the whole state mends it");
}

#[tokio::test]
async fn a_client_that_cannot_reach_the_servers_digest_says_so_and_obeys_kills() {
    let mut liar = Liar::start().await;
    let client = client(&liar).await;
    let mut stream = liar.stream().await;
    let mut state = state();
    stream.says_full(&state, state.position().digest).await;
    stream.waits_for(acknowledged).await;

    let delta = state.delta(vec![kill("a")]);
    state.apply(&delta).expect("a delta of this state");
    let mut lie = delta.clone();
    lie.digest_after = Digest(17);
    stream.says_delta(&lie).await;
    for _ in 0..3 {
        stream.waits_for(needs_full).await;
        stream.says_full(&state, Digest(17)).await;
    }
    let ack = stream.waits_for(|message| acknowledged(message).filter(|state| state.diverged)).await;
    assert_eq!(ack.position.expect("a position").revision, 1, "it stays where it is");
    assert_eq!(ack.obeyed_kills, ["a"]);
    eventually("the kill is obeyed, nothing else is taken", async || {
        !client.is_enabled("a", &Context::new("u")) && client.is_enabled("b", &Context::new("u"))
    })
    .await;
    assert!(client.status().diverged);
}
