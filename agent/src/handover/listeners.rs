//! The proxy's listening sockets inside a pod.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use culvert_abi::{INBOUND_HBONE_PORT, INBOUND_PLAINTEXT_PORT, OUTBOUND_PORT};
use culvert_net::{NetError, Netns};
use culvert_proto::zds::SocketRole;
use socket2::{Domain, Protocol, Socket, Type};

use super::{ports, recover::Found};
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
}

impl Listeners {
    /// Opens them inside the pod.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn open(netns: &Netns, addresses: &[IpAddr]) -> Result<Self, ListenError> {
        netns.run(|| {
            ports::prepare();
            let outbound = addresses
                .iter()
                .map(|address| listen(SocketAddr::new(*address, OUTBOUND_PORT)));
            Ok(Self {
                outbound: outbound.collect::<Result<_, _>>()?,
                plaintext: listen_on_all(INBOUND_PLAINTEXT_PORT)?,
                hbone: listen_on_all(INBOUND_HBONE_PORT)?,
            })
        })?
    }

    /// Puts together those that a proxy holds for the pod with this cookie; none when one is missing.
    pub(crate) fn recovered(addresses: &[IpAddr], cookie: u64, found: &mut Vec<Found>) -> Option<Self> {
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
        Some(Self {
            outbound: outbound.collect::<Option<_>>()?,
            plaintext: take(INBOUND_PLAINTEXT_PORT, None)?,
            hbone: take(INBOUND_HBONE_PORT, None)?,
        })
    }

    /// What each of [`Listeners::descriptors`] is.
    pub fn roles(&self) -> Vec<SocketRole> {
        let mut roles = vec![SocketRole::Outbound; self.outbound.len()];
        roles.extend([SocketRole::InboundPlaintext, SocketRole::InboundHbone]);
        roles
    }

    /// All of them.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.outbound
            .iter()
            .chain([&self.plaintext, &self.hbone])
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
        })
    }

    /// Whether all of these are among the sockets found.
    pub(crate) fn are_among(&self, found: &[Found]) -> bool {
        self.descriptors().into_iter().all(|ours| {
            rustix::net::sockopt::socket_cookie(ours).is_ok_and(|ours| found.iter().any(|socket| socket.id == ours))
        })
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
