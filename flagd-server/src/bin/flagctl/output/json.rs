//! Answers as JSON for programs: member names in camelCase, as in definitions; times in RFC 3339 and UTC;
//! values and definitions as JSON, not as text.
//!
//! The names here are an interface: they are added to, and not changed.

use flagd_core::entry::{EntryId, EntryKind};
use flagd_proto::admin::{
    self, ClientInfo, Conflict, Consequence, Effect, Environment, EnvironmentStatus, ErrorDetail,
    FieldDifference, FieldDrift, FlagAnswer, FlagSummary, HistoryChange, Note, RelayInfo, SegmentSummary,
    TouchedEntry, WaitProgress, WaitVerdict,
};
use flagd_proto::stream::{self, Position, RefusedEntry};
use serde_json::{Map, Value, json};

use crate::error::{Failure, FileProblem, Tried, WaitEnding, problem_from_wire};
use crate::output::{Answer, Changed, Checked, Header, hex};
use crate::time;
use crate::wait::Waited;

/// A whole answer.
pub(crate) fn answer(header: Option<&Header>, answer: &Answer) -> Value {
    let body = match answer {
        Answer::Change(changed) => change(changed),
        Answer::Status(status) => json!({
            "version": status.version,
            "store": status.store,
            "uptimeMs": status.uptime_ms,
            "others": list(&status.others, |one| json!({ "name": one.name, "url": one.url })),
            "alarms": status.alarms,
            "relayOf": status.relay_of,
            "environments": list(&status.environments, environment_status),
        }),
        Answer::Flags(flags) => json!({
            "revision": revision(flags.position.as_ref()),
            "viewAgeMs": flags.view_age_ms,
            "flags": list(&flags.flags, flag_summary),
        }),
        Answer::Segments(segments) => json!({
            "revision": revision(segments.position.as_ref()),
            "viewAgeMs": segments.view_age_ms,
            "segments": list(&segments.segments, segment_summary),
        }),
        Answer::History(history) => json!({
            "revision": revision(history.position.as_ref()),
            "viewAgeMs": history.view_age_ms,
            "oldestRevision": history.oldest_revision,
            "more": history.more,
            "changes": list(&history.changes, history_change),
        }),
        Answer::Diff(diff) => json!({
            "fromRevision": diff.from_revision,
            "toRevision": diff.to_revision,
            "same": diff.entries.is_empty(),
            "entries": list(&diff.entries, touched),
        }),
        Answer::Evaluations(answers) | Answer::Explanation(answers) => json!({
            "revision": revision(answers.position.as_ref()),
            "viewAgeMs": answers.view_age_ms,
            "answers": list(&answers.answers, flag_answer),
        }),
        Answer::Clients(clients) => json!({
            "revision": revision(clients.position.as_ref()),
            "clients": list(&clients.clients, client),
            "unansweredServers": clients.unanswered_servers,
            "awayRelays": clients.away_relays,
        }),
        Answer::Environments(environments) => {
            json!({ "environments": list(&environments.environments, environment) })
        }
        Answer::EnvironmentCreated(created) => {
            json!({ "created": created.environment.as_ref().map(environment) })
        }
        Answer::EnvironmentChosen(chosen) => json!({ "storedIn": chosen.stored_in, "known": chosen.known }),
        Answer::Checked(checked) => self::checked(checked),
    };
    with_header(header, body)
}

/// A document such as a definition.
pub(crate) fn document(header: &Header, body: &Value) -> Value {
    with_header(Some(header), body.clone())
}

/// One line of a stream of changes.
pub(crate) fn watch_event(header: &Header, change: &HistoryChange) -> Value {
    with_header(Some(header), history_change(change))
}

fn with_header(header: Option<&Header>, body: Value) -> Value {
    let mut members = Map::new();
    if let Some(header) = header {
        members.insert("environment".into(), json!(header.environment));
        members.insert("server".into(), json!(header.server));
        if !header.server_name.is_empty() {
            members.insert("serverName".into(), json!(header.server_name));
        }
    }
    if let Value::Object(body) = body {
        members.extend(body);
    }
    Value::Object(members)
}

