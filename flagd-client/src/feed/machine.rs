//! What a client does about everything that can happen on its stream.
//!
//! One synchronous state machine: events in, actions out. It knows the rules of docs/protocol.md - what applies to
//! what, when to ask for everything, when to wait and how long - and holds the state. It has no clock (the time
//! is an argument), no socket, no disk and no chance of its own, so that every way in which a stream can end
//! is a row in a table of tests. How a state is put together and compiled stands in `keeper`.

use flagd_core::revision::{Position, Revision};
use flagd_proto::stream::server_message::Message;
use flagd_proto::{convert, stream};

use super::backoff::{self, Rounds};
use super::keeper::{Keeper, Kills, Loaded, Outcome, Seen};
use super::parts::{DeltaParts, FullParts};
use crate::view::View;
use std::sync::Arc;

/// Opening a stream may take so long.
pub(crate) const OPEN_TIMEOUT_MS: u64 = 5_000;
/// Silence for three heartbeats is a broken connection.
pub(crate) const SILENCE_MS: u64 = 30_000;
/// A connection that held so long was a good one: the next wait starts small again.
pub(crate) const HEALTHY_MS: u64 = 10_000;
/// A server that was asked for everything and sends something else for so long is given up.
pub(crate) const FULL_PATIENCE_MS: u64 = 120_000;
/// A server whose view of its store is older than this does not confirm our state; a server says so when its view
/// becomes as old.
pub(crate) const VIEW_AGE_MAX_MS: u64 = 8_000;
/// No server sends its clients away for longer.
pub(crate) const RETRY_AFTER_MAX_MS: u64 = 600_000;
/// After so many full states in a row that did not add up the client has diverged.
pub(crate) const BAD_FULLS_MAX: u32 = 3;

/// What can happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// The feed begins.
    Start,
    /// The disk and the bootstrap file were read.
    Loaded(Box<Loaded>),
    /// The server has accepted the call.
    Opened,
    /// The server says something.
    Message(Box<stream::ServerMessage>),
    /// The stream has ended, or could not be opened, in any way.
    Ended(String),
    /// The time that [`Machine::next_wake_ms`] named has come.
    Tick,
    /// The application ends.
    Stop,
}

/// What is to be done, in this order.
#[derive(Debug)]
pub(crate) enum Action {
    /// Open a stream to this server.
    Connect { server: usize },
    /// Send a `Hello`, as the stream's first message.
    Hello,
    /// Send an `Ack` with the complete state.
    Acknowledge,
    /// Ask for everything.
    NeedFull(&'static str),
    /// Send a `Bye` and half-close.
    Bye,
    /// Drop the stream.
    Close,
    /// Put this view in use.
    Publish(Arc<View>),
    /// Write the kills down, before anything is acknowledged.
    WriteKills(Kills),
    /// The state should be written down soon.
    SaveState,
    /// Tell how the connection is.
    Tell(Link),
}

/// How the connection is, as the machine knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Connecting(usize),
    CatchingUp,
    Current,
    ServerBehind,
    Diverged,
    Waiting(String),
    Refused(String),
}

/// Where the one stream stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Before the start, and after the end.
    Idle,
    /// Being opened. It counts as open when the server has accepted it and the `Hello`, which waits for the
    /// disk, is under way; either may come first.
    Connecting { since_ms: u64, hello_sent: bool, opened: bool },
    /// Open.
    Open { since_ms: u64, heard_ms: u64 },
    /// Between two streams.
    Waiting { until_ms: u64 },
}

/// The whole state being asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asking {
    No,
    /// Asked; what comes before the answer is ignored.
    Since(u64),
    /// To be asked (again) at this time.
    At(u64),
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Machine {
    servers: usize,
    server: usize,
    phase: Phase,
    rounds: Rounds,
    connect_counter: u64,
    loaded: bool,
    keeper: Keeper,
    asking: Asking,
    bad_fulls: u32,
    diverged: bool,
    full: Option<FullParts>,
    delta: Option<DeltaParts>,
}

