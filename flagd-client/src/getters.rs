//! The typed getters, once for [`Client`], [`Snapshot`] and [`FlagHandle`].
//!
//! All answer from one view; they differ only in where they get it, and how they find the flag in it. The getters
//! never wait, fail or touch the network, and those without `_detail` do not allocate for booleans and numbers. One
//! macro keeps their signatures and words the same. This file does not know how a flag is evaluated.

use flagd_core::context::Context;
use flagd_core::snapshot::{Explanation, Place};
use serde_json::Value;

use crate::board::Told;
use crate::client::Client;
use crate::clock;
use crate::detail::{Detail, Reason};
use crate::handle::FlagHandle;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::view::{Answer, View, Why, read_bool, read_integer, read_json, read_number, read_str};

/// The value, or the caller's default.
#[inline]
fn plain<T>(shared: &Shared, view: &View, key: &str, answer: Answer<'_, T>, default: T) -> T {
    if let Some(value) = answer.value {
        return value;
    }
    shared.missed(key, answer.why, view);
    default
}

/// What a boolean flag serves that the board does not tell. A call of its own, so that the short way stays short.
#[inline(never)]
fn wholly(shared: &Shared, view: &View, key: &str, place: Place, context: &Context, default: bool) -> bool {
    plain(shared, view, key, view.answer(view.find_at(place, key), context, read_bool), default)
}

/// The value with its reasons.
fn detailed<T>(shared: &Shared, view: &View, key: &str, answer: Answer<'_, T>, default: T) -> Detail<T> {
    let reason = match answer.why {
        Why::NotReady => Reason::NotReady,
        Why::TypeMismatch => Reason::TypeMismatch,
        Why::Engine(reason) => Reason::of(reason),
    };
    let variant = answer.variant.filter(|_| answer.value.is_some()).map(str::to_owned);
    let value = plain(shared, view, key, answer, default);
    Detail { value, variant, reason, revision: view.position.revision.0, stale: shared.staleness() }
}

fn explained(view: &View, key: &str, context: &Context) -> Explanation {
    match &view.compiled {
        Some(compiled) => compiled.explain(key, context, clock::now()),
        None => Explanation {
            flag: key.to_owned(),
            value: None,
            variant: None,
            reason: Reason::NotReady.to_string(),
            revision: 0,
            steps: Vec::new(),
        },
    }
}

