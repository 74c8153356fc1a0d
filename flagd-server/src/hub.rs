//! Shows what the log holds: one view per environment, its subscribers, and who has acknowledged what.
//! (placeholder: owned by hub)

use std::sync::Arc;
use std::time::Duration;

use flagd_core::key::EnvironmentName;
use flagd_core::revision::{Position, Revision};
use flagd_core::snapshot::Snapshot;
use flagd_core::state::State;

use crate::clock::Clock;
use crate::store::StoreError;
use crate::store::log::{Change, Log};

/// All environments of this server.
#[derive(Debug)]
pub struct Hub {
    log: Log,
    clock: Clock,
}

/// One environment: its newest view, its subscribers, its roster.
#[derive(Debug)]
pub struct Environment {
    name: EnvironmentName,
}

/// A state and its snapshot, of one revision.
#[derive(Clone, Debug)]
pub struct View {
    /// The bytes.
    pub state: Arc<State>,
    /// The same, compiled.
    pub snapshot: Arc<Snapshot>,
    /// When this view was last known to be the head, in milliseconds since 1970.
    pub confirmed_ms: u64,
}

/// A change as the hub announces it to watchers inside the server.
#[derive(Clone, Debug)]
pub struct Announced {
    /// The change.
    pub change: Arc<Change>,
}

impl Hub {
    /// Loads every environment and follows each of them until the hub is stopped.
    ///
    /// # Errors
    /// [`StoreError`] when an environment cannot be loaded.
    pub async fn start(log: Log, clock: Clock) -> Result<Arc<Hub>, StoreError> {
        let _ = (log, clock);
        todo!()
    }

    /// The log underneath.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// An environment; one that another server created meanwhile is opened.
    ///
    /// # Errors
    /// [`StoreError::NoEnvironment`], or what the store says.
    pub async fn environment(&self, _name: &EnvironmentName) -> Result<Arc<Environment>, StoreError> {
        todo!()
    }

    /// All environments, by name.
    #[must_use]
    pub fn environments(&self) -> Vec<Arc<Environment>> {
        todo!()
    }

    /// Says GoAway to all subscribers, saves the rosters, stops following.
    pub async fn stop(&self) {
        todo!()
    }
}

impl Environment {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &EnvironmentName {
        &self.name
    }

    /// The newest view; never waits.
    #[must_use]
    pub fn view(&self) -> View {
        todo!()
    }

    /// The view once it has reached `position` (or a younger epoch); the newest one when that takes longer than `wait_max`.
    pub async fn view_at(&self, _position: Position, _wait_max: Duration) -> View {
        todo!()
    }

    /// Changes from now on, in order. A receiver that falls behind is told how many it missed.
    #[must_use]
    pub fn announcements(&self) -> tokio::sync::broadcast::Receiver<Announced> {
        todo!()
    }

    /// The expected clients and where they stand relative to a change.
    #[must_use]
    pub fn standings(&self, _of: &Target) -> Standings {
        todo!()
    }

    /// Resolves whenever a client's standing may have changed since `seen` (a counter; begin with 0).
    pub async fn roster_changed(&self, _seen: u64) -> u64 {
        todo!()
    }

    /// The smallest language level among the expected clients, with the names of those below `level`.
    #[must_use]
    pub fn clients_below_level(&self, _level: u32) -> Vec<ClientStanding> {
        todo!()
    }

    /// Alarms raised since the start, such as "history was cut".
    #[must_use]
    pub fn alarms(&self) -> Vec<String> {
        todo!()
    }
}

/// The change that is waited for.
#[derive(Clone, Debug)]
pub struct Target {
    /// Epoch and revision (the digest is not looked at).
    pub position: Position,
    /// The entries that it touched.
    pub touched: Vec<flagd_core::entry::EntryId>,
}

/// Who stands where.
#[derive(Clone, Debug, Default)]
pub struct Standings {
    /// All expected clients, by name.
    pub clients: Vec<ClientStanding>,
}

/// One expected client.
#[derive(Clone, Debug)]
pub struct ClientStanding {
    /// What is known of it.
    pub client: crate::store::log::RosterEntry,
    /// Where it stands.
    pub standing: Standing,
    /// Whether it is connected now.
    pub connected: bool,
    /// From where, as text; empty when it is not connected.
    pub address: String,
    /// The entries it refuses, with why.
    pub refused: Vec<(flagd_core::entry::EntryId, String)>,
    /// How many older snapshots are held in it.
    pub held_snapshots: u32,
    /// The oldest revision among them.
    pub held_oldest: Option<Revision>,
    /// Since when the oldest is held, in milliseconds.
    pub held_oldest_age_ms: u64,
}

/// Where a client stands; see docs/protocol.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Every evaluation that begins now uses the change.
    Applied,
    /// It refuses an entry that the change touched.
    Refused,
    /// Connected, not there yet.
    Lagging,
    /// Connected, cannot reach the server's digest.
    Diverged,
    /// Not connected, left without Bye not long ago.
    Lost,
}

/// The answer to "is it confirmed?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// At least one client is expected and all have applied it.
    Confirmed,
    /// No client is expected.
    Nobody,
    /// Somebody is missing.
    Unconfirmed,
}

impl Standings {
    /// Whether the change is confirmed.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        todo!()
    }
}
