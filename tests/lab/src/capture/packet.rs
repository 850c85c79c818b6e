//! From the bytes of an IP packet to its ends and its payload.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// A TCP or UDP packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    /// `None` for UDP.
    pub(super) tcp: Option<Segment>,
    pub(super) payload: &'a [u8],
}

/// What matters of a TCP header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) sequence: u32,
    pub(super) syn: bool,
    /// The first packet of a connection.
    pub(super) opens: bool,
}

/// Reads a packet from its IP header on; `None` for anything but TCP and UDP (ARP, ICMP, neighbour discovery), which
/// carries no payload of applications. Extension headers and fragments do not occur on the lab's links.
pub(super) fn parse(bytes: &[u8]) -> Option<Packet<'_>> {
    let (protocol, source, destination, rest) = match bytes.first()? >> 4 {
        4 => ipv4(bytes)?,
        6 => ipv6(bytes)?,
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes(rest.get(at..at + 2)?.try_into().ok()?));
    let (source, destination) = (
        SocketAddr::new(source, port(0)?),
        SocketAddr::new(destination, port(2)?),
    );
    let (tcp, header) = match protocol {
        TCP => {
            let sequence = u32::from_be_bytes(rest.get(4..8)?.try_into().ok()?);
            let segment = Segment {
                sequence,
                syn: rest.get(13)? & SYN != 0,
                opens: rest.get(13)? & (SYN | ACK) == SYN,
            };
            (Some(segment), usize::from(rest.get(12)? >> 4) * 4)
        }
        UDP => (None, 8),
        _ => return None,
    };
    Some(Packet {
        source,
        destination,
        tcp,
        payload: rest.get(header..)?,
    })
}

fn ipv4(bytes: &[u8]) -> Option<(u8, IpAddr, IpAddr, &[u8])> {
    let header = usize::from(bytes[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?));
    let address = |at: usize| {
        Some(IpAddr::V4(Ipv4Addr::from(
            <[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?,
        )))
    };
    // The total length is 0 in packets above 64 KiB that segmentation offload makes.
    let end = if total == 0 {
        bytes.len()
    } else {
        total.min(bytes.len())
    };
    Some((*bytes.get(9)?, address(12)?, address(16)?, bytes.get(header..end)?))
}

fn ipv6(bytes: &[u8]) -> Option<(u8, IpAddr, IpAddr, &[u8])> {
    let length = usize::from(u16::from_be_bytes(bytes.get(4..6)?.try_into().ok()?));
    let address = |at: usize| {
        Some(IpAddr::V6(Ipv6Addr::from(
            <[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?,
        )))
    };
    let end = if length == 0 {
        bytes.len()
    } else {
        (40 + length).min(bytes.len())
    };
    Some((*bytes.get(6)?, address(8)?, address(24)?, bytes.get(40..end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 packet with 20 bytes of TCP header, then `payload`, then padding that Ethernet would add.
    fn tcp4(payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 40 + payload.len() as u8, 0, 0, 0, 0, 64, 6, 0, 0];
        bytes.extend([198, 18, 1, 10, 198, 18, 2, 10]);
        bytes.extend([
            0x9c, 0x40, 0x3a, 0xa0, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, 0x02, 0, 0, 0, 0, 0, 0,
        ]);
        bytes.extend(payload);
        bytes.extend([0; 6]);
        bytes
    }

    #[test]
    fn reads_tcp_and_leaves_padding() {
        let bytes = tcp4(b"hello");
        let packet = parse(&bytes).unwrap();
        assert_eq!(packet.source, "198.18.1.10:40000".parse().unwrap());
        assert_eq!(packet.destination, "198.18.2.10:15008".parse().unwrap());
        let first = Segment {
            sequence: 7,
            syn: true,
            opens: true,
        };
        assert_eq!(packet.tcp, Some(first));
        assert_eq!(packet.payload, b"hello");
    }

    #[test]
    fn cut_packets_are_passed_over() {
        let bytes = tcp4(b"");
        for length in 0..40 {
            assert_eq!(parse(&bytes[..length]), None, "{length}");
        }
    }
}
