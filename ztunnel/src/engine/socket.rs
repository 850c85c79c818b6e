//! A TCP socket of an application, or of anybody else who speaks plainly.

use std::{
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use culvert_net::legs;
use rustix::{
    io::Errno,
    net::{SendAncillaryBuffer, SendFlags, Shutdown, SocketAddrAny},
};

use super::buffers::Backlog;

/// Most bytes to read at once. The kernel's account of what was not read lags by a page or some.
pub(super) const LARGE_READ: usize = 1 << 20;
const _: () = assert!(LARGE_READ + (128 << 10) <= legs::UNREAD);

/// Slices in one `writev`; the kernel takes up to 1,024.
const SLICES: usize = 128;

/// The same of what was kept, where each is large.
const FLUSHED: usize = 16;

/// A socket with what edge-triggered polling makes its owner remember.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    /// The kernel may have bytes for us, or an end.
    pub(super) readable: bool,
    /// The peer has said that it is closing; only a read tells when its last byte was seen.
    pub(super) closing: bool,
    /// The peer's last byte was read.
    pub(super) ended: bool,
    /// Nothing more is written: `SHUT_WR` was done.
    pub(super) shut: bool,
    /// The last read was large, so the next one will be.
    pub(super) bulk: bool,
    /// The kernel looks after a peer that is silent.
    is_kept_alive: bool,
    /// The last read got all that it had room for.
    filled: bool,
    /// What the kernel did not take yet.
    pub(super) backlog: Backlog,
}

impl Socket {
    /// One that has its listener's options.
    pub(super) fn accepted(fd: OwnedFd) -> Self {
        Self {
            is_kept_alive: true,
            ..Self::dialled(fd)
        }
    }

    /// One of a pod's stock.
    pub(super) fn dialled(fd: OwnedFd) -> Self {
        Self {
            fd,
            readable: false,
            closing: false,
            ended: false,
            shut: false,
            bulk: false,
            is_kept_alive: false,
            filled: false,
            backlog: Backlog::default(),
        }
    }

    /// Makes the kernel look after the peer when it is silent for so long, if it does not yet.
    pub(super) fn keep_alive(&mut self, after: Duration) {
        if !std::mem::replace(&mut self.is_kept_alive, true)
            && let Err(error) = culvert_net::sockopt::keep_alive(self.fd.as_fd(), after)
        {
            // Fails only where the connection is gone.
            tracing::debug!(%error, "a connection is not kept alive");
        }
    }

    /// Notes what a read says of the next: the kernel gave `count` bytes, and there was room for `offered`.
    ///
    /// Fewer mean that a queue is empty. But a local leg that the kernel carries has two: one of what came before it went back to TCP, and
    /// one of what came after, which the kernel does not give in the same read, and of which no event may come any more. A leg
    /// goes back when more than [`legs::UNREAD`] bytes were not read: so the first queue is never emptied by the first read.
    pub(super) fn took(&mut self, count: usize, offered: usize) {
        let is_full = count == offered;
        self.readable = is_full || self.filled || self.closing;
        self.filled = is_full;
    }

    /// Notes that there is nothing to read.
    pub(super) fn found_nothing(&mut self) {
        self.readable = false;
        self.filled = false;
    }

