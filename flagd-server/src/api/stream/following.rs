//! A stream after the Hello: what is written to it, and what its client says.
//!
//! Polled, never awaited: thousands of these are woken for each change, and one that makes a future for each thing it
//! may wait for spends more on that than on the frame it writes. So it looks only at what has woken it: the bell, its
//! client, or the rest.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use flagd_proto::frame::Frame;
use flagd_proto::stream::client_message::Message;
use futures_util::FutureExt as _;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};
use tonic::Status;

use super::super::connection::ready::Woken;
use super::super::gate::Ticket;
use super::inbound::Heard;
use super::{Farewell, Opening, go_away, hello, is_the_clients_fault};
use crate::hub::bell::Listener;
use crate::hub::environment::Memory;
use crate::hub::fulls::{Encoding, Full};
use crate::hub::roster::{Admission, Introduction, Seat};
use crate::hub::standing::Report;
use crate::hub::subscriber::{Pulled, Subscriber, Taken};
use crate::hub::{Environment, frames};
use crate::limits;

/// A stuck receiver keeps others from their full states no longer than this.
const FULL_SEND_MAX: Duration = Duration::from_secs(15);

/// A full state; the sender is dropped when its last part was taken.
type Granted = (Full, oneshot::Sender<()>);

/// A full state that was asked for.
struct Asked {
    granted: oneshot::Receiver<Granted>,
    /// Set when its turn has come: it is being prepared, and the newest state by then is in it.
    is_its_turn: Arc<AtomicBool>,
}

/// A client's place in the roster; giving it up in any way but `Bye` leaves the client as lost. A relay has no
/// seat in it.
pub(super) struct Place {
    environment: Arc<Environment>,
    seat: Option<Seat>,
}

impl Place {
    /// The place of a client that says hello, a signal that ends when it is taken over, and the save of the roster that
    /// will hold a client that was never seen.
    pub(super) fn take(
        environment: &Arc<Environment>,
        hello: Introduction,
    ) -> Result<(Place, oneshot::Receiver<()>, Option<Memory>), Farewell> {
        let (instance, name) = (hello.known.instance, hello.known.name.clone());
        let (admission, memory) = environment.connect(hello);
        match admission {
            Admission::Admitted { seat, replaced, first_seen } => {
                tracing::debug!(environment = %environment.name(), %instance, name, first_seen, "a client connected");
                environment.metrics().streams_open.enter();
                let place = Place { environment: Arc::clone(environment), seat: Some(seat) };
                Ok((place, replaced, memory))
            }
            Admission::Stale => Err(Farewell::Fail(Status::aborted(
                "a newer stream of this instance is open; this one is closed",
            ))),
            Admission::Crowded => Err(go_away("this environment has as many clients as it takes")),
        }
    }
}

impl Place {
    /// The place of a relay, which is no client.
    pub(super) fn of_relay(environment: &Arc<Environment>) -> Place {
        Place { environment: Arc::clone(environment), seat: None }
    }

    fn report(&self, report: Report) {
        if let Some(seat) = self.seat {
            self.environment.report(seat, report);
        }
    }

    fn bye(&self) {
        if let Some(seat) = self.seat {
            self.environment.bye(seat);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(seat) = self.seat else { return };
        // After a Bye the seat is empty and nothing happens.
        self.environment.leave(seat);
        self.environment.metrics().streams_open.leave();
    }
}

/// Something that a stream waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// It was woken by that.
    Due,
    /// It will be.
    Done,
}

/// What a stream has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// There may be something to write.
    MayHaveNews,
    /// There is nothing; what is new wakes it.
    Quiet,
}

/// After the Hello.
pub(super) struct Following {
    place: Place,
    _ticket: Option<Ticket>,
    replaced: Option<oneshot::Receiver<()>>,
    listener: Listener,
    encoding: Encoding,
    pub(super) subscriber: Subscriber,
    full: Option<Asked>,
    told_stale: bool,
    /// The log may hold something that was not pulled yet.
    may_have_news: bool,
    heartbeat: Pin<Box<Sleep>>,
    is_time_to_beat: bool,
    last_written: Instant,
    rest: Look,
}

impl Following {
    pub(super) fn new(
        place: Place,
        replaced: Option<oneshot::Receiver<()>>,
        ticket: Option<Ticket>,
        opening: Opening,
    ) -> Following {
        Following {
            listener: place.environment.listen(opening.ear),
            encoding: opening.encoding,
            place,
            _ticket: ticket,
            replaced,
            subscriber: Subscriber::default(),
            full: None,
            told_stale: false,
            may_have_news: true,
            heartbeat: Box::pin(tokio::time::sleep(limits::HEARTBEAT_INTERVAL)),
            is_time_to_beat: false,
            last_written: Instant::now(),
            rest: Look::Due,
        }
    }

