//! The proxy's sockets for the DNS queries of a pod, and what it asks the kernel programs of them.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use culvert_abi::{DNS_PORT, DNS_SLOTS, is_dns_port};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::sockopt;

/// How many resolvers of a pod have a socket: see `culvert_abi::Resolver`.
pub const SLOTS: usize = DNS_SLOTS as usize;

/// Queries that may wait while the proxy is busy or is being replaced, in bytes of kernel memory: about 1,000.
const BUFFER: libc::c_int = 1 << 20;

/// The sockets of all slots, in the calling thread's network namespace: UDP, non-blocking, on all addresses of both families (of IPv4
/// where the kernel has no IPv6). Others may be bound beside them (`SO_REUSEPORT`): the kernel programs know which get the queries.
///
/// # Errors
/// `EADDRINUSE`: an application has one of the ports.
pub fn listeners() -> io::Result<[OwnedFd; SLOTS]> {
    let [first, second, third] = [0, 1, 2].map(|slot| listener(DNS_PORT + slot));
    Ok([first?, second?, third?])
}

fn listener(port: u16) -> io::Result<OwnedFd> {
    let socket = datagram_socket()?;
    let address = match socket.domain()? {
        Domain::IPV6 => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        _ => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
    };
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    let set = |option| sockopt::set(socket.as_fd(), libc::SOL_SOCKET, option, &BUFFER);
    // Beyond the machine's limit where that is allowed.
    if set(libc::SO_RCVBUFFORCE).is_err() {
        set(libc::SO_RCVBUF)?;
    }
    Ok(socket.into())
}

/// The slot of a socket of [`listeners`]; none for any other socket.
pub fn slot(fd: BorrowedFd<'_>) -> Option<usize> {
    let socket = SockRef::from(&fd);
    let port = socket.local_addr().ok()?.as_socket()?.port();
    let is_ours = socket.r#type().ok()? == Type::DGRAM && is_dns_port(port.into());
    is_ours.then(|| usize::from(port - DNS_PORT))
}

/// The resolver whose queries reach a socket of [`listeners`].
///
/// # Errors
/// `ENOPROTOOPT` (or what the kernel says of an option that it does not know) when there is none yet, or the kernel programs do not know
/// the socket's owner as an agent or a proxy.
pub fn resolver(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    sockopt::original_dst(fd, true).or_else(|_| sockopt::original_dst(fd, false))
}

/// An unbound UDP socket to ask resolvers with, in the calling thread's network namespace: non-blocking, closed on exec, of both
/// families (an IPv4 one where the kernel has no IPv6).
///
/// # Errors
/// Those of `socket`, usually for want of descriptors.
pub fn upstream_socket() -> io::Result<OwnedFd> {
    datagram_socket().map(OwnedFd::from)
}

/// Connects a socket of [`upstream_socket`] to a resolver, from this address of the pod and a port that the kernel picks at random. One
/// that is connected is undone first, so that it gets another port. The kernel then hands out what comes from this very resolver alone,
/// and its refusals (`ECONNREFUSED`). A socket stays with the family that it was connected to first.
///
/// # Errors
/// `EADDRNOTAVAIL`: the pod does not have the address. `ENETUNREACH` and its like: there is no way to the resolver.
pub fn connect(fd: BorrowedFd<'_>, from: Option<IpAddr>, to: SocketAddr) -> io::Result<()> {
    let socket = SockRef::from(&fd);
    rustix::net::connect_unspec(fd)?;
    if let Some(from) = from {
        sockopt::bind(&socket, SocketAddr::new(from, 0))?;
    }
    let mapped = match to {
        SocketAddr::V4(v4) if socket.domain()? == Domain::IPV6 => {
            SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
        }
        _ => to,
    };
    socket.connect(&mapped.into())
}

fn datagram_socket() -> io::Result<Socket> {
    let kind = Type::DGRAM.nonblocking().cloexec();
    match Socket::new(Domain::IPV6, kind, Some(Protocol::UDP)) {
        Ok(socket) => {
            socket.set_only_v6(false)?;
            Ok(socket)
        }
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            Socket::new(Domain::IPV4, kind, Some(Protocol::UDP))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn upstream_sockets_reach_both_families_from_another_port_each_time() {
        let mut ports = std::collections::BTreeSet::new();
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let fd = upstream_socket().expect("socket");
            let resolver = UdpSocket::bind(at).expect("bind");
            let to = resolver.local_addr().expect("address");
            for from in [None, Some(to.ip())].repeat(4) {
                connect(fd.as_fd(), from, to).expect("connect");
                rustix::net::send(&fd, b"query", rustix::net::SendFlags::empty()).expect("send");
                let (_, client) = resolver.recv_from(&mut [0; 16]).expect("receive");
                assert_eq!(client.ip(), to.ip());
                ports.insert(client.port());
            }
        }
        assert!(ports.len() > 12, "{ports:?}");
    }

    #[test]
    fn what_is_no_socket_of_ours_has_no_slot_and_no_resolver() {
        let socket = UdpSocket::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).expect("bind");
        assert_eq!(slot(socket.as_fd()), None);
        assert!(resolver(socket.as_fd()).is_err());
    }
}
