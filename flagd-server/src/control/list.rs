//! All flags and segments of an environment, one line each.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use flagd_core::definition::{
    About, FlagDefinition, SegmentDefinition, SegmentList, Switch, parse_flag, parse_kill, parse_tombstone,
};
use flagd_core::entry::{EntryId, EntryKind, StoredEntry};
use flagd_core::key::FlagKey;
use flagd_core::revision::Revision;
use flagd_core::state::State;
use flagd_proto::admin::{FlagState, FlagSummary, ListRequest, ListResponse, SegmentSummary};

use super::changed::Who;
use super::definitions::{read_flag, read_segment};
use super::segments::count;
use super::serves::{serves, serves_killed};
use super::{Control, ControlError};

/// Longer descriptions are cut off in lists.
const DESCRIPTION_MAX_CHARS: usize = 200;

impl Control {
    /// Flags, and segments when asked for, that match a search.
    ///
    /// # Errors
    /// [`ControlError::UnknownEnvironment`], or what the store says.
    pub async fn list(&self, request: ListRequest) -> Result<ListResponse, ControlError> {
        let turn = self.readers.turn().await?;
        let fresh = self.fresh(&request.environment).await?;
        let state = Arc::clone(fresh.state());
        let list = move || {
            let flags = flags(&state, &request);
            let segments = if request.segments { segments(&state, &request) } else { Vec::new() };
            (flags, segments)
        };
        let (mut flags, segments) = turn.work("listing", list).await?;
        let revisions: BTreeSet<Revision> = flags.iter().map(|flag| Revision(flag.revision)).collect();
        let epoch = fresh.position().epoch;
        let who = self.changed.of(self.hub.log(), fresh.environment.name(), epoch, revisions).await?;
        sign(&mut flags, &who);
        Ok(ListResponse {
            position: Some(fresh.wire_position()),
            flags,
            segments,
            view_age_ms: fresh.view_age_ms,
            server: self.server.clone(),
        })
    }
}

fn sign(flags: &mut [FlagSummary], who: &HashMap<Revision, Who>) {
    for flag in flags {
        if let Some(who) = who.get(&Revision(flag.revision)) {
            flag.changed_ms = who.time_ms;
            flag.changed_by = who.actor.to_string();
        }
    }
}

fn flags(state: &State, request: &ListRequest) -> Vec<FlagSummary> {
    let mut found: BTreeMap<&str, FlagSummary> = BTreeMap::new();
    for (id, entry) in state.entries_of(EntryKind::FLAG) {
        found.insert(&id.key, flag(state, &id.key, entry));
    }
    if request.archived {
        for (id, entry) in state.entries_of(EntryKind::TOMBSTONE) {
            found.entry(&id.key).or_insert_with(|| archived(&id.key, entry));
        }
    }
    let wanted = |flag: &FlagSummary| {
        let texts = [&flag.key, &flag.description, &flag.owner].into_iter().chain(&flag.tags);
        matches(&request.search, texts) && request.tags.iter().all(|tag| flag.tags.contains(tag))
    };
    found.into_values().filter(wanted).map(shortened).collect()
}

fn flag(state: &State, key: &str, entry: &StoredEntry) -> FlagSummary {
    let kill = state.get(&EntryId::new(EntryKind::KILL, key));
    let mut summary = match read_flag(key, &entry.bytes) {
        Ok((_, definition)) => understood(key, &definition),
        Err(_) => FlagSummary {
            key: key.to_owned(),
            state: FlagState::NotUnderstood.into(),
            serves: "not understood by this server".to_owned(),
            ..FlagSummary::default()
        },
    };
    summary.revision = entry.revision.0;
    if let Some(kill) = kill {
        summary.state = FlagState::Killed.into();
        summary.serves = serves_killed(&parse_kill(&kill.bytes));
        summary.revision = summary.revision.max(kill.revision.0);
    }
    summary
}

