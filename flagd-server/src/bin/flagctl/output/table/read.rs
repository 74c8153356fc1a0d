//! What the verbs that only look have found, as tables.

use std::fmt::Write as _;

use flagd_proto::admin::{
    ClientStanding, ClientsResponse, CreateEnvironmentResponse, DiffResponse, EnvironmentStatus,
    EvaluateResponse, FlagState, HistoryChange, HistoryResponse, ListEnvironmentsResponse, ListResponse,
    StatusResponse,
};
use flagd_proto::stream::{Position, RefusedEntry};
use serde::Deserialize;

use crate::output::{Checked, ChosenEnvironment, Look};
use crate::time;

use super::change::{age, client_name, entry, file_problem, touched, unanswered, via};
use super::{Cell, Tone, cell, clean, count, grid, paint, short, toned};

/// Longest description in a table.
const DESCRIPTION_SHOWN_CHARS: usize = 40;
/// Longest value in a table.
const VALUE_SHOWN_CHARS: usize = 60;
/// Views older than this are worth a word.
const VIEW_FRESH_MS: u64 = 3_000;
/// A quota in use beyond this is worth a word.
const QUOTA_QUIET_PPM: u32 = 500_000;

fn revision(position: Option<&Position>) -> u64 {
    position.map_or(0, |position| position.revision)
}

/// A warning line when the server's view is not fresh.
fn staleness(view_age_ms: u64, look: &Look) -> String {
    if view_age_ms <= VIEW_FRESH_MS {
        return String::new();
    }
    let age = time::length(view_age_ms);
    let text =
        format!("the server's view is {age} old: its store, or the server that it relays, does not answer");
    format!("{}\n", paint(&text, Tone::Bad, look))
}

/// Most kills that are named; the rest is counted.
const KILLED_NAMED_MAX: usize = 20;

fn named(keys: &[String]) -> String {
    let names: Vec<String> = keys.iter().take(KILLED_NAMED_MAX).map(|key| clean(key)).collect();
    match keys.len().saturating_sub(names.len()) {
        0 => names.join(", "),
        more => format!("{}: {} and {more} more", keys.len(), names.join(", ")),
    }
}

pub(super) fn status(status: &StatusResponse, look: &Look) -> String {
    let (version, store) = (clean(&status.version), clean(&status.store));
    let (name, up) = (clean(&status.server), time::length(status.uptime_ms));
    let mut text = format!("flagd {version} `{name}`, store {store}, up {up}\n");
    if !status.relay_of.is_empty() {
        let _ = writeln!(text, "a relay of {}", clean(&status.relay_of));
    }
    for other in &status.others {
        let _ = writeln!(text, "with server {} at {}", clean(&other.name), clean(&other.url));
    }
    for alarm in &status.alarms {
        let _ = writeln!(text, "{}: {}", paint("alarm", Tone::Bad, look), clean(alarm));
    }
    for one in &status.environments {
        text.push('\n');
        environment_status(&mut text, one, look);
        if !status.relay_of.is_empty() {
            let _ = writeln!(text, "  view: {} old", time::length(one.view_age_ms));
        }
    }
    text
}

