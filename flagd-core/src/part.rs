//! A long list of a segment, stored in parts.
//!
//! A list of a million units in one definition would be written, sent and compiled again whenever somebody joins it.
//! So a list that has become long is laid into [`PARTS`] parts by the hash of each unit, and each part that is not empty
//! is an entry of its own: one more unit writes one part of a few kilobytes, and log, stream, digest, checkpoint and disk
//! carry it like any entry. The number of parts is fixed, so that a unit never changes its part.
//!
//! People never see parts. This file knows what a part's name and bytes are, how a list is laid into them and read
//! back; when a list is rewritten is `edit`'s business, and how it is asked for a unit is `snapshot`'s.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::canonical::{self, Form, write_segment, write_units, write_value};
use crate::definition::{SegmentDefinition, SegmentList, Units};
use crate::entry::{EntryId, EntryKind};
use crate::key::SegmentKey;
use crate::limits;

/// How many parts a list has, empty ones counted.
pub const PARTS: u16 = 1 << PART_BITS;
const PART_BITS: u32 = 12;

/// The hash by which a unit finds its part, and its place in there: XXH3-64, seed 0.
#[must_use]
#[inline]
pub fn hash(unit: &str) -> u64 {
    xxh3_64(unit.as_bytes())
}

/// Which part of a list, `0..PARTS`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartNumber(u16);

impl PartNumber {
    /// The part that a unit belongs to: the upper bits of its [`hash`].
    #[must_use]
    #[inline]
    pub fn of(unit: &str) -> PartNumber {
        PartNumber::of_hash(hash(unit))
    }

    /// The part of units with this hash.
    #[must_use]
    #[inline]
    pub const fn of_hash(hash: u64) -> PartNumber {
        PartNumber((hash >> (u64::BITS - PART_BITS)) as u16)
    }

    /// The number itself.
    #[must_use]
    #[inline]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The number that these three digits of a key are.
    pub(crate) fn of_digits(digits: &str) -> Option<PartNumber> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
        if digits.len() != 3 || !digits.bytes().all(is_digit) {
            return None;
        }
        u16::from_str_radix(digits, 16).ok().map(PartNumber)
    }

    /// All of them, in order.
    pub fn all() -> impl Iterator<Item = PartNumber> {
        (0..PARTS).map(PartNumber)
    }
}

impl fmt::Display for PartNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03x}", self.0)
    }
}

