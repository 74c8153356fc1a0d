//! Gets an answer from one of several servers.
//!
//! At 3 a.m. one of three servers may be gone, or worse: it accepts connections and says nothing. So servers are
//! asked in turn, and a server that has been silent for [`PATIENCE`] no longer holds up the next; both are then
//! asked at once and the first answer counts. That is safe because a change carries the same request id to each
//! of them. What cannot be told apart by waiting longer - was it recorded? - is asked again with the same id
//! until the deadline, and if nobody says, the failure says that nobody knows.
//!
//! This file knows how to reach servers, not what is asked of them.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flagd_proto::Message;
use flagd_proto::admin::admin_client::AdminClient;
use flagd_proto::admin::{ErrorCode, ErrorDetail};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use crate::error::{Failure, Tried};

/// A connected server.
pub(crate) type Client = AdminClient<Channel>;

/// How long one server's silence holds up the next.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long all attempts may take together.
const DEADLINE: Duration = Duration::from_secs(15);
/// Between two rounds through all servers.
const PAUSE: Duration = Duration::from_millis(250);
/// Largest answer; a list of 100,000 flags fits.
const ANSWER_MAX_BYTES: usize = 256 * 1024 * 1024;

/// The servers, in the order in which they are asked.
#[derive(Debug)]
pub(crate) struct Servers {
    list: Vec<Server>,
    /// The one that answered last, which is asked first.
    preferred: AtomicUsize,
    /// How long all attempts may take together.
    deadline: Duration,
}

#[derive(Clone, Debug)]
struct Server {
    /// `127.0.0.1:8013`, for people.
    name: String,
    endpoint: Endpoint,
}

/// An answer and who gave it.
#[derive(Debug)]
pub(crate) struct Answered<T> {
    /// The answer.
    pub answer: T,
    /// The server's address.
    pub server: String,
}

/// How one attempt failed.
enum Attempt {
    /// There was no connection: nothing was asked.
    NotReached(String),
    /// It was asked, and its answer is not known or not final.
    Unclear(String),
    /// It said no.
    Refused(Box<ErrorDetail>),
}

impl Servers {
    /// Reads the addresses.
    pub(crate) fn new(addresses: &[String]) -> Result<Servers, Failure> {
        let mut list = Vec::new();
        for address in addresses.iter().map(|address| address.trim()).filter(|address| !address.is_empty()) {
            list.push(server(address).map_err(Failure::Usage)?);
        }
        if list.is_empty() {
            return Err(Failure::Usage("no server is named; see --server and FLAGD_SERVERS".into()));
        }
        Ok(Servers { list, preferred: AtomicUsize::new(0), deadline: DEADLINE })
    }

    /// The server that would be asked first.
    pub(crate) fn first_name(&self) -> &str {
        let preferred = self.preferred.load(Ordering::Relaxed);
        self.list.get(preferred).map_or("", |server| server.name.as_str())
    }

