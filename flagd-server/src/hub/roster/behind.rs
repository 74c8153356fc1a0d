//! Clients behind relays: what a relay tells is kept in the roster as if they were connected here.
//!
//! A relay has one link at a time. As long as it is there, the roster believes what it says of its clients; when it
//! breaks, all of them are lost, whatever they had said: a relay that is away may have shown them something else
//! since. They stay lost until they turn up elsewhere, are told by a link again, or have been lost for too long. As
//! everywhere the higher connect counter counts, so a client that left for another place is not brought back by a
//! relay that has not noticed.

use std::cmp::Ordering;
use std::sync::atomic;

use dashmap::mapref::entry::Entry;
use flagd_core::revision::Position;

use super::{Member, News, Presence, Roster};
use crate::hub::merge::{self, Sighting};
use crate::hub::standing::Report;
use crate::limits;

/// The link of one relay, for as long as it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link(u64);

/// The roster cannot hold another client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crowded;

/// What became of what a relay told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nobody in it was new.
    Known,
    /// Somebody was seen for the first time.
    FirstSeen,
}

impl Roster {
    /// A relay begins to tell.
    pub(crate) fn link(&self) -> Link {
        Link(self.connections.fetch_add(1, atomic::Ordering::Relaxed))
    }

    /// A relay tells what changed of its clients.
    ///
    /// # Errors
    /// [`Crowded`]: some of it was not kept, so nothing may be believed of this relay.
    pub(crate) fn hear(&self, link: Link, news: News, now_ms: u64) -> Result<Heard, Crowded> {
        let mut heard = Heard::Known;
        for sighting in news.changed {
            if self.hear_one(link, sighting, now_ms)? == Heard::FirstSeen {
                heard = Heard::FirstSeen;
            }
        }
        for (position, instances) in news.arrived {
            for instance in instances {
                self.arrived(link, instance, position, now_ms);
            }
        }
        for instance in news.gone {
            self.gone_behind(link, instance);
        }
        Ok(heard)
    }

    fn hear_one(&self, link: Link, sighting: Sighting, now_ms: u64) -> Result<Heard, Crowded> {
        let instance = sighting.known.instance;
        let counter = sighting.known.connect_counter;
        if self.byes().get(&instance).is_some_and(|(at, _)| *at >= counter) {
            return Ok(Heard::Known);
        }
        let crowded = self.members.len() >= limits::ROSTER_MAX;
        let stamp = self.stamp();
        let told = behind(link, sighting, stamp, now_ms);
        match self.members.entry(instance) {
            Entry::Vacant(_) if crowded => Err(Crowded),
            Entry::Vacant(entry) => {
                entry.insert(Box::new(told));
                self.unsaved.store(true, atomic::Ordering::Release);
                Ok(Heard::FirstSeen)
            }
            Entry::Occupied(mut entry) => {
                let before = entry.get();
                let is_ours = matches!(before.presence, Presence::Behind { link: own, .. } if own == link.0);
                // What is known here at first hand is not given up for the same at second hand.
                if !is_ours && merge::compare(told.glimpse(), before.glimpse()) != Ordering::Greater {
                    return Ok(Heard::Known);
                }
                let is_same = before.known.connect_counter == counter
                    && before.is_connected() == told.is_connected()
                    && before.known.via == told.known.via;
                let was_absent = !before.is_connected();
                let (lost_since_ms, unsaved) = (before.lost_since_ms, before.unsaved);
                let member = entry.insert(Box::new(told));
                drop(member);
                let member = entry.get_mut();
                member.unsaved = unsaved || !is_same;
                if was_absent {
                    member.lost_since_ms = lost_since_ms;
                }
                if member.unsaved {
                    self.unsaved.store(true, atomic::Ordering::Release);
                }
                Ok(Heard::Known)
            }
        }
    }

    fn arrived(&self, link: Link, instance: u128, position: Position, now_ms: u64) {
        if let Some(mut member) = self.members.get_mut(&instance)
            && matches!(&member.presence, Presence::Behind { link: own, .. } if *own == link.0)
        {
            let report = Report { position: Some(position), ..Report::default() };
            member.take(report, self.stamp(), now_ms);
        }
    }

    /// A client has said Bye to the relay that knew it.
    fn gone_behind(&self, link: Link, instance: u128) {
        let left = self.members.remove_if(
            &instance,
            |_, member| matches!(member.presence, Presence::Behind { link: own, .. } if own == link.0),
        );
        if let Some((_, member)) = left {
            self.note_bye(&member);
        }
    }

    /// A relay's link has ended, in whatever way: whoever was behind it is lost from now on. How many those are.
    pub(crate) fn unlink(&self, link: Link, now_ms: u64) -> usize {
        let mut lost = 0;
        for mut member in self.members.iter_mut() {
            let Presence::Behind { link: own, address } = &member.presence else { continue };
            if *own != link.0 {
                continue;
            }
            let since_ms = if address.is_some() { now_ms } else { member.lost_since_ms };
            let stamp = self.stamp();
            member.report = None;
            member.lose(stamp, since_ms);
            lost += 1;
        }
        if lost > 0 {
            self.unsaved.store(true, atomic::Ordering::Release);
        }
        lost
    }
}

/// A client as a relay tells it.
fn behind(link: Link, sighting: Sighting, stamp: u64, now_ms: u64) -> Member {
    let Sighting { mut known, report, connected, address, .. } = sighting;
    if connected {
        // The relay's clock may be another.
        known.last_seen_ms = now_ms;
    }
    Member {
        known,
        report,
        presence: Presence::Behind { link: link.0, address: connected.then_some(address) },
        lost_since_ms: now_ms,
        stamp,
        whole_stamp: stamp,
        unsaved: true,
    }
}

#[cfg(test)]
mod tests;
