//! Addresses as the maps hold them: always 16 bytes, IPv4 as IPv4-mapped IPv6 (RFC 4291, 2.5.5.2).

use core::net::{IpAddr, Ipv6Addr, SocketAddr};

/// An IP address in network byte order, as four words because that is how eBPF contexts give it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address(pub [u32; 4]);

impl Address {
    /// The third word of every IPv4-mapped address.
    pub const MAPPED: u32 = 0xffff_u32.to_be();
    /// `::`, which stands for "none" in the maps.
    pub const NONE: Self = Self([0; 4]);

    /// The IPv4 address whose four bytes, in network byte order, are in `word`.
    #[inline(always)]
    pub const fn from_v4(word: u32) -> Self {
        Self([0, 0, Self::MAPPED, word])
    }

    /// Whether this is an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == Self::MAPPED
    }

    /// Whether this is `::`.
    #[inline(always)]
    pub const fn is_none(&self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == 0 && self.0[3] == 0
    }

    /// Whether a connection to it stays in the namespace by itself: 127.0.0.0/8 and `::1`, and the unspecified
    /// addresses, which Linux takes for loopback.
    #[inline(always)]
    pub const fn is_loopback(&self) -> bool {
        if self.is_v4() {
            return self.0[3] == 0 || self.0[3].to_be() >> 24 == 127;
        }
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == 0 && (self.0[3] == 0 || self.0[3] == 1_u32.to_be())
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        let bytes = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Self([word(0), word(4), word(8), word(12)])
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        let mut bytes = [0; 16];
        for (chunk, word) in bytes.chunks_exact_mut(4).zip(address.0) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        Ipv6Addr::from(bytes).to_canonical()
    }
}

/// An address with a port.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The address.
    pub address: Address,
    /// The port, host byte order, 0 to 65535. A whole word, so that the type has no padding.
    pub port: u32,
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self {
            address: address.ip().into(),
            port: address.port().into(),
        }
    }
}

impl From<Endpoint> for SocketAddr {
    fn from(endpoint: Endpoint) -> Self {
        // The programs never write more than 16 bits.
        Self::new(endpoint.address.into(), endpoint.port as u16)
    }
}
