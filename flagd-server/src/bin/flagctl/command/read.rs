//! The verbs that only look.

use flagd_core::context::Context;
use flagd_proto::admin::{
    ClientsRequest, DiffRequest, EvaluateRequest, EvaluateResponse, HistoryRequest, ListRequest,
    StatusRequest,
};
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use super::{Session, entry_name, section};
use crate::args::{ContextArgs, DiffArgs, EvaluateArgs, ExplainArgs, HistoryArgs, ListArgs, StatusArgs};
use crate::connect::{Answered, Client};
use crate::error::{Exit, Failure};
use crate::output::Answer;
use crate::time::{self, When};

pub(super) async fn status(session: &Session, args: &StatusArgs) -> Result<Exit, Failure> {
    let environment = if args.all { String::new() } else { session.environment.clone() };
    let rpc = |mut client: Client, request| async move { client.status(request).await };
    let answered = session.ask(StatusRequest { environment }, rpc).await?;
    let header = session.header(&answered.answer.server, &answered.server);
    session.printer.answer(&header, &Answer::Status(answered.answer))?;
    Ok(Exit::Fine)
}

pub(super) async fn list(session: &Session, args: ListArgs) -> Result<Exit, Failure> {
    let request = ListRequest {
        environment: session.environment.clone(),
        search: args.search.unwrap_or_default(),
        tags: args.tags,
        archived: args.archived,
        segments: args.segments,
    };
    let rpc = |mut client: Client, request| async move { client.list(request).await };
    let answered = session.ask(request, rpc).await?;
    let header = session.header(&answered.answer.server, &answered.server);
    let answer =
        if args.segments { Answer::Segments(answered.answer) } else { Answer::Flags(answered.answer) };
    session.printer.answer(&header, &answer)?;
    Ok(Exit::Fine)
}

pub(super) async fn clients(session: &Session) -> Result<Exit, Failure> {
    let request = ClientsRequest { environment: session.environment.clone() };
    let rpc = |mut client: Client, request| async move { client.clients(request).await };
    let answered = session.ask(request, rpc).await?;
    let header = session.header(&answered.answer.server, &answered.server);
    session.printer.answer(&header, &Answer::Clients(answered.answer))?;
    Ok(Exit::Fine)
}

pub(super) async fn history(session: &Session, args: &HistoryArgs) -> Result<Exit, Failure> {
    let request = HistoryRequest {
        environment: session.environment.clone(),
        name: args.flag.as_deref().map(|key| entry_name(section(args.segment), key)),
        since_ms: moment(args.since)?,
        limit: args.limit,
        before_revision: args.before.unwrap_or_default(),
    };
    let rpc = |mut client: Client, request| async move { client.history(request).await };
    let answered = session.ask(request, rpc).await?;
    let header = session.header(&answered.answer.server, &answered.server);
    session.printer.answer(&header, &Answer::History(answered.answer))?;
    Ok(Exit::Fine)
}

pub(super) async fn diff(session: &Session, args: &DiffArgs) -> Result<Exit, Failure> {
    let from_revision = match (args.from, &args.from_environment) {
        (Some(revision), _) => revision,
        (None, Some(_)) => 0,
        (None, None) => before_latest_change(session, args).await?,
    };
    let request = DiffRequest {
        environment: session.environment.clone(),
        name: args.flag.as_deref().map(|key| entry_name(section(args.segment), key)),
        from_revision,
        to_revision: args.to.unwrap_or_default(),
        from_environment: args.from_environment.clone().unwrap_or_default(),
    };
    let rpc = |mut client: Client, request| async move { client.diff(request).await };
    let answered = session.ask(request, rpc).await?;
    let header = session.header(&answered.answer.server, &answered.server);
    let exit = if answered.answer.entries.is_empty() { Exit::Fine } else { Exit::Refused };
    session.printer.answer(&header, &Answer::Diff(answered.answer))?;
    Ok(exit)
}

async fn before_latest_change(session: &Session, args: &DiffArgs) -> Result<u64, Failure> {
    let request = HistoryRequest {
        environment: session.environment.clone(),
        name: args.flag.as_deref().map(|key| entry_name(section(args.segment), key)),
        limit: 1,
        before_revision: args.to.map_or(0, |to| to.saturating_add(1)),
        since_ms: 0,
    };
    let rpc = |mut client: Client, request| async move { client.history(request).await };
    let answered = session.ask(request, rpc).await?;
    match answered.answer.changes.first() {
        Some(change) => Ok(change.revision.saturating_sub(1)),
        None => Err(Failure::Local(
            "there is no change to show the differences of; name a revision with --from".into(),
        )),
    }
}

