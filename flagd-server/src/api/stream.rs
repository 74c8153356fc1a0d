//! `flagd.stream.v1.Stream/Follow`: one session per stream, as docs/protocol.md says under "The server's half".
//!
//! A session has no task of its own: its HTTP/2 connection looks at it when it was woken (`connection::http2`). What may
//! be sent is decided in `hub::subscriber` and `hub::resume`; here is only who says what when. A stream that ends without
//! `Bye`, in whatever way, leaves its client as lost.
//!
//! gRPC's frames are put around messages here and in `inbound` rather than by tonic: its codec would keep a buffer for each
//! stream and copy into it, for each subscriber, what is encoded once for all (docs/decisions/015).

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use flagd_proto::frame::Frame;
use flagd_proto::stream::stream_server::SERVICE_NAME;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;

use super::connection::answer::poll_room;
use super::connection::ready::{Wakers, Woken};
use super::gate::{Away, Gate};
use crate::hub::bell::Ear;
use crate::hub::fulls::Encoding;
use crate::hub::{Hub, frames};
use crate::limits::{self, Admission};
use crate::metrics::ServerMetrics;

mod following;
mod hello;
mod inbound;
mod waiting;

use following::{Following, Outlook};
use inbound::Inbound;
use waiting::Waiting;

/// The name of the service, for those who ask for its health.
pub(crate) const NAME: &str = SERVICE_NAME;
const GZIP: HeaderValue = HeaderValue::from_static("gzip");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// The stream service.
#[derive(Clone, Debug)]
pub(crate) struct StreamService {
    hub: Arc<Hub>,
    metrics: Arc<ServerMetrics>,
    gate: Arc<Gate>,
}

impl StreamService {
    /// The service for connections.
    pub(crate) fn new(hub: Arc<Hub>, metrics: Arc<ServerMetrics>, admission: &Admission) -> StreamService {
        let gate = Arc::new(Gate::new(admission, std::time::Instant::now()));
        StreamService { hub, metrics, gate }
    }

    /// Whether a request is for this service.
    pub(crate) fn is_for<T>(request: &Request<T>) -> bool {
        let method = request.uri().path().strip_prefix('/').and_then(|path| path.strip_prefix(SERVICE_NAME));
        method == Some("/Follow") && request.method() == Method::POST
    }

    /// Answers at once, and then for as long as the client follows: `None` when that was all that there is to say.
    /// What wakes the session when its environment's bell rings is `ear`.
    pub(crate) fn open(
        &self,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        peer: SocketAddr,
        ear: Arc<dyn Ear>,
    ) -> Option<Session> {
        if let Err(answer) = speaks_our_language(request.headers()) {
            // Who has gone already needs no answer.
            let _ = respond.send_response(answer, true);
            return None;
        }
        let encoding = encoding(request.headers());
        let mut answer = Response::new(());
        answer.headers_mut().insert(header::CONTENT_TYPE, GRPC);
        if encoding == Encoding::Gzip {
            // What is compressed says so itself: changes are not.
            answer.headers_mut().insert("grpc-encoding", GZIP);
        }
        let out = respond.send_response(answer, false).ok()?;
        let inbound = Inbound::new(request.into_body());
        let opening = Opening { peer, ear, encoding };
        let greeting = Box::pin(Waiting::new(self.clone(), opening).greet(inbound));
        Some(Session { stage: Stage::Waiting(greeting), out, patience: None })
    }
}

/// How a stream was opened.
struct Opening {
    peer: SocketAddr,
    ear: Arc<dyn Ear>,
    encoding: Encoding,
}

/// What a client takes, as it says in gRPC's way.
fn encoding(headers: &HeaderMap) -> Encoding {
    let mut taken = headers.get_all("grpc-accept-encoding").iter().filter_map(|value| value.to_str().ok());
    let takes_gzip = taken.any(|value| value.split(',').any(|one| one.trim() == "gzip"));
    if takes_gzip { Encoding::Gzip } else { Encoding::Plain }
}

/// Or what is answered to one that does not.
fn speaks_our_language(headers: &HeaderMap) -> Result<(), Response<()>> {
    let named = |name: &str| headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
    if !named("content-type").starts_with(GRPC.as_bytes()) {
        // Not gRPC's own way, because whoever asks does not speak it (gRPC's PROTOCOL-HTTP2.md).
        let mut answer = Response::new(());
        *answer.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(answer);
    }
    if !matches!(named("grpc-encoding"), b"" | b"identity") {
        let status = Status::unimplemented("messages must not be compressed");
        return Err(status.into_http::<()>());
    }
    Ok(())
}

