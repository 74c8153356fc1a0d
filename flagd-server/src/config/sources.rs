//! Where options come from, and which place wins.
//!
//! One option has one name in three spellings: `--drain-timeout`, `FLAGD_DRAIN_TIMEOUT`, `drain-timeout`. From every
//! place it comes as text with the place it was written at, so that it is read in one way and complained about in one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use flagd_core::problem::nearest;

use super::typed::TypedOptions;
use super::{ConfigError, Surroundings};

/// The options that every place may hold; `config` itself cannot stand in the file that it names.
const NAMES: &[&str] = &[
    "listen",
    "store",
    "ephemeral",
    "upstream",
    "insecure",
    "server-name",
    "advertise",
    "quota",
    "drain-timeout",
    "connections-max",
    "connections-per-second",
    "streams-max",
    "streams-per-second",
    "streams-at-once",
    "log-format",
    "log-level",
    "quiet",
];

/// Where an option was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the command line, as this option.
    Flag(&'static str),
    /// In this environment variable.
    Variable(String),
    /// In this file, as this option.
    File(PathBuf, &'static str),
}

impl Place {
    /// The smaller one wins.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Place::Flag(_) => 0,
            Place::Variable(_) => 1,
            Place::File(..) => 2,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Flag(name) => write!(f, "--{name}"),
            Place::Variable(name) => f.write_str(name),
            Place::File(file, name) => write!(f, "{}: {name}", file.display()),
        }
    }
}

/// Every option that was written somewhere, from the place that wins.
#[derive(Debug)]
pub(super) struct Sources(BTreeMap<&'static str, (Place, String)>);

impl Sources {
    pub(super) fn read(typed: &TypedOptions, around: Surroundings<'_>) -> Result<Sources, ConfigError> {
        let mut found = BTreeMap::new();
        if let Some(path) = config_path(typed, around)? {
            found.extend(read_file(&path, around)?);
        }
        for name in NAMES {
            if let Some((variable, value)) = read_variable(name, around)? {
                found.insert(*name, (Place::Variable(variable), value));
            }
            if let Some(value) = typed.get(name) {
                found.insert(*name, (Place::Flag(name), value));
            }
        }
        Ok(Sources(found))
    }

    /// An option's value, and where it was written.
    pub(super) fn placed<T>(
        &self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<(Place, T)>, ConfigError> {
        let Some((place, value)) = self.0.get(name) else { return Ok(None) };
        match read(value) {
            Ok(meant) => Ok(Some((place.clone(), meant))),
            Err(reason) => Err(ConfigError::Value { place: place.clone(), value: shown(value), reason }),
        }
    }

    /// An option's value.
    pub(super) fn get<T>(
        &self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        Ok(self.placed(name, read)?.map(|(_, meant)| meant))
    }
}

/// A value as it may be repeated: somebody may have put a password into the address of an etcd.
fn shown(value: &str) -> String {
    if value.starts_with("etcd:") { "etcd://...".to_owned() } else { value.to_owned() }
}

fn config_path(typed: &TypedOptions, around: Surroundings<'_>) -> Result<Option<PathBuf>, ConfigError> {
    match &typed.config {
        Some(path) => Ok(Some(path.clone())),
        None => Ok(read_variable("config", around)?.map(|(_, path)| PathBuf::from(path))),
    }
}

/// An option's environment variable, if it is set to something.
fn read_variable(name: &str, around: Surroundings<'_>) -> Result<Option<(String, String)>, ConfigError> {
    let variable = variable(name);
    match (around.variable)(&variable).map(std::ffi::OsString::into_string) {
        None => Ok(None),
        Some(Ok(value)) if value.is_empty() => Ok(None),
        Some(Ok(value)) => Ok(Some((variable, value))),
        Some(Err(value)) => Err(ConfigError::Value {
            place: Place::Variable(variable),
            value: value.to_string_lossy().into_owned(),
            reason: "is not UTF-8".to_owned(),
        }),
    }
}

/// The variables of the other programs that come with flagd.
const OTHERS: &[&str] =
    &["FLAGD_CONFIG", "FLAGD_SERVERS", "FLAGD_ENVIRONMENT", "FLAGD_ACTOR", "FLAGD_CACHE_DIR"];

/// Variables that look as if they were meant for flagd and are not known, each with what may have been meant.
#[must_use]
pub fn unknown_variables(names: impl IntoIterator<Item = String>) -> Vec<(String, Option<String>)> {
    let own = NAMES.iter().map(|name| variable(name));
    let known: Vec<String> = own.chain(OTHERS.iter().map(|&name| name.to_owned())).collect();
    let strange = |name: &String| {
        name.starts_with("FLAGD_") && !name.starts_with("FLAGD_TEST_") && !known.contains(name)
    };
    let guess = |name: String| {
        let nearest = nearest(&name, known.iter().map(String::as_str)).map(str::to_owned);
        (name, nearest)
    };
    names.into_iter().filter(strange).map(guess).collect()
}

fn variable(name: &str) -> String {
    format!("FLAGD_{}", name.replace('-', "_").to_uppercase())
}

type Found = (&'static str, (Place, String));

fn read_file(path: &Path, around: Surroundings<'_>) -> Result<Vec<Found>, ConfigError> {
    let file = || path.to_owned();
    let text = (around.file)(path).map_err(|source| ConfigError::File { file: file(), source })?;
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| ConfigError::Syntax { file: file(), reason: error.to_string() })?;
    table.into_iter().map(|(name, value)| read_option(path, &name, &value)).collect()
}

fn read_option(path: &Path, name: &str, value: &toml::Value) -> Result<Found, ConfigError> {
    let Some(known) = NAMES.iter().find(|known| **known == name) else {
        let nearest = nearest(name, NAMES.iter().copied()).map(str::to_owned);
        return Err(ConfigError::UnknownOption { file: path.to_owned(), name: name.to_owned(), nearest });
    };
    let place = Place::File(path.to_owned(), known);
    let text = match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Boolean(yes) => yes.to_string(),
        other => {
            let reason = "is what was found; write a string, a whole number, true or false".to_owned();
            return Err(ConfigError::Value { place, value: other.type_str().to_owned(), reason });
        }
    };
    Ok((known, (place, text)))
}
