//! The servers that a relay follows: where they are, and which one is asked next.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use super::{RelayError, backoff};
use crate::limits;

/// A server above. All that is asked of it goes over one connection.
#[derive(Clone, Debug)]
pub(super) struct Upstream {
    pub(super) url: String,
    pub(super) channel: Channel,
}

impl Upstream {
    pub(super) fn new(url: &str) -> Result<Upstream, RelayError> {
        let wrong = |error: tonic::transport::Error| RelayError::Address {
            url: url.to_owned(),
            why: error.to_string(),
        };
        let channel = Endpoint::from_shared(url.to_owned())
            .map_err(wrong)?
            .connect_timeout(limits::RELAY_SILENCE_MAX)
            .tcp_nodelay(true)
            .initial_stream_window_size(limits::RELAY_WINDOW_BYTES)
            .initial_connection_window_size(limits::RELAY_WINDOW_BYTES)
            .http2_keep_alive_interval(limits::RELAY_KEEPALIVE)
            .keep_alive_timeout(limits::RELAY_KEEPALIVE)
            .connect_lazy();
        Ok(Upstream { url: url.to_owned(), channel })
    }
}

/// Whose turn it is, and how long to wait for it.
#[derive(Debug, Default)]
pub(super) struct Turn {
    at: usize,
    failures: u32,
}

impl Turn {
    /// The server to ask now.
    pub(super) fn of<'a>(&self, upstreams: &'a [Upstream]) -> Option<&'a Upstream> {
        upstreams.get(self.at.checked_rem(upstreams.len())?)
    }

    /// It answered as it should.
    pub(super) fn went_well(&mut self) {
        self.failures = 0;
    }

    /// It did not, or it said when to come back: how long to wait before the next one is asked.
    pub(super) fn next(&mut self, retry_after: Option<Duration>) -> Duration {
        self.at = self.at.wrapping_add(1);
        // Without randomness the longest wait is taken.
        let random = getrandom::u64().unwrap_or(u64::MAX);
        let delay = backoff::delay(self.failures, random);
        self.failures = self.failures.saturating_add(1);
        retry_after.map_or(delay, |at_least| backoff::spread(at_least, random))
    }
}
