//! What happens when history was cut: a younger epoch begins, so that clients may go back without going back in time.
//!
//! Histories are cut by restoring a backup. Who has seen what the backup does not hold must not be sent an older
//! revision of the same epoch. This is the one place where the hub appends to the log (see `hub`): the entries stay
//! as they are, only the epoch is a younger one.

use std::sync::Arc;

use flagd_core::revision::Epoch;

use super::Environment;
use crate::store::StoreError;
use crate::store::log::Outcome;

/// A client's word is enough to begin an epoch, but only this often: else one confused client could begin epochs
/// without end.
pub(crate) const CLAIM_SPACING_MS: u64 = 60_000;

/// Begins an epoch younger than `floor`, unless the log has one already. The follower shows it.
///
/// # Errors
/// What the store says.
pub(crate) async fn begin_younger_epoch(
    environment: &Environment,
    floor: Epoch,
    why: &str,
) -> Result<(), StoreError> {
    let _one_at_a_time = environment.cutting.lock().await;
    begin(environment, floor, why).await
}

/// The same because a client said so. `false`: too soon after the last time.
///
/// # Errors
/// What the store says.
pub(crate) async fn begin_on_claim(
    environment: &Arc<Environment>,
    floor: Epoch,
    why: &str,
) -> Result<bool, StoreError> {
    let mut last = environment.cutting.lock().await;
    // Another client may have said so while this one waited.
    let head = environment.log.head(environment.name()).await?;
    if head.is_some_and(|head| head.epoch > floor) {
        return Ok(true);
    }
    let now_ms = environment.clock.now_ms();
    if last.is_some_and(|last| now_ms.saturating_sub(last) < CLAIM_SPACING_MS) {
        environment.alarm("clients claim again and again that history was cut".to_owned());
        return Ok(false);
    }
    *last = Some(now_ms);
    begin(environment, floor, why).await?;
    Ok(true)
}

async fn begin(environment: &Environment, floor: Epoch, why: &str) -> Result<(), StoreError> {
    loop {
        let state = environment.log.load(environment.name()).await?;
        if state.position().epoch > floor {
            return Ok(());
        }
        // The log mints an epoch younger than the state's; the floor may be younger than that.
        let now_ms = environment.clock.now_ms().max(floor.minted_ms.saturating_add(1));
        match environment.log.start_epoch(environment.name(), &state, now_ms, why).await? {
            Outcome::Recorded(_) => {
                environment.alarm(why.to_owned());
                return Ok(());
            }
            Outcome::Lost => {}
        }
    }
}