    /// What it waited for has happened, as far as `woken` tells.
    pub(super) fn woken(&mut self, woken: Woken) {
        if woken.by_the_rest() {
            self.rest = Look::Due;
        }
    }

    /// Looks at what may have happened, until it waits for all of it.
    pub(super) fn look(&mut self, context: &mut Context<'_>, now: Instant) -> Result<Outlook, Farewell> {
        let has_rung = self.listener.has_rung();
        self.may_have_news |= has_rung;
        if has_rung && self.place.environment.is_closing() {
            return Err(go_away("this server stops"));
        }
        // What it finds may have to be looked at, too: a full state that is asked for anew.
        while std::mem::replace(&mut self.rest, Look::Done) == Look::Due {
            self.look_at_rest(context, now)?;
        }
        let has_work = self.subscriber.has_more() || self.may_pull() || self.is_beat_due();
        Ok(if has_work { Outlook::MayHaveNews } else { Outlook::Quiet })
    }

    /// Whether something is to be looked at.
    pub(super) fn is_due(&self) -> bool {
        self.rest == Look::Due
    }

    /// The next frame to write, now that there is room for it. `None`: nothing was new, or it must look again.
    pub(super) fn next_frame(&mut self, now: Instant) -> Option<Frame> {
        if !self.subscriber.has_more() && self.may_pull() {
            self.pull();
        }
        let frame = self.subscriber.pop().or_else(|| self.is_beat_due().then(|| self.beat()))?;
        self.is_time_to_beat = false;
        self.has_written(now);
        Some(frame)
    }

    /// Part of a frame was written.
    pub(super) fn has_written(&mut self, now: Instant) {
        self.last_written = now;
    }

