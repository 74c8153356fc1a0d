//! One subscriber: where it stands in the shared log, and the frames that are about to be written to it.
//!
//! Synchronous. It holds shared frames only, never more than what one answer needs: as long as something is waiting
//! to be written nothing new is taken from the log, so a slow stream costs its position and falls out of the log
//! sooner or later.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flagd_core::revision::{Epoch, Position, Revision};
use flagd_proto::frame::Frame;
use tokio::sync::oneshot;

use super::delta_log::{DeltaLog, Next, Record};
use super::frames;
use super::fulls::Full;

/// So many requests for the full state in a row are answered at once.
const FULLS_AT_ONCE: u32 = 2;
/// The first wait after that; it doubles.
const FULL_DELAY: Duration = Duration::from_secs(1);
/// The longest.
const FULL_DELAY_MAX: Duration = Duration::from_secs(30);

/// Where a stream stands and what it writes next.
#[derive(Debug, Default)]
pub(crate) struct Subscriber {
    /// What was last written whole; `None`: nothing yet.
    at: Option<Position>,
    /// What is being written.
    batch: Option<Batch>,
    /// What follows it; nothing but in a catch-up, so that an idle stream keeps no room for it.
    outbox: VecDeque<Batch>,
    fulls_in_a_row: u32,
    /// Where the last full state stood that is or was written.
    last_full: Option<Position>,
    unacknowledged: Option<(Epoch, Revision, Instant)>,
}

/// Frames that belong together.
#[derive(Debug)]
struct Batch {
    frames: Arc<[Frame]>,
    next: usize,
    /// Where the client stands after the last of them.
    then: Option<Position>,
    /// Dropped with the batch: the right to send a full state goes back.
    _sending: Option<oneshot::Sender<()>>,
}

/// What became of a full state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Taken {
    /// It is about to be written.
    Queued,
    /// Changes beyond it were written meanwhile.
    Older,
}

/// What was found in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pulled {
    /// Nothing new.
    Nothing,
    /// A change is about to be written; there are more.
    Change,
    /// The newest change is about to be written.
    Newest,
    /// The log does not reach back far enough: the full state is due.
    FellOut,
}

impl Subscriber {
    /// What was last written to it.
    pub(crate) fn at(&self) -> Option<Position> {
        self.at
    }

    /// The client is where the server is.
    pub(crate) fn queue_up_to_date(&mut self, position: Position) {
        self.queue(vec![frames::up_to_date(position)].into(), Some(position), None);
    }

    /// The client gets the changes that it missed.
    pub(crate) fn queue_catch_up(&mut self, changes: Vec<Arc<[Frame]>>, until: Position) {
        self.queue(vec![frames::catch_up(until.revision)].into(), None, None);
        let last = changes.len().saturating_sub(1);
        for (index, frames) in changes.into_iter().enumerate() {
            self.queue(frames, (index == last).then_some(until), None);
        }
    }

    /// The client gets everything. `sending` is dropped when the last part was taken.
    ///
    /// Changes are written while a full state is waited for, so one of them may lie beyond it. Such a full state is not
    /// written: a client that has the change takes the server for one that went back (a relay leaves it), and to one that
    /// has not, the change after it would not apply.
    pub(crate) fn queue_full(&mut self, full: Full, sending: oneshot::Sender<()>) -> Taken {
        let place = |at: Position| (at.epoch, at.revision);
        if self.will_be_at().is_some_and(|at| place(at) > place(full.position)) {
            return Taken::Older;
        }
        self.unacknowledged = None;
        self.last_full = Some(full.position);
        self.queue(full.frames, Some(full.position), Some(sending));
        Taken::Queued
    }

    /// Where the client stands after everything that is about to be written.
    fn will_be_at(&self) -> Option<Position> {
        let mut waiting = self.outbox.iter().rev().chain(&self.batch);
        waiting.find_map(|batch| batch.then).or(self.at)
    }

    fn queue(&mut self, frames: Arc<[Frame]>, then: Option<Position>, sending: Option<oneshot::Sender<()>>) {
        let batch = Batch { frames, next: 0, then, _sending: sending };
        match &self.batch {
            None => self.batch = Some(batch),
            Some(_) => self.outbox.push_back(batch),
        }
    }

    /// Whether something is about to be written.
    pub(crate) fn has_more(&self) -> bool {
        self.batch.is_some()
    }

    /// The next frame to write.
    pub(crate) fn pop(&mut self) -> Option<Frame> {
        loop {
            let batch = self.batch.as_mut()?;
            let frame = batch.frames.get(batch.next).cloned();
            batch.next += 1;
            if batch.next >= batch.frames.len() {
                self.at = batch.then.or(self.at);
                self.batch = self.outbox.pop_front();
                if self.outbox.is_empty() {
                    self.outbox = VecDeque::new();
                }
            }
            if frame.is_some() {
                return frame;
            }
        }
    }

