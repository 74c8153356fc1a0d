//! The one place where errors become gRPC statuses.
//!
//! A status has a code for machines, a sentence for people and, as details, one encoded `ErrorDetail` with all
//! that a command needs to print a helpful answer. Details travel in a header, and common clients refuse headers
//! of more than 16 KiB in sum, so lists are cut to fit and what was cut is said.

use flagd_core::edit::EditError;
use flagd_proto::admin::{ErrorCode, ErrorDetail};
use flagd_proto::convert::admin as convert;
use flagd_proto::{Bytes, Message as _};
use tonic::{Code, Status};

use crate::control::ControlError;
use crate::limits::ERROR_DETAIL_MAX_BYTES as DETAIL_MAX_BYTES;
use crate::store::StoreError;

#[cfg(test)]
mod tests;

/// Longest message of the status itself, whose characters may take twelve bytes each in a header.
const MESSAGE_MAX_CHARS: usize = 300;
/// Longest sentence in a detail.
const SENTENCE_MAX_CHARS: usize = 1_000;
/// Longest value of a field in a detail.
const VALUE_MAX_CHARS: usize = 400;

/// The status of an error, told by this server.
#[must_use]
pub fn status(error: &ControlError, server: &str) -> Status {
    let (code, error_code, hint) = classify(error);
    if code == Code::Internal {
        tracing::error!(%error, "a request failed by a mistake of this server or its store");
    }
    let mut detail = ErrorDetail {
        code: error_code.into(),
        message: shortened(&error.to_string(), SENTENCE_MAX_CHARS),
        hint,
        server: server.to_owned(),
        ..ErrorDetail::default()
    };
    fill(&mut detail, error);
    fit(&mut detail);
    let message = shortened(&detail.message, MESSAGE_MAX_CHARS);
    Status::with_details(code, message, Bytes::from(detail.encode_to_vec()))
}

/// The codes of an error, and what to do about it.
fn classify(error: &ControlError) -> (Code, ErrorCode, String) {
    let (code, error_code, hint) = match error {
        ControlError::Request { hint, .. } => (Code::InvalidArgument, ErrorCode::Invalid, hint.as_str()),
        ControlError::TooLarge { .. } => {
            (Code::InvalidArgument, ErrorCode::TooLarge, "make it smaller, or send it in pieces")
        }
        ControlError::UnknownEnvironment { .. } => (
            Code::NotFound,
            ErrorCode::UnknownEnvironment,
            "check the name, or create it with `flagctl environment create`",
        ),
        ControlError::EnvironmentExists(_) => {
            (Code::AlreadyExists, ErrorCode::Exists, "use it, or choose another name")
        }
        ControlError::TooManyEnvironments(_) => {
            (Code::ResourceExhausted, ErrorCode::Refused, "use one that exists")
        }
        ControlError::HeadMissing(_) => (
            Code::Unavailable,
            ErrorCode::Unavailable,
            "look at the store: its data is gone or was restored elsewhere; nothing was changed",
        ),
        ControlError::Edit(error) => return edit(error),
        ControlError::UnknownEntry { .. } => (Code::NotFound, ErrorCode::UnknownEntry, "check the spelling"),
        ControlError::Conflict(_) => {
            (Code::Aborted, ErrorCode::Conflict, "look at what changed, then decide again")
        }
        ControlError::Level { .. } => {
            (Code::FailedPrecondition, ErrorCode::Level, "upgrade these clients, or repeat with `--anyway`")
        }
        ControlError::Quota(_) => (
            Code::ResourceExhausted,
            ErrorCode::Quota,
            "give the store more space (`flagd --quota`, or a larger disk)",
        ),
        ControlError::OutcomeUnknown { .. } => (
            Code::Unknown,
            ErrorCode::OutcomeUnknown,
            "run it again: with the same request id nothing happens twice",
        ),
        ControlError::NoSuchRevision { .. } => {
            (Code::OutOfRange, ErrorCode::NoSuchRevision, "choose a revision in that range")
        }
        ControlError::ChooseRevision { .. } => {
            (Code::FailedPrecondition, ErrorCode::ChooseRevision, "name one of the candidates with `--to`")
        }
        ControlError::Relay { .. } => (
            Code::FailedPrecondition,
            ErrorCode::Relay,
            "ask the server that it follows, with --server or FLAGD_SERVERS",
        ),
        ControlError::Unavailable(_) => {
            (Code::Unavailable, ErrorCode::Unavailable, "try again, here or at another server")
        }
        ControlError::Store(error) => store(error),
        ControlError::Internal(_) => {
            (Code::Internal, ErrorCode::Unavailable, "this is a mistake in flagd: please report it")
        }
    };
    (code, error_code, hint.to_owned())
}

fn edit(error: &EditError) -> (Code, ErrorCode, String) {
    let (code, error_code, hint) = match error {
        EditError::Invalid(_) => (Code::InvalidArgument, ErrorCode::Invalid, "mend the listed places"),
        EditError::Unknown { .. } => (Code::NotFound, ErrorCode::UnknownEntry, "check the spelling"),
        EditError::Exists { .. } => {
            (Code::AlreadyExists, ErrorCode::Exists, "use `edit` or `apply`, or another key")
        }
        EditError::Retired { .. } => {
            (Code::FailedPrecondition, ErrorCode::Retired, "use another key, or `flagctl unarchive`")
        }
        EditError::Ambiguous { .. } => {
            (Code::FailedPrecondition, ErrorCode::Ambiguous, "run one of the commands listed")
        }
        EditError::NotUnderstood { .. } => (
            Code::FailedPrecondition,
            ErrorCode::NotUnderstood,
            "upgrade this server, or put a new definition",
        ),
        EditError::FieldConflicts(_) => {
            (Code::Aborted, ErrorCode::FieldConflicts, "repeat with `--take file` or `--take live`")
        }
        _ => (Code::FailedPrecondition, ErrorCode::Refused, ""),
    };
    (code, error_code, hint.to_owned())
}

