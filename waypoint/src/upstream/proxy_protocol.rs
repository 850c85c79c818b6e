//! The PROXY protocol: a head at the beginning of a connection that says between whom it is
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use culvert_http::Peer;

use crate::config::transport::ProxyProtocol;

/// What a head of version 2 begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, and what a connection is: the proxy's own, or somebody's.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
/// TCP over IPv4 and IPv6.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// Between whom a client's connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends {
    /// The client.
    pub source: SocketAddr,
    /// What it dialled.
    pub destination: SocketAddr,
}

impl Ends {
    /// Those of a client, where they are known.
    pub(crate) fn of(peer: &Peer<'_>) -> Option<Self> {
        Some(Self {
            source: peer.address?,
            destination: peer.destination?,
        })
    }
}

/// The head of a connection between `ends`; without, of one that the waypoint makes for itself.
pub(super) fn head(version: ProxyProtocol, ends: Option<Ends>) -> Vec<u8> {
    match version {
        ProxyProtocol::V1 => text(ends),
        ProxyProtocol::V2 => binary(ends),
    }
}

fn text(ends: Option<Ends>) -> Vec<u8> {
    let Some(ends) = ends else {
        return b"PROXY UNKNOWN\r\n".to_vec();
    };
    let (source, destination) = of_one_family(ends);
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (ends.source.port(), ends.destination.port());
    format!("PROXY {family} {source} {destination} {from} {to}\r\n").into_bytes()
}

fn binary(ends: Option<Ends>) -> Vec<u8> {
    let mut head = SIGNATURE.to_vec();
    let Some(ends) = ends else {
        head.extend_from_slice(&[LOCAL, 0, 0, 0]);
        return head;
    };
    let (source, destination) = of_one_family(ends);
    let mut addresses = Vec::new();
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => addresses.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => addresses.extend_from_slice(&address.octets()),
        }
    }
    for port in [ends.source.port(), ends.destination.port()] {
        addresses.extend_from_slice(&port.to_be_bytes());
    }
    let family = if source.is_ipv4() { TCP4 } else { TCP6 };
    head.extend_from_slice(&[PROXY, family, 0, addresses.len() as u8]);
    head.extend_from_slice(&addresses);
    head
}

/// A head has room for one family: an address of IPv4 beside one of IPv6 is written as one of IPv6.
fn of_one_family(ends: Ends) -> (IpAddr, IpAddr) {
    let mapped = |address: IpAddr| -> Ipv6Addr {
        match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        }
    };
    let (source, destination) = (ends.source.ip().to_canonical(), ends.destination.ip().to_canonical());
    if source.is_ipv4() == destination.is_ipv4() {
        return (source, destination);
    }
    (mapped(source).into(), mapped(destination).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(source: &str, destination: &str) -> Option<Ends> {
        let [source, destination] = [source, destination].map(|text| text.parse().unwrap());
        Some(Ends { source, destination })
    }

    #[test]
    fn text_says_both_ends_in_one_family() {
        let said = |ends| String::from_utf8(head(ProxyProtocol::V1, ends)).unwrap();
        assert_eq!(
            said(ends("192.0.2.1:1234", "198.51.100.2:80")),
            "PROXY TCP4 192.0.2.1 198.51.100.2 1234 80\r\n"
        );
        assert_eq!(
            said(ends("[2001:db8::1]:1", "[2001:db8::2]:65535")),
            "PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n"
        );
        assert_eq!(
            said(ends("192.0.2.1:1", "[2001:db8::2]:2")),
            "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n"
        );
        assert_eq!(
            said(ends("[::ffff:192.0.2.1]:1", "192.0.2.2:2")),
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
        );
        assert_eq!(said(None), "PROXY UNKNOWN\r\n");
    }

    #[test]
    fn binary_says_the_same() {
        let said = |ends| {
            let head = head(ProxyProtocol::V2, ends);
            head.strip_prefix(b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A")
                .unwrap()
                .to_vec()
        };
        assert_eq!(
            said(ends("192.0.2.1:258", "198.51.100.2:80")),
            [0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 2, 1, 2, 0, 80]
        );
        let six = said(ends("[2001:db8::1]:1", "192.0.2.2:2"));
        assert_eq!(six[..4], [0x21, 0x21, 0, 36]);
        assert_eq!(six.len(), 40);
        assert_eq!(said(None), [0x20, 0, 0, 0]);
    }
}