/// A stream from its first message to its last.
pub(crate) struct Session {
    stage: Stage,
    out: SendStream<Bytes>,
    /// How long it waits for room for its farewell, if there is none.
    patience: Option<Pin<Box<Sleep>>>,
}

enum Stage {
    Waiting(Pin<Box<dyn Future<Output = Result<Following, Farewell>> + Send>>),
    Following(Box<Following>),
    Leaving(Farewell),
}

/// How a stream ends.
enum Farewell {
    /// With one last message.
    Say(Frame),
    /// With an error.
    Fail(Status),
    /// Without a word: the client has gone, or knows.
    Silent,
}

impl Session {
    /// Hears what the client says, and says what there is to say, as far as it takes that. Ready when it was all. What
    /// it waits for rings `wakers`, which has happened as far as `woken` tells.
    pub(crate) fn poll(&mut self, wakers: &Wakers, woken: Woken, now: Instant) -> Poll<()> {
        let context = &mut Context::from_waker(&wakers.rest);
        if let Stage::Following(following) = &mut self.stage {
            following.woken(woken);
        }
        loop {
            match &mut self.stage {
                Stage::Waiting(greeting) => {
                    self.stage = match ready!(greeting.as_mut().poll(context)) {
                        Ok(following) => Stage::Following(Box::new(following)),
                        Err(farewell) => Stage::Leaving(farewell),
                    };
                }
                Stage::Following(following) => match following.look(wakers, now) {
                    Ok(Outlook::Quiet) => return Poll::Pending,
                    Ok(Outlook::MayHaveNews) => {
                        match poll_room(&mut self.out, context) {
                            Poll::Ready(true) => {}
                            Poll::Ready(false) => return Poll::Ready(()),
                            // It is looked at again when a heartbeat is due.
                            Poll::Pending if following.is_stuck(now) => return self.give_up(),
                            Poll::Pending => return Poll::Pending,
                        }
                        let Some(frame) = following.next_frame(now) else { continue };
                        if self.out.send_data(frame.into_data(), false).is_err() {
                            return Poll::Ready(());
                        }
                    }
                    Err(farewell) => self.stage = Stage::Leaving(farewell),
                },
                Stage::Leaving(_) => return self.poll_farewell(context),
            }
        }
    }

    /// Says the last word, or gives up when the client takes nothing.
    fn poll_farewell(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while let Stage::Leaving(farewell) = &mut self.stage {
            match poll_room(&mut self.out, context) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => break,
                Poll::Pending => {
                    let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(limits::FAREWELL_MAX)));
                    ready!(patience.as_mut().poll(context));
                    return self.give_up();
                }
            }
            let end = match std::mem::replace(farewell, Farewell::Silent) {
                Farewell::Say(frame) => match self.out.send_data(frame.into_data(), false) {
                    Ok(()) => continue,
                    Err(_) => break,
                },
                Farewell::Fail(status) => status,
                Farewell::Silent => Status::ok(""),
            };
            // Who has gone already needs no farewell.
            let _ = self.out.send_trailers(trailers(&end));
            break;
        }
        Poll::Ready(())
    }

    /// The client takes nothing: what was written for it is dropped.
    fn give_up(&mut self) -> Poll<()> {
        tracing::debug!("a client takes nothing; its stream is ended");
        self.out.send_reset(Reason::CANCEL);
        Poll::Ready(())
    }
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        // The text was none that a header can hold; without it the code says enough.
        trailers.clear();
        trailers.insert(Status::GRPC_STATUS, HeaderValue::from(i32::from(status.code())));
    }
    trailers
}

fn go_away(why: &str) -> Farewell {
    go_away_for(Away::Turn(Duration::ZERO), why)
}

fn go_away_for(away: Away, why: &str) -> Farewell {
    // Without randomness everybody comes back at once, which the clients' own jitter still spreads.
    Farewell::Say(frames::go_away(away.retry_after_ms(getrandom::u64().unwrap_or_default()), why))
}

/// Too large, or no message: not just a connection that broke.
fn is_the_clients_fault(status: &Status) -> bool {
    matches!(status.code(), tonic::Code::OutOfRange | tonic::Code::InvalidArgument)
}
