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
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;

use super::connection::ready::Woken;
use super::gate::{Away, Gate};
use crate::http2::{Ends, Outlet, Reason};
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
use inbound::{Heard, Inbound};
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
    pub(crate) fn is_for(request: &Parts) -> bool {
        let method = request.uri.path().strip_prefix('/').and_then(|path| path.strip_prefix(SERVICE_NAME));
        method == Some("/Follow") && request.method == Method::POST
    }

    /// Answers at once, and then for as long as the client follows: `None` when that was all that there is to say.
    /// What wakes the session when its environment's bell rings is `ear`.
    pub(crate) fn open(
        &self,
        headers: &HeaderMap,
        outlet: &mut Outlet<'_>,
        peer: SocketAddr,
        ear: Arc<dyn Ear>,
    ) -> Option<Session> {
        if let Err(answer) = speaks_our_language(headers) {
            outlet.begin(answer.status(), answer.headers(), Ends::Here);
            return None;
        }
        let encoding = encoding(headers);
        let mut answer = HeaderMap::new();
        answer.insert(header::CONTENT_TYPE, GRPC);
        if encoding == Encoding::Gzip {
            // What is compressed says so itself: changes are not.
            answer.insert("grpc-encoding", GZIP);
        }
        outlet.begin(StatusCode::OK, &answer, Ends::Later);
        let opening = Opening { peer, ear, encoding };
        let (say, first) = oneshot::channel();
        let greeting = Box::pin(Waiting::new(self.clone(), opening).greet(first));
        Some(Session {
            stage: Stage::Waiting { greeting, say: Some(say), kept_bytes: 0 },
            inbound: Inbound::default(),
            sending: Bytes::new(),
            patience: None,
        })
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
    inbound: Inbound,
    /// What is left of the frame that is being written.
    sending: Bytes,
    /// How long it waits for room for its farewell, if there is none.
    patience: Option<Pin<Box<Sleep>>>,
}

enum Stage {
    /// What the client says first goes to the greeting; the rest is kept for later, and it may say no more meanwhile than
    /// its window holds.
    Waiting {
        greeting: Pin<Box<dyn Future<Output = Result<Following, Farewell>> + Send>>,
        say: Option<oneshot::Sender<Result<Heard, Status>>>,
        kept_bytes: usize,
    },
    Following(Box<Following>),
    Leaving(Farewell),
}

/// Whether a session wants to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    /// It does, now.
    ALook,
    /// When something wakes it.
    Nothing,
}

/// How a stream ends.
enum Farewell {
    /// With one last message.
    Say(Frame),
    /// With an error.
    Fail(Status),
    /// Without a word: the client has gone, or knows.
    Silent,
    /// It has ended.
    Given,
}

impl Session {
    /// Hears what the client says.
    pub(crate) fn hear(
        &mut self,
        mut came: &[u8],
        ends: Ends,
        now: Instant,
        outlet: &mut Outlet<'_>,
    ) -> Wants {
        match &mut self.stage {
            Stage::Waiting { say, kept_bytes, .. } => {
                *kept_bytes += came.len();
                self.inbound.keep(came, ends);
                if let Some(waits) = say.take() {
                    match self.inbound.next(&mut &[][..]) {
                        Ok(Heard::Nothing) => *say = Some(waits),
                        // The greeting rings when it was heard, or waits no longer.
                        first => drop(waits.send(first)),
                    }
                }
                Wants::Nothing
            }
            Stage::Following(_) => {
                outlet.release(came.len());
                self.inbound.ended(ends);
                self.hear_messages(&mut came, now)
            }
            Stage::Leaving(_) => {
                outlet.release(came.len());
                Wants::Nothing
            }
        }
    }

