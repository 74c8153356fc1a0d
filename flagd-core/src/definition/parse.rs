//! The only way from JSON text to definitions.
//!
//! Whoever writes a definition is told everything that is wrong with it at once, each place with its path,
//! line and column and, where it can be guessed, the fix. Whoever reads a stored one (a client, a server) uses
//! the same code and skips what cannot change an answer, so that a long description in a later version of the
//! language never makes a client refuse a flag. References between definitions are `check`'s work.

use std::collections::BTreeMap;

use super::json::{At, Reader};
use super::segment::{Lists, Skip};
use super::words;
use super::{FlagDefinition, SegmentDefinition, SegmentList};
use crate::canonical::{self, Form};
use crate::key::{FlagKey, NameError, SegmentKey};
use crate::limits;
use crate::part::list_bytes;
use crate::problem::Problem;

/// What a file of definitions holds, in the order of the keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ParsedFile {
    /// The flags, by key.
    pub flags: BTreeMap<FlagKey, FlagDefinition>,
    /// The segments, by key.
    pub segments: BTreeMap<SegmentKey, SegmentDefinition>,
}

/// Reads a whole file `{"flags": {...}, "segments": {...}}`.
///
/// # Errors
/// All problems at once, each with path, line and column.
pub fn parse_file(text: &str) -> Result<ParsedFile, Vec<Problem>> {
    if text.len() > limits::FILE_MAX_BYTES {
        let message =
            format!("a file has at most {} bytes; this one has {}", limits::FILE_MAX_BYTES, text.len());
        return Err(vec![Problem::new("", message)]);
    }
    let (mut reader, root) = Reader::new(text).map_err(|problem| vec![problem])?;
    let file = reader.file(&At::root(root));
    finish(reader, file)
}

/// Reads one flag's definition, as written or as stored.
///
/// # Errors
/// All problems at once; paths begin at the definition (`rules[0].if`).
pub fn parse_flag(key: &FlagKey, text: &str) -> Result<FlagDefinition, Vec<Problem>> {
    let (mut reader, root) = Reader::new(text).map_err(|problem| vec![problem])?;
    let at = At::root(root);
    let flag = reader.written_flag(&at, key);
    finish(reader, flag)
}

/// Reads one segment's definition, as written or as stored. A list that is stored in parts is not read: it is
/// [`Units::InParts`](super::Units::InParts).
///
/// # Errors
/// All problems at once.
pub fn parse_segment(key: &SegmentKey, text: &str) -> Result<SegmentDefinition, Vec<Problem>> {
    let (mut reader, root) = Reader::new(text).map_err(|problem| vec![problem])?;
    let at = At::root(root);
    let segment = reader.segment(&at, Skip::Nothing, Lists::Stored);
    let segment = segment.and_then(|segment| reader.sized_segment(&at, key, segment));
    finish(reader, segment)
}

/// Reads one flag's definition for evaluation: `description`, `owner`, `tags` and `metadata` are skipped
/// unread and come out empty.
///
/// # Errors
/// All problems at once; paths begin at the definition (`rules[0].if`).
pub fn parse_stored_flag(key: &FlagKey, text: &str) -> Result<FlagDefinition, Vec<Problem>> {
    let (mut reader, root) = Reader::new(text).map_err(|problem| vec![problem])?;
    let flag = reader.flag(&At::root(root), key.as_str(), Skip::About);
    finish(reader, flag)
}

/// Reads one segment's definition for evaluation: `description`, `owner`, `tags` and `metadata` are skipped
/// unread and come out empty.
///
/// # Errors
/// All problems at once.
pub fn parse_stored_segment(_key: &SegmentKey, text: &str) -> Result<SegmentDefinition, Vec<Problem>> {
    let (mut reader, root) = Reader::new(text).map_err(|problem| vec![problem])?;
    let segment = reader.segment(&At::root(root), Skip::About, Lists::Stored);
    finish(reader, segment)
}

