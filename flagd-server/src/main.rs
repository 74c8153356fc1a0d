//! flagd: read the options, start telling, open the store, serve; or back up, or restore.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use flagd_server::clock::Clock;
use flagd_server::config::{Banner, Command, Config, Existing, StoreChoice};
use flagd_server::serve::{self, Settings};
use flagd_server::store::etcd::{Etcd, EtcdConfig};
use flagd_server::store::log::Log;
use flagd_server::store::memory::Memory;
use flagd_server::store::redb::Redb;
use flagd_server::store::{Store, backup};
use flagd_server::{shutdown, telemetry};

mod output;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The options mean nothing.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let config = match Config::of_this_process() {
        Ok(config) => config,
        Err(error) => {
            output::failure(&error);
            return ExitCode::from(USAGE);
        }
    };
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for (name, nearest) in flagd_server::config::unknown_variables(names) {
        output::unknown_variable(&name, nearest.as_deref());
    }
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::failure(&error);
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(config: Config) -> Result<(), Failure> {
    telemetry::start(config.log)?;
    match &config.command {
        Command::Serve => serve(config).await,
        Command::Backup { to } => back_up(&config.store, to).await,
        Command::Restore { from, to, existing } => restore(from, to, *existing).await,
    }
}

async fn serve(config: Config) -> Result<(), Failure> {
    let requested = shutdown::requested()?;
    let store: Arc<dyn Store> = match &config.store {
        StoreChoice::Redb(path) => Arc::new(Redb::create(path, config.quota_bytes)?),
        StoreChoice::Memory => Arc::new(Memory::new(config.quota_bytes)),
        StoreChoice::Etcd(etcd) => {
            let store = Etcd::new(EtcdConfig::clone(etcd));
            store.inspect().await;
            Arc::new(store)
        }
    };
    let listener = serve::listen(config.listen).map_err(|error| {
        format!("cannot listen on {}: {error}; choose another with --listen", config.listen)
    })?;
    if config.upstream.is_empty() {
        // Before anything is said about environments: a new store gets its first one.
        serve::begin(&Log::new(Arc::clone(&store)), &Clock::system()).await?;
    }
    if config.banner == Banner::Shown {
        let listen = listener.local_addr()?;
        match config.upstream.as_slice() {
            [] => output::banner(listen, &config.store, &store.environments().await?),
            upstream => output::relay_banner(listen, &config.store, upstream),
        }
    }
    let settings = Settings {
        store,
        clock: Clock::system(),
        server_name: config.server_name,
        advertise: config.advertise,
        drain_timeout: config.drain_timeout,
        admission: config.admission,
        upstream: config.upstream,
    };
    Ok(serve::serve(listener, settings, requested).await?)
}

async fn back_up(store: &StoreChoice, to: &Path) -> Result<(), Failure> {
    let StoreChoice::Redb(path) = store else { return Err("there is no store in a file".into()) };
    let copied = backup::back_up(&Redb::read_only(path)?, to).await?;
    output::backup(to, &copied);
    Ok(())
}

async fn restore(from: &Path, to: &Path, existing: Existing) -> Result<(), Failure> {
    let clock = Clock::system();
    let aside = match existing {
        Existing::Refuse => None,
        Existing::MoveAside => Some(name_aside(to, &clock)),
    };
    let restored = backup::restore(from, to, aside, clock.now_ms()).await?;
    output::restored(to, &restored);
    Ok(())
}

/// `FILE.before-restore-2026-11-23T17-55-01.123Z`: a name that says when, and that every file system takes.
fn name_aside(path: &Path, clock: &Clock) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".before-restore-{}", clock.now().to_string().replace(':', "-")));
    PathBuf::from(name)
}
