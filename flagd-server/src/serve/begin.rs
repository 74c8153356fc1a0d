//! What a server does with a store in which it finds no environment.
//!
//! A new store gets its first environment, so that nobody has to set anything up. A store that has lost its
//! environments gets none: whoever connects would be told that there are no flags. The two are told apart by a mark
//! that outlasts the environments, and by other servers that still show some; an etcd that was replaced as a whole
//! while no server ran looks new. Then `hub::resume` still sends no client with a state back to nothing.

use flagd_core::key::EnvironmentName;

use crate::clock::Clock;
use crate::store::log::Log;
use crate::store::{Past, StoreError};

/// The environment that a new store gets.
pub const FIRST_ENVIRONMENT: &str = "default";

/// Gives a new store its first environment. Answers with why there is none, if there is none afterwards.
///
/// # Errors
/// [`StoreError`].
pub async fn begin(log: &Log, clock: &Clock) -> Result<Option<String>, StoreError> {
    log.must_be_a_servers().await?;
    // In this order: whoever leaves the mark has made an environment before, which is then seen.
    let past = log.past().await?;
    if !log.environments().await?.is_empty() {
        if past != Past::Used
            && let Err(error) = log.mark_used().await
        {
            tracing::warn!(%error, "a mark that this store is in use cannot be left; if it is ever emptied, that will not be noticed");
        }
        return Ok(None);
    }
    if let Some(why) = vacant(log, past).await? {
        return Ok(Some(why));
    }
    match EnvironmentName::new(FIRST_ENVIRONMENT) {
        Ok(name) => drop(log.create(&name, clock.now_ms()).await?),
        Err(error) => return Err(StoreError::Corrupt(error.to_string())),
    }
    log.mark_used().await?;
    Ok(None)
}

/// Why a store without environments is not a new one.
async fn vacant(log: &Log, past: Past) -> Result<Option<String>, StoreError> {
    const ADVICE: &str = "restore its data, or create what is wanted with `flagctl environment create`";
    if let Some((_, other)) = log.announced().await?.into_iter().find(|(_, other)| other.environments > 0) {
        let name = other.name;
        return Ok(Some(format!(
            "the store holds no environment, but server {name} shows what was in it; {ADVICE}"
        )));
    }
    Ok(match past {
        Past::New => None,
        Past::Used => {
            Some(format!("the store holds no environment, although it did: it was emptied; {ADVICE}"))
        }
        Past::Unknown(why) => Some(format!(
            "the store holds no environment, and whether it is new or was emptied cannot be told: {why}; {ADVICE}"
        )),
    })
}
