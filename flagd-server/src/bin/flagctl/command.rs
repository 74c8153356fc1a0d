//! What was meant by what was typed.
//!
//! Each verb is one function from its arguments to an exit or a failure. A [`Session`] holds what they share:
//! the servers, the environment, the actor and the printer.

use std::time::Duration;

use flagd_proto::admin::{EntryName, change_request::Operation};

use crate::args::{Cli, EnvironmentVerb, GlobalArgs, SegmentVerb, Verb};
use crate::config;
use crate::connect::{Answered, Client, Servers};
use crate::error::{Exit, Failure};
use crate::file::Section;
use crate::output::{Header, Printer};

mod batch;
mod change;
mod document;
mod edit;
mod environment;
mod offline;
mod ramp;
mod read;
mod watch;

/// After this long without an answer people are told that they wait.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// What all verbs that ask a server share.
struct Session {
    servers: Servers,
    environment: String,
    /// Named by an option, so that a command to copy must name it, too.
    environment_option: Option<String>,
    actor: String,
    printer: Printer,
}

/// Does what was asked for.
pub(crate) async fn run(cli: Cli, printer: Printer) -> Exit {
    let offline = match &cli.verb {
        Verb::Check(args) => Some(offline::check(&printer, args)),
        Verb::Evaluate(args) if !args.files.is_empty() => Some(batch::evaluate(args)),
        Verb::Schema => Some(offline::schema()),
        Verb::Completions(args) => Some(offline::completions(args)),
        _ => None,
    };
    if let Some(result) = offline {
        return result.unwrap_or_else(|failure| {
            printer.failure(None, &failure);
            failure.exit()
        });
    }
    let session = match Session::new(&cli.global, printer) {
        Ok(session) => session,
        Err((printer, failure)) => {
            printer.failure(None, &failure);
            return failure.exit();
        }
    };
    dispatch(&session, cli.verb).await.unwrap_or_else(|failure| {
        let header = session.header(failure.server().unwrap_or_default(), session.servers.first_name());
        session.printer.failure(Some(&header), &failure);
        failure.exit()
    })
}

async fn dispatch(session: &Session, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Status(args) => read::status(session, &args).await,
        Verb::List(args) => read::list(session, args).await,
        Verb::Get(args) => document::get(session, &args).await,
        Verb::Create(args) => change::create(session, &args).await,
        Verb::Edit(args) => edit::edit(session, &args).await,
        Verb::Apply(args) => change::apply(session, &args).await,
        Verb::Import(args) => change::import(session, &args).await,
        Verb::Enable(args) => change::flag(session, args, Operation::Enable).await,
        Verb::Disable(args) => change::flag(session, args, Operation::Disable).await,
        Verb::Ramp(args) => ramp::ramp(session, &args).await,
        Verb::Kill(args) => change::kill(session, args).await,
        Verb::Revive(args) => change::revive(session, args).await,
        Verb::Rollback(args) => change::rollback(session, args).await,
        Verb::History(args) => read::history(session, &args).await,
        Verb::Diff(args) => read::diff(session, &args).await,
        Verb::Explain(args) => read::explain(session, args).await,
        Verb::Evaluate(args) => read::evaluate(session, args).await,
        Verb::Export(args) => document::export(session, &args).await,
        Verb::Watch(args) => watch::watch(session, &args).await,
        Verb::Clients(_) => read::clients(session).await,
        Verb::Segment(args) => match args.verb {
            SegmentVerb::Add(args) => change::units(session, args, Operation::SegmentAdd).await,
            SegmentVerb::Remove(args) => change::units(session, args, Operation::SegmentRemove).await,
        },
        Verb::Archive(args) => change::entry(session, args, Operation::Archive).await,
        Verb::Unarchive(args) => change::entry(session, args, Operation::Unarchive).await,
        Verb::Environment(args) => match args.verb {
            EnvironmentVerb::List => environment::list(session).await,
            EnvironmentVerb::Create { name } => environment::create(session, name).await,
            EnvironmentVerb::Use { name } => environment::choose(session, &name).await,
        },
        // These ask no server and were done above.
        Verb::Check(args) => offline::check(&session.printer, &args),
        Verb::Schema => offline::schema(),
        Verb::Completions(args) => offline::completions(&args),
    }
}

impl Session {
    fn new(global: &GlobalArgs, printer: Printer) -> Result<Session, (Printer, Failure)> {
        let config = config::path();
        let environment = match config::environment(global.environment.as_deref(), config.as_deref()) {
            Ok(environment) => environment,
            Err(failure) => return Err((printer, failure)),
        };
        let servers = match Servers::new(&global.servers) {
            Ok(servers) => servers,
            Err(failure) => return Err((printer, failure)),
        };
        let from_variable = std::env::var("FLAGD_ENVIRONMENT").ok();
        let environment_option =
            global.environment.clone().filter(|name| Some(name) != from_variable.as_ref());
        let actor = config::actor(global.actor.as_deref());
        Ok(Session { servers, environment, environment_option, actor, printer })
    }

    /// `server_name` is the server's own name for itself, `address` where it was reached.
    fn header(&self, server_name: &str, address: &str) -> Header {
        Header {
            environment: self.environment.clone(),
            server: address.to_owned(),
            server_name: server_name.to_owned(),
        }
    }

    /// What a command to copy needs at its end to mean the same environment.
    fn environment_suffix(&self) -> String {
        self.environment_option.as_ref().map(|name| format!(" --environment {name}")).unwrap_or_default()
    }

    /// Asks a question, which may be repeated at will.
    async fn ask<Req, Resp, Rpc, Fut>(&self, request: Req, rpc: Rpc) -> Result<Answered<Resp>, Failure>
    where
        Req: Clone + Send + 'static,
        Resp: Send + 'static,
        Rpc: Fn(Client, Req) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<tonic::Response<Resp>, tonic::Status>> + Send + 'static,
    {
        self.patiently(self.servers.call(request, None, rpc)).await
    }

    /// Waits for an answer, and says so when it takes long: silence looks like success or a hung terminal.
    async fn patiently<T>(&self, call: impl Future<Output = T>) -> T {
        let mut call = std::pin::pin!(call);
        if let Ok(answer) = tokio::time::timeout(SILENCE_MAX, &mut call).await {
            return answer;
        }
        self.printer.remark(&format!("no answer from {} yet, still asking", self.servers.first_name()));
        call.await
    }
}

/// Names an entry on the wire.
fn entry_name(section: Section, key: &str) -> EntryName {
    EntryName { kind: section.kind(), key: key.to_owned() }
}

/// Where a key lies that may be a segment's.
fn section(segment: bool) -> Section {
    if segment { Section::Segments } else { Section::Flags }
}
