//! flagd's engine: `Snapshot::evaluate`.
//!
//! Its definitions are one JSON document, `{"flags": {...}, "segments": {...}}`; a caller cuts it into entries, each
//! with the bytes of one definition, as they come from the stream and from the disk.

use std::collections::BTreeMap;

use flagd_core::context::Context;
use flagd_core::edit::{Author, Edit, PutMode, plan};
use flagd_core::entry::{EntryId, EntryKind, EntryWrite, StoredEntry};
use flagd_core::key::EnvironmentName;
use flagd_core::revision::{Epoch, Revision};
use flagd_core::snapshot::{Snapshot, Touched};
use flagd_core::state::State;
use flagd_core::time::Timestamp;
use serde_json::Value;
use serde_json::value::RawValue;

use super::flagd_client;
use crate::engine::{Candidate, Change, Definitions, Engine, Failure, Loading, Source, Tally, Walk, letter};
use crate::measure::{Clock, Stopwatch};
use crate::spec::{Flag, User};

pub(super) const CANDIDATE: Candidate = Candidate {
    name: "**flagd-core**",
    package: "flagd-core",
    called: "`Snapshot::evaluate`: value, variant, reason, position",
    loading: Loading::Compiles,
    change: Change::Own,
    source: Source::Text,
    definitions: flagd_client::definitions,
    load,
};

struct Core {
    state: State,
    snapshot: Snapshot,
    contexts: Vec<Context>,
}

/// Every definition as its own piece of the text.
type Pieces<'a> = BTreeMap<&'a str, BTreeMap<&'a str, &'a RawValue>>;

fn load(definitions: &Definitions) -> Result<Box<dyn Engine>, Failure> {
    let state = state(&definitions.text)?;
    let snapshot = Snapshot::build(&state, &BTreeMap::new());
    match snapshot.refused().first() {
        Some(refusal) => Err(Failure::definitions(format_args!("{:?}: {}", refusal.id, refusal.why))),
        None => Ok(Box::new(Core { state, snapshot, contexts: Vec::new() })),
    }
}

/// The state that a document of definitions says.
/// # Errors
/// [`Failure::Definitions`] when the text is no such document.
pub fn state(text: &str) -> Result<State, Failure> {
    let pieces: Pieces<'_> = serde_json::from_str(text).map_err(Failure::definitions)?;
    let environment = EnvironmentName::new("peers").map_err(Failure::definitions)?;
    let flags = pieces.get("flags").into_iter().flatten().map(|(key, piece)| {
        let bytes = piece.get().as_bytes().into();
        (EntryId::new(EntryKind::FLAG, key), StoredEntry { bytes, revision: Revision(1) })
    });
    let segments = segments(&pieces, &environment)?;
    Ok(State::from_entries(environment, Epoch::default(), Revision(1), flags.chain(segments)))
}

/// The segments as a server stores them: a long list lies in parts.
fn segments(
    pieces: &Pieces<'_>,
    environment: &EnvironmentName,
) -> Result<Vec<(EntryId, StoredEntry)>, Failure> {
    let Some(segments) = pieces.get("segments") else { return Ok(Vec::new()) };
    let file =
        serde_json::to_string(&BTreeMap::from([("segments", segments)])).map_err(Failure::definitions)?;
    let author = Author { actor: String::new(), reason: None, now: Timestamp::from_millis(0) };
    let edit = Edit::Put { file, mode: PutMode::Create };
    let empty = State::empty(environment.clone(), Epoch::default());
    let plan = plan(&empty, &edit, &author).map_err(Failure::definitions)?;
    let stored = |bytes| StoredEntry { bytes, revision: Revision(1) };
    Ok(plan.writes.into_iter().filter_map(|write| Some((write.id, stored(write.bytes?)))).collect())
}

/// Contexts as both of our candidates ask with.
pub(super) fn contexts(users: &[User]) -> Vec<Context> {
    let context = |user: &User| {
        let attributes = user.attributes.iter();
        attributes
            .fold(Context::new(user.id.as_str()), |context, (name, text)| context.with(*name, text.as_str()))
    };
    users.iter().map(context).collect()
}

impl Core {
    #[inline]
    fn value(&self, flag: &str, user: usize) -> Option<&Value> {
        let context = self.contexts.get(user)?;
        self.snapshot.evaluate(flag, context, Timestamp::from_millis(0)).value
    }
}

impl Engine for Core {
    fn meet(&mut self, users: &[User]) {
        self.contexts = contexts(users);
    }

    fn walk(&self, walk: &Walk<'_>) -> Tally {
        walk.tally(
            |flag, user| self.value(flag, user).and_then(Value::as_bool).unwrap_or(false),
            |flag, user| self.value(flag, user).and_then(Value::as_str).and_then(letter),
        )
    }

    fn change(&mut self, flag: &Flag) -> Result<f64, Failure> {
        let id = EntryId::new(EntryKind::FLAG, &flag.name);
        let bytes = flagd_client::definition(flag).to_string().into_bytes();
        let delta = self.state.delta(vec![EntryWrite::set(id.clone(), bytes)]);
        let watch = Stopwatch::start(Clock::Thread);
        self.state.apply(&delta).map_err(Failure::definitions)?;
        self.snapshot = self.snapshot.derive(&self.state, Touched::Only(&[id]));
        Ok(watch.elapsed_ns())
    }
}
