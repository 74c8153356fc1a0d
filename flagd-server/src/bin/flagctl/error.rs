//! What can end a run, and with which exit code.
//!
//! A script reads one number, so the number must say what to do next: go on, mend the input, look at who is
//! missing, or run it again. Everything that ends a run passes through here, so that the table below is the
//! only place where a code is chosen. How a failure is told is for `output`.

use std::process::ExitCode;

use flagd_core::problem::{Problem, TextPosition};
use flagd_proto::admin::{self, ChangeResponse, ErrorDetail, Severity, WaitVerdict};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Recorded, and confirmed where it waited; or a question was answered.
    Fine,
    /// Refused, nothing was changed; or `diff` found differences, `check` problems.
    Refused,
    /// What was typed cannot be understood.
    Usage,
    /// Recorded, but something asked for is missing or unconfirmed.
    Incomplete,
    /// No server was reached, or the outcome is unknown.
    Unknown,
}

impl Exit {
    /// The number that the shell sees.
    pub(crate) fn number(self) -> u8 {
        match self {
            Exit::Fine => 0,
            Exit::Refused => 1,
            Exit::Usage => 2,
            Exit::Incomplete => 3,
            Exit::Unknown => 4,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.number())
    }
}

/// A problem of a file, as its author finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileProblem {
    /// The file; empty when it cannot be told.
    pub file: String,
    /// What is wrong.
    pub problem: Problem,
}

/// Why a run ended without having done what it should. Each variant's `Exit` is in [`Failure::exit`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Failure {
    /// The words make no sense together. Do: see `--help`.
    Usage(String),
    /// Something on this computer is in the way; no server was asked to change anything. Do: as the text says.
    Local(String),
    /// A file of definitions is wrong. Do: mend the listed places.
    Problems(Vec<FileProblem>),
    /// The change was recorded, but its account could not be printed. Do: look at the history; do not run it again.
    Untold {
        /// What recorded it.
        revision: u64,
        /// Why it could not be printed.
        why: String,
    },
    /// The server said no. Do: as its detail says.
    Refused(Box<ErrorDetail>),
    /// What somebody wrote in an editor was not taken over. Do: as the text says; nothing is lost.
    Kept {
        /// Why.
        failure: Box<Failure>,
        /// Where the text is and how to go on.
        how_to_go_on: String,
    },
    /// Nobody answered `yes`. Do: `--yes`, if it is meant.
    NotAgreed(String),
    /// No server was reached; nothing was asked. Do: look at the servers, run it again.
    NotReached(Vec<Tried>),
    /// A server was asked and did not answer. Do: run it again.
    OutcomeUnknown {
        /// Who was asked.
        tried: Vec<Tried>,
        /// The id that makes a repetition safe; `None` for a question.
        request_id: Option<String>,
    },
}

/// One attempt at one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tried {
    /// The server's address.
    pub server: String,
    /// What went wrong.
    pub why: String,
}

impl Failure {
    /// How the run ends.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Failure::Usage(_) => Exit::Usage,
            Failure::Local(_) | Failure::Problems(_) | Failure::Refused(_) | Failure::NotAgreed(_) => {
                Exit::Refused
            }
            Failure::Untold { .. } => Exit::Incomplete,
            Failure::NotReached(_) | Failure::OutcomeUnknown { .. } => Exit::Unknown,
            Failure::Kept { failure, .. } => failure.exit(),
        }
    }

    /// A word for programs.
    pub(crate) fn code(&self) -> String {
        match self {
            Failure::Usage(_) => "usage".into(),
            Failure::Local(_) => "local".into(),
            Failure::Problems(_) => "invalid".into(),
            Failure::Untold { .. } => "untold".into(),
            Failure::Refused(detail) => error_code_word(detail.code()),
            Failure::Kept { failure, .. } => failure.code(),
            Failure::NotAgreed(_) => "notAgreed".into(),
            Failure::NotReached(_) => "notReached".into(),
            Failure::OutcomeUnknown { .. } => "outcomeUnknown".into(),
        }
    }

    /// The server that refused, by its own name.
    pub(crate) fn server(&self) -> Option<&str> {
        match self {
            Failure::Refused(detail) => Some(detail.server.as_str()).filter(|name| !name.is_empty()),
            Failure::Kept { failure, .. } => failure.server(),
            _ => None,
        }
    }
}

