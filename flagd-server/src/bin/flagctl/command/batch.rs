//! `evaluate -f`: many contexts against definitions in files, without any server.
//!
//! A team runs it in its own CI over the contexts that it cares about, so the answers come from the same engine, one
//! JSON line for each context and flag, in the order of the input, and a million lines take seconds: buffers are
//! used again for every line, and nothing is kept.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, Write};

use flagd_core::context::Context;
use flagd_core::edit::{self, Author, Edit, PutMode};
use flagd_core::key::EnvironmentName;
use flagd_core::problem::nearest;
use flagd_core::revision::Epoch;
use flagd_core::snapshot::{Explanation, Snapshot, Step};
use flagd_core::state::State;
use flagd_core::time::Timestamp;
use serde_json::Value;

use super::offline::check_files;
use super::read;
use crate::args::EvaluateArgs;
use crate::error::{Exit, Failure};
use crate::file;
use crate::output;

/// One answer, as a line.
#[derive(serde::Serialize)]
struct Line<'a> {
    flag: &'a str,
    value: Option<&'a Value>,
    variant: Option<&'a str>,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<&'a [Step]>,
}

/// What every line is evaluated with.
struct Batch {
    snapshot: Snapshot,
    keys: Vec<String>,
    now: Timestamp,
    explain: bool,
    /// Used again for every reason.
    reason: String,
}

/// Evaluates the context that was typed, else each line of standard input.
pub(super) fn evaluate(args: &EvaluateArgs) -> Result<Exit, Failure> {
    let now =
        Timestamp::from_millis(i64::try_from(read::moment_or_now(args.context.now)?).unwrap_or(i64::MAX));
    let snapshot = snapshot(&args.files, now)?;
    let keys = keys(&snapshot, args.flag.as_deref().or(args.flag_option.as_deref()))?;
    let mut batch = Batch { snapshot, keys, now, explain: args.explain, reason: String::new() };
    let typed =
        args.context.context.is_some() || args.context.key.is_some() || !args.context.attribute.is_empty();
    let mut failure = None;
    output::lines(|out| {
        if typed {
            let context = read::context(&args.context).and_then(|json| Context::from_json(&json));
            return match context {
                Ok(context) => batch.answer(&context, out),
                Err(why) => {
                    failure = Some(Failure::Usage(why));
                    Ok(())
                }
            };
        }
        failure = batch.all(&mut std::io::stdin().lock(), out)?;
        Ok(())
    })?;
    failure.map_or(Ok(Exit::Fine), Err)
}

