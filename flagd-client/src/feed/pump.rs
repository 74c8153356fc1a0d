//! The only async code of the client: waits for whatever comes next and carries out what the machine decides.
//!
//! It moves bytes, time and chance between the machine and the world - the socket, the disk, the callers - and
//! decides nothing about states. No queue here is unbounded: of everything that waits to be sent there is
//! one, because each message carries the complete state.

use std::future::pending;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use flagd_core::snapshot::Refusal;
use flagd_proto::stream::ClientMessage;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

use super::backoff::Chance;
use super::disk_thread::{self, DiskRead, Written};
use super::keeper::{Keeper, Kills, Loaded};
use super::machine::{Action, Event, Link, Machine, Moment};
use super::messages::{self, Identity};
use super::retired::Retired;
use super::wire::{Incoming, Wire};
use super::{Control, Server, Setup};
use crate::connections::Connections;
use crate::disk::{Disk, DiskError, Found, Role, SavedState};
use crate::shared::Shared;
use crate::status::{Connection, DiskStatus, HeldSnapshots};
use crate::view::View;

/// States are written down at most this often.
const SAVE_INTERVAL_MS: u64 = 1_000;
/// After an error the disk is left alone for so long.
const SAVE_RETRY_MS: u64 = 10_000;
/// While old views wait to be freed they are looked at this often.
const SWEEP_INTERVAL_MS: u64 = 100;
/// How long the end may wait for the server.
const BYE_PATIENCE_MS: u64 = 500;

/// What waits to be sent: at most one of each.
#[derive(Default)]
struct Outbox {
    sender: Option<mpsc::Sender<ClientMessage>>,
    hello: bool,
    need_full: Option<&'static str>,
    ack: bool,
    farewell: Farewell,
}

/// Where the end stands.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Farewell {
    #[default]
    No,
    Due,
    Said,
}

/// See the [module](self).
pub(crate) struct Pump {
    machine: Machine,
    identity: Identity,
    servers: Vec<Server>,
    connections: Option<Connections>,
    server: String,
    shared: Arc<Shared>,
    control: Arc<Control>,
    wire: Wire,
    outbox: Outbox,
    loading: Option<oneshot::Receiver<DiskRead>>,
    /// A state is being written, on another thread.
    saving: Option<oneshot::Receiver<Written>>,
    bootstrap: Option<flagd_core::state::State>,
    disk: Option<Arc<Disk>>,
    save_at_ms: Option<u64>,
    saved_at_ms: Option<u64>,
    retired: Retired,
    held: HeldSnapshots,
    sweep_at_ms: u64,
    chance: Chance,
    began: Instant,
    refused: Vec<Refusal>,
    refusal_told: Option<String>,
    /// When the end gives up waiting for the server.
    end_by_ms: Option<u64>,
}

impl Pump {
    pub(crate) fn new(setup: Setup, shared: Arc<Shared>, control: Arc<Control>) -> Pump {
        let Setup { environment, identity, servers, disk, bootstrap, connections } = setup;
        let (low, high) = identity.instance.split_at(8);
        let half = |bytes: &[u8]| bytes.iter().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
        Pump {
            machine: Machine::new(Keeper::new(environment), servers.len()),
            chance: Chance::new(half(low) ^ half(high)),
            identity,
            servers,
            connections,
            server: String::new(),
            shared,
            control,
            wire: Wire::Closed,
            outbox: Outbox::default(),
            loading: disk.map(disk_thread::read),
            saving: None,
            bootstrap,
            disk: None,
            save_at_ms: None,
            saved_at_ms: None,
            retired: Retired::default(),
            held: HeldSnapshots::default(),
            sweep_at_ms: 0,
            began: Instant::now(),
            refused: Vec::new(),
            refusal_told: None,
            end_by_ms: None,
        }
    }

