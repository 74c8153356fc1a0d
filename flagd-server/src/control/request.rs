//! What a request for a change asks, checked once where it enters.
//!
//! Everything behind this file works with names that cannot be wrong and with an operation that is there. What
//! the log has to say (an earlier definition, what a source applied last) is not known here.

use flagd_core::definition::Ppm;
use flagd_core::edit::{PlaceChoice, PutMode, SegmentList, Take};
use flagd_core::entry::{EntryId, EntryKind};
use flagd_core::key::{EnvironmentName, FlagKey, NameError, RuleName, SegmentKey, VariantName};
use flagd_core::limits;
use flagd_core::revision::Revision;
use flagd_core::split::LINE;
use flagd_proto::Message as _;
use flagd_proto::admin::change_request::Operation as WireOperation;
use flagd_proto::admin::{self, ChangeRequest};
use flagd_proto::convert::{admin as convert, entry_id_from_wire};

use super::ControlError;

/// A change that somebody wants, checked.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) environment: EnvironmentName,
    /// Empty when the caller gave none.
    pub(super) request_id: String,
    /// XXH3-128 of the environment and the operation: what the request id stands for.
    pub(super) fingerprint: u128,
    pub(super) actor: String,
    pub(super) reason: String,
    pub(super) recording: Recording,
    pub(super) levels: Levels,
    pub(super) expectations: Vec<(EntryId, Revision)>,
    pub(super) operation: Operation,
}

/// Whether the plan is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recording {
    Record,
    DryRun,
}

/// Whether clients that know less than the definition's level stop it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Levels {
    Checked,
    Anyway,
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operation {
    Put {
        file: String,
        mode: PutMode,
    },
    Apply {
        file: String,
        source: String,
        take: Take,
    },
    Enable(FlagKey),
    Disable(FlagKey),
    Ramp {
        flag: FlagKey,
        variant: Option<VariantName>,
        share: Ppm,
        place: PlaceChoice,
        from: Option<VariantName>,
    },
    Kill(Vec<FlagKey>),
    Revive(Vec<FlagKey>),
    Rollback {
        flags: Vec<FlagKey>,
        segments: Vec<SegmentKey>,
        to: Option<Revision>,
    },
    SegmentAdd {
        segment: SegmentKey,
        units: Vec<String>,
        list: SegmentList,
    },
    SegmentRemove {
        segment: SegmentKey,
        units: Vec<String>,
        list: SegmentList,
    },
    Archive(Name),
    Unarchive(Name),
}

/// A flag or a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Flag(FlagKey),
    Segment(SegmentKey),
}

impl Name {
    /// Checks a name from the wire.
    pub(crate) fn from_wire(name: &admin::EntryName) -> Result<Name, ControlError> {
        match EntryKind::from_number(name.kind) {
            EntryKind::FLAG => Ok(Name::Flag(flag(&name.key)?)),
            EntryKind::SEGMENT => Ok(Name::Segment(SegmentKey::new(&name.key).map_err(wrong_name)?)),
            other => Err(ControlError::request(format!(
                "`kind` must be 1 (flag) or 2 (segment), not {}",
                other.number()
            ))),
        }
    }

    /// The entry that holds the definition.
    pub(crate) fn entry(&self) -> EntryId {
        match self {
            Name::Flag(key) => EntryId::flag(key),
            Name::Segment(key) => EntryId::segment(key),
        }
    }

    /// The entry that is left behind when it is archived.
    pub(crate) fn tombstone(&self) -> EntryId {
        match self {
            Name::Flag(key) => EntryId::tombstone(key),
            Name::Segment(key) => EntryId::new(EntryKind::SEGMENT_TOMBSTONE, key.as_str()),
        }
    }
}

impl Operation {
    /// Switching off, and lifting a kill, must get through: no expectations, no levels, no quota.
    pub(super) fn is_urgent(&self) -> bool {
        matches!(self, Operation::Kill(_) | Operation::Revive(_) | Operation::Disable(_))
    }

    /// A kill goes ahead of everything and checks nothing.
    pub(super) fn is_kill(&self) -> bool {
        matches!(self, Operation::Kill(_))
    }

