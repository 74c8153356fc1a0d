//! Everything that flagd prints, and nothing else does.
//!
//! The standard output is for people who have just typed something: what to type next, what a backup holds. What
//! happens afterwards goes to the log (see `telemetry`).
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is flagd's output file")]

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;

use flagd_core::key::EnvironmentName;
use flagd_server::config::StoreChoice;
use flagd_server::serve::FIRST_ENVIRONMENT;
use flagd_server::store::backup::{Copied, Restored};

/// The commands of the README's first session.
const SESSION: &str = "\
Try this in another terminal:
  alias flagctl=\"cargo run --quiet --release --bin flagctl --\"
  flagctl create -f examples/new-checkout.json
  cargo run --quiet --release --example quickstart        # leave it running
  flagctl ramp new-checkout 25%
  flagctl kill new-checkout --reason \"trying it out\"
  flagctl history new-checkout
  flagctl revive new-checkout
  flagctl rollback new-checkout";

/// Where the server listens, and what to type next.
pub(crate) fn banner(listen: SocketAddr, store: &StoreChoice, environments: &[EnvironmentName]) {
    let store = match store {
        StoreChoice::Redb(path) => format!("store {}", path.display()),
        StoreChoice::Etcd(etcd) => format!("store in etcd at {}", etcd.endpoints.join(", ")),
        StoreChoice::Memory => "store in memory: everything is gone at the end".to_owned(),
    };
    let environments = match environments {
        [] => format!("environment {FIRST_ENVIRONMENT}"),
        [one] => format!("environment {one}"),
        [first, others @ ..] => format!("environments {first} and {} more", others.len()),
    };
    println!("flagd is listening on {listen}, {store}, {environments}.\n{SESSION}");
}

/// What a backup holds.
pub(crate) fn backup(to: &Path, copied: &[Copied]) {
    println!("backup {} written and verified", to.display());
    for Copied { environment, is, entries, .. } in copied {
        println!(
            "  environment {environment}: revision {}, entries {entries}, digest {}",
            is.revision, is.digest
        );
    }
}

/// What a restored store holds.
pub(crate) fn restored(to: &Path, restored: &Restored) {
    println!("store {} restored and verified", to.display());
    for Copied { environment, was, is, entries } in &restored.environments {
        println!(
            "  environment {environment}: now at revision {} of a younger history (the backup was at {}), entries \
             {entries}, digest {}",
            is.revision, was.revision, is.digest
        );
    }
    if let Some(aside) = &restored.moved_to {
        println!("the store that was there is now {}", aside.display());
    }
}

/// Why flagd did not do it.
pub(crate) fn failure(error: &dyn Display) {
    eprintln!("flagd: {error}");
}
