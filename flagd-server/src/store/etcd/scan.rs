//! Reads ranges in pages, all at one revision of etcd's.
//!
//! How large values are is not known before they are read, and an answer beyond a few megabytes cannot be decoded;
//! so a page begins small, the next one is as large as the values seen so far allow, and one that is too large is
//! read again in smaller ones.

use bytes::Bytes;
use flagd_core::key::EnvironmentName;

use super::connection::Fault;
use super::keys::Range;
use super::transaction::Transaction;
use super::{Etcd, wire};
use crate::store::{Answer, StoreError};

/// Keys of the first page.
const FIRST_KEYS: usize = 8;
/// Most keys of a page.
const KEYS_MAX: usize = 512;
/// Bytes of a page at which it is aimed; answers may be four times as large.
const PAGE_BYTES: usize = 1024 * 1024;
/// How often a scan begins anew, with smaller pages each time.
const ATTEMPTS_MAX: u32 = 8;

/// How much of a range is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Amount {
    /// About so many bytes of values, but at least one value.
    Bytes(usize),
    /// Everything.
    All,
}

impl Etcd {
    /// Reads a range of an environment that must exist.
    pub(super) async fn scan(
        &self,
        environment: &EnvironmentName,
        range: Range,
        amount: Amount,
    ) -> Result<Vec<wire::KeyValue>, StoreError> {
        let mut page_keys_max = KEYS_MAX;
        for attempt in 1.. {
            match self.scan_at_one_revision(environment, &range, amount, page_keys_max).await {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => return Err(StoreError::NoEnvironment(environment.clone())),
                // Too large a page, or etcd was compacted meanwhile.
                Err(Fault::OutOfRange(_)) if attempt < ATTEMPTS_MAX => {
                    page_keys_max = (page_keys_max / 4).max(1);
                }
                Err(fault) => return Err(self.explain(fault).await),
            }
        }
        Err(StoreError::Unavailable("the range could not be read in pages".to_owned()))
    }

    /// `None` when the environment does not exist.
    async fn scan_at_one_revision(
        &self,
        environment: &EnvironmentName,
        range: &Range,
        amount: Amount,
        page_keys_max: usize,
    ) -> Result<Option<Vec<wire::KeyValue>>, Fault> {
        let head = self.keys.head(environment);
        let mut found: Vec<wire::KeyValue> = Vec::new();
        let (mut bytes, mut revision) = (0_usize, 0);
        let mut from = range.from.clone();
        loop {
            let keys = next_keys(amount, found.len(), bytes).min(page_keys_max);
            let limit = i64::try_from(keys).unwrap_or(1);
            let rest = Range { from, to: range.to.clone() };
            let page = Transaction::new().if_there(head.clone()).get_some(rest, limit, revision);
            let outcome = page.run(&self.connections).await?;
            if !outcome.succeeded {
                return Ok(None);
            }
            let page = outcome.ranges.into_iter().next().unwrap_or_default();
            if revision == 0 {
                revision = outcome.revision;
            }
            for kv in page.kvs {
                bytes = bytes.saturating_add(kv.value.len());
                if let Amount::Bytes(max_bytes) = amount
                    && bytes > max_bytes
                    && !found.is_empty()
                {
                    return Ok(Some(found));
                }
                found.push(kv);
            }
            match found.last() {
                Some(last) if page.more => from = after(&last.key),
                _ => return Ok(Some(found)),
            }
        }
    }

    /// One value of an environment that must exist.
    pub(super) fn get<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        key: Bytes,
    ) -> Answer<'a, Option<Bytes>> {
        Box::pin(async move {
            let outcome = self.run(Transaction::new().if_there(self.keys.head(environment)).get(key)).await?;
            if !outcome.succeeded {
                return Err(StoreError::NoEnvironment(environment.clone()));
            }
            Ok(outcome.ranges.into_iter().next().and_then(super::first).map(|kv| kv.value))
        })
    }
}

/// The smallest key that is greater.
fn after(key: &[u8]) -> Bytes {
    let mut after = Vec::with_capacity(key.len() + 1);
    after.extend_from_slice(key);
    after.push(0);
    after.into()
}

/// How many keys to ask for, after `found` values of `bytes` bytes together.
fn next_keys(amount: Amount, found: usize, bytes: usize) -> usize {
    let left = match amount {
        Amount::Bytes(max_bytes) => max_bytes.saturating_sub(bytes).min(PAGE_BYTES),
        Amount::All => PAGE_BYTES,
    };
    if found == 0 {
        return if left == 0 { 1 } else { FIRST_KEYS };
    }
    // One more than fits tells that there is no room for it.
    let average = (bytes / found).max(1);
    (left / average).saturating_add(1).min(KEYS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_grow_with_what_fits() {
        let cases: &[(&str, Amount, usize, usize, usize)] = &[
            ("the first page", Amount::All, 0, 0, FIRST_KEYS),
            ("one value is wanted", Amount::Bytes(0), 0, 0, 1),
            ("small values", Amount::All, 8, 80, KEYS_MAX),
            ("values of nothing", Amount::All, 8, 0, KEYS_MAX),
            ("the largest values", Amount::All, 8, 8 * 256 * 1024, 5),
            ("little is left", Amount::Bytes(1_000), 8, 800, 3),
            ("nothing is left", Amount::Bytes(1_000), 8, 1_000, 1),
        ];
        for (name, amount, found, bytes, wanted) in cases {
            assert_eq!(next_keys(*amount, *found, *bytes), *wanted, "{name}");
        }
    }
}
