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

    /// Whether this is `::` or `0.0.0.0`.
    #[inline(always)]
    pub const fn is_unspecified(&self) -> bool {
        self.is_none() || (self.is_v4() && self.0[3] == 0)
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

    /// Whether it means something on one link alone: `fe80::/10`.
    #[inline(always)]
    pub const fn is_link_local(&self) -> bool {
        self.0[0] & 0xffc0_0000_u32.to_be() == 0xfe80_0000_u32.to_be()
    }

    /// Whether the proxy connects to applications from here: `127.128.0.0/9`, which every pod has, and `100::/64`, which the
    /// agent makes local to a pod (the prefix to be discarded of RFC 6666, so that nobody reaches anything there).
    #[inline(always)]
    pub const fn is_forwarding_source(&self) -> bool {
        if self.is_v4() {
            return self.0[3] & 0xff80_0000_u32.to_be() == 0x7f80_0000_u32.to_be();
        }
        self.0[0] == 0x0100_0000_u32.to_be() && self.0[1] == 0
    }

    /// The sixteen bytes, first to last.
    #[inline(always)]
    pub const fn octets(&self) -> [u8; 16] {
        let [a, b, c, d] = [
            self.0[0].to_ne_bytes(),
            self.0[1].to_ne_bytes(),
            self.0[2].to_ne_bytes(),
            self.0[3].to_ne_bytes(),
        ];
        [
            a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3],
        ]
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
        Ipv6Addr::from(address.octets()).to_canonical()
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

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::string::ToString;

    #[test]
    fn addresses_survive_the_way_there_and_back() {
        for text in ["198.18.7.1", "fd00:c01e::7:1", "0.0.0.0", "::", "::1", "127.0.0.1"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(IpAddr::from(Address::from(address)).to_string(), text);
        }
        let mapped: IpAddr = "::ffff:198.18.7.1".parse().unwrap();
        assert_eq!(IpAddr::from(Address::from(mapped)).to_string(), "198.18.7.1");
    }

    #[test]
    fn loopback_is_what_linux_takes_for_it() {
        let is = |text: &str| Address::from(text.parse::<IpAddr>().unwrap()).is_loopback();
        assert!(
            ["127.0.0.1", "127.255.0.3", "0.0.0.0", "::", "::1", "::ffff:127.0.0.1"]
                .into_iter()
                .all(is)
        );
        assert!(!["198.18.7.1", "128.0.0.1", "fd00::1", "::2", "1::"].into_iter().any(is));
    }

    #[test]
    fn prefixes_hold_what_is_within_them_alone() {
        let address = |text: &str| Address::from(text.parse::<IpAddr>().unwrap());
        assert!(
            ["fe80::1", "febf::1"]
                .into_iter()
                .all(|text| address(text).is_link_local())
        );
        assert!(
            !["fec0::1", "fd00::1", "169.254.0.1"]
                .into_iter()
                .any(|text| address(text).is_link_local())
        );
        let is_source = |text: &str| address(text).is_forwarding_source();
        assert!(
            ["127.128.0.0", "127.255.255.255", "100::", "100::ffff:ffff:ffff:ffff"]
                .into_iter()
                .all(is_source)
        );
        assert!(
            ![
                "127.0.0.1",
                "127.127.255.255",
                "128.0.0.1",
                "::1",
                "100:0:0:1::",
                "200::"
            ]
            .into_iter()
            .any(is_source)
        );
    }
}
