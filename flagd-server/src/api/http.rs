//! Plain HTTP for machines that look after the server: `/healthz`, `/readyz`, `/metrics`.
//!
//! `healthz` says that the process answers. `readyz` says whether it should be sent clients: every view is fresh and
//! the server is not about to stop; clients that are connected are served either way. No flag's name appears here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::http::{StatusCode, header};
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::cluster::Cluster;
use crate::hub::{ClientCounts, Environment, Hub};
use crate::limits;
use crate::metrics::{Divergences, EnvironmentMetrics, ServerMetrics, Text};
use crate::store::Quota;

/// How long `/metrics` waits for the store to say how full it is.
const QUOTA_WAIT_MAX: Duration = Duration::from_secs(1);

/// What the handlers look at.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    /// The environments.
    pub(crate) hub: Arc<Hub>,
    /// All servers.
    pub(crate) cluster: Arc<Cluster>,
    /// The server's counters.
    pub(crate) metrics: Arc<ServerMetrics>,
    /// When it was started.
    pub(crate) started: Instant,
}

/// The three paths.
pub(crate) fn routes(watched: Watched) -> Router {
    Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(watched)
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Readiness {
    ready: bool,
    stopping: bool,
    /// Why there is no environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    vacant: Option<String>,
    environments: Vec<EnvironmentReadiness>,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct EnvironmentReadiness {
    name: String,
    revision: u64,
    view_age_ms: u64,
    fresh: bool,
}

fn readiness(hub: &Hub) -> Readiness {
    let (stopping, vacant) = (hub.is_closing(), hub.vacancy());
    let environments: Vec<_> = hub
        .environments()
        .iter()
        .map(|environment| {
            let view_age_ms = environment.view_age_ms();
            EnvironmentReadiness {
                name: environment.name().to_string(),
                revision: environment.view().state.revision().0,
                view_age_ms,
                fresh: view_age_ms <= limits::VIEW_AGE_MAX_MS,
            }
        })
        .collect();
    let ready = !stopping && vacant.is_none() && environments.iter().all(|environment| environment.fresh);
    Readiness { ready, stopping, vacant, environments }
}

async fn readyz(State(watched): State<Watched>) -> Response {
    let readiness = readiness(&watched.hub);
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    match serde_json::to_vec(&readiness) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn metrics(State(watched): State<Watched>) -> Response {
    let quota = match tokio::time::timeout(QUOTA_WAIT_MAX, watched.hub.log().quota()).await {
        Ok(Ok(quota)) => Some(quota),
        Ok(Err(_)) | Err(_) => None,
    };
    let mut text = Text::default();
    server_metrics(&mut text, &watched, quota);
    let counted = watched.hub.environments().into_iter().map(async |environment| {
        let merged = watched.cluster.ask(&environment).await;
        let counts = ClientCounts::of(&merged.clients);
        let relays = merged.relays.len();
        let away = merged.relays.iter().filter(|relay| relay.address.is_none()).count();
        Counted { environment, counts, unanswered: merged.unanswered.len(), relays: relays - away, away }
    });
    let counted = futures_util::future::join_all(counted).await;
    environment_metrics(&mut text, &counted);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text.into_string()).into_response()
}

fn server_metrics(text: &mut Text, watched: &Watched, quota: Option<Quota>) {
    let metrics = &watched.metrics;
    let rows: [(&str, &str, &str, u64); 6] = [
        ("flagd_uptime_seconds", "gauge", "Since the process serves.", watched.started.elapsed().as_secs()),
        ("flagd_connections_open", "gauge", "Connections open now.", metrics.connections_open.get()),
        ("flagd_connections_total", "counter", "Connections taken.", metrics.connections.get()),
        (
            "flagd_connections_refused_total",
            "counter",
            "Connections turned away because there were too many.",
            metrics.connections_refused.get(),
        ),
        (
            "flagd_hellos_refused_total",
            "counter",
            "Streams refused at their Hello.",
            metrics.hellos_refused.get(),
        ),
        (
            "flagd_hellos_put_off_total",
            "counter",
            "Streams told to come back later because too many came at once.",
            metrics.hellos_put_off.get(),
        ),
    ];
    for (name, kind, help, value) in rows {
        text.metric(name, kind, help);
        text.sample(name, &[], value);
    }
    text.metric("flagd_store_up", "gauge", "1 when the store said how full it is.");
    text.sample("flagd_store_up", &[], u8::from(quota.is_some()));
    text.metric(
        "flagd_store_vacant",
        "gauge",
        "1 when the store has lost its environments and none is served.",
    );
    text.sample("flagd_store_vacant", &[], u8::from(watched.hub.vacancy().is_some()));
    let name = "flagd_store_divergences_total";
    text.metric(name, "counter", "What the store told this server that did not fit, by sort.");
    let told = watched.hub.log().divergences();
    for (sort, count) in [
        ("lost", told.lost),
        ("doubled", told.doubled),
        ("late", told.late),
        ("stale-read", told.stale_reads),
        ("went-back", told.went_back),
    ] {
        text.sample(name, &[("sort", sort)], count);
    }
    if let Some(quota) = quota {
        text.metric("flagd_store_used_bytes", "gauge", "Bytes that the store uses.");
        text.sample("flagd_store_used_bytes", &[], quota.used_bytes);
        text.metric("flagd_store_limit_bytes", "gauge", "Bytes that the store may use.");
        text.sample("flagd_store_limit_bytes", &[], quota.limit_bytes);
    }
}

/// An environment, and what all servers know of its clients.
struct Counted {
    environment: Arc<Environment>,
    counts: ClientCounts,
    unanswered: usize,
    /// Relays that are connected.
    relays: usize,
    /// Relays that are away.
    away: usize,
}

/// A metric of every environment that is the same on every server: its name, help, and where the number is.
type ClusterRow = (&'static str, &'static str, fn(&Counted) -> usize);

const CLUSTER_ROWS: [ClusterRow; 7] = [
    ("flagd_clients_expected", "Clients of all servers that are expected to acknowledge.", |c| {
        c.counts.expected
    }),
    ("flagd_clients_lost", "Expected clients that are connected to no server.", |c| c.counts.lost),
    ("flagd_clients_diverged", "Clients of all servers that cannot reach the digest.", |c| c.counts.diverged),
    ("flagd_refused_entries", "Entries refused, over all clients of all servers.", |c| {
        c.counts.refused_entries
    }),
    ("flagd_servers_unanswered", "Other servers that are there and did not answer.", |c| c.unanswered),
    ("flagd_relays_connected", "Relays behind any server that are connected.", |c| c.relays),
    ("flagd_relays_away", "Relays that are away: until they are back nothing is confirmed.", |c| c.away),
];

/// A metric of every environment: its name, kind, help, and where the number is.
type Row = (&'static str, &'static str, &'static str, fn(&Environment) -> u64);

const ROWS: [Row; 11] = [
    ("flagd_revision", "gauge", "The revision shown.", |e| e.view().state.revision().0),
    (
        "flagd_view_age_milliseconds",
        "gauge",
        "Since the view was known to be the head.",
        Environment::view_age_ms,
    ),
    ("flagd_streams_open", "gauge", "Streams that have said hello.", |e| e.metrics().streams_open.get()),
    ("flagd_alarms", "gauge", "Alarms raised since the start.", |e| whole(e.alarms().len())),
    ("flagd_deltas_sent_total", "counter", "Changes put on streams.", |e| e.metrics().deltas_sent.get()),
    ("flagd_fulls_sent_total", "counter", "Full states put on streams.", |e| e.metrics().fulls_sent.get()),
    ("flagd_up_to_dates_sent_total", "counter", "Streams that had missed nothing.", |e| {
        e.metrics().up_to_dates_sent.get()
    }),
    ("flagd_catch_ups_sent_total", "counter", "Streams resumed by what they missed.", |e| {
        e.metrics().catch_ups_sent.get()
    }),
    ("flagd_acks_total", "counter", "Acknowledgements taken.", |e| e.metrics().acks.get()),
    ("flagd_reloads_total", "counter", "Times the view was loaded anew.", |e| e.metrics().reloads.get()),
    ("flagd_follow_errors_total", "counter", "Failed reads while following the log.", |e| {
        e.metrics().follow_errors.get()
    }),
];

fn whole(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn view_divergences(text: &mut Text, environments: &[&Arc<Environment>]) {
    let name = "flagd_view_divergences_total";
    text.metric(name, "counter", "What the store told a view that did not fit and was healed, by sort.");
    for environment in environments {
        let Divergences { gap, digest, unreadable, doubled, late } = &environment.metrics().divergences;
        for (sort, counter) in [
            ("gap", gap),
            ("digest", digest),
            ("unreadable", unreadable),
            ("doubled", doubled),
            ("late", late),
        ] {
            text.sample(name, &[("environment", environment.name().as_str()), ("sort", sort)], counter.get());
        }
    }
}

fn environment_metrics(text: &mut Text, counted: &[Counted]) {
    for (name, help, value) in CLUSTER_ROWS {
        text.metric(name, "gauge", help);
        for one in counted {
            text.sample(name, &[("environment", one.environment.name().as_str())], value(one));
        }
    }
    let environments: Vec<_> = counted.iter().map(|one| &one.environment).collect();
    for (name, kind, help, value) in ROWS {
        text.metric(name, kind, help);
        for environment in &environments {
            text.sample(name, &[("environment", environment.name().as_str())], value(environment));
        }
    }
    view_divergences(text, &environments);
    let name = "flagd_need_full_total";
    text.metric(name, "counter", "Requests for the full state, by the client's reason.");
    for environment in &environments {
        let EnvironmentMetrics { need_full, .. } = environment.metrics();
        let reasons = [
            ("digest", &need_full.digest),
            ("revision", &need_full.revision),
            ("epoch", &need_full.epoch),
            ("other", &need_full.other),
        ];
        for (why, counter) in reasons {
            text.sample(name, &[("environment", environment.name().as_str()), ("why", why)], counter.get());
        }
    }
    let name = "flagd_acknowledged_seconds";
    text.metric(name, "histogram", "From showing a change to a client's acknowledgement.");
    for environment in &environments {
        text.latency(
            name,
            &[("environment", environment.name().as_str())],
            &environment.metrics().acknowledged,
        );
    }
}
