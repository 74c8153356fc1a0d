//! A definition as it runs: names are numbers, shares are points, and whatever can be decided once is decided.
//!
//! Compiling only refuses what cannot run at all; whether the references hold is the business of `refusal`,
//! because it depends on the other definitions. A definition refers to flags and segments by their slots, so
//! that replacing one of these does not touch it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use crate::check::Fate;
use crate::definition::{
    self, FlagDefinition, FlagType, Kill, Layout, SegmentDefinition, SegmentList, Stretch, Switch, Units,
    parse_stored_flag, parse_stored_segment,
};
use crate::entry::{EntryId, EntryKind};
use crate::key::{FlagKey, SegmentKey, VariantName};
use crate::limits;
use crate::part::PartName;
use crate::problem::Problem;
use crate::split::{LINE, Point, Seed, join, lay};
use crate::time::Timestamp;

use super::condition::{Path, Test};
use super::explain;
use super::ladder::Ladder;
use super::part::Part;
use super::slot::{FlagSlot, SegmentSlot};
use super::slots::{Slot, Slots};
use super::stretch::{Arm, Split};
use super::unit_set::UnitSet;

/// A flag, as it runs. In this order in memory: what every evaluation reads comes first.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Flag {
    /// Enabled, without requirements and rules: `otherwise` decides.
    pub(super) is_plain: bool,
    pub(super) switch: Switch,
    pub(super) value_type: FlagType,
    pub(super) off_variant: u32,
    pub(super) seed: Seed,
    pub(super) variants: Variants,
    /// What is served when no rule holds.
    pub(super) otherwise: Serve,
    pub(super) rules: Box<[Rule]>,
    pub(super) ladder: Option<Box<Ladder>>,
    pub(super) requires: Box<[Requirement]>,
    pub(super) origin: Origin,
}

/// What a definition was made of, and what it needs.
#[derive(Debug)]
pub(super) struct Origin {
    /// The stored bytes.
    pub(super) bytes: Arc<[u8]>,
    /// The flags and segments that it refers to, each once.
    pub(super) uses: Box<[EntryId]>,
}

#[derive(Debug)]
pub(super) struct Variant {
    pub(super) name: Cow<'static, str>,
    pub(super) value: Value,
}

/// The variants of a flag, in byte order of their names.
#[derive(Debug)]
pub(super) enum Variants {
    /// Those of nearly every boolean flag: they cost no memory, and are never waited for.
    OnOff,
    Own(Box<[Variant]>),
}

/// The variants of a boolean flag that names none, in byte order.
pub(super) static ON_OFF: [Variant; 2] = [
    Variant { name: Cow::Borrowed("off"), value: Value::Bool(false) },
    Variant { name: Cow::Borrowed("on"), value: Value::Bool(true) },
];

impl From<&BTreeMap<VariantName, Value>> for Variants {
    fn from(variants: &BTreeMap<VariantName, Value>) -> Variants {
        let known = ON_OFF.iter().map(|variant| (variant.name.as_ref(), &variant.value));
        if variants.iter().map(|(name, value)| (name.as_str(), value)).eq(known) {
            return Variants::OnOff;
        }
        let own = |(name, value): (&VariantName, &Value)| Variant {
            name: Cow::Owned(name.as_str().to_owned()),
            value: value.clone(),
        };
        Variants::Own(variants.iter().map(own).collect())
    }
}

impl Variants {
    #[inline]
    pub(super) fn get(&self, variant: u32) -> Option<&Variant> {
        match self {
            Variants::OnOff => ON_OFF.get(variant as usize),
            Variants::Own(own) => own.get(variant as usize),
        }
    }
}

#[derive(Debug)]
pub(super) struct Requirement {
    pub(super) flag: Slot,
    pub(super) key: Box<str>,
    /// Names, not numbers: the required flag may change its variants without touching its users.
    pub(super) serves: Box<[Box<str>]>,
}

#[derive(Debug)]
pub(super) struct Rule {
    pub(super) name: Box<str>,
    /// What is known of the condition without a context.
    pub(super) fate: Fate,
    pub(super) condition: Condition,
    pub(super) serve: Serve,
}

/// What is served at one place; variants are positions in [`Flag::variants`].
#[derive(Debug)]
pub(super) enum Serve {
    Variant(u32),
    Split(Split),
}

/// A segment, as it runs.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) by: Option<Path>,
    pub(super) include: Members,
    pub(super) exclude: Members,
    pub(super) condition: Option<Condition>,
    pub(super) origin: Origin,
}

/// The units of one list.
#[derive(Debug)]
pub(super) enum Members {
    Listed(UnitSet),
    /// They lie beside the segment, in its slot.
    InParts,
}

