//! Which entries of a new state are put in use, and which are refused.
//!
//! A client may meet what it does not understand: a definition of a later version, or one that is simply
//! broken. It must not guess, and it must not put half a change in use. So an entry is refused when it is bad
//! in itself (it does not parse, refers to something missing, or to itself in a circle), when an entry of the
//! same change is refused, or when it relies on a version that is refused. What is refused keeps its last good
//! version. Once the cause is mended, everything that was refused because of it is taken into use.
//!
//! Kills are outside of all this: each is obeyed as soon as it is seen. This file decides; it does not parse.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::definition::parse_kill;
use crate::entry::{EntryId, EntryKind, StoredEntry};
use crate::revision::Revision;
use crate::state::State;

use super::compile::{Compiler, Definition, Killed};
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

/// An entry that differs from what is in use.
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
        next.flags.change(&id.key, |slot| slot.kill = kill);
    }
    let mut candidates: Candidates =
        ids.iter().filter_map(|id| Some((id.clone(), candidate(&mut next, state, id)?))).collect();

    let mut queue = refuse_the_bad(&next, &mut candidates);
    spread(previous, &next, &mut candidates, &mut queue);
    hold_back_removals_of_what_is_used(&next, &mut candidates);

    let mut held = BTreeMap::new();
    for (id, candidate) in candidates {
        match candidate.refused {
            None => next.put_in_use(&id, candidate.definition().cloned()),
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
        if is_refused || next.flags.find(&id.key).is_some_and(|slot| slot.is_refused) {
            next.flags.change(&id.key, |slot| slot.is_refused = is_refused);
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
                if slot.flag.is_some() {
                    ids.insert(EntryId::new(EntryKind::FLAG, key));
                }
                if slot.kill.is_some() {
                    ids.insert(EntryId::new(EntryKind::KILL, key));
                }
            }
            for (key, slot) in previous.segments.iter() {
                if slot.segment.is_some() {
                    ids.insert(EntryId::new(EntryKind::SEGMENT, key));
                }
            }
        }
    }
    ids
}

