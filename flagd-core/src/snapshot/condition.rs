//! One test on one attribute, ready to run.
//!
//! Whatever can be prepared is prepared here once: operands become sets, patterns are compiled, letters are
//! lowered. What is left to do for a context neither allocates nor fails: an attribute that is absent, or of
//! another type, makes the test false. Numbers are compared by their value, never after rounding one of them.
//! This file knows attributes, not rules.

use core::net::IpAddr;
use std::cmp::Ordering;
use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use ipnet::IpNet;
use regex::Regex;
use semver::VersionReq;

use crate::context::{Attribute, Context};
use crate::definition::{self, Case, Scalar, compile_pattern, read_network};
use crate::text::Text;
use crate::time::Timestamp;

use super::index::Texts as TextSet;
use super::version::Requirement;

/// The name by which the targeting key is an attribute like any other.
const TARGETING_KEY: &str = "targetingKey";

/// Up to this many texts are compared one by one; more are looked up in a set.
const FEW: usize = 4;

/// Where an attribute stands in a context: its whole text as a name first, else split at dots.
#[derive(Clone, Debug)]
pub(super) struct Path {
    whole: Text,
    /// The parts between the dots; none when there is no dot.
    parts: Box<[Text]>,
    is_targeting_key: bool,
}

impl Path {
    pub(super) fn of(text: &str) -> Path {
        let parts =
            if text.contains('.') { text.split('.').map(Text::from).collect() } else { Box::default() };
        Path { whole: text.into(), parts, is_targeting_key: text == TARGETING_KEY }
    }

    /// The path as written.
    pub(super) fn as_str(&self) -> &str {
        self.whole.as_str()
    }

    #[inline]
    pub(super) fn find<'a>(&self, context: &'a Context) -> Option<&'a Attribute> {
        context.named(&self.whole).or_else(|| self.find_below(context))
    }

    #[cold]
    fn find_below<'a>(&self, context: &'a Context) -> Option<&'a Attribute> {
        if self.is_targeting_key {
            return context.targeting_key_attribute();
        }
        let (first, below) = self.parts.split_first()?;
        let start = context.named(first)?;
        below.iter().try_fold(start, |value, name| value.member(name.as_str()))
    }
}

/// A test, as it runs.
#[derive(Debug)]
pub(super) enum Test {
    /// The text is exactly this: the most frequent test of all.
    Text(Text),
    /// The value is one of these.
    AnyOf(Box<AnyOf>),
    /// A text that lies somewhere in the value.
    Part(Part, Case, Box<[Box<str>]>),
    /// A pattern that matches somewhere in the text.
    Matches(Box<Regex>),
    /// The number is on this side of another one.
    Number(Side, f64),
    /// The moment is before this one.
    Before(Timestamp),
    /// The moment is this one or after it.
    After(Timestamp),
    /// The version satisfies this.
    Semver(Requirement),
    /// The address is in one of these networks.
    Cidr(Box<[IpNet]>),
    /// The attribute is there, or not.
    Exists(bool),
}

/// Where in a text another one is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Start,
    End,
    Anywhere,
}

/// On which side of a number another one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    LessThan,
    AtMost,
    GreaterThan,
    AtLeast,
}

/// Values to be equal to.
#[derive(Debug)]
pub(super) struct AnyOf {
    texts: Texts,
    /// In order.
    integers: Box<[i64]>,
    /// In order; none of them is whole and within `i64`.
    numbers: Box<[f64]>,
    truth: bool,
    falsehood: bool,
}

/// Texts to be equal to.
#[derive(Debug)]
enum Texts {
    Few(Box<[Text]>),
    Many(TextSet),
    /// In lower case, in order of the hash of their characters, so that a text is looked up while it is
    /// being lowered.
    Lowered(Box<[(u64, Box<str>)]>),
}

