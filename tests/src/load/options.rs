//! What the load tool is asked to do.

use std::path::PathBuf;
use std::time::Duration;

/// What `--help` prints.
pub const HELP: &str = "\
Opens many streams against a flagd server, makes changes, and tells what they cost.

Usage: load [OPTIONS]            against a server of its own, on this machine
       load --server URL [...]   against yours: it creates one flag, changes it, and archives it at the end
       load --restart [...]      SDK clients whose server is killed and started again
       load --storm [...]        six times as many clients as its own server admits
       load --slow N [...]       N clients that read one byte a second among others
       load --flood [...]        kills while others change, list, and ask for everything
       load --memory [...]       what idle clients of the SDK cost this process

Options:
  --streams N        clients [default: 1000; with --restart 500, with --storm 60 times --admit, with --slow, --flood and
                     --memory 100]
  --connections N    connections that they share [default: one each]
  --changes N        changes of each sort [default: 20; with --storm 200, before it]
  --bytes N          a change on the wire of a stream [default: 500; with --slow 100000]
  --pause-ms N       between changes [default: 100]
  --hellos N         streams opened in a second; a server takes 1000 [default: 900]
  --floor N          also push the same bytes to N bare TCP sockets, in turn with the changes
  --admit N          streams that its own server admits in a second, and at once [default: its own; with --storm 100]
  --memory-mib N     memory that its own server may take (data, stacks and heap): one that wants more ends
  --relays N         relays in a row between its own server and the clients [default: 0]
  --shared           with --memory: clients share connections
  --store memory|redb    what its own server keeps changes in [default: memory; with --restart redb]
  --flagd PATH       its own server's program [default: built from this workspace]
  --server URL       a server that runs already
  --environment NAME     there [default: default]
  --pid N            that server's process on this machine, to tell its CPU and memory
  --help

Each stream costs this process and the server a file descriptor if connections are not shared; raise
`ulimit -n` above twice the number of connections (three times with --floor) in the shell before.
The clients check that no revision is missed, not digests: they keep no state. Changes are made one at a time,
in three sorts that take turns: without acknowledgements, with them, and with them while `Wait` is asked.";

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Make changes and tell what they cost.
    Changes,
    /// Kill the server and tell how its clients come back.
    Restart,
    /// Let more clients come than are admitted.
    Storm,
    /// Have some clients read slowly.
    Slow,
    /// Kill a flag while the server is busy with other things.
    Flood,
    /// Tell what idle clients of the SDK cost.
    Memory,
    /// Be the floor that another one measures: bytes at a time.
    Floor(usize),
    /// Say how it is used.
    Help,
}

/// What clients of the SDK share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Nothing.
    None,
    /// Connections.
    Connections,
}

/// What its own server keeps changes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// Nothing.
    Memory,
    /// A file, synced.
    Redb,
}

/// What the load tool is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which of its jobs.
    pub task: Task,
    /// Clients.
    pub streams: usize,
    /// Connections that they share.
    pub connections: usize,
    /// Changes of each sort.
    pub changes: usize,
    /// A change on the wire of a stream.
    pub bytes: usize,
    /// Between changes.
    pub pause: Duration,
    /// Streams opened in a second.
    pub hellos_per_second: u32,
    /// Bare sockets to compare with; 0: none.
    pub floor: usize,
    /// Clients that read slowly.
    pub slow: usize,
    /// Of clients of the SDK.
    pub sharing: Sharing,
    /// Streams that its own server admits in a second, and at once.
    pub admit: Option<u32>,
    /// Memory that its own server may take, in MiB; a server that wants more ends.
    pub memory_mib: Option<u32>,
    /// Relays between its own server and the clients.
    pub relays: usize,
    /// Of its own server.
    pub store: StoreKind,
    /// Its own server's program.
    pub flagd: Option<PathBuf>,
    /// A server that runs already.
    pub server: Option<String>,
    /// The environment there.
    pub environment: String,
    /// That server's process.
    pub pid: Option<u32>,
}

