//! One definition, as it is or as it was, with everything an operator wants to know before touching it.

use std::sync::Arc;

use flagd_core::canonical::{Form, write_flag, write_segment};
use flagd_core::definition::{Switch, parse_flag, parse_tombstone};
use flagd_core::entry::{EntryId, StoredEntry};
use flagd_core::key::FlagKey;
use flagd_core::revision::Revision;
use flagd_core::state::State;
use flagd_proto::admin::{self, FlagState, GetRequest, GetResponse};
use flagd_proto::convert;

use super::definitions::{read_flag, users};
use super::read::unknown;
use super::request::Name;
use super::segments::read_whole_segment;
use super::{Control, ControlError};

/// A definition for people.
struct Shown {
    definition: String,
    revision: Revision,
    state: FlagState,
    notes: Vec<admin::Note>,
}

impl Control {
    /// A flag or a segment.
    ///
    /// # Errors
    /// [`ControlError::UnknownEntry`] when the state asked for has neither it nor its tombstone.
    pub async fn get(&self, request: GetRequest) -> Result<GetResponse, ControlError> {
        let fresh = self.fresh(&request.environment).await?;
        let name = request
            .name
            .as_ref()
            .ok_or_else(|| ControlError::request("`name` must say which flag or segment"))?;
        let name = Name::from_wire(name)?;
        let state = self.state_at(&fresh, request.at_revision).await?;
        let kill = match &name {
            Name::Flag(key) => state.get(&EntryId::kill(key)),
            Name::Segment(_) => None,
        };
        let shown = show(&state, &name)?;
        let users = users(&state, &name);
        let (required_by, used_by) = match name {
            Name::Flag(_) => (users, Vec::new()),
            Name::Segment(_) => (Vec::new(), users),
        };
        Ok(GetResponse {
            position: Some(convert::position_to_wire(state.position())),
            definition: shown.definition,
            revision: shown.revision.0,
            kill: kill.map(|kill| String::from_utf8_lossy(&kill.bytes).into_owned()).unwrap_or_default(),
            state: if kill.is_some() { FlagState::Killed } else { shown.state }.into(),
            required_by,
            used_by,
            notes: shown.notes,
            view_age_ms: fresh.view_age_ms,
            server: self.server.clone(),
        })
    }
}

fn show(state: &Arc<State>, name: &Name) -> Result<Shown, ControlError> {
    match (state.get(&name.entry()), state.get(&name.tombstone())) {
        (Some(entry), _) => Ok(live(state, name, entry)),
        (None, Some(tombstone)) => Ok(archived(state, name, tombstone)),
        (None, None) => Err(unknown(state, name)),
    }
}

fn live(state: &State, name: &Name, entry: &StoredEntry) -> Shown {
    let read = match name {
        Name::Flag(key) => read_flag(key.as_str(), &entry.bytes).map(|(key, definition)| {
            let state = match definition.switch {
                Switch::Enabled => FlagState::Enabled,
                Switch::Disabled => FlagState::Disabled,
            };
            (write_flag(&key, &definition, Form::Readable), state)
        }),
        Name::Segment(key) => read_whole_segment(state, key.as_str(), &entry.bytes)
            .map(|(key, definition)| (write_segment(&key, &definition, Form::Readable), FlagState::Enabled)),
    };
    match read {
        Ok((definition, state)) => Shown { definition, revision: entry.revision, state, notes: Vec::new() },
        Err(why) => Shown {
            definition: String::from_utf8_lossy(&entry.bytes).into_owned(),
            revision: entry.revision,
            state: FlagState::NotUnderstood,
            notes: vec![admin::Note {
                severity: admin::Severity::Warning.into(),
                about: Some(convert::entry_id_to_wire(&name.entry())),
                text: format!(
                    "this server does not understand the stored definition, which is shown as it is: {why}"
                ),
            }],
        },
    }
}

fn archived(state: &State, name: &Name, entry: &StoredEntry) -> Shown {
    let definition = match name {
        Name::Flag(key) => archived_flag(key, &entry.bytes),
        Name::Segment(key) => read_whole_segment(state, key.as_str(), &entry.bytes)
            .ok()
            .map(|(key, d)| write_segment(&key, &d, Form::Readable)),
    };
    let definition = definition.unwrap_or_else(|| String::from_utf8_lossy(&entry.bytes).into_owned());
    Shown { definition, revision: entry.revision, state: FlagState::Archived, notes: Vec::new() }
}

fn archived_flag(key: &FlagKey, bytes: &[u8]) -> Option<String> {
    let tombstone = parse_tombstone(bytes)?;
    let definition = parse_flag(key, &tombstone.definition).ok()?;
    Some(write_flag(key, &definition, Form::Readable))
}
