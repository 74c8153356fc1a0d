//! The write path: conflicts, retries, dry runs, kills, rollbacks, applies, limits.

use super::*;

#[tokio::test]
async fn a_change_is_recorded_once_and_told_whole() {
    let world = World::with_flags().await;
    let answer = world.recorded(ramp("new-checkout", 50)).await;
    assert_eq!((answer.revision, world.head().await), (2, 2));
    assert_eq!(answer.operation, "ramp new-checkout to 50 % in otherwise");
    assert_eq!(answer.movement(), admin::Movement::OnlyAdds);
    assert_eq!(answer.touched[0].previous_revision, 1);
    assert_eq!(answer.touched[0].differences[0].field, "otherwise");
    assert!(answer.undo.starts_with("flagctl ramp new-checkout 25%"), "{}", answer.undo);
    assert_eq!(answer.position.unwrap().revision, 2);
    let change = world.log.change(&production(), flagd_core::revision::Revision(2)).await.unwrap().unwrap();
    assert_eq!((change.origin.actor.as_str(), change.origin.verb.as_str()), ("ada", "ramp"));
}

#[tokio::test]
async fn what_somebody_else_changed_is_a_conflict_that_says_who_and_what() {
    let world = World::with_flags().await;
    let grace = ChangeRequest { actor: "grace".into(), ..request(ramp("dark-mode", 20)) };
    world.control.change(grace).await.unwrap();
    let mut late = request(ramp("dark-mode", 5));
    late.expectations = vec![expect(FLAG, "dark-mode", 1)];
    let ControlError::Conflict(conflicts) = world.control.change(late).await.unwrap_err() else { panic!() };
    let conflict = &conflicts[0];
    assert_eq!((conflict.expected_revision, conflict.found_revision), (1, 2));
    assert_eq!((conflict.changed_by.as_str(), conflict.changed_ms), ("grace", NOW));
    assert_eq!(conflict.operation, "ramp dark-mode to 20 % in otherwise");
    let difference = &conflict.differences[0];
    assert_eq!(difference.field, "otherwise");
    assert!(difference.before.as_ref().unwrap().contains("10 %"), "{difference:?}");
    assert!(difference.after.as_ref().unwrap().contains("20 %"), "{difference:?}");
    assert_eq!(world.head().await, 2);
}

