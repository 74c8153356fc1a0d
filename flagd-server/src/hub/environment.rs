//! One environment as this server shows it: the newest view, the encoded changes behind it, the roster.
//!
//! Everything here may be called from any number of tasks and waits for nothing but other tasks' short locks; only
//! `follow` moves the view. A view never goes back: it is replaced by a later revision or by a younger epoch.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use flagd_core::entry::EntryId;
use flagd_core::key::EnvironmentName;
use flagd_core::revision::Position;
use tokio::sync::{Notify, Semaphore, broadcast, watch};

use super::advance::Shown;
use super::bell::{Bell, Ear, Listener};
use super::delta_log::{DeltaLog, Record};
use super::fulls::{Encoding, Full, Fulls};
use super::merge::{Glimpse, Merged, Sighting};
use super::relays::Relays;
use super::roster::{Admission, BYE_REMEMBERED, Introduction, News, Roster, Seat, Telling};
use super::standing::{self, Report};
use super::uplink::Uplink;
use super::{Announced, Standing, Standings, Target, View};
use crate::clock::Clock;
use crate::limits;
use crate::metrics::EnvironmentMetrics;
use crate::store::StoreError;
use crate::store::log::{Change, Log};

/// Announcements that a watcher may be behind before it misses some.
const ANNOUNCEMENTS_KEPT: usize = 1_024;
/// Most alarms remembered.
const ALARMS_MAX: usize = 50;

/// One environment: its newest view, its subscribers, its roster.
#[derive(Debug)]
pub struct Environment {
    name: EnvironmentName,
    pub(crate) log: Log,
    pub(crate) clock: Clock,
    shown: watch::Sender<Arc<Shown>>,
    confirmed_ms: AtomicU64,
    deltas: RwLock<DeltaLog>,
    fulls: Fulls,
    full_sends: Arc<Semaphore>,
    announcements: broadcast::Sender<Announced>,
    pub(crate) roster: Roster,
    pub(crate) relays: Relays,
    /// What a relay knows of its way up; `None` on a server.
    uplink: Option<Arc<Uplink>>,
    roster_change: ChangeBell,
    pub(crate) save_soon: Notify,
    pub(crate) saves: Saves,
    is_stale: AtomicBool,
    /// Rings for the streams: a newer view is shown, it became stale or fresh, the server stops.
    bell: Arc<Bell>,
    /// Other servers show the same environment.
    pub(crate) shared: AtomicBool,
    alarms: Mutex<VecDeque<String>>,
    metrics: EnvironmentMetrics,
    pub(crate) closing: watch::Receiver<bool>,
    /// Held while history is cut; when this server last began an epoch because a client said so.
    pub(crate) cutting: tokio::sync::Mutex<Option<u64>>,
}

/// Counts how often the roster was saved, so that somebody can wait for a save that began later than now.
#[derive(Debug)]
pub(crate) struct Saves {
    begun: AtomicU64,
    done: watch::Sender<u64>,
}

impl Default for Saves {
    fn default() -> Saves {
        Saves { begun: AtomicU64::new(0), done: watch::Sender::new(0) }
    }
}

impl Saves {
    /// A save begins: whatever the roster holds by now is in it. Its number.
    pub(crate) fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The store has taken it.
    pub(crate) fn done(&self, number: u64) {
        self.done.send_replace(number);
    }

    /// The first save that begins from now on.
    pub(crate) fn next(&self) -> u64 {
        self.begun.load(Ordering::SeqCst) + 1
    }

    pub(crate) async fn wait_for(&self, number: u64) {
        // The sender lives as long as this.
        let _ = self.done.subscribe().wait_for(|done| *done >= number).await;
    }
}

/// That a client seen for the first time is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// The save of the roster that will hold it.
    save: u64,
    /// The telling to the server above that will hold it.
    told: Option<u64>,
}

/// A counter that can be waited for; ringing it is cheap when nobody waits.
#[derive(Debug, Default)]
struct ChangeBell {
    count: AtomicU64,
    waiting: AtomicUsize,
    notify: Notify,
}

impl ChangeBell {
    fn ring(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        // Whoever waits announces itself before it looks at the count, so one of both sees the other.
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.notify.notify_waiters();
        }
    }

    async fn changed(&self, seen: u64) -> u64 {
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(&self.waiting);
        loop {
            let mut rung = std::pin::pin!(self.notify.notified());
            rung.as_mut().enable();
            let count = self.count.load(Ordering::SeqCst);
            if count != seen {
                return count;
            }
            rung.await;
        }
    }
}

