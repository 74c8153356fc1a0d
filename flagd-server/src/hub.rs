//! Shows what the log holds: one view per environment, its subscribers, and who has acknowledged what.
//!
//! The hub reads the log and never decides what is in it. Each environment is followed by one task (`follow`), which
//! moves the view from revision to revision (`advance`), encodes each change once (`delta_log`, `frames`) and wakes the
//! streams. What a client has in use is kept in the `roster`; `standing` says what that means for a change.
//!
//! On a relay the views come from the server above instead (`relay`), and the log is where they are kept.
//!
//! One exception from "only control writes": when history turns out to have been cut, no operator is there to ask
//! and no client may be sent back in time, so the hub begins a younger epoch itself. That is `history`, and
//! nothing else here appends to the log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use flagd_core::key::EnvironmentName;
use flagd_core::revision::{Position, Revision};
use flagd_core::snapshot::Snapshot;
use flagd_core::state::State;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::limits;
use crate::store::StoreError;
use crate::store::log::{Change, Log};

pub(crate) mod advance;
pub(crate) mod bell;
mod delta_log;
pub(crate) mod environment;
mod follow;
pub(crate) mod frames;
mod freshness;
pub(crate) mod fulls;
mod history;
pub(crate) mod links;
pub(crate) mod merge;
pub(crate) mod relays;
mod remember;
pub(crate) mod resume;
pub(crate) mod roster;
pub(crate) mod standing;
pub(crate) mod subscriber;
pub(crate) mod tally;
pub(crate) mod uplink;

pub use environment::Environment;

/// All environments of this server.
#[derive(Debug)]
pub struct Hub {
    log: Log,
    clock: Clock,
    environments: RwLock<BTreeMap<EnvironmentName, Arc<Environment>>>,
    /// Held while an environment is opened, so that it is opened once.
    opening: tokio::sync::Mutex<()>,
    full_sends: Arc<Semaphore>,
    closing: watch::Sender<bool>,
    stopped: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    vacancy: OnceLock<String>,
    source: Source,
}

