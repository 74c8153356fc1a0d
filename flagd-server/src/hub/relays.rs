//! The relays behind which clients are expected, and which of them are away.
//!
//! A relay is no client. But while it is away somebody may connect to it whom nobody else knows, so as long as it may
//! still be serving nothing is confirmed; after the time for which a lost client is expected it is forgotten as that
//! one would be. A relay that ends on purpose has told everything and is forgotten at once. Relays behind relays are
//! told by those above them. Synchronous, with the time as an argument.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::roster::behind::Link;
use crate::limits;
use crate::store::log::{RelayEntry, RelayGone};

/// Stands between the names of relays, from the server on.
pub(crate) const PATH: &str = " > ";

/// The relays of one environment that this server knows.
#[derive(Debug, Default)]
pub(crate) struct Relays(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    relays: BTreeMap<u128, Relay>,
    gone: Vec<RelayGone>,
    /// Rings for whoever passes the list on.
    version: u64,
}

#[derive(Debug)]
struct Relay {
    entry: RelayEntry,
    connection: Option<Connection>,
    /// From when on its absence counts.
    away_since_ms: u64,
    /// The relays behind it, as it told last.
    below: Vec<RelaySighting>,
    unsaved: bool,
}

#[derive(Debug)]
struct Connection {
    link: Link,
    address: String,
    /// Until it has told who is behind it, it is as good as away.
    has_told: bool,
    /// Dropped when a newer link takes over; the stream then ends.
    _replaced: oneshot::Sender<()>,
}

/// A relay as one server knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RelaySighting {
    /// Which one.
    pub(crate) relay: u128,
    /// For people, with those through which it is reached.
    pub(crate) name: String,
    /// Of several links of one relay the highest counts.
    pub(crate) link_counter: u64,
    /// From where it is connected; `None`: it is away.
    pub(crate) address: Option<String>,
    /// When it was last heard, in milliseconds since 1970.
    pub(crate) last_seen_ms: u64,
}

/// How a relay's hello ended.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// It may tell; the receiver ends when a newer link of it takes over.
    Admitted {
        /// Ends when it is replaced.
        replaced: oneshot::Receiver<()>,
        /// The link that it had until now.
        before: Option<Link>,
    },
    /// A newer link of the same relay is there.
    Stale,
}

impl Relays {
    /// Remembers the relays of before a restart: they are away until they are back.
    pub(crate) fn remember(&self, entries: Vec<RelayEntry>, now_ms: u64) {
        let mut known = self.lock();
        for entry in entries {
            let remembered =
                Relay { entry, connection: None, away_since_ms: now_ms, below: Vec::new(), unsaved: false };
            let Entry::Vacant(vacant) = known.relays.entry(remembered.entry.relay) else { continue };
            vacant.insert(remembered);
            known.version += 1;
        }
    }

    /// A relay begins to tell.
    pub(crate) fn arrive(&self, entry: RelayEntry, link: Link, address: String) -> Arrival {
        let (closer, replaced) = oneshot::channel();
        let connection = Some(Connection { link, address, has_told: false, _replaced: closer });
        let away_since_ms = entry.last_seen_ms;
        let mut known = self.lock();
        known.version += 1;
        match known.relays.entry(entry.relay) {
            Entry::Vacant(vacant) => {
                vacant.insert(Relay { entry, connection, away_since_ms, below: Vec::new(), unsaved: true });
                Arrival::Admitted { replaced, before: None }
            }
            Entry::Occupied(mut occupied) => {
                let relay = occupied.get_mut();
                if relay.connection.is_some() && relay.entry.link_counter > entry.link_counter {
                    return Arrival::Stale;
                }
                let before =
                    std::mem::replace(&mut relay.connection, connection).map(|connection| connection.link);
                relay.entry = entry;
                relay.below.clear();
                relay.unsaved = true;
                Arrival::Admitted { replaced, before }
            }
        }
    }

    /// A relay has told all its clients: from now on it is there. Whether that was news.
    pub(crate) fn complete(&self, id: u128, link: Link) -> bool {
        let mut known = self.lock();
        let connection = known.relays.get_mut(&id).and_then(|relay| relay.connection.as_mut());
        let Some(connection) = connection.filter(|one| one.link == link && !one.has_told) else {
            return false;
        };
        connection.has_told = true;
        known.version += 1;
        true
    }

    /// A relay tells which relays are behind it.
    pub(crate) fn told(&self, id: u128, link: Link, below: Vec<RelaySighting>) {
        let mut known = self.lock();
        if let Some(relay) = known.relays.get_mut(&id)
            && relay.has(link)
        {
            let name = &relay.entry.name;
            let named = |seen: RelaySighting| RelaySighting { name: path(name, &seen.name), ..seen };
            relay.below = below.into_iter().map(named).collect();
            known.version += 1;
        }
    }

    /// A relay's link has broken: it is away from now on.
    pub(crate) fn leave(&self, id: u128, link: Link, now_ms: u64) {
        let mut known = self.lock();
        if let Some(relay) = known.relays.get_mut(&id)
            && relay.has(link)
        {
            relay.connection = None;
            relay.below.clear();
            relay.away_since_ms = now_ms;
            relay.entry.last_seen_ms = now_ms;
            relay.unsaved = true;
            known.version += 1;
        }
    }

