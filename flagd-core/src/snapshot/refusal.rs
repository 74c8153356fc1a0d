//! Which entries of a new state are put in use, and which are refused.
//!
//! A client may meet what it does not understand: a definition of a later version, or one that is simply
//! broken. It must not guess, and it must not put half a change in use. So an entry is refused when it is bad
//! in itself (it does not parse, refers to something missing, or to itself in a circle), when an entry of the
//! same change is refused, or when it relies on a version that is refused. What is refused keeps its last good
//! version. Once the cause is mended, everything that was refused because of it is taken into use.
//!
//! Kills are outside of all this: each is obeyed as soon as it is seen. This file decides; it does not parse.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::definition::parse_kill;
use crate::entry::{EntryId, EntryKind, StoredEntry};
use crate::part::{self, PartName};
use crate::revision::Revision;
use crate::state::State;

use super::circle::knots;
use super::compile::{Compiler, Definition, Killed};
use super::slot::{FlagSlot, SegmentSlot};
use super::{Snapshot, Touched};

/// A refused entry, kept until it is mended.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) why: Arc<str>,
    /// What was refused, as far as it is known; nothing for a removal.
    attempt: Option<Attempt>,
    /// For a removal: the change it came with.
    removed_at: Option<Revision>,
}

/// Bytes and what compiling them gave, so that a refused entry is compiled once and not at every change.
#[derive(Clone, Debug)]
struct Attempt {
    bytes: Arc<[u8]>,
    outcome: Result<Definition, Arc<str>>,
}

/// An entry that was touched, or waits.
struct Candidate {
    /// The change that made it; `None` for a removal of which only the end is known.
    revision: Option<Revision>,
    wish: Wish,
    refused: Option<Arc<str>>,
}

/// What a candidate wants to put in use.
enum Wish {
    Set(Attempt),
    Remove,
}

impl Candidate {
    fn definition(&self) -> Option<&Definition> {
        match &self.wish {
            Wish::Set(attempt) => attempt.outcome.as_ref().ok(),
            Wish::Remove => None,
        }
    }

    fn uses(&self) -> &[EntryId] {
        self.definition().map_or(&[], |definition| &definition.origin().uses)
    }
}

type Candidates = BTreeMap<EntryId, Candidate>;

/// The snapshot of `state`, derived from `previous`.
pub(super) fn derive(previous: &Snapshot, state: &State, touched: Touched<'_>) -> Snapshot {
    let mut next = previous.clone();
    next.position = state.position();
    let ids = ids_to_look_at(previous, state, touched);
    for id in ids.iter().filter(|id| id.kind == EntryKind::KILL) {
        let kill = state.get(id).map(|entry| Arc::new(Killed::from(parse_kill(&entry.bytes))));
        next.flags.change(&id.key, |slot| slot.set_kill(kill));
    }
    let only_change = only_change(previous, state, touched);
    let mut candidates: Candidates = ids
        .iter()
        .filter_map(|id| Some((id.clone(), candidate(&mut next, state, id, only_change)?)))
        .collect();

    let mut queue = refuse_the_bad(&next, state, &mut candidates);
    while !queue.is_empty() {
        spread(previous, &next, &mut candidates, &mut queue);
        // The last good version of what was refused just now may use what is new.
        refuse_circles(&next, &mut candidates, &mut queue);
    }
    hold_back_removals_of_what_is_used(&next, &mut candidates);

    let mut held = BTreeMap::new();
    let mut lists = BTreeSet::new();
    for (id, candidate) in candidates {
        if let Some(PartName { segment, .. }) = PartName::of(&id) {
            lists.insert(segment);
        }
        match candidate.refused {
            None => next.put_in_use(&id, candidate.definition()),
            Some(why) => {
                let (attempt, removed_at) = match candidate.wish {
                    Wish::Set(attempt) => (Some(attempt), None),
                    Wish::Remove => (None, candidate.revision),
                };
                held.insert(id, Held { why, attempt, removed_at });
            }
        }
    }
    for id in ids.iter().filter(|id| id.kind == EntryKind::FLAG) {
        let is_refused = held.contains_key(id);
        if is_refused || next.flags.find(&id.key).is_some_and(FlagSlot::is_refused) {
            next.flags.change(&id.key, |slot| slot.set_refused(is_refused));
        }
    }
    for segment in lists {
        if next.segments.find(segment.as_str()).is_some_and(|slot| slot.parts.is_some()) {
            next.segments.change(segment.as_str(), SegmentSlot::gather_parts);
        }
    }
    next.held = Arc::new(held);
    next
}