/// Where the views come from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// The log, which this server or others with it write.
    Log,
    /// Other servers, at these addresses; the log only keeps what they have shown.
    Upstream(String),
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
        let hub = Hub::new(log, clock, Source::Log);
        hub.open_all().await?;
        Ok(hub)
    }

    /// The hub of a relay: it shows what it kept when it ran last, and waits to be told more. `upstream` says for people
    /// where the servers are that it follows.
    ///
    /// # Errors
    /// [`StoreError`] when the disk does not answer. A state that is damaged is passed over: it comes anew.
    pub async fn start_relay(log: Log, clock: Clock, upstream: String) -> Result<Arc<Hub>, StoreError> {
        let hub = Hub::new(log, clock, Source::Upstream(upstream));
        for name in hub.log.environments().await? {
            let kept = match hub.log.kept(&name).await {
                Ok(Some(kept)) => kept,
                Ok(None) => continue,
                Err(StoreError::Corrupt(why)) => {
                    tracing::error!(environment = %name, why, "the state that was kept is damaged; it is asked for anew");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let (core, shown) = advance::compile(move || advance::Core::new(kept.state)).await?;
            drop(core);
            hub.show(&name, shown, kept.confirmed_ms).await?;
        }
        Ok(hub)
    }

    fn new(log: Log, clock: Clock, source: Source) -> Arc<Hub> {
        Arc::new(Hub {
            log,
            clock,
            environments: RwLock::default(),
            opening: tokio::sync::Mutex::new(()),
            full_sends: Arc::new(Semaphore::new(limits::FULL_SENDS_MAX)),
            closing: watch::Sender::new(false),
            stopped: watch::Sender::new(false),
            tasks: Mutex::default(),
            vacancy: OnceLock::new(),
            source,
        })
    }

    /// Opens every environment of the store that is not open yet. A relay opens what it is told to.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn open_all(&self) -> Result<(), StoreError> {
        if self.upstream().is_some() {
            return Ok(());
        }
        for name in self.log.environments().await? {
            self.environment(&name).await?;
        }
        Ok(())
    }

    /// Says why a store without environments is not taken for a new one. To be said once, at the start.
    pub(crate) fn leave_vacant(&self, why: String) {
        tracing::error!(store = %self.log.describe(), %why, "no environment is served");
        // Whoever says it twice means the same.
        let _ = self.vacancy.set(why);
    }

    /// The same where the environments are yet to be told, which is no fault.
    pub(crate) fn await_environments(&self, why: String) {
        let _ = self.vacancy.set(why);
    }

    /// Why there is no environment; `None` when there is one.
    #[must_use]
    pub fn vacancy(&self) -> Option<String> {
        self.vacancy.get().filter(|_| self.environments().is_empty()).cloned()
    }

    /// Where the servers are that this relay follows; `None` on a server.
    #[must_use]
    pub fn upstream(&self) -> Option<&str> {
        match &self.source {
            Source::Log => None,
            Source::Upstream(urls) => Some(urls),
        }
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
    pub async fn environment(&self, name: &EnvironmentName) -> Result<Arc<Environment>, StoreError> {
        if let Some(open) = self.opened(name) {
            return Ok(open);
        }
        if self.upstream().is_some() {
            return Err(StoreError::NoEnvironment(name.clone()));
        }
        if self.log.head(name).await?.is_none() {
            return Err(StoreError::NoEnvironment(name.clone()));
        }
        let _one_at_a_time = self.opening.lock().await;
        match self.opened(name) {
            Some(open) => Ok(open),
            None => self.open(name).await,
        }
    }

    pub(crate) fn opened(&self, name: &EnvironmentName) -> Option<Arc<Environment>> {
        self.environments.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    async fn open(&self, name: &EnvironmentName) -> Result<Arc<Environment>, StoreError> {
        let state = self.log.load(name).await?;
        let (core, shown) = advance::compile(move || advance::Core::new(state)).await?;
        let environment = self.add(name, shown, self.clock.now_ms()).await?;
        let follow = follow::follow(Arc::clone(&environment), core, self.stopped.subscribe());
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(tokio::spawn(follow));
        Ok(environment)
    }

    /// On a relay: shows an environment for the first time; the store must have it.
    ///
    /// # Errors
    /// [`StoreError`] when the roster cannot be read.
    pub(crate) async fn show(
        &self,
        name: &EnvironmentName,
        shown: advance::Shown,
        confirmed_ms: u64,
    ) -> Result<Arc<Environment>, StoreError> {
        let _one_at_a_time = self.opening.lock().await;
        self.add(name, shown, confirmed_ms).await
    }

    async fn add(
        &self,
        name: &EnvironmentName,
        shown: advance::Shown,
        confirmed_ms: u64,
    ) -> Result<Arc<Environment>, StoreError> {
        let uplink = match self.source {
            Source::Log => None,
            Source::Upstream(_) => Some(Arc::default()),
        };
        let environment = Arc::new(Environment::new(environment::Parts {
            name: name.clone(),
            log: self.log.clone(),
            clock: self.clock.clone(),
            shown,
            full_sends: Arc::clone(&self.full_sends),
            closing: self.closing.subscribe(),
            uplink,
            confirmed_ms,
        }));
        environment.roster.remember(self.log.roster(name).await?, self.clock.now_ms());
        environment.relays.remember(self.log.relays(name).await?, self.clock.now_ms());
        let remember = remember::remember(Arc::clone(&environment), self.stopped.subscribe());
        let freshness = freshness::watch_age(Arc::clone(&environment), self.stopped.subscribe());
        let ringer = bell::ringer(Arc::clone(environment.bell()), self.stopped.subscribe());
        {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.push(tokio::spawn(remember));
            tasks.push(tokio::spawn(freshness));
            tasks.push(tokio::spawn(ringer));
        }
        let position = environment.view().state.position();
        tracing::info!(environment = %name, epoch = %position.epoch, revision = position.revision.0, "environment opened");
        self.environments
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.clone(), Arc::clone(&environment));
        Ok(environment)
    }

    /// All environments, by name.
    #[must_use]
    pub fn environments(&self) -> Vec<Arc<Environment>> {
        self.environments.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Says `GoAway` to all subscribers and takes no new ones; everything else goes on.
    pub fn close_streams(&self) {
        self.closing.send_replace(true);
        for environment in self.environments() {
            environment.ring_for_closing();
        }
    }

    /// Whether the server has begun to stop.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Resolves when the server begins to stop: whoever answers for long should come to an end.
    pub async fn closing(&self) {
        // The sender lives as long as the hub.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    /// Says `GoAway` to all subscribers, saves the rosters, stops following. Streams that should be remembered as lost
    /// just now, and not as connected, must have ended before.
    pub async fn stop(&self) {
        self.close_streams();
        self.stopped.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the hub had failed");
            }
        }
    }
}

/// How many clients are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientCounts {
    /// Connected and lost ones.
    pub expected: usize,
    /// Not connected, left without Bye not long ago.
    pub lost: usize,
    /// Entries refused, over all clients.
    pub refused_entries: usize,
    /// Clients that cannot reach the server's digest.
    pub diverged: usize,
}

impl ClientCounts {
    /// Counts.
    pub(crate) fn of(clients: &[merge::Sighting]) -> ClientCounts {
        let mut counts = ClientCounts { expected: clients.len(), ..ClientCounts::default() };
        for client in clients {
            counts.lost += usize::from(!client.connected);
            if let Some(report) = &client.report {
                counts.refused_entries += report.refused.len();
                counts.diverged += usize::from(report.diverged);
            }
        }
        counts
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
    /// Servers of the cluster that are there and did not answer.
    pub unanswered: Vec<String>,
    /// The relays behind which clients are expected.
    pub(crate) relays: Vec<relays::RelaySighting>,
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
    /// The server that told it, where there are several.
    pub server: String,
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

#[cfg(test)]
mod tests;
