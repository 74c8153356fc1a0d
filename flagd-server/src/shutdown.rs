//! One signal on which everything comes to an end.
//!
//! The first `SIGINT` or `SIGTERM` begins the drain: listeners close, clients are told, what is under way is
//! finished. Who asks a second time does not want to wait: the process ends at once, which the store survives as
//! it survives `kill -9`.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit code of a process that was asked twice.
const ASKED_TWICE: i32 = 130;

/// Listens from now on; the future resolves at the first signal.
///
/// # Errors
/// When the system does not let us listen.
pub fn requested() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut signals =
        Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? };
    Ok(async move {
        let which = signals.next().await;
        tracing::info!(signal = which, "stopping; a second signal stops at once");
        tokio::spawn(async move {
            let which = signals.next().await;
            tracing::warn!(signal = which, "stopped at once");
            std::process::exit(ASKED_TWICE);
        });
    })
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
