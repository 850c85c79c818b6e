//! What the data path asks of control.

use std::{net::IpAddr, sync::Arc};

use culvert_identity::SpiffeId;

/// A question, sent over an unbounded channel. Where the data path needs something that is not there yet, it parks the
/// connection, asks, and tries again when a [`Change`](crate::Change) says that it may be there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// Subscribe to whatever has this address.
    Address(IpAddr),
    /// Subscribe to whatever has these host names, which are in lower case: a pod resolves them, or they are waypoints'.
    Hosts(Vec<Box<str>>),
    /// Connections went to these addresses lately, or are open to them: they stay subscribed.
    Used(Vec<IpAddr>),
    /// Connections go through waypoints that were found by these host names: they stay subscribed.
    UsedHosts(Vec<Arc<str>>),
    /// Get a certificate for this identity, which one of the served pods has.
    Certificate(SpiffeId),
}
