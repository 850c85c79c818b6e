//! What the kernel programs and user space must agree on: keys and values of the maps, ports, socket option numbers and
//! counters. Nothing else lives here.
//!
//! Read [`Flow`] and [`Noted`] first: they carry a connection's other address from the socket that asked for it to the
//! socket that accepted it. Every type is plain data of a fixed layout without padding, because the verifier refuses to
//! copy uninitialised bytes into a map. A change here changes [`layout`], by which the agent tells its pins apart.
#![no_std]

mod address;
mod counters;
mod dns;
mod guard;
mod legs;
mod same_node;
mod serving;

pub use address::{Address, Endpoint};
pub use counters::{COUNTERS, Counter};
pub use dns::{DNS_PORT, DNS_SLOTS, RESOLVER_PORT, Resolver, is_dns_port};
pub use guard::{Dropped, Guard, GuardedLink, GuardedPort};
pub use legs::{Leg, Receiver, SocketOffsets};
pub use same_node::{SameNodeEnded, SameNodeNumber, SameNodePair, SameNodePeer, SameNodeUse};
pub use serving::Serving;

/// Raised when programs of two versions could not share maps although every type kept its size.
pub const VERSION: u32 = 1;

/// Where the proxy's outbound listener waits, on each of the pod's own addresses.
pub const OUTBOUND_PORT: u16 = 15001;
/// Captured connections of a pod whose inbound traffic is steered go to one of [`CAPTURE_PORTS`] ports from here on, by
/// destination, and are steered to the outbound listener.
///
/// All to one port, they would have one remote address between them, so that a pod could have no more connections open
/// (or ended within the last minute) than it has ephemeral ports, to all destinations together: 28,232 by default.
pub const CAPTURE_PORT: u16 = 15360;
/// A power of two.
pub const CAPTURE_PORTS: u16 = 1024;
/// Where the proxy's listener for traffic from outside the mesh waits.
pub const INBOUND_PLAINTEXT_PORT: u16 = 15006;
/// Where the proxy's tunnel listener waits.
pub const INBOUND_HBONE_PORT: u16 = 15008;

/// Where the listener waits that takes SYNs of held connections and answers none, in pods that hold: see [`Noted::HELD`].
pub const HOLD_PORT: u16 = 15004;

/// The port from which the proxy connects to applications in a pod, from one of the addresses of
/// [`Address::is_forwarding_source`]: such a connection takes no ephemeral port of the pod's, and none from its
/// applications.
pub const FORWARDING_PORT: u16 = 15002;

/// `SOL_IP`, the level of [`SO_ORIGINAL_DST`] for IPv4 (`sockaddr_in`).
pub const SOL_IP: i32 = 0;
/// `SOL_IPV6`, the level of [`SO_ORIGINAL_DST`] for IPv6 (`sockaddr_in6`; there Linux calls it `IP6T_SO_ORIGINAL_DST`).
pub const SOL_IPV6: i32 = 41;
/// The destination that an application asked for, on a socket that the proxy accepted from the outbound listener. On a UDP socket
/// at one of the ports of [`is_dns_port`]: the resolver whose queries it gets, see [`Resolver`].
pub const SO_ORIGINAL_DST: i32 = 80;
/// The level of Culvert's own socket options. Far from every level of Linux ("culv" in ASCII).
pub const SOL_CULVERT: i32 = 0x6375_6c76;
/// Set on a socket of the proxy before it connects to an application in the pod: the client ([`Endpoint`], 20 bytes)
/// that `accept` and `getpeername` shall show there.
pub const CULVERT_CLIENT_ADDRESS: i32 = 1;
/// Takes a held connection ([`Claim`], 56 bytes), or gives it back. On any TCP socket of the proxy: after a claim that was
/// granted, [`SO_ORIGINAL_DST`] on that socket says where the connection is to go, until the next claim.
///
/// `ENOENT`: there is no such connection, or it is not held. `EALREADY`: it is the same claimant's already.
pub const CULVERT_CLAIM: i32 = 2;

/// A pod that takes part in the mesh, by the cookie of its network namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Where captured IPv4 connections go, IPv4-mapped; all zero when the pod has no IPv4 address.
    pub ipv4: Address,
    /// Where captured IPv6 connections go; all zero when the pod has no IPv6 address.
    pub ipv6: Address,
    /// The flags below.
    pub flags: u32,
    /// The indices of the interfaces that have `ipv4` and `ipv6`; 0 where that is not known.
    pub devices: [u32; 2],
    /// Destination ports of which connections are held, where [`Pod::HOLD_SOME`] is set; 0 stands for none.
    pub held_ports: [u16; Pod::HELD_PORTS],
}

