//! The same sockets under tokio.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use tokio::io::unix::AsyncFd;

use super::{PacketListener, PacketSocket, PeerCred};

/// Both types own their descriptor until they are dropped, and hand out nothing that could replace it.
fn register<T: OwnsDescriptor>(owner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: the owner's descriptor is valid and stays the same for as long as the owner lives.
    Ok(unsafe { AsyncFd::register(owner) }?)
}

trait OwnsDescriptor: AsRawFd {}
impl OwnsDescriptor for PacketSocket {}
impl OwnsDescriptor for PacketListener {}

/// A [`PacketSocket`] whose methods wait without blocking the thread. All of them may be cancelled.
#[derive(Debug)]
pub struct AsyncPacketSocket {
    socket: AsyncFd<PacketSocket>,
}

impl AsyncPacketSocket {
    /// Takes a socket over; needs a running tokio runtime with I/O.
    ///
    /// # Errors
    /// The socket cannot be made non-blocking or registered.
    pub fn new(socket: PacketSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: register(socket)?,
        })
    }

    /// As [`PacketSocket::connect`], which blocks for as long as the listener has a full backlog.
    ///
    /// # Errors
    /// As [`PacketSocket::connect`].
    pub fn connect(path: &Path) -> io::Result<Self> {
        Self::new(PacketSocket::connect(path)?)
    }

    /// As [`PacketSocket::send`].
    ///
    /// # Errors
    /// As [`PacketSocket::send`].
    pub async fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        loop {
            let mut ready = self.socket.writable().await?;
            if let Ok(result) = ready.try_io(|socket| socket.get_ref().send(message, descriptors)) {
                return result;
            }
        }
    }

    /// As [`PacketSocket::recv`].
    ///
    /// # Errors
    /// As [`PacketSocket::recv`].
    pub async fn recv(&self, message: &mut Vec<u8>) -> io::Result<Option<Vec<OwnedFd>>> {
        loop {
            let mut ready = self.socket.readable().await?;
            if let Ok(result) = ready.try_io(|socket| socket.get_ref().recv(message)) {
                return result;
            }
        }
    }

    /// As [`PacketSocket::peer`].
    ///
    /// # Errors
    /// As [`PacketSocket::peer`].
    pub fn peer(&self) -> io::Result<PeerCred> {
        self.socket.get_ref().peer()
    }
}

/// A [`PacketListener`] whose `accept` waits without blocking the thread.
#[derive(Debug)]
pub struct AsyncPacketListener {
    listener: AsyncFd<PacketListener>,
}

impl AsyncPacketListener {
    /// Takes a listener over; needs a running tokio runtime with I/O.
    ///
    /// # Errors
    /// The socket cannot be made non-blocking or registered.
    pub fn new(listener: PacketListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener: register(listener)?,
        })
    }

    /// Waits for a client. May be cancelled.
    ///
    /// # Errors
    /// From `accept`.
    pub async fn accept(&self) -> io::Result<(AsyncPacketSocket, PeerCred)> {
        loop {
            let mut ready = self.listener.readable().await?;
            if let Ok(result) = ready.try_io(|listener| listener.get_ref().accept()) {
                let (socket, peer) = result?;
                return Ok((AsyncPacketSocket::new(socket)?, peer));
            }
        }
    }
}
