//! The README's session works word for word: what it tells a new user to type is typed here.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use flagd_tests::etcd::EtcdCluster;
use flagd_tests::{World, eventually, example};
use tokio::io::{AsyncBufReadExt, BufReader};

fn readme() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace");
    fs::read_to_string(root.join("README.md")).expect("the README")
}

/// The commands of the README's session: lines of its first `console` block that begin with `$ `.
fn session() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace");
    let readme = fs::read_to_string(root.join("README.md")).expect("the README");
    let block = readme
        .split("```console\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("a console block");
    block.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect()
}

#[tokio::test]
async fn the_session_works_word_for_word() {
    type_it(World::start().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_session_works_unchanged_on_etcd() {
    let etcd = tokio::task::block_in_place(|| EtcdCluster::start(1));
    type_it(World::start_on(format!("etcd://{}/readme", etcd.endpoints().join(","))).await).await;
}

async fn type_it(world: World) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace");
    let examples = world.folder().join("examples");
    fs::create_dir(&examples).expect("a folder");
    fs::copy(root.join("examples/new-checkout.json"), examples.join("new-checkout.json"))
        .expect("the example's file");
    let lines = Arc::new(Mutex::new(Vec::<String>::new()));
    let seen = |lines: &Mutex<Vec<String>>, text: &str| {
        lines.lock().expect("no panic").iter().any(|line| line.contains(text))
    };
    let mut quickstart = None;
    let mut typed = Vec::new();

    for command in session() {
        if command.starts_with("cargo run --release") && !command.contains("--example")
            || command.starts_with("alias ")
        {
            continue;
        }
        if command.contains("--example quickstart") {
            let mut child = tokio::process::Command::new(example("quickstart"))
                .env("FLAGD_SERVERS", world.url())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .expect("the example starts");
            let mut output = BufReader::new(child.stdout.take().expect("a pipe")).lines();
            let lines = Arc::clone(&lines);
            tokio::spawn(async move {
                while let Ok(Some(line)) = output.next_line().await {
                    lines.lock().expect("no panic").push(line);
                }
            });
            quickstart = Some(child);
            eventually("the example is connected", async || {
                world.flagctl(["clients", "--output", "json"]).await.json()["clients"]
                    .as_array()
                    .is_some_and(|list| !list.is_empty())
            })
            .await;
            continue;
        }
        let words = shell_words(
            command.strip_prefix("flagctl ").unwrap_or_else(|| panic!("an unknown command: {command}")),
        );
        let before = lines.lock().expect("no panic").len();
        world.flagctl(&words).await.succeeds().done();
        if ["ramp", "kill", "revive"].contains(&words[0].as_str()) {
            eventually("an answer flips in the running example", async || {
                lines.lock().expect("no panic").len() > before
            })
            .await;
        }
        typed.push(words[0].clone());
    }
    assert_eq!(
        typed,
        ["create", "ramp", "kill", "history", "revive", "rollback"],
        "the README tells the whole story"
    );
    // What the README shows of the application is what it prints, but for the time of day.
    for shown in
        ["ada  new-checkout  off -> on", "finn  new-checkout  off -> on", "ada  new-checkout  on -> off"]
    {
        assert!(readme().contains(shown) && seen(&lines, shown), "{shown:?} is not in {lines:?}");
    }
    assert!(seen(&lines, "off -> on") && seen(&lines, "on -> off"), "{lines:?}");
    drop(quickstart);
}

/// Splits a command line as a shell does, for words and double quotes; drops a comment.
fn shell_words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for c in line.split("  #").next().unwrap_or(line).chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}