macro_rules! getters {
    ($type:ident($($key:ident)?), $self:ident, $view:expr, $name:expr, $found:ident => $find:expr, $context:ident => $told:expr) => {
        impl $type {
            /// Whether a boolean flag serves `true`; `false` when there is no such flag.
            #[must_use]
            #[inline]
            pub fn is_enabled(&$self, $($key: &str,)? context: &Context) -> bool {
                $self.bool($($key,)? context, false)
            }

            /// [`Self::is_enabled`] with its reasons.
            #[must_use]
            pub fn is_enabled_detail(&$self, $($key: &str,)? context: &Context) -> Detail<bool> {
                $self.bool_detail($($key,)? context, false)
            }

            /// What a boolean flag serves.
            #[must_use]
            #[inline]
            pub fn bool(&$self, $($key: &str,)? context: &Context, default: bool) -> bool {
                let $context = context;
                match $told {
                    Told::Serves(is_on) => is_on,
                    Told::Place(place) => wholly($self.shared(), &$view, $name, place, context, default),
                }
            }

            /// [`Self::bool`] with its reasons.
            #[must_use]
            pub fn bool_detail(&$self, $($key: &str,)? context: &Context, default: bool) -> Detail<bool> {
                let view = $view;
                detailed($self.shared(), &view, $name, view.answer({ let $found: &View = &view; $find }, context, read_bool), default)
            }

            /// What a string flag serves, as a copy; [`Snapshot::str`] borrows instead.
            #[must_use]
            pub fn string(&$self, $($key: &str,)? context: &Context, default: &str) -> String {
                let view = $view;
                plain($self.shared(), &view, $name, view.answer({ let $found: &View = &view; $find }, context, read_str), default).to_owned()
            }

            /// [`Self::string`] with its reasons.
            #[must_use]
            pub fn string_detail(&$self, $($key: &str,)? context: &Context, default: &str) -> Detail<String> {
                let view = $view;
                let answer = view.answer({ let $found: &View = &view; $find }, context, |value| read_str(value).map(str::to_owned));
                detailed($self.shared(), &view, $name, answer, default.to_owned())
            }

            /// What a number flag serves, when it is whole (3 and 3.0 are); another number is of another type.
            #[must_use]
            #[inline]
            pub fn integer(&$self, $($key: &str,)? context: &Context, default: i64) -> i64 {
                let view = $view;
                plain($self.shared(), &view, $name, view.answer({ let $found: &View = &view; $find }, context, read_integer), default)
            }

            /// [`Self::integer`] with its reasons.
            #[must_use]
            pub fn integer_detail(&$self, $($key: &str,)? context: &Context, default: i64) -> Detail<i64> {
                let view = $view;
                detailed($self.shared(), &view, $name, view.answer({ let $found: &View = &view; $find }, context, read_integer), default)
            }

            /// What a number flag serves.
            #[must_use]
            #[inline]
            pub fn number(&$self, $($key: &str,)? context: &Context, default: f64) -> f64 {
                let view = $view;
                plain($self.shared(), &view, $name, view.answer({ let $found: &View = &view; $find }, context, read_number), default)
            }

            /// [`Self::number`] with its reasons.
            #[must_use]
            pub fn number_detail(&$self, $($key: &str,)? context: &Context, default: f64) -> Detail<f64> {
                let view = $view;
                detailed($self.shared(), &view, $name, view.answer({ let $found: &View = &view; $find }, context, read_number), default)
            }

            /// What a flag of objects or arrays serves, as a copy; [`Snapshot::json_ref`] borrows instead.
            #[must_use]
            pub fn json(&$self, $($key: &str,)? context: &Context, default: Value) -> Value {
                let view = $view;
                let answer = view.answer({ let $found: &View = &view; $find }, context, |value| read_json(value).cloned());
                plain($self.shared(), &view, $name, answer, default)
            }

            /// [`Self::json`] with its reasons.
            #[must_use]
            pub fn json_detail(&$self, $($key: &str,)? context: &Context, default: Value) -> Detail<Value> {
                let view = $view;
                let answer = view.answer({ let $found: &View = &view; $find }, context, |value| read_json(value).cloned());
                detailed($self.shared(), &view, $name, answer, default)
            }

            /// The evaluation with every step that led to it: each rule matched or not, which test failed on what
            /// value, the unit, the point and the stretch.
            #[must_use]
            pub fn explain(&$self, $($key: &str,)? context: &Context) -> Explanation {
                explained(&$view, $name, context)
            }
        }
    };
}

getters!(
    Client(key),
    self,
    self.shared.current.load(),
    key,
    view => view.find(key),
    context => self.shared.board.ask(key, context)
);
getters!(Snapshot(key), self, &*self.view, key, view => view.find(key), context => self.view.ask(key, context));
getters!(
    FlagHandle(),
    self,
    self.shared().current.load(),
    self.key(),
    view => view.find_at(self.place(), self.key()),
    context => self.ask_board(context)
);

impl Snapshot {
    /// What a string flag serves, borrowed from this snapshot.
    #[must_use]
    pub fn str<'s>(&'s self, key: &str, context: &Context, default: &'s str) -> &'s str {
        plain(
            self.shared(),
            &self.view,
            key,
            self.view.answer(self.view.find(key), context, read_str),
            default,
        )
    }

    /// What a flag of objects or arrays serves, borrowed from this snapshot.
    #[must_use]
    pub fn json_ref<'s>(&'s self, key: &str, context: &Context, default: &'s Value) -> &'s Value {
        plain(
            self.shared(),
            &self.view,
            key,
            self.view.answer(self.view.find(key), context, read_json),
            default,
        )
    }
}

#[cfg(test)]
mod tests;
