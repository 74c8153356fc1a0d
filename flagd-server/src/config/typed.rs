//! What was typed on the command line, word for word; it means nothing yet.
//!
//! The doc comments here are the help text, which is documentation for people: `help.txt` holds it as it is shown,
//! and a test compares the two.

use std::path::PathBuf;

/// The feature-flag server.
///
/// Keeps the history of your flags in one file, lets operators change them (with flagctl), pushes every change to
/// the applications that evaluate them, and knows which of these have applied it.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "flagd", version, max_term_width = 100, after_long_help = EXAMPLES, subcommand_help_heading = "Commands (none: run the server)")]
#[command(disable_help_subcommand = true)]
pub struct Typed {
    /// The options.
    #[command(flatten)]
    pub options: TypedOptions,
    /// The command; none runs the server.
    #[command(subcommand)]
    pub command: Option<TypedCommand>,
}

/// Options, each as it was typed.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct TypedOptions {
    /// Where to listen. Other than loopback addresses need --insecure. [default: 127.0.0.1:8013]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,

    /// Where the changes are kept: `redb:PATH` or a plain path for a file, `etcd://HOST:PORT,HOST:PORT/PREFIX` for an
    /// etcd that several servers share, `memory` for nowhere. The file and the folders above it are made when they
    /// are missing. etcd takes ?user=NAME&password-file=PATH and ?ca=PATH&cert=PATH&key=PATH (PEM). [default:
    /// data/flagd.redb]
    #[arg(long, value_name = "STORE", global = true)]
    pub store: Option<String>,

    /// Keep everything in memory and forget it at the end; short for --store memory.
    #[arg(long)]
    pub ephemeral: bool,

    /// Be a relay: show what these servers show (the first that answers) to clients of one's own, and tell them who has
    /// applied what. Nothing is written here; the store, data/relay.redb by default, keeps what was shown last.
    #[arg(long, value_name = "URL,URL")]
    pub upstream: Option<String>,

    /// Listen on an address that other machines can reach, although this version has neither encryption nor
    /// authentication: whoever reaches it can change flags.
    #[arg(long)]
    pub insecure: bool,

    /// The server's name, as `flagctl status` shows it. [default: $HOSTNAME, or flagd]
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,

    /// Where the other servers of a cluster reach this one, as `http://HOST:PORT`. [default: the address where
    /// it listens]
    #[arg(long, value_name = "URL")]
    pub advertise: Option<String>,

    /// Size at which the store takes no more writes; from 70 % of it on only kill, revive and disable are taken.
    /// [default: 8GiB]
    #[arg(long, value_name = "SIZE")]
    pub quota: Option<String>,

    /// How long a stopping server waits for what is under way. [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub drain_timeout: Option<String>,

    /// Most connections at a time; one more is closed at once. [default: 50000]
    #[arg(long, value_name = "NUMBER")]
    pub connections_max: Option<String>,

    /// Most connections taken in a second, and as many at once; the others wait in the system's queue. [default: 5000]
    #[arg(long, value_name = "NUMBER")]
    pub connections_per_second: Option<String>,

    /// Most clients at a time, each of which is a stream; one more is told to come back after half a minute or
    /// longer. [default: 100000]
    #[arg(long, value_name = "NUMBER")]
    pub streams_max: Option<String>,

    /// Most clients taken in a second once more than --streams-at-once have come; each of the others is told when its
    /// turn is. [default: 1000]
    #[arg(long, value_name = "NUMBER")]
    pub streams_per_second: Option<String>,

    /// Most clients taken at once. [default: 2000]
    #[arg(long, value_name = "NUMBER")]
    pub streams_at_once: Option<String>,

    /// A TOML file with any of these options, named as here without the dashes.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    /// The form of the server's log, which goes to the standard error output: text or json. [default: text]
    #[arg(long, value_name = "FORMAT", global = true)]
    pub log_format: Option<String>,

    /// How much the log tells: error, warn, info, debug or trace. [default: info]
    #[arg(long, value_name = "LEVEL", global = true)]
    pub log_level: Option<String>,

    /// Do not print what to type next.
    #[arg(long)]
    pub quiet: bool,
}

/// A command other than running the server.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum TypedCommand {
    /// Copy the store to a new file, also while a server is using it.
    ///
    /// The copy holds every environment as it was at one moment, with its whole history. It is verified before it
    /// gets its name, so a file of that name is a good backup.
    Backup {
        /// The new file; it must not exist.
        #[arg(value_name = "DEST")]
        to: PathBuf,
    },
    /// Make a store from a backup.
    ///
    /// Every environment starts a younger history, so that clients which have seen later revisions follow it. Stop
    /// the server first.
    Restore {
        /// The backup.
        #[arg(value_name = "SRC")]
        from: PathBuf,
        /// The store's file [default: the --store]
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        /// Restore although the file exists; it is kept as FILE.before-restore-TIME.
        #[arg(long)]
        force: bool,
    },
}

impl TypedOptions {
    /// An option by its name, as text.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let yes = |typed: bool| typed.then(|| "true".to_owned());
        match name {
            "listen" => self.listen.clone(),
            "store" => self.store.clone(),
            "ephemeral" => yes(self.ephemeral),
            "upstream" => self.upstream.clone(),
            "insecure" => yes(self.insecure),
            "server-name" => self.server_name.clone(),
            "advertise" => self.advertise.clone(),
            "quota" => self.quota.clone(),
            "drain-timeout" => self.drain_timeout.clone(),
            "connections-max" => self.connections_max.clone(),
            "connections-per-second" => self.connections_per_second.clone(),
            "streams-max" => self.streams_max.clone(),
            "streams-per-second" => self.streams_per_second.clone(),
            "streams-at-once" => self.streams_at_once.clone(),
            "log-format" => self.log_format.clone(),
            "log-level" => self.log_level.clone(),
            "quiet" => yes(self.quiet),
            _ => None,
        }
    }
}

/// One line a paragraph: they are wrapped to the terminal.
const EXAMPLES: &str = "\
Every option can also be set in the environment (--drain-timeout is FLAGD_DRAIN_TIMEOUT) and in the file that \
--config or FLAGD_CONFIG names (drain-timeout = \"10s\"). The command line wins over the environment, the environment \
over the file. A name in the file that is not an option is an error.

Examples:
  flagd                                    listen on 127.0.0.1:8013, keep data/flagd.redb
  flagd --ephemeral                        try things out and leave nothing behind
  flagd --store /var/lib/flagd/flagd.redb --log-format json
  flagd --store etcd://e1:2379,e2:2379,e3:2379/flagd
  flagd --upstream http://flagd:8013 --server-name east-1
  flagd --config /etc/flagd.toml           with listen, store, quota ... in a file
  flagd backup before-launch.redb          copy the store, also while the server runs
  flagd restore before-launch.redb --to data/flagd.redb --force

The server stops at SIGTERM or SIGINT (Ctrl-C); a second one stops it at once, which loses nothing either.

Exit codes:
  0  stopped when asked, or done
  1  failed; the reason is on the standard error output
  2  the options mean nothing";
