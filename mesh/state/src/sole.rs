//! Services of which each connection of a pod gets the same endpoint: what is decided about one holds for the next.

use std::{net::SocketAddr, sync::Arc};

use crate::{
    Mesh,
    choice::{Choice, Target},
    pod::Pod,
    service::Mode,
};

impl Mesh {
    /// The endpoint that each connection of `pod` to this address of a service gets, as long as neither the mesh changes nor a connection
    /// to the endpoint fails. None where there is a choice (which is made for each connection anew), where a waypoint is on the way, for
    /// an address within a range, and for an endpoint that is not ready or has failed lately.
    ///
    /// What [`outbound`](Self::outbound) decides beyond the choice of an endpoint is not decided here.
    pub fn sole_endpoint(&self, pod: &Pod, dialled: SocketAddr) -> Option<SocketAddr> {
        let service = self.service_at(pod, dialled.ip())?;
        if service.balancing.mode == Mode::Passthrough || !service.waypoints.is_empty() {
            return None;
        }
        let choice = Choice {
            mesh: self,
            service,
            port: service.port(dialled.port())?,
            here: self.here(pod, service).ok()?,
            pod,
            dialled: dialled.ip(),
            is_waypoint: false,
        };
        match choice.sole()? {
            (_, Target::Address(target)) => Some(target),
            (_, Target::Name(..)) => None,
        }
    }

    /// The name, `namespace/hostname`, of the service that `pod` reaches at an address.
    pub fn service_dialled(&self, pod: &Pod, dialled: SocketAddr) -> Option<Arc<str>> {
        self.service_at(pod, dialled.ip())
            .map(|service| Arc::clone(&service.name))
    }
}
