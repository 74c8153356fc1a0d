//! How each option's value is written.
//!
//! Every reader here takes the text and answers with what it means, or with the rest of the sentence "`TEXT` ...",
//! which says what is wrong and how it is written.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::StoreChoice;
use crate::limits::{ADMISSION_MAX, HELLO_TEXT_MAX_BYTES, UPSTREAMS_MAX};
use crate::store::etcd::EtcdConfig;
use crate::telemetry::{LogFormat, LogLevel};

pub(super) fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("is neither true nor false".to_owned()),
    }
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    // The one name that means the same on every machine.
    if let Some(port) = text.strip_prefix("localhost:").and_then(|port| port.parse().ok()) {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    text.parse().map_err(|_| "is not an address and a port, such as 127.0.0.1:8013 or [::1]:8013".to_owned())
}

pub(super) fn store(text: &str) -> Result<StoreChoice, String> {
    match text.split_once(':') {
        None if text == "memory" => Ok(StoreChoice::Memory),
        Some(("redb", "")) => Err("names no file; write redb:PATH".to_owned()),
        Some(("redb", path)) => Ok(StoreChoice::Redb(PathBuf::from(path))),
        Some(("etcd", _)) => EtcdConfig::parse(text)
            .map(|etcd| StoreChoice::Etcd(Box::new(etcd)))
            .map_err(|error| error.to_string()),
        Some((kind, rest)) if rest.starts_with("//") => Err(format!(
            "is of a kind that is not known, `{kind}`; write redb:PATH, a path, etcd://HOST, or memory"
        )),
        _ if text.is_empty() => {
            Err("names no store; write redb:PATH, a path, etcd://HOST, or memory".to_owned())
        }
        _ => Ok(StoreChoice::Redb(PathBuf::from(text))),
    }
}

pub(super) fn name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > HELLO_TEXT_MAX_BYTES || text.chars().any(char::is_control) {
        return Err(format!("is not a name of 1 to {HELLO_TEXT_MAX_BYTES} bytes without control characters"));
    }
    Ok(text.to_owned())
}

/// Where other servers reach this one. They speak without encryption, as this version does.
pub(super) fn url(text: &str) -> Result<String, String> {
    let wrong = || "is not written as http://HOST:PORT".to_owned();
    let uri: http::Uri = text.parse().map_err(|_| wrong())?;
    let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
    match authority {
        Some(authority) if uri.scheme_str() == Some("http") && is_bare && authority.port_u16().is_some() => {
            Ok(format!("http://{authority}"))
        }
        _ => Err(wrong()),
    }
}

/// Where the servers are that a relay follows, in the order in which they are tried.
pub(super) fn urls(text: &str) -> Result<Vec<String>, String> {
    let wrong = |_| "is not written as http://HOST:PORT,http://HOST:PORT".to_owned();
    let urls = text.split(',').map(|one| url(one.trim())).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    if urls.len() > UPSTREAMS_MAX {
        return Err(format!("names {} servers, at most {UPSTREAMS_MAX} are taken", urls.len()));
    }
    Ok(urls)
}

pub(super) fn size(text: &str) -> Result<u64, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40), ("B", 0)];
    let wrong = || "is not a size of at least 1 byte; write 512MiB, 8GiB, or a number of bytes".to_owned();
    let (number, shift) =
        units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift))).unwrap_or((text, 0));
    let number: u64 = number.trim_end().parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

/// How many of something.
pub(super) fn count(text: &str) -> Result<u32, String> {
    let found = text.parse().ok().filter(|count| (1..=ADMISSION_MAX).contains(count));
    found.ok_or_else(|| format!("is not a whole number from 1 to {ADMISSION_MAX}"))
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000)];
    let wrong = || "is not a duration; write 500ms, 10s or 2m".to_owned();
    let (number, unit_ms) = units
        .iter()
        .find_map(|(unit, unit_ms)| Some((text.strip_suffix(unit)?, *unit_ms)))
        .ok_or_else(wrong)?;
    let number: u64 = number.trim_end().parse().map_err(|_| wrong())?;
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(wrong)
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("is neither text nor json".to_owned()),
    }
}

pub(super) fn log_level(text: &str) -> Result<LogLevel, String> {
    let levels = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
    let found = levels.into_iter().find(|level| level.word() == text);
    found.ok_or_else(|| "is not one of error, warn, info, debug, trace".to_owned())
}
