//! The shared cases, run by every surface: the engine, the client over the stream, and evaluation by the server.
//!
//! A surface that answers differently is wrong, whichever it is: `docs/evaluation.md` decides.

use std::fs;
use std::path::Path;

use flagd_core::context::Context;
use flagd_core::definition::FlagType;
use flagd_core::edit::{self, Author, Edit, PutMode};
use flagd_core::key::EnvironmentName;
use flagd_core::revision::Epoch;
use flagd_core::snapshot::Snapshot;
use flagd_core::state::State;
use flagd_core::time::Timestamp;
use flagd_proto::admin::EvaluateRequest;
use flagd_tests::World;
use serde_json::Value;

#[derive(serde::Deserialize)]
struct File {
    definitions: Value,
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    flag: String,
    context: Value,
    value: Value,
    variant: Option<String>,
    reason: String,
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
    assert!(found.iter().map(|(_, file)| file.cases.len()).sum::<usize>() > 150, "the cases are gone");
    found
}

/// A moment between 2001 and 2999, where the cases expect now to be.
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn snapshot(definitions: &Value) -> Snapshot {
    let mut state = State::empty(EnvironmentName::new("default").expect("a name"), Epoch::default());
    let author = Author { actor: "cases".into(), reason: None, now: NOW };
    let put = Edit::Put { file: definitions.to_string(), mode: PutMode::Create };
    let plan = edit::plan(&state, &put, &author).unwrap_or_else(|error| panic!("{error}: {error:?}"));
    let delta = state.delta(plan.writes);
    state.apply(&delta).expect("a delta of this state");
    Snapshot::build(&state, &std::collections::BTreeMap::new())
}

#[test]
fn the_engine_answers_as_the_cases_say() {
    for (name, file) in files() {
        let snapshot = snapshot(&file.definitions);
        for (at, case) in file.cases.iter().enumerate() {
            let context = Context::from_json(&case.context).expect("a context");
            let answer = snapshot.evaluate(&case.flag, &context, NOW);
            let got = (
                answer.value.cloned().unwrap_or_default(),
                answer.variant.map(str::to_owned),
                answer.reason.to_string(),
            );
            assert_eq!(
                got,
                (case.value.clone(), case.variant.clone(), case.reason.clone()),
                "{name}[{at}] {}",
                case.context
            );
            let explained = snapshot.explain(&case.flag, &context, NOW);
            assert_eq!(explained.reason, case.reason, "{name}[{at}]: explain differs from evaluate");
        }
    }
}

#[tokio::test]
async fn the_client_answers_as_the_cases_say() {
    for (name, file) in files() {
        let world = World::start().await;
        world.create(&file.definitions.to_string()).await;
        let client = world.connected_client("cases").await;
        for (at, case) in file.cases.iter().enumerate() {
            let context = Context::from_json(&case.context).expect("a context");
            let (value, variant, reason) = ask(&client, &case.flag, &case.value, &context);
            assert_eq!(
                (value, variant),
                (case.value.clone(), case.variant.clone()),
                "{name}[{at}] {}",
                case.context
            );
            assert_eq!(reason, case.reason, "{name}[{at}] {}", case.context);
        }
    }
}

/// Asks with the getter of the expected value's type, with a default that no case expects.
fn ask(
    client: &flagd_client::Client,
    flag: &str,
    expected: &Value,
    context: &Context,
) -> (Value, Option<String>, String) {
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
        let world = World::start().await;
        world.create(&file.definitions.to_string()).await;
        let mut admin = world.admin().await;
        for (at, case) in file.cases.iter().enumerate() {
            let request = EvaluateRequest {
                environment: "default".into(),
                flag: case.flag.clone(),
                context: case.context.to_string().into(),
                ..EvaluateRequest::default()
            };
            let answers = admin.evaluate(request).await.expect("an answer").into_inner().answers;
            let answer = answers.first().expect("one answer");
            let value: Value =
                answer.value.as_deref().map_or(Value::Null, |text| serde_json::from_str(text).expect("JSON"));
            let got = (value, answer.variant.clone(), answer.reason.clone());
            assert_eq!(
                got,
                (case.value.clone(), case.variant.clone(), case.reason.clone()),
                "{name}[{at}] {}",
                case.context
            );
        }
    }
}
