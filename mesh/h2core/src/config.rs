//! What a connection is allowed and promises.

/// Which end of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We dialled and open streams.
    Client,
    /// We accepted and answer streams.
    Server,
}

/// Limits and windows of one connection. The defaults are those of HBONE peers in the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Streams that may be open at once: what a server advertises, and the most a client opens whatever its peer allows.
    pub max_streams: u32,
    /// Bytes a peer may send on a stream before the application has taken any. At most 2^31-1.
    pub stream_window: u32,
    /// Bytes a peer may send on all streams before credit reaches it. At most 2^31-1, at least 65,535.
    pub connection_window: u32,
    /// Bytes of all streams that the caller may hold (delivered, not yet released) before connection credit is withheld. It bounds
    /// what one peer can make us keep, to this plus `connection_window`.
    pub held_limit: u64,
    /// Largest frame we take, bytes of payload, 16,384 to 16,777,215. Large frames cost nothing: they are never gathered.
    pub max_frame: u32,
    /// Largest header list we take, in bytes as RFC 9113 section 6.5.2 counts (name + value + 32 each). A header block on the wire
    /// may not be larger either.
    pub max_header_list: u32,
    /// Streams that a peer may reset before we have answered them, less those we answered, before it is taken for an attack
    /// (CVE-2023-44487).
    pub max_early_resets: u32,
    /// Frames that ask for an answer (PING, SETTINGS, refused streams; KeyUpdate of TLS) between two moments at which the output was drained.
    pub max_pending_answers: u32,
    /// Frames in a row that carry nothing (empty DATA, unknown types, PRIORITY).
    pub max_idle_frames: u32,
    /// WINDOW_UPDATEs beyond those that streams and the data that we sent call for: a peer that gives a byte of window at a time has
    /// us send a frame for each (CVE-2019-9511).
    pub max_window_updates: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_streams: 100,
            stream_window: 4 << 20,
            connection_window: 16 << 20,
            held_limit: 64 << 20,
            max_frame: 1 << 20,
            max_header_list: 16 << 10,
            max_early_resets: 1000,
            max_pending_answers: 1000,
            max_idle_frames: 1000,
            max_window_updates: 1000,
        }
    }
}
