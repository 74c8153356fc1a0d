//! What all clones of a client and its feed share.
//!
//! Readers load one atomic pointer; everything else here is off their path. The feed is the only writer of
//! views. This file does not know where views come from.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::board::Board;
use crate::changes::Bulletin;
use crate::clock;
use crate::detail::Staleness;
use crate::misuse::{Mistake, Misuse};
use crate::status::{Connection, Counters, DiskStatus, HeldSnapshots, RefusedEntry, Status};
use crate::view::{Source, View, Why};

/// What an undeclared key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undeclared {
    /// It is told once and counted.
    Told,
    /// It fails the test that asked.
    Panics,
}

/// No server ever confirmed the state.
const NEVER: i64 = i64::MIN;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) current: ArcSwap<View>,
    pub(crate) board: Board,
    pub(crate) bulletin: Arc<Bulletin>,
    pub(crate) environment: String,
    pub(crate) instance: String,
    misuse: Misuse,
    undeclared: Undeclared,
    /// A server says at this moment that the state in use is its own.
    confirmed: AtomicBool,
    /// When a server last did, in milliseconds since 1970.
    confirmed_at_ms: AtomicI64,
    /// The server has answered, with a state or a refusal: there is nothing that a start should wait for.
    #[cfg(feature = "remote")]
    answered: AtomicBool,
    diverged: AtomicBool,
    facts: Mutex<Facts>,
    pub(crate) updates: AtomicU64,
    pub(crate) connects: AtomicU64,
    pub(crate) need_full: AtomicU64,
    pub(crate) disk_errors: AtomicU64,
}

#[derive(Debug)]
struct Facts {
    held: HeldSnapshots,
    disk: DiskStatus,
    kills_unwritten: bool,
}

impl Shared {
    pub(crate) fn new(
        environment: String,
        instance: String,
        connection: Connection,
        undeclared: Undeclared,
    ) -> Shared {
        let embedded = connection == Connection::Embedded;
        Shared {
            current: ArcSwap::from_pointee(View::nothing()),
            board: Board::default(),
            bulletin: Arc::new(Bulletin::new(connection)),
            environment,
            instance,
            misuse: Misuse::default(),
            undeclared,
            confirmed: AtomicBool::new(embedded),
            confirmed_at_ms: AtomicI64::new(NEVER),
            #[cfg(feature = "remote")]
            answered: AtomicBool::new(embedded),
            diverged: AtomicBool::new(false),
            facts: Mutex::new(Facts {
                held: HeldSnapshots::default(),
                disk: DiskStatus::Off,
                kills_unwritten: false,
            }),
            updates: AtomicU64::new(0),
            connects: AtomicU64::new(0),
            need_full: AtomicU64::new(0),
            disk_errors: AtomicU64::new(0),
        }
    }

    /// Puts a view in use and gives the one before back, so that the caller decides where it is freed.
    pub(crate) fn swap(&self, view: &Arc<View>) -> Arc<View> {
        self.updates.fetch_add(1, Ordering::Relaxed);
        self.board.put_in_use(&self.current, view)
    }

    /// A getter that failed comes by here; one that succeeded does not.
    #[cold]
    pub(crate) fn missed(&self, key: &str, why: Why<'_>, view: &View) {
        match why {
            Why::NotReady => self.misuse.count_not_ready(),
            Why::TypeMismatch => self.misuse.count(key, Mistake::TypeMismatch, view),
            Why::Engine(flagd_core::snapshot::Reason::NotFound) => {
                self.misuse.count(key, Mistake::NotFound, view);
                assert!(
                    self.undeclared == Undeclared::Told,
                    "the code under test asks for the flag `{key}`, which the test does not declare; declare it or call `.lenient()`"
                );
            }
            Why::Engine(_) => {}
        }
    }