fn environment_status(text: &mut String, status: &EnvironmentStatus, look: &Look) {
    let environment = status.environment.clone().unwrap_or_default();
    let (flags, segments) =
        (count(environment.flags.into(), "flag"), count(environment.segments.into(), "segment"));
    let at = revision(environment.position.as_ref());
    let _ = writeln!(text, "{}: revision {at}, {flags}, {segments}", clean(&environment.name));
    let (connected, up_to_date) = (status.clients_connected, status.clients_up_to_date);
    let _ = write!(text, "  clients: {connected} connected, {up_to_date} up to date");
    if status.clients_lost > 0 {
        let _ = write!(text, ", {}", paint(&format!("{} lost", status.clients_lost), Tone::Bad, look));
    }
    text.push('\n');
    for server in &status.unanswered_servers {
        let sentence = format!("server {} did not answer: its clients count as lost", clean(server));
        let _ = writeln!(text, "  {}", paint(&sentence, Tone::Bad, look));
    }
    for relay in &status.relays {
        let (name, clients) = (clean(&relay.name), count(relay.clients_connected.into(), "client"));
        let _ = if relay.connected {
            writeln!(text, "  relay {name}: {clients} connected")
        } else {
            let age = time::length(look.now_ms.saturating_sub(relay.last_seen_ms));
            let sentence = format!("relay {name} is away, last seen {age} ago: its clients count as lost");
            writeln!(text, "  {}", paint(&sentence, Tone::Bad, look))
        };
    }
    let killed = match status.killed_flags.as_slice() {
        [] => "none".to_owned(),
        keys => paint(&named(keys), Tone::Bad, look),
    };
    let _ = writeln!(text, "  killed: {killed}");
    let _ = writeln!(text, "  history: back to revision {}", status.oldest_revision);
    if status.quota_used_ppm > QUOTA_QUIET_PPM {
        let _ = writeln!(text, "  quota: {} % of the store in use", status.quota_used_ppm / 10_000);
    }
    for one in &status.refused {
        let _ = writeln!(text, "  {}: {}", paint("not understood", Tone::Bad, look), refused(one));
    }
    for alarm in &status.alarms {
        let _ = writeln!(text, "  {}: {}", paint("alarm", Tone::Bad, look), clean(alarm));
    }
    let stale = staleness(status.view_age_ms, look);
    if !stale.is_empty() {
        let _ = write!(text, "  {stale}");
    }
}

fn refused(one: &RefusedEntry) -> String {
    format!("{}: {}", entry(one.id.as_ref()), clean(&one.why))
}

/// The word for a state, and how it stands out.
fn state(state: FlagState) -> Cell {
    match state {
        FlagState::Enabled => cell("enabled"),
        FlagState::Disabled => toned("disabled", Tone::Weak),
        FlagState::Killed => toned("killed", Tone::Bad),
        FlagState::Archived => toned("archived", Tone::Weak),
        FlagState::NotUnderstood => toned("not understood", Tone::Bad),
        FlagState::Unspecified => cell("?"),
    }
}