    /// It has something to write and its client takes nothing, for so long that it holds on for nobody.
    pub(super) fn is_stuck(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last_written) >= limits::STUCK_MAX
    }

    /// Looks at everything that wakes it beside the bell.
    fn look_at_rest(&mut self, context: &mut Context<'_>, now: Instant) -> Result<(), Farewell> {
        if self.replaced.as_mut().is_some_and(|replaced| replaced.poll_unpin(context).is_ready()) {
            return Err(Farewell::Fail(Status::aborted("a newer stream of this instance took over")));
        }
        self.is_time_to_beat |= self.poll_heartbeat(context, now);
        if let Some(full) = &mut self.full
            && let Poll::Ready(granted) = full.granted.poll_unpin(context)
        {
            self.granted(granted.ok());
        }
        Ok(())
    }

    /// Changes go on while a full state waits for its turn, which may take half a minute: a kill among them is obeyed
    /// also by a client that cannot apply it, and one that asked without need applies it. When it is being prepared
    /// nothing more is taken, so that what comes is not older than what was written.
    fn may_pull(&self) -> bool {
        self.may_have_news && self.full.as_ref().is_none_or(|full| !full.is_its_turn.load(Ordering::SeqCst))
    }

    /// Takes the next change out of the log, or finds that it is too far behind.
    fn pull(&mut self) {
        let pulled = self.place.environment.deltas(|log| self.subscriber.pull(log));
        // Of one that fell out nothing but the full state helps. What comes into the log later rings.
        self.may_have_news = pulled == Pulled::Change;
        match pulled {
            Pulled::Change | Pulled::Newest => self.place.environment.metrics().deltas_sent.count(),
            Pulled::FellOut => self.ask_full(Duration::ZERO),
            Pulled::Nothing => {}
        }
    }

    fn granted(&mut self, granted: Option<Granted>) {
        self.full = None;
        // What could not be taken from the log before it can be after it.
        self.may_have_news = true;
        let Some((full, sending)) = granted else {
            // Whoever prepared it has failed; that is no reason to end the stream.
            let delay = self.subscriber.full_delay();
            return self.ask_full(delay);
        };
        match self.subscriber.queue_full(full, sending) {
            Taken::Queued => self.place.environment.metrics().fulls_sent.count(),
            // A change was taken in the moment in which its turn came.
            Taken::Older => self.ask_full(Duration::ZERO),
        }
    }

    /// Nothing was written for a while, or the view has become stale or fresh just now.
    fn is_beat_due(&self) -> bool {
        self.is_time_to_beat || self.told_stale != self.place.environment.is_stale()
    }

    fn beat(&mut self) -> Frame {
        let environment = &self.place.environment;
        self.told_stale = environment.is_stale();
        frames::heartbeat(self.subscriber.at(), environment.view_age_ms())
    }

    /// Whether nothing was written for so long that a heartbeat is due; waits until it may be so again.
    fn poll_heartbeat(&mut self, context: &mut Context<'_>, now: Instant) -> bool {
        let mut is_due = false;
        while self.heartbeat.as_mut().poll(context).is_ready() {
            // Time goes on while others are looked at.
            let now = now.max(self.heartbeat.deadline());
            let due = self.last_written + limits::HEARTBEAT_INTERVAL;
            is_due |= due <= now;
            self.heartbeat.as_mut().reset(if due <= now { now + limits::HEARTBEAT_INTERVAL } else { due });
        }
        is_due
    }

    /// Hears what the client says.
    pub(super) fn hear(&mut self, heard: Result<Heard, Status>, now: Instant) -> Result<(), Farewell> {
        let environment = &self.place.environment;
        let message = match heard {
            Ok(Heard::Message(message)) => message.message,
            Ok(Heard::Nothing) => return Ok(()),
            Ok(Heard::End) => return Err(Farewell::Silent),
            Err(status) if is_the_clients_fault(&status) => return Err(Farewell::Fail(status)),
            Err(status) => {
                tracing::debug!(environment = %environment.name(), %status, "a stream broke");
                return Err(Farewell::Silent);
            }
        };
        match message {
            Some(Message::Ack(ack)) => {
                let report = report_of(ack.state.as_ref())?;
                if let Some(took) = self.subscriber.acknowledged(report.position, now.into_std()) {
                    environment.metrics().acknowledged.observe(took);
                }
                environment.metrics().acks.count();
                self.place.report(report);
                Ok(())
            }
            Some(Message::NeedFull(need)) => {
                environment.metrics().need_full.of(&need.why).count();
                // Who asks again before it has the state says nothing new.
                if self.full.is_none() {
                    let why: String = need.why.chars().take(64).collect();
                    tracing::info!(environment = %environment.name(), why, "a client asks for the full state");
                }
                if need.state.is_some() {
                    self.place.report(report_of(need.state.as_ref())?);
                }
                let delay = self.subscriber.full_delay();
                self.ask_full(delay);
                Ok(())
            }
            Some(Message::Bye(_)) => {
                self.place.bye();
                Err(Farewell::Silent)
            }
            Some(Message::Hello(_)) => Err(Farewell::Fail(Status::invalid_argument("Hello is said once"))),
            // A message of a later version that this one does not know.
            None => Ok(()),
        }
    }

    /// Asks for the newest state and the right to send it, unless that was done already. A task prepares both: this
    /// stream may not be looked at for long, and must not keep others from theirs meanwhile.
    pub(super) fn ask_full(&mut self, delay: Duration) {
        if self.full.is_some() {
            return;
        }
        let (give, granted) = oneshot::channel();
        let is_its_turn = Arc::new(AtomicBool::new(false));
        self.full = Some(Asked { granted, is_its_turn: Arc::clone(&is_its_turn) });
        self.rest = Look::Due;
        let wanted = Wanted { encoding: self.encoding, delay, is_its_turn };
        tokio::spawn(grant_full(Arc::clone(&self.place.environment), wanted, give));
    }
}

/// What a stream wants when it asks for the full state.
struct Wanted {
    encoding: Encoding,
    delay: Duration,
    is_its_turn: Arc<AtomicBool>,
}

/// Waits for its turn, gives the newest state, and keeps the turn until it is sent, given up, or stuck.
async fn grant_full(environment: Arc<Environment>, wanted: Wanted, mut give: oneshot::Sender<Granted>) {
    let Wanted { encoding, delay, is_its_turn } = wanted;
    let prepare = async {
        tokio::time::sleep(delay).await;
        // The semaphore is never closed.
        let permit = environment.full_sends().acquire_owned().await.ok()?;
        is_its_turn.store(true, Ordering::SeqCst);
        Some((environment.full(encoding).await, permit))
    };
    let prepared = tokio::select! {
        () = give.closed() => return,
        prepared = prepare => prepared,
    };
    let Some((full, permit)) = prepared else { return };
    let (sending, sent) = oneshot::channel();
    if give.send((full, sending)).is_ok() {
        let _ = tokio::time::timeout(FULL_SEND_MAX, sent).await;
    }
    drop(permit);
}

fn report_of(state: Option<&flagd_proto::stream::ClientState>) -> Result<Report, Farewell> {
    hello::report(state).map_err(|why| Farewell::Fail(Status::invalid_argument(why)))
}
