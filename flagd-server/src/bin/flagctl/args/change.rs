//! The arguments of the verbs that change something.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use flagd_core::canonical::parse_percent;

/// How a change is recorded; every changing verb takes these.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Options for changes")]
pub(crate) struct RecordArgs {
    /// Why, for the history.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Show what would happen and record nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Record even if connected clients do not understand the definition yet.
    #[arg(long)]
    pub anyway: bool,
    /// Repeats an earlier run whose outcome is unknown: the same id is never recorded twice.
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
}

/// Whether to wait for clients after a change.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Options for changes")]
pub(crate) struct WaitArgs {
    /// Wait until the clients have applied the change.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait for the clients.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = super::duration)]
    pub timeout: Duration,
}

/// A share of the line, perhaps with the variant that gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// The variant; the flag's only variant besides the off variant when `None`.
    pub variant: Option<String>,
    /// Parts per million.
    pub share_ppm: u32,
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Share, String> {
        let (variant, share) = match text.rsplit_once('=') {
            Some(("", _)) => return Err("there is no variant before `=`; write `blue=25%`".into()),
            Some((variant, share)) => (Some(variant.to_owned()), share),
            None => (None, text),
        };
        let number = share.strip_suffix('%').unwrap_or(share).trim_end();
        match parse_percent(number) {
            Some(ppm) => Ok(Share { variant, share_ppm: ppm.0 }),
            None => Err(format!(
                "`{share}` is no share; write a percentage from 0 to 100 with at most four decimals, such as 5% or 0.25%"
            )),
        }
    }
}

/// `create`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  flagctl create new-checkout                    an on/off flag; nobody gets it yet
  flagctl create dark-mode --rollout 25          25 % of all users get it
  flagctl create -f new-checkout.json            as the file says; YAML is read, too
  flagctl get new-checkout -e staging | flagctl create -f - -e production")]
pub(crate) struct CreateArgs {
    /// The new flag's key; not with --file.
    #[arg(required_unless_present = "files", conflicts_with = "files")]
    pub key: Option<String>,
    /// The share of users that get `on`, in percent.
    #[arg(long, value_name = "PERCENT", conflicts_with = "files")]
    pub rollout: Option<Share>,
    /// A file of definitions, a folder of files, or `-` for standard input. May be repeated.
    #[arg(long = "file", short = 'f', value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// How the change is recorded.
    #[command(flatten)]
    pub record: RecordArgs,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `edit`.
#[derive(Args, Debug)]
#[command(
    after_help = "Nothing that you have written is lost: when the definition is refused, or somebody else has changed the flag meanwhile, the text stays in a file that the message names.

Examples:
  flagctl edit new-checkout
  flagctl edit --segment staff
  flagctl edit new-checkout --yaml
  flagctl edit -f new-checkout.json --expect 41  replaces what revision 41 wrote"
)]
pub(crate) struct EditArgs {
    /// The flag (or segment) to edit; not with --file.
    #[arg(required_unless_present = "files", conflicts_with = "files")]
    pub key: Option<String>,
    /// Edit a segment.
    #[arg(long, conflicts_with = "files")]
    pub segment: bool,
    /// Edit as YAML.
    #[arg(long, conflicts_with = "files")]
    pub yaml: bool,
    /// Replace from this file (or folder, or `-`) instead of opening an editor.
    #[arg(long = "file", short = 'f', value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// With --file: the revision of the definitions that the file was made from; another one is a conflict.
    #[arg(long, value_name = "REVISION", conflicts_with = "key")]
    pub expect: Option<u64>,
    /// How the change is recorded.
    #[command(flatten)]
    pub record: RecordArgs,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// Which value counts where the file and the environment have both changed a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ApplyTake {
    /// The file's.
    File,
    /// The one in the environment.
    Live,
}

/// `apply`.
#[derive(Args, Debug)]
#[command(
    after_help = "A definition in the file is whole; one that is not in the file is left alone. The server remembers what each source has applied last: a field that the file has not changed since then keeps its live value and is listed. A field that was changed on both sides is a conflict until --take says who wins.

