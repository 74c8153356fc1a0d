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
use super::environment::Full;
use super::frames;

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

/// What was found in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pulled {
    /// Nothing new.
    Nothing,
    /// A change is about to be written.
    Change,
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
    pub(crate) fn queue_full(&mut self, full: Full, sending: oneshot::Sender<()>) {
        self.unacknowledged = None;
        self.queue(full.frames, Some(full.position), Some(sending));
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
                Pulled::Change
            }
        }
    }

    /// The client says what it has in use. How long ago the change was shown, if it is the newest one written.
    pub(crate) fn acknowledged(&mut self, position: Option<Position>, now: Instant) -> Option<Duration> {
        if position.is_some() && position == self.at {
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
        assert_eq!(subscriber.pull(&log), Pulled::Change);
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
        subscriber.queue_full(Full { position: position(7), frames: frames_of(7, 3) }, sending);
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
