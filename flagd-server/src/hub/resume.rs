//! How a client is brought from where it is to where the server is, decided once at its Hello.
//!
//! docs/protocol.md, "The server's half" 2, is normative. Nothing older than what a client has is ever sent: a
//! server that is behind the client's claim looks at the log's head first, waits for its own view, and sends the
//! client elsewhere before it would take it back in time.

use std::sync::Arc;

use flagd_core::revision::{Digest, Position, Revision};
use flagd_proto::frame::Frame;

use super::advance::{Shown, delta_of};
use super::standing::Report;
use super::{Environment, frames, history};
use crate::limits;
use crate::store::StoreError;

/// Changes read from the log in one go for a client that was away for longer than the shared log reaches.
const CHANGES_PER_READ: usize = 1_000;

/// A client's word moves the epoch past its own; one that is further ahead of the clock is no clock's fault.
const EPOCH_AHEAD_MAX_MS: u64 = 24 * 60 * 60 * 1_000;

const EMPTY_STORE: &str = "this store is empty and a client comes with a state: is it the right store? (the first change recorded here says yes)";

/// The answer to a Hello.
#[derive(Debug)]
pub(crate) enum Greeting {
    /// The client is there.
    UpToDate(Position),
    /// These changes bring it there.
    CatchUp {
        /// Encoded, in order.
        changes: Vec<Arc<[Frame]>>,
        /// Where it stands after them.
        until: Position,
    },
    /// It needs everything.
    Full,
    /// It must come back later.
    GoAway(&'static str),
}

/// A client's position beside ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// Nothing, or an older history: it may be sent everything.
    Anything,
    /// The same state.
    Same,
    /// Earlier in the same history; whether with the right digest is to be seen.
    Earlier(Position),
    /// Later in the same history than our view.
    Later(Position),
    /// The same revision, and another digest.
    OtherDigest(Position),
    /// A younger history than our view's.
    Younger(Position),
}

fn claim(client: Option<Position>, ours: Position) -> Claim {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let Some(client) = client else { return Claim::Anything };
    match (client.epoch.cmp(&ours.epoch), client.revision.cmp(&ours.revision)) {
        (Less, _) => Claim::Anything,
        (Greater, _) => Claim::Younger(client),
        (Equal, Less) => Claim::Earlier(client),
        (Equal, Greater) => Claim::Later(client),
        (Equal, Equal) if client.digest == ours.digest => Claim::Same,
        (Equal, Equal) => Claim::OtherDigest(client),
    }
}

/// Decides how to answer a Hello.
pub(crate) async fn greet(environment: &Arc<Environment>, report: &Report) -> Greeting {
    match decide(environment, report).await {
        Ok(greeting) => greeting,
        Err(error) => {
            tracing::warn!(environment = %environment.name(), %error, "a client could not be resumed");
            // Without the log a position cannot be checked. A client with no state, or one of an older history, can
            // still be served from the view; everybody else keeps what it has and comes back.
            match claim(report.position, environment.shown().position()) {
                Claim::Anything | Claim::Earlier(_) => Greeting::Full,
                _ => Greeting::GoAway("the store does not answer"),
            }
        }
    }
}

async fn decide(environment: &Arc<Environment>, report: &Report) -> Result<Greeting, StoreError> {
    let mut first = true;
    loop {
        let shown = environment.shown();
        let ours = shown.position();
        match claim(report.position, ours) {
            // A store that was put up by mistake is younger than any and would empty every client. The first change
            // that somebody records in it says that it is meant.
            Claim::Anything if ours.revision == Revision::ZERO && has_more(report) => {
                environment.alarm(EMPTY_STORE.to_owned());
                return Ok(Greeting::GoAway(EMPTY_STORE));
            }
            Claim::Anything => return Ok(Greeting::Full),
            Claim::Same => return Ok(Greeting::UpToDate(ours)),
            Claim::Earlier(at) => match digest_at(environment, at).await? {
                Some(digest) if digest == at.digest => return catch_up(environment, &shown, at).await,
                // Forward is right in any case, and what a relay keeps of the past has gaps.
                Some(_) if environment.uplink().is_some() => return Ok(Greeting::Full),
                Some(_) => return other_story(environment, report, at).await,
                None => return Ok(Greeting::Full),
            },
            Claim::OtherDigest(at) => return other_story(environment, report, at).await,
            Claim::Later(at) | Claim::Younger(at) => {
                if !first {
                    if let Some(uplink) = environment.uplink() {
                        uplink.claim(at);
                    }
                    return Ok(Greeting::GoAway("this server's view is behind"));
                }
                first = false;
                if environment.uplink().is_some() {
                    // What is kept here is no newer than the view; only the server above can know more.
                    drop(shown);
                    environment.view_at(at, limits::READ_WAIT_MAX).await;
                    continue;
                }
                let head = environment.log.head(environment.name()).await?;
                let Some(head) = head else {
                    return Ok(Greeting::GoAway("the environment's head is missing"));
                };
                let lies_ahead = environment.clock.now_ms().saturating_add(EPOCH_AHEAD_MAX_MS);
                if at.epoch.minted_ms > lies_ahead {
                    let alarm = format!("a client knows epoch {}, which is of the future", at.epoch);
                    environment.alarm(alarm);
                    return Ok(Greeting::GoAway("the client's history is of the future"));
                }
                if (head.epoch, head.revision) < (at.epoch, at.revision) {
                    return cut(environment, at).await;
                }
                // Only this server's view is behind.
                drop(shown);
                environment.view_at(head, limits::READ_WAIT_MAX).await;
            }
        }
    }
}

