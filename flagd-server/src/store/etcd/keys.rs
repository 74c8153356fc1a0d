//! Where things lie in etcd: `/<prefix>/<environment>/...`, the same for every version of flagd.
//!
//! Revisions are padded to one length so that keys sort as revisions do. A name never holds a `/`, so environments
//! whose names begin alike stay apart.

use bytes::Bytes;
use flagd_core::key::EnvironmentName;
use flagd_core::revision::Revision;

use crate::store::{BlobId, RecordKind};

/// The keys of one prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    root: String,
}

/// From a key up to another, which is no longer in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) from: Bytes,
    pub(super) to: Bytes,
}

fn folder(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Request => "requests",
        RecordKind::Roster => "roster",
        RecordKind::Source => "sources",
        RecordKind::Checkpoint => "checkpoints",
        RecordKind::Meta => "meta",
    }
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Keys {
        Keys { root: format!("/{prefix}/") }
    }

    pub(super) fn head(&self, environment: &EnvironmentName) -> Bytes {
        format!("{}{environment}/head", self.root).into()
    }

    pub(super) fn change(&self, environment: &EnvironmentName, revision: Revision) -> Bytes {
        format!("{}{environment}/changes/{:020}", self.root, revision.0).into()
    }

    /// All changes from a revision on.
    pub(super) fn changes(&self, environment: &EnvironmentName, from: Revision) -> Range {
        // `0` is the character after `/`.
        let to = format!("{}{environment}/changes0", self.root).into();
        Range { from: self.change(environment, from), to }
    }

    pub(super) fn blob(&self, environment: &EnvironmentName, id: BlobId) -> Bytes {
        format!("{}{environment}/blobs/{id}", self.root).into()
    }

    pub(super) fn record(&self, environment: &EnvironmentName, kind: RecordKind, key: &str) -> Bytes {
        format!("{}{environment}/{}/{key}", self.root, folder(kind)).into()
    }

    /// All records of a sort.
    pub(super) fn records(&self, environment: &EnvironmentName, kind: RecordKind) -> Range {
        let folder = format!("{}{environment}/{}", self.root, folder(kind));
        Range { from: format!("{folder}/").into(), to: format!("{folder}0").into() }
    }

    /// Everything below the prefix, from the keys of the environment after `after` on.
    pub(super) fn environments(&self, after: Option<&str>) -> Range {
        let from = after.map_or_else(|| self.root.clone(), |after| format!("{}{after}0", self.root));
        let root = self.root.strip_suffix('/').unwrap_or(&self.root);
        Range { from: from.into(), to: format!("{root}0").into() }
    }

    /// Says that environments were kept below the prefix, and outlasts them: whoever removes the prefix, or all that
    /// begins like it, leaves this.
    pub(super) fn used(&self) -> Bytes {
        format!("/~flagd-stores{}", self.root.strip_suffix('/').unwrap_or(&self.root)).into()
    }

    /// A server that is there. `~` is in no environment's name.
    pub(super) fn server(&self, server: u128) -> Bytes {
        format!("{}~servers/{server:032x}", self.root).into()
    }

    /// All servers that are there.
    pub(super) fn servers(&self) -> Range {
        let folder = format!("{}~servers", self.root);
        Range { from: format!("{folder}/").into(), to: format!("{folder}0").into() }
    }

    /// The environment's part of a key below the prefix.
    pub(super) fn environment_of<'a>(&self, key: &'a [u8]) -> Option<&'a str> {
        let key = std::str::from_utf8(key).ok()?.strip_prefix(&self.root)?;
        key.split('/').next()
    }
}

/// The last part of a key: a revision of a change.
pub(super) fn revision_of(key: &[u8]) -> Option<Revision> {
    let key = std::str::from_utf8(key).ok()?;
    key.rsplit('/').next()?.parse().ok().map(Revision)
}

/// The last part of a key: a server's id.
pub(super) fn server_of(key: &[u8]) -> Option<u128> {
    u128::from_str_radix(std::str::from_utf8(key).ok()?.rsplit('/').next()?, 16).ok()
}

/// What a key in a range is called there.
pub(super) fn name_in<'a>(range: &Range, key: &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(key.strip_prefix(&*range.from)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lie_where_the_blueprint_says() {
        let keys = Keys::new("flagd");
        let prod = EnvironmentName::new("prod").unwrap();
        let cases: &[(Bytes, &str)] = &[
            (keys.head(&prod), "/flagd/prod/head"),
            (keys.change(&prod, Revision(7)), "/flagd/prod/changes/00000000000000000007"),
            (keys.change(&prod, Revision(u64::MAX)), "/flagd/prod/changes/18446744073709551615"),
            (keys.blob(&prod, BlobId(10)), "/flagd/prod/blobs/0000000000000000000000000000000a"),
            (keys.record(&prod, RecordKind::Request, "r/1"), "/flagd/prod/requests/r/1"),
            (keys.record(&prod, RecordKind::Roster, "a"), "/flagd/prod/roster/a"),
            (keys.record(&prod, RecordKind::Source, "ci"), "/flagd/prod/sources/ci"),
            (keys.record(&prod, RecordKind::Checkpoint, "1"), "/flagd/prod/checkpoints/1"),
            (keys.record(&prod, RecordKind::Meta, "m"), "/flagd/prod/meta/m"),
            (keys.used(), "/~flagd-stores/flagd"),
            (keys.server(10), "/flagd/~servers/0000000000000000000000000000000a"),
        ];
        for (key, wanted) in cases {
            assert_eq!(std::str::from_utf8(key).unwrap(), *wanted);
        }
        assert_eq!(revision_of(&keys.change(&prod, Revision(7))), Some(Revision(7)));
        assert_eq!(server_of(&keys.server(u128::MAX - 1)), Some(u128::MAX - 1));
        assert!(EnvironmentName::new("~servers").is_err(), "else it could be taken for an environment");
        let requests = keys.records(&prod, RecordKind::Request);
        assert_eq!(name_in(&requests, &keys.record(&prod, RecordKind::Request, "r/1")), Some("r/1"));
        assert_eq!(name_in(&requests, &keys.head(&prod)), None);
    }

    #[test]
    fn the_search_for_environments_steps_over_each_and_misses_none() {
        let keys = Keys::new("flagd");
        let head = |name: &str| keys.head(&EnvironmentName::new(name).unwrap());
        let within = |range: &Range, key: &Bytes| *key >= range.from && *key < range.to;
        let names = ["prod", "prod-2", "prod-20", "a", "0", "prod2", "z9"];
        let all = keys.environments(None);
        for name in names {
            assert!(within(&all, &head(name)), "{name}");
            assert_eq!(keys.environment_of(&head(name)), Some(name));
            let rest = keys.environments(Some(name));
            for other in names {
                // Whatever sorts after the keys of `name` is still to come, and nothing else is.
                assert_eq!(within(&rest, &head(other)), head(other) > head(name), "{name}, then {other}");
            }
        }
        assert!(!within(&all, &Keys::new("flagd-2").head(&EnvironmentName::new("prod").unwrap())));
    }
}
