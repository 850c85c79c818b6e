//! The TCP connections of a network namespace, asked of the kernel by netlink (`sock_diag(7)`), and ending one.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use culvert_net::Netns;

/// `SOCK_DIAG_BY_FAMILY` and `SOCK_DESTROY` of `linux/sock_diag.h`.
const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
/// `INET_DIAG_CGROUP_ID` of `linux/inet_diag.h` (kernel 5.9).
const CGROUP_ID: u16 = 21;
/// `INET_DIAG_INFO`: `struct tcp_info`, of which the bytes that were acknowledged and received (kernel 4.2) are looked at.
const INFO: u16 = 2;
const ACKNOWLEDGED: usize = 120;
const RECEIVED: usize = 128;

/// States of connections that can still carry something, as `1 << TCP_...`: established, being opened in either direction,
/// half closed.
const STATES: u32 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 8;

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct inet_diag_req_v2` and, in it, `struct inet_diag_sockid`.
const REQUEST: usize = 56;
const SOCKET: usize = 48;
/// `struct inet_diag_msg`, whose socket begins at its fifth byte.
const MESSAGE: usize = 72;

/// A TCP connection, seen from the socket at one end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The socket's own address.
    pub local: SocketAddr,
    /// Its peer's.
    pub remote: SocketAddr,
    /// The identifier of the cgroup that the socket was made in; none before kernel 5.9.
    pub cgroup: Option<u64>,
    /// What was sent, and acknowledged, and what was received so far; where that was asked for.
    pub bytes: Option<(u64, u64)>,
    family: u8,
    /// `struct inet_diag_sockid` as the kernel wrote it, which names this very socket.
    id: [u8; SOCKET],
}

impl Connection {
    /// Which socket it is: not used again while the machine runs.
    pub fn cookie(&self) -> [u8; 8] {
        let mut cookie = [0; 8];
        cookie.copy_from_slice(&self.id[40..]);
        cookie
    }
}

/// Those of a namespace.
///
/// # Errors
/// The namespace cannot be entered; from netlink.
pub fn connections(netns: &Netns) -> io::Result<Vec<Connection>> {
    connections_with(netns, 0)
}

/// The same, with the bytes of each.
///
/// # Errors
/// As for [`connections`].
pub fn connections_and_bytes(netns: &Netns) -> io::Result<Vec<Connection>> {
    connections_with(netns, 1 << (INFO - 1))
}

fn connections_with(netns: &Netns, extensions: u8) -> io::Result<Vec<Connection>> {
    netns
        .run(|| {
            let socket = open()?;
            let mut found = Vec::new();
            for family in [libc::AF_INET, libc::AF_INET6] {
                list(&socket, family as u8, extensions, &mut found)?;
            }
            Ok(found)
        })
        .map_err(io::Error::other)?
}

/// Ends connections, each with a reset to its peer; the application's next call fails with `ECONNABORTED`. One that has ended
/// meanwhile is no error.
///
/// # Errors
/// The first one that cannot be ended. `EOPNOTSUPP`: the kernel was built without `CONFIG_INET_DIAG_DESTROY`.
pub fn destroy(netns: &Netns, connections: &[Connection]) -> io::Result<()> {
    netns
        .run(|| {
            let socket = open()?;
            for connection in connections {
                destroy_one(&socket, connection.family, &connection.id)?;
            }
            Ok(())
        })
        .map_err(io::Error::other)?
}

/// Whether connections can be ended here.
///
/// # Errors
/// From netlink. `EOPNOTSUPP`: the kernel was built without `CONFIG_INET_DIAG_DESTROY`.
pub fn can_destroy() -> io::Result<()> {
    // Of no connection: all that could be ended has other addresses.
    destroy_one(&open()?, libc::AF_INET as u8, &[0; SOCKET])
}

/// Ends one, if it is there.
fn destroy_one(socket: &OwnedFd, family: u8, id: &[u8; SOCKET]) -> io::Result<()> {
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
    send(socket, DESTROY, flags, [family, 0], 0, id)?;
    let mut outcome = Ok(());
    receive(socket, |kind, body| {
        if i32::from(kind) == libc::NLMSG_ERROR {
            outcome = error_of(body);
        }
        true
    })?;
    match outcome {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

fn open() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the descriptor is ours.
    unsafe {
        let socket = libc::socket(
            libc::AF_NETLINK,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            libc::NETLINK_SOCK_DIAG,
        );
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(socket))
    }
}

fn list(socket: &OwnedFd, family: u8, extensions: u8, found: &mut Vec<Connection>) -> io::Result<()> {
    send(
        socket,
        BY_FAMILY,
        libc::NLM_F_REQUEST | libc::NLM_F_DUMP,
        [family, extensions],
        STATES,
        &[0; SOCKET],
    )?;
    let mut outcome = Ok(());
    let mut is_done = false;
    while !is_done {
        receive(socket, |kind, body| {
            match i32::from(kind) {
                libc::NLMSG_DONE => is_done = true,
                libc::NLMSG_ERROR => {
                    outcome = error_of(body);
                    is_done = true;
                }
                _ if kind == BY_FAMILY => found.extend(parse(body)),
                _ => {}
            }
            is_done
        })?;
    }
    match outcome {
        // A kernel without IPv6.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        outcome => outcome,
    }
}

/// `of`: the family, and what is to be said beside addresses and states.
fn send(socket: &OwnedFd, kind: u16, flags: i32, of: [u8; 2], states: u32, id: &[u8; SOCKET]) -> io::Result<()> {
    let mut message = Vec::with_capacity(HEADER + REQUEST);
    message.extend(((HEADER + REQUEST) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((flags as u16).to_ne_bytes());
    // Sequence number and port, which nobody looks at.
    message.extend([0; 8]);
    let [family, extensions] = of;
    message.extend([family, libc::IPPROTO_TCP as u8, extensions, 0]);
    message.extend(states.to_ne_bytes());
    message.extend(id);
    // SAFETY: the buffer is as long as it is said to be.
    let sent = unsafe { libc::send(socket.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Reads one datagram and shows its messages, until `take` says that it was the last.
fn receive(socket: &OwnedFd, mut take: impl FnMut(u16, &[u8]) -> bool) -> io::Result<()> {
    let mut buffer = vec![0_u8; 64 << 10];
    // SAFETY: the kernel writes at most as many bytes as there are.
    let length = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let mut rest = &buffer[..length];
    while let Some((header, _)) = rest.split_at_checked(HEADER) {
        let size = number(header, 0) as usize;
        let Some(message) = rest.get(HEADER..size) else { break };
        if take(u16::from_ne_bytes([header[4], header[5]]), message) {
            break;
        }
        rest = rest.get(aligned(size)..).unwrap_or_default();
    }
    Ok(())
}

/// What `struct nlmsgerr` says; 0 is the acknowledgement.
fn error_of(body: &[u8]) -> io::Result<()> {
    match body.get(..4).map(|bytes| number(bytes, 0) as i32) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn parse(body: &[u8]) -> Option<Connection> {
    let (message, mut attributes) = body.split_at_checked(MESSAGE)?;
    let family = message[0];
    let id: [u8; SOCKET] = message.get(4..4 + SOCKET)?.try_into().ok()?;
    let port = |at: usize| u16::from_be_bytes([id[at], id[at + 1]]);
    let address = |at: usize| {
        if i32::from(family) == libc::AF_INET {
            return IpAddr::from(Ipv4Addr::new(id[at], id[at + 1], id[at + 2], id[at + 3]));
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&id[at..at + 16]);
        Ipv6Addr::from(bytes).to_canonical()
    };
    let (mut cgroup, mut bytes) = (None, None);
    while let Some((header, _)) = attributes.split_at_checked(4) {
        let size = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]);
        let Some(value) = attributes.get(4..size) else { break };
        if kind == CGROUP_ID {
            cgroup = value.try_into().ok().map(u64::from_ne_bytes);
        }
        if kind == INFO {
            bytes = carried(message[1], value);
        }
        attributes = attributes.get(aligned(size)..).unwrap_or_default();
    }
    Some(Connection {
        local: SocketAddr::new(address(4), port(0)),
        remote: SocketAddr::new(address(20), port(2)),
        cgroup,
        bytes,
        family,
        id,
    })
}

/// The bytes of a socket that has opened a connection and is in this state (`include/net/tcp_states.h`). The kernel counts a SYN and a
/// FIN that were acknowledged, and a FIN that was received, as a byte each.
fn carried(state: u8, info: &[u8]) -> Option<(u64, u64)> {
    const FIN_WAIT2: u8 = 5;
    const CLOSE_WAIT: u8 = 8;
    let number = |at: usize| Some(u64::from_ne_bytes(info.get(at..at + 8)?.try_into().ok()?));
    let sent = number(ACKNOWLEDGED)?.saturating_sub(1 + u64::from(state == FIN_WAIT2));
    Some((sent, number(RECEIVED)?.saturating_sub(u64::from(state == CLOSE_WAIT))))
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn aligned(size: usize) -> usize {
    size.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read as _},
        net::{TcpListener, TcpStream},
        os::fd::AsFd as _,
    };

    use super::*;

    #[test]
    fn connections_are_listed_with_both_addresses_and_one_can_be_ended() {
        let netns = std::thread::spawn(|| {
            // SAFETY: only this thread's network namespace changes; it shares no other state that unshare would touch.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("needs root");
            let up = std::process::Command::new("ip")
                .args(["link", "set", "lo", "up"])
                .status();
            assert!(up.expect("run ip").success());
            Netns::current().expect("proc is mounted")
        });
        let netns = netns.join().expect("no panic");
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let connect = || {
                let listener = TcpListener::bind(address).expect("listen");
                let to = listener.local_addr().expect("an address");
                let connect = || TcpStream::connect(to).expect("connect");
                (listener, connect(), connect())
            };
            let (listener, mut one, other) = netns.run(connect).expect("enter");
            let found = connections(&netns).expect("list");
            let ends = (one.local_addr().expect("local"), one.peer_addr().expect("peer"));
            let mine = found
                .iter()
                .find(|found| (found.local, found.remote) == ends)
                .expect("listed");
            let cookie = rustix::net::sockopt::socket_cookie(one.as_fd()).expect("a cookie");
            assert_eq!(u64::from_ne_bytes(mine.cookie()), cookie);
            assert!(mine.cgroup.is_some());
            destroy(&netns, std::slice::from_ref(mine)).expect("end it");
            destroy(&netns, std::slice::from_ref(mine)).expect("twice is no error");
            let error = one.read(&mut [0]).expect_err("it has ended");
            assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
            assert!(other.take_error().expect("readable").is_none(), "the other goes on");
            drop(listener);
        }
    }
}
