//! Listening sockets that a proxy holds, made by an agent that is no more.
//!
//! An agent that starts again wants the very sockets back that the proxy serves: new ones beside them would split each
//! pod's backlog over ever more sockets, one set a restart. The proxy's process id comes with its connection; `pidfd_getfd`
//! duplicates its descriptors (it takes `CAP_SYS_PTRACE`). Where that is not to be had, for example because the proxy is in
//! a pid namespace out of sight, new sockets do as well.

use std::{
    fs, io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use culvert_abi::{HOLD_PORT, INBOUND_HBONE_PORT, INBOUND_PLAINTEXT_PORT, OUTBOUND_PORT, is_dns_port};
use rustix::{
    net::{SocketType, sockopt},
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};

/// What stands for the port of a SYN tap: a raw socket has none, and names its protocol in its place.
pub(super) const TAP: u16 = libc::IPPROTO_TCP as u16;

/// A listening socket of a proxy on one of our ports, one for DNS, or a SYN tap.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) socket: OwnedFd,
    /// `SO_COOKIE`: which socket it is, whatever descriptor names it.
    pub(crate) id: u64,
    /// The cookie of its network namespace.
    pub(crate) cookie: u64,
    /// Where it listens.
    pub(crate) local: SocketAddr,
}

/// Every such socket of the process. Those that are closed meanwhile are skipped.
///
/// # Errors
/// No such process, or no permission.
pub(crate) fn listening(pid: u32) -> io::Result<Vec<Found>> {
    let process = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(io::ErrorKind::NotFound)?;
    let pidfd = pidfd_open(process, PidfdFlags::empty())?;
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let is_socket = fs::read_link(entry.path()).is_ok_and(|link| link.to_string_lossy().starts_with("socket:"));
        let Some(number) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
            .filter(|_| is_socket)
        else {
            continue;
        };
        match pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()) {
            Ok(socket) => found.extend(examine(socket)),
            Err(rustix::io::Errno::BADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

fn examine(socket: OwnedFd) -> Option<Found> {
    let (id, cookie, local) = looks_ours(socket.as_fd())?;
    Some(Found {
        socket,
        id,
        cookie,
        local,
    })
}

fn looks_ours(socket: BorrowedFd<'_>) -> Option<(u64, u64, SocketAddr)> {
    let local = socket2::SockRef::from(&socket).local_addr().ok()?.as_socket()?;
    let is_ours = match sockopt::socket_type(socket).ok()? {
        SocketType::STREAM => {
            let ports = [OUTBOUND_PORT, INBOUND_PLAINTEXT_PORT, INBOUND_HBONE_PORT, HOLD_PORT];
            sockopt::socket_acceptconn(socket).ok()? && ports.contains(&local.port())
        }
        SocketType::DGRAM => is_dns_port(local.port().into()),
        SocketType::RAW => local.port() == TAP,
        _ => false,
    };
    if !is_ours {
        return None;
    }
    Some((
        sockopt::socket_cookie(socket).ok()?,
        culvert_net::sockopt::netns_cookie(socket).ok()?,
        local,
    ))
}
