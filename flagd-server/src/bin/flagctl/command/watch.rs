//! `watch`: every change as it is made, without a gap when a server restarts.

use std::time::Duration;

use flagd_proto::admin::{HistoryRequest, WatchEvent, WatchRequest};
use tonic::Streaming;

use super::Session;
use crate::args::WatchArgs;
use crate::connect::Client;
use crate::error::{Exit, Failure};
use crate::output::Header;

/// Between losing a server and looking for another.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn watch(session: &Session, args: &WatchArgs) -> Result<Exit, Failure> {
    tokio::select! {
        failure = follow(session, args) => failure,
        Ok(()) = tokio::signal::ctrl_c() => Ok(Exit::Fine),
    }
}

async fn follow(session: &Session, args: &WatchArgs) -> Result<Exit, Failure> {
    // A definite revision to start from closes the gap that "from now on" has after a reconnect.
    let (mut after, header) = start(session).await?;
    session.printer.watch_begins(&header)?;
    after = match args.after {
        // On the wire 0 means "from now on": the first change is read from the history.
        Some(0) if after > 0 => first(session, &header).await?,
        from => from.unwrap_or(after),
    };
    let mut told = false;
    loop {
        let request = WatchRequest { environment: session.environment.clone(), after_revision: after };
        let rpc = |mut client: Client, request| async move { client.watch(request).await };
        match session.ask(request, rpc).await {
            Ok(answered) => {
                told = false;
                after = print(session, &header, answered.answer, after).await?;
            }
            Err(failure @ (Failure::NotReached(_) | Failure::OutcomeUnknown { .. })) => {
                if !std::mem::replace(&mut told, true) {
                    session.printer.failure(None, &failure);
                    session.printer.remark("watching goes on as soon as a server is there");
                }
            }
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn start(session: &Session) -> Result<(u64, Header), Failure> {
    let request =
        HistoryRequest { environment: session.environment.clone(), limit: 1, ..HistoryRequest::default() };
    let rpc = |mut client: Client, request| async move { client.history(request).await };
    let answered = session.ask(request, rpc).await?;
    let header = session.header(&answered.answer.server, &answered.server);
    Ok((answered.answer.position.map_or(0, |position| position.revision), header))
}

/// Prints the first change of all; its revision.
async fn first(session: &Session, header: &Header) -> Result<u64, Failure> {
    let environment = session.environment.clone();
    let request = HistoryRequest { environment, limit: 1, before_revision: 2, ..HistoryRequest::default() };
    let rpc = |mut client: Client, request| async move { client.history(request).await };
    for change in session.ask(request, rpc).await?.answer.changes {
        session.printer.watch_event(header, &change)?;
    }
    Ok(1)
}

/// Prints until the stream breaks off; the last revision that was printed.
async fn print(
    session: &Session,
    header: &Header,
    mut stream: Streaming<WatchEvent>,
    mut after: u64,
) -> Result<u64, Failure> {
    while let Ok(Some(event)) = stream.message().await {
        let Some(change) = event.change else { continue };
        session.printer.watch_event(header, &change)?;
        after = change.revision;
    }
    Ok(after)
}