/// The entry as a candidate; `None` when it is in use as the state holds it, or is nothing to be used.
fn candidate(next: &mut Snapshot, state: &State, id: &EntryId) -> Option<Candidate> {
    if matches!(id.kind, EntryKind::KILL | EntryKind::TOMBSTONE | EntryKind::SEGMENT_TOMBSTONE) {
        return None;
    }
    let in_use = next.in_use(id);
    let held = next.held.get(id);
    let Some(StoredEntry { bytes, revision }) = state.get(id) else {
        in_use?;
        let known = held.and_then(|held| held.removed_at);
        let revision = removed_at(state, id).or(known);
        return Some(Candidate { revision, wish: Wish::Remove, refused: None });
    };
    if in_use.is_some_and(|definition| definition.origin().bytes == *bytes) {
        return None;
    }
    let known =
        held.and_then(|held| held.attempt.as_ref()).filter(|attempt| attempt.bytes == *bytes).cloned();
    let attempt = known.unwrap_or_else(|| {
        let mut compiler = Compiler { flags: &mut next.flags, segments: &mut next.segments };
        let outcome = compiler.definition(id, bytes).map_err(Arc::from);
        Attempt { bytes: Arc::clone(bytes), outcome }
    });
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
fn refuse_the_bad(next: &Snapshot, candidates: &mut Candidates) -> Vec<EntryId> {
    let mut bad: Vec<(EntryId, Arc<str>)> = Vec::new();
    for (id, candidate) in candidates.iter() {
        if let Wish::Set(Attempt { outcome: Err(why), .. }) = &candidate.wish {
            bad.push((id.clone(), Arc::clone(why)));
        }
        let missing = |used: &&EntryId| match candidates.get(*used) {
            Some(candidate) => matches!(candidate.wish, Wish::Remove),
            None => next.in_use(used).is_none(),
        };
        if let Some(missing) = candidate.uses().iter().find(missing) {
            bad.push((id.clone(), format!("it uses {missing}, which does not exist").into()));
        }
    }
    bad.extend(circles(next, candidates).into_iter().map(|id| (id, "it uses itself in a circle".into())));
    for (id, why) in &bad {
        if let Some(candidate) = candidates.get_mut(id) {
            candidate.refused.get_or_insert_with(|| Arc::clone(why));
        }
    }
    bad.into_iter().map(|(id, _)| id).collect()
}

/// The candidates that close a circle of references. Walks without recursion: forged chains may be long.
fn circles(next: &Snapshot, candidates: &Candidates) -> BTreeSet<EntryId> {
    let uses_of = |id: &EntryId| -> Vec<EntryId> {
        match candidates.get(id) {
            Some(candidate) => candidate.uses().to_vec(),
            None => next.in_use(id).map(|definition| definition.origin().uses.to_vec()).unwrap_or_default(),
        }
    };
    let mut found = BTreeSet::new();
    let mut done: HashSet<EntryId> = HashSet::new();
    for (start, candidate) in candidates {
        if candidate.uses().is_empty() || done.contains(start) {
            continue;
        }
        let mut path: Vec<(EntryId, Vec<EntryId>)> = vec![(start.clone(), uses_of(start))];
        let mut on_path: HashSet<EntryId> = HashSet::from([start.clone()]);
        while let Some((id, rest)) = path.last_mut() {
            let Some(used) = rest.pop() else {
                on_path.remove(id);
                done.insert(id.clone());
                path.pop();
                continue;
            };
            if on_path.contains(&used) {
                let circle = path.iter().map(|(id, _)| id).rev();
                let mut closed = false;
                found.extend(circle.take_while(|id| !std::mem::replace(&mut closed, **id == used)).cloned());
            } else if !done.contains(&used) {
                on_path.insert(used.clone());
                let below = uses_of(&used);
                path.push((used, below));
            }
        }
    }
    found.retain(|id| candidates.contains_key(id));
    found
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
    }
    // In another epoch revisions mean something else, so nothing is known to be older.
    let same_history = previous.position.epoch == next.position.epoch;
    let seen = if same_history { previous.position.revision } else { Revision::ZERO };

    while let Some(cause) = queue.pop() {
        let Some(revision) = candidates.get(&cause).and_then(|candidate| candidate.revision) else {
            continue;
        };
        for sibling in siblings.remove(&revision).unwrap_or_default() {
            refuse(candidates, queue, &sibling, |_| {
                format!("change {revision} also wrote {cause}, which is refused")
            });
        }
        let keeps_serving = next.in_use(&cause).is_some();
        for user in users.remove(&cause).unwrap_or_default() {
            // Who was written before the refused version relied on the one that goes on serving.
            let relies_on_older = candidates.get(&user).is_some_and(|user| user.revision < Some(revision));
            if !(keeps_serving && relies_on_older) {
                refuse(candidates, queue, &user, |_| format!("it uses {cause}, which is refused"));
            }
        }
        if revision > seen {
            for removal in std::mem::take(&mut removals_of_unknown_change) {
                refuse(candidates, queue, &removal, |removal| {
                    removal.revision = Some(revision);
                    format!(
                        "its removal may belong to change {revision}, which wrote {cause}, which is refused"
                    )
                });
            }
        }
    }
}

fn refuse(
    candidates: &mut Candidates,
    queue: &mut Vec<EntryId>,
    id: &EntryId,
    why: impl FnOnce(&mut Candidate) -> String,
) {
    if let Some(candidate) = candidates.get_mut(id).filter(|candidate| candidate.refused.is_none()) {
        candidate.refused = Some(why(candidate).into());
        queue.push(id.clone());
    }
}

/// A last good version goes on serving as it did, so what it uses stays.
fn hold_back_removals_of_what_is_used(next: &Snapshot, candidates: &mut Candidates) {
    let is_accepted = |candidate: &Candidate| candidate.refused.is_none();
    let is_removed = |candidate: &Candidate| is_accepted(candidate) && matches!(candidate.wish, Wish::Remove);
    if !candidates.values().any(is_removed) {
        return;
    }
    let mut queue: Vec<(EntryId, Definition)> =
        next.all_in_use().filter(|(id, _)| !candidates.get(id).is_some_and(is_accepted)).collect();
    while let Some((user, definition)) = queue.pop() {
        for used in &definition.origin().uses {
            let Some(candidate) = candidates.get_mut(used).filter(|candidate| is_removed(candidate)) else {
                continue;
            };
            candidate.refused = Some(format!("its removal waits: {user} still uses it").into());
            queue.extend(next.in_use(used).map(|definition| (used.clone(), definition)));
        }
    }
}