    pub(crate) async fn run(mut self) {
        if self.loading.is_none() {
            let bootstrap = self.bootstrap.take();
            self.on(Event::Loaded(Box::new(Loaded { bootstrap, ..Loaded::default() })));
        }
        self.on(Event::Start);
        while !self.is_over() {
            let wake = self.began + Duration::from_millis(self.next_wake_ms());
            let turn = tokio::select! {
                () = self.control.notify.notified() => Turn::Due,
                () = tokio::time::sleep_until(wake) => Turn::Due,
                event = self.wire.next() => Turn::Incoming(event),
                () = writable(&self.outbox) => Turn::Writable,
                read = disk_thread::answer(&mut self.loading) => Turn::Loaded(Box::new(read)),
                written = disk_thread::answer(&mut self.saving) => Turn::Saved(written),
            };
            match turn {
                Turn::Due => {}
                Turn::Incoming(event) => self.incoming(event),
                Turn::Writable => self.outbox.send_next(&self.machine, &self.identity, self.held),
                Turn::Loaded(read) => self.loaded(*read),
                Turn::Saved(written) => self.saved(written),
            }
            self.keep_house();
        }
        self.finish_saving().await;
    }

    /// Gives it a disk that is not read first, and a state that is being written to it.
    #[cfg(test)]
    pub(super) fn take_disk(&mut self, disk: Disk, saving: Option<oneshot::Receiver<Written>>) {
        self.disk = Some(Arc::new(disk));
        self.saving = saving;
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_over(&self) -> bool {
        self.end_by_ms
            .is_some_and(|end_by_ms| matches!(self.wire, Wire::Closed) || self.now_ms() >= end_by_ms)
    }

    fn next_wake_ms(&self) -> u64 {
        let waiters = self.control.wakes.lock().unwrap_or_else(PoisonError::into_inner).iter().min().copied();
        let waiters_ms = waiters.map(|moment| {
            let after = Instant::from_std(moment).saturating_duration_since(self.began);
            // Rounded up, so that the moment has come when they are woken.
            u64::try_from(after.as_millis()).unwrap_or(u64::MAX).saturating_add(1)
        });
        let sweep_ms = (!self.retired.is_empty()).then_some(self.sweep_at_ms);
        let save_ms = self.save_at_ms.filter(|_| self.may_save());
        let all = [self.machine.next_wake_ms(), save_ms, sweep_ms, waiters_ms, self.end_by_ms];
        // With nothing to wait for the loop still turns now and then.
        all.into_iter().flatten().min().unwrap_or(self.now_ms() + 60_000)
    }

    /// What is due, whatever woke us.
    fn keep_house(&mut self) {
        let now_ms = self.now_ms();
        if self.control.stopping.load(Ordering::Acquire) && self.end_by_ms.is_none() {
            self.end_by_ms = Some(now_ms + BYE_PATIENCE_MS);
            self.on(Event::Stop);
        }
        if self.machine.next_wake_ms().is_some_and(|at_ms| now_ms >= at_ms) {
            self.on(Event::Tick);
        }
        if !self.retired.is_empty() && now_ms >= self.sweep_at_ms {
            self.sweep(now_ms);
        }
        if self.may_save() && self.save_at_ms.is_some_and(|at_ms| now_ms >= at_ms) {
            self.save();
        }
        let now = std::time::Instant::now();
        let mut wakes = self.control.wakes.lock().unwrap_or_else(PoisonError::into_inner);
        let before = wakes.len();
        wakes.retain(|moment| *moment > now);
        let due = wakes.len() < before;
        drop(wakes);
        if due {
            self.shared.bulletin.wake_all();
        }
    }

    fn incoming(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Opened(opened) => {
                self.wire = Wire::Open(opened);
                self.on(Event::Opened);
            }
            Incoming::Message(message) => self.on(Event::Message(message)),
            Incoming::Ended(why) => {
                self.close();
                self.on(Event::Ended(why));
            }
        }
    }