    /// Asks until somebody answers. `request_id` tells that a change is asked for.
    pub(crate) async fn call<Req, Resp, Rpc, Fut>(
        &self,
        request: Req,
        request_id: Option<&str>,
        rpc: Rpc,
    ) -> Result<Answered<Resp>, Failure>
    where
        Req: Clone + Send + 'static,
        Resp: Send + 'static,
        Rpc: Fn(Client, Req) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<Response<Resp>, Status>> + Send + 'static,
    {
        let deadline = Instant::now() + self.deadline;
        loop {
            let mut tried = Vec::new();
            match self.round(&request, &rpc, deadline, &mut tried).await {
                Round::Answered(answered) => return Ok(answered),
                Round::Refused(detail) => return Err(Failure::Refused(detail)),
                Round::NobodyReached => return Err(Failure::NotReached(tried)),
                Round::Unclear if Instant::now() + PAUSE >= deadline => {
                    return Err(Failure::OutcomeUnknown {
                        tried,
                        request_id: request_id.map(ToOwned::to_owned),
                    });
                }
                Round::Unclear => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Asks each server once, the next as soon as one has failed or been silent for too long.
    async fn round<Req, Resp, Rpc, Fut>(
        &self,
        request: &Req,
        rpc: &Rpc,
        deadline: Instant,
        tried: &mut Vec<Tried>,
    ) -> Round<Resp>
    where
        Req: Clone + Send + 'static,
        Resp: Send + 'static,
        Rpc: Fn(Client, Req) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<Response<Resp>, Status>> + Send + 'static,
    {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut waiting = (0..self.list.len()).map(|offset| (first + offset) % self.list.len());
        let mut attempts = JoinSet::new();
        let mut asked = false;
        let mut next_at = Instant::now();
        let mut more = true;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(next_at), if more => match waiting.next() {
                    Some(number) => {
                        if let Some(server) = self.list.get(number) {
                            attempts.spawn(attempt(number, server.clone(), request.clone(), rpc.clone(), deadline));
                        }
                        next_at = Instant::now() + PATIENCE;
                    }
                    None => more = false,
                },
                Some(done) = attempts.join_next() => {
                    // A task that panicked counts like a server that did not answer.
                    let Ok((number, result)) = done else { asked = true; continue };
                    let name = self.list.get(number).map_or_else(String::new, |server| server.name.clone());
                    match result {
                        Ok(answer) => {
                            self.preferred.store(number, Ordering::Relaxed);
                            return Round::Answered(Answered { answer, server: name });
                        }
                        Err(Attempt::Refused(detail)) => {
                            self.preferred.store(number, Ordering::Relaxed);
                            return Round::Refused(detail);
                        }
                        Err(Attempt::NotReached(why)) => tried.push(Tried { server: name, why }),
                        Err(Attempt::Unclear(why)) => {
                            asked = true;
                            tried.push(Tried { server: name, why });
                        }
                    }
                    next_at = Instant::now();
                }
                else => return if asked { Round::Unclear } else { Round::NobodyReached },
            }
        }
    }
}

enum Round<T> {
    Answered(Answered<T>),
    Refused(Box<ErrorDetail>),
    NobodyReached,
    Unclear,
}

async fn attempt<Req, Resp, Rpc, Fut>(
    number: usize,
    server: Server,
    request: Req,
    rpc: Rpc,
    deadline: Instant,
) -> (usize, Result<Resp, Attempt>)
where
    Rpc: Fn(Client, Req) -> Fut,
    Fut: Future<Output = Result<Response<Resp>, Status>>,
{
    let connecting = tokio::time::timeout(PATIENCE, server.endpoint.connect());
    let channel = match connecting.await {
        Ok(Ok(channel)) => channel,
        Ok(Err(error)) => return (number, Err(Attempt::NotReached(root_cause(&error)))),
        Err(_) => return (number, Err(Attempt::NotReached("no connection within 1 s".into()))),
    };
    let client = AdminClient::new(channel).max_decoding_message_size(ANSWER_MAX_BYTES);
    let result = match tokio::time::timeout_at(deadline, rpc(client, request)).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(classify(&status)),
        Err(_) => Err(Attempt::Unclear("no answer".into())),
    };
    (number, result)
}

/// The innermost error says what happened; the outer ones only say `transport error`.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn classify(status: &Status) -> Attempt {
    let detail = ErrorDetail::decode(status.details()).unwrap_or_default();
    match (detail.code(), status.code()) {
        (ErrorCode::OutcomeUnknown | ErrorCode::Unavailable, _) => Attempt::Unclear(detail.message),
        (
            ErrorCode::Unspecified,
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown,
        ) => Attempt::Unclear(if status.message().is_empty() {
            root_cause(status)
        } else {
            status.message().to_owned()
        }),
        _ => Attempt::Refused(Box::new(detail_of(status))),
    }
}

/// What the server said, in its own words; of an answer without words, what its code means.
pub(crate) fn detail_of(status: &Status) -> ErrorDetail {
    let mut detail = ErrorDetail::decode(status.details()).unwrap_or_default();
    if detail.message.is_empty() {
        detail.message = match status.message() {
            "" => status.code().description().to_owned(),
            message => message.to_owned(),
        };
    }
    if detail.code() == ErrorCode::Unspecified && status.code() == Code::Unimplemented {
        detail.hint = "this server does not know the command; is it older than flagctl?".into();
    }
    detail
}

fn server(address: &str) -> Result<Server, String> {
    // Not repeated: there may be a password in it.
    if address.contains('@') {
        return Err("a server's address holds no user and no password; write http://127.0.0.1:8013".into());
    }
    let uri = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let wrong = |why: &str| format!("`{address}` is no server's address: {why}; write http://127.0.0.1:8013");
    let Some(name) = uri.strip_prefix("http://") else {
        return Err(wrong("only http:// is known"));
    };
    let endpoint = Endpoint::from_shared(uri.clone()).map_err(|error| wrong(&root_cause(&error)))?;
    if endpoint.uri().port_u16().is_none() {
        return Err(wrong("the port is missing"));
    }
    let endpoint = endpoint
        .connect_timeout(PATIENCE)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true);
    Ok(Server { name: name.trim_end_matches('/').to_owned(), endpoint })
}

#[cfg(test)]
mod tests;
