//! From files on disk to the one file of definitions that a server takes.
//!
//! A team keeps one file per flag, or one for everything, in JSON or YAML 1.2. Several files become one here;
//! a key that stands in two of them is an error that names both, because whichever won would be wrong for
//! somebody. Texts are taken apart only as far as that needs: numbers and order stay as they were written.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use flagd_core::definition::position_of;
use flagd_core::limits::FILE_MAX_BYTES;
use flagd_core::problem::Problem;

use crate::error::{Failure, FileProblem};

mod tree;
mod yaml;

pub(crate) use tree::Tree;

/// One file that was read, as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// Its name for people: the path, or `standard input`.
    pub name: String,
    /// JSON; of a YAML file each value lies at the line where it was written.
    pub json: String,
}

/// What the files say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Definitions {
    /// The files, in the order in which they were named; those of a folder by name.
    pub sources: Vec<Source>,
    /// One file `{"flags": ..., "segments": ...}`.
    pub json: String,
    /// The number of the source of each `flags.KEY` and `segments.KEY`; empty for a single file.
    origins: BTreeMap<String, usize>,
}

/// Reads files, folders and `-`, and makes one file of them.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Definitions, Failure> {
    let mut sources = Vec::new();
    for path in expand(paths)? {
        sources.push(read_one(&path)?);
    }
    merge(sources)
}

