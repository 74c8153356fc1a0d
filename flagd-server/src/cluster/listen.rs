//! Listens to one other server: its clients of one environment, and every change of theirs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use flagd_proto::peer::RosterRequest;
use tonic::Code;

use super::Peer;
use super::watching::Accounts;
use super::wire::{self, Part};
use crate::hub::Environment;
use crate::limits;

/// How long to rest before a server that did not answer is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// Keeps one server's account until the task is ended.
pub(super) async fn listen(
    peer: Arc<Peer>,
    environment: Arc<Environment>,
    accounts: Arc<Accounts>,
    below_level: u32,
) {
    let mut was_silent = false;
    loop {
        let ended = follow(&peer, &environment, &accounts, below_level).await;
        if let Ended::NoSuchEnvironment = ended {
            // So it has no clients in it.
            was_silent = false;
            accounts.replace(peer.id, HashMap::new());
            tokio::time::sleep(limits::PEER_HEARTBEAT_INTERVAL).await;
            continue;
        }
        if let Ended::Broken { why, has_answered } = ended
            && (has_answered || !was_silent)
        {
            was_silent = true;
            tracing::warn!(server = %peer.name, url = %peer.url, why, "a server of the cluster does not answer");
            // Before it counts as silent it is to be known who was there.
            match tokio::time::timeout(limits::PEER_ANSWER_MAX, environment.reconcile()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "nor does the store say who was there"),
                Err(_) => tracing::warn!("nor does the store say who was there"),
            }
        }
        accounts.silence(peer.id);
        tokio::time::sleep(PAUSE).await;
    }
}

/// How a server's account ended.
enum Ended {
    /// It shows no such environment.
    NoSuchEnvironment,
    /// It broke off, or never came.
    Broken { why: String, has_answered: bool },
}

async fn follow(peer: &Peer, environment: &Environment, accounts: &Accounts, below_level: u32) -> Ended {
    let request = RosterRequest {
        environment: environment.name().to_string(),
        server: wire::instance_to_wire(peer.id),
        below_level,
        compact: true,
    };
    let mut has_answered = false;
    let broken = |why: String, has_answered| Ended::Broken { why, has_answered };
    let mut client = peer.client.clone();
    let mut parts = match tokio::time::timeout(limits::PEER_ANSWER_MAX, client.roster(request)).await {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(status)) if status.code() == Code::NotFound => return Ended::NoSuchEnvironment,
        Ok(Err(status)) => return broken(status.message().to_owned(), has_answered),
        Err(_) => return broken(format!("no answer within {:?}", limits::PEER_ANSWER_MAX), has_answered),
    };
    let mut all = HashMap::new();
    loop {
        let part = match tokio::time::timeout(limits::PEER_SILENCE_MAX, parts.message()).await {
            Ok(Ok(Some(part))) => wire::part_from_wire(part, &peer.name).map_err(|error| error.to_string()),
            Ok(Ok(None)) => Err("it ended its answer".to_owned()),
            Ok(Err(status)) => Err(status.message().to_owned()),
            Err(_) => Err(format!("silence for {:?}", limits::PEER_SILENCE_MAX)),
        };
        let Part { news, complete, relays } = match part {
            Ok(part) => part,
            Err(why) => return broken(why, has_answered),
        };
        if !has_answered {
            all.extend(news.changed.into_iter().map(|one| (one.known.instance, one)));
            if complete {
                has_answered = true;
                accounts.replace(peer.id, std::mem::take(&mut all));
            }
        } else if !news.is_empty() {
            accounts.update(peer.id, news);
        }
        // In this order: no relay is there before its clients are known.
        if let Some(relays) = relays {
            accounts.relays(peer.id, relays);
        }
    }
}
