//! Connections between two pods of one node that go past the proxy, where it has decided that they may (`culvert.dev/same-node:
//! kernel`). It decides about the first connection of a pair as about any other; what is here is what the programs remember of that.
//!
//! These maps outlive a change of [`layout`](crate::layout), because open connections do.

use crate::{Address, Endpoint, Flow};

/// A pair: who opens connections, and to where.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SameNodePair {
    /// The cookie of the client's network namespace, by which the kernel knows who it is.
    pub client: u64,
    /// An address of a pod of this node, and a port of it.
    pub destination: Endpoint,
    /// Zero.
    pub reserved: u32,
}

impl SameNodePair {
    /// A pair.
    #[inline(always)]
    pub const fn new(client: u64, destination: Endpoint) -> Self {
        Self {
            client,
            destination,
            reserved: 0,
        }
    }

    /// How many pairs a node may have. What is beyond goes by the proxy.
    pub const ENTRIES: u32 = 16384;
    /// Raised when one of these maps changes its meaning, but not its size.
    pub const FORMAT: u32 = 1;
}

/// What the policies' answer about a pair depends on, besides the pair. Without an entry the proxy decides.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SameNodePeer {
    /// The cookie of the network namespace of the pod that has the destination, with [`ENDING`](Self::ENDING) perhaps.
    pub server: u64,
    /// The client's address.
    pub source: Address,
}

impl SameNodePeer {
    /// Nothing is opened by this pair any more, and what is being opened is still let in. The kernel counts namespaces upwards, so that
    /// no cookie has this bit; programs that do not know of it find no such pod, and the proxy decides.
    pub const ENDING: u64 = 1 << 63;

    /// The pod that has the destination.
    #[inline(always)]
    pub const fn server(&self) -> u64 {
        self.server & !Self::ENDING
    }

    /// Whether nothing is opened by this pair any more.
    #[inline(always)]
    pub const fn is_ending(&self) -> bool {
        self.server & Self::ENDING != 0
    }

    /// The same pair, by which nothing is opened any more.
    pub const fn ending(self) -> Self {
        Self {
            server: self.server | Self::ENDING,
            source: self.source,
        }
    }
}

/// What has gone by a pair. Entries are made and removed by the agent.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SameNodeUse {
    /// Connections that were established.
    pub opened: u64,
    /// Connections that have ended since.
    pub closed: u64,
    /// Bytes that clients sent in these, and that were acknowledged.
    pub sent: u64,
    /// Bytes that clients received in these.
    pub received: u64,
}

/// A connection that has ended, as the client's socket saw it: what the programs put into a ring for the agent.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SameNodeEnded {
    /// Who with whom.
    pub flow: Flow,
    /// From the SYN to the end, in nanoseconds.
    pub duration: u64,
    /// Bytes that the client sent, and that were acknowledged.
    pub sent: u64,
    /// Bytes that the client received.
    pub received: u64,
    /// What the client asked for: the pod's address and port, or those of a service.
    pub dialled: Endpoint,
    /// One of the constants below.
    pub how: u32,
}

impl SameNodeEnded {
    /// Both sides have closed it.
    pub const CLOSED: u32 = 0;
    /// It ended before that: by a reset, a timeout, or because somebody closed the socket from outside.
    pub const BROKEN: u32 = 1;
    /// It was never established.
    pub const FAILED: u32 = 2;
    /// The size of the ring in bytes: for some 10,000 connections that end between two looks of the agent. A power of two, and a
    /// multiple of every page size.
    pub const RING: u32 = 1 << 20;
}

/// The indices of an array of two numbers about all pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameNodeNumber {
    /// Until when pairs hold, in nanoseconds on the clock that stands still while the machine is suspended. The agent pushes it
    /// forward as long as it lives: without it nothing takes a pair away whose policies change.
    Until,
    /// Connections that are open, or being opened.
    Open,
}

impl SameNodeNumber {
    /// How many there are.
    pub const COUNT: u32 = 2;
    /// How many connections may be open at once. More go by the proxy.
    pub const CONNECTIONS: u32 = 65536;
    /// Room in the map, for what several processors open at the same moment.
    pub const ROOM: u32 = Self::CONNECTIONS + 4096;
}
