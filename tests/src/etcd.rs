//! A real etcd on loopback: one member or a cluster, which tests kill, freeze, restart, back up and restore.
//!
//! Each member runs under a small shell that ends it, and removes its folder, as soon as the test's process is gone,
//! however it went. The binary is `$FLAGD_TEST_ETCD`, or `etcd` from the path; `etcdctl` must lie beside it.
//! This file is also part of the server's own unit tests.

#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    dead_code,
    unreachable_pub,
    reason = "support code of tests, compiled into two of them: a panic is a failed test"
)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a member may take to answer.
const READY_MAX: Duration = Duration::from_mins(1);
/// How often a start is tried: between finding a free port and using it, somebody else may take it.
const STARTS_MAX: u32 = 5;

/// A cluster of one or more members.
#[derive(Debug)]
pub struct EtcdCluster {
    members: Vec<Member>,
    folder: tempfile::TempDir,
    options: Vec<String>,
    tls: Option<TlsFiles>,
    /// `name:password`, once etcd asks for one.
    login: Option<String>,
}

/// Certificates in PEM files: an authority, and what it has signed for both sides.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// A certificate for servers and for clients.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

#[derive(Debug)]
struct Member {
    name: String,
    client: String,
    peer: String,
    data: PathBuf,
    running: Option<Running>,
}

/// The shell around a member, and the member.
#[derive(Debug)]
struct Running {
    shell: Child,
    pid: u32,
}

fn binary(name: &str) -> PathBuf {
    let etcd = std::env::var_os("FLAGD_TEST_ETCD").map(PathBuf::from);
    match etcd {
        Some(etcd) if name == "etcd" => etcd,
        Some(etcd) => etcd.with_file_name(name),
        None => PathBuf::from(name),
    }
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").to_string()
}

impl EtcdCluster {
    /// Starts so many members with etcd's own timing, and waits until they answer.
    #[must_use]
    pub fn start(members: usize) -> EtcdCluster {
        EtcdCluster::start_with(members, &[])
    }

    /// The same, with more options for each member.
    #[must_use]
    pub fn start_with(members: usize, options: &[&str]) -> EtcdCluster {
        EtcdCluster::start_in(members, options, None)
    }

    /// The same, on connections that are protected from both sides.
    #[must_use]
    pub fn start_tls(members: usize, tls: &TlsFiles) -> EtcdCluster {
        EtcdCluster::start_in(members, &[], Some(tls))
    }

    fn start_in(members: usize, options: &[&str], tls: Option<&TlsFiles>) -> EtcdCluster {
        for _ in 1..STARTS_MAX {
            if let Ok(cluster) = EtcdCluster::try_start(members, options, tls) {
                return cluster;
            }
        }
        EtcdCluster::try_start(members, options, tls).expect("etcd starts; is it installed? See scripts/test")
    }