#[tokio::test]
async fn expectations_that_hold_let_a_change_through() {
    let world = World::with_flags().await;
    let mut request = request(create(r#"{"flags": {"fresh": {}}}"#));
    request.expectations = vec![expect(FLAG, "fresh", 0)];
    assert!(world.control.change(request.clone()).await.unwrap().recorded);
    let error = world.control.change(request).await.unwrap_err();
    assert!(matches!(error, ControlError::Conflict(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_editors_at_once_all_of_different_flags_and_one_of_each_flag_succeed() {
    let world = World::with_flags().await;
    let mut editors = Vec::new();
    for n in 0..10 {
        for flag in ["new-checkout", "dark-mode"] {
            let mut request = request(ramp(flag, 30 + n));
            request.expectations = vec![expect(FLAG, flag, 1)];
            let control = Arc::clone(&world.control);
            editors.push(tokio::spawn(async move { (flag, control.change(request).await) }));
        }
    }
    let mut won = Vec::new();
    for editor in editors {
        match editor.await.unwrap() {
            (flag, Ok(answer)) if answer.recorded => won.push(flag),
            (_, Err(ControlError::Conflict(_))) => {}
            other => panic!("{other:?}"),
        }
    }
    won.sort_unstable();
    assert_eq!(won, ["dark-mode", "new-checkout"]);
    assert_eq!(world.head().await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_sent_many_times_at_once_happens_once() {
    let world = World::with_flags().await;
    let mut request = request(segment_add("staff", "u-9"));
    request.request_id = "r-1".into();
    let sent: Vec<_> = (0..8)
        .map(|_| {
            let (control, request) = (Arc::clone(&world.control), request.clone());
            tokio::spawn(async move { control.change(request).await.unwrap() })
        })
        .collect();
    let mut first_answers = 0;
    for answer in sent {
        let answer = answer.await.unwrap();
        assert_eq!((answer.revision, answer.recorded), (2, true));
        first_answers += usize::from(!answer.repeated_answer);
    }
    assert_eq!((first_answers, world.head().await), (1, 2));
}

#[tokio::test]
async fn a_retry_gets_the_first_answer_also_when_the_environment_has_moved_on() {
    let world = World::with_flags().await;
    let mut request = request(ramp("dark-mode", 20));
    request.request_id = "r-1".into();
    request.expectations = vec![expect(FLAG, "dark-mode", 1)];
    let first = world.control.change(request.clone()).await.unwrap();
    world.recorded(ramp("dark-mode", 40)).await;
    let again = world.control.change(request.clone()).await.unwrap();
    assert!(again.repeated_answer);
    assert_eq!(ChangeResponse { repeated_answer: false, ..again }, first);
    assert_eq!(world.head().await, 3);
    // After a day the id is forgotten, and the expectation guards.
    world.clock.set(NOW + 25 * 60 * 60 * 1_000);
    assert!(matches!(world.control.change(request).await, Err(ControlError::Conflict(_))));
}

#[tokio::test]
async fn a_request_id_stands_for_one_wish() {
    let world = World::with_flags().await;
    let with_id = |operation| ChangeRequest { request_id: "deploy-1".into(), ..request(operation) };
    world.control.change(with_id(ramp("dark-mode", 30))).await.unwrap();
    let error = world.control.change(with_id(kill(&["dark-mode"]))).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("deploy-1 was used for `ramp dark-mode") && text.contains("(revision 2)"),
        "{text}"
    );
    assert_eq!(world.head().await, 2);
    let again = ChangeRequest { actor: "grace".into(), ..with_id(ramp("dark-mode", 30)) };
    assert!(world.control.change(again).await.unwrap().repeated_answer, "who retries does not matter");
}

#[tokio::test]
async fn a_request_that_changed_nothing_changes_nothing_later() {
    let world = World::with_flags().await;
    let request = ChangeRequest { request_id: "noop-1".into(), ..request(ramp("dark-mode", 10)) };
    assert!(!world.control.change(request.clone()).await.unwrap().recorded);
    world.recorded(ramp("dark-mode", 40)).await;
    let again = world.control.change(request).await.unwrap();
    assert_eq!((again.recorded, again.repeated_answer, world.head().await), (false, true, 2));
}

#[tokio::test]
async fn a_rollback_reaches_whatever_the_history_holds() {
    let world = World::with_flags().await;
    world.recorded(ramp("dark-mode", 20)).await;
    world.recorded(Operation::Archive(entry(FLAG, "dark-mode"))).await;
    world.recorded(Operation::Unarchive(entry(FLAG, "dark-mode"))).await;
    let back = world.recorded(rollback("dark-mode", 1)).await;
    let text = format!("{:?}", back.touched[0].differences);
    assert!(text.contains("10 %"), "{text}");
    // Many changes of it later still.
    for n in 0..210 {
        world.recorded(ramp("dark-mode", 50 + n % 2)).await;
    }
    let back = world.recorded(rollback("dark-mode", 2)).await;
    assert!(format!("{:?}", back.touched[0].differences).contains("20 %"), "{back:?}");
    let error = world.ask(rollback("dark-mode", 999)).await.unwrap_err();
    assert!(matches!(error, ControlError::NoSuchRevision { .. }), "{error:?}");
    world.recorded(create(r#"{"flags": {"fresh": {}}}"#)).await;
    assert!(matches!(edit_error(world.ask(rollback("fresh", 3)).await.unwrap_err()), EditError::Refused(_)));
}

#[tokio::test]
async fn without_a_revision_a_rollback_looks_past_the_archive() {
    let world = World::with_flags().await;
    world.recorded(ramp("dark-mode", 20)).await;
    world.recorded(Operation::Archive(entry(FLAG, "dark-mode"))).await;
    world.recorded(Operation::Unarchive(entry(FLAG, "dark-mode"))).await;
    world.recorded(ramp("dark-mode", 30)).await;
    world.recorded(rollback("dark-mode", 0)).await;
    let ControlError::ChooseRevision { candidates, .. } =
        world.ask(rollback("dark-mode", 0)).await.unwrap_err()
    else {
        panic!()
    };
    let revisions: Vec<_> = candidates.iter().map(|change| change.revision).collect();
    assert!(revisions.contains(&1), "{revisions:?}");
}

#[tokio::test]
async fn a_clock_that_was_set_back_hides_no_change() {
    let world = World::with_flags().await;
    world.clock.set(NOW + 3_600_000);
    world.recorded(ramp("dark-mode", 20)).await;
    world.clock.set(NOW + 1_000);
    world.recorded(ramp("dark-mode", 30)).await;
    let since = admin::HistoryRequest {
        environment: "production".into(),
        since_ms: NOW + 1_800_000,
        ..Default::default()
    };
    let page = world.control.history(since).await.unwrap();
    assert_eq!(page.changes.iter().map(|change| change.revision).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn a_dry_run_tells_and_records_nothing() {
    let world = World::with_flags().await;
    let dry = ChangeRequest { dry_run: true, request_id: "r-1".into(), ..request(ramp("dark-mode", 20)) };
    let answer = world.control.change(dry.clone()).await.unwrap();
    assert_eq!((answer.recorded, answer.revision, answer.position.as_ref().unwrap().revision), (false, 0, 1));
    assert_eq!((answer.touched.len(), answer.effects.len()), (1, 1));
    assert_eq!(world.head().await, 1);
    let real = world.control.change(ChangeRequest { dry_run: false, ..dry }).await.unwrap();
    assert!(real.recorded && !real.repeated_answer);
}

#[tokio::test]
async fn a_kill_kills_what_exists_and_names_the_rest() {
    let world = World::with_flags().await;
    let answer = world.recorded(kill(&["new-checkout", "drak-mode"])).await;
    assert_eq!(answer.touched.len(), 1);
    assert_eq!(answer.touched[0].id, Some(id(KILL, "new-checkout")));
    let missing: Vec<_> =
        answer.notes.iter().filter(|note| note.severity() == admin::Severity::Missing).collect();
    assert!(missing[0].text.contains("dark-mode"), "{missing:?}");
    assert_eq!(answer.undo, "flagctl revive new-checkout");
    let error = world.ask(kill(&["nothing-like-it"])).await.unwrap_err();
    assert!(matches!(edit_error(error), EditError::Unknown { .. } | EditError::Refused(_)));
}

#[tokio::test]
async fn killing_the_killed_is_success_and_says_which_revision_to_wait_for() {
    let world = World::with_flags().await;
    let first = world.recorded(kill(&["new-checkout"])).await;
    world.recorded(ramp("dark-mode", 20)).await;
    let again = world.ask(kill(&["new-checkout"])).await.unwrap();
    assert_eq!((again.recorded, again.revision), (false, first.revision));
    assert_eq!(again.position.unwrap().revision, 3);
    assert_eq!(world.head().await, 3);
    assert!(world.recorded(revive(&["new-checkout"])).await.recorded);
}

#[tokio::test]
async fn a_rollback_puts_back_and_a_second_one_asks_which() {
    let world = World::with_flags().await;
    world.recorded(ramp("dark-mode", 20)).await;
    world.recorded(ramp("new-checkout", 30)).await;
    let back = world.recorded(rollback("dark-mode", 0)).await;
    assert_eq!(back.revision, 4);
    assert!(back.touched[0].differences[0].after.as_ref().unwrap().contains("10 %"), "{back:?}");
    let ControlError::ChooseRevision { candidates, message } =
        world.ask(rollback("dark-mode", 0)).await.unwrap_err()
    else {
        panic!()
    };
    assert!(message.contains("--to"), "{message}");
    assert_eq!(candidates.iter().map(|change| change.revision).collect::<Vec<_>>(), [2]);
    assert_eq!(candidates[0].operation, "ramp dark-mode to 20 % in otherwise");
    let forward = world.recorded(rollback("dark-mode", 2)).await;
    assert!(forward.touched[0].differences[0].after.as_ref().unwrap().contains("20 %"), "{forward:?}");
}

#[tokio::test]
async fn a_rollback_names_what_else_has_changed_and_needs_a_history() {
    let world = World::with_flags().await;
    world.recorded(ramp("new-checkout", 50)).await;
    world.recorded(segment_add("staff", "u-2")).await;
    let back = world.recorded(rollback("new-checkout", 0)).await;
    assert!(back.notes.iter().any(|note| note.text.contains("segment `staff`")), "{:?}", back.notes);
    let error = world.ask(rollback("dark-mode", 0)).await.unwrap_err();
    assert!(matches!(edit_error(error), EditError::Refused(_)));
    let error = world.ask(rollback("dork-mode", 0)).await.unwrap_err();
    assert!(matches!(edit_error(error), EditError::Unknown { nearest, .. } if nearest == ["dark-mode"]));
}

#[tokio::test]
async fn a_ramp_at_night_survives_the_morning_pipeline() {
    let world = World::new().await;
    world.recorded(apply(FILE, admin::Take::Ask)).await;
    world.recorded(ramp("dark-mode", 40)).await;
    let file = FILE.replace("Night", "Night colours");
    let answer = world.recorded(apply(&file, admin::Take::Ask)).await;
    assert_eq!(answer.operation, "apply 3 definitions from git");
    assert_eq!((answer.drift.len(), answer.drift[0].field.as_str()), (1, "otherwise"));
    let file = file.replace("\"rollout\": 10", "\"rollout\": 15");
    let error = world.ask(apply(&file, admin::Take::Ask)).await.unwrap_err();
    assert!(matches!(edit_error(error), EditError::FieldConflicts(fields) if fields.len() == 1));
    assert!(world.recorded(apply(&file, admin::Take::File)).await.recorded);
}

#[tokio::test]
async fn a_source_that_applies_what_is_live_already_is_remembered_without_a_revision() {
    let world = World::with_flags().await;
    let answer = world.ask(apply(FILE, admin::Take::Ask)).await.unwrap();
    assert_eq!((answer.recorded, answer.revision, world.head().await), (false, 1, 1));
    world.recorded(ramp("dark-mode", 40)).await;
    let morning = world.ask(apply(FILE, admin::Take::Ask)).await.unwrap();
    assert_eq!((morning.recorded, morning.drift.len()), (false, 1));
}

#[tokio::test]
async fn three_thousand_flags_are_one_revision() {
    let world = World::new().await;
    let flags: Vec<String> = (0..3_000).map(|n| format!(r#""flag-{n}": {{"rollout": 5}}"#)).collect();
    let file = format!(r#"{{"flags": {{{}}}}}"#, flags.join(","));
    let answer = world.recorded(put(&file, admin::PutMode::CreateOrReplace)).await;
    assert_eq!((answer.revision, world.head().await), (1, 1));
    assert_eq!(answer.operation, "import 3000 definitions");
    assert!(answer.touched.len() < 3_000);
    assert!(answer.notes.iter().any(|note| note.text.contains("not listed here")), "{:?}", answer.notes);
    assert!(flagd_proto::Message::encoded_len(&answer) < 256 * 1024);
    let list = world
        .control
        .list(admin::ListRequest { environment: "production".into(), ..Default::default() })
        .await;
    assert_eq!(list.unwrap().flags.len(), 3_000);
}

#[tokio::test]
async fn a_definition_above_a_clients_level_needs_anyway() {
    let world = World::with_roster(&[client("old-shop", 0)]).await;
    let ControlError::Level { level, clients } = world.ask(create(FILE)).await.unwrap_err() else { panic!() };
    assert_eq!((level, clients[0].name.as_str()), (1, "old-shop"));
    assert_eq!(world.head().await, 0);
    let anyway = ChangeRequest { anyway: true, ..request(create(FILE)) };
    assert!(world.control.change(anyway).await.unwrap().recorded);
    assert!(world.ask(ramp("dark-mode", 20)).await.is_err());
    world.recorded(kill(&["dark-mode"])).await;
    world.recorded(revive(&["dark-mode"])).await;
    world.recorded(Operation::Disable(admin::FlagName { flag: "dark-mode".into() })).await;
}

#[tokio::test]
async fn a_full_store_still_takes_a_kill() {
    let measure = World::with_flags().await;
    let used = measure.log.quota().await.unwrap().used_bytes;
    // Three quarters of it are in use once the flags are there; or all of it.
    for limit in [used * 4 / 3, used] {
        let world = World::on(Memory::new(limit), &[]).await;
        world.recorded(create(FILE)).await;
        let error = world.ask(ramp("dark-mode", 20)).await.unwrap_err();
        assert!(matches!(error, ControlError::Quota(_)), "{error:?}");
        assert!(!error.to_string().contains("trim"), "{error}");
        world.recorded(kill(&["dark-mode"])).await;
    }
}

#[tokio::test]
async fn a_write_never_makes_an_environment() {
    let world = World::new().await;
    let elsewhere = ChangeRequest { environment: "prodction".into(), ..request(create(FILE)) };
    let ControlError::UnknownEnvironment { nearest, .. } = world.control.change(elsewhere).await.unwrap_err()
    else {
        panic!()
    };
    assert_eq!(nearest, ["production"]);
    assert_eq!(world.log.environments().await.unwrap(), [production()]);
}

#[tokio::test]
async fn wrong_definitions_are_told_with_their_places() {
    let world = World::new().await;
    let file = r#"{"flags": {"a": {"rollout": 250}, "b": {"offVariant": "none"}}}"#;
    let EditError::Invalid(problems) = edit_error(world.ask(create(file)).await.unwrap_err()) else {
        panic!()
    };
    assert!(problems.len() >= 2, "{problems:?}");
    assert_eq!(world.head().await, 0);
}
