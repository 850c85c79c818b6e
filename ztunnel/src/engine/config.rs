//! How the loops behave.

use std::{io, net::SocketAddr, os::fd::BorrowedFd, sync::Arc, thread, time::Duration};

use culvert_tunnel::{admission::AdmissionConfig, budget::HeldBytes, life::Limits};

use super::socket;
use crate::descriptors::Descriptors;

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
    /// How many loops there are.
    pub(crate) loops: usize,
    /// For a tunnel's TCP connect and TLS handshake together.
    pub(crate) handshake_timeout: Duration,
    /// Threads for the cryptography of handshakes.
    pub(crate) handshake_threads: usize,
    /// How long tunnels may do what, once they are open.
    pub(crate) limits: Limits,
    /// For the answer of a tunnel that was asked for a sign of life together with a connection, before the connection is tried
    /// over another tunnel.
    pub(crate) doubt_timeout: Duration,
    /// How often to look at everything.
    pub(crate) sweep: Duration,
    /// Idle time of TCP connections before the kernel probes the peer.
    pub(crate) keepalive: Duration,
    /// How long a tunnel waits for the application behind its only stream before others are heard again.
    pub(crate) pause: Duration,
    /// What all loops may hold together.
    pub(crate) held: Arc<HeldBytes>,
    /// Windows and limits of tunnels.
    pub(crate) hbone: culvert_hbone::Config,
    /// How many tunnels are let in.
    pub(crate) admission: AdmissionConfig,
    /// The cluster's domain, by which services have names.
    pub(crate) cluster_domain: Arc<str>,
    /// Whom pods' names of endpoints are asked of, where a pod has asked no resolver itself.
    pub(crate) resolvers: Arc<[SocketAddr]>,
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
            loops: 1,
            handshake_timeout: Duration::from_secs(10),
            handshake_threads: thread::available_parallelism().map_or(1, |all| all.get().min(2)),
            limits: Limits::default(),
            doubt_timeout: Duration::from_secs(1),
            sweep: Duration::from_secs(5),
            keepalive: Duration::from_secs(180),
            pause: Duration::from_millis(2),
            held: Arc::new(HeldBytes::new(512 << 20)),
            hbone: culvert_hbone::Config::default(),
            admission: AdmissionConfig::default(),
            cluster_domain: "cluster.local".into(),
            resolvers: Arc::default(),
            descriptors: Descriptors::of_this_process(),
            calls: KernelCalls::default(),
        }
    }
}

/// What is asked of the kernel that needs Culvert's programs, or the network of a pod. Tests without privileges put their
/// own here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KernelCalls {
    /// Where a captured connection was going, which is one of IPv4 or not.
    pub(crate) original_destination: fn(BorrowedFd<'_>, bool) -> io::Result<SocketAddr>,
    /// Where a plaintext connection was going.
    pub(crate) plaintext_destination: fn(BorrowedFd<'_>) -> io::Result<SocketAddr>,
    /// Which resolver the queries on a socket are meant for.
    pub(crate) resolver: fn(BorrowedFd<'_>) -> io::Result<SocketAddr>,
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
            resolver: culvert_net::dns::resolver,
            connect: socket::connect,
            set_client_address: culvert_net::sockopt::set_client_address,
        }
    }
}
