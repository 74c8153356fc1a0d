//! When each receiver had each push, and what went wrong: shared by everything that receives.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Longest time until everybody has something; not a measure of speed.
const PATIENCE: Duration = Duration::from_mins(2);
/// Most wrongs kept.
const WRONGS_MAX: usize = 100;
/// Read at once, in bytes.
const READ_BYTES: usize = 64 * 1024;

thread_local! {
    /// One buffer for all sockets of a thread, so that receivers keep none.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// The book of arrivals.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    book: Mutex<Book>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Book {
    receivers: usize,
    ready: usize,
    received: BTreeMap<u64, Vec<Instant>>,
    wrongs: Vec<String>,
}

impl Arrivals {
    /// A book of so many receivers.
    pub(super) fn of(receivers: usize) -> Arrivals {
        Arrivals { book: Mutex::new(Book { receivers, ..Book::default() }), bell: Notify::new() }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more receiver is ready.
    pub(super) fn ready(&self) {
        let mut book = self.book();
        book.ready += 1;
        if book.ready == book.receivers {
            self.bell.notify_waiters();
        }
    }

    /// A receiver has a push.
    pub(super) fn received(&self, push: u64) {
        let now = Instant::now();
        let mut book = self.book();
        let receivers = book.receivers;
        let times = book.received.entry(push).or_insert_with(|| Vec::with_capacity(receivers));
        times.push(now);
        if times.len() == receivers {
            self.bell.notify_waiters();
        }
    }

    /// Something that must not happen has happened.
    pub(super) fn wrong(&self, what: String) {
        let mut book = self.book();
        if book.wrongs.len() < WRONGS_MAX {
            book.wrongs.push(what);
        }
        self.bell.notify_waiters();
    }

    /// What went wrong so far.
    pub(super) fn wrongs(&self) -> Vec<String> {
        self.book().wrongs.clone()
    }

    /// Resolves when all receivers are ready.
    ///
    /// # Errors
    /// What went wrong meanwhile, or that it took too long.
    pub(super) async fn all_ready(&self, extra: Duration) -> Result<(), String> {
        self.until(PATIENCE + extra, |book| {
            (book.ready == book.receivers)
                .then_some(())
                .ok_or_else(|| format!("{} of {} receivers are connected", book.ready, book.receivers))
        })
        .await
    }

    /// When each receiver had a push, in order; the entry is taken out of the book.
    ///
    /// # Errors
    /// What went wrong meanwhile, or how many are missing.
    pub(super) async fn all_received(&self, push: u64) -> Result<Vec<Instant>, String> {
        self.until(PATIENCE, |book| {
            let have = book.received.get(&push).map_or(0, Vec::len);
            if have == book.receivers {
                return Ok(book.received.remove(&push).unwrap_or_default());
            }
            Err(format!("{have} of {} receivers have push {push}", book.receivers))
        })
        .await
    }

    async fn until<T>(
        &self,
        patience: Duration,
        mut holds: impl FnMut(&mut Book) -> Result<T, String>,
    ) -> Result<T, String> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let mut rung = std::pin::pin!(self.bell.notified());
            rung.as_mut().enable();
            let missing = {
                let mut book = self.book();
                if let Some(wrong) = book.wrongs.first() {
                    return Err(wrong.clone());
                }
                match holds(&mut book) {
                    Ok(answer) => return Ok(answer),
                    Err(missing) => missing,
                }
            };
            if tokio::time::timeout_at(deadline, rung).await.is_err() {
                return Err(format!("after {} s only {missing}", patience.as_secs()));
            }
        }
    }
}

/// Lends the thread's buffer out.
pub(super) fn with_scratch<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| work(scratch))
}

/// Reads what is there.
pub(super) fn poll_read<'a>(
    socket: &mut TcpStream,
    context: &mut Context<'_>,
    scratch: &'a mut [u8],
) -> Poll<Result<&'a [u8], String>> {
    let mut buffer = ReadBuf::new(scratch);
    let read = ready!(Pin::new(socket).poll_read(context, &mut buffer));
    let length = buffer.filled().len();
    Poll::Ready(match read {
        Err(error) => Err(format!("a connection broke: {error}")),
        Ok(()) if length == 0 => Err("the server closed a connection".to_owned()),
        Ok(()) => Ok(scratch.get(..length).unwrap_or_default()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_must_have_it() {
        let arrivals = Arrivals::of(2);
        arrivals.ready();
        arrivals.received(7);
        arrivals.ready();
        arrivals.all_ready(Duration::ZERO).await.expect("both are ready");
        let arrivals = std::sync::Arc::new(arrivals);
        let waiting = tokio::spawn({
            let arrivals = std::sync::Arc::clone(&arrivals);
            async move { arrivals.all_received(7).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        arrivals.received(7);
        assert_eq!(waiting.await.expect("it does not panic").map(|times| times.len()), Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_told_what_went_wrong_or_what_is_missing() {
        let arrivals = Arrivals::of(2);
        arrivals.received(7);
        let missing = arrivals.all_received(7).await.expect_err("one is missing");
        assert_eq!(missing, "after 120 s only 1 of 2 receivers have push 7");
        arrivals.wrong("a stream ended".to_owned());
        assert_eq!(arrivals.all_received(7).await, Err("a stream ended".to_owned()));
    }
}
