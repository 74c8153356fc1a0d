//! Clients as operators see them: who is expected, where they stand, what they refuse.

use flagd_proto::admin::{self, ClientInfo, ClientsRequest, ClientsResponse};
use flagd_proto::{Bytes, convert, stream};

use super::{Control, ControlError};
use crate::hub::{ClientStanding, Standing, Target};

impl Control {
    /// The expected clients and where they stand relative to the head.
    ///
    /// # Errors
    /// [`ControlError::UnknownEnvironment`], or what the store says.
    pub async fn clients(&self, request: ClientsRequest) -> Result<ClientsResponse, ControlError> {
        let fresh = self.fresh(&request.environment).await?;
        let target = Target { position: fresh.position(), touched: Vec::new() };
        let merged = self.cluster.ask(&fresh.environment).await;
        let standings = fresh.environment.judge(merged, &target);
        Ok(ClientsResponse {
            position: Some(fresh.wire_position()),
            clients: standings.clients.iter().map(client_to_wire).collect(),
            server: self.server.clone(),
            away_relays: standings.away_relays().map(ToOwned::to_owned).collect(),
            unanswered_servers: standings.unanswered,
        })
    }
}

/// A client for the wire.
pub(super) fn client_to_wire(client: &ClientStanding) -> ClientInfo {
    let known = &client.client;
    ClientInfo {
        instance: Bytes::copy_from_slice(&known.instance.to_be_bytes()),
        name: known.name.clone(),
        app: known.app.clone(),
        app_version: known.app_version.clone(),
        sdk: known.sdk.clone(),
        level: known.level,
        standing: standing_to_wire(client.standing).into(),
        position: known.position.map(convert::position_to_wire),
        last_seen_ms: known.last_seen_ms,
        connected: client.connected,
        refused: client
            .refused
            .iter()
            .map(|(id, why)| stream::RefusedEntry {
                id: Some(convert::entry_id_to_wire(id)),
                why: why.clone(),
            })
            .collect(),
        held_snapshots: client.held_snapshots,
        held_oldest_revision: client.held_oldest.map_or(0, |revision| revision.0),
        held_oldest_age_ms: client.held_oldest_age_ms,
        address: client.address.clone(),
        server: client.server.clone(),
        via: known.via.clone(),
    }
}

fn standing_to_wire(standing: Standing) -> admin::ClientStanding {
    match standing {
        Standing::Applied => admin::ClientStanding::Applied,
        Standing::Refused => admin::ClientStanding::Refused,
        Standing::Lagging => admin::ClientStanding::Lagging,
        Standing::Diverged => admin::ClientStanding::Diverged,
        Standing::Lost => admin::ClientStanding::Lost,
    }
}
