//! A short text that lies where it is used.
//!
//! Names of flags and attributes, and most operands, are shorter than two dozen bytes. Behind a pointer each
//! would be one more line of memory to wait for; here it lies beside what is read anyway. Longer texts are
//! kept on the heap, and nobody sees a difference but the clock.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;

use crate::same::same_bytes;

/// What fits in beside the length and the mark of the kind, in three words.
const SHORT_MAX: usize = 22;

/// A text, inline when it is short. Equal texts are of the same kind, and the unused bytes are zero, so the
/// derived comparison, which looks at whole words, is right.
#[derive(Clone, PartialEq, Eq)]
pub struct Text(Kind);

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Short { length: u8, bytes: [u8; SHORT_MAX] },
    Long(Box<str>),
}

impl Text {
    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Kind::Short { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Kind::Long(text) => text.as_bytes(),
        }
    }

    /// The text itself. Reads all of it: not for the hot path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Kind::Short { .. } => std::str::from_utf8(self.as_bytes()).unwrap_or_default(),
            Kind::Long(text) => text,
        }
    }

    /// Whether it is this text.
    #[inline]
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        same_bytes(self.as_bytes(), text.as_bytes())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        let mut bytes = [0; SHORT_MAX];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(start), Ok(length)) => {
                start.copy_from_slice(text.as_bytes());
                Text(Kind::Short { length, bytes })
            }
            _ => Text(Kind::Long(text.into())),
        }
    }
}

impl Default for Text {
    fn default() -> Text {
        Text(Kind::Short { length: 0, bytes: [0; SHORT_MAX] })
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Text) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Text) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

/// Odd and without a pattern (digits of pi); they keep a text of zeros from hashing to zero.
const KEYS: [u64; 4] =
    [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345, 0xa409_3822_299f_31d1, 0x082e_fa98_ec4e_6c89];

/// The hash of a text. The texts come from operators, not from the public, so it needs no secret. Most names
/// are of a length that two pieces from both ends cover; they are spread here, without a call.
#[inline]
#[must_use]
pub fn hash(text: &str) -> u64 {
    let [a, b, c, d] = KEYS;
    let bytes = text.as_bytes();
    let length = bytes.len() as u64;
    let ends = match bytes.len() {
        4..8 => bytes.first_chunk().zip(bytes.last_chunk()).map(|(first, last)| {
            fold(u64::from(u32::from_le_bytes(*first)) ^ a ^ length, u64::from(u32::from_le_bytes(*last)) ^ b)
        }),
        2..4 => bytes.first_chunk().zip(bytes.last_chunk()).map(|(first, last)| {
            fold(u64::from(u16::from_le_bytes(*first)) ^ a ^ length, u64::from(u16::from_le_bytes(*last)) ^ b)
        }),
        8..=16 => bytes.first_chunk().zip(bytes.last_chunk()).map(|(first, last)| {
            fold(u64::from_le_bytes(*first) ^ a ^ length, u64::from_le_bytes(*last) ^ b)
        }),
        17..=32 => bytes.first_chunk().zip(bytes.last_chunk()).map(|(first, last)| {
            let ([a1, b1], [a2, b2]) = (halves(*first), halves(*last));
            fold(a1 ^ a ^ length, b1 ^ b) ^ fold(a2 ^ c, b2 ^ d)
        }),
        _ => None,
    };
    ends.unwrap_or_else(|| hash_other(bytes))
}

fn hash_other(bytes: &[u8]) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

/// Both halves of the product: every bit of the factors reaches the middle ones.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let (low, high) = a.carrying_mul(b, 0);
    low ^ high
}

#[inline]
fn halves(bytes: [u8; 16]) -> [u64; 2] {
    let [low, high] = bytes.as_chunks::<8>().0 else { return [0; 2] };
    [u64::from_le_bytes(*low), u64::from_le_bytes(*high)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_texts_are_themselves() {
        assert_eq!(size_of::<Text>(), 24);
        for length in 0..60 {
            let text = "x".repeat(length);
            let kept = Text::from(text.as_str());
            assert_eq!((kept.as_str(), kept.as_bytes()), (text.as_str(), text.as_bytes()));
            assert!(kept.is(&text) && kept == Text::from(text.as_str()), "{length}");
            let other = format!("{text}y");
            assert!(!kept.is(&other) && kept != Text::from(other.as_str()), "{length}");
            assert!(kept < Text::from(other.as_str()), "{length}");
            assert_eq!(matches!(kept.0, Kind::Short { .. }), length <= SHORT_MAX);
        }
    }

    #[test]
    fn a_character_is_never_cut() {
        for text in ["\u{e9}".repeat(11), "\u{e9}".repeat(12), "\u{1f600}".repeat(6), "a\0".to_owned()] {
            assert_eq!(Text::from(text.as_str()).as_str(), text);
        }
        assert_ne!(Text::from("a"), Text::from("a\0"));
    }
}
