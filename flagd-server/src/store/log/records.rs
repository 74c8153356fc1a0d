//! What is remembered beside the changes: answers to requests, the roster, what a source applied.
//!
//! Records have no revision and are no history. They say nothing about an environment's state, so losing one costs
//! a convenience and never a change.

use std::collections::BTreeMap;
use std::sync::Arc;

use flagd_core::entry::EntryId;
use flagd_core::key::EnvironmentName;
use flagd_core::revision::Revision;
use flagd_proto::{Message, store as wire};

use super::{Log, RosterEntry, blobs, encoding};
use crate::limits::{RECORDS_AT_ONCE_MAX, REQUEST_KEPT_MS};
use crate::store::{RecordKind, RecordWrite, StoreError};

/// The first answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstAnswer {
    /// The change that it made.
    pub revision: Revision,
    /// The encoded answer.
    pub answer: Vec<u8>,
    /// What was asked; `None` when an older version recorded it.
    pub fingerprint: Option<u128>,
}

/// A relay behind which clients are expected, as it is remembered across restarts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayEntry {
    /// 128 random bits of the relay.
    pub relay: u128,
    /// For people.
    pub name: String,
    /// Of several links of one relay the highest counts.
    pub link_counter: u64,
    /// When it was last heard, in milliseconds since 1970.
    pub last_seen_ms: u64,
}

/// A relay to forget, unless something newer is remembered of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayGone {
    /// Which one.
    pub relay: u128,
    /// The link that was last known.
    pub link_counter: u64,
    /// Whoever was heard after this, in milliseconds since 1970, is with another server.
    pub seen_before_ms: u64,
}

/// The record that answers whoever repeats a request.
pub(super) fn request(
    id: &str,
    revision: Revision,
    time_ms: u64,
    answer: Vec<u8>,
    fingerprint: u128,
) -> RecordWrite {
    let record = wire::RequestRecord {
        revision: revision.0,
        time_ms,
        answer: answer.into(),
        fingerprint: fingerprint.to_be_bytes().to_vec().into(),
    };
    let value = Some(record.encode_to_vec().into());
    RecordWrite { kind: RecordKind::Request, key: id.to_owned(), value }
}

fn is_expired(record: &wire::RequestRecord, now_ms: u64) -> bool {
    now_ms.saturating_sub(record.time_ms) > REQUEST_KEPT_MS
}

/// How the keys of relays begin.
const RELAY_PREFIX: &str = "relay-";

fn relay_key(relay: u128) -> String {
    format!("{RELAY_PREFIX}{relay:032x}")
}

fn read_relay(value: &[u8]) -> Result<RelayEntry, StoreError> {
    encoding::relay_from_wire(encoding::decode("a relay", value)?)
}

fn instance_key(instance: u128) -> String {
    format!("{instance:032x}")
}

