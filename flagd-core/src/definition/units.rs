//! The units of a segment's lists, as a definition has them at hand.
//!
//! People write whole lists. A list that has become long is stored in parts beside the definition, so that one more
//! unit does not write all the others again; the definition then only says so. What a part is stands in `part`.

/// One of a segment's two lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SegmentList {
    /// Units that are in.
    Include,
    /// Units that are out.
    Exclude,
}

impl SegmentList {
    /// Both, in the order in which a definition has them.
    pub const BOTH: [SegmentList; 2] = [SegmentList::Include, SegmentList::Exclude];

    /// The member of a segment that holds the list.
    #[must_use]
    pub const fn member(self) -> &'static str {
        match self {
            SegmentList::Include => "include",
            SegmentList::Exclude => "exclude",
        }
    }

    /// The member of a stored segment that stands in its place when the list is kept in parts.
    #[must_use]
    pub const fn parts_member(self) -> &'static str {
        match self {
            SegmentList::Include => "includeParts",
            SegmentList::Exclude => "excludeParts",
        }
    }
}

/// The units of one list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Units {
    /// All of them, in byte order, each once.
    Listed(Vec<Box<str>>),
    /// They are entries of their own. Only stored definitions have this form.
    InParts,
}

impl Units {
    /// The units that are at hand: none when they are kept in parts.
    #[must_use]
    pub fn listed(&self) -> &[Box<str>] {
        match self {
            Units::Listed(units) => units,
            Units::InParts => &[],
        }
    }

    /// Whether nobody is listed. A list that is kept in parts is a long one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Units::Listed(units) if units.is_empty())
    }
}

impl Default for Units {
    fn default() -> Units {
        Units::Listed(Vec::new())
    }
}

impl From<Vec<Box<str>>> for Units {
    fn from(mut units: Vec<Box<str>>) -> Units {
        units.sort_unstable();
        units.dedup();
        Units::Listed(units)
    }
}
