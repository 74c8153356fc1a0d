//! What evaluations use at one moment: a compiled state and what is worth telling about it.
//!
//! One immutable value behind one atomic pointer, so that no reader ever sees half a change. A view also
//! counts who holds it on purpose (`Client::snapshot`), because a kill is only over when nobody evaluates
//! through an older one. It does not know where the state came from or who reads it.

#![expect(
    clippy::inline_always,
    reason = "measured: left to itself the compiler makes calls of these, which cost a third"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use flagd_core::context::Context;
use flagd_core::revision::Position;
use flagd_core::snapshot::{Evaluation, FlagRef, Place, Reason as CoreReason, Refusal, Snapshot as Compiled};
use serde_json::Value;

use crate::board::Told;
use crate::clock;

/// Where the state that answers came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// Nowhere: there is none yet.
    Nothing,
    /// From the bootstrap file.
    Bootstrap,
    /// From the disk, as an earlier process left it.
    Disk,
    /// From a server.
    Server,
    /// From the program itself: embedded definitions, or a test.
    Embedded,
}

/// A state in use.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) compiled: Option<Compiled>,
    /// The server's name for this state; zero without one.
    pub(crate) position: Position,
    pub(crate) source: Source,
    pub(crate) refused: Vec<Refusal>,
    /// Kills that are obeyed although the state does not hold them.
    pub(crate) obeyed_kills: Vec<Arc<str>>,
    holders: AtomicU32,
}

/// Why a getter returns what it returns, borrowed from the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why<'v> {
    NotReady,
    TypeMismatch,
    Engine(CoreReason<'v>),
}

/// What a getter found; without a value the caller's default is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'v, T> {
    pub(crate) value: Option<T>,
    pub(crate) variant: Option<&'v str>,
    pub(crate) why: Why<'v>,
}

impl View {
    /// No state yet.
    pub(crate) fn nothing() -> View {
        View {
            compiled: None,
            position: Position::default(),
            source: Source::Nothing,
            refused: Vec::new(),
            obeyed_kills: Vec::new(),
            holders: AtomicU32::new(0),
        }
    }

    /// A compiled state; `position` is what the server calls it.
    pub(crate) fn new(
        compiled: Compiled,
        position: Position,
        source: Source,
        obeyed_kills: Vec<Arc<str>>,
    ) -> View {
        let refused = compiled.refused();
        View { compiled: Some(compiled), position, source, refused, obeyed_kills, holders: AtomicU32::new(0) }
    }

    /// The flag of a name.
    #[inline(always)]
    pub(crate) fn find(&self, key: &str) -> Option<FlagRef<'_>> {
        self.compiled.as_ref()?.flag(key)
    }

    /// What a flag serves the short way, or where it stands.
    #[inline(always)]
    pub(crate) fn ask(&self, key: &str, context: &Context) -> Told {
        let Some(flag) = self.find(key) else { return Told::NOTHING };
        match flag.short_way().is_on(context) {
            Some(is_on) => Told::Serves(is_on),
            None => Told::Place(flag.place()),
        }
    }

    /// The flag of a name that probably stands at this place.
    #[inline]
    pub(crate) fn find_at(&self, place: Place, key: &str) -> Option<FlagRef<'_>> {
        self.compiled.as_ref()?.flag_at(place, key)
    }

    /// Evaluates a flag that was found here, or was not, and reads the value as the getter's type.
    #[inline]
    pub(crate) fn answer<'v, T>(
        &'v self,
        flag: Option<FlagRef<'v>>,
        context: &Context,
        read: impl FnOnce(&'v Value) -> Option<T>,
    ) -> Answer<'v, T> {
        let Some(flag) = flag else { return self.without(CoreReason::NotFound, None) };
        let Evaluation { value, variant, reason, .. } = flag.evaluate_lazily(context, clock::now);
        let Some(value) = value else { return self.without(reason, variant) };
        match read(value) {
            Some(value) => Answer { value: Some(value), variant, why: Why::Engine(reason) },
            None => Answer { value: None, variant: None, why: Why::TypeMismatch },
        }
    }

    /// There is no value. Kills alone are no state: what is not killed is not known yet.
    #[cold]
    fn without<'v, T>(&self, reason: CoreReason<'v>, variant: Option<&'v str>) -> Answer<'v, T> {
        let why = match (reason, self.source) {
            (CoreReason::NotFound, Source::Nothing) => Why::NotReady,
            (reason, _) => Why::Engine(reason),
        };
        Answer { value: None, variant, why }
    }

    /// Somebody holds this view on purpose.
    pub(crate) fn hold(&self) {
        self.holders.fetch_add(1, Ordering::Relaxed);
    }

    /// Somebody no longer does.
    pub(crate) fn release(&self) {
        self.holders.fetch_sub(1, Ordering::Release);
    }

    /// Whether somebody holds it on purpose.
    #[cfg(feature = "remote")]
    pub(crate) fn is_held(&self) -> bool {
        self.holders.load(Ordering::Acquire) > 0
    }
}

pub(crate) fn read_bool(value: &Value) -> Option<bool> {
    value.as_bool()
}

pub(crate) fn read_str(value: &Value) -> Option<&str> {
    value.as_str()
}

/// Whole numbers only, however they were written: 3 and 3.0.
#[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53, which an i64 holds exactly")]
pub(crate) fn read_integer(value: &Value) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if let Some(integer) = value.as_i64() {
        return Some(integer);
    }
    let number = value.as_f64()?;
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

pub(crate) fn read_number(value: &Value) -> Option<f64> {
    value.as_f64()
}

/// Objects and arrays: the type that the definition language calls `json`.
pub(crate) fn read_json(value: &Value) -> Option<&Value> {
    (value.is_object() || value.is_array()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_read_as_the_getters_type_or_not_at_all() {
        let cases = [
            ("whole number", json!(3), Some(3), Some(3.0)),
            ("whole number with a point", json!(3.0), Some(3), Some(3.0)),
            ("fraction", json!(3.5), None, Some(3.5)),
            ("beyond exactness", json!(1e300), None, Some(1e300)),
            ("text", json!("3"), None, None),
            ("boolean", json!(true), None, None),
        ];
        for (name, value, integer, number) in cases {
            assert_eq!(read_integer(&value), integer, "{name}");
            assert_eq!(read_number(&value), number, "{name}");
        }
        assert_eq!(read_json(&json!([1])), Some(&json!([1])));
        assert_eq!(read_json(&json!("text")), None);
    }

    #[test]
    fn without_a_state_nothing_is_ready() {
        let view = View::nothing();
        assert_eq!(view.answer(view.find("x"), &Context::new("u"), read_bool).why, Why::NotReady);
    }
}
