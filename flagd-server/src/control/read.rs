//! Sees the caller's own writes, on any server.
//!
//! A read that is answered from memory may be older than what the caller just did through another server. So
//! each read asks the store for the head, waits a little for the view to reach it, and says how old the view is
//! when it does not.

use std::sync::Arc;

use flagd_core::entry::{EntryId, EntryKind};
use flagd_core::key::EnvironmentName;
use flagd_core::problem::nearest;
use flagd_core::revision::{Position, Revision};
use flagd_core::state::State;

use super::request::Name;
use super::{Control, ControlError, request};
use crate::hub::{Environment, View};
use crate::limits;
use crate::store::StoreError;

/// How many environments are named when none looks like the one asked for.
const NAMED_MAX: usize = 10;

/// A view, and how much it can be trusted.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) environment: Arc<Environment>,
    pub(super) view: View,
    /// 0: the view is the head that the store has now. On a relay: since it was the head of the server above.
    pub(super) view_age_ms: u64,
}

impl Fresh {
    pub(super) fn state(&self) -> &Arc<State> {
        &self.view.state
    }

    pub(super) fn position(&self) -> Position {
        self.view.state.position()
    }

    pub(super) fn wire_position(&self) -> flagd_proto::stream::Position {
        flagd_proto::convert::position_to_wire(self.position())
    }
}

/// Whether a view shows everything that a head stands for.
pub(super) fn reaches(view: Position, head: Position) -> bool {
    (view.epoch, view.revision) >= (head.epoch, head.revision)
}

impl Control {
    /// An environment by the name in a request.
    pub(super) async fn named(&self, name: &str) -> Result<Arc<Environment>, ControlError> {
        self.environment(&request::environment(name)?).await
    }

    /// An environment, or which ones look like it.
    pub(super) async fn environment(&self, name: &EnvironmentName) -> Result<Arc<Environment>, ControlError> {
        match self.hub.environment(name).await {
            Ok(environment) => Ok(environment),
            Err(StoreError::NoEnvironment(name)) => {
                let known: Vec<String> =
                    self.hub.environments().iter().map(|e| e.name().to_string()).collect();
                let near = nearest(name.as_str(), known.iter().map(String::as_str)).map(ToOwned::to_owned);
                let nearest =
                    near.map_or_else(|| known.into_iter().take(NAMED_MAX).collect(), |near| vec![near]);
                Err(ControlError::UnknownEnvironment { name, nearest })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The newest view for a read: the head, or what there is and how old it is.
    pub(super) async fn fresh(&self, name: &str) -> Result<Fresh, ControlError> {
        let environment = self.named(name).await?;
        Ok(self.freshen(environment).await)
    }

    /// The newest view of an environment.
    pub(super) async fn freshen(&self, environment: Arc<Environment>) -> Fresh {
        if self.hub.upstream().is_some() {
            let view = environment.view();
            let view_age_ms = self.hub.clock().now_ms().saturating_sub(view.confirmed_ms);
            return Fresh { environment, view, view_age_ms };
        }
        let (view, reached) = match self.hub.log().head(environment.name()).await {
            Ok(Some(head)) => {
                let view = environment.view_at(head, limits::READ_WAIT_MAX).await;
                let reached = reaches(view.state.position(), head);
                (view, reached)
            }
            Ok(None) => (environment.view(), false),
            Err(error) => {
                tracing::warn!(environment = %environment.name(), %error, "answering a read from a view that may be old");
                (environment.view(), false)
            }
        };
        // A view that is behind is at least a millisecond old, so that 0 always means "the head".
        let age_ms = self.hub.clock().now_ms().saturating_sub(view.confirmed_ms).max(1);
        Fresh { environment, view, view_age_ms: if reached { 0 } else { age_ms } }
    }

    /// The state at a revision; 0 is now.
    pub(super) async fn state_at(&self, fresh: &Fresh, revision: u64) -> Result<Arc<State>, ControlError> {
        if revision == 0 || revision == fresh.position().revision.0 {
            return Ok(Arc::clone(fresh.state()));
        }
        self.past_state(fresh, Revision(revision)).await
    }

    /// The state at exactly this revision, 0 being the empty beginning.
    pub(super) async fn past_state(
        &self,
        fresh: &Fresh,
        revision: Revision,
    ) -> Result<Arc<State>, ControlError> {
        let name = fresh.environment.name();
        if revision <= fresh.position().revision
            && let Some(state) = self.hub.log().state_at(name, revision).await?
        {
            return Ok(Arc::new(state));
        }
        Err(self.no_such_revision(fresh, revision).await?)
    }

    pub(super) async fn no_such_revision(
        &self,
        fresh: &Fresh,
        revision: Revision,
    ) -> Result<ControlError, ControlError> {
        let environment = fresh.environment.name().clone();
        let oldest = self.hub.log().oldest(&environment).await?;
        Ok(ControlError::NoSuchRevision { environment, revision, oldest, newest: fresh.position().revision })
    }
}

/// That this server ends a stream because it stops.
pub(super) fn stopping() -> ControlError {
    ControlError::Unavailable("this server stops; ask again, here or at another server".to_owned())
}

/// That there is no such flag or segment, with the key that was probably meant.
pub(super) fn unknown(state: &State, name: &Name) -> ControlError {
    let id = name.entry();
    let mut kinds = vec![id.kind];
    if id.kind == EntryKind::FLAG {
        kinds.push(EntryKind::TOMBSTONE);
    }
    let keys = kinds.into_iter().flat_map(|kind| state.entries_of(kind)).map(|(id, _)| &*id.key);
    let nearest = nearest(&id.key, keys).map(ToOwned::to_owned).into_iter().collect();
    ControlError::UnknownEntry { id: EntryId::clone(&id), environment: state.environment().clone(), nearest }
}
