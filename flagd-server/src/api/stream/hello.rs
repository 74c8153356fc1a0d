//! What a client says, checked. Pure: from the wire's messages to what the roster keeps.

use flagd_core::revision::Revision;
use flagd_proto::convert::{self, ConvertError};
use flagd_proto::stream::{ClientState, Hello};

use crate::hub::roster::Introduction;
use crate::hub::standing::Report;
use crate::limits;
use crate::store::log::RosterEntry;

/// Most environments named in a refusal.
const NAMES_MAX: usize = 20;
/// Longest "why" kept of a refused entry, in characters.
const WHY_MAX_CHARS: usize = 500;

/// Takes a Hello apart; the reason, when it makes no sense.
pub(super) fn introduction(hello: &Hello, address: String) -> Result<Introduction, String> {
    let instance: [u8; 16] = hello
        .instance
        .as_ref()
        .try_into()
        .map_err(|_| format!("`instance` must have 16 bytes, this one has {}", hello.instance.len()))?;
    if hello.connect_counter == 0 {
        return Err("`connect_counter` counts from 1".to_owned());
    }
    let texts = [
        ("name", &hello.name),
        ("app", &hello.app),
        ("app_version", &hello.app_version),
        ("sdk", &hello.sdk),
    ];
    for (field, text) in texts {
        if text.len() > limits::HELLO_TEXT_MAX_BYTES {
            let (bytes, max) = (text.len(), limits::HELLO_TEXT_MAX_BYTES);
            return Err(format!("`{field}` has {bytes} bytes, at most {max} are taken"));
        }
    }
    let report = report(hello.state.as_ref())?;
    let known = RosterEntry {
        instance: u128::from_be_bytes(instance),
        connect_counter: hello.connect_counter,
        name: hello.name.clone(),
        app: hello.app.clone(),
        app_version: hello.app_version.clone(),
        sdk: hello.sdk.clone(),
        level: hello.level,
        last_seen_ms: 0,
        position: None,
        via: String::new(),
    };
    Ok(Introduction { known, report, address })
}

/// Takes a client's state apart. Allocates nothing for a client that has nothing to complain about.
pub(super) fn report(state: Option<&ClientState>) -> Result<Report, String> {
    let Some(state) = state else { return Ok(Report::default()) };
    if state.refused.len() > limits::REFUSED_ENTRIES_MAX {
        let (count, max) = (state.refused.len(), limits::REFUSED_ENTRIES_MAX);
        return Err(format!("{count} refused entries are listed, at most {max} are taken"));
    }
    let mut refused = Vec::with_capacity(state.refused.len());
    for entry in &state.refused {
        let id = entry.id.as_ref().ok_or("a refused entry has no `id`")?;
        let why = entry.why.chars().take(WHY_MAX_CHARS).collect();
        refused.push((convert::entry_id_from_wire(id), why));
    }
    Ok(Report {
        position: position(state)?,
        refused,
        held_snapshots: state.held_snapshots,
        held_oldest: (state.held_snapshots > 0).then_some(Revision(state.held_oldest_revision)),
        held_oldest_age_ms: state.held_oldest_age_ms,
        diverged: state.diverged,
        obeyed_kills: state.obeyed_kills.clone(),
        refused_left_off: state.refused_left_off,
    })
}

/// No position, or one without an epoch, is no state. A digest of an algorithm that is not known here is none either:
/// the client gets everything anew.
fn position(state: &ClientState) -> Result<Option<flagd_core::revision::Position>, String> {
    let Some(position) = state.position.as_ref().filter(|position| position.epoch.is_some()) else {
        return Ok(None);
    };
    match convert::position_from_wire(position) {
        Ok(position) => Ok(Some(position)),
        Err(ConvertError::DigestAlgorithm(_)) => Ok(None),
        Err(error) => Err(format!("the position makes no sense: {error}")),
    }
}