/// Time and chance of one event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now_ms: u64,
    pub(crate) random: u64,
}

impl Machine {
    pub(crate) fn new(keeper: Keeper, servers: usize) -> Machine {
        Machine {
            servers: servers.max(1),
            server: 0,
            phase: Phase::Idle,
            rounds: Rounds::of(servers),
            connect_counter: 0,
            loaded: false,
            keeper,
            asking: Asking::No,
            bad_fulls: 0,
            diverged: false,
            full: None,
            delta: None,
        }
    }

    /// The state and what is made of it.
    pub(crate) fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// The kills, if they still have to be written down.
    pub(crate) fn kills_to_write(&mut self) -> Option<Kills> {
        self.keeper.kills_to_write()
    }

    /// The kills could not be written down.
    pub(crate) fn kills_not_written(&mut self) {
        self.keeper.kills_not_written();
    }

    /// How many streams were opened so far.
    pub(crate) fn connect_counter(&self) -> u64 {
        self.connect_counter
    }

    /// Whether the server's digest cannot be reached.
    pub(crate) fn is_diverged(&self) -> bool {
        self.diverged
    }

    /// Whether the `Hello` of this stream is under way, so that more may follow it.
    pub(crate) fn may_speak(&self) -> bool {
        matches!(self.phase, Phase::Open { .. } | Phase::Connecting { hello_sent: true, .. })
    }

    /// What to do about an event.
    pub(crate) fn on(&mut self, event: Event, moment: Moment) -> Vec<Action> {
        let mut todo = Vec::new();
        match event {
            Event::Start => self.connect(moment, &mut todo),
            Event::Loaded(loaded) => self.take_loaded(*loaded, moment, &mut todo),
            Event::Opened => self.opened(moment, &mut todo),
            Event::Message(message) => self.message(*message, moment, &mut todo),
            Event::Ended(why) => self.ended(why, moment, &mut todo),
            Event::Tick => self.tick(moment, &mut todo),
            Event::Stop => {
                // A server that may have heard our Hello shall not expect us any longer.
                todo.push(if self.may_speak() { Action::Bye } else { Action::Close });
                self.phase = Phase::Idle;
            }
        }
        todo
    }

    /// When the next [`Event::Tick`] is due: the one timer of the feed.
    pub(crate) fn next_wake_ms(&self) -> Option<u64> {
        let phase = match self.phase {
            Phase::Idle => return None,
            Phase::Connecting { since_ms, .. } => since_ms + OPEN_TIMEOUT_MS,
            Phase::Open { heard_ms, .. } => heard_ms + SILENCE_MS,
            Phase::Waiting { until_ms } => until_ms,
        };
        match self.asking {
            Asking::No => Some(phase),
            Asking::Since(since_ms) => Some(phase.min(since_ms + FULL_PATIENCE_MS)),
            Asking::At(at_ms) => Some(phase.min(at_ms)),
        }
    }

    fn connect(&mut self, moment: Moment, todo: &mut Vec<Action>) {
        self.connect_counter += 1;
        self.rounds.attempt();
        self.phase = Phase::Connecting { since_ms: moment.now_ms, hello_sent: self.loaded, opened: false };
        todo.push(Action::Connect { server: self.server });
        todo.push(Action::Tell(Link::Connecting(self.server)));
        if self.loaded {
            todo.push(Action::Hello);
        }
    }

    fn take_loaded(&mut self, loaded: Loaded, moment: Moment, todo: &mut Vec<Action>) {
        self.loaded = true;
        if let Some(view) = self.keeper.load(loaded) {
            todo.push(Action::Publish(view));
            if self.may_speak() {
                // The server was told of a state without these kills, or of none.
                todo.push(Action::Acknowledge);
            }
        }
        if let Phase::Connecting { hello_sent: hello_sent @ false, opened, .. } = &mut self.phase {
            *hello_sent = true;
            let opened = *opened;
            todo.push(Action::Hello);
            if opened {
                self.opened(moment, todo);
            }
        }
    }

