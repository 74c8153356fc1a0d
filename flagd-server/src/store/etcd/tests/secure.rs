//! Passwords and certificates, with a real etcd that asks for them.

use std::path::Path;

use super::config::{Secret, Tls, User};
use super::etcd::TlsFiles;
use super::*;

const PASSWORD: &str = "correct-horse-battery";

fn write(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn user(folder: &Path, file: &str, password: &str) -> User {
    User { name: "flagd".to_owned(), password_file: write(folder, file, &format!("{password}\n")) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_signed_in_and_signed_in_again() {
    let mut cluster = EtcdCluster::start(1);
    let config = config(&cluster.endpoints());
    cluster.enable_users("of-root", PASSWORD, &format!("/{}/", config.prefix));
    let folder = tempfile::tempdir().unwrap();
    let store =
        Arc::new(Etcd::new(EtcdConfig { user: Some(user(folder.path(), "password", PASSWORD)), ..config }));
    store.create(&name(), head(0)).await.unwrap();
    let waiting = |seen: u64| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.wait(&name(), &head(seen)).await })
    };
    let first = waiting(0);
    store.append(&name(), next(1)).await.unwrap();
    assert_eq!(first.await.unwrap().unwrap(), head(1));
    // Tokens do not survive a restart of etcd's; the watch must not go on with one that is stale.
    let second = waiting(1);
    cluster.kill(0);
    cluster.restart(0);
    assert_eq!(store.append(&name(), next(2)).await.unwrap(), Appended::Recorded);
    assert_eq!(second.await.unwrap().unwrap(), head(2));
    assert_eq!(store.environments().await.unwrap(), [name()]);
    store.quota().await.unwrap();
    let shown = format!("{store:?} {:?}", store.config);
    assert!(!shown.contains(PASSWORD), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_not_let_in_is_told_so_without_the_password() {
    let mut cluster = EtcdCluster::start(1);
    let config = config(&cluster.endpoints());
    cluster.enable_users("of-root", PASSWORD, &format!("/{}/", config.prefix));
    let folder = tempfile::tempdir().unwrap();
    let missing = User { name: "flagd".to_owned(), password_file: folder.path().join("nowhere") };
    let elsewhere = EtcdConfig { prefix: "elsewhere".to_owned(), ..config.clone() };
    let cases = [
        ("nobody", config.clone(), None, "etcd"),
        (
            "a wrong password",
            config.clone(),
            Some(user(folder.path(), "wrong", "wrong-horse")),
            "check the name",
        ),
        ("no file", config, Some(missing), "nowhere"),
        ("another's keys", elsewhere, Some(user(folder.path(), "right", PASSWORD)), "permission"),
    ];
    for (case, config, user, wanted) in cases {
        let store = Etcd::new(EtcdConfig { user, ..config });
        let error = store.head(&name()).await.expect_err(case).to_string();
        assert!(error.contains(wanted), "{case}: {error}");
        assert!(!error.contains("horse"), "{case}: {error}");
    }
    assert_eq!(format!("{:?}", Secret::new(PASSWORD.to_owned())), "***");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_may_not_look_at_the_mark_does_not_know_whether_the_store_is_new() {
    let mut cluster = EtcdCluster::start(1);
    let config = config(&cluster.endpoints());
    let prefix = config.prefix.clone();
    cluster.enable_users("of-root", PASSWORD, &format!("/{prefix}/"));
    let folder = tempfile::tempdir().unwrap();
    let store = Etcd::new(EtcdConfig { user: Some(user(folder.path(), "password", PASSWORD)), ..config });
    let told = store.past().await.unwrap();
    let mark = format!("/~flagd-stores/{prefix}");
    assert!(matches!(&told, Past::Unknown(why) if why.contains(&mark)), "{told:?}");
    assert!(store.mark_used().await.is_err());
    cluster.etcdctl_at(0, &["role", "grant-permission", "flags", "readwrite", &mark]).unwrap();
    assert_eq!(store.past().await.unwrap(), Past::New);
    store.mark_used().await.unwrap();
    assert_eq!(store.past().await.unwrap(), Past::Used);
}

/// An authority, and a certificate of its for both sides.
fn certificates(folder: &Path) -> TlsFiles {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let ca = authority.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let mut both =
        rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    both.extended_key_usages =
        vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = both.signed_by(&key, &issuer).unwrap();
    TlsFiles {
        ca: write(folder, "ca.pem", &ca.pem()),
        cert: write(folder, "cert.pem", &cert.pem()),
        key: write(folder, "key.pem", &key.serialize_pem()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_show_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let files = certificates(folder.path());
    let cluster = EtcdCluster::start_tls(1, &files);
    let config = config(&cluster.endpoints());
    let identity = Some((files.cert.clone(), files.key.clone()));
    let tls = Some(Tls { ca: files.ca.clone(), identity });
    let store = Arc::new(Etcd::new(EtcdConfig { tls, ..config.clone() }));
    store.create(&name(), head(0)).await.unwrap();
    let waiting = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.wait(&name(), &head(0)).await })
    };
    store.append(&name(), next(1)).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), head(1));
    // Whoever shows nothing, speaks plainly, or trusts another authority stays outside.
    let other = tempfile::tempdir().unwrap();
    let stranger = certificates(other.path());
    let cases = [
        ("no certificate", Some(Tls { ca: files.ca.clone(), identity: None })),
        ("no encryption", None),
        ("another authority", Some(Tls { ca: stranger.ca, identity: Some((files.cert, files.key)) })),
        ("another's certificate", Some(Tls { ca: files.ca, identity: Some((stranger.cert, stranger.key)) })),
    ];
    for (case, tls) in cases {
        let store = Etcd::new(EtcdConfig { tls, ..config.clone() });
        let error = store.head(&name()).await.expect_err(case);
        assert!(matches!(error, StoreError::Unavailable(_)), "{case}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_endpoint_is_asked_what_it_is() {
    let mut endpoints = one().endpoints();
    // Nobody listens on a port that was free a moment ago.
    endpoints.push(std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string());
    let store = Etcd::new(config(&endpoints));
    let reports = store.inspect().await;
    assert_eq!(reports.len(), 2);
    let version = reports[0].version.as_deref().expect("a version");
    assert_eq!(reports[0].warning, version::warning(version));
    assert!(version::parse(version).is_some(), "{version}");
    assert!(reports[1].version.is_err());
    // And a dead endpoint in the list does not disturb.
    store.create(&name(), head(0)).await.unwrap();
    assert_eq!(store.head(&name()).await.unwrap(), Some(head(0)));
}
