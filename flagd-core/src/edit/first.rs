//! What a file writes where there is nothing yet.
//!
//! A program that brings its definitions along asks nobody what a change does to users, and starts sooner without. This
//! writes what `create` would write into an empty environment, byte for byte, and refuses what it would refuse, in the same
//! words; it does not tell effects. Nothing here is read back: what the reader makes of a definition it has read just
//! now is what is written.

use std::collections::BTreeMap;

use super::lay::lay_shares;
use super::put::flag_bytes;
use super::{EditError, finish};
use crate::check::check_references;
use crate::definition::parse_file;
use crate::entry::{EntryId, EntryWrite};
use crate::part;

/// What the definitions of a file write into an environment that has none.
///
/// # Errors
/// [`EditError::Invalid`] with all problems, as [`plan`](super::plan) has them.
pub fn first_writes(file: &str) -> Result<Vec<EntryWrite>, EditError> {
    let mut file = parse_file(file).map_err(EditError::Invalid)?;
    for flag in file.flags.values_mut() {
        lay_shares(flag, None);
    }
    let flags =
        file.flags.iter().map(|(key, flag)| EntryWrite::set(EntryId::flag(key), flag_bytes(key, flag)));
    let segments = file.segments.iter().flat_map(|(key, segment)| part::entries(key, segment));
    let writes: Vec<EntryWrite> =
        flags.chain(segments.map(|(id, bytes)| EntryWrite::set(id, bytes))).collect();
    finish::check_sizes(&writes)?;
    let flags: BTreeMap<_, _> = file.flags.iter().collect();
    let segments: BTreeMap<_, _> = file.segments.iter().collect();
    match check_references(&flags, &segments, &file) {
        found if found.is_empty() => Ok(writes),
        found => Err(EditError::Invalid(found)),
    }
}
