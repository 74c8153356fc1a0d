//! Where a client stands relative to a change, and whether the change is confirmed. Pure; docs/protocol.md,
//! "The roster and Wait", is normative.

use flagd_core::entry::{EntryId, EntryKind};
use flagd_core::revision::{Epoch, Position, Revision};

use super::merge::{Merged, Sighting};
use super::relays::RelaySighting;
use super::{ClientStanding, Standing, Standings, Target, Verdict};

/// What a client says that it has in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// `None`: it has no state.
    pub(crate) position: Option<Position>,
    /// Entries that are not in use as the server's state holds them, with why.
    pub(crate) refused: Vec<(EntryId, String)>,
    /// Older snapshots that somebody still holds.
    pub(crate) held_snapshots: u32,
    /// The oldest revision among them.
    pub(crate) held_oldest: Option<Revision>,
    /// How long ago the oldest of them was replaced.
    pub(crate) held_oldest_age_ms: u64,
    /// It cannot reach the server's digest.
    pub(crate) diverged: bool,
    /// Flags whose kills it obeys although its state is another.
    pub(crate) obeyed_kills: Vec<String>,
    /// Refused entries that it could not list.
    pub(crate) refused_left_off: u32,
}

impl Report {
    /// Whether the position says everything.
    pub(crate) fn is_plain(&self) -> bool {
        let Report { position: _, refused, held_snapshots, diverged, obeyed_kills, refused_left_off, .. } =
            self;
        refused.is_empty()
            && *held_snapshots == 0
            && !diverged
            && obeyed_kills.is_empty()
            && *refused_left_off == 0
    }
}

/// Where a client stands.
///
/// `report` is `None` for a client that is only remembered from before the server's restart: what it refuses is
/// unknown, and unknown is never done. Likewise `is_killed` guards the exception for diverged clients: a change
/// that *lifted* a kill is not applied by a client that still obeys it. `history` is the epoch that this server
/// shows: a client of a younger one has followed somebody else, and what it has in use is unknown.
pub(crate) fn standing(
    report: Option<&Report>,
    connected: bool,
    target: &Target,
    history: Epoch,
    is_killed: impl Fn(&EntryId) -> bool,
) -> Standing {
    let missing = if connected { Standing::Lagging } else { Standing::Lost };
    let Some(report) = report else { return missing };
    if report.diverged {
        return match connected {
            false => Standing::Lost,
            true if obeys(report, target, is_killed) => Standing::Applied,
            true => Standing::Diverged,
        };
    }
    let Some(at) = report.position else { return missing };
    let wanted = target.position;
    let reached = if at.epoch == wanted.epoch { at.revision >= wanted.revision } else { at.epoch == history };
    if !reached || at.epoch < wanted.epoch {
        return missing;
    }
    let listed = report.refused.iter().any(|(id, _)| target.touched.contains(id));
    let unlisted = report.refused_left_off > 0 && target.touched.iter().any(|id| id.kind != EntryKind::KILL);
    if listed || unlisted { Standing::Refused } else { Standing::Applied }
}

fn obeys(report: &Report, target: &Target, is_killed: impl Fn(&EntryId) -> bool) -> bool {
    !target.touched.is_empty()
        && target.touched.iter().all(|id| {
            id.kind == EntryKind::KILL
                && is_killed(id)
                && report.obeyed_kills.iter().any(|key| *key == *id.key)
        })
}

/// Where everybody stands, by name.
pub(crate) fn judge(
    merged: Merged,
    target: &Target,
    history: Epoch,
    is_killed: impl Fn(&EntryId) -> bool,
) -> Standings {
    let Merged { clients, relays, unanswered } = merged;
    let mut clients: Vec<_> = clients
        .into_iter()
        .map(|sighting| {
            let standing =
                standing(sighting.report.as_ref(), sighting.connected, target, history, &is_killed);
            stands(sighting, standing)
        })
        .collect();
    by_name(&mut clients);
    Standings { clients, unanswered, relays }
}

/// Those who do not understand `level`, by name.
pub(crate) fn below_level(clients: Vec<Sighting>, level: u32) -> Vec<ClientStanding> {
    let below = clients.into_iter().filter(|sighting| sighting.known.level < level);
    let mut clients: Vec<_> = below
        .map(|sighting| {
            let missing = if sighting.connected { Standing::Lagging } else { Standing::Lost };
            stands(sighting, missing)
        })
        .collect();
    by_name(&mut clients);
    clients
}

