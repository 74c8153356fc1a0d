//! Every limit of connections, messages and the store, named once. The definition language's limits are
//! `flagd_core::limits`.

use std::time::Duration;

/// Largest message that the server sends on a stream. A `Full` or a `Delta` above it goes in parts.
pub const SERVER_MESSAGE_MAX_BYTES: usize = 1024 * 1024 - 4096;
/// Largest message that a client may send on a stream.
pub const CLIENT_MESSAGE_MAX_BYTES: usize = 256 * 1024;
/// Largest request of an operator: a file of definitions.
pub const ADMIN_MESSAGE_MAX_BYTES: usize = flagd_core::limits::FILE_MAX_BYTES + 64 * 1024;
/// Largest context of an evaluation by the server.
pub const CONTEXT_MAX_BYTES: usize = 64 * 1024;
/// Longest name, app, version or SDK in a Hello.
pub const HELLO_TEXT_MAX_BYTES: usize = 256;
/// Most refused entries taken from one client state.
pub const REFUSED_ENTRIES_MAX: usize = 1_000;
/// Streams on one HTTP/2 connection; relays and proxies share one.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 10_000;
/// What a client of HTTP/2 may do for nothing within ten seconds: requests withdrawn before they are answered (rapid reset,
/// CVE-2023-44487) or broken so that they are reset (CVE-2025-8671), continued headers (CVE-2024-27316), empty frames,
/// settings and priorities. One more ends the connection.
pub const NUISANCES_MAX: u32 = 1_000;
/// Largest header list, in bytes.
pub const HEADER_LIST_MAX_BYTES: u32 = 16 * 1024;
/// Largest number that an option of [`Admission`] takes.
pub const ADMISSION_MAX: u32 = 1_000_000;
/// Nobody is told to come back earlier than this ...
pub const RETRY_AFTER_MIN: Duration = Duration::from_millis(500);
/// ... nor all of one moment in one moment: a random part up to this comes on top, wide enough for what clients of the
/// SDK do by themselves when a server dies.
pub const RETRY_AFTER_SPREAD: Duration = Duration::from_secs(4);
/// Nobody is sent away for longer than this. Clients believe no longer one.
pub const RETRY_AFTER_MAX: Duration = Duration::from_mins(10);
/// For how long a client is sent away, at the least, by a server that has as many streams as it takes.
pub const CROWDED_RETRY_AFTER: Duration = Duration::from_secs(30);
/// Connections that wait until they are taken, as far as the system allows it (`net.core.somaxconn`). Of those beyond it
/// some are reset by it. After a server's death thousands come in the same second.
pub const ACCEPT_BACKLOG: u32 = 4_096;
/// How long a connection may take until its first request.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP/2 keep-alive: a ping after this silence ...
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// ... and the connection is dropped when the answer takes longer than this.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an HTTP/2 connection may carry no request.
pub const IDLE_TIMEOUT: Duration = Duration::from_mins(5);
/// HTTP/2's windows: how much of a request, and of all requests of a connection, may come before it is read.
pub const WINDOW_BYTES: u32 = 1024 * 1024;
/// How much of an answer is kept for a client that does not read, beside one message.
pub const SEND_BUFFER_BYTES: usize = 400 * 1024;
/// How long a stream may take until its Hello.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// A heartbeat is sent after this silence on a stream.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);
/// A stream whose client takes nothing of what there is to write is ended after this time.
pub const STUCK_MAX: Duration = Duration::from_mins(1);
/// How long the last word of a stream waits for a client that takes nothing.
pub const FAREWELL_MAX: Duration = Duration::from_secs(10);
/// How long a client that left without Bye stays expected, in milliseconds.
pub const LOST_AFTER_MS: u64 = 15 * 60 * 1_000;
/// How often the clients that are connected to a server of a cluster are written down anew, in milliseconds.
pub const ROSTER_REFRESH_MS: u64 = 5 * 60 * 1_000;
/// A server of a cluster says again and again that it is there; it counts as gone after this silence.
pub const ANNOUNCED_FOR: Duration = Duration::from_secs(5);
/// How often it says so.
pub const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);
/// How long another server may take to begin its answer; after that its clients count as lost.
pub const PEER_ANSWER_MAX: Duration = Duration::from_secs(1);
/// A server that is asked by another says something at least this often ...
pub const PEER_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(250);
/// ... and counts as not answering after this silence.
pub const PEER_SILENCE_MAX: Duration = Duration::from_secs(1);
/// About how many bytes of a roster go in one message to another server.
pub const PEER_PART_BYTES: usize = 256 * 1024;
/// Largest message with a part of a roster: one client more than fits may be in it.
pub const PEER_MESSAGE_MAX_BYTES: usize = 2 * PEER_PART_BYTES + CLIENT_MESSAGE_MAX_BYTES;
/// A relay whose link is silent for this long is away: so is, for a relay, a server that does not answer.
pub const RELAY_SILENCE_MAX: Duration = Duration::from_secs(3);
/// HTTP/2 keep-alive of a relay towards its server: a ping after this silence, and the same time for the answer.
pub const RELAY_KEEPALIVE: Duration = Duration::from_secs(2);
/// How many bytes may be on their way to a relay: a full state crosses an ocean in a few round trips.
pub const RELAY_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// How often a relay asks which environments there are.
pub const RELAY_ENVIRONMENTS_INTERVAL: Duration = Duration::from_secs(1);
/// The bound of a relay's first wait before it asks again, in milliseconds; it doubles ...
pub const RELAY_RETRY_BASE_MS: u64 = 100;
/// ... up to this. Thousands of clients wait behind a relay, and there are few relays.
pub const RELAY_RETRY_MAX_MS: u64 = 5_000;
/// So many full states in a row that do not add up make an alarm on a relay.
pub const RELAY_FULLS_ALARM: u32 = 3;
/// Changes that wait for a relay's disk; with more, the state is kept as a whole.
pub const RELAY_KEEP_BUFFER: usize = 256;
/// Most servers that a relay is told to follow.
pub const UPSTREAMS_MAX: usize = 16;
/// Most clients, connected or lost, that one environment's roster remembers.
pub const ROSTER_MAX: usize = 200_000;
/// The shared log of encoded deltas keeps at most this many bytes per environment.
pub const DELTA_LOG_MAX_BYTES: usize = 16 * 1024 * 1024;
/// Most full states on their way at a time.
pub const FULL_SENDS_MAX: usize = 32;
/// A view that was not confirmed for longer is stale: the server is not ready, and its clients are told. A read fails
/// for a second or two when etcd loses its leader; that is no reason.
pub const VIEW_AGE_MAX_MS: u64 = 8_000;
/// How long a client that was never seen before waits for its first answer until the store knows it, at the most.
pub const FIRST_ANSWER_WAIT_MAX: Duration = Duration::from_secs(1);
/// How long an operator's read waits for the view to reach the head, at the most.
pub const READ_WAIT_MAX: Duration = Duration::from_secs(3);
/// How long a change waits for the store, over all that it asks of it: below the three seconds in which a write must
/// have failed when the store is gone.
pub const WRITE_PATIENCE: Duration = Duration::from_millis(2_800);
/// How much longer a large change waits for each of the blobs that it is written in.
pub const WRITE_PATIENCE_PER_BLOB: Duration = Duration::from_millis(200);
/// Most lists, exports and comparisons at a time: half of the processors, so that the other half is there for kills and
/// for those who wait for them.
#[must_use]
pub fn readers_at_once() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| (processors.get() / 2).max(1))
}
/// Longest wait for confirmations that a caller may ask for.
pub const WAIT_TIMEOUT_MAX: Duration = Duration::from_hours(1);
/// How long the first answer to a request id is kept, in milliseconds.
pub const REQUEST_KEPT_MS: u64 = 24 * 60 * 60 * 1_000;
/// Most bytes of entries inside one stored change; more go to blobs.
pub const CHANGE_INLINE_MAX_BYTES: usize = 256 * 1024;
/// Largest blob.
pub const BLOB_MAX_BYTES: usize = 256 * 1024;
/// Most records written at once, beside an append or alone: a transaction of etcd's takes 128 operations.
pub const RECORDS_AT_ONCE_MAX: usize = 100;
/// A checkpoint is written when loading would read more than this many bytes of changes ...
pub const CHECKPOINT_EVERY_BYTES: usize = 4 * 1024 * 1024;
/// ... or more than this many changes.
pub const CHECKPOINT_EVERY_CHANGES: u64 = 1_000;
/// From this share of the quota on only kill, revive and disable are accepted, in parts per million.
pub const QUOTA_STOP_PPM: u64 = 700_000;
/// Size of the embedded store at which writes stop, unless configured, in bytes.
pub const QUOTA_DEFAULT_BYTES: u64 = 8 * 1024 * 1024 * 1024;
/// Most environments.
pub const ENVIRONMENTS_MAX: usize = 1_000;
/// How often a change is planned anew after losing the race for the head.
pub const APPEND_ATTEMPTS_MAX: u32 = 100;
/// Most changes in one page of history.
pub const HISTORY_PAGE_MAX: usize = 1_000;
/// Most missing clients listed in one answer of `Wait`.
pub const WAIT_LISTED_MAX: usize = 200;
/// Longest request id.
pub const REQUEST_ID_MAX_BYTES: usize = 128;
/// Largest answer to a change, which is kept as the record of its request; beyond it the details are left off.
pub const ANSWER_MAX_BYTES: usize = 128 * 1024;
/// Largest encoded detail of an error: it travels in a header, in base64 a third longer, with the message on top,
/// and common clients refuse headers of more than 16 KiB in sum.
pub const ERROR_DETAIL_MAX_BYTES: usize = 8 * 1024;

/// How many are let in, and how fast; options of the server, each from 1 to [`ADMISSION_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Most connections at a time; one more is closed.
    pub connections_max: usize,
    /// Most connections taken in a second, and as many at once; the rest waits in the system's queue.
    pub connections_per_second: u32,
    /// Most streams of clients at a time; the rest is told to come back later.
    pub streams_max: usize,
    /// Most streams of clients that are taken in a second ...
    pub streams_per_second: u32,
    /// ... and how many at once; each of the rest is told when its turn is.
    pub streams_at_once: u32,
}

impl Default for Admission {
    fn default() -> Admission {
        Admission {
            connections_max: 50_000,
            connections_per_second: 5_000,
            streams_max: 100_000,
            streams_per_second: 1_000,
            streams_at_once: 2_000,
        }
    }
}
