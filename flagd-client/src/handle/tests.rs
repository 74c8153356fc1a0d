//! A handle says what a getter by name says, whatever happens to the flag.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Context, Reason, testing};

const RULES: &str = r#"{"flags": {"f": {"rules": [{"name": "de", "if": {"attribute": "country", "equals": "DE"}, "serve": "on"}]}}}"#;

/// What happens to the flags.
type Step = Box<dyn Fn(&testing::Handle)>;

#[test]
fn a_handle_is_right_while_its_flag_changes_disappears_and_comes_back() {
    let (flags, declared) = testing::flags().off("other").lenient().build_with_handle();
    let flag = flags.flag("f");
    assert_eq!(flag.key(), "f");
    let german = Context::new("u").with("country", "DE");
    let steps: Vec<(&str, Step, bool, Reason)> = vec![
        ("not there yet", Box::new(|_| ()), false, Reason::NotFound),
        ("created", Box::new(|flags| flags.on("f")), true, Reason::Otherwise),
        ("killed", Box::new(|flags| flags.kill("f")), false, Reason::Killed),
        ("revived", Box::new(|flags| flags.revive("f")), true, Reason::Otherwise),
        (
            "split among all and nobody",
            Box::new(|flags| flags.definitions(r#"{"flags": {"f": {"rollout": 0.0001}}}"#)),
            false,
            Reason::Otherwise,
        ),
        ("with a rule", Box::new(|flags| flags.definitions(RULES)), true, Reason::Rule("de".into())),
        ("another flag changes", Box::new(|flags| flags.on("other")), true, Reason::Rule("de".into())),
        ("removed", Box::new(|flags| flags.remove("f")), false, Reason::NotFound),
        ("back", Box::new(|flags| flags.on("f")), true, Reason::Otherwise),
        ("of another type", Box::new(|flags| flags.set("f", "text")), false, Reason::TypeMismatch),
    ];
    for (name, step, is_on, reason) in steps {
        step(&declared);
        assert_eq!(flag.is_enabled(&german), is_on, "{name}");
        assert_eq!(flag.is_enabled_detail(&german).reason, reason, "{name}");
        assert_eq!(flag.is_enabled_detail(&german), flags.is_enabled_detail("f", &german), "{name}");
        assert_eq!(flags.flag("f").is_enabled(&german), is_on, "{name}: a handle that is made now");
        assert_eq!(flag.bool(&german, true), flags.bool("f", &german, true), "{name}");
    }
    assert_eq!(flag.string(&german, ""), "text");
    declared.set("f", 3);
    assert_eq!((flag.integer(&german, 0), flag.clone().number(&german, 0.0)), (3, 3.0));
}

#[test]
fn without_a_unit_a_split_serves_off_through_a_handle_too() {
    let flags = testing::flags().definitions(r#"{"flags": {"f": {"rollout": 99.9999}}}"#).build();
    let detail = flags.flag("f").is_enabled_detail(&Context::anonymous());
    assert_eq!((detail.value, detail.reason), (false, Reason::NoUnit));
    assert!(!flags.flag("f").is_enabled(&Context::anonymous()));
}

#[test]
#[should_panic(expected = "asks for the flag `forgotten`")]
fn an_undeclared_flag_fails_the_test_when_it_is_asked() {
    let flag = testing::flags().on("a").build().flag("forgotten");
    let _ = flag.is_enabled(&Context::new("u"));
}

#[test]
fn cells_are_shared_and_forgotten_with_their_last_handle() {
    let (flags, declared) = testing::flags().on("a").build_with_handle();
    let count = || flags.shared.board.handles();
    let (first, second) = (flags.flag("a"), flags.flag("a"));
    assert_eq!(count(), 1);
    drop((first, second));
    declared.off("a");
    assert_eq!(count(), 0);
}

/// A flag that is only ever turned on is never seen off after it was seen on, by whatever way.
#[test]
fn no_reader_goes_back_between_handle_and_name() {
    for round in 0..200 {
        let (flags, declared) = testing::flags().off("f").build_with_handle();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..2)
                .map(|number| {
                    let (flags, handle, done) = (&flags, flags.flag("f"), &done);
                    scope.spawn(move || {
                        let user = Context::new("u");
                        let mut seen = false;
                        while !done.load(Ordering::Acquire) {
                            let (one, two) = if number == 0 {
                                (handle.is_enabled(&user), flags.is_enabled("f", &user))
                            } else {
                                (flags.is_enabled("f", &user), handle.is_enabled(&user))
                            };
                            assert!(
                                one >= seen && two >= one,
                                "round {round}: seen {seen}, then {one}, then {two}"
                            );
                            seen = two;
                        }
                    })
                })
                .collect();
            declared.on("f");
            assert!(flags.flag("f").is_enabled(&Context::new("u")));
            done.store(true, Ordering::Release);
            for reader in readers {
                reader.join().unwrap();
            }
        });
    }
}
