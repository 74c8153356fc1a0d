//! placeholder: owned by core A
use crate::definition::{FlagDefinition, Kill, SegmentDefinition, Tombstone};
use crate::key::{FlagKey, SegmentKey};
use crate::problem::Problem;

/// What a file of definitions holds, in the order of the keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ParsedFile {
    /// The flags, by key.
    pub flags: std::collections::BTreeMap<FlagKey, FlagDefinition>,
    /// The segments, by key.
    pub segments: std::collections::BTreeMap<SegmentKey, SegmentDefinition>,
}

/// Reads a whole file `{"flags": {...}, "segments": {...}}`.
///
/// # Errors
/// All problems at once, each with path, line and column.
pub fn parse_file(_text: &str) -> Result<ParsedFile, Vec<Problem>> {
    todo!()
}

/// Reads one flag's definition, as written or as stored.
///
/// # Errors
/// All problems at once; paths begin at the definition (`rules[0].if`).
pub fn parse_flag(_key: &FlagKey, _text: &str) -> Result<FlagDefinition, Vec<Problem>> {
    todo!()
}

/// Reads one segment's definition, as written or as stored.
///
/// # Errors
/// All problems at once.
pub fn parse_segment(_key: &SegmentKey, _text: &str) -> Result<SegmentDefinition, Vec<Problem>> {
    todo!()
}

/// Reads a kill. Lenient, because a kill must get through: what it does not understand it leaves out.
#[must_use]
pub fn parse_kill(_bytes: &[u8]) -> Kill {
    todo!()
}

/// Reads a tombstone; `None` when it is not understood.
#[must_use]
pub fn parse_tombstone(_bytes: &[u8]) -> Option<Tombstone> {
    todo!()
}
