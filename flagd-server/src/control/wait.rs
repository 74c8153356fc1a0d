//! Who has applied a change: the answer that nobody else gives.
//!
//! The roster knows where each expected client stands; here that becomes a stream of numbers that ends when all
//! have applied the change or the time is over. Unknown is never counted as done, and nobody at all is never
//! success: waiting cannot help there, so that is said after a short grace for a client that is just connecting.

use std::sync::Arc;
use std::time::Duration;

use flagd_core::revision::{Position, Revision};
use flagd_proto::admin::{WaitProgress, WaitRequest, WaitVerdict};
use flagd_proto::convert;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::clients::client_to_wire;
use super::read::stopping;
use super::{Control, ControlError};
use crate::cluster::{Cluster, Watching};
use crate::hub::standing::away_relays;
use crate::hub::tally::{Count, Listed, Lost, Tally};
use crate::hub::{Environment, Hub, Target, Verdict};
use crate::limits;

/// How long nobody at all is waited for.
const NOBODY_GRACE: Duration = Duration::from_secs(1);
/// The shortest time between two answers but the last.
const PAUSE: Duration = Duration::from_millis(50);

/// A wait that has begun.
#[derive(Debug)]
pub struct Waiting {
    hub: Arc<Hub>,
    cluster: Arc<Cluster>,
    environment: Arc<Environment>,
    target: Target,
    /// When the change was recorded, or the wait began.
    since: Instant,
    began: Instant,
    timeout: Duration,
}

impl Control {
    /// Begins to wait for a revision; 0 is the head.
    ///
    /// # Errors
    /// [`ControlError::NoSuchRevision`] when the revision is yet to be made.
    pub async fn wait(&self, request: WaitRequest) -> Result<Waiting, ControlError> {
        let began = Instant::now();
        let fresh = self.fresh(&request.environment).await?;
        let head = fresh.position();
        let revision = if request.revision == 0 { head.revision } else { Revision(request.revision) };
        let epoch = request.epoch.map_or(head.epoch, convert::epoch_from_wire);
        if (epoch, revision) > (head.epoch, head.revision) {
            return Err(self.no_such_revision(&fresh, revision).await?);
        }
        let touched = if request.touched.is_empty() {
            let change = self.hub.log().change(fresh.environment.name(), revision).await?;
            match change {
                Some(change) => change.entries.into_iter().map(|(write, _)| write.id).collect(),
                None if revision == Revision::ZERO => Vec::new(),
                // A relay does not keep every change: there, who refuses anything counts as refusing it.
                None if self.hub.upstream().is_some() => {
                    fresh.state().entries().map(|(id, _)| id.clone()).collect()
                }
                // Without the entries a client that refuses one of them would pass for done.
                None => return Err(self.no_such_revision(&fresh, revision).await?),
            }
        } else {
            request.touched.iter().map(convert::entry_id_from_wire).collect()
        };
        let since = self.recorded.when(fresh.environment.name(), epoch, revision).unwrap_or(began);
        let position = Position { epoch, revision, digest: head.digest };
        Ok(Waiting {
            hub: Arc::clone(&self.hub),
            cluster: Arc::clone(&self.cluster),
            environment: fresh.environment,
            target: Target { position, touched },
            since,
            began,
            timeout: Duration::from_millis(request.timeout_ms).min(limits::WAIT_TIMEOUT_MAX),
        })
    }
}

impl Waiting {
    /// Sends where the clients stand, again whenever that changes, and at last with `done`.
    ///
    /// # Errors
    /// [`ControlError::Unavailable`] when the server stops before that.
    pub async fn run(self, answers: &mpsc::Sender<WaitProgress>) -> Result<(), ControlError> {
        let deadline = self.began + self.timeout;
        let grace = self.began + self.timeout.min(NOBODY_GRACE);
        let mut seen = 0;
        let mut cluster = self.cluster.watch(&self.environment).await;
        let mut last: Option<(WaitProgress, Instant)> = None;
        let mut absent = Lost::default();
        let mut history = self.target.position.epoch;
        loop {
            let view = self.environment.view().state.position();
            if view.epoch != history {
                self.is_still_in_the_history().await?;
                history = view.epoch;
            }
            let tally = self.look(&cluster, &mut absent);
            let verdict = tally.verdict();
            let now = Instant::now();
            let until = end(verdict, grace, deadline);
            let done = until.is_none_or(|until| now >= until);
            let progress = self.progress(&tally, verdict, done);
            let news = last.as_ref().is_none_or(|(last, _)| is_news(last, &progress));
            let due = last.as_ref().map_or(now, |(_, at)| *at + PAUSE);
            if done || (news && now >= due) {
                if answers.send(progress.clone()).await.is_err() {
                    return Ok(());
                }
                last = Some((progress, now));
            }
            let Some(until) = until.filter(|_| !done) else { return Ok(()) };
            let wake = if news && now < due { due.min(until) } else { until };
            sleep_until((now + breath(tally.expected, tally.copied)).min(until)).await;
            tokio::select! {
                now_seen = self.environment.roster_changed(seen) => seen = now_seen,
                () = cluster.changed() => {}
                () = sleep_until(wake) => {}
                () = answers.closed() => return Ok(()),
                () = self.hub.closing() => return Err(stopping()),
            }
        }
    }

