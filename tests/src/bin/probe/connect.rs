//! The ways in which applications connect.

use crate::ring;
use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, poll};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream},
    os::fd::AsFd,
    time::Duration,
};

/// How to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum How {
    /// `socket`, `connect`.
    Plain,
    /// An MPTCP socket, as Go makes them for servers and some systems for clients.
    Mptcp,
    /// An IPv6 socket and `::ffff:a.b.c.d`, as Java does.
    V4Mapped,
    /// No `connect` at all: `sendto` with `MSG_FASTOPEN` and the first bytes.
    FastOpen,
    /// `TCP_FASTOPEN_CONNECT`: `connect` returns at once, the SYN leaves with the first write.
    FastOpenConnect,
    /// A non-blocking `connect`, then `poll`, then `SO_ERROR`, as event loops do.
    NonBlocking,
    /// `IORING_OP_CONNECT`.
    IoUring,
    /// Bound to the pod's own address and a port first.
    Bound,
}

/// Connects, and sends `first`.
pub(crate) fn connect(how: How, to: SocketAddr, first: &[u8], timeout: Duration) -> Result<TcpStream> {
    let protocol = if how == How::Mptcp {
        Protocol::MPTCP
    } else {
        Protocol::TCP
    };
    let to = if how == How::V4Mapped { mapped(to)? } else { to };
    let domain = if to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::STREAM, Some(protocol)).with_context(|| format!("no socket for {how:?}"))?;
    socket.set_write_timeout(Some(timeout))?;
    socket.set_read_timeout(Some(timeout))?;
    let mut sent = 0;
    match how {
        How::Plain | How::Mptcp | How::V4Mapped => socket.connect(&to.into())?,
        How::FastOpen => sent = socket.send_to_with_flags(first, &to.into(), libc::MSG_FASTOPEN)?,
        How::FastOpenConnect => {
            set_fast_open_connect(&socket)?;
            socket.connect(&to.into())?;
        }
        How::NonBlocking => {
            socket.set_nonblocking(true)?;
            let error = socket.connect(&to.into()).err().and_then(|error| error.raw_os_error());
            ensure!(
                error.is_none_or(|number| number == libc::EINPROGRESS),
                "connect: error {error:?}"
            );
            let timeout = rustix::time::Timespec::try_from(timeout)?;
            let ready = poll(&mut [PollFd::new(&socket.as_fd(), PollFlags::OUT)], Some(&timeout))?;
            ensure!(ready == 1, "not connected in time");
            if let Some(error) = socket.take_error()? {
                return Err(error.into());
            }
            socket.set_nonblocking(false)?;
        }
        How::IoUring => ring::connect(&socket, to)?,
        How::Bound => {
            let any: IpAddr = if to.is_ipv4() {
                [0, 0, 0, 0].into()
            } else {
                Ipv6Addr::UNSPECIFIED.into()
            };
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::new(any, 0).into())?;
            socket.connect(&to.into())?;
        }
    }
    while sent < first.len() {
        sent += socket.send(&first[sent..])?;
    }
    Ok(socket.into())
}

fn mapped(to: SocketAddr) -> Result<SocketAddr> {
    match to.ip() {
        IpAddr::V4(ip) => Ok(SocketAddr::new(ip.to_ipv6_mapped().into(), to.port())),
        IpAddr::V6(_) => anyhow::bail!("only an IPv4 address can be mapped"),
    }
}

fn set_fast_open_connect(socket: &Socket) -> Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option value is a c_int that lives across the call, with its size.
    let result = unsafe {
        libc::setsockopt(
            std::os::fd::AsRawFd::as_raw_fd(socket),
            libc::IPPROTO_TCP,
            libc::TCP_FASTOPEN_CONNECT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    ensure!(result == 0, "TCP_FASTOPEN_CONNECT: {}", std::io::Error::last_os_error());
    Ok(())
}
