//! One thing that is wrong with what somebody wrote, told so that they can mend it.
//!
//! Checks collect problems instead of stopping at the first, because a person who fixes a file wants to run
//! the check once. This file knows how a problem is told, not what is wrong.

use std::fmt;

use crate::limits;

/// A place in what was written, the reason, and the fix where it can be guessed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Where, as a path of keys and indices: `flags.new-checkout.rules[1].if.all[0].semver`.
    pub path: String,
    /// Where in the text: line and column, both from 1. `None` when the text is not at hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<TextPosition>,
    /// What is wrong, as a sentence without a full stop.
    pub message: String,
    /// What would make it right, where that can be guessed: `did you mean "endsWith"?`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// A line and a column of a text, both counted from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct TextPosition {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl Problem {
    /// A problem at a path.
    #[must_use]
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem { path: path.into(), position: None, message: message.into(), hint: None }
    }

    /// The same problem with a fix.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(TextPosition { line, column }) = self.position {
            write!(f, "{line}:{column}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// The problems found so far; keeps the first [`limits::PROBLEMS_MAX`] and counts the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
    left_off: usize,
}

impl Problems {
    /// Notes one more.
    pub fn push(&mut self, problem: Problem) {
        if self.list.len() < limits::PROBLEMS_MAX {
            self.list.push(problem);
        } else {
            self.left_off += 1;
        }
    }

    /// Whether nothing is wrong so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many are wrong so far, those left off included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.list.len() + self.left_off
    }

    /// The problems; the last one says how many were left off, if any.
    #[must_use]
    pub fn into_vec(mut self) -> Vec<Problem> {
        if self.left_off > 0 {
            let left_off = self.left_off;
            self.list.push(Problem::new("", format!("{left_off} more problems are not listed")));
        }
        self.list
    }
}

/// The name in `names` that `wrong` was probably meant to be: at most a third of its letters differ.
#[must_use]
pub fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let budget = (wrong.chars().count() / 3).max(1);
    names
        .into_iter()
        .map(|name| (edit_distance(&wrong.to_lowercase(), &name.to_lowercase(), budget), name))
        .filter(|(distance, _)| *distance <= budget)
        .min()
        .map(|(_, name)| name)
}

/// The number of letters to insert, remove, replace or swap with a neighbour, up to `budget + 1`.
fn edit_distance(a: &str, b: &str, budget: usize) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    if a.len().abs_diff(b.len()) > budget {
        return budget + 1;
    }
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX - 1);
            let mut cost =
                (at(&last, j + 1) + 1).min(at(&row, j) + 1).min(at(&last, j) + usize::from(ca != cb));
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(cb) && b.get(j - 1) == Some(ca);
            if swapped {
                cost = cost.min(at(&before_last, j - 1) + 1);
            }
            row.push(cost);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_guessed_only_when_it_is_near() {
        let names = ["startsWith", "endsWith", "contains", "in"];
        let cases = [
            ("ends_with", Some("endsWith")),
            ("endswith", Some("endsWith")),
            ("starstWith", Some("startsWith")),
            ("contain", Some("contains")),
            ("zebra", None),
        ];
        for (wrong, want) in cases {
            assert_eq!(nearest(wrong, names), want, "{wrong}");
        }
    }

    #[test]
    fn problems_past_the_limit_are_counted() {
        let mut problems = Problems::default();
        for _ in 0..limits::PROBLEMS_MAX + 3 {
            problems.push(Problem::new("a", "b"));
        }
        assert_eq!(problems.count(), limits::PROBLEMS_MAX + 3);
        assert!(problems.into_vec().last().unwrap().message.starts_with("3 more"));
    }
}
