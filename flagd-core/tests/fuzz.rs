//! Mutated examples at every door of the engine, a little on every run; `fuzz/` looks longer.
//!
//! An example is cut, joined with another, repeated and damaged, so that most inputs are nearly right: that is where
//! readers go wrong. What is asserted stands in `bytes/mod.rs`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test: a panic is a failed test"
)]

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

#[path = "bytes/mod.rs"]
mod bytes;

const DEFINITIONS: &[&str] = &[
    r#"{"rollout": 25, "salt": "s", "tags": ["a"], "metadata": {"k": [1.5, null]}}"#,
    r#"{"variants":{"a":1,"b":2.5},"offVariant":"a","requires":[{"flag":"b","serves":["on"]}],"rules":[{"name":"r","if":{"all":[{"attribute":"a","equals":"x","ignoreCase":true},{"not":{"segment":"c"}}]},"serve":{"split":[{"a":40},{"b":60}],"by":"id.x"}}],"otherwise":{"split":{"a":0.0001,"b":99.9999}}}"#,
    r#"{"flags": {"f": {}}, "segments": {"s": {"include": ["u"], "exclude": ["v"], "if": {"time": {"after": "2026-01-01T00:00:00Z"}}}}}"#,
    r#"{"by": "id", "include": ["1", "\ud83d\ude00"], "if": {"any": [{"attribute": "a", "in": [1, true, "x", 9007199254740993]}, {"segment": "a"}]}}"#,
    r#"{"offVariant":"off","value":{"a":[1]},"by":"me","at":"2026-01-01T00:00:00.123Z","reason":"why"}"#,
    r#"{"type":"boolean","salt":"s","definition":{"rollout":5},"by":"me","at":"2026-01-01T00:00:00Z"}"#,
    r#"{"rules":[{"name":"r","if":{"attribute":"v","semver":">=1.2, <2"},"serve":"on"},{"name":"q","if":{"attribute":"ip","cidr":["10.0.0.0/8","::/0"]},"serve":"off"},{"name":"p","if":{"attribute":"m","matches":"^(a|b)+$"},"serve":"on"}]}"#,
    "\n---\n\x01a{}",
    "\n---\n\x02c{\"include\":[\"u\"]}",
    "\n---\n\x03a{}",
    "\n---\n\x02c{\"includeParts\":4096,\"exclude\":[\"v\"]}\n---\n\x06b[\"u\"]",
    "\n---\n\x02a{\"excludeParts\":4096}\n---\n\x06a[\"u\"]",
    "\n---\n\x01b{\"rules\":[{\"name\":\"r\",\"if\":{\"segment\":\"d\"},\"serve\":\"on\"}]}",
    "[\"a\\\"b\",\"u\\n\",\"\u{1f600}\"]",
    "\n---\n\x01b{\"requires\":[{\"flag\":\"a\",\"serves\":[\"on\"]}]}",
    "\n---\n\x09\x01a{\"otherwise\":\"on\"}\n\x02b{}",
    "{\"targetingKey\":\"u\",\"a\":[1,\"x\"]}",
];

const OPERANDS: &[&str] = &[
    "^1.2.3-alpha.1+b, <2",
    "1.2.3-alpha.1",
    ">=0.0.0",
    "~1.2",
    "1.*",
    "10.0.0.0/8",
    "::ffff:10.0.0.1",
    "2001:db8::/32",
    "10.0.0.1",
    "(a|b)*[c-z]{2,3}$",
    "(?i)\\p{Lu}\\b",
    "x{1000}{1000}",
    "2026-01-01T00:00:00.5+01:00",
    "aabbccc",
    "\n",
    "e\u{301}\u{1f600}",
];

/// What is done to an input.
#[derive(Clone, Debug)]
enum Damage {
    Set(Index, u8),
    Insert(Index, u8),
    Cut(Index, usize),
    Repeat(Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let byte = prop_oneof![any::<u8>(), select(b"{}[]\":,.-+0919eE\\ntfu \n\x00\xff<>=~^*/(".to_vec())];
    prop_oneof![
        3 => (any::<Index>(), byte.clone()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        2 => (any::<Index>(), byte).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        2 => (any::<Index>(), 1_usize..20).prop_map(|(at, length)| Damage::Cut(at, length)),
        1 => (any::<Index>(), 1_usize..40).prop_map(|(at, length)| Damage::Repeat(at, length)),
    ]
}

fn damaged(examples: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    (vec(select(examples), 1..5), vec(damage(), 0..6)).prop_map(|(parts, damages)| {
        let mut bytes = parts.concat().into_bytes();
        for damage in damages {
            let at = |index: Index, bytes: &[u8]| index.index(bytes.len() + 1);
            match damage {
                Damage::Set(index, byte) if !bytes.is_empty() => {
                    let at = index.index(bytes.len());
                    bytes[at] = byte;
                }
                Damage::Set(_, byte) => bytes.push(byte),
                Damage::Insert(index, byte) => bytes.insert(at(index, &bytes), byte),
                Damage::Cut(index, length) => {
                    let start = at(index, &bytes);
                    bytes.drain(start..bytes.len().min(start + length));
                }
                Damage::Repeat(index, length) => {
                    let start = at(index, &bytes);
                    let copy = bytes[start..bytes.len().min(start + length)].to_vec();
                    bytes.splice(start..start, copy);
                }
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn any_bytes_are_a_definition_or_a_list_of_problems(input in prop_oneof![4 => damaged(DEFINITIONS), 1 => vec(any::<u8>(), 0..200)]) {
        bytes::definition(&input);
    }

    #[test]
    fn any_state_is_evaluated(input in damaged(DEFINITIONS)) {
        bytes::evaluation(&input);
    }

    #[test]
    fn any_deltas_are_applied_whole_or_not_at_all(input in damaged(DEFINITIONS)) {
        bytes::delta(&input);
    }

    #[test]
    fn any_operand_meets_any_value(input in damaged(OPERANDS)) {
        bytes::operand(&input);
    }
}
