//! Local legs: what applications send to the node's proxy, carried by the kernel past loopback TCP.
//!
//! Every connection that the proxy carries has a leg inside the pod, between the application's socket and one of the proxy's. On a
//! leg that is joined, what the application sends is put into the queue of the proxy's socket at once. The other direction stays
//! TCP: see `ebpf/src/legs.rs`.

use crate::Flow;

/// What an application's socket knows of its leg.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// The connection, seen from the application's socket.
    pub flow: Flow,
    /// The kernel's address of the application's socket.
    pub own: u64,
    /// The kernel's address of the proxy's socket, only to look how much it has not read yet.
    pub peer: u64,
    /// The cookie of the proxy's socket, which is its key in the map of receivers.
    pub peer_cookie: u64,
    /// The TCP sequence number of the first byte: while it is the next one, nothing has gone by TCP.
    pub sequence: u32,
    /// One of the constants of this type.
    pub state: u32,
}

impl Leg {
    /// The application has not sent anything yet, and the proxy's socket is still to be found.
    pub const NEW: u32 = 0;
    /// Both sockets are known.
    pub const JOINED: u32 = 1;
    /// Plain TCP, for good.
    pub const TCP: u32 = 2;

    /// How many bytes the proxy may leave unread, before what the application sends goes by TCP, which holds it back.
    ///
    /// The proxy's worker relies on this being more than it reads at a time (`ztunnel/src/engine/socket.rs`).
    pub const UNREAD: u32 = (1 << 20) + (256 << 10);
    /// Room in the maps of senders and of receivers.
    pub const ENTRIES: u32 = 32_768;
    /// Raised when the maps, which outlive a change of the others' layout, change their meaning, but not their size.
    pub const FORMAT: u32 = 1;
}

/// The proxy's socket of a leg whose application's has not been joined with it yet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// The kernel's address of the socket.
    pub socket: u64,
    /// Its cookie.
    pub cookie: u64,
}

impl Receiver {
    /// Room for those that wait; the oldest are forgotten, and their legs stay TCP.
    pub const ENTRIES: u32 = 8192;
}

/// Where some fields are in this kernel's structures, bytes from the start of a TCP socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketOffsets {
    /// `sk_backlog.rmem_alloc` of `struct sock`: bytes in the queues of a socket that were not read.
    pub unread: u32,
    /// `write_seq` of `struct tcp_sock`: the number of the next byte that is sent by TCP.
    pub sequence: u32,
    /// `icsk_ulp_ops` of `struct inet_connection_sock`: set where something sits above TCP, as TLS in the kernel.
    pub above: u32,
}
