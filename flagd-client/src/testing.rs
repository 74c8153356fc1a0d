//! Flags for tests: the same [`Client`] type, without a server, changeable in mid-test.
//!
//! A test that forgets a flag would pass with the default and prove nothing, so asking for an undeclared key
//! panics unless the test says [`lenient`](Flags::lenient).
//!
//! ```
//! use flagd_client::{Context, testing};
//!
//! let (flags, handle) = testing::flags().on("new-checkout").value("ranking", "v2").build_with_handle();
//! let user = Context::new("user-1");
//! assert!(flags.is_enabled("new-checkout", &user));
//! assert_eq!(flags.string("ranking", &user, "v1"), "v2");
//!
//! handle.kill("new-checkout");
//! assert!(!flags.is_enabled("new-checkout", &user));
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use flagd_core::canonical::write_kill;
use flagd_core::definition::Kill;
use flagd_core::entry::{EntryId, EntryKind, StoredEntry};
use flagd_core::revision::{Epoch, Revision};
use flagd_core::state::State;
use flagd_core::time::Timestamp;
use serde_json::{Map, Value, json};

use crate::client::Client;
use crate::local::{client_of, embedded_environment, show, state_of};
use crate::shared::{Shared, Undeclared};

/// Begins to declare the flags of a test.
pub fn flags() -> Flags {
    Flags { declared: Declared::default(), undeclared: Undeclared::Panics }
}

/// The flags of a test, before they are built.
#[derive(Clone, Debug)]
#[must_use = "call `build`"]
pub struct Flags {
    declared: Declared,
    undeclared: Undeclared,
}

#[derive(Clone, Debug, Default)]
struct Declared {
    flags: Map<String, Value>,
    segments: Map<String, Value>,
    killed: BTreeSet<String>,
}

impl Flags {
    /// A boolean flag that serves `true` to everybody.
    pub fn on(self, key: &str) -> Flags {
        self.value(key, true)
    }

    /// A boolean flag that serves `false` to everybody.
    pub fn off(self, key: &str) -> Flags {
        self.value(key, false)
    }

    /// A flag that serves this value to everybody.
    pub fn value(mut self, key: &str, value: impl Into<Value>) -> Flags {
        self.declared.set(key, value.into());
        self
    }

    /// Whole definitions, with rules and splits: `{"flags": {...}, "segments": {...}}`.
    ///
    /// # Panics
    /// When the text is no such object.
    pub fn definitions(mut self, text: &str) -> Flags {
        self.declared.add(text);
        self
    }

    /// Asking for an undeclared key gives the caller's default, as in production.
    pub fn lenient(mut self) -> Flags {
        self.undeclared = Undeclared::Told;
        self
    }

    /// The client.
    ///
    /// # Panics
    /// When a key, a value or a definition is wrong.
    #[must_use]
    pub fn build(self) -> Client {
        self.build_with_handle().0
    }

    /// The client and what changes its flags in mid-test.
    ///
    /// # Panics
    /// When a key, a value or a definition is wrong.
    #[must_use]
    pub fn build_with_handle(self) -> (Client, Handle) {
        let client = client_of(&self.declared.state(Revision(1)), self.undeclared);
        let declared = Mutex::new((Revision(1), self.declared));
        let handle = Handle { shared: Arc::clone(&client.shared), declared: Arc::new(declared) };
        (client, handle)
    }
}

/// Changes the flags of a test; every call is one revision.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
    declared: Arc<Mutex<(Revision, Declared)>>,
}

impl Handle {
    /// The boolean flag serves `true` from now on.
    pub fn on(&self, key: &str) {
        self.set(key, true);
    }

    /// The boolean flag serves `false` from now on.
    pub fn off(&self, key: &str) {
        self.set(key, false);
    }

    /// The flag serves this value from now on, whatever it was before.
    ///
    /// # Panics
    /// When the key or the value is wrong.
    pub fn set(&self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        self.change(|declared| declared.set(key, value));
    }

    /// Adds or replaces whole definitions.
    ///
    /// # Panics
    /// When a definition is wrong.
    pub fn definitions(&self, text: &str) {
        self.change(|declared| declared.add(text));
    }

    /// The flag is killed from now on: it serves its off variant.
    pub fn kill(&self, key: &str) {
        self.change(|declared| {
            declared.killed.insert(key.to_owned());
        });
    }

