//! Tables: how the history and the list speak, and which requests are refused at the door.

use flagd_core::definition::{Ppm, parse_flag, parse_kill};
use flagd_core::edit::{PlaceChoice, PutMode, SegmentList, Take};
use flagd_core::key::{FlagKey, RuleName, SegmentKey, VariantName};
use flagd_core::revision::Revision;

use super::*;
use crate::control::operation::{text, verb};
use crate::control::request::{self, Name, Operation as Wanted};
use crate::control::serves::{serves, serves_killed};

fn flag(key: &str) -> FlagKey {
    FlagKey::new(key).unwrap()
}

fn flags(keys: &[&str]) -> Vec<FlagKey> {
    keys.iter().map(|key| flag(key)).collect()
}

fn staff() -> SegmentKey {
    SegmentKey::new("staff").unwrap()
}

#[test]
fn an_operation_has_a_word_and_a_line() {
    let file = || "{}".to_owned();
    let ramp = |variant: Option<&str>, ppm, place, from: Option<&str>| Wanted::Ramp {
        flag: flag("new-checkout"),
        variant: variant.map(|name| VariantName::new(name).unwrap()),
        share: Ppm(ppm),
        place,
        from: from.map(|name| VariantName::new(name).unwrap()),
    };
    let dach = || PlaceChoice::Rule(RuleName::new("dach").unwrap());
    let units = || vec!["u-1".to_owned(), "u-2".to_owned()];
    let one = ["new-checkout"].map(ToOwned::to_owned);
    let many: Vec<String> = (0..12).map(|n| format!("f{n}")).collect();
    let rows: Vec<(Wanted, &[String], &str, &str)> = vec![
        (Wanted::Put { file: file(), mode: PutMode::Create }, &one, "create", "create new-checkout"),
        (Wanted::Put { file: file(), mode: PutMode::Replace }, &one, "edit", "edit new-checkout"),
        (
            Wanted::Put { file: file(), mode: PutMode::CreateOrReplace },
            &many,
            "import",
            "import 12 definitions",
        ),
        (
            Wanted::Apply { file: file(), source: "git".into(), take: Take::Ask },
            &many,
            "apply",
            "apply 12 definitions from git",
        ),
        (Wanted::Enable(flag("a")), &[], "enable", "enable a"),
        (Wanted::Disable(flag("a")), &[], "disable", "disable a"),
        (ramp(None, 250_000, PlaceChoice::Only, None), &[], "ramp", "ramp new-checkout to 25 %"),
        (
            ramp(Some("b"), 15_000, dach(), Some("a")),
            &[],
            "ramp",
            "ramp new-checkout b to 1.5 % in rule \"dach\" from a",
        ),
        (ramp(None, 0, PlaceChoice::Otherwise, None), &[], "ramp", "ramp new-checkout to 0 % in otherwise"),
        (Wanted::Kill(flags(&["new-checkout", "dark-mode"])), &[], "kill", "kill new-checkout, dark-mode"),
        (
            Wanted::Kill(flags(&["a", "b", "c", "d", "e", "f", "g"])),
            &[],
            "kill",
            "kill a, b, c, d, e and 2 more",
        ),
        (Wanted::Revive(flags(&["a"])), &[], "revive", "revive a"),
        (
            Wanted::Rollback { flags: flags(&["a"]), segments: vec![staff()], to: Some(Revision(7)) },
            &[],
            "rollback",
            "rollback a, segment staff to revision 7",
        ),
        (
            Wanted::SegmentAdd { segment: staff(), units: units(), list: SegmentList::Include },
            &[],
            "segment-add",
            "add 2 units to segment staff",
        ),
        (
            Wanted::SegmentRemove { segment: staff(), units: units(), list: SegmentList::Exclude },
            &[],
            "segment-remove",
            "remove 2 units from the exclude list of segment staff",
        ),
        (Wanted::Archive(Name::Flag(flag("a"))), &[], "archive", "archive a"),
        (Wanted::Unarchive(Name::Segment(staff())), &[], "unarchive", "unarchive segment staff"),
    ];
    for (operation, defined, word, line) in rows {
        assert_eq!(verb(&operation), word, "{line}");
        assert_eq!(text(&operation, defined), line);
    }
}