fn list<T>(items: &[T], one: impl Fn(&T) -> Value) -> Value {
    items.iter().map(one).collect()
}

fn revision(position: Option<&Position>) -> u64 {
    position.map_or(0, |position| position.revision)
}

/// JSON text as JSON; text that is none stays text.
fn inner(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}

fn inner_option(text: Option<&String>) -> Value {
    text.map_or(Value::Null, |text| inner(text))
}

/// `MOVEMENT_ONLY_ADDS` is `onlyAdds`; what is not said is null.
fn word(name: &str, prefix: &str) -> Value {
    let mut word = String::new();
    for part in name.trim_start_matches(prefix).to_ascii_lowercase().split('_') {
        let mut chars = part.chars();
        match chars.next() {
            Some(first) if !word.is_empty() => {
                word.push(first.to_ascii_uppercase());
                word.push_str(chars.as_str());
            }
            _ => word.push_str(part),
        }
    }
    if word == "unspecified" { Value::Null } else { Value::String(word) }
}

/// `{"kind": "flag", "key": "new-checkout"}`.
fn id(id: Option<&stream::EntryId>) -> Value {
    let Some(id) = id else { return Value::Null };
    let kind = EntryKind::from_number(id.kind);
    let word = kind.word().map_or_else(|| json!(id.kind), |word| json!(word));
    json!({ "kind": word, "key": id.key, "text": EntryId::new(kind, &id.key).to_string() })
}

fn change(changed: &Changed) -> Value {
    let response = &changed.response;
    json!({
        "operation": response.operation,
        "recorded": response.recorded,
        "revision": if response.recorded { response.revision } else { revision(response.position.as_ref()) },
        "repeatedAnswer": response.repeated_answer,
        "time": time::rfc3339(response.time_ms),
        "movement": word(response.movement().as_str_name(), "MOVEMENT_"),
        "touched": list(&response.touched, touched),
        "effects": list(&response.effects, effect),
        "consequences": list(&response.consequences, consequence),
        "notes": list(&response.notes, note),
        "drift": list(&response.drift, drift),
        "undo": changed.undo(),
        "wait": changed.waited.as_ref().map(waited),
    })
}

fn touched(one: &TouchedEntry) -> Value {
    json!({
        "id": id(one.id.as_ref()),
        "previousRevision": one.previous_revision,
        "removed": one.removed,
        "differences": list(&one.differences, difference),
    })
}

fn difference(one: &FieldDifference) -> Value {
    json!({ "field": one.field, "before": inner_option(one.before.as_ref()), "after": inner_option(one.after.as_ref()) })
}

fn effect(one: &Effect) -> Value {
    json!({
        "flag": one.flag,
        "movement": word(one.movement().as_str_name(), "MOVEMENT_"),
        "summary": one.summary,
        "flows": list(&one.flows, |flow| json!({
            "place": flow.place,
            "from": flow.from,
            "to": flow.to,
            "sharePpm": flow.share_ppm,
        })),
    })
}

fn consequence(one: &Consequence) -> Value {
    json!({ "flag": one.flag, "because": one.because, "direction": word(one.direction().as_str_name(), "DIRECTION_") })
}

fn note(one: &Note) -> Value {
    json!({
        "severity": word(one.severity().as_str_name(), "SEVERITY_"),
        "about": id(one.about.as_ref()),
        "text": one.text,
    })
}

fn drift(one: &FieldDrift) -> Value {
    json!({
        "id": id(one.id.as_ref()),
        "field": one.field,
        "base": inner_option(one.base.as_ref()),
        "file": inner_option(one.file.as_ref()),
        "live": inner_option(one.live.as_ref()),
    })
}

