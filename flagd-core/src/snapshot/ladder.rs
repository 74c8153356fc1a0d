//! Rules that ask one attribute for one text after another, without asking.
//!
//! "If the tenant is A ... if the tenant is B ..." is how many flags grow, and walking down such a ladder costs
//! every evaluation as many comparisons as there are rungs. Here the attribute's text is looked up once, which
//! gives the first rule that holds. An explanation goes down the rules one by one all the same, and a test holds
//! the two against each other. This file does not know what rules serve.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::context::{Attribute, Context};
use crate::text::{Text, hash};

use super::compile::{Condition, Rule};
use super::condition::{Path, Test};
use super::index::Index;

/// Fewer rules are walked faster than looked up.
const RUNGS_MIN: usize = 4;

/// The rules at the beginning of a flag that each hold for the texts that they list, of the same attribute.
#[derive(Debug)]
pub(super) struct Ladder {
    path: Path,
    index: Index,
    /// All operands, each once, with the first rule of each.
    rungs: Box<[(Text, u32)]>,
    /// How many rules these are.
    height: u32,
}

impl Ladder {
    /// The ladder that a list of rules begins with, if it is worth having.
    pub(super) fn of(rules: &[Rule]) -> Option<Box<Ladder>> {
        let Condition::Attribute { path, .. } = &rules.first()?.condition else { return None };
        let of_this_path = |rule: &'_ Rule| match &rule.condition {
            Condition::Attribute { path: other, .. } => Arc::ptr_eq(path, other),
            _ => false,
        };
        // Of equal texts the first rule's counts.
        let mut rungs = BTreeMap::new();
        let mut height = 0;
        for rule in rules.iter().take_while(|rule| of_this_path(rule)) {
            let Condition::Attribute { test, .. } = &rule.condition else { break };
            let Some(texts) = test.only_texts() else { break };
            for text in texts {
                rungs.entry(text.as_str()).or_insert(height);
            }
            height += 1;
        }
        (height as usize >= RUNGS_MIN).then(|| {
            let rungs: Box<[(Text, u32)]> =
                rungs.into_iter().map(|(text, rule)| (Text::from(text), rule)).collect();
            let index = Index::of(&rungs, |(text, _)| text);
            Box::new(Ladder { path: Path::clone(path), index, rungs, height })
        })
    }

    /// Looks the attribute up; `rules` are those that the ladder was made of.
    #[inline]
    pub(super) fn climb<'s>(&self, rules: &'s [Rule], context: &Context) -> Climb<'s> {
        let text = match self.path.find(context) {
            Some(Attribute::String(text)) => text,
            // The rules ask for texts, and there is none.
            None => return self.left(rules),
            // Any element of a list may hold.
            Some(_) => return Climb::Left(rules),
        };
        let rung = self.index.find(hash(text), |rung| {
            let (operand, rule) = self.rungs.get(rung as usize)?;
            operand.is(text).then_some(*rule)
        });
        match rung.and_then(|rule| rules.get(rule as usize)) {
            Some(rule) => Climb::Holds(rule),
            None => self.left(rules),
        }
    }

    fn left<'s>(&self, rules: &'s [Rule]) -> Climb<'s> {
        Climb::Left(rules.get(self.height as usize..).unwrap_or_default())
    }
}

/// Where a ladder leads.
pub(super) enum Climb<'s> {
    /// This rule holds, and none before it.
    Holds(&'s Rule),
    /// None of the others holds; these are to be tried.
    Left(&'s [Rule]),
}

/// A rule that holds for a few texts lists them here; any other test is none of a ladder's.
impl Test {
    fn only_texts(&self) -> Option<&[Text]> {
        match self {
            Test::Text(text) => Some(std::slice::from_ref(text)),
            Test::AnyOf(values) => values.only_few_texts(),
            _ => None,
        }
    }
}
