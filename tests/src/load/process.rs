//! A process of this machine, on a processor of its own where there are several, and what it has used.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::process::{Child, Command};

/// What `CLK_TCK` is on every Linux that flagd runs on: ticks in a second.
const TICKS_PER_SECOND: u32 = 100;

/// A child that ends with its handle.
#[derive(Debug)]
pub struct Pinned {
    child: Child,
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Resident now.
    pub(crate) now_bytes: u64,
    /// The most that ever was.
    pub(crate) peak_bytes: u64,
}

impl Pinned {
    /// Starts a program on the first processor, with so much memory if that is limited; its log goes to a file.
    ///
    /// # Errors
    /// What the system says.
    pub fn spawn<S: AsRef<OsStr>>(
        program: &Path,
        args: impl IntoIterator<Item = S>,
        memory_mib: Option<u32>,
        out: Stdio,
        log: &Path,
    ) -> std::io::Result<Pinned> {
        let mut command = if can_pin() {
            let mut command = within(memory_mib, Path::new("taskset"));
            command.args(["-c", "0"]).arg(program);
            command
        } else {
            within(memory_mib, program)
        };
        let log = std::fs::File::options().create(true).append(true).open(log)?;
        for setting in ["FLAGD_STORE", "FLAGD_LISTEN", "FLAGD_CONFIG", "FLAGD_EPHEMERAL"] {
            command.env_remove(setting);
        }
        command.args(args).stdin(Stdio::null()).stdout(out).stderr(Stdio::from(log)).kill_on_drop(true);
        Ok(Pinned { child: command.spawn()? })
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// What it writes, if that was asked for.
    pub(super) fn output(&mut self) -> Option<tokio::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// What the system says.
    pub(super) async fn kill(mut self) -> std::io::Result<()> {
        self.child.kill().await
    }
}

/// A command that runs a program, with so much memory if that is limited.
pub(crate) fn within(memory_mib: Option<u32>, program: &Path) -> Command {
    let Some(mib) = memory_mib else { return Command::new(program) };
    let mut command = Command::new("sh");
    // Data is all memory that a program can write and shares with nobody: what it allocates, and stacks.
    let line = format!("ulimit -d {} && exec \"$@\"", mib.saturating_mul(1024));
    command.args(["-c", &line, "sh"]).arg(program);
    command
}

/// Whether there is a processor for each side, and a program that puts them there; as it was when first asked.
fn can_pin() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let taskset = std::process::Command::new("taskset").arg("-V").stdout(Stdio::null()).status();
        processors > 1 && taskset.is_ok()
    })
}

/// Puts this process on the second processor; how that went, in words. Before any thread is started.
#[must_use]
pub fn pin_self() -> &'static str {
    if !can_pin() {
        return "server and clients share all processors";
    }
    let own = std::process::id().to_string();
    let pinned =
        std::process::Command::new("taskset").args(["-cp", "1", &own]).stdout(Stdio::null()).status();
    match pinned {
        Ok(status) if status.success() => "the server has one processor, the clients another",
        _ => "the server has one processor, the clients all",
    }
}

/// CPU time that a process has used, over all threads that live: the scheduler's own count where there is one, else
/// ticks.
pub(super) fn cpu(pid: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let exact: u64 = tasks
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .sum();
    if exact > 0 {
        return Duration::from_nanos(exact);
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    ticks(&stat)
}

/// User and system time in `/proc/PID/stat`.
fn ticks(stat: &str) -> Duration {
    // The name of the program, in parentheses, may hold spaces; what is asked for are fields 14 and 15.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    let ticks: u32 = fields.filter_map(|field| field.parse::<u32>().ok()).sum();
    Duration::from_secs(1) * ticks / TICKS_PER_SECOND
}

/// The memory of a process.
pub(crate) fn memory(pid: u32) -> Memory {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kilobytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or_default()
    };
    Memory { now_bytes: kilobytes("VmRSS:") * 1024, peak_bytes: kilobytes("VmHWM:") * 1024 }
}

/// Waits until a process rests, so that what it did is done.
pub(super) async fn rest(pid: u32) {
    const LOOK: Duration = Duration::from_millis(60);
    let mut before = cpu(pid);
    for _ in 0..100 {
        tokio::time::sleep(LOOK).await;
        let now = cpu(pid);
        if now.saturating_sub(before) < LOOK / 20 {
            return;
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 100 0 0";
        assert_eq!(ticks(stat), Duration::from_secs(3));
        assert_eq!(ticks(""), Duration::ZERO);
    }

    #[test]
    fn this_process_has_used_something() {
        let memory = memory(std::process::id());
        assert!(memory.now_bytes > 0 && memory.peak_bytes >= memory.now_bytes, "{memory:?}");
        let mut sum = 0_u64;
        while cpu(std::process::id()) == Duration::ZERO {
            sum = std::hint::black_box(sum).wrapping_add(1);
        }
    }
}