impl TryFrom<&Units> for Members {
    type Error = String;

    fn try_from(units: &Units) -> Result<Members, String> {
        match units {
            Units::Listed(units) => UnitSet::of(units.iter().map(AsRef::as_ref))
                .map(Members::Listed)
                .ok_or_else(|| format!("a listed unit has 1 to {} bytes", limits::UNIT_MAX_BYTES)),
            Units::InParts => Ok(Members::InParts),
        }
    }
}

impl Segment {
    #[inline]
    pub(super) fn members(&self, list: SegmentList) -> &Members {
        match list {
            SegmentList::Include => &self.include,
            SegmentList::Exclude => &self.exclude,
        }
    }

    pub(super) fn keeps_in_parts(&self, list: SegmentList) -> bool {
        matches!(self.members(list), Members::InParts)
    }
}

/// A condition, as it runs.
#[derive(Debug)]
pub(super) enum Condition {
    All(Box<[Condition]>),
    Any(Box<[Condition]>),
    Not(Box<Condition>),
    Segment { slot: Slot, key: Box<str> },
    Time { after: Option<Timestamp>, before: Option<Timestamp> },
    Attribute { path: Arc<Path>, test: Test, described: Box<str> },
}

/// A kill, as it is obeyed: its own value counts, whatever the definition says.
#[derive(Debug)]
pub(super) struct Killed {
    pub(super) variant: Option<Box<str>>,
    pub(super) value: Option<Value>,
}

impl From<Kill> for Killed {
    fn from(kill: Kill) -> Killed {
        Killed { variant: kill.off_variant.map(|name| name.as_str().into()), value: kill.value }
    }
}

/// A compiled definition.
#[derive(Clone, Debug)]
pub(super) enum Definition {
    Flag(Arc<Flag>),
    Segment(Arc<Segment>),
    Part(Arc<Part>),
}

impl Definition {
    pub(super) fn origin(&self) -> &Origin {
        match self {
            Definition::Flag(flag) => &flag.origin,
            Definition::Segment(segment) => &segment.origin,
            Definition::Part(part) => &part.origin,
        }
    }
}

