//! Who is expected to acknowledge, and what each of them has in use.
//!
//! Expected are the clients that are connected and those that left without `Bye` not long ago. The roster is
//! synchronous, takes the time as an argument, and locks no more than the one client that it looks at, so that
//! thousands of acknowledgements of one change do not queue behind each other. It does not know streams: a
//! connection is a number, and a channel that is dropped when a newer connection takes its place. Clients behind
//! relays are in it like any other (`behind`).

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use flagd_core::revision::Position;
use tokio::sync::oneshot;

use super::merge::{Glimpse, Sighting};
use super::standing::Report;
use crate::limits;
use crate::store::log::RosterEntry;

pub(crate) mod behind;

/// How long a Bye is remembered by a server; longer than a look into the store takes.
pub(crate) const BYE_REMEMBERED: Duration = Duration::from_mins(1);

/// The clients of one environment.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    /// Boxed, so that the table keeps little room for those who may yet come, and who is looked for is found in it.
    members: DashMap<u128, Box<Member>>,
    connections: AtomicU64,
    /// Counts what is said about clients, so that another server can be told what it has not heard.
    stamps: AtomicU64,
    unsaved: AtomicBool,
    gone: Mutex<Vec<Gone>>,
    /// Who said Bye a moment ago, on which connection: what was read from the store before that is out of date.
    byes: Mutex<HashMap<u128, (u64, Instant)>>,
}

#[derive(Debug)]
struct Member {
    known: RosterEntry,
    /// `None`: only remembered from before a restart, or the relay that knew is away.
    report: Option<Report>,
    presence: Presence,
    /// From when on its absence counts.
    lost_since_ms: u64,
    /// Another one whenever something about it changes.
    stamp: u64,
    /// The stamp of the last change that was more than a plain report (see [`Report::is_plain`]).
    whole_stamp: u64,
    unsaved: bool,
}

/// Where a client is.
#[derive(Debug)]
enum Presence {
    /// Connected here.
    Here(Connection),
    /// Known by a relay.
    Behind {
        /// The relay's link.
        link: u64,
        /// From where it is connected to the relay; `None`: it left that without `Bye`.
        address: Option<String>,
    },
    /// It left without `Bye`, or is remembered, or its relay is away.
    Absent,
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
    pub(crate) gone: Vec<Gone>,
}

/// A client that is not expected any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    /// Who.
    pub(crate) instance: u128,
    /// The connection that it left.
    pub(crate) connect_counter: u64,
    /// How.
    pub(crate) parting: Parting,
}

/// How a client ceased to be expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parting {
    /// It said Bye: no server expects it any more.
    Bye,
    /// It was lost for too long, here; another server may know better.
    Expired,
}

/// What somebody who was told of the clients has not heard yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct News {
    /// New ones, and those of whom something changed.
    pub(crate) changed: Vec<Sighting>,
    /// Told before, and nothing changed but that they have this state in use, refusing and holding nothing.
    pub(crate) arrived: Vec<(Position, Vec<u128>)>,
    /// Those that are not expected any more.
    pub(crate) gone: Vec<u128>,
}

impl News {
    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.arrived.is_empty() && self.gone.is_empty()
    }
}

/// What somebody who is told of the clients understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    /// Each client whole.
    Whole,
    /// Who only moved on in few bytes.
    Compact,
}

impl Roster {
    /// Remembers the clients of before a restart: expected, and lost from now on until they are back.
    pub(crate) fn remember(&self, clients: Vec<RosterEntry>, now_ms: u64) {
        for known in clients {
            self.recall(known, now_ms);
        }
    }

