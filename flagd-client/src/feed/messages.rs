//! What the client says about itself.
//!
//! Every message carries the complete state, so a lost or coalesced one costs nothing. A message has a largest
//! size, and a client that refuses thousands of entries must still be heard: then it lists fewer and counts
//! the rest.

use flagd_core::definition::LEVEL;
use flagd_proto::stream::client_message::Message;
use flagd_proto::stream::{Ack, Bye, ClientMessage, ClientState, Hello, NeedFull, RefusedEntry};
use flagd_proto::{Message as _, convert};

use super::machine::Machine;
use crate::status::HeldSnapshots;

/// Most refused entries that are listed.
const REFUSED_MAX: usize = 1_000;
/// Room for refused entries, in encoded bytes; with the kills and the rest below the limit of 256 KiB.
const REFUSED_MAX_BYTES: usize = 128 * 1024;
/// Room for the keys of obeyed kills.
const OBEYED_MAX_BYTES: usize = 64 * 1024;
/// Longest reason of a refusal.
const WHY_MAX_BYTES: usize = 512;

/// Who the client is; the same in every `Hello`.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) environment: String,
    pub(crate) instance: [u8; 16],
    pub(crate) name: String,
    pub(crate) app: String,
    pub(crate) app_version: String,
}

pub(crate) fn hello(identity: &Identity, machine: &Machine, held: HeldSnapshots) -> ClientMessage {
    wrap(Message::Hello(Hello {
        environment: identity.environment.clone(),
        instance: identity.instance.to_vec().into(),
        connect_counter: machine.connect_counter(),
        name: identity.name.clone(),
        app: identity.app.clone(),
        app_version: identity.app_version.clone(),
        sdk: concat!("flagd-client-rust/", env!("CARGO_PKG_VERSION")).to_owned(),
        level: LEVEL,
        state: Some(state(machine, held)),
        relay: false,
    }))
}

pub(crate) fn ack(machine: &Machine, held: HeldSnapshots) -> ClientMessage {
    wrap(Message::Ack(Ack { state: Some(state(machine, held)) }))
}

pub(crate) fn need_full(machine: &Machine, held: HeldSnapshots, why: &str) -> ClientMessage {
    wrap(Message::NeedFull(NeedFull { why: why.to_owned(), state: Some(state(machine, held)) }))
}

pub(crate) fn bye() -> ClientMessage {
    wrap(Message::Bye(Bye {}))
}

fn wrap(message: Message) -> ClientMessage {
    ClientMessage { message: Some(message) }
}

fn state(machine: &Machine, held: HeldSnapshots) -> ClientState {
    let keeper = machine.keeper();
    let refused = keeper.view().refused.iter().map(|refusal| RefusedEntry {
        id: Some(convert::entry_id_to_wire(&refusal.id)),
        why: cut(&refusal.why, WHY_MAX_BYTES).to_owned(),
    });
    let mut room = OBEYED_MAX_BYTES;
    let obeyed_kills = keeper.obeyed_kills().map(ToString::to_string).take_while(|key| {
        room = room.saturating_sub(key.len() + 4);
        room > 0
    });
    let (refused, refused_left_off) = fit(refused);
    ClientState {
        position: keeper.position().map(convert::position_to_wire),
        refused,
        refused_left_off,
        held_snapshots: held.count,
        held_oldest_revision: held.oldest_revision,
        held_oldest_age_ms: u64::try_from(held.oldest_age.as_millis()).unwrap_or(u64::MAX),
        diverged: machine.is_diverged(),
        obeyed_kills: obeyed_kills.collect(),
    }
}

/// As many refused entries as there is room for, and how many are left off; the last one's reason says so too.
fn fit(entries: impl ExactSizeIterator<Item = RefusedEntry>) -> (Vec<RefusedEntry>, u32) {
    let total = entries.len();
    let mut room = REFUSED_MAX_BYTES;
    let mut listed: Vec<RefusedEntry> = entries
        .take(REFUSED_MAX)
        .take_while(|entry| {
            let bytes = entry.encoded_len() + 4;
            let fits = bytes <= room;
            room = room.saturating_sub(bytes);
            fits
        })
        .collect();
    let left_off = total - listed.len();
    if let (Some(last), 1..) = (listed.last_mut(), left_off) {
        last.why = format!("{} (and {left_off} more entries are refused)", cut(&last.why, WHY_MAX_BYTES / 2));
    }
    (listed, u32::try_from(left_off).unwrap_or(u32::MAX))
}

fn cut(text: &str, max_bytes: usize) -> &str {
    let end = (0..=max_bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(count: usize, why: &str) -> Vec<RefusedEntry> {
        vec![RefusedEntry { id: None, why: why.to_owned() }; count]
    }

    #[test]
    fn a_long_list_of_refusals_is_cut_and_counted() {
        let long = "x".repeat(WHY_MAX_BYTES);
        let cases = [
            ("none", 0, "why", 0, None),
            ("as many as are listed", 1_000, "why", 1_000, None),
            ("one more", 1_001, "why", 1_000, Some("why (and 1 more entries are refused)")),
        ];
        for (name, count, why, want, last) in cases {
            let (listed, left_off) = fit(refused(count, why).into_iter());
            assert_eq!((listed.len(), left_off as usize), (want, count - want), "{name}");
            if let Some(last) = last {
                assert_eq!(listed.last().unwrap().why, last, "{name}");
            }
        }
        let (listed, left_off) = fit(refused(100_000, &long).into_iter());
        assert_eq!(listed.len() + left_off as usize, 100_000);
        let bytes: usize = listed.iter().map(|entry| entry.encoded_len() + 4).sum();
        assert!(bytes <= REFUSED_MAX_BYTES + 64, "{bytes}");
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(cut("aäb", 2), "a");
        assert_eq!(cut("aäb", 3), "aä");
        assert_eq!(cut("ab", 9), "ab");
    }
}
