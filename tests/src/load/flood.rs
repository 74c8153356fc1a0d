//! Work that keeps a server busy: changes of other flags, requests for the whole state, lists.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use flagd_proto::admin::change_request::Operation;
use flagd_proto::admin::{FlagNames, ListRequest, WaitVerdict};
use flagd_proto::stream::{ClientState, Position, server_message::Message};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::figures::{Row, Spread, Unit};
use super::options::Options;
use super::run::{Changer, change, publish, put};
use super::server::{Server, address_of};
use super::{Fleet, Plan};
use crate::raw::RawClient;
use crate::world::connect;

/// The flag that is killed.
const VICTIM: &str = "victim";
/// Flags in the environment under a flood of the tool.
const FILLERS: usize = 1_000;

/// How many do each sort of work, each as fast as it is answered.
#[derive(Clone, Copy, Debug)]
pub struct Workers {
    /// Change a flag of their own.
    pub writers: usize,
    /// Follow, and ask for the whole state whenever they have it.
    pub askers: usize,
    /// List all flags.
    pub listers: usize,
}

/// How often something was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Changes recorded.
    pub changes: usize,
    /// Whole states received.
    pub fulls: usize,
    /// Lists received.
    pub lists: usize,
}

/// A flood that goes on until it is ended.
#[derive(Debug)]
pub struct Flood {
    done: Arc<Done>,
    ends: watch::Sender<bool>,
    workers: JoinSet<Result<(), String>>,
}

#[derive(Debug, Default)]
struct Done {
    changes: AtomicUsize,
    fulls: AtomicUsize,
    lists: AtomicUsize,
}

