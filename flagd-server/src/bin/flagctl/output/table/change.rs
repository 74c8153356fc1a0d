//! What a change did, who has applied it, and what went wrong, in sentences.

use std::fmt::Write as _;

use flagd_core::entry::{EntryId, EntryKind};
use flagd_proto::admin::{
    ChangeResponse, ClientInfo, ClientStanding, Consequence, Direction, ErrorDetail, FieldDifference,
    FieldDrift, Movement, Note, Severity, TouchedEntry, WaitProgress, WaitVerdict,
};
use flagd_proto::stream;

use crate::error::{Failure, FileProblem, Tried, WaitEnding, problem_from_wire};
use crate::output::{Changed, Look, hex};
use crate::time;
use crate::wait::Waited;

use super::{Tone, clean, clean_lines, count, paint, short};

/// More entries than this are not listed.
const ENTRIES_SHOWN: usize = 10;
/// More clients than this are only counted.
const CLIENTS_SHOWN: usize = 10;
/// Longest value in a list of differences.
const VALUE_SHOWN_CHARS: usize = 72;

/// A change, made or previewed.
pub(super) fn changed(changed: &Changed, look: &Look) -> String {
    let response = &changed.response;
    let mut text = format!("{}: {}\n", clean(&response.operation), outcome(response));
    if response.repeated_answer {
        text.push_str("  this request was answered before; this is that answer\n");
    }
    for entry in response.touched.iter().take(ENTRIES_SHOWN) {
        touched(&mut text, entry);
    }
    // Not counted: the server lists only the first of many.
    if response.touched.len() > ENTRIES_SHOWN {
        text.push_str("  ... and more\n");
    }
    if let Some(movement) = movement(response.movement()).filter(|_| !response.touched.is_empty()) {
        let _ = writeln!(text, "  users: {movement}");
    }
    for effect in response.effects.iter().take(ENTRIES_SHOWN) {
        let _ = writeln!(text, "    {}: {}", clean(&effect.flag), clean(&effect.summary));
    }
    if response.effects.len() > ENTRIES_SHOWN {
        text.push_str("    ... and more\n");
    }
    let told = |one: &&Consequence| response.notes.iter().any(|note| tells(note, one));
    for one in response.consequences.iter().filter(|one| !told(one)) {
        consequence(&mut text, one, look);
    }
    for one in &response.drift {
        drift(&mut text, one, "kept live");
    }
    for one in &response.notes {
        note(&mut text, one, look);
    }
    if let Some(undo) = changed.undo() {
        let _ = writeln!(text, "  undo: {}", clean(&undo));
    }
    if let Some(one) = &changed.waited {
        text.push_str(&waited(one, look));
    }
    text
}

fn outcome(response: &ChangeResponse) -> String {
    let at = response.position.as_ref().map_or(0, |position| position.revision);
    match (response.recorded, response.touched.is_empty()) {
        (true, _) => format!("recorded as revision {}", response.revision),
        (false, true) => format!("nothing to change at revision {at}"),
        (false, false) => format!("a dry run at revision {at}, nothing was recorded"),
    }
}

/// `flag new-checkout`.
pub(super) fn entry(id: Option<&stream::EntryId>) -> String {
    let Some(id) = id else { return "an entry".to_owned() };
    clean(&EntryId::new(EntryKind::from_number(id.kind), &id.key).to_string())
}

/// An entry that a change writes, with its differences.
pub(super) fn touched(text: &mut String, touched: &TouchedEntry) {
    let name = entry(touched.id.as_ref());
    let what = match (touched.removed, touched.previous_revision) {
        (true, _) => "removed".to_owned(),
        (false, 0) => "new".to_owned(),
        (false, before) => format!("was revision {before}"),
    };
    let _ = writeln!(text, "  {name} ({what})");
    // Of an entry that was not there everything is new, of one that is gone everything is old: no news in a list.
    if touched.previous_revision > 0 && !touched.removed {
        for one in &touched.differences {
            difference(text, one);
        }
    }
}

fn difference(text: &mut String, difference: &FieldDifference) {
    let shown =
        |value: Option<&String>| value.map_or("nothing".to_owned(), |json| short(json, VALUE_SHOWN_CHARS));
    let (before, after) = (shown(difference.before.as_ref()), shown(difference.after.as_ref()));
    let _ = writeln!(text, "    {}: {before} -> {after}", clean(&difference.field));
}

