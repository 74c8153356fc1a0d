//! What flagctl knows before it asks anybody: which environment is meant, and who is asking.
//!
//! The environment comes from the option, else `FLAGD_ENVIRONMENT`, else what `environment use` has stored in
//! the user's configuration folder, else it is `default`. The first two are clap's; this file stores and reads
//! the third.

use std::path::{Path, PathBuf};

use flagd_core::key::EnvironmentName;
use serde::Deserialize;

use crate::error::Failure;

/// The environment that a fresh store has.
const DEFAULT_ENVIRONMENT: &str = "default";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    environment: Option<String>,
}

/// Where the user's choice is stored; `None` when there is no home folder.
pub(crate) fn path() -> Option<PathBuf> {
    let base = folder(std::env::var_os("XDG_CONFIG_HOME")).or_else(|| {
        let home = folder(std::env::var_os("HOME")).or_else(|| folder(std::env::var_os("USERPROFILE")))?;
        Some(home.join(".config"))
    })?;
    Some(base.join("flagctl").join("config.toml"))
}

/// An empty or relative path in such a variable means nothing.
fn folder(value: Option<std::ffi::OsString>) -> Option<PathBuf> {
    value.map(PathBuf::from).filter(|path| path.is_absolute())
}

/// The environment that is meant.
pub(crate) fn environment(typed: Option<&str>, config: Option<&Path>) -> Result<String, Failure> {
    match typed.filter(|name| !name.is_empty()) {
        Some(name) => check_name(name).map_err(Failure::Usage),
        None => Ok(stored(config)?.unwrap_or_else(|| DEFAULT_ENVIRONMENT.to_owned())),
    }
}

fn check_name(name: &str) -> Result<String, String> {
    EnvironmentName::new(name).map(|name| name.as_str().to_owned()).map_err(|error| error.to_string())
}

fn stored(config: Option<&Path>) -> Result<Option<String>, Failure> {
    let Some(path) = config else { return Ok(None) };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::Local(format!("cannot read {}: {error}", path.display()))),
    };
    // An unreadable choice must not silently become another environment.
    let wrong = |why: String| {
        let place = path.display();
        Failure::Local(format!(
            "{place} is damaged: {why}\nrun `flagctl environment use NAME` to write it anew"
        ))
    };
    let file: ConfigFile = toml::from_str(&text).map_err(|error| wrong(error.message().to_owned()))?;
    file.environment.map(|name| check_name(&name).map_err(wrong)).transpose()
}

/// Stores the user's choice.
pub(crate) fn store(name: &str, config: &Path) -> Result<(), Failure> {
    let name = check_name(name).map_err(Failure::Usage)?;
    let write = || {
        if let Some(folder) = config.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(config, format!("# Written by `flagctl environment use`.\nenvironment = \"{name}\"\n"))
    };
    write().map_err(|error| Failure::Local(format!("cannot write {}: {error}", config.display())))
}

/// Who is asking, for the history: what was said, else user and host.
pub(crate) fn actor(typed: Option<&str>) -> String {
    if let Some(name) = typed.filter(|name| !name.is_empty()) {
        return name.to_owned();
    }
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = variable("USER").or_else(|| variable("LOGNAME")).or_else(|| variable("USERNAME"));
    let host = variable("HOSTNAME").or_else(|| variable("COMPUTERNAME")).or_else(kernel_host_name);
    user_at_host(user.as_deref(), host.as_deref())
}

fn kernel_host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

fn user_at_host(user: Option<&str>, host: Option<&str>) -> String {
    match (user, host) {
        (Some(user), Some(host)) => format!("{user}@{host}"),
        (Some(user), None) => user.to_owned(),
        (None, Some(host)) => format!("unknown@{host}"),
        (None, None) => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_wins_over_what_was_stored() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("flagctl").join("config.toml");
        let environment = |typed| environment(typed, Some(config.as_path()));
        assert_eq!(environment(None), Ok("default".into()), "nothing stored");
        store("staging", &config).unwrap();
        assert_eq!(environment(None), Ok("staging".into()), "stored");
        assert_eq!(environment(Some("production")), Ok("production".into()), "typed");
        assert_eq!(environment(Some("")), Ok("staging".into()), "an empty variable is none");
        assert!(matches!(environment(Some("No Such")), Err(Failure::Usage(_))));
        assert!(matches!(store("No Such", &config), Err(Failure::Usage(_))));
        assert_eq!(environment(None), Ok("staging".into()), "still stored");
    }

    #[test]
    fn a_damaged_choice_is_not_another_environment() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.toml");
        for text in ["environment =", "environment = \"A B\"", "enviroment = \"staging\""] {
            std::fs::write(&config, text).unwrap();
            assert!(matches!(environment(None, Some(&config)), Err(Failure::Local(_))), "{text}");
        }
    }

    #[test]
    fn somebody_always_asks() {
        assert_eq!(user_at_host(Some("anna"), Some("desk")), "anna@desk");
        assert_eq!(user_at_host(Some("anna"), None), "anna");
        assert_eq!(user_at_host(None, Some("desk")), "unknown@desk");
        assert_eq!(actor(Some("deploy-bot")), "deploy-bot");
    }
}
