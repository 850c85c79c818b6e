//! The event loops: everything that touches traffic.
//!
//! Each [`Loop`] is a thread that owns its sockets, tunnels and connections; nothing is shared between loops but
//! listening sockets and the immutable snapshots in [`Shared`]. No lock is taken, and nothing is allocated per read or
//! write. What a request, a connection and a gigabyte cost is measured by `cargo xtask bench`.
//!
//! # Words
//! - A [`flow::Flow`] is one connection from one application to another, as this proxy sees it: an accepted or dialled
//!   socket (`near`), and a second socket or a stream (`far`).
//! - A [`tunnel::Tunnel`] is one HBONE connection to a peer proxy; its streams carry flows. Those that we dialled are
//!   shared through the [`pool`].
//!
//! # A round
//! 1. [`poll`] waits for events, or until the next deadline ([`timer`]).
//! 2. The mesh and the certificates are loaded, once for the round.
//! 3. Work that a budget cut off in the last round goes on.
//! 4. Each event is handled as far as its budget allows: [`listen`] accepts, [`tunnel_io`] reads tunnels (and remembers
//!    in [`events`] what they say), [`relay`] moves bytes. What is to be sent on tunnels gathers in their output.
//! 5. Deadlines that have come are acted on.
//! 6. Each tunnel that something gathered for is flushed, with one `write`: many small messages of many connections
//!    become few TLS records and few packets.
//!
//! # The way of a connection
//! ```text
//! outbound:  listen -> outbound (resolve) -> pool -> tunnel -> CONNECT ... 200 -> relay -> ends, report
//!                                         -> direct: sockets -> TCP           -> relay -> ends, report
//!            where the application is not answered before the far side is: unanswered, before and after
//! inbound:   listen -> tunnel, handshake (a pool's threads) -> inbound (authorize) -> sockets -> TCP -> 200 -> relay -> ends, report
//!            listen -> inbound (plaintext, authorize)           -> sockets -> TCP        -> relay -> ends, report
//! ```
//! Bytes flow only once both ends are connected, so a failed attempt loses none and is made again while the connect
//! timeout allows. Whatever happens, a flow ends in [`Loop::end`] and in exactly one line of the access log
//! ([`report`]).
//!
//! # Reading on
//! [`event_loop`] first, then along the way above. [`turns`] says which stream of a tunnel may send, [`budget`] what is held
//! and may be, [`stale`] when a tunnel's certificate no longer holds, or nobody is at its other end. [`arena`], [`poll`], [`timer`], [`buffers`], [`socket`] and
//! [`sockets`] are the ground under it; each can be read alone.

mod admission;
mod arena;
mod budget;
mod buffers;
mod ends;
mod event_loop;
mod events;
mod failure;
mod flow;
mod handshake;
mod handshake_pool;
mod headers;
mod inbound;
mod listen;
mod outbound;
mod pace;
mod parked;
mod poll;
mod pool;
mod proof;
mod relay;
mod report;
mod socket;
mod sockets;
mod stale;
mod sweep;
mod timer;
mod tunnel;
mod tunnel_io;
mod turns;
mod unanswered;

#[cfg(test)]
mod tests;

