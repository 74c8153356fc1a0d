//! The shared cases, run by every surface: the engine, the client over the stream, and evaluation by the server.
//!
//! A surface that answers differently is wrong, whichever it is: `docs/evaluation.md` decides.

use std::fs;
use std::path::Path;

use flagd_core::context::Context;
use flagd_core::definition::FlagType;
use flagd_core::edit::{self, Author, Edit, PutMode};
use flagd_core::entry::{EntryId, EntryKind, EntryWrite};
use flagd_core::key::{EnvironmentName, FlagKey};
use flagd_core::revision::Epoch;
use flagd_core::snapshot::Snapshot;
use flagd_core::state::State;
use flagd_core::time::Timestamp;
use flagd_proto::admin::EvaluateRequest;
use flagd_tests::{World, forge};
use serde_json::Value;
use serde_json::value::RawValue;

/// One environment and what is asked of it; `tests/conformance/make.py` describes the members.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "about")]
    _about: String,
    /// As it is written in the file: 1, 1.0 and 1e0 are not the same to a reader.
    definitions: Box<RawValue>,
    #[serde(default)]
    archive: Vec<String>,
    #[serde(default)]
    kill: Vec<String>,
    #[serde(default)]
    forge: Vec<Forged>,
    cases: Vec<Case>,
}

/// An entry that no server would write.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Forged {
    kind: u32,
    key: String,
    text: String,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    flag: String,
    /// As it is written in the file.
    context: Box<RawValue>,
    value: Value,
    variant: Option<String>,
    reason: String,
    /// The time at which it is asked; without it, any time in these centuries.
    now: Option<String>,
}

/// What a surface says: value, variant, reason.
type Answer = (Value, Option<String>, String);

impl Case {
    fn answer(&self) -> Answer {
        (self.value.clone(), self.variant.clone(), self.reason.clone())
    }

    fn context(&self) -> Context {
        let value: Value = serde_json::from_str(self.context.get()).expect("a context is JSON");
        Context::from_json(&value).expect("a context")
    }

    fn now(&self) -> Timestamp {
        self.now.as_deref().map_or(NOW, |text| Timestamp::parse(text).expect("a moment"))
    }
}

fn files() -> Vec<(String, File)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
    let mut found: Vec<_> = fs::read_dir(folder)
        .expect("the cases")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a file");
            let file: File =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path.file_stem().expect("a name").to_string_lossy().into_owned(), file)
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(found.iter().map(|(_, file)| file.cases.len()).sum::<usize>() > 1_900, "the cases are gone");
    found
}

/// A moment between 2001 and 2999, where the cases expect now to be.
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn snapshot(file: &File) -> Snapshot {
    let mut state = State::empty(EnvironmentName::new("default").expect("a name"), Epoch::default());
    let author = Author { actor: "cases".into(), reason: None, now: NOW };
    let keys = |names: &[String]| names.iter().map(|name| FlagKey::new(name).expect("a key")).collect();
    let mut edits = vec![Edit::Put { file: file.definitions.get().to_owned(), mode: PutMode::Create }];
    edits.extend(file.archive.iter().map(|name| Edit::Archive(FlagKey::new(name).expect("a key"))));
    if !file.kill.is_empty() {
        edits.push(Edit::Kill(keys(&file.kill)));
    }
    for edit in edits {
        let plan = edit::plan(&state, &edit, &author).unwrap_or_else(|error| panic!("{error}: {error:?}"));
        let delta = state.delta(plan.writes);
        state.apply(&delta).expect("a delta of this state");
    }
    let writes = file.forge.iter().map(|entry| EntryWrite::set(entry.id(), entry.text.as_bytes())).collect();
    let delta = state.delta(writes);
    state.apply(&delta).expect("a delta of this state");
    Snapshot::build(&state, &std::collections::BTreeMap::new())
}

impl Forged {
    fn id(&self) -> EntryId {
        EntryId::new(EntryKind::from_number(self.kind), &self.key)
    }
}

