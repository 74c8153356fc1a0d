//! Reads and writes states on threads of their own.
//!
//! A disk may be slow or hang, and the feed must not: it has kills to obey. So whatever is large is read and
//! written elsewhere, and the feed hears of it like of everything else. Nothing here decides when.

use std::future::pending;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::disk::{Disk, DiskError, Found, Role, SavedState};

/// The folder, and what it held.
pub(crate) type DiskRead = (Disk, Result<Found, DiskError>, Result<Role, DiskError>);
/// Whether a state was written.
pub(crate) type Written = Result<Role, DiskError>;

/// Reads the folder, so that a slow disk does not keep us from the server.
pub(crate) fn read(disk: Disk) -> oneshot::Receiver<DiskRead> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let found = disk.load();
        let role = disk.role();
        // Nobody listens when the feed has ended meanwhile.
        let _ = sender.send((disk, found, role));
    });
    receiver
}

/// Writes a state down.
pub(crate) fn write(disk: Arc<Disk>, state: SavedState) -> oneshot::Receiver<Written> {
    let (sender, receiver) = oneshot::channel();
    let path = disk.folder().to_owned();
    let thread = std::thread::Builder::new().name("flagd-disk".into()).spawn(move || {
        let written = disk.save_state(&state);
        // The folder's lock is free when the feed hears of it and ends.
        drop(disk);
        let _ = sender.send(written);
    });
    match thread {
        Ok(_) => receiver,
        Err(source) => {
            let (sender, receiver) = oneshot::channel();
            let _ = sender.send(Err(DiskError::Io { path, source }));
            receiver
        }
    }
}

/// Resolves when the thread is done; never, if there is none.
pub(crate) async fn answer<T>(receiver: &mut Option<oneshot::Receiver<T>>) -> T {
    match receiver {
        Some(receiver) => match receiver.await {
            Ok(answer) => answer,
            Err(_) => pending().await,
        },
        None => pending().await,
    }
}
