//! Who opened a tunnel.

use std::{net::IpAddr, sync::Arc};

use culvert_hbone::Baggage;

/// Who opened the tunnel that a request came by.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its pod's address.
    pub address: IpAddr,
    /// The port that its tunnel comes from.
    pub port: u16,
    /// Its SPIFFE ID, which its certificate proved.
    pub principal: Arc<str>,
    /// The namespace in that.
    pub namespace: Arc<str>,
    /// What it says of itself: for telemetry alone.
    pub baggage: Baggage,
}
