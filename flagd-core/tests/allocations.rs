//! Evaluation allocates nothing: counted, for each of the six tasks and for each operator.

use std::collections::BTreeMap;

use flagd_core::context::Context;
use flagd_core::definition::parse_segment;
use flagd_core::entry::{EntryId, EntryKind, StoredEntry};
use flagd_core::key::{EnvironmentName, SegmentKey};
use flagd_core::part;
use flagd_core::revision::{Epoch, Revision};
use flagd_core::snapshot::Snapshot;
use flagd_core::state::State;
use flagd_core::time::Timestamp;

#[path = "../benches/tasks/mod.rs"]
mod tasks;

#[test]
fn the_six_tasks_allocate_nothing() {
    let bench = tasks::Bench::new();
    let shares = [100.0, 25.0, 25.0, 100.0, 50.0, 25.0];
    for (task, name) in tasks::TASKS.iter().enumerate() {
        let share = bench.share(task) * 100.0;
        assert!((share - shares[task]).abs() < 6.0, "{name}: {share} % instead of {} %", shares[task]);
        let mut served = 0;
        let counted = allocation_counter::measure(|| {
            served = (0..2_000).filter(|n| bench.evaluate(task, *n)).count();
        });
        assert_eq!((counted.count_total, served), (0, 2_000), "{name}");
    }
    // The counter works: it sees what the limit's own set-up takes.
    assert!(allocation_counter::measure(|| drop(std::hint::black_box(vec![1, 2, 3]))).count_total > 0);
}

#[test]
fn membership_in_a_long_list_allocates_nothing() {
    let key = SegmentKey::new("s").unwrap();
    let mut segment = parse_segment(&key, r#"{"by": "id"}"#).unwrap();
    let units = |from: u32| (from..from + 20_000).map(|n| n.to_string().into()).collect::<Vec<_>>();
    segment.include = [units(0), vec!["a \"quoted\" unit".into()]].concat().into();
    segment.exclude = units(10_000).into();
    let flag = r#"{"rules": [{"name": "r", "if": {"segment": "s"}, "serve": "on"}]}"#;
    let flag = (EntryId::new(EntryKind::FLAG, "f"), std::sync::Arc::from(flag.as_bytes()));
    let entries = part::entries(&key, &segment).into_iter().chain([flag]);
    let entries = entries.map(|(id, bytes)| (id, StoredEntry { bytes, revision: Revision(1) }));
    let environment = EnvironmentName::new("test").unwrap();
    let state = State::from_entries(environment, Epoch::default(), Revision(1), entries);
    let snapshot = Snapshot::build(&state, &BTreeMap::new());
    assert_eq!(snapshot.refused(), []);
    let whole = (0..40_000).step_by(7).map(|n| Context::anonymous().with("id", n));
    let mut contexts: Vec<Context> = whole.collect();
    let expected = (0..40_000).step_by(7).filter(|n| *n < 10_000).count();
    contexts.extend(
        ["a \"quoted\" unit", "a \"quoted\" unit more", "10\n", ""]
            .map(|id| Context::anonymous().with("id", id)),
    );
    let mut on = 0;
    let counted = allocation_counter::measure(|| {
        let is_on = |c: &&Context| snapshot.evaluate("f", c, Timestamp::default()).variant == Some("on");
        on = contexts.iter().filter(is_on).count();
    });
    assert_eq!((counted.count_total, on), (0, expected + 1));
}

#[test]
fn no_operator_allocates() {
    let tests = [
        r#""equals": "BERLIN", "ignoreCase": true"#,
        r#""in": ["a", "b", "c", "d", "e", "berlin"], "ignoreCase": true"#,
        r#""in": ["a", "b", "c", "d", "e", "f", 1, 2.5, true]"#,
        r#""startsWith": "be", "ignoreCase": true"#,
        r#""endsWith": ["x", "LIN"], "ignoreCase": true"#,
        r#""contains": "ERL", "ignoreCase": true"#,
        r#""contains": "erl""#,
        r#""lessThan": 1.5"#,
        r#""before": "2026-11-23T08:00:00Z""#,
        r#""semver": ">=1.2.3-rc.1, <2""#,
        r#""cidr": ["10.0.0.0/8", "2001:db8::/32"]"#,
        r#""exists": true"#,
    ];
    let values = [
        "Berlin",
        "1.2.3-rc.2+b",
        "10.1.2.3",
        "::ffff:10.0.0.1",
        "2026-11-23T07:59:59Z",
        "2026-99",
        "\u{130}",
    ];
    let mut contexts: Vec<Context> = values.iter().map(|value| Context::new("u").with("a", *value)).collect();
    contexts.push(Context::new("u").with("a", 1));
    contexts.push(Context::new("u").with("a", 1.25));
    contexts.push(Context::new("u").with("a", vec!["x", "Berlin"]));
    contexts.push(Context::anonymous());
    for test in tests {
        let text = format!(
            r#"{{"rules": [{{"name": "r", "if": {{"not": {{"attribute": "a", {test}}}}},
                "serve": {{"split": [{{"on": 50}}, {{"off": 50}}], "by": "a"}}}}]}}"#
        );
        let entry = StoredEntry { bytes: text.into_bytes().into(), revision: Revision(1) };
        let environment = EnvironmentName::new("test").unwrap();
        let entries = [(EntryId::new(EntryKind::FLAG, "f"), entry)];
        let state = State::from_entries(environment, Epoch::default(), Revision(1), entries);
        let snapshot = Snapshot::build(&state, &BTreeMap::new());
        assert_eq!(snapshot.refused(), [], "{test}");
        let counted = allocation_counter::measure(|| {
            for context in &contexts {
                std::hint::black_box(snapshot.evaluate("f", context, Timestamp::default()).value);
            }
        });
        assert_eq!(counted.count_total, 0, "{test}");
    }
}