    fn hear_messages(&mut self, came: &mut &[u8], now: Instant) -> Wants {
        let Stage::Following(following) = &mut self.stage else { return Wants::Nothing };
        loop {
            let heard = self.inbound.next(came);
            if matches!(heard, Ok(Heard::Nothing)) {
                return if following.is_due() { Wants::ALook } else { Wants::Nothing };
            }
            if let Err(farewell) = following.hear(heard, now) {
                self.stage = Stage::Leaving(farewell);
                return Wants::ALook;
            }
        }
    }

    /// Says what there is to say, as far as the client takes it. Ready when it was all. What it waits for rings `context`,
    /// which has happened as far as `woken` tells.
    pub(crate) fn poll(
        &mut self,
        context: &mut Context<'_>,
        woken: Woken,
        now: Instant,
        outlet: &mut Outlet<'_>,
    ) -> Poll<()> {
        if let Stage::Following(following) = &mut self.stage {
            following.woken(woken);
        }
        loop {
            match &mut self.stage {
                Stage::Waiting { greeting, kept_bytes, .. } => {
                    let greeted = ready!(greeting.as_mut().poll(context));
                    outlet.release(*kept_bytes);
                    match greeted {
                        Ok(following) => self.stage = Stage::Following(Box::new(following)),
                        Err(farewell) => self.stage = Stage::Leaving(farewell),
                    }
                    self.hear_messages(&mut &[][..], now);
                }
                Stage::Following(following) => match following.look(context, now) {
                    Ok(Outlook::Quiet) if self.sending.is_empty() => return Poll::Pending,
                    Ok(_) => ready!(self.poll_write(now, outlet)),
                    Err(farewell) => self.stage = Stage::Leaving(farewell),
                },
                Stage::Leaving(_) => return self.poll_farewell(context, outlet),
            }
        }
    }

    /// Writes what there is room for: ready when it is worth to look again.
    fn poll_write(&mut self, now: Instant, outlet: &mut Outlet<'_>) -> Poll<()> {
        let Stage::Following(following) = &mut self.stage else { return Poll::Ready(()) };
        let room = outlet.room();
        if room == 0 {
            // It is looked at again when a heartbeat is due.
            if following.is_stuck(now) {
                tracing::debug!("a client takes nothing; its stream is ended");
                outlet.reset(Reason::Cancel);
                self.sending.clear();
                self.stage = Stage::Leaving(Farewell::Given);
                return Poll::Ready(());
            }
            return Poll::Pending;
        }
        if self.sending.is_empty() {
            let Some(frame) = following.next_frame(now) else { return Poll::Ready(()) };
            self.sending = frame.into_data();
        }
        following.has_written(now);
        self.send(room, outlet);
        Poll::Ready(())
    }

    fn send(&mut self, room: usize, outlet: &mut Outlet<'_>) {
        if self.sending.len() <= room {
            outlet.data(&std::mem::take(&mut self.sending), Ends::Later);
        } else {
            outlet.data(&self.sending.split_to(room), Ends::Later);
        }
    }

    /// Says the last word, behind what was begun, or gives up when the client takes nothing.
    fn poll_farewell(&mut self, context: &mut Context<'_>, outlet: &mut Outlet<'_>) -> Poll<()> {
        while let Stage::Leaving(farewell) = &mut self.stage {
            if let Farewell::Say(frame) = farewell
                && self.sending.is_empty()
            {
                self.sending = frame.clone().into_data();
                *farewell = Farewell::Silent;
            }
            if !self.sending.is_empty() {
                let room = outlet.room();
                if room > 0 {
                    self.send(room, outlet);
                    self.patience = None;
                    continue;
                }
                let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(limits::FAREWELL_MAX)));
                ready!(patience.as_mut().poll(context));
                tracing::debug!("a client takes nothing; its stream is ended");
                outlet.reset(Reason::Cancel);
                break;
            }
            match farewell {
                Farewell::Fail(status) => outlet.trailers(&trailers(status)),
                Farewell::Say(_) | Farewell::Silent => outlet.trailers(&trailers(&Status::ok(""))),
                Farewell::Given => {}
            }
            break;
        }
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
