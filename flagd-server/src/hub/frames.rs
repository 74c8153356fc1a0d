//! Messages to clients, encoded; what is larger than a message may be goes in parts.
//!
//! Nothing here is done per subscriber, except the few bytes of a heartbeat.

use std::io::Write as _;
use std::sync::Arc;

use flagd_core::revision::{Position, Revision};
use flagd_core::state::{Delta, State};
use flagd_proto::Message as _;
use flagd_proto::convert;
use flagd_proto::frame::Frame;
use flagd_proto::stream::{self, ServerMessage, server_message::Message};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::limits;

/// Room for what surrounds the entries of a message.
const ENVELOPE_BYTES: usize = 256;
/// Room for what surrounds one entry.
const ENTRY_BYTES: usize = 8;

fn encode(message: Message) -> Frame {
    Frame::encode(&ServerMessage { message: Some(message) })
}

/// A change: one frame, or parts.
pub(crate) fn delta(delta: &Delta) -> Arc<[Frame]> {
    let mut whole = convert::delta_to_wire(delta);
    let parts = split(std::mem::take(&mut whole.entries), limits::SERVER_MESSAGE_MAX_BYTES);
    let last = parts.len() - 1;
    parts
        .into_iter()
        .enumerate()
        .map(|(index, entries)| {
            encode(Message::Delta(stream::Delta { entries, more: index < last, ..whole.clone() }))
        })
        .collect()
}

/// The whole state.
pub(crate) fn full(state: &State) -> Arc<[Frame]> {
    let entries = state.entries().map(|(id, entry)| convert::stored_to_wire(id, entry)).collect();
    let position = convert::position_to_wire(state.position());
    let parts = split(entries, limits::SERVER_MESSAGE_MAX_BYTES);
    let last = parts.len() - 1;
    (0u32..)
        .zip(parts)
        .map(|(part, entries)| {
            let last = usize::try_from(part).is_ok_and(|part| part == last);
            encode(Message::Full(stream::FullPart { position: Some(position.clone()), entries, part, last }))
        })
        .collect()
}

/// The same messages, each compressed where that makes it smaller. Fast rather than small: it is done once, but somebody
/// waits for it.
pub(crate) fn compressed(frames: &[Frame]) -> Arc<[Frame]> {
    let compressed = frames.iter().map(|frame| {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        // Writing into memory does not fail.
        let done = gzip.write_all(&frame.message()).and_then(|()| gzip.finish());
        match done {
            Ok(bytes) if bytes.len() < frame.len() => Frame::of_compressed(&bytes),
            _ => frame.clone(),
        }
    });
    compressed.collect()
}

/// Puts entries into as few parts as fit, in order; always at least one part.
fn split(entries: Vec<stream::Entry>, max_bytes: usize) -> Vec<Vec<stream::Entry>> {
    let mut parts = Vec::new();
    let mut part = Vec::new();
    let mut bytes = ENVELOPE_BYTES;
    for entry in entries {
        let entry_bytes = entry.encoded_len() + ENTRY_BYTES;
        if bytes + entry_bytes > max_bytes && !part.is_empty() {
            parts.push(std::mem::take(&mut part));
            bytes = ENVELOPE_BYTES;
        }
        bytes += entry_bytes;
        part.push(entry);
    }
    parts.push(part);
    parts
}

/// The deltas that follow are of the past, up to here.
pub(crate) fn catch_up(until: Revision) -> Frame {
    encode(Message::CatchUp(stream::CatchUp { until: until.0 }))
}

/// Nothing to send: the client is there.
pub(crate) fn up_to_date(position: Position) -> Frame {
    encode(Message::UpToDate(stream::UpToDate { position: Some(convert::position_to_wire(position)) }))
}

/// What was last written to a stream, and how old the server's view is.
pub(crate) fn heartbeat(position: Option<Position>, view_age_ms: u64) -> Frame {
    let position = position.map(convert::position_to_wire);
    encode(Message::Heartbeat(stream::Heartbeat { position, view_age_ms }))
}

/// Come back later.
pub(crate) fn go_away(retry_after_ms: u64, why: &str) -> Frame {
    encode(Message::GoAway(stream::GoAway { retry_after_ms, why: why.to_owned() }))
}

