//! The proxy's listening sockets inside a pod.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use culvert_abi::{HOLD_PORT, INBOUND_HBONE_PORT, INBOUND_PLAINTEXT_PORT, OUTBOUND_PORT};
use culvert_net::{
    NetError, Netns,
    hold::{self, SynTap},
};
use culvert_proto::zds::SocketRole;
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    ports,
    recover::{self, Found},
};
use crate::kernel::PodListeners;

/// Connections that may wait while the proxy is busy or is being replaced; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Why a pod has no listeners.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The namespace cannot be entered.
    #[error(transparent)]
    Namespace(#[from] NetError),
    /// The namespace lacks the address, or somebody has the port.
    #[error("cannot listen on {address} inside the pod: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// `EADDRNOTAVAIL`: the pod has no such address, or not yet. `EADDRINUSE`: a proxy that opens its own listeners.
        source: io::Error,
    },
}

/// Listening sockets for one pod: outbound on each of its addresses, inbound on all.
///
/// They may be bound beside earlier ones that a proxy still holds (`SO_REUSEPORT`); connections that wait in those are
/// not lost, since the proxy accepts from both.
#[derive(Debug)]
pub struct Listeners {
    outbound: Vec<OwnedFd>,
    plaintext: OwnedFd,
    hbone: OwnedFd,
    hold: Option<HoldSockets>,
}

/// What it takes to hold connections.
#[derive(Debug)]
struct HoldSockets {
    silent: OwnedFd,
    /// One for the first address of each family, where captured connections go.
    taps: Vec<OwnedFd>,
}

impl HoldSockets {
    fn open(addresses: &[IpAddr]) -> io::Result<Self> {
        let taps = captured_at(addresses).map(|address| SynTap::open(address).map(OwnedFd::from));
        Ok(Self {
            taps: taps.collect::<Result<_, _>>()?,
            silent: hold::silent_listener()?,
        })
    }
}

/// The addresses of a pod to which its captured connections are turned.
fn captured_at(addresses: &[IpAddr]) -> impl Iterator<Item = IpAddr> {
    let first = |v4: bool| addresses.iter().copied().find(move |address| address.is_ipv4() == v4);
    [first(true), first(false)].into_iter().flatten()
}

impl Listeners {
    /// Opens them inside the pod; with `hold`, also what it takes to hold connections. Where that cannot be had, the second
    /// value says why, and connections are accepted first.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn open(netns: &Netns, addresses: &[IpAddr], hold: bool) -> Result<(Self, Option<String>), ListenError> {
        netns.run(|| {
            ports::prepare();
            let outbound = addresses
                .iter()
                .map(|address| listen(SocketAddr::new(*address, OUTBOUND_PORT)));
            let (hold, problem) = match hold.then(|| HoldSockets::open(addresses)) {
                Some(Ok(hold)) => (Some(hold), None),
                Some(Err(error)) => (None, Some(no_hold(&error))),
                None => (None, None),
            };
            let listeners = Self {
                outbound: outbound.collect::<Result<_, _>>()?,
                plaintext: listen_on_all(INBOUND_PLAINTEXT_PORT)?,
                hbone: listen_on_all(INBOUND_HBONE_PORT)?,
                hold,
            };
            Ok((listeners, problem))
        })?
    }

    /// Puts together those that a proxy holds for the pod with this cookie; none when one is missing. With `hold`, those for
    /// connections that are held are among them.
    pub(crate) fn recovered(addresses: &[IpAddr], cookie: u64, hold: bool, found: &mut Vec<Found>) -> Option<Self> {
        let mut take = |port: u16, address: Option<&IpAddr>| {
            let position = found.iter().rposition(|socket| {
                socket.cookie == cookie
                    && socket.local.port() == port
                    && address.map_or(socket.local.ip().is_unspecified(), |address| {
                        socket.local.ip() == *address
                    })
            })?;
            Some(found.swap_remove(position).socket)
        };
        let outbound = addresses.iter().map(|address| take(OUTBOUND_PORT, Some(address)));
        let outbound = outbound.collect::<Option<_>>()?;
        let (plaintext, hbone) = (take(INBOUND_PLAINTEXT_PORT, None)?, take(INBOUND_HBONE_PORT, None)?);
        let hold = if hold {
            let taps = captured_at(addresses).map(|address| take(recover::TAP, Some(&address)));
            let taps = taps.collect::<Option<_>>()?;
            let silent = take(HOLD_PORT, None)?;
            Some(HoldSockets { silent, taps })
        } else {
            None
        };
        Some(Self {
            outbound,
            plaintext,
            hbone,
            hold,
        })
    }

    /// What each of [`Listeners::descriptors`] is.
    pub fn roles(&self, with_hold: bool) -> Vec<SocketRole> {
        let mut roles = vec![SocketRole::Outbound; self.outbound.len()];
        roles.extend([SocketRole::InboundPlaintext, SocketRole::InboundHbone]);
        if let Some(hold) = self.hold.as_ref().filter(|_| with_hold) {
            roles.extend(hold.taps.iter().map(|_| SocketRole::SynTap));
            roles.push(SocketRole::Silent);
        }
        roles
    }

    /// All of them, or all but those for connections that are held.
    pub fn descriptors(&self, with_hold: bool) -> Vec<BorrowedFd<'_>> {
        let hold = self.hold.as_ref().filter(|_| with_hold);
        self.outbound
            .iter()
            .chain([&self.plaintext, &self.hbone])
            .chain(hold.into_iter().flat_map(|hold| hold.taps.iter().chain([&hold.silent])))
            .map(AsFd::as_fd)
            .collect()
    }

    /// Lends them in the shape that the kernel side wants.
    pub(crate) fn with<T>(&self, use_them: impl FnOnce(PodListeners<'_>) -> T) -> T {
        let outbound: Vec<BorrowedFd<'_>> = self.outbound.iter().map(AsFd::as_fd).collect();
        use_them(PodListeners {
            outbound: &outbound,
            inbound_plaintext: self.plaintext.as_fd(),
            inbound_hbone: self.hbone.as_fd(),
            hold: self.hold.as_ref().map(|hold| hold.silent.as_fd()),
        })
    }

    /// Whether all of these are among the sockets found.
    pub(crate) fn are_among(&self, found: &[Found]) -> bool {
        self.descriptors(true).into_iter().all(|ours| {
            rustix::net::sockopt::socket_cookie(ours).is_ok_and(|ours| found.iter().any(|socket| socket.id == ours))
        })
    }
}

/// Why connections are accepted first although the pod wants them held.
fn no_hold(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => format!("an application has port {HOLD_PORT}"),
        Some(libc::EPERM) => "the agent lacks CAP_NET_RAW".to_owned(),
        _ => error.to_string(),
    }
}

fn listen_on_all(port: u16) -> Result<OwnedFd, ListenError> {
    match listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))) {
        Err(ListenError::Listen { source, .. }) if source.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
        }
        outcome => outcome,
    }
}

fn listen(address: SocketAddr) -> Result<OwnedFd, ListenError> {
    let open = || {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM.nonblocking(),
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    open().map_err(|source| ListenError::Listen { address, source })
}