    fn opened(&mut self, Moment { now_ms, .. }: Moment, todo: &mut Vec<Action>) {
        let Phase::Connecting { hello_sent, opened, .. } = &mut self.phase else { return };
        *opened = true;
        if *hello_sent {
            self.rounds.connected();
            self.phase = Phase::Open { since_ms: now_ms, heard_ms: now_ms };
            todo.push(Action::Tell(Link::CatchingUp));
        }
    }

    /// Everything that belongs to one stream is forgotten; what is in use stays.
    fn leave(&mut self, moment: Moment, todo: &mut Vec<Action>) {
        if let Phase::Open { since_ms, .. } = self.phase
            && moment.now_ms.saturating_sub(since_ms) >= HEALTHY_MS
        {
            self.rounds.held();
        }
        self.full = None;
        self.delta = None;
        self.asking = Asking::No;
        self.keeper.give_up_catching();
        self.server = (self.server + 1) % self.servers;
        todo.push(Action::Close);
    }

    fn ended(&mut self, why: String, moment: Moment, todo: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Idle | Phase::Waiting { .. }) {
            return;
        }
        let was_open = matches!(self.phase, Phase::Open { .. });
        self.leave(moment, todo);
        let delay_ms = if was_open {
            self.rounds.after_loss_ms(moment.random)
        } else {
            self.rounds.after_failure_ms(moment.random)
        };
        self.phase = Phase::Waiting { until_ms: moment.now_ms.saturating_add(delay_ms) };
        todo.push(Action::Tell(Link::Waiting(why)));
    }

    fn tick(&mut self, moment: Moment, todo: &mut Vec<Action>) {
        let now_ms = moment.now_ms;
        match self.phase {
            Phase::Waiting { until_ms } if now_ms >= until_ms => return self.connect(moment, todo),
            Phase::Connecting { since_ms, opened, .. } if now_ms >= since_ms + OPEN_TIMEOUT_MS => {
                // A disk that hangs does not keep us from the server for ever.
                self.loaded = true;
                let who = if opened { "from the disk" } else { "from the server" };
                return self.ended(format!("no answer {who} within {OPEN_TIMEOUT_MS} ms"), moment, todo);
            }
            Phase::Open { heard_ms, .. } if now_ms >= heard_ms + SILENCE_MS => {
                return self.ended(format!("the server was silent for {SILENCE_MS} ms"), moment, todo);
            }
            _ => {}
        }
        match self.asking {
            Asking::At(at_ms) if now_ms >= at_ms => {
                self.asking = if self.diverged { Asking::No } else { Asking::Since(now_ms) };
                todo.push(Action::NeedFull("digest"));
            }
            Asking::Since(since_ms) if now_ms >= since_ms + FULL_PATIENCE_MS => {
                self.ended("the server did not send the full state that was asked for".into(), moment, todo);
            }
            _ => {}
        }
    }

    fn message(&mut self, message: stream::ServerMessage, moment: Moment, todo: &mut Vec<Action>) {
        match &mut self.phase {
            Phase::Open { heard_ms, .. } => *heard_ms = moment.now_ms,
            // A server need not wait for our `Hello` to send us away.
            Phase::Connecting { opened: true, .. }
                if matches!(message.message, Some(Message::GoAway(_) | Message::Refused(_))) => {}
            _ => return,
        }
        match message.message {
            // A message of a later version: alive, and nothing else.
            None => {}
            Some(Message::Full(part)) => self.full_part(&part, moment, todo),
            Some(Message::Delta(delta)) => self.delta_part(delta, moment, todo),
            Some(Message::CatchUp(catch_up)) => self.catch_up(Revision(catch_up.until), moment, todo),
            Some(Message::Heartbeat(heartbeat)) => self.heartbeat(&heartbeat, moment, todo),
            Some(Message::UpToDate(message)) => self.up_to_date(&message, moment, todo),
            Some(Message::GoAway(go_away)) => {
                // Nobody comes back at once, and not all together.
                let after_ms = go_away.retry_after_ms.clamp(backoff::BASE_MS, RETRY_AFTER_MAX_MS);
                self.leave(moment, todo);
                self.rounds.begin();
                let until_ms = moment.now_ms + backoff::spread_ms(after_ms, moment.random);
                self.phase = Phase::Waiting { until_ms };
                todo.push(Action::Tell(Link::Waiting(format!("sent away: {}", go_away.why))));
            }
            Some(Message::Refused(refused)) => {
                self.leave(moment, todo);
                self.rounds.begin();
                let until_ms = moment.now_ms + backoff::delay_ms(u32::MAX, moment.random);
                self.phase = Phase::Waiting { until_ms };
                todo.push(Action::Tell(Link::Refused(refused.message)));
            }
        }
    }

    fn full_part(&mut self, part: &stream::FullPart, moment: Moment, todo: &mut Vec<Action>) {
        self.delta = None;
        let mut parts =
            if part.part == 0 { FullParts::default() } else { self.full.take().unwrap_or_default() };
        parts.push(part);
        if !part.last {
            self.full = Some(parts);
            return;
        }
        match self.keeper.take_full(parts) {
            Outcome::InUse(changed) => {
                self.mended();
                self.acknowledge(changed, todo);
                todo.push(Action::Tell(Link::Current));
            }
            Outcome::Older => {
                self.asking = Asking::No;
                todo.push(Action::Tell(Link::ServerBehind));
            }
            Outcome::Ahead => {}
            Outcome::Wrong { why, kills } => self.bad_full(why, kills, moment, todo),
        }
    }

    /// The digest came out right: whatever was wrong before is over.
    fn mended(&mut self) {
        self.asking = Asking::No;
        self.bad_fulls = 0;
        self.diverged = false;
    }

    fn bad_full(&mut self, why: &'static str, kills: Option<Seen>, moment: Moment, todo: &mut Vec<Action>) {
        self.bad_fulls = self.bad_fulls.saturating_add(1);
        if self.bad_fulls < BAD_FULLS_MAX && !self.diverged {
            let at_ms = moment.now_ms + backoff::delay_ms(self.bad_fulls, moment.random);
            self.asking = Asking::At(at_ms);
            tracing::warn!(why, attempt = self.bad_fulls, "the server's full state does not add up");
            return;
        }
        self.diverged = true;
        self.asking = Asking::No;
        self.ask_late(moment);
        let changed = kills.and_then(|kills| self.keeper.obey(kills));
        todo.push(Action::Tell(Link::Diverged));
        self.publish(changed, todo);
        todo.push(Action::Acknowledge);
    }

    fn delta_part(&mut self, part: stream::Delta, moment: Moment, todo: &mut Vec<Action>) {
        if !self.diverged && self.asking != Asking::No {
            return;
        }
        let parts = match self.delta.take() {
            Some(mut parts) => {
                if !parts.push(part) {
                    return self.need_full("revision", moment, todo);
                }
                parts
            }
            None => DeltaParts::new(part),
        };
        if !parts.is_complete() {
            self.delta = Some(parts);
            return;
        }
        match self.keeper.take_delta(parts) {
            Outcome::InUse(changed) => {
                self.mended();
                self.acknowledge(changed, todo);
                todo.push(Action::Tell(Link::Current));
            }
            Outcome::Older | Outcome::Ahead => {}
            Outcome::Wrong { kills, .. } if self.diverged => {
                self.ask_late(moment);
                let changed = kills.and_then(|kills| self.keeper.obey(kills));
                if changed.is_some() {
                    self.publish(changed, todo);
                    todo.push(Action::Acknowledge);
                }
            }
            Outcome::Wrong { why, .. } => self.need_full(why, moment, todo),
        }
    }

    fn catch_up(&mut self, until: Revision, moment: Moment, todo: &mut Vec<Action>) {
        if self.asking != Asking::No && !self.diverged {
            return;
        }
        match self.keeper.start_catching(until) {
            Outcome::InUse(_) => self.confirmed(todo),
            Outcome::Wrong { why, .. } => self.need_full(why, moment, todo),
            Outcome::Ahead | Outcome::Older => {}
        }
    }

    fn up_to_date(&mut self, message: &stream::UpToDate, moment: Moment, todo: &mut Vec<Action>) {
        match position_of(message.position.as_ref()) {
            Some(theirs) if Some(theirs) == self.keeper.position() => self.confirmed(todo),
            _ => self.need_full("digest", moment, todo),
        }
    }

    fn confirmed(&mut self, todo: &mut Vec<Action>) {
        let was_diverged = self.diverged;
        self.mended();
        let changed = self.keeper.let_go();
        let news = was_diverged || changed.is_some();
        self.publish(changed, todo);
        todo.push(Action::Tell(Link::Current));
        if news {
            todo.push(Action::Acknowledge);
        }
    }

    fn heartbeat(&mut self, heartbeat: &stream::Heartbeat, moment: Moment, todo: &mut Vec<Action>) {
        if self.asking != Asking::No || self.full.is_some() || self.delta.is_some() {
            return;
        }
        let Some(theirs) = position_of(heartbeat.position.as_ref()) else { return };
        let Some(ours) = self.keeper.reached() else { return self.need_full("revision", moment, todo) };
        let (their_place, our_place) = ((theirs.epoch, theirs.revision), (ours.epoch, ours.revision));
        if their_place > our_place || (their_place == our_place && theirs.digest != ours.digest) {
            let why = if theirs.epoch == ours.epoch { "revision" } else { "epoch" };
            return self.need_full(why, moment, todo);
        }
        if their_place < our_place || heartbeat.view_age_ms > VIEW_AGE_MAX_MS {
            todo.push(Action::Tell(Link::ServerBehind));
        } else if !self.keeper.is_catching() {
            self.confirmed(todo);
        }
    }

    /// A client that has diverged goes on asking for everything, but slowly.
    fn ask_late(&mut self, moment: Moment) {
        if self.asking == Asking::No {
            let wait_ms = backoff::CAP_MS + backoff::delay_ms(u32::MAX, moment.random);
            self.asking = Asking::At(moment.now_ms + wait_ms);
        }
    }

    fn need_full(&mut self, why: &'static str, moment: Moment, todo: &mut Vec<Action>) {
        if self.diverged {
            return self.ask_late(moment);
        }
        self.full = None;
        self.delta = None;
        self.keeper.give_up_catching();
        self.asking = Asking::Since(moment.now_ms);
        todo.push(Action::Tell(Link::CatchingUp));
        todo.push(Action::NeedFull(why));
    }

    /// The swap, then the kills on disk, then the acknowledgement.
    fn acknowledge(&mut self, changed: Option<Arc<View>>, todo: &mut Vec<Action>) {
        let moved = changed.is_some();
        self.publish(changed, todo);
        todo.push(Action::Acknowledge);
        if moved {
            todo.push(Action::SaveState);
        }
    }

    fn publish(&mut self, changed: Option<Arc<View>>, todo: &mut Vec<Action>) {
        let Some(view) = changed else { return };
        todo.push(Action::Publish(view));
        if let Some(kills) = self.keeper.kills_to_write() {
            todo.push(Action::WriteKills(kills));
        }
    }
}

/// A position that cannot be read is none that we could compare with.
fn position_of(position: Option<&stream::Position>) -> Option<Position> {
    position.and_then(|position| convert::position_from_wire(position).ok())
}

#[cfg(test)]
mod tests;