fn store(error: &StoreError) -> (Code, ErrorCode, &'static str) {
    match error {
        StoreError::NoEnvironment(_) => (
            Code::NotFound,
            ErrorCode::UnknownEnvironment,
            "check the name, or create it with `flagctl environment create`",
        ),
        StoreError::Unavailable(_) => {
            (Code::Unavailable, ErrorCode::Unavailable, "try again, here or at another server")
        }
        StoreError::Full(_) => (
            Code::ResourceExhausted,
            ErrorCode::Quota,
            "give the store more space (`flagd --quota`, or a larger disk)",
        ),
        StoreError::Corrupt(_) => {
            (Code::Internal, ErrorCode::Unavailable, "restore a backup; nothing was changed")
        }
        StoreError::OtherUse(_) => {
            (Code::Internal, ErrorCode::Unavailable, "start the server with another `--store`")
        }
        StoreError::TooLarge { .. } | StoreError::TooMany { .. } => {
            (Code::InvalidArgument, ErrorCode::TooLarge, "make it smaller, or send it in pieces")
        }
    }
}

/// The lists that belong to an error.
fn fill(detail: &mut ErrorDetail, error: &ControlError) {
    match error {
        ControlError::UnknownEnvironment { nearest, .. } | ControlError::UnknownEntry { nearest, .. } => {
            detail.nearest.clone_from(nearest);
        }
        ControlError::Conflict(conflicts) => detail.conflicts.clone_from(conflicts),
        ControlError::Level { clients, .. } => detail.clients.clone_from(clients),
        ControlError::ChooseRevision { candidates, .. } => detail.candidates.clone_from(candidates),
        ControlError::Edit(EditError::Invalid(problems)) => {
            detail.problems = problems.iter().map(convert::problem_to_wire).collect();
        }
        ControlError::Edit(EditError::Unknown { nearest, .. }) => detail.nearest.clone_from(nearest),
        ControlError::Edit(EditError::Ambiguous { choices, .. }) => detail.choices.clone_from(choices),
        ControlError::Edit(EditError::FieldConflicts(fields)) => {
            detail.field_conflicts = fields.iter().map(convert::drift_to_wire).collect();
        }
        _ => {}
    }
}

/// Cuts long values, then lists from their ends, until the detail fits its header.
fn fit(detail: &mut ErrorDetail) {
    if detail.encoded_len() <= DETAIL_MAX_BYTES {
        return;
    }
    cut_values(detail);
    let before = listed(detail);
    // Room for the sentence that says what was cut.
    while detail.encoded_len() > DETAIL_MAX_BYTES - 100 {
        let sizes = [
            detail.problems.len(),
            detail.conflicts.len(),
            detail.field_conflicts.len(),
            detail.choices.len(),
            detail.nearest.len(),
            detail.clients.len(),
            detail.candidates.len(),
        ];
        let longest = sizes.iter().max().copied().unwrap_or(0);
        if longest == 0 {
            break;
        }
        let keep = longest * 9 / 10;
        detail.problems.truncate(keep);
        detail.conflicts.truncate(keep);
        detail.field_conflicts.truncate(keep);
        detail.choices.truncate(keep);
        detail.nearest.truncate(keep);
        detail.clients.truncate(keep);
        detail.candidates.truncate(keep);
    }
    let left_off = before - listed(detail);
    if left_off > 0 {
        let separator = if detail.hint.is_empty() { "" } else { "; " };
        detail.hint = format!("{}{separator}{left_off} more are not listed", detail.hint);
    }
}

fn listed(detail: &ErrorDetail) -> usize {
    detail.problems.len()
        + detail.conflicts.len()
        + detail.field_conflicts.len()
        + detail.choices.len()
        + detail.nearest.len()
        + detail.clients.len()
        + detail.candidates.len()
}

fn cut_values(detail: &mut ErrorDetail) {
    detail.hint = shortened(&detail.hint, SENTENCE_MAX_CHARS);
    for problem in &mut detail.problems {
        for text in [&mut problem.path, &mut problem.message, &mut problem.hint] {
            *text = shortened(text, VALUE_MAX_CHARS);
        }
    }
    let conflicts = detail.conflicts.iter_mut().flat_map(|conflict| &mut conflict.differences);
    let candidates =
        detail.candidates.iter_mut().flat_map(|c| &mut c.touched).flat_map(|t| &mut t.differences);
    for difference in conflicts.chain(candidates) {
        for text in [&mut difference.before, &mut difference.after].into_iter().flatten() {
            *text = shortened(text, VALUE_MAX_CHARS);
        }
    }
    for conflict in &mut detail.conflicts {
        conflict.differences.truncate(10);
    }
    for drift in &mut detail.field_conflicts {
        for text in [&mut drift.base, &mut drift.file, &mut drift.live].into_iter().flatten() {
            *text = shortened(text, VALUE_MAX_CHARS);
        }
    }
    for client in &mut detail.clients {
        client.refused.clear();
    }
}

fn shortened(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}...", text.get(..at).unwrap_or_default()),
    }
}
