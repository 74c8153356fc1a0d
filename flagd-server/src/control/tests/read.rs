//! What operators see: environments, lists, one definition, history, differences, evaluations, a watch.

use flagd_proto::admin::{
    ClientsRequest, CreateEnvironmentRequest, DiffRequest, EvaluateRequest, ExportRequest, FlagState,
    GetRequest, HistoryRequest, ListRequest, StatusRequest, WatchEvent, WatchRequest,
};
use tokio::sync::mpsc;

use super::*;

fn environment() -> String {
    "production".to_owned()
}

fn get(name: admin::EntryName, at_revision: u64) -> GetRequest {
    GetRequest { environment: environment(), name: Some(name), at_revision }
}

fn history(name: Option<admin::EntryName>) -> HistoryRequest {
    HistoryRequest { environment: environment(), name, ..HistoryRequest::default() }
}

fn revisions(changes: &[admin::HistoryChange]) -> Vec<u64> {
    changes.iter().map(|change| change.revision).collect()
}

#[tokio::test]
async fn environments_are_created_once_and_listed() {
    let world = World::with_flags().await;
    let create = CreateEnvironmentRequest { name: "staging".into(), actor: "ada".into() };
    world.control.create_environment(create.clone()).await.unwrap();
    let error = world.control.create_environment(create).await.unwrap_err();
    assert!(matches!(error, ControlError::EnvironmentExists(_)), "{error:?}");
    let all = world.control.list_environments().await.unwrap().environments;
    let told: Vec<_> = all.iter().map(|e| (e.name.as_str(), e.flags, e.segments)).collect();
    assert_eq!(told, [("production", 2, 1), ("staging", 0, 0)]);
    let staging = ChangeRequest { environment: "staging".into(), ..request(create_file()) };
    assert_eq!(world.control.change(staging).await.unwrap().revision, 1);
}

fn create_file() -> Operation {
    create(FILE)
}

#[tokio::test]
async fn the_status_names_kills_and_clients() {
    let world = World::with_roster(&[client("shop", 1)]).await;
    world.recorded(create(FILE)).await;
    world.recorded(kill(&["dark-mode"])).await;
    let status = world.control.status(StatusRequest::default()).await.unwrap();
    let production = &status.environments[0];
    assert_eq!(production.killed_flags, ["dark-mode"]);
    assert_eq!((production.clients_lost, production.clients_connected), (1, 0));
    assert_eq!((production.view_age_ms, production.oldest_revision), (0, 0));
    assert!(status.store.contains("memory"), "{}", status.store);
    let clients = world.control.clients(ClientsRequest { environment: environment() }).await.unwrap();
    assert_eq!(clients.clients[0].standing(), admin::ClientStanding::Lost);
}

#[tokio::test]
async fn the_list_tells_state_and_author_and_can_be_searched() {
    let world = World::with_flags().await;
    world.recorded(kill(&["new-checkout"])).await;
    let list = |search: &str, tags: &[&str]| ListRequest {
        environment: environment(),
        search: search.into(),
        tags: tags.iter().map(ToString::to_string).collect(),
        segments: true,
        ..ListRequest::default()
    };
    let all = world.control.list(list("", &[])).await.unwrap();
    let told: Vec<_> =
        all.flags.iter().map(|f| (f.key.as_str(), f.state(), f.serves.as_str(), f.revision)).collect();
    assert_eq!(
        told,
        [("dark-mode", FlagState::Enabled, "on 10 %", 1), ("new-checkout", FlagState::Killed, "off", 2)]
    );
    assert_eq!((all.flags[0].changed_by.as_str(), all.flags[0].changed_ms), ("ada", NOW));
    assert_eq!(
        (all.segments[0].key.as_str(), &all.segments[0].used_by[..]),
        ("staff", &["new-checkout".to_owned()][..])
    );
    let keys = |response: admin::ListResponse| response.flags.into_iter().map(|f| f.key).collect::<Vec<_>>();
    assert_eq!(keys(world.control.list(list("NIGHT", &[])).await.unwrap()), ["dark-mode"]);
    assert_eq!(keys(world.control.list(list("", &["ui"])).await.unwrap()), ["dark-mode"]);
    assert_eq!(keys(world.control.list(list("", &["none"])).await.unwrap()), [""; 0]);
}

#[tokio::test]
async fn archived_flags_are_listed_and_shown_when_asked_for() {
    let world = World::with_flags().await;
    world.recorded(Operation::Archive(entry(FLAG, "dark-mode"))).await;
    let list = |archived| ListRequest { environment: environment(), archived, ..ListRequest::default() };
    assert_eq!(world.control.list(list(false)).await.unwrap().flags.len(), 1);
    let all = world.control.list(list(true)).await.unwrap().flags;
    assert_eq!(
        (all[0].key.as_str(), all[0].state(), all[0].owner.as_str()),
        ("dark-mode", FlagState::Archived, "web")
    );
    let shown = world.control.get(get(entry(FLAG, "dark-mode"), 0)).await.unwrap();
    assert_eq!((shown.state(), shown.revision), (FlagState::Archived, 2));
    assert!(shown.definition.contains("Night"), "{}", shown.definition);
    assert_eq!(
        world.control.get(get(entry(FLAG, "dark-mode"), 1)).await.unwrap().state(),
        FlagState::Enabled
    );
}

