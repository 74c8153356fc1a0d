//! What happens when history was cut: a younger epoch begins, so that clients may go back without going back in time.
//!
//! Histories are cut by restoring a backup. Who has seen what the backup does not hold must not be sent an older
//! revision of the same epoch. This is the one place where the hub appends to the log (see `hub`): the entries stay
//! as they are, only the epoch is a younger one. Several servers find out at the same time, and a store may answer
//! with a head of a moment ago; so what the store holds is looked at again before each attempt, and the comparison
//! of the whole head lets one of them win. The others find the younger epoch and follow it.

use std::fmt;
use std::sync::Arc;

use flagd_core::revision::{Position, Revision};

use super::Environment;
use crate::store::StoreError;
use crate::store::log::Outcome;

/// A client's word is enough to begin an epoch, but only this often: else one confused client could begin epochs
/// without end.
pub(crate) const CLAIM_SPACING_MS: u64 = 60_000;

/// How far back the beginning of somebody else's epoch is looked for.
const ADOPTED_BACK_MAX: u64 = 100;

/// Who knows a position that the store's history does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Witness {
    /// This server has shown it.
    Server,
    /// A client has it in use.
    Client,
}

/// What is lost: the revisions of `known`'s epoch from `from` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Loss {
    known: Position,
    /// The first one; 0: all of them, the epoch itself is not the store's.
    from: Revision,
    witness: Witness,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Loss { known, from, witness } = self;
        write!(f, "history was cut: ")?;
        match (from.0, known.revision.0) {
            (0, last) => write!(f, "what led to revision {last} of epoch {} is lost", known.epoch)?,
            (first, last) if first >= last => write!(f, "revision {last} of epoch {} is lost", known.epoch)?,
            (first, last) => write!(f, "revisions {first} to {last} of epoch {} are lost", known.epoch)?,
        }
        match witness {
            Witness::Server => f.write_str(", which this server has shown"),
            Witness::Client => f.write_str(", which a client has in use"),
        }
    }
}

/// What the store's history says to a position that somebody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// A younger history has begun.
    Younger,
    /// The position is part of it.
    Held,
    /// It is not.
    Cut,
}

/// Compares. `there` is the digest that the store's history has at the known revision, if it reaches that far back
/// and forth.
fn told(known: Position, head: Position, there: Option<flagd_core::revision::Digest>) -> Told {
    if head.epoch > known.epoch {
        return Told::Younger;
    }
    let is_cut = head.epoch < known.epoch
        || head.revision < known.revision
        || there.is_some_and(|there| there != known.digest);
    if is_cut { Told::Cut } else { Told::Held }
}

/// Begins a younger epoch if the log has lost what was shown here. The follower shows it.
///
/// # Errors
/// What the store says.
pub(crate) async fn begin_younger_epoch(
    environment: &Environment,
    shown: Position,
) -> Result<(), StoreError> {
    let _one_at_a_time = environment.cutting.lock().await;
    begin(environment, shown, Witness::Server).await
}

/// The same because a client said so. `false`: too soon after the last time.
///
/// # Errors
/// What the store says.
pub(crate) async fn begin_on_claim(
    environment: &Arc<Environment>,
    claimed: Position,
) -> Result<bool, StoreError> {
    let mut last = environment.cutting.lock().await;
    // Another client, or another server, may have said so while this one waited.
    let head = environment.log.head(environment.name()).await?;
    if head.is_some_and(|head| head.epoch > claimed.epoch) {
        return Ok(true);
    }
    let now_ms = environment.clock.now_ms();
    if last.is_some_and(|last| now_ms.saturating_sub(last) < CLAIM_SPACING_MS) {
        environment.alarm("clients claim again and again that history was cut".to_owned());
        return Ok(false);
    }
    *last = Some(now_ms);
    begin(environment, claimed, Witness::Client).await?;
    Ok(true)
}

/// Whether the store's history holds what is shown here. Histories that were cut and have grown again look as if they
/// had only grown.
///
/// # Errors
/// What the store says.
pub(crate) async fn holds(environment: &Environment, shown: Position) -> Result<bool, StoreError> {
    if shown.revision == Revision::ZERO {
        return Ok(true);
    }
    let there = environment.log.change(environment.name(), shown.revision).await?;
    Ok(there.is_none_or(|there| there.epoch != shown.epoch || there.digest == shown.digest))
}