Examples:
  flagctl apply -f flags/ --source git --dry-run
  flagctl apply -f flags/ --source git --wait
  flagctl apply -f checkout.yaml --take live"
)]
pub(crate) struct ApplyArgs {
    /// A file of definitions, a folder of files, or `-` for standard input. May be repeated.
    #[arg(long = "file", short = 'f', value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Who applies; the server remembers per source what was applied last.
    #[arg(long, value_name = "NAME", default_value = "file")]
    pub source: String,
    /// Who wins where a field was changed on both sides.
    #[arg(long, value_enum, value_name = "SIDE")]
    pub take: Option<ApplyTake>,
    /// How the change is recorded.
    #[command(flatten)]
    pub record: RecordArgs,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `import`.
#[derive(Args, Debug)]
#[command(after_help = "However many definitions the file holds, they are one change with one revision.

Example:
  flagctl export -e staging | flagctl import -f - -e production")]
pub(crate) struct ImportArgs {
    /// A file of definitions, a folder of files, or `-` for standard input. May be repeated.
    #[arg(long = "file", short = 'f', value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// How the change is recorded.
    #[command(flatten)]
    pub record: RecordArgs,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `enable`, `disable`.
#[derive(Args, Debug)]
pub(crate) struct FlagArgs {
    /// The flag.
    pub flag: String,
    /// How the change is recorded.
    #[command(flatten)]
    pub record: RecordArgs,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `ramp`.
#[derive(Args, Debug)]
#[command(
    after_help = "Who is in stays in while the share rises. Lowering a share never asks. When users would pass between
variants, it asks on a terminal and needs --yes elsewhere.

Examples:
  flagctl ramp new-checkout 5%
  flagctl ramp new-checkout 25% --rule dach
  flagctl ramp button-colour blue=40% --from red
  flagctl ramp new-checkout 100% --reason 'all fine for a week' --wait"
)]
pub(crate) struct RampArgs {
    /// The flag.
    pub flag: String,
    /// The share, such as `5%` or `blue=0.25%`.
    #[arg(value_name = "[VARIANT=]SHARE%")]
    pub share: Share,
    /// The rule whose split is meant.
    #[arg(long, value_name = "NAME", conflicts_with = "otherwise")]
    pub rule: Option<String>,
    /// What is served when no rule holds is meant.
    #[arg(long)]
    pub otherwise: bool,
    /// The variant that gives or takes the difference; else the off variant.
    #[arg(long, value_name = "VARIANT")]
    pub from: Option<String>,
    /// Do not ask, even when users pass between variants.
    #[arg(long, short)]
    pub yes: bool,
    /// How the change is recorded.
    #[command(flatten)]
    pub record: RecordArgs,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `kill`.
#[derive(Args, Debug)]
#[command(
    after_help = "It asks nothing. Of several flags those that exist are killed and the others named. A flag that is killed already is success. Ctrl-C ends the watching, not the kill. `flagctl revive FLAG` lifts it.

Examples:
  flagctl kill new-checkout
  flagctl kill new-checkout express-pay --reason 'errors doubled'"
)]
pub(crate) struct KillArgs {
    /// The flags.
    #[arg(value_name = "FLAG", required = true)]
    pub flags: Vec<String>,
    /// Return as soon as the kill is recorded.
    #[arg(long)]
    pub no_wait: bool,
    /// How long to wait for the clients.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = super::duration)]
    pub timeout: Duration,
    /// How the change is recorded.
    #[command(flatten)]
    pub record: RecordArgs,
}

/// `revive`.
#[derive(Args, Debug)]
pub(crate) struct FlagsArgs {
    /// The flags.
    #[arg(value_name = "FLAG", required = true)]
    pub flags: Vec<String>,
    /// How the change is recorded.
    #[command(flatten)]
    pub record: RecordArgs,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `rollback`.
#[derive(Args, Debug)]
#[command(after_help = "A rollback is a new change; kills stay as they are.

Examples:
  flagctl rollback new-checkout                  as before the latest change of its definition
  flagctl rollback new-checkout --to 41          as at revision 41
  flagctl rollback new-checkout --segment staff  the segment, too")]
pub(crate) struct RollbackArgs {
    /// The flags.
    #[arg(value_name = "FLAG", required_unless_present = "segments")]
    pub flags: Vec<String>,
    /// A segment to put back. May be repeated.
    #[arg(long = "segment", value_name = "SEGMENT")]
    pub segments: Vec<String>,
    /// The revision whose definitions come back; else those before the latest change.
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
    pub to: Option<u64>,
    /// How the change is recorded.
    #[command(flatten)]
    pub record: RecordArgs,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `segment`.
#[derive(Args, Debug)]
pub(crate) struct SegmentArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: SegmentVerb,
}

/// What to do with a segment's lists.
#[derive(Debug, Subcommand)]
pub(crate) enum SegmentVerb {
    /// Add units to a segment's list
    Add(UnitsArgs),
    /// Remove units from a segment's list
    Remove(UnitsArgs),
}

/// `segment add`, `segment remove`.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  flagctl segment add staff u-17 u-23")]
pub(crate) struct UnitsArgs {
    /// The segment.
    pub segment: String,
    /// The units: users, companies, whatever the segment lists.
    #[arg(value_name = "UNIT", required = true)]
    pub units: Vec<String>,
    /// The list of those who are out, instead of those who are in.
    #[arg(long)]
    pub exclude: bool,
    /// How the change is recorded.
    #[command(flatten)]
    pub record: RecordArgs,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `archive`, `unarchive`.
#[derive(Args, Debug)]
pub(crate) struct EntryArgs {
    /// The flag (or segment).
    pub key: String,
    /// The key is a segment's.
    #[arg(long)]
    pub segment: bool,
    /// How the change is recorded.
    #[command(flatten)]
    pub record: RecordArgs,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}