fn waited(waited: &Waited) -> Value {
    let progress = waited.progress.clone().unwrap_or_default();
    let ending = match waited.ending {
        WaitEnding::Verdict(_) => "verdict",
        WaitEnding::Interrupted => "interrupted",
        WaitEnding::ServerLost => "serverLost",
    };
    let verdict = match waited.ending {
        WaitEnding::Verdict(verdict) => verdict,
        WaitEnding::Interrupted | WaitEnding::ServerLost => WaitVerdict::Unconfirmed,
    };
    let mut value = wait_progress(&progress);
    if let Value::Object(members) = &mut value {
        members.insert("ending".into(), json!(ending));
        members.insert("verdict".into(), word(verdict.as_str_name(), "WAIT_VERDICT_"));
    }
    value
}

fn wait_progress(progress: &WaitProgress) -> Value {
    json!({
        "revision": progress.revision,
        "expected": progress.expected,
        "applied": progress.applied,
        "missing": list(&progress.missing, client),
        "unlisted": progress.unlisted,
        "holdingOlder": progress.holding_older,
        "holders": list(&progress.holders, client),
        "elapsedUs": progress.elapsed_us,
        "unansweredServers": progress.unanswered_servers,
        "awayRelays": progress.away_relays,
    })
}

fn client(one: &ClientInfo) -> Value {
    let instance = hex(&one.instance);
    json!({
        "instance": instance,
        "name": one.name,
        "app": one.app,
        "appVersion": one.app_version,
        "sdk": one.sdk,
        "level": one.level,
        "standing": word(one.standing().as_str_name(), "CLIENT_STANDING_"),
        "revision": revision(one.position.as_ref()),
        "connected": one.connected,
        "lastSeen": time::rfc3339(one.last_seen_ms),
        "refused": list(&one.refused, refused),
        "heldSnapshots": one.held_snapshots,
        "heldOldestRevision": one.held_oldest_revision,
        "heldOldestAgeMs": one.held_oldest_age_ms,
        "address": one.address,
        "server": one.server,
        "via": one.via,
    })
}

fn refused(one: &RefusedEntry) -> Value {
    json!({ "id": id(one.id.as_ref()), "why": one.why })
}

fn environment(one: &Environment) -> Value {
    json!({
        "name": one.name,
        "revision": revision(one.position.as_ref()),
        "flags": one.flags,
        "segments": one.segments,
        "killed": one.killed,
        "clients": one.clients,
    })
}

fn environment_status(one: &EnvironmentStatus) -> Value {
    json!({
        "environment": one.environment.as_ref().map(environment),
        "viewAgeMs": one.view_age_ms,
        "oldestRevision": one.oldest_revision,
        "killedFlags": one.killed_flags,
        "refused": list(&one.refused, refused),
        "clientsConnected": one.clients_connected,
        "clientsUpToDate": one.clients_up_to_date,
        "clientsLost": one.clients_lost,
        "alarms": one.alarms,
        "quotaUsedPpm": one.quota_used_ppm,
        "unansweredServers": one.unanswered_servers,
        "relays": list(&one.relays, relay),
    })
}

fn relay(one: &RelayInfo) -> Value {
    json!({
        "name": one.name,
        "connected": one.connected,
        "address": one.address,
        "lastSeen": time::rfc3339(one.last_seen_ms),
        "clientsConnected": one.clients_connected,
    })
}

fn flag_summary(one: &FlagSummary) -> Value {
    json!({
        "key": one.key,
        "type": one.r#type,
        "state": word(one.state().as_str_name(), "FLAG_STATE_"),
        "serves": one.serves,
        "owner": one.owner,
        "tags": one.tags,
        "description": one.description,
        "revision": one.revision,
        "changed": time::rfc3339(one.changed_ms),
        "changedBy": one.changed_by,
    })
}

