//! The only place in the server that asks what time it is.
//!
//! Everything else takes a time as an argument or holds a [`Clock`], so that a test can set the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flagd_core::time::Timestamp;

/// Tells the wall-clock time. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    Fixed(Arc<AtomicU64>),
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Clock {
        Clock(Source::System)
    }

    /// A clock that stands at `now_ms` until it is set; clones share it.
    #[must_use]
    pub fn fixed(now_ms: u64) -> Clock {
        Clock(Source::Fixed(Arc::new(AtomicU64::new(now_ms))))
    }

    /// Sets a fixed clock; the system's clock stays as it is.
    pub fn set(&self, now_ms: u64) {
        if let Source::Fixed(time) = &self.0 {
            time.store(now_ms, Ordering::SeqCst);
        }
    }

    /// Milliseconds since 1970; 0 for a clock that stands before it.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the file that may ask the system")]
    pub fn now_ms(&self) -> u64 {
        match &self.0 {
            Source::Fixed(time) => time.load(Ordering::SeqCst),
            Source::System => std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// The same as a timestamp of the engine.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.now_ms()).unwrap_or(i64::MAX))
    }
}
