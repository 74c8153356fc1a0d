//! What changed, when, by whom and why; newest first.
//!
//! The history of a flag holds the changes of every segment and flag that it uses now, because at 3 a.m. "nobody
//! touched the flag" is true and useless when somebody touched its segment.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use flagd_core::entry::{EntryId, EntryKind, EntryWrite};
use flagd_core::key::EnvironmentName;
use flagd_core::revision::Revision;
use flagd_proto::admin::{HistoryChange, HistoryRequest, HistoryResponse, TouchedEntry};
use flagd_proto::{Message as _, convert};

use super::answer::{Compared, touched_entry};
use super::definitions::related;
use super::edit::touched;
use super::read::{Fresh, unknown};
use super::request::Name;
use super::segments::parts_among;
use super::{Control, ControlError};
use crate::limits;
use crate::store::StoreError;
use crate::store::log::Change;

/// How many changes a page has when the caller does not say.
const PAGE_DEFAULT: usize = 100;
/// How many changes are read from the store at a time, going back.
const WINDOW: u64 = 256;
/// So far back a clock is believed to have been set at most. Revisions are in order, their times need not be.
const CLOCK_STEP_MAX_MS: u64 = 24 * 60 * 60 * 1_000;
/// Most entries of one change whose fields are compared.
const COMPARED_MAX: usize = 10;
/// Most parts of lists in one change whose units are compared: each may have been written by another change.
const PARTS_COMPARED_MAX: usize = 20;
/// Most entries listed of one change.
const LISTED_MAX: usize = 200;
/// A page ends early beyond this size, so that it fits a message.
const PAGE_MAX_BYTES: usize = 3 * 1024 * 1024;

/// The bytes that entries had before the changes at hand, where they are known.
#[derive(Debug, Default)]
pub(super) struct Details {
    before: HashMap<(EntryId, Revision), Option<Arc<[u8]>>>,
}

/// The part of a history that is asked for.
struct Page {
    /// Changes before this revision.
    before: Revision,
    since_ms: u64,
    limit: usize,
    /// `None`: all entries.
    entries: Option<BTreeSet<EntryId>>,
}

impl Page {
    fn wants(&self, id: &EntryId) -> bool {
        self.entries.as_ref().is_none_or(|entries| entries.contains(id))
    }

    fn wants_change(&self, change: &Change) -> bool {
        self.entries.is_none() || change.entries.iter().any(|(write, _)| self.wants(&write.id.whole()))
    }
}

impl Control {
    /// A page of history.
    ///
    /// # Errors
    /// [`ControlError::UnknownEntry`] when nothing is known of the name, or what the store says.
    pub async fn history(&self, request: HistoryRequest) -> Result<HistoryResponse, ControlError> {
        self.must_be_no_relay("keeps no history")?;
        let fresh = self.fresh(&request.environment).await?;
        let name = request.name.as_ref().map(Name::from_wire).transpose()?;
        let newest = fresh.position().revision;
        let limit = usize::try_from(request.limit).unwrap_or(limits::HISTORY_PAGE_MAX);
        let page = Page {
            before: if request.before_revision == 0 {
                newest.next()
            } else {
                Revision(request.before_revision).min(newest.next())
            },
            since_ms: request.since_ms,
            limit: if limit == 0 { PAGE_DEFAULT } else { limit.min(limits::HISTORY_PAGE_MAX) },
            entries: name.as_ref().map(|name| related(fresh.state(), name)),
        };
        let (found, more) = self.page(&fresh, &page).await?;
        if let Some(name) = &name {
            check_known(&fresh, name, &request, &found)?;
        }
        let (changes, cut) = self.told(fresh.environment.name(), &found, &page).await?;
        Ok(HistoryResponse {
            position: Some(fresh.wire_position()),
            changes,
            more: more || cut,
            oldest_revision: self.hub.log().oldest(fresh.environment.name()).await?.0,
            server: self.server.clone(),
            view_age_ms: fresh.view_age_ms,
        })
    }

    /// The changes of a page, newest first, and whether there are more.
    async fn page(&self, fresh: &Fresh, page: &Page) -> Result<(Vec<Change>, bool), ControlError> {
        let mut found = Vec::new();
        let mut before = page.before;
        while before > Revision(1) {
            let first = Revision(before.0.saturating_sub(WINDOW).max(1));
            let window = self.window(fresh.environment.name(), first, before).await?;
            if window.is_empty() {
                return Ok((found, false));
            }
            let long_before_ms = page.since_ms.saturating_sub(CLOCK_STEP_MAX_MS);
            if window.iter().all(|change| change.time_ms < long_before_ms) {
                return Ok((found, false));
            }
            for change in window.into_iter().rev() {
                if change.time_ms < page.since_ms || !page.wants_change(&change) {
                    continue;
                }
                if found.len() == page.limit {
                    return Ok((found, true));
                }
                found.push(change);
            }
            before = first;
        }
        Ok((found, false))
    }

