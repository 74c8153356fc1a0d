//! Definitions without a server: embedded, from a file, as a bootstrap.
//!
//! A file of definitions makes the entries that `create` makes in an empty environment, so what is refused
//! there is refused here, in the same words. This file does not know who evaluates.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flagd_core::edit::{EditError, first_writes};
use flagd_core::entry::StoredEntry;
use flagd_core::key::EnvironmentName;
use flagd_core::limits::FILE_MAX_BYTES;
use flagd_core::problem::Problem;
use flagd_core::revision::{Epoch, Revision};
use flagd_core::snapshot::Snapshot as Compiled;
use flagd_core::state::State;

use crate::client::Client;
use crate::shared::{Shared, Undeclared};
use crate::status::Connection;
use crate::view::{Source, View};

/// The environment of embedded definitions.
const EMBEDDED: &str = "embedded";

/// Why definitions cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DefinitionError {
    /// The file cannot be read. Do: check the path and its permissions.
    #[error("cannot read the definitions in {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The definitions are wrong. Do: mend the listed places.
    #[error("the definitions are wrong:{}", lines(.0))]
    Invalid(Vec<Problem>),
    /// The definitions cannot be taken over for another reason. Do: as the message says.
    #[error("the definitions cannot be used: {0}")]
    Unusable(String),
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    format!("\n  {}", lines.join("\n  "))
}

/// Reads definitions from a file.
pub(crate) fn read_file(path: &Path) -> Result<String, DefinitionError> {
    let failed = |source| DefinitionError::Read { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > FILE_MAX_BYTES as u64 {
        let message = format!("{} has {length} bytes; at most {FILE_MAX_BYTES} are read", path.display());
        return Err(DefinitionError::Unusable(message));
    }
    std::fs::read_to_string(path).map_err(failed)
}

/// A state that holds what a file of definitions says.
pub(crate) fn state_of(
    text: &str,
    environment: EnvironmentName,
    revision: Revision,
) -> Result<State, DefinitionError> {
    let writes = first_writes(text).map_err(|error| match error {
        EditError::Invalid(problems) => DefinitionError::Invalid(problems),
        other => DefinitionError::Unusable(other.to_string()),
    })?;
    let entries = writes
        .into_iter()
        .filter_map(|write| Some((write.id, StoredEntry { bytes: write.bytes?, revision })));
    Ok(State::from_entries(environment, Epoch::default(), revision, entries))
}

/// A view of a state that the program itself provides.
pub(crate) fn view_of(state: &State, source: Source) -> View {
    View::new(Compiled::build(state, &BTreeMap::new()), state.position(), source, Vec::new())
}

/// The name under which embedded definitions are hashed; it cannot be wrong.
pub(crate) fn embedded_environment() -> Result<EnvironmentName, DefinitionError> {
    EnvironmentName::new(EMBEDDED).map_err(|error| DefinitionError::Unusable(error.to_string()))
}

/// A client of a state that the program itself provides.
pub(crate) fn client_of(state: &State, undeclared: Undeclared) -> Client {
    let shared = Shared::new(EMBEDDED.into(), String::new(), Connection::Embedded, undeclared);
    let shared = Arc::new(shared);
    show(&shared, state);
    Client::without_feed(shared)
}

/// Puts a state of the program's own in use.
pub(crate) fn show(shared: &Shared, state: &State) {
    drop(shared.swap(&Arc::new(view_of(state, Source::Embedded))));
    shared.bulletin.put(|update| update.revision = state.revision().0);
}

impl Client {
    /// A client that answers from definitions in the program: `{"flags": {...}, "segments": {...}}` as JSON. It
    /// needs no server, no runtime and no thread.
    ///
    /// # Errors
    /// [`DefinitionError`] with every problem at once.
    pub fn embedded(definitions: &str) -> Result<Client, DefinitionError> {
        let state = state_of(definitions, embedded_environment()?, Revision(1))?;
        Ok(client_of(&state, Undeclared::Told))
    }

    /// [`Client::embedded`] with definitions from a file, read once.
    ///
    /// # Errors
    /// [`DefinitionError`] when the file cannot be read, or with every problem at once.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Client, DefinitionError> {
        Client::embedded(&read_file(path.as_ref())?)
    }
}
