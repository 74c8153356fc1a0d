//! Environments as a whole: which there are, how they do, and how one comes into being.

use std::collections::BTreeMap;
use std::sync::Arc;

use flagd_core::entry::EntryKind;
use flagd_core::revision::Revision;
use flagd_proto::admin::{
    self, CreateEnvironmentRequest, CreateEnvironmentResponse, EnvironmentStatus, ListEnvironmentsResponse,
    OtherServer, StatusRequest, StatusResponse,
};
use flagd_proto::{convert, stream};

use super::read::Fresh;
use super::{Control, ControlError, change, request};
use crate::hub::relays::{PATH, RelaySighting};
use crate::hub::{Environment, Standing, Standings, Target};
use crate::limits;
use crate::store::{Created, StoreError};

impl Control {
    /// All environments, also those that another server created meanwhile.
    ///
    /// # Errors
    /// What the store says.
    pub async fn list_environments(&self) -> Result<ListEnvironmentsResponse, ControlError> {
        let mut environments = Vec::new();
        let summaries = self.all().await?.into_iter().map(async |environment| {
            let fresh = self.freshen(environment).await;
            let standings = self.standings(&fresh).await;
            summary(&fresh, &standings)
        });
        environments.extend(futures_util::future::join_all(summaries).await);
        Ok(ListEnvironmentsResponse { environments, server: self.server.clone() })
    }

    /// Brings an environment into being, empty, with a history of its own.
    ///
    /// # Errors
    /// [`ControlError::EnvironmentExists`], [`ControlError::TooManyEnvironments`], or what the store says.
    pub async fn create_environment(
        &self,
        request: CreateEnvironmentRequest,
    ) -> Result<CreateEnvironmentResponse, ControlError> {
        self.must_be_no_relay("creates no environments")?;
        let name = request::environment(&request.name)?;
        let known = self.hub.log().environments().await?;
        if known.contains(&name) {
            return Err(ControlError::EnvironmentExists(name));
        }
        // Its clients would lose every flag: a head that the store has lost comes back from a backup only.
        if self.hub.environments().iter().any(|environment| *environment.name() == name) {
            return Err(ControlError::HeadMissing(name));
        }
        if known.len() >= limits::ENVIRONMENTS_MAX {
            return Err(ControlError::TooManyEnvironments(limits::ENVIRONMENTS_MAX));
        }
        match self.hub.log().create(&name, self.hub.clock().now_ms()).await? {
            Created::New => {
                tracing::info!(environment = %name, actor = request.actor, "created an environment");
            }
            Created::Existed => return Err(ControlError::EnvironmentExists(name)),
        }
        let fresh = self.freshen(self.environment(&name).await?).await;
        let standings = self.standings(&fresh).await;
        Ok(CreateEnvironmentResponse {
            environment: Some(summary(&fresh, &standings)),
            server: self.server.clone(),
        })
    }

    /// How one environment, or each, and the server do.
    ///
    /// # Errors
    /// [`ControlError::UnknownEnvironment`], or what the store says.
    pub async fn status(&self, request: StatusRequest) -> Result<StatusResponse, ControlError> {
        let named = if request.environment.is_empty() {
            self.all().await?
        } else {
            vec![self.named(&request.environment).await?]
        };
        // The store may be away just when somebody asks how things are: what is not known is told as such.
        let quota = self.hub.log().quota().await.map(change::used_ppm);
        let statuses = named.into_iter().map(async |environment| {
            let fresh = self.freshen(environment).await;
            let standings = self.standings(&fresh).await;
            let oldest = self.hub.log().oldest(fresh.environment.name()).await;
            status(&fresh, &standings, oldest, quota.as_ref())
        });
        let environments = futures_util::future::join_all(statuses).await;
        let others = self.cluster.peers().into_iter();
        Ok(StatusResponse {
            server: self.server.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            store: self.hub.log().describe(),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            environments,
            others: others.map(|peer| OtherServer { name: peer.name, url: peer.url }).collect(),
            alarms: self.hub.vacancy().into_iter().collect(),
            relay_of: self.hub.upstream().unwrap_or_default().to_owned(),
        })
    }

