//! The pump: waits for the log's head to move, reads what changed, and lets the view go on.
//!
//! A store that does not answer is asked again, later and later; the view is served all the while and its age
//! grows. A gap or a wrong digest is never shown: the state is loaded whole instead, which is counted. The head is
//! also read at intervals, because a wait may be lost on its way, and a view is only as fresh as the last look at
//! the head.

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
const RETRY_MAX: Duration = Duration::from_secs(5);
/// The first pause after a failure; it doubles.
const RETRY_BASE: Duration = Duration::from_millis(50);
/// Most changes taken in one step.
const CHANGES_PER_STEP: usize = 1_000;

/// Follows one environment until told to stop.
pub(crate) async fn follow(
    environment: Arc<Environment>,
    mut core: Core,
    mut stopped: watch::Receiver<bool>,
) {
    let mut failures = 0;
    loop {
        let step = async {
            match step(&environment, &mut core).await {
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

/// One look at the head and what follows from it.
async fn step(environment: &Environment, core: &mut Core) -> Result<(), StoreError> {
    let shown = environment.shown().position();
    let head = next_head(environment, shown).await?;
    match head_is(shown, head) {
        HeadIs::Shown => {
            environment.confirm();
            Ok(())
        }
        HeadIs::Ahead => catch_up(environment, core, head).await,
        HeadIs::Younger => {
            reload(environment, core).await?;
            history::adopt(environment, head).await
        }
        HeadIs::Cut => history::begin_younger_epoch(environment, shown).await,
    }
}

async fn next_head(environment: &Environment, seen: Position) -> Result<Position, StoreError> {
    tokio::select! {
        head = environment.log.wait(environment.name(), seen) => head,
        () = tokio::time::sleep(HEAD_READ_INTERVAL) => {
            let head = environment.log.head(environment.name()).await?;
            head.ok_or_else(|| StoreError::NoEnvironment(environment.name().clone()))
        }
    }
}

async fn catch_up(environment: &Environment, core: &mut Core, head: Position) -> Result<(), StoreError> {
    loop {
        let shown = environment.shown();
        let at = shown.position();
        if at.revision >= head.revision {
            environment.confirm();
            return Ok(());
        }
        let changes = environment.log.changes(environment.name(), at.revision, CHANGES_PER_STEP).await?;
        let changes: Vec<_> = changes.into_iter().map(Arc::new).collect();
        if changes.is_empty() {
            tracing::warn!(environment = %environment.name(), after = at.revision.0, head = head.revision.0, "changes are missing");
            return reload(environment, core).await;
        }
        match core.advance(&shown, &changes) {
            Ok((next, records)) => {
                drop(shown);
                environment.show_next(next, records, &changes);
            }
            Err(error) => {
                tracing::warn!(environment = %environment.name(), %error, "the view did not follow");
                return reload(environment, core).await;
            }
        }
    }
}

/// Loads the state whole. What is older than the view is not shown; the next look at the head sorts it out.
async fn reload(environment: &Environment, core: &mut Core) -> Result<(), StoreError> {
    environment.metrics().reloads.count();
    let state = environment.log.load(environment.name()).await?;
    let shown = environment.shown();
    let at = shown.position();
    if state.position().epoch == at.epoch && !history::holds(environment, at).await? {
        return history::begin_younger_epoch(environment, at).await;
    }
    let (next_core, next) = match head_is(shown.position(), state.position()) {
        // Also when the position is the same: the core that failed must be replaced.
        HeadIs::Shown | HeadIs::Ahead | HeadIs::Younger => compile(move || Core::jump(&shown, state)).await?,
        HeadIs::Cut => return Ok(()),
    };
    let at = next.position();
    tracing::warn!(environment = %environment.name(), epoch = %at.epoch, revision = at.revision.0, "the state was loaded whole");
    *core = next_core;
    environment.show_jump(next);
    environment.confirm();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let pauses: Vec<_> = [0, 1, 2, 6, 7, 40].map(|failures| pause(failures).as_millis()).to_vec();
        assert_eq!(pauses, [50, 100, 200, 3_200, 5_000, 5_000]);
    }
}
