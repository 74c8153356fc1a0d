//! What the load tool is asked to do.

use std::path::PathBuf;
use std::time::Duration;

/// What `--help` prints.
pub const HELP: &str = "\
Opens many streams against a flagd server, makes changes, and tells what they cost.

Usage: load [OPTIONS]            against a server of its own, on this machine
       load --server URL [...]   against yours: it creates one flag, changes it, and archives it at the end
       load --restart [...]      SDK clients whose server is killed and started again

Options:
  --streams N        clients [default: 1000; with --restart 500]
  --connections N    connections that they share [default: one each]
  --changes N        changes of each sort [default: 20]
  --bytes N          a change on the wire of a stream [default: 500]
  --pause-ms N       between changes [default: 100]
  --hellos N         streams opened in a second; a server takes 1000 [default: 900]
  --floor N          also push the same bytes to N bare TCP sockets, in turn with the changes
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
    /// Be the floor that another one measures: bytes at a time.
    Floor(usize),
    /// Say how it is used.
    Help,
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
        let (mut streams, mut connections, mut store) = (None, None, None);
        let mut options = Options::default();
        while let Some(name) = args.next() {
            match name.as_str() {
                "--help" | "-h" => options.task = Task::Help,
                "--restart" => options.task = Task::Restart,
                _ => {
                    let value =
                        args.next().ok_or_else(|| format!("`{name}` is no option, or lacks its value"))?;
                    match name.as_str() {
                        "--streams" => streams = Some(number(&name, &value)?),
                        "--connections" => connections = Some(number(&name, &value)?),
                        "--changes" => options.changes = number(&name, &value)?,
                        "--bytes" => options.bytes = number(&name, &value)?,
                        "--pause-ms" => options.pause = Duration::from_millis(number(&name, &value)?),
                        "--hellos" => options.hellos_per_second = number(&name, &value)?,
                        "--floor" => options.floor = number(&name, &value)?,
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
        options.streams = streams.unwrap_or(if is_restart { 500 } else { options.streams });
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
        ] {
            let why = parse(line).expect_err(line);
            assert!(why.contains(part), "{line}: {why}");
        }
    }
}
