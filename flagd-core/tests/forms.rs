//! What is read and written, against vectors of another implementation: stored forms, digests, refusals.
//!
//! `testdata/forms.json` was computed with an evaluator in Python that was written from `docs/evaluation.md`
//! alone. Where it and the engine differ, the page decides.

#![expect(clippy::unwrap_used, reason = "a test: a panic is a failed test")]

use std::collections::BTreeMap;

use flagd_core::canonical::{Form, write_flag, write_segment};
use flagd_core::context::Context;
use flagd_core::definition::{parse_flag, parse_kill, parse_segment};
use flagd_core::edit::{self, Author, Edit, EditError, Take};
use flagd_core::key::{EnvironmentName, FlagKey, SegmentKey};
use flagd_core::revision::Epoch;
use flagd_core::state::State;
use flagd_core::time::Timestamp;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Forms {
    #[serde(rename = "about")]
    _about: String,
    accepted: Vec<Accepted>,
    refused: Vec<String>,
    kills: Vec<Kill>,
    contexts_refused: Vec<String>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Accepted {
    /// Applied one after another.
    files: Vec<String>,
    /// Kind, key and stored form of all that there is in the end.
    stored: Vec<[String; 3]>,
    digest: String,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Kill {
    bytes: String,
    variant: Option<String>,
    /// As JSON in the stored form.
    value: Option<String>,
}

fn forms() -> Forms {
    serde_json::from_str(include_str!("../testdata/forms.json")).unwrap()
}

/// The state after these files, each applied by the source that applied the one before.
fn recorded(files: &[String]) -> Result<State, EditError> {
    let mut state = State::empty(EnvironmentName::new("default").unwrap(), Epoch::default());
    let author = Author { actor: "forms".into(), reason: None, now: Timestamp::from_millis(0) };
    let mut base = BTreeMap::new();
    for file in files {
        let plan = edit::plan(&state, &Edit::Apply { file: file.clone(), base, take: Take::File }, &author)?;
        let delta = state.delta(plan.writes);
        state.apply(&delta).unwrap();
        base = plan.base;
    }
    Ok(state)
}

#[test]
fn what_is_accepted_has_the_stored_form_and_the_digest() {
    let accepted = forms().accepted;
    assert!(accepted.len() > 400, "the vectors are gone");
    for Accepted { files, stored, digest } in accepted {
        let state = recorded(&files).unwrap_or_else(|error| panic!("{files:?}: {error}: {error:?}"));
        let got: Vec<[String; 3]> = state
            .entries()
            .map(|(id, entry)| {
                let text = String::from_utf8(entry.bytes.to_vec()).unwrap();
                [id.kind.word().unwrap().to_owned(), id.key.to_string(), text]
            })
            .collect();
        assert_eq!(got, stored, "{files:?}");
        assert_eq!(state.position().digest.to_string(), digest, "{files:?}");
    }
}

#[test]
fn the_stored_form_is_read_back_to_itself() {
    for Accepted { files, stored, .. } in forms().accepted {
        for [kind, key, text] in stored {
            let again = if kind == "flag" {
                let key = FlagKey::new(&key).unwrap();
                let flag = parse_flag(&key, &text).unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
                write_flag(&key, &flag, Form::Stored)
            } else {
                let key = SegmentKey::new(&key).unwrap();
                let segment =
                    parse_segment(&key, &text).unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
                write_segment(&key, &segment, Form::Stored)
            };
            assert_eq!(again, text, "{files:?}");
        }
    }
}

#[test]
fn what_has_a_problem_is_refused() {
    let refused = forms().refused;
    assert!(refused.len() > 300, "the vectors are gone");
    for file in refused {
        assert!(recorded(std::slice::from_ref(&file)).is_err(), "accepted: {file}");
    }
}

#[test]
fn kills_are_read_leniently() {
    for Kill { bytes, variant, value } in forms().kills {
        let kill = parse_kill(bytes.as_bytes());
        assert_eq!(kill.off_variant.as_ref().map(|name| name.as_str().to_owned()), variant, "{bytes}");
        let value = value.map(|text| serde_json::from_str::<serde_json::Value>(&text).unwrap());
        assert_eq!(kill.value, value, "{bytes}");
    }
}

#[test]
fn contexts_that_cannot_be_read_are_refused() {
    for text in forms().contexts_refused {
        let read = serde_json::from_str(&text).map_err(|error| error.to_string());
        let context = read.and_then(|value| Context::from_json(&value));
        assert!(context.is_err(), "accepted: {text}");
    }
}