/// What was touched, and whatever waits for its cause to be mended.
fn ids_to_look_at(previous: &Snapshot, state: &State, touched: Touched<'_>) -> BTreeSet<EntryId> {
    let mut ids: BTreeSet<EntryId> = previous.held.keys().cloned().collect();
    match touched {
        Touched::Only(touched) => ids.extend(touched.iter().cloned()),
        Touched::All => {
            ids.extend(state.entries().map(|(id, _)| id.clone()));
            for (key, slot) in previous.flags.iter() {
                if slot.flag().is_some() {
                    ids.insert(EntryId::new(EntryKind::FLAG, key));
                }
                if slot.kill().is_some() {
                    ids.insert(EntryId::new(EntryKind::KILL, key));
                }
            }
            for (key, slot) in previous.segments.iter() {
                if slot.segment.is_some() {
                    ids.insert(EntryId::new(EntryKind::SEGMENT, key));
                }
                let parts = slot.parts.iter().flat_map(|parts| parts.numbers());
                ids.extend(parts.map(|(list, number)| part::id(key, list, number)));
            }
        }
    }
    ids
}

/// The one change between the two, if there is only one: then every removal that was not seen before is its.
fn only_change(previous: &Snapshot, state: &State, touched: Touched<'_>) -> Option<Revision> {
    let (from, to) = (previous.position, state.position());
    let is_one = from.epoch == to.epoch && to.revision == from.revision.next();
    (is_one && matches!(touched, Touched::Only(_))).then_some(to.revision)
}

/// The entry as a candidate; `None` when it is nothing to be used. Bytes that are in use already are a candidate
/// too: they may come again with a change that is refused.
fn candidate(
    next: &mut Snapshot,
    state: &State,
    id: &EntryId,
    only_change: Option<Revision>,
) -> Option<Candidate> {
    if matches!(id.kind, EntryKind::KILL | EntryKind::TOMBSTONE | EntryKind::SEGMENT_TOMBSTONE) {
        return None;
    }
    let in_use = next.in_use(id);
    let held = next.held.get(id);
    let Some(StoredEntry { bytes, revision }) = state.get(id) else {
        in_use?;
        let known = held.and_then(|held| held.removed_at);
        let revision = removed_at(state, id).or(known).or(only_change);
        return Some(Candidate { revision, wish: Wish::Remove, refused: None });
    };
    let outcome_known = in_use.filter(|definition| definition.origin().bytes == *bytes).map(Ok);
    let attempt_known = held.and_then(|held| held.attempt.as_ref()).filter(|attempt| attempt.bytes == *bytes);
    let outcome = outcome_known.or_else(|| attempt_known.map(|attempt| attempt.outcome.clone()));
    let outcome = outcome.unwrap_or_else(|| {
        let mut compiler = Compiler::new(&mut next.flags, &mut next.segments);
        compiler.definition(id, bytes).map_err(Arc::from)
    });
    let attempt = Attempt { bytes: Arc::clone(bytes), outcome };
    Some(Candidate { revision: Some(*revision), wish: Wish::Set(attempt), refused: None })
}

/// The change that removed an entry, when a tombstone tells.
fn removed_at(state: &State, id: &EntryId) -> Option<Revision> {
    let kind = match id.kind {
        EntryKind::FLAG => EntryKind::TOMBSTONE,
        EntryKind::SEGMENT => EntryKind::SEGMENT_TOMBSTONE,
        _ => return None,
    };
    let tombstone = state.get(&EntryId { kind, key: Arc::clone(&id.key) })?;
    Some(tombstone.revision)
}

