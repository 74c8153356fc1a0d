//! Keeps by machine what readers rely on: sizes, headers, layers, and that no file is forgotten.
//!
//! Works on the text of the sources as rustfmt leaves them; it knows no Rust beyond that.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Longest non-test file, in lines.
const FILE_LINES_MAX: usize = 600;
/// Longest function, in lines from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

struct Source {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_path_buf()
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for folder in ["flagd-core", "flagd-server", "flagd-client", "proto", "examples", "tests", "peers"] {
        collect(&root().join(folder), &mut found);
    }
    assert!(found.len() > 20, "the tidy test looks at the wrong folder");
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    for entry in
        fs::read_dir(folder).expect("a folder of the workspace").map(|entry| entry.expect("an entry").path())
    {
        if entry.is_dir() && !entry.ends_with("target") {
            collect(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let path = entry.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
            found.push(Source { text: fs::read_to_string(&entry).expect("a source is UTF-8"), path });
        }
    }
}

/// Test support and generated data may be longer than a reader's head.
fn is_test(path: &str) -> bool {
    path.starts_with("tests/")
        || path.contains("/tests/")
        || path.ends_with("/tests.rs")
        || path.contains("/benches/")
}

fn complain(what: &str, places: &[String]) {
    assert!(places.is_empty(), "{what}:\n  {}", places.join("\n  "));
}

#[test]
fn every_file_opens_with_its_problem() {
    let without: Vec<_> = sources()
        .into_iter()
        .filter(|source| !source.text.starts_with("//!"))
        .map(|source| source.path)
        .collect();
    complain("files without a //! header", &without);
}

#[test]
fn files_and_functions_fit_a_readers_head() {
    let mut long = Vec::new();
    for Source { path, text } in sources() {
        let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(&text);
        let lines = code.lines().count();
        if !is_test(&path) && lines > FILE_LINES_MAX {
            long.push(format!("{path}: {lines} lines"));
        }
        if is_test(&path) {
            continue;
        }
        long.extend(
            long_functions(code)
                .into_iter()
                .map(|(line, length)| format!("{path}:{line}: a function of {length} lines")),
        );
    }
    complain(&format!("files over {FILE_LINES_MAX} or functions over {FUNCTION_LINES_MAX} lines"), &long);
}

fn long_functions(code: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut long = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let is_function = !trimmed.starts_with("//")
            && (trimmed.starts_with("fn ") || trimmed.contains(" fn "))
            && trimmed.contains('(')
            && !trimmed.ends_with(';');
        if !is_function {
            continue;
        }
        let indent = &line[..line.len() - trimmed.len()];
        let close = format!("{indent}}}");
        let length = lines[at..].iter().position(|other| **other == close).map_or(1, |end| end + 1);
        if length > FUNCTION_LINES_MAX {
            long.push((at + 1, length));
        }
    }
    long
}

#[test]
fn the_measure_of_functions_finds_a_long_one() {
    let body = "    let x = 1;\n".repeat(FUNCTION_LINES_MAX);
    assert_eq!(long_functions(&format!("fn long() {{\n{body}}}\n")), [(1, FUNCTION_LINES_MAX + 2)]);
    assert_eq!(long_functions("fn short() {\n}\n"), []);
}

#[test]
fn the_engine_is_pure() {
    let words = [
        "tokio",
        "SystemTime",
        "Instant::now",
        "std::env",
        "tracing",
        "std::fs",
        "std::net",
        "std::thread",
        "static mut",
    ];
    let mut found = Vec::new();
    for Source { path, text } in sources() {
        if !path.starts_with("flagd-core/src/") || is_test(&path) {
            continue;
        }
        let code = text.split("\n#[cfg(test)]").next().unwrap_or(&text);
        for (at, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            found.extend(
                words
                    .iter()
                    .filter(|word| line.contains(**word))
                    .map(|word| format!("{path}:{}: {word}", at + 1)),
            );
        }
    }
    complain("flagd-core must not know these", &found);
}

#[test]
fn only_the_clocks_ask_for_the_time() {
    let found: Vec<_> = sources()
        .into_iter()
        .filter(|source| source.text.contains("SystemTime::now()") && !is_test(&source.path))
        .filter(|source| !source.path.ends_with("/clock.rs") && !source.path.starts_with("examples/"))
        .map(|source| source.path)
        .collect();
    complain("only clock.rs asks the system for the time", &found);
}