    /// Takes the next change from the log, once everything before it was written.
    pub(crate) fn pull(&mut self, log: &DeltaLog) -> Pulled {
        if self.has_more() {
            return Pulled::Nothing;
        }
        let Some(at) = self.at else { return Pulled::FellOut };
        match log.next(at.epoch, at.revision) {
            Next::Nothing => Pulled::Nothing,
            Next::FellOut => Pulled::FellOut,
            Next::Change(Record { to, frames, shown, .. }) => {
                self.unacknowledged = Some((to.epoch, to.revision, shown));
                self.queue(frames, Some(to), None);
                if log.is_newest(to.epoch, to.revision) { Pulled::Newest } else { Pulled::Change }
            }
        }
    }

    /// The client says what it has in use. How long ago the change was shown, if it is the newest one written.
    pub(crate) fn acknowledged(&mut self, position: Option<Position>, now: Instant) -> Option<Duration> {
        // A full state that was put in use did its work, also when changes were written behind it already.
        if position.is_some() && (position == self.at || position == self.last_full) {
            self.fulls_in_a_row = 0;
        }
        let (epoch, revision, shown) = self.unacknowledged?;
        if position.is_some_and(|at| at.epoch == epoch && at.revision == revision) {
            self.unacknowledged = None;
            return Some(now.saturating_duration_since(shown));
        }
        None
    }

