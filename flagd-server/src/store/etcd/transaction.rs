//! Builds the transactions that the store needs, and keeps them below etcd's limits.
//!
//! Each is guarded by comparisons or says the same each time, so that it may be sent more than once.

use bytes::Bytes;

use super::connection::{self, Connections, Fault};
use super::keys::Range;
use super::wire::{
    Compare, CompareResult, CompareTarget, Compared, DeleteRangeRequest, PutRequest, RangeRequest,
    RangeResponse, Request, RequestOp, Response, TxnRequest, TxnResponse,
};
use crate::limits::RECORDS_AT_ONCE_MAX;
use crate::store::{RecordWrite, StoreError};

/// Most operations in one transaction: etcd takes 128. A head, a change, and records.
const OPERATIONS_MAX: usize = RECORDS_AT_ONCE_MAX + 4;
/// Most bytes in one transaction: etcd takes 1.5 MiB with everything around them.
const BYTES_MAX: usize = 1_280 * 1024;

/// A transaction that is being put together.
#[derive(Clone, Debug, Default)]
pub(super) struct Transaction(TxnRequest);

/// What became of a transaction.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The comparisons held.
    pub(super) succeeded: bool,
    /// It was sent before, and that attempt may have had its effect.
    pub(super) repeated: bool,
    /// etcd's revision afterwards; of what was written, if something was.
    pub(super) revision: i64,
    /// What was read, in the order in which it was asked for.
    pub(super) ranges: Vec<RangeResponse>,
}

impl Transaction {
    pub(super) fn new() -> Transaction {
        Transaction::default()
    }

    fn when(
        mut self,
        key: Bytes,
        result: CompareResult,
        target: CompareTarget,
        with: Compared,
    ) -> Transaction {
        let (result, target) = (result.into(), target.into());
        self.0.compare.push(Compare { result, target, key, with: Some(with) });
        self
    }

    pub(super) fn if_value(self, key: Bytes, value: Bytes) -> Transaction {
        self.when(key, CompareResult::Equal, CompareTarget::Value, Compared::Value(value))
    }

    pub(super) fn if_lease(self, key: Bytes, lease: i64) -> Transaction {
        self.when(key, CompareResult::Equal, CompareTarget::Lease, Compared::Lease(lease))
    }

    pub(super) fn if_missing(self, key: Bytes) -> Transaction {
        self.when(key, CompareResult::Equal, CompareTarget::Create, Compared::CreateRevision(0))
    }

    pub(super) fn if_there(self, key: Bytes) -> Transaction {
        self.when(key, CompareResult::Greater, CompareTarget::Create, Compared::CreateRevision(0))
    }

    pub(super) fn put(mut self, key: Bytes, value: Bytes) -> Transaction {
        self.0.success.push(operation(Request::Put(PutRequest { key, value, lease: 0 })));
        self
    }

    pub(super) fn remove(mut self, key: Bytes) -> Transaction {
        self.0.success.push(operation(Request::DeleteRange(DeleteRangeRequest { key })));
        self
    }

    pub(super) fn else_put_leased(mut self, key: Bytes, value: Bytes, lease: i64) -> Transaction {
        self.0.failure.push(operation(Request::Put(PutRequest { key, value, lease })));
        self
    }

    pub(super) fn record(mut self, key: Bytes, write: &RecordWrite) -> Transaction {
        let request = match &write.value {
            Some(value) => Request::Put(PutRequest { key, value: value.clone(), lease: 0 }),
            None => Request::DeleteRange(DeleteRangeRequest { key }),
        };
        self.0.success.push(operation(request));
        self
    }

    pub(super) fn get(mut self, key: Bytes) -> Transaction {
        self.0.success.push(operation(Request::Range(RangeRequest { key, ..RangeRequest::default() })));
        self
    }

    /// Some values of a range, at one revision of etcd's or, with 0, at the newest.
    pub(super) fn get_some(mut self, range: Range, limit: i64, revision: i64) -> Transaction {
        let Range { from: key, to: range_end } = range;
        let request = RangeRequest { key, range_end, limit, revision, ..RangeRequest::default() };
        self.0.success.push(operation(Request::Range(request)));
        self
    }

    /// The first key of a range, without its value.
    pub(super) fn get_first_key(mut self, range: Range) -> Transaction {
        let Range { from: key, to: range_end } = range;
        let request = RangeRequest { key, range_end, limit: 1, keys_only: true, ..RangeRequest::default() };
        self.0.success.push(operation(Request::Range(request)));
        self
    }

    pub(super) fn else_get(mut self, key: Bytes) -> Transaction {
        self.0.failure.push(operation(Request::Range(RangeRequest { key, ..RangeRequest::default() })));
        self
    }

    pub(super) fn else_get_key(mut self, key: Bytes) -> Transaction {
        let request = RangeRequest { key, keys_only: true, ..RangeRequest::default() };
        self.0.failure.push(operation(Request::Range(request)));
        self
    }

    /// Refuses what etcd would refuse.
    pub(super) fn checked(self) -> Result<Transaction, StoreError> {
        let bytes = prost::Message::encoded_len(&self.0);
        if bytes > BYTES_MAX {
            return Err(StoreError::TooLarge { bytes, max_bytes: BYTES_MAX });
        }
        let operations = self.0.success.len();
        if operations > OPERATIONS_MAX {
            return Err(StoreError::TooMany { writes: operations, max_writes: OPERATIONS_MAX });
        }
        Ok(self)
    }

    pub(super) async fn run(self, connections: &Connections) -> Result<Outcome, Fault> {
        let (answer, attempts): (TxnResponse, u32) =
            connections.call_counting(connection::TXN, self.0).await?;
        let ranges = answer.responses.into_iter().filter_map(|op| match op.response {
            Some(Response::Range(range)) => Some(range),
            _ => None,
        });
        let revision = answer.header.map_or(0, |header| header.revision);
        Ok(Outcome {
            succeeded: answer.succeeded,
            repeated: attempts > 0,
            revision,
            ranges: ranges.collect(),
        })
    }
}

fn operation(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}
