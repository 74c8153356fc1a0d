//! How a view goes from one revision to a later one: bytes applied and verified, the snapshot derived, the
//! messages encoded once. Synchronous and without I/O; the pump in `follow` feeds it.
//!
//! Two copies of the state take turns. Readers see one; the other one lags a step behind and is brought up to date
//! in place at the next change, so that a change costs what it touches and not what the environment holds. Only if a
//! reader still holds the copy of two steps ago is it cloned. The bytes themselves are shared by both.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use flagd_core::entry::EntryId;
use flagd_core::revision::{Position, Revision};
use flagd_core::snapshot::{Snapshot, Touched};
use flagd_core::state::{Delta, DeltaError, State};

use super::delta_log::Record;
use super::frames;
use crate::store::StoreError;
use crate::store::log::Change;

/// A state, compiled: what readers see.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    /// The bytes.
    pub(crate) state: Arc<State>,
    /// The same, compiled.
    pub(crate) snapshot: Arc<Snapshot>,
    /// How many bytes the entries are; about the size of a full state on the wire.
    pub(crate) bytes: usize,
}

impl Shown {
    /// Where it stands.
    pub(crate) fn position(&self) -> Position {
        self.state.position()
    }
}

/// The copy of the state that is not shown.
#[derive(Debug)]
pub(crate) struct Core {
    spare: Arc<State>,
    /// What the shown copy has and the spare one has not.
    behind: Vec<Delta>,
}

/// How a head relates to what is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadIs {
    /// The view is the newest.
    Shown,
    /// Changes follow.
    Ahead,
    /// A younger history was begun.
    Younger,
    /// History was cut: the store went back behind what was shown, or tells another story about it.
    Cut,
}

/// Compares a head that was just read with what is shown.
pub(crate) fn head_is(shown: Position, head: Position) -> HeadIs {
    use std::cmp::Ordering::{Equal, Greater, Less};
    match (head.epoch.cmp(&shown.epoch), head.revision.cmp(&shown.revision)) {
        (Greater, _) => HeadIs::Younger,
        (Equal, Greater) => HeadIs::Ahead,
        (Equal, Equal) if head.digest == shown.digest => HeadIs::Shown,
        (Less, _) | (Equal, Less | Equal) => HeadIs::Cut,
    }
}

/// The step from a change as the log holds it.
pub(crate) fn delta_of(change: &Change) -> Delta {
    Delta {
        epoch: change.epoch,
        from: Revision(change.revision.0.saturating_sub(1)),
        to: change.revision,
        digest_after: change.digest,
        writes: change.entries.iter().map(|(write, _)| write.clone()).collect(),
    }
}

impl Core {
    /// Begins with a state that was loaded whole.
    pub(crate) fn new(state: State) -> (Core, Shown) {
        let snapshot = Snapshot::build(&state, &BTreeMap::new());
        Core::begin(state, snapshot)
    }

    /// Jumps to a state that was loaded whole, keeping the last good versions that `shown` knows.
    pub(crate) fn jump(shown: &Shown, state: State) -> (Core, Shown) {
        let snapshot = shown.snapshot.derive(&state, Touched::All);
        Core::begin(state, snapshot)
    }

    /// Goes on from what is shown.
    pub(crate) fn resume(shown: &Shown) -> Core {
        Core { spare: Arc::clone(&shown.state), behind: Vec::new() }
    }

    fn begin(state: State, snapshot: Snapshot) -> (Core, Shown) {
        let bytes = state.entries().map(|(id, entry)| id.key.len() + entry.bytes.len()).sum();
        let state = Arc::new(state);
        let core = Core { spare: Arc::clone(&state), behind: Vec::new() };
        (core, Shown { state, snapshot: Arc::new(snapshot), bytes })
    }

    /// Applies changes that follow what is shown. What comes out is shown next; the records go to the subscribers.
    ///
    /// # Errors
    /// [`DeltaError`] when a change does not follow or does not add up. This core is of no use then: load and jump.
    pub(crate) fn advance(
        &mut self,
        shown: &Shown,
        changes: &[Arc<Change>],
    ) -> Result<(Shown, Vec<Record>), DeltaError> {
        let state = Arc::make_mut(&mut self.spare);
        for delta in self.behind.drain(..) {
            state.apply(&delta)?;
        }
        let mut bytes = shown.bytes;
        let mut deltas = Vec::with_capacity(changes.len());
        let mut records = Vec::with_capacity(changes.len());
        let mut touched: Vec<EntryId> = Vec::new();
        for change in changes {
            let delta = delta_of(change);
            for write in &delta.writes {
                let before = state.get(&write.id).map_or(0, |entry| write.id.key.len() + entry.bytes.len());
                let after = write.bytes.as_ref().map_or(0, |bytes| write.id.key.len() + bytes.len());
                bytes = (bytes + after).saturating_sub(before);
                touched.push(write.id.clone());
            }
            state.apply(&delta)?;
            records.push(Record {
                from: delta.from,
                to: state.position(),
                frames: frames::delta(&delta),
                shown: Instant::now(),
            });
            deltas.push(delta);
        }
        let snapshot = Arc::new(shown.snapshot.derive(state, Touched::Only(&touched)));
        let state = std::mem::replace(&mut self.spare, Arc::clone(&shown.state));
        self.behind = deltas;
        Ok((Shown { state, snapshot, bytes }, records))
    }
}