impl Flood {
    /// Begins with so many flags in the environment, so that lists and whole states are large.
    ///
    /// # Errors
    /// What the server says.
    pub async fn start(
        url: &str,
        environment: &str,
        flags: usize,
        workers: Workers,
    ) -> Result<Flood, String> {
        let mut admin = connect(url).await.ok_or_else(|| format!("no server answers at {url}"))?;
        let filler: Vec<String> =
            (0..flags).map(|flag| format!(r#""filler-{flag}": {{"rollout": 50}}"#)).collect();
        put(&mut admin, environment, format!(r#"{{"flags": {{{}}}}}"#, filler.join(","))).await?;
        let done = Arc::new(Done::default());
        let (ends, ended) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let work = |number| Worker {
            url: url.to_owned(),
            environment: environment.to_owned(),
            number,
            done: Arc::clone(&done),
            ended: ended.clone(),
        };
        for number in 0..workers.writers {
            tasks.spawn(work(number).write());
        }
        for number in 0..workers.askers {
            tasks.spawn(work(number).ask());
        }
        for number in 0..workers.listers {
            tasks.spawn(work(number).list());
        }
        Ok(Flood { done, ends, workers: tasks })
    }

    /// What was done so far.
    #[must_use]
    pub fn done(&self) -> Work {
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        Work {
            changes: count(&self.done.changes),
            fulls: count(&self.done.fulls),
            lists: count(&self.done.lists),
        }
    }

    /// Ends it, and waits for what is under way.
    ///
    /// # Errors
    /// What went wrong meanwhile.
    pub async fn end(mut self) -> Result<(), String> {
        self.ends.send_replace(true);
        while let Some(ended) = self.workers.join_next().await {
            ended.map_err(|error| format!("a worker failed: {error}"))??;
        }
        Ok(())
    }
}

struct Worker {
    url: String,
    environment: String,
    number: usize,
    done: Arc<Done>,
    ended: watch::Receiver<bool>,
}

impl Worker {
    fn goes_on(&self) -> bool {
        !*self.ended.borrow()
    }

    async fn write(self) -> Result<(), String> {
        let mut admin = connect(&self.url).await.ok_or("no server answers")?;
        let flag = format!("flood-{}", self.number);
        let mut change = 0;
        while self.goes_on() {
            change += 1;
            publish(&mut admin, &self.environment, &flag, &format!("change {change}")).await?;
            self.done.changes.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn list(self) -> Result<(), String> {
        let mut admin = connect(&self.url).await.ok_or("no server answers")?;
        while self.goes_on() {
            let request = ListRequest { environment: self.environment.clone(), ..ListRequest::default() };
            admin.list(request).await.map_err(|status| format!("no list: {status}"))?;
            self.done.lists.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Acknowledges all it is sent, for it is expected to, and asks for everything again and again.
    async fn ask(mut self) -> Result<(), String> {
        let hello = RawClient::hello();
        let name = format!("asker-{}", self.number);
        let environment = self.environment.clone();
        let hello = flagd_proto::stream::Hello { environment, name, ..hello };
        let mut client = RawClient::connect_with(&self.url, hello).await;
        while self.goes_on() {
            let message = tokio::select! {
                message = client.next() => message,
                _ = self.ended.changed() => break,
            };
            let (position, again) = match message.ok_or("the server ended a stream that asks")? {
                Message::Full(part) if part.last => (part.position, true),
                Message::UpToDate(now) => (now.position, true),
                Message::Delta(delta) if !delta.more => (Some(position_after(delta)), false),
                _ => continue,
            };
            client.ack(ClientState { position, ..ClientState::default() }).await;
            if again {
                self.done.fulls.fetch_add(1, Ordering::Relaxed);
                client.need_full("digest").await;
            }
        }
        client.bye().await;
        Ok(())
    }
}

fn position_after(delta: flagd_proto::stream::Delta) -> Position {
    let flagd_proto::stream::Delta { epoch, to, digest, digest_algorithm, .. } = delta;
    Position { epoch, revision: to, digest, digest_algorithm }
}

/// Kills and revives a flag without a flood and under one, and answers with how long that took until all had confirmed.
///
/// # Errors
/// What went wrong: a kill that was not confirmed, a worker that failed.
pub async fn flood(options: &Options, say: &dyn Fn(&str)) -> Result<String, String> {
    let server = Server::start(options).await?;
    let mut changer = Changer::start(&server.url, &options.environment).await?;
    publish(&mut changer.admin, &options.environment, VICTIM, "to be killed").await?;
    say(&format!("opening {} streams over {} connections", options.streams, options.connections));
    let fleet = Fleet::connect(&Plan {
        address: address_of(&server.url).await?,
        environment: options.environment.clone(),
        streams: options.streams,
        connections: options.connections,
        hellos_per_second: options.hellos_per_second,
    })
    .await?;
    say("kills without a flood");
    let quiet = kills(&mut changer, &fleet, options).await?;
    let mut text = format!(
        "\n{} streams, {} kills and revives each way\n{}\n",
        options.streams,
        options.changes,
        Row::HEADING
    );
    tell(&mut text, "quiet", quiet);
    for (name, workers) in [
        ("writers", Workers { writers: 4, askers: 0, listers: 0 }),
        ("askers", Workers { writers: 0, askers: 8, listers: 0 }),
        ("listers", Workers { writers: 0, askers: 0, listers: 4 }),
        ("many listers", Workers { writers: 0, askers: 0, listers: 32 }),
        ("all of them", Workers { writers: 4, askers: 8, listers: 4 }),
    ] {
        say(&format!("kills under {name}"));
        let flood = Flood::start(&server.url, &options.environment, FILLERS, workers).await?;
        let (began, before) = (Instant::now(), flood.done());
        let times = kills(&mut changer, &fleet, options).await?;
        let (took, after) = (began.elapsed(), flood.done());
        flood.end().await?;
        tell(&mut text, name, times);
        let rate = |after: usize, before: usize| {
            (after - before) * 1_000 / usize::try_from(took.as_millis()).unwrap_or(1).max(1)
        };
        let _ = writeln!(
            text,
            "  meanwhile in a second: {} changes, {} whole states of {FILLERS} flags, {} lists",
            rate(after.changes, before.changes),
            rate(after.fulls, before.fulls),
            rate(after.lists, before.lists)
        );
    }
    fleet.leave().await?;
    Ok(text)
}

/// Of each kill and revive: until it was recorded, until the last stream had it, and until all had confirmed it, those who
/// ask for everything among them.
async fn kills(changer: &mut Changer, fleet: &Fleet, options: &Options) -> Result<[Spread; 3], String> {
    let (mut recorded, mut received, mut confirmed) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..options.changes {
        let flags = FlagNames { flags: vec![VICTIM.to_owned()] };
        let operation = if number % 2 == 0 { Operation::Kill(flags) } else { Operation::Revive(flags) };
        let sent = Instant::now();
        let revision = change(&mut changer.admin, &options.environment, operation).await?;
        recorded.push(sent.elapsed());
        let said = changer.wait(revision).await?;
        confirmed.push(sent.elapsed());
        let arrived = fleet.received(revision).await?;
        received.extend(arrived.last().map(|last| last.duration_since(sent)));
        if said.verdict != i32::from(WaitVerdict::Confirmed) {
            return Err(format!("revision {revision} is applied by {} of {}", said.applied, said.expected));
        }
        tokio::time::sleep(options.pause).await;
    }
    Ok([recorded, received, confirmed].map(|times| times.into_iter().collect()))
}

fn tell(text: &mut String, name: &str, [recorded, received, confirmed]: [Spread; 3]) {
    for (what, times) in [
        ("sent -> recorded", recorded),
        ("sent -> last stream has it", received),
        ("sent -> confirmed by all", confirmed),
    ] {
        let _ = writeln!(text, "{}", Row { what: format!("{name}: {what}"), times, unit: Unit::Ms });
    }
}
