//! Who is expected to acknowledge, and what each of them has in use.
//!
//! Expected are the clients that are connected and those that left without `Bye` not long ago. The roster is
//! synchronous, takes the time as an argument, and locks no more than the one client that it looks at, so that
//! thousands of acknowledgements of one change do not queue behind each other. It does not know streams: a
//! connection is a number, and a channel that is dropped when a newer connection takes its place.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use flagd_core::entry::EntryId;
use tokio::sync::oneshot;

use super::standing::{Report, standing};
use super::{ClientCounts, ClientStanding, Standing, Standings, Target};
use crate::limits;
use crate::store::log::RosterEntry;

/// The clients of one environment.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    members: DashMap<u128, Member>,
    connections: AtomicU64,
    unsaved: AtomicBool,
    gone: Mutex<Vec<u128>>,
}

#[derive(Debug)]
struct Member {
    known: RosterEntry,
    /// `None`: only remembered from before a restart.
    report: Option<Report>,
    /// `None`: it left without `Bye`, or is remembered.
    connection: Option<Connection>,
    /// From when on its absence counts.
    lost_since_ms: u64,
    unsaved: bool,
}

#[derive(Debug)]
struct Connection {
    number: u64,
    address: String,
    /// Dropped when a newer connection takes over; the stream then ends.
    _replaced: oneshot::Sender<()>,
}

/// One connection of one client, as the roster gave it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    instance: u128,
    number: u64,
}

/// A client that says hello.
#[derive(Clone, Debug)]
pub(crate) struct Introduction {
    /// Who it is; `last_seen_ms` and `position` are set by the roster.
    pub(crate) known: RosterEntry,
    /// What it has in use.
    pub(crate) report: Report,
    /// From where it comes, for people.
    pub(crate) address: String,
}

/// How a hello ended.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It is in; the receiver ends when a newer connection of the same client takes over.
    Admitted {
        /// Its seat.
        seat: Seat,
        /// Ends when it is replaced.
        replaced: oneshot::Receiver<()>,
        /// The roster did not know it before: it should be remembered soon.
        first_seen: bool,
    },
    /// A connection of the same client with a higher counter is there.
    Stale,
    /// There are too many clients.
    Crowded,
}

/// What the store should be told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unsaved {
    /// Clients as they are now.
    pub(crate) seen: Vec<RosterEntry>,
    /// Clients to forget.
    pub(crate) gone: Vec<u128>,
}

impl Roster {
    /// Remembers the clients of before a restart: expected, and lost from now on until they are back.
    pub(crate) fn remember(&self, clients: Vec<RosterEntry>, now_ms: u64) {
        for known in clients {
            let instance = known.instance;
            let member =
                Member { known, report: None, connection: None, lost_since_ms: now_ms, unsaved: false };
            self.members.insert(instance, member);
        }
    }

    /// A client has connected.
    pub(crate) fn connect(&self, hello: Introduction, now_ms: u64) -> Admission {
        let Introduction { mut known, report, address } = hello;
        known.last_seen_ms = now_ms;
        known.position = report.position;
        let instance = known.instance;
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let (closer, replaced) = oneshot::channel();
        let connection = Connection { number, address, _replaced: closer };
        let crowded = self.members.len() >= limits::ROSTER_MAX;
        let first_seen = match self.members.entry(instance) {
            Entry::Occupied(mut entry) => {
                let member = entry.get_mut();
                if member.connection.is_some() && member.known.connect_counter > known.connect_counter {
                    return Admission::Stale;
                }
                *member = Member {
                    known,
                    report: Some(report),
                    connection: Some(connection),
                    lost_since_ms: now_ms,
                    unsaved: true,
                };
                false
            }
            Entry::Vacant(_) if crowded => return Admission::Crowded,
            Entry::Vacant(entry) => {
                entry.insert(Member {
                    known,
                    report: Some(report),
                    connection: Some(connection),
                    lost_since_ms: now_ms,
                    unsaved: true,
                });
                true
            }
        };
        self.unsaved.store(true, Ordering::Release);
        Admission::Admitted { seat: Seat { instance, number }, replaced, first_seen }
    }

    /// A client says what it has in use. Ignored when its seat is another's by now.
    pub(crate) fn report(&self, seat: Seat, report: Report, now_ms: u64) {
        if let Some(mut member) = self.members.get_mut(&seat.instance)
            && member.holds(seat)
        {
            member.known.last_seen_ms = now_ms;
            member.known.position = report.position;
            member.report = Some(report);
        }
    }

    /// A client ends on purpose and is expected no longer. `false` when its seat is another's by now.
    pub(crate) fn bye(&self, seat: Seat) -> bool {
        let left = self.members.remove_if(&seat.instance, |_, member| member.holds(seat)).is_some();
        if left {
            self.forget(seat.instance);
        }
        left
    }