/// This client is not served as it is.
pub(crate) fn refused(why: stream::RefusedWhy, message: String) -> Frame {
    encode(Message::Refused(stream::Refused { why: why.into(), message }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flagd_core::entry::{EntryId, EntryKind, EntryWrite};
    use flagd_core::key::EnvironmentName;
    use flagd_core::limits::DEFINITION_MAX_BYTES;
    use flagd_core::revision::Epoch;

    fn state_of(sizes: &[usize]) -> State {
        let epoch = Epoch { minted_ms: 1, random: 2 };
        let mut state = State::empty(EnvironmentName::new("default").unwrap(), epoch);
        let writes = sizes
            .iter()
            .enumerate()
            .map(|(index, size)| {
                EntryWrite::set(EntryId::new(EntryKind::FLAG, &format!("f{index:04}")), vec![b'x'; *size])
            })
            .collect();
        let delta = state.delta(writes);
        state.apply(&delta).unwrap();
        state
    }

    fn decode(frames: &[Frame]) -> Vec<Message> {
        frames
            .iter()
            .map(|frame| {
                assert!(frame.len() <= limits::SERVER_MESSAGE_MAX_BYTES, "{} bytes", frame.len());
                ServerMessage::decode(frame.message()).unwrap().message.unwrap()
            })
            .collect()
    }

    #[test]
    fn a_full_state_comes_in_parts_that_add_up() {
        let rows: &[(&str, Vec<usize>, usize)] = &[
            ("nothing is one empty part", vec![], 1),
            ("little is one part", vec![10; 3], 1),
            ("the largest definitions", vec![DEFINITION_MAX_BYTES; 4], 4),
            ("many small ones", vec![1_000; 3_000], 3),
        ];
        for (name, sizes, want) in rows {
            let state = state_of(sizes);
            let parts = decode(&full(&state));
            assert_eq!(parts.len(), *want, "{name}");
            let mut entries = Vec::new();
            for (index, part) in parts.into_iter().enumerate() {
                let Message::Full(part) = part else { panic!("{name}: {part:?}") };
                assert_eq!(usize::try_from(part.part).unwrap(), index, "{name}");
                assert_eq!(part.last, index + 1 == *want, "{name}");
                entries.extend(part.entries.iter().map(|entry| convert::stored_from_wire(entry).unwrap()));
            }
            let position = state.position();
            let back =
                State::from_entries(state.environment().clone(), position.epoch, position.revision, entries);
            assert_eq!(back, state, "{name}");
        }
    }

    #[test]
    fn a_large_change_comes_in_parts_that_say_so() {
        let before = state_of(&[]);
        let writes: Vec<_> = (0..3)
            .map(|n| {
                EntryWrite::set(
                    EntryId::new(EntryKind::FLAG, &format!("f{n}")),
                    vec![b'x'; DEFINITION_MAX_BYTES],
                )
            })
            .collect();
        let change = before.delta(writes);
        let parts = decode(&delta(&change));
        assert_eq!(parts.len(), 3);
        let mut whole: Option<stream::Delta> = None;
        for (index, part) in parts.into_iter().enumerate() {
            let Message::Delta(part) = part else { panic!("{part:?}") };
            assert_eq!(part.more, index < 2);
            match &mut whole {
                None => whole = Some(part),
                Some(whole) => whole.entries.extend(part.entries),
            }
        }
        assert_eq!(convert::delta_from_wire(&whole.unwrap()), Ok(change));
    }

    #[test]
    fn only_what_becomes_smaller_goes_compressed() {
        use std::io::Read as _;
        let (long, short) = (full(&state_of(&[5_000])), full(&state_of(&[])));
        let messages = [long, short].concat();
        let sent = compressed(&messages);
        assert_eq!(sent[1], messages[1], "a few bytes");
        let bytes = sent[0].clone().into_data();
        assert_eq!(bytes.first(), Some(&1));
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(&sent[0].message()[..]).read_to_end(&mut back).unwrap();
        assert_eq!(back, messages[0].message());
    }

    #[test]
    fn an_empty_change_is_one_frame() {
        let before = state_of(&[]);
        assert_eq!(delta(&before.delta(vec![])).len(), 1);
    }
}
