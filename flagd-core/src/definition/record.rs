//! Reads what stands beside definitions: kills and tombstones.
//!
//! A kill must get through even when nobody understands the flag, so reading one never fails: what is not
//! understood is left out, and a kill of which nothing is understood is still a kill.

use super::json::{At, Kind, Object, Reader};
use super::{FlagType, Kill, Tombstone};
use crate::key::VariantName;
use crate::time::Timestamp;

/// Reads a kill. Lenient, because a kill must get through: what it does not understand it leaves out.
#[must_use]
pub fn parse_kill(bytes: &[u8]) -> Kill {
    let nothing =
        Kill { off_variant: None, value: None, by: String::new(), at: Timestamp::default(), reason: None };
    let Some(object) = open(bytes) else { return nothing };
    Kill {
        off_variant: text(&object, "offVariant").and_then(|name| VariantName::new(&name).ok()),
        value: object.get("value").and_then(whole_value),
        by: text(&object, "by").unwrap_or_default(),
        at: text(&object, "at").and_then(|at| Timestamp::parse(&at)).unwrap_or_default(),
        reason: text(&object, "reason"),
    }
}

/// A value that can be served. One that is read only in part would be served wrongly, so any problem leaves
/// it out.
fn whole_value(text: &str) -> Option<serde_json::Value> {
    let (mut reader, root) = Reader::new(text).ok()?;
    let value = reader.value(&At::root(root)).filter(|_| reader.is_clean())?;
    FlagType::of(&value).map(|_| value)
}

/// Reads a tombstone; `None` when it is not understood.
#[must_use]
pub fn parse_tombstone(bytes: &[u8]) -> Option<Tombstone> {
    let object = open(bytes)?;
    let definition = object.get("definition")?;
    Some(Tombstone {
        flag_type: FlagType::from_word(&text(&object, "type")?)?,
        salt: text(&object, "salt")?.into(),
        definition: match Kind::of(definition) {
            Kind::Object => definition.into(),
            _ => super::json::string(definition)?.into(),
        },
        by: text(&object, "by").unwrap_or_default(),
        at: text(&object, "at").and_then(|at| Timestamp::parse(&at))?,
        reason: text(&object, "reason"),
    })
}

fn open(bytes: &[u8]) -> Option<Object<'_>> {
    let (mut reader, root) = Reader::new(std::str::from_utf8(bytes).ok()?).ok()?;
    reader.members(&At::root(root), "an object", |_| true)
}

fn text(object: &Object<'_>, name: &str) -> Option<String> {
    super::json::string(object.get(name)?).map(std::borrow::Cow::into_owned)
}