fn finish<T>(reader: Reader<'_>, read: Option<T>) -> Result<T, Vec<Problem>> {
    match read {
        Some(read) if reader.is_clean() => Ok(read),
        // Whatever returned nothing has noted why; if it forgot, refusing is still right.
        _ if reader.is_clean() => Err(vec![Problem::new("", "this is not a definition")]),
        _ => Err(reader.into_problems()),
    }
}

impl<'a> Reader<'a> {
    fn file(&mut self, at: &At<'_, 'a>) -> Option<ParsedFile> {
        let object = self.object(at, "a file of definitions", words::FILE)?;
        let mut file = ParsedFile::default();
        if let Some(text) = object.get("$schema") {
            self.string(&at.key("$schema", text));
        }
        if let Some(text) = object.get("flags") {
            let at = at.key("flags", text);
            file.flags = self.named(
                &at,
                "an object of flags by key",
                limits::FLAGS_MAX,
                FlagKey::new,
                Self::written_flag,
            )?;
        }
        if let Some(text) = object.get("segments") {
            let at = at.key("segments", text);
            let what = "an object of segments by key";
            file.segments =
                self.named(&at, what, limits::SEGMENTS_MAX, SegmentKey::new, Self::written_segment)?;
        }
        Some(file)
    }

    fn named<K: Ord, T>(
        &mut self,
        at: &At<'_, 'a>,
        what: &str,
        max: usize,
        key: impl Fn(&str) -> Result<K, NameError>,
        read: impl Fn(&mut Self, &At<'_, 'a>, &K) -> Option<T>,
    ) -> Option<BTreeMap<K, T>> {
        let object = self.members(at, what, |_| false)?;
        let count = object.members().len();
        if count > max {
            self.problem(at, format!("an environment has at most {max} of these; this file has {count}"));
            return None;
        }
        let mut list = Vec::with_capacity(count);
        for member in object.members() {
            let at = at.key(&member.name, member.text);
            match key(&member.name) {
                Ok(key) => list.extend(read(self, &at, &key).map(|definition| (key, definition))),
                Err(error) => self.note(&at, member.key_text, error.to_string(), None),
            }
        }
        Some(list.into_iter().collect())
    }

    fn written_flag(&mut self, at: &At<'_, 'a>, key: &FlagKey) -> Option<FlagDefinition> {
        let flag = self.flag(at, key.as_str(), Skip::Nothing)?;
        self.stored_size(at, || canonical::write_flag(key, &flag, Form::Stored))?;
        Some(flag)
    }

    fn written_segment(&mut self, at: &At<'_, 'a>, key: &SegmentKey) -> Option<SegmentDefinition> {
        let segment = self.segment(at, Skip::Nothing, Lists::Whole)?;
        self.sized_segment(at, key, segment)
    }

    fn sized_segment(
        &mut self,
        at: &At<'_, 'a>,
        key: &SegmentKey,
        segment: SegmentDefinition,
    ) -> Option<SegmentDefinition> {
        self.stored_size(at, || canonical::write_segment(key, &segment, Form::Stored))?;
        let max = limits::SEGMENT_LISTS_MAX_BYTES;
        if at.text.len() > max {
            let lists = SegmentList::BOTH.map(|list| segment.units(list).listed());
            let bytes: usize = lists.into_iter().filter(|units| !units.is_empty()).map(list_bytes).sum();
            if bytes > max {
                self.problem(
                    at,
                    format!("the lists of a segment have at most {max} bytes; these have {bytes}"),
                );
                return None;
            }
        }
        Some(segment)
    }

    /// Checks the length of the stored form; writes it only when the text is long enough to matter.
    fn stored_size(&mut self, at: &At<'_, 'a>, stored: impl FnOnce() -> String) -> Option<()> {
        if at.text.len() < limits::DEFINITION_MAX_BYTES / 4 {
            return Some(());
        }
        let bytes = stored().len();
        if bytes <= limits::DEFINITION_MAX_BYTES {
            return Some(());
        }
        let max = limits::DEFINITION_MAX_BYTES;
        self.problem(at, format!("a stored definition has at most {max} bytes; this one has {bytes}"));
        None
    }
}
