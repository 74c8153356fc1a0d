//! A getter allocates nothing: by name, in a snapshot and through a handle, the short way and the long one.

use flagd_client::{Client, Context};

const DEFINITIONS: &str = r#"{
  "flags": {
    "plain": {"otherwise": "on"},
    "split": {"rollout": 25},
    "by-rule": {"rules": [{"name": "de", "if": {"attribute": "country", "equals": "DE"}, "serve": "on"}]},
    "number": {"variants": {"low": 10, "high": 2.5}, "offVariant": "low", "otherwise": "high"}
  }
}"#;

#[test]
fn getters_allocate_nothing() {
    let client = Client::embedded(DEFINITIONS).unwrap_or_else(|error| panic!("{error}"));
    let page = client.snapshot();
    let handles: Vec<_> = ["plain", "split", "by-rule"].map(|key| client.flag(key)).into();
    let number = client.flag("number");
    let users: Vec<Context> =
        (0..100).map(|user| Context::new(format!("user-{user}")).with("country", "DE")).collect();
    // The first look through the pointer to the current state sets something up for this thread.
    assert!(client.is_enabled("by-rule", &users[0]));
    let mut enabled = [0, 0, 0];
    let counted = allocation_counter::measure(|| {
        for user in &users {
            for key in ["plain", "split", "by-rule"] {
                enabled[0] += u32::from(client.is_enabled(key, user));
                enabled[1] += u32::from(page.is_enabled(key, user));
            }
            enabled[2] += handles.iter().map(|handle| u32::from(handle.is_enabled(user))).sum::<u32>();
            let numbers = [client.number("number", user, 0.0), number.number(user, 0.0)];
            assert!(numbers.iter().all(|number| number.to_bits() == 2.5_f64.to_bits()));
        }
    });
    assert_eq!(counted.count_total, 0);
    assert!(enabled[0] > 200 && enabled[0] < 300, "a quarter of the split: {enabled:?}");
    assert_eq!(enabled, [enabled[0]; 3]);
}
