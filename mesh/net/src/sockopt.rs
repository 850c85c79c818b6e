//! The socket options that the data path uses, and sockets made with them.

use std::{
    hash::{BuildHasher as _, RandomState},
    io, mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
    ptr,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use culvert_abi::{CULVERT_CLIENT_ADDRESS, Endpoint, FORWARDING_PORT, SOL_CULVERT};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// Who is at the other end, as of its `connect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCred {
    /// Process id in our pid namespace; 0 when the peer is in one that we cannot see.
    pub pid: u32,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

/// Where a captured connection was going before it was captured, IPv4 never in its mapped form. `v4` is that of its addresses, one
/// of which whoever accepted it knows: asking the kernel for it is a system call for each connection.
///
/// # Errors
/// `ENOENT` when the connection was not captured.
pub fn original_dst(fd: BorrowedFd<'_>, v4: bool) -> io::Result<SocketAddr> {
    let socket = SockRef::from(&fd);
    let address = if v4 {
        socket.original_dst_v4()
    } else {
        socket.original_dst_v6()
    }?;
    let address = address.as_socket().ok_or(io::ErrorKind::InvalidData)?;
    Ok(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// Shows the application that this socket connects to `client` as its peer. Before `connect`.
///
/// # Errors
/// `ENOPROTOOPT` where Culvert's kernel program is not attached to the caller's cgroup.
pub fn set_client_address(fd: BorrowedFd<'_>, client: SocketAddr) -> io::Result<()> {
    set(fd, SOL_CULVERT, CULVERT_CLIENT_ADDRESS, &Endpoint::from(client))
}

/// An unconnected TCP socket as the data path wants it, in the calling thread's network namespace: non-blocking, closed on
/// exec, without delay. It is an IPv6 socket that reaches IPv4 too (as `::ffff:a.b.c.d`), or an IPv4 one where the kernel has
/// no IPv6. It has no keepalive: see [`keep_alive`].
///
/// # Errors
/// Those of `socket` and `setsockopt`, usually for want of descriptors.
pub fn tcp_stream_socket() -> io::Result<OwnedFd> {
    stream_socket(&mut None)
}

/// So many of [`tcp_stream_socket`], with fewer system calls for each.
///
/// # Errors
/// As there; those that were made are closed.
pub fn tcp_stream_sockets(count: u32) -> io::Result<Vec<OwnedFd>> {
    let mut v6_only = None;
    (0..count).map(|_| stream_socket(&mut v6_only)).collect()
}

/// `v6_only` is what the namespace's `net.ipv6.bindv6only` makes of its sockets, once that is known.
fn stream_socket(v6_only: &mut Option<bool>) -> io::Result<OwnedFd> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = match Socket::new(Domain::IPV6, kind, Some(Protocol::TCP)) {
        Ok(socket) => {
            let is_only = match *v6_only {
                Some(known) => known,
                None => *v6_only.insert(socket.only_v6()?),
            };
            if is_only {
                socket.set_only_v6(false)?;
            }
            socket
        }
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            Socket::new(Domain::IPV4, kind, Some(Protocol::TCP))?
        }
        Err(error) => return Err(error),
    };
    // Sockets that all have it share a port without a look at each of them (`bind_forwarding`). It also lets an application
    // that has it, too, listen on whatever port this one gets.
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

/// Makes the kernel ask the peer whether it is still there, when nothing was heard of it for so long. That takes two system calls,
/// which a connection that is soon over need not pay for.
///
/// # Errors
/// Those of `setsockopt`.
pub fn keep_alive(fd: BorrowedFd<'_>, after: Duration) -> io::Result<()> {
    SockRef::from(&fd).set_tcp_keepalive(&TcpKeepalive::new().with_time(after))
}

/// The prefix that the agent makes local to a pod, so that connections to its IPv6 applications have where to come from.
pub const FORWARDING_PREFIX: (Ipv6Addr, u8) = (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64);

/// Lets a socket of [`tcp_stream_socket`] be bound to an address of [`FORWARDING_PREFIX`]. Where that is not local to the
/// pod, answers would leave the pod: see [`has_forwarding_prefix`].
///
/// # Errors
/// `ENOPROTOOPT` where the kernel has no IPv6.
pub fn allow_forwarding_prefix(fd: BorrowedFd<'_>) -> io::Result<()> {
    SockRef::from(&fd).set_freebind_v6(true)
}

/// Whether [`FORWARDING_PREFIX`] is local to the calling thread's network namespace.
pub fn has_forwarding_prefix() -> bool {
    let probe = || {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
        // No other route leads there by way of the loopback interface. Nothing is sent.
        socket.bind_device(Some(b"lo"))?;
        socket.connect(&SocketAddr::new(forwarding_source(true, 1), FORWARDING_PORT).into())
    };
    probe().is_ok()
}

/// Binds a socket that is to connect to an application at `to`: to an address that no other connection has, and to a
/// port that is the mesh's own. All connections to one application would otherwise share the pod's address, so that
/// there could be no more than the pod has ephemeral ports, and each would keep the application from listening on its
/// port. The client's address ([`set_client_address`]) must be told before, or the application meets a stranger on a
/// loopback address.
///
/// Two sockets can, rarely, get the same address: the second one's `connect` then fails with `EADDRNOTAVAIL`.
///
/// # Errors
/// `EADDRNOTAVAIL`: there are no such addresses in this pod. `EADDRINUSE`: an application has the port. The socket can
/// be used as it is.
pub fn bind_forwarding(fd: BorrowedFd<'_>, to: IpAddr) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let socket = SockRef::from(&fd);
    let number = SEED.hash_one(NEXT.fetch_add(1, Ordering::Relaxed));
    bind(
        &socket,
        SocketAddr::new(forwarding_source(to.to_canonical().is_ipv6(), number), FORWARDING_PORT),
    )
}

/// One of the addresses that kernel programs take for the proxy's (`Address::is_forwarding_source`).
fn forwarding_source(v6: bool, number: u64) -> IpAddr {
    const V4: u32 = u32::from_be_bytes([127, 128, 0, 0]);
    const V4_BITS: u32 = 23;
    if v6 {
        Ipv6Addr::from_bits(FORWARDING_PREFIX.0.to_bits() | u128::from(number)).into()
    } else {
        Ipv4Addr::from_bits(V4 | (number as u32 & ((1 << V4_BITS) - 1))).into()
    }
}

/// Binds a socket to an address, and to whatever port is free there for the destination once it connects.
///
/// # Errors
/// `EADDRNOTAVAIL`: the pod does not have the address.
pub fn bind_address(fd: BorrowedFd<'_>, address: IpAddr) -> io::Result<()> {
    let socket = SockRef::from(&fd);
    let on: libc::c_int = 1;
    set(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, &on)?;
    bind(&socket, SocketAddr::new(address, 0))
}

/// Binds a socket that reaches both families, or IPv4 alone.
pub(crate) fn bind(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    let IpAddr::V4(v4) = address.ip() else {
        return socket.bind(&address.into());
    };
    let mapped = SocketAddr::new(v4.to_ipv6_mapped().into(), address.port());
    match socket.bind(&mapped.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => socket.bind(&address.into()),
        outcome => outcome,
    }
}

/// The cookie of the network namespace that a socket belongs to (`SO_NETNS_COOKIE`, Linux 5.14).
///
/// # Errors
/// `ENOPROTOOPT` on older kernels.
pub fn netns_cookie(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0u64;
    get(fd, libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, &mut cookie)?;
    Ok(cookie)
}

/// Who is at the other end of a unix socket (`SO_PEERCRED`).
pub(crate) fn peer_cred(fd: BorrowedFd<'_>) -> io::Result<PeerCred> {
    let mut cred = libc::ucred { pid: 0, uid: 0, gid: 0 };
    get(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, &mut cred)?;
    Ok(PeerCred {
        pid: u32::try_from(cred.pid).unwrap_or(0),
        uid: cred.uid,
        gid: cred.gid,
    })
}

/// `setsockopt` of a plain value.
pub(crate) fn set<T: Copy>(fd: BorrowedFd<'_>, level: i32, option: i32, value: &T) -> io::Result<()> {
    let length = mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: pointer and length are those of `value`, which outlives the call; the kernel only reads it.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, ptr::from_ref(value).cast(), length) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `getsockopt` of a plain value.
fn get<T: Copy>(fd: BorrowedFd<'_>, level: i32, option: i32, value: &mut T) -> io::Result<()> {
    let mut length = mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: pointer and length are those of `value`, which outlives the call; all callers' types are plain integers.
    let result = unsafe { libc::getsockopt(fd.as_raw_fd(), level, option, (&raw mut *value).cast(), &raw mut length) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::fd::AsFd as _};

    use super::*;

    #[test]
    fn stream_sockets_are_as_the_data_path_wants_them_and_reach_ipv4() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let fd = tcp_stream_socket().expect("socket");
        let socket = SockRef::from(&fd);
        assert!(socket.tcp_nodelay().expect("get") && socket.nonblocking().expect("get"));
        let after = Duration::from_secs(180);
        keep_alive(fd.as_fd(), after).expect("set");
        assert_eq!(socket.tcp_keepalive_time().expect("get"), after);
        assert!(socket.keepalive().expect("get"));
        let SocketAddr::V4(v4) = listener.local_addr().expect("address") else {
            panic!("bound to IPv4")
        };
        let mapped = SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port());
        socket.set_nonblocking(false).expect("set");
        socket.connect(&mapped.into()).expect("connect");
        let (_, peer) = listener.accept().expect("accept");
        assert!(peer.is_ipv4());
    }

    #[test]
    fn what_was_not_captured_has_no_original_destination() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).expect("bind");
            let client = std::net::TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
            let (server, _) = listener.accept().expect("accept");
            for v4 in [false, true] {
                assert!(original_dst(server.as_fd(), v4).is_err(), "{address}");
            }
            let refused = set_client_address(client.as_fd(), listener.local_addr().expect("address"));
            assert_eq!(
                refused.expect_err("no program").raw_os_error(),
                Some(libc::ENOPROTOOPT),
                "{address}"
            );
        }
    }

    #[test]
    fn sources_of_forwarded_connections_are_those_that_the_programs_know() {
        for number in [0, 1, u64::MAX, 0x1234_5678_9abc] {
            for v6 in [false, true] {
                let source = forwarding_source(v6, number);
                assert_eq!(source.is_ipv6(), v6);
                assert!(culvert_abi::Address::from(source).is_forwarding_source(), "{source}");
            }
        }
    }

    #[test]
    fn sockets_of_a_batch_reach_both_families_whatever_the_namespace_makes_of_them() {
        let all_reach_both = || {
            let batch = tcp_stream_sockets(3).expect("sockets");
            batch.iter().all(|fd| !SockRef::from(fd).only_v6().expect("get"))
        };
        let (by_default, where_not) = std::thread::scope(|scope| {
            let inside = || {
                // SAFETY: only this thread's network namespace changes.
                unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("needs root");
                let by_default = all_reach_both();
                std::fs::write("/proc/sys/net/ipv6/bindv6only", "1").expect("set");
                (by_default, all_reach_both())
            };
            scope.spawn(inside).join().expect("no panic")
        });
        assert_eq!((by_default, where_not), (true, true));
    }

    /// More connections than there are ports, and none of them in the way of a listener.
    #[test]
    fn forwarded_connections_take_no_ports() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let to = listener.local_addr().expect("address");
        let connections: Vec<_> = (0..300)
            .map(|_| {
                let fd = tcp_stream_socket().expect("socket");
                bind_forwarding(fd.as_fd(), to.ip()).expect("bind");
                let socket = SockRef::from(&fd);
                socket.set_nonblocking(false).expect("set");
                let mapped = SocketAddr::new(IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped()), to.port());
                socket.connect(&mapped.into()).expect("connect");
                let (accepted, peer) = listener.accept().expect("accept");
                assert_eq!(peer.port(), FORWARDING_PORT);
                (fd, accepted)
            })
            .collect();
        assert_eq!(connections.len(), 300);
    }

    #[test]
    fn a_prefix_that_is_not_local_is_noticed() {
        let (before, during) = std::thread::scope(|scope| {
            let inside = || {
                // SAFETY: only this thread's network namespace changes.
                unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("needs root");
                let up = std::process::Command::new("ip")
                    .args(["link", "set", "lo", "up"])
                    .status();
                assert!(up.expect("run ip").success());
                let before = has_forwarding_prefix();
                crate::interfaces::make_local(FORWARDING_PREFIX.0, FORWARDING_PREFIX.1).expect("make it local");
                (before, has_forwarding_prefix())
            };
            scope.spawn(inside).join().expect("no panic")
        });
        assert_eq!((before, during), (false, true));
    }
}
