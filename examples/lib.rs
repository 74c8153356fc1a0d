//! What the examples share: where the server is, and what time it is for people.
//!
//! Each example is a file beside this one and opens with what it shows and how to run it.

use flagd_client::{Builder, Client};

/// A client of the servers in `FLAGD_SERVERS` (comma-separated; `http://127.0.0.1:8013` unless set) for the
/// environment in `FLAGD_ENVIRONMENT` (`default` unless set), with the folder in `FLAGD_CACHE_DIR` for starts without
/// a server (none unless set).
pub fn client_from_environment(app: &str) -> Builder {
    let servers = std::env::var("FLAGD_SERVERS").unwrap_or_else(|_| "http://127.0.0.1:8013".into());
    let environment = std::env::var("FLAGD_ENVIRONMENT").unwrap_or_else(|_| "default".into());
    let mut servers = servers.split(',').map(str::trim).filter(|server| !server.is_empty());
    let first = Client::builder(servers.next().unwrap_or("http://127.0.0.1:8013"));
    let builder = servers.fold(first, Builder::server).environment(environment);
    let builder = builder.app(app, env!("CARGO_PKG_VERSION"));
    match std::env::var_os("FLAGD_CACHE_DIR") {
        Some(folder) => builder.cache_dir(folder),
        None => builder,
    }
}

/// The local time of day, for the beginning of a line.
#[must_use]
pub fn time_of_day() -> String {
    jiff::ZonedDateTime::now().strftime("%H:%M:%S").to_string()
}
