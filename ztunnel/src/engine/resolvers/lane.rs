//! One resolver of one pod, its sockets, and who waits on them.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    rc::Rc,
    time::{Duration, Instant},
};

use culvert_dns::{Part, forward::Head};
use rustc_hash::FxHashMap;

use super::super::{
    keys::{LaneKey, UpstreamKey},
    sockets::LocalPod,
};

/// How many queries leave from one port, and for how long.
pub(super) const SHARE: u32 = 256;
pub(super) const TERM: Duration = Duration::from_secs(10);

/// For how long the kernel's word about a lane's resolver is taken.
const KNOWN: Duration = Duration::from_secs(1);

/// Who waits for an answer.
#[derive(Debug)]
pub(in super::super) struct Asker {
    pub(in super::super) from: From,
    pub(in super::super) head: Head,
    pub(in super::super) at: Instant,
}

/// Where an answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum From {
    /// To an application, as the socket says it.
    Client(SocketAddr),
    /// To a question of the proxy's own, about the name of an endpoint.
    Name(Part),
}

/// A query that waits for a socket: who asks, whom, and what.
pub(in super::super) type Unsent = (Asker, SocketAddr, Vec<u8>);

/// One resolver of one pod; or all of them, as the proxy asks them itself.
#[derive(Debug)]
pub(in super::super) struct Lane {
    pub(in super::super) pod: Rc<LocalPod>,
    /// Where queries arrive, and answers leave from. None: these are the proxy's own questions.
    pub(super) socket: Option<Rc<OwnedFd>>,
    pub(super) resolver: Option<(SocketAddr, Instant)>,
    pub(super) sockets: Vec<UpstreamKey>,
    pub(super) waiting: VecDeque<Unsent>,
    pub(super) requested: Option<Instant>,
    pub(super) used: Instant,
    /// Nothing more arrives.
    pub(super) closed: bool,
}

/// A socket towards a resolver.
#[derive(Debug)]
pub(in super::super) struct Upstream {
    pub(in super::super) fd: OwnedFd,
    pub(in super::super) lane: LaneKey,
    pub(super) connected: Option<(SocketAddr, Instant)>,
    pub(super) sent: u32,
    pub(super) pending: FxHashMap<u16, Asker>,
}

impl Asker {
    /// None for what is no message.
    pub(in super::super) fn new(message: &[u8], from: From, at: Instant) -> Option<Self> {
        Some(Self {
            from,
            head: Head::of(message)?,
            at,
        })
    }
}

/// Where answers leave from, which may outlive the lane.
#[derive(Clone, Debug)]
pub(in super::super) struct Way {
    pub(in super::super) pod: Rc<LocalPod>,
    /// None for the proxy's own questions.
    pub(in super::super) socket: Option<Rc<OwnedFd>>,
}

impl Lane {
    /// Where its answers leave from.
    pub(in super::super) fn way(&self) -> Way {
        Way {
            pod: Rc::clone(&self.pod),
            socket: self.socket.clone(),
        }
    }

    /// Whose queries arrive here, by the kernel's word.
    pub(in super::super) fn resolver(
        &mut self,
        ask: fn(BorrowedFd<'_>) -> io::Result<SocketAddr>,
        now: Instant,
    ) -> io::Result<SocketAddr> {
        if let Some((resolver, at)) = self.resolver
            && now < at + KNOWN
        {
            return Ok(resolver);
        }
        let socket = self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let resolver = ask(socket.as_fd())?;
        self.resolver = Some((resolver, now));
        Ok(resolver)
    }

    /// The pod's address of the resolver's family, from which it is asked.
    pub(super) fn source(&self, resolver: SocketAddr) -> Option<IpAddr> {
        let mut addresses = self.pod.pod.addresses.iter().copied();
        addresses.find(|address| address.is_ipv4() == resolver.is_ipv4())
    }
}

impl Upstream {
    pub(super) fn leads_to(&self, resolver: SocketAddr) -> bool {
        self.connected.is_some_and(|(to, _)| to == resolver)
    }

    pub(super) fn is_fresh(&self, resolver: SocketAddr, now: Instant) -> bool {
        self.leads_to(resolver) && self.sent < SHARE && self.connected.is_some_and(|(_, since)| now < since + TERM)
    }
}