impl Pod {
    /// Connections that the pod opens are captured.
    pub const OUTBOUND: u32 = 1;
    /// Connections that the pod receives are captured.
    pub const INBOUND: u32 = 2;
    /// An interface that has an address of the pod also has an IPv4 address, but the mesh knows no IPv4 address of the pod.
    pub const UNKNOWN_V4: u32 = 4;
    /// The same for IPv6.
    pub const UNKNOWN_V6: u32 = 8;
    /// Connections that the pod opens are held until the far side is there, whatever their port.
    pub const HOLD_ALL: u32 = 16;
    /// The same for those to `held_ports`.
    pub const HOLD_SOME: u32 = 32;
    /// While no proxy serves, new connections of the pod's go direct, in both directions, unless its [`Guard`] is strict.
    pub const FALLBACK: u32 = 64;
    /// The pod's DNS queries over UDP go to the proxy's sockets at [`DNS_PORT`], as long as a proxy serves.
    pub const DNS: u32 = 128;
    /// What the pod's applications send to the proxy is carried by the kernel: see [`Leg`].
    pub const LEGS: u32 = 256;
    /// No pod, but where the agent tries [`Pod::LEGS`] out: each connection is a leg, from who opens to who accepts.
    pub const LEGS_TRIAL: u32 = 512;
    /// Some of what the pod opens goes past the proxy: see [`SameNodePair`].
    pub const SAME_NODE_CLIENT: u32 = 1024;
    /// Some of what reaches the pod has come that way.
    pub const SAME_NODE_SERVER: u32 = 2048;
    /// How many ports can be named.
    pub const HELD_PORTS: usize = 8;
}

/// The pod that owns an address.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The cookie of the pod's network namespace.
    pub cookie: u64,
}

/// What a pod has under way, by the cookie of its network namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Its entries in the map of flows.
    pub flows: u64,
    /// Connections that were denied because it had its share of that map, see [`Config::share`].
    pub denied: u64,
    /// When a denial of the pod's was last logged, in nanoseconds since the machine started.
    pub logged: u64,
    /// Connections that it opened, and that went direct because no proxy served.
    pub direct_out: u64,
    /// Connections that reached it direct for the same reason.
    pub direct_in: u64,
}

/// One direction of a TCP connection inside a pod's network namespace, seen from the socket that opened it.
///
/// An entry lives from `connect` until the accepting socket is established (or the opening socket gives up), so the map
/// holds handshakes, not connections.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The cookie of the network namespace.
    pub cookie: u64,
    /// The opening socket's address.
    pub local: Address,
    /// The accepting socket's address.
    pub remote: Address,
    /// The opening socket's port, host byte order.
    pub local_port: u16,
    /// The accepting socket's port, host byte order.
    pub remote_port: u16,
    /// Zero.
    pub reserved: u32,
}

/// What a socket remembers, and what a [`Flow`] hands over from the opening to the accepting socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// Whose address it is depends on `role`.
    pub endpoint: Endpoint,
    /// One of the constants of this type.
    pub role: u32,
}

impl Noted {
    /// Nothing (any more).
    pub const NOTHING: u32 = 0;
    /// An application's socket that was captured; `endpoint` is the destination it asked for.
    pub const CAPTURED: u32 = 1;
    /// A proxy's socket towards an application; `endpoint` is the client to show there.
    pub const FORWARDED: u32 = 2;
    /// A proxy's socket, accepted from a captured one; `endpoint` is the destination that the application asked for.
    pub const ACCEPTED_CAPTURED: u32 = 3;
    /// An application's socket, accepted from the proxy; `endpoint` is the client to show.
    pub const ACCEPTED_FORWARDED: u32 = 4;
    /// A socket of the node itself towards a pod, see [`Config::node`]; `endpoint` is the pod's.
    pub const NODE: u32 = 5;
    /// As [`Noted::CAPTURED`], and the application's `connect` is to end only when the proxy knows how: its SYN reaches the
    /// listener at [`HOLD_PORT`], which does not answer. The proxy sees the SYN, claims the connection ([`CULVERT_CLAIM`]),
    /// and answers it in the kernel's place: by connecting to the application's socket (a simultaneous open, RFC 9293
    /// section 3.5), or by a reset.
    ///
    /// In a flow, the bits above [`Noted::ROLE_BITS`] say who has claimed it; 0 is nobody.
    pub const HELD: u32 = 6;
    /// An application's socket that goes past the proxy to another pod of the node, see [`SameNodePair`]; `endpoint` is the destination
    /// it asked for: the pod's, or a service's.
    pub const SAME_NODE: u32 = 7;
    /// The bits of `role` that hold one of the constants.
    pub const ROLE_BITS: u32 = 8;