impl Test {
    /// Prepares a test.
    pub(super) fn of(test: &definition::Test) -> Result<Test, String> {
        let part = |part, operands: &[Box<str>], case| {
            Test::Part(part, case, operands.iter().map(|operand| lowered_if(operand, case)).collect())
        };
        Ok(match test {
            definition::Test::Equals(Scalar::String(operand), Case::Sensitive) => {
                Test::Text(operand.as_ref().into())
            }
            definition::Test::Equals(scalar, case) => {
                Test::AnyOf(Box::new(AnyOf::of(std::slice::from_ref(scalar), *case)))
            }
            definition::Test::In(scalars, case) => Test::AnyOf(Box::new(AnyOf::of(scalars, *case))),
            definition::Test::StartsWith(operands, case) => part(Part::Start, operands, *case),
            definition::Test::EndsWith(operands, case) => part(Part::End, operands, *case),
            definition::Test::Contains(operands, case) => part(Part::Anywhere, operands, *case),
            definition::Test::Matches(pattern) => Test::Matches(Box::new(compile_pattern(pattern)?)),
            definition::Test::LessThan(bound) => Test::Number(Side::LessThan, *bound),
            definition::Test::AtMost(bound) => Test::Number(Side::AtMost, *bound),
            definition::Test::GreaterThan(bound) => Test::Number(Side::GreaterThan, *bound),
            definition::Test::AtLeast(bound) => Test::Number(Side::AtLeast, *bound),
            definition::Test::Before(moment) => Test::Before(*moment),
            definition::Test::After(moment) => Test::After(*moment),
            definition::Test::Semver(requirement) => Test::Semver(version_requirement(requirement)?.into()),
            definition::Test::Cidr(networks) => {
                Test::Cidr(networks.iter().map(|name| network(name)).collect::<Result<_, _>>()?)
            }
            definition::Test::Exists(wanted) => Test::Exists(*wanted),
        })
    }

    /// Whether the test holds for what was found in a context.
    #[inline]
    pub(super) fn holds(&self, found: Option<&Attribute>) -> bool {
        match (self, found) {
            (Test::Text(operand), Some(Attribute::String(text))) => operand.is(text),
            _ => self.holds_otherwise(found),
        }
    }

    fn holds_otherwise(&self, found: Option<&Attribute>) -> bool {
        match (self, found) {
            (Test::Exists(wanted), found) => *wanted == found.is_some(),
            (_, None) => false,
            (_, Some(Attribute::List(elements))) => elements.iter().any(|one| self.one(one)),
            (_, Some(attribute)) => self.one(attribute),
        }
    }

    /// One value; a list inside a list, or an object, is none.
    #[inline]
    fn one(&self, value: &Attribute) -> bool {
        match value {
            Attribute::String(text) => self.text(text),
            Attribute::Integer(number) => self.integer(*number),
            Attribute::Number(number) => match whole(*number) {
                Some(whole) => self.integer(whole),
                None => number.is_finite() && self.fraction(*number),
            },
            Attribute::Bool(value) => matches!(self, Test::AnyOf(values) if values.has_bool(*value)),
            Attribute::List(_) | Attribute::Object(_) => false,
        }
    }

    #[inline]
    fn text(&self, text: &str) -> bool {
        match self {
            Test::Text(operand) => operand.is(text),
            Test::AnyOf(values) => values.has_text(text),
            Test::Part(part, Case::Sensitive, operands) => operands.iter().any(|operand| match part {
                Part::Start => text.starts_with(operand.as_ref()),
                Part::End => text.ends_with(operand.as_ref()),
                Part::Anywhere => text.contains(operand.as_ref()),
            }),
            Test::Part(part, Case::Ignore, operands) => {
                operands.iter().any(|operand| has_lowered(text, operand, *part))
            }
            Test::Matches(pattern) => pattern.is_match(text),
            Test::Before(bound) => Timestamp::parse(text).is_some_and(|moment| moment < *bound),
            Test::After(bound) => Timestamp::parse(text).is_some_and(|moment| moment >= *bound),
            Test::Semver(requirement) => requirement.is_satisfied_by(text),
            Test::Cidr(networks) => text.parse::<IpAddr>().is_ok_and(|address| {
                let plain = address.to_canonical();
                networks.iter().any(|network| network.contains(&address) || network.contains(&plain))
            }),
            Test::Number(..) | Test::Exists(_) => false,
        }
    }

    fn integer(&self, number: i64) -> bool {
        match self {
            Test::AnyOf(values) => values.integers.binary_search(&number).is_ok(),
            Test::Number(side, bound) => compare(number, *bound).is_some_and(|order| side.includes(order)),
            _ => false,
        }
    }

    fn fraction(&self, number: f64) -> bool {
        match self {
            Test::AnyOf(values) => values.numbers.binary_search_by(|known| known.total_cmp(&number)).is_ok(),
            Test::Number(side, bound) => number.partial_cmp(bound).is_some_and(|order| side.includes(order)),
            _ => false,
        }
    }
}

impl Side {
    fn includes(self, order: Ordering) -> bool {
        match self {
            Side::LessThan => order == Ordering::Less,
            Side::AtMost => order != Ordering::Greater,
            Side::GreaterThan => order == Ordering::Greater,
            Side::AtLeast => order != Ordering::Less,
        }
    }
}

