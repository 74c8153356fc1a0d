//! Clients between servers: what one server knows of a client, as a message and back.

use flagd_core::revision::Revision;
use flagd_proto::Bytes;
use flagd_proto::convert::{self, ConvertError};
use flagd_proto::peer::Member;
use flagd_proto::stream::{ClientState, RefusedEntry};

use crate::hub::merge::Sighting;
use crate::hub::standing::Report;
use crate::store::log::RosterEntry;

/// A client for another server.
pub(crate) fn member_to_wire(sighting: Sighting) -> Member {
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
    }
}

/// A client as another server tells it.
///
/// # Errors
/// When the message makes no sense.
pub(super) fn member_from_wire(member: Member, server: &str) -> Result<Sighting, ConvertError> {
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
    use flagd_core::revision::{Digest, Epoch, Position};

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
    fn a_client_without_an_instance_is_refused() {
        let member = Member { instance: Bytes::from_static(b"short"), ..Member::default() };
        assert_eq!(member_from_wire(member, "b"), Err(ConvertError::Missing("instance")));
    }
}