    /// `role` without the claimant.
    #[inline(always)]
    pub const fn kind(&self) -> u32 {
        self.role & ((1 << Self::ROLE_BITS) - 1)
    }

    /// Who has claimed a flow that is [`Noted::HELD`]; 0 for nobody.
    #[inline(always)]
    pub const fn claimant(&self) -> u32 {
        self.role >> Self::ROLE_BITS
    }
}

/// The value of [`CULVERT_CLAIM`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The connection, seen from the application's socket.
    pub flow: Flow,
    /// Who claims it, 1 to 2^24 - 1: the same number for all claims of a process. 0 gives it back,
    /// [`Claim::ACCEPT_FIRST`] ends that it is held.
    pub claimant: u32,
    /// Zero.
    pub reserved: u32,
}

impl Claim {
    /// When the application's SYN comes again, it is accepted like that of a connection that is not held.
    pub const ACCEPT_FIRST: u32 = u32::MAX;
}

/// The listening sockets of pods, by address.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Listener {
    /// An address of the pod.
    pub address: Address,
    /// [`OUTBOUND_PORT`], [`INBOUND_PLAINTEXT_PORT`], [`INBOUND_HBONE_PORT`] or [`HOLD_PORT`], of TCP; or one of [`is_dns_port`], of UDP.
    pub port: u32,
}

/// What the programs are told at run time.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Identifiers of the cgroups whose processes (and those of cgroups below them) are proxies. Zero: none.
    pub proxies: [u64; Config::PROXIES],
    /// The number of [`Flow`]s that the map holds.
    pub flows: u64,
    /// How many of them one pod may have: what it tries beyond them is denied, so that no pod takes the room of others.
    pub share: u64,
    /// The cookie of the node's own network namespace: what its processes open reaches pods as it is, because the kubelet's
    /// probes must meet the application and nobody else. Zero: nobody's does.
    pub node: u64,
    /// The cgroup that all of Kubernetes' pods run in. Its processes are no processes of the node, also those of pods that
    /// share its network namespace. Zero: there is none.
    pub pods: u64,
}

impl Config {
    /// How many proxies a node can have at once: one, and while it is being replaced two.
    pub const PROXIES: usize = 4;
}

/// A fingerprint of every key's and value's size, with [`VERSION`].
///
/// Pins of programs with another fingerprint cannot be adopted.
pub const fn layout() -> u32 {
    let sizes = [
        VERSION as usize,
        size_of::<Pod>(),
        size_of::<Owner>(),
        size_of::<Flow>(),
        size_of::<Noted>(),
        size_of::<Listener>(),
        size_of::<Usage>(),
        size_of::<Config>(),
        size_of::<Claim>(),
        size_of::<GuardedLink>(),
        size_of::<Leg>(),
        size_of::<Receiver>(),
        COUNTERS.len(),
    ];
    let mut hash = FNV_OFFSET;
    let mut index = 0;
    while index < sizes.len() {
        hash = mix(hash, sizes[index] as u32);
        index += 1;
    }
    hash
}

/// Adds a number to a fingerprint (FNV-1a over its bytes).
pub const fn mix(hash: u32, number: u32) -> u32 {
    let bytes = number.to_le_bytes();
    let mut hash = hash;
    let mut index = 0;
    while index < bytes.len() {
        hash = (hash ^ bytes[index] as u32).wrapping_mul(0x0100_0193);
        index += 1;
    }
    hash
}

const FNV_OFFSET: u32 = 0x811c_9dc5;

#[cfg(feature = "user")]
mod user {
    macro_rules! plain_data {
        ($($name:ident)*) => {$(
            // SAFETY: `repr(C)`, only integers and arrays of integers, no padding; every bit pattern is valid.
            unsafe impl aya::Pod for super::$name {}
        )*};
    }
    plain_data!(Address Claim Config Dropped Endpoint Flow Guard GuardedLink GuardedPort Leg Listener Noted Owner Pod Receiver Resolver SameNodeEnded SameNodePair SameNodePeer SameNodeUse Serving SocketOffsets Usage);
}

#[cfg(test)]
mod tests {
    /// The programs' machine is the same whatever they run on; user space is built for many. All keys and values are made of these.
    #[test]
    fn integers_lie_in_memory_as_in_the_kernel_programs() {
        assert_eq!((align_of::<u8>(), align_of::<u16>()), (1, 2));
        assert_eq!((align_of::<u32>(), align_of::<u64>()), (4, 8));
    }
}