impl Batch {
    /// Answers line by line; what is wrong with a line ends it, after the answers before.
    fn all(&mut self, input: &mut dyn BufRead, out: &mut dyn Write) -> std::io::Result<Option<Failure>> {
        let mut line = Vec::with_capacity(4096);
        let mut number = 0_u64;
        loop {
            line.clear();
            match input.read_until(b'\n', &mut line) {
                Ok(0) => return Ok(None),
                Ok(_) => number += 1,
                Err(error) => {
                    return Ok(Some(Failure::Local(format!("cannot read standard input: {error}"))));
                }
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let context = serde_json::from_slice::<Value>(&line).map_err(|error| error.to_string());
            match context.and_then(|json| Context::from_json(&json)) {
                Ok(context) => self.answer(&context, out)?,
                Err(why) => {
                    let message = format!("line {number} of standard input is no context: {why}");
                    return Ok(Some(Failure::Local(message)));
                }
            }
        }
    }

    fn answer(&mut self, context: &Context, out: &mut dyn Write) -> std::io::Result<()> {
        for key in &self.keys {
            let answer = self.snapshot.evaluate(key, context, self.now);
            let explanation = self.explain.then(|| self.snapshot.explain(key, context, self.now));
            self.reason.clear();
            // Writing to a String does not fail.
            let _ = write!(self.reason, "{}", answer.reason);
            let line = Line {
                flag: key,
                value: answer.value,
                variant: answer.variant,
                reason: &self.reason,
                steps: explanation.as_ref().map(|Explanation { steps, .. }| steps.as_slice()),
            };
            serde_json::to_writer(&mut *out, &line)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }
}

/// The files as an environment of their own.
fn snapshot(paths: &[std::path::PathBuf], now: Timestamp) -> Result<Snapshot, Failure> {
    let files = file::read(paths)?;
    let checked = check_files(&files, false);
    if !checked.problems.is_empty() {
        return Err(Failure::Problems(checked.problems));
    }
    let cannot = |why: String| Failure::Local(format!("the definitions cannot be put in use: {why}"));
    let environment = EnvironmentName::new("default").map_err(|error| cannot(error.to_string()))?;
    let mut state = State::empty(environment, Epoch::default());
    let author = Author { actor: "flagctl".into(), reason: None, now };
    let put = Edit::Put { file: files.json, mode: PutMode::Create };
    let plan = edit::plan(&state, &put, &author).map_err(|error| cannot(error.to_string()))?;
    let delta = state.delta(plan.writes);
    state.apply(&delta).map_err(|error| cannot(error.to_string()))?;
    Ok(Snapshot::build(&state, &BTreeMap::new()))
}

/// The flag that was asked for, else all in the order of their keys.
fn keys(snapshot: &Snapshot, asked: Option<&str>) -> Result<Vec<String>, Failure> {
    let mut known = snapshot.flag_keys();
    known.sort_unstable();
    match asked {
        None => Ok(known.into_iter().map(str::to_owned).collect()),
        Some(key) if known.binary_search(&key).is_ok() => Ok(vec![key.to_owned()]),
        Some(key) => {
            let hint =
                nearest(key, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            Err(Failure::Local(format!("there is no flag `{key}` in these files{hint}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(definitions: &str, explain: bool, input: &str) -> (Vec<String>, Option<String>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flags.json");
        std::fs::write(&path, definitions).unwrap();
        let snapshot = snapshot(&[path], Timestamp::from_millis(0)).unwrap();
        let keys = keys(&snapshot, None).unwrap();
        let mut batch =
            Batch { snapshot, keys, now: Timestamp::from_millis(0), explain, reason: String::new() };
        let mut out = Vec::new();
        let failure = batch.all(&mut input.as_bytes(), &mut out).unwrap();
        let lines = String::from_utf8(out).unwrap().lines().map(str::to_owned).collect();
        (lines, failure.map(|failure| format!("{failure:?}")))
    }

    const FLAGS: &str = r#"{"flags": {
        "b": {"rules": [{"name": "de", "if": {"attribute": "country", "equals": "DE"}, "serve": "on"}]},
        "a": {"variants": {"x": {"n": 1.5}, "y": []}, "offVariant": "y", "otherwise": {"split": {"x": 50, "y": 50}}}
    }}"#;

    #[test]
    fn there_is_a_line_for_each_context_and_flag() {
        let (lines, failure) = lines(FLAGS, false, "{\"country\": \"DE\"}\n\n{}");
        assert_eq!(
            lines,
            [
                r#"{"flag":"a","value":[],"variant":"y","reason":"NoUnit"}"#,
                r#"{"flag":"b","value":true,"variant":"on","reason":"Rule(de)"}"#,
                r#"{"flag":"a","value":[],"variant":"y","reason":"NoUnit"}"#,
                r#"{"flag":"b","value":false,"variant":"off","reason":"Otherwise"}"#,
            ]
        );
        assert_eq!(failure, None);
    }

    #[test]
    fn a_line_that_is_no_context_is_named_after_the_answers_before_it() {
        let (lines, failure) = lines(FLAGS, false, "{}\n[]\n{}\n");
        assert_eq!(lines.len(), 2);
        assert!(failure.is_some_and(|why| why.contains("line 2 of standard input")));
    }

    #[test]
    fn steps_are_told_when_asked_for() {
        let (lines, _) = lines(FLAGS, true, "{}\n");
        assert!(lines.iter().all(|line| line.contains("\"steps\":[{")), "{lines:?}");
    }
}
