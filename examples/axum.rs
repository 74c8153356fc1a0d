//! A web service that takes one snapshot per request.
//!
//! Everything that a request shows comes from one revision, even when an operator changes flags in the middle of
//! it. It starts with or without a flagd server, and answers `curl 'http://127.0.0.1:3000/?user=user-1'`:
//!
//! ```text
//! cargo run --example axum
//! ```
//!
//! `PORT` says where to listen (3000 unless set), `FLAGD_SERVERS` and `FLAGD_ENVIRONMENT` where to look for flags.

#![expect(clippy::print_stdout, reason = "it says where it listens")]

use std::collections::HashMap;

use axum::Router;
use axum::extract::{Query, State};
use axum::routing::get;
use flagd_client::{Client, Context};
use flagd_examples::client_from_environment;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let flags = client_from_environment("axum").start().await?;
    let port = std::env::var("PORT").unwrap_or_else(|_| "3000".into());
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    println!("listening on http://{}/?user=user-1 ({})", listener.local_addr()?, flags.status().connection);
    let app = Router::new().route("/", get(page)).route("/healthz", get(health)).with_state(flags.clone());
    let ctrl_c = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    axum::serve(listener, app).with_graceful_shutdown(ctrl_c).await?;
    flags.shutdown().await;
    Ok(())
}

/// The page, as this user shall see it.
async fn page(State(flags): State<Client>, Query(query): Query<HashMap<String, String>>) -> String {
    let user = query.get("user").map_or_else(Context::anonymous, |user| Context::new(user.as_str()));
    let user = user.with("country", query.get("country").map(String::as_str));
    // One revision for the whole request; it is let go of at its end.
    let page = flags.snapshot();
    let checkout = if page.is_enabled("new-checkout", &user) { "new" } else { "old" };
    let ranking = page.str("ranking", &user, "v1");
    format!("checkout: {checkout}\nranking: {ranking}\nrevision: {}\n", page.revision())
}

/// Healthy with or without a server: flags never stop a service. It says how old they are.
async fn health(State(flags): State<Client>) -> String {
    let status = flags.status();
    format!("ok\nflags: revision {}, {}, {}\n", status.revision, status.staleness, status.connection)
}