    /// Remembers a client that the store knows, unless more is known of it here. Whether it was news.
    fn recall(&self, known: RosterEntry, now_ms: u64) -> bool {
        let stamp = self.stamp();
        let instance = known.instance;
        let counter = known.connect_counter;
        let member = Member {
            known,
            report: None,
            presence: Presence::Absent,
            lost_since_ms: now_ms,
            stamp,
            whole_stamp: stamp,
            unsaved: false,
        };
        match self.members.entry(instance) {
            Entry::Vacant(entry) => {
                entry.insert(Box::new(member));
                true
            }
            Entry::Occupied(mut entry) if entry.get().known.connect_counter < counter => {
                // It has been at another server since, which is gone. A connection that looks alive here is not: its
                // stream ends.
                entry.insert(Box::new(member));
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    /// Those that are not connected and whose state the store knows, by instance.
    pub(crate) fn absent(&self) -> Vec<u128> {
        let absent = self.members.iter().filter(|member| !member.is_connected() && !member.unsaved);
        absent.map(|member| *member.key()).collect()
    }

    /// Compares with what the store remembers of all servers' clients. `absent` is from before the store was read: who
    /// of them is not in it has said Bye to another server. Whether anything changed.
    pub(crate) fn reconcile(&self, absent: &[u128], stored: Vec<RosterEntry>, now_ms: u64) -> bool {
        let there: HashSet<u128> = stored.iter().map(|known| known.instance).collect();
        let mut changed = false;
        for instance in absent.iter().filter(|instance| !there.contains(instance)) {
            let left =
                self.members.remove_if(instance, |_, member| !member.is_connected() && !member.unsaved);
            changed |= left.is_some();
        }
        // Older records are leftovers: whoever is connected is written down again and again.
        let recent_ms = limits::LOST_AFTER_MS + limits::ROSTER_REFRESH_MS;
        for known in stored {
            let said_bye =
                self.byes().get(&known.instance).is_some_and(|(at, _)| *at >= known.connect_counter);
            if !said_bye && now_ms.saturating_sub(known.last_seen_ms) <= recent_ms {
                changed |= self.recall(known, now_ms);
            }
        }
        changed
    }

    /// A client has connected.
    pub(crate) fn connect(&self, hello: Introduction, now_ms: u64) -> Admission {
        let Introduction { mut known, report, address } = hello;
        known.last_seen_ms = now_ms;
        known.position = report.position;
        let instance = known.instance;
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let stamp = self.stamp();
        let (closer, replaced) = oneshot::channel();
        let member = Member {
            known,
            report: Some(report),
            presence: Presence::Here(Connection { number, address, _replaced: closer }),
            lost_since_ms: now_ms,
            stamp,
            whole_stamp: stamp,
            unsaved: true,
        };
        let crowded = self.members.len() >= limits::ROSTER_MAX;
        let first_seen = match self.members.entry(instance) {
            Entry::Occupied(mut entry) => {
                let before = entry.get();
                if before.is_connected() && before.known.connect_counter > member.known.connect_counter {
                    return Admission::Stale;
                }
                entry.insert(Box::new(member));
                false
            }
            Entry::Vacant(_) if crowded => return Admission::Crowded,
            Entry::Vacant(entry) => {
                entry.insert(Box::new(member));
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
            member.take(report, self.stamp(), now_ms);
        }
    }

    /// A client ends on purpose and is expected no longer. `false` when its seat is another's by now.
    pub(crate) fn bye(&self, seat: Seat) -> bool {
        let left = self.members.remove_if(&seat.instance, |_, member| member.holds(seat));
        if let Some((_, member)) = &left {
            self.note_bye(member);
        }
        left.is_some()
    }

    /// A stream has ended in another way: the client is lost from now on. `false` when its seat is another's or empty.
    pub(crate) fn leave(&self, seat: Seat, now_ms: u64) -> bool {
        let Some(mut member) = self.members.get_mut(&seat.instance) else { return false };
        if !member.holds(seat) {
            return false;
        }
        member.known.last_seen_ms = now_ms;
        member.lose(self.stamp(), now_ms);
        self.unsaved.store(true, Ordering::Release);
        true
    }

    /// Forgets who has been lost for too long. Returns how many those were.
    pub(crate) fn expire(&self, now_ms: u64) -> usize {
        let mut expired = Vec::new();
        self.members.retain(|_, member| {
            let keep = member.is_expected(now_ms);
            if !keep {
                expired.push(member.gone(Parting::Expired));
            }
            keep
        });
        for gone in &expired {
            self.forget(*gone);
        }
        expired.len()
    }

    fn note_bye(&self, member: &Member) {
        self.byes().insert(member.known.instance, (member.known.connect_counter, Instant::now()));
        self.forget(member.gone(Parting::Bye));
    }

    /// Forgets Byes. Not at each Bye: of thousands that say it at once each would look at all the others.
    pub(crate) fn forget_byes(&self, after: Duration) {
        self.byes().retain(|_, (_, at)| at.elapsed() < after);
    }

    /// Whether a client said Bye a moment ago. Of one that is gone without, others need not be told: it expires there, too.
    pub(crate) fn said_bye(&self, instance: u128) -> bool {
        self.byes().contains_key(&instance)
    }

    fn forget(&self, gone: Gone) {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).push(gone);
        self.unsaved.store(true, Ordering::Release);
    }

    fn byes(&self) -> MutexGuard<'_, HashMap<u128, (u64, Instant)>> {
        self.byes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stamp(&self) -> u64 {
        self.stamps.fetch_add(1, Ordering::Relaxed) + 1
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
        let gone = gone.into_iter().filter(|gone| !self.members.contains_key(&gone.instance)).collect();
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

    /// Those that are connected are to be saved as seen now, so that other servers know that they are no leftovers.
    pub(crate) fn refresh(&self, now_ms: u64) {
        for mut member in self.members.iter_mut().filter(|member| member.is_connected()) {
            member.known.last_seen_ms = now_ms;
            member.unsaved = true;
        }
        self.unsaved.store(true, Ordering::Release);
    }

    /// The expected clients.
    pub(crate) fn sightings(&self, now_ms: u64) -> Vec<Sighting> {
        let mut sightings = Vec::new();
        self.look(now_ms, |client| sightings.push(client.copied()));
        sightings
    }

    /// Shows the expected clients, each once. What one of them says waits while it is looked at, so `visit` is quick; it
    /// must not call the roster.
    pub(crate) fn look(&self, now_ms: u64, mut visit: impl FnMut(Glimpse<'_>)) {
        for member in self.members.iter().filter(|member| member.is_expected(now_ms)) {
            visit(member.glimpse());
        }
    }

    /// The expected clients that understand less than a level. Every change asks, and nearly always there is none, so
    /// nobody else is copied.
    pub(crate) fn sightings_below(&self, level: u32, now_ms: u64) -> Vec<Sighting> {
        let below = self.members.iter().filter(|member| member.known.level < level);
        below.filter(|member| member.is_expected(now_ms)).map(|member| member.tell()).collect()
    }

    /// What has changed since the calls before; `told` is kept by the caller and begins empty. Who is in it with 0 is
    /// told whole again.
    pub(crate) fn news(&self, told: &mut HashMap<u128, u64>, telling: Telling, now_ms: u64) -> News {
        let mut news = News::default();
        let mut arrived: HashMap<Position, Vec<u128>> = HashMap::new();
        let mut still = HashSet::with_capacity(told.len());
        for member in self.members.iter().filter(|member| member.is_expected(now_ms)) {
            still.insert(*member.key());
            let before = told.insert(*member.key(), member.stamp).unwrap_or_default();
            if before == member.stamp {
                continue;
            }
            match member.plain_position() {
                Some(position) if telling == Telling::Compact && before >= member.whole_stamp => {
                    arrived.entry(position).or_default().push(*member.key());
                }
                _ => news.changed.push(member.tell()),
            }
        }
        news.arrived = arrived.into_iter().collect();
        told.retain(|instance, _| {
            let keep = still.contains(instance);
            if !keep {
                news.gone.push(*instance);
            }
            keep
        });
        news
    }

    /// Whether somebody is expected who is not connected.
    pub(crate) fn has_absent(&self) -> bool {
        self.members.iter().any(|member| !member.is_connected())
    }
}

impl Member {
    fn holds(&self, seat: Seat) -> bool {
        matches!(&self.presence, Presence::Here(connection) if connection.number == seat.number)
    }

    fn is_connected(&self) -> bool {
        matches!(self.presence, Presence::Here(_) | Presence::Behind { address: Some(_), .. })
    }

    /// It says what it has in use.
    fn take(&mut self, report: Report, stamp: u64, now_ms: u64) {
        let was_plain = self.report.as_ref().is_some_and(Report::is_plain);
        if !was_plain || !report.is_plain() {
            self.whole_stamp = stamp;
        }
        self.stamp = stamp;
        self.known.last_seen_ms = now_ms;
        self.known.position = report.position;
        self.report = Some(report);
    }

    /// It is not connected any more.
    fn lose(&mut self, stamp: u64, now_ms: u64) {
        self.presence = Presence::Absent;
        self.lost_since_ms = now_ms;
        self.unsaved = true;
        self.stamp = stamp;
        self.whole_stamp = stamp;
    }

    /// What it has in use, if that is all there is to say.
    fn plain_position(&self) -> Option<Position> {
        self.report.as_ref().filter(|report| report.is_plain())?.position
    }

    fn is_expected(&self, now_ms: u64) -> bool {
        self.is_connected() || now_ms.saturating_sub(self.lost_since_ms) < limits::LOST_AFTER_MS
    }

    fn gone(&self, parting: Parting) -> Gone {
        Gone { instance: self.known.instance, connect_counter: self.known.connect_counter, parting }
    }

    fn tell(&self) -> Sighting {
        self.glimpse().copied()
    }

    fn glimpse(&self) -> Glimpse<'_> {
        let address = match &self.presence {
            Presence::Here(connection) => &connection.address,
            Presence::Behind { address, .. } => address.as_deref().unwrap_or_default(),
            Presence::Absent => "",
        };
        Glimpse {
            known: &self.known,
            report: self.report.as_ref(),
            connected: self.is_connected(),
            address,
            server: "",
        }
    }
}

#[cfg(test)]
mod tests;
