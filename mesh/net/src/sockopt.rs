//! The socket options that the data path uses, and sockets made with them.

use std::{
    io, mem,
    net::SocketAddr,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
    time::Duration,
};

use culvert_abi::{CULVERT_CLIENT_ADDRESS, Endpoint, SOL_CULVERT};
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

/// Idle time after which the kernel asks whether the peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(180);

/// Where a captured connection was going before it was captured, IPv4 never in its mapped form.
///
/// # Errors
/// `ENOENT` when the connection was not captured.
pub fn original_dst(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let socket = SockRef::from(&fd);
    let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
    let address = if local.ip().to_canonical().is_ipv4() {
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
    let endpoint = Endpoint::from(client);
    // SAFETY: the pointer and the length are those of a plain value that lives until the call returns.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            SOL_CULVERT,
            CULVERT_CLIENT_ADDRESS,
            (&raw const endpoint).cast(),
            mem::size_of::<Endpoint>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// An unconnected TCP socket as the data path wants it, in the calling thread's network namespace: non-blocking, closed on
/// exec, without delay, with keepalive after 180 s. It is an IPv6 socket that reaches IPv4 too (as `::ffff:a.b.c.d`), or an
/// IPv4 one where the kernel has no IPv6.
///
/// # Errors
/// Those of `socket` and `setsockopt`, usually for want of descriptors.
pub fn tcp_stream_socket() -> io::Result<OwnedFd> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = match Socket::new(Domain::IPV6, kind, Some(Protocol::TCP)) {
        Ok(socket) => {
            socket.set_only_v6(false)?;
            socket
        }
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            Socket::new(Domain::IPV4, kind, Some(Protocol::TCP))?
        }
        Err(error) => return Err(error),
    };
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    Ok(socket.into())
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
        assert_eq!(socket.tcp_keepalive_time().expect("get"), KEEPALIVE);
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
            assert!(original_dst(server.as_fd()).is_err(), "{address}");
            let refused = set_client_address(client.as_fd(), listener.local_addr().expect("address"));
            assert_eq!(
                refused.expect_err("no program").raw_os_error(),
                Some(libc::ENOPROTOOPT),
                "{address}"
            );
        }
    }
}
