//! Answers as text for people: a header, aligned columns, plain sentences.
//!
//! Everything that came from elsewhere passes through [`clean`], so that a flag's description cannot move the
//! cursor of whoever lists it. These are pure functions: the same answer and look give the same text.

use std::fmt::Write as _;

use crate::output::{Answer, Color, Header, Look};

mod change;
mod read;

pub(crate) use change::{failure, progress, waited};
pub(crate) use read::watch_line;

/// `default @ 127.0.0.1:8013`.
pub(crate) fn header(header: &Header) -> String {
    format!("{} @ {}\n", clean(&header.environment), clean(&header.server))
}

/// Everything below the header.
pub(crate) fn answer(answer: &Answer, look: &Look) -> String {
    match answer {
        Answer::Change(changed) => change::changed(changed, look),
        Answer::Status(status) => read::status(status, look),
        Answer::Flags(list) => read::flags(list, look),
        Answer::Segments(list) => read::segments(list, look),
        Answer::History(history) => read::history(history, look),
        Answer::Diff(diff) => read::diff(diff, look),
        Answer::Evaluations(answers) => read::evaluations(answers, look),
        Answer::Explanation(answers) => read::explanation(answers, look),
        Answer::Clients(clients) => read::clients(clients, look),
        Answer::Environments(environments) => read::environments(environments, look),
        Answer::EnvironmentCreated(created) => read::environment_created(created),
        Answer::EnvironmentChosen(chosen) => read::environment_chosen(chosen),
        Answer::Checked(checked) => read::checked(checked, look),
    }
}

/// A text without anything that a terminal would obey; direction marks count as such.
pub(crate) fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmless(c) {
            clean.push(c);
        } else {
            clean.extend(c.escape_default());
        }
    }
    clean
}

/// The same for a text of several lines.
pub(crate) fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

pub(super) fn is_harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// How a word stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tone {
    Plain,
    Good,
    Bad,
    Weak,
}

/// A cell of a table; its text is clean.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cell {
    text: String,
    tone: Tone,
}

fn cell(text: impl AsRef<str>) -> Cell {
    toned(text, Tone::Plain)
}

fn toned(text: impl AsRef<str>, tone: Tone) -> Cell {
    Cell { text: clean(text.as_ref()), tone }
}

fn paint(text: &str, tone: Tone, look: &Look) -> String {
    let code = match (look.color, tone) {
        (Color::Off, _) | (_, Tone::Plain) => return text.to_owned(),
        (Color::On, Tone::Good) => "32",
        (Color::On, Tone::Bad) => "1;31",
        (Color::On, Tone::Weak) => "2",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Columns as wide as their widest cell, two spaces between them, none at the end of a line.
fn grid(names: &[&str], rows: &[Vec<Cell>], look: &Look) -> String {
    let head: Vec<Cell> = names.iter().map(|name| toned(name, Tone::Weak)).collect();
    let lines = || std::iter::once(&head).chain(rows);
    let mut widths = vec![0; names.len()];
    for line in lines() {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.text.chars().count());
        }
    }
    let mut text = String::new();
    for line in lines() {
        let filled = line.iter().rposition(|cell| !cell.text.is_empty()).map_or(0, |last| last + 1);
        for (at, (cell, width)) in line.iter().zip(&widths).take(filled).enumerate() {
            text.push_str(&paint(&cell.text, cell.tone, look));
            if at + 1 < filled {
                let gap = width.saturating_sub(cell.text.chars().count()) + 2;
                let _ = write!(text, "{:gap$}", "");
            }
        }
        text.push('\n');
    }
    text
}

/// `1 client`, `3 clients`.
fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// JSON text short enough for a line.
fn short(text: &str, max_chars: usize) -> String {
    let text = clean(text);
    if text.chars().count() <= max_chars {
        return text;
    }
    let mut cut: String = text.chars().take(max_chars.saturating_sub(3)).collect();
    cut.push_str("...");
    cut
}
