//! placeholder: owned by core A
use crate::definition::{FlagDefinition, Kill, SegmentDefinition, Tombstone};
use crate::key::{FlagKey, SegmentKey, VariantName};

/// For whom a definition is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For store, stream and digest: compact; splits as they are laid (callers lay shares first).
    Stored,
    /// For people (`get`, `export`): splits as an object of shares where a new split would lie the same way,
    /// else as a list; otherwise identical to the stored form in meaning.
    Readable,
}

/// The JSON text of a flag's definition. Deterministic: equal definitions give equal bytes.
#[must_use]
pub fn write_flag(_key: &FlagKey, _definition: &FlagDefinition, _form: Form) -> String {
    todo!()
}

/// The JSON text of a segment's definition.
#[must_use]
pub fn write_segment(_key: &SegmentKey, _definition: &SegmentDefinition, _form: Form) -> String {
    todo!()
}

/// The JSON text of a kill.
#[must_use]
pub fn write_kill(_kill: &Kill) -> String {
    todo!()
}

/// The JSON text of a tombstone.
#[must_use]
pub fn write_tombstone(_tombstone: &Tombstone) -> String {
    todo!()
}

/// A percentage as decimal text without trailing zeros: 250000 ppm is `25`, 15000 is `1.5`.
#[must_use]
pub fn percent(_ppm: crate::definition::Ppm) -> String {
    todo!()
}

/// Reads a percentage of at most four decimals; `None` for anything else or over 100.
#[must_use]
pub fn parse_percent(_text: &str) -> Option<crate::definition::Ppm> {
    todo!()
}

#[allow(unused_imports, reason = "placeholder")]
use VariantName as _;