    fn on(&mut self, event: Event) {
        let moment = Moment { now_ms: self.now_ms(), random: self.chance.next() };
        let actions = self.machine.on(event, moment);
        let mut published = None;
        let mut told = None;
        for action in actions {
            match action {
                Action::Connect { server } => self.connect(server),
                Action::Hello => self.outbox.hello = true,
                Action::Acknowledge => self.outbox.ack = true,
                Action::NeedFull(why) => {
                    self.shared.need_full.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(why, "what the server sent does not fit; asking for the whole state");
                    self.outbox.need_full = Some(why);
                }
                Action::Bye => self.outbox.farewell = Farewell::Due,
                Action::Close => self.close(),
                Action::Publish(view) => {
                    self.publish(&view);
                    published = Some(view);
                }
                Action::WriteKills(kills) => {
                    if !self.write(&kills) {
                        self.save_at_ms.get_or_insert(moment.now_ms + SAVE_RETRY_MS);
                    }
                }
                Action::SaveState => {
                    let earliest_ms = self.saved_at_ms.map_or(0, |at_ms| at_ms + SAVE_INTERVAL_MS);
                    self.save_at_ms.get_or_insert(moment.now_ms.max(earliest_ms));
                }
                Action::Tell(link) => told = Some(link),
            }
        }
        self.announce(published.as_deref(), told);
    }

    fn publish(&mut self, view: &Arc<View>) {
        let now_ms = self.now_ms();
        let before = self.shared.swap(view);
        self.retired.add(before, now_ms);
        self.sweep(now_ms);
    }

    /// Tells the log and whoever subscribed, after everything else: a callback may take its time.
    fn announce(&mut self, published: Option<&View>, told: Option<Link>) {
        if let Some(view) = published {
            let epoch = view.position.epoch;
            let (revision, digest) = (view.position.revision.0, view.position.digest);
            tracing::info!(revision, %epoch, %digest, source = ?view.source, "a state is in use");
            for refusal in view.refused.iter().filter(|refusal| !self.refused.contains(refusal)) {
                let last_good = refusal.last_good.is_some();
                tracing::warn!(entry = %refusal.id, revision, last_good, why = %refusal.why, "an entry is refused");
            }
            self.refused.clone_from(&view.refused);
        }
        let connection = told.map(|link| self.tell(link));
        self.shared.bulletin.put(|update| {
            if let Some(view) = published {
                update.revision = view.position.revision.0;
            }
            if let Some(connection) = connection {
                update.connection = connection;
            }
        });
    }

    /// The connection in the caller's words, with what follows from it for staleness.
    fn tell(&mut self, link: Link) -> Connection {
        let server = self.server.clone();
        self.shared.set_diverged(self.machine.is_diverged());
        match link {
            Link::Current => self.shared.confirm(),
            _ => self.shared.doubt(),
        }
        if !matches!(link, Link::Connecting(_) | Link::CatchingUp | Link::Waiting(_)) {
            self.shared.set_answered();
        }
        let connection = match link {
            Link::Connecting(_) => Connection::Connecting { server },
            Link::CatchingUp => Connection::CatchingUp { server },
            Link::Current => Connection::Connected { server },
            Link::ServerBehind => Connection::ServerBehind { server },
            Link::Diverged => Connection::Diverged { server },
            Link::Waiting(why) => Connection::Waiting { why },
            Link::Refused(message) => Connection::Refused { message },
        };
        let before = self.shared.bulletin.update().connection;
        if before == connection {
            return connection;
        }
        match &connection {
            Connection::Connecting { .. } | Connection::CatchingUp { .. } => tracing::debug!(%connection),
            Connection::Waiting { .. } if matches!(before, Connection::Connecting { .. }) => {
                tracing::debug!(%connection);
            }
            Connection::Refused { message } => {
                if self.refusal_told.as_ref() != Some(message) {
                    tracing::error!("{connection}; flags keep their last values");
                    self.refusal_told = Some(message.clone());
                }
            }
            Connection::Connected { .. } => tracing::info!("{connection}"),
            _ => tracing::warn!("{connection}"),
        }
        connection
    }

