//! The words in which an edit is asked for, planned and refused.
//!
//! Only data: an [`Edit`] is what an operator wants, a [`Plan`] is what that would write and do, an
//! [`EditError`] says why nothing is planned and what to do about it. Nothing here decides anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::definition::{Ppm, SegmentList};
use crate::entry::{EntryId, EntryWrite};
use crate::key::{FlagKey, RuleName, SegmentKey, VariantName};
use crate::problem::Problem;
use crate::revision::Revision;
use crate::time::Timestamp;

/// What an operator wants done.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Edit {
    /// Take over a file of definitions as it is: `create`, `edit`, `import`. JSON text.
    Put {
        /// `{"flags": ..., "segments": ...}`.
        file: String,
        /// Whether the definitions may exist already.
        mode: PutMode,
    },
    /// Take over a file of definitions, keeping live values that the file has not changed.
    Apply {
        /// `{"flags": ..., "segments": ...}`.
        file: String,
        /// What this source applied last: stored forms by entry. Empty for a new source.
        base: BTreeMap<EntryId, Arc<[u8]>>,
        /// What to do where file and live state both changed a field.
        take: Take,
    },
    /// Look at the rules of a flag (again).
    Enable(FlagKey),
    /// Serve the off variant to everybody.
    Disable(FlagKey),
    /// Give a variant a share.
    Ramp {
        /// The flag.
        flag: FlagKey,
        /// The variant; the one that is not the off variant when the flag has two and this is `None`.
        variant: Option<VariantName>,
        /// Its new share.
        share: Ppm,
        /// Where; see [`PlaceChoice`].
        place: PlaceChoice,
        /// Which variant gives or takes the difference; the off variant when `None`.
        from: Option<VariantName>,
    },
    /// Force flags to their off variants. Unknown flags are named in the plan, not refused, unless none exists.
    Kill(Vec<FlagKey>),
    /// Lift kills.
    Revive(Vec<FlagKey>),
    /// Put back definitions: each entry's bytes as they once were (`None`: it was not there).
    Restore {
        /// The entries and their bytes.
        entries: Vec<(EntryId, Option<Arc<[u8]>>)>,
    },
    /// Add units to a segment's list.
    SegmentAdd {
        /// The segment.
        segment: SegmentKey,
        /// The units.
        units: Vec<String>,
        /// Which list.
        list: SegmentList,
    },
    /// Take units off a segment's list.
    SegmentRemove {
        /// The segment.
        segment: SegmentKey,
        /// The units.
        units: Vec<String>,
        /// Which list.
        list: SegmentList,
    },
    /// Retire a flag: leaves a tombstone.
    Archive(FlagKey),
    /// Bring an archived flag back.
    Unarchive(FlagKey),
    /// Retire a segment that nothing uses.
    ArchiveSegment(SegmentKey),
    /// Bring an archived segment back.
    UnarchiveSegment(SegmentKey),
}

/// Whether definitions in a `Put` may exist already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// None may exist.
    Create,
    /// All must exist.
    Replace,
    /// Either.
    CreateOrReplace,
}

/// What `apply` does where file and live state both changed a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// Refuse and list the conflicts.
    Ask,
    /// The file wins.
    File,
    /// The live state wins.
    Live,
}

/// Where a ramp applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaceChoice {
    /// The only split; or `otherwise` when there is no split and `otherwise` plainly serves the off variant.
    Only,
    /// What is served when no rule holds.
    Otherwise,
    /// A rule.
    Rule(RuleName),
}

/// Who wants it, when and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// Who.
    pub actor: String,
    /// Why, if said.
    pub reason: Option<String>,
    /// When.
    pub now: Timestamp,
}

/// What a change would write and what that does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The entries; empty when the state already is as wanted.
    pub writes: Vec<EntryWrite>,
    /// What happens to units, one per flag whose answers may change.
    pub effects: Vec<Effect>,
    /// Sentences for the operator: nobody will see this, these flags were not found, this kill stays.
    pub notes: Vec<Note>,
    /// What follows for flags that require a flag of this change. Kill, revive, enable and disable also name those
    /// that stay as they are.
    pub consequences: Vec<Consequence>,
    /// `apply`: fields where the live value was kept.
    pub drift: Vec<FieldDrift>,
    /// `apply`: what this source has applied now, to be remembered; stored forms by entry.
    pub base: BTreeMap<EntryId, Arc<[u8]>>,
}

/// What a change does to the units of one flag.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// The flag whose answers change.
    pub flag: FlagKey,
    /// The sum of it.
    pub movement: Movement,
    /// One sentence: `rule "dach": on 25 % -> 50 %, only adds (25 % of its units)`.
    pub summary: String,
    /// How much of the line moves at each place: place, from, to.
    pub flows: Vec<Flow>,
}

