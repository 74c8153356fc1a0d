//! Where the server's log goes, and in which form.
//!
//! Everything that happens is told through `tracing`, to the standard error output: text for people, JSON for
//! machines. Nothing secret is ever handed to it; this file does not know what is told.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// What needs somebody's hand.
    Error,
    /// What may need one soon.
    Warn,
    /// What happened.
    Info,
    /// What was tried.
    Debug,
    /// Every step.
    Trace,
}

/// Form and amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The form of a line.
    pub format: LogFormat,
    /// How much is told.
    pub level: LogLevel,
}

impl LogLevel {
    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// Sends everything that is told from now on to the standard error output.
///
/// # Errors
/// When the process tells its events to somebody else already.
pub fn start(settings: LogSettings) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter(settings.level))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match settings.format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().try_init(),
    }
}

/// Our own crates at the level that was asked for; the libraries below, which tell of every frame, only warnings.
fn filter(level: LogLevel) -> EnvFilter {
    let (ours, theirs) = (level.word(), level.min(LogLevel::Warn).word());
    EnvFilter::new(format!("{theirs},flagd={ours},flagd_server={ours},flagd_core={ours},flagd_proto={ours}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_heard_only_when_something_is_wrong() {
        let debug = filter(LogLevel::Debug).to_string();
        assert!(debug.contains("flagd_server=debug") && debug.contains("warn"), "{debug}");
        let error = filter(LogLevel::Error).to_string();
        assert!(error.contains("flagd_server=error") && !error.contains("warn"), "{error}");
    }
}
