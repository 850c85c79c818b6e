//! Connections that a pod had open before it was captured: they go on as they are, in plaintext, for as long as both ends
//! keep them, which for pools of connections may be weeks.
//!
//! They are looked for once, at the moment at which capture begins, and followed until the last has ended. Where the pod's
//! namespace asks for it (`culvert.dev/close-open-connections: "true"`), they are closed, so that the application opens them
//! again, captured.

use std::net::SocketAddr;

use crate::kernel::sock_diag::Connection;

/// Peers that are shown.
const PEERS: usize = 5;

/// What a pod had open before it was captured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Existing {
    /// How many there were when capture began.
    pub found: usize,
    /// Those that are still open.
    pub open: Vec<Connection>,
    /// How many were closed on the namespace's behalf.
    pub closed: usize,
    /// Why some could not be listed or closed.
    pub problem: Option<String>,
}

impl Existing {
    /// The far ends of some that are open.
    pub fn peers(&self) -> impl Iterator<Item = SocketAddr> {
        self.open.iter().map(|connection| connection.remote).take(PEERS)
    }
}
