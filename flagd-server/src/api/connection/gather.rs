//! A socket that gathers what many streams write at one moment into few calls of the system.
//!
//! When a change goes to a thousand streams of one connection, the connection is woken by each of them and would write
//! each frame by itself; that call is most of what a message costs. Two small things gather them: the first write
//! after a flush waits for one turn of the scheduler, in which the other streams put their frames into the same
//! buffer, and vectored writes are not offered, so that small frames are copied into one buffer. Nothing is delayed by
//! time, and nothing is kept here. A connection that carries one stream has nothing to gather and is spared the turn.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A socket whose writes are gathered.
#[derive(Debug)]
pub(super) struct Gather<S> {
    socket: S,
    /// How many streams are written to.
    streams: Arc<AtomicUsize>,
    /// The next write is the first one since the last flush.
    flushed: bool,
}

impl<S> Gather<S> {
    /// Gathers the writes to a socket.
    pub(super) fn new(socket: S, streams: Arc<AtomicUsize>) -> Gather<S> {
        Gather { socket, streams, flushed: true }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gather<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if std::mem::take(&mut self.flushed) && self.streams.load(Ordering::Relaxed) > 1 {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(context);
        self.flushed |= flushed.is_ready();
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn what_goes_in_comes_out_in_order() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut near = Gather::new(near, Arc::new(AtomicUsize::new(2)));
        let writing = tokio::spawn(async move {
            for part in ["the first part, ", "the second, ", "the last"] {
                near.write_all(part.as_bytes()).await.unwrap();
                near.flush().await.unwrap();
            }
            near.shutdown().await.unwrap();
        });
        let mut text = String::new();
        far.read_to_string(&mut text).await.unwrap();
        writing.await.unwrap();
        assert_eq!(text, "the first part, the second, the last");
    }

    #[tokio::test]
    async fn the_first_write_after_a_flush_waits_for_one_turn() {
        let (near, _far) = tokio::io::duplex(1_024);
        let mut near = Gather::new(near, Arc::new(AtomicUsize::new(2)));
        for round in 0..2 {
            let mut polls = Vec::new();
            for _ in 0..3 {
                polls.push(
                    std::future::poll_fn(|c| Poll::Ready(Pin::new(&mut near).poll_write(c, b"x").is_ready()))
                        .await,
                );
            }
            assert_eq!(polls, [false, true, true], "round {round}");
            near.flush().await.unwrap();
        }
        assert!(!near.is_write_vectored());
        near.streams.store(1, Ordering::Relaxed);
        let write = std::future::poll_fn(|c| Poll::Ready(Pin::new(&mut near).poll_write(c, b"x").is_ready()));
        assert!(write.await, "one stream alone waits for nobody");
    }
}
