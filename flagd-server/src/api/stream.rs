//! `flagd.stream.v1.Stream/Follow`: one session per stream, as docs/protocol.md says under "The server's half".
//!
//! A session has no task of its own: it is the body of the answer, and the HTTP/2 connection polls it when it can
//! write. What may be sent is decided in `hub::subscriber` and `hub::resume`; here is only who says what when. A stream
//! that ends without `Bye`, in whatever way, leaves its client as lost.
//!
//! gRPC's frames are put around messages here and in `inbound` rather than by tonic: its codec would keep a buffer for each
//! stream and copy into it, for each subscriber, what is encoded once for all (docs/decisions/015).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{MethodRouter, post};
use flagd_proto::frame::Frame;
use flagd_proto::stream::stream_server::SERVICE_NAME;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tonic::Status;

use super::connection::{OpenStream, Peer};
use super::gate::{Away, Gate};
use crate::hub::{Hub, frames};
use crate::limits::Admission;
use crate::metrics::ServerMetrics;

mod following;
mod hello;
mod inbound;
mod waiting;

use following::Following;
use inbound::Inbound;
use waiting::Waiting;

/// The name of the service, for those who ask for its health.
pub(crate) const NAME: &str = SERVICE_NAME;
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// The stream service.
#[derive(Clone, Debug)]
pub(crate) struct StreamService {
    hub: Arc<Hub>,
    metrics: Arc<ServerMetrics>,
    gate: Arc<Gate>,
}

impl StreamService {
    /// The service for a router, and its path.
    pub(crate) fn route(
        hub: Arc<Hub>,
        metrics: Arc<ServerMetrics>,
        admission: &Admission,
    ) -> (String, MethodRouter) {
        let gate = Gate::new(admission, Instant::now());
        let service = StreamService { hub, metrics, gate: Arc::new(gate) };
        (format!("/{SERVICE_NAME}/Follow"), post(follow).with_state(service))
    }
}

/// Answers at once, with a body that goes on for as long as the client follows.
async fn follow(State(service): State<StreamService>, request: Request) -> Response {
    let headers = request.headers();
    let named = |name: &str| headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
    if !named("content-type").starts_with(GRPC.as_bytes()) {
        let mut response = Response::new(Body::from("this path speaks gRPC only\n"));
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    }
    if !matches!(named("grpc-encoding"), b"" | b"identity") {
        return Status::unimplemented("messages must not be compressed").into_http();
    }
    let address = request.extensions().get::<Peer>().map(|peer| peer.address.to_string()).unwrap_or_default();
    let open = request.extensions().get::<Peer>().map(Peer::open_stream);
    let inbound = Inbound::new(request.into_body());
    let greeting = Box::pin(Waiting::new(service, address).greet(inbound));
    let session = Session { stage: Stage::Waiting(greeting), _open: open };
    let mut response = Response::new(Body::new(session));
    response.headers_mut().insert(header::CONTENT_TYPE, GRPC);
    response
}

/// A stream from its first message to its last: the body of an answer.
struct Session {
    stage: Stage,
    /// Tells the connection that it carries this stream.
    _open: Option<OpenStream>,
}

enum Stage {
    Waiting(Pin<Box<dyn Future<Output = Result<Following, Farewell>> + Send>>),
    Following(Box<Following>),
    Leaving(Farewell),
    Left,
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

impl http_body::Body for Session {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        loop {
            match &mut self.stage {
                Stage::Waiting(greeting) => {
                    let greeted = ready!(greeting.as_mut().poll(context));
                    self.stage = match greeted {
                        Ok(following) => Stage::Following(Box::new(following)),
                        Err(farewell) => Stage::Leaving(farewell),
                    };
                }
                Stage::Following(following) => match ready!(following.poll_next(context)) {
                    Ok(frame) => return data(frame),
                    Err(farewell) => self.stage = Stage::Leaving(farewell),
                },
                Stage::Leaving(farewell) => {
                    let status = match std::mem::replace(farewell, Farewell::Silent) {
                        Farewell::Say(frame) => return data(frame),
                        Farewell::Fail(status) => status,
                        Farewell::Silent => Status::ok(""),
                    };
                    self.stage = Stage::Left;
                    return Poll::Ready(Some(Ok(http_body::Frame::trailers(trailers(&status)))));
                }
                Stage::Left => return Poll::Ready(None),
            }
        }
    }
}

fn data(frame: Frame) -> Poll<Option<Result<http_body::Frame<Bytes>, std::convert::Infallible>>> {
    Poll::Ready(Some(Ok(http_body::Frame::data(frame.into_data()))))
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
