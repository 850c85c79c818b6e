//! `SOCK_SEQPACKET` unix sockets: whole messages, in order, with descriptors beside them (`SCM_RIGHTS`).
//!
//! [`PacketSocket`] and [`PacketListener`] block, or return `WouldBlock` once set non-blocking. With feature `tokio`,
//! [`AsyncPacketSocket`] and [`AsyncPacketListener`] wrap them.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    io::retry_on_intr,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    },
};

use crate::sockopt;
pub use crate::sockopt::PeerCred;

#[cfg(feature = "tokio")]
mod asynchronous;
#[cfg(feature = "tokio")]
pub use asynchronous::{AsyncPacketListener, AsyncPacketSocket};

/// The longest message, in bytes, that [`PacketSocket::recv`] takes.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// How many descriptors one message may carry: the kernel's `SCM_MAX_FD`.
pub const MAX_DESCRIPTORS: usize = 253;

const BACKLOG: i32 = 16;

/// A message came, but some of its descriptors did not: this process may open no more (`MSG_CTRUNC`). The message itself is
/// in the buffer; the descriptors that did come have been closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostDescriptors;

impl LostDescriptors {
    /// Whether this is why [`PacketSocket::recv`] failed.
    pub fn is_cause_of(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

impl std::fmt::Display for LostDescriptors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("descriptors of a message were lost: this process may open no more")
    }
}

impl std::error::Error for LostDescriptors {}

/// Whether an error says that the peer has closed, as opposed to one after which the socket can still be used.
pub fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected
    )
}

/// One end of a connection.
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
}

impl PacketSocket {
    /// Two connected ends, both close-on-exec.
    ///
    /// # Errors
    /// From `socketpair`.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (left, right) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self { socket: left }, Self { socket: right }))
    }

    /// Connects to a listener's path.
    ///
    /// # Errors
    /// From `connect`: nobody listens, no permission, or the path is longer than 107 bytes.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = unix_socket()?;
        retry_on_intr(|| rustix::net::connect(&socket, &SocketAddrUnix::new(path)?))?;
        Ok(Self { socket })
    }

    /// Takes a descriptor that came from elsewhere, for example through `exec`.
    ///
    /// # Errors
    /// It is no `SOCK_SEQPACKET` socket.
    pub fn from_fd(socket: OwnedFd) -> io::Result<Self> {
        if rustix::net::sockopt::socket_type(&socket)? == SocketType::SEQPACKET {
            Ok(Self { socket })
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the descriptor is no SEQPACKET socket",
            ))
        }
    }

    /// Sends one message. An empty one cannot be told from the end of the connection, so it is refused.
    ///
    /// # Errors
    /// `InvalidInput` for an empty message or more than [`MAX_DESCRIPTORS`]; otherwise from `sendmsg`: `BrokenPipe` when
    /// the peer is gone (no signal is raised).
    pub fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if message.is_empty() || message.len() > MAX_MESSAGE || descriptors.len() > MAX_DESCRIPTORS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "message size or number of descriptors",
            ));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        retry_on_intr(|| {
            rustix::net::sendmsg(
                &self.socket,
                &[IoSlice::new(message)],
                &mut control,
                SendFlags::NOSIGNAL,
            )
        })?;
        Ok(())
    }

    /// Receives one message into `message` (replacing what it held) and returns its descriptors, which are close-on-exec;
    /// `None` when the peer has closed.
    ///
    /// # Errors
    /// `InvalidData` when the message is longer than [`MAX_MESSAGE`], or with [`LostDescriptors`] inside when the process may
    /// open no more; otherwise from `recvmsg`.
    pub fn recv(&self, message: &mut Vec<u8>) -> io::Result<Option<Vec<OwnedFd>>> {
        message.resize(MAX_MESSAGE, 0);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = retry_on_intr(|| {
            rustix::net::recvmsg(
                &self.socket,
                &mut [IoSliceMut::new(message)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            )
        });
        let received = match received {
            Ok(received) => received,
            Err(error) => {
                message.clear();
                return Err(error.into());
            }
        };
        message.truncate(received.bytes);
        let mut descriptors = Vec::new();
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = part {
                descriptors.extend(rights);
            }
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"));
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, LostDescriptors));
        }
        Ok((received.bytes > 0).then_some(descriptors))
    }

    /// Makes `send` and `recv` return `WouldBlock` instead of waiting, or wait again.
    ///
    /// # Errors
    /// From `ioctl`.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.socket, nonblocking)?)
    }

    /// Who is at the other end.
    ///
    /// # Errors
    /// From `getsockopt`.
    pub fn peer(&self) -> io::Result<PeerCred> {
        sockopt::peer_cred(self.socket.as_fd())
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<PacketSocket> for OwnedFd {
    fn from(socket: PacketSocket) -> Self {
        socket.socket
    }
}

/// A listening socket at a path. Dropping it leaves the path in place: a successor binds over it, and a client that comes
/// in between is refused rather than finding nothing.
#[derive(Debug)]
pub struct PacketListener {
    socket: OwnedFd,
    path: PathBuf,
}

impl PacketListener {
    /// Listens at `path` with file permissions `mode`. A socket left behind by a dead process is replaced; the new one
    /// appears under the name only once it listens.
    ///
    /// # Errors
    /// Something other than a socket is at `path`, the folder is missing, or no permission.
    pub fn bind(path: &Path, mode: u32) -> io::Result<Self> {
        if let Ok(there) = std::fs::symlink_metadata(path) {
            use std::os::unix::fs::FileTypeExt;
            if !there.file_type().is_socket() {
                let what = format!("{} exists and is not a socket", path.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
            }
        }
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(format!(".{}", std::process::id()));
        let fresh = PathBuf::from(fresh);
        let _ = std::fs::remove_file(&fresh);
        let socket = unix_socket()?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(&fresh)?)?;
        let listening = std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(mode))
            .and_then(|()| Ok(rustix::net::listen(&socket, BACKLOG)?))
            .and_then(|()| std::fs::rename(&fresh, path));
        if let Err(error) = listening {
            let _ = std::fs::remove_file(&fresh);
            return Err(error);
        }
        Ok(Self {
            socket,
            path: path.to_path_buf(),
        })
    }

    /// Waits for a client.
    ///
    /// # Errors
    /// From `accept`.
    pub fn accept(&self) -> io::Result<(PacketSocket, PeerCred)> {
        let socket = retry_on_intr(|| rustix::net::accept_with(&self.socket, SocketFlags::CLOEXEC))?;
        let peer = sockopt::peer_cred(socket.as_fd())?;
        Ok((PacketSocket { socket }, peer))
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes `accept` return `WouldBlock` instead of waiting, or wait again.
    ///
    /// # Errors
    /// From `ioctl`.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.socket, nonblocking)?)
    }
}

impl AsRawFd for PacketListener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for PacketListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn unix_socket() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

#[cfg(test)]
mod tests;