pub(super) fn flags(list: &ListResponse, look: &Look) -> String {
    let rows: Vec<Vec<Cell>> = list
        .flags
        .iter()
        .map(|flag| {
            vec![
                cell(&flag.key),
                state(flag.state()),
                cell(&flag.serves),
                cell(&flag.r#type),
                cell(&flag.owner),
                cell(flag.tags.join(",")),
                cell(time::local(flag.changed_ms, &look.zone)),
                cell(&flag.changed_by),
            ]
        })
        .collect();
    let mut text = staleness(list.view_age_ms, look);
    if rows.is_empty() {
        text.push_str("no flags\n");
        return text;
    }
    text.push_str(&grid(&["FLAG", "STATE", "SERVES", "TYPE", "OWNER", "TAGS", "CHANGED", "BY"], &rows, look));
    text
}

pub(super) fn segments(list: &ListResponse, look: &Look) -> String {
    let rows: Vec<Vec<Cell>> = list
        .segments
        .iter()
        .map(|segment| {
            vec![
                cell(&segment.key),
                if segment.archived { toned("archived", Tone::Weak) } else { cell("in use") },
                cell(segment.included.to_string()),
                cell(segment.excluded.to_string()),
                cell(if segment.condition { "yes" } else { "no" }),
                cell(segment.used_by.join(",")),
                cell(short(&segment.description, DESCRIPTION_SHOWN_CHARS)),
            ]
        })
        .collect();
    let mut text = staleness(list.view_age_ms, look);
    if rows.is_empty() {
        text.push_str("no segments\n");
        return text;
    }
    let names = ["SEGMENT", "STATE", "INCLUDED", "EXCLUDED", "CONDITION", "USED BY", "DESCRIPTION"];
    text.push_str(&grid(&names, &rows, look));
    text
}

pub(super) fn history(history: &HistoryResponse, look: &Look) -> String {
    let mut text = staleness(history.view_age_ms, look);
    if history.changes.is_empty() {
        let _ = writeln!(text, "no changes at revision {}", revision(history.position.as_ref()));
        return text;
    }
    let rows: Vec<Vec<Cell>> = history
        .changes
        .iter()
        .map(|change| {
            vec![
                cell(change.revision.to_string()),
                cell(time::local(change.time_ms, &look.zone)),
                cell(&change.actor),
                cell(&change.operation),
                cell(&change.reason),
            ]
        })
        .collect();
    text.push_str(&grid(&["REVISION", "TIME", "BY", "CHANGE", "REASON"], &rows, look));
    let last = history.changes.last().map_or(0, |change| change.revision);
    if history.more {
        let _ = writeln!(text, "there is more: add `--before {last}`");
    } else if history.oldest_revision > 1 {
        let _ = writeln!(text, "history reaches back to revision {}", history.oldest_revision);
    }
    text
}

/// One change on one line.
pub(crate) fn watch_line(change: &HistoryChange, look: &Look) -> String {
    let (when, actor) = (time::local(change.time_ms, &look.zone), clean(&change.actor));
    let mut line = format!("{when}  revision {}  {}  by {actor}", change.revision, clean(&change.operation));
    if !change.reason.is_empty() {
        let _ = write!(line, ": {}", clean(&change.reason));
    }
    line.push('\n');
    line
}

pub(super) fn diff(diff: &DiffResponse, look: &Look) -> String {
    let mut text = format!("from revision {} to revision {}\n", diff.from_revision, diff.to_revision);
    if diff.entries.is_empty() {
        text.push_str("no differences\n");
    }
    for one in &diff.entries {
        touched(&mut text, one);
        if one.previous_revision > 0 {
            continue;
        }
        for difference in &one.differences {
            let after = difference.after.as_deref().unwrap_or("nothing");
            let field = clean(&difference.field);
            let _ = writeln!(
                text,
                "    {}: {}",
                paint(&field, Tone::Plain, look),
                short(after, VALUE_SHOWN_CHARS)
            );
        }
    }
    text
}

pub(super) fn evaluations(answers: &EvaluateResponse, look: &Look) -> String {
    let rows: Vec<Vec<Cell>> = answers
        .answers
        .iter()
        .map(|answer| {
            let value = answer
                .value
                .as_deref()
                .map_or_else(|| "(default)".to_owned(), |json| short(json, VALUE_SHOWN_CHARS));
            vec![
                cell(&answer.flag),
                cell(value),
                cell(answer.variant.as_deref().unwrap_or("")),
                cell(&answer.reason),
            ]
        })
        .collect();
    let mut text = staleness(answers.view_age_ms, look);
    let _ = writeln!(text, "at revision {}", revision(answers.position.as_ref()));
    if rows.is_empty() {
        text.push_str("no flags\n");
        return text;
    }
    text.push_str(&grid(&["FLAG", "VALUE", "VARIANT", "REASON"], &rows, look));
    text
}

/// flagd-core's `Explanation`, as far as it is told here.
#[derive(Deserialize)]
struct Explanation {
    #[serde(default)]
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    #[serde(default)]
    depth: usize,
    what: String,
    outcome: String,
}

pub(super) fn explanation(answers: &EvaluateResponse, look: &Look) -> String {
    let mut text = staleness(answers.view_age_ms, look);
    for answer in &answers.answers {
        let flag = clean(&answer.flag);
        let value = answer.value.as_deref().map_or_else(|| "the caller's default".to_owned(), clean);
        let variant =
            answer.variant.as_deref().map(|name| format!(" (variant {})", clean(name))).unwrap_or_default();
        let at = revision(answers.position.as_ref());
        let _ = writeln!(text, "{flag} serves {value}{variant} at revision {at}: {}", clean(&answer.reason));
        // A server that explains in another way is still heard: its words are shown as they are.
        match serde_json::from_str::<Explanation>(&answer.explanation) {
            Ok(explanation) => {
                for step in explanation.steps {
                    let indent = "  ".repeat(step.depth.min(20) + 1);
                    let _ = writeln!(text, "{indent}{}: {}", clean(&step.what), clean(&step.outcome));
                }
            }
            Err(_) => {
                let _ = writeln!(text, "  {}", clean(&answer.explanation));
            }
        }
    }
    text
}

pub(super) fn clients(clients: &ClientsResponse, look: &Look) -> String {
    let at = revision(clients.position.as_ref());
    let mut text = format!("at revision {at}\n");
    text.push_str(&unanswered(&clients.unanswered_servers, &clients.away_relays, look));
    if clients.clients.is_empty() {
        text.push_str("no client follows this environment\n");
        return text;
    }
    let rows: Vec<Vec<Cell>> = clients
        .clients
        .iter()
        .map(|client| {
            let standing = match client.standing() {
                ClientStanding::Applied => toned("applied", Tone::Good),
                ClientStanding::Refused => toned("refuses", Tone::Bad),
                ClientStanding::Lagging => toned("lagging", Tone::Bad),
                ClientStanding::Lost => toned("lost", Tone::Bad),
                ClientStanding::Diverged => toned("diverged", Tone::Bad),
                ClientStanding::Unspecified => cell("?"),
            };
            let held = match client.held_snapshots {
                0 => String::new(),
                _ => format!(
                    "revision {} for {}",
                    client.held_oldest_revision,
                    time::length(client.held_oldest_age_ms)
                ),
            };
            vec![
                cell(client_name(client)),
                cell(format!("{} {}", client.app, client.app_version).trim()),
                standing,
                cell(revision(client.position.as_ref()).to_string()),
                cell(if client.connected {
                    "connected".to_owned()
                } else {
                    format!("{} ago", age(client, look))
                }),
                cell(held),
                cell(&client.sdk),
                cell(format!("{}{}", client.address, via(client)).trim_start_matches(", ")),
            ]
        })
        .collect();
    let names = ["CLIENT", "APP", "STANDING", "REVISION", "SEEN", "HOLDS", "SDK", "ADDRESS"];
    text.push_str(&grid(&names, &rows, look));
    for client in &clients.clients {
        for one in &client.refused {
            let word = paint("refuses", Tone::Bad, look);
            let _ = writeln!(text, "{} {word} {}", client_name(client), refused(one));
        }
    }
    text
}

pub(super) fn environments(environments: &ListEnvironmentsResponse, look: &Look) -> String {
    let rows: Vec<Vec<Cell>> = environments
        .environments
        .iter()
        .map(|environment| {
            let killed = environment.killed.to_string();
            vec![
                cell(&environment.name),
                cell(revision(environment.position.as_ref()).to_string()),
                cell(environment.flags.to_string()),
                cell(environment.segments.to_string()),
                if environment.killed > 0 { toned(killed, Tone::Bad) } else { cell(killed) },
                cell(environment.clients.to_string()),
            ]
        })
        .collect();
    if rows.is_empty() {
        return "no environments\n".into();
    }
    grid(&["ENVIRONMENT", "REVISION", "FLAGS", "SEGMENTS", "KILLED", "CLIENTS"], &rows, look)
}

pub(super) fn environment_created(created: &CreateEnvironmentResponse) -> String {
    let name = created.environment.as_ref().map_or("", |environment| environment.name.as_str());
    let name = clean(name);
    format!("created the environment {name}\n  use it: flagctl environment use {name}\n")
}

pub(super) fn environment_chosen(chosen: &ChosenEnvironment) -> String {
    let mut text =
        format!("flagctl uses this environment from now on (stored in {})\n", clean(&chosen.stored_in));
    text.push_str(match chosen.known {
        Some(true) => "",
        Some(false) => "  warning: the server has no such environment; see `flagctl environment list`\n",
        None => "  note: no server was reached to see whether it exists\n",
    });
    text
}

pub(super) fn checked(checked: &Checked, look: &Look) -> String {
    let (flags, segments) = (count(checked.flags as u64, "flag"), count(checked.segments as u64, "segment"));
    let mut text = String::new();
    for problem in &checked.problems {
        let mut line = String::new();
        file_problem(&mut line, problem);
        let _ = write!(text, "{}: {}", paint("error", Tone::Bad, look), line.trim_start());
    }
    for warning in &checked.warnings {
        let mut line = String::new();
        file_problem(&mut line, warning);
        let _ = write!(text, "warning: {}", line.trim_start());
    }
    let files = count(checked.files as u64, "file");
    match (checked.problems.len() as u64, checked.warnings.len() as u64) {
        (0, 0) => writeln!(text, "{files}, {flags}, {segments}: fine"),
        (0, warnings) => writeln!(text, "{files}, {flags}, {segments}: fine, {}", count(warnings, "warning")),
        (problems, warnings) => {
            writeln!(text, "{files}: {}, {}", count(problems, "problem"), count(warnings, "warning"))
        }
    }
    .ok();
    if let Some(hint) = checked.hint {
        let _ = writeln!(text, "hint: {hint}");
    }
    text
}
