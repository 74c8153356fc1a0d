//! Every limit of the definition language and of an environment, named once.
//!
//! Writers check against these before anything is recorded; readers accept at least as much. Lengths are in
//! bytes of UTF-8 unless the name says otherwise. Limits of connections and messages are the server's and
//! stand in `flagd-server`'s file of limits.

/// Longest key of a flag, a segment, a variant, and longest rule name.
pub const KEY_MAX_BYTES: usize = 128;
/// Longest environment name.
pub const ENVIRONMENT_MAX_BYTES: usize = 64;
/// Largest stored definition of one flag or segment, and largest part of a segment's list. A stream message stays
/// under 1 MiB with one such entry.
pub const DEFINITION_MAX_BYTES: usize = 512 * 1024;
/// Most variants of one flag.
pub const VARIANTS_MAX: usize = 100;
/// Largest value of one variant, as compact JSON.
pub const VALUE_MAX_BYTES: usize = 64 * 1024;
/// Deepest nesting of arrays and objects in a variant's value.
pub const VALUE_DEPTH_MAX: usize = 32;
/// Most rules of one flag.
pub const RULES_MAX: usize = 500;
/// Deepest nesting of conditions; a lone test has depth 1.
pub const CONDITION_DEPTH_MAX: usize = 16;
/// Most conditions, of any kind, in one flag or one segment.
pub const CONDITIONS_MAX: usize = 2_000;
/// Most operands of `in`, `startsWith` and their like.
pub const OPERANDS_MAX: usize = 10_000;
/// Longest operand, and longest name of an attribute.
pub const OPERAND_MAX_BYTES: usize = 1_024;
/// Most stretches in one split.
pub const STRETCHES_MAX: usize = 1_000;
/// Most requirements of one flag.
pub const REQUIRES_MAX: usize = 32;
/// Longest chain of requirements: a flag that requires nothing has depth 0.
pub const REQUIRES_DEPTH_MAX: usize = 8;
/// Longest chain of segments that use segments.
pub const SEGMENT_DEPTH_MAX: usize = 8;
/// Most units in one segment's `include`, and in its `exclude`.
pub const SEGMENT_UNITS_MAX: usize = 1_000_000;
/// Longest list of a segment, as compact JSON, that stands in the definition itself; a longer one is stored in parts.
/// It decides which bytes are stored, so it is part of the format.
pub const SEGMENT_LIST_INLINE_MAX_BYTES: usize = 128 * 1024;
/// Most bytes of a segment's `include` and `exclude` together, as compact JSON. A file that holds them with a line
/// for each unit stays under [`FILE_MAX_BYTES`].
pub const SEGMENT_LISTS_MAX_BYTES: usize = 44 * 1024 * 1024;
/// Longest listed unit.
pub const UNIT_MAX_BYTES: usize = 1_024;
/// Longest pattern of `matches`.
pub const REGEX_MAX_BYTES: usize = 1_024;
/// Largest compiled pattern, in bytes of memory.
pub const REGEX_COMPILED_MAX_BYTES: usize = 1024 * 1024;
/// Longest salt.
pub const SALT_MAX_BYTES: usize = 256;
/// Longest description.
pub const DESCRIPTION_MAX_BYTES: usize = 4_096;
/// Longest owner, tag, metadata key.
pub const LABEL_MAX_BYTES: usize = 256;
/// Most tags of one definition.
pub const TAGS_MAX: usize = 64;
/// Largest `metadata` of one definition, as compact JSON.
pub const METADATA_MAX_BYTES: usize = 16 * 1024;
/// Most flags in an environment, archived ones included.
pub const FLAGS_MAX: usize = 100_000;
/// Most segments in an environment.
pub const SEGMENTS_MAX: usize = 10_000;
/// Longest reason given for a change.
pub const REASON_MAX_BYTES: usize = 1_024;
/// Longest name of an actor.
pub const ACTOR_MAX_BYTES: usize = 256;
/// Most entries that one change touches.
pub const CHANGE_ENTRIES_MAX: usize = 100_000;
/// Most problems reported at once; the rest are counted.
pub const PROBLEMS_MAX: usize = 200;
/// Largest file of definitions.
pub const FILE_MAX_BYTES: usize = 64 * 1024 * 1024;