    fn try_start(count: usize, options: &[&str], tls: Option<&TlsFiles>) -> Result<EtcdCluster, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let member = |number: usize| {
            let name = format!("m{number}");
            let data = folder.path().join(&name);
            Member { name, client: free_address(), peer: free_address(), data, running: None }
        };
        let members = (0..count).map(member).collect();
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut cluster = EtcdCluster { members, folder, options, tls: tls.cloned(), login: None };
        for member in 0..count {
            cluster.launch(member);
        }
        for member in 0..count {
            cluster.wait_until_ready(member)?;
        }
        Ok(cluster)
    }

    /// `host:port` of each member, for clients.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.client.clone()).collect()
    }

    /// The folder in which everything lies; it goes away with this.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn initial_cluster(&self) -> String {
        let each = self.members.iter().map(|member| format!("{}=http://{}", member.name, member.peer));
        each.collect::<Vec<_>>().join(",")
    }

    fn launch(&mut self, number: usize) {
        let initial_cluster = self.initial_cluster();
        let log = self.folder.path().join(format!("m{number}.log"));
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let member = self.members.get_mut(number).expect("a member");
        let (client, peer) = (format!("{scheme}://{}", member.client), format!("http://{}", member.peer));
        // The shell reads until its input ends, which is when the test's process does.
        let script = "\"$@\" >>\"$LOG\" 2>&1 & echo $!; read -r _; kill -9 $! 2>/dev/null; wait";
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh"]).arg(binary("etcd")).env("LOG", &log).env_remove("ETCD_NAME");
        shell.args(["--name", &member.name, "--data-dir"]).arg(&member.data);
        shell.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        shell.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        shell.args(["--initial-cluster", &initial_cluster, "--initial-cluster-token", "flagd-test"]);
        shell.args(&self.options);
        if let Some(TlsFiles { ca, cert, key }) = &self.tls {
            shell.arg("--trusted-ca-file").arg(ca).arg("--cert-file").arg(cert).arg("--key-file").arg(key);
            shell.arg("--client-cert-auth");
        }
        let mut shell = shell
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh runs");
        let mut line = String::new();
        let mut said = std::io::BufReader::new(shell.stdout.take().expect("its output"));
        std::io::BufRead::read_line(&mut said, &mut line).expect("the member's process id");
        let pid = line.trim().parse().expect("a process id");
        member.running = Some(Running { shell, pid });
    }

    fn wait_until_ready(&mut self, number: usize) -> Result<(), String> {
        let began = Instant::now();
        loop {
            let probe = self.etcdctl_at(number, &["endpoint", "health"]);
            if probe.is_ok() {
                return Ok(());
            }
            let log = self.folder.path().join(format!("m{number}.log"));
            let ended = !self.is_running(number);
            if ended || began.elapsed() > READY_MAX {
                let log = std::fs::read_to_string(log).unwrap_or_default();
                let tail: Vec<_> = log.lines().rev().take(5).collect();
                return Err(format!("member {number} does not answer: {tail:?}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn pid(&self, number: usize) -> u32 {
        let running = self.members.get(number).and_then(|member| member.running.as_ref());
        running.expect("a member that runs").pid
    }

    fn is_running(&self, number: usize) -> bool {
        let running = self.members.get(number).and_then(|member| member.running.as_ref());
        running.is_some_and(|running| Path::new(&format!("/proc/{}/exe", running.pid)).exists())
    }

    fn signal(&self, number: usize, signal: &str) {
        let status = Command::new("kill").args([signal, &self.pid(number).to_string()]).status();
        assert!(status.expect("kill runs").success(), "kill {signal} of member {number}");
    }

    /// `kill -9`.
    pub fn kill(&mut self, number: usize) {
        self.signal(number, "-KILL");
        let member = self.members.get_mut(number).expect("a member");
        if let Some(mut running) = member.running.take() {
            drop(running.shell.stdin.take());
            running.shell.wait().expect("the shell ends");
        }
    }

    /// Stops a member's process without ending it: its connections stay open and silent.
    pub fn freeze(&self, number: usize) {
        self.signal(number, "-STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self, number: usize) {
        self.signal(number, "-CONT");
    }

    /// Starts a member that was killed, and waits until it answers.
    pub fn restart(&mut self, number: usize) {
        self.launch(number);
        self.wait_until_ready(number).expect("the member comes back");
    }

    /// Starts members that were killed, at once: without the others none of them answers.
    pub fn restart_all(&mut self, numbers: &[usize]) {
        for number in numbers {
            self.launch(*number);
        }
        for number in numbers {
            self.wait_until_ready(*number).expect("the member comes back");
        }
    }

    /// Which member leads.
    #[must_use]
    pub fn leader(&self) -> usize {
        let began = Instant::now();
        while began.elapsed() < READY_MAX {
            for number in 0..self.members.len() {
                let status = self.etcdctl_at(number, &["endpoint", "status", "--write-out=fields"]);
                let field = |name: &str| {
                    let text = status.as_ref().ok()?;
                    let line = text.lines().find(|line| line.trim_matches('"').starts_with(name))?;
                    Some(line.split(':').nth(1)?.trim().to_owned())
                };
                let own = field("MemberID");
                if own.is_some() && own == field("Leader") {
                    return number;
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("no member leads");
    }

    /// Runs `etcdctl` against one member; its output, or what went wrong.
    ///
    /// # Errors
    /// What it wrote to its standard error output.
    pub fn etcdctl_at(&self, number: usize, arguments: &[&str]) -> Result<String, String> {
        let member = self.members.get(number).expect("a member");
        let mut first = vec!["--endpoints", &member.client, "--command-timeout", "3s"];
        if let Some(TlsFiles { ca, cert, key }) = &self.tls {
            for (option, path) in [("--cacert", ca), ("--cert", cert), ("--key", key)] {
                first.extend([option, path.to_str().expect("a path in UTF-8")]);
            }
        }
        if let Some(login) = &self.login {
            first.extend(["--user", login]);
        }
        etcdctl(&first, arguments)
    }

    /// Makes etcd ask for passwords: `root` has one, and so has `flagd`, who may only use keys with a prefix.
    pub fn enable_users(&mut self, root: &str, flagd: &str, prefix: &str) {
        let steps: &[&[&str]] = &[
            &["user", "add", &format!("root:{root}")],
            &["user", "grant-role", "root", "root"],
            &["user", "add", &format!("flagd:{flagd}")],
            &["role", "add", "flags"],
            &["role", "grant-permission", "flags", "--prefix=true", "readwrite", prefix],
            &["user", "grant-role", "flagd", "flags"],
            &["auth", "enable"],
        ];
        for step in steps {
            if *step == ["user", "grant-role", "root", "root"] {
                // Some versions bring this role along.
                drop(self.etcdctl_at(0, &["role", "add", "root"]));
            }
            self.etcdctl_at(0, step).expect("etcd takes users");
        }
        self.login = Some(format!("root:{root}"));
    }

    /// Compacts everything before etcd's current revision.
    pub fn compact(&self) {
        let status = self.etcdctl_at(0, &["endpoint", "status", "--write-out=fields"]).expect("a status");
        let line = status.lines().find(|line| line.trim_start_matches('"').starts_with("Revision"));
        let revision = line.and_then(|line| line.split(':').nth(1)).expect("a revision").trim().to_owned();
        self.etcdctl_at(0, &["compact", "--physical", &revision]).expect("etcd compacts");
    }

    /// Saves a member's data to a file.
    pub fn snapshot(&self, number: usize, to: &Path) {
        let to = to.to_str().expect("a path in UTF-8");
        self.etcdctl_at(number, &["snapshot", "save", to]).expect("a snapshot");
    }

    /// Ends all members, replaces their data by a snapshot's, and starts them again at the same addresses.
    pub fn restore(&mut self, from: &Path) {
        let from = from.to_str().expect("a path in UTF-8");
        let all: Vec<_> = (0..self.members.len()).collect();
        for number in &all {
            if self.is_running(*number) {
                self.kill(*number);
            }
        }
        let initial_cluster = self.initial_cluster();
        for member in &self.members {
            std::fs::remove_dir_all(&member.data).expect("the old data go");
            let data = member.data.to_str().expect("a path in UTF-8");
            let peer = format!("http://{}", member.peer);
            let options = [
                "--initial-cluster",
                &initial_cluster,
                "--initial-advertise-peer-urls",
                &peer,
                "--name",
                &member.name,
            ];
            let more = ["--initial-cluster-token", "flagd-test", "--data-dir", data];
            let arguments: Vec<_> =
                ["snapshot", "restore", from].into_iter().chain(options).chain(more).collect();
            etcdctl(&[], &arguments).expect("the snapshot is restored");
        }
        self.restart_all(&all);
    }
}

fn etcdctl(first: &[&str], arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(binary("etcdctl")).env("ETCDCTL_API", "3").args(first).args(arguments).output();
    let output = output.map_err(|error| format!("etcdctl does not run: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Drop for EtcdCluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(mut running) = member.running.take() {
                drop(running.shell.stdin.take());
                // The shell kills the member and waits for it.
                drop(running.shell.wait());
            }
        }
    }
}
