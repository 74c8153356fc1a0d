//! The verbs that change something: build the request, send it, wait if asked to.

use std::time::Duration;

use flagd_core::canonical::percent;
use flagd_core::definition::Ppm;
use flagd_core::entry::EntryKind;
use flagd_proto::admin::change_request::Operation;
use flagd_proto::admin::{
    Apply, ChangeRequest, ChangeResponse, EntryName, ErrorCode, Expectation, FlagName, FlagNames, Put,
    PutMode, Rollback, SegmentUnits, Take, WaitRequest,
};
use flagd_proto::stream::EntryId;

use super::{Session, entry_name, section};
use crate::args::{
    ApplyArgs, ApplyTake, CreateArgs, EntryArgs, FlagArgs, FlagsArgs, ImportArgs, KillArgs, OutputFormat,
    RecordArgs, RollbackArgs, UnitsArgs, WaitArgs,
};
use crate::connect::{Answered, Client};
use crate::error::{Exit, Failure, Tried, exit_of_change, problem_from_wire};
use crate::file::{self, Definitions};
use crate::output::{Answer, Changed};
use crate::wait::{self, Waited};

/// How often to look anew when others keep changing the same.
const LOOKS: u32 = 5;

/// Whether and how long to wait for clients, and whose refusal of what counts.
pub(super) struct Waiting {
    timeout: Duration,
    /// Empty: what the change touched.
    touched: Vec<EntryId>,
}

impl Waiting {
    /// As the options say; a dry run never waits.
    pub(super) fn new(wait: &WaitArgs, record: &RecordArgs) -> Option<Waiting> {
        (wait.wait && !record.dry_run).then(|| Waiting { timeout: wait.timeout, touched: Vec::new() })
    }
}

/// A request as the options say. Each carries an id of its own, so that it can be sent to several servers.
pub(super) fn request(
    session: &Session,
    record: &RecordArgs,
    operation: Operation,
) -> Result<ChangeRequest, Failure> {
    let request_id = match &record.request_id {
        _ if record.dry_run => String::new(),
        Some(id) => id.clone(),
        None => random_id()?,
    };
    Ok(ChangeRequest {
        environment: session.environment.clone(),
        request_id,
        actor: session.actor.clone(),
        reason: record.reason.clone().unwrap_or_default(),
        dry_run: record.dry_run,
        expectations: Vec::new(),
        anyway: record.anyway,
        operation: Some(operation),
    })
}

/// 128 random bits, as text.
pub(super) fn random_id() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::Local(format!("this computer gives no random bits: {error}")))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// Sends a change. Who presses Ctrl-C meanwhile is told what that means, instead of being left to guess.
pub(super) async fn send(
    session: &Session,
    request: ChangeRequest,
) -> Result<Answered<ChangeResponse>, Failure> {
    let id = Some(request.request_id.clone()).filter(|id| !id.is_empty());
    let interrupted = if request.dry_run {
        Failure::Local("interrupted; nothing was changed".into())
    } else {
        let server = session.servers.first_name().to_owned();
        let tried = Tried { server, why: "interrupted by Ctrl-C before the server answered".into() };
        Failure::OutcomeUnknown { tried: vec![tried], request_id: id.clone() }
    };
    let rpc = |mut client: Client, request| async move { client.change(request).await };
    tokio::select! {
        answered = session.patiently(session.servers.call(request, id.as_deref(), rpc)) => answered,
        Ok(()) = tokio::signal::ctrl_c() => Err(interrupted),
    }
}

/// Looks first, then sends the change with the revisions that the look saw.
///
/// `agree` is asked about what would happen; it ends the run, or says whether a person has decided. When somebody
/// else was faster, it is looked at anew, except that what a person has agreed to is never replaced by something else.
/// A request with an id of the caller's is sent whatever the look says: its first answer may be there already.
pub(super) async fn send_as_seen(
    session: &Session,
    record: &RecordArgs,
    mut change: ChangeRequest,
    agree: impl Fn(&Answered<ChangeResponse>) -> Result<Decided, Failure>,
) -> Result<Answered<ChangeResponse>, Failure> {
    let callers_id = record.request_id.is_some() && !record.dry_run;
    for look in 1.. {
        let mut preview = change.clone();
        preview.dry_run = true;
        preview.request_id.clear();
        preview.expectations.clear();
        let decided = match send(session, preview).await {
            Ok(seen) if record.dry_run || seen.answer.touched.is_empty() && !callers_id => return Ok(seen),
            Ok(seen) => {
                change.expectations = expectations(&seen.answer);
                if seen.answer.touched.is_empty() { Decided::ByNobody } else { agree(&seen)? }
            }
            Err(Failure::Refused(_)) if callers_id => {
                change.expectations.clear();
                Decided::ByNobody
            }
            Err(failure) => return Err(failure),
        };
        match send(session, change.clone()).await {
            Err(failure) if decided == Decided::ByNobody && look < LOOKS && is_conflict(&failure) => {}
            result => return result,
        }
    }
    Err(Failure::Local("others keep changing the same; nothing was changed".into()))
}

