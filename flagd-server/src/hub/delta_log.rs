//! The newest changes of one environment as encoded bytes, shared by all its subscribers.
//!
//! A subscriber is a position in this log and not a queue, so a slow one costs nothing: when the log has moved
//! on, it skips ahead to the full state. The log is bounded in bytes, holds changes of one epoch without gaps,
//! and promises nothing about how far back it reaches. Synchronous; knows no stream.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use flagd_core::revision::{Digest, Epoch, Position, Revision};
use flagd_proto::frame::Frame;

/// One encoded change.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// The revision it applies to.
    pub(crate) from: Revision,
    /// The state that it makes.
    pub(crate) to: Position,
    /// Its messages: one, or the parts of a large change.
    pub(crate) frames: Arc<[Frame]>,
    /// When this server showed it, for the latency of acknowledgements.
    pub(crate) shown: Instant,
}

impl Record {
    fn bytes(&self) -> usize {
        self.frames.iter().map(Frame::len).sum()
    }
}

/// What a subscriber does next.
#[derive(Clone, Debug)]
pub(crate) enum Next {
    /// It has everything.
    Nothing,
    /// This change follows.
    Change(Record),
    /// The log does not reach back to it: it needs the full state.
    FellOut,
}

/// The log. Its head is the environment's position also when it holds no change.
#[derive(Debug)]
pub(crate) struct DeltaLog {
    head: Position,
    records: VecDeque<Record>,
    bytes: usize,
    bytes_max: usize,
}

