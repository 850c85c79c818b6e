//! Who is at the other end.

use std::net::SocketAddr;

use culvert_identity::SpiffeId;

/// The other end of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Of its socket.
    pub address: SocketAddr,
    /// What its certificate proved.
    pub identity: SpiffeId,
}