/// Gives names their slots while definitions are compiled.
pub(super) struct Compiler<'a> {
    pub(super) flags: &'a mut Slots<FlagSlot>,
    pub(super) segments: &'a mut Slots<SegmentSlot>,
    /// Conditions on one attribute share its path, by which the evaluator knows it again.
    paths: BTreeMap<Box<str>, Arc<Path>>,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(flags: &'a mut Slots<FlagSlot>, segments: &'a mut Slots<SegmentSlot>) -> Compiler<'a> {
        Compiler { flags, segments, paths: BTreeMap::new() }
    }

    /// Reads and compiles one stored entry; the error is a sentence.
    pub(super) fn definition(&mut self, id: &EntryId, bytes: &Arc<[u8]>) -> Result<Definition, String> {
        if id.kind == EntryKind::SEGMENT_PART {
            let name = PartName::of(id).ok_or("its key names no part of a segment")?;
            return Part::read(name.number, bytes).map(|part| Definition::Part(Arc::new(part)));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| format!("it is not UTF-8: {error}"))?;
        match id.kind {
            EntryKind::FLAG => {
                let key = FlagKey::new(&id.key).map_err(|error| error.to_string())?;
                let definition = parse_stored_flag(&key, text).map_err(|problems| sentence(&problems))?;
                self.flag(&definition, bytes).map(|flag| Definition::Flag(Arc::new(flag)))
            }
            EntryKind::SEGMENT => {
                let key = SegmentKey::new(&id.key).map_err(|error| error.to_string())?;
                let definition = parse_stored_segment(&key, text).map_err(|problems| sentence(&problems))?;
                self.segment(&definition, bytes).map(|segment| Definition::Segment(Arc::new(segment)))
            }
            kind => Err(format!("kind {} is not known to this version", kind.number())),
        }
    }

    fn flag(&mut self, definition: &FlagDefinition, bytes: &Arc<[u8]>) -> Result<Flag, String> {
        let mut uses = BTreeSet::new();
        let rules = definition
            .rules
            .iter()
            .map(|rule| {
                Ok(Rule {
                    name: rule.name.as_str().into(),
                    fate: Fate::of(&rule.condition),
                    condition: self.condition(&rule.condition, &mut uses)?,
                    serve: serve(definition, &rule.serve)?,
                })
            })
            .collect::<Result<Box<[Rule]>, String>>()?;
        let requires = definition
            .requires
            .iter()
            .map(|requirement| {
                uses.insert(EntryId::flag(&requirement.flag));
                Requirement {
                    flag: self.flags.intern(requirement.flag.as_str()),
                    key: requirement.flag.as_str().into(),
                    serves: requirement.serves.iter().map(|name| name.as_str().into()).collect(),
                }
            })
            .collect();
        Ok(Flag {
            seed: Seed::of(&definition.salt),
            otherwise: serve(definition, &definition.otherwise)?,
            variants: Variants::from(&definition.variants),
            ladder: Ladder::of(&rules),
            off_variant: position(definition, &definition.off_variant)?,
            switch: definition.switch,
            is_plain: definition.switch == Switch::Enabled
                && definition.requires.is_empty()
                && definition.rules.is_empty(),
            requires,
            rules,
            value_type: definition.flag_type(),
            origin: Origin { bytes: Arc::clone(bytes), uses: uses.into_iter().collect() },
        })
    }

    fn segment(&mut self, definition: &SegmentDefinition, bytes: &Arc<[u8]>) -> Result<Segment, String> {
        let mut uses = BTreeSet::new();
        let condition = match &definition.condition {
            Some(condition) => Some(self.condition(condition, &mut uses)?),
            None => None,
        };
        Ok(Segment {
            by: definition.by.as_deref().map(Path::of),
            include: Members::try_from(&definition.include)?,
            exclude: Members::try_from(&definition.exclude)?,
            condition,
            origin: Origin { bytes: Arc::clone(bytes), uses: uses.into_iter().collect() },
        })
    }

    fn condition(
        &mut self,
        condition: &definition::Condition,
        uses: &mut BTreeSet<EntryId>,
    ) -> Result<Condition, String> {
        let mut list = |conditions: &[definition::Condition]| {
            conditions.iter().map(|condition| self.condition(condition, uses)).collect::<Result<_, _>>()
        };
        Ok(match condition {
            definition::Condition::All(conditions) => Condition::All(list(conditions)?),
            definition::Condition::Any(conditions) => Condition::Any(list(conditions)?),
            definition::Condition::Not(condition) => {
                Condition::Not(Box::new(self.condition(condition, uses)?))
            }
            definition::Condition::Segment(key) => {
                uses.insert(EntryId::segment(key));
                Condition::Segment { slot: self.segments.intern(key.as_str()), key: key.as_str().into() }
            }
            definition::Condition::Time { after, before } => {
                Condition::Time { after: *after, before: *before }
            }
            definition::Condition::Attribute { attribute, test } => Condition::Attribute {
                path: self.path(attribute),
                test: Test::of(test)?,
                described: explain::test(attribute, test).into(),
            },
        })
    }

    fn path(&mut self, attribute: &str) -> Arc<Path> {
        let known = self.paths.entry(attribute.into());
        Arc::clone(known.or_insert_with(|| Arc::new(Path::of(attribute))))
    }
}

fn serve(definition: &FlagDefinition, serve: &definition::Serve) -> Result<Serve, String> {
    let split = match serve {
        definition::Serve::Variant(name) => return Ok(Serve::Variant(position(definition, name)?)),
        definition::Serve::Split(split) => split,
    };
    let stretches = match &split.layout {
        Layout::Stretches(stretches) => join(stretches.clone()),
        Layout::Shares(shares) => lay(shares, &definition.off_variant),
    };
    let arms = arms(definition, &stretches)?;
    match &*arms {
        [.., last] if last.end == Point(LINE) => {}
        _ => return Err("the shares of a split do not sum to 100 %".into()),
    }
    match &*arms {
        // Who owns the whole line needs no unit.
        [only] => Ok(Serve::Variant(only.variant)),
        _ => Ok(Serve::Split(Split::of(arms, split.by.as_deref()))),
    }
}

fn arms(definition: &FlagDefinition, stretches: &[Stretch]) -> Result<Vec<Arm>, String> {
    let mut end = 0_u32;
    stretches
        .iter()
        .map(|stretch| {
            end = end.saturating_add(stretch.length.0);
            Ok(Arm { end: Point(end), variant: position(definition, &stretch.variant)? })
        })
        .collect()
}

fn position(definition: &FlagDefinition, name: &VariantName) -> Result<u32, String> {
    let place = definition.variants.keys().position(|known| known == name);
    place
        .and_then(|place| u32::try_from(place).ok())
        .ok_or_else(|| format!("`{name}` is not one of its variants"))
}

/// The first problem, and how many more there are.
fn sentence(problems: &[Problem]) -> String {
    match problems {
        [] => "it is not understood".into(),
        [only] => only.to_string(),
        [first, more @ ..] => format!("{first} (and {} more)", more.len()),
    }
}
