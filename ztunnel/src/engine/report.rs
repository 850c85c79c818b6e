//! What is told about connections: each one ends in exactly one line of the access log and moves the metrics.

use std::{net::SocketAddr, sync::Arc};

use culvert_accounting::{Direction, Opening, Peer};
use culvert_state::Denial;
use culvert_telemetry::tcp::ResponseFlags;
use culvert_tunnel::failure::Failure;

use super::{
    flow::Flow,
    keys::{FlowKey, TunnelKey},
    loop_state::Loop,
    tunnel::Tunnel,
};
use crate::seam::ListenerRole;

impl Loop {
    /// A flow is connected at both ends.
    pub(super) fn report_open(&mut self, key: FlowKey) {
        let Some(opening) = self.flows.get(key).map(|flow| self.opening(flow)) else {
            return;
        };
        if let (Direction::Outbound, Some(workload)) = (opening.direction, &opening.peer.workload) {
            workload.trouble.clear();
        }
        let record = self.shared.telemetry.accounting().opened(opening);
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
                let accepted = flow.attempts.deadline - self.config.connect_timeout;
                let tried_for = self.now.saturating_duration_since(accepted);
                self.shared
                    .telemetry
                    .accounting()
                    .failed(&self.opening(flow), flags(&failure), tried_for, &failure);
            }
            // Of those that were not open, DNS queries over TCP alone end well: the mesh has answered them.
            (None, Ok(())) => {}
        }
    }

    /// The peer of an open tunnel misbehaves: says who it is, at a bounded rate. `amount` is of what it is too much.
    pub(super) fn complain(&mut self, key: TunnelKey, what: &str, amount: usize) {
        let Some(tunnel) = self.tunnels.get(key) else { return };
        let Some(passed_over) = self.complaints.line(self.now) else {
            return;
        };
        tracing::warn!(
            peer = %tunnel.peer, identity = ?tunnel.identity, role = ?tunnel.role, pod = %tunnel.pod.pod.uid,
            streams = tunnel.streams.len(), amount, passed_over, "a peer misbehaves; its tunnel is closed: {what}"
        );
    }

    /// An accepted connection to the tunnel port never became a tunnel.
    pub(super) fn report_refused_tunnel(&mut self, tunnel: &Tunnel, failure: &Failure) {
        let refused = &self.shared.telemetry.proxy().refused_tunnels;
        refused.get_or_create(&[("reason", "handshake")]).inc();
        let Some(passed_over) = self.refusals.line(self.now) else {
            return;
        };
        if passed_over > 0 {
            tracing::warn!(passed_over, "more tunnels were refused than are logged one by one");
        }
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
            dialled: None,
            hostname: None,
            service: None,
            hbone_addr: Some(tunnel.peer),
            encrypted: false,
            key_exchange: None,
            remarks: None,
            by_kernel: false,
        };
        // A tunnel without streams is idle from its beginning.
        let tried_for = self.now.saturating_duration_since(tunnel.life.idle_since());
        let accounting = self.shared.telemetry.accounting();
        accounting.failed(&opening, flags(failure), tried_for, failure);
    }

    fn opening(&self, flow: &Flow) -> Opening {
        let pod = &flow.pod.pod;
        Opening {
            direction: flow.direction,
            pod: pod.clone(),
            own: self.mesh.workload_of(pod).cloned(),
            source: flow.source,
            destination: flow.target,
            dialled: (flow.target != flow.destination).then_some(flow.destination),
            hostname: flow.named.as_ref().map(|endpoint| Arc::clone(&endpoint.named.host)),
            peer: flow.peer.clone(),
            service: flow.service.clone(),
            hbone_addr: flow.tunnel_address,
            encrypted: flow.stream().is_some(),
            key_exchange: flow
                .stream()
                .and_then(|stream| self.tunnels.get(stream.tunnel)?.key_exchange),
            remarks: flow.remarks.clone(),
            by_kernel: false,
        }
    }
}

/// A failure in Istio's words.
fn flags(failure: &Failure) -> ResponseFlags {
    match failure {
        Failure::Denied(
            Denial::Policy(_) | Denial::NotAllowed | Denial::PolicyMissing(_) | Denial::NotInRegistry { .. },
        ) => ResponseFlags::Denied,
        // What a peer answers whose policies deny.
        Failure::Refused { status: 401 | 403, .. } => ResponseFlags::Denied,
        Failure::Tunnel { final_: true, .. } => ResponseFlags::TlsFailed,
        _ => ResponseFlags::ConnectFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_the_flags_that_istios_ztunnel_gives_them() {
        let to: SocketAddr = "198.18.0.2:15008".parse().unwrap();
        let tunnel = |final_| Failure::Tunnel {
            to,
            why: "unknown issuer".into(),
            final_,
        };
        let refused = |status| Failure::Refused {
            status,
            reason: "no".into(),
        };
        let table = [
            (Failure::Denied(Denial::Policy("shop/p".into())), ResponseFlags::Denied),
            (Failure::Denied(Denial::NotAllowed), ResponseFlags::Denied),
            (refused(401), ResponseFlags::Denied),
            (refused(503), ResponseFlags::ConnectFailed),
            (tunnel(true), ResponseFlags::TlsFailed),
            (tunnel(false), ResponseFlags::ConnectFailed),
            (
                Failure::Denied(Denial::NoEndpoint("shop/cart".into())),
                ResponseFlags::ConnectFailed,
            ),
            (
                Failure::Connect {
                    to,
                    error: rustix::io::Errno::CONNREFUSED,
                },
                ResponseFlags::ConnectFailed,
            ),
        ];
        for (failure, expected) in table {
            assert_eq!(flags(&failure), expected, "{failure}");
        }
    }
}
