//! A TCP proxy on loopback that stops passing bytes on, as a broken network does: nothing is closed, nothing fails.
//!
//! This file is also part of the server's own unit tests.

#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    dead_code,
    unreachable_pub,
    reason = "support code of tests, compiled into two of them: a panic is a failed test"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What becomes of bytes on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// They arrive.
    Open,
    /// Those from the server are read and thrown away; those to the server arrive.
    SwallowAnswers,
    /// Nobody's arrive.
    SwallowAll,
}

/// A proxy in front of one address.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    passage: watch::Sender<Passage>,
    swallowed: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a port of its own.
    pub async fn start(target: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let (passage, receiver) = watch::channel(Passage::Open);
        let swallowed = Arc::new(AtomicUsize::new(0));
        let (target, count) = (target.to_owned(), Arc::clone(&swallowed));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&target).await else { continue };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let is_passed = |passage| passage != Passage::SwallowAll;
                connections.spawn(pass(
                    from_client,
                    to_server,
                    receiver.clone(),
                    is_passed,
                    Arc::clone(&count),
                ));
                let is_passed = |passage| passage == Passage::Open;
                connections.spawn(pass(
                    from_server,
                    to_client,
                    receiver.clone(),
                    is_passed,
                    Arc::clone(&count),
                ));
            }
        });
        Proxy { address, passage, swallowed, task }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on, on all connections.
    pub fn set(&self, passage: Passage) {
        self.passage.send_replace(passage);
    }

    /// Bytes that were thrown away so far.
    #[must_use]
    pub fn swallowed(&self) -> usize {
        self.swallowed.load(Ordering::SeqCst)
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    passage: watch::Receiver<Passage>,
    is_passed: fn(Passage) -> bool,
    swallowed: Arc<AtomicUsize>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let passage = *passage.borrow();
        let bytes = buffer.get(..length).expect("what was read");
        if is_passed(passage) {
            if to.write_all(bytes).await.is_err() {
                return;
            }
        } else {
            swallowed.fetch_add(length, Ordering::SeqCst);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}
