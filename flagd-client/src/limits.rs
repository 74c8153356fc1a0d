//! Every limit of shared connections, named once. What bounds a stream's times and messages stands beside its rules,
//! in `feed`.

/// Bytes that a server may send on one stream before the client has taken them. Messages may be longer: they are
/// taken piece by piece.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
/// Streams on one shared connection; the next client opens another connection.
pub(crate) const STREAMS_PER_CONNECTION_MAX: usize = 64;
/// Bytes that a server may send on one shared connection before clients have taken them: the windows of all its streams
/// together, so that however many of them stall, none takes away from another.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * 64;

const _: () =
    assert!(CONNECTION_WINDOW_BYTES as usize / STREAM_WINDOW_BYTES as usize == STREAMS_PER_CONNECTION_MAX);