fn movement(movement: Movement) -> Option<&'static str> {
    match movement {
        Movement::Unspecified => None,
        Movement::Nothing => Some("nobody is served anything else"),
        Movement::OnlyAdds => Some("only adds: users leave the off variant, none comes back"),
        Movement::OnlyRemoves => Some("only removes: users go back to the off variant, none leaves it"),
        Movement::Moves => Some("moves: users pass between variants"),
        Movement::CallersDefault => Some("everybody gets the default in the caller's code"),
        Movement::Unknown => Some("conditions changed: who is affected depends on the users"),
    }
}

/// Whether a note says the same about the flag, and perhaps more.
fn tells(note: &Note, one: &Consequence) -> bool {
    let rest = note.text.strip_prefix(&format!("`{}` ", one.flag));
    rest.is_some_and(|rest| ["goes off", "comes on", "may change"].iter().any(|word| rest.starts_with(word)))
}

fn consequence(text: &mut String, one: &Consequence, look: &Look) {
    let (word, tone) = match one.direction() {
        Direction::GoesOff => ("goes off", Tone::Bad),
        Direction::ComesOn => ("comes on", Tone::Bad),
        Direction::Stays => ("stays as it is", Tone::Plain),
        Direction::Depends | Direction::Unspecified => ("may change", Tone::Bad),
    };
    let (flag, because) = (clean(&one.flag), clean(&one.because));
    let _ = writeln!(text, "  {flag} {}: it requires {because}", paint(word, tone, look));
}

fn drift(text: &mut String, drift: &FieldDrift, what: &str) {
    let shown =
        |value: Option<&String>| value.map_or("nothing".to_owned(), |json| short(json, VALUE_SHOWN_CHARS));
    let (name, field) = (entry(drift.id.as_ref()), clean(&drift.field));
    let (live, file) = (shown(drift.live.as_ref()), shown(drift.file.as_ref()));
    let _ = writeln!(text, "  {what}: {name} {field}: live {live}, file {file}");
}

fn note(text: &mut String, note: &Note, look: &Look) {
    let (word, tone) = match note.severity() {
        Severity::Info | Severity::Unspecified => ("note", Tone::Plain),
        Severity::Warning => ("warning", Tone::Bad),
        Severity::Missing => ("missing", Tone::Bad),
    };
    let _ = writeln!(text, "  {}: {}", paint(word, tone, look), clean(&note.text));
}

/// How far the clients are, while waiting.
pub(crate) fn progress(progress: &WaitProgress, look: &Look) -> String {
    if progress.expected == 0 && is_whole(progress) {
        return "no client is connected yet".into();
    }
    let mut sentence = format!("applied by {}", of(progress));
    if progress.applied < progress.expected {
        let _ = write!(sentence, "; waiting for {}", missing(progress, look));
    }
    for server in &progress.unanswered_servers {
        let _ = write!(sentence, "; server {} does not answer", clean(server));
    }
    for relay in &progress.away_relays {
        let _ = write!(sentence, "; relay {} is away", clean(relay));
    }
    sentence
}

/// What the watching came to, as one plain sentence, perhaps with a second one about what it does not mean.
pub(crate) fn waited(waited: &Waited, look: &Look) -> String {
    let Some(progress) = &waited.progress else {
        let why = match waited.ending {
            WaitEnding::Interrupted => "watching was stopped",
            WaitEnding::ServerLost | WaitEnding::Verdict(_) => "no server could be asked who has applied it",
        };
        return format!("{}: {why}; the change is recorded\n", paint("unconfirmed", Tone::Bad, look));
    };
    let mut text = match waited.ending {
        WaitEnding::Verdict(WaitVerdict::Confirmed) => {
            let sentence = format!("applied by {} in {}", of(progress), time::elapsed(progress.elapsed_us));
            paint(&sentence, Tone::Good, look)
        }
        WaitEnding::Verdict(WaitVerdict::Nobody) => {
            paint("no client is connected: nobody can confirm", Tone::Bad, look)
        }
        WaitEnding::Verdict(WaitVerdict::Unconfirmed | WaitVerdict::Unspecified) => {
            paint(&unconfirmed(progress, look), Tone::Bad, look)
        }
        WaitEnding::Interrupted => {
            let sentence = unconfirmed(progress, look);
            format!("{sentence}\nwatching was stopped; the change is recorded and stays")
        }
        WaitEnding::ServerLost => {
            let sentence = unconfirmed(progress, look);
            format!("{sentence}\nthe server was lost while watching; the change is recorded and stays")
        }
    };
    text.push('\n');
    text.push_str(&unanswered(&progress.unanswered_servers, &progress.away_relays, look));
    if progress.holding_older > 0 {
        holders(&mut text, progress);
    }
    text
}

