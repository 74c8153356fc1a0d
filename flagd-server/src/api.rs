//! The edge: one port that speaks gRPC and plain HTTP. Wire types end here.
//!
//! Every handler has its own file. This one puts them into one router and decides what an unknown path gets: an
//! answer in the caller's protocol.

use ::http::{StatusCode, header};
use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use tonic::Status;

pub mod admin;
pub(crate) mod connection;
mod gate;
pub(crate) mod http;
pub(crate) mod peer;
pub mod status;
pub(crate) mod stream;

/// What a path gets that nobody serves.
pub(crate) async fn fallback(request: Request) -> Response {
    let speaks_grpc = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|content| content.as_bytes().starts_with(b"application/grpc"));
    let path = request.uri().path();
    if speaks_grpc {
        return Status::unimplemented(format!("this server has no method {path}"))
            .into_http::<axum::body::Body>();
    }
    (StatusCode::NOT_FOUND, format!("there is nothing at {path}\n")).into_response()
}

/// Puts a gRPC service into a router.
pub(crate) fn with_service<S>(router: Router, service: S) -> Router
where
    S: tower::Service<Request, Error = std::convert::Infallible>
        + tonic::server::NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Response: IntoResponse,
    S::Future: Send + 'static,
{
    router.route_service(&format!("/{}/{{*method}}", S::NAME), service)
}
