//! `environment list`, `create`, `use`.

use flagd_proto::admin::{CreateEnvironmentRequest, ListEnvironmentsRequest};

use super::Session;
use crate::config;
use crate::connect::Client;
use crate::error::{Exit, Failure};
use crate::output::{Answer, ChosenEnvironment, Header};

pub(super) async fn list(session: &Session) -> Result<Exit, Failure> {
    let rpc = |mut client: Client, request| async move { client.list_environments(request).await };
    let answered = session.ask(ListEnvironmentsRequest {}, rpc).await?;
    let header = session.header(&answered.answer.server, &answered.server);
    session.printer.answer(&header, &Answer::Environments(answered.answer))?;
    Ok(Exit::Fine)
}

pub(super) async fn create(session: &Session, name: String) -> Result<Exit, Failure> {
    let request = CreateEnvironmentRequest { name, actor: session.actor.clone() };
    let rpc = |mut client: Client, request| async move { client.create_environment(request).await };
    let answered = session.servers.call(request, None, rpc).await?;
    let header = session.header(&answered.answer.server, &answered.server);
    session.printer.answer(&header, &Answer::EnvironmentCreated(answered.answer))?;
    Ok(Exit::Fine)
}

/// Stores the choice whether or not a server can be asked: the environment may be created later.
pub(super) async fn choose(session: &Session, name: &str) -> Result<Exit, Failure> {
    let Some(path) = config::path() else {
        return Err(Failure::Local(
            "there is no home folder to store the choice in; set FLAGD_ENVIRONMENT".into(),
        ));
    };
    config::store(name, &path)?;
    let rpc = |mut client: Client, request| async move { client.list_environments(request).await };
    let answered = session.ask(ListEnvironmentsRequest {}, rpc).await.ok();
    let known =
        answered.as_ref().map(|answered| answered.answer.environments.iter().any(|one| one.name == name));
    let (server_name, address) = match &answered {
        Some(answered) => (answered.answer.server.as_str(), answered.server.as_str()),
        None => ("", session.servers.first_name()),
    };
    let header = Header { environment: name.to_owned(), ..session.header(server_name, address) };
    let chosen = ChosenEnvironment { stored_in: path.display().to_string(), known };
    session.printer.answer(&header, &Answer::EnvironmentChosen(chosen))?;
    Ok(Exit::Fine)
}