/// Units that pass from one variant to another at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The rule's name, or `otherwise`.
    pub place: String,
    /// Who served them.
    pub from: VariantName,
    /// Who serves them now.
    pub to: VariantName,
    /// How many of the units that reach the place.
    pub share: Ppm,
}

/// What happens to a flag because another one, which it requires, changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consequence {
    /// The flag that follows.
    pub flag: FlagKey,
    /// The required flag that makes it follow.
    pub because: FlagKey,
    /// Which way.
    pub direction: Direction,
}

/// Which way a flag follows a flag that it requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// Units that it served, all or some, go to its off variant; none comes back.
    GoesOff,
    /// Units that were held on its off variant, all or some, are served by its rules; none goes off.
    ComesOn,
    /// Some units may go off and others come on: it depends on contexts.
    Depends,
    /// It requires the other flag, but nobody is served anything else.
    Stays,
}

/// What a change does to units, from the best case to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Movement {
    /// No unit is served anything else.
    Nothing,
    /// Units leave the off variant; none comes back to it and none passes between others.
    OnlyAdds,
    /// Units go back to the off variant; none leaves it and none passes between others.
    OnlyRemoves,
    /// Units pass between variants, or some leave the off variant and others come back.
    Moves,
    /// The flag is gone: everybody is served the default in the caller's code.
    CallersDefault,
    /// Conditions changed: who is affected depends on contexts.
    Unknown,
}

/// A sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether it asks for attention.
    pub severity: Severity,
    /// The entry it is about, if one.
    pub about: Option<EntryId>,
    /// The sentence.
    pub text: String,
}

/// How much attention a note asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Look at this.
    Warning,
    /// Something that was asked for could not be done (the rest was): exit code 3.
    Missing,
}

/// A field whose live value differs from the file's, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldDrift {
    /// The entry.
    pub id: EntryId,
    /// The field: `otherwise`, `rules.dach.serve`.
    pub field: String,
    /// What this source applied last; `None` when it never did.
    pub base: Option<String>,
    /// What the file says now; `None` when it leaves the field out.
    pub file: Option<String>,
    /// What is live; `None` when the field is left out.
    pub live: Option<String>,
}

/// Why a change was not planned. Nothing was changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// What was written is wrong. Do: mend the listed places.
    #[error("{} found; nothing was changed", count(.0.len(), "problem"))]
    Invalid(Vec<Problem>),
    /// The thing named does not exist. Do: check the spelling.
    #[error("no {id} in this environment{}", hint(.nearest))]
    Unknown {
        /// What was named.
        id: EntryId,
        /// Keys that look like it.
        nearest: Vec<String>,
    },
    /// The thing exists already. Do: use `edit` or `apply`, or another key.
    #[error("{id} already exists (written at revision {revision})")]
    Exists {
        /// What was named.
        id: EntryId,
        /// The revision that wrote it.
        revision: Revision,
    },
    /// The key was retired with another type or salt. Do: use another key, or `unarchive`.
    #[error("{id} was archived: {why}")]
    Retired {
        /// The tombstone's flag.
        id: EntryId,
        /// What does not match, and what to do.
        why: String,
    },
    /// The place of a ramp is not clear. Do: run one of the commands.
    #[error("{why}")]
    Ambiguous {
        /// Why it is not clear.
        why: String,
        /// Ready arguments for `flagctl ramp`, one per candidate.
        choices: Vec<String>,
    },
    /// The stored definition is not understood by this server, so it will not rewrite it. Do: upgrade, or put a new one.
    #[error("the stored {id} is not understood by this server: {why}")]
    NotUnderstood {
        /// The entry.
        id: EntryId,
        /// The first problem.
        why: String,
    },
    /// File and live state both changed these fields. Do: `--take file` or `--take live`.
    #[error("{}; run it again with `--take file` or `--take live`", conflicts(.0))]
    FieldConflicts(Vec<FieldDrift>),
    /// The change cannot be made for another reason, told in words with what to do.
    #[error("{0}")]
    Refused(String),
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn hint(nearest: &[String]) -> String {
    if nearest.is_empty() { String::new() } else { format!("; did you mean `{}`?", nearest.join("`, `")) }
}

fn conflicts(fields: &[FieldDrift]) -> String {
    let counted = count(fields.len(), "field");
    if fields.iter().all(|field| field.base.is_none()) {
        let (differ, them) = if fields.len() == 1 { ("differs", "it") } else { ("differ", "them") };
        format!("{counted} {differ} from the environment, and this source has not applied {them} before")
    } else {
        format!("{counted} changed both in the file and in the environment")
    }
}
