//! One revision for the length of a request.
//!
//! Two getters of one request could answer from two revisions, and half a change would be visible. A snapshot
//! answers from one, however long it is kept - and is *held* while it lives: the operator who kills a flag is
//! told that this process still evaluates through an older revision. So keep it for a request, not for ever.

use std::sync::Arc;

use crate::detail::Staleness;
use crate::shared::Shared;
use crate::view::{Source, View};

/// All flags at one revision; see [`Client::snapshot`](crate::Client::snapshot).
#[derive(Debug)]
pub struct Snapshot {
    pub(crate) shared: Arc<Shared>,
    pub(crate) view: Arc<View>,
}

impl Snapshot {
    pub(crate) fn new(shared: Arc<Shared>) -> Snapshot {
        let view = shared.current.load_full();
        view.hold();
        Snapshot { shared, view }
    }

    #[inline]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The revision that this snapshot answers from; 0 before there is a state.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.view.position.revision.0
    }

    /// Where its state came from.
    #[must_use]
    pub fn source(&self) -> Source {
        self.view.source
    }

    /// Whether a server confirms, at this moment, the state that the client uses.
    #[must_use]
    pub fn staleness(&self) -> Staleness {
        self.shared.staleness()
    }

    /// The keys of all flags that can be evaluated, in byte order.
    #[must_use]
    pub fn flag_keys(&self) -> Vec<&str> {
        self.view.compiled.as_ref().map(flagd_core::snapshot::Snapshot::flag_keys).unwrap_or_default()
    }
}

impl Clone for Snapshot {
    fn clone(&self) -> Snapshot {
        self.view.hold();
        Snapshot { shared: Arc::clone(&self.shared), view: Arc::clone(&self.view) }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.view.release();
    }
}
