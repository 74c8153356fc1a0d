//! Definitions and contexts to time `flagctl evaluate -f` with: twenty flags of the six sorts, and 200,000 contexts.
//!
//! `cargo run -p flagd-tests --example batch_input -- FOLDER` writes `flags.json` and `contexts.jsonl`. The same bytes on
//! every run.

#![expect(clippy::indexing_slicing, reason = "a program for people at a terminal: an index is a remainder")]

use std::fmt::Write as _;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

const FLAGS: usize = 20;
const CONTEXTS: u32 = 200_000;
const COUNTRIES: [&str; 10] = ["DE", "AT", "CH", "US", "GB", "FR", "IT", "ES", "PL", "NL"];

/// A flag of one of six sorts: plain, rollout, four-way split, a set, ten rules, segment and version.
fn flag(sort: usize) -> String {
    match sort % 6 {
        0 => r#"{"otherwise": "on"}"#.to_owned(),
        1 => r#"{"rollout": 25}"#.to_owned(),
        2 => r#"{"variants": {"a": "A", "b": "B", "c": "C", "d": "D"}, "offVariant": "a",
                 "otherwise": {"split": {"a": 25, "b": 25, "c": 25, "d": 25}}}"#
            .to_owned(),
        3 => r#"{"rules": [{"name": "dach", "if": {"attribute": "country", "in": ["DE", "AT", "CH"]},
                 "serve": {"split": {"on": 50, "off": 50}}}]}"#
            .to_owned(),
        4 => {
            let rules: Vec<String> = COUNTRIES
                .iter()
                .enumerate()
                .map(|(n, country)| {
                    format!(
                        r#"{{"name": "r{n}", "if": {{"all": [{{"attribute": "country", "equals": "{country}"}},
                            {{"attribute": "age", "atLeast": {}}}]}}, "serve": "on"}}"#,
                        18 + n
                    )
                })
                .collect();
            format!(r#"{{"rules": [{}]}}"#, rules.join(", "))
        }
        _ => r#"{"rules": [{"name": "staff", "if": {"segment": "staff"}, "serve": "on"},
                 {"name": "new", "if": {"attribute": "version", "semver": ">=2.3, <4"},
                  "serve": {"split": {"on": 10, "off": 90}}}]}"#
            .to_owned(),
    }
}

fn definitions() -> String {
    let flags: Vec<String> = (0..FLAGS).map(|n| format!(r#""flag-{n:02}": {}"#, flag(n))).collect();
    let units: Vec<String> = (0..2_000).step_by(7).map(|n| format!("\"user-{n}\"")).collect();
    format!(
        r#"{{"flags": {{{}}}, "segments": {{"staff": {{"include": [{}],
            "if": {{"attribute": "email", "endsWith": "@example.com"}}}}}}}}"#,
        flags.join(",\n"),
        units.join(", ")
    )
}

fn main() -> io::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    std::fs::write(Path::new(&folder).join("flags.json"), definitions())?;
    let mut out = BufWriter::new(std::fs::File::create(Path::new(&folder).join("contexts.jsonl"))?);
    let mut chance = 1_u64;
    let mut below = |end: u64| {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (chance >> 33) % end
    };
    let mut line = String::new();
    for n in 0..CONTEXTS {
        line.clear();
        let country = COUNTRIES[usize::try_from(below(10)).unwrap_or_default()];
        // Writing to a String does not fail.
        let _ = writeln!(
            line,
            r#"{{"targetingKey": "user-{}", "country": "{country}", "age": {}, "version": "{}.{}.{}", "email": "u{n}@mail.org"}}"#,
            below(1_000_000),
            below(90),
            below(5),
            below(10),
            below(10),
        );
        out.write_all(line.as_bytes())?;
    }
    out.flush()
}
