//! Evaluation in order, refusals as stories, and the promises for arbitrary input.

mod order;
mod parts;
mod promises;
mod stories;

use super::*;
use crate::entry::EntryWrite;
use crate::key::EnvironmentName;
use crate::revision::Epoch;

/// An environment whose changes a snapshot follows one by one.
struct World {
    state: State,
    snapshot: Snapshot,
}

impl World {
    fn new() -> World {
        let state = State::empty(EnvironmentName::new("default").unwrap(), Epoch::default());
        let snapshot = Snapshot::build(&state, &BTreeMap::new());
        World { state, snapshot }
    }

    /// One change: `("flag", "key", "json")`, where an empty text removes.
    fn change(&mut self, writes: &[(&str, &str, &str)]) -> &mut World {
        let writes: Vec<EntryWrite> = writes
            .iter()
            .map(|(kind, key, text)| EntryWrite {
                id: id(kind, key),
                bytes: (!text.is_empty()).then(|| text.as_bytes().into()),
            })
            .collect();
        let ids: Vec<EntryId> = writes.iter().map(|write| write.id.clone()).collect();
        let delta = self.state.delta(writes);
        self.state.apply(&delta).unwrap();
        self.snapshot = self.snapshot.derive(&self.state, Touched::Only(&ids));
        self
    }

    /// What a client sees that restarts here with what it had on disk.
    fn restarted(&self) -> Snapshot {
        let last_good = self
            .snapshot
            .refused()
            .into_iter()
            .filter_map(|refusal| Some((refusal.id, refusal.last_good?)))
            .collect();
        Snapshot::build(&self.state, &last_good)
    }

    fn serves(&self, key: &str) -> String {
        shown(&self.snapshot.evaluate(key, &Context::new("u"), Timestamp::default()))
    }

    /// The refused entries, in short.
    fn refused(&self) -> Vec<String> {
        self.snapshot.refused().into_iter().map(|refusal| refusal.id.to_string().replace('`', "")).collect()
    }
}

fn id(kind: &str, key: &str) -> EntryId {
    let number = match kind {
        "flag" => 1,
        "segment" => 2,
        "kill" => 3,
        "tombstone" => 4,
        other => other.parse().unwrap(),
    };
    EntryId::new(EntryKind::from_number(number), key)
}

/// `on (Otherwise)`, or `- (NotFound)`.
fn shown(evaluation: &Evaluation<'_>) -> String {
    format!("{} ({})", evaluation.variant.unwrap_or("-"), evaluation.reason)
}
