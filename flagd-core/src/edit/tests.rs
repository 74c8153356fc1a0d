//! Stories and tables of all verbs: an environment from JSON, one edit after another, and what each one said.

mod apply;
mod definitions;
mod effects;
mod first;
mod follow;
mod history;
mod kill;
mod parts;
mod properties;
mod ramp;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::canonical::parse_percent;
use crate::definition::{FlagDefinition, SegmentDefinition, parse_flag, parse_segment};
use crate::key::{EnvironmentName, FlagKey, RuleName, SegmentKey, VariantName};
use crate::revision::Epoch;
use crate::time::Timestamp;

/// An environment that is edited, and what its sources applied last.
#[derive(Clone, Debug)]
struct World {
    state: State,
    bases: BTreeMap<&'static str, BTreeMap<EntryId, Arc<[u8]>>>,
}

impl World {
    fn empty() -> World {
        let state = State::empty(EnvironmentName::new("default").unwrap(), Epoch::default());
        World { state, bases: BTreeMap::new() }
    }

    /// An environment of these flags, given as the members of `"flags"`.
    fn of(flags: &str) -> World {
        World::file(&format!("{{\"flags\": {{{flags}}}}}"))
    }

    fn file(file: &str) -> World {
        let mut world = World::empty();
        world.edit(&Edit::Put { file: file.to_owned(), mode: PutMode::Create });
        world
    }

    fn plan(&self, edit: &Edit) -> Result<Plan, EditError> {
        plan(&self.state, edit, &author())
    }

    fn edit(&mut self, edit: &Edit) -> Plan {
        let plan = self.plan(edit).unwrap_or_else(|error| panic!("{error} {error:?}"));
        self.write(plan.writes.clone());
        plan
    }

    fn write(&mut self, writes: Vec<EntryWrite>) {
        let delta = self.state.delta(writes);
        self.state.apply(&delta).unwrap();
    }

    fn put(&mut self, flags: &str) -> Plan {
        self.edit(&put(flags, PutMode::CreateOrReplace))
    }

    fn apply(&mut self, source: &'static str, file: &str, take: Take) -> Result<Plan, EditError> {
        let base = self.bases.get(source).cloned().unwrap_or_default();
        let plan = self.plan(&Edit::Apply { file: file.to_owned(), base, take })?;
        self.write(plan.writes.clone());
        self.bases.insert(source, plan.base.clone());
        Ok(plan)
    }

    fn ramp(&mut self, wish: &str) -> Plan {
        self.edit(&ramp(wish))
    }

    fn flag(&self, key: &str) -> FlagDefinition {
        parse_flag(&flag_key(key), &self.text(&EntryId::new(EntryKind::FLAG, key))).unwrap()
    }

    fn segment(&self, key: &str) -> SegmentDefinition {
        parse_segment(&segment_key(key), &self.text(&EntryId::new(EntryKind::SEGMENT, key))).unwrap()
    }

    fn text(&self, id: &EntryId) -> String {
        let entry = self.state.get(id).unwrap_or_else(|| panic!("no {id}"));
        String::from_utf8(entry.bytes.to_vec()).unwrap()
    }

    fn has(&self, kind: EntryKind, key: &str) -> bool {
        self.state.get(&EntryId::new(kind, key)).is_some()
    }

    /// What `otherwise` serves, as the list of stretches: `on 250000, off 750000`.
    fn otherwise(&self, key: &str) -> String {
        let flag = self.flag(key);
        let line = lay::stretches(&flag.otherwise, &flag.off_variant);
        line.iter().map(|s| format!("{} {}", s.variant, s.length.0)).collect::<Vec<_>>().join(", ")
    }

    /// What `otherwise` serves, as `field` texts show it.
    fn field(&self, key: &str, field: &str) -> Option<String> {
        let bytes = self.text(&EntryId::new(EntryKind::FLAG, key));
        difference::Fields::read(Some(bytes.as_bytes())).text(field)
    }
}

fn author() -> Author {
    let now = Timestamp::parse("2026-11-23T03:00:00Z").unwrap();
    Author { actor: "ada".to_owned(), reason: Some("INC-7".to_owned()), now }
}

fn put(flags: &str, mode: PutMode) -> Edit {
    Edit::Put { file: format!("{{\"flags\": {{{flags}}}}}"), mode }
}

/// A wish in the words of `flagctl ramp`: `new-checkout on=25% --rule dach --from b`.
fn ramp(wish: &str) -> Edit {
    let mut words = wish.split(' ');
    let flag = flag_key(words.next().unwrap());
    let share = words.next().unwrap().trim_end_matches('%');
    let (variant, share) = match share.split_once('=') {
        Some((variant, share)) => (Some(VariantName::new(variant).unwrap()), share),
        None => (None, share),
    };
    let share = parse_percent(share).unwrap();
    let (mut place, mut from) = (PlaceChoice::Only, None);
    while let Some(word) = words.next() {
        match word {
            "--otherwise" => place = PlaceChoice::Otherwise,
            "--rule" => place = PlaceChoice::Rule(RuleName::new(words.next().unwrap()).unwrap()),
            "--from" => from = Some(VariantName::new(words.next().unwrap()).unwrap()),
            other => panic!("{other}"),
        }
    }
    Edit::Ramp { flag, variant, share, place, from }
}

fn flag_key(key: &str) -> FlagKey {
    FlagKey::new(key).unwrap()
}

fn segment_key(key: &str) -> SegmentKey {
    SegmentKey::new(key).unwrap()
}

fn kills(keys: &[&str]) -> Edit {
    Edit::Kill(keys.iter().map(|key| flag_key(key)).collect())
}

fn revives(keys: &[&str]) -> Edit {
    Edit::Revive(keys.iter().map(|key| flag_key(key)).collect())
}

/// The notes, each with its severity.
fn told(plan: &Plan) -> Vec<String> {
    plan.notes.iter().map(|note| format!("{:?}: {}", note.severity, note.text)).collect()
}

/// The effects, each with its flag and movement.
fn effects(plan: &Plan) -> Vec<String> {
    plan.effects.iter().map(|e| format!("{} {:?}: {}", e.flag, e.movement, e.summary)).collect()
}
