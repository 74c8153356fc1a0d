//! Tells a prefix that was never used from one that was emptied.
//!
//! Somebody who removes the keys of a prefix, by mistake or with the wrong one, leaves something that looks new. A key
//! beside all prefixes says that environments were kept there. It goes with etcd as a whole: that an etcd itself was
//! replaced by an empty one cannot be seen in it, only by the servers and clients that know better.

use bytes::Bytes;

use super::connection::Fault;
use super::transaction::Transaction;
use super::{Etcd, first};
use crate::store::{Past, StoreError};

const MARK: Bytes =
    Bytes::from_static(b"flagd has kept environments below this prefix; see docs/operations.md");

impl Etcd {
    pub(super) async fn read_past(&self) -> Result<Past, StoreError> {
        match Transaction::new().get(self.keys.used()).run(&self.connections).await {
            Ok(outcome) => {
                let mark = outcome.ranges.into_iter().next().and_then(first);
                Ok(if mark.is_some() { Past::Used } else { Past::New })
            }
            Err(Fault::Refused(why)) => {
                let key = String::from_utf8_lossy(&self.keys.used()).into_owned();
                Ok(Past::Unknown(format!("etcd does not let this user read and write `{key}`: {why}")))
            }
            Err(fault) => Err(self.explain(fault).await),
        }
    }

    pub(super) async fn write_past(&self) -> Result<(), StoreError> {
        let key = self.keys.used();
        self.run(Transaction::new().if_missing(key.clone()).put(key, MARK)).await.map(drop)
    }
}
