//! Answers one request of an HTTP/2 connection out of the router.
//!
//! What hyper does for its own connections: the body of the request comes as the handler asks for it, the answer
//! goes out as fast as the client takes it, and a client that gives up ends the work that was begun for it.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::{Body as _, Frame};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use tower::Service as _;

use super::{Peer, Services};
use crate::clock::Clock;

/// Answers a request, or gives up when the client does.
pub(super) async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    services: Services,
    peer: SocketAddr,
) {
    let Services { mut router, clock, .. } = services;
    let mut request = request.map(|body| Body::new(Asked(body)));
    request.extensions_mut().insert(Peer { address: peer });
    let mut answering = pin!(router.call(request));
    let answered = std::future::poll_fn(|context| {
        if let Poll::Ready(Ok(response)) = answering.as_mut().poll(context) {
            return Poll::Ready(Some(response));
        }
        respond.poll_reset(context).map(|_| None)
    });
    let Some(response) = answered.await else { return };
    if let Err(error) = send(response, &mut respond, &clock).await {
        tracing::debug!(%peer, %error, "an answer was not sent");
    }
}

async fn send(
    response: Response<Body>,
    respond: &mut SendResponse<Bytes>,
    clock: &Clock,
) -> Result<(), h2::Error> {
    let (mut head, mut body) = response.into_parts();
    date(&mut head.headers, clock);
    let head = Response::from_parts(head, ());
    if body.is_end_stream() {
        respond.send_response(head, true)?;
        return Ok(());
    }
    let mut out = respond.send_response(head, false)?;
    loop {
        if !std::future::poll_fn(|context| poll_room(&mut out, context)).await {
            return Ok(());
        }
        // Who gives up while nothing is to be said is noticed too: an answer may wait for hours.
        let frame = std::future::poll_fn(|context| match Pin::new(&mut body).poll_frame(context) {
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            Poll::Pending => out.poll_reset(context).map(|_| Err(())),
        });
        let Ok(frame) = frame.await else { return Ok(()) };
        match frame {
            None => return out.send_data(Bytes::new(), true),
            Some(Err(error)) => {
                tracing::debug!(%error, "an answer broke off");
                out.send_reset(Reason::INTERNAL_ERROR);
                return Ok(());
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => out.send_data(data, body.is_end_stream())?,
                Err(frame) => return out.send_trailers(frame.into_trailers().unwrap_or_default()),
            },
        }
        if body.is_end_stream() {
            return Ok(());
        }
    }
}

/// Waits until the client takes more; whether it does.
pub(crate) fn poll_room(out: &mut SendStream<Bytes>, context: &mut Context<'_>) -> Poll<bool> {
    if out.capacity() > 0 {
        return Poll::Ready(true);
    }
    out.reserve_capacity(1);
    while out.capacity() == 0 {
        match ready!(out.poll_capacity(context)) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Poll::Ready(false),
        }
    }
    Poll::Ready(true)
}

/// When the answer was made, as HTTP wants it (RFC 9110, 6.6.1).
fn date(headers: &mut HeaderMap, clock: &Clock) {
    if let Ok(now_ms) = i64::try_from(clock.now_ms())
        && let Ok(now) = Timestamp::from_millisecond(now_ms)
        && let Ok(now) = DateTimePrinter::new().timestamp_to_rfc9110_string(&now)
        && let Ok(now) = HeaderValue::try_from(now)
    {
        headers.entry(header::DATE).or_insert(now);
    }
}

/// The body of a request.
struct Asked(RecvStream);

impl http_body::Body for Asked {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match ready!(poll_data(&mut self.0, context)) {
            Some(data) => Poll::Ready(Some(data.map(Frame::data))),
            None => match ready!(self.0.poll_trailers(context)) {
                Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
                Err(error) => Poll::Ready(Some(Err(error))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

/// What comes next of a request, and lets the client send as much more.
pub(crate) fn poll_data(
    body: &mut RecvStream,
    context: &mut Context<'_>,
) -> Poll<Option<Result<Bytes, h2::Error>>> {
    match ready!(body.poll_data(context)) {
        Some(Ok(data)) => {
            // It fails only for more than has come.
            let _ = body.flow_control().release_capacity(data.len());
            Poll::Ready(Some(Ok(data)))
        }
        // Who has said all it wanted may close its half like this.
        Some(Err(error)) if matches!(error.reason(), Some(Reason::NO_ERROR | Reason::CANCEL)) => {
            Poll::Ready(None)
        }
        other => Poll::Ready(other),
    }
}