fn segment_summary(one: &SegmentSummary) -> Value {
    json!({
        "key": one.key,
        "included": one.included,
        "excluded": one.excluded,
        "condition": one.condition,
        "usedBy": one.used_by,
        "revision": one.revision,
        "description": one.description,
        "archived": one.archived,
    })
}

fn history_change(one: &HistoryChange) -> Value {
    json!({
        "revision": one.revision,
        "time": time::rfc3339(one.time_ms),
        "actor": one.actor,
        "reason": one.reason,
        "verb": one.verb,
        "operation": one.operation,
        "touched": list(&one.touched, touched),
    })
}

fn flag_answer(one: &FlagAnswer) -> Value {
    let mut value = json!({
        "flag": one.flag,
        "value": inner_option(one.value.as_ref()),
        "variant": one.variant,
        "reason": one.reason,
        "isDefault": one.value.is_none(),
    });
    if let Value::Object(members) = &mut value
        && !one.explanation.is_empty()
    {
        members.insert("explanation".into(), inner(&one.explanation));
    }
    value
}

fn checked(checked: &Checked) -> Value {
    json!({
        "files": checked.files,
        "flags": checked.flags,
        "segments": checked.segments,
        "problems": list(&checked.problems, file_problem),
        "warnings": list(&checked.warnings, file_problem),
        "hint": checked.hint,
    })
}

fn file_problem(one: &FileProblem) -> Value {
    let mut value = json!(one.problem);
    if let Value::Object(members) = &mut value {
        members.insert("file".into(), json!(one.file));
    }
    value
}

/// Why a run ended without having done what it should.
pub(crate) fn failure(header: Option<&Header>, failure: &Failure) -> Value {
    let error = error(failure);
    with_header(header, json!({ "error": error, "exit": failure.exit().number() }))
}

fn error(failure: &Failure) -> Value {
    let mut error = match failure {
        Failure::Usage(why) | Failure::Local(why) | Failure::NotAgreed(why) => json!({ "message": why }),
        Failure::Untold { revision, why } => {
            json!({ "message": format!("recorded, but {why}"), "recorded": true, "revision": revision })
        }
        Failure::Problems(problems) => {
            json!({ "message": "the definitions are wrong", "problems": list(problems, file_problem) })
        }
        Failure::Refused(detail) => refusal(detail),
        Failure::Kept { failure, how_to_go_on } => {
            let mut error = error(failure);
            if let Value::Object(members) = &mut error {
                members.insert("kept".into(), json!(how_to_go_on));
            }
            error
        }
        Failure::NotReached(tried) => {
            json!({ "message": "no server was reached", "tried": list(tried, attempt) })
        }
        Failure::OutcomeUnknown { tried, request_id } => json!({
            "message": "no server answered",
            "tried": list(tried, attempt),
            "requestId": request_id,
        }),
    };
    if let Value::Object(members) = &mut error {
        members.insert("code".into(), json!(failure.code()));
    }
    error
}

fn attempt(tried: &Tried) -> Value {
    json!({ "server": tried.server, "why": tried.why })
}

fn refusal(detail: &ErrorDetail) -> Value {
    let problem = |problem: &admin::Problem| {
        file_problem(&FileProblem { file: String::new(), problem: problem_from_wire(problem) })
    };
    json!({
        "message": detail.message,
        "hint": detail.hint,
        "problems": list(&detail.problems, problem),
        "conflicts": list(&detail.conflicts, conflict),
        "fieldConflicts": list(&detail.field_conflicts, drift),
        "choices": detail.choices,
        "nearest": detail.nearest,
        "clients": list(&detail.clients, client),
        "candidates": list(&detail.candidates, history_change),
    })
}

fn conflict(one: &Conflict) -> Value {
    json!({
        "id": id(one.id.as_ref()),
        "expectedRevision": one.expected_revision,
        "foundRevision": one.found_revision,
        "changedBy": one.changed_by,
        "changed": time::rfc3339(one.changed_ms),
        "operation": one.operation,
        "differences": list(&one.differences, difference),
    })
}
