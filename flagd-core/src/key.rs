//! Names that cannot be wrong.
//!
//! A flag's key ends up in code, on command lines, in file names, in URLs and in etcd keys; an odd character
//! in one of these places is an outage at an odd hour. So a name is checked once, where it enters, and its
//! type says that it was. This file does not know what the names refer to.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::limits;

/// Why a text is not a name. The message states the rule and the offending place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The text is empty. Do: give a name.
    #[error("{} must not be empty", with_article(.what))]
    Empty {
        /// The kind of name that was expected.
        what: &'static str,
    },
    /// The text is longer than the limit. Do: shorten it.
    #[error("{} has at most {max_bytes} bytes; this one has {bytes}", with_article(.what))]
    TooLong {
        /// The kind of name that was expected.
        what: &'static str,
        /// Its length in bytes.
        bytes: usize,
        /// The limit in bytes.
        max_bytes: usize,
    },
    /// The text holds a character outside the alphabet. Do: use only the characters listed.
    #[error("{} holds only {alphabet}; `{found}` at byte {at} is not one of them", with_article(.what))]
    Alphabet {
        /// The kind of name that was expected.
        what: &'static str,
        /// The alphabet in words.
        alphabet: &'static str,
        /// The first character outside it.
        found: char,
        /// Its offset in bytes.
        at: usize,
    },
}

/// Letters, digits, `.`, `_` and `-`, beginning with a letter, a digit or `_`: what flags, segments and variants use.
const KEY_ALPHABET: &str = "A-Z, a-z, 0-9, `.`, `_` and `-`, and begins with a letter, a digit or `_`";
/// What environments use: they become folder names and etcd prefixes on case-insensitive systems too.
const ENVIRONMENT_ALPHABET: &str = "a-z, 0-9 and `-`, and begins with a letter or a digit";
/// What rule names use: they are sentences for people.
const TEXT_ALPHABET: &str = "printable characters without control characters, and no space at either end";

/// `a flag key`, `an environment name`.
fn with_article(what: &str) -> String {
    let article = if what.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {what}")
}

fn check_key(what: &'static str, text: &str) -> Result<(), NameError> {
    check(what, text, limits::KEY_MAX_BYTES, KEY_ALPHABET, |at, c| {
        c.is_ascii_alphanumeric() || c == '_' || (at > 0 && (c == '.' || c == '-'))
    })
}

fn check_environment(what: &'static str, text: &str) -> Result<(), NameError> {
    check(what, text, limits::ENVIRONMENT_MAX_BYTES, ENVIRONMENT_ALPHABET, |at, c| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || (at > 0 && c == '-')
    })
}

fn check_text(what: &'static str, text: &str) -> Result<(), NameError> {
    let last = text.char_indices().last().map_or(0, |(at, _)| at);
    check(what, text, limits::KEY_MAX_BYTES, TEXT_ALPHABET, |at, c| {
        !c.is_control() && !(c.is_whitespace() && (at == 0 || at == last))
    })
}

fn check(
    what: &'static str,
    text: &str,
    max_bytes: usize,
    alphabet: &'static str,
    allowed: impl Fn(usize, char) -> bool,
) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    if text.len() > max_bytes {
        return Err(NameError::TooLong { what, bytes: text.len(), max_bytes });
    }
    match text.char_indices().find(|(at, c)| !allowed(*at, *c)) {
        None => Ok(()),
        Some((at, found)) => Err(NameError::Alphabet { what, alphabet, found, at }),
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and takes it as a name.
            ///
            /// # Errors
            /// [`NameError`] when the text is empty, too long or outside the alphabet.
            pub fn new(text: &str) -> Result<Self, NameError> {
                $check($what, text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type!(
    /// The name of a flag in its environment, such as `new-checkout`.
    FlagKey, "flag key", check_key
);
name_type!(
    /// The name of a segment in its environment, such as `staff`.
    SegmentKey, "segment key", check_key
);
name_type!(
    /// The name of one of a flag's variants, such as `on`.
    VariantName, "variant name", check_key
);
name_type!(
    /// The name of a namespace with its own history, such as `production`.
    EnvironmentName, "environment name", check_environment
);
name_type!(
    /// The name of a rule, unique in its flag; free text for people.
    RuleName, "rule name", check_text
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_name_is_english() {
        let said =
            [FlagKey::new("").unwrap_err(), EnvironmentName::new("").unwrap_err()].map(|e| e.to_string());
        assert!(said[0].starts_with("a flag key "), "{said:?}");
        assert!(said[1].starts_with("an environment name "), "{said:?}");
        assert!(
            EnvironmentName::new("A").unwrap_err().to_string().starts_with("an environment name holds only ")
        );
        let long = EnvironmentName::new(&"a".repeat(1000)).unwrap_err().to_string();
        assert!(long.starts_with("an environment name has at most "), "{long}");
    }

    #[test]
    fn names_are_checked_where_they_enter() {
        let long = "k".repeat(limits::KEY_MAX_BYTES);
        let too_long = "k".repeat(limits::KEY_MAX_BYTES + 1);
        let cases: &[(&str, &str, bool)] = &[
            ("plain", "new-checkout", true),
            ("dots and case", "Team.New_checkout-2", true),
            ("underscore first", "_internal", true),
            ("at the limit", &long, true),
            ("one past the limit", &too_long, false),
            ("empty", "", false),
            ("dash first", "-x", false),
            ("dot first", ".x", false),
            ("slash", "a/b", false),
            ("space", "a b", false),
            ("non-ASCII", "caf\u{e9}", false),
            ("NUL", "a\0", false),
        ];
        for (name, text, ok) in cases {
            assert_eq!(FlagKey::new(text).is_ok(), *ok, "{name}");
        }
    }

    #[test]
    fn environments_are_lower_case() {
        assert!(EnvironmentName::new("production-2").is_ok());
        assert!(EnvironmentName::new("Production").is_err());
        assert!(EnvironmentName::new("-a").is_err());
    }

    #[test]
    fn rule_names_are_sentences() {
        assert!(RuleName::new("staff & friends (EU)").is_ok());
        assert!(RuleName::new(" padded").is_err());
        assert!(RuleName::new("padded ").is_err());
        assert!(RuleName::new("a\nb").is_err());
    }

    #[test]
    fn the_message_names_the_place() {
        let error = FlagKey::new("new checkout").unwrap_err().to_string();
        assert!(error.contains("` ` at byte 3"), "{error}");
    }
}
