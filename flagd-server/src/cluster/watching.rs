//! What all servers know of one environment's clients, as long as somebody wants to know it.
//!
//! Each other server is listened to by a task of its own (`listen`), which keeps that server's account here. Dropping
//! a [`Watching`] ends them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::{Peer, Peers, listen};
use crate::hub::Environment;
use crate::hub::merge::{self, Around, Glimpse, Hearsay, Merged, Sighting, Trust};
use crate::hub::relays::{self, RelaySighting};
use crate::hub::roster::News;
use crate::hub::standing::Report;
use crate::limits;

/// How long the first answers of all servers are waited for: the call, and a look into the store when there is none.
const ANSWERED_MAX: Duration = limits::PEER_ANSWER_MAX.saturating_mul(2);
/// How often absent clients are looked up in the store while somebody waits for them.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(1);

/// What all servers know of one environment's clients.
#[derive(Debug)]
pub(crate) struct Watching {
    /// The name of this server.
    name: String,
    environment: Arc<Environment>,
    accounts: Arc<Accounts>,
    bell: watch::Receiver<u64>,
    _supervisor: EndsWithIt,
}

/// What the other servers have told.
#[derive(Debug)]
pub(super) struct Accounts {
    by_server: Mutex<BTreeMap<u128, Account>>,
    bell: watch::Sender<u64>,
}

#[derive(Debug)]
struct Account {
    server: String,
    told: Told,
    clients: HashMap<u128, Sighting>,
    relays: Vec<RelaySighting>,
}

/// How much an account can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// It was asked a moment ago.
    NothingYet,
    /// It is as the server knows it.
    Current,
    /// The server does not answer.
    Silent,
    /// The server is not there any more.
    Gone,
}

/// A task that ends when this is dropped.
#[derive(Debug)]
struct EndsWithIt(AbortHandle);

impl Drop for EndsWithIt {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Watching {
    /// Asks all other servers, also those that come later.
    pub(super) fn begin(
        name: &str,
        environment: &Arc<Environment>,
        mut peers: watch::Receiver<Peers>,
        below_level: u32,
    ) -> Watching {
        let (ring, bell) = watch::channel(0);
        let accounts = Arc::new(Accounts { by_server: Mutex::default(), bell: ring });
        let mut listeners = Listeners {
            environment: Arc::clone(environment),
            accounts: Arc::clone(&accounts),
            below_level,
            tasks: JoinSet::new(),
            listening: HashMap::new(),
        };
        let now = Arc::clone(&peers.borrow_and_update());
        listeners.attend(&now);
        let supervisor = tokio::spawn(supervise(listeners, peers)).abort_handle();
        Watching {
            name: name.to_owned(),
            environment: Arc::clone(environment),
            accounts,
            bell,
            _supervisor: EndsWithIt(supervisor),
        }
    }

    /// Resolves when every server has answered, or has had its time.
    pub(super) async fn answered(&mut self) {
        let accounts = Arc::clone(&self.accounts);
        let all = self.bell.wait_for(|_| !accounts.is_one_asked());
        // Who has not answered by then counts as silent.
        let _ = tokio::time::timeout(ANSWERED_MAX, all).await;
    }