    /// The kill is lifted.
    pub fn revive(&self, key: &str) {
        self.change(|declared| {
            declared.killed.remove(key);
        });
    }

    /// The flag is no longer declared.
    pub fn remove(&self, key: &str) {
        self.change(|declared| drop(declared.flags.remove(key)));
    }

    fn change(&self, edit: impl FnOnce(&mut Declared)) {
        let mut guard = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
        let (revision, declared) = &mut *guard;
        edit(declared);
        *revision = revision.next();
        show(&self.shared, &declared.state(*revision));
    }
}

impl Declared {
    fn set(&mut self, key: &str, value: Value) {
        let definition = match value {
            Value::Bool(on) => json!({"otherwise": if on { "on" } else { "off" }}),
            value => json!({"variants": {"value": value}, "offVariant": "value"}),
        };
        self.flags.insert(key.to_owned(), definition);
    }

    fn add(&mut self, text: &str) {
        let file: Result<BTreeMap<String, Map<String, Value>>, _> = serde_json::from_str(text);
        assert!(
            file.is_ok(),
            "definitions are `{{\"flags\": {{...}}, \"segments\": {{...}}}}`, this is: {text}"
        );
        for (section, members) in file.unwrap_or_default() {
            match section.as_str() {
                "flags" => self.flags.extend(members),
                "segments" => self.segments.extend(members),
                other => panic!("definitions have `flags` and `segments`, not `{other}`"),
            }
        }
    }

    /// The whole is planned anew, so that a flag may even change its type between two steps of a test.
    fn state(&self, revision: Revision) -> State {
        let text = json!({"flags": self.flags, "segments": self.segments}).to_string();
        let state = match embedded_environment().and_then(|name| state_of(&text, name, revision)) {
            Ok(state) => state,
            Err(error) => panic!("the test's flags are wrong: {error}"),
        };
        let kill = Kill {
            off_variant: None,
            value: None,
            by: "test".into(),
            at: Timestamp::default(),
            reason: None,
        };
        let bytes: Arc<[u8]> = write_kill(&kill).into_bytes().into();
        let kills = self.killed.iter().map(|key| {
            (EntryId::new(EntryKind::KILL, key), StoredEntry { bytes: Arc::clone(&bytes), revision })
        });
        let entries: Vec<_> =
            state.entries().map(|(id, entry)| (id.clone(), entry.clone())).chain(kills).collect();
        State::from_entries(state.environment().clone(), Epoch::default(), revision, entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Context, Reason};

    #[test]
    fn flags_change_in_mid_test_and_each_change_is_a_revision() {
        let (flags, handle) = flags().on("a").off("b").value("n", 3).build_with_handle();
        let user = Context::new("u");
        assert!(flags.is_enabled("a", &user) && !flags.is_enabled("b", &user));
        assert_eq!(flags.integer("n", &user, 0), 3);
        let before = flags.snapshot();
        handle.off("a");
        handle.set("n", "now a text");
        assert!(!flags.is_enabled("a", &user) && before.is_enabled("a", &user));
        assert_eq!(flags.string("n", &user, ""), "now a text");
        assert_eq!((before.revision(), flags.revision()), (1, 3));
        handle.on("a");
        handle.kill("a");
        assert_eq!(flags.bool_detail("a", &user, true).reason, Reason::Killed);
        handle.revive("a");
        assert!(flags.is_enabled("a", &user));
    }

    #[test]
    #[should_panic(expected = "asks for the flag `forgotten`")]
    fn an_undeclared_key_fails_the_test() {
        let _ = flags().on("a").build().is_enabled("forgotten", &Context::new("u"));
    }

    #[test]
    fn a_lenient_test_gets_the_default() {
        let flags = flags().lenient().build();
        assert_eq!(flags.integer("forgotten", &Context::new("u"), 7), 7);
        assert_eq!(flags.status().counters.not_found, 1);
    }

    #[test]
    fn whole_definitions_have_rules() {
        let rule = r#"{"flags": {"f": {"rules": [{"name": "de", "if": {"attribute": "country", "equals": "DE"}, "serve": "on"}]}}}"#;
        let flags = flags().definitions(rule).build();
        assert!(flags.is_enabled("f", &Context::new("u").with("country", "DE")));
        assert!(!flags.is_enabled("f", &Context::new("u").with("country", "FR")));
    }
}
