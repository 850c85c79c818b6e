//! Connections to applications of this node: plaintext from outside the mesh, and those that HBONE peers ask for.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd as _, OwnedFd},
    rc::Rc,
    sync::Arc,
};

use culvert_accounting::{Direction, Peer};
use culvert_hbone::{Authority, BadRequest, ConnectRequest, StreamId};
use culvert_state::Inbound;
use culvert_tunnel::failure::Failure;

use super::{
    flow::{Far, Flow, Stream},
    keys::{FlowKey, TunnelKey},
    loop_state::Loop,
    socket::{self, Socket},
    sockets::LocalPod,
};

impl Loop {
    /// A connection in plaintext, steered here by the kernel: its own end is the address that was dialled.
    pub(super) fn accept_plaintext(&mut self, pod: Rc<LocalPod>, fd: OwnedFd, source: SocketAddr) {
        let destination = match (self.config.calls.plaintext_destination)(fd.as_fd()).map(socket::canonical) {
            Ok(destination) => destination,
            Err(error) => {
                tracing::warn!(pod = %pod.pod.uid, %source, %error, "a connection without a destination is reset");
                socket::reset(fd);
                return;
            }
        };
        let deadline = self.now + self.config.connect_timeout;
        let mut flow = Flow::new(Direction::Inbound, &pod, source, destination, deadline);
        flow.near = Some(Socket::accepted(fd));
        flow.peer.workload = self.mesh.workload_at(source.ip());
        self.ask_for_source(&pod, source.ip(), false);
        let own = pod.is_own_port(destination.port());
        let key = self.add_flow(flow);
        if own {
            self.end(key, Err(Failure::NotHere(destination)));
        } else {
            self.authorize(key);
        }
    }

    /// A peer asks for a connection to the pod.
    pub(super) fn serve(&mut self, tunnel_key: TunnelKey, id: StreamId, request: Result<ConnectRequest, BadRequest>) {
        let Some(tunnel) = self.tunnels.get_mut(tunnel_key) else {
            return;
        };
        let pod = Rc::clone(&tunnel.pod);
        let source = client(tunnel.peer, request.as_ref().ok());
        let asked = match &request {
            Ok(request) => match &request.authority {
                Authority::Address(address) => Ok(socket::canonical(*address)),
                Authority::Name { host, .. } => Err(Failure::bad_request(&format!("{host} is not an address"))),
            },
            Err(bad) => Err(Failure::BadRequest {
                why: bad.to_string().into(),
                status: bad.status(),
                malformed: bad.is_malformed(),
            }),
        };
        let here = |address: SocketAddr| {
            if pod.pod.addresses.contains(&address.ip()) && !pod.is_own_port(address.port()) {
                Ok(address)
            } else {
                Err(Failure::NotHere(address))
            }
        };
        let unknown = SocketAddr::new(pod.pod.addresses.first().copied().unwrap_or(tunnel.peer.ip()), 0);
        let destination = asked.as_ref().copied().unwrap_or(unknown);
        let deadline = self.now + self.config.connect_timeout;
        let mut flow = Flow::new(Direction::Inbound, &pod, source, destination, deadline);
        flow.tunnel_address = Some(tunnel.peer);
        flow.peer = Peer {
            identity: tunnel.identity.clone(),
            workload: self.mesh.workload_at(source.ip()),
        };
        flow.far = Far::Stream(Stream {
            tunnel: tunnel_key,
            id,
            ended: false,
        });
        let key = self.add_flow(flow);
        let Some(tunnel) = self.tunnels.get_mut(tunnel_key) else {
            return;
        };
        tunnel.streams.insert(id, key);
        match asked.and_then(here) {
            Ok(_) => self.authorize(key),
            Err(failure) => self.end(key, Err(failure)),
        }
    }

    /// Asks policy, and goes on to the application if it agrees.
    pub(super) fn authorize(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get(key) else { return };
        let decision = self.mesh.inbound(
            &flow.pod.pod,
            flow.source,
            flow.peer.identity.as_ref(),
            flow.destination,
        );
        if !matches!(decision, Inbound::Pending(_)) {
            self.remark(key);
        }
        match decision {
            Inbound::Allow => self.need_socket(key),
            Inbound::Pending(awaited) => self.park(key, awaited),
            Inbound::Deny(denial) => self.end(key, Err(Failure::Denied(denial))),
        }
    }

    /// Notes and counts what policies say that do not decide.
    fn remark(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let remarks = self.mesh.remarks(
            &flow.pod.pod,
            flow.source,
            flow.peer.identity.as_ref(),
            flow.destination,
        );
        let Some(remarks) = remarks else { return };
        self.shared.telemetry.remarks().count(&remarks);
        flow.remarks = Some(Arc::new(remarks));
    }
}

/// The true client of a tunnelled connection. Its address is that of the tunnel, which the network vouches for; the
/// `forwarded` header is believed for the port alone, and only where it agrees on the address.
fn client(tunnel: SocketAddr, request: Option<&ConnectRequest>) -> SocketAddr {
    let port = request
        .and_then(|request| request.header("forwarded"))
        .and_then(|forwarded| forwarded_port(forwarded, tunnel.ip()));
    SocketAddr::new(tunnel.ip(), port.unwrap_or(tunnel.port()))
}

/// The port in `for="<address>:<port>"` (RFC 7239 section 6) if the address is the expected one.
fn forwarded_port(header: &str, expected: IpAddr) -> Option<u16> {
    let first = header.split(',').next()?;
    let node = first.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then(|| value.trim_matches('"'))
    })?;
    let address: SocketAddr = node.parse().ok()?;
    (address.ip().to_canonical() == expected).then_some(address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forwarded_port_is_believed_where_the_address_agrees() {
        let v4: IpAddr = [198, 18, 0, 1].into();
        assert_eq!(forwarded_port("for=\"198.18.0.1:4711\"", v4), Some(4711));
        assert_eq!(
            forwarded_port("host=web; For=198.18.0.1:4711, for=198.18.0.1:1", v4),
            Some(4711)
        );
        assert_eq!(forwarded_port("for=\"198.18.0.2:4711\"", v4), None);
        assert_eq!(forwarded_port("for=198.18.0.1", v4), None);
        assert_eq!(forwarded_port("for=;;==", v4), None);
        let v6: IpAddr = "fd00:c01e::1".parse().unwrap();
        assert_eq!(forwarded_port("for=\"[fd00:c01e::1]:80\"", v6), Some(80));
    }
}