    /// A stream has ended in another way: the client is lost from now on. `false` when its seat is another's or empty.
    pub(crate) fn leave(&self, seat: Seat, now_ms: u64) -> bool {
        let Some(mut member) = self.members.get_mut(&seat.instance) else { return false };
        if !member.holds(seat) {
            return false;
        }
        member.connection = None;
        member.lost_since_ms = now_ms;
        member.known.last_seen_ms = now_ms;
        member.unsaved = true;
        self.unsaved.store(true, Ordering::Release);
        true
    }

    /// Forgets who has been lost for too long. Returns how many those were.
    pub(crate) fn expire(&self, now_ms: u64) -> usize {
        let mut expired = Vec::new();
        self.members.retain(|instance, member| {
            let keep = member.is_expected(now_ms);
            if !keep {
                expired.push(*instance);
            }
            keep
        });
        for instance in &expired {
            self.forget(*instance);
        }
        expired.len()
    }

    fn forget(&self, instance: u128) {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).push(instance);
        self.unsaved.store(true, Ordering::Release);
    }

    /// What changed since the last call; `None` when nothing did.
    pub(crate) fn take_unsaved(&self) -> Option<Unsaved> {
        if !self.unsaved.swap(false, Ordering::AcqRel) {
            return None;
        }
        let gone = std::mem::take(&mut *self.gone.lock().unwrap_or_else(PoisonError::into_inner));
        let mut seen = Vec::new();
        for mut member in self.members.iter_mut() {
            if std::mem::take(&mut member.unsaved) {
                seen.push(member.known.clone());
            }
        }
        // Somebody who came back meanwhile must not be forgotten by the same write.
        let gone = gone.into_iter().filter(|instance| !self.members.contains_key(instance)).collect();
        Some(Unsaved { seen, gone })
    }

    /// The store did not take it: it is to be told again.
    pub(crate) fn put_back(&self, unsaved: &Unsaved) {
        for known in &unsaved.seen {
            if let Some(mut member) = self.members.get_mut(&known.instance) {
                member.unsaved = true;
            }
        }
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).extend(&unsaved.gone);
        self.unsaved.store(true, Ordering::Release);
    }

    /// Everybody is to be saved: the server stops.
    pub(crate) fn mark_all_unsaved(&self) {
        for mut member in self.members.iter_mut() {
            member.unsaved = true;
        }
        self.unsaved.store(true, Ordering::Release);
    }

    /// The expected clients, by name, and where they stand.
    pub(crate) fn standings(
        &self,
        target: &Target,
        now_ms: u64,
        is_killed: impl Fn(&EntryId) -> bool,
    ) -> Standings {
        let mut clients = self.select(now_ms, |member| {
            let connected = member.connection.is_some();
            Some(member.tell(standing(member.report.as_ref(), connected, target, &is_killed)))
        });
        clients.sort_by(|a, b| (&a.client.name, a.client.instance).cmp(&(&b.client.name, b.client.instance)));
        Standings { clients }
    }

    /// The expected clients that do not understand `level`.
    pub(crate) fn below_level(&self, level: u32, now_ms: u64) -> Vec<ClientStanding> {
        let mut clients = self.select(now_ms, |member| {
            let missing = if member.connection.is_some() { Standing::Lagging } else { Standing::Lost };
            (member.known.level < level).then(|| member.tell(missing))
        });
        clients.sort_by(|a, b| (&a.client.name, a.client.instance).cmp(&(&b.client.name, b.client.instance)));
        clients
    }

    fn select(&self, now_ms: u64, tell: impl Fn(&Member) -> Option<ClientStanding>) -> Vec<ClientStanding> {
        self.members
            .iter()
            .filter(|member| member.is_expected(now_ms))
            .filter_map(|member| tell(&member))
            .collect()
    }

    /// How many are where; looks at everybody.
    pub(crate) fn counts(&self, now_ms: u64) -> ClientCounts {
        let mut counts = ClientCounts::default();
        for member in self.members.iter().filter(|member| member.is_expected(now_ms)) {
            counts.expected += 1;
            counts.lost += usize::from(member.connection.is_none());
            if let Some(report) = &member.report {
                counts.refused_entries += report.refused.len();
                counts.diverged += usize::from(report.diverged);
            }
        }
        counts
    }
}

impl Member {
    fn holds(&self, seat: Seat) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.number == seat.number)
    }

    fn is_expected(&self, now_ms: u64) -> bool {
        self.connection.is_some() || now_ms.saturating_sub(self.lost_since_ms) < limits::LOST_AFTER_MS
    }

    fn tell(&self, standing: Standing) -> ClientStanding {
        let report = self.report.clone().unwrap_or_default();
        ClientStanding {
            client: self.known.clone(),
            standing,
            connected: self.connection.is_some(),
            address: self
                .connection
                .as_ref()
                .map(|connection| connection.address.clone())
                .unwrap_or_default(),
            refused: report.refused,
            held_snapshots: report.held_snapshots,
            held_oldest: report.held_oldest,
            held_oldest_age_ms: report.held_oldest_age_ms,
        }
    }
}

#[cfg(test)]
mod tests;