    /// The client asks for the full state: how long to wait before it is sent.
    pub(crate) fn full_delay(&mut self) -> Duration {
        self.fulls_in_a_row = self.fulls_in_a_row.saturating_add(1);
        match self.fulls_in_a_row.checked_sub(FULLS_AT_ONCE + 1) {
            None => Duration::ZERO,
            Some(doublings) => FULL_DELAY.saturating_mul(2_u32.saturating_pow(doublings)).min(FULL_DELAY_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flagd_core::revision::Digest;

    const EPOCH: Epoch = Epoch { minted_ms: 7, random: 1 };

    fn position(revision: u64) -> Position {
        Position { epoch: EPOCH, revision: Revision(revision), digest: Digest(u128::from(revision)) }
    }

    fn frames_of(tag: u64, count: u64) -> Arc<[Frame]> {
        (0..count).map(|part| frames::go_away(tag * 100 + part, "")).collect()
    }

    fn record(to: u64, parts: u64) -> Record {
        Record {
            from: Revision(to - 1),
            to: position(to),
            frames: frames_of(to, parts),
            shown: Instant::now(),
        }
    }

    fn drain(subscriber: &mut Subscriber) -> Vec<Frame> {
        std::iter::from_fn(|| subscriber.pop()).collect()
    }

    #[test]
    fn who_is_up_to_date_gets_what_follows() {
        let mut log = DeltaLog::new(position(5), usize::MAX);
        let mut subscriber = Subscriber::default();
        subscriber.queue_up_to_date(position(5));
        assert_eq!(drain(&mut subscriber), [frames::up_to_date(position(5))]);
        assert_eq!(subscriber.pull(&log), Pulled::Nothing);
        log.push(record(6, 2));
        log.push(record(7, 1));
        assert_eq!(subscriber.pull(&log), Pulled::Change);
        assert_eq!(subscriber.pull(&log), Pulled::Nothing, "one answer at a time");
        assert_eq!(subscriber.at(), Some(position(5)), "nothing of it is written yet");
        assert_eq!(subscriber.pop(), frames_of(6, 2).first().cloned());
        assert_eq!(subscriber.at(), Some(position(5)), "half of it is written");
        assert_eq!(drain(&mut subscriber).len(), 1);
        assert_eq!(subscriber.at(), Some(position(6)));
        assert_eq!(subscriber.pull(&log), Pulled::Newest);
        assert_eq!(drain(&mut subscriber), &*frames_of(7, 1));
    }

    #[test]
    fn who_was_too_slow_skips_ahead() {
        let mut log = DeltaLog::new(position(5), record(6, 1).frames.iter().map(Frame::len).sum());
        let mut subscriber = Subscriber::default();
        subscriber.queue_up_to_date(position(5));
        drain(&mut subscriber);
        log.push(record(6, 1));
        log.push(record(7, 1));
        assert_eq!(subscriber.pull(&log), Pulled::FellOut);
        let (sending, mut sent) = oneshot::channel();
        let full = Full { position: position(7), frames: frames_of(7, 3) };
        assert_eq!(subscriber.queue_full(full, sending), Taken::Queued);
        subscriber.pop();
        assert_eq!(sent.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        assert_eq!(drain(&mut subscriber).len(), 2);
        assert_eq!(sent.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert_eq!(subscriber.pull(&log), Pulled::Nothing);
    }

    #[test]
    fn a_catch_up_ends_where_it_said() {
        let mut subscriber = Subscriber::default();
        subscriber.queue_catch_up(vec![frames_of(6, 1), frames_of(7, 2)], position(7));
        let written = drain(&mut subscriber);
        assert_eq!(written.first(), Some(&frames::catch_up(Revision(7))));
        assert_eq!(written.len(), 4);
        assert_eq!(subscriber.at(), Some(position(7)));
    }

    #[test]
    fn the_third_full_in_a_row_waits_longer_each_time() {
        let mut subscriber = Subscriber::default();
        subscriber.queue_up_to_date(position(5));
        drain(&mut subscriber);
        let mut delays = || (0..9).map(|_| subscriber.full_delay().as_secs()).collect::<Vec<_>>();
        assert_eq!(delays(), [0, 0, 1, 2, 4, 8, 16, 30, 30]);
        subscriber.acknowledged(Some(position(5)), Instant::now());
        assert_eq!(subscriber.full_delay(), Duration::ZERO);
    }

    #[test]
    fn acknowledging_where_it_stands_or_the_last_full_state_begins_the_row_anew() {
        let rows = [
            ("what was written last", Some(position(7)), true),
            ("the full state, behind which a change was written", Some(position(6)), true),
            ("what it had before", Some(position(5)), false),
            ("another digest there", Some(Position { digest: Digest(1), ..position(6) }), false),
            ("no state", None, false),
        ];
        for (name, acknowledged, begins_anew) in rows {
            let mut log = DeltaLog::new(position(6), usize::MAX);
            let mut subscriber = Subscriber::default();
            subscriber.queue_up_to_date(position(5));
            for _ in 0..FULLS_AT_ONCE {
                subscriber.full_delay();
            }
            let full = Full { position: position(6), frames: frames_of(6, 1) };
            assert_eq!(subscriber.queue_full(full, oneshot::channel().0), Taken::Queued);
            drain(&mut subscriber);
            log.push(record(7, 1));
            assert_eq!(subscriber.pull(&log), Pulled::Newest);
            drain(&mut subscriber);
            subscriber.acknowledged(acknowledged, Instant::now());
            assert_eq!(subscriber.full_delay().is_zero(), begins_anew, "{name}");
        }
    }

    #[test]
    fn a_full_state_is_never_written_behind_a_change_beyond_it() {
        let younger = Position { epoch: Epoch { minted_ms: 8, ..EPOCH }, ..position(1) };
        let rows = [
            ("newer than what was written", position(8), Taken::Queued),
            ("as new", position(7), Taken::Queued),
            ("older", position(6), Taken::Older),
            ("of a younger epoch", younger, Taken::Queued),
        ];
        for (name, of_full, want) in rows {
            for written in 0..=2 {
                let mut log = DeltaLog::new(position(6), usize::MAX);
                let mut subscriber = Subscriber::default();
                subscriber.queue_up_to_date(position(6));
                drain(&mut subscriber);
                log.push(record(7, 2));
                assert_eq!(subscriber.pull(&log), Pulled::Newest);
                let change: Vec<Frame> = (0..written).filter_map(|_| subscriber.pop()).collect();
                let full = Full { position: of_full, frames: frames_of(9, 1) };
                assert_eq!(subscriber.queue_full(full, oneshot::channel().0), want, "{name}");
                let all = [change, drain(&mut subscriber)].concat();
                let full = if want == Taken::Queued { frames_of(9, 1) } else { frames_of(9, 0) };
                assert_eq!(all, [&frames_of(7, 2)[..], &full].concat(), "{name}, {written} parts before it");
                let stands = if want == Taken::Queued { of_full } else { position(7) };
                assert_eq!(subscriber.at(), Some(stands), "{name}");
            }
        }
    }

    #[test]
    fn the_latency_of_the_newest_change_is_told_once() {
        let mut log = DeltaLog::new(position(5), usize::MAX);
        let mut subscriber = Subscriber::default();
        subscriber.queue_up_to_date(position(5));
        drain(&mut subscriber);
        log.push(record(6, 1));
        subscriber.pull(&log);
        drain(&mut subscriber);
        let now = Instant::now() + Duration::from_secs(1);
        assert!(subscriber.acknowledged(Some(position(5)), now).is_none());
        assert!(
            subscriber.acknowledged(Some(position(6)), now).is_some_and(|took| took.as_millis() >= 1_000)
        );
        assert!(subscriber.acknowledged(Some(position(6)), now).is_none());
    }
}
