//! The feed: a thread of its own that follows the server.
//!
//! An application's runtime may be busy, may end, or may not exist; a client must acknowledge a kill all the same.
//! So the feed has a thread with a small runtime of its own, and the application's only ties to it are an
//! atomic pointer and this handle. What to do is decided in `machine` and `keeper` without waiting; only
//! `pump` waits. This file starts and ends the thread and knows nothing of streams.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use flagd_core::state::State;
use tokio::sync::Notify;
use tonic::transport::Endpoint;

mod backoff;
mod disk_thread;
mod keeper;
mod machine;
mod messages;
mod parts;
mod pump;
mod retired;
mod wire;

pub(crate) use keeper::{Kills, LastGood};
pub(crate) use messages::Identity;
pub(crate) use wire::chain;

use crate::connections::Connections;
use crate::disk::Disk;
use crate::shared::Shared;
use crate::status::Connection;

/// How long an end may take: the state is written, `Bye` is sent, the server closes the stream.
pub(crate) const END_PATIENCE: Duration = Duration::from_secs(1);

/// One server of the environment.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) endpoint: Endpoint,
}

/// What a feed needs to begin.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) environment: flagd_core::key::EnvironmentName,
    pub(crate) identity: Identity,
    pub(crate) servers: Vec<Server>,
    pub(crate) disk: Option<Disk>,
    pub(crate) bootstrap: Option<State>,
    /// Shared with other clients; without them it has a connection of its own.
    pub(crate) connections: Option<Connections>,
}

/// What the application may ask of the feed.
#[derive(Debug, Default)]
struct Control {
    stopping: AtomicBool,
    /// When somebody who waits wants to look at the clock again.
    wakes: Mutex<Vec<Instant>>,
    notify: Notify,
}

/// Keeps the feed going; dropping it ends the feed.
#[derive(Debug)]
pub(crate) struct Life {
    control: Arc<Control>,
    shared: Arc<Shared>,
    thread: ThreadId,
}

impl Life {
    /// Asks the feed to end; does not wait.
    pub(crate) fn stop(&self) {
        self.control.stopping.store(true, Ordering::Release);
        self.control.notify.notify_one();
    }

    /// Asks the feed to end and names the moment at which whoever waits for that is woken to give up.
    pub(crate) fn stop_by(&self) -> Option<Instant> {
        self.stop();
        let deadline = Instant::now().checked_add(END_PATIENCE)?;
        // The feed cannot be asked to wake them: it is the one that may hang.
        let bulletin = Arc::clone(&self.shared.bulletin);
        let alarm = std::thread::Builder::new().name("flagd-end".into()).spawn(move || {
            bulletin.wait_until(Some(deadline), || bulletin.is_closed());
            bulletin.wake_all();
        });
        // Without a thread that wakes them nobody may wait.
        Some(if alarm.is_ok() { deadline } else { Instant::now() })
    }

    /// Asks the feed to end and waits a moment for it.
    pub(crate) fn end(&self) {
        self.stop();
        // A callback on the feed's thread may drop the last clone; it cannot wait for itself.
        if std::thread::current().id() != self.thread {
            let bulletin = &self.shared.bulletin;
            bulletin.wait_until(Instant::now().checked_add(END_PATIENCE), || bulletin.is_closed());
        }
    }

    /// Asks the feed to wake everybody who waits at this moment.
    pub(crate) fn wake_at(&self, moment: Instant) {
        self.control.wakes.lock().unwrap_or_else(PoisonError::into_inner).push(moment);
        self.control.notify.notify_one();
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts a feed on a thread of its own.
pub(crate) fn start(setup: Setup, shared: &Arc<Shared>) -> io::Result<Life> {
    let control = Arc::new(Control::default());
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    match &setup.connections {
        Some(connections) => connections.begin()?,
        // Who has a connection of its own reads its socket here.
        None => drop(runtime.enable_io()),
    }
    let runtime = runtime.enable_time().build()?;
    let (feed_shared, feed_control) = (Arc::clone(shared), Arc::clone(&control));
    let thread = std::thread::Builder::new().name("flagd-feed".into()).spawn(move || {
        // Dropped last, also in a panic: nobody waits for a feed that is gone.
        let _end = End(Arc::clone(&feed_shared));
        runtime.block_on(pump::Pump::new(setup, feed_shared, feed_control).run());
    })?;
    Ok(Life { control, shared: Arc::clone(shared), thread: thread.thread().id() })
}

/// Tells everybody that the feed is gone.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        let end = if std::thread::panicking() {
            tracing::error!(
                "the feed panicked: flags keep their last values until the program is started again"
            );
            Connection::Failed
        } else {
            Connection::Closed
        };
        self.0.doubt();
        self.0.bulletin.put(|update| update.connection = end);
        self.0.bulletin.close();
    }
}

#[cfg(test)]
mod tests;
