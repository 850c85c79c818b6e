//! What is told about connections: each one ends in exactly one line of the access log and moves the metrics.

use std::net::SocketAddr;

use super::{
    Loop,
    arena::Key,
    failure::Failure,
    flow::{Far, Flow},
    tunnel::Tunnel,
};
use crate::{
    seam::{ListenerRole, Peer},
    telemetry::{Direction, Opening},
};

impl Flow {
    /// Counts bytes that came in at one end.
    pub(super) fn count(&mut self, bytes: usize, from_near: bool) {
        // The pod's application is near, but for plaintext from outside.
        let plaintext = self.direction == Direction::Inbound && matches!(self.far, Far::Socket(_));
        if let Some(record) = &mut self.record {
            if from_near != plaintext {
                record.add_sent(bytes as u64);
            } else {
                record.add_received(bytes as u64);
            }
        }
    }
}

impl Loop {
    /// A new flow. Its time to connect runs.
    pub(super) fn add_flow(&mut self, flow: Flow) -> Key<Flow> {
        let deadline = flow.attempts.deadline;
        let key = self.flows.insert(flow);
        self.timers.set_deadline(deadline, key);
        key
    }

    /// A flow is connected at both ends.
    pub(super) fn report_open(&mut self, key: Key<Flow>) {
        let Some(opening) = self.flows.get(key).map(|flow| self.opening(flow)) else {
            return;
        };
        let record = self.shared.telemetry.opened(opening);
        if let Some(flow) = self.flows.get_mut(key) {
            flow.record = Some(record);
        }
    }

    /// A flow has ended.
    pub(super) fn report_end(&self, flow: &mut Flow, outcome: Result<(), Failure>) {
        match (flow.record.take(), outcome) {
            (Some(record), outcome) => record.close(outcome.map_err(Into::into)),
            (None, Err(failure)) => {
                if failure.is_for_want_of_a_port() {
                    self.shared.telemetry.proxy().local_ports_exhausted.inc();
                }
                self.shared.telemetry.failed(&self.opening(flow), &failure);
            }
            (None, Ok(())) => {} // only open flows end well
        }
    }

    /// An accepted connection to the tunnel port never became a tunnel.
    pub(super) fn report_refused_tunnel(&self, tunnel: &Tunnel, failure: &Failure) {
        let pod = &tunnel.pod.pod;
        let port = tunnel
            .pod
            .own_ports
            .iter()
            .find(|(role, _)| *role == ListenerRole::InboundHbone);
        let address = pod.addresses.first().copied().unwrap_or(tunnel.peer.ip());
        let opening = Opening {
            direction: Direction::Inbound,
            pod: pod.clone(),
            own: self.mesh.workload_of(pod).cloned(),
            source: tunnel.peer,
            destination: SocketAddr::new(address, port.map_or(0, |(_, port)| *port)),
            peer: Peer {
                identity: None,
                workload: self.mesh.workload_at(tunnel.peer.ip()),
            },
            service: None,
            hbone_addr: Some(tunnel.peer),
            encrypted: false,
        };
        self.shared.telemetry.failed(&opening, failure);
    }

    fn opening(&self, flow: &Flow) -> Opening {
        let pod = &flow.pod.pod;
        Opening {
            direction: flow.direction,
            pod: pod.clone(),
            own: self.mesh.workload_of(pod).cloned(),
            source: flow.source,
            destination: flow.target,
            peer: flow.peer.clone(),
            service: flow.service.clone(),
            hbone_addr: flow.tunnel_address,
            encrypted: flow.stream().is_some(),
        }
    }
}