impl fmt::Debug for PartNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Names one part of one list of one segment. As a key: `beta/include/0a3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartName {
    /// The segment.
    pub segment: SegmentKey,
    /// Which of its lists.
    pub list: SegmentList,
    /// Which part of the list.
    pub number: PartNumber,
}

impl PartName {
    /// The part that an entry's name means; `None` when it means none.
    #[must_use]
    pub fn of(id: &EntryId) -> Option<PartName> {
        if id.kind != EntryKind::SEGMENT_PART {
            return None;
        }
        let (segment, rest) = id.key.split_once('/')?;
        let (member, digits) = rest.split_once('/')?;
        Some(PartName {
            segment: SegmentKey::new(segment).ok()?,
            list: SegmentList::BOTH.into_iter().find(|list| list.member() == member)?,
            number: PartNumber::of_digits(digits)?,
        })
    }

    /// The name of the entry.
    #[must_use]
    pub fn id(&self) -> EntryId {
        id(self.segment.as_str(), self.list, self.number)
    }
}

/// The name of a part's entry.
#[must_use]
pub fn id(segment: &str, list: SegmentList, number: PartNumber) -> EntryId {
    EntryId::new(EntryKind::SEGMENT_PART, &format!("{segment}/{}/{number}", list.member()))
}

/// Where the parts of a list lie among all entries: not before this name, and as long as keys begin with the text.
pub(crate) fn range(segment: &str, list: SegmentList) -> (EntryId, String) {
    let prefix = format!("{segment}/{}/", list.member());
    (EntryId::new(EntryKind::SEGMENT_PART, &prefix), prefix)
}

/// Whether a list is stored in parts.
#[must_use]
pub fn is_in_parts(units: &Units) -> bool {
    match units {
        Units::InParts => true,
        Units::Listed(units) => list_bytes(units) > limits::SEGMENT_LIST_INLINE_MAX_BYTES,
    }
}

/// The length of a list as compact JSON.
#[must_use]
pub fn list_bytes(units: &[Box<str>]) -> usize {
    let commas = units.len().saturating_sub(1);
    2 + commas + units.iter().map(|unit| canonical::string_bytes(unit)).sum::<usize>()
}

/// The length of the list that parts of these lengths make up.
#[must_use]
pub fn list_bytes_of_parts(parts: impl IntoIterator<Item = usize>) -> usize {
    // A part has the brackets and commas of a list; joining two spares two brackets and costs a comma.
    1 + parts.into_iter().map(|bytes| bytes.saturating_sub(1)).sum::<usize>()
}

/// Everything that is stored of a segment whose lists are whole: its definition first, then the parts of long lists.
#[must_use]
pub fn entries(key: &SegmentKey, definition: &SegmentDefinition) -> Vec<(EntryId, Arc<[u8]>)> {
    let stored = write_segment(key, definition, Form::Stored).into_bytes();
    let mut entries = vec![(EntryId::segment(key), stored.into())];
    for list in SegmentList::BOTH {
        let units = definition.units(list);
        if is_in_parts(units) {
            for (number, units) in lay(units.listed()) {
                entries.push((id(key.as_str(), list, number), write_units(units).into_bytes().into()));
            }
        }
    }
    entries
}

/// The parts of a list that are not empty. `units` are in byte order, and so are those of each part.
fn lay(units: &[Box<str>]) -> impl Iterator<Item = (PartNumber, Vec<&str>)> {
    let mut parts: Vec<Vec<&str>> = vec![Vec::new(); usize::from(PARTS)];
    for unit in units {
        if let Some(part) = parts.get_mut(usize::from(PartNumber::of(unit).get())) {
            part.push(unit);
        }
    }
    PartNumber::all().zip(parts).filter(|(_, units)| !units.is_empty())
}

/// The stored form of a part; `None` when nothing is in it, because then it is no entry. `units` are in byte order.
#[must_use]
pub fn write<'u>(units: impl IntoIterator<Item = &'u str>) -> Option<Arc<[u8]>> {
    let units: Vec<&str> = units.into_iter().collect();
    if units.is_empty() { None } else { Some(write_units(units).into_bytes().into()) }
}

/// The units of a part, in byte order.
///
/// # Errors
/// A sentence: why these are not the bytes of that part.
pub fn read(number: PartNumber, bytes: &[u8]) -> Result<Vec<Box<str>>, String> {
    let mut units = Vec::new();
    scan(number, bytes, |_, _, unit| units.push(unit.into()))?;
    Ok(units)
}

/// Tells whether bytes are those of a part; `each` is told where each unit begins (behind its quote), its hash, and
/// the unit.
///
/// # Errors
/// A sentence: why these are not the bytes of that part.
pub(crate) fn scan(
    number: PartNumber,
    bytes: &[u8],
    mut each: impl FnMut(usize, u64, &str),
) -> Result<(), String> {
    if bytes.len() > limits::DEFINITION_MAX_BYTES {
        return Err(format!("a part has at most {} bytes", limits::DEFINITION_MAX_BYTES));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| format!("it is not UTF-8: {error}"))?;
    if text == "[]" {
        return Ok(());
    }
    let malformed = |at: usize| format!("it is not a list of units as one is stored, from byte {at} on");
    if !text.starts_with('[') {
        return Err(malformed(0));
    }
    let mut at = 1;
    let mut previous: Cow<'_, str> = Cow::Borrowed("");
    loop {
        let start = at + 1;
        if bytes.get(at) != Some(&b'"') {
            return Err(malformed(at));
        }
        let (raw, unit) = bytes
            .get(start..)
            .and_then(string_length)
            .and_then(|length| text.get(start..start + length))
            .and_then(|raw| Some((raw, stored_text(raw)?)))
            .ok_or_else(|| malformed(at))?;
        if unit.is_empty() || unit.len() > limits::UNIT_MAX_BYTES {
            return Err(format!("a unit has 1 to {} bytes; one has {}", limits::UNIT_MAX_BYTES, unit.len()));
        }
        if unit <= previous {
            return Err(format!("its units are not in byte order, each once, from byte {at} on"));
        }
        let hash = hash(&unit);
        let belongs = PartNumber::of_hash(hash);
        if belongs != number {
            return Err(format!("the unit at byte {at} belongs to part {belongs}, not to {number}"));
        }
        each(start, hash, &unit);
        previous = unit;
        at = start + raw.len() + 1;
        match bytes.get(at) {
            Some(b',') => at += 1,
            Some(b']') if at + 1 == bytes.len() => return Ok(()),
            _ => return Err(malformed(at)),
        }
    }
}

/// How long a JSON string is that begins here, behind its first quote.
fn string_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = bytes.get(at..)?;
        let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        match rest.get(end) {
            Some(b'"') => return Some(at + end),
            _ => at += end + 2,
        }
    }
}

/// The text of a JSON string that is escaped as the stored form escapes it; `None` for another.
fn stored_text(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.bytes().any(|byte| byte == b'\\' || byte < b' ') {
        return Some(Cow::Borrowed(raw));
    }
    let quoted = format!("\"{raw}\"");
    let text: String = serde_json::from_str(&quoted).ok()?;
    (write_value(&serde_json::Value::from(text.as_str())) == quoted).then_some(Cow::Owned(text))
}

/// The units in the bytes of a part, which are taken for right.
pub(crate) fn units(bytes: &[u8]) -> impl Iterator<Item = Cow<'_, str>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let string = rest.get(rest.iter().position(|byte| *byte == b'"')? + 1..)?;
        let length = string_length(string)?;
        rest = string.get(length + 1..)?;
        stored_text(std::str::from_utf8(string.get(..length)?).ok()?)
    })
}

/// How many units there are in the bytes of a part, which are taken for right.
#[must_use]
pub fn count(bytes: &[u8]) -> usize {
    if !bytes.contains(&b'\\') {
        // Sums that fit into a byte are taken many at a time.
        let quotes = |some: &[u8]| some.iter().map(|byte| u8::from(*byte == b'"')).sum::<u8>();
        return bytes.chunks(255).map(|some| usize::from(quotes(some))).sum::<usize>() / 2;
    }
    let mut units = 0;
    let mut rest = bytes;
    while let Some(begin) = rest.iter().position(|byte| *byte == b'"') {
        let Some(string) = rest.get(begin + 1..) else { break };
        let Some(length) = string_length(string) else { break };
        units += 1;
        rest = string.get(length + 1..).unwrap_or_default();
    }
    units
}

/// A definition as it is stored, with its lists whole. `parts_of` gives the parts of a list that there are.
///
/// # Errors
/// A sentence: which part cannot be read, and why.
pub fn whole<'p>(
    mut definition: SegmentDefinition,
    parts_of: impl Fn(SegmentList) -> Vec<(PartNumber, &'p [u8])>,
) -> Result<SegmentDefinition, String> {
    for list in SegmentList::BOTH {
        if *definition.units(list) == Units::InParts {
            let mut units = Vec::new();
            for (number, bytes) in parts_of(list) {
                let read = |error| format!("part {number} of `{}`: {error}", list.member());
                scan(number, bytes, |_, _, unit| units.push(Box::from(unit))).map_err(read)?;
            }
            *definition.units_mut(list) = units.into();
        }
    }
    Ok(definition)
}

#[cfg(test)]
mod tests;
