//! Promise 5: a bad definition cannot hurt, and a kill gets through even then.

use flagd_core::entry::{EntryId, EntryKind};
use flagd_tests::{World, eventually, forge, user};

/// A definition of a later version of the language.
const UNKNOWN_OPERATOR: &str = r#"{"variants":{"off":false,"on":true},"offVariant":"off","rules":[{"name":"moon","if":{"attribute":"moon","phase":"full"},"serve":"on"}],"otherwise":"off"}"#;

#[tokio::test]
async fn a_forged_definition_is_refused_named_and_can_be_killed() {
    let mut world = World::with_flag("a").await;
    let shop = world.connected_client("shop").await;
    world.stop_server().await;
    forge(&world.store(), &[(EntryId::new(EntryKind::FLAG, "a"), Some(UNKNOWN_OPERATOR))]).await;
    world.start_server().await;

    eventually("the client has seen the forged change", async || shop.status().revision == 2).await;
    assert!(shop.is_enabled("a", &user("u")), "the last good version keeps serving");
    assert_eq!(shop.status().refused.len(), 1);
    eventually("flagctl names the client and the flag", async || {
        let clients = world.flagctl(["clients"]).await.succeeds();
        clients.out.contains("shop") && clients.out.contains("refuse") && clients.out.contains("phase")
    })
    .await;
    world.flagctl(["kill", "a"]).await.succeeds().says("applied by 1 of 1").done();
    assert!(!shop.is_enabled("a", &user("u")));
}

#[tokio::test]
async fn a_flag_with_corrupt_rules_killed_serves_its_off_variant() {
    let mut world = World::start().await;
    world.stop_server().await;
    let corrupt =
        r#"{"variants":{"blue":"b","red":"r"},"offVariant":"red","rules":[17],"otherwise":{"split":"?"}}"#;
    forge(&world.store(), &[(EntryId::new(EntryKind::FLAG, "colour"), Some(corrupt))]).await;
    world.start_server().await;
    let shop = world.connected_client("shop").await;
    let context = user("u");
    assert_eq!(
        shop.string("colour", &context, "default"),
        "default",
        "refused, and there is no last good version"
    );
    world.flagctl(["kill", "colour"]).await.succeeds().done();
    assert_eq!(shop.string("colour", &context, "default"), "r");
}

#[tokio::test]
async fn entries_of_one_change_are_refused_together_and_heal_together() {
    let mut world = World::start().await;
    world.create(r#"{"flags": {"a": {"rollout": 100}, "b": {"rollout": 100}}}"#).await;
    let shop = world.connected_client("shop").await;
    world.stop_server().await;
    let off = r#"{"variants":{"off":false,"on":true},"offVariant":"off","otherwise":"off"}"#;
    let (a, b) = (EntryId::new(EntryKind::FLAG, "a"), EntryId::new(EntryKind::FLAG, "b"));
    forge(&world.store(), &[(a.clone(), Some(UNKNOWN_OPERATOR)), (b, Some(off))]).await;
    world.start_server().await;
    eventually("the client has seen the forged change", async || shop.status().revision == 2).await;
    assert!(shop.is_enabled("b", &user("u")), "half a change is never in use");
    world.stop_server().await;
    forge(&world.store(), &[(a, Some(off))]).await;
    world.start_server().await;
    eventually("both are taken into use", async || {
        !shop.is_enabled("a", &user("u")) && !shop.is_enabled("b", &user("u"))
    })
    .await;
    assert_eq!(shop.status().refused.len(), 0);
}

#[tokio::test]
async fn what_is_wrong_is_refused_at_the_write_with_every_place() {
    let world = World::start().await;
    let file = world.file(
        "bad.json",
        r#"{"flags": {"a": {"rollout": 101}, "b": {"rules": [{"name": "r", "if": {"attribute": "x", "endswith": "y"}, "serve": "maybe"}]}}}"#,
    );
    let refused = world.flagctl(["create".as_ref(), "-f".as_ref(), file.as_os_str()]).await;
    refused.exits(1).says("flags.a.rollout").says("endsWith").says("maybe").done();
    assert_eq!(world.revision().await, 0);
}