    /// The source of an `apply`; else empty.
    pub(super) fn source(&self) -> &str {
        match self {
            Operation::Apply { source, .. } => source,
            _ => "",
        }
    }
}

/// The name of an environment from the wire.
pub(super) fn environment(name: &str) -> Result<EnvironmentName, ControlError> {
    EnvironmentName::new(name).map_err(wrong_name)
}

/// Checks a request.
pub(super) fn check(request: ChangeRequest) -> Result<Wish, ControlError> {
    at_most("a request id", request.request_id.len(), crate::limits::REQUEST_ID_MAX_BYTES)?;
    at_most("an actor", request.actor.len(), limits::ACTOR_MAX_BYTES)?;
    at_most("a reason", request.reason.len(), limits::REASON_MAX_BYTES)?;
    if request.request_id.chars().any(|c| !c.is_ascii_graphic()) {
        return Err(ControlError::request(
            "a request id holds only printable ASCII characters without spaces",
        ));
    }
    if request.actor.is_empty() || request.actor.chars().any(char::is_control) {
        return Err(ControlError::request("`actor` must say who makes the change, in printable characters"));
    }
    let fingerprint = fingerprint(&request);
    let operation =
        request.operation.ok_or_else(|| ControlError::request("the request names no operation"))?;
    let operation = check_operation(operation)?;
    if operation.is_kill() && !request.expectations.is_empty() {
        return Err(ControlError::request(
            "a kill states no expected revisions: it goes ahead whatever changed",
        ));
    }
    Ok(Wish {
        environment: environment(&request.environment)?,
        request_id: request.request_id,
        fingerprint,
        actor: request.actor,
        reason: request.reason,
        recording: if request.dry_run { Recording::DryRun } else { Recording::Record },
        levels: if request.anyway { Levels::Anyway } else { Levels::Checked },
        expectations: check_expectations(&request.expectations)?,
        operation,
    })
}

/// What a retry has in common with the first request: not who asks, why, or what was seen.
fn fingerprint(request: &ChangeRequest) -> u128 {
    let asked = ChangeRequest {
        environment: request.environment.clone(),
        operation: request.operation.clone(),
        ..ChangeRequest::default()
    };
    xxhash_rust::xxh3::xxh3_128(&asked.encode_to_vec())
}

fn check_expectations(expectations: &[admin::Expectation]) -> Result<Vec<(EntryId, Revision)>, ControlError> {
    at_most("the list of expectations", expectations.len(), limits::CHANGE_ENTRIES_MAX)?;
    let id = |e: &admin::Expectation| e.id.as_ref().map(entry_id_from_wire);
    expectations
        .iter()
        .map(|e| Some((id(e)?, Revision(e.revision))))
        .collect::<Option<_>>()
        .ok_or_else(|| ControlError::request("an expectation names no entry"))
}

fn check_operation(operation: WireOperation) -> Result<Operation, ControlError> {
    Ok(match operation {
        WireOperation::Put(put) => Operation::Put { file: file(&put.file)?, mode: put_mode(put.mode())? },
        WireOperation::Apply(apply) => {
            let take = convert::take_from_wire(apply.take());
            Operation::Apply { file: file(&apply.file)?, source: source(apply.source)?, take }
        }
        WireOperation::Enable(name) => Operation::Enable(flag(&name.flag)?),
        WireOperation::Disable(name) => Operation::Disable(flag(&name.flag)?),
        WireOperation::Ramp(ramp) => check_ramp(&ramp)?,
        WireOperation::Kill(names) => Operation::Kill(flags(&names.flags)?),
        WireOperation::Revive(names) => Operation::Revive(flags(&names.flags)?),
        WireOperation::Rollback(rollback) => check_rollback(&rollback)?,
        WireOperation::SegmentAdd(edit) => {
            let (segment, list) = segment_list(&edit)?;
            Operation::SegmentAdd { segment, units: edit.units, list }
        }
        WireOperation::SegmentRemove(edit) => {
            let (segment, list) = segment_list(&edit)?;
            Operation::SegmentRemove { segment, units: edit.units, list }
        }
        WireOperation::Archive(name) => Operation::Archive(Name::from_wire(&name)?),
        WireOperation::Unarchive(name) => Operation::Unarchive(Name::from_wire(&name)?),
    })
}