impl DeltaLog {
    /// An empty log whose subscribers stand at `head`.
    pub(crate) fn new(head: Position, bytes_max: usize) -> DeltaLog {
        DeltaLog { head, records: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Forgets everything: the environment jumped to `head`.
    pub(crate) fn reset(&mut self, head: Position) {
        *self = DeltaLog::new(head, self.bytes_max);
    }

    /// Adds the change that follows. One that does not follow the head makes the log begin anew behind it.
    pub(crate) fn push(&mut self, record: Record) {
        if record.to.epoch != self.head.epoch || record.from != self.head.revision {
            self.reset(record.to);
            return;
        }
        self.head = record.to;
        self.bytes += record.bytes();
        self.records.push_back(record);
        while self.bytes > self.bytes_max {
            match self.records.pop_front() {
                Some(oldest) => self.bytes -= oldest.bytes(),
                None => break,
            }
        }
    }

    /// The newest position.
    pub(crate) fn head(&self) -> Position {
        self.head
    }

    /// What follows a subscriber's position.
    pub(crate) fn next(&self, epoch: Epoch, revision: Revision) -> Next {
        if self.is_newest(epoch, revision) {
            return Next::Nothing;
        }
        match self.index_after(epoch, revision).and_then(|index| self.records.get(index)) {
            Some(record) => Next::Change(record.clone()),
            None => Next::FellOut,
        }
    }

    /// Whether nothing follows a revision.
    pub(crate) fn is_newest(&self, epoch: Epoch, revision: Revision) -> bool {
        epoch == self.head.epoch && revision == self.head.revision
    }

    /// All changes after a revision; `None` when the log does not reach back to it.
    pub(crate) fn since(&self, epoch: Epoch, revision: Revision) -> Option<Vec<Record>> {
        if self.is_newest(epoch, revision) {
            return Some(Vec::new());
        }
        let index = self.index_after(epoch, revision)?;
        Some(self.records.iter().skip(index).cloned().collect())
    }

    /// The digest that the environment had at a revision, as far as the log knows.
    pub(crate) fn digest_at(&self, epoch: Epoch, revision: Revision) -> Option<Digest> {
        if epoch != self.head.epoch {
            return None;
        }
        if revision == self.head.revision {
            return Some(self.head.digest);
        }
        // The record that made `revision` stands just before the one that starts from it.
        let index = self.index_after(epoch, revision)?.checked_sub(1)?;
        self.records.get(index).map(|record| record.to.digest)
    }

    /// Records have consecutive revisions, so the place is a subtraction.
    fn index_after(&self, epoch: Epoch, revision: Revision) -> Option<usize> {
        let first = self.records.front()?;
        if epoch != self.head.epoch {
            return None;
        }
        let index = usize::try_from(revision.0.checked_sub(first.from.0)?).ok()?;
        (index < self.records.len()).then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flagd_proto::stream::{Heartbeat, ServerMessage, server_message};

    const EPOCH: Epoch = Epoch { minted_ms: 7, random: 1 };

    fn position(revision: u64) -> Position {
        Position { epoch: EPOCH, revision: Revision(revision), digest: Digest(u128::from(revision) * 10) }
    }

    fn frame() -> Frame {
        let message = server_message::Message::Heartbeat(Heartbeat { position: None, view_age_ms: 1 });
        Frame::encode(&ServerMessage { message: Some(message) })
    }

    fn record(to: u64) -> Record {
        Record {
            from: Revision(to - 1),
            to: position(to),
            frames: vec![frame()].into(),
            shown: Instant::now(),
        }
    }

    fn log(bytes_max: usize, changes: std::ops::RangeInclusive<u64>) -> DeltaLog {
        let mut log = DeltaLog::new(position(changes.start() - 1), bytes_max);
        changes.for_each(|to| log.push(record(to)));
        log
    }

    #[test]
    fn a_subscriber_walks_change_by_change() {
        let log = log(usize::MAX, 6..=8);
        let mut at = Revision(5);
        let mut seen = Vec::new();
        while let Next::Change(record) = log.next(EPOCH, at) {
            at = record.to.revision;
            seen.push(at.0);
        }
        assert_eq!(seen, [6, 7, 8]);
        assert!(matches!(log.next(EPOCH, at), Next::Nothing));
    }

    #[test]
    fn who_is_not_in_the_log_fell_out() {
        let log = log(usize::MAX, 6..=8);
        let other = Epoch { minted_ms: 8, random: 1 };
        for (name, epoch, revision) in [
            ("before", EPOCH, 4),
            ("after", EPOCH, 9),
            ("other epoch", other, 6),
            ("other epoch, same head", other, 8),
        ] {
            assert!(matches!(log.next(epoch, Revision(revision)), Next::FellOut), "{name}");
            assert!(log.since(epoch, Revision(revision)).is_none(), "{name}");
        }
    }

    #[test]
    fn bytes_are_bounded_and_the_oldest_go_first() {
        let log = log(frame().len() * 2, 6..=9);
        assert!(matches!(log.next(EPOCH, Revision(6)), Next::FellOut));
        assert_eq!(log.since(EPOCH, Revision(7)).unwrap().len(), 2);
        assert!(log.bytes <= log.bytes_max);
    }

    #[test]
    fn a_change_above_the_bound_leaves_nobody_waiting_for_it() {
        let log = log(frame().len() - 1, 6..=6);
        assert!(matches!(log.next(EPOCH, Revision(5)), Next::FellOut));
        assert!(matches!(log.next(EPOCH, Revision(6)), Next::Nothing));
        assert_eq!(log.bytes, 0);
    }

    #[test]
    fn digests_are_known_as_far_as_the_log_reaches() {
        let log = log(usize::MAX, 6..=8);
        let known = |revision| log.digest_at(EPOCH, Revision(revision)).map(|digest| digest.0);
        assert_eq!(
            [known(5), known(6), known(7), known(8), known(9)],
            [None, Some(60), Some(70), Some(80), None]
        );
    }

    #[test]
    fn a_gap_begins_a_new_log() {
        let mut log = log(usize::MAX, 6..=8);
        log.push(record(11));
        assert_eq!(log.head(), position(11));
        assert!(matches!(log.next(EPOCH, Revision(7)), Next::FellOut));
        assert!(matches!(log.next(EPOCH, Revision(10)), Next::FellOut));
        assert!(matches!(log.next(EPOCH, Revision(11)), Next::Nothing));
    }
}
