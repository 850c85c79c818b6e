//! A connection on its way through the proxy, from accept to its line in the access log.

use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use culvert_accounting::{ConnectionRecord, Direction, Peer};
use culvert_hbone::{Authority, StreamId};
use culvert_policy::Remarks;
use culvert_state::{Awaited, Named, WaypointAt};
use culvert_tunnel::{attempts::Attempts, failure::Failure};

use super::{buffers::Backlog, keys::TunnelKey, socket::Socket, sockets::LocalPod, unanswered::Unanswered};

/// One connection between two applications, as this proxy sees it. It goes from a socket to a socket, or to or from a
/// stream of a tunnel:
///
/// | | `near` | `far` |
/// |---|---|---|
/// | outbound, tunnelled | the application's socket, accepted | stream of a tunnel that we dialled |
/// | outbound, direct | the application's socket, accepted | socket to the destination |
/// | inbound, tunnelled | socket to the application | stream of a tunnel that was accepted |
/// | inbound, plaintext | the client's socket, accepted | socket to the application |
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) direction: Direction,
    pub(super) pod: Rc<LocalPod>,
    /// The client.
    pub(super) source: SocketAddr,
    /// What the client dialled.
    pub(super) destination: SocketAddr,
    /// Where the next connection attempt of a flow with two sockets goes; `destination` but for services.
    pub(super) target: SocketAddr,
    /// What the peer of a tunnel is asked for.
    pub(super) authority: Authority,
    /// The other end: the client of an inbound flow, the destination of an outbound one.
    pub(super) peer: Peer,
    /// The service that was dialled, `namespace/hostname`.
    pub(super) service: Option<Arc<str>>,
    /// The peer's address on the tunnel.
    pub(super) tunnel_address: Option<SocketAddr>,
    /// The waypoint whose tunnel it is, where it is not that of whom was dialled.
    pub(super) waypoint: Option<WaypointAt>,
    /// The endpoint that is being dialled, where that is known by its name.
    pub(super) named: Option<Box<NamedEndpoint>>,
    pub(super) phase: Phase,
    /// What it waits for while parked.
    pub(super) awaits: Option<Awaited>,
    /// The application's SYN, of an outbound flow that is held: there is no `near` until it is answered.
    pub(super) unanswered: Option<Box<Unanswered>>,
    pub(super) near: Option<Socket>,
    pub(super) far: Far,
    /// Bytes that a peer sent before the application was connected.
    pub(super) early: Backlog,
    /// Bytes held here, as they were last counted.
    pub(super) held: usize,
    pub(super) attempts: Attempts,
    /// Waiting in the loop's queue of unfinished work, or for its turn on its tunnel.
    pub(super) queued: bool,
    /// What policies say of it that decide nothing.
    pub(super) remarks: Option<Arc<Remarks>>,
    /// Once it is open.
    pub(super) record: Option<ConnectionRecord>,
}

/// An endpoint that is known by its name, on the way to a connection.
#[derive(Debug)]
pub(super) struct NamedEndpoint {
    pub(super) named: Named,
    /// Of the mesh that chose it.
    pub(super) generation: u64,
    /// The address that was chosen, while something about it is waited for.
    pub(super) picked: Option<IpAddr>,
}

/// How far a flow has come. All but the last end at the connect timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// To a resolver: the mesh may answer, so waits for a query. Ends well at the connect timeout.
    Asking,
    /// Something is not known yet: waits for the mesh to change.
    Parked,
    /// Waits for a resolver to say the addresses of an endpoint.
    Naming,
    /// An attempt failed: waits a moment before the next.
    Delayed,
    /// Waits for a socket in the pod's namespace.
    Stock,
    /// Waits for a tunnel.
    Queued,
    /// Waits for the answer to its CONNECT.
    Requested,
    /// Waits for TCP.
    Connecting,
    /// The far side of a held connection is there: waits for the application's socket.
    Meeting,
    /// Carries bytes.
    Open,
}

/// The second end of a flow.
#[derive(Debug)]
pub(super) enum Far {
    /// Not there yet.
    None,
    /// A stream of a tunnel.
    Stream(Stream),
    /// A socket.
    Socket(Socket),
    /// The stream ended in both directions and its tunnel is gone; the application has not taken everything yet. With
    /// what the tunnel failed of, if the peer may have missed something.
    Ended(Option<Failure>),
}

/// A stream of a tunnel, from the flow's side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    pub(super) tunnel: TunnelKey,
    pub(super) id: StreamId,
    /// The peer sends nothing more.
    pub(super) ended: bool,
}

impl Flow {
    pub(super) fn new(
        direction: Direction,
        pod: &Rc<LocalPod>,
        source: SocketAddr,
        destination: SocketAddr,
        deadline: Instant,
    ) -> Self {
        Self {
            direction,
            pod: Rc::clone(pod),
            source,
            destination,
            target: destination,
            authority: destination.into(),
            peer: Peer::default(),
            service: None,
            tunnel_address: None,
            waypoint: None,
            named: None,
            phase: Phase::Parked,
            awaits: None,
            unanswered: None,
            near: None,
            far: Far::None,
            early: Backlog::default(),
            held: 0,
            attempts: Attempts::until(deadline),
            queued: false,
            remarks: None,
            record: None,
        }
    }

    /// The stream of a tunnelled flow.
    pub(super) fn stream(&self) -> Option<Stream> {
        match &self.far {
            Far::Stream(stream) => Some(*stream),
            _ => None,
        }
    }

    /// Whether this is a connection that an HBONE peer asked for.
    pub(super) fn is_served(&self) -> bool {
        self.direction == Direction::Inbound && matches!(self.far, Far::Stream(_))
    }

    /// What the flow waits for, for people.
    pub(super) fn waiting(&self) -> Arc<str> {
        if let (Phase::Parked, Some(awaited)) = (self.phase, &self.awaits) {
            return awaited.to_string().into();
        }
        if let (Phase::Naming, Some(endpoint)) = (self.phase, &self.named) {
            return format!("no answer of a resolver about {}", endpoint.named.host).into();
        }
        if let Some(last) = self.attempts.last() {
            return last.to_string().into();
        }
        match self.phase {
            Phase::Asking => "no DNS query",
            Phase::Parked => "destination, policy or certificate not known",
            Phase::Naming => "no answer of a resolver",
            Phase::Delayed | Phase::Stock => "no socket from the monitor",
            Phase::Queued => "no tunnel",
            Phase::Requested => "no answer from the peer",
            Phase::Connecting | Phase::Open => "no answer to TCP",
            Phase::Meeting => "the application's socket does not answer",
        }
        .into()
    }

    /// Bytes that wait here for a socket that does not take them.
    pub(super) fn holds(&self) -> usize {
        let near = self.near.as_ref().map_or(0, |socket| socket.backlog.len());
        let far = match &self.far {
            Far::Socket(socket) => socket.backlog.len(),
            _ => 0,
        };
        near + far + self.early.len()
    }

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

    /// One of the flow's sockets.
    pub(super) fn side(&mut self, near: bool) -> Option<&mut Socket> {
        match (near, &mut self.far) {
            (true, _) => self.near.as_mut(),
            (false, Far::Socket(far)) => Some(far),
            (false, _) => None,
        }
    }
}
