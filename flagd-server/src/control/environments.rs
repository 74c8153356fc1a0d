//! Environments as a whole: which there are, how they do, and how one comes into being.

use std::sync::Arc;

use flagd_core::entry::EntryKind;
use flagd_proto::admin::{
    self, CreateEnvironmentRequest, CreateEnvironmentResponse, EnvironmentStatus, ListEnvironmentsResponse,
    StatusRequest, StatusResponse,
};
use flagd_proto::{convert, stream};

use super::read::Fresh;
use super::{Control, ControlError, change, request};
use crate::hub::{Environment, Standing, Target};
use crate::limits;
use crate::store::Created;

impl Control {
    /// All environments, also those that another server created meanwhile.
    ///
    /// # Errors
    /// What the store says.
    pub async fn list_environments(&self) -> Result<ListEnvironmentsResponse, ControlError> {
        let mut environments = Vec::new();
        for environment in self.all().await? {
            environments.push(summary(&self.freshen(environment).await));
        }
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
        let name = request::environment(&request.name)?;
        let known = self.hub.log().environments().await?;
        if known.contains(&name) {
            return Err(ControlError::EnvironmentExists(name));
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
        Ok(CreateEnvironmentResponse { environment: Some(summary(&fresh)), server: self.server.clone() })
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
        let quota_used_ppm = change::used_ppm(self.hub.log().quota().await?);
        let mut environments = Vec::new();
        for environment in named {
            let fresh = self.freshen(environment).await;
            let oldest_revision = self.hub.log().oldest(fresh.environment.name()).await?.0;
            environments.push(status(&fresh, oldest_revision, quota_used_ppm));
        }
        Ok(StatusResponse {
            server: self.server.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            store: self.hub.log().describe(),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            environments,
        })
    }

    async fn all(&self) -> Result<Vec<Arc<Environment>>, ControlError> {
        let mut all = Vec::new();
        for name in self.hub.log().environments().await? {
            all.push(self.environment(&name).await?);
        }
        Ok(all)
    }
}

fn summary(fresh: &Fresh) -> admin::Environment {
    let state = fresh.state();
    let count = |kind| u32::try_from(state.entries_of(kind).count()).unwrap_or(u32::MAX);
    let target = Target { position: fresh.position(), touched: Vec::new() };
    let connected =
        fresh.environment.standings(&target).clients.iter().filter(|client| client.connected).count();
    admin::Environment {
        name: fresh.environment.name().to_string(),
        position: Some(fresh.wire_position()),
        flags: count(EntryKind::FLAG),
        segments: count(EntryKind::SEGMENT),
        killed: count(EntryKind::KILL),
        clients: u32::try_from(connected).unwrap_or(u32::MAX),
    }
}

fn status(fresh: &Fresh, oldest_revision: u64, quota_used_ppm: u32) -> EnvironmentStatus {
    let target = Target { position: fresh.position(), touched: Vec::new() };
    let standings = fresh.environment.standings(&target);
    let count = |wanted: &dyn Fn(&crate::hub::ClientStanding) -> bool| {
        u32::try_from(standings.clients.iter().filter(|client| wanted(client)).count()).unwrap_or(u32::MAX)
    };
    let refused = fresh.view.snapshot.refused().into_iter().map(|refusal| stream::RefusedEntry {
        id: Some(convert::entry_id_to_wire(&refusal.id)),
        why: refusal.why.to_string(),
    });
    EnvironmentStatus {
        environment: Some(summary(fresh)),
        view_age_ms: fresh.view_age_ms,
        oldest_revision,
        killed_flags: fresh.state().entries_of(EntryKind::KILL).map(|(id, _)| id.key.to_string()).collect(),
        refused: refused.collect(),
        clients_connected: count(&|client| client.connected),
        clients_up_to_date: count(&|client| client.standing == Standing::Applied),
        clients_lost: count(&|client| client.standing == Standing::Lost),
        alarms: fresh.environment.alarms(),
        quota_used_ppm,
    }
}
