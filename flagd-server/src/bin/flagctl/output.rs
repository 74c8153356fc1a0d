//! The only place of flagctl that prints.
//!
//! Verbs hand over an [`Answer`] or a failure; what it looks like is decided by one file per format. A reader
//! that went away (`flagctl list | head`) is no failure; a full disk is one. Tables go to standard output with
//! everything that belongs to the answer; progress and failures go to standard error.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use flagd_proto::admin::{
    ChangeResponse, ClientsResponse, CreateEnvironmentResponse, DiffResponse, EvaluateResponse,
    HistoryChange, HistoryResponse, ListEnvironmentsResponse, ListResponse, StatusResponse, WaitProgress,
};
use jiff::tz::TimeZone;

use crate::args::OutputFormat;
use crate::error::{Failure, FileProblem};
use crate::time;
use crate::wait::Waited;

mod json;
mod table;

/// Where an answer comes from; every output begins with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The environment that was asked about.
    pub environment: String,
    /// Where the server was reached.
    pub server: String,
    /// Its name for itself; empty when it did not answer.
    pub server_name: String,
}

/// What a verb found out or did.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// A change, made or previewed.
    Change(Box<Changed>),
    /// `status`.
    Status(StatusResponse),
    /// `list`.
    Flags(ListResponse),
    /// `list --segments`.
    Segments(ListResponse),
    /// `history`.
    History(HistoryResponse),
    /// `diff`.
    Diff(DiffResponse),
    /// `evaluate`.
    Evaluations(EvaluateResponse),
    /// `explain`.
    Explanation(EvaluateResponse),
    /// `clients`.
    Clients(ClientsResponse),
    /// `environment list`.
    Environments(ListEnvironmentsResponse),
    /// `environment create`.
    EnvironmentCreated(CreateEnvironmentResponse),
    /// `environment use`.
    EnvironmentChosen(ChosenEnvironment),
    /// `check`.
    Checked(Checked),
}

/// A change, made or previewed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Changed {
    /// The server's account.
    pub response: ChangeResponse,
    /// What is known about the clients; `None` when nobody waited.
    pub waited: Option<Waited>,
    /// Appended to the commands that undo the change, so that they mean the same environment.
    pub undo_suffix: String,
}

impl Changed {
    /// The command that undoes the change; `None` when there is none.
    fn undo(&self) -> Option<String> {
        let undo = &self.response.undo;
        let commands: Vec<String> =
            undo.split(" && ").map(|command| format!("{command}{}", self.undo_suffix)).collect();
        (self.response.recorded && !undo.is_empty()).then(|| commands.join(" && "))
    }
}

/// `environment use`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChosenEnvironment {
    /// Where the choice is stored.
    pub stored_in: String,
    /// Whether a server knows the environment; `None` when none was reached.
    pub known: Option<bool>,
}

/// `check`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// How many files were read.
    pub files: usize,
    /// How many flags they hold.
    pub flags: usize,
    /// How many segments they hold.
    pub segments: usize,
    /// What is wrong.
    pub problems: Vec<FileProblem>,
    /// What deserves a second look.
    pub warnings: Vec<FileProblem>,
    /// How to go on, where that can be guessed.
    pub hint: Option<&'static str>,
}

/// What decides how a table looks, besides its content.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    /// Whether words may be coloured.
    pub color: Color,
    /// For ages.
    pub now_ms: u64,
    /// For times of day.
    pub zone: TimeZone,
}

/// Whether words may be coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Color {
    /// On a terminal.
    On,
    /// In a file, or when the user wishes so.
    Off,
}

/// Prints in the format that was asked for.
#[derive(Debug)]
pub(crate) struct Printer {
    format: OutputFormat,
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    /// Whether an unfinished line stands on the terminal.
    line_open: bool,
    last_told: Option<Instant>,
}

/// In a log, progress is told at most this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

impl Printer {
    /// A printer for a format.
    pub(crate) fn new(format: OutputFormat) -> Printer {
        Printer { format, progress: Mutex::default() }
    }

    /// Whether answers are for programs.
    pub(crate) fn format(&self) -> OutputFormat {
        self.format
    }

    /// Prints a whole answer.
    pub(crate) fn answer(&self, header: &Header, answer: &Answer) -> Result<(), Failure> {
        match self.format {
            OutputFormat::Table => out(&format!(
                "{}{}",
                table::header(header),
                table::answer(answer, &look(std::io::stdout().is_terminal()))
            )),
            OutputFormat::Json => out(&pretty(&json::answer(Some(header), answer))),
        }
    }

    /// Prints an answer that no server had a part in.
    pub(crate) fn offline_answer(&self, answer: &Answer) -> Result<(), Failure> {
        match self.format {
            OutputFormat::Table => out(&table::answer(answer, &look(std::io::stdout().is_terminal()))),
            OutputFormat::Json => out(&pretty(&json::answer(None, answer))),
        }
    }

