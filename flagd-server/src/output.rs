//! Everything that flagd prints, and nothing else does.
//!
//! The standard output is for people who have just typed something: what to type next, what a backup holds. What
//! happens afterwards goes to the log (see `telemetry`). A reader that went away (`flagd | head -1`) is no reason to
//! end: what cannot be printed is left out.

use std::fmt::{Arguments, Display};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use flagd_core::key::EnvironmentName;
use flagd_server::config::StoreChoice;
use flagd_server::store::backup::{Copied, Restored};

/// The commands of the README's first session.
const SESSION: &str = "  alias flagctl=\"cargo run --quiet --release --bin flagctl --\"
  flagctl create -f examples/new-checkout.json
  cargo run --quiet --release --example quickstart        # leave it running
  flagctl ramp new-checkout 25%
  flagctl kill new-checkout --reason \"trying it out\"
  flagctl history new-checkout
  flagctl revive new-checkout
  flagctl rollback new-checkout";

/// Where the server listens, and what to type next.
pub(crate) fn banner(listen: SocketAddr, store: &StoreChoice, environments: &[EnvironmentName]) {
    let store = described(store);
    let environments = match environments {
        [] => "no environment, although it had some (see the log)".to_owned(),
        [one] => format!("environment {one}"),
        [first, others @ ..] => format!("environments {first} and {} more", others.len()),
    };
    say(format_args!("flagd is listening on {listen}, {store}, {environments}.\n{}", session(listen)));
}

/// Where a relay listens, and whom it relays.
pub(crate) fn relay_banner(listen: SocketAddr, store: &StoreChoice, upstream: &[String]) {
    let (store, upstream) = (described(store), upstream.join(", "));
    say(format_args!(
        "flagd is listening on {listen}, {store}, a relay of {upstream}: clients follow it here, changes are made there."
    ));
}

fn described(store: &StoreChoice) -> String {
    match store {
        StoreChoice::Redb(path) => format!("store {}", path.display()),
        StoreChoice::Etcd(etcd) => format!("store in etcd at {}", etcd.endpoints.join(", ")),
        StoreChoice::Memory => "store in memory: everything is gone at the end".to_owned(),
    }
}

/// What a backup holds.
pub(crate) fn backup(to: &Path, copied: &[Copied]) {
    say(format_args!("backup {} written and verified", to.display()));
    for Copied { environment, is, entries, .. } in copied {
        say(format_args!(
            "  environment {environment}: revision {}, entries {entries}, digest {}",
            is.revision, is.digest
        ));
    }
}

/// What a restored store holds.
pub(crate) fn restored(to: &Path, restored: &Restored) {
    say(format_args!("store {} restored and verified", to.display()));
    for Copied { environment, was, is, entries } in &restored.environments {
        say(format_args!(
            "  environment {environment}: now at revision {} of a younger history (the backup was at {}), entries \
             {entries}, digest {}",
            is.revision, was.revision, is.digest
        ));
    }
    if let Some(aside) = &restored.moved_to {
        say(format_args!("the store that was there is now {}", aside.display()));
    }
}

/// Why flagd did not do it.
pub(crate) fn failure(error: &dyn Display) {
    complain(format_args!("flagd: {error}"));
}

/// An option that may be a typing error.
pub(crate) fn unknown_variable(name: &str, nearest: Option<&str>) {
    let guess = nearest.map_or_else(String::new, |nearest| format!("; did you mean `{nearest}`?"));
    complain(format_args!(
        "flagd: the environment variable `{name}` is none of flagd's and has no effect{guess}"
    ));
}

/// What to type next, with the address where it is not the one that flagctl asks by itself.
fn session(listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let reached = SocketAddr::new(ip, listen.port());
    let address = if reached == SocketAddr::from(([127, 0, 0, 1], 8013)) {
        String::new()
    } else {
        format!("  export FLAGD_SERVERS=http://{reached}\n")
    };
    format!("Try this in another terminal:\n{address}{SESSION}")
}

fn say(line: Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn complain(line: Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_names_the_server_where_flagctl_would_ask_another() {
        let cases = [
            ("127.0.0.1:8013", None),
            ("0.0.0.0:8013", None),
            ("127.0.0.1:9000", Some("  export FLAGD_SERVERS=http://127.0.0.1:9000\n")),
            ("[::]:8013", Some("  export FLAGD_SERVERS=http://[::1]:8013\n")),
        ];
        for (listen, want) in cases {
            let text = session(listen.parse().unwrap());
            assert_eq!(text.contains("export"), want.is_some(), "{listen}");
            let begin = format!("Try this in another terminal:\n{}  alias ", want.unwrap_or_default());
            assert!(text.starts_with(&begin), "{listen}: {text}");
        }
    }
}
