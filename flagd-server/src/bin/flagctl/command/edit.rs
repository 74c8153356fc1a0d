//! `edit`: a definition in somebody's editor and back, without ever losing what they wrote.
//!
//! The text lies in a file of its own until it has been recorded. Whatever goes wrong on the way - the
//! definition is refused, somebody else was faster, no server is there - the file stays and the message names it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use flagd_proto::admin::change_request::Operation;
use flagd_proto::admin::{ErrorCode, Expectation, Put, PutMode};
use flagd_proto::stream::EntryId;

use super::change::{Waiting, finish, put, random_id, request, send_file};
use super::document::fetch;
use super::{Session, section};
use crate::args::EditArgs;
use crate::error::{Exit, Failure};
use crate::file::{self, Definitions};

pub(super) async fn edit(session: &Session, args: &EditArgs) -> Result<Exit, Failure> {
    match &args.key {
        Some(key) => in_editor(session, args, key).await,
        None => from_files(session, args).await,
    }
}

async fn from_files(session: &Session, args: &EditArgs) -> Result<Exit, Failure> {
    let definitions = file::read(&args.files)?;
    match args.expect {
        None => put(session, &definitions, PutMode::Replace, &args.record, &args.wait).await,
        Some(revision) => replace(session, args, &definitions, revision).await,
    }
}

/// Replaces definitions if they still stand at the revision that was seen.
async fn replace(
    session: &Session,
    args: &EditArgs,
    definitions: &Definitions,
    seen: u64,
) -> Result<Exit, Failure> {
    let put = Put { file: definitions.json.clone().into(), mode: PutMode::Replace.into() };
    let mut request = request(session, &args.record, Operation::Put(put))?;
    let keys = definitions.keys().into_iter();
    request.expectations = keys
        .map(|(section, key)| Expectation { id: Some(EntryId { kind: section.kind(), key }), revision: seen })
        .collect();
    let answered = send_file(session, request, definitions).await?;
    finish(session, answered, Waiting::new(&args.wait, &args.record)).await
}

async fn in_editor(session: &Session, args: &EditArgs, key: &str) -> Result<Exit, Failure> {
    let section = section(args.segment);
    let fetched = fetch(session, section, key, 0).await?;
    let seen = fetched.answer.revision;
    let tree = file::one(section, key, &fetched.answer.definition)
        .map_err(|why| Failure::Local(format!("the server's definition cannot be read: {why}")))?;
    let (text, extension) =
        if args.yaml { (tree.to_yaml(), "yaml") } else { (tree.to_pretty_json(), "json") };
    let path = write_draft(key, extension, &text)?;
    let draft = Draft { path: &path, seen };
    run_editor(&path).map_err(|why| draft.kept(session, Failure::Local(why)))?;
    let edited = std::fs::read_to_string(&path)
        .map_err(|error| Failure::Local(format!("cannot read {}: {error}", path.display())))?;
    if edited == text {
        remove(&path);
        session.printer.remark(&format!("{} was not changed", file::name_of(section, key)));
        return Ok(Exit::Fine);
    }
    let name = path.display().to_string();
    let definitions = file::from_text(&name, &edited).map_err(|failure| draft.kept(session, failure))?;
    let exit = match replace(session, args, &definitions, seen).await {
        Ok(exit) => exit,
        // It stands; the draft has done its duty.
        Err(failure @ Failure::Untold { .. }) => {
            remove(&path);
            return Err(failure);
        }
        Err(failure) => return Err(draft.kept(session, failure)),
    };
    if args.record.dry_run {
        session.printer.remark(&format!("what you wrote is in {name}"));
    } else {
        remove(&path);
    }
    Ok(exit)
}

/// What somebody wrote and the revision that it was made from.
struct Draft<'a> {
    path: &'a Path,
    seen: u64,
}

impl Draft<'_> {
    /// The same failure, with where the text is and how to go on.
    fn kept(&self, session: &Session, failure: Failure) -> Failure {
        Failure::Kept {
            how_to_go_on: self.how_to_go_on(&failure, &session.environment_suffix()),
            failure: Box::new(failure),
        }
    }

    fn how_to_go_on(&self, failure: &Failure, suffix: &str) -> String {
        let (path, seen) = (self.path.display(), self.seen);
        let mut text = format!("what you wrote is kept in {path}\n");
        match failure {
            Failure::Refused(detail) if detail.code() == ErrorCode::Conflict => {
                let found =
                    detail.conflicts.iter().map(|conflict| conflict.found_revision).max().unwrap_or(seen);
                text.push_str("  put the other change into it, too, and run\n");
                let _ = write!(text, "  flagctl edit -f {path} --expect {found}{suffix}");
            }
            _ => {
                text.push_str("  mend it and run\n");
                let _ = write!(text, "  flagctl edit -f {path} --expect {seen}{suffix}");
            }
        }
        text
    }
}

/// Nobody else may read or replace the file.
fn write_draft(key: &str, extension: &str, text: &str) -> Result<PathBuf, Failure> {
    let id = random_id()?;
    let path = std::env::temp_dir().join(format!("flagctl-{key}-{}.{extension}", id.get(..8).unwrap_or(&id)));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Failure::Local(format!("cannot write {}: {error}", path.display())))?;
    Ok(path)
}

fn remove(path: &Path) {
    // A draft that stays behind is litter, not a failure.
    let _ = std::fs::remove_file(path);
}

fn run_editor(path: &Path) -> Result<(), String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let editor = variable("VISUAL").or_else(|| variable("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi");
    match Command::new(program).args(words).arg(path).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("the editor `{editor}` ended with {status}; nothing was changed")),
        Err(error) => Err(format!("cannot start the editor `{editor}`: {error}; set VISUAL or EDITOR")),
    }
}

#[cfg(test)]
mod tests {
    use flagd_proto::admin::{Conflict, ErrorDetail};

    use super::*;

    #[test]
    fn a_conflict_says_from_where_to_go_on() {
        let draft = Draft { path: Path::new("draft.json"), seen: 41 };
        let detail = ErrorDetail {
            code: ErrorCode::Conflict.into(),
            conflicts: vec![Conflict { found_revision: 57, ..Conflict::default() }],
            ..ErrorDetail::default()
        };
        let conflict = draft.how_to_go_on(&Failure::Refused(Box::new(detail)), " --environment staging");
        assert!(
            conflict.ends_with("flagctl edit -f draft.json --expect 57 --environment staging"),
            "{conflict}"
        );
        let wrong = draft.how_to_go_on(&Failure::Problems(vec![]), "");
        assert!(wrong.contains("draft.json") && wrong.ends_with("--expect 41"), "{wrong}");
    }
}