    /// Where the clients stand now.
    fn look(&self, cluster: &Watching, absent: &mut Lost) -> Tally {
        let standing = self.environment.judge_each(&self.target);
        let mut count = Count::new(self.target.position.revision, absent);
        let around = cluster.look(|client| count.add(client, standing(client)));
        let mut tally = count.done(around);
        absent.keep(&mut tally, self.hub.clock().now_ms());
        tally
    }

    /// A younger history may have been cut before the change: then nobody can have applied it, whatever they hold.
    async fn is_still_in_the_history(&self) -> Result<(), ControlError> {
        let Position { epoch, revision, .. } = self.target.position;
        let found = self.hub.log().change(self.environment.name(), revision).await?;
        if revision == Revision::ZERO || found.is_some_and(|change| change.epoch == epoch) {
            return Ok(());
        }
        Err(ControlError::request(format!(
            "history was cut and no longer holds revision {revision} of epoch {epoch}: look at `flagctl history`, and make the change again"
        )))
    }

    fn progress(&self, tally: &Tally, verdict: Verdict, done: bool) -> WaitProgress {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let listed = |list: &Listed| list.first.iter().map(client_to_wire).collect();
        WaitProgress {
            expected: count(tally.expected),
            applied: count(tally.applied),
            unlisted: count(tally.missing.count.saturating_sub(limits::WAIT_LISTED_MAX)),
            missing: listed(&tally.missing),
            holding_older: count(tally.holders.count),
            holders: listed(&tally.holders),
            verdict: verdict_to_wire(verdict).into(),
            done,
            elapsed_us: u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX),
            revision: self.target.position.revision.0,
            unanswered_servers: tally.around.unanswered.clone(),
            away_relays: away_relays(&tally.around.relays).map(ToOwned::to_owned).collect(),
        }
    }
}

/// When a wait with this verdict is over; `None`: now.
fn end(verdict: Verdict, grace: Instant, deadline: Instant) -> Option<Instant> {
    match verdict {
        Verdict::Confirmed => None,
        Verdict::Nobody => Some(grace),
        Verdict::Unconfirmed => Some(deadline),
    }
}

/// How long to rest between two looks at the roster: thousands of acknowledgements of one change are looked at in a
/// few goes, a handful at once. A copy is five strings and more; who is only looked at costs a fraction of that.
fn breath(looked_at: usize, copied: usize) -> Duration {
    let each = |clients: usize| u32::try_from(clients).unwrap_or(u32::MAX);
    let look = Duration::from_micros(1).saturating_mul(each(looked_at));
    look.saturating_add(Duration::from_micros(5).saturating_mul(each(copied))).min(PAUSE)
}

/// Whether an answer says more than the one before.
fn is_news(last: &WaitProgress, next: &WaitProgress) -> bool {
    let numbers = |progress: &WaitProgress| {
        let standings: Vec<_> =
            progress.missing.iter().map(|client| (client.instance.clone(), client.standing)).collect();
        let unanswered = (progress.unanswered_servers.clone(), progress.away_relays.clone());
        (
            progress.expected,
            progress.applied,
            progress.holding_older,
            progress.unlisted,
            standings,
            unanswered,
        )
    };
    numbers(last) != numbers(next)
}

fn verdict_to_wire(verdict: Verdict) -> WaitVerdict {
    match verdict {
        Verdict::Confirmed => WaitVerdict::Confirmed,
        Verdict::Nobody => WaitVerdict::Nobody,
        Verdict::Unconfirmed => WaitVerdict::Unconfirmed,
    }
}
