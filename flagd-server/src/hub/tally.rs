//! How many clients have applied a change, and who of them is of interest: what one look of a `Wait` comes to.
//!
//! Nearly all clients only count; copied are no more than an answer lists, and those that are not connected. Whoever
//! was expected stays expected (`Lost`). Pure; where a client stands is for `standing` to say.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashSet};

use flagd_core::revision::Revision;

use super::merge::{Around, Glimpse};
use super::standing::{self, Heard};
use super::{ClientStanding, Standing, Verdict};
use crate::limits;

/// Counts clients, each once.
#[derive(Debug)]
pub(crate) struct Count {
    revision: Revision,
    expected: usize,
    applied: usize,
    copied: usize,
    missing: First,
    holders: First,
    absent: Vec<ClientStanding>,
    /// Of those that were lost at the last look, who has not been shown yet.
    unseen: HashSet<u128>,
}

/// What was counted.
#[derive(Debug)]
pub(crate) struct Tally {
    revision: Revision,
    /// All clients.
    pub(crate) expected: usize,
    /// Those that have applied the change.
    pub(crate) applied: usize,
    /// How many copies it took.
    pub(crate) copied: usize,
    /// Those that have not applied it.
    pub(crate) missing: Listed,
    /// Those that have, but somewhere in them an older snapshot still answers.
    pub(crate) holders: Listed,
    /// What else is known.
    pub(crate) around: Around,
    absent: Vec<ClientStanding>,
    unseen: HashSet<u128>,
}

/// How many there are, and the first of them by name.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// All of them.
    pub(crate) count: usize,
    /// As many as an answer lists.
    pub(crate) first: Vec<ClientStanding>,
}

/// Clients that were lost when they were last seen in this wait. Whoever was expected stays expected until its end: a
/// wait must not come out well because time passed.
#[derive(Debug, Default)]
pub(crate) struct Lost(Vec<ClientStanding>);

impl Count {
    /// Nobody yet. `revision` is the change's.
    pub(crate) fn new(revision: Revision, lost: &Lost) -> Count {
        Count {
            revision,
            expected: 0,
            applied: 0,
            copied: 0,
            missing: First::default(),
            holders: First::default(),
            absent: Vec::new(),
            unseen: lost.0.iter().map(|client| client.client.instance).collect(),
        }
    }

    /// One more.
    pub(crate) fn add(&mut self, client: Glimpse<'_>, standing: Standing) {
        self.expected += 1;
        self.unseen.remove(&client.known.instance);
        let (held, oldest) = client.report.map_or((0, None), |said| (said.held_snapshots, said.held_oldest));
        if standing == Standing::Applied {
            self.applied += 1;
            if holds_older(held, oldest, self.revision) {
                self.copied += self.holders.add(client, standing);
            }
        } else {
            self.copied += self.missing.add(client, standing);
        }
        if !client.connected {
            self.copied += 1;
            self.absent.push(standing::stands(client.copied(), standing));
        }
    }

    /// That was everybody.
    pub(crate) fn done(self, around: Around) -> Tally {
        let Count { revision, expected, applied, copied, missing, holders, mut absent, unseen } = self;
        standing::by_name(&mut absent);
        let (missing, holders) = (missing.listed(), holders.listed());
        Tally { revision, expected, applied, copied, missing, holders, around, absent, unseen }
    }
}

impl Tally {
    /// Whether the change is confirmed.
    pub(crate) fn verdict(&self) -> Verdict {
        let heard = Heard::from(&self.around.unanswered, &self.around.relays);
        standing::verdict(heard, self.expected, self.applied)
    }

    fn put_back(&mut self, client: ClientStanding) {
        self.expected += 1;
        if client.standing == Standing::Applied {
            self.applied += 1;
            if holds_older(client.held_snapshots, client.held_oldest, self.revision) {
                self.holders.put_back(&client);
            }
        } else {
            self.missing.put_back(&client);
        }
        self.absent.push(client);
    }
}

impl Listed {
    fn put_back(&mut self, client: &ClientStanding) {
        self.count += 1;
        if self.first.len() < limits::WAIT_LISTED_MAX {
            self.first.push(client.clone());
        }
    }
}

impl Lost {
    /// Puts back those that the roster has given up since, and remembers who is lost now. Who vanished before their
    /// time has said Bye.
    pub(crate) fn keep(&mut self, tally: &mut Tally, now_ms: u64) {
        for client in self.0.drain(..) {
            let given_up = now_ms.saturating_sub(client.client.last_seen_ms) >= limits::LOST_AFTER_MS;
            if given_up && tally.unseen.contains(&client.client.instance) {
                tally.put_back(client);
            }
        }
        self.0 = std::mem::take(&mut tally.absent);
    }
}

/// Whether somewhere in a client that has applied the change an older snapshot still answers.
fn holds_older(held: u32, oldest: Option<Revision>, wanted: Revision) -> bool {
    held > 0 && oldest.is_none_or(|oldest| oldest < wanted)
}

/// The first by name of those that were added, the last of them on top.
#[derive(Debug, Default)]
struct First {
    count: usize,
    heap: BinaryHeap<ByName>,
}

#[derive(Debug)]
struct ByName(ClientStanding);

impl First {
    /// How many copies it took: whoever comes after all that are listed is not copied.
    fn add(&mut self, client: Glimpse<'_>, standing: Standing) -> usize {
        self.count += 1;
        let is_full = self.heap.len() >= limits::WAIT_LISTED_MAX;
        let key = (client.known.name.as_str(), client.known.instance);
        if is_full && self.heap.peek().is_some_and(|last| last.key() < key) {
            return 0;
        }
        self.heap.push(ByName(standing::stands(client.copied(), standing)));
        if is_full {
            self.heap.pop();
        }
        1
    }

    fn listed(self) -> Listed {
        let first = self.heap.into_sorted_vec().into_iter().map(|ByName(client)| client).collect();
        Listed { count: self.count, first }
    }
}

impl ByName {
    fn key(&self) -> (&str, u128) {
        (&self.0.client.name, self.0.client.instance)
    }
}

impl Ord for ByName {
    fn cmp(&self, other: &ByName) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for ByName {
    fn partial_cmp(&self, other: &ByName) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &ByName) -> bool {
        self.key() == other.key()
    }
}

impl Eq for ByName {}

#[cfg(test)]
mod tests;