/// A server whose environment is what a file says.
async fn world(file: &File) -> World {
    let mut world = World::start().await;
    world.create(file.definitions.get()).await;
    for flag in &file.archive {
        world.flagctl(["archive", flag]).await.succeeds().done();
    }
    if !file.kill.is_empty() {
        let flags = file.kill.iter().map(String::as_str);
        world.flagctl(["kill", "--no-wait"].into_iter().chain(flags)).await.succeeds().done();
    }
    if !file.forge.is_empty() {
        world.stop_server().await;
        let entries: Vec<_> =
            file.forge.iter().map(|entry| (entry.id(), Some(entry.text.as_str()))).collect();
        forge(&world.store(), &entries).await;
        world.start_server().await;
    }
    world
}

#[test]
fn the_engine_answers_as_the_cases_say() {
    for (name, file) in files() {
        let snapshot = snapshot(&file);
        for (at, case) in file.cases.iter().enumerate() {
            let context = case.context();
            let answer = snapshot.evaluate(&case.flag, &context, case.now());
            let got: Answer = (
                answer.value.cloned().unwrap_or_default(),
                answer.variant.map(str::to_owned),
                answer.reason.to_string(),
            );
            assert_eq!(got, case.answer(), "{name}[{at}] {} {}", case.flag, case.context);
            let explained = snapshot.explain(&case.flag, &context, case.now());
            assert_eq!(explained.reason, case.reason, "{name}[{at}]: explain differs from evaluate");
        }
    }
}

#[tokio::test]
async fn the_client_answers_as_the_cases_say() {
    let (mut asked, mut skipped) = (0, 0);
    for (name, file) in files() {
        let world = world(&file).await;
        let client = world.connected_client("cases").await;
        for (at, case) in file.cases.iter().enumerate() {
            // A client asks its clock.
            if case.now.is_some() {
                skipped += 1;
                continue;
            }
            asked += 1;
            let context = case.context();
            let got = ask(&client, &case.flag, &case.value, &context);
            assert_eq!(got, case.answer(), "{name}[{at}] {} {}", case.flag, case.context);
        }
    }
    assert!(skipped * 20 < asked, "{skipped} cases state a time and only {asked} do not");
}

/// Asks with the getter of the expected value's type, with a default that no case expects.
fn ask(client: &flagd_client::Client, flag: &str, expected: &Value, context: &Context) -> Answer {
    match FlagType::of(expected) {
        Some(FlagType::Boolean) => {
            let answer = client.bool_detail(flag, context, expected != &Value::Bool(true));
            (answer.value.into(), answer.variant.clone(), answer.reason.to_string())
        }
        Some(FlagType::String) => {
            let answer = client.string_detail(flag, context, "a default");
            (answer.value.clone().into(), answer.variant.clone(), answer.reason.to_string())
        }
        Some(FlagType::Number) if expected.is_i64() => {
            let answer = client.integer_detail(flag, context, -1);
            (answer.value.into(), answer.variant.clone(), answer.reason.to_string())
        }
        Some(FlagType::Number) => {
            let answer = client.number_detail(flag, context, -1.0);
            (answer.value.into(), answer.variant.clone(), answer.reason.to_string())
        }
        _ => {
            let answer = client.json_detail(flag, context, Value::Null);
            (answer.value.clone(), answer.variant.clone(), answer.reason.to_string())
        }
    }
}

#[tokio::test]
async fn the_server_answers_as_the_cases_say() {
    for (name, file) in files() {
        let world = world(&file).await;
        let mut admin = world.admin().await;
        for (at, case) in file.cases.iter().enumerate() {
            let request = EvaluateRequest {
                environment: "default".into(),
                flag: case.flag.clone(),
                context: case.context.get().to_owned().into(),
                now_ms: u64::try_from(case.now().as_millis()).expect("a time after 1970"),
                ..EvaluateRequest::default()
            };
            let answers = admin.evaluate(request).await.expect("an answer").into_inner().answers;
            let answer = answers.first().expect("one answer");
            let value: Value =
                answer.value.as_deref().map_or(Value::Null, |text| serde_json::from_str(text).expect("JSON"));
            let got: Answer = (value, answer.variant.clone(), answer.reason.clone());
            assert_eq!(got, case.answer(), "{name}[{at}] {} {}", case.flag, case.context);
        }
    }
}