    fn connect(&mut self, server: usize) {
        let Some(server) = self.servers.get(server).cloned() else { return };
        self.shared.connects.fetch_add(1, Ordering::Relaxed);
        self.server.clone_from(&server.address);
        let (sender, receiver) = mpsc::channel(1);
        self.outbox = Outbox { sender: Some(sender), ..Outbox::default() };
        self.wire = Wire::open(self.connections.clone(), server, ReceiverStream::new(receiver));
    }

    fn close(&mut self) {
        self.wire = Wire::Closed;
        self.outbox = Outbox::default();
    }

    /// Frees old views, and tells the server when what is held has changed.
    fn sweep(&mut self, now_ms: u64) {
        let held = self.retired.sweep(now_ms);
        let told = (self.held.count, self.held.oldest_revision);
        if told != (held.count, held.oldest_revision) && self.machine.may_speak() {
            self.outbox.ack = true;
        }
        self.held = held;
        self.shared.set_held(held);
        self.sweep_at_ms = now_ms + SWEEP_INTERVAL_MS;
    }

    fn loaded(&mut self, (disk, found, role): DiskRead) {
        self.loading = None;
        let folder = disk.folder().to_owned();
        self.disk = Some(Arc::new(disk));
        let found = found.unwrap_or_else(|error| {
            self.disk_failed(&error);
            Found::default()
        });
        for skipped in &found.skipped {
            tracing::warn!("a file of the state on disk is passed over: {skipped}");
        }
        match role {
            Ok(Role::Writer) => self.shared.set_disk(DiskStatus::Writing { folder }),
            Ok(Role::Reader) => self.shared.set_disk(DiskStatus::ReadOnly { folder }),
            Err(error) => self.disk_failed(&error),
        }
        if let Some(state) = found.state.as_ref().filter(|_| !self.shared.has_answered()) {
            self.shared.remember_confirmation(state.confirmed_at_ms);
        }
        let state = found.state.map(|saved| (saved.state, saved.last_good));
        let loaded = Loaded { state, kills: found.kills, bootstrap: self.bootstrap.take() };
        self.on(Event::Loaded(Box::new(loaded)));
        if !self.write_kills() {
            let retry_ms = self.now_ms() + SAVE_RETRY_MS;
            self.save_at_ms.get_or_insert(retry_ms);
        }
    }

    /// Writes the kills down if that is still to be done; whether nothing of it is left.
    fn write_kills(&mut self) -> bool {
        self.machine.kills_to_write().is_none_or(|kills| self.write(&kills))
    }

    /// Whether the kills were written. A disk that fails does not keep them from being acknowledged.
    pub(super) fn write(&mut self, kills: &Kills) -> bool {
        let saved = self.disk.as_ref().map(|disk| disk.save_kills(kills));
        let failed = matches!(saved, Some(Err(_)));
        self.shared.set_kills_unwritten(failed);
        if failed {
            let flags = kills.by_flag.len();
            tracing::error!(
                flags,
                "the kills in use could not be written down: a restart without a server forgets them"
            );
        }
        let written = self.disk_answered(saved);
        if !written {
            self.machine.kills_not_written();
        }
        written
    }

    fn save(&mut self) {
        self.save_at_ms = None;
        let kills_written = self.write_kills();
        if !kills_written && self.disk.is_some() && self.end_by_ms.is_none() {
            self.save_at_ms = Some(self.now_ms() + SAVE_RETRY_MS);
        }
        let Some(state) = self.machine.keeper().state() else { return };
        let refused = &self.machine.keeper().view().refused;
        let last_good =
            refused.iter().filter_map(|refusal| Some((refusal.id.clone(), refusal.last_good.clone()?)));
        let saved = SavedState {
            state: state.clone(),
            last_good: last_good.collect(),
            confirmed_at_ms: self.shared.confirmed_at_ms(),
        };
        self.saved_at_ms = Some(self.now_ms());
        self.saving = self.disk.clone().map(|disk| disk_thread::write(disk, saved));
    }

