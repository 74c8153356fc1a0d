//! The pump: waits for the log's head to move, reads what changed, and lets the view go on.
//!
//! A store that does not answer is asked again, later and later; the view is served all the while and its age
//! grows. A gap or a wrong digest is never shown: the state is loaded whole instead. News only say that it is time
//! to look: they may be lost, come twice or be late, so the head is also read at intervals, nothing but such a read
//! confirms the view or leads back, and the view is as old as the beginning of the last read that confirmed it.
//! Whatever did not fit is counted.

use std::sync::Arc;
use std::time::Duration;

use flagd_core::revision::Position;
use tokio::sync::watch;

use super::Environment;
use super::advance::{Core, HeadIs, compile, head_is};
use super::history;
use crate::store::StoreError;

/// How often the head is read although nothing seems to have changed.
const HEAD_READ_INTERVAL: Duration = Duration::from_secs(2);
/// The longest pause after failures.
const RETRY_MAX: Duration = Duration::from_secs(2);
/// The first pause after a failure; it doubles.
const RETRY_BASE: Duration = Duration::from_millis(50);
/// Most changes taken in one step.
const CHANGES_PER_STEP: usize = 1_000;

/// Follows one environment until told to stop.
pub(crate) async fn follow(environment: Arc<Environment>, core: Core, mut stopped: watch::Receiver<bool>) {
    let mut pump = Pump { environment: Arc::clone(&environment), core, news: News::Believed };
    let mut failures = 0;
    loop {
        let step = async {
            match pump.step().await {
                Ok(()) => failures = 0,
                Err(error) => {
                    if let StoreError::NoEnvironment(name) = &error {
                        environment.alarm(format!(
                            "the store has lost the head of `{name}`: this server goes on serving what it knows and \
                             refuses changes; restore the store's data"
                        ));
                    }
                    environment.metrics().follow_errors.count();
                    tracing::warn!(
                        environment = %environment.name(),
                        %error,
                        failures,
                        view_age_ms = environment.view_age_ms(),
                        "the log cannot be followed; the last view is served"
                    );
                    tokio::time::sleep(pause(failures)).await;
                    failures += 1;
                }
            }
        };
        tokio::select! {
            biased;
            // An error means that the hub is gone, which is the same.
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = step => {}
        }
    }
}

/// The pause after this many failures in a row.
fn pause(failures: u32) -> Duration {
    RETRY_BASE.saturating_mul(2_u32.saturating_pow(failures)).min(RETRY_MAX)
}

/// What is to be thought of the last news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// They fitted.
    Believed,
    /// They were of a head before the one shown: late, or history was cut. The next read decides.
    Doubted,
}

/// Moves one environment's view.
struct Pump {
    environment: Arc<Environment>,
    core: Core,
    news: News,
}

impl Pump {
    /// One look at the head and what follows from it; then, if the view is the newest, the news.
    async fn step(&mut self) -> Result<(), StoreError> {
        let asked_ms = self.environment.clock.now_ms();
        let head = self.environment.log.look(self.environment.name()).await?;
        let shown = self.environment.shown().position();
        let is = head_is(shown, head.position);
        if std::mem::replace(&mut self.news, News::Believed) == News::Doubted && is != HeadIs::Cut {
            self.environment.metrics().divergences.late.count();
        }
        match is {
            HeadIs::Shown => {
                self.environment.confirm(asked_ms);
                let news = self.environment.log.news(self.environment.name(), &head);
                // None for a while: then it is time to look anyway.
                let Ok(news) = tokio::time::timeout(HEAD_READ_INTERVAL, news).await else { return Ok(()) };
                self.hear(shown, news?).await
            }
            HeadIs::Ahead => self.catch_up(head.position, asked_ms).await,
            HeadIs::Younger => {
                self.reload().await?;
                history::adopt(&self.environment, head.position).await
            }
            HeadIs::Cut => history::begin_younger_epoch(&self.environment, shown).await,
        }
    }

    async fn hear(&mut self, shown: Position, news: Position) -> Result<(), StoreError> {
        match head_is(shown, news) {
            HeadIs::Shown => {
                self.environment.metrics().divergences.doubled.count();
                Ok(())
            }
            // What it is ahead to was there a moment ago; the read that follows says whether it still is the newest.
            HeadIs::Ahead => self.catch_up(news, self.environment.confirmed_ms()).await,
            HeadIs::Younger => Ok(()),
            HeadIs::Cut => {
                self.news = News::Doubted;
                Ok(())
            }
        }
    }

    /// Applies the changes up to a head that was read at `asked_ms`.
    async fn catch_up(&mut self, head: Position, asked_ms: u64) -> Result<(), StoreError> {
        let environment = Arc::clone(&self.environment);
        loop {
            let shown = environment.shown();
            let at = shown.position();
            if at.revision >= head.revision {
                environment.confirm(asked_ms);
                return Ok(());
            }
            let changes = environment.log.changes(environment.name(), at.revision, CHANGES_PER_STEP).await?;
            let changes: Vec<_> = changes.into_iter().map(Arc::new).collect();
            if changes.is_empty() {
                tracing::warn!(environment = %environment.name(), after = at.revision.0, head = head.revision.0, "changes are missing");
                environment.metrics().divergences.gap.count();
                return self.reload().await;
            }
            match self.core.advance(&shown, &changes) {
                Ok((next, records)) => {
                    drop(shown);
                    environment.show_next(next, records, &changes);
                }
                Err(error) => {
                    tracing::warn!(environment = %environment.name(), %error, "the view did not follow");
                    environment.metrics().divergences.note(&error);
                    return self.reload().await;
                }
            }
        }
    }

    /// Loads the state whole. What is older than the view is not shown; the next look at the head sorts it out.
    async fn reload(&mut self) -> Result<(), StoreError> {
        let environment = &self.environment;
        environment.metrics().reloads.count();
        let asked_ms = environment.clock.now_ms();
        let state = match environment.log.load(environment.name()).await {
            Err(error @ StoreError::Corrupt(_)) => {
                environment.metrics().divergences.unreadable.count();
                return Err(error);
            }
            loaded => loaded?,
        };
        let shown = environment.shown();
        let at = shown.position();
        if state.position().epoch == at.epoch && !history::holds(environment, at).await? {
            return history::begin_younger_epoch(environment, at).await;
        }
        let (next_core, next) = match head_is(shown.position(), state.position()) {
            // Also when the position is the same: the core that failed must be replaced.
            HeadIs::Shown | HeadIs::Ahead | HeadIs::Younger => {
                compile(move || Core::jump(&shown, state)).await?
            }
            HeadIs::Cut => return Ok(()),
        };
        let at = next.position();
        tracing::warn!(environment = %environment.name(), epoch = %at.epoch, revision = at.revision.0, "the state was loaded whole");
        self.core = next_core;
        environment.show_jump(next);
        environment.confirm(asked_ms);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let pauses: Vec<_> = [0, 1, 2, 6, 7, 40].map(|failures| pause(failures).as_millis()).to_vec();
        assert_eq!(pauses, [50, 100, 200, 2_000, 2_000, 2_000]);
    }
}
