//! The store against a real etcd.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::store::contract;

#[path = "../../../../tests/src/etcd.rs"]
mod etcd;
#[path = "../../../../tests/src/proxy.rs"]
mod proxy;

mod faults;
mod secure;

use etcd::EtcdCluster;

/// One member for all tests that leave it alone; the shell around it ends it with this process.
fn one() -> &'static EtcdCluster {
    static ONE: OnceLock<EtcdCluster> = OnceLock::new();
    ONE.get_or_init(|| EtcdCluster::start(1))
}

/// A config for these endpoints, with a prefix that no other test uses.
fn config(endpoints: &[String]) -> EtcdConfig {
    static PREFIXES: AtomicU32 = AtomicU32::new(0);
    let prefix = PREFIXES.fetch_add(1, Ordering::Relaxed);
    EtcdConfig::parse(&format!("etcd://{}/test-{prefix}", endpoints.join(","))).unwrap()
}

contract::suite!(async { (Arc::new(Etcd::new(config(&one().endpoints()))) as Arc<dyn Store>, ()) });

#[tokio::test]
async fn everything_is_there_for_another_process() {
    let config = config(&one().endpoints());
    let store = Arc::new(Etcd::new(config.clone()));
    contract::survives_reopening(store, || Arc::new(Etcd::new(config))).await;
}

#[tokio::test]
async fn that_it_was_used_is_known_after_everything_was_removed() {
    let config = config(&one().endpoints());
    let prefix = format!("/{}", config.prefix);
    let store = Etcd::new(config.clone());
    assert_eq!(store.past().await.unwrap(), Past::New);
    store.create(&name(), head(0)).await.unwrap();
    for _ in 0..2 {
        store.mark_used().await.unwrap();
        assert_eq!(store.past().await.unwrap(), Past::Used);
    }
    one().etcdctl_at(0, &["del", "--prefix", &format!("{prefix}/")]).unwrap();
    assert_eq!(store.environments().await.unwrap(), []);
    assert_eq!(store.past().await.unwrap(), Past::Used);
    let other = EtcdConfig { prefix: format!("{}-other", config.prefix), ..config };
    assert_eq!(Etcd::new(other).past().await.unwrap(), Past::New);
}

fn name() -> EnvironmentName {
    EnvironmentName::new("default").unwrap()
}

fn head(revision: u64) -> Bytes {
    Bytes::from(format!("head {revision}"))
}

fn next(revision: u64) -> Append {
    Append {
        expected_head: head(revision - 1),
        head: head(revision),
        revision: Revision(revision),
        change: Some(Bytes::from(format!("change {revision}"))),
        records: vec![],
    }
}