async fn begin(environment: &Environment, known: Position, witness: Witness) -> Result<(), StoreError> {
    let name = environment.name();
    loop {
        let state = environment.log.load(name).await?;
        let head = state.position();
        let there = match known.revision {
            revision if revision == head.revision => Some(head.digest),
            revision => environment.log.change(name, revision).await?.map(|change| change.digest),
        };
        match told(known, head, there) {
            Told::Cut => {}
            Told::Younger => return adopt(environment, head).await,
            // What was read first was an answer of a moment ago, or history has come back.
            Told::Held => return Ok(()),
        }
        let loss = Loss { known, from: first_lost(environment, known, head).await?, witness };
        // The log mints an epoch younger than the state's; the one that is known may be younger than that.
        let now_ms = environment.clock.now_ms().max(known.epoch.minted_ms.saturating_add(1));
        match environment.log.start_epoch(name, &state, now_ms, &loss.to_string()).await? {
            Outcome::Recorded(_) => {
                environment.alarm(loss.to_string());
                return Ok(());
            }
            Outcome::Lost => {}
        }
    }
}

/// Somebody else has begun a younger epoch: its first change says why, and the operators here are told, too.
///
/// # Errors
/// What the store says.
pub(crate) async fn adopt(environment: &Environment, head: Position) -> Result<(), StoreError> {
    let after = Revision(head.revision.0.saturating_sub(ADOPTED_BACK_MAX));
    for change in environment.log.changes(environment.name(), after, usize::MAX).await? {
        if change.epoch == head.epoch && change.origin.verb == "epoch" {
            environment.alarm(change.origin.reason);
            break;
        }
    }
    Ok(())
}

/// The first revision of the known history that the store's does not hold, as far back as the digests are known here.
async fn first_lost(
    environment: &Environment,
    known: Position,
    head: Position,
) -> Result<Revision, StoreError> {
    if head.epoch != known.epoch {
        return Ok(Revision::ZERO);
    }
    let mut first = Revision(head.revision.0.min(known.revision.0).saturating_add(1));
    // Revisions that both histories have, and that differ: the newest ones first.
    while first > Revision::ZERO.next() {
        let before = Revision(first.0.saturating_sub(1));
        let ours = if before == known.revision {
            Some(known.digest)
        } else {
            environment.deltas(|log| log.digest_at(known.epoch, before))
        };
        let Some(ours) = ours else { break };
        let theirs = if before == head.revision {
            Some(head.digest)
        } else {
            environment.log.change(environment.name(), before).await?.map(|change| change.digest)
        };
        if theirs.is_none_or(|theirs| theirs == ours) {
            break;
        }
        first = before;
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flagd_core::revision::{Digest, Epoch};

    fn at(epoch: u64, revision: u64, digest: u128) -> Position {
        Position {
            epoch: Epoch { minted_ms: epoch, random: 0 },
            revision: Revision(revision),
            digest: Digest(digest),
        }
    }

    #[test]
    fn what_a_head_says_to_what_is_known() {
        let known = at(5, 7, 70);
        for (name, head, there, want) in [
            ("the same", at(5, 7, 70), Some(70), Told::Held),
            ("grown", at(5, 9, 90), Some(70), Told::Held),
            ("grown, and trimmed since", at(5, 9, 90), None, Told::Held),
            ("gone back", at(5, 6, 60), None, Told::Cut),
            ("another story", at(5, 7, 71), Some(71), Told::Cut),
            ("gone back and grown again", at(5, 9, 91), Some(71), Told::Cut),
            ("an older history", at(4, 99, 1), Some(70), Told::Cut),
            ("a younger history", at(6, 2, 1), None, Told::Younger),
            ("a younger history, further on", at(6, 12, 1), Some(71), Told::Younger),
        ] {
            assert_eq!(told(known, head, there.map(Digest)), want, "{name}");
        }
    }

    #[test]
    fn the_loss_is_told_in_a_sentence() {
        let known = at(5, 63, 1);
        let epoch = known.epoch;
        for (from, witness, want) in [
            (
                58,
                Witness::Server,
                format!("revisions 58 to 63 of epoch {epoch} are lost, which this server has shown"),
            ),
            (63, Witness::Client, format!("revision 63 of epoch {epoch} is lost, which a client has in use")),
            (
                0,
                Witness::Server,
                format!("what led to revision 63 of epoch {epoch} is lost, which this server has shown"),
            ),
        ] {
            let loss = Loss { known, from: Revision(from), witness };
            assert_eq!(loss.to_string(), format!("history was cut: {want}"));
        }
    }
}
