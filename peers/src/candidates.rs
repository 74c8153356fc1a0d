//! The candidates, each in a file of its own, and their order in the tables.
//!
//! An adapter writes a spec in its engine's own JSON, loads it as the engine's SDK does, builds contexts and asks
//! through the engine's public interface. It promises to leave out what the engine can leave out (events, network,
//! caches) and to give every engine its fastest documented way; it never answers in an engine's place.

use crate::engine::{Change, Loading};

mod configcat;
mod datalogic;
mod eppo;
mod flagd_client;
mod flagd_core;
mod growthbook;
mod launchdarkly;
mod limit;
mod open_feature_flagd;
mod statsig;
mod yggdrasil;

pub use self::flagd_core::state as state_of_core;
pub use crate::engine::Candidate;

/// What no evaluation by name can beat.
pub const LIMIT: Candidate = limit::CANDIDATE;

/// The one that ratios are taken to.
pub const CORE: Candidate = flagd_core::CANDIDATE;

/// Ours and the peers, in the order of the tables.
pub const ALL: [Candidate; 11] = [
    CORE,
    flagd_client::CANDIDATE,
    flagd_client::SNAPSHOT,
    yggdrasil::CANDIDATE,
    datalogic::CANDIDATE,
    eppo::CANDIDATE,
    launchdarkly::CANDIDATE,
    configcat::CANDIDATE,
    growthbook::CANDIDATE,
    statsig::CANDIDATE,
    open_feature_flagd::CANDIDATE,
];

/// Those that load and hold definitions in ways of their own: a snapshot of the client is the client.
pub fn that_load() -> impl Iterator<Item = Candidate> {
    ALL.into_iter().filter(|candidate| candidate.name != flagd_client::SNAPSHOT.name)
}

/// Those whose definitions change. An embedded client's do not, and the feed's changes are the core's.
pub fn that_change() -> impl Iterator<Item = Candidate> {
    that_load().filter(|candidate| candidate.name != flagd_client::CANDIDATE.name)
}

impl Candidate {
    /// Whether this is one of ours.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.package.starts_with("flagd-")
    }

    /// Whether loading is more than parsing.
    #[must_use]
    pub fn compiles(&self) -> bool {
        self.loading == Loading::Compiles
    }

    /// Whether it has an operation for one flag.
    #[must_use]
    pub fn changes_one(&self) -> bool {
        self.change != Change::Reload
    }
}