/// Refuses what is bad in itself; returns what it refused.
fn refuse_the_bad(next: &Snapshot, state: &State, candidates: &mut Candidates) -> Vec<EntryId> {
    let mut bad: Vec<(EntryId, Arc<str>)> = Vec::new();
    for (id, candidate) in candidates.iter() {
        if let Wish::Set(Attempt { outcome: Err(why), .. }) = &candidate.wish {
            bad.push((id.clone(), Arc::clone(why)));
        }
        if let (Wish::Set(_), Some(why)) = (&candidate.wish, misplaced(next, state, candidates, id)) {
            bad.push((id.clone(), why.into()));
        }
        // Who was written before a removal relies on what was there; the removal then waits.
        let is_missing = |used: &&EntryId| match candidates.get(*used) {
            Some(Candidate { wish: Wish::Remove, revision, .. }) => {
                revision.is_some() && candidate.revision >= *revision
            }
            Some(_) => false,
            None => next.in_use(used).is_none(),
        };
        if let Some(missing) = candidate.uses().iter().find(is_missing) {
            bad.push((id.clone(), format!("it uses {missing}, which does not exist").into()));
        }
    }
    let mut queue = Vec::new();
    for (id, why) in bad {
        refuse(candidates, &mut queue, &id, |_| why);
    }
    refuse_circles(next, candidates, &mut queue);
    queue
}

/// Why a part is none of its segment's, as far as that can be told. The parts of an archived segment stay for its return.
fn misplaced(next: &Snapshot, state: &State, candidates: &Candidates, id: &EntryId) -> Option<&'static str> {
    let name = PartName::of(id)?;
    let segment = EntryId::segment(&name.segment);
    let definition = match candidates.get(&segment).map(|candidate| &candidate.wish) {
        Some(Wish::Set(attempt)) => Some(attempt.outcome.as_ref().ok()?.clone()),
        Some(Wish::Remove) => None,
        None => next.in_use(&segment),
    };
    match definition {
        Some(Definition::Segment(segment)) if segment.keeps_in_parts(name.list) => None,
        Some(_) => Some("its segment does not keep this list in parts"),
        None if removed_at(state, &segment).is_some() => None,
        None => Some("its segment does not exist"),
    }
}

/// Refuses the youngest members of each knot of circles, until there is none: they closed it.
fn refuse_circles(next: &Snapshot, candidates: &mut Candidates, queue: &mut Vec<EntryId>) {
    loop {
        let uses_of = |id: &EntryId| -> Vec<EntryId> {
            match candidates.get(id) {
                Some(Candidate { wish: Wish::Set(attempt), refused: None, .. }) => {
                    attempt.outcome.as_ref().map(|to_be| to_be.origin().uses.to_vec()).unwrap_or_default()
                }
                // A removal too: whoever uses what it removes makes it wait, and then this goes on serving.
                _ => next.in_use(id).map(|definition| definition.origin().uses.to_vec()).unwrap_or_default(),
            }
        };
        let waiting = candidates.iter().filter(|(_, candidate)| candidate.refused.is_none());
        let knots = knots(waiting.map(|(id, _)| id), uses_of);
        let before = queue.len();
        for knot in knots {
            let is_new = |c: &&Candidate| c.refused.is_none() && matches!(c.wish, Wish::Set(_));
            let revision_of = |id: &EntryId| candidates.get(id).filter(is_new).map(|c| c.revision);
            let youngest = knot.iter().filter_map(revision_of).max();
            let closing: Vec<&EntryId> =
                knot.iter().filter(|id| youngest.is_some() && revision_of(id) == youngest).collect();
            for id in closing {
                refuse(candidates, queue, id, |_| "it uses itself in a circle".into());
            }
        }
        if queue.len() == before {
            return;
        }
    }
}