/// Whether everybody was heard who may have clients.
fn is_whole(progress: &WaitProgress) -> bool {
    progress.unanswered_servers.is_empty() && progress.away_relays.is_empty()
}

/// Servers and relays that were not heard: what their clients do is unknown.
pub(super) fn unanswered(servers: &[String], relays: &[String], look: &Look) -> String {
    let mut text = String::new();
    for server in servers {
        let sentence =
            format!("server {} did not answer: what its clients have applied is unknown", clean(server));
        let _ = writeln!(text, "{}", paint(&sentence, Tone::Bad, look));
    }
    for relay in relays {
        let sentence = format!("relay {} is away: what its clients have applied is unknown", clean(relay));
        let _ = writeln!(text, "{}", paint(&sentence, Tone::Bad, look));
    }
    text
}

fn of(progress: &WaitProgress) -> String {
    format!("{} of {}", progress.applied, count(progress.expected.into(), "client"))
}

fn unconfirmed(progress: &WaitProgress, look: &Look) -> String {
    if progress.expected == 0 && is_whole(progress) {
        return "no client is connected: nobody can confirm".into();
    }
    let missing = missing(progress, look);
    if missing.is_empty() {
        format!("applied by {}", of(progress))
    } else {
        format!("applied by {}; missing: {missing}", of(progress))
    }
}

fn missing(progress: &WaitProgress, look: &Look) -> String {
    let mut names: Vec<String> = progress
        .missing
        .iter()
        .take(CLIENTS_SHOWN)
        .map(|client| format!("{} ({}{})", client_name(client), why(client, look), via(client)))
        .collect();
    let hidden = progress.missing.len().saturating_sub(CLIENTS_SHOWN) as u64 + u64::from(progress.unlisted);
    if hidden > 0 {
        names.push(format!("{hidden} more"));
    }
    names.join(", ")
}

/// The name that people gave it, else the beginning of its number.
pub(super) fn client_name(client: &ClientInfo) -> String {
    if !client.name.is_empty() {
        return clean(&client.name);
    }
    let id = hex(client.instance.get(..4).unwrap_or(&client.instance));
    format!("client {id}")
}

/// Why a client does not count as having applied a change.
fn why(client: &ClientInfo, look: &Look) -> String {
    let at = client.position.as_ref().map_or(0, |position| position.revision);
    match client.standing() {
        ClientStanding::Lost => format!("lost, last seen {} ago", age(client, look)),
        ClientStanding::Lagging if at == 0 => "connected, has nothing yet".into(),
        ClientStanding::Lagging => format!("lagging at revision {at}"),
        ClientStanding::Diverged => "diverged: it cannot reach the server's state".into(),
        ClientStanding::Refused => match client.refused.first() {
            Some(refused) => format!("refuses {}: {}", entry(refused.id.as_ref()), clean(&refused.why)),
            None => "refuses it".into(),
        },
        ClientStanding::Applied | ClientStanding::Unspecified => format!("at revision {at}"),
    }
}

/// Through which relay, after something else.
pub(super) fn via(client: &ClientInfo) -> String {
    if client.via.is_empty() { String::new() } else { format!(", via {}", clean(&client.via)) }
}

pub(super) fn age(client: &ClientInfo, look: &Look) -> String {
    time::length(look.now_ms.saturating_sub(client.last_seen_ms))
}

fn holders(text: &mut String, progress: &WaitProgress) {
    let mut names: Vec<String> = progress
        .holders
        .iter()
        .take(CLIENTS_SHOWN)
        .map(|client| {
            let (revision, age) = (client.held_oldest_revision, time::length(client.held_oldest_age_ms));
            format!("{} (revision {revision}, replaced {age} ago)", client_name(client))
        })
        .collect();
    let hidden = u64::from(progress.holding_older).saturating_sub(names.len() as u64);
    if hidden > 0 {
        names.push(format!("{hidden} more"));
    }
    let clients = count(progress.holding_older.into(), "client");
    let _ = writeln!(text, "an older snapshot is still in use by {clients}: {}", names.join(", "));
}

