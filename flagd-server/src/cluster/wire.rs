//! Clients between servers: what one server knows of clients and relays, as messages and back.

use std::time::Duration;

use flagd_core::revision::{Position, Revision};
use flagd_proto::convert::{self, ConvertError};
use flagd_proto::peer::{Arrived, Member, RelayList, RelaySeen, RosterPart};
use flagd_proto::stream::{ClientState, RefusedEntry};
use flagd_proto::{Bytes, Message as _};

use crate::hub::Environment;
use crate::hub::merge::Sighting;
use crate::hub::relays::RelaySighting;
use crate::hub::roster::News;
use crate::hub::standing::Report;
use crate::limits;
use crate::store::log::RosterEntry;

/// The rest between two looks at the roster, per client in it: many acknowledgements go in a few parts.
const BREATH_PER_CLIENT: Duration = Duration::from_micros(2);
/// The longest rest.
const BREATH_MAX: Duration = Duration::from_millis(50);

/// Rests a little, then waits until something about an environment's clients has changed since `seen`, or until it is
/// time for a sign of life.
pub(crate) async fn breathe(environment: &Environment, clients: usize, seen: u64) -> u64 {
    let breath = BREATH_PER_CLIENT * u32::try_from(clients).unwrap_or(u32::MAX);
    tokio::time::sleep(breath.min(BREATH_MAX)).await;
    tokio::select! {
        now_seen = environment.roster_changed(seen) => now_seen,
        () = tokio::time::sleep(limits::PEER_HEARTBEAT_INTERVAL) => seen,
    }
}

/// Room for the name of an instance.
const INSTANCE_BYTES: usize = size_of::<u128>();

/// What one message says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    /// What changed of clients.
    pub(crate) news: News,
    /// Everybody who was there at the beginning has been told.
    pub(crate) complete: bool,
    /// The relays, if they are told anew.
    pub(crate) relays: Option<Vec<RelaySighting>>,
}

/// What is to be told, in messages of a bounded size; the last one, which may be empty, says that it is the last.
pub(crate) fn parts_to_wire(part: Part) -> Vec<RosterPart> {
    let Part { news, relays, .. } = part;
    let mut parts = Vec::new();
    let mut part = RosterPart::default();
    let mut bytes = 0;
    let mut close_if_large = |part: &mut RosterPart, bytes: &mut usize| {
        if *bytes >= limits::PEER_PART_BYTES {
            *bytes = 0;
            parts.push(std::mem::take(part));
        }
    };
    for sighting in news.changed {
        let member = member_to_wire(sighting);
        bytes += member.encoded_len();
        part.members.push(member);
        close_if_large(&mut part, &mut bytes);
    }
    for (position, instances) in news.arrived {
        for some in instances.chunks(limits::PEER_PART_BYTES / INSTANCE_BYTES) {
            let arrived = arrived_to_wire(position, some);
            bytes += arrived.encoded_len();
            part.arrived.push(arrived);
            close_if_large(&mut part, &mut bytes);
        }
    }
    for instance in news.gone {
        bytes += INSTANCE_BYTES;
        part.gone.push(instance_to_wire(instance));
        close_if_large(&mut part, &mut bytes);
    }
    // The last one says it: no relay is there before its clients were told.
    part.relays = relays.map(relays_to_wire);
    part.complete = true;
    parts.push(part);
    parts
}

/// What a message of another server or of a relay says; `server` is the one that tells it.
///
/// # Errors
/// When the message makes no sense.
pub(crate) fn part_from_wire(part: RosterPart, server: &str) -> Result<Part, ConvertError> {
    let RosterPart { members, gone, complete, arrived, relays } = part;
    let changed = members.into_iter().map(|member| member_from_wire(member, server));
    let gone = gone.iter().map(|instance| instance_from_wire(instance));
    let news = News {
        changed: changed.collect::<Result<_, _>>()?,
        arrived: arrived.iter().map(arrived_from_wire).collect::<Result<_, _>>()?,
        gone: gone.collect::<Result<_, _>>()?,
    };
    Ok(Part { news, complete, relays: relays.map(relays_from_wire).transpose()? })
}

fn arrived_to_wire(position: Position, instances: &[u128]) -> Arrived {
    let mut bytes = Vec::with_capacity(instances.len() * INSTANCE_BYTES);
    for instance in instances {
        bytes.extend_from_slice(&instance.to_be_bytes());
    }
    Arrived { position: Some(convert::position_to_wire(position)), instances: bytes.into() }
}

