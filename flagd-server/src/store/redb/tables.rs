//! What several transactions do with the file's tables: records, and whether an environment is there.
//!
//! It does not open or commit anything.

use flagd_core::key::EnvironmentName;
use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use super::{Failure, HEADS, RECORDS, RecordKind, RecordWrite, StoreError};

/// The number of a sort of records in the file.
pub(super) fn kind_number(kind: RecordKind) -> u8 {
    match kind {
        RecordKind::Request => 1,
        RecordKind::Roster => 2,
        RecordKind::Source => 3,
        RecordKind::Checkpoint => 4,
        RecordKind::Meta => 5,
    }
}

pub(super) fn write_records(
    transaction: &WriteTransaction,
    name: &str,
    writes: &[RecordWrite],
) -> Result<(), Failure> {
    let mut records = transaction.open_table(RECORDS)?;
    for write in writes {
        let key = (name, kind_number(write.kind), write.key.as_str());
        match &write.value {
            Some(value) => drop(records.insert(key, &**value)?),
            None => drop(records.remove(key)?),
        }
    }
    Ok(())
}

pub(super) fn must_exist(
    transaction: &ReadTransaction,
    environment: &EnvironmentName,
) -> Result<(), Failure> {
    if transaction.open_table(HEADS)?.get(environment.as_str())?.is_some() {
        return Ok(());
    }
    Err(Failure::Ours(StoreError::NoEnvironment(environment.clone())))
}

pub(super) fn must_exist_to_write(
    transaction: &WriteTransaction,
    environment: &EnvironmentName,
) -> Result<(), Failure> {
    if transaction.open_table(HEADS)?.get(environment.as_str())?.is_some() {
        return Ok(());
    }
    Err(Failure::Ours(StoreError::NoEnvironment(environment.clone())))
}
