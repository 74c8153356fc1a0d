//! Every error has its code, its words and a detail that fits its header.

use flagd_core::edit::{EditError, FieldDrift};
use flagd_core::entry::{EntryId, EntryKind};
use flagd_core::key::EnvironmentName;
use flagd_core::problem::Problem;
use flagd_core::revision::Revision;
use flagd_proto::admin;

use super::*;

fn production() -> EnvironmentName {
    EnvironmentName::new("production").unwrap()
}

fn checkout() -> EntryId {
    EntryId::new(EntryKind::FLAG, "new-checkout")
}

fn drift() -> FieldDrift {
    FieldDrift {
        id: checkout(),
        field: "otherwise".into(),
        base: None,
        file: Some("on".into()),
        live: Some("off".into()),
    }
}

fn detail(status: &Status) -> ErrorDetail {
    ErrorDetail::decode(status.details()).unwrap()
}

type Rows = Vec<(&'static str, ControlError, Code, ErrorCode)>;

fn environment_rows() -> Rows {
    vec![
        ("request", ControlError::request("no operation"), Code::InvalidArgument, ErrorCode::Invalid),
        (
            "too large",
            ControlError::TooLarge { what: "a file", bytes: 9, max_bytes: 8 },
            Code::InvalidArgument,
            ErrorCode::TooLarge,
        ),
        (
            "unknown environment",
            ControlError::UnknownEnvironment { name: production(), nearest: vec!["staging".into()] },
            Code::NotFound,
            ErrorCode::UnknownEnvironment,
        ),
        (
            "environment exists",
            ControlError::EnvironmentExists(production()),
            Code::AlreadyExists,
            ErrorCode::Exists,
        ),
        (
            "too many environments",
            ControlError::TooManyEnvironments(9),
            Code::ResourceExhausted,
            ErrorCode::Refused,
        ),
        ("head missing", ControlError::HeadMissing(production()), Code::Unavailable, ErrorCode::Unavailable),
    ]
}

fn edit_rows() -> Rows {
    let id = checkout();
    vec![
        (
            "invalid",
            EditError::Invalid(vec![Problem::new("flags.a", "wrong")]).into(),
            Code::InvalidArgument,
            ErrorCode::Invalid,
        ),
        (
            "unknown flag",
            EditError::Unknown { id: id.clone(), nearest: vec![] }.into(),
            Code::NotFound,
            ErrorCode::UnknownEntry,
        ),
        (
            "exists",
            EditError::Exists { id: id.clone(), revision: Revision(3) }.into(),
            Code::AlreadyExists,
            ErrorCode::Exists,
        ),
        (
            "retired",
            EditError::Retired { id: id.clone(), why: "type".into() }.into(),
            Code::FailedPrecondition,
            ErrorCode::Retired,
        ),
        (
            "ambiguous",
            EditError::Ambiguous { why: "two splits".into(), choices: vec!["a 5% --otherwise".into()] }
                .into(),
            Code::FailedPrecondition,
            ErrorCode::Ambiguous,
        ),
        (
            "not understood",
            EditError::NotUnderstood { id: id.clone(), why: "level 9".into() }.into(),
            Code::FailedPrecondition,
            ErrorCode::NotUnderstood,
        ),
        (
            "field conflicts",
            EditError::FieldConflicts(vec![drift()]).into(),
            Code::Aborted,
            ErrorCode::FieldConflicts,
        ),
        ("refused", EditError::Refused("no".into()).into(), Code::FailedPrecondition, ErrorCode::Refused),
    ]
}

fn outcome_rows() -> Rows {
    let id = checkout();
    vec![
        (
            "unknown entry",
            ControlError::UnknownEntry { id, environment: production(), nearest: vec![] },
            Code::NotFound,
            ErrorCode::UnknownEntry,
        ),
        (
            "conflict",
            ControlError::Conflict(vec![admin::Conflict::default()]),
            Code::Aborted,
            ErrorCode::Conflict,
        ),
        (
            "level",
            ControlError::Level { level: 2, clients: vec![] },
            Code::FailedPrecondition,
            ErrorCode::Level,
        ),
        ("quota", ControlError::Quota("full".into()), Code::ResourceExhausted, ErrorCode::Quota),
        (
            "outcome unknown",
            ControlError::OutcomeUnknown { request_id: "r".into(), why: "timeout".into() },
            Code::Unknown,
            ErrorCode::OutcomeUnknown,
        ),
        (
            "no such revision",
            ControlError::NoSuchRevision {
                environment: production(),
                revision: Revision(9),
                oldest: Revision(1),
                newest: Revision(3),
            },
            Code::OutOfRange,
            ErrorCode::NoSuchRevision,
        ),
        (
            "choose a revision",
            ControlError::ChooseRevision { message: "choose".into(), candidates: vec![] },
            Code::FailedPrecondition,
            ErrorCode::ChooseRevision,
        ),
        (
            "unavailable",
            ControlError::Unavailable("behind".into()),
            Code::Unavailable,
            ErrorCode::Unavailable,
        ),
        ("internal", ControlError::Internal("panic".into()), Code::Internal, ErrorCode::Unavailable),
    ]
}

fn store_rows() -> Rows {
    vec![
        (
            "store: no environment",
            StoreError::NoEnvironment(production()).into(),
            Code::NotFound,
            ErrorCode::UnknownEnvironment,
        ),
        (
            "store: unavailable",
            StoreError::Unavailable("timeout".into()).into(),
            Code::Unavailable,
            ErrorCode::Unavailable,
        ),
        ("store: full", StoreError::Full("disk".into()).into(), Code::ResourceExhausted, ErrorCode::Quota),
        (
            "store: corrupt",
            StoreError::Corrupt("digest".into()).into(),
            Code::Internal,
            ErrorCode::Unavailable,
        ),
        (
            "store: too large",
            StoreError::TooLarge { bytes: 9, max_bytes: 8 }.into(),
            Code::InvalidArgument,
            ErrorCode::TooLarge,
        ),
    ]
}

#[test]
fn every_error_has_its_codes_and_words() {
    for (name, error, code, error_code) in
        environment_rows().into_iter().chain(edit_rows()).chain(outcome_rows()).chain(store_rows())
    {
        let status = status(&error, "flagd-1");
        let detail = detail(&status);
        assert_eq!(status.code(), code, "{name}");
        assert_eq!(detail.code(), error_code, "{name}");
        assert_eq!(detail.server, "flagd-1", "{name}");
        assert_eq!(detail.message, error.to_string(), "{name}");
        assert_eq!(status.message(), error.to_string(), "{name}");
    }
}

#[test]
fn lists_travel_with_their_error() {
    let told = |error: ControlError| detail(&status(&error, "s"));
    let problems =
        EditError::Invalid(vec![Problem::new("flags.a.rules[0]", "wrong").hint("did you mean `in`?")]);
    assert_eq!(told(problems.into()).problems[0].hint, "did you mean `in`?");
    assert_eq!(
        told(EditError::FieldConflicts(vec![drift()]).into()).field_conflicts[0].live.as_deref(),
        Some("off")
    );
    let near = ControlError::UnknownEnvironment { name: production(), nearest: vec!["staging".into()] };
    assert_eq!(told(near).nearest, ["staging"]);
    let choices =
        EditError::Ambiguous { why: "two".into(), choices: vec!["a 5%".into(), "a 5% --otherwise".into()] };
    assert_eq!(told(choices.into()).choices.len(), 2);
}

#[test]
fn a_detail_fits_its_header_whatever_went_wrong() {
    let long = "x".repeat(100_000);
    let difference = admin::FieldDifference {
        field: "variants.on".into(),
        before: Some(long.clone()),
        after: Some(long.clone()),
    };
    let conflict = admin::Conflict { differences: vec![difference; 50], ..admin::Conflict::default() };
    let errors: Vec<(&str, ControlError)> = vec![
        (
            "many problems",
            EditError::Invalid(vec![Problem::new("a.b.c", "something is wrong here"); 10_000]).into(),
        ),
        (
            "long problems",
            EditError::Invalid(vec![Problem::new(long.clone(), long.clone()).hint(long.clone()); 20]).into(),
        ),
        ("conflicts", ControlError::Conflict(vec![conflict; 20])),
        ("a long sentence", EditError::Refused(long.clone()).into()),
        (
            "clients",
            ControlError::Level {
                level: 2,
                clients: vec![admin::ClientInfo { name: "n".repeat(256), ..Default::default() }; 5_000],
            },
        ),
    ];
    for (name, error) in errors {
        let status = status(&error, "s");
        assert!(status.details().len() <= DETAIL_MAX_BYTES, "{name}: {} bytes", status.details().len());
        assert!(status.message().chars().count() <= MESSAGE_MAX_CHARS + 3, "{name}");
    }
    let many = status(&EditError::Invalid(vec![Problem::new("a.b.c", "wrong"); 10_000]).into(), "s");
    let detail = detail(&many);
    assert!(detail.problems.len() > 20, "{}", detail.problems.len());
    assert!(detail.hint.ends_with("more are not listed"), "{}", detail.hint);
}
