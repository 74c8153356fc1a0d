//! What a file writes where there is nothing is what `create` writes there.

use proptest::prelude::*;

use super::*;
use crate::canonical::{Form, write_flag, write_segment};
use crate::definition::arbitrary;

/// Writes and problems of both ways.
fn agree(file: &str) -> Result<usize, String> {
    let edit = Edit::Put { file: file.to_owned(), mode: PutMode::CreateOrReplace };
    match (World::empty().plan(&edit), first_writes(file)) {
        (Ok(plan), Ok(mut writes)) => {
            let mut planned = plan.writes;
            planned.sort_by(|a, b| a.id.cmp(&b.id));
            writes.sort_by(|a, b| a.id.cmp(&b.id));
            assert_eq!(planned, writes, "{file}");
            Ok(writes.len())
        }
        (Err(EditError::Invalid(planned)), Err(EditError::Invalid(first))) => {
            assert_eq!(planned, first, "{file}");
            Err(first.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        }
        (planned, first) => panic!("{planned:?} and {first:?} of {file}"),
    }
}

#[test]
fn what_is_right_is_written_and_what_is_wrong_is_refused_in_the_same_words() {
    let long: Vec<String> = (0..20_000).map(|n| format!("\"unit-{n}\"")).collect();
    let long = format!(r#"{{"segments": {{"s": {{"include": [{}]}}}}}}"#, long.join(","));
    let right = [
        ("{}", 0),
        (r#"{"flags": {"a": {}, "b": {"rollout": 25, "requires": [{"flag": "a", "serves": ["on"]}]}}}"#, 2),
        (
            r#"{"flags": {"a": {"otherwise": {"split": {"on": 1.5, "off": 98.5}, "by": "x"}}}, "segments": {"s": {}}}"#,
            2,
        ),
        (long.as_str(), 4_061),
    ];
    for (file, writes) in right {
        assert_eq!(agree(file), Ok(writes));
    }
    let wrong = [
        ("[", "1:1: this is not JSON"),
        (r#"{"flags": {"a": {"rules": 1}}}"#, "rules"),
        (
            r#"{"flags": {"a": {"requires": [{"flag": "b", "serves": ["on"]}]}, "bb": {}}}"#,
            "there is no flag `b`",
        ),
        (r#"{"flags": {"a": {"requires": [{"flag": "a", "serves": ["on"]}]}}}"#, "cannot require itself"),
        (
            r#"{"flags": {"a": {"requires": [{"flag": "b", "serves": ["on"]}]}, "b": {"requires": [{"flag": "a", "serves": ["on"]}]}}}"#,
            "this is a cycle",
        ),
        (r#"{"segments": {"s": {"if": {"segment": "t"}}}}"#, "there is no segment `t`"),
    ];
    for (file, says) in wrong {
        let said = agree(file).unwrap_err();
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn more_entries_than_a_change_takes_are_refused() {
    let units: Vec<String> = (0..20_000).map(|n| format!("\"unit-{n}\"")).collect();
    let list = format!(r#"{{"include": [{}]}}"#, units.join(","));
    let segments: Vec<String> = (0..25).map(|n| format!("\"s{n}\": {list}")).collect();
    let said = agree(&format!(r#"{{"segments": {{{}}}}}"#, segments.join(","))).unwrap_err();
    assert!(said.contains("one change touches at most 100000"), "{said}");
}

proptest! {
    #[test]
    fn any_definitions_are_written_as_a_plan_writes_them(
        (key, flag) in arbitrary::flag(),
        (name, segment) in arbitrary::segment(),
    ) {
        let flag = write_flag(&key, &flag, Form::Readable);
        let segment = write_segment(&name, &segment, Form::Readable);
        let _ = agree(&format!(r#"{{"flags": {{"{key}": {flag}}}, "segments": {{"{name}": {segment}}}}}"#));
    }
}
