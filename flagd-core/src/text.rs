//! A short text that lies where it is used.
//!
//! Names of flags and attributes, and most operands, are shorter than two dozen bytes. Behind a pointer each
//! would be one more line of memory to wait for; here it lies beside what is read anyway. Longer texts are
//! kept on the heap, and nobody sees a difference but the clock.

use std::cmp::Ordering;
use std::fmt;

use crate::same::same_bytes;

/// What fits in beside the length and the mark of the kind, in three words.
const SHORT_MAX: usize = 22;

/// A text, inline when it is short. Equal texts are of the same kind, and the unused bytes are zero, so the
/// derived comparison, which looks at whole words, is right.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Text {
    Short { length: u8, bytes: [u8; SHORT_MAX] },
    Long(Box<str>),
}

impl Text {
    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Text::Short { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Text::Long(text) => text.as_bytes(),
        }
    }

    /// The text itself. Reads all of it: not for the hot path.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Text::Short { .. } => std::str::from_utf8(self.as_bytes()).unwrap_or_default(),
            Text::Long(text) => text,
        }
    }

    /// Whether it is this text.
    #[inline]
    pub(crate) fn is(&self, text: &str) -> bool {
        same_bytes(self.as_bytes(), text.as_bytes())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        let mut bytes = [0; SHORT_MAX];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(start), Ok(length)) => {
                start.copy_from_slice(text.as_bytes());
                Text::Short { length, bytes }
            }
            _ => Text::Long(text.into()),
        }
    }
}

impl Default for Text {
    fn default() -> Text {
        Text::Short { length: 0, bytes: [0; SHORT_MAX] }
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
            assert_eq!(matches!(kept, Text::Short { .. }), length <= SHORT_MAX);
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