/// The sentence for a client of an environment that is not there.
pub(super) fn unknown_environment(wanted: &str, names: &[&str], guess: Option<&str>) -> String {
    let wanted: String = wanted.chars().take(128).collect();
    let guess = guess.map(|guess| format!(" (did you mean `{guess}`?)")).unwrap_or_default();
    let listed: Vec<String> = names.iter().take(NAMES_MAX).map(|name| format!("`{name}`")).collect();
    let there = match names.len().checked_sub(NAMES_MAX) {
        _ if names.is_empty() => "none".to_owned(),
        None | Some(0) => listed.join(", "),
        Some(more) => format!("{} and {more} more", listed.join(", ")),
    };
    format!("there is no environment `{wanted}` on this server{guess}; it has {there}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use flagd_core::entry::{EntryId, EntryKind};
    use flagd_core::revision::{Digest, Epoch, Position};
    use flagd_proto::stream;

    fn hello() -> Hello {
        Hello { instance: vec![7; 16].into(), connect_counter: 1, ..Hello::default() }
    }

    fn position() -> Position {
        Position { epoch: Epoch { minted_ms: 1, random: 2 }, revision: Revision(3), digest: Digest(4) }
    }

    #[test]
    fn a_hello_that_makes_no_sense_is_told_why() {
        let max = limits::HELLO_TEXT_MAX_BYTES;
        let refused = |count| ClientState {
            refused: vec![
                stream::RefusedEntry { id: Some(stream::EntryId::default()), why: String::new() };
                count
            ],
            ..ClientState::default()
        };
        let rows: Vec<(&str, Hello, Option<&str>)> = vec![
            ("good", hello(), None),
            ("short instance", Hello { instance: vec![7; 15].into(), ..hello() }, Some("16 bytes")),
            ("no counter", Hello { connect_counter: 0, ..hello() }, Some("counts from 1")),
            ("longest name", Hello { name: "n".repeat(max), ..hello() }, None),
            ("name one longer", Hello { name: "n".repeat(max + 1), ..hello() }, Some("`name` has 257 bytes")),
            ("sdk one longer", Hello { sdk: "n".repeat(max + 1), ..hello() }, Some("`sdk` has 257 bytes")),
            ("most refused", Hello { state: Some(refused(limits::REFUSED_ENTRIES_MAX)), ..hello() }, None),
            (
                "one refused more",
                Hello { state: Some(refused(limits::REFUSED_ENTRIES_MAX + 1)), ..hello() },
                Some("1001 refused"),
            ),
        ];
        for (name, hello, want) in rows {
            match (introduction(&hello, String::new()), want) {
                (Ok(_), None) => {}
                (Err(why), Some(part)) => assert!(why.contains(part), "{name}: {why}"),
                (got, _) => panic!("{name}: {got:?}"),
            }
        }
    }

    #[test]
    fn a_state_is_taken_as_it_is() {
        let id = EntryId::new(EntryKind::FLAG, "a");
        let state = ClientState {
            position: Some(convert::position_to_wire(position())),
            refused: vec![stream::RefusedEntry {
                id: Some(convert::entry_id_to_wire(&id)),
                why: "level".to_owned(),
            }],
            held_snapshots: 2,
            held_oldest_revision: 1,
            held_oldest_age_ms: 50,
            diverged: true,
            obeyed_kills: vec!["k".to_owned()],
            refused_left_off: 4,
        };
        let want = Report {
            position: Some(position()),
            refused: vec![(id, "level".to_owned())],
            held_snapshots: 2,
            held_oldest: Some(Revision(1)),
            held_oldest_age_ms: 50,
            diverged: true,
            obeyed_kills: vec!["k".to_owned()],
            refused_left_off: 4,
        };
        assert_eq!(report(Some(&state)), Ok(want));
    }

    #[test]
    fn no_state_has_many_forms() {
        let algorithm = stream::Position { digest_algorithm: 9, ..convert::position_to_wire(position()) };
        for (name, position) in [
            ("no position", None),
            ("an empty one", Some(stream::Position::default())),
            ("a digest of tomorrow", Some(algorithm)),
        ] {
            let state = ClientState { position, ..ClientState::default() };
            assert_eq!(report(Some(&state)).map(|report| report.position), Ok(None), "{name}");
        }
        let short = stream::Position { digest: vec![1].into(), ..convert::position_to_wire(position()) };
        assert!(report(Some(&ClientState { position: Some(short), ..ClientState::default() })).is_err());
    }

    #[test]
    fn an_unknown_environment_is_answered_by_those_that_exist() {
        let many: Vec<String> = (0..NAMES_MAX + 2).map(|n| format!("e{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(
            unknown_environment("prodution", &["default", "production"], Some("production")),
            "there is no environment `prodution` on this server (did you mean `production`?); it has `default`, `production`"
        );
        assert!(unknown_environment("x", &many, None).ends_with("`e19` and 2 more"));
        assert!(unknown_environment("x", &[], None).ends_with("it has none"));
    }
}
