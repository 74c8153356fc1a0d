//! What people and programs get to see, from hand-made answers. The golden texts are an interface: read the
//! difference before accepting it.

use flagd_core::problem::{Problem, TextPosition};
use flagd_proto::admin::*;
use flagd_proto::stream::{EntryId, Epoch, Position, RefusedEntry};

use super::*;
use crate::error::{Tried, WaitEnding};

const NOW_MS: u64 = 1_795_435_200_000;

fn look() -> Look {
    Look { color: Color::Off, now_ms: NOW_MS, zone: TimeZone::UTC }
}

fn header() -> Header {
    Header { environment: "default".into(), server: "127.0.0.1:8013".into(), server_name: "a".into() }
}

#[expect(clippy::unnecessary_wraps, reason = "messages are optional fields of messages")]
fn at(revision: u64) -> Option<Position> {
    let epoch = Some(Epoch { minted_ms: NOW_MS, random: 7 });
    Some(Position { epoch, revision, ..Position::default() })
}

#[expect(clippy::unnecessary_wraps, reason = "messages are optional fields of messages")]
fn flag(key: &str) -> Option<EntryId> {
    Some(EntryId { kind: 1, key: key.into() })
}

fn touched(id: Option<EntryId>, previous_revision: u64, differences: Vec<FieldDifference>) -> TouchedEntry {
    TouchedEntry { id, previous_revision, removed: false, differences }
}

fn difference(field: &str, before: Option<&str>, after: Option<&str>) -> FieldDifference {
    FieldDifference { field: field.into(), before: before.map(Into::into), after: after.map(Into::into) }
}