    /// A relay ends on purpose: nobody can be behind it any more.
    pub(crate) fn farewell(&self, id: u128, link: Link) {
        let mut known = self.lock();
        if known.relays.get(&id).is_some_and(|relay| relay.has(link))
            && let Some(relay) = known.relays.remove(&id)
        {
            known.gone.push(RelayGone {
                relay: id,
                link_counter: relay.entry.link_counter,
                seen_before_ms: u64::MAX,
            });
            known.version += 1;
        }
    }

    /// Forgets who has been away for too long.
    pub(crate) fn expire(&self, now_ms: u64) {
        let seen_before_ms = now_ms.saturating_sub(limits::LOST_AFTER_MS);
        let mut guard = self.lock();
        let known = &mut *guard;
        let before = known.relays.len();
        known.relays.retain(|id, relay| {
            let keep = relay.connection.is_some()
                || now_ms.saturating_sub(relay.away_since_ms) < limits::LOST_AFTER_MS;
            if !keep {
                let link_counter = relay.entry.link_counter;
                known.gone.push(RelayGone { relay: *id, link_counter, seen_before_ms });
            }
            keep
        });
        known.version += u64::from(known.relays.len() != before);
    }

    /// Compares with what the store remembers of all servers' relays. `away` is from before the store was read: who of
    /// them is not in it has said farewell to another server.
    /// Whether anything changed.
    pub(crate) fn reconcile(&self, away: &[u128], stored: Vec<RelayEntry>, now_ms: u64) -> bool {
        let before = self.version();
        {
            let mut known = self.lock();
            for id in away.iter().filter(|id| !stored.iter().any(|entry| entry.relay == **id)) {
                if known.relays.get(id).is_some_and(|relay| relay.connection.is_none() && !relay.unsaved) {
                    known.relays.remove(id);
                    known.version += 1;
                }
            }
        }
        // Older records are leftovers: whoever is connected is written down again and again.
        let recent_ms = limits::LOST_AFTER_MS + limits::ROSTER_REFRESH_MS;
        let recent = |entry: &RelayEntry| now_ms.saturating_sub(entry.last_seen_ms) <= recent_ms;
        self.remember(stored.into_iter().filter(recent).collect(), now_ms);
        self.version() != before
    }

    /// Those that are away and that the store knows.
    pub(crate) fn away(&self) -> Vec<u128> {
        let known = self.lock();
        let away = known.relays.iter().filter(|(_, relay)| relay.connection.is_none() && !relay.unsaved);
        away.map(|(id, _)| *id).collect()
    }

    /// Those that are connected are to be saved as seen now, so that other servers know that they are no leftovers.
    pub(crate) fn refresh(&self, now_ms: u64) {
        for relay in self.lock().relays.values_mut().filter(|relay| relay.connection.is_some()) {
            relay.entry.last_seen_ms = now_ms;
            relay.unsaved = true;
        }
    }

    /// All that are known, those behind others too, each once.
    pub(crate) fn sightings(&self) -> Vec<RelaySighting> {
        let known = self.lock();
        let told = known.relays.values().map(|relay| {
            let mut told = relay.below.clone();
            told.push(relay.tell());
            told
        });
        merge(told)
    }

    /// Another number whenever a list may be another one.
    pub(crate) fn version(&self) -> u64 {
        self.lock().version
    }

    /// What the store should be told since the last call: relays as they are now, and those to forget.
    pub(crate) fn take_unsaved(&self) -> (Vec<RelayEntry>, Vec<RelayGone>) {
        let mut known = self.lock();
        let seen = known
            .relays
            .values_mut()
            .filter_map(|relay| std::mem::take(&mut relay.unsaved).then(|| relay.entry.clone()));
        let seen = seen.collect();
        (seen, std::mem::take(&mut known.gone))
    }

    /// The store did not take it: it is to be told again.
    pub(crate) fn put_back(&self, seen: &[RelayEntry], gone: &[RelayGone]) {
        let mut known = self.lock();
        for entry in seen {
            if let Some(relay) = known.relays.get_mut(&entry.relay) {
                relay.unsaved = true;
            }
        }
        known.gone.extend_from_slice(gone);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Relay {
    fn has(&self, link: Link) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.link == link)
    }

    fn tell(&self) -> RelaySighting {
        RelaySighting {
            relay: self.entry.relay,
            name: self.entry.name.clone(),
            link_counter: self.entry.link_counter,
            address: self.connection.as_ref().filter(|one| one.has_told).map(|one| one.address.clone()),
            last_seen_ms: self.entry.last_seen_ms,
        }
    }
}

/// The way to something behind a relay, for people.
pub(crate) fn path(relay: &str, behind: &str) -> String {
    if behind.is_empty() { relay.to_owned() } else { format!("{relay}{PATH}{behind}") }
}

/// Several accounts of relays become one: the newest link counts; of one link, who sees it.
pub(crate) fn merge(accounts: impl IntoIterator<Item = Vec<RelaySighting>>) -> Vec<RelaySighting> {
    let mut newest: BTreeMap<u128, RelaySighting> = BTreeMap::new();
    for seen in accounts.into_iter().flatten() {
        let rank = |seen: &RelaySighting| (seen.link_counter, seen.address.is_some());
        match newest.entry(seen.relay) {
            Entry::Vacant(entry) => drop(entry.insert(seen)),
            Entry::Occupied(mut entry) if rank(entry.get()) < rank(&seen) => drop(entry.insert(seen)),
            Entry::Occupied(_) => {}
        }
    }
    newest.into_values().collect()
}

#[cfg(test)]
mod tests;