use std::{
    io,
    net::SocketAddr,
    os::fd::BorrowedFd,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use admission::AdmissionConfig;
pub(crate) use budget::HeldBytes;
use event_loop::Loop;
use handshake_pool::HandshakePool;

use crate::{
    descriptors::Descriptors,
    seam::{LoopMessage, Shared},
};

/// How the loops behave.
#[derive(Clone, Debug)]
pub(crate) struct EngineConfig {
    /// From accept until both ends of a connection must be connected.
    pub(crate) connect_timeout: Duration,
    /// For one attempt, after which another endpoint is tried if there is one.
    pub(crate) attempt_timeout: Duration,
    /// How long somebody may take to appear at an address of the mesh at which nobody is known.
    pub(crate) unknown_wait: Duration,
    /// How long open connections go on that depend on a policy which is named and has not arrived.
    pub(crate) policy_grace: Duration,
    /// For a tunnel's TCP connect and TLS handshake together.
    pub(crate) handshake_timeout: Duration,
    /// Threads for the cryptography of handshakes.
    pub(crate) handshake_threads: usize,
    /// After which a tunnel without streams is closed.
    pub(crate) idle_timeout: Duration,
    /// Silence on a tunnel with streams after which the peer is asked for a sign of life.
    pub(crate) ping_interval: Duration,
    /// For the answer, before the tunnel is given up.
    pub(crate) ping_timeout: Duration,
    /// Silence after which a tunnel is asked for a sign of life together with what it is to carry.
    pub(crate) doubt_after: Duration,
    /// For the answer to that, before the connection is tried over another tunnel.
    pub(crate) doubt_timeout: Duration,
    /// How long connections may go on over a tunnel whose certificate has expired or is no longer trusted.
    pub(crate) stale_grace: Duration,
    /// After about so long a tunnel takes no new connections, so that new certificates are shown.
    pub(crate) most_age: Duration,
    /// How often to look at everything.
    pub(crate) sweep: Duration,
    /// How long a tunnel that retires waits, without streams, for the peer to say that it opens no more.
    pub(crate) parting_timeout: Duration,
    /// Idle time of accepted TCP connections before the kernel probes the peer.
    pub(crate) keepalive: Duration,
    /// How long a tunnel waits for the application behind its only stream before others are heard again.
    pub(crate) pause: Duration,
    /// What all loops may hold together.
    pub(crate) held: Arc<HeldBytes>,
    /// Windows and limits of tunnels.
    pub(crate) hbone: culvert_hbone::Config,
    /// How many tunnels are let in.
    pub(crate) admission: AdmissionConfig,
    /// How many descriptors the process may have.
    pub(crate) descriptors: Descriptors,
    /// What is asked of Culvert's kernel programs.
    pub(crate) calls: KernelCalls,
}

impl Default for EngineConfig {
    /// The values that HBONE peers in the field use.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            attempt_timeout: Duration::from_millis(2500),
            unknown_wait: Duration::from_secs(3),
            policy_grace: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            handshake_threads: thread::available_parallelism().map_or(1, |all| all.get().min(2)),
            idle_timeout: Duration::from_secs(300),
            ping_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(20),
            doubt_after: Duration::from_secs(1),
            doubt_timeout: Duration::from_secs(1),
            stale_grace: Duration::from_secs(3600),
            most_age: Duration::from_secs(12 * 3600),
            sweep: Duration::from_secs(5),
            parting_timeout: Duration::from_secs(5),
            keepalive: Duration::from_secs(180),
            pause: Duration::from_millis(2),
            held: Arc::new(HeldBytes::new(512 << 20)),
            hbone: culvert_hbone::Config::default(),
            admission: AdmissionConfig::default(),
            descriptors: Descriptors::of_this_process(),
            calls: KernelCalls::default(),
        }
    }
}

/// What is asked of the kernel that needs Culvert's programs, or the network of a pod. Tests without privileges put their
/// own here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KernelCalls {
    /// Where a captured connection was going.
    pub(crate) original_destination: fn(BorrowedFd<'_>) -> io::Result<SocketAddr>,
    /// Where a plaintext connection was going.
    pub(crate) plaintext_destination: fn(BorrowedFd<'_>) -> io::Result<SocketAddr>,
    /// Starts to connect.
    pub(crate) connect: fn(BorrowedFd<'_>, SocketAddr) -> io::Result<()>,
    /// Shows the application this address as its client's. Before connecting.
    pub(crate) set_client_address: fn(BorrowedFd<'_>, SocketAddr) -> io::Result<()>,
}

impl Default for KernelCalls {
    fn default() -> Self {
        Self {
            original_destination: culvert_net::sockopt::original_dst,
            // `sk_lookup` changes which socket accepts, not the address that was dialled.
            plaintext_destination: socket::local_address,
            connect: socket::connect,
            set_client_address: culvert_net::sockopt::set_client_address,
        }
    }
}

/// A running loop.
#[derive(Debug)]
pub(crate) struct LoopHandle {
    mailbox: poll::Sender,
    thread: JoinHandle<()>,
}

impl LoopHandle {
    /// Tells the loop something. One that has ended does not hear it.
    pub(crate) fn send(&self, message: LoopMessage) {
        self.mailbox.send(message);
    }

    /// Whether the loop has ended: drained, or failed (which it logs).
    pub(crate) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Starts `loops` event loops.
///
/// # Errors
/// When the kernel gives no epoll instance, eventfd or thread.
pub(crate) fn spawn(shared: &Arc<Shared>, config: EngineConfig, loops: usize) -> io::Result<Vec<LoopHandle>> {
    let config = Arc::new(config);
    let handshakes = HandshakePool::start(config.handshake_threads)?;
    (0..loops)
        .map(|number| {
            let (sender, mailbox) = poll::mailbox()?;
            let (shared, config, handshakes) = (Arc::clone(shared), Arc::clone(&config), handshakes.clone());
            // What a loop owns is not `Send`: it is made where it runs, and says whether that worked.
            let (started, starting) = std::sync::mpsc::channel();
            let thread = thread::Builder::new().name(format!("loop-{number}")).spawn(move || {
                match Loop::new(shared, config, mailbox, handshakes) {
                    Ok(event_loop) => {
                        let _ = started.send(Ok(()));
                        if let Err(error) = event_loop.run() {
                            tracing::error!(%error, "an event loop failed");
                        }
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                    }
                }
            })?;
            starting
                .recv()
                .map_err(|_| io::Error::other("an event loop did not start"))??;
            Ok(LoopHandle {
                mailbox: sender,
                thread,
            })
        })
        .collect()
}
