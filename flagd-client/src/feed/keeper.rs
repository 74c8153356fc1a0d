//! Keeps the state, brings it further, and makes views of it.
//!
//! The rules that must never bend: a state is put in use only if its digest is the promised one, never an older
//! one, and a catching-up only at its end; a kill is obeyed whatever else is wrong. The keeper knows states,
//! not streams: when to ask, to wait or to give up is the machine's.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use flagd_core::entry::{EntryId, EntryKind, StoredEntry};
use flagd_core::key::EnvironmentName;
use flagd_core::revision::{Epoch, Position, Revision};
use flagd_core::snapshot::{Snapshot as Compiled, Touched};
use flagd_core::state::{DeltaError, State};
use flagd_proto::convert;

use super::parts::{DeltaParts, FullParts};
use crate::view::{Source, View};

/// The versions that still serve where the state's own are refused.
pub(crate) type LastGood = BTreeMap<EntryId, Arc<[u8]>>;

/// A set of kills, and the place in history at which it held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kills {
    pub(crate) epoch: Epoch,
    pub(crate) revision: Revision,
    /// The kills as they are stored, by the flag's key.
    pub(crate) by_flag: BTreeMap<Arc<str>, Arc<[u8]>>,
}

impl Kills {
    fn place(&self) -> (Epoch, Revision) {
        (self.epoch, self.revision)
    }
}

/// What was found before any server answered.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// The state on disk, with the last good versions of what it refused.
    pub(crate) state: Option<(State, LastGood)>,
    /// The kills on disk.
    pub(crate) kills: Option<Kills>,
    /// The bootstrap file.
    pub(crate) bootstrap: Option<State>,
}

/// Kills in something that did not fit.
#[derive(Debug)]
pub(crate) enum Seen {
    /// All that were there at that place: every entry of a full state was read.
    All(Kills),
    /// Some of them; there may be others.
    Some(Kills),
}

/// What became of something that a server sent.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Our state is the sent one; with a view when evaluations must change.
    InUse(Option<Arc<View>>),
    /// Taken in, but in use only later.
    Ahead,
    /// Of the past: ignored.
    Older,
    /// It does not fit; nothing was taken from it. These kills stand in it.
    Wrong { why: &'static str, kills: Option<Seen> },
}

/// A state on its way to `until`, while evaluations go on with the old one.
#[derive(Debug)]
struct Ahead {
    state: State,
    until: Revision,
    /// Made change by change: what is refused, is refused with the change that it came with.
    compiled: Option<Compiled>,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Keeper {
    environment: EnvironmentName,
    state: Option<State>,
    source: Source,
    ahead: Option<Ahead>,
    bootstrap: Option<State>,
    last_good: LastGood,
    /// Kills that count although the state does not hold them.
    obeyed: Option<Kills>,
    /// The kills that were last given to be written down.
    written: BTreeMap<Arc<str>, Arc<[u8]>>,
    /// They could not be.
    unwritten: bool,
    view: Arc<View>,
}

impl Keeper {
    pub(crate) fn new(environment: EnvironmentName) -> Keeper {
        Keeper {
            environment,
            state: None,
            source: Source::Nothing,
            ahead: None,
            bootstrap: None,
            last_good: LastGood::new(),
            obeyed: None,
            written: BTreeMap::new(),
            unwritten: false,
            view: Arc::new(View::nothing()),
        }
    }

    /// The state in use; `None` before a server or the disk gave one.
    pub(crate) fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// The position of the state in use.
    pub(crate) fn position(&self) -> Option<Position> {
        self.state.as_ref().map(State::position)
    }

    /// How far the bytes have come, in use or not.
    pub(crate) fn reached(&self) -> Option<Position> {
        self.ahead.as_ref().map(|ahead| ahead.state.position()).or(self.position())
    }

    pub(crate) fn is_catching(&self) -> bool {
        self.ahead.is_some()
    }