fn arrived_from_wire(arrived: &Arrived) -> Result<(Position, Vec<u128>), ConvertError> {
    let position = arrived.position.as_ref().ok_or(ConvertError::Missing("position"))?;
    let instances = arrived.instances.chunks(INSTANCE_BYTES).map(instance_from_wire);
    Ok((convert::position_from_wire(position)?, instances.collect::<Result<_, _>>()?))
}

fn relays_to_wire(relays: Vec<RelaySighting>) -> RelayList {
    let relays = relays.into_iter().map(|seen| RelaySeen {
        relay: instance_to_wire(seen.relay),
        name: seen.name,
        link_counter: seen.link_counter,
        connected: seen.address.is_some(),
        last_seen_ms: seen.last_seen_ms,
        address: seen.address.unwrap_or_default(),
    });
    RelayList { relays: relays.collect() }
}

fn relays_from_wire(list: RelayList) -> Result<Vec<RelaySighting>, ConvertError> {
    let relays = list.relays.into_iter().map(|seen| {
        Ok(RelaySighting {
            relay: instance_from_wire(&seen.relay)?,
            name: seen.name,
            link_counter: seen.link_counter,
            address: seen.connected.then_some(seen.address),
            last_seen_ms: seen.last_seen_ms,
        })
    });
    relays.collect()
}

/// A client for another server.
fn member_to_wire(sighting: Sighting) -> Member {
    let Sighting { known, report, connected, address, .. } = sighting;
    Member {
        instance: instance_to_wire(known.instance),
        connect_counter: known.connect_counter,
        name: known.name,
        app: known.app,
        app_version: known.app_version,
        sdk: known.sdk,
        level: known.level,
        last_seen_ms: known.last_seen_ms,
        connected,
        address,
        state: report.map(report_to_wire),
        position: known.position.map(convert::position_to_wire),
        via: known.via,
    }
}

/// A client as another server tells it.
///
/// # Errors
/// When the message makes no sense.
fn member_from_wire(member: Member, server: &str) -> Result<Sighting, ConvertError> {
    let position = member.position.as_ref().map(convert::position_from_wire).transpose()?;
    Ok(Sighting {
        known: RosterEntry {
            instance: instance_from_wire(&member.instance)?,
            connect_counter: member.connect_counter,
            name: member.name,
            app: member.app,
            app_version: member.app_version,
            sdk: member.sdk,
            level: member.level,
            last_seen_ms: member.last_seen_ms,
            position,
            via: member.via,
        },
        report: member.state.map(report_from_wire).transpose()?,
        connected: member.connected,
        address: member.address,
        server: server.to_owned(),
    })
}

/// An instance for the wire.
pub(crate) fn instance_to_wire(instance: u128) -> Bytes {
    Bytes::copy_from_slice(&instance.to_be_bytes())
}

/// An instance from the wire.
pub(crate) fn instance_from_wire(bytes: &[u8]) -> Result<u128, ConvertError> {
    bytes.try_into().map(u128::from_be_bytes).map_err(|_| ConvertError::Missing("instance"))
}

fn report_to_wire(report: Report) -> ClientState {
    let refused = report.refused.into_iter();
    ClientState {
        position: report.position.map(convert::position_to_wire),
        refused: refused
            .map(|(id, why)| RefusedEntry { id: Some(convert::entry_id_to_wire(&id)), why })
            .collect(),
        held_snapshots: report.held_snapshots,
        held_oldest_revision: report.held_oldest.map_or(0, |revision| revision.0),
        held_oldest_age_ms: report.held_oldest_age_ms,
        diverged: report.diverged,
        obeyed_kills: report.obeyed_kills,
        refused_left_off: report.refused_left_off,
    }
}

