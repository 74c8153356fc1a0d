//! `get` and `export`: definitions as files.

use flagd_proto::admin::{ExportPart, ExportRequest, FlagState, GetRequest, GetResponse};
use serde_json::{Value, json};
use tonic::Streaming;

use super::{Session, entry_name, section};
use crate::args::{ExportArgs, GetArgs};
use crate::connect::{Answered, Client, detail_of};
use crate::error::{Exit, Failure, Tried};
use crate::file::{self, Section, Tree};
use crate::output;

/// One definition; of now when the revision is 0.
pub(super) async fn fetch(
    session: &Session,
    section: Section,
    key: &str,
    at_revision: u64,
) -> Result<Answered<GetResponse>, Failure> {
    let environment = session.environment.clone();
    let request = GetRequest { environment, name: Some(entry_name(section, key)), at_revision };
    session.ask(request, |mut client: Client, request| async move { client.get(request).await }).await
}

pub(super) async fn get(session: &Session, args: &GetArgs) -> Result<Exit, Failure> {
    let section = section(args.segment);
    let answered = fetch(session, section, &args.key, args.at.unwrap_or_default()).await?;
    let response = &answered.answer;
    let text = if response.definition.is_empty() {
        String::new()
    } else {
        let tree = file::one(section, &args.key, &response.definition)
            .map_err(|why| Failure::Local(format!("the server's definition cannot be read: {why}")))?;
        if args.yaml { tree.to_yaml() } else { output::escaped(&tree.to_pretty_json()) }
    };
    let json = json!({
        "kind": if args.segment { "segment" } else { "flag" },
        "key": args.key,
        "revision": response.revision,
        "state": state(response.state()),
        "definition": serde_json::from_str::<Value>(&response.definition).ok(),
        "kill": serde_json::from_str::<Value>(&response.kill).ok(),
        "requiredBy": response.required_by,
        "usedBy": response.used_by,
        "notes": response.notes.iter().map(|note| note.text.as_str()).collect::<Vec<_>>(),
        "viewAgeMs": response.view_age_ms,
    });
    let header = session.header(&response.server, &answered.server);
    session.printer.document(&header, &remarks(section, &args.key, response), &text, &json)?;
    Ok(Exit::Fine)
}

/// What belongs to a definition and is not part of it.
fn remarks(section: Section, key: &str, response: &GetResponse) -> Vec<String> {
    let name = file::name_of(section, key);
    let mut remarks = vec![format!("{name}: written by revision {}", response.revision)];
    if let Some(state) = state(response.state()).filter(|_| section == Section::Flags) {
        remarks.push(format!("  state: {state}"));
    }
    if !response.kill.is_empty() {
        remarks.push(format!("  kill: {}", response.kill));
    }
    if !response.required_by.is_empty() {
        remarks.push(format!("  required by: {}", response.required_by.join(", ")));
    }
    if !response.used_by.is_empty() {
        remarks.push(format!("  used by: {}", response.used_by.join(", ")));
    }
    remarks.extend(response.notes.iter().map(|note| format!("  note: {}", note.text)));
    remarks
}

fn state(state: FlagState) -> Option<&'static str> {
    match state {
        FlagState::Unspecified => None,
        FlagState::Enabled => Some("enabled"),
        FlagState::Disabled => Some("disabled"),
        FlagState::Killed => Some("killed"),
        FlagState::Archived => Some("archived"),
        FlagState::NotUnderstood => Some("notUnderstood"),
    }
}

pub(super) async fn export(session: &Session, args: &ExportArgs) -> Result<Exit, Failure> {
    let environment = session.environment.clone();
    let request = ExportRequest { environment, at_revision: args.at.unwrap_or_default() };
    let answered = session
        .ask(request, |mut client: Client, request| async move { client.export(request).await })
        .await?;
    let exported = collect(answered.answer, &answered.server).await?;
    let header = session.header(&exported.server, &answered.server);
    let Some(path) = &args.file else {
        let definitions: Value = serde_json::from_str(&exported.text).unwrap_or_default();
        let json = json!({ "revision": exported.revision, "definitions": definitions });
        let remarks = [format!("all definitions at revision {}", exported.revision)];
        session.printer.document(&header, &remarks, &exported.text, &json)?;
        return Ok(Exit::Fine);
    };
    std::fs::write(path, &exported.text)
        .map_err(|error| Failure::Local(format!("cannot write {}: {error}", path.display())))?;
    let written = path.display().to_string();
    let json = json!({ "revision": exported.revision, "file": written });
    let remarks = [format!("wrote all definitions at revision {} to {written}", exported.revision)];
    session.printer.document(&header, &remarks, "", &json)?;
    Ok(Exit::Fine)
}

struct Exported {
    text: String,
    revision: u64,
    server: String,
}

/// The whole text, or nothing: half an export must not look like a whole one.
async fn collect(mut stream: Streaming<ExportPart>, address: &str) -> Result<Exported, Failure> {
    let mut bytes = Vec::new();
    let mut exported = Exported { text: String::new(), revision: 0, server: String::new() };
    loop {
        match stream.message().await {
            Ok(Some(part)) => {
                bytes.extend_from_slice(&part.text);
                if let Some(position) = part.position {
                    exported.revision = position.revision;
                }
                if !part.server.is_empty() {
                    exported.server = part.server;
                }
            }
            Ok(None) => break,
            Err(status) if !status.details().is_empty() => {
                return Err(Failure::Refused(Box::new(detail_of(&status))));
            }
            Err(status) => {
                let why = format!("the export broke off: {}", status.message());
                let tried = vec![Tried { server: address.to_owned(), why }];
                return Err(Failure::OutcomeUnknown { tried, request_id: None });
            }
        }
    }
    exported.text =
        String::from_utf8(bytes).map_err(|_| Failure::Local("the server's export is no text".into()))?;
    let tree = Tree::parse(&exported.text)
        .map_err(|why| Failure::Local(format!("the server's export is no JSON: {why}")))?;
    exported.text = output::escaped(&tree.to_pretty_json());
    Ok(exported)
}