fn ramped() -> ChangeResponse {
    ChangeResponse {
        revision: 57,
        position: at(57),
        recorded: true,
        operation: "ramp new-checkout to 25 %".into(),
        effects: vec![Effect {
            flag: "new-checkout".into(),
            movement: Movement::OnlyAdds.into(),
            summary: "otherwise: on 5 % -> 25 %, only adds (20 % of its units)".into(),
            flows: vec![Flow {
                place: "otherwise".into(),
                from: "off".into(),
                to: "on".into(),
                share_ppm: 200_000,
            }],
        }],
        touched: vec![touched(
            flag("new-checkout"),
            56,
            vec![difference(
                "otherwise",
                Some(r#"{"split":{"on":5,"off":95}}"#),
                Some(r#"{"split":{"on":25,"off":75}}"#),
            )],
        )],
        undo: "flagctl ramp new-checkout 5%".into(),
        time_ms: NOW_MS,
        server: "127.0.0.1:8013".into(),
        movement: Movement::OnlyAdds.into(),
        ..ChangeResponse::default()
    }
}

fn killed() -> ChangeResponse {
    let kill = |key: &str| Some(EntryId { kind: 3, key: key.into() });
    let note =
        |severity: Severity, text: &str| Note { severity: severity.into(), about: None, text: text.into() };
    ChangeResponse {
        operation: "kill new-checkout".into(),
        touched: vec![touched(
            kill("new-checkout"),
            0,
            vec![difference("offVariant", None, Some("\"off\""))],
        )],
        effects: vec![Effect {
            flag: "new-checkout".into(),
            movement: Movement::OnlyRemoves.into(),
            summary: "serves off to everybody; served on to 25 % before".into(),
            flows: vec![],
        }],
        consequences: vec![
            Consequence {
                flag: "express-pay".into(),
                because: "new-checkout".into(),
                direction: Direction::GoesOff.into(),
            },
            Consequence {
                flag: "old-basket".into(),
                because: "new-checkout".into(),
                direction: Direction::ComesOn.into(),
            },
        ],
        notes: vec![
            note(Severity::Missing, "no flag `new-chekout`; did you mean `new-checkout`?"),
            note(Severity::Warning, "nobody has opened it since \u{1b}[2J"),
            note(Severity::Warning, "`old-basket` comes on: its requirement is told by this note alone"),
        ],
        undo: "flagctl revive new-checkout".into(),
        movement: Movement::OnlyRemoves.into(),
        ..ramped()
    }
}

fn client(name: &str, standing: ClientStanding) -> ClientInfo {
    ClientInfo {
        instance: vec![0xab; 16].into(),
        name: name.into(),
        app: "shop".into(),
        app_version: "2.1.0".into(),
        sdk: "flagd-client-rust/0.1.0".into(),
        level: 1,
        standing: standing.into(),
        position: at(if standing == ClientStanding::Applied { 57 } else { 56 }),
        last_seen_ms: NOW_MS - 40_000,
        connected: standing != ClientStanding::Lost,
        address: "10.0.0.7:41312".into(),
        ..ClientInfo::default()
    }
}

fn relay(name: &str, connected: bool) -> RelayInfo {
    RelayInfo {
        name: name.into(),
        connected,
        address: if connected { "10.0.0.9:4711".into() } else { String::new() },
        last_seen_ms: NOW_MS - 40_000,
        clients_connected: u32::from(connected) * 10_000,
    }
}

fn refusing() -> ClientInfo {
    let refused =
        vec![RefusedEntry { id: flag("new-checkout"), why: "unknown operator `soundsLike`".into() }];
    ClientInfo { refused, ..client("shop-3", ClientStanding::Refused) }
}

fn holding() -> ClientInfo {
    let holder = client("shop-1", ClientStanding::Applied);
    ClientInfo { held_snapshots: 2, held_oldest_revision: 54, held_oldest_age_ms: 3_000, ..holder }
}

fn waited(ending: WaitEnding, progress: WaitProgress) -> Waited {
    Waited { progress: Some(progress), ending }
}

fn waits() -> Vec<(&'static str, Waited)> {
    let verdict = WaitEnding::Verdict;
    let all =
        WaitProgress { expected: 3, applied: 3, elapsed_us: 12_400, done: true, ..WaitProgress::default() };
    let some = WaitProgress {
        applied: 1,
        missing: vec![client("shop-2", ClientStanding::Lost), refusing()],
        ..all.clone()
    };
    let lagging = vec![client("", ClientStanding::Lagging), client("shop-4", ClientStanding::Diverged)];
    let many = WaitProgress { expected: 900, applied: 100, missing: lagging, unlisted: 798, ..all.clone() };
    let nobody = WaitProgress { done: true, ..WaitProgress::default() };
    vec![
        ("confirmed", waited(verdict(WaitVerdict::Confirmed), all.clone())),
        (
            "confirmed, an older snapshot is held",
            waited(
                verdict(WaitVerdict::Confirmed),
                WaitProgress { holding_older: 2, holders: vec![holding()], ..all.clone() },
            ),
        ),
        ("unconfirmed", waited(verdict(WaitVerdict::Unconfirmed), some.clone())),
        (
            "a server did not answer",
            waited(
                verdict(WaitVerdict::Unconfirmed),
                WaitProgress { unanswered_servers: vec!["b".into()], ..all.clone() },
            ),
        ),
        (
            "a relay is away",
            waited(
                verdict(WaitVerdict::Unconfirmed),
                WaitProgress {
                    missing: vec![ClientInfo {
                        via: "east > rack-7".into(),
                        ..client("till-7", ClientStanding::Lost)
                    }],
                    away_relays: vec!["east > rack-7".into()],
                    ..some.clone()
                },
            ),
        ),
        ("unconfirmed by many", waited(verdict(WaitVerdict::Unconfirmed), many)),
        ("nobody", waited(verdict(WaitVerdict::Nobody), nobody)),
        ("interrupted", waited(WaitEnding::Interrupted, some.clone())),
        ("server lost", waited(WaitEnding::ServerLost, some)),
        ("nothing was heard", Waited { progress: None, ending: WaitEnding::ServerLost }),
    ]
}

fn changed(response: ChangeResponse, waited: Option<Waited>) -> Answer {
    Answer::Change(Box::new(Changed { response, waited, undo_suffix: String::new() }))
}

fn changes() -> Vec<(&'static str, Answer)> {
    let dry = ChangeResponse { recorded: false, revision: 0, position: at(56), ..ramped() };
    let nothing = ChangeResponse { touched: vec![], effects: vec![], movement: 0, ..dry.clone() };
    let drift = FieldDrift {
        id: flag("new-checkout"),
        field: "otherwise".into(),
        base: Some("\"off\"".into()),
        file: Some("\"off\"".into()),
        live: Some(r#"{"split":{"on":25,"off":75}}"#.into()),
    };
    let many = (0..23).map(|n| touched(flag(&format!("flag-{n}")), 0, vec![])).collect();
    let applied = ChangeResponse {
        operation: "apply 23 definitions from git".into(),
        touched: many,
        effects: vec![],
        drift: vec![drift],
        undo: String::new(),
        movement: Movement::Unknown.into(),
        ..ramped()
    };
    let elsewhere = Answer::Change(Box::new(Changed {
        response: ChangeResponse {
            repeated_answer: true,
            undo: "flagctl archive a && flagctl archive b".into(),
            ..ramped()
        },
        waited: None,
        undo_suffix: " --environment staging".into(),
    }));
    vec![
        ("ramp", changed(ramped(), None)),
        ("ramp, dry run", changed(dry, None)),
        ("ramp, nothing to change", changed(nothing, None)),
        ("kill, confirmed", changed(killed(), waits().into_iter().next().map(|(_, waited)| waited))),
        ("apply", changed(applied, None)),
        ("another environment, answered before", elsewhere),
    ]
}

fn environment() -> Environment {
    Environment { name: "default".into(), position: at(57), flags: 12, segments: 1, killed: 1, clients: 3 }
}

fn history() -> HistoryChange {
    HistoryChange {
        revision: 57,
        time_ms: NOW_MS,
        actor: "anna@desk".into(),
        reason: "all fine\nsince monday".into(),
        operation: "ramp new-checkout to 25 %".into(),
        verb: "ramp".into(),
        touched: ramped().touched,
        epoch: None,
    }
}

fn lists() -> Vec<(&'static str, Answer)> {
    let summary = |key: &str, state: FlagState, serves: &str| FlagSummary {
        key: key.into(),
        r#type: "boolean".into(),
        state: state.into(),
        serves: serves.into(),
        owner: "payments".into(),
        tags: vec!["checkout".into(), "q4".into()],
        description: "One-page checkout".into(),
        revision: 57,
        changed_ms: NOW_MS,
        changed_by: "anna@desk".into(),
    };
    let flags = ListResponse {
        position: at(57),
        flags: vec![
            summary("new-checkout", FlagState::Killed, "off"),
            FlagSummary {
                owner: String::new(),
                tags: vec![],
                ..summary("dark-mode", FlagState::Enabled, "on 25 %")
            },
            summary("from-tomorrow", FlagState::NotUnderstood, ""),
        ],
        view_age_ms: 40_000,
        ..ListResponse::default()
    };
    let segments = ListResponse {
        segments: vec![SegmentSummary {
            key: "staff".into(),
            included: 17,
            condition: true,
            used_by: vec!["new-checkout".into()],
            description: "Everybody with an address of ours, and a few friends".into(),
            ..SegmentSummary::default()
        }],
        ..ListResponse::default()
    };
    let status = StatusResponse {
        server: "a".into(),
        version: "0.1.0".into(),
        store: "memory".into(),
        uptime_ms: 65_000,
        environments: vec![EnvironmentStatus {
            environment: Some(environment()),
            view_age_ms: 12_000,
            oldest_revision: 1,
            killed_flags: vec!["new-checkout".into()],
            refused: vec![RefusedEntry { id: flag("from-tomorrow"), why: "unknown member `later`".into() }],
            clients_connected: 3,
            clients_up_to_date: 2,
            clients_lost: 1,
            alarms: vec!["history was cut at revision 57".into()],
            quota_used_ppm: 720_000,
            unanswered_servers: vec!["b".into()],
            relays: vec![relay("east", true), relay("west > rack-7", false)],
        }],
        others: vec![OtherServer { name: "b".into(), url: "http://10.0.0.6:8013".into() }],
        alarms: vec!["the store is not well".into()],
        relay_of: "http://10.0.0.5:8013".into(),
    };
    let environments = ListEnvironmentsResponse { environments: vec![environment()], server: String::new() };
    let created = CreateEnvironmentResponse { environment: Some(environment()), server: String::new() };
    let chosen =
        ChosenEnvironment { stored_in: "/home/anna/.config/flagctl/config.toml".into(), known: Some(false) };
    vec![
        ("status", Answer::Status(status)),
        ("list", Answer::Flags(flags)),
        ("list, nothing", Answer::Flags(ListResponse::default())),
        ("list --segments", Answer::Segments(segments)),
        ("environment list", Answer::Environments(environments)),
        ("environment create", Answer::EnvironmentCreated(created)),
        ("environment use", Answer::EnvironmentChosen(chosen)),
    ]
}

fn reads() -> Vec<(&'static str, Answer)> {
    let changes = vec![history(), HistoryChange { revision: 56, reason: String::new(), ..history() }];
    let history = HistoryResponse { position: at(57), changes, more: true, ..HistoryResponse::default() };
    let new = touched(
        Some(EntryId { kind: 2, key: "staff".into() }),
        0,
        vec![difference("include", None, Some("[\"u-17\"]"))],
    );
    let gone = TouchedEntry { removed: true, ..touched(flag("old"), 12, vec![]) };
    let entries = vec![ramped().touched.remove(0), new, gone];
    let diff = DiffResponse { entries, from_revision: 55, to_revision: 57, server: String::new() };
    let answer = |flag: &str, value: Option<&str>, reason: &str| FlagAnswer {
        flag: flag.into(),
        value: value.map(Into::into),
        variant: value.map(|_| "on".into()),
        reason: reason.into(),
        explanation: String::new(),
    };
    let evaluations = EvaluateResponse {
        position: at(57),
        answers: vec![answer("dark-mode", Some("true"), "rule \"staff\""), answer("gone", None, "not found")],
        ..EvaluateResponse::default()
    };
    let explanation = r#"{"flag":"dark-mode","steps":[
        {"depth":0,"what":"rule \"staff\"","outcome":"does not hold"},
        {"depth":1,"what":"email endsWith \"@example.com\"","outcome":"false: \"u@example.org\""},
        {"depth":0,"what":"otherwise","outcome":"unit \"u-1\" at point 17: on"}]}"#;
    let explained =
        FlagAnswer { explanation: explanation.into(), ..answer("dark-mode", Some("true"), "otherwise") };
    let explanation = EvaluateResponse { answers: vec![explained], ..evaluations.clone() };
    let clients = ClientsResponse {
        position: at(57),
        clients: vec![
            holding(),
            client("", ClientStanding::Lagging),
            client("shop-2", ClientStanding::Lost),
            refusing(),
            ClientInfo { via: "west > rack-7".into(), ..client("till-7", ClientStanding::Applied) },
            ClientInfo {
                via: "west".into(),
                address: String::new(),
                ..client("till-8", ClientStanding::Lost)
            },
        ],
        server: String::new(),
        unanswered_servers: vec!["b".into()],
        away_relays: vec!["west".into()],
    };
    let mut problem =
        Problem::new("flags.a.rules[0].if", "unknown member `ends_with`").hint("did you mean \"endsWith\"?");
    problem.position = Some(TextPosition { line: 7, column: 11 });
    let warning = Problem::new("flags.a.rules[1]", "can never be reached");
    let found = |file: &str, problem| vec![FileProblem { file: file.into(), problem }];
    let checked = Checked {
        hint: Some("a hint"),
        files: 2,
        flags: 1,
        segments: 1,
        problems: found("a.yaml", problem),
        warnings: found("b.json", warning),
    };
    vec![
        ("history", Answer::History(history)),
        ("history, nothing", Answer::History(HistoryResponse::default())),
        ("diff", Answer::Diff(diff)),
        (
            "diff, the same",
            Answer::Diff(DiffResponse { from_revision: 56, to_revision: 57, ..DiffResponse::default() }),
        ),
        ("evaluate", Answer::Evaluations(evaluations)),
        ("explain", Answer::Explanation(explanation)),
        ("clients", Answer::Clients(clients)),
        ("clients, nobody", Answer::Clients(ClientsResponse::default())),
        ("check", Answer::Checked(checked)),
        ("check, fine", Answer::Checked(Checked { files: 1, flags: 2, segments: 1, ..Checked::default() })),
    ]
}

fn failures() -> Vec<(&'static str, Failure)> {
    let detail = |code: ErrorCode, message: &str| ErrorDetail {
        code: code.into(),
        message: message.into(),
        ..ErrorDetail::default()
    };
    let refused = |detail: ErrorDetail| Failure::Refused(Box::new(detail));
    let conflict = Conflict {
        id: flag("new-checkout"),
        expected_revision: 41,
        found_revision: 57,
        changed_by: "anna@desk".into(),
        changed_ms: NOW_MS,
        operation: "ramp new-checkout to 25 %".into(),
        differences: ramped().touched.remove(0).differences,
    };
    let conflict = ErrorDetail {
        conflicts: vec![conflict],
        ..detail(ErrorCode::Conflict, "flag new-checkout was changed")
    };
    let tried = vec![Tried { server: "127.0.0.1:8013".into(), why: "connection refused".into() }];
    let mut problem = Problem::new("flags.a.rollout", "must be a percentage");
    problem.position = Some(TextPosition { line: 3, column: 9 });
    vec![
        (
            "an unknown flag",
            refused(ErrorDetail {
                nearest: vec!["new-checkout".into()],
                hint: "check the spelling".into(),
                ..detail(ErrorCode::UnknownEntry, "no flag new-chekout in this environment")
            }),
        ),
        (
            "an ambiguous ramp",
            refused(ErrorDetail {
                choices: vec!["new-checkout 25% --rule dach".into(), "new-checkout 25% --otherwise".into()],
                ..detail(ErrorCode::Ambiguous, "the flag has two splits")
            }),
        ),
        (
            "a rollback that needs a choice",
            refused(ErrorDetail {
                candidates: vec![history()],
                ..detail(ErrorCode::ChooseRevision, "the latest change was itself a rollback")
            }),
        ),
        (
            "a conflict, the text kept",
            Failure::Kept {
                failure: Box::new(refused(conflict)),
                how_to_go_on: "what you wrote is kept in draft.json\n  mend it".into(),
            },
        ),
        ("problems in files", Failure::Problems(vec![FileProblem { file: "a.json".into(), problem }])),
        (
            "not agreed",
            Failure::NotAgreed("users would pass between variants; nothing was changed\nadd --yes".into()),
        ),
        ("no server", Failure::NotReached(tried.clone())),
        (
            "unknown outcome",
            Failure::OutcomeUnknown { tried: tried.clone(), request_id: Some("0a1b".into()) },
        ),
        ("no answer to a question", Failure::OutcomeUnknown { tried, request_id: None }),
    ]
}

fn answers() -> Vec<(&'static str, Answer)> {
    changes().into_iter().chain(lists()).chain(reads()).collect()
}

#[test]
fn tables_are_as_they_were_agreed() {
    let mut text = String::new();
    for (name, answer) in answers() {
        let _ = write!(text, "== {name}\n{}{}\n", table::header(&header()), table::answer(&answer, &look()));
    }
    for (name, waited) in waits() {
        let _ = write!(text, "== wait: {name}\n{}\n", table::waited(&waited, &look()));
        if let Some(progress) = &waited.progress {
            let _ = write!(text, "   meanwhile: {}\n\n", table::progress(progress, &look()));
        }
    }
    for (name, failure) in failures() {
        let _ = write!(text, "== failure: {name}\n{}\n", table::failure(&failure, &look()));
    }
    let _ = write!(text, "== watch\n{}", table::watch_line(&history(), &look()));
    insta::assert_snapshot!("tables", text);
}

#[test]
fn json_is_as_it_was_agreed() {
    let mut text = String::new();
    for (name, answer) in answers() {
        let _ = write!(text, "== {name}\n{:#}\n", json::answer(Some(&header()), &answer));
    }
    for (name, waited) in waits() {
        let _ = write!(
            text,
            "== wait: {name}\n{:#}\n",
            json::answer(None, &changed(ChangeResponse::default(), Some(waited)))["wait"]
        );
    }
    for (name, failure) in failures() {
        let _ = write!(text, "== failure: {name}\n{:#}\n", json::failure(Some(&header()), &failure));
    }
    let _ = write!(text, "== watch\n{}\n", json::watch_event(&header(), &history()));
    insta::assert_snapshot!("json", text);
}

#[test]
fn nothing_that_a_terminal_obeys_comes_from_elsewhere() {
    for (name, answer) in answers() {
        let text = table::answer(&answer, &look());
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{name}: {text:?}");
        let wide = text.lines().find(|line| line.ends_with(' '));
        assert_eq!(wide, None, "{name}: no space at the end of a line");
    }
    let cases = [
        ("plain, and \u{fc}mlauts", "plain, and \u{fc}mlauts"),
        ("\u{1b}[31mred", "\\u{1b}[31mred"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\u{9b}2J", "\\u{9b}2J"),
        ("\u{202e}gpj.exe", "\\u{202e}gpj.exe"),
    ];
    for (text, want) in cases {
        assert_eq!(table::clean(text), want);
    }
}

#[test]
fn colours_change_no_letter() {
    let strip = |text: &str| {
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("\x1b[") {
            plain.push_str(before);
            rest = after.split_once('m').unwrap().1;
        }
        plain + rest
    };
    let color = Look { color: Color::On, ..look() };
    for (name, answer) in answers() {
        assert_eq!(strip(&table::answer(&answer, &color)), table::answer(&answer, &look()), "{name}");
    }
}

#[test]
fn json_holds_nothing_that_a_terminal_obeys_and_means_the_same() {
    let value = serde_json::json!({ "description": "a\u{202e}b\u{9b}c \u{e4}\n" });
    let text = pretty(&value);
    assert!(!text.contains(['\u{202e}', '\u{9b}']) && text.contains('\u{e4}'), "{text:?}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
}

#[test]
fn of_many_kills_the_first_are_named_and_the_rest_counted() {
    let killed_flags = (0..302).map(|n| format!("flag-{n:03}")).collect();
    let environments = vec![EnvironmentStatus { killed_flags, ..EnvironmentStatus::default() }];
    let status = StatusResponse { environments, ..StatusResponse::default() };
    let text = table::answer(&Answer::Status(status), &look());
    assert!(text.contains("302: flag-000, ") && text.contains("flag-019 and 282 more\n"), "{text}");
    assert!(!text.contains("flag-020"), "{text}");
}
