//! The log of a relay: it keeps what another server showed, byte for byte, and decides nothing.
//!
//! A change that came as a delta is appended under the revision that it has; a state that came whole is a checkpoint
//! to which the head is moved, so there may be gaps before it, over which no history is ever read: the reader of
//! changes looks at each one's epoch and revision. Who made a change and why does not travel on the stream and is
//! not kept.

use bytes::Bytes;
use flagd_core::key::EnvironmentName;
use flagd_core::revision::{Epoch, Position, Revision};
use flagd_core::state::{Delta, State};

use super::{Log, Origin, Outcome, checkpoint, encoding, position_after, random};
use crate::store::{Append, Appended, RecordKind, RecordWrite, StoreError};

/// The record of the relay's name for itself: 16 random bytes.
const IDENTITY: &str = "identity";
/// The record of when the state was last known to be the newest.
const CONFIRMED: &str = "confirmed";

/// A state that a relay kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The state.
    pub state: State,
    /// When it was last known to be the head of the server above, in milliseconds since 1970.
    pub confirmed_ms: u64,
}

impl Log {
    /// What was kept of an environment; `None` when there is nothing yet.
    ///
    /// # Errors
    /// [`StoreError`]; `Corrupt` when it does not come out at its digest.
    pub async fn kept(&self, environment: &EnvironmentName) -> Result<Option<Kept>, StoreError> {
        // At revision 0 nothing was kept so far: an environment begins like that here, too.
        if self.must_head(environment).await?.revision == Revision::ZERO {
            return Ok(None);
        }
        let state = self.load(environment).await?;
        let confirmed = self.store.get_record(environment, RecordKind::Meta, CONFIRMED).await?;
        let confirmed_ms =
            confirmed.and_then(|bytes| Some(u64::from_be_bytes(bytes.as_ref().try_into().ok()?)));
        Ok(Some(Kept { state, confirmed_ms: confirmed_ms.unwrap_or_default() }))
    }

    /// Makes room for an environment of the server above.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn make_room(&self, environment: &EnvironmentName, epoch: Epoch) -> Result<(), StoreError> {
        let position = State::empty(environment.clone(), epoch).position();
        self.store.create(environment, encoding::head_to_bytes(position)).await?;
        self.identity(environment).await.map(drop)
    }

    /// Makes sure that nothing in the store is kept by a relay: a server that went on from there would write a second
    /// history beside the one that was relayed.
    ///
    /// # Errors
    /// [`StoreError::OtherUse`], or that the store does not answer.
    pub async fn must_be_a_servers(&self) -> Result<(), StoreError> {
        for environment in self.store.environments().await? {
            if self.has_identity(&environment).await? {
                return Err(StoreError::OtherUse(format!(
                    "the store, {}, is kept by a relay (`{environment}` is); name another with --store, or say with \
                     --upstream whom to relay",
                    self.describe()
                )));
            }
        }
        Ok(())
    }

    /// Makes sure that everything in the store is kept by a relay: another's history would be written over.
    ///
    /// # Errors
    /// [`StoreError::OtherUse`], or that the store does not answer.
    pub async fn must_be_a_relays(&self) -> Result<(), StoreError> {
        for environment in self.store.environments().await? {
            let is_empty = self.must_head(&environment).await?.revision == Revision::ZERO;
            if !is_empty && !self.has_identity(&environment).await? {
                return Err(StoreError::OtherUse(format!(
                    "the store, {}, is a server's (`{environment}` was recorded in it), and a relay would write over it; \
                     name another with --store",
                    self.describe()
                )));
            }
        }
        Ok(())
    }

    async fn has_identity(&self, environment: &EnvironmentName) -> Result<bool, StoreError> {
        Ok(self.store.get_record(environment, RecordKind::Meta, IDENTITY).await?.is_some())
    }

    /// The relay's name for itself in an environment, which outlasts it; made when there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn identity(&self, environment: &EnvironmentName) -> Result<u128, StoreError> {
        if let Some(found) = self.store.get_record(environment, RecordKind::Meta, IDENTITY).await?
            && let Ok(bytes) = found.as_ref().try_into()
        {
            return Ok(u128::from_be_bytes(bytes));
        }
        let identity = (u128::from(random()?) << 64) | u128::from(random()?);
        let value = Some(Bytes::copy_from_slice(&identity.to_be_bytes()));
        let write = RecordWrite { kind: RecordKind::Meta, key: IDENTITY.to_owned(), value };
        self.store.put_records(environment, vec![write]).await?;
        Ok(identity)
    }

    /// Keeps a change that follows `state`, which must be the state that was kept last.
    ///
    /// # Errors
    /// [`StoreError`]; what is kept then is not known until it is read.
    pub async fn keep_change(
        &self,
        state: &State,
        delta: Delta,
        now_ms: u64,
        confirmed_ms: u64,
    ) -> Result<Outcome, StoreError> {
        let environment = state.environment();
        let Some(expected_head) = self.head_if(environment, state.position()).await? else {
            return Ok(Outcome::Lost);
        };
        let change = self.write_down(environment, state, &delta, Origin::default(), now_ms).await?;
        let append = Append {
            expected_head,
            head: encoding::head_to_bytes(position_after(&delta)),
            revision: delta.to,
            change: Some(change),
            records: vec![confirmed(confirmed_ms)],
        };
        self.commit(environment, state, delta, append, now_ms).await
    }

    /// Keeps a state as a whole, whatever was kept before.
    ///
    /// # Errors
    /// [`StoreError`]; what is kept then is not known until it is read.
    pub async fn keep_state(&self, state: &State, confirmed_ms: u64) -> Result<(), StoreError> {
        let environment = state.environment();
        let bytes = checkpoint::write(&*self.store, state).await?;
        let Position { revision, .. } = state.position();
        loop {
            let missing = || StoreError::NoEnvironment(environment.clone());
            let expected_head = self.store.head(environment).await?.ok_or_else(missing)?;
            let append = Append {
                expected_head,
                head: encoding::head_to_bytes(state.position()),
                revision,
                change: None,
                records: vec![confirmed(confirmed_ms)],
            };
            if self.store.append(environment, append).await? == Appended::Recorded {
                self.ledger().found(environment, 0, 0, bytes);
                return Ok(());
            }
        }
    }

    /// Keeps when the state was last known to be the newest.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_confirmed(
        &self,
        environment: &EnvironmentName,
        confirmed_ms: u64,
    ) -> Result<(), StoreError> {
        self.store.put_records(environment, vec![confirmed(confirmed_ms)]).await
    }
}

fn confirmed(confirmed_ms: u64) -> RecordWrite {
    let value = Some(Bytes::copy_from_slice(&confirmed_ms.to_be_bytes()));
    RecordWrite { kind: RecordKind::Meta, key: CONFIRMED.to_owned(), value }
}

#[cfg(test)]
mod tests;
