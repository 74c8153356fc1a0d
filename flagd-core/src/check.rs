//! placeholder: owned by core A
//! Whether definitions hold together: references, cycles, depths.
use std::collections::BTreeMap;

use crate::definition::{FlagDefinition, SegmentDefinition};
use crate::key::{FlagKey, SegmentKey};
use crate::problem::Problem;

/// How the definitions of an environment look up one another.
pub trait Definitions {
    /// The flag's definition, if it exists and is understood.
    fn flag(&self, key: &FlagKey) -> Option<&FlagDefinition>;
    /// The segment's definition, if it exists and is understood.
    fn segment(&self, key: &SegmentKey) -> Option<&SegmentDefinition>;
    /// All flag keys, for guesses.
    fn flag_keys(&self) -> Vec<&str>;
    /// All segment keys, for guesses.
    fn segment_keys(&self) -> Vec<&str>;
}

/// Checks that every reference of `flags` and `segments` resolves in `all` (which includes them), that no cycle
/// runs through them and that no chain is too deep.
#[must_use]
pub fn check_references(
    _flags: &BTreeMap<&FlagKey, &FlagDefinition>,
    _segments: &BTreeMap<&SegmentKey, &SegmentDefinition>,
    _all: &dyn Definitions,
) -> Vec<Problem> {
    todo!()
}

/// What deserves a second look though it is allowed: a `not` around a test that no `exists` guards, a rule
/// that can never be reached, a split arm of 0 %.
#[must_use]
pub fn warnings(_key: &FlagKey, _definition: &FlagDefinition) -> Vec<Problem> {
    todo!()
}
