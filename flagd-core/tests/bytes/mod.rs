//! Arbitrary bytes at every door of the engine: nothing panics, and what is accepted keeps its promises.
//!
//! `flagd-core/tests/fuzz.rs` calls these with mutated examples on every test run; `fuzz/` calls them with what libFuzzer
//! finds. They know nothing of where the bytes come from.

use std::collections::BTreeMap;

use flagd_core::canonical::{Form, write_flag, write_kill, write_segment};
use flagd_core::context::Context;
use flagd_core::definition::{
    parse_file, parse_flag, parse_kill, parse_segment, parse_stored_flag, parse_stored_segment,
    parse_tombstone,
};
use flagd_core::entry::{EntryId, EntryKind, EntryWrite, StoredEntry};
use flagd_core::key::{EnvironmentName, FlagKey, SegmentKey};
use flagd_core::part::{self, PartNumber};
use flagd_core::revision::{Epoch, Revision};
use flagd_core::snapshot::{Snapshot, Touched};
use flagd_core::state::State;
use flagd_core::time::Timestamp;

const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);

/// A definition is refused with problems, or read, written and read again as the same.
pub(crate) fn definition(bytes: &[u8]) {
    let kill = parse_kill(bytes);
    assert_eq!(parse_kill(write_kill(&kill).as_bytes()), kill, "a kill that was written is read as it was");
    let _ = parse_tombstone(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (flag, segment) = (FlagKey::new("f").unwrap(), SegmentKey::new("s").unwrap());
    let _ = parse_stored_segment(&segment, text);
    if let Ok(read) = parse_flag(&flag, text) {
        assert!(parse_stored_flag(&flag, text).is_ok(), "what a writer takes, a client understands");
        let written = write_flag(&flag, &read, Form::Stored);
        let again = parse_flag(&flag, &written).expect("what was written is read");
        assert_eq!(again, read);
        assert_eq!(write_flag(&flag, &again, Form::Stored), written);
        let readable =
            parse_flag(&flag, &write_flag(&flag, &read, Form::Readable)).expect("so is the readable form");
        assert_eq!(readable.variants, read.variants);
    }
    let number = PartNumber::of(text.split('"').nth(1).unwrap_or_default());
    if let Ok(units) = part::read(number, bytes) {
        let written = part::write(units.iter().map(|unit| &**unit)).unwrap_or_else(|| (*b"[]").into());
        assert_eq!(*written, *bytes, "a part is exactly what is written of it");
        assert_eq!(part::count(bytes), units.len());
    }
    if let Ok(read) = parse_segment(&segment, text) {
        let written = write_segment(&segment, &read, Form::Stored);
        assert_eq!(parse_segment(&segment, &written).expect("what was written is read"), read);
    }
    match parse_file(text) {
        Ok(_) => {}
        Err(problems) => assert!(!problems.is_empty(), "a refusal says why"),
    }
}

/// Entries of any content in one state: whatever is refused, every flag and every context has an answer.
///
/// The parts lie between lines of `---`: a context, then entries, of which the first two bytes choose kind and key.
pub(crate) fn evaluation(bytes: &[u8]) {
    let mut parts = split(bytes);
    let context = parts.next().and_then(|part| serde_json::from_slice(part).ok());
    let context = context.and_then(|json| Context::from_json(&json).ok()).unwrap_or_default();
    let entries = parts.filter_map(entry).enumerate().map(|(n, (id, bytes))| {
        // Two entries of each change, so that what is refused takes others with it.
        (id, StoredEntry { bytes: bytes.into(), revision: Revision(1 + n as u64 / 2) })
    });
    let environment = EnvironmentName::new("default").unwrap();
    let state = State::from_entries(environment, Epoch::default(), Revision(100), entries);
    answers(&Snapshot::build(&state, &BTreeMap::new()), &context);
}

/// Deltas of any content, some of them damaged: each is applied whole or not at all, and the digest is that of the whole.
pub(crate) fn delta(bytes: &[u8]) {
    let mut state = State::empty(EnvironmentName::new("default").unwrap(), Epoch::default());
    let mut snapshot = Snapshot::build(&state, &BTreeMap::new());
    for part in split(bytes) {
        let Some((damage, rest)) = part.split_first() else { continue };
        let halves = rest.split(|byte| *byte == b'\n').filter_map(entry);
        // Each entry once, as a delta promises.
        let writes: BTreeMap<EntryId, EntryWrite> = halves
            .map(|(id, bytes)| {
                (id.clone(), EntryWrite { id, bytes: (!bytes.is_empty()).then(|| bytes.into()) })
            })
            .collect();
        let mut delta = state.delta(writes.into_values().collect());
        match damage {
            0 => delta.digest_after.0 ^= 1,
            1 => delta.from = Revision(delta.from.0.wrapping_add(1)),
            2 => delta.epoch.random ^= 1,
            3 => delta.to = delta.from,
            _ => {}
        }
        let before = state.clone();
        let applied = state.apply(&delta).is_ok();
        assert_eq!(applied, *damage > 3, "exactly the damaged ones are refused");
        if !applied {
            assert_eq!(state, before);
            continue;
        }
        let entries: Vec<_> = state.entries().map(|(id, entry)| (id.clone(), entry.clone())).collect();
        let whole =
            State::from_entries(state.environment().clone(), Epoch::default(), state.revision(), entries);
        assert_eq!(whole, state, "by deltas as from the whole");
        let touched: Vec<EntryId> = delta.writes.iter().map(|write| write.id.clone()).collect();
        snapshot = snapshot.derive(&state, Touched::Only(&touched));
        answers(&snapshot, &Context::new("u").with("a", "x"));
    }
}

/// A pattern, a requirement or a network of any text, and a value of any text.
pub(crate) fn operand(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (operand, value) = text.split_once('\n').unwrap_or((text, text));
    let context = Context::anonymous().with("a", value);
    for operator in
        ["matches", "semver", "cidr", "before", "after", "equals", "contains", "startsWith", "endsWith"]
    {
        let condition = serde_json::json!({"attribute": "a", operator: operand});
        let flag = serde_json::json!({"rules": [{"name": "r", "if": condition, "serve": "on"}]}).to_string();
        let Ok(_) = parse_flag(&FlagKey::new("f").unwrap(), &flag) else { continue };
        let entry = StoredEntry { bytes: flag.as_bytes().into(), revision: Revision(1) };
        let environment = EnvironmentName::new("default").unwrap();
        let state = State::from_entries(
            environment,
            Epoch::default(),
            Revision(1),
            [(EntryId::new(EntryKind::FLAG, "f"), entry)],
        );
        let snapshot = Snapshot::build(&state, &BTreeMap::new());
        assert!(snapshot.refused().is_empty(), "{operator}: what a writer takes, a client understands");
        let holds = snapshot.evaluate("f", &context, NOW).variant == Some("on");
        if operator == "semver" {
            let requirement = semver::VersionReq::parse(operand).expect("it was taken");
            let expected = semver::Version::parse(value).is_ok_and(|version| requirement.matches(&version));
            assert_eq!(holds, expected, "{value:?} against {operand:?}");
        }
    }
}

fn split(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let whole = rest?;
        let end = whole.windows(5).position(|window| window == b"\n---\n");
        rest = end.and_then(|end| whole.get(end + 5..));
        Some(end.map_or(whole, |end| &whole[..end]))
    })
}

/// Kinds 0 to 7 and a handful of keys (for parts those of a part each), so that entries refer to one another, to nothing and to themselves.
fn entry(bytes: &[u8]) -> Option<(EntryId, &[u8])> {
    const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "not a key"];
    // 0de is the part of `u`, which contexts have for a key.
    const PARTS: [&str; 6] =
        ["b/include/0de", "b/exclude/0de", "d/include/0de", "d/include/000", "d/exclude/fff", "d/include"];
    let (head, rest) = bytes.split_at_checked(2)?;
    let kind = EntryKind::from_number(u32::from(head[0] % 8));
    let keys = if kind == EntryKind::SEGMENT_PART { PARTS } else { KEYS };
    Some((EntryId::new(kind, keys[usize::from(head[1]) % keys.len()]), rest))
}

fn answers(snapshot: &Snapshot, context: &Context) {
    for key in ["a", "b", "c", "d", "e", "f", "not a key", ""] {
        let answer = snapshot.evaluate(key, context, NOW);
        assert!(answer.variant.is_none() || answer.value.is_some(), "a variant has a value");
        assert_eq!(snapshot.explain(key, context, NOW).reason, answer.reason.to_string(), "{key}");
    }
}