    /// Writes what the kernel takes and keeps the rest. Returns how many bytes the kernel took.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_with(slices, |fd, batch| match batch {
            [one] => rustix::io::write(fd, one),
            many => rustix::io::writev(fd, many),
        })
    }

    /// The same of the last bytes, after which [`Self::shut`] follows at once: the kernel sends them and the end in one packet.
    pub(super) fn write_last(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_with(slices, |fd, batch| {
            rustix::net::sendmsg(fd, batch, &mut SendAncillaryBuffer::default(), SendFlags::MORE)
        })
    }

    fn write_with(
        &mut self,
        slices: &[IoSlice<'_>],
        send: impl Fn(BorrowedFd<'_>, &[IoSlice<'_>]) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        let mut taken = 0;
        if self.backlog.is_empty() {
            for batch in slices.chunks(SLICES) {
                let wanted: usize = batch.iter().map(|slice| slice.len()).sum();
                match send(self.fd.as_fd(), batch) {
                    Ok(count) => {
                        taken += count;
                        if count < wanted {
                            break;
                        }
                    }
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTR) => break, // what is left goes to the backlog, which the next event empties
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let mut skip = taken;
        for slice in slices {
            if skip >= slice.len() {
                skip -= slice.len();
            } else {
                self.backlog.push(&slice[skip..]);
                skip = 0;
            }
        }
        Ok(taken)
    }

    /// Writes what was kept. Returns how many bytes the kernel took.
    pub(super) fn flush(&mut self) -> io::Result<usize> {
        let mut taken = 0;
        while !self.backlog.is_empty() {
            let mut batch = [IoSlice::new(&[]); FLUSHED];
            let places = batch.iter_mut().zip(self.backlog.slices());
            let filled = places.map(|(place, slice)| *place = slice).count();
            match rustix::io::writev(&self.fd, &batch[..filled]) {
                Ok(count) => {
                    self.backlog.consume(count);
                    taken += count;
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(taken)
    }

    /// Tells the peer that nothing more comes.
    pub(super) fn shut(&mut self) {
        if !std::mem::replace(&mut self.shut, true) {
            // Fails only where the connection is gone, which reading tells too.
            let _ = rustix::net::shutdown(&self.fd, Shutdown::Write);
        }
    }

    /// Closes with a reset, so that the peer does not take the end for a complete one.
    pub(super) fn reset(self) {
        reset(self.fd);
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Closes a connection with a reset.
pub(super) fn reset(fd: OwnedFd) {
    let _ = rustix::net::sockopt::set_socket_linger(&fd, Some(Duration::ZERO));
}

/// Starts to connect. Whether that succeeded, an event and [`connected`] tell.
pub(super) fn connect(fd: BorrowedFd<'_>, to: SocketAddr) -> io::Result<()> {
    // The monitor's sockets are IPv6 for both families, except where the kernel has no IPv6.
    let result = match rustix::net::connect(fd, &mapped(to)) {
        Err(Errno::AFNOSUPPORT) => rustix::net::connect(fd, &to),
        result => result,
    };
    match result {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Picks where a connection to an application of the pod comes from: not from the pod's own address, of which there is but
/// one, nor from a port that the application may want. That is done only where the application is shown its client
/// (`told`). Returns whether it was done; else the kernel picks, which is right but scarce.
pub(super) fn leave_from_aside(fd: BorrowedFd<'_>, to: SocketAddr, told: io::Result<()>) -> bool {
    if let Err(error) = told {
        // Nothing is less safe: the application sees the pod's own address.
        tracing::debug!(%error, "cannot tell the application its client's address");
        return false;
    }
    match culvert_net::sockopt::bind_forwarding(fd, to.ip()) {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(%error, %to, "a connection to an application takes one of the pod's ports");
            false
        }
    }
}

/// Lets a connection come from the address that the application bound its socket to, one that the mesh does not know.
pub(super) fn leave_from(fd: BorrowedFd<'_>, address: IpAddr) {
    // One that is bound to a loopback address can leave the pod only without it.
    if address.is_loopback() {
        return;
    }
    if let Err(error) = culvert_net::sockopt::bind_address(fd, address) {
        tracing::debug!(%error, %address, "a connection does not come from the address that the application chose");
    }
}

/// How a connection attempt ended that an event was reported for.
pub(super) fn connected(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::sockopt::socket_error(fd)??)
}

/// The address in the form that IPv6 sockets know.
fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

/// The address in the form that people know: IPv4 where it is.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The address that the socket has on this side.
pub(super) fn local_address(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    to_ip(rustix::net::getsockname(fd)?)
}

/// An address that the kernel reported, in canonical form.
pub(super) fn to_ip(address: SocketAddrAny) -> io::Result<SocketAddr> {
    let address = SocketAddr::try_from(address).map_err(|_| io::ErrorKind::AddrNotAvailable)?;
    Ok(canonical(address))
}
