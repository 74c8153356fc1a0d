//! Fills a file with a copy of an environment, in a few large transactions.
//!
//! A copy appends nothing and compares nothing: it writes rows that another store has, as they are. The head comes
//! last, so that half a copy is no environment.

use bytes::Bytes;
use flagd_core::key::EnvironmentName;
use flagd_core::revision::Revision;

use super::{BLOBS, CHANGES, Done, HEADS, Redb, write_records};
use crate::store::{BlobId, RecordWrite, StoreError};

/// Rows of one environment.
#[derive(Debug, Default)]
pub(in crate::store) struct Part {
    pub(in crate::store) changes: Vec<(Revision, Bytes)>,
    pub(in crate::store) blobs: Vec<(BlobId, Bytes)>,
    pub(in crate::store) records: Vec<RecordWrite>,
    pub(in crate::store) head: Option<Bytes>,
}

impl Redb {
    /// Writes rows as they are, in one transaction.
    pub(in crate::store) async fn import(
        &self,
        environment: &EnvironmentName,
        part: Part,
    ) -> Result<(), StoreError> {
        let environment = environment.clone();
        let written = self.run(move |inner| {
            inner.write(|transaction| {
                let name = environment.as_str();
                let mut changes = transaction.open_table(CHANGES)?;
                for (revision, change) in &part.changes {
                    changes.insert((name, revision.0), &**change)?;
                }
                let mut blobs = transaction.open_table(BLOBS)?;
                for (id, blob) in &part.blobs {
                    blobs.insert((name, id.0), &**blob)?;
                }
                write_records(transaction, name, &part.records)?;
                if let Some(head) = &part.head {
                    transaction.open_table(HEADS)?.insert(name, &**head)?;
                }
                Ok(Done::Commit(()))
            })
        });
        written.await
    }
}