impl AnyOf {
    fn of(scalars: &[Scalar], case: Case) -> AnyOf {
        let (mut texts, mut integers, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
        let (mut truth, mut falsehood) = (false, false);
        for scalar in scalars {
            match scalar {
                Scalar::String(text) => texts.push(lowered_if(text, case)),
                Scalar::Integer(number) => integers.push(*number),
                Scalar::Number(number) => match whole(*number) {
                    Some(whole) => integers.push(whole),
                    None => numbers.push(*number),
                },
                Scalar::Bool(true) => truth = true,
                Scalar::Bool(false) => falsehood = true,
            }
        }
        integers.sort_unstable();
        numbers.sort_unstable_by(f64::total_cmp);
        let texts = match case {
            Case::Ignore => Texts::lowered(texts),
            Case::Sensitive if texts.len() <= FEW => {
                Texts::Few(texts.iter().map(|text| text.as_ref().into()).collect())
            }
            Case::Sensitive => Texts::Many(texts.iter().map(AsRef::as_ref).collect()),
        };
        AnyOf { texts, integers: integers.into(), numbers: numbers.into(), truth, falsehood }
    }

    /// The texts, when there is nothing else and they are few.
    pub(super) fn only_few_texts(&self) -> Option<&[Text]> {
        let has_others =
            self.truth || self.falsehood || !self.integers.is_empty() || !self.numbers.is_empty();
        match &self.texts {
            Texts::Few(texts) if !has_others => Some(texts),
            _ => None,
        }
    }

    fn has_bool(&self, value: bool) -> bool {
        if value { self.truth } else { self.falsehood }
    }

    fn has_text(&self, text: &str) -> bool {
        match &self.texts {
            Texts::Few(texts) => texts.iter().any(|known| known.is(text)),
            Texts::Many(texts) => texts.contains(text),
            Texts::Lowered(texts) => {
                let hash = hash_chars(lower(text));
                let start = texts.partition_point(|(known, _)| *known < hash);
                let equal = texts.iter().skip(start).take_while(|(known, _)| *known == hash);
                equal.into_iter().any(|(_, known)| known.chars().eq(lower(text)))
            }
        }
    }
}

impl Texts {
    fn lowered(texts: Vec<Box<str>>) -> Texts {
        let mut hashed: Vec<(u64, Box<str>)> =
            texts.into_iter().map(|text| (hash_chars(text.chars()), text)).collect();
        hashed.sort_unstable();
        Texts::Lowered(hashed.into())
    }
}

/// The number as `i64`, when it is exactly one.
fn whole(number: f64) -> Option<i64> {
    /// 2^63: one more than the largest `i64`.
    const END: f64 = 9_223_372_036_854_775_808.0;
    let is_whole = number.fract() == 0.0 && (-END..END).contains(&number);
    #[expect(clippy::cast_possible_truncation, reason = "whole and within i64, just above")]
    is_whole.then_some(number as i64)
}

/// The order of an integer and a number by value, also where `f64` cannot hold the integer.
fn compare(integer: i64, number: f64) -> Option<Ordering> {
    match whole(number.trunc()) {
        Some(trunc) => integer.cmp(&trunc).then(0.0_f64.partial_cmp(&number.fract())?).into(),
        None if number.is_nan() => None,
        None => Some(if number > 0.0 { Ordering::Less } else { Ordering::Greater }),
    }
}

fn lower(text: &str) -> impl DoubleEndedIterator<Item = char> + Clone {
    text.chars().flat_map(char::to_lowercase)
}

fn lowered_if(text: &str, case: Case) -> Box<str> {
    match case {
        Case::Sensitive => text.into(),
        Case::Ignore => lower(text).collect::<String>().into(),
    }
}

fn hash_chars(chars: impl Iterator<Item = char>) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    for char in chars {
        hasher.write_u32(char.into());
    }
    hasher.finish()
}

/// Whether `part` of `text`, lowered, is `operand`, which is lowered already.
fn has_lowered(text: &str, operand: &str, part: Part) -> bool {
    match part {
        Part::Start => begins(lower(text), operand.chars()),
        Part::End => begins(lower(text).rev(), operand.chars().rev()),
        Part::Anywhere => {
            let mut rest = lower(text);
            loop {
                if begins(rest.clone(), operand.chars()) {
                    return true;
                }
                if rest.next().is_none() {
                    return false;
                }
            }
        }
    }
}

fn begins(mut text: impl Iterator<Item = char>, mut start: impl Iterator<Item = char>) -> bool {
    start.all(|wanted| text.next() == Some(wanted))
}

fn version_requirement(text: &str) -> Result<VersionReq, String> {
    VersionReq::parse(text).map_err(|error| format!("`{text}` is no version requirement: {error}"))
}

fn network(text: &str) -> Result<IpNet, String> {
    read_network(text).ok_or_else(|| format!("`{text}` is no network such as 10.0.0.0/8 or 2001:db8::/32"))
}

#[cfg(test)]
mod tests;
