//! Reads a segment, and what a segment shares with a flag: the members that cannot change an answer.

use std::collections::BTreeSet;

use super::condition::collect;
use super::json::{At, Object, Reader};
use super::words;
use super::{About, SegmentDefinition, SegmentList, Units};
use crate::limits;
use crate::part::PARTS;

/// Whether the members that cannot change an answer are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skip {
    /// All members are read and checked.
    Nothing,
    /// `description`, `owner`, `tags` and `metadata` are skipped unread, whatever they hold.
    About,
}

impl Skip {
    /// Whether the member of this name is skipped.
    pub(super) fn skips(self, name: &str) -> bool {
        self == Skip::About && words::ABOUT.contains(&name)
    }
}

/// Whether a list may be kept in parts, of which the definition only says that there are some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lists {
    /// As people write: whole.
    Whole,
    /// As it is stored: whole or in parts.
    Stored,
}

impl<'a> Reader<'a> {
    /// A segment's definition.
    pub(super) fn segment(&mut self, at: &At<'_, 'a>, skip: Skip, lists: Lists) -> Option<SegmentDefinition> {
        self.conditions = 0;
        let names = match lists {
            Lists::Whole => words::SEGMENT,
            Lists::Stored => words::STORED_SEGMENT,
        };
        let object = self.object_with(at, "a segment", names, |name| skip.skips(name))?;
        let about = self.about(at, &object, skip);
        let by = match object.get("by") {
            None => Some(None),
            Some(text) => {
                let at = at.key("by", text);
                let name = self.text(&at, "the name of an attribute", limits::OPERAND_MAX_BYTES);
                name.map(|name| Some(name.into()))
            }
        };
        let include = self.units(at, &object, SegmentList::Include);
        let exclude = self.units(at, &object, SegmentList::Exclude);
        let condition = match object.get("if") {
            None => Some(None),
            Some(text) => self.condition(&at.key("if", text), 1).map(Some),
        };
        Some(SegmentDefinition {
            about: about?,
            by: by?,
            include: include?,
            exclude: exclude?,
            condition: condition?,
        })
    }

    fn units(&mut self, at: &At<'_, 'a>, object: &Object<'a>, list: SegmentList) -> Option<Units> {
        let (name, parts) = (list.member(), list.parts_member());
        let text = match (object.get(name), object.get(parts)) {
            (None, None) => return Some(Units::default()),
            (Some(text), None) => text,
            (None, Some(text)) if text == PARTS.to_string() => return Some(Units::InParts),
            (None, Some(text)) => {
                self.problem(
                    &at.key(parts, text),
                    format!("a list is kept in {PARTS} parts, no more, no less"),
                );
                return None;
            }
            (Some(_), Some(text)) => {
                self.problem(&at.key(parts, text), format!("`{name}` is stated too; it is one or the other"));
                return None;
            }
        };
        let at = at.key(name, text);
        let elements = self.list(&at, "a list of units, which are strings", limits::SEGMENT_UNITS_MAX)?;
        let units: Vec<Box<str>> = collect(elements.iter().enumerate().map(|(index, text)| {
            self.text(&at.index(index, text), "a unit", limits::UNIT_MAX_BYTES).map(Into::into)
        }))?;
        Some(units.into())
    }

    /// The members that cannot change an answer.
    pub(super) fn about(&mut self, at: &At<'_, 'a>, object: &Object<'a>, skip: Skip) -> Option<About> {
        if skip == Skip::About {
            return Some(About::default());
        }
        let description = self.optional_text(at, object, "description", limits::DESCRIPTION_MAX_BYTES);
        let owner = self.optional_text(at, object, "owner", limits::LABEL_MAX_BYTES);
        let tags = match object.get("tags") {
            None => Some(Vec::new()),
            Some(text) => self.tags(&at.key("tags", text)),
        };
        let metadata = match object.get("metadata") {
            None => Some(serde_json::Map::new()),
            Some(text) => self.metadata(&at.key("metadata", text)),
        };
        Some(About { description: description?, owner: owner?, tags: tags?, metadata: metadata? })
    }

    #[expect(clippy::option_option, reason = "outside: whether it is right; inside: whether it is stated")]
    fn optional_text(
        &mut self,
        at: &At<'_, 'a>,
        object: &Object<'a>,
        name: &str,
        max_bytes: usize,
    ) -> Option<Option<String>> {
        let Some(text) = object.get(name) else { return Some(None) };
        let text = self.text(&at.key(name, text), &format!("`{name}`"), max_bytes)?;
        Some(Some(text.into_owned()))
    }

    fn tags(&mut self, at: &At<'_, 'a>) -> Option<Vec<String>> {
        let elements = self.list(at, "a list of strings", limits::TAGS_MAX)?;
        let mut seen: BTreeSet<String> = BTreeSet::new();
        collect(elements.iter().enumerate().map(|(index, text)| {
            let at = at.index(index, text);
            let tag = self.text(&at, "a tag", limits::LABEL_MAX_BYTES)?.into_owned();
            if !seen.insert(tag.clone()) {
                self.problem(&at, format!("the tag `{tag}` is given twice"));
                return None;
            }
            Some(tag)
        }))
    }

    fn metadata(&mut self, at: &At<'_, 'a>) -> Option<serde_json::Map<String, serde_json::Value>> {
        let map = self.map(at, "`metadata`", limits::METADATA_MAX_BYTES)?;
        let long = map.keys().find(|key| key.len() > limits::LABEL_MAX_BYTES);
        if let Some(key) = long {
            let max = limits::LABEL_MAX_BYTES;
            self.problem(at, format!("a key of `metadata` has at most {max} bytes; one has {}", key.len()));
            return None;
        }
        Some(map)
    }
}
