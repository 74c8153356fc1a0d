//! Keys that the program asks for and that are not there, or are of another type.
//!
//! Such a key is a typing error or a flag that was archived too early, and the getter silently serves the
//! default. So it is told once per key, with the key that was probably meant, and counted. A key may come from
//! a user's input, so only so many are remembered; the rest are counted together. Only getters that failed
//! come here: an evaluation that succeeds counts nothing.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;
use flagd_core::problem::nearest;

use crate::view::View;

/// Keys that are remembered by name.
const KEYS_MAX: usize = 1_000;
/// With more flags than this the nearest key is not looked for: the caller is on a request's path.
const NEAREST_FLAGS_MAX: usize = 10_000;

/// A key that was asked for in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissedKey {
    /// The key, as the program spells it.
    pub key: String,
    /// How often there was no such flag.
    pub not_found: u64,
    /// How often the flag was of another type.
    pub type_mismatch: u64,
    /// The flag that was probably meant.
    pub nearest: Option<String>,
}

/// What went wrong with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    NotFound,
    TypeMismatch,
}

#[derive(Debug, Default)]
struct Record {
    not_found: AtomicU64,
    type_mismatch: AtomicU64,
    nearest: Option<Box<str>>,
}

/// The keys that were asked for in vain, and how often.
#[derive(Debug, Default)]
pub(crate) struct Misuse {
    keys: DashMap<Box<str>, Record>,
    remembered: AtomicUsize,
    not_found: AtomicU64,
    type_mismatch: AtomicU64,
    not_ready: AtomicU64,
}

impl Misuse {
    /// There is no state yet; that is no mistake of the key's.
    pub(crate) fn count_not_ready(&self) {
        self.not_ready.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a mistake and tells it when it is the key's first of its sort.
    pub(crate) fn count(&self, key: &str, mistake: Mistake, view: &View) {
        let total = match mistake {
            Mistake::NotFound => &self.not_found,
            Mistake::TypeMismatch => &self.type_mismatch,
        };
        total.fetch_add(1, Ordering::Relaxed);
        if let Some(record) = self.keys.get(key) {
            if record.add(mistake) == 0 {
                tell(key, mistake, record.nearest.as_deref(), view);
            }
            return;
        }
        if self.remembered.fetch_add(1, Ordering::Relaxed) >= KEYS_MAX {
            // Undone so that the counter cannot run over; the bound may be passed by a few, never by many.
            self.remembered.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let near = (mistake == Mistake::NotFound).then(|| nearest_key(key, view)).flatten();
        let record =
            self.keys.entry(key.into()).or_insert_with(|| Record { nearest: near, ..Record::default() });
        if record.add(mistake) == 0 {
            tell(key, mistake, record.nearest.as_deref(), view);
        }
    }

    /// All remembered keys, in byte order.
    pub(crate) fn list(&self) -> Vec<MissedKey> {
        let mut list: Vec<MissedKey> = self
            .keys
            .iter()
            .map(|entry| MissedKey {
                key: entry.key().to_string(),
                not_found: entry.not_found.load(Ordering::Relaxed),
                type_mismatch: entry.type_mismatch.load(Ordering::Relaxed),
                nearest: entry.nearest.as_deref().map(str::to_owned),
            })
            .collect();
        list.sort_by(|a, b| a.key.cmp(&b.key));
        list
    }

    /// Not ready, not found, type mismatch: how often, over all keys.
    pub(crate) fn totals(&self) -> (u64, u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.not_ready), load(&self.not_found), load(&self.type_mismatch))
    }
}

impl Record {
    /// Counts, and says how often it had happened before.
    fn add(&self, mistake: Mistake) -> u64 {
        match mistake {
            Mistake::NotFound => self.not_found.fetch_add(1, Ordering::Relaxed),
            Mistake::TypeMismatch => self.type_mismatch.fetch_add(1, Ordering::Relaxed),
        }
    }
}

fn nearest_key(key: &str, view: &View) -> Option<Box<str>> {
    let keys = view.compiled.as_ref()?.flag_keys();
    if keys.len() > NEAREST_FLAGS_MAX {
        return None;
    }
    nearest(key, keys).map(Into::into)
}

fn tell(key: &str, mistake: Mistake, near: Option<&str>, view: &View) {
    let revision = view.position.revision.0;
    match (mistake, near) {
        (Mistake::NotFound, Some(near)) => {
            tracing::warn!(
                flag = key,
                revision,
                "no flag `{key}`, serving the caller's default; did you mean `{near}`?"
            );
        }
        (Mistake::NotFound, None) => {
            tracing::warn!(flag = key, revision, "no flag `{key}`, serving the caller's default");
        }
        (Mistake::TypeMismatch, _) => {
            let found = view.compiled.as_ref().and_then(|compiled| compiled.flag_type(key));
            let found = found.map_or("of another type", flagd_core::definition::FlagType::word);
            tracing::warn!(
                flag = key,
                revision,
                "flag `{key}` is {found}, not what the getter asks for; serving the caller's default"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_remembered_once_and_counted_often() {
        let misuse = Misuse::default();
        for _ in 0..3 {
            misuse.count("nope", Mistake::NotFound, &View::nothing());
        }
        misuse.count("nope", Mistake::TypeMismatch, &View::nothing());
        let list = misuse.list();
        assert_eq!(list.len(), 1);
        assert_eq!((list[0].not_found, list[0].type_mismatch), (3, 1));
        assert_eq!(misuse.totals(), (0, 3, 1));
    }

    #[test]
    fn keys_from_users_cannot_fill_the_memory() {
        let misuse = Misuse::default();
        for number in 0..KEYS_MAX + 500 {
            misuse.count(&format!("key-{number}"), Mistake::NotFound, &View::nothing());
        }
        assert_eq!(misuse.list().len(), KEYS_MAX);
        assert_eq!(misuse.totals().1, 1_500);
    }
}