    /// Resolves when another server has told something new.
    pub(crate) async fn changed(&mut self) {
        // The supervisor holds the other end until this is dropped.
        if self.bell.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Each client once, and who did not answer.
    pub(crate) fn merged(&self) -> Merged {
        let mut clients = Vec::new();
        let Around { relays, unanswered } = self.look(|client| clients.push(client.copied()));
        Merged { clients, relays, unanswered }
    }

    /// Shows each client once, where it lies, and says what else is known. `visit` is held to what
    /// [`Environment::look`] asks of it.
    pub(crate) fn look(&self, visit: impl FnMut(Glimpse<'_>)) -> Around {
        // In this order: who is told by a relay that is there is in the roster.
        let own_relays = self.environment.relays.sightings();
        let accounts = self.accounts.lock();
        if accounts.is_empty() {
            drop(accounts);
            self.environment.look(visit);
            return Around { relays: own_relays, unanswered: Vec::new() };
        }
        let mut relays = vec![own_relays];
        let mut unanswered = Vec::new();
        let mut others = Vec::new();
        for account in accounts.values() {
            let trust = match account.told {
                Told::Current => Trust::Current,
                Told::NothingYet | Told::Silent | Told::Gone => Trust::OutOfSight,
            };
            match account.told {
                Told::Current => relays.push(account.relays.clone()),
                Told::NothingYet | Told::Silent => unanswered.push(account.server.clone()),
                Told::Gone => {}
            }
            others.push(Hearsay { clients: &account.clients, trust });
        }
        let own = |show: &mut dyn FnMut(Glimpse<'_>)| {
            self.environment.look(|client| show(Glimpse { server: &self.name, ..client }));
        };
        merge::each_once(own, &others, visit);
        drop(accounts);
        Around { relays: relays::merge(relays), unanswered }
    }
}

impl Accounts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u128, Account>> {
        self.by_server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_one_asked(&self) -> bool {
        self.lock().values().any(|account| account.told == Told::NothingYet)
    }

    fn edit(&self, server: u128, edit: impl FnOnce(&mut Account)) {
        if let Some(account) = self.lock().get_mut(&server) {
            edit(account);
        }
        self.bell.send_modify(|rung| *rung = rung.wrapping_add(1));
    }

    /// A server has told everything from the beginning.
    pub(super) fn replace(&self, server: u128, clients: HashMap<u128, Sighting>) {
        self.edit(server, |account| {
            account.told = Told::Current;
            account.clients = clients;
        });
    }

    /// A server has told which relays are behind it.
    pub(super) fn relays(&self, server: u128, relays: Vec<RelaySighting>) {
        self.edit(server, |account| account.relays = relays);
    }

    /// A server has told what changed.
    pub(super) fn update(&self, server: u128, news: News) {
        self.edit(server, |account| {
            account.clients.extend(news.changed.into_iter().map(|one| (one.known.instance, one)));
            for (position, instances) in news.arrived {
                for instance in instances {
                    if let Some(client) = account.clients.get_mut(&instance) {
                        client.known.position = Some(position);
                        client.report = Some(Report { position: Some(position), ..Report::default() });
                    }
                }
            }
            for instance in news.gone {
                account.clients.remove(&instance);
            }
        });
    }

    /// A server does not answer.
    pub(super) fn silence(&self, server: u128) {
        self.edit(server, |account| account.told = Told::Silent);
    }

    fn begin(&self, peer: &Peer) {
        let account = Account {
            server: peer.name.clone(),
            told: Told::NothingYet,
            clients: HashMap::new(),
            relays: Vec::new(),
        };
        self.lock().insert(peer.id, account);
    }

    fn end(&self, server: u128) {
        self.edit(server, |account| account.told = Told::Gone);
    }
}

/// The tasks that listen.
struct Listeners {
    environment: Arc<Environment>,
    accounts: Arc<Accounts>,
    below_level: u32,
    tasks: JoinSet<()>,
    listening: HashMap<u128, AbortHandle>,
}

impl Listeners {
    fn attend(&mut self, peers: &Peers) {
        self.listening.retain(|server, task| {
            let stays = peers.iter().any(|peer| peer.id == *server);
            if !stays {
                task.abort();
                self.accounts.end(*server);
            }
            stays
        });
        for peer in peers.iter() {
            if self.listening.contains_key(&peer.id) {
                continue;
            }
            self.accounts.begin(peer);
            let listening = listen::listen(
                Arc::clone(peer),
                Arc::clone(&self.environment),
                Arc::clone(&self.accounts),
                self.below_level,
            );
            self.listening.insert(peer.id, self.tasks.spawn(listening));
        }
    }
}

/// Listens to whoever is there, and looks into the store for those who are with nobody.
async fn supervise(mut listeners: Listeners, mut peers: watch::Receiver<Peers>) {
    loop {
        tokio::select! {
            changed = peers.changed() => {
                if changed.is_err() {
                    // The cluster is gone: the server stops.
                    return;
                }
                let now = Arc::clone(&peers.borrow_and_update());
                listeners.attend(&now);
            }
            () = tokio::time::sleep(RECONCILE_INTERVAL) => {
                let environment = &listeners.environment;
                if peers.borrow().is_empty() {
                    continue;
                }
                let looked_up = if environment.roster.has_absent() {
                    environment.reconcile().await
                } else if environment.relays.away().is_empty() {
                    Ok(())
                } else {
                    environment.reconcile_relays().await
                };
                if let Err(error) = looked_up {
                    tracing::debug!(%error, "absent clients and relays cannot be looked up");
                }
            }
        }
    }
}