    pub(crate) fn staleness(&self) -> Staleness {
        if self.confirmed.load(Ordering::Acquire) {
            return Staleness::Current;
        }
        let at_ms = self.confirmed_at_ms.load(Ordering::Relaxed);
        if at_ms == NEVER {
            return Staleness::Stale { age: None };
        }
        let age_ms = u64::try_from(clock::now().as_millis().saturating_sub(at_ms)).unwrap_or(0);
        Staleness::Stale { age: Some(Duration::from_millis(age_ms)) }
    }

    pub(crate) fn is_confirmed(&self) -> bool {
        self.confirmed.load(Ordering::Acquire)
    }

    fn facts<T>(&self, look: impl FnOnce(&mut Facts) -> T) -> T {
        look(&mut self.facts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn status(&self) -> Status {
        let view = self.current.load_full();
        let (not_ready, not_found, type_mismatch) = self.misuse.totals();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (held, disk, kills_unwritten) =
            self.facts(|facts| (facts.held, facts.disk.clone(), facts.kills_unwritten));
        let served = matches!(view.source, Source::Disk | Source::Server);
        let named = |text: String| if served { text } else { String::new() };
        Status {
            environment: self.environment.clone(),
            instance: self.instance.clone(),
            source: view.source,
            revision: view.position.revision.0,
            epoch: named(view.position.epoch.to_string()),
            digest: named(view.position.digest.to_string()),
            staleness: self.staleness(),
            connection: self.bulletin.update().connection,
            diverged: self.diverged.load(Ordering::Relaxed),
            obeyed_kills: view.obeyed_kills.iter().map(ToString::to_string).collect(),
            refused: view.refused.iter().map(refused_entry).collect(),
            held,
            disk,
            kills_unwritten,
            counters: Counters {
                not_ready,
                not_found,
                type_mismatch,
                updates: count(&self.updates),
                connects: count(&self.connects),
                need_full: count(&self.need_full),
                disk_errors: count(&self.disk_errors),
            },
            missed: self.misuse.list(),
        }
    }
}

/// What only the feed tells.
#[cfg(feature = "remote")]
impl Shared {
    /// A server says now that the state in use is its own.
    pub(crate) fn confirm(&self) {
        self.confirmed_at_ms.store(clock::now().as_millis(), Ordering::Relaxed);
        self.confirmed.store(true, Ordering::Release);
    }

    /// Nobody says so any more.
    pub(crate) fn doubt(&self) {
        self.confirmed.store(false, Ordering::Release);
    }

    /// When a server last confirmed the state, as another process wrote it down.
    pub(crate) fn remember_confirmation(&self, at_ms: Option<i64>) {
        self.confirmed_at_ms.store(at_ms.unwrap_or(NEVER), Ordering::Relaxed);
    }

    pub(crate) fn confirmed_at_ms(&self) -> Option<i64> {
        Some(self.confirmed_at_ms.load(Ordering::Relaxed)).filter(|at_ms| *at_ms != NEVER)
    }

    pub(crate) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Acquire)
    }

    pub(crate) fn set_answered(&self) {
        self.answered.store(true, Ordering::Release);
    }

    pub(crate) fn set_diverged(&self, diverged: bool) {
        self.diverged.store(diverged, Ordering::Relaxed);
    }

    pub(crate) fn set_held(&self, held: HeldSnapshots) {
        self.facts(|facts| facts.held = held);
    }

    pub(crate) fn set_kills_unwritten(&self, unwritten: bool) {
        self.facts(|facts| facts.kills_unwritten = unwritten);
    }

    pub(crate) fn set_disk(&self, disk: DiskStatus) {
        self.facts(|facts| facts.disk = disk);
    }
}

fn refused_entry(refusal: &flagd_core::snapshot::Refusal) -> RefusedEntry {
    RefusedEntry {
        kind: refusal.id.kind.to_string(),
        key: refusal.id.key.to_string(),
        why: refusal.why.to_string(),
        last_good: refusal.last_good.is_some(),
    }
}