/// Compiles a whole environment away from the threads that carry everybody's streams.
///
/// # Errors
/// [`StoreError::Corrupt`] when it failed for a reason that nobody foresaw.
pub(crate) async fn compile(
    build: impl FnOnce() -> (Core, Shown) + Send + 'static,
) -> Result<(Core, Shown), StoreError> {
    let compiled = tokio::task::spawn_blocking(build).await;
    compiled.map_err(|error| StoreError::Corrupt(format!("the state could not be compiled: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::log::Origin;
    use flagd_core::entry::{EntryKind, EntryWrite};
    use flagd_core::key::EnvironmentName;
    use flagd_core::revision::{Digest, Epoch};

    const EPOCH: Epoch = Epoch { minted_ms: 5, random: 1 };

    fn empty() -> State {
        State::empty(EnvironmentName::new("default").unwrap(), EPOCH)
    }

    fn change(model: &mut State, writes: Vec<EntryWrite>) -> Arc<Change> {
        let delta = model.delta(writes);
        model.apply(&delta).unwrap();
        Arc::new(Change {
            revision: delta.to,
            epoch: delta.epoch,
            digest: delta.digest_after,
            time_ms: 0,
            origin: Origin::default(),
            entries: delta.writes.into_iter().map(|write| (write, Revision::ZERO)).collect(),
        })
    }

    fn set(key: &str, bytes: &str) -> EntryWrite {
        // A kind that no version knows: this is about bytes, not about flags.
        EntryWrite::set(EntryId::new(EntryKind::from_number(99), key), bytes.as_bytes())
    }

    fn remove(key: &str) -> EntryWrite {
        EntryWrite::remove(EntryId::new(EntryKind::from_number(99), key))
    }

    #[test]
    fn what_is_shown_is_what_the_changes_make() {
        let mut model = empty();
        let (mut core, mut shown) = Core::new(empty());
        let mut held = Vec::new();
        for step in 0..6 {
            let batch = vec![
                change(&mut model, vec![set("a", &"x".repeat(step)), set(&format!("k{step}"), "1")]),
                change(&mut model, vec![remove("a")]),
            ];
            let (next, records) = core.advance(&shown, &batch).unwrap();
            assert_eq!(records.len(), 2);
            if step == 2 {
                held.push((Arc::clone(&shown.state), (*shown.state).clone()));
            }
            shown = next;
            assert_eq!(*shown.state, model);
            assert_eq!(shown.snapshot.position(), model.position());
            let (_, whole) = Core::new(model.clone());
            assert_eq!(shown.bytes, whole.bytes);
        }
        for (state, copy) in held {
            assert_eq!(*state, copy, "what a reader holds does not change under it");
        }
    }

    #[test]
    fn without_readers_nothing_is_cloned() {
        let mut model = empty();
        let (mut core, mut shown) = Core::new(empty());
        let mut places = Vec::new();
        for step in 0..6 {
            let batch = [change(&mut model, vec![set(&format!("k{step}"), "1")])];
            (shown, _) = core.advance(&shown, &batch).unwrap();
            places.push(Arc::as_ptr(&shown.state));
        }
        assert_eq!((places[2], places[3]), (places[4], places[5]));
    }

    #[test]
    fn a_gap_and_a_wrong_digest_are_seen() {
        let mut model = empty();
        let first = change(&mut model, vec![set("a", "1")]);
        let second = change(&mut model, vec![set("a", "2")]);
        let (mut core, shown) = Core::new(empty());
        assert!(matches!(core.advance(&shown, &[second]), Err(DeltaError::OtherRevision { .. })));
        let (mut core, shown) = Core::new(empty());
        let forged = Arc::new(Change { digest: Digest(1), ..(*first).clone() });
        assert!(matches!(core.advance(&shown, &[forged]), Err(DeltaError::OtherDigest { .. })));
    }

    #[test]
    fn heads_are_told_apart() {
        let at = |epoch, revision, digest| Position {
            epoch: Epoch { minted_ms: epoch, random: 0 },
            revision: Revision(revision),
            digest: Digest(digest),
        };
        let shown = at(5, 7, 70);
        for (name, head, want) in [
            ("the same", at(5, 7, 70), HeadIs::Shown),
            ("later", at(5, 9, 90), HeadIs::Ahead),
            ("younger epoch", at(6, 2, 1), HeadIs::Younger),
            ("earlier", at(5, 6, 60), HeadIs::Cut),
            ("another story", at(5, 7, 71), HeadIs::Cut),
            ("older epoch", at(4, 99, 1), HeadIs::Cut),
        ] {
            assert_eq!(head_is(shown, head), want, "{name}");
        }
    }
}
