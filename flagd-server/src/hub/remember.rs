//! Keeps the roster in the log's records, so that a restarted server still knows who must acknowledge.
//!
//! Saves are gathered for a moment; a client seen for the first time is saved promptly, and gets its first answer only
//! then: a crash must not forget a client that evaluates with what it was told here. What a client has in use is not saved with every acknowledgement: after a restart
//! it is lost until it is back and says so itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use super::Environment;
use super::roster::{Gone, Parting};
use crate::limits;
use crate::store::StoreError;

/// How long changes are gathered at the most.
const SAVE_INTERVAL: Duration = Duration::from_secs(2);
/// How long new clients are gathered after a save: a thousand arrivals make a few writes.
const GATHER: Duration = Duration::from_millis(50);
/// Most clients in one write to the store.
const CLIENTS_PER_WRITE: usize = 256;

/// Saves the roster of one environment until told to stop, and once more then.
pub(crate) async fn remember(environment: Arc<Environment>, mut stopped: watch::Receiver<bool>) {
    let mut refreshed_ms = environment.clock.now_ms();
    loop {
        let stop = tokio::select! {
            biased;
            // An error means that the hub is gone, which is the same.
            _ = stopped.wait_for(|stopped| *stopped) => true,
            () = environment.save_soon.notified() => false,
            () = tokio::time::sleep(SAVE_INTERVAL) => false,
        };
        if stop {
            environment.roster.mark_all_unsaved();
        }
        let now_ms = environment.clock.now_ms();
        if is_shared(&environment) && now_ms.saturating_sub(refreshed_ms) >= limits::ROSTER_REFRESH_MS {
            refreshed_ms = now_ms;
            environment.roster.refresh(now_ms);
            environment.relays.refresh(now_ms);
        }
        environment.expire();
        save(&environment).await;
        if stop {
            return;
        }
        tokio::time::sleep(GATHER).await;
    }
}

async fn save(environment: &Environment) {
    let number = environment.saves.begin();
    let (seen, gone) = environment.relays.take_unsaved();
    if !(seen.is_empty() && gone.is_empty())
        && let Err(error) = environment.log.save_relays(environment.name(), &seen, &gone).await
    {
        tracing::warn!(environment = %environment.name(), %error, "the relays could not be saved");
        return environment.relays.put_back(&seen, &gone);
    }
    let Some(unsaved) = environment.roster.take_unsaved() else { return environment.saves.done(number) };
    if let Err(error) = write(environment, &unsaved).await {
        tracing::warn!(environment = %environment.name(), %error, "the roster could not be saved");
        environment.roster.put_back(&unsaved);
        return;
    }
    environment.saves.done(number);
}

async fn write(environment: &Environment, unsaved: &super::roster::Unsaved) -> Result<(), StoreError> {
    let name = environment.name();
    for seen in unsaved.seen.chunks(CLIENTS_PER_WRITE) {
        environment.log.save_roster(name, seen, &[]).await?;
    }
    let mut gone = Vec::with_capacity(unsaved.gone.len());
    for one in &unsaved.gone {
        if one.parting == Parting::Bye || !is_elsewhere(environment, one).await? {
            gone.push(one.instance);
        }
    }
    for gone in gone.chunks(CLIENTS_PER_WRITE) {
        environment.log.save_roster(name, &[], gone).await?;
    }
    Ok(())
}

fn is_shared(environment: &Environment) -> bool {
    environment.shared.load(Ordering::Relaxed)
}

/// Whether a client that was lost here for too long has been seen by another server since.
async fn is_elsewhere(environment: &Environment, gone: &Gone) -> Result<bool, StoreError> {
    if !is_shared(environment) {
        return Ok(false);
    }
    let Some(stored) = environment.log.client(environment.name(), gone.instance).await? else {
        return Ok(false);
    };
    let age_ms = environment.clock.now_ms().saturating_sub(stored.last_seen_ms);
    Ok(stored.connect_counter > gone.connect_counter || age_ms < limits::LOST_AFTER_MS)
}
