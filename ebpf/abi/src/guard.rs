//! What the guard on a pod's links is told, and what it tells.
//!
//! The maps with [`Guard`], [`GuardedPort`] and [`Dropped`] outlive a change of [`layout`](crate::layout): programs of two
//! versions share them, so that an update neither forgets which ports are strict nor what was dropped. A change of one of these
//! types makes a new map, see [`Guard::FORMAT`].

use crate::Address;

/// What holds for new connections to a pod that do not come through the tunnel, by the cookie of its network namespace. Written by
/// the agent alone. A pod without an entry is guarded as if all its ports were strict.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The flags below.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
    /// How many of the dropped connections the agent has logged.
    pub logged: u64,
}

impl Guard {
    /// Ports without a [`GuardedPort`] are strict: such connections are dropped. Without this flag they pass.
    pub const STRICT: u32 = 1;
    /// There are no exceptions, whatever the map of [`GuardedPort`]s has.
    pub const WHOLE: u32 = 2;
    /// Raised when a map that outlives a change of layout changes its meaning, but not its size.
    pub const FORMAT: u32 = 1;
    /// How many pods of a node can be guarded: of a fixed size, because the maps outlive a change of the others' sizes.
    pub const PODS: u32 = 16384;

    /// Whether a port is strict; `is_exception` tells whether there is a [`GuardedPort`] for it.
    #[inline(always)]
    pub const fn is_strict(flags: u32, is_exception: bool) -> bool {
        let default = flags & Self::STRICT != 0;
        if flags & Self::WHOLE != 0 {
            return default;
        }
        default != is_exception
    }

    /// Whether any port may be strict.
    #[inline(always)]
    pub const fn may_be_strict(flags: u32) -> bool {
        flags != Self::WHOLE
    }
}

/// A port of a pod for which the opposite of [`Guard::STRICT`] holds.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GuardedPort {
    /// The cookie of the pod's network namespace.
    pub cookie: u64,
    /// The port, host byte order.
    pub port: u32,
    /// Zero.
    pub reserved: u32,
}

impl GuardedPort {
    /// How many exceptions all pods of a node may have together.
    pub const ENTRIES: u32 = 65536;
}

/// Whose interface an interface of the node leads to, by its index.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardedLink {
    /// The cookie of the pod's network namespace.
    pub cookie: u64,
}

/// What the guard of a pod has dropped, by the cookie of its network namespace. Entries are made by the agent.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// How many packets that would have opened a connection. One that comes again is counted again.
    pub count: u64,
    /// Where the last one came from; all zero where that could not be read.
    pub source: Address,
    /// From which port.
    pub source_port: u32,
    /// To which port.
    pub port: u32,
}

impl Dropped {
    /// Nothing yet.
    pub const NOTHING: Self = Self {
        count: 0,
        source: Address::NONE,
        source_port: 0,
        port: 0,
    };
}

#[cfg(test)]
mod tests {
    use super::Guard;

    #[test]
    fn an_exception_is_the_opposite_of_the_default_unless_there_are_none() {
        let of = |flags| [false, true].map(|is_exception| Guard::is_strict(flags, is_exception));
        assert_eq!(of(Guard::STRICT), [true, false]);
        assert_eq!(of(0), [false, true]);
        assert_eq!(of(Guard::STRICT | Guard::WHOLE), [true, true]);
        assert_eq!(of(Guard::WHOLE), [false, false]);
        let may = [Guard::STRICT, 0, Guard::STRICT | Guard::WHOLE, Guard::WHOLE].map(Guard::may_be_strict);
        assert_eq!(may, [true, true, true, false]);
    }
}
