//! A connection on its way through the proxy, from accept to its line in the access log.

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use culvert_hbone::StreamId;

use super::{
    arena::Key, buffers::Backlog, failure::Failure, socket::Socket, sockets::LocalPod, tunnel::Tunnel,
    unanswered::Unanswered,
};
use crate::{
    state::Awaited,
    telemetry::Peer,
    telemetry::{ConnectionRecord, Direction},
};

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
    /// The other end: the client of an inbound flow, the destination of an outbound one.
    pub(super) peer: Peer,
    /// The service that was dialled, `namespace/hostname`.
    pub(super) service: Option<Arc<str>>,
    /// The peer's address on the tunnel.
    pub(super) tunnel_address: Option<SocketAddr>,
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
    /// Once it is open.
    pub(super) record: Option<ConnectionRecord>,
}

/// How far a flow has come. All but the last end at the connect timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Something is not known yet: waits for the mesh to change.
    Parked,
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
    pub(super) tunnel: Key<Tunnel>,
    pub(super) id: StreamId,
    /// The peer sends nothing more.
    pub(super) ended: bool,
}

/// A flow's attempts to connect.
#[derive(Debug)]
pub(super) struct Attempts {
    /// The connect timeout.
    pub(super) deadline: Instant,
    /// Targets at which one failed, since there was one left that had not been tried.
    pub(super) tried: Vec<SocketAddr>,
    /// Counts the attempts.
    pub(super) number: u32,
    failed: u32,
    last: Option<Failure>,
}

impl Attempts {
    /// The first retry comes soon: most failures here are a peer that is changing over.
    const FIRST_DELAY: Duration = Duration::from_millis(50);
    const LAST_DELAY: Duration = Duration::from_secs(1);
    pub(super) const fn until(deadline: Instant) -> Self {
        Self {
            deadline,
            tried: Vec::new(),
            number: 0,
            failed: 0,
            last: None,
        }
    }

    /// How long to wait before the next attempt, `None` if there is to be none. `elsewhere` if it will be at a target that
    /// has not been tried: that is not waited for. Where all have been tried, what they said is passed on, unless it may
    /// pass by itself.
    pub(super) fn failed(&mut self, failure: &Failure, elsewhere: bool) -> Option<Duration> {
        self.last = Some(failure.clone());
        if elsewhere {
            return Some(Duration::ZERO);
        }
        if !failure.may_pass() {
            return None;
        }
        self.tried.clear();
        let delay = (Self::FIRST_DELAY * (1 << self.failed.min(8))).min(Self::LAST_DELAY);
        self.failed += 1;
        Some(delay)
    }

    /// What the last attempt failed of.
    pub(super) fn last(&self) -> Option<&Failure> {
        self.last.as_ref()
    }
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
            peer: Peer::default(),
            service: None,
            tunnel_address: None,
            phase: Phase::Parked,
            awaits: None,
            unanswered: None,
            near: None,
            far: Far::None,
            early: Backlog::default(),
            held: 0,
            attempts: Attempts::until(deadline),
            queued: false,
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
        if let Some(last) = self.attempts.last() {
            return last.to_string().into();
        }
        match self.phase {
            Phase::Parked => "destination, policy or certificate not known",
            Phase::Delayed | Phase::Stock => "no socket from the monitor",
            Phase::Queued => "no tunnel",
            Phase::Requested => "no answer from the peer",
            Phase::Connecting | Phase::Open => "no answer to TCP",
            Phase::Meeting => "the application's socket does not answer",
        }
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_passed_on_once_there_is_nobody_else_and_what_may_pass_is_waited_for() {
        let mut attempts = Attempts::until(Instant::now());
        let lost = Failure::TunnelLost("gone".into());
        assert_eq!(attempts.failed(&lost, false), Some(Duration::from_millis(50)));
        assert_eq!(attempts.failed(&lost, false), Some(Duration::from_millis(100)));
        let refused = Failure::Refused {
            status: 503,
            reason: "".into(),
        };
        assert_eq!(attempts.failed(&refused, true), Some(Duration::ZERO));
        assert_eq!(attempts.failed(&refused, false), None);
        for _ in 0..20 {
            assert!(
                attempts
                    .failed(&lost, false)
                    .is_some_and(|delay| delay <= Duration::from_secs(1))
            );
        }
    }
}