/// A server's problem as the core tells one.
pub(crate) fn problem_from_wire(problem: &admin::Problem) -> Problem {
    let position = TextPosition { line: problem.line, column: problem.column };
    Problem {
        path: problem.path.clone(),
        position: Some(position).filter(|position| position.line > 0),
        message: problem.message.clone(),
        hint: Some(problem.hint.clone()).filter(|hint| !hint.is_empty()),
    }
}

/// `ERROR_CODE_NO_SUCH_REVISION` is `noSuchRevision`.
fn error_code_word(code: admin::ErrorCode) -> String {
    let name = code.as_str_name().trim_start_matches("ERROR_CODE_").to_ascii_lowercase();
    let mut word = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                word.push(c.to_ascii_uppercase());
                upper = false;
            }
            c => word.push(c),
        }
    }
    word
}

/// How a wait for clients ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitEnding {
    /// The server's verdict.
    Verdict(WaitVerdict),
    /// The operator stopped watching.
    Interrupted,
    /// The server was lost while waiting.
    ServerLost,
}

/// How a run ends that changed something, or had nothing left to change.
pub(crate) fn exit_of_change(response: &ChangeResponse, wait: Option<WaitEnding>) -> Exit {
    let missing = response.notes.iter().any(|note| note.severity() == Severity::Missing);
    let confirmed = matches!(wait, None | Some(WaitEnding::Verdict(WaitVerdict::Confirmed)));
    if missing || !confirmed { Exit::Incomplete } else { Exit::Fine }
}

#[cfg(test)]
mod tests {
    use flagd_proto::admin::{ErrorCode, Note};

    use super::*;

    #[test]
    fn every_ending_has_its_number() {
        let unknown = Failure::OutcomeUnknown { tried: vec![], request_id: None };
        let refused = Failure::Refused(Box::default());
        let cases: Vec<(&str, Exit, u8)> = vec![
            ("fine", Exit::Fine, 0),
            ("refused by the server", refused.exit(), 1),
            ("a file is wrong", Failure::Problems(vec![]).exit(), 1),
            ("a file is not there", Failure::Local(String::new()).exit(), 1),
            ("nobody said yes", Failure::NotAgreed(String::new()).exit(), 1),
            ("usage", Failure::Usage(String::new()).exit(), 2),
            ("incomplete", Exit::Incomplete, 3),
            ("recorded and not told", Failure::Untold { revision: 1, why: String::new() }.exit(), 3),
            ("no server", Failure::NotReached(vec![]).exit(), 4),
            ("unknown", unknown.exit(), 4),
        ];
        for (name, exit, want) in cases {
            assert_eq!(exit.number(), want, "{name}");
        }
    }

    #[test]
    fn a_change_is_fine_only_when_nothing_is_missing_and_all_have_confirmed() {
        let with = |severity: Severity| ChangeResponse {
            notes: vec![Note { severity: severity.into(), ..Note::default() }],
            ..ChangeResponse::default()
        };
        let verdict = |verdict| Some(WaitEnding::Verdict(verdict));
        let cases = [
            ("did not wait", with(Severity::Info), None, Exit::Fine),
            ("a warning is no failure", with(Severity::Warning), None, Exit::Fine),
            ("a flag was not found", with(Severity::Missing), None, Exit::Incomplete),
            ("confirmed", with(Severity::Info), verdict(WaitVerdict::Confirmed), Exit::Fine),
            (
                "confirmed, but a flag was not found",
                with(Severity::Missing),
                verdict(WaitVerdict::Confirmed),
                Exit::Incomplete,
            ),
            ("nobody can confirm", with(Severity::Info), verdict(WaitVerdict::Nobody), Exit::Incomplete),
            ("unconfirmed", with(Severity::Info), verdict(WaitVerdict::Unconfirmed), Exit::Incomplete),
            (
                "a verdict from the future",
                with(Severity::Info),
                verdict(WaitVerdict::Unspecified),
                Exit::Incomplete,
            ),
            ("interrupted", with(Severity::Info), Some(WaitEnding::Interrupted), Exit::Incomplete),
            ("server lost", with(Severity::Info), Some(WaitEnding::ServerLost), Exit::Incomplete),
        ];
        for (name, response, wait, want) in cases {
            assert_eq!(exit_of_change(&response, wait), want, "{name}");
        }
    }

    #[test]
    fn codes_are_words_for_programs() {
        let refused = |code: ErrorCode| {
            Failure::Refused(Box::new(ErrorDetail { code: code.into(), ..ErrorDetail::default() }))
        };
        assert_eq!(refused(ErrorCode::NoSuchRevision).code(), "noSuchRevision");
        assert_eq!(refused(ErrorCode::Conflict).code(), "conflict");
    }
}