    /// One state is written at a time: while it is, a newer one waits, and only the newest.
    fn may_save(&self) -> bool {
        self.disk.is_some() && self.saving.is_none()
    }

    fn saved(&mut self, written: Written) {
        self.saving = None;
        if !self.disk_answered(Some(written)) {
            self.save_at_ms = Some(self.now_ms() + SAVE_RETRY_MS);
        }
    }

    /// The end waits a moment for the disk, as it does for the server.
    pub(super) async fn finish_saving(&mut self) {
        let patience = Duration::from_millis(BYE_PATIENCE_MS);
        let finish = async {
            if self.saving.is_some() {
                let written = disk_thread::answer(&mut self.saving).await;
                self.saving = None;
                self.disk_answered(Some(written));
            }
            if self.save_at_ms.is_some() {
                self.save();
                if self.saving.is_some() {
                    let written = disk_thread::answer(&mut self.saving).await;
                    self.disk_answered(Some(written));
                }
            }
        };
        if tokio::time::timeout(patience, finish).await.is_err() {
            tracing::error!("the last state could not be written down in time");
        }
    }

    /// Whether something was written; tells the status and the log what happened.
    fn disk_answered(&mut self, answer: Option<Result<Role, DiskError>>) -> bool {
        let (Some(answer), Some(disk)) = (answer, &self.disk) else { return false };
        let folder = disk.folder().to_owned();
        match answer {
            Ok(Role::Writer) => {
                self.shared.set_disk(DiskStatus::Writing { folder });
                true
            }
            Ok(Role::Reader) => {
                self.shared.set_disk(DiskStatus::ReadOnly { folder });
                false
            }
            Err(error) => {
                self.disk_failed(&error);
                false
            }
        }
    }

    fn disk_failed(&self, error: &DiskError) {
        let Some(disk) = &self.disk else { return };
        self.shared.disk_errors.fetch_add(1, Ordering::Relaxed);
        tracing::error!(%error, "the state on disk cannot be used; the state in memory is not affected");
        let folder = disk.folder().to_owned();
        self.shared.set_disk(DiskStatus::Failing { folder, message: error.to_string() });
    }
}

impl Outbox {
    fn is_empty(&self) -> bool {
        !(self.hello || self.need_full.is_some() || self.ack || self.farewell == Farewell::Due)
    }

    /// Sends the next message, built now: it carries the state of now. Only called when there is room.
    fn send_next(&mut self, machine: &Machine, identity: &Identity, held: HeldSnapshots) {
        let message = if std::mem::take(&mut self.hello) {
            // It is an acknowledgement as well.
            self.ack = false;
            messages::hello(identity, machine, held)
        } else if let Some(why) = self.need_full.take() {
            self.ack = false;
            messages::need_full(machine, held, why)
        } else if std::mem::take(&mut self.ack) {
            messages::ack(machine, held)
        } else {
            self.farewell = Farewell::Said;
            messages::bye()
        };
        if let Some(sender) = &self.sender {
            // When the stream is gone its end comes by the other way.
            let _ = sender.try_send(message);
        }
        if self.farewell == Farewell::Said {
            // Nothing follows a `Bye`: our half of the stream is closed.
            self.sender = None;
        }
    }
}

/// What woke the feed.
enum Turn {
    Due,
    Incoming(Incoming),
    Writable,
    Loaded(Box<DiskRead>),
    Saved(Written),
}

/// Resolves when something waits to be sent and may be.
async fn writable(outbox: &Outbox) {
    match &outbox.sender {
        Some(sender) if !outbox.is_empty() => match sender.reserve().await {
            Ok(room) => drop(room),
            // The stream is gone; its end comes by the other way.
            Err(_) => pending().await,
        },
        _ => pending().await,
    }
}