/// Refuses with each refused entry those of its change, and those that rely on it.
fn spread(previous: &Snapshot, next: &Snapshot, candidates: &mut Candidates, queue: &mut Vec<EntryId>) {
    let mut siblings: HashMap<Revision, Vec<EntryId>> = HashMap::new();
    let mut users: HashMap<EntryId, Vec<EntryId>> = HashMap::new();
    let mut removals_of_unknown_change: Vec<EntryId> = Vec::new();
    for (id, candidate) in candidates.iter() {
        match candidate.revision {
            Some(revision) => siblings.entry(revision).or_default().push(id.clone()),
            None => removals_of_unknown_change.push(id.clone()),
        }
        for used in candidate.uses() {
            users.entry(used.clone()).or_default().push(id.clone());
        }
        if id.kind == EntryKind::SEGMENT_PART {
            // A list is its parts, and a part is nothing without the segment that says whose units these are.
            users.entry(id.clone()).or_default().push(id.whole());
            users.entry(id.whole()).or_default().push(id.clone());
        }
    }
    // In another epoch revisions mean something else, so nothing is known to be older.
    let same_history = previous.position.epoch == next.position.epoch;
    let seen = if same_history { previous.position.revision } else { Revision::ZERO };

    while let Some(cause) = queue.pop() {
        let Some(Candidate { revision: Some(revision), wish, .. }) = candidates.get(&cause) else { continue };
        let (revision, is_removal) = (*revision, matches!(wish, Wish::Remove));
        for sibling in siblings.remove(&revision).unwrap_or_default() {
            refuse(candidates, queue, &sibling, |_| {
                format!("change {revision} also wrote {cause}, which is refused").into()
            });
        }
        let keeps_serving = next.in_use(&cause).is_some() || next.is_empty_part(&cause);
        for user in users.remove(&cause).unwrap_or_default() {
            // Who was written before the refused version relied on the one that goes on serving.
            let relies_on_older =
                is_removal || candidates.get(&user).is_some_and(|user| user.revision < Some(revision));
            // Nobody asks the parts of a segment that is not in use.
            let is_idle = user.kind == EntryKind::SEGMENT_PART && !keeps_serving;
            let goes_on = is_idle || keeps_serving && relies_on_older;
            if !goes_on {
                refuse(candidates, queue, &user, |_| format!("it uses {cause}, which is refused").into());
            }
        }
        if revision > seen {
            for removal in std::mem::take(&mut removals_of_unknown_change) {
                refuse(candidates, queue, &removal, |removal| {
                    removal.revision = Some(revision);
                    format!(
                        "its removal may belong to change {revision}, which wrote {cause}, which is refused"
                    )
                    .into()
                });
            }
        }
    }
}

fn refuse(
    candidates: &mut Candidates,
    queue: &mut Vec<EntryId>,
    id: &EntryId,
    why: impl FnOnce(&mut Candidate) -> Arc<str>,
) {
    if let Some(candidate) = candidates.get_mut(id).filter(|candidate| candidate.refused.is_none()) {
        candidate.refused = Some(why(candidate));
        queue.push(id.clone());
    }
}

/// What goes on serving, or begins to, keeps what it uses.
fn hold_back_removals_of_what_is_used(next: &Snapshot, candidates: &mut Candidates) {
    let is_accepted = |candidate: &Candidate| candidate.refused.is_none();
    let is_removed = |candidate: &Candidate| is_accepted(candidate) && matches!(candidate.wish, Wish::Remove);
    // Nothing refers to a part.
    let is_part = |id: &EntryId| id.kind == EntryKind::SEGMENT_PART;
    if !candidates.iter().any(|(id, candidate)| is_removed(candidate) && !is_part(id)) {
        return;
    }
    let goes_on = next.all_in_use().filter(|(id, _)| !candidates.get(id).is_some_and(is_accepted));
    let accepted = candidates.iter().filter(|(_, candidate)| is_accepted(candidate));
    let begins = accepted.filter_map(|(id, candidate)| Some((id.clone(), candidate.definition()?.clone())));
    let mut queue: Vec<(EntryId, Definition)> = goes_on.chain(begins).collect();
    while let Some((user, definition)) = queue.pop() {
        for used in &definition.origin().uses {
            let Some(candidate) = candidates.get_mut(used).filter(|candidate| is_removed(candidate)) else {
                continue;
            };
            candidate.refused = Some(format!("its removal waits: {user} still uses it").into());
            queue.extend(next.in_use(used).map(|definition| (used.clone(), definition)));
        }
    }
    let waits = |id: &EntryId| {
        let segment = candidates.get(&id.whole());
        segment.is_some_and(|segment| segment.refused.is_some() && matches!(segment.wish, Wish::Remove))
    };
    let removed = candidates.iter().filter(|(id, candidate)| is_part(id) && is_removed(candidate));
    let waiting: Vec<EntryId> = removed.map(|(id, _)| id.clone()).filter(waits).collect();
    for id in waiting {
        if let Some(candidate) = candidates.get_mut(&id) {
            candidate.refused = Some("its removal waits with that of its segment".into());
        }
    }
}