    /// What evaluations use.
    pub(crate) fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// The flags whose kills are obeyed beside the state.
    pub(crate) fn obeyed_kills(&self) -> impl Iterator<Item = &Arc<str>> {
        self.obeyed.iter().flat_map(|obeyed| obeyed.by_flag.keys())
    }

    /// Takes over what was found on disk, unless a server was faster. Gives a view if evaluations must change.
    pub(crate) fn load(&mut self, loaded: Loaded) -> Option<Arc<View>> {
        let mut changed = false;
        if let (None, Some((state, last_good))) = (&self.state, loaded.state) {
            self.state = Some(state);
            self.source = Source::Disk;
            self.last_good = last_good;
            changed = true;
        } else if let (None, Some(bootstrap)) = (&self.state, loaded.bootstrap) {
            self.bootstrap = Some(bootstrap);
            self.source = Source::Bootstrap;
            changed = true;
        }
        if let Some(kills) = loaded.kills {
            self.written.clone_from(&kills.by_flag);
            changed |= self.obey_loaded(kills);
        }
        changed.then(|| self.compile(Touched::All))
    }

    /// Kills from the disk count unless the state is younger; those that the state holds itself are no news.
    fn obey_loaded(&mut self, mut kills: Kills) -> bool {
        if let Some(state) = &self.state {
            if place_of(state) > kills.place() {
                return false;
            }
            kills.by_flag.retain(|key, _| state.get(&EntryId::new(EntryKind::KILL, key)).is_none());
        }
        let news = !kills.by_flag.is_empty();
        if news {
            self.obeyed = Some(kills);
        }
        news
    }

    /// Takes a whole state.
    pub(crate) fn take_full(&mut self, parts: FullParts) -> Outcome {
        let claim = match parts.claim() {
            Ok(claim) => claim,
            Err(why) => {
                let kills = self.kills_of_parts(&parts);
                let kills = if parts.is_whole() { Seen::All(kills) } else { Seen::Some(kills) };
                return Outcome::Wrong { why, kills: Some(kills) };
            }
        };
        let state =
            State::from_entries(self.environment.clone(), claim.epoch, claim.revision, parts.into_entries());
        if state.position() != claim {
            return Outcome::Wrong { why: "digest", kills: Some(Seen::All(kills_of(&state))) };
        }
        if self.state.as_ref().is_some_and(|ours| place_of(&state) < place_of(ours)) {
            return Outcome::Older;
        }
        self.ahead = None;
        if self.position() == Some(claim) {
            self.source = Source::Server;
            return Outcome::InUse(self.let_go());
        }
        Outcome::InUse(Some(self.put_in_use(state, Touched::All, None)))
    }

    /// Takes one change.
    pub(crate) fn take_delta(&mut self, parts: DeltaParts) -> Outcome {
        let place =
            parts.wire().epoch.map(|epoch| (convert::epoch_from_wire(epoch), Revision(parts.wire().to)));
        let from_wire = parts.wire().entries.iter().filter_map(|entry| convert::write_from_wire(entry).ok());
        let by_flag = from_wire
            .filter(|write| write.id.kind == EntryKind::KILL)
            .filter_map(|write| Some((write.id.key, write.bytes?)))
            .collect();
        let (epoch, revision) = place.unwrap_or_else(|| self.place());
        let kills = Some(Seen::Some(Kills { epoch, revision, by_flag }));
        let delta = match parts.into_delta() {
            Ok(delta) => delta,
            Err(why) => return Outcome::Wrong { why, kills },
        };
        let touched: Vec<EntryId> = delta.writes.iter().map(|write| write.id.clone()).collect();
        let working = match (&mut self.ahead, &mut self.state) {
            (Some(ahead), _) => &mut ahead.state,
            (None, Some(state)) => state,
            (None, None) => return Outcome::Wrong { why: "revision", kills },
        };
        if delta.epoch == working.position().epoch && delta.to <= working.revision() {
            return Outcome::Older;
        }
        if let Err(error) = working.apply(&delta) {
            self.ahead = None;
            let why = match error {
                DeltaError::OtherEpoch { .. } => "epoch",
                DeltaError::OtherDigest { .. } => "digest",
                _ => "revision",
            };
            return Outcome::Wrong { why, kills };
        }
        if let Some(ahead) = &mut self.ahead {
            let before = ahead.compiled.as_ref().or(self.view.compiled.as_ref());
            ahead.compiled = before.map(|before| before.derive(&ahead.state, Touched::Only(&touched)));
            if ahead.state.revision() < ahead.until {
                return Outcome::Ahead;
            }
        }
        let (state, made) = match self.ahead.take() {
            Some(ahead) => (Some(ahead.state), ahead.compiled),
            None => (self.state.take(), None),
        };
        match state {
            Some(state) => Outcome::InUse(Some(self.put_in_use(state, Touched::Only(&touched), made))),
            None => Outcome::Wrong { why: "revision", kills: None },
        }
    }