/// Who has decided that a change is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decided {
    /// Nothing needed to be decided.
    ByNobody,
    /// A person, who saw what would happen.
    ByPerson,
}

fn is_conflict(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(detail) if detail.code() == ErrorCode::Conflict && !detail.conflicts.is_empty())
}

fn expectations(preview: &ChangeResponse) -> Vec<Expectation> {
    let seen = preview.touched.iter();
    seen.map(|touched| Expectation { id: touched.id.clone(), revision: touched.previous_revision }).collect()
}

/// Tells problems of definitions at their places in the files that they came from.
pub(super) fn located(definitions: &Definitions, failure: Failure) -> Failure {
    match failure {
        Failure::Refused(detail) if detail.code() == ErrorCode::Invalid && !detail.problems.is_empty() => {
            let problems = detail.problems.iter().map(problem_from_wire);
            Failure::Problems(problems.map(|problem| definitions.locate(problem)).collect())
        }
        other => other,
    }
}

/// Sends a change that came from files.
pub(super) async fn send_file(
    session: &Session,
    request: ChangeRequest,
    definitions: &Definitions,
) -> Result<Answered<ChangeResponse>, Failure> {
    send(session, request).await.map_err(|failure| located(definitions, failure))
}

/// Prints what a change did, waits for clients if asked to, and chooses the exit code.
pub(super) async fn finish(
    session: &Session,
    answered: Answered<ChangeResponse>,
    waiting: Option<Waiting>,
) -> Result<Exit, Failure> {
    let header = session.header(&answered.answer.server, &answered.server);
    let response = answered.answer;
    let undo_suffix = session.environment_suffix();
    let (recorded, revision) = (response.recorded, response.revision);
    let told = |printed: Result<(), Failure>| printed.map_err(|failure| untold(recorded, revision, failure));
    let mut changed = Box::new(Changed { response, waited: None, undo_suffix });
    let Some(waiting) = waiting else {
        let exit = exit_of_change(&changed.response, None);
        told(session.printer.answer(&header, &Answer::Change(changed)))?;
        return Ok(exit);
    };
    // For people what was done is told before the wait; for programs all is one document after it. Whoever cannot
    // be told still gets the wait and its exit code: the change stands.
    let at_once = session.printer.format() == OutputFormat::Table;
    let begun =
        if at_once { session.printer.answer(&header, &Answer::Change(changed.clone())) } else { Ok(()) };
    let waited = wait_for(session, &changed.response, waiting).await;
    let exit = exit_of_change(&changed.response, Some(waited.ending));
    let ended = if at_once {
        session.printer.wait_ended(&waited)
    } else {
        changed.waited = Some(waited);
        session.printer.answer(&header, &Answer::Change(changed))
    };
    told(begun.and(ended))?;
    Ok(exit)
}

/// That something cannot be printed must not look as if nothing had been changed.
fn untold(recorded: bool, revision: u64, failure: Failure) -> Failure {
    match failure {
        Failure::Local(why) if recorded => Failure::Untold { revision, why },
        other => other,
    }
}

/// What is already as wanted is waited for, too: at the revision at which it was found.
async fn wait_for(session: &Session, response: &ChangeResponse, waiting: Waiting) -> Waited {
    let position = response.position.clone().unwrap_or_default();
    let request = WaitRequest {
        environment: session.environment.clone(),
        revision: if response.recorded { response.revision } else { position.revision },
        epoch: position.epoch,
        timeout_ms: 0,
        touched: waiting.touched,
    };
    wait::wait(&session.servers, request, waiting.timeout, |progress| session.printer.progress(progress))
        .await
}

/// For verbs that put something in place of whatever is there.
async fn change_as_seen(
    session: &Session,
    record: &RecordArgs,
    wait: &WaitArgs,
    operation: Operation,
) -> Result<Exit, Failure> {
    let request = request(session, record, operation)?;
    let answered = send_as_seen(session, record, request, |_| Ok(Decided::ByNobody)).await?;
    finish(session, answered, Waiting::new(wait, record)).await
}

/// For verbs that read, change and write at the server: they need not state what was seen.
async fn change(
    session: &Session,
    record: &RecordArgs,
    wait: &WaitArgs,
    operation: Operation,
) -> Result<Exit, Failure> {
    let answered = send(session, request(session, record, operation)?).await?;
    finish(session, answered, Waiting::new(wait, record)).await
}

