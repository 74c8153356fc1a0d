//! What a relay keeps comes back as it was shown, whatever was kept before.

use std::sync::Arc;

use flagd_core::entry::{EntryId, EntryKind, EntryWrite};

use super::*;
use crate::store::memory::Memory;

const OLD: Epoch = Epoch { minted_ms: 5, random: 1 };
const YOUNG: Epoch = Epoch { minted_ms: 6, random: 1 };

fn name() -> EnvironmentName {
    EnvironmentName::new("default").unwrap()
}

fn log() -> Log {
    Log::new(Arc::new(Memory::new(u64::MAX)))
}

/// The change that makes the next revision of a state; its bytes mean nothing to anybody.
fn next(state: &State) -> Delta {
    let id = EntryId::new(EntryKind::from_number(99), &format!("k{}", state.revision().0 % 7));
    state.delta(vec![EntryWrite::set(id, state.revision().0.to_string().as_bytes())])
}

fn grow(mut state: State, changes: u64) -> State {
    for _ in 0..changes {
        let delta = next(&state);
        state.apply(&delta).unwrap();
    }
    state
}

async fn keep_changes(log: &Log, mut state: State, changes: u64) -> State {
    for _ in 0..changes {
        let delta = next(&state);
        let kept = log.keep_change(&state, delta.clone(), 1, 70).await.unwrap();
        assert!(matches!(kept, Outcome::Recorded(_)), "{kept:?}");
        state.apply(&delta).unwrap();
    }
    state
}

async fn is_kept(log: &Log, state: &State) {
    let kept = log.kept(&name()).await.unwrap().expect("something is kept");
    assert_eq!(&kept.state, state);
}

#[tokio::test]
async fn nothing_is_kept_until_something_was_shown() {
    let log = log();
    log.make_room(&name(), OLD).await.unwrap();
    assert!(log.kept(&name()).await.unwrap().is_none(), "an empty state empties nobody");
    let state = grow(State::empty(name(), OLD), 3);
    log.keep_state(&state, 70).await.unwrap();
    is_kept(&log, &state).await;
    assert_eq!(log.kept(&name()).await.unwrap().unwrap().confirmed_ms, 70);
    log.keep_confirmed(&name(), 90).await.unwrap();
    assert_eq!(log.kept(&name()).await.unwrap().unwrap().confirmed_ms, 90);
}

#[tokio::test]
async fn changes_and_whole_states_in_any_order() {
    let log = log();
    log.make_room(&name(), OLD).await.unwrap();
    let first = grow(State::empty(name(), OLD), 3);
    log.keep_state(&first, 70).await.unwrap();
    let followed = keep_changes(&log, first, 4).await;
    is_kept(&log, &followed).await;
    // A gap: the relay was away for twenty changes.
    let later = grow(followed, 20);
    log.keep_state(&later, 70).await.unwrap();
    is_kept(&log, &later).await;
    let last = keep_changes(&log, later, 2).await;
    is_kept(&log, &last).await;
    // History was cut: a younger one, at a lower revision, over the rows of the older one.
    let mut young = grow(State::empty(name(), OLD), 4);
    young.start_epoch(YOUNG);
    let young = grow(young, 1);
    log.keep_state(&young, 70).await.unwrap();
    is_kept(&log, &young).await;
    let young = keep_changes(&log, young, 30).await;
    is_kept(&log, &young).await;
}

#[tokio::test]
async fn a_change_that_does_not_follow_what_is_kept_is_not_kept() {
    let log = log();
    log.make_room(&name(), OLD).await.unwrap();
    let kept = grow(State::empty(name(), OLD), 3);
    log.keep_state(&kept, 70).await.unwrap();
    let elsewhere = grow(kept.clone(), 1);
    let outcome = log.keep_change(&elsewhere, next(&elsewhere), 1, 70).await.unwrap();
    assert!(matches!(outcome, Outcome::Lost));
    is_kept(&log, &kept).await;
}

#[tokio::test]
async fn a_relay_knows_itself_and_its_store_is_no_servers() {
    let log = log();
    log.must_be_a_servers().await.unwrap();
    log.must_be_a_relays().await.unwrap();
    log.make_room(&name(), OLD).await.unwrap();
    let identity = log.identity(&name()).await.unwrap();
    assert_eq!(log.identity(&name()).await.unwrap(), identity);
    log.must_be_a_relays().await.unwrap();
    assert!(matches!(log.must_be_a_servers().await, Err(StoreError::OtherUse(_))));

    let servers = Log::new(Arc::new(Memory::new(u64::MAX)));
    servers.create(&name(), 1).await.unwrap();
    servers.must_be_a_relays().await.unwrap();
    let state = servers.load(&name()).await.unwrap();
    servers.start_epoch(&name(), &state, 2, "something was recorded").await.unwrap();
    servers.must_be_a_servers().await.unwrap();
    assert!(matches!(servers.must_be_a_relays().await, Err(StoreError::OtherUse(_))));
}