#[test]
fn what_a_flag_serves_fits_a_column() {
    let rule =
        r#"{"name": "staff", "if": {"attribute": "email", "endsWith": "@example.com"}, "serve": "on"}"#;
    let rows: &[(&str, String, &str)] = &[
        ("nothing but defaults", "{}".into(), "off"),
        ("a rollout", r#"{"rollout": 25}"#.into(), "on 25 %"),
        ("a fine rollout", r#"{"rollout": 0.0001}"#.into(), "on 0.0001 %"),
        ("everybody", r#"{"rollout": 100}"#.into(), "on 100 %"),
        ("nobody", r#"{"rollout": 0}"#.into(), "off 100 %"),
        ("a rule", format!(r#"{{"rules": [{rule}]}}"#), "1 rule, otherwise off"),
        ("a rule and a rollout", format!(r#"{{"rules": [{rule}], "rollout": 5}}"#), "1 rule, otherwise on 5 %"),
        ("disabled", r#"{"enabled": false, "rollout": 25}"#.into(), "off"),
        (
            "several variants by an attribute",
            r#"{"variants": {"a": "x", "b": "y", "c": "z"}, "offVariant": "c", "otherwise": {"split": [{"a": 40}, {"c": 50}, {"b": 10}], "by": "companyId"}}"#.into(),
            "a 40 %, b 10 % by companyId",
        ),
    ];
    for (name, definition, want) in rows {
        let definition =
            parse_flag(&flag("f"), definition).unwrap_or_else(|problems| panic!("{name}: {problems:?}"));
        assert_eq!(serves(&definition), *want, "{name}");
    }
    let kill =
        parse_kill(br#"{"offVariant": "off", "value": false, "by": "ada", "at": "2026-11-23T03:00:00Z"}"#);
    assert_eq!(serves_killed(&kill), "off");
    assert_eq!(serves_killed(&parse_kill(b"{}")), "the caller's default");
}

#[test]
fn wrong_requests_are_refused_at_the_door() {
    let good = || request(kill(&["new-checkout"]));
    let with = |change: &dyn Fn(&mut ChangeRequest)| {
        let mut request = good();
        change(&mut request);
        request
    };
    let rows: Vec<(&str, ChangeRequest, &str)> = vec![
        ("no operation", with(&|r| r.operation = None), "no operation"),
        ("no actor", with(&|r| r.actor.clear()), "`actor`"),
        ("a control character", with(&|r| r.actor = "a\nb".into()), "`actor`"),
        ("a long actor", with(&|r| r.actor = "a".repeat(257)), "an actor has at most 256"),
        ("a long reason", with(&|r| r.reason = "a".repeat(1_025)), "a reason has at most 1024"),
        ("a long id", with(&|r| r.request_id = "a".repeat(129)), "a request id has at most 128"),
        ("an odd id", with(&|r| r.request_id = "a b".into()), "a request id holds only"),
        ("an environment that cannot be", with(&|r| r.environment = "Prod".into()), "environment name"),
        ("no flags", with(&|r| r.operation = Some(kill(&[]))), "at least one flag"),
        ("a key that cannot be", with(&|r| r.operation = Some(kill(&["a/b"]))), "flag key"),
        (
            "a kill that expects",
            with(&|r| r.expectations = vec![expect(FLAG, "a", 1)]),
            "a kill states no expected",
        ),
        ("more than all", with(&|r| r.operation = Some(ramp("a", 101))), "at most 100 %"),
        ("no mode", with(&|r| r.operation = Some(put("{}", admin::PutMode::Unspecified))), "`mode`"),
        (
            "not UTF-8",
            with(&|r| {
                r.operation = Some(Operation::Put(admin::Put { file: vec![b'{', 0xff].into(), mode: 1 }));
            }),
            "not UTF-8 from byte 1",
        ),
        (
            "neither flag nor segment",
            with(&|r| r.operation = Some(Operation::Archive(entry(9, "a")))),
            "1 (flag) or 2 (segment)",
        ),
    ];
    for (name, request, want) in rows {
        let error = request::check(request).expect_err(name).to_string();
        assert!(error.contains(want), "{name}: {error}");
    }
    assert!(request::check(with(&|r| r.reason = "a".repeat(1_024))).is_ok());
    assert!(request::check(with(&|r| r.actor = "a".repeat(256))).is_ok());
}

#[test]
fn names_are_taken_once_and_in_order() {
    let wish = request::check(request(kill(&["b", "a", "b"]))).unwrap();
    assert_eq!(wish.operation, Wanted::Kill(flags(&["b", "a"])));
}
