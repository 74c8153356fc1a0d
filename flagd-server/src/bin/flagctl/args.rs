//! What was typed: every verb, option and help text of `flagctl`, as types.
//!
//! Nothing here decides anything. A value that has a form (a share, a time, an address) is checked while it is
//! read, so that a typing error is exit code 2 before any server is asked. What the words mean is for `command`.

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::time::{self, When};

mod change;
mod read;

pub(crate) use change::{
    ApplyArgs, ApplyTake, CreateArgs, EditArgs, EntryArgs, FlagArgs, FlagsArgs, ImportArgs, KillArgs,
    RampArgs, RecordArgs, RollbackArgs, SegmentArgs, SegmentVerb, UnitsArgs, WaitArgs,
};
pub(crate) use read::{
    CheckArgs, ClientsArgs, CompletionsArgs, ContextArgs, DiffArgs, EnvironmentArgs, EnvironmentVerb,
    EvaluateArgs, ExplainArgs, ExportArgs, GetArgs, HistoryArgs, ListArgs, StatusArgs, WatchArgs,
};

const AFTER_HELP: &str = "\
Exit codes:
  0  recorded, and confirmed where it waited; a question was answered
  1  refused, nothing was changed (diff: there are differences; check: there are problems)
  2  what was typed cannot be understood
  3  recorded, but something asked for is missing, or not every client has confirmed
  4  no server was reached, or the outcome is unknown: run it again

Examples:
  flagctl create new-checkout --rollout 0        a new on/off flag that nobody gets yet
  flagctl ramp new-checkout 5%                   5 % of all users get it
  flagctl kill new-checkout                      off for everybody, and who has applied that
  flagctl history --since 30m                    what has changed in the last half hour
  flagctl rollback new-checkout                  put back what was before the latest change";

/// Operates feature flags: opens them step by step, closes them at once, and tells who has applied it.
#[derive(Debug, Parser)]
#[command(name = "flagctl", version, after_help = AFTER_HELP, arg_required_else_help = true)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Options that every verb takes.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options that every verb takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Options for every verb")]
pub(crate) struct GlobalArgs {
    /// Servers to ask, separated by commas. They are tried in turn; one that is silent for a second does not hold up
    /// the next.
    #[arg(
        long = "server",
        env = "FLAGD_SERVERS",
        hide_env_values = true,
        value_name = "URL,...",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:8013",
        global = true
    )]
    pub servers: Vec<String>,
    /// The environment; else what `flagctl environment use` has stored, else `default`.
    #[arg(
        long,
        short,
        env = "FLAGD_ENVIRONMENT",
        hide_env_values = true,
        value_name = "NAME",
        global = true
    )]
    pub environment: Option<String>,
    /// How to print: tables for people, or one JSON document.
    #[arg(long, value_enum, default_value_t = OutputFormat::Table, value_name = "FORMAT", global = true)]
    pub output: OutputFormat,
    /// Who does this, for the history; else the user and host name.
    #[arg(long, env = "FLAGD_ACTOR", hide_env_values = true, value_name = "NAME", global = true)]
    pub actor: Option<String>,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Aligned text.
    Table,
    /// One JSON document; `watch` prints one per line.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show the server, its environments, kills and alarms
    Status(StatusArgs),
    /// List flags (or segments) and what they serve now
    List(ListArgs),
    /// Print a definition as JSON, ready to be edited and applied
    Get(GetArgs),
    /// Create flags and segments; refused when one exists already
    Create(CreateArgs),
    /// Edit a definition in $VISUAL or $EDITOR, or replace it from a file
    Edit(EditArgs),
    /// Take over a file of definitions; live values that it has not changed stay
    Apply(ApplyArgs),
    /// Create or replace all definitions of a file, as one change
    Import(ImportArgs),
    /// Check a file of definitions without any server
    Check(CheckArgs),
    /// Print the JSON Schema of files of definitions, for editors
    Schema,
    /// Look at the rules of a flag (again)
    Enable(FlagArgs),
    /// Serve a flag's off variant to everybody, as a part of its definition
    Disable(FlagArgs),
    /// Give a variant a share of the users
    Ramp(RampArgs),
    /// Force flags off at once, above everything else, and tell who has applied it
    Kill(KillArgs),
    /// Lift kills
    Revive(FlagsArgs),
    /// Put back definitions as they were before their latest change
    Rollback(RollbackArgs),
    /// Show what was changed, when, by whom and why
    History(HistoryArgs),
    /// Show the differences between two revisions or two environments
    Diff(DiffArgs),
    /// Show step by step why a flag serves what it serves to a context
    Explain(ExplainArgs),
    /// Show what flags serve to a context
    Evaluate(EvaluateArgs),
    /// Print all definitions of the environment
    Export(ExportArgs),
    /// Print changes as they are made
    Watch(WatchArgs),
    /// Show who follows the environment and what they have applied
    Clients(ClientsArgs),
    /// Add units to a segment or remove them
    Segment(SegmentArgs),
    /// Retire a flag (or a segment); its key stays reserved
    Archive(EntryArgs),
    /// Bring an archived flag (or segment) back
    Unarchive(EntryArgs),
    /// List, create or choose environments
    Environment(EnvironmentArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
}

/// Reads a time such as `30m`, `14:05` or RFC 3339.
pub(crate) fn when(text: &str) -> Result<When, String> {
    time::parse(text)
}

/// Reads a length of time such as `10s`, `500ms` or `2m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    time::parse_duration(text)
}

#[cfg(test)]
mod tests;