    /// Prints the end of an answer whose beginning was printed before the wait; nothing in JSON, where the whole
    /// is one document.
    pub(crate) fn wait_ended(&self, waited: &Waited) -> Result<(), Failure> {
        self.close_progress();
        match self.format {
            OutputFormat::Table => out(&table::waited(waited, &look(std::io::stdout().is_terminal()))),
            OutputFormat::Json => Ok(()),
        }
    }

    /// Prints a text that is meant for a file: bare, with what belongs to it on standard error.
    pub(crate) fn document(
        &self,
        header: &Header,
        remarks: &[String],
        text: &str,
        json: &serde_json::Value,
    ) -> Result<(), Failure> {
        match self.format {
            OutputFormat::Table => {
                err(&table::header(header));
                for remark in remarks {
                    err(&format!("{}\n", table::clean(remark)));
                }
                out(text)
            }
            OutputFormat::Json => out(&pretty(&json::document(header, json))),
        }
    }

    /// The first line of a stream of changes.
    pub(crate) fn watch_begins(&self, header: &Header) -> Result<(), Failure> {
        match self.format {
            OutputFormat::Table => out(&table::header(header)),
            OutputFormat::Json => Ok(()),
        }
    }

    /// One change of a stream of changes.
    pub(crate) fn watch_event(&self, header: &Header, change: &HistoryChange) -> Result<(), Failure> {
        match self.format {
            OutputFormat::Table => out(&table::watch_line(change, &look(std::io::stdout().is_terminal()))),
            OutputFormat::Json => {
                out(&format!("{}\n", escaped(&json::watch_event(header, change).to_string())))
            }
        }
    }

    /// Shows how far the clients are: in place on a terminal, as lines elsewhere.
    pub(crate) fn progress(&self, progress: &WaitProgress) {
        let nothing_to_tell = progress.done || progress.expected == 0 && !std::io::stderr().is_terminal();
        if nothing_to_tell || self.format == OutputFormat::Json {
            return;
        }
        let Ok(mut state) = self.progress.lock() else { return };
        let look = look(false);
        let sentence = table::progress(progress, &look);
        if std::io::stderr().is_terminal() {
            state.line_open = true;
            err(&format!("\r\x1b[K{sentence}"));
        } else if state.last_told.is_none_or(|told| told.elapsed() >= PROGRESS_EVERY) {
            state.last_told = Some(Instant::now());
            err(&format!("{sentence}\n"));
        }
    }

    fn close_progress(&self) {
        let Ok(mut state) = self.progress.lock() else { return };
        if std::mem::take(&mut state.line_open) {
            err("\r\x1b[K");
        }
    }

    /// A sentence beside the answer.
    pub(crate) fn remark(&self, text: &str) {
        if self.format == OutputFormat::Table {
            err(&format!("{}\n", table::clean_lines(text)));
        }
    }

    /// Tells why a run ended without having done what it should.
    pub(crate) fn failure(&self, header: Option<&Header>, failure: &Failure) {
        self.close_progress();
        match self.format {
            OutputFormat::Table => {
                // What was not agreed to has been shown just before, with its header.
                let shown = matches!(failure, Failure::NotAgreed(_));
                let begin = header.filter(|_| !shown).map(table::header).unwrap_or_default();
                err(&format!("{begin}{}", table::failure(failure, &look(std::io::stderr().is_terminal()))));
            }
            OutputFormat::Json => {
                // The document says it all; that it could not be printed is told by the exit code.
                let _ = out(&pretty(&json::failure(header, failure)));
            }
        }
    }
}

/// Prints a text that has no header because no server was asked.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    out(text)
}

/// Shows the preview that a question or a refusal is about, whatever the format: it is no answer.
pub(crate) fn preview(header: &Header, response: &ChangeResponse) {
    let changed = Changed { response: response.clone(), waited: None, undo_suffix: String::new() };
    let look = look(std::io::stderr().is_terminal());
    err(&format!("{}{}", table::header(header), table::answer(&Answer::Change(Box::new(changed)), &look)));
}

/// Bytes as hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn look(is_terminal: bool) -> Look {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let color = if is_terminal && !plain { Color::On } else { Color::Off };
    Look { color, now_ms: time::now_ms(), zone: TimeZone::system() }
}

fn pretty(value: &serde_json::Value) -> String {
    escaped(&format!("{value:#}\n"))
}

/// JSON text in which nothing moves a cursor or turns the writing round; it means the same.
pub(crate) fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\n' || table::is_harmless(c) {
            text.push(c);
        } else {
            let _ = write!(text, "\\u{:04x}", u32::from(c));
        }
    }
    text
}

fn out(text: &str) -> Result<(), Failure> {
    lines(|out| out.write_all(text.as_bytes()))
}

/// Prints what `write` writes, through a buffer. Whoever closes our output early has seen enough.
pub(crate) fn lines(write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<(), Failure> {
    let mut out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Local(format!("cannot write the answer: {error}")))
        }
        _ => Ok(()),
    }
}

fn err(text: &str) {
    // There is nobody left to tell that standard error is closed.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests;