/// Folders become the files in them, at any depth, in the order of their names.
fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        collect(path, &mut files)?;
        if files.len() == before {
            let place = path.display();
            return Err(Failure::Local(format!(
                "there is no .json, .yaml or .yml file in the folder {place}"
            )));
        }
    }
    Ok(files)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| {
        Failure::Local(format!("cannot read the folder {}: {error}", folder.display()))
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(cannot)? {
        names.push(entry.map_err(cannot)?.path());
    }
    names.sort();
    for path in names {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else if format_by_name(&path).is_some() {
            files.push(path);
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileFormat {
    Json,
    Yaml,
}

fn format_by_name(path: &Path) -> Option<FileFormat> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "json" => Some(FileFormat::Json),
        "yaml" | "yml" => Some(FileFormat::Yaml),
        _ => None,
    }
}

/// A text whose name says nothing: definitions in JSON begin with a brace.
fn format_by_look(text: &str) -> FileFormat {
    if text.trim_start().starts_with('{') { FileFormat::Json } else { FileFormat::Yaml }
}

fn read_one(path: &Path) -> Result<Source, Failure> {
    let is_standard_input = path.as_os_str() == "-";
    let name = if is_standard_input { "standard input".to_owned() } else { path.display().to_string() };
    let cannot = |error: std::io::Error| Failure::Local(format!("cannot read {name}: {error}"));
    let limit = u64::try_from(FILE_MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    if is_standard_input {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(cannot)?;
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(limit).read_to_end(&mut bytes))
            .map_err(cannot)?;
    }
    if bytes.len() > FILE_MAX_BYTES {
        return Err(Failure::Local(format!("{name} is larger than the limit of {FILE_MAX_BYTES} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::Local(format!("{name} is no UTF-8 text: byte {at} begins no character"))
    })?;
    source(&name, &text, format_by_name(path))
}

/// One text as a source; its format is guessed when the name does not tell.
fn source(name: &str, text: &str, format: Option<FileFormat>) -> Result<Source, Failure> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let json = match format.unwrap_or_else(|| format_by_look(text)) {
        FileFormat::Json => text.to_owned(),
        FileFormat::Yaml => yaml::to_json(text)
            .map_err(|problem| Failure::Problems(vec![FileProblem { file: name.to_owned(), problem }]))?,
    };
    Ok(Source { name: name.to_owned(), json })
}

/// A text that was made or edited here, as if it had been read from a file of this name.
pub(crate) fn from_text(name: &str, text: &str) -> Result<Definitions, Failure> {
    merge(vec![source(name, text, format_by_name(Path::new(name)))?])
}

/// A single file goes to the server as it is; several are put together by key.
fn merge(sources: Vec<Source>) -> Result<Definitions, Failure> {
    if let [only] = sources.as_slice() {
        return Ok(Definitions { json: only.json.clone(), sources, origins: BTreeMap::new() });
    }
    let mut together = Together::default();
    for (number, source) in sources.iter().enumerate() {
        together.add(number, &source.json);
    }
    let name = |number: usize| sources.get(number).map_or_else(String::new, |source| source.name.clone());
    let Together { flags, segments, origins, wrong, twice } = together;
    let mut problems: Vec<FileProblem> =
        wrong.into_iter().map(|(number, problem)| FileProblem { file: name(number), problem }).collect();
    for Twice { path, first, second } in twice {
        let where_else =
            if first == second { "twice in this file".into() } else { format!("also in {}", name(first)) };
        let message = format!("the key stands {where_else}; each key may stand in one place only");
        problems.push(FileProblem { file: name(second), problem: Problem::new(path, message) });
    }
    if !problems.is_empty() {
        return Err(Failure::Problems(problems));
    }
    let json = format!("{{\"flags\":{},\"segments\":{}}}", object(&flags), object(&segments));
    Ok(Definitions { sources, json, origins })
}

fn object(members: &BTreeMap<String, String>) -> String {
    let members: Vec<String> = members
        .iter()
        .map(|(key, json)| format!("{}:{json}", serde_json::Value::from(key.as_str())))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// Several files on their way to one.
#[derive(Default)]
struct Together {
    flags: BTreeMap<String, String>,
    segments: BTreeMap<String, String>,
    /// By `flags.KEY` or `segments.KEY`, the number of the source.
    origins: BTreeMap<String, usize>,
    /// What is wrong, with the number of the source.
    wrong: Vec<(usize, Problem)>,
    twice: Vec<Twice>,
}

/// A key that stands in two places.
struct Twice {
    path: String,
    first: usize,
    second: usize,
}

impl Together {
    fn add(&mut self, number: usize, json: &str) {
        let sections = match Tree::parse(json) {
            Ok(Tree::Object(sections)) => sections,
            Ok(_) => {
                return self.wrong(
                    number,
                    "",
                    "a file of definitions is an object with `flags` and `segments`".into(),
                );
            }
            Err(why) => return self.wrong(number, "", why),
        };
        for (name, content) in sections {
            match (name.as_str(), content) {
                ("flags", Tree::Object(members)) => self.members(number, Section::Flags, members),
                ("segments", Tree::Object(members)) => self.members(number, Section::Segments, members),
                ("flags" | "segments", _) => {
                    self.wrong(number, &name, "must be an object of definitions by key".into());
                }
                // For editors only; it says nothing about flags.
                ("$schema", _) => {}
                _ => self.wrong(
                    number,
                    &name,
                    "a file of definitions holds only `flags` and `segments`".into(),
                ),
            }
        }
    }

    fn members(&mut self, number: usize, section: Section, members: Vec<(String, Tree)>) {
        for (key, definition) in members {
            let path = format!("{}.{key}", section.word());
            if let Some(first) = self.origins.insert(path.clone(), number) {
                self.twice.push(Twice { path, first, second: number });
                continue;
            }
            let part = match section {
                Section::Flags => &mut self.flags,
                Section::Segments => &mut self.segments,
            };
            part.insert(key, definition.to_json());
        }
    }

    fn wrong(&mut self, number: usize, path: &str, message: String) {
        self.wrong.push((number, Problem::new(path, message)));
    }
}

impl Definitions {
    /// A server's problem, told with the file that it is in. Of several files the server saw only the sum, so
    /// its lines mean nothing there.
    pub(crate) fn locate(&self, mut problem: Problem) -> FileProblem {
        if let [only] = self.sources.as_slice() {
            return FileProblem { file: only.name.clone(), problem };
        }
        problem.position = None;
        let number = self.origins.iter().find(|(path, _)| {
            let rest = problem.path.strip_prefix(path.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        });
        let source = number.and_then(|(_, number)| self.sources.get(*number));
        FileProblem { file: source.map_or_else(String::new, |source| source.name.clone()), problem }
    }

    /// A problem that was found here, told with its file and its place in it.
    pub(crate) fn place(&self, problem: Problem) -> FileProblem {
        let mut found = self.locate(problem);
        let source = self.sources.iter().find(|source| source.name == found.file);
        found.problem.position = source.and_then(|source| position_of(&source.json, &found.problem.path));
        found
    }

    /// The keys of the flags and of the segments.
    pub(crate) fn keys(&self) -> Vec<(Section, String)> {
        let Ok(Tree::Object(sections)) = Tree::parse(&self.json) else { return Vec::new() };
        let mut keys = Vec::new();
        for (section, content) in sections {
            let section = match section.as_str() {
                "flags" => Section::Flags,
                "segments" => Section::Segments,
                _ => continue,
            };
            if let Tree::Object(members) = content {
                keys.extend(members.into_iter().map(|(key, _)| (section, key)));
            }
        }
        keys
    }
}

/// A part of a file of definitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    /// `flags`.
    Flags,
    /// `segments`.
    Segments,
}

impl Section {
    /// The member's name.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Section::Flags => "flags",
            Section::Segments => "segments",
        }
    }

    /// The number of its entries' kind on the wire.
    pub(crate) fn kind(self) -> u32 {
        match self {
            Section::Flags => flagd_core::entry::EntryKind::FLAG.number(),
            Section::Segments => flagd_core::entry::EntryKind::SEGMENT.number(),
        }
    }
}

/// `flag new-checkout`, for people.
pub(crate) fn name_of(section: Section, key: &str) -> String {
    match section {
        Section::Flags => format!("flag {key}"),
        Section::Segments => format!("segment {key}"),
    }
}

/// A file with one definition.
pub(crate) fn one(section: Section, key: &str, definition: &str) -> Result<Tree, String> {
    let definition = Tree::parse(definition)?;
    let members = Tree::Object(vec![(key.to_owned(), definition)]);
    Ok(Tree::Object(vec![(section.word().to_owned(), members)]))
}

#[cfg(test)]
mod tests;