    /// All clients of an environment, relative to its head.
    async fn standings(&self, fresh: &Fresh) -> Standings {
        let target = Target { position: fresh.position(), touched: Vec::new() };
        let merged = self.cluster.ask(&fresh.environment).await;
        fresh.environment.judge(merged, &target)
    }

    /// Those that the store has, and those that it has lost and this server still shows.
    async fn all(&self) -> Result<Vec<Arc<Environment>>, ControlError> {
        let stored = match self.hub.log().environments().await {
            Ok(names) => names,
            Err(error) => {
                tracing::warn!(%error, "telling only of the environments that are shown here");
                Vec::new()
            }
        };
        for name in stored {
            self.environment(&name).await?;
        }
        Ok(self.hub.environments())
    }
}

fn summary(fresh: &Fresh, standings: &Standings) -> admin::Environment {
    let state = fresh.state();
    let count = |kind| u32::try_from(state.entries_of(kind).count()).unwrap_or(u32::MAX);
    let connected = standings.clients.iter().filter(|client| client.connected).count();
    admin::Environment {
        name: fresh.environment.name().to_string(),
        position: Some(fresh.wire_position()),
        flags: count(EntryKind::FLAG),
        segments: count(EntryKind::SEGMENT),
        killed: count(EntryKind::KILL),
        clients: u32::try_from(connected).unwrap_or(u32::MAX),
    }
}

fn status(
    fresh: &Fresh,
    standings: &Standings,
    oldest: Result<Revision, StoreError>,
    quota_used_ppm: Result<&u32, &StoreError>,
) -> EnvironmentStatus {
    let mut alarms = fresh.environment.alarms();
    if let Err(error) = &oldest {
        alarms.push(format!("{error}; this server goes on with what it knows"));
    } else if let Err(error) = quota_used_ppm {
        alarms.push(format!("how full the store is cannot be told: {error}"));
    }
    let count = |wanted: &dyn Fn(&crate::hub::ClientStanding) -> bool| {
        u32::try_from(standings.clients.iter().filter(|client| wanted(client)).count()).unwrap_or(u32::MAX)
    };
    let refused = fresh.view.snapshot.refused().into_iter().map(|refusal| stream::RefusedEntry {
        id: Some(convert::entry_id_to_wire(&refusal.id)),
        why: refusal.why.to_string(),
    });
    EnvironmentStatus {
        environment: Some(summary(fresh, standings)),
        view_age_ms: fresh.view_age_ms,
        oldest_revision: oldest.map_or(0, |revision| revision.0),
        killed_flags: fresh.state().entries_of(EntryKind::KILL).map(|(id, _)| id.key.to_string()).collect(),
        refused: refused.collect(),
        clients_connected: count(&|client| client.connected),
        clients_up_to_date: count(&|client| client.standing == Standing::Applied),
        clients_lost: count(&|client| client.standing == Standing::Lost),
        alarms,
        quota_used_ppm: quota_used_ppm.copied().unwrap_or_default(),
        unanswered_servers: standings.unanswered.clone(),
        relays: relays(standings),
    }
}

/// The relays, each with how many clients are connected to it or to those behind it.
fn relays(standings: &Standings) -> Vec<admin::RelayInfo> {
    let mut connected: BTreeMap<&str, u32> = BTreeMap::new();
    for client in standings.clients.iter().filter(|client| client.connected) {
        *connected.entry(&client.client.via).or_default() += 1;
    }
    let info = |relay: &RelaySighting| {
        let inside = format!("{}{PATH}", relay.name);
        let is_behind = |via: &str| via == relay.name || via.starts_with(&inside);
        let behind = connected.iter().filter(|(via, _)| is_behind(via)).map(|(_, count)| count);
        admin::RelayInfo {
            name: relay.name.clone(),
            connected: relay.address.is_some(),
            address: relay.address.clone().unwrap_or_default(),
            last_seen_ms: relay.last_seen_ms,
            clients_connected: behind.sum(),
        }
    };
    standings.relays.iter().map(info).collect()
}
