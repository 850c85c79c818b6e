//! What a policy is asked about.

use std::net::{IpAddr, SocketAddr};

use culvert_identity::SpiffeId;

/// What policies may ask about.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// The identity that the peer proved by its certificate; none for plaintext.
    pub identity: Option<&'a SpiffeId>,
    /// The peer's address.
    pub source: IpAddr,
    /// The workload's address and the port that the application listens on.
    pub destination: SocketAddr,
}