    /// The changes up to `until` follow; evaluations change once, at its end.
    pub(crate) fn start_catching(&mut self, until: Revision) -> Outcome {
        match &self.state {
            None => Outcome::Wrong { why: "revision", kills: None },
            Some(state) if until <= state.revision() => Outcome::InUse(None),
            Some(state) => {
                self.ahead = Some(Ahead { state: state.clone(), until, compiled: None });
                Outcome::Ahead
            }
        }
    }

    /// Forgets what was taken in but is not in use.
    pub(crate) fn give_up_catching(&mut self) {
        self.ahead = None;
    }

    /// Obeys these kills beside the state. Gives a view if evaluations must change. A kill that was obeyed ends only
    /// where it is known to be gone: all kills of that place or a later one were seen, and it is not among them.
    pub(crate) fn obey(&mut self, seen: Seen) -> Option<Arc<View>> {
        let known = self.obeyed.as_ref();
        let obeyed = match seen {
            Seen::All(kills) if known.is_none_or(|known| known.place() <= kills.place()) => kills,
            Seen::All(more) | Seen::Some(more) => {
                if more.by_flag.is_empty() {
                    return None;
                }
                let mut kills = known.cloned().unwrap_or_default();
                // Of a flag that was killed twice the later kill counts.
                if kills.place() <= more.place() {
                    (kills.epoch, kills.revision) = more.place();
                    kills.by_flag.extend(more.by_flag);
                } else {
                    for (key, bytes) in more.by_flag {
                        kills.by_flag.entry(key).or_insert(bytes);
                    }
                }
                kills
            }
        };
        if known == Some(&obeyed) {
            return None;
        }
        self.obeyed = Some(obeyed);
        Some(self.compile(Touched::All))
    }

    /// A server has confirmed our state, so the kills beside it of that place or an earlier one are lifted. Gives a
    /// view if evaluations must change.
    pub(crate) fn let_go(&mut self) -> Option<Arc<View>> {
        self.forget_superseded().then(|| self.compile(Touched::All))
    }

    /// Forgets the kills beside a state that holds all kills of that place itself; whether there were any.
    fn forget_superseded(&mut self) -> bool {
        let place = self.place();
        self.obeyed.take_if(|obeyed| obeyed.place() <= place).is_some()
    }

    /// The kills, if they are not those that were last written down.
    pub(crate) fn kills_to_write(&mut self) -> Option<Kills> {
        let mut all = self.state.as_ref().map(kills_of).unwrap_or_default();
        if let Some(obeyed) = &self.obeyed {
            (all.epoch, all.revision) = all.place().max(obeyed.place());
            for (key, bytes) in &obeyed.by_flag {
                all.by_flag.entry(Arc::clone(key)).or_insert_with(|| Arc::clone(bytes));
            }
        }
        if all.by_flag == self.written && !self.unwritten {
            return None;
        }
        self.unwritten = false;
        self.written.clone_from(&all.by_flag);
        Some(all)
    }

