//! What getters return in every situation of the table in the crate's documentation.

use flagd_core::entry::{EntryId, EntryKind, StoredEntry};
use flagd_core::key::EnvironmentName;
use flagd_core::revision::{Epoch, Revision};
use flagd_core::state::State;
use serde_json::json;

use crate::local::client_of;
use crate::shared::Undeclared;
use crate::status::Connection;
use crate::{Client, Context, Reason, Staleness};

const DEFINITIONS: &str = r#"{
  "flags": {
    "on": {"otherwise": "on"},
    "disabled": {"enabled": false, "otherwise": "on"},
    "needs-disabled": {"requires": [{"flag": "disabled", "serves": ["on"]}], "otherwise": "on"},
    "by-rule": {"rules": [{"name": "germans", "if": {"attribute": "country", "equals": "DE"}, "serve": "on"}]},
    "by-company": {"otherwise": {"split": {"on": 50, "off": 50}, "by": "companyId"}},
    "greeting": {"variants": {"hello": "hello", "hi": "hi"}, "offVariant": "hi", "otherwise": "hello"},
    "limit": {"variants": {"low": 10, "high": 2.5}, "offVariant": "low", "otherwise": "low"},
    "factor": {"variants": {"low": 10, "high": 2.5}, "offVariant": "low", "otherwise": "high"},
    "layout": {"variants": {"wide": {"columns": 3}, "narrow": {"columns": 1}}, "offVariant": "narrow", "otherwise": "wide"}
  }
}"#;