/// Layers of the server, bottom first; a file may use its own layer and those before it.
const LAYERS: &[&[&str]] = &[
    &["limits", "clock", "metrics", "shutdown", "telemetry", "http2"],
    &["store"],
    &["hub"],
    &["cluster"],
    &["relay"],
    &["control"],
    &["api"],
    &["serve"],
    &["config", "output"],
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

#[test]
fn inside_the_server_top_uses_bottom_and_never_back() {
    let mut back = Vec::new();
    for Source { path, text } in sources() {
        let Some(inside) = path.strip_prefix("flagd-server/src/") else { continue };
        if inside.starts_with("bin/") || inside == "lib.rs" || inside == "main.rs" || is_test(&path) {
            continue;
        }
        let own = inside.split(['/', '.']).next().unwrap_or_default();
        let Some(own_layer) = layer(own) else {
            back.push(format!("{path}: the module `{own}` has no layer; give it one in tests/suite/tidy.rs"));
            continue;
        };
        let code = text.split("\n#[cfg(test)]").next().unwrap_or(&text);
        for (at, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for used in line
                .split("crate::")
                .skip(1)
                .filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next())
            {
                if layer(used).is_some_and(|used_layer| used_layer > own_layer) {
                    back.push(format!("{path}:{}: `{own}` uses `{used}`", at + 1));
                }
            }
        }
    }
    complain("a lower layer uses a higher one", &back);
}

#[test]
fn crates_use_one_another_downwards() {
    let rules: &[(&str, &[&str])] = &[
        ("flagd-core", &["flagd_proto", "flagd_client", "flagd_server"]),
        ("proto", &["flagd_client", "flagd_server"]),
        ("flagd-client", &["flagd_server"]),
        ("flagd-server", &["flagd_client"]),
    ];
    let mut found = Vec::new();
    for Source { path, text } in sources() {
        for (folder, forbidden) in rules {
            if path.starts_with(&format!("{folder}/src/")) {
                found.extend(
                    forbidden
                        .iter()
                        .filter(|name| text.contains(&format!("{name}::")))
                        .map(|name| format!("{path}: {name}")),
                );
            }
        }
    }
    complain("a crate uses one that stands above or beside it", &found);
}

#[test]
fn no_file_is_forgotten() {
    let all = sources();
    let paths: BTreeSet<&str> = all.iter().map(|source| source.path.as_str()).collect();
    let manifests: String =
        ["flagd-core", "flagd-server", "flagd-client", "proto", "examples", "tests", "peers"]
            .iter()
            .map(|folder| fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest"))
            .collect();
    let mut orphans = Vec::new();
    for path in &paths {
        let file = Path::new(path);
        let name = file.file_stem().expect("a name").to_string_lossy();
        let folder = file.parent().expect("a folder");
        let is_target = ["lib", "main", "build"].contains(&&*name)
            || folder.ends_with("benches")
            || folder.components().count() == 2 && folder.ends_with("tests")
            || manifests.contains(&format!("\"{}\"", path.split_once('/').map_or(*path, |(_, rest)| rest)));
        // `a/b.rs` is declared in `a.rs`, `a/mod.rs`, `a/lib.rs` or `a/main.rs`.
        let parents = [
            format!("{}.rs", folder.display()),
            format!("{}/mod.rs", folder.display()),
            format!("{}/lib.rs", folder.display()),
            format!("{}/main.rs", folder.display()),
        ];
        let declared = all
            .iter()
            .filter(|source| parents.contains(&source.path) || source.text.contains(&format!("{name}.rs\"]")))
            .any(|source| {
                let declaration = format!("mod {name}");
                source.text.lines().any(|line| {
                    line.trim().trim_end_matches(" {").trim_end_matches(';').ends_with(&declaration)
                        || line.contains(&format!("{name}.rs\"]"))
                })
            });
        if !is_target && !declared {
            orphans.push((*path).to_owned());
        }
    }
    complain("files that no `mod` leads to", &orphans);
}

#[test]
fn sources_are_ascii_outside_strings_and_comments() {
    let mut found = Vec::new();
    for Source { path, text } in sources() {
        for (at, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or(line);
            if !code.is_ascii() && !code.contains('"') && !code.contains('\'') {
                found.push(format!("{path}:{}", at + 1));
            }
        }
    }
    complain("characters that an eye cannot tell from ASCII", &found);
}

/// A change of the stream's messages must come with a look at the page that says what they mean: the page carries
/// the hash of the file.
#[test]
fn the_protocol_page_knows_these_messages() {
    let proto =
        fs::read(root().join("proto/proto/flagd/stream/v1/stream.proto")).expect("the stream's messages");
    let page = fs::read_to_string(root().join("docs/protocol.md")).expect("the protocol's page");
    let line = format!("<!-- stream.proto {} -->", flagd_server::store::BlobId::of(&proto));
    assert!(
        page.contains(&line),
        "read docs/protocol.md against stream.proto, mend it, and put this line at its end:\n{line}"
    );
}

#[test]
fn nothing_is_ignored_or_unfinished() {
    let words = ["todo!(", "unimplemented!(", "#[ignore", "dbg!("];
    let mut found = Vec::new();
    for Source { path, text } in sources() {
        if path.ends_with("suite/tidy.rs") {
            continue;
        }
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            found.extend(
                words
                    .iter()
                    .filter(|word| line.contains(**word))
                    .map(|word| format!("{path}:{}: {word}", at + 1)),
            );
        }
    }
    complain("unfinished or muted", &found);
}