impl Log {
    /// The first answer to a request id, if it is not older than a day.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn first_answer(
        &self,
        environment: &EnvironmentName,
        request_id: &str,
        now_ms: u64,
    ) -> Result<Option<FirstAnswer>, StoreError> {
        let Some(value) = self.store.get_record(environment, RecordKind::Request, request_id).await? else {
            return Ok(None);
        };
        let record: wire::RequestRecord = encoding::decode("the answer to a request", &value)?;
        if is_expired(&record, now_ms) {
            return Ok(None);
        }
        Ok(Some(FirstAnswer {
            revision: Revision(record.revision),
            answer: record.answer.to_vec(),
            fingerprint: record.fingerprint.as_ref().try_into().ok().map(u128::from_be_bytes),
        }))
    }

    /// Remembers the answer to a request that changed nothing: whoever repeats it later must not change anything.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remember_answer(
        &self,
        environment: &EnvironmentName,
        request_id: &str,
        time_ms: u64,
        first: FirstAnswer,
    ) -> Result<(), StoreError> {
        let fingerprint = first.fingerprint.unwrap_or_default();
        let record = request(request_id, first.revision, time_ms, first.answer, fingerprint);
        self.store.put_records(environment, vec![record]).await
    }

    /// Forgets answers that are older than a day. The log does so by itself about once an hour while it is written to.
    ///
    /// # Errors
    /// [`StoreError`]; what was forgotten until then stays forgotten.
    pub async fn housekeeping(&self, now_ms: u64) -> Result<usize, StoreError> {
        let mut forgotten = 0;
        for environment in self.store.environments().await? {
            let mut expired = Vec::new();
            for (key, value) in self.store.list_records(&environment, RecordKind::Request).await? {
                let record: wire::RequestRecord = encoding::decode("the answer to a request", &value)?;
                if is_expired(&record, now_ms) {
                    expired.push(RecordWrite { kind: RecordKind::Request, key, value: None });
                }
            }
            forgotten += expired.len();
            for some in expired.chunks(RECORDS_AT_ONCE_MAX) {
                self.store.put_records(&environment, some.to_vec()).await?;
            }
        }
        Ok(forgotten)
    }

    /// What a source applied last.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn source_base(
        &self,
        environment: &EnvironmentName,
        source: &str,
    ) -> Result<BTreeMap<EntryId, Arc<[u8]>>, StoreError> {
        let Some(value) = self.store.get_record(environment, RecordKind::Source, source).await? else {
            return Ok(BTreeMap::new());
        };
        let what = format!("what the source `{source}` applied last");
        let record: wire::SourceRecord = encoding::decode(&what, &value)?;
        let (entries, _) = blobs::get_entries(&*self.store, environment, &what, &record.blobs).await?;
        Ok(entries.into_iter().map(|(id, entry)| (id, entry.bytes)).collect())
    }

    /// Remembers what a source has applied although nothing had to be changed for it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remember_source(
        &self,
        environment: &EnvironmentName,
        source: &str,
        revision: Revision,
        base: &BTreeMap<EntryId, Arc<[u8]>>,
    ) -> Result<(), StoreError> {
        let record = self.source_record(environment, source, revision, base).await?;
        self.store.put_records(environment, vec![record]).await
    }

    /// Writes what a source has applied into blobs; the record that names them goes into the append.
    pub(super) async fn source_record(
        &self,
        environment: &EnvironmentName,
        source: &str,
        revision: Revision,
        base: &BTreeMap<EntryId, Arc<[u8]>>,
    ) -> Result<RecordWrite, StoreError> {
        let entries = base.iter().map(|(id, bytes)| (id, &**bytes, Revision::ZERO));
        let (ids, _) = blobs::put_entries(&*self.store, environment, entries).await?;
        let record = wire::SourceRecord {
            name: source.to_owned(),
            revision: revision.0,
            blobs: encoding::blob_ids_to_wire(&ids),
        };
        let value = Some(record.encode_to_vec().into());
        Ok(RecordWrite { kind: RecordKind::Source, key: source.to_owned(), value })
    }

    /// Remembers clients. Each is remembered on its own; a large roster is written in parts.
    ///
    /// # Errors
    /// [`StoreError`]; what was written until then stays written.
    pub async fn save_roster(
        &self,
        environment: &EnvironmentName,
        seen: &[RosterEntry],
        gone: &[u128],
    ) -> Result<(), StoreError> {
        let removals = gone.iter().map(|instance| (*instance, None));
        let saves = seen
            .iter()
            .map(|entry| (entry.instance, Some(encoding::roster_to_wire(entry).encode_to_vec().into())));
        let writes: Vec<_> = removals
            .chain(saves)
            .map(|(instance, value)| RecordWrite {
                kind: RecordKind::Roster,
                key: instance_key(instance),
                value,
            })
            .collect();
        for some in writes.chunks(RECORDS_AT_ONCE_MAX) {
            self.store.put_records(environment, some.to_vec()).await?;
        }
        Ok(())
    }

    /// Remembers relays, and forgets others.
    ///
    /// # Errors
    /// [`StoreError`]; what was written until then stays written.
    pub async fn save_relays(
        &self,
        environment: &EnvironmentName,
        seen: &[RelayEntry],
        gone: &[RelayGone],
    ) -> Result<(), StoreError> {
        let mut writes = Vec::new();
        for entry in seen {
            let value = Some(encoding::relay_to_wire(entry).encode_to_vec().into());
            writes.push(RecordWrite { kind: RecordKind::Meta, key: relay_key(entry.relay), value });
        }
        for gone in gone {
            let key = relay_key(gone.relay);
            let Some(value) = self.store.get_record(environment, RecordKind::Meta, &key).await? else {
                continue;
            };
            let stored = read_relay(&value)?;
            if stored.link_counter <= gone.link_counter && stored.last_seen_ms <= gone.seen_before_ms {
                writes.push(RecordWrite { kind: RecordKind::Meta, key, value: None });
            }
        }
        for some in writes.chunks(RECORDS_AT_ONCE_MAX) {
            self.store.put_records(environment, some.to_vec()).await?;
        }
        Ok(())
    }

    /// The relays remembered.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn relays(&self, environment: &EnvironmentName) -> Result<Vec<RelayEntry>, StoreError> {
        let records = self.store.list_records(environment, RecordKind::Meta).await?;
        let relays = records.into_iter().filter(|(key, _)| key.starts_with(RELAY_PREFIX));
        relays.map(|(_, value)| read_relay(&value)).collect()
    }

    /// One client as it is remembered.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn client(
        &self,
        environment: &EnvironmentName,
        instance: u128,
    ) -> Result<Option<RosterEntry>, StoreError> {
        let value = self.store.get_record(environment, RecordKind::Roster, &instance_key(instance)).await?;
        let decode = |value: bytes::Bytes| {
            encoding::roster_from_wire(encoding::decode("a client of the roster", &value)?)
        };
        value.map(decode).transpose()
    }

    /// The clients remembered.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn roster(&self, environment: &EnvironmentName) -> Result<Vec<RosterEntry>, StoreError> {
        let records = self.store.list_records(environment, RecordKind::Roster).await?;
        let decode = |(_, value): (String, bytes::Bytes)| {
            encoding::roster_from_wire(encoding::decode("a client of the roster", &value)?)
        };
        records.into_iter().map(decode).collect()
    }
}