impl Options {
    /// From the command line, without the program's name.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Options, String> {
        let mut args = args.into_iter();
        let (mut streams, mut connections, mut store, mut bytes, mut changes) =
            (None, None, None, None, None);
        let mut options = Options::default();
        while let Some(name) = args.next() {
            match name.as_str() {
                "--help" | "-h" => options.task = Task::Help,
                "--restart" => options.task = Task::Restart,
                "--storm" => options.task = Task::Storm,
                "--flood" => options.task = Task::Flood,
                "--memory" => options.task = Task::Memory,
                "--shared" => options.sharing = Sharing::Connections,
                _ => {
                    let value =
                        args.next().ok_or_else(|| format!("`{name}` is no option, or lacks its value"))?;
                    match name.as_str() {
                        "--streams" => streams = Some(number(&name, &value)?),
                        "--connections" => connections = Some(number(&name, &value)?),
                        "--changes" => changes = Some(number(&name, &value)?),
                        "--bytes" => bytes = Some(number(&name, &value)?),
                        "--pause-ms" => options.pause = Duration::from_millis(number(&name, &value)?),
                        "--hellos" => options.hellos_per_second = number(&name, &value)?,
                        "--floor" => options.floor = number(&name, &value)?,
                        "--slow" => {
                            options.task = Task::Slow;
                            options.slow = number(&name, &value)?;
                        }
                        "--admit" => options.admit = Some(number(&name, &value)?),
                        "--memory-mib" => options.memory_mib = Some(number(&name, &value)?),
                        "--relays" => options.relays = number(&name, &value)?,
                        "--as-floor" => options.task = Task::Floor(number(&name, &value)?),
                        "--store" => store = Some(store_kind(&value)?),
                        "--flagd" => options.flagd = Some(value.into()),
                        "--server" => options.server = Some(value),
                        "--environment" => options.environment = value,
                        "--pid" => options.pid = Some(number(&name, &value)?),
                        _ => return Err(format!("there is no option `{name}`")),
                    }
                }
            }
        }
        let is_restart = options.task == Task::Restart;
        if options.task == Task::Storm {
            options.admit.get_or_insert(100);
        }
        let admitted = usize::try_from(options.admit.unwrap_or_default()).unwrap_or(usize::MAX);
        options.streams = streams.unwrap_or(match options.task {
            Task::Restart => 500,
            Task::Storm => admitted.saturating_mul(60),
            Task::Slow | Task::Flood | Task::Memory => 100,
            _ => options.streams,
        });
        options.changes = changes.unwrap_or(if options.task == Task::Storm { 200 } else { options.changes });
        let is_slow = options.task == Task::Slow;
        options.bytes = bytes.unwrap_or(if is_slow { 100_000 } else { options.bytes });
        options.connections = connections.unwrap_or(options.streams);
        options.store = store.unwrap_or(if is_restart { StoreKind::Redb } else { options.store });
        options.checked()
    }

    fn checked(self) -> Result<Options, String> {
        if self.streams == 0 || self.connections == 0 || self.changes == 0 || self.hellos_per_second == 0 {
            return Err("streams, connections, changes and hellos must be above 0".to_owned());
        }
        if self.task == Task::Restart && self.server.is_some() {
            return Err("--restart kills the server, so it must be its own".to_owned());
        }
        if self.admit.is_some() && self.server.is_some() {
            return Err("--admit and --storm are about the tool's own server, not --server".to_owned());
        }
        if self.memory_mib.is_some() && self.server.is_some() {
            return Err("--memory-mib is about the tool's own server, not --server".to_owned());
        }
        if self.relays > 0 && (self.server.is_some() || self.task != Task::Changes) {
            return Err("--relays is about changes and the tool's own server".to_owned());
        }
        if self.admit == Some(0) || self.memory_mib == Some(0) {
            return Err("--admit and --memory-mib must be above 0".to_owned());
        }
        if self.task == Task::Restart && self.store == StoreKind::Memory {
            return Err("--restart needs a store that is still there afterwards: redb".to_owned());
        }
        Ok(self)
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            task: Task::Changes,
            streams: 1_000,
            connections: 1_000,
            changes: 20,
            bytes: 500,
            pause: Duration::from_millis(100),
            hellos_per_second: 900,
            floor: 0,
            slow: 0,
            sharing: Sharing::None,
            admit: None,
            memory_mib: None,
            relays: 0,
            store: StoreKind::Memory,
            flagd: None,
            server: None,
            environment: "default".to_owned(),
            pid: None,
        }
    }
}

fn number<N: std::str::FromStr>(name: &str, value: &str) -> Result<N, String> {
    value.parse().map_err(|_| format!("`{name}` takes a number, not `{value}`"))
}

fn store_kind(value: &str) -> Result<StoreKind, String> {
    match value {
        "memory" => Ok(StoreKind::Memory),
        "redb" => Ok(StoreKind::Redb),
        _ => Err(format!("`--store` takes memory or redb, not `{value}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let got = parse("--streams 7 --floor 9").expect("it is right");
        assert_eq!(got, Options { streams: 7, connections: 7, floor: 9, ..Options::default() });
        let got = parse("--restart").expect("it is right");
        assert_eq!((got.task, got.streams, got.store), (Task::Restart, 500, StoreKind::Redb));
        let got = parse("--storm --admit 20").expect("it is right");
        assert_eq!((got.task, got.streams, got.connections), (Task::Storm, 1_200, 1_200));
        let got = parse("--slow 10 --connections 8").expect("it is right");
        assert_eq!((got.task, got.slow, got.streams, got.bytes), (Task::Slow, 10, 100, 100_000));
        assert_eq!(parse("--storm").expect("it is right").admit, Some(100));
        assert_eq!(parse("--memory --shared").expect("it is right").sharing, Sharing::Connections);
        assert_eq!(parse("--as-floor 480").expect("it is right").task, Task::Floor(480));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, part) in [
            ("--stream 7", "`--stream`"),
            ("--streams", "lacks its value"),
            ("--streams many", "not `many`"),
            ("--streams 0", "above 0"),
            ("--store etcd", "memory or redb"),
            ("--restart --server http://127.0.0.1:1", "its own"),
            ("--restart --store memory", "redb"),
            ("--storm --server http://127.0.0.1:1", "own server"),
            ("--storm --admit 0", "above 0"),
            ("--storm --relays 1", "about changes"),
            ("--server http://127.0.0.1:1 --relays 1", "own server"),
            ("--storm --memory-mib 0", "above 0"),
            ("--server http://127.0.0.1:1 --memory-mib 64", "own server"),
        ] {
            let why = parse(line).expect_err(line);
            assert!(why.contains(part), "{line}: {why}");
        }
    }
}
