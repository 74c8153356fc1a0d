//! A socket that tells whether its other end is still there, and does not offer vectored writes.
//!
//! h2 puts the frames of many streams into one buffer and writes it with one call, as long as it copies them: with
//! vectored writes it would write each frame above 256 bytes by itself, and that call is most of what a message costs
//! (field/performance.md 2.3).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Whether anything came in since it was asked last.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<AtomicBool>);

impl Heard {
    /// Whether anything came in since the last call.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// A socket that notes when something comes in.
#[derive(Debug)]
pub(super) struct Socket<S> {
    socket: S,
    heard: Heard,
}

impl<S> Socket<S> {
    /// Notes in `heard` what comes in through `socket`.
    pub(super) fn new(socket: S, heard: Heard) -> Socket<S> {
        Socket { socket, heard }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.heard.0.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
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
    async fn what_comes_in_is_noted_once_and_what_goes_out_is_not() {
        let (near, mut far) = tokio::io::duplex(64);
        let heard = Heard::default();
        let mut near = Socket::new(near, heard.clone());
        assert!(!near.is_write_vectored());
        near.write_all(b"out").await.unwrap();
        assert!(!heard.take());
        far.write_all(b"in").await.unwrap();
        near.read_exact(&mut [0; 2]).await.unwrap();
        assert!(heard.take() && !heard.take());
        drop(far);
        assert_eq!(near.read(&mut [0; 2]).await.unwrap(), 0);
        assert!(!heard.take(), "the end is nothing that came in");
    }
}
