//! Tables in Markdown, and the words and figures in them.

use std::fmt;

/// The lock file: what was built, not what somebody typed.
const LOCK: &str = include_str!("../Cargo.lock");

/// A table; its first columns are text, the others are figures.
#[derive(Clone, Debug)]
pub struct Table {
    texts: usize,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with so many columns of text, these heads and no rows.
    #[must_use]
    pub fn new<S: Into<String>>(texts: usize, head: impl IntoIterator<Item = S>) -> Table {
        Table { texts, head: head.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| {} |", self.head.join(" | "))?;
        let rules = (0..self.head.len()).map(|at| if at < self.texts { "---" } else { "---:" });
        writeln!(f, "| {} |", rules.collect::<Vec<_>>().join(" | "))?;
        self.rows.iter().try_for_each(|row| writeln!(f, "| {} |", row.join(" | ")))
    }
}

/// The version of a package, as locked.
#[must_use]
pub fn version(package: &str) -> &'static str {
    let line = format!("name = \"{package}\"");
    let version = LOCK.lines().skip_while(|it| *it != line).nth(1);
    version.and_then(|it| it.strip_prefix("version = \"")?.strip_suffix('"')).unwrap_or("unknown")
}

/// A figure with three significant digits, thousands apart.
#[must_use]
pub fn figure(value: f64) -> String {
    match value {
        value if !value.is_finite() => "-".to_owned(),
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value if value < 1_000.0 => format!("{value:.0}"),
        value => {
            let unit = 10_f64.powf(value.log10().floor() - 2.0);
            thousands(&format!("{:.0}", (value / unit).round() * unit))
        }
    }
}

fn thousands(digits: &str) -> String {
    let apart = |(at, digit): (usize, char)| {
        let is_border = at > 0 && (digits.len() - at).is_multiple_of(3);
        is_border.then_some(',').into_iter().chain([digit])
    };
    digits.chars().enumerate().flat_map(apart).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        let cases = [
            (0.0, "0.00"),
            (3.456, "3.46"),
            (14.04, "14.0"),
            (145.4, "145"),
            (1_454.0, "1,450"),
            (6_941_234.0, "6,940,000"),
            (f64::NAN, "-"),
        ];
        for (value, text) in cases {
            assert_eq!(figure(value), text);
        }
    }

    #[test]
    fn versions_are_those_of_the_lock_file() {
        assert_eq!(version("flagd-peers"), env!("CARGO_PKG_VERSION"));
        assert_eq!(version("no-such-package"), "unknown");
    }
}
