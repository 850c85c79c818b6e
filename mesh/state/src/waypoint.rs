//! Waypoints, as services and workloads name them.

use std::{fmt, net::IpAddr, sync::Arc};

/// Where tunnels are taken in, unless another port is named.
pub(crate) const HBONE_PORT: u16 = 15008;

/// What connections to a service or a workload are to pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waypoint {
    /// Where it is.
    pub at: WaypointAt,
    /// Where it takes tunnels in: a port of its service, or of its own.
    pub port: u16,
}

/// Where a waypoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaypointAt {
    /// At the endpoints of its own service.
    Service {
        /// The service's resource name, `namespace/hostname`.
        name: Arc<str>,
        /// The host name, in lower case, by which the controller is asked for it.
        host: Arc<str>,
    },
    /// At the address of a service, or at a workload's own.
    Address {
        /// The network in which the address means something.
        network: Arc<str>,
        /// The address.
        address: IpAddr,
    },
}

/// One of several waypoints that share the connections to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedWaypoint {
    /// The waypoint.
    pub waypoint: Waypoint,
    /// Its share, in proportion to those of the others. With 0 it gets nothing.
    pub weight: u32,
}

impl WaypointAt {
    /// The host name by which the controller is asked for it, if it is by one. As long as connections are open through the waypoint,
    /// the answer is of use.
    pub fn host(&self) -> Option<&Arc<str>> {
        match self {
            Self::Service { host, .. } => Some(host),
            Self::Address { .. } => None,
        }
    }
}

impl fmt::Display for Waypoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            WaypointAt::Service { name, .. } => f.write_str(name),
            WaypointAt::Address { address, .. } => address.fmt(f),
        }
    }
}
