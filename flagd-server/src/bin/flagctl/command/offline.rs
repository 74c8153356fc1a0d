//! The verbs that need no server: `check`, `schema`, `completions`.

use std::collections::BTreeMap;

use clap::CommandFactory as _;
use flagd_core::check::{Definitions, check_references, file_warnings};
use flagd_core::definition::{FlagDefinition, ParsedFile, SegmentDefinition, parse_file};
use flagd_core::key::{FlagKey, SegmentKey};

use crate::args::{CheckArgs, Cli, CompletionsArgs};
use crate::error::{Exit, Failure, FileProblem};
use crate::file::{self, Definitions as Files};
use crate::output::{self, Answer, Checked, Printer};

pub(super) fn schema() -> Result<Exit, Failure> {
    output::text(&format!("{:#}\n", flagd_core::definition::schema()))?;
    Ok(Exit::Fine)
}

pub(super) fn completions(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "flagctl", &mut script);
    output::text(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Fine)
}

pub(super) fn check(printer: &Printer, args: &CheckArgs) -> Result<Exit, Failure> {
    let files = file::read(&args.files)?;
    let checked = check_files(&files, args.partial);
    let exit = if checked.problems.is_empty() { Exit::Fine } else { Exit::Refused };
    printer.offline_answer(&Answer::Checked(checked))?;
    Ok(exit)
}

/// Everything that the files hold together.
struct Together(ParsedFile);

impl Definitions for Together {
    fn flag(&self, key: &FlagKey) -> Option<&FlagDefinition> {
        self.0.flags.get(key)
    }

    fn segment(&self, key: &SegmentKey) -> Option<&SegmentDefinition> {
        self.0.segments.get(key)
    }

    fn flag_keys(&self) -> Vec<&str> {
        self.0.flags.keys().map(FlagKey::as_str).collect()
    }

    fn segment_keys(&self) -> Vec<&str> {
        self.0.segments.keys().map(SegmentKey::as_str).collect()
    }
}

/// References are followed only when the files are the whole and each of them can be read.
pub(super) fn check_files(files: &Files, partial: bool) -> Checked {
    let mut checked = Checked { files: files.sources.len(), ..Checked::default() };
    let mut together = ParsedFile::default();
    for source in &files.sources {
        match parse_file(&source.json) {
            Ok(parsed) => {
                together.flags.extend(parsed.flags);
                together.segments.extend(parsed.segments);
            }
            Err(problems) => checked.problems.extend(
                problems.into_iter().map(|problem| FileProblem { file: source.name.clone(), problem }),
            ),
        }
    }
    checked.flags = together.flags.len();
    checked.segments = together.segments.len();
    checked.warnings = file_warnings(&together).into_iter().map(|problem| files.place(problem)).collect();
    if checked.problems.is_empty() && !partial {
        let together = Together(together);
        let flags: BTreeMap<_, _> = together.0.flags.iter().collect();
        let segments: BTreeMap<_, _> = together.0.segments.iter().collect();
        let problems = check_references(&flags, &segments, &together);
        checked.problems = problems.into_iter().map(|problem| files.place(problem)).collect();
        checked.hint = (!checked.problems.is_empty()).then_some(
            "if the files are only a part of the environment, `--partial` does not follow references",
        );
    }
    checked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(text: &str, partial: bool) -> (Vec<String>, Vec<String>) {
        let checked = check_files(&file::from_text("a.yaml", text).unwrap(), partial);
        let lines =
            |list: &[FileProblem]| list.iter().map(|one| format!("{}:{}", one.file, one.problem)).collect();
        (lines(&checked.problems), lines(&checked.warnings))
    }

    #[test]
    fn problems_are_told_at_their_lines_in_yaml() {
        let (problems, _) = check_text("flags:\n  a:\n    rollout: 25\n    rulez: []\n", false);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("a.yaml:4:5: flags.a"), "{problems:?}");
    }

    #[test]
    fn references_are_followed_unless_the_file_is_a_part() {
        let text = "flags:\n  a: {requires: [{flag: b, serves: [on]}]}\n";
        assert_eq!(check_text(text, false).0.len(), 1);
        assert_eq!(check_text(text, true).0, Vec::<String>::new());
    }

    #[test]
    fn problems_between_definitions_and_warnings_have_lines_too() {
        let text = "flags:\n  a:\n    otherwise:\n      split: {on: 50, off: 50}\n      by: compnay\n  b:\n    requires:\n      - {flag: c, serves: [on]}\n";
        let (problems, warnings) = check_text(text, false);
        assert!(problems[0].starts_with("a.yaml:8:10: flags.b.requires[0].flag: "), "{problems:?}");
        assert!(warnings[0].starts_with("a.yaml:5:7: flags.a.otherwise.by: nothing else"), "{warnings:?}");
    }

    #[test]
    fn a_sound_file_is_fine() {
        let text = "flags:\n  a: {rollout: 25}\n  b: {requires: [{flag: a, serves: [on]}]}\n";
        assert_eq!(check_text(text, false), (vec![], vec![]));
    }
}
