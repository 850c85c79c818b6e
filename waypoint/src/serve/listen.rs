//! Accepting, on each thread for itself: the kernel spreads connections over their sockets.

use std::{io, net::SocketAddr, time::Duration};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::TcpListener, task::JoinSet};

use super::{tunnel, worker::Worker};
use crate::state::Store;

/// Pause after `accept` failed for want of descriptors: others will be closed.
const RETRY: Duration = Duration::from_millis(50);

/// How often connections that are kept are looked through.
const SWEEP: Duration = Duration::from_secs(1);

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// A listening socket that other threads have, too.
#[derive(Debug)]
pub struct Bound(std::net::TcpListener);

/// Listens at an address that other threads listen at, too.
///
/// # Errors
/// When the address is taken by another user, or not ours.
pub fn bind(address: SocketAddr) -> io::Result<Bound> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(Bound(socket.into()))
}

impl Bound {
    /// Where it listens.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Worker {
    /// Serves until it is drained and the last connection has ended.
    ///
    /// # Errors
    /// When the listener no longer accepts for a reason that does not go away.
    pub async fn serve(&self, bound: Bound) -> io::Result<()> {
        let listener = TcpListener::from_std(bound.0)?;
        let mut tunnels = JoinSet::new();
        let mut sweep = tokio::time::interval(SWEEP);
        let drained = self.0.drained();
        tokio::pin!(drained);
        loop {
            tokio::select! {
                () = &mut drained => break,
                accepted = listener.accept() => match accepted {
                    Ok((socket, peer)) => {
                        tunnels.spawn(tunnel::serve(self.clone(), socket, peer));
                    }
                    Err(error) if is_transient(&error) => {
                        tracing::warn!(%error, "cannot accept; trying again");
                        tokio::time::sleep(RETRY).await;
                    }
                    Err(error) => return Err(error),
                },
                _ = sweep.tick() => {
                    self.0.upstream.sweep();
                    Store::sweep(&self.0.state.load());
                    // Buffers of tunnels, 1.2 MB each, that a burst of large bodies has left.
                    culvert_hbone::release_unused();
                }
                Some(_) = tunnels.join_next() => {}
            }
        }
        drop(listener);
        while tunnels.join_next().await.is_some() {}
        Ok(())
    }
}

/// Whether it has to do with one connection, or with what others hold.
fn is_transient(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| {
        [
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOBUFS,
            Errno::NOMEM,
            Errno::CONNABORTED,
            Errno::INTR,
            Errno::PROTO,
        ]
        .contains(&errno)
    })
}
