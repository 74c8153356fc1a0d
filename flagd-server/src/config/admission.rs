//! How many are let in, and how fast: the options of admission.

use super::sources::Sources;
use super::{ConfigError, values};
use crate::limits::Admission;

pub(super) fn admission(sources: &Sources) -> Result<Admission, ConfigError> {
    let count = |name| sources.get(name, values::count);
    let default = Admission::default();
    let whole = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    Ok(Admission {
        connections_max: count("connections-max")?.map_or(default.connections_max, whole),
        connections_per_second: count("connections-per-second")?.unwrap_or(default.connections_per_second),
        streams_max: count("streams-max")?.map_or(default.streams_max, whole),
        streams_per_second: count("streams-per-second")?.unwrap_or(default.streams_per_second),
        streams_at_once: count("streams-at-once")?.unwrap_or(default.streams_at_once),
    })
}
