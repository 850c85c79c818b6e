//! Who opened a tunnel.

use std::{net::IpAddr, sync::Arc};

use culvert_hbone::Baggage;

use super::counted::CountedIn;

/// Who opened the tunnel that a request came by.
#[derive(Debug)]
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
    /// What its requests were counted in so far.
    pub(crate) counted_in: CountedIn,
}
