//! Who is asking: a targeting key and attributes.
//!
//! Built once per request and asked many times, so attributes lie in one small sorted list and are looked up
//! without allocation. A context is data of somebody's user: it is never logged and its `Debug` tells only
//! the names of its attributes.

use std::fmt;

use crate::same::same;
use crate::text::Text;

/// A targeting key and attributes. Building one never fails; what cannot be used is simply absent.
#[derive(Clone, Default, PartialEq)]
pub struct Context {
    /// Always text; kept as an attribute because by its name it is one.
    targeting_key: Option<Attribute>,
    /// In byte order of the names, without repetition.
    attributes: Vec<(Text, Attribute)>,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Attribute {
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number; NaN and infinities match nothing.
    Number(f64),
    /// Text.
    String(Box<str>),
    /// A list: it matches when any element does.
    List(Vec<Attribute>),
    /// Named values, reached by a path; in byte order of the names.
    Object(Vec<(Box<str>, Attribute)>),
}

impl Context {
    /// A context of this targeting key (user, device, tenant ...). An empty key is no key.
    #[must_use]
    pub fn new(targeting_key: impl Into<Box<str>>) -> Context {
        let key: Box<str> = targeting_key.into();
        let targeting_key = Some(key).filter(|key| !key.is_empty()).map(Attribute::String);
        Context { targeting_key, attributes: Vec::new() }
    }

    /// A context without a targeting key.
    #[must_use]
    pub fn anonymous() -> Context {
        Context::default()
    }

    /// The same context with an attribute. `None` is absent; a name given twice keeps the later value.
    #[must_use]
    pub fn with(mut self, name: impl Into<Box<str>>, value: impl IntoAttribute) -> Context {
        self.set(name, value);
        self
    }

    /// Sets an attribute, or removes it when the value is `None`.
    pub fn set(&mut self, name: impl Into<Box<str>>, value: impl IntoAttribute) {
        let name: Box<str> = name.into();
        let name = Text::from(name.as_ref());
        let place = self.attributes.binary_search_by(|(known, _)| known.cmp(&name));
        match (place, value.into_attribute()) {
            (Ok(at), Some(value)) => {
                if let Some(slot) = self.attributes.get_mut(at) {
                    slot.1 = value;
                }
            }
            (Ok(at), None) => drop(self.attributes.remove(at)),
            (Err(at), Some(value)) => self.attributes.insert(at, (name, value)),
            (Err(_), None) => {}
        }
    }

    /// The targeting key, if there is one.
    #[must_use]
    #[inline]
    pub fn targeting_key(&self) -> Option<&str> {
        match &self.targeting_key {
            Some(Attribute::String(key)) => Some(key),
            _ => None,
        }
    }

    /// The targeting key, as an attribute.
    pub(crate) fn targeting_key_attribute(&self) -> Option<&Attribute> {
        self.targeting_key.as_ref()
    }

    /// The attribute of exactly this name.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.named(&name.into())
    }

    /// Contexts hold a handful of attributes: a walk is faster than a search.
    #[inline]
    pub(crate) fn named(&self, name: &Text) -> Option<&Attribute> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The names of all attributes, in byte order.
    pub fn attribute_names(&self) -> impl Iterator<Item = &str> {
        self.attributes.iter().map(|(name, _)| name.as_str())
    }

    /// Reads a context from JSON: an object whose `targetingKey` is the targeting key and whose other members
    /// are attributes. Members that are null are absent.
    ///
    /// # Errors
    /// A sentence when the value is no object or `targetingKey` is neither a string nor a whole number.
    pub fn from_json(value: &serde_json::Value) -> Result<Context, String> {
        let serde_json::Value::Object(members) = value else {
            return Err(
                "a context is a JSON object such as {\"targetingKey\": \"user-1\", \"country\": \"DE\"}"
                    .into(),
            );
        };
        let mut context = Context::anonymous();
        for (name, member) in members {
            if name != "targetingKey" {
                context.set(name.as_str(), member);
                continue;
            }
            context.targeting_key = match member {
                serde_json::Value::Null => None,
                serde_json::Value::String(text) => Some(text.as_str())
                    .filter(|text| !text.is_empty())
                    .and_then(IntoAttribute::into_attribute),
                serde_json::Value::Number(number) if !number.is_f64() => number.to_string().into_attribute(),
                _ => return Err("`targetingKey` must be a string or a whole number".into()),
            };
        }
        Ok(context)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.attribute_names().collect();
        f.debug_struct("Context").field("attributes", &names).finish_non_exhaustive()
    }
}

impl Attribute {
    /// The member of exactly this name, when the value is an object.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Attribute> {
        match self {
            Attribute::Object(members) => {
                members.iter().find(|(known, _)| same(known, name)).map(|(_, value)| value)
            }
            _ => None,
        }
    }
}

/// What [`Context::with`] takes as a value; `None` makes the attribute absent.
pub trait IntoAttribute {
    /// The value, or `None` for "absent".
    fn into_attribute(self) -> Option<Attribute>;
}

