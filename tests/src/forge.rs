//! Writes into a store what no server would write, to see who notices.

use std::path::Path;
use std::sync::Arc;

use flagd_core::entry::{EntryId, EntryWrite};
use flagd_core::key::EnvironmentName;
use flagd_server::store::log::{Log, NewChange, Origin, Outcome};
use flagd_server::store::redb::Redb;

/// Appends one change with these entries to the environment `default` of a stopped server's store, without any check.
/// `None` removes an entry. Returns the revision.
pub async fn forge(store: &Path, entries: &[(EntryId, Option<&str>)]) -> u64 {
    let environment = EnvironmentName::new("default").expect("a name");
    let store = Redb::open(store, u64::MAX).expect("the server is stopped");
    let log = Log::new(Arc::new(store));
    let state = log.load(&environment).await.expect("the store is whole");
    let writes = entries
        .iter()
        .map(|(id, text)| EntryWrite { id: id.clone(), bytes: text.map(|text| text.as_bytes().into()) })
        .collect();
    let origin = Origin {
        actor: "forger".into(),
        operation: "forge".into(),
        verb: "forge".into(),
        ..Origin::default()
    };
    let change =
        NewChange { origin, time_ms: 0, writes, answer: Vec::new(), fingerprint: 0, source_base: None };
    match log.append(&environment, &state, change).await.expect("the store works") {
        Outcome::Recorded(delta) => delta.to.0,
        Outcome::Lost => panic!("nobody else writes to a stopped server's store"),
    }
}
