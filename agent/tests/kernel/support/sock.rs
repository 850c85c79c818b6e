//! Sockets as applications and proxies use them, on bare system calls where the way of asking is what is tested.

use culvert_abi::{CULVERT_CLIENT_ADDRESS, Endpoint, SOL_CULVERT};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{
    io,
    net::{SocketAddr, SocketAddrV6},
    os::fd::AsRawFd,
    time::Duration,
};

/// Long enough for a loaded machine; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn stream(v6: bool, protocol: Option<Protocol>) -> Socket {
    let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::STREAM, protocol).expect("socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
    socket.set_write_timeout(Some(PATIENCE)).expect("timeout");
    socket
}

/// A listening socket; dual stack when the address is `[::]`.
pub(crate) fn listen(address: SocketAddr, protocol: Option<Protocol>) -> Socket {
    listen_with(address, protocol, 64)
}

pub(crate) fn listen_with(address: SocketAddr, protocol: Option<Protocol>, backlog: i32) -> Socket {
    let socket = stream(address.is_ipv6(), protocol);
    socket.set_reuse_address(true).expect("SO_REUSEADDR");
    if address.is_ipv6() {
        socket.set_only_v6(false).expect("IPV6_V6ONLY");
    }
    socket.bind(&address.into()).expect("bind");
    socket.listen(backlog).expect("listen");
    socket
}

/// With the peer's address as `accept` shows it.
pub(crate) fn accept(listener: &Socket) -> (Socket, SocketAddr) {
    let (socket, peer) = listener.accept().expect("nobody connected in time");
    (socket, plain(&peer))
}

pub(crate) fn peer(socket: &Socket) -> SocketAddr {
    plain(&socket.peer_addr().expect("getpeername"))
}

pub(crate) fn local(socket: &Socket) -> SocketAddr {
    plain(&socket.local_addr().expect("getsockname"))
}

/// As an IPv6 socket writes it: an IPv4 address becomes IPv4-mapped.
pub(crate) fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
        SocketAddr::V6(_) => address,
    }
}

fn plain(address: &SockAddr) -> SocketAddr {
    let address = address.as_socket().expect("an IP address");
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// As a proxy asks.
pub(crate) fn original_destination(socket: &Socket, v6: bool) -> io::Result<SocketAddr> {
    let level = if v6 { libc::SOL_IPV6 } else { libc::SOL_IP };
    // SAFETY: the kernel writes at most as many bytes as it is told that there are.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            *length = if v6 { 28 } else { 16 };
            let result = libc::getsockopt(socket.as_raw_fd(), level, 80, storage.cast(), length);
            if result == 0 {
                Ok(())
            } else {
                Err(io::Error::last_os_error())
            }
        })?
    };
    address.as_socket().ok_or_else(|| io::Error::other("not an IP address"))
}

/// As the proxy tells who the client is.
pub(crate) fn set_client(socket: &Socket, client: SocketAddr) -> io::Result<()> {
    let endpoint = Endpoint::from(client);
    let length = size_of::<Endpoint>() as u32;
    // SAFETY: the value is as long as it is said to be.
    let result = unsafe {
        let value = std::ptr::from_ref(&endpoint).cast();
        libc::setsockopt(socket.as_raw_fd(), SOL_CULVERT, CULVERT_CLIENT_ADDRESS, value, length)
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Waits until a connection that was begun is there, or failed.
pub(crate) fn finish(socket: &Socket) -> io::Result<()> {
    let mut poll = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one element.
    let ready = unsafe { libc::poll(&mut poll, 1, PATIENCE.as_millis() as i32) };
    assert_eq!(ready, 1, "still connecting");
    socket.take_error()?.map_or(Ok(()), Err)
}

/// TCP fast open as `sendto(2)` with `MSG_FASTOPEN` does it.
pub(crate) fn send_fast_open(socket: &Socket, data: &[u8], to: SocketAddr) -> io::Result<usize> {
    socket.send_to_with_flags(data, &to.into(), libc::MSG_FASTOPEN)
}

/// How many SYNs with data may wait on a listening socket.
pub(crate) const TCP_FASTOPEN: i32 = 23;
/// `connect` only promises, the first `write` sends the SYN.
pub(crate) const TCP_FASTOPEN_CONNECT: i32 = 30;

pub(crate) fn set_tcp_option(socket: &Socket, option: i32, value: i32) {
    // SAFETY: the options above are ints.
    let result = unsafe {
        let value = std::ptr::from_ref(&value).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, option, value, 4)
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// From `TCP_INFO`: whether the other side acknowledged data that the SYN carried.
pub(crate) fn sent_data_in_syn(socket: &Socket) -> bool {
    const TCPI_OPT_SYN_DATA: u8 = 32;
    // State, congestion state, retransmits, probes, backoff, options.
    let mut info = [0_u8; 8];
    let mut length = info.len() as u32;
    // SAFETY: the kernel writes at most as many bytes as it is told that there are.
    let result = unsafe {
        let value = info.as_mut_ptr().cast();
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            value,
            &mut length,
        )
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    info[5] & TCPI_OPT_SYN_DATA != 0
}

/// Undoes a connect, so that the socket can connect again.
pub(crate) fn dissolve(socket: &Socket) {
    let unspecified = libc::sockaddr {
        sa_family: libc::AF_UNSPEC as u16,
        sa_data: [0; 14],
    };
    // SAFETY: a whole `sockaddr`.
    let result = unsafe { libc::connect(socket.as_raw_fd(), &unspecified, size_of::<libc::sockaddr>() as u32) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}
