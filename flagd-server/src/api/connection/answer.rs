//! Answers one request of an HTTP/2 connection out of the router, in a task of its own.
//!
//! What hyper does for its own connections: the body of the request comes as the handler asks for it, the answer
//! goes out as fast as the client takes it, and a client that gives up ends the work that was begun for it.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::Poll;

use axum::body::Body;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::Body as _;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use tower::Service as _;

use super::exchange::{Answering, Asked, Gone};
use super::{Peer, Services};
use crate::clock::Clock;
use crate::http2::Ends;

/// Answers a request, or gives up when the client does.
pub(super) async fn answer(
    head: Parts,
    asked: Asked,
    mut out: Answering,
    services: Services,
    peer: SocketAddr,
) {
    let Services { mut router, clock, .. } = services;
    let mut request = Request::from_parts(head, Body::new(asked));
    request.extensions_mut().insert(Peer { address: peer });
    let mut answering = pin!(router.call(request));
    let answered = std::future::poll_fn(|context| {
        if let Poll::Ready(Ok(response)) = answering.as_mut().poll(context) {
            return Poll::Ready(Ok(response));
        }
        out.poll_gone(context).map(Err)
    });
    let sent = match answered.await {
        Ok(response) => send(response, &mut out, &clock).await,
        Err(gone) => Err(gone),
    };
    if let Err(error) = sent {
        tracing::debug!(%peer, %error, "an answer was not sent");
    }
}

async fn send(response: Response<Body>, out: &mut Answering, clock: &Clock) -> Result<(), Gone> {
    let (mut head, mut body) = response.into_parts();
    date(&mut head.headers, clock);
    let ends = |body: &Body| if body.is_end_stream() { Ends::Here } else { Ends::Later };
    let mut ended = ends(&body);
    out.head(head.status, head.headers, ended);
    while ended == Ends::Later {
        std::future::poll_fn(|context| out.poll_room(context)).await?;
        // Who gives up while nothing is to be said is noticed too: an answer may wait for hours.
        let frame = std::future::poll_fn(|context| match Pin::new(&mut body).poll_frame(context) {
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            Poll::Pending => out.poll_gone(context).map(Err),
        });
        match frame.await? {
            None => {
                out.data(bytes::Bytes::new(), Ends::Here);
                return Ok(());
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "an answer broke off");
                return Ok(());
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    ended = ends(&body);
                    out.data(data, ended);
                }
                Err(frame) => {
                    out.trailers(frame.into_trailers().unwrap_or_default());
                    return Ok(());
                }
            },
        }
    }
    Ok(())
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