pub(super) async fn explain(session: &Session, args: ExplainArgs) -> Result<Exit, Failure> {
    let request = EvaluateRequest { flag: args.flag, explain: true, ..question(session, &args.context)? };
    let answered = evaluation(session, request).await?;
    let header = session.header(&answered.answer.server, &answered.server);
    session.printer.answer(&header, &Answer::Explanation(answered.answer))?;
    Ok(Exit::Fine)
}

pub(super) async fn evaluate(session: &Session, args: EvaluateArgs) -> Result<Exit, Failure> {
    let request = EvaluateRequest {
        flag: args.flag.or(args.flag_option).unwrap_or_default(),
        explain: false,
        ..question(session, &args.context)?
    };
    let answered = evaluation(session, request).await?;
    let header = session.header(&answered.answer.server, &answered.server);
    session.printer.answer(&header, &Answer::Evaluations(answered.answer))?;
    Ok(Exit::Fine)
}

async fn evaluation(
    session: &Session,
    request: EvaluateRequest,
) -> Result<Answered<EvaluateResponse>, Failure> {
    session.ask(request, |mut client: Client, request| async move { client.evaluate(request).await }).await
}

fn question(session: &Session, args: &ContextArgs) -> Result<EvaluateRequest, Failure> {
    let context = context(args).map_err(Failure::Usage)?;
    Ok(EvaluateRequest {
        environment: session.environment.clone(),
        context: context.to_string().into(),
        now_ms: moment(args.now)?,
        ..EvaluateRequest::default()
    })
}

/// The moment that was typed, else this one.
pub(super) fn moment_or_now(when: Option<When>) -> Result<u64, Failure> {
    moment(when).map(|at_ms| if when.is_some() { at_ms } else { time::now_ms() })
}

/// 0 when none was typed.
fn moment(when: Option<When>) -> Result<u64, Failure> {
    let Some(when) = when else { return Ok(0) };
    when.resolve(time::now_ms(), &TimeZone::system()).map_err(Failure::Usage)
}

/// The JSON, then the key, then the attributes: the later one wins.
pub(super) fn context(args: &ContextArgs) -> Result<Value, String> {
    let mut members = match &args.context {
        None => Map::new(),
        Some(text) => match serde_json::from_str(text) {
            Ok(Value::Object(members)) => members,
            Ok(_) => {
                return Err("--context must be a JSON object such as {\"targetingKey\": \"user-1\"}".into());
            }
            Err(error) => return Err(format!("--context is no JSON: {error}")),
        },
    };
    if let Some(key) = &args.key {
        members.insert("targetingKey".into(), Value::from(key.as_str()));
    }
    for attribute in &args.attribute {
        let Some((name, value)) = attribute.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(format!("`{attribute}` is no attribute; write country=DE"));
        };
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        members.insert(name.to_owned(), value);
    }
    let context = Value::Object(members);
    Context::from_json(&context)?;
    Ok(context)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_context_is_put_together_from_what_was_typed() {
        let args = |json: Option<&str>, key: Option<&str>, attributes: &[&str]| ContextArgs {
            context: json.map(ToOwned::to_owned),
            key: key.map(ToOwned::to_owned),
            attribute: attributes.iter().map(|&one| one.to_owned()).collect(),
            now: None,
        };
        let cases = [
            ("nothing", args(None, None, &[]), Some(json!({}))),
            ("a key", args(None, Some("u"), &[]), Some(json!({"targetingKey": "u"}))),
            ("text", args(None, None, &["country=DE"]), Some(json!({"country": "DE"}))),
            ("an equals sign", args(None, None, &["q=a=b"]), Some(json!({"q": "a=b"}))),
            ("a number", args(None, None, &["age=17"]), Some(json!({"age": 17}))),
            ("a list", args(None, None, &["groups=[\"a\"]"]), Some(json!({"groups": ["a"]}))),
            ("quoted digits", args(None, None, &["zip=\"01067\""]), Some(json!({"zip": "01067"}))),
            ("leading zeros", args(None, None, &["zip=01067"]), Some(json!({"zip": "01067"}))),
            (
                "the later one wins",
                args(Some("{\"targetingKey\": \"a\", \"x\": 1}"), Some("b"), &["x=2"]),
                Some(json!({"targetingKey": "b", "x": 2})),
            ),
            ("no name", args(None, None, &["=DE"]), None),
            ("no value", args(None, None, &["country"]), None),
            ("no object", args(Some("[]"), None, &[]), None),
            ("no JSON", args(Some("{"), None, &[]), None),
            ("a key that is none", args(Some("{\"targetingKey\": true}"), None, &[]), None),
        ];
        for (name, args, want) in cases {
            assert_eq!(context(&args).ok(), want, "{name}");
        }
    }
}
