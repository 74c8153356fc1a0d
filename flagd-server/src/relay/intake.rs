//! What a server above says, put together: pure, from its messages to what is to be done.
//!
//! Parts are collected until they are whole. What follows a `CatchUp` is held back until its end, so that clients behind
//! the relay do not serve the fifth of six changes either. Whether a change applies and whether a digest comes out is
//! decided by the engine when it is put in use; here is only what belongs together.

use flagd_core::entry::{EntryId, StoredEntry};
use flagd_core::key::EnvironmentName;
use flagd_core::revision::{Position, Revision};
use flagd_core::state::{Delta, State};
use flagd_proto::convert::{self, ConvertError};
use flagd_proto::stream::{self, ServerMessage, server_message::Message};
use std::time::Duration;

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Wait for more.
    Nothing,
    /// These changes follow, in order; they are put in use together.
    Changes(Vec<Delta>),
    /// This is the whole state. It has come out at its digest.
    Whole(Box<State>),
    /// The server shows this, and has not confirmed it for so long.
    Shows {
        /// Where it stands; `None` when it does not say.
        position: Option<Position>,
        /// For how long.
        view_age_ms: u64,
    },
    /// The stream ends; come back after this time.
    Leave {
        /// How long to stay away at least.
        retry_after: Duration,
        /// Why, for people.
        why: String,
    },
    /// It makes no sense: everything is to be asked for anew.
    NeedFull(&'static str),
}

/// What was said and is not whole yet.
#[derive(Debug)]
pub(super) struct Intake {
    environment: EnvironmentName,
    full: Option<Parts>,
    delta: Option<stream::Delta>,
    catch_up: Option<CatchUp>,
    awaits: Awaits,
}

/// What is taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaits {
    /// Whatever comes.
    Anything,
    /// The full state that was asked for. Changes go on until its turn comes, do not apply, and are in it.
    Full,
}

#[derive(Debug)]
struct Parts {
    position: Position,
    next: u32,
    entries: Vec<(EntryId, StoredEntry)>,
}

#[derive(Debug)]
struct CatchUp {
    until: Revision,
    changes: Vec<Delta>,
}

impl Intake {
    pub(super) fn new(environment: EnvironmentName) -> Intake {
        Intake { environment, full: None, delta: None, catch_up: None, awaits: Awaits::Anything }
    }

    /// The full state was asked for: what comes before it says nothing.
    pub(super) fn after_asking(environment: EnvironmentName) -> Intake {
        Intake { awaits: Awaits::Full, ..Intake::new(environment) }
    }

    /// Whether the full state that was asked for has not come.
    pub(super) fn awaits_full(&self) -> bool {
        self.awaits == Awaits::Full
    }

    /// Takes the next message; `shown` is where the relay stands.
    pub(super) fn take(&mut self, message: ServerMessage, shown: Option<Position>) -> Step {
        let step =
            match message.message {
                // A message of a later version that this one does not know.
                None => Ok(Step::Nothing),
                Some(Message::Full(part)) => self.full(&part),
                Some(
                    Message::Delta(_) | Message::CatchUp(_) | Message::UpToDate(_) | Message::Heartbeat(_),
                ) if self.awaits_full() => Ok(Step::Nothing),
                Some(Message::Delta(delta)) => self.delta(delta, shown),
                Some(Message::CatchUp(catch_up)) => {
                    self.catch_up = Some(CatchUp { until: Revision(catch_up.until), changes: Vec::new() });
                    Ok(Step::Nothing)
                }
                Some(Message::UpToDate(now)) => shows(now.position.as_ref(), 0),
                Some(Message::Heartbeat(beat)) => shows(beat.position.as_ref(), beat.view_age_ms),
                Some(Message::GoAway(go)) => {
                    Ok(Step::Leave { retry_after: Duration::from_millis(go.retry_after_ms), why: go.why })
                }
                Some(Message::Refused(refused)) => Ok(Step::Leave {
                    retry_after: Duration::from_millis(crate::limits::RELAY_RETRY_MAX_MS),
                    why: refused.message,
                }),
            };
        match step {
            Ok(Step::NeedFull(why)) => self.forget(why),
            Ok(step) => step,
            Err(_) => self.forget("other"),
        }
    }

    fn forget(&mut self, why: &'static str) -> Step {
        *self = Intake::new(self.environment.clone());
        Step::NeedFull(why)
    }

    fn full(&mut self, part: &stream::FullPart) -> Result<Step, ConvertError> {
        let position = part.position.as_ref().ok_or(ConvertError::Missing("position"))?;
        let position = convert::position_from_wire(position)?;
        if part.part == 0 {
            self.delta = None;
            self.catch_up = None;
            self.full = Some(Parts { position, next: 0, entries: Vec::new() });
        }
        let Some(parts) = &mut self.full else { return Ok(Step::NeedFull("other")) };
        if parts.position != position || parts.next != part.part {
            return Ok(Step::NeedFull("other"));
        }
        parts.next += 1;
        for entry in &part.entries {
            parts.entries.push(convert::stored_from_wire(entry)?);
        }
        if !part.last {
            return Ok(Step::Nothing);
        }
        let entries = std::mem::take(&mut parts.entries);
        self.full = None;
        self.awaits = Awaits::Anything;
        let state = State::from_entries(self.environment.clone(), position.epoch, position.revision, entries);
        if state.position() == position {
            Ok(Step::Whole(Box::new(state)))
        } else {
            Ok(Step::NeedFull("digest"))
        }
    }

    fn delta(&mut self, delta: stream::Delta, shown: Option<Position>) -> Result<Step, ConvertError> {
        let whole = match self.delta.take() {
            None => delta,
            Some(before) if !belongs(&before, &delta) => return Ok(Step::NeedFull("other")),
            Some(mut before) => {
                before.entries.extend(delta.entries);
                stream::Delta { more: delta.more, ..before }
            }
        };
        if whole.more {
            self.delta = Some(whole);
            return Ok(Step::Nothing);
        }
        let delta = convert::delta_from_wire(&whole)?;
        let is_of_the_past = shown.is_some_and(|at| at.epoch == delta.epoch && delta.to <= at.revision);
        let Some(catch_up) = &mut self.catch_up else {
            return Ok(if is_of_the_past { Step::Nothing } else { Step::Changes(vec![delta]) });
        };
        let is_last = delta.to >= catch_up.until;
        if !is_of_the_past {
            catch_up.changes.push(delta);
        }
        match self.catch_up.take_if(|_| is_last) {
            Some(catch_up) if !catch_up.changes.is_empty() => Ok(Step::Changes(catch_up.changes)),
            _ => Ok(Step::Nothing),
        }
    }
}

fn belongs(before: &stream::Delta, next: &stream::Delta) -> bool {
    let of = |delta: &stream::Delta| (delta.epoch, delta.from, delta.to, delta.digest.clone());
    of(before) == of(next)
}

fn shows(position: Option<&stream::Position>, view_age_ms: u64) -> Result<Step, ConvertError> {
    Ok(Step::Shows { position: position.map(convert::position_from_wire).transpose()?, view_age_ms })
}

#[cfg(test)]
mod tests;