fn report_from_wire(state: ClientState) -> Result<Report, ConvertError> {
    let refused = state.refused.into_iter().map(|entry| {
        let id = entry.id.as_ref().ok_or(ConvertError::Missing("id"))?;
        Ok((convert::entry_id_from_wire(id), entry.why))
    });
    Ok(Report {
        position: state.position.as_ref().map(convert::position_from_wire).transpose()?,
        refused: refused.collect::<Result<_, _>>()?,
        held_snapshots: state.held_snapshots,
        held_oldest: (state.held_snapshots > 0).then_some(Revision(state.held_oldest_revision)),
        held_oldest_age_ms: state.held_oldest_age_ms,
        diverged: state.diverged,
        obeyed_kills: state.obeyed_kills,
        refused_left_off: state.refused_left_off,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flagd_core::entry::{EntryId, EntryKind};
    use flagd_core::revision::{Digest, Epoch};

    fn sighting(report: Option<Report>) -> Sighting {
        let position =
            Position { epoch: Epoch { minted_ms: 1, random: 2 }, revision: Revision(3), digest: Digest(4) };
        Sighting {
            known: RosterEntry {
                instance: 5,
                connect_counter: 6,
                name: "shop".to_owned(),
                app: "a".to_owned(),
                app_version: "1".to_owned(),
                sdk: "s".to_owned(),
                level: 7,
                last_seen_ms: 8,
                position: report.is_some().then_some(position),
                via: "east".to_owned(),
            },
            connected: report.is_some(),
            report,
            address: "there".to_owned(),
            server: "b".to_owned(),
        }
    }

    #[test]
    fn a_client_told_to_another_server_is_the_same() {
        let full = Report {
            position: sighting(Some(Report::default())).known.position,
            refused: vec![(EntryId::new(EntryKind::FLAG, "a"), "level".to_owned())],
            held_snapshots: 1,
            held_oldest: Some(Revision(2)),
            held_oldest_age_ms: 3,
            diverged: true,
            obeyed_kills: vec!["k".to_owned()],
            refused_left_off: 9,
        };
        let rows =
            [("remembered", None), ("without a state", Some(Report::default())), ("everything", Some(full))];
        for (name, report) in rows {
            let sighting = sighting(report);
            assert_eq!(member_from_wire(member_to_wire(sighting.clone()), "b"), Ok(sighting), "{name}");
        }
    }

    #[test]
    fn ten_thousand_acknowledgements_are_sixteen_bytes_each() {
        let position = sighting(Some(Report::default())).known.position.unwrap();
        let instances: Vec<u128> = (0..10_000).collect();
        let news = News { arrived: vec![(position, instances.clone())], ..News::default() };
        let parts = parts_to_wire(Part { news, ..Part::default() });
        let bytes: usize = parts.iter().map(RosterPart::encoded_len).sum();
        assert!((160_000..160_200).contains(&bytes), "{bytes} bytes");
        let heard: Vec<_> = parts.into_iter().map(|part| part_from_wire(part, "").unwrap()).collect();
        let arrived: Vec<_> = heard.iter().flat_map(|part| part.news.arrived.clone()).collect();
        assert_eq!(arrived, [(position, instances)]);
        assert!(heard.last().is_some_and(|part| part.complete));
    }

    #[test]
    fn what_is_told_comes_in_parts_that_fit_and_arrives_whole() {
        let members = (0..5_000_u32).map(|number| {
            let mut one = sighting(Some(Report::default()));
            one.known.instance = u128::from(number);
            one.known.name = "n".repeat(200);
            one
        });
        let members: Vec<_> = members.collect();
        let relays = vec![RelaySighting {
            relay: 1,
            name: "east".to_owned(),
            link_counter: 2,
            address: Some("there".to_owned()),
            last_seen_ms: 3,
        }];
        let gone: Vec<u128> = (0..40_000).collect();
        let news = News { changed: members.clone(), gone: gone.clone(), ..News::default() };
        let parts = parts_to_wire(Part { news, relays: Some(relays.clone()), complete: true });
        assert!(parts.len() > 5);
        let (mut all, mut all_gone, mut told) = (Vec::new(), Vec::new(), Vec::new());
        let last = parts.len() - 1;
        for (at, part) in parts.into_iter().enumerate() {
            assert!(part.encoded_len() <= limits::PEER_MESSAGE_MAX_BYTES);
            let part = part_from_wire(part, "b").unwrap();
            assert_eq!(part.complete, at == last);
            all.extend(part.news.changed);
            all_gone.extend(part.news.gone);
            told.extend(part.relays.unwrap_or_default());
        }
        assert_eq!((all, all_gone, told), (members, gone, relays));
    }

    #[test]
    fn a_client_without_an_instance_is_refused() {
        let member = Member { instance: Bytes::from_static(b"short"), ..Member::default() };
        assert_eq!(member_from_wire(member, "b"), Err(ConvertError::Missing("instance")));
    }
}