fn client() -> Client {
    Client::embedded(DEFINITIONS).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_situation_has_its_value_and_its_reason() {
    let german = Context::new("u").with("country", "DE");
    let cases = [
        ("no such flag, default true", "nope", true, true, Reason::NotFound, None),
        ("no such flag, default false", "nope", false, false, Reason::NotFound, None),
        ("another type", "greeting", true, true, Reason::TypeMismatch, None),
        ("nothing but otherwise", "on", false, true, Reason::Otherwise, Some("on")),
        ("disabled", "disabled", true, false, Reason::Disabled, Some("off")),
        (
            "requirement unmet",
            "needs-disabled",
            true,
            false,
            Reason::Requirement("disabled".into()),
            Some("off"),
        ),
        ("a rule", "by-rule", false, true, Reason::Rule("germans".into()), Some("on")),
        ("no unit", "by-company", true, false, Reason::NoUnit, Some("off")),
    ];
    let client = client();
    let snapshot = client.snapshot();
    for (name, key, default, value, reason, variant) in cases {
        let detail = client.bool_detail(key, &german, default);
        assert_eq!((detail.value, &detail.reason), (value, &reason), "{name}");
        assert_eq!(detail.variant.as_deref(), variant, "{name}");
        assert_eq!((detail.revision, detail.stale), (1, Staleness::Current), "{name}");
        assert_eq!(client.bool(key, &german, default), value, "{name}");
        assert_eq!(snapshot.bool_detail(key, &german, default), detail, "{name}");
        assert_eq!(client.explain(key, &german).flag, key, "{name}");
    }
    assert!(client.is_enabled("on", &german) && !client.is_enabled("nope", &german));
    assert!(client.is_enabled_detail("on", &german).value);
}

#[test]
fn every_type_has_its_getter() {
    let client = client();
    let user = Context::new("u");
    assert_eq!(client.string("greeting", &user, "x"), "hello");
    assert_eq!(client.string_detail("greeting", &user, "x").variant.as_deref(), Some("hello"));
    assert_eq!(client.string("limit", &user, "x"), "x");
    assert_eq!((client.integer("limit", &user, 1), client.integer("factor", &user, 1)), (10, 1));
    assert_eq!(client.integer_detail("factor", &user, 1).reason, Reason::TypeMismatch);
    assert_eq!((client.number("limit", &user, 1.0), client.number("factor", &user, 1.0)), (10.0, 2.5));
    assert_eq!(client.number_detail("factor", &user, 1.0).variant.as_deref(), Some("high"));
    assert_eq!(client.json("layout", &user, json!(null)), json!({"columns": 3}));
    assert_eq!(client.json_detail("greeting", &user, json!(1)).value, json!(1));
    let page = client.snapshot();
    assert_eq!(page.str("greeting", &user, "x"), "hello");
    assert_eq!(page.str("nope", &user, "x"), "x");
    assert_eq!(page.json_ref("layout", &user, &json!(null)), &json!({"columns": 3}));
    assert_eq!(page.flag_keys().len(), 9);
}

#[test]
fn a_killed_flag_serves_its_off_variant_and_not_the_callers_default() {
    let mut entries: Vec<_> = Vec::new();
    let environment = EnvironmentName::new("embedded").unwrap();
    let state = crate::local::state_of(DEFINITIONS, environment.clone(), Revision(1)).unwrap();
    entries.extend(state.entries().map(|(id, entry)| (id.clone(), entry.clone())));
    let kill = StoredEntry { bytes: b"{}".as_slice().into(), revision: Revision(2) };
    entries.push((EntryId::new(EntryKind::KILL, "greeting"), kill));
    let state = State::from_entries(environment, Epoch::default(), Revision(2), entries);
    let client = client_of(&state, Undeclared::Told);
    let detail = client.string_detail("greeting", &Context::new("u"), "x");
    assert_eq!((detail.value.as_str(), detail.reason), ("hi", Reason::Killed));
}

#[test]
fn a_definition_that_is_not_understood_gives_the_default() {
    let environment = EnvironmentName::new("embedded").unwrap();
    let entry = |bytes: &[u8]| StoredEntry { bytes: bytes.into(), revision: Revision(1) };
    let entries = [(EntryId::new(EntryKind::FLAG, "odd"), entry(br#"{"later": true}"#))];
    let state = State::from_entries(environment, Epoch::default(), Revision(1), entries);
    let client = client_of(&state, Undeclared::Told);
    assert_eq!(client.bool_detail("odd", &Context::new("u"), true).reason, Reason::Refused);
    let status = client.status();
    assert_eq!(status.refused.len(), 1);
    assert_eq!((status.refused[0].key.as_str(), status.refused[0].last_good), ("odd", false));
}

#[test]
fn without_a_state_every_getter_gives_the_default() {
    let shared = crate::shared::Shared::new(
        "default".into(),
        String::new(),
        Connection::Waiting { why: "the test".into() },
        Undeclared::Told,
    );
    let client = Client::without_feed(std::sync::Arc::new(shared));
    let detail = client.integer_detail("any", &Context::new("u"), 7);
    assert_eq!((detail.value, detail.reason, detail.revision), (7, Reason::NotReady, 0));
    assert_eq!(detail.stale, Staleness::Stale { age: None });
    assert_eq!(client.explain("any", &Context::new("u")).reason, "NotReady");
    assert_eq!(client.status().counters.not_ready, 1);
    assert!(client.status().missed.is_empty(), "not ready is no mistake of the key's");
}

#[test]
fn a_missed_key_is_reported_with_the_one_that_was_meant() {
    let client = client();
    for _ in 0..3 {
        assert_eq!(client.string("greting", &Context::new("u"), "x"), "x");
    }
    let _ = client.integer("greeting", &Context::new("u"), 1);
    let status = client.status();
    let told: Vec<_> =
        status.missed.iter().map(|missed| (missed.key.as_str(), missed.nearest.as_deref())).collect();
    assert_eq!(told, [("greeting", None), ("greting", Some("greeting"))]);
    assert_eq!((status.counters.not_found, status.counters.type_mismatch), (3, 1));
}

#[test]
fn wrong_definitions_name_every_problem() {
    let Err(error) = Client::embedded(r#"{"flags": {"a": {"otherwise": "x"}, "b": {"rollot": 5}}}"#) else {
        panic!("accepted");
    };
    let words = error.to_string();
    assert!(words.contains("flags.a") && words.contains("rollout"), "{words}");
}