    /// The changes `first..before`, oldest first; fewer where the history does not reach back.
    async fn window(
        &self,
        environment: &EnvironmentName,
        first: Revision,
        before: Revision,
    ) -> Result<Vec<Change>, StoreError> {
        let mut found: Vec<Change> = Vec::new();
        let mut after = Revision(first.0.saturating_sub(1));
        while after.next() < before {
            let most = usize::try_from(before.0 - after.0 - 1).unwrap_or(usize::MAX);
            let changes = self.hub.log().changes(environment, after, most).await?;
            let Some(last) = changes.last().map(|change| change.revision) else { break };
            found.extend(changes.into_iter().filter(|change| change.revision < before));
            after = last;
        }
        Ok(found)
    }

    /// The changes in words; cut off where the answer would become too large.
    async fn told(
        &self,
        environment: &EnvironmentName,
        found: &[Change],
        page: &Page,
    ) -> Result<(Vec<HistoryChange>, bool), ControlError> {
        let wanted = |id: &EntryId| page.wants(id);
        let details = self.details(environment, found, &wanted).await?;
        let mut changes = Vec::new();
        let mut bytes = 0;
        for change in found {
            let told = describe(change, &wanted, &details);
            bytes += told.encoded_len();
            if bytes > PAGE_MAX_BYTES && !changes.is_empty() {
                return Ok((changes, true));
            }
            changes.push(told);
        }
        Ok((changes, false))
    }

    /// What the entries of small changes were before.
    pub(super) async fn details(
        &self,
        environment: &EnvironmentName,
        changes: &[Change],
        wanted: &(dyn Fn(&EntryId) -> bool + Sync),
    ) -> Result<Details, StoreError> {
        let mut needed: HashMap<Revision, Vec<EntryId>> = HashMap::new();
        for change in changes {
            for (write, previous) in compared(change, wanted) {
                needed.entry(*previous).or_default().push(write.id.clone());
            }
        }
        let mut details = Details::default();
        for (revision, ids) in needed {
            let change = match revision {
                Revision::ZERO => None,
                revision => match self.hub.log().change(environment, revision).await? {
                    Some(change) => Some(change),
                    None => continue,
                },
            };
            for id in ids {
                let entry = change.as_ref().and_then(|change| touched(change, &id));
                let bytes = entry.and_then(|(write, _)| write.bytes.clone());
                details.before.insert((id, revision), bytes);
            }
        }
        Ok(details)
    }
}

/// A name that neither the state nor a whole look at the history knows is probably misspelt.
fn check_known(
    fresh: &Fresh,
    name: &Name,
    request: &HistoryRequest,
    found: &[Change],
) -> Result<(), ControlError> {
    let state = fresh.state();
    let known = state.get(&name.entry()).is_some() || state.get(&name.tombstone()).is_some();
    let whole = request.before_revision == 0 && request.since_ms == 0;
    if !known && whole && found.is_empty() { Err(unknown(state, name)) } else { Ok(()) }
}

/// The entries of a change whose fields are compared: those that are wanted, unless there are many.
fn compared<'c>(
    change: &'c Change,
    wanted: &dyn Fn(&EntryId) -> bool,
) -> impl Iterator<Item = &'c (EntryWrite, Revision)> {
    let entries = change.entries.iter().filter(|(write, _)| wanted(&write.id.whole()));
    let (parts, others): (Vec<_>, Vec<_>) =
        entries.partition(|(write, _)| write.id.kind == EntryKind::SEGMENT_PART);
    let is_small = others.len() <= COMPARED_MAX && parts.len() <= PARTS_COMPARED_MAX;
    others.into_iter().chain(parts).filter(move |_| is_small)
}

/// A change in words, with the entries that are wanted.
pub(super) fn describe(
    change: &Change,
    wanted: &dyn Fn(&EntryId) -> bool,
    details: &Details,
) -> HistoryChange {
    let known = |write: &EntryWrite, previous: Revision| details.before.get(&(write.id.clone(), previous));
    let parts = parts_among(change.entries.iter().filter_map(|(write, previous)| {
        Some((&write.id, known(write, *previous)?.as_deref(), write.bytes.as_deref()))
    }));
    let entry = |(write, previous): &(EntryWrite, Revision)| -> TouchedEntry {
        match known(write, *previous) {
            Some(before) => touched_entry(write, *previous, before.as_deref(), Compared::Yes, &parts),
            None => touched_entry(write, *previous, None, Compared::No, &parts),
        }
    };
    HistoryChange {
        revision: change.revision.0,
        time_ms: change.time_ms,
        actor: change.origin.actor.clone(),
        reason: change.origin.reason.clone(),
        operation: change.origin.operation.clone(),
        verb: change.origin.verb.clone(),
        touched: change
            .entries
            .iter()
            .filter(|(write, _)| write.id.kind != EntryKind::SEGMENT_PART && wanted(&write.id))
            .take(LISTED_MAX)
            .map(entry)
            .collect(),
        epoch: Some(convert::epoch_to_wire(change.epoch)),
    }
}
