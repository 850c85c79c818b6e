//! How the endpoints of a backend are found.

use std::sync::Arc;

use ipnet::IpNet;

use super::envoy::endpoints::Endpoint;

/// How the endpoints of a backend are found.
#[derive(Clone, Debug, Default)]
pub(crate) enum Discovery {
    /// The controller tells them.
    #[default]
    Told,
    /// Some are names, which the waypoint resolves itself.
    Names {
        endpoints: Arc<[Endpoint]>,
        /// Of the addresses of a name one at a time counts.
        is_round_robin: bool,
        mesh: Arc<[IpNet]>,
    },
    /// A connection goes where it was going.
    Dialled {
        /// But never in clear to an address in these ranges, which are the mesh's; above, too.
        mesh: Arc<[IpNet]>,
    },
}

impl Discovery {
    /// Whether the controller tells the endpoints.
    pub(crate) fn is_told(&self) -> bool {
        matches!(self, Self::Told)
    }
}