pub(super) fn by_name(clients: &mut [ClientStanding]) {
    clients.sort_by(|a, b| (&a.client.name, a.client.instance).cmp(&(&b.client.name, b.client.instance)));
}

pub(super) fn stands(sighting: Sighting, standing: Standing) -> ClientStanding {
    let Sighting { known, report, connected, address, server } = sighting;
    let report = report.unwrap_or_default();
    ClientStanding {
        client: known,
        standing,
        connected,
        address,
        server,
        refused: report.refused,
        held_snapshots: report.held_snapshots,
        held_oldest: report.held_oldest,
        held_oldest_age_ms: report.held_oldest_age_ms,
    }
}

impl Standings {
    /// The names of the relays that are away.
    pub(crate) fn away_relays(&self) -> impl Iterator<Item = &str> {
        away_relays(&self.relays)
    }

    /// Whether the change is confirmed.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let heard = Heard::from(&self.unanswered, &self.relays);
        let applied = self.clients.iter().filter(|client| client.standing == Standing::Applied).count();
        verdict(heard, self.clients.len(), applied)
    }
}

/// The names of the relays that are away.
pub(crate) fn away_relays(relays: &[RelaySighting]) -> impl Iterator<Item = &str> {
    relays.iter().filter(|relay| relay.address.is_none()).map(|relay| relay.name.as_str())
}

/// Whether all have told who their clients are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Every server and every relay.
    All,
    /// A server does not answer or a relay is away, which may have clients that nobody else knows.
    NotAll,
}

impl Heard {
    /// By who did not answer, and by the relays.
    pub(super) fn from(unanswered: &[String], relays: &[RelaySighting]) -> Heard {
        if unanswered.is_empty() && away_relays(relays).next().is_none() { Heard::All } else { Heard::NotAll }
    }
}