fn has_more(report: &Report) -> bool {
    report.position.is_some_and(|position| position.revision > Revision::ZERO)
}

/// The client's digest is not the one that history has at its revision.
async fn other_story(
    environment: &Arc<Environment>,
    report: &Report,
    at: Position,
) -> Result<Greeting, StoreError> {
    // Who says itself that it cannot reach our digest proves nothing about our history.
    if report.diverged {
        return Ok(Greeting::Full);
    }
    cut(environment, at).await
}

async fn cut(environment: &Arc<Environment>, at: Position) -> Result<Greeting, StoreError> {
    if let Some(uplink) = environment.uplink() {
        // Whether history was cut is for the server that writes it to say.
        uplink.claim(at);
        return Ok(Greeting::GoAway("what the client knows is asked of the server above"));
    }
    if !history::begin_on_claim(environment, at).await? {
        return Ok(Greeting::GoAway("history was cut a moment ago"));
    }
    let Some(head) = environment.log.head(environment.name()).await? else {
        return Ok(Greeting::GoAway("the environment's head is missing"));
    };
    let view = environment.view_at(head, limits::READ_WAIT_MAX).await;
    let is_younger = view.state.position().epoch > at.epoch;
    Ok(if is_younger { Greeting::Full } else { Greeting::GoAway("history was cut a moment ago") })
}

/// The digest that history has at a revision; `None` when it does not reach back that far.
async fn digest_at(environment: &Environment, at: Position) -> Result<Option<Digest>, StoreError> {
    if at.revision == Revision::ZERO {
        return Ok(Some(Digest::empty(environment.name())));
    }
    if let Some(digest) = environment.deltas(|log| log.digest_at(at.epoch, at.revision)) {
        return Ok(Some(digest));
    }
    Ok(environment.log.change(environment.name(), at.revision).await?.map(|change| change.digest))
}

/// The changes after `at`, if they are less than the full state.
async fn catch_up(environment: &Environment, shown: &Shown, at: Position) -> Result<Greeting, StoreError> {
    if let Some((records, until)) =
        environment.deltas(|log| Some((log.since(at.epoch, at.revision)?, log.head())))
    {
        let changes: Vec<_> = records.into_iter().map(|record| record.frames).collect();
        let greeting = Greeting::CatchUp { changes, until };
        return Ok(if size(&greeting) <= shown.bytes.max(SMALL_BYTES) { greeting } else { Greeting::Full });
    }
    let until = shown.position();
    let mut changes = Vec::new();
    let mut bytes = 0;
    let mut from = at.revision;
    while from < until.revision {
        let wanted =
            usize::try_from(until.revision.0 - from.0).unwrap_or(CHANGES_PER_READ).min(CHANGES_PER_READ);
        let read = environment.log.changes(environment.name(), from, wanted).await?;
        for change in &read {
            if change.epoch != until.epoch || change.revision != from.next() {
                return Ok(Greeting::Full);
            }
            let frames = frames::delta(&delta_of(change));
            bytes += frames.iter().map(Frame::len).sum::<usize>();
            if bytes > shown.bytes.max(SMALL_BYTES) {
                return Ok(Greeting::Full);
            }
            changes.push(frames);
            from = change.revision;
        }
        if read.is_empty() {
            return Ok(Greeting::Full);
        }
    }
    Ok(Greeting::CatchUp { changes, until })
}

/// Below this a catch-up is preferred whatever the full state's size: nothing is large.
const SMALL_BYTES: usize = 4 * 1024;

fn size(greeting: &Greeting) -> usize {
    match greeting {
        Greeting::CatchUp { changes, .. } => {
            changes.iter().flat_map(|frames| frames.iter()).map(Frame::len).sum()
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flagd_core::revision::Epoch;

    #[test]
    fn claims_are_told_apart() {
        let at = |epoch, revision, digest| Position {
            epoch: Epoch { minted_ms: epoch, random: 0 },
            revision: Revision(revision),
            digest: Digest(digest),
        };
        let ours = at(5, 7, 70);
        for (name, client, want) in [
            ("no state", None, Claim::Anything),
            ("older epoch, higher revision", Some(at(4, 99, 1)), Claim::Anything),
            ("the same", Some(at(5, 7, 70)), Claim::Same),
            ("earlier", Some(at(5, 6, 60)), Claim::Earlier(at(5, 6, 60))),
            ("later", Some(at(5, 8, 80)), Claim::Later(at(5, 8, 80))),
            ("another digest", Some(at(5, 7, 71)), Claim::OtherDigest(at(5, 7, 71))),
            ("younger epoch", Some(at(6, 1, 1)), Claim::Younger(at(6, 1, 1))),
        ] {
            assert_eq!(claim(client, ours), want, "{name}");
        }
    }
}