/// What an environment is made with.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) name: EnvironmentName,
    pub(crate) log: Log,
    pub(crate) clock: Clock,
    pub(crate) shown: Shown,
    pub(crate) full_sends: Arc<Semaphore>,
    pub(crate) closing: watch::Receiver<bool>,
    pub(crate) uplink: Option<Arc<Uplink>>,
    /// When the state was last known to be the head, in milliseconds since 1970.
    pub(crate) confirmed_ms: u64,
}

impl Environment {
    /// An environment that shows a state that was just loaded.
    pub(crate) fn new(parts: Parts) -> Environment {
        let Parts { name, log, clock, shown, full_sends, closing, uplink, confirmed_ms } = parts;
        let confirmed_ms = AtomicU64::new(confirmed_ms);
        let deltas = RwLock::new(DeltaLog::new(shown.position(), limits::DELTA_LOG_MAX_BYTES));
        Environment {
            name,
            log,
            clock,
            shown: watch::Sender::new(Arc::new(shown)),
            confirmed_ms,
            deltas,
            fulls: Fulls::default(),
            full_sends,
            announcements: broadcast::Sender::new(ANNOUNCEMENTS_KEPT),
            roster: Roster::default(),
            relays: Relays::default(),
            uplink,
            // 0 is what a waiter begins with: its first call returns at once.
            roster_change: ChangeBell { count: AtomicU64::new(1), ..ChangeBell::default() },
            save_soon: Notify::new(),
            saves: Saves::default(),
            is_stale: AtomicBool::new(false),
            bell: Arc::default(),
            shared: AtomicBool::new(false),
            alarms: Mutex::default(),
            metrics: EnvironmentMetrics::default(),
            closing,
            cutting: tokio::sync::Mutex::new(None),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &EnvironmentName {
        &self.name
    }

    /// The newest view; never waits.
    #[must_use]
    pub fn view(&self) -> View {
        let shown = self.shown();
        View {
            state: Arc::clone(&shown.state),
            snapshot: Arc::clone(&shown.snapshot),
            confirmed_ms: self.confirmed_ms.load(Ordering::Relaxed),
        }
    }

    /// The view once it has reached `position` (or a younger epoch); the newest one when that takes longer than `wait_max`.
    pub async fn view_at(&self, position: Position, wait_max: Duration) -> View {
        let mut news = self.shown.subscribe();
        let reached = news.wait_for(|shown| {
            let at = shown.position();
            at.epoch > position.epoch || (at.epoch == position.epoch && at.revision >= position.revision)
        });
        // Too late or not: the newest view is the answer, and it says where it stands.
        let _ = tokio::time::timeout(wait_max, reached).await;
        self.view()
    }

    /// How old the view is, in milliseconds: the time since it was last known to be the head.
    #[must_use]
    pub fn view_age_ms(&self) -> u64 {
        self.clock.now_ms().saturating_sub(self.confirmed_ms.load(Ordering::Relaxed))
    }

    /// Changes from now on, in order. A receiver that falls behind is told how many it missed.
    #[must_use]
    pub fn announcements(&self) -> broadcast::Receiver<Announced> {
        self.announcements.subscribe()
    }

    /// The expected clients and where they stand relative to a change.
    #[must_use]
    pub fn standings(&self, of: &Target) -> Standings {
        self.judge(self.own_account(), of)
    }

    /// Where clients stand relative to a change.
    pub(crate) fn judge(&self, merged: Merged, of: &Target) -> Standings {
        let state = Arc::clone(&self.shown().state);
        standing::judge(merged, of, state.position().epoch, |kill: &EntryId| state.get(kill).is_some())
    }

    /// Says of one client after the other where it stands relative to a change, by the view of now.
    pub(crate) fn judge_each(&self, of: &Target) -> impl Fn(Glimpse<'_>) -> Standing {
        let state = Arc::clone(&self.shown().state);
        let history = state.position().epoch;
        move |client| {
            let is_killed = |kill: &EntryId| state.get(kill).is_some();
            standing::standing(client.report, client.connected, of, history, is_killed)
        }
    }

    /// The clients that this server expects.
    pub(crate) fn sightings(&self) -> Vec<Sighting> {
        self.roster.sightings(self.clock.now_ms())
    }

    /// Those of them that understand less than a level.
    pub(crate) fn sightings_below(&self, level: u32) -> Vec<Sighting> {
        self.roster.sightings_below(level, self.clock.now_ms())
    }

    /// What somebody who was told of this server's clients has not heard yet.
    pub(crate) fn roster_news(&self, told: &mut HashMap<u128, u64>, telling: Telling) -> News {
        self.roster.news(told, telling, self.clock.now_ms())
    }

    /// Shows the clients that this server expects, as [`Roster::look`] does.
    pub(crate) fn look(&self, visit: impl FnMut(Glimpse<'_>)) {
        self.roster.look(self.clock.now_ms(), visit);
    }

    /// What this server alone knows of clients.
    pub(crate) fn own_account(&self) -> Merged {
        // In this order: who is told by a relay that is there is in the roster.
        let relays = self.relays.sightings();
        Merged { clients: self.sightings(), relays, unanswered: Vec::new() }
    }

    /// What a relay knows of its way up; `None` on a server.
    pub(crate) fn uplink(&self) -> Option<&Arc<Uplink>> {
        self.uplink.as_ref()
    }

    /// Compares the roster with what all servers have left in the store: learns of clients of servers that are gone,
    /// and that clients which are absent here said Bye elsewhere.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) async fn reconcile(&self) -> Result<(), StoreError> {
        self.reconcile_relays().await?;
        let absent = self.roster.absent();
        let stored = self.log.roster(&self.name).await?;
        if self.roster.reconcile(&absent, stored, self.clock.now_ms()) {
            self.roster_change.ring();
        }
        Ok(())
    }

    /// The same for the relays, of which there are few.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) async fn reconcile_relays(&self) -> Result<(), StoreError> {
        let away = self.relays.away();
        let stored = self.log.relays(&self.name).await?;
        if self.relays.reconcile(&away, stored, self.clock.now_ms()) {
            self.roster_change.ring();
        }
        Ok(())
    }

    /// Resolves whenever a client's standing may have changed since `seen` (a counter; begin with 0).
    pub async fn roster_changed(&self, seen: u64) -> u64 {
        self.roster_change.changed(seen).await
    }

    /// Alarms raised since the start, such as "history was cut".
    #[must_use]
    pub fn alarms(&self) -> Vec<String> {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// What is counted here.
    #[must_use]
    pub fn metrics(&self) -> &EnvironmentMetrics {
        &self.metrics
    }

    /// Raises an alarm; the same one is not raised twice.
    pub(crate) fn alarm(&self, alarm: String) {
        let mut alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        if alarms.contains(&alarm) {
            return;
        }
        tracing::error!(environment = %self.name, alarm = %alarm, "alarm");
        if alarms.len() == ALARMS_MAX {
            alarms.pop_front();
        }
        alarms.push_back(alarm);
    }

    pub(crate) fn shown(&self) -> Arc<Shown> {
        Arc::clone(&self.shown.borrow())
    }

    /// Tells `ear` when a newer view is shown, when it becomes stale or fresh, and when the server stops.
    pub(crate) fn listen(&self, ear: Arc<dyn Ear>) -> Listener {
        Listener::to(&self.bell, ear)
    }

    /// The bell that the streams listen to.
    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// To be called when the server begins to stop.
    pub(crate) fn ring_for_closing(&self) {
        self.bell.ring();
    }

    /// Whether the server has begun to stop.
    pub(crate) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// A look at the encoded changes.
    pub(crate) fn deltas<T>(&self, look: impl FnOnce(&DeltaLog) -> T) -> T {
        look(&self.deltas.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// When the view was last known to be the head, in milliseconds since 1970.
    pub(crate) fn confirmed_ms(&self) -> u64 {
        self.confirmed_ms.load(Ordering::Relaxed)
    }

    /// A read that began at `asked_ms` has found the view to be the head.
    pub(crate) fn confirm(&self, asked_ms: u64) {
        self.confirmed_ms.store(asked_ms, Ordering::Relaxed);
    }

    /// The same where several may have found so: the latest holds.
    pub(crate) fn confirm_later(&self, asked_ms: u64) {
        self.confirmed_ms.fetch_max(asked_ms, Ordering::Relaxed);
    }

    /// Whether the view is so old that clients should know.
    pub(crate) fn is_stale(&self) -> bool {
        self.is_stale.load(Ordering::SeqCst)
    }

    /// Compares the view's age with what is still fresh.
    pub(crate) fn note_age(&self) {
        let is_stale = self.view_age_ms() > limits::VIEW_AGE_MAX_MS;
        if self.is_stale.swap(is_stale, Ordering::SeqCst) != is_stale {
            self.bell.ring();
        }
    }

    /// Shows what changes made of the view. The records are in the log before anybody is woken.
    pub(crate) fn show_next(&self, shown: Shown, records: Vec<Record>, changes: &[Arc<Change>]) {
        {
            let mut deltas = self.deltas.write().unwrap_or_else(PoisonError::into_inner);
            for record in records {
                deltas.push(record);
            }
        }
        self.shown.send_replace(Arc::new(shown));
        self.bell.ring();
        for change in changes {
            // Nobody may be watching.
            let _ = self.announcements.send(Announced { change: Arc::clone(change) });
        }
        self.roster_change.ring();
    }

    /// Shows a state that was loaded whole: subscribers get it in full.
    pub(crate) fn show_jump(&self, shown: Shown) {
        self.deltas.write().unwrap_or_else(PoisonError::into_inner).reset(shown.position());
        self.shown.send_replace(Arc::new(shown));
        self.bell.ring();
        self.roster_change.ring();
    }

    /// The newest state, encoded once for all who ask. Whoever asks and then stops looking holds up nobody: the work is
    /// done by a task of its own.
    pub(crate) async fn full(self: &Arc<Self>, encoding: Encoding) -> Full {
        let environment = Arc::clone(self);
        match tokio::spawn(async move { environment.encode_full(encoding).await }).await {
            Ok(full) => full,
            // It panicked, or the runtime ends; who asks is about to end as well, or finds out why.
            Err(_) => self.encode_full(encoding).await,
        }
    }

    async fn encode_full(&self, encoding: Encoding) -> Full {
        self.fulls.encode(|| Arc::clone(&self.shown().state), encoding).await
    }

    /// The right to send full states; a bounded number of them are on their way at a time.
    pub(crate) fn full_sends(&self) -> Arc<Semaphore> {
        Arc::clone(&self.full_sends)
    }

    /// A client has said hello. If it was never seen before: the save of the roster that will hold it.
    pub(crate) fn connect(&self, hello: Introduction) -> (Admission, Option<Memory>) {
        let admission = self.roster.connect(hello, self.clock.now_ms());
        let mut memory = None;
        if let Admission::Admitted { first_seen, .. } = &admission {
            self.roster_change.ring();
            if *first_seen {
                memory = Some(self.remember_soon());
            }
        }
        (admission, memory)
    }

    /// Whoever is in the roster now is to be remembered soon, here and above.
    pub(crate) fn remember_soon(&self) -> Memory {
        let memory = Memory { save: self.saves.next(), told: self.uplink.as_ref().map(|up| up.told.next()) };
        self.save_soon.notify_one();
        self.roster_change.ring();
        memory
    }

    /// Waits until it is; not for long, because a store that does not answer keeps no client from its flags.
    pub(crate) async fn remembered(&self, memory: Memory) {
        let Memory { save, told } = memory;
        let up = self.uplink.as_ref().zip(told);
        let all = async {
            self.saves.wait_for(save).await;
            if let Some((up, told)) = up {
                up.heard(told).await;
            }
        };
        if tokio::time::timeout(limits::FIRST_ANSWER_WAIT_MAX, all).await.is_err() {
            tracing::debug!(environment = %self.name, "the roster is not taken; a new client is answered all the same");
        }
    }

    /// Something about the roster has changed.
    pub(crate) fn ring(&self) {
        self.roster_change.ring();
    }

    /// A client says what it has in use.
    pub(crate) fn report(&self, seat: Seat, report: Report) {
        self.roster.report(seat, report, self.clock.now_ms());
        self.roster_change.ring();
    }

    /// A client ends on purpose.
    pub(crate) fn bye(&self, seat: Seat) {
        if self.roster.bye(seat) {
            self.roster_change.ring();
            // Other servers learn it from the store.
            if self.shared.load(Ordering::Relaxed) {
                self.save_soon.notify_one();
            }
        }
    }

    /// A stream has ended in another way.
    pub(crate) fn leave(&self, seat: Seat) {
        if self.roster.leave(seat, self.clock.now_ms()) {
            self.roster_change.ring();
        }
    }

    /// Forgets who has been lost for too long.
    pub(crate) fn expire(&self) {
        // A relay tells them above as soon as it can: until then the client is expected there.
        let expected = Duration::from_millis(limits::LOST_AFTER_MS);
        self.roster.forget_byes(if self.uplink.is_some() { expected } else { BYE_REMEMBERED });
        self.relays.expire(self.clock.now_ms());
        if self.roster.expire(self.clock.now_ms()) > 0 {
            self.roster_change.ring();
        }
    }
}