fn understood(key: &str, definition: &FlagDefinition) -> FlagSummary {
    let About { description, owner, tags, .. } = &definition.about;
    let state = match definition.switch {
        Switch::Enabled => FlagState::Enabled,
        Switch::Disabled => FlagState::Disabled,
    };
    FlagSummary {
        key: key.to_owned(),
        r#type: definition.flag_type().word().to_owned(),
        state: state.into(),
        serves: serves(definition),
        owner: owner.clone().unwrap_or_default(),
        tags: tags.clone(),
        description: description.clone().unwrap_or_default(),
        ..FlagSummary::default()
    }
}

fn archived(key: &str, entry: &StoredEntry) -> FlagSummary {
    let tombstone = parse_tombstone(&entry.bytes);
    let definition = tombstone
        .as_ref()
        .and_then(|tombstone| parse_flag(&FlagKey::new(key).ok()?, &tombstone.definition).ok())
        .map(|definition| understood(key, &definition));
    FlagSummary {
        key: key.to_owned(),
        state: FlagState::Archived.into(),
        serves: String::new(),
        r#type: tombstone.map(|tombstone| tombstone.flag_type.word().to_owned()).unwrap_or_default(),
        revision: entry.revision.0,
        ..definition.unwrap_or_default()
    }
}

fn shortened(mut flag: FlagSummary) -> FlagSummary {
    flag.description = short(&flag.description);
    flag
}

fn short(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(DESCRIPTION_MAX_CHARS).collect()
}

fn segments(state: &State, request: &ListRequest) -> Vec<SegmentSummary> {
    let used_by = used_by(state);
    let mut found: BTreeMap<&str, SegmentSummary> = BTreeMap::new();
    for (id, entry) in state.entries_of(EntryKind::SEGMENT) {
        let users = used_by.get(&*id.key).cloned().unwrap_or_default();
        found.insert(&id.key, segment(state, &id.key, entry, users));
    }
    if request.archived {
        for (id, entry) in state.entries_of(EntryKind::SEGMENT_TOMBSTONE) {
            found.entry(&id.key).or_insert_with(|| SegmentSummary {
                archived: true,
                ..segment(state, &id.key, entry, Vec::new())
            });
        }
    }
    found
        .into_values()
        .filter(|segment| matches(&request.search, [&segment.key, &segment.description]))
        .collect()
}

fn segment(state: &State, key: &str, entry: &StoredEntry, used_by: Vec<String>) -> SegmentSummary {
    let definition = read_segment(key, &entry.bytes).ok().map(|(_, definition)| definition);
    let about = |d: &SegmentDefinition| short(d.about.description.as_deref().unwrap_or_default());
    SegmentSummary {
        key: key.to_owned(),
        included: definition.as_ref().map_or(0, |d| count(state, key, d, SegmentList::Include)),
        excluded: definition.as_ref().map_or(0, |d| count(state, key, d, SegmentList::Exclude)),
        condition: definition.as_ref().is_some_and(|d| d.condition.is_some()),
        used_by,
        revision: entry.revision.0,
        description: definition.as_ref().map(about).unwrap_or_default(),
        archived: false,
    }
}

/// Who uses each segment: keys of flags, then `segment KEY`.
fn used_by(state: &State) -> HashMap<String, Vec<String>> {
    let mut used_by: HashMap<String, BTreeSet<(EntryKind, String)>> = HashMap::new();
    for (id, entry) in state.entries_of(EntryKind::FLAG) {
        let Ok((_, definition)) = read_flag(&id.key, &entry.bytes) else { continue };
        for segment in definition.segments() {
            used_by.entry(segment.to_string()).or_default().insert((id.kind, id.key.to_string()));
        }
    }
    for (id, entry) in state.entries_of(EntryKind::SEGMENT) {
        let Ok((_, definition)) = read_segment(&id.key, &entry.bytes) else { continue };
        for segment in definition.segments() {
            used_by.entry(segment.to_string()).or_default().insert((id.kind, format!("segment {}", id.key)));
        }
    }
    used_by.into_iter().map(|(key, users)| (key, users.into_iter().map(|(_, name)| name).collect())).collect()
}

/// Whether one of the texts contains what is searched, whatever the case.
fn matches<'t>(search: &str, texts: impl IntoIterator<Item = &'t String>) -> bool {
    let search = search.to_lowercase();
    search.is_empty() || texts.into_iter().any(|text| text.to_lowercase().contains(&search))
}
