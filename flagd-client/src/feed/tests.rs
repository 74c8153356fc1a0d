//! A feed that hangs or dies does not take the application with it.

use std::sync::mpsc;

use super::*;
use crate::client::Client;
use crate::shared::Undeclared;

fn shared() -> Arc<Shared> {
    let connection = Connection::Connecting { server: "s".into() };
    Arc::new(Shared::new("default".into(), String::new(), connection, Undeclared::Told))
}

#[test]
fn a_shutdown_does_not_wait_for_a_feed_that_hangs() {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        // No feed: nobody will ever say that it has ended. Dropping the handle does not wait on this thread.
        let shared = shared();
        let thread = std::thread::current().id();
        let life = Life { control: Arc::default(), shared: Arc::clone(&shared), thread };
        let client = Client { shared, life: Some(Arc::new(life)) };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(client.shutdown());
        sender.send(()).unwrap();
    });
    receiver.recv_timeout(Duration::from_mins(1)).expect("the shutdown gives up");
}