fn check_ramp(ramp: &admin::Ramp) -> Result<Operation, ControlError> {
    if ramp.share_ppm > LINE {
        return Err(ControlError::request(format!(
            "a share is at most 100 % ({LINE} ppm), not {} ppm",
            ramp.share_ppm
        )));
    }
    let place = match &ramp.place {
        None => PlaceChoice::Only,
        Some(admin::ramp::Place::Otherwise(_)) => PlaceChoice::Otherwise,
        Some(admin::ramp::Place::Rule(name)) => PlaceChoice::Rule(RuleName::new(name).map_err(wrong_name)?),
    };
    Ok(Operation::Ramp {
        flag: flag(&ramp.flag)?,
        variant: variant(&ramp.variant)?,
        share: Ppm(ramp.share_ppm),
        place,
        from: variant(&ramp.from)?,
    })
}

fn check_rollback(rollback: &admin::Rollback) -> Result<Operation, ControlError> {
    let segments = rollback
        .segments
        .iter()
        .map(|key| SegmentKey::new(key).map_err(wrong_name))
        .collect::<Result<Vec<_>, _>>()?;
    let flags = match rollback.flags.as_slice() {
        [] if !segments.is_empty() => Vec::new(),
        named => flags(named)?,
    };
    let to = Some(Revision(rollback.to_revision)).filter(|to| *to != Revision::ZERO);
    Ok(Operation::Rollback { flags, segments: deduplicated(segments), to })
}

fn segment_list(edit: &admin::SegmentUnits) -> Result<(SegmentKey, SegmentList), ControlError> {
    if edit.units.is_empty() {
        return Err(ControlError::request("name at least one unit"));
    }
    let list = if edit.exclude { SegmentList::Exclude } else { SegmentList::Include };
    Ok((SegmentKey::new(&edit.segment).map_err(wrong_name)?, list))
}

fn put_mode(mode: admin::PutMode) -> Result<PutMode, ControlError> {
    convert::put_mode_from_wire(mode)
        .ok_or_else(|| ControlError::request("`mode` must say whether the definitions may exist already"))
}

fn source(name: String) -> Result<String, ControlError> {
    // It becomes a key in the store; the alphabet and the length of flag keys are safe in all of them.
    FlagKey::new(&name).map_err(|error| {
        ControlError::request(
            format!("the source's name is wrong: {error}").replace("flag key", "source name"),
        )
    })?;
    Ok(name)
}

fn file(bytes: &[u8]) -> Result<String, ControlError> {
    at_most("a file of definitions", bytes.len(), limits::FILE_MAX_BYTES)?;
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => {
            Err(ControlError::request(format!("the file is not UTF-8 from byte {} on", error.valid_up_to())))
        }
    }
}

fn flag(key: &str) -> Result<FlagKey, ControlError> {
    FlagKey::new(key).map_err(wrong_name)
}

fn flags(keys: &[String]) -> Result<Vec<FlagKey>, ControlError> {
    if keys.is_empty() {
        return Err(ControlError::request("name at least one flag"));
    }
    Ok(deduplicated(keys.iter().map(|key| flag(key)).collect::<Result<Vec<_>, _>>()?))
}

/// Each name once, in the caller's order.
fn deduplicated<T: Ord + Clone>(names: Vec<T>) -> Vec<T> {
    let mut seen = std::collections::BTreeSet::new();
    names.into_iter().filter(|name| seen.insert(name.clone())).collect()
}

fn variant(name: &str) -> Result<Option<VariantName>, ControlError> {
    if name.is_empty() { Ok(None) } else { VariantName::new(name).map(Some).map_err(wrong_name) }
}

fn at_most(what: &'static str, bytes: usize, max_bytes: usize) -> Result<(), ControlError> {
    if bytes > max_bytes { Err(ControlError::TooLarge { what, bytes, max_bytes }) } else { Ok(()) }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn wrong_name(error: NameError) -> ControlError {
    ControlError::request(error.to_string())
}
