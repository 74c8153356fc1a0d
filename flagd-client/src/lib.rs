//! Feature flags for Rust programs: evaluated in the process, changed from outside in milliseconds.
//!
//! ```no_run
//! use flagd_client::{Client, Context};
//!
//! # async fn service() -> Result<(), Box<dyn std::error::Error>> {
//! let flags = Client::builder("http://127.0.0.1:8013")
//!     .environment("production")
//!     .app("shop", env!("CARGO_PKG_VERSION"))
//!     .cache_dir("/var/cache/shop")
//!     .start()
//!     .await?;
//!
//! let user = Context::new("user-123").with("country", "DE").with("companyId", Some("acme"));
//! if flags.is_enabled("new-checkout", &user) {
//!     // the new page
//! }
//!
//! let page = flags.snapshot(); // one revision for a whole request
//! let ranking = page.string("ranking", &user, "v1");
//!
//! let checkout = flags.flag("new-checkout"); // a handle, for the hottest places: the name is looked up once
//! if checkout.is_enabled(&user) {
//!     // the new page
//! }
//! # let _ = ranking;
//! # Ok(())
//! # }
//! ```
//!
//! A getter costs nanoseconds. It never waits, never fails, never touches the network, and gives what the
//! situation allows:
//!
//! | situation | the getter returns | reason |
//! | --- | --- | --- |
//! | no state yet, no such flag, a flag of another type | the caller's default | [`NotReady`](Reason::NotReady), [`NotFound`](Reason::NotFound), [`TypeMismatch`](Reason::TypeMismatch) |
//! | killed, disabled, a requirement unmet, no unit | the off variant's value | [`Killed`](Reason::Killed), [`Disabled`](Reason::Disabled), [`Requirement`](Reason::Requirement), [`NoUnit`](Reason::NoUnit) |
//! | anything else | what the rules say | [`Rule`](Reason::Rule), [`Otherwise`](Reason::Otherwise) |
//!
//! A client follows its server on a thread of its own, tells it what it has put in use, and goes on without
//! it for ever: values never expire, and [`Detail::stale`] says that nobody confirms them. Clients of several
//! environments in one process can share their connections: [`Connections`].
//!
//! Without a server: [`Client::embedded`] evaluates definitions that are part of the program, and [`testing`]
//! gives the same type to tests. With `default-features = false` that is all there is, and no tokio.

mod board;
mod changes;
mod client;
mod clock;
mod detail;
mod getters;
mod handle;
mod local;
mod misuse;
mod shared;
mod snapshot;
mod status;
pub mod testing;
mod view;

#[cfg(feature = "remote")]
mod builder;
#[cfg(feature = "remote")]
mod connections;
#[cfg(feature = "remote")]
mod disk;
#[cfg(feature = "remote")]
mod feed;
#[cfg(feature = "remote")]
mod limits;

/// Doors for `fuzz/`; they exist only in a build of `scripts/fuzz`.
#[cfg(all(fuzzing, feature = "remote"))]
#[doc(hidden)]
pub mod fuzzing {
    /// Any bytes as a file of the disk cache.
    pub fn disk(bytes: &[u8]) {
        crate::disk::any_bytes(bytes);
    }
}

pub use changes::{Changes, Subscription, Update};
pub use client::Client;
pub use detail::{Detail, Reason, Staleness};
pub use handle::FlagHandle;
pub use local::DefinitionError;
pub use misuse::MissedKey;
pub use snapshot::Snapshot;
pub use status::{Connection, Counters, DiskStatus, HeldSnapshots, RefusedEntry, Status};
pub use view::Source;

#[cfg(feature = "remote")]
pub use builder::{Builder, StartError};
#[cfg(feature = "remote")]
pub use connections::Connections;

pub use flagd_core::context::{Attribute, Context, IntoAttribute};
pub use flagd_core::problem::Problem;
pub use flagd_core::snapshot::{Explanation, Step};

/// The README's Rust is compiled like any other example.
#[cfg(all(doctest, feature = "remote"))]
#[doc = include_str!("../../README.md")]
struct Readme;