#[tokio::test]
async fn one_definition_is_shown_with_its_kill_and_its_users() {
    let world = World::with_flags().await;
    world
        .recorded(create(r#"{"flags": {"banner": {"requires": [{"flag": "dark-mode", "serves": ["on"]}]}}}"#))
        .await;
    world.recorded(kill(&["dark-mode"])).await;
    let flag = world.control.get(get(entry(FLAG, "dark-mode"), 0)).await.unwrap();
    assert_eq!((flag.state(), flag.revision), (FlagState::Killed, 1));
    assert!(flag.kill.contains("ada"), "{}", flag.kill);
    assert_eq!(flag.required_by, ["banner"]);
    assert!(flag.definition.contains("\"on\": 10"), "{}", flag.definition);
    let segment = world.control.get(get(entry(SEGMENT, "staff"), 0)).await.unwrap();
    assert_eq!(segment.used_by, ["new-checkout"]);
    let error = world.control.get(get(entry(FLAG, "drak-mode"), 0)).await.unwrap_err();
    assert!(
        matches!(&error, ControlError::UnknownEntry { nearest, .. } if *nearest == ["dark-mode"]),
        "{error:?}"
    );
    let error = world.control.get(get(entry(FLAG, "dark-mode"), 99)).await.unwrap_err();
    assert!(matches!(error, ControlError::NoSuchRevision { .. }), "{error:?}");
}

#[tokio::test]
async fn an_export_is_taken_by_an_empty_environment() {
    let world = World::with_flags().await;
    world.recorded(ramp("dark-mode", 40)).await;
    world.recorded(kill(&["dark-mode"])).await;
    let export = |environment: &str| ExportRequest { environment: environment.into(), at_revision: 0 };
    let text = |parts: Vec<admin::ExportPart>| {
        String::from_utf8(parts.into_iter().flat_map(|part| part.text).collect::<Vec<u8>>()).unwrap()
    };
    let parts = world.control.export(export("production")).await.unwrap();
    assert_eq!(parts[0].position.as_ref().unwrap().revision, 3);
    let file = text(parts);
    let staging = CreateEnvironmentRequest { name: "staging".into(), actor: "ada".into() };
    world.control.create_environment(staging).await.unwrap();
    assert_eq!(
        text(world.control.export(export("staging")).await.unwrap()),
        "{\n  \"flags\": {},\n  \"segments\": {}\n}\n"
    );
    let import = ChangeRequest { environment: "staging".into(), ..request(create(&file)) };
    assert!(world.control.change(import).await.unwrap().recorded);
    assert_eq!(text(world.control.export(export("staging")).await.unwrap()), file);
    let diff = DiffRequest {
        environment: "staging".into(),
        from_environment: environment(),
        ..DiffRequest::default()
    };
    let entries = world.control.diff(diff).await.unwrap().entries;
    let ids: Vec<_> = entries.iter().map(|entry| (entry.id.clone().unwrap(), entry.removed)).collect();
    assert_eq!(ids, [(id(KILL, "dark-mode"), true)]);
}

#[tokio::test]
async fn the_history_of_a_flag_includes_its_segments_and_what_it_requires() {
    let world = World::with_flags().await;
    world.recorded(segment_add("staff", "u-2")).await;
    world.recorded(ramp("dark-mode", 20)).await;
    world.recorded(kill(&["new-checkout"])).await;
    let all = world.control.history(history(None)).await.unwrap();
    assert_eq!(revisions(&all.changes), [4, 3, 2, 1]);
    let flag = world.control.history(history(Some(entry(FLAG, "new-checkout")))).await.unwrap();
    assert_eq!(revisions(&flag.changes), [4, 2, 1]);
    assert_eq!(flag.changes[1].touched[0].id, Some(id(SEGMENT, "staff")));
    assert_eq!(flag.changes[1].touched[0].differences[0].field, "include");
    assert_eq!(flag.changes[2].touched.len(), 2, "dark-mode is another matter");
    let error = world.control.history(history(Some(entry(FLAG, "new-chekout")))).await.unwrap_err();
    assert!(matches!(error, ControlError::UnknownEntry { .. }), "{error:?}");
}

#[tokio::test]
async fn history_comes_in_pages_and_since_a_time() {
    let world = World::with_flags().await;
    for n in 0..400 {
        world.clock.set(NOW + n);
        world.recorded(ramp("dark-mode", 20 + u32::try_from(n % 2).unwrap())).await;
    }
    let page = |limit, before_revision| HistoryRequest { limit, before_revision, ..history(None) };
    let first = world.control.history(page(300, 0)).await.unwrap();
    assert_eq!((first.changes.len(), first.changes[0].revision, first.more), (300, 401, true));
    let second = world.control.history(page(300, 102)).await.unwrap();
    assert_eq!((second.changes.len(), second.changes[100].revision, second.more), (101, 1, false));
    let recent = HistoryRequest { since_ms: NOW + 398, ..history(None) };
    assert_eq!(revisions(&world.control.history(recent).await.unwrap().changes), [401, 400]);
}

#[tokio::test]
async fn differences_between_revisions_are_told_by_field() {
    let world = World::with_flags().await;
    world.recorded(ramp("dark-mode", 20)).await;
    let diff = |from_revision, to_revision| DiffRequest {
        environment: environment(),
        from_revision,
        to_revision,
        ..DiffRequest::default()
    };
    let one = world.control.diff(diff(1, 0)).await.unwrap();
    assert_eq!((one.from_revision, one.to_revision, one.entries.len()), (1, 2, 1));
    assert_eq!(one.entries[0].differences[0].field, "otherwise");
    assert_eq!(world.control.diff(diff(0, 1)).await.unwrap().entries.len(), 3);
    assert!(world.control.diff(diff(2, 2)).await.unwrap().entries.is_empty());
    let named = DiffRequest { name: Some(entry(FLAG, "new-checkout")), ..diff(1, 2) };
    assert!(world.control.diff(named).await.unwrap().entries.is_empty());
    assert!(matches!(world.control.diff(diff(9, 0)).await, Err(ControlError::NoSuchRevision { .. })));
}

#[tokio::test]
async fn evaluations_are_answered_and_explained() {
    let world = World::with_flags().await;
    let ask = |flag: &str, context: &str, explain| EvaluateRequest {
        environment: environment(),
        flag: flag.into(),
        context: context.as_bytes().to_vec().into(),
        explain,
        ..EvaluateRequest::default()
    };
    let staff = r#"{"targetingKey": "u-1"}"#;
    let answers = world.control.evaluate(ask("new-checkout", staff, true)).await.unwrap().answers;
    assert_eq!((answers[0].value.as_deref(), answers[0].reason.as_str()), (Some("true"), "Rule(staff)"));
    assert!(answers[0].explanation.contains("staff"), "{}", answers[0].explanation);
    assert_eq!(world.control.evaluate(ask("", staff, false)).await.unwrap().answers.len(), 2);
    let nothing = world.control.evaluate(ask("nothing", "", false)).await.unwrap().answers;
    assert_eq!((nothing[0].value.as_deref(), nothing[0].reason.as_str()), (None, "NotFound"));
    assert!(matches!(world.control.evaluate(ask("", "[]", false)).await, Err(ControlError::Request { .. })));
    let large = format!(r#"{{"a": "{}"}}"#, "x".repeat(crate::limits::CONTEXT_MAX_BYTES));
    assert!(matches!(
        world.control.evaluate(ask("", &large, false)).await,
        Err(ControlError::TooLarge { .. })
    ));
}

async fn watch(world: &World, after_revision: u64) -> mpsc::Receiver<WatchEvent> {
    let watching =
        world.control.watch(WatchRequest { environment: environment(), after_revision }).await.unwrap();
    let (events, received) = mpsc::channel(4);
    tokio::spawn(async move { watching.run(&events).await });
    received
}

async fn next(received: &mut mpsc::Receiver<WatchEvent>) -> u64 {
    received.recv().await.unwrap().change.unwrap().revision
}

#[tokio::test]
async fn a_watch_resumes_and_goes_on_without_a_gap() {
    let world = World::with_flags().await;
    for percent in 20..25 {
        world.recorded(ramp("dark-mode", percent)).await;
    }
    let (mut resumed, mut new) = (watch(&world, 2).await, watch(&world, 0).await);
    for percent in 30..33 {
        world.recorded(ramp("dark-mode", percent)).await;
    }
    for revision in 3..=9 {
        assert_eq!(next(&mut resumed).await, revision);
    }
    for revision in 7..=9 {
        assert_eq!(next(&mut new).await, revision);
    }
    let ahead = WatchRequest { environment: environment(), after_revision: 50 };
    assert!(matches!(world.control.watch(ahead).await, Err(ControlError::NoSuchRevision { .. })));
}

#[tokio::test]
async fn a_slow_watcher_misses_nothing() {
    let world = World::with_flags().await;
    let mut slow = watch(&world, 0).await;
    for n in 0..600 {
        world.recorded(ramp("dark-mode", 20 + n % 2)).await;
    }
    for revision in 2..=601 {
        assert_eq!(next(&mut slow).await, revision);
    }
}