/// Why a run ended without having done what it should.
pub(crate) fn failure(failure: &Failure, look: &Look) -> String {
    let error = paint("error", Tone::Bad, look);
    match failure {
        Failure::Usage(why) | Failure::Local(why) | Failure::NotAgreed(why) => {
            format!("{error}: {}\n", clean_lines(why))
        }
        Failure::Untold { revision, why } => {
            format!("{error}: recorded as revision {revision}, but {}\n", clean_lines(why))
        }
        Failure::Problems(problems) => {
            let mut text =
                format!("{error}: {} found; nothing was changed\n", count(problems.len() as u64, "problem"));
            for problem in problems {
                file_problem(&mut text, problem);
            }
            text
        }
        Failure::Refused(detail) => {
            let mut text = format!("{error}: {}\n", clean_lines(&detail.message));
            refusal(&mut text, detail, look);
            text
        }
        Failure::Kept { failure, how_to_go_on } => {
            format!("{}{}\n", self::failure(failure, look), clean_lines(how_to_go_on))
        }
        Failure::NotReached(tried) => {
            format!("{error}: no server was reached; nothing was changed\n{}", attempts(tried))
        }
        Failure::OutcomeUnknown { tried, request_id: None } => {
            format!("{error}: no server answered; run it again\n{}", attempts(tried))
        }
        Failure::OutcomeUnknown { tried, request_id: Some(id) } => {
            let mut text = format!(
                "{error}: whether the change was recorded is unknown; run it again\n{}",
                attempts(tried)
            );
            let _ = writeln!(text, "  hint: with `--request-id {}` it cannot be recorded twice", clean(id));
            text
        }
    }
}

fn attempts(tried: &[Tried]) -> String {
    let mut text = String::new();
    for one in tried {
        let _ = writeln!(text, "  {}: {}", clean(&one.server), clean(&one.why));
    }
    text
}

/// `checkout.yaml:7:11: flags.a.rules[0].if: ... (hint)`.
pub(super) fn file_problem(text: &mut String, problem: &FileProblem) {
    let place = match (problem.file.as_str(), problem.problem.position) {
        ("", _) => String::new(),
        // The problem's own text begins with line and column.
        (file, Some(_)) => format!("{}:", clean(file)),
        (file, None) => format!("{}: ", clean(file)),
    };
    let _ = writeln!(text, "  {place}{}", clean(&problem.problem.to_string()));
}

fn refusal(text: &mut String, detail: &ErrorDetail, look: &Look) {
    for problem in &detail.problems {
        let file = FileProblem { file: String::new(), problem: problem_from_wire(problem) };
        file_problem(text, &file);
    }
    for conflict in &detail.conflicts {
        let name = entry(conflict.id.as_ref());
        let (expected, found) = (revision(conflict.expected_revision), revision(conflict.found_revision));
        let by = if conflict.changed_by.is_empty() { "somebody".into() } else { clean(&conflict.changed_by) };
        let when = time::local(conflict.changed_ms, &look.zone);
        let _ = writeln!(
            text,
            "  {name}: you saw {expected}, now it is {found}, by {by} at {when}: {}",
            clean(&conflict.operation)
        );
        for one in &conflict.differences {
            difference(text, one);
        }
    }
    for one in &detail.field_conflicts {
        // Without a base nobody can tell who changed it.
        drift(text, one, if one.base.is_some() { "changed on both sides" } else { "differs" });
    }
    for client in detail.clients.iter().take(CLIENTS_SHOWN) {
        let _ = writeln!(text, "  {} understands level {}", client_name(client), client.level);
    }
    for one in &detail.candidates {
        text.push_str("  ");
        text.push_str(&super::watch_line(one, look));
    }
    for choice in &detail.choices {
        let _ = writeln!(
            text,
            "  flagctl ramp {}",
            clean(choice.trim_start_matches("flagctl ").trim_start_matches("ramp "))
        );
    }
    if !detail.nearest.is_empty() && detail.nearest.iter().any(|name| !detail.message.contains(name.as_str()))
    {
        let names: Vec<String> = detail.nearest.iter().map(|name| format!("`{}`", clean(name))).collect();
        let _ = writeln!(text, "  did you mean {}?", names.join(" or "));
    }
    if !detail.hint.is_empty() {
        let _ = writeln!(text, "  hint: {}", clean(&detail.hint));
    }
}

fn revision(number: u64) -> String {
    if number == 0 { "nothing".to_owned() } else { format!("revision {number}") }
}
