//! `environment list`, `create`, `use`.

use flagd_proto::admin::{CreateEnvironmentRequest, ListEnvironmentsRequest, ListEnvironmentsResponse};

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

/// Stores the choice, unless a server says that there is no such environment. Without a server it is believed.
pub(super) async fn choose(session: &Session, name: &str) -> Result<Exit, Failure> {
    let Some(path) = config::path() else {
        return Err(Failure::Local(
            "there is no home folder to store the choice in; set FLAGD_ENVIRONMENT".into(),
        ));
    };
    let name = config::environment(Some(name), None)?;
    let rpc = |mut client: Client, request| async move { client.list_environments(request).await };
    let answered = match session.ask(ListEnvironmentsRequest {}, rpc).await {
        Ok(answered) => Some(answered),
        Err(Failure::NotReached(_) | Failure::OutcomeUnknown { .. }) => None,
        Err(failure) => return Err(failure),
    };
    let known = answered.as_ref().map(|answered| is_known(&name, &answered.answer)).transpose()?;
    config::store(&name, &path)?;
    let (server_name, address) = match &answered {
        Some(answered) => (answered.answer.server.as_str(), answered.server.as_str()),
        None => ("", session.servers.first_name()),
    };
    let header = Header { environment: name.clone(), ..session.header(server_name, address) };
    let chosen = ChosenEnvironment { stored_in: path.display().to_string(), known };
    session.printer.answer(&header, &Answer::EnvironmentChosen(chosen))?;
    Ok(Exit::Fine)
}

fn is_known(name: &str, answer: &ListEnvironmentsResponse) -> Result<bool, Failure> {
    let names = || answer.environments.iter().map(|one| one.name.as_str());
    if names().any(|one| one == name) {
        return Ok(true);
    }
    let there = names().collect::<Vec<_>>().join("`, `");
    Err(Failure::Local(format!(
        "there is no environment `{name}`; nothing was stored\nthere is `{there}`; `flagctl environment create {name}` makes it"
    )))
}

#[cfg(test)]
mod tests {
    use flagd_proto::admin::Environment;

    use super::*;

    #[test]
    fn an_environment_that_no_server_has_is_not_chosen() {
        let environments = vec![Environment { name: "staging".into(), ..Environment::default() }];
        let answer = ListEnvironmentsResponse { environments, ..ListEnvironmentsResponse::default() };
        assert_eq!(is_known("staging", &answer), Ok(true));
        let Err(Failure::Local(why)) = is_known("nope", &answer) else { panic!("must be refused") };
        assert!(why.contains("`nope`") && why.contains("`staging`"), "{why}");
    }
}