/// Whether a change is confirmed: nobody to ask is never success, and unknown is never done.
pub(super) fn verdict(heard: Heard, expected: usize, applied: usize) -> Verdict {
    match expected {
        _ if heard == Heard::NotAll => Verdict::Unconfirmed,
        0 => Verdict::Nobody,
        _ if applied == expected => Verdict::Confirmed,
        _ => Verdict::Unconfirmed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::ClientStanding;
    use crate::store::log::RosterEntry;
    use flagd_core::revision::Digest;

    fn at(epoch: u64, revision: u64) -> Position {
        Position {
            epoch: Epoch { minted_ms: epoch, random: 0 },
            revision: Revision(revision),
            digest: Digest(0),
        }
    }

    fn report(position: Option<Position>) -> Report {
        Report { position, ..Report::default() }
    }

    fn flag(key: &str) -> EntryId {
        EntryId::new(EntryKind::FLAG, key)
    }

    fn kill(key: &str) -> EntryId {
        EntryId::new(EntryKind::KILL, key)
    }

    fn diverged(obeyed: &[&str]) -> Report {
        Report {
            diverged: true,
            obeyed_kills: obeyed.iter().map(|key| (*key).to_owned()).collect(),
            ..report(Some(at(5, 9)))
        }
    }

    fn refusing_more() -> Report {
        Report { refused_left_off: 500, ..refusing(flag("b")) }
    }

    fn refusing(id: EntryId) -> Report {
        Report { refused: vec![(id, "level 9".to_owned())], ..report(Some(at(5, 9))) }
    }

    /// Name, what the client says, whether it is connected, what the change touched, where the client stands.
    type Row = (&'static str, Option<Report>, bool, Vec<EntryId>, Standing);

    #[test]
    fn the_table_of_the_protocol() {
        use Standing::{Applied, Diverged, Lagging, Lost, Refused};
        const ON: bool = true;
        const OFF: bool = false;
        let change = || vec![flag("a")];
        let rows: Vec<Row> = vec![
            ("at the revision", Some(report(Some(at(5, 9)))), ON, change(), Applied),
            ("past the revision", Some(report(Some(at(5, 12)))), ON, change(), Applied),
            ("the younger epoch that this server shows", Some(report(Some(at(6, 1)))), ON, change(), Applied),
            (
                "a younger epoch that this server does not know",
                Some(report(Some(at(7, 1)))),
                ON,
                change(),
                Lagging,
            ),
            ("the same, gone", Some(report(Some(at(7, 1)))), OFF, change(), Lost),
            ("refuses more than it can list", Some(refusing_more()), ON, change(), Refused),
            ("the same, a kill was touched", Some(refusing_more()), ON, vec![kill("a")], Applied),
            ("older epoch, higher revision", Some(report(Some(at(4, 99)))), ON, change(), Lagging),
            ("before the revision", Some(report(Some(at(5, 8)))), ON, change(), Lagging),
            ("no state", Some(report(None)), ON, change(), Lagging),
            ("before the revision, gone", Some(report(Some(at(5, 8)))), OFF, change(), Lost),
            ("acknowledged, then gone", Some(report(Some(at(5, 9)))), OFF, change(), Applied),
            ("remembered from before a restart", None, OFF, change(), Lost),
            ("refuses what was touched", Some(refusing(flag("a"))), ON, change(), Refused),
            ("refuses something else", Some(refusing(flag("b"))), ON, change(), Applied),
            ("refuses the flag, a kill was touched", Some(refusing(flag("a"))), ON, vec![kill("a")], Applied),
            ("refuses it and is gone", Some(refusing(flag("a"))), OFF, change(), Refused),
            ("diverged", Some(diverged(&[])), ON, change(), Diverged),
            ("diverged, gone", Some(diverged(&["a"])), OFF, vec![kill("a")], Lost),
            ("diverged, obeys the kill", Some(diverged(&["b", "a"])), ON, vec![kill("a")], Applied),
            ("diverged, obeys another kill", Some(diverged(&["b"])), ON, vec![kill("a")], Diverged),
            ("diverged, obeys one of two", Some(diverged(&["a"])), ON, vec![kill("a"), kill("b")], Diverged),
            (
                "diverged, the change did more",
                Some(diverged(&["a"])),
                ON,
                vec![kill("a"), flag("a")],
                Diverged,
            ),
            ("diverged, the change lifted the kill", Some(diverged(&["r"])), ON, vec![kill("r")], Diverged),
            ("diverged, nothing touched", Some(diverged(&["a"])), ON, vec![], Diverged),
        ];
        for (name, report, connected, touched, want) in rows {
            let target = Target { position: at(5, 9), touched };
            let history = Epoch { minted_ms: 6, random: 0 };
            let got = standing(report.as_ref(), connected, &target, history, |id| &*id.key != "r");
            assert_eq!(got, want, "{name}");
        }
    }

    #[test]
    fn the_verdict_needs_everybody_and_somebody() {
        use Standing::{Applied, Diverged, Lagging, Lost, Refused};
        let rows: &[(&str, &[Standing], Verdict)] = &[
            ("no client", &[], Verdict::Nobody),
            ("one, applied", &[Applied], Verdict::Confirmed),
            ("all applied", &[Applied, Applied], Verdict::Confirmed),
            ("one lags", &[Applied, Lagging], Verdict::Unconfirmed),
            ("one is lost", &[Applied, Lost], Verdict::Unconfirmed),
            ("one refuses", &[Refused, Applied], Verdict::Unconfirmed),
            ("one diverged", &[Applied, Diverged], Verdict::Unconfirmed),
        ];
        for (name, standings, want) in rows {
            let clients = standings
                .iter()
                .map(|standing| ClientStanding {
                    client: RosterEntry {
                        instance: 1,
                        connect_counter: 1,
                        name: String::new(),
                        app: String::new(),
                        app_version: String::new(),
                        sdk: String::new(),
                        level: 1,
                        last_seen_ms: 0,
                        position: None,
                        via: String::new(),
                    },
                    standing: *standing,
                    connected: true,
                    address: String::new(),
                    server: String::new(),
                    refused: vec![],
                    held_snapshots: 0,
                    held_oldest: None,
                    held_oldest_age_ms: 0,
                })
                .collect();
            let mut standings = Standings { clients, ..Standings::default() };
            assert_eq!(standings.verdict(), *want, "{name}");
            let relay = |address: Option<&str>| RelaySighting {
                relay: 1,
                name: "east".to_owned(),
                link_counter: 1,
                address: address.map(ToOwned::to_owned),
                last_seen_ms: 0,
            };
            standings.relays = vec![relay(Some("there"))];
            assert_eq!(standings.verdict(), *want, "{name}, and a relay is there");
            standings.relays = vec![relay(None)];
            assert_eq!(standings.verdict(), Verdict::Unconfirmed, "{name}, and a relay is away");
            standings.relays = vec![];
            standings.unanswered.push("b".to_owned());
            assert_eq!(standings.verdict(), Verdict::Unconfirmed, "{name}, and a server did not answer");
        }
    }
}
