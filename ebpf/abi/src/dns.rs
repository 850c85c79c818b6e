//! DNS queries over UDP: where they are turned, and which resolver they were meant for.
//!
//! A resolver has a *slot* in each pod that asks it, 0 to [`DNS_SLOTS`] - 1, given to it by the first query, and the proxy has a socket
//! for each slot. A port tells the slot, so nothing is noted per query: an answer from that port is one of that resolver.
//! Why not one socket for all: a connected UDP socket takes answers from the very address and port alone that it is connected to,
//! and whoever answers cannot choose the port of a socket that is bound.

/// The port at which resolvers are asked.
pub const RESOLVER_PORT: u16 = 53;
/// Where the proxy's socket for the first slot waits, on all addresses of the pod. Those for the others follow.
pub const DNS_PORT: u16 = 15053;
/// As many as a stub resolver asks (`MAXNS` of resolv.h).
pub const DNS_SLOTS: u16 = 3;

/// Whether the proxy's socket for a slot is at this port (host byte order).
#[inline(always)]
pub const fn is_dns_port(port: u32) -> bool {
    port.wrapping_sub(DNS_PORT as u32) < DNS_SLOTS as u32
}

/// A slot of a pod. The map's value is the [`Endpoint`](crate::Endpoint) of the resolver that has it. It outlives a change of
/// [`layout`](crate::layout), because the sockets do; a change of its types makes a new map, see [`Resolver::FORMAT`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resolver {
    /// The cookie of the pod's network namespace.
    pub cookie: u64,
    /// 0 to [`DNS_SLOTS`] - 1.
    pub slot: u32,
    /// Zero.
    pub reserved: u32,
}

impl Resolver {
    /// Raised when the map changes its meaning, but not its size.
    pub const FORMAT: u32 = 1;
    /// How many all pods of a node may have together: of a fixed size, because the map outlives a change of the others' sizes.
    pub const ENTRIES: u32 = crate::Guard::PODS * DNS_SLOTS as u32;

    /// The slot whose socket is at a port for which [`is_dns_port`] holds.
    #[inline(always)]
    pub const fn at_port(cookie: u64, port: u32) -> Self {
        Self {
            cookie,
            slot: port.wrapping_sub(DNS_PORT as u32),
            reserved: 0,
        }
    }

    /// Where the proxy's socket for this slot waits, host byte order.
    #[inline(always)]
    pub const fn port(&self) -> u32 {
        DNS_PORT as u32 + self.slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_tells_its_slot_and_no_other_port_is_one_of_them() {
        for slot in 0..u32::from(DNS_SLOTS) {
            let port = u32::from(DNS_PORT) + slot;
            assert!(is_dns_port(port));
            let resolver = Resolver::at_port(7, port);
            assert_eq!((resolver.slot, resolver.port()), (slot, port));
        }
        for port in [0, 53, 15052, 15056, 65535] {
            assert!(!is_dns_port(port), "{port}");
        }
    }
}
