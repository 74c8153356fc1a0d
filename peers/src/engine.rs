//! What a candidate can be asked, whatever stands behind it.
//!
//! The measured loops live in [`Walk`], once: an adapter gives it closures that ask its engine one question, and the
//! compiler makes a loop of its own for each. So no adapter's loop is better than another's, and no call through a
//! table of functions is measured. This file knows no engine and no clock.

use std::fmt;
use std::hint::black_box;
use std::io::Write;

use tempfile::NamedTempFile;

use crate::spec::{Flag, Kind, Spec, USERS, User};

/// Why there is nothing to measure.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The engine does not take its definitions. Do: compare the adapter with the format that this version reads.
    #[error("{0}")]
    Definitions(String),
    /// The answers are not those that are due. Do: mend the adapter; figures for other answers mean nothing.
    #[error("{candidate}, {task}: {why}")]
    Answers {
        /// Who answered.
        candidate: &'static str,
        /// To what.
        task: &'static str,
        /// What was due and what came.
        why: String,
    },
    /// The engine has no operation that changes one flag. Do: measure the reload.
    #[error("this engine has no operation for one flag")]
    NoChange,
    /// A file or a process of our own could not be used. Do: as the message says.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// The arguments ask for nothing that exists. Do: choose from the list.
    #[error("{0}")]
    Usage(String),
}

impl Failure {
    /// What an engine said about its definitions.
    pub fn definitions(why: impl fmt::Display) -> Failure {
        Failure::Definitions(why.to_string())
    }
}

/// Definitions in an engine's own language.
#[derive(Debug)]
pub struct Definitions {
    /// JSON.
    pub text: String,
    /// The same in a file, for engines that read one.
    pub file: Option<NamedTempFile>,
}

/// Where an engine reads its definitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// From text in memory.
    Text,
    /// From a file.
    File,
}

/// One engine with definitions.
pub trait Engine: Sync {
    /// Builds the contexts of the users, ready to ask with.
    fn meet(&mut self, users: &[User]);

    /// Asks the questions of a walk.
    fn walk(&self, walk: &Walk<'_>) -> Tally;

    /// Puts a changed flag in use; nanoseconds of the thread from the flag's JSON in hand to the first evaluation
    /// that sees it.
    ///
    /// # Errors
    /// [`Failure::NoChange`] where definitions can only be loaded as a whole.
    fn change(&mut self, flag: &Flag) -> Result<f64, Failure> {
        let _ = flag;
        Err(Failure::NoChange)
    }
}

/// What an engine does with definitions before they can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loading {
    /// It compiles them.
    Compiles,
    /// It only parses them: rules are interpreted at each evaluation.
    Parses,
}

/// How one flag changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// By an operation of the engine.
    Own,
    /// In a map that the caller keeps: the engine knows single flags only.
    CallersMap,
    /// By loading everything again.
    Reload,
}

/// An engine among the candidates.
#[derive(Clone, Copy)]
pub struct Candidate {
    /// As the tables call it.
    pub name: &'static str,
    /// The package whose version is told.
    pub package: &'static str,
    /// What is called in one evaluation.
    pub called: &'static str,
    /// Whether it compiles.
    pub loading: Loading,
    /// How one flag changes.
    pub change: Change,
    /// Where it reads its definitions.
    pub source: Source,
    /// Writes a spec in its language.
    pub definitions: fn(&Spec) -> String,
    /// Loads definitions as its SDK does.
    pub load: fn(&Definitions) -> Result<Box<dyn Engine>, Failure>,
}

impl Candidate {
    /// A spec in its language, where it reads it.
    ///
    /// # Errors
    /// [`Failure::System`] when a file cannot be written.
    pub fn write(&self, spec: &Spec) -> Result<Definitions, Failure> {
        let text = (self.definitions)(spec);
        let mut file = None;
        if self.source == Source::File {
            let mut written = NamedTempFile::with_suffix(".json")?;
            written.write_all(text.as_bytes())?;
            file = Some(written);
        }
        Ok(Definitions { text, file })
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Questions, asked in one loop.
#[derive(Clone, Copy, Debug)]
pub enum Walk<'a> {
    /// One flag, by one user after the other.
    OneFlag {
        /// Its name.
        flag: &'a str,
        /// The type of its values.
        kind: Kind,
        /// The number of the first user.
        from: usize,
        /// How many evaluations.
        times: usize,
    },
    /// Every flag, by one user.
    AllFlags {
        /// Names and types, in the order of the questions.
        flags: &'a [(String, Kind)],
        /// The user's number.
        user: usize,
    },
}

/// What was served in a walk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How often true.
    pub on: usize,
    /// How often `a`, `b`, `c` and `d`.
    pub letters: [usize; 4],
}

impl Tally {
    fn count(&mut self, letter: Option<u8>) {
        let place = letter.and_then(|letter| self.letters.get_mut(usize::from(letter.wrapping_sub(b'a'))));
        if let Some(times) = place {
            *times += 1;
        }
    }
}

/// The first byte of what a four-way flag served: all that a loop needs of it.
#[must_use]
#[inline]
pub fn letter(served: &str) -> Option<u8> {
    black_box(served).bytes().next()
}

impl Walk<'_> {
    /// How many evaluations this walk makes.
    #[must_use]
    pub fn evaluations(&self) -> usize {
        match self {
            Walk::OneFlag { times, .. } => *times,
            Walk::AllFlags { flags, .. } => flags.len(),
        }
    }

    /// Asks; a closure answers one question by a flag's name and a user's number.
    #[must_use]
    pub fn tally(
        &self,
        is_on: impl Fn(&str, usize) -> bool,
        letter: impl Fn(&str, usize) -> Option<u8>,
    ) -> Tally {
        let mut tally = Tally::default();
        match *self {
            Walk::OneFlag { flag, kind: Kind::Boolean, from, times } => {
                tally.on = (from..from + times).filter(|n| is_on(black_box(flag), n % USERS)).count();
            }
            Walk::OneFlag { flag, kind: Kind::Letter, from, times } => {
                (from..from + times).for_each(|n| tally.count(letter(black_box(flag), n % USERS)));
            }
            Walk::AllFlags { flags, user } => {
                for (flag, kind) in flags {
                    match kind {
                        Kind::Boolean => tally.on += usize::from(is_on(black_box(flag), user)),
                        Kind::Letter => tally.count(letter(black_box(flag), user)),
                    }
                }
            }
        }
        black_box(tally)
    }

    /// [`Walk::tally`] for engines whose evaluations are futures.
    pub async fn tally_async(
        &self,
        is_on: impl AsyncFn(&str, usize) -> bool,
        letter: impl AsyncFn(&str, usize) -> Option<u8>,
    ) -> Tally {
        let mut tally = Tally::default();
        match *self {
            Walk::OneFlag { flag, kind, from, times } => {
                for n in from..from + times {
                    match kind {
                        Kind::Boolean => tally.on += usize::from(is_on(black_box(flag), n % USERS).await),
                        Kind::Letter => tally.count(letter(black_box(flag), n % USERS).await),
                    }
                }
            }
            Walk::AllFlags { flags, user } => {
                for (flag, kind) in flags {
                    match kind {
                        Kind::Boolean => tally.on += usize::from(is_on(black_box(flag), user).await),
                        Kind::Letter => tally.count(letter(black_box(flag), user).await),
                    }
                }
            }
        }
        black_box(tally)
    }
}
