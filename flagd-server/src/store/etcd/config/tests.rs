//! Every way to write the address of an etcd, and every way to write it wrong.

use super::*;

fn plain(endpoints: &[&str], prefix: &str) -> EtcdConfig {
    EtcdConfig {
        endpoints: endpoints.iter().map(|endpoint| (*endpoint).to_owned()).collect(),
        prefix: prefix.to_owned(),
        user: None,
        tls: None,
        quota_bytes: 2 << 30,
        patience: Patience::default(),
    }
}

#[test]
fn addresses_mean_what_they_say() {
    let user = Some(User { name: "flagd".to_owned(), password_file: "/run/secrets/etcd".into() });
    let authority = Tls { ca: "ca.pem".into(), identity: None };
    let mutual = Tls { ca: "ca.pem".into(), identity: Some(("c.pem".into(), "k.pem".into())) };
    let one = plain(&["127.0.0.1:2379"], "flagd");
    let cases: &[(&str, &str, EtcdConfig)] = &[
        ("one host", "etcd://127.0.0.1:2379", one.clone()),
        ("the usual port", "etcd://127.0.0.1", one.clone()),
        ("a slash and nothing", "etcd://127.0.0.1/", one.clone()),
        (
            "three hosts and a prefix",
            "etcd://a:1,b.c:2,d-e/flags-1",
            plain(&["a:1", "b.c:2", "d-e:2379"], "flags-1"),
        ),
        ("a slash after the prefix", "etcd://a:1/flags/", plain(&["a:1"], "flags")),
        ("IPv6", "etcd://[::1]:5,[::2]", plain(&["[::1]:5", "[::2]:2379"], "flagd")),
        (
            "a user",
            "etcd://127.0.0.1?user=flagd&password-file=/run/secrets/etcd",
            EtcdConfig { user, ..one.clone() },
        ),
        ("an authority", "etcd://127.0.0.1?ca=ca.pem", EtcdConfig { tls: Some(authority), ..one.clone() }),
        (
            "both sides",
            "etcd://127.0.0.1?key=k.pem&cert=c.pem&ca=ca.pem",
            EtcdConfig { tls: Some(mutual), ..one.clone() },
        ),
        ("a quota", "etcd://127.0.0.1?quota=8GiB", EtcdConfig { quota_bytes: 8 << 30, ..one.clone() }),
        ("a quota in bytes", "etcd://127.0.0.1/?quota=9", EtcdConfig { quota_bytes: 9, ..one.clone() }),
    ];
    for (name, url, wanted) in cases {
        assert_eq!(EtcdConfig::parse(url).as_ref(), Ok(wanted), "{name}");
    }
}

#[test]
fn wrong_addresses_are_refused_with_the_reason() {
    let cases: &[(&str, &str, &str)] = &[
        ("another scheme", "http://127.0.0.1", "etcd://HOST:PORT"),
        ("no host", "etcd://", "names 0 hosts"),
        ("commas only", "etcd://,,/flagd", "names 0 hosts"),
        ("too many hosts", "etcd://a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a", "names 17 hosts"),
        ("a port that is none", "etcd://a:99999", "`a:99999`"),
        ("an address without brackets", "etcd://::1", "[IPV6]:PORT"),
        ("a bracket that stays open", "etcd://[::1", "`[::1`"),
        ("something after a bracket", "etcd://[::1]x", "`[::1]x`"),
        ("a space in a host", "etcd://a b", "`a b`"),
        ("only a port", "etcd://:2379", "`:2379`"),
        ("a prefix of two parts", "etcd://a/b/c", "`b/c`"),
        ("a prefix with odd characters", "etcd://a/b%20c", "`b%20c`"),
        ("an unknown option", "etcd://a?users=x", "there are user, password-file, ca"),
        ("an option twice", "etcd://a?user=x&user=y", "`user` twice"),
        ("an option without a value", "etcd://a?user", "user=VALUE"),
        ("a user without a password", "etcd://a?user=x", "needs `password-file`"),
        ("a password without a user", "etcd://a?password-file=x", "needs `user`"),
        ("a certificate without a key", "etcd://a?ca=a&cert=x", "needs `key`"),
        ("a key without a certificate", "etcd://a?ca=a&key=x", "needs `cert`"),
        ("a certificate without an authority", "etcd://a?cert=x&key=y", "needs `ca`"),
        ("a quota that is none", "etcd://a?quota=much", "`much`"),
        ("a quota of nothing", "etcd://a?quota=0", "`0`"),
        ("a quota past counting", "etcd://a?quota=99999999999GiB", "99999999999GiB"),
    ];
    for (name, url, wanted) in cases {
        let error = EtcdConfig::parse(url).expect_err(name).to_string();
        assert!(error.contains(wanted), "{name}: {error}");
    }
}

#[test]
fn a_password_in_the_address_is_refused_and_not_repeated() {
    for url in ["etcd://flagd:hunter2@127.0.0.1", "etcd://127.0.0.1?user=flagd&password=hunter2"] {
        let error = EtcdConfig::parse(url).expect_err(url);
        assert_eq!(error, EtcdConfigError::Credentials);
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn a_secret_does_not_show_itself() {
    let secret = Secret::new("hunter2".to_owned());
    assert_eq!(format!("{secret:?} {:#?}", Some(&secret)), "*** Some(\n    ***,\n)");
    assert_eq!(secret.reveal(), "hunter2");
}