pub(super) async fn put(
    session: &Session,
    definitions: &Definitions,
    mode: PutMode,
    record: &RecordArgs,
    wait: &WaitArgs,
) -> Result<Exit, Failure> {
    let put = Put { file: definitions.json.clone().into(), mode: mode.into() };
    let request = request(session, record, Operation::Put(put))?;
    let answered = match mode {
        // Creating states by itself what it expects: that nothing is there.
        PutMode::Create => send(session, request).await,
        _ => send_as_seen(session, record, request, |_| Ok(Decided::ByNobody)).await,
    };
    let answered = answered.map_err(|failure| located(definitions, failure))?;
    finish(session, answered, Waiting::new(wait, record)).await
}

pub(super) async fn create(session: &Session, args: &CreateArgs) -> Result<Exit, Failure> {
    let definitions = match &args.key {
        Some(key) => {
            let definition = match &args.rollout {
                None => serde_json::json!({}).to_string(),
                Some(share) if share.variant.is_none() => {
                    // Written as text: a percentage is decimal text, never a float.
                    format!("{{\"rollout\":{}}}", percent(Ppm(share.share_ppm)))
                }
                Some(_) => return Err(Failure::Usage("--rollout is a percentage, such as 25".into())),
            };
            let tree = file::one(section(false), key, &definition).map_err(Failure::Usage)?;
            file::from_text("the new flag", &tree.to_json())?
        }
        None => file::read(&args.files)?,
    };
    put(session, &definitions, PutMode::Create, &args.record, &args.wait).await
}

pub(super) async fn import(session: &Session, args: &ImportArgs) -> Result<Exit, Failure> {
    let definitions = file::read(&args.files)?;
    put(session, &definitions, PutMode::CreateOrReplace, &args.record, &args.wait).await
}

pub(super) async fn apply(session: &Session, args: &ApplyArgs) -> Result<Exit, Failure> {
    let definitions = file::read(&args.files)?;
    let take = match args.take {
        None => Take::Ask,
        Some(ApplyTake::File) => Take::File,
        Some(ApplyTake::Live) => Take::Live,
    };
    let apply =
        Apply { file: definitions.json.clone().into(), source: args.source.clone(), take: take.into() };
    let request = request(session, &args.record, Operation::Apply(apply))?;
    let answered = send_file(session, request, &definitions).await?;
    finish(session, answered, Waiting::new(&args.wait, &args.record)).await
}

pub(super) async fn flag(
    session: &Session,
    args: FlagArgs,
    operation: fn(FlagName) -> Operation,
) -> Result<Exit, Failure> {
    change(session, &args.record, &args.wait, operation(FlagName { flag: args.flag })).await
}

pub(super) async fn kill(session: &Session, args: KillArgs) -> Result<Exit, Failure> {
    // A client may refuse a flag's definition; what counts is that it obeys the kill.
    let kill_of = |key: &String| EntryId { kind: EntryKind::KILL.number(), key: key.clone() };
    let waiting = (!args.no_wait && !args.record.dry_run)
        .then(|| Waiting { timeout: args.timeout, touched: args.flags.iter().map(kill_of).collect() });
    let operation = Operation::Kill(FlagNames { flags: args.flags });
    let answered = send(session, request(session, &args.record, operation)?).await?;
    finish(session, answered, waiting).await
}

pub(super) async fn revive(session: &Session, args: FlagsArgs) -> Result<Exit, Failure> {
    change(session, &args.record, &args.wait, Operation::Revive(FlagNames { flags: args.flags })).await
}

pub(super) async fn rollback(session: &Session, args: RollbackArgs) -> Result<Exit, Failure> {
    let rollback =
        Rollback { flags: args.flags, segments: args.segments, to_revision: args.to.unwrap_or_default() };
    change_as_seen(session, &args.record, &args.wait, Operation::Rollback(rollback)).await
}

pub(super) async fn units(
    session: &Session,
    args: UnitsArgs,
    operation: fn(SegmentUnits) -> Operation,
) -> Result<Exit, Failure> {
    let units = SegmentUnits { segment: args.segment, units: args.units, exclude: args.exclude };
    change(session, &args.record, &args.wait, operation(units)).await
}

pub(super) async fn entry(
    session: &Session,
    args: EntryArgs,
    operation: fn(EntryName) -> Operation,
) -> Result<Exit, Failure> {
    let name = entry_name(section(args.segment), &args.key);
    change_as_seen(session, &args.record, &args.wait, operation(name)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_is_not_called_refused_because_it_cannot_be_printed() {
        let full = || Failure::Local("cannot write the answer: no space".into());
        assert_eq!(untold(true, 57, full()).exit(), Exit::Incomplete);
        assert_eq!(untold(false, 0, full()), full(), "nothing was recorded");
    }
}
