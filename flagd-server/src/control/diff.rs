//! What differs between two revisions, or between two environments.

use std::collections::BTreeSet;
use std::sync::Arc;

use flagd_core::entry::{EntryId, EntryWrite};
use flagd_core::revision::Revision;
use flagd_core::state::State;
use flagd_proto::admin::{DiffRequest, DiffResponse, TouchedEntry};

use super::answer::{Compared, touched_entry};
use super::request::Name;
use super::segments::parts_among;
use super::{Control, ControlError};

impl Control {
    /// The entries that differ.
    ///
    /// # Errors
    /// [`ControlError::NoSuchRevision`], or what the store says.
    pub async fn diff(&self, request: DiffRequest) -> Result<DiffResponse, ControlError> {
        self.must_be_no_relay("keeps no history")?;
        let name = request.name.as_ref().map(Name::from_wire).transpose()?;
        let turn = self.readers.turn().await?;
        let to_fresh = self.fresh(&request.environment).await?;
        let to = self.state_at(&to_fresh, request.to_revision).await?;
        let other =
            Some(&request.from_environment).filter(|name| !name.is_empty() && **name != request.environment);
        let from = match other {
            Some(name) => {
                let fresh = self.fresh(name).await?;
                self.state_at(&fresh, request.from_revision).await?
            }
            // In one history 0 is the empty beginning, which every history has.
            None if request.from_revision == 0 => {
                Arc::new(State::empty(to.environment().clone(), to_fresh.position().epoch))
            }
            None => self.past_state(&to_fresh, Revision(request.from_revision)).await?,
        };
        let (from_revision, to_revision) = (from.revision().0, to.revision().0);
        let entries = turn.work("comparing", move || differing(&from, &to, name.as_ref())).await?;
        Ok(DiffResponse { entries, from_revision, to_revision, server: self.server.clone() })
    }
}

/// The entries that differ, of one name or of all.
pub(super) fn differing<'s>(from: &'s State, to: &'s State, name: Option<&Name>) -> Vec<TouchedEntry> {
    let of_name = |id: &EntryId| match name {
        None => true,
        Some(name @ Name::Flag(key)) => {
            *id == name.entry() || *id == name.tombstone() || *id == EntryId::kill(key)
        }
        Some(name @ Name::Segment(_)) => *id == name.entry() || *id == name.tombstone(),
    };
    let ids: BTreeSet<&EntryId> = from.entries().chain(to.entries()).map(|(id, _)| id).collect();
    let bytes = |state: &'s State, id: &EntryId| state.get(id).map(|entry| &*entry.bytes);
    let changed: Vec<&EntryId> = ids.into_iter().filter(|id| bytes(from, id) != bytes(to, id)).collect();
    let parts = parts_among(changed.iter().map(|id| (*id, bytes(from, id), bytes(to, id))));
    // A list that changed is told of its segment, of which perhaps nothing else did.
    let ids: BTreeSet<EntryId> = changed.into_iter().map(EntryId::whole).filter(of_name).collect();
    let touched = |id: &EntryId| {
        let (before, after) = (from.get(id), to.get(id));
        // The parts of an archived segment are nobody's list.
        if before.is_none() && after.is_none() {
            return None;
        }
        let write = EntryWrite { id: id.clone(), bytes: after.map(|entry| Arc::clone(&entry.bytes)) };
        let previous = before.map_or(Revision::ZERO, |entry| entry.revision);
        Some(touched_entry(&write, previous, before.map(|entry| &*entry.bytes), Compared::Yes, &parts))
    };
    ids.iter().filter_map(touched).collect()
}
