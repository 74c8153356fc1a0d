//! Puts the parts of large messages together.
//!
//! A state or a change above 1 MiB comes in parts, and nothing of it counts before the last one came. What
//! does not belong together is noticed here; whether the whole adds up is the keeper's question.

use flagd_core::entry::{EntryId, EntryKind, StoredEntry};
use flagd_core::revision::Position;
use flagd_core::state::Delta;
use flagd_proto::convert::{self, ConvertError};
use flagd_proto::stream;

/// A whole state on its way.
#[derive(Debug, Default)]
pub(crate) struct FullParts {
    next: u32,
    wire_position: Option<stream::Position>,
    entries: Vec<(EntryId, StoredEntry)>,
    broken: Option<&'static str>,
}

impl FullParts {
    /// Takes a part in; what does not fit is remembered until the end, because the kills count all the same.
    pub(crate) fn push(&mut self, part: &stream::FullPart) {
        if part.part != self.next {
            self.broken = Some("parts");
        }
        self.next = part.part.saturating_add(1);
        if self.wire_position.is_some() && self.wire_position != part.position {
            self.broken = Some("parts");
        }
        self.wire_position.clone_from(&part.position);
        for entry in &part.entries {
            match convert::stored_from_wire(entry) {
                Ok(entry) => self.entries.push(entry),
                Err(_) => self.broken = Some("entry"),
            }
        }
    }

    /// The position that the server claims, and why the parts cannot be it, if so.
    pub(crate) fn claim(&self) -> Result<Position, &'static str> {
        if let Some(why) = self.broken {
            return Err(why);
        }
        let position = self.wire_position.as_ref().ok_or("position")?;
        convert::position_from_wire(position).map_err(|error| why(&error))
    }

    /// The kills among the entries, whatever else is wrong.
    pub(crate) fn kills(&self) -> impl Iterator<Item = &(EntryId, StoredEntry)> {
        self.entries.iter().filter(|(id, _)| id.kind == EntryKind::KILL)
    }

    /// Whether every entry was read, so that what is not among them is not there.
    pub(crate) fn is_whole(&self) -> bool {
        self.broken.is_none() && self.place().is_some()
    }

    /// Epoch and revision as far as they can be read.
    pub(crate) fn place(&self) -> Option<(stream::Epoch, u64)> {
        let position = self.wire_position.as_ref()?;
        Some((position.epoch?, position.revision))
    }

    pub(crate) fn into_entries(self) -> Vec<(EntryId, StoredEntry)> {
        self.entries
    }
}

/// A change on its way.
#[derive(Debug)]
pub(crate) struct DeltaParts(stream::Delta);

impl DeltaParts {
    pub(crate) fn new(first: stream::Delta) -> DeltaParts {
        DeltaParts(first)
    }

    /// Takes a further part in; `false` when it is of another change.
    pub(crate) fn push(&mut self, part: stream::Delta) -> bool {
        let whole = &mut self.0;
        let same = whole.epoch == part.epoch
            && whole.from == part.from
            && whole.to == part.to
            && whole.digest == part.digest
            && whole.digest_algorithm == part.digest_algorithm;
        whole.entries.extend(part.entries);
        whole.more = part.more;
        same
    }

    pub(crate) fn is_complete(&self) -> bool {
        !self.0.more
    }

    pub(crate) fn into_delta(self) -> Result<Delta, &'static str> {
        convert::delta_from_wire(&self.0).map_err(|error| why(&error))
    }

    /// The change as it stands on the wire.
    pub(crate) fn wire(&self) -> &stream::Delta {
        &self.0
    }
}

/// The word for the log and the server's metric.
fn why(error: &ConvertError) -> &'static str {
    match error {
        ConvertError::DigestAlgorithm(_) => "digest algorithm",
        ConvertError::DigestLength(_) => "digest",
        _ => "entry",
    }
}
