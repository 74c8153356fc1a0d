//! Rules that ask one attribute for one text after another, without asking.
//!
//! "If the tenant is A ... if the tenant is B ..." is how many flags grow, and walking down such a ladder costs
//! every evaluation as many comparisons as there are rungs. Here the attribute's text is looked up once, and
//! evaluation begins at the rule that holds. The rule is still tested there: what this file says is only
//! which rules need not be. It does not know what rules serve.

use std::sync::Arc;

use crate::context::Attribute;

use super::compile::{Condition, Rule};
use super::condition::{Found, Path, Test};
use super::index::Texts;

/// Fewer rules are walked faster than looked up.
const RUNGS_MIN: usize = 4;

/// The rules at the beginning of a flag that each hold for the texts that they list, of the same attribute.
#[derive(Debug)]
pub(super) struct Ladder {
    pub(super) path: Arc<Path>,
    /// All operands in the order of their rules.
    operands: Texts,
    /// The rule of each operand.
    rungs: Box<[u32]>,
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
        let mut operands = Vec::new();
        let mut rungs = Vec::new();
        let mut height = 0;
        for rule in rules.iter().take_while(|rule| of_this_path(rule)) {
            let Condition::Attribute { test, .. } = &rule.condition else { break };
            let Some(texts) = test.only_texts() else { break };
            for text in texts {
                operands.push(text.as_str());
                rungs.push(height);
            }
            height += 1;
        }
        (height as usize >= RUNGS_MIN).then(|| {
            let operands = operands.into_iter().collect();
            Box::new(Ladder { path: Arc::clone(path), operands, rungs: rungs.into(), height })
        })
    }

    /// How many rules from the first on cannot hold, whatever comes after them.
    #[inline]
    pub(super) fn skip(&self, found: Option<Found<'_>>) -> usize {
        let text = match found {
            Some(Found::Attribute(Attribute::String(text))) => text,
            Some(Found::Text(text)) => text,
            // The rules ask for texts, and there is none.
            None => return self.height as usize,
            // Any element of a list may hold.
            Some(_) => return 0,
        };
        let rung = self.operands.position(text).and_then(|operand| self.rungs.get(operand as usize));
        *rung.unwrap_or(&self.height) as usize
    }
}

/// A rule that holds for a few texts lists them here; any other test is none of a ladder's.
impl Test {
    fn only_texts(&self) -> Option<&[crate::text::Text]> {
        match self {
            Test::Text(text) => Some(std::slice::from_ref(text)),
            Test::AnyOf(values) => values.only_few_texts(),
            _ => None,
        }
    }
}