macro_rules! into_attribute {
    ($($type:ty => $value:ident => $made:expr;)*) => {
        $(impl IntoAttribute for $type {
            fn into_attribute(self) -> Option<Attribute> {
                let $value = self;
                Some($made)
            }
        })*
    };
}

into_attribute! {
    bool => v => Attribute::Bool(v);
    i8 => v => Attribute::Integer(v.into());
    i16 => v => Attribute::Integer(v.into());
    i32 => v => Attribute::Integer(v.into());
    i64 => v => Attribute::Integer(v);
    u8 => v => Attribute::Integer(v.into());
    u16 => v => Attribute::Integer(v.into());
    u32 => v => Attribute::Integer(v.into());
    u64 => v => from_u64(v);
    usize => v => from_u64(v as u64);
    f32 => v => Attribute::Number(v.into());
    f64 => v => Attribute::Number(v);
    &str => v => Attribute::String(v.into());
    String => v => Attribute::String(v.into());
    &String => v => Attribute::String(v.as_str().into());
    Box<str> => v => Attribute::String(v);
    std::borrow::Cow<'_, str> => v => Attribute::String(v.into());
    Attribute => v => v;
}

/// Numbers past `i64` are compared as `f64`, as every other reader of JSON would.
#[expect(clippy::cast_precision_loss, reason = "documented above: there is no wider number")]
fn from_u64(value: u64) -> Attribute {
    i64::try_from(value).map_or(Attribute::Number(value as f64), Attribute::Integer)
}

impl<T: IntoAttribute> IntoAttribute for Option<T> {
    fn into_attribute(self) -> Option<Attribute> {
        self.and_then(IntoAttribute::into_attribute)
    }
}

impl<T: IntoAttribute> IntoAttribute for Vec<T> {
    fn into_attribute(self) -> Option<Attribute> {
        Some(Attribute::List(self.into_iter().filter_map(IntoAttribute::into_attribute).collect()))
    }
}

impl<T: IntoAttribute + Clone> IntoAttribute for &[T] {
    fn into_attribute(self) -> Option<Attribute> {
        self.to_vec().into_attribute()
    }
}

impl<T: IntoAttribute, const N: usize> IntoAttribute for [T; N] {
    fn into_attribute(self) -> Option<Attribute> {
        Some(Attribute::List(self.into_iter().filter_map(IntoAttribute::into_attribute).collect()))
    }
}

impl IntoAttribute for &serde_json::Value {
    fn into_attribute(self) -> Option<Attribute> {
        use serde_json::Value;
        Some(match self {
            Value::Null => return None,
            Value::Bool(v) => Attribute::Bool(*v),
            Value::Number(v) => match (v.as_i64(), v.as_f64()) {
                (Some(v), _) => Attribute::Integer(v),
                (None, Some(v)) => Attribute::Number(v),
                (None, None) => return None,
            },
            Value::String(v) => Attribute::String(v.as_str().into()),
            Value::Array(list) => {
                Attribute::List(list.iter().filter_map(IntoAttribute::into_attribute).collect())
            }
            Value::Object(members) => {
                let mut list: Vec<(Box<str>, Attribute)> = members
                    .iter()
                    .filter_map(|(name, value)| Some((name.as_str().into(), value.into_attribute()?)))
                    .collect();
                list.sort_by(|a, b| a.0.cmp(&b.0));
                Attribute::Object(list)
            }
        })
    }
}

impl IntoAttribute for serde_json::Value {
    fn into_attribute(self) -> Option<Attribute> {
        (&self).into_attribute()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_is_absent_and_the_later_value_wins() {
        let context = Context::new("u").with("a", 1).with("b", None::<&str>).with("a", "x");
        assert_eq!(context.attribute("a"), Some(&Attribute::String("x".into())));
        assert_eq!(context.attribute("b"), None);
        assert_eq!(context.with("a", None::<bool>).attribute("a"), None);
    }

    #[test]
    fn an_empty_targeting_key_is_none() {
        assert_eq!(Context::new("").targeting_key(), None);
        assert_eq!(
            Context::from_json(&serde_json::json!({"targetingKey": ""})).unwrap().targeting_key(),
            None
        );
    }

    #[test]
    fn json_members_become_attributes() {
        let json = serde_json::json!({"targetingKey": 17, "n": 1.5, "l": ["a", null], "o": {"b": 1, "a": 2}, "z": null});
        let context = Context::from_json(&json).unwrap();
        assert_eq!(context.targeting_key(), Some("17"));
        assert_eq!(context.attribute_names().collect::<Vec<_>>(), ["l", "n", "o"]);
        assert_eq!(context.attribute("o").unwrap().member("b"), Some(&Attribute::Integer(1)));
        assert!(Context::from_json(&serde_json::json!([])).is_err());
    }

    #[test]
    fn debug_does_not_tell_values() {
        let shown = format!("{:?}", Context::new("secret-user").with("email", "a@example.com"));
        assert!(!shown.contains("secret") && !shown.contains("example"), "{shown}");
    }
}