    /// What [`Keeper::kills_to_write`] gave could not be written: it will be given again.
    pub(crate) fn kills_not_written(&mut self) {
        self.unwritten = true;
    }

    fn place(&self) -> (Epoch, Revision) {
        self.state.as_ref().map(place_of).unwrap_or_default()
    }

    fn kills_of_parts(&self, parts: &FullParts) -> Kills {
        let place =
            parts.place().map(|(epoch, revision)| (convert::epoch_from_wire(epoch), Revision(revision)));
        let (epoch, revision) = place.unwrap_or_else(|| self.place());
        let kills = parts.kills().map(|(id, entry)| (Arc::clone(&id.key), Arc::clone(&entry.bytes)));
        Kills { epoch, revision, by_flag: kills.collect() }
    }

    /// With what was made of the state already, if so.
    fn put_in_use(&mut self, state: State, touched: Touched<'_>, made: Option<Compiled>) -> Arc<View> {
        self.state = Some(state);
        let from_server = matches!(self.source, Source::Disk | Source::Server);
        if !from_server {
            // A bootstrap is no earlier version of anything: nothing of it may serve as a last good one.
            self.view = Arc::new(View::nothing());
            self.bootstrap = None;
        }
        self.source = Source::Server;
        self.forget_superseded();
        self.compile_after(touched, made)
    }

    /// Makes the view of the state in use and of the kills beside it.
    fn compile(&mut self, touched: Touched<'_>) -> Arc<View> {
        self.compile_after(touched, None)
    }

    /// [`Keeper::compile`] where something was made of the state itself already, without the kills beside it.
    fn compile_after(&mut self, touched: Touched<'_>, made: Option<Compiled>) -> Arc<View> {
        let base = match (&self.state, &self.bootstrap) {
            (Some(state), _) | (None, Some(state)) => Cow::Borrowed(state),
            (None, None) => Cow::Owned(State::empty(self.environment.clone(), Epoch::default())),
        };
        let position = base.position();
        let beside: Vec<Arc<str>> = self.obeyed_kills().cloned().collect();
        let plain = beside.is_empty() && self.view.obeyed_kills.is_empty();
        let evaluated = with_kills(base, self.obeyed.as_ref());
        let touched = if plain { touched } else { Touched::All };
        let compiled = match (made, &self.view.compiled) {
            (Some(made), _) if plain => made,
            (Some(made), _) => made.derive(&evaluated, touched),
            (None, Some(before)) => before.derive(&evaluated, touched),
            (None, None) => Compiled::build(&evaluated, &self.last_good),
        };
        self.view = Arc::new(View::new(compiled, position, self.source, beside));
        Arc::clone(&self.view)
    }
}

fn place_of(state: &State) -> (Epoch, Revision) {
    let Position { epoch, revision, .. } = state.position();
    (epoch, revision)
}

/// The kills that a state holds.
fn kills_of(state: &State) -> Kills {
    let (epoch, revision) = place_of(state);
    let kills =
        state.entries_of(EntryKind::KILL).map(|(id, entry)| (Arc::clone(&id.key), Arc::clone(&entry.bytes)));
    Kills { epoch, revision, by_flag: kills.collect() }
}

/// The state as evaluations shall see it: with these kills, where it has none of its own.
fn with_kills<'s>(state: Cow<'s, State>, kills: Option<&Kills>) -> Cow<'s, State> {
    let Some(kills) = kills.filter(|kills| !kills.by_flag.is_empty()) else { return state };
    let mut entries: BTreeMap<EntryId, StoredEntry> =
        state.entries().map(|(id, entry)| (id.clone(), entry.clone())).collect();
    for (key, bytes) in &kills.by_flag {
        let entry = StoredEntry { bytes: Arc::clone(bytes), revision: kills.revision };
        entries.entry(EntryId::new(EntryKind::KILL, key)).or_insert(entry);
    }
    let Position { epoch, revision, .. } = state.position();
    Cow::Owned(State::from_entries(state.environment().clone(), epoch, revision, entries))
}
