//! Stores that answer with what was: a server that is behind its clients, a head of a moment ago, a history that was
//! cut and grew again.

use super::*;

/// A log that another server writes to, of which this one sees nothing new for as long as its view is held.
async fn grown(log: &Log) -> Position {
    append(log, "a", true).await;
    append(log, "b", true).await
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_behind_a_client_catches_up_before_it_sends_anything() {
    let log = fresh().await;
    append(&log, "a", true).await;
    let (hub, environment) = start(&log).await;
    // Nothing lets the follower run between these two lines: the view is behind, the head is not.
    let head = append(&log, "b", true).await;
    assert!(environment.view().state.position().revision < head.revision, "the view is behind");
    match greet(&environment, &report(Some(head))).await {
        Greeting::UpToDate(at) => assert_eq!(at, head),
        other => panic!("{other:?}"),
    }
    assert_eq!(environment.view().state.position(), head);
    assert_eq!(environment.alarms(), Vec::<String>::new(), "nothing was cut");
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_of_a_moment_ago_begins_no_epoch() {
    let log = fresh().await;
    let head = grown(&log).await;
    let (hub, environment) = start(&log).await;
    // Somebody read an older head and believes in a cut; looking again shows that there is none.
    history::begin_younger_epoch(&environment, head).await.unwrap();
    let earlier = log.change(&name(), Revision(1)).await.unwrap().unwrap();
    let earlier = Position { revision: Revision(1), digest: earlier.digest, ..head };
    history::begin_younger_epoch(&environment, earlier).await.unwrap();
    assert_eq!(log.head(&name()).await.unwrap(), Some(head));
    assert_eq!(environment.alarms(), Vec::<String>::new());
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn of_several_servers_that_see_a_cut_one_begins_the_epoch_and_all_tell_it() {
    let log = fresh().await;
    let head = grown(&log).await;
    let (hub, environment) = start(&log).await;
    let (other_hub, other) = start(&log).await;
    let lost = Position { revision: Revision(9), ..head };
    let (one, two) = tokio::join!(
        history::begin_younger_epoch(&environment, lost),
        history::begin_younger_epoch(&other, lost)
    );
    one.unwrap();
    two.unwrap();
    let younger = log.head(&name()).await.unwrap().unwrap();
    assert_eq!(younger.revision, Revision(3), "one epoch was begun");
    for environment in [&environment, &other] {
        environment.view_at(younger, LONG).await;
        // The follower tells after it has shown.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let alarms = environment.alarms();
        assert_eq!(alarms.len(), 1, "{alarms:?}");
        assert!(alarms[0].contains("revisions 3 to 9 of epoch"), "{alarms:?}");
    }
    hub.stop().await;
    other_hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_history_that_was_cut_and_grew_again_is_not_taken_for_one_that_only_grew() {
    let log = fresh().await;
    let head = grown(&log).await;
    let (hub, environment) = start(&log).await;
    assert!(history::holds(&environment, head).await.unwrap());
    append(&log, "c", true).await;
    assert!(history::holds(&environment, head).await.unwrap(), "it has only grown");
    let other_story = Position { digest: Digest(1), ..head };
    assert!(!history::holds(&environment, other_story).await.unwrap());
    history::begin_younger_epoch(&environment, other_story).await.unwrap();
    let alarms = environment.alarms();
    assert!(alarms[0].contains("revision 2 of epoch") && alarms[0].contains("is lost"), "{alarms:?}");
    hub.stop().await;
}
