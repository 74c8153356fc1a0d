//! The arguments of the verbs that only look.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::Shell;

use crate::time::When;

/// `status`.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// Show all environments.
    #[arg(long)]
    pub all: bool,
}

/// `list`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  flagctl list --search checkout
  flagctl list --tag payments --output json")]
pub(crate) struct ListArgs {
    /// Only those whose key, description, owner or tags contain this.
    #[arg(long, short, value_name = "TEXT")]
    pub search: Option<String>,
    /// Only those with this tag. May be repeated: all of them.
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Archived ones, too.
    #[arg(long)]
    pub archived: bool,
    /// Segments instead of flags.
    #[arg(long)]
    pub segments: bool,
}

/// `get`.
#[derive(Args, Debug)]
#[command(after_help = "The definition goes to standard output, everything else to standard error.

Examples:
  flagctl get new-checkout > new-checkout.json
  flagctl get new-checkout --at 41
  flagctl get staff --segment --yaml")]
pub(crate) struct GetArgs {
    /// The flag (or segment).
    pub key: String,
    /// The key is a segment's.
    #[arg(long)]
    pub segment: bool,
    /// As it was at this revision.
    #[arg(long, value_name = "REVISION")]
    pub at: Option<u64>,
    /// Print YAML.
    #[arg(long)]
    pub yaml: bool,
}

/// `check`.
#[derive(Args, Debug)]
#[command(
    after_help = "It asks no server. All problems are listed with line and column; warnings do not change the exit code.

Example:
  flagctl check -f flags/"
)]
pub(crate) struct CheckArgs {
    /// A file of definitions, a folder of files, or `-` for standard input. May be repeated.
    #[arg(long = "file", short = 'f', value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// The files are a part of the environment: do not check references, they may lead out of the files.
    #[arg(long)]
    pub partial: bool,
}

/// `history`.
#[derive(Args, Debug)]
#[command(after_help = "The history of a flag includes changes of every segment and flag that it uses.

Examples:
  flagctl history --since 30m
  flagctl history new-checkout
  flagctl history --since 14:05 --output json")]
pub(crate) struct HistoryArgs {
    /// Only changes that concern this flag.
    pub flag: Option<String>,
    /// The name is a segment's.
    #[arg(long, requires = "flag")]
    pub segment: bool,
    /// Only changes since then: `30m` (ago), `14:05` (today) or RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = super::when)]
    pub since: Option<When>,
    /// At most so many changes.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: u32,
    /// Only changes before this revision, to go further back.
    #[arg(long, value_name = "REVISION")]
    pub before: Option<u64>,
}

/// `diff`.
#[derive(Args, Debug)]
#[command(after_help = "Exit code 0: the same, 1: different.

Examples:
  flagctl diff new-checkout                      what its latest change has done
  flagctl diff --from 41 --to 57
  flagctl diff --from-environment staging -e production")]
pub(crate) struct DiffArgs {
    /// Only this flag.
    pub flag: Option<String>,
    /// The name is a segment's.
    #[arg(long, requires = "flag")]
    pub segment: bool,
    /// The older revision; else the one before the latest change.
    #[arg(long, value_name = "REVISION")]
    pub from: Option<u64>,
    /// The newer revision; else now.
    #[arg(long, value_name = "REVISION")]
    pub to: Option<u64>,
    /// Compare with this environment.
    #[arg(long, value_name = "NAME")]
    pub from_environment: Option<String>,
}

/// Who is asking, for `evaluate` and `explain`.
#[derive(Args, Debug)]
pub(crate) struct ContextArgs {
    /// The context as JSON, such as '{"targetingKey": "user-1", "country": "DE"}'.
    #[arg(long, value_name = "JSON")]
    pub context: Option<String>,
    /// The targeting key: user, device, tenant ...
    #[arg(long, short = 'k', value_name = "KEY")]
    pub key: Option<String>,
    /// One attribute; JSON is read as such (`age=17`, `beta=true`), anything else as text. May be repeated.
    #[arg(long, short = 'c', value_name = "NAME=VALUE")]
    pub attribute: Vec<String>,
    /// Evaluate as if it were then: `30m` (ago), `14:05` (today) or RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = super::when)]
    pub now: Option<When>,
}

/// `explain`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  flagctl explain new-checkout -k user-1 -c country=DE
  flagctl explain new-checkout --context '{\"targetingKey\": \"user-1\"}'")]
pub(crate) struct ExplainArgs {
    /// The flag.
    pub flag: String,
    /// Who is asking.
    #[command(flatten)]
    pub context: ContextArgs,
}

/// `evaluate`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  flagctl evaluate -k user-1 -c country=DE       all flags
  flagctl evaluate new-checkout -k user-1
  flagctl evaluate -f flags.json --flag new-checkout < contexts.jsonl

With -f no server is asked: the definitions come from files, and each line of standard input is a context in JSON
(or the one that is typed). One JSON line is printed for each context and flag, as {\"flag\": ..., \"value\": ...,
\"variant\": ..., \"reason\": ...}.")]
pub(crate) struct EvaluateArgs {
    /// The flag; else all.
    pub flag: Option<String>,
    /// The flag; the same as naming it without an option.
    #[arg(long = "flag", value_name = "KEY", conflicts_with = "flag")]
    pub flag_option: Option<String>,
    /// Evaluate these definitions instead of a server's: a file, a folder of files. May be repeated.
    #[arg(long = "file", short = 'f', value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Add every step to each line.
    #[arg(long, requires = "files")]
    pub explain: bool,
    /// Who is asking.
    #[command(flatten)]
    pub context: ContextArgs,
}

/// `export`.
#[derive(Args, Debug)]
#[command(after_help = "Importing the file into an empty environment moves no user.

Examples:
  flagctl export > flags.json
  flagctl export --at 41 -o flags-41.json")]
pub(crate) struct ExportArgs {
    /// As it was at this revision.
    #[arg(long, value_name = "REVISION")]
    pub at: Option<u64>,
    /// Write to this file instead of standard output.
    #[arg(long = "file", short = 'o', value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// `watch`.
#[derive(Args, Debug)]
#[command(after_help = "It ends with Ctrl-C. With `--output json` each change is one line.")]
pub(crate) struct WatchArgs {
    /// Also the changes since this revision.
    #[arg(long, value_name = "REVISION")]
    pub after: Option<u64>,
}

/// `clients`.
#[derive(Args, Debug)]
pub(crate) struct ClientsArgs {}

/// `environment`.
#[derive(Args, Debug)]
pub(crate) struct EnvironmentArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: EnvironmentVerb,
}

/// What to do with environments.
#[derive(Debug, Subcommand)]
pub(crate) enum EnvironmentVerb {
    /// List the environments
    List,
    /// Create an environment
    Create {
        /// Its name: a-z, 0-9 and `-`.
        name: String,
    },
    /// Choose the environment that flagctl uses from now on
    Use {
        /// Its name.
        name: String,
    },
}

/// `completions`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  flagctl completions bash > ~/.local/share/bash-completion/completions/flagctl
  flagctl completions fish > ~/.config/fish/completions/flagctl.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub shell: Shell,
}
