//! Runs the programs that a user runs, and says what they said.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// What a finished command left behind.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// What it wrote to standard output.
    pub out: String,
    /// What it wrote to standard error.
    pub err: String,
}

impl Output {
    /// Exit code 0.
    #[track_caller]
    #[must_use]
    pub fn succeeds(self) -> Output {
        self.exits(0)
    }

    /// Exactly this exit code.
    #[track_caller]
    #[must_use]
    pub fn exits(self, code: i32) -> Output {
        assert_eq!(self.code, code, "`{}` exited with {}\n{}", self.command, self.code, self.all());
        self
    }

    /// The text stands somewhere in what was said.
    #[track_caller]
    #[must_use]
    pub fn says(self, text: &str) -> Output {
        assert!(self.all().contains(text), "`{}` does not say {text:?}:\n{}", self.command, self.all());
        self
    }

    /// The text stands nowhere in what was said.
    #[track_caller]
    #[must_use]
    pub fn does_not_say(self, text: &str) -> Output {
        assert!(!self.all().contains(text), "`{}` says {text:?}:\n{}", self.command, self.all());
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("`{}`: {error}\n{}", self.command, self.all()))
    }

    /// Ends a chain of checks.
    pub fn done(self) {}

    fn all(&self) -> String {
        format!("--- stdout\n{}--- stderr\n{}", self.out, self.err)
    }
}

/// The folder of `flagd`, `flagctl` and `examples/`, built once per test run.
#[must_use]
pub fn binaries() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("tests/ lies in the workspace")
            .join("Cargo.toml");
        // The test binary lies in `<target>/<profile>/deps`, an example's in `<target>/<profile>/examples`.
        let own = std::env::current_exe().expect("a test has a path");
        let folder = own.ancestors().nth(2).expect("two folders up").to_path_buf();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--workspace", "--bins", "--manifest-path"]).arg(manifest);
        if folder.ends_with("release") {
            // A benchmark: it needs the programs only, and must not replace itself while it runs.
            cargo.arg("--release");
        } else {
            cargo.arg("--examples");
        }
        let built = cargo.stdin(Stdio::null()).status().expect("cargo runs");
        assert!(built.success(), "the programs under test do not build");
        folder
    })
}

/// The path of an example's program.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    binaries().join("examples").join(name)
}
