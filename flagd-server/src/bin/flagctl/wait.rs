//! Watches who applies a change, until all have or the time is over.
//!
//! The change is recorded before this begins: whatever happens here - the server restarts, the operator presses
//! Ctrl-C - ends the watching and never the change. This file knows how to watch; which sentence the outcome
//! becomes is for `output`.

use std::time::Duration;

use flagd_proto::admin::{WaitProgress, WaitRequest};
use tokio::time::Instant;
use tonic::Streaming;

use crate::connect::{Client, Servers};
use crate::error::WaitEnding;

/// How much longer than the server itself we wait for its last word.
const GRACE: Duration = Duration::from_secs(2);
/// Between losing a server and looking for another.
const PAUSE: Duration = Duration::from_millis(250);

/// What the watching came to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Waited {
    /// The last that was heard.
    pub progress: Option<WaitProgress>,
    /// Why it ended.
    pub ending: WaitEnding,
}

/// Watches until there is a verdict, and tells of each step.
pub(crate) async fn wait(
    servers: &Servers,
    request: WaitRequest,
    timeout: Duration,
    mut tell: impl FnMut(&WaitProgress),
) -> Waited {
    let mut last = None;
    let ending = {
        let watching = watch(servers, request, timeout, |progress| {
            tell(progress);
            last = Some(progress.clone());
        });
        tokio::select! {
            ending = watching => ending,
            // Without a handler for the signal there is nothing to wait for.
            Ok(()) = tokio::signal::ctrl_c() => WaitEnding::Interrupted,
        }
    };
    Waited { progress: last, ending }
}

async fn watch(
    servers: &Servers,
    mut request: WaitRequest,
    timeout: Duration,
    mut tell: impl FnMut(&WaitProgress),
) -> WaitEnding {
    let end = Instant::now() + timeout;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        request.timeout_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let call = servers.call(request.clone(), None, |mut client: Client, request| async move {
            client.wait(request).await
        });
        let verdict = async {
            match call.await {
                Ok(answered) => follow(answered.answer, &mut tell).await,
                Err(_) => None,
            }
        };
        match tokio::time::timeout_at(end + GRACE, verdict).await {
            Ok(Some(ending)) => return ending,
            Ok(None) if Instant::now() < end => tokio::time::sleep(PAUSE.min(left)).await,
            Ok(None) | Err(_) => return WaitEnding::ServerLost,
        }
    }
}

/// Follows one server's account; `None` when it breaks off.
async fn follow(
    mut stream: Streaming<WaitProgress>,
    tell: &mut impl FnMut(&WaitProgress),
) -> Option<WaitEnding> {
    while let Ok(Some(progress)) = stream.message().await {
        tell(&progress);
        if progress.done {
            return Some(WaitEnding::Verdict(progress.verdict()));
        }
    }
    None
}
