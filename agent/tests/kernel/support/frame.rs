//! Frames that no ordinary program sends, put on a link as they are.

use super::{
    pod::{PEER4, PEER6, POD4, POD6},
    space::Space,
};
use socket2::{Domain, SockAddr, Socket, Type};
use std::{io, mem::size_of, net::IpAddr};

pub(crate) const SYN: u8 = 2;
pub(crate) const ACK: u8 = 16;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const HOP_BY_HOP: u8 = 0;
const FRAGMENT: u8 = 44;
pub(crate) const DESTINATION: u8 = 60;

const MORE: u16 = 0x2000;

/// From the pod's peer to the pod, port 80.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    ethertype: u16,
    tag: Option<u16>,
    packet: Vec<u8>,
    padding: Vec<u8>,
}

/// The start of a TCP segment, as long as it may be cut off.
pub(crate) fn segment(flags: u8) -> Vec<u8> {
    let mut segment = vec![0; 20];
    segment[..4].copy_from_slice(&[0x12, 0x34, 0, 80]);
    segment[12] = 5 << 4;
    segment[13] = flags;
    segment
}

impl Frame {
    /// IPv4, with so many words of options, at this place of a fragmented datagram.
    pub(crate) fn v4(protocol: u8, options: u8, offset: u16, is_last: bool, payload: &[u8]) -> Self {
        let words = 5 + options;
        let header = usize::from(words) * 4;
        let mut packet = vec![0; header];
        packet[0] = 4 << 4 | words;
        packet[2..4].copy_from_slice(&((header + payload.len()) as u16).to_be_bytes());
        let fragment = offset | if is_last { 0 } else { MORE };
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet[8] = 64;
        packet[9] = protocol;
        packet[12..16].copy_from_slice(&octets(PEER4));
        packet[16..20].copy_from_slice(&octets(POD4));
        packet.extend(payload);
        Self::of(0x0800, packet)
    }

    /// IPv6, with a chain of extension headers before the payload.
    pub(crate) fn v6(extensions: &[(u8, Vec<u8>)], protocol: u8, payload: &[u8]) -> Self {
        let kinds = extensions.iter().map(|(kind, _)| *kind).chain([protocol]);
        let mut nexts = kinds.clone().skip(1);
        let mut body = Vec::new();
        for (_, extension) in extensions {
            let start = body.len();
            body.extend(extension);
            body[start] = nexts.next().expect("one more than extensions");
        }
        body.extend(payload);
        let mut packet = vec![6 << 4, 0, 0, 0];
        packet.extend((body.len() as u16).to_be_bytes());
        packet.extend([kinds.clone().next().expect("at least the protocol"), 64]);
        packet.extend(octets(PEER6));
        packet.extend(octets(POD6));
        packet.extend(body);
        Self::of(0x86dd, packet)
    }

    /// Neither.
    pub(crate) fn of(ethertype: u16, packet: Vec<u8>) -> Self {
        Self {
            ethertype,
            tag: None,
            packet,
            padding: Vec::new(),
        }
    }

    /// With a VLAN tag.
    pub(crate) fn tagged(self, vlan: u16) -> Self {
        Self {
            tag: Some(vlan),
            ..self
        }
    }

    /// With bytes behind the packet's end.
    pub(crate) fn padded(self, padding: &[u8]) -> Self {
        Self {
            padding: padding.to_vec(),
            ..self
        }
    }

    /// Sends it on `eth0`.
    pub(crate) fn send(&self, from: &Space) {
        let tag = self
            .tag
            .map(|vlan| [0x8100_u16.to_be_bytes(), vlan.to_be_bytes()].concat());
        let frame = [
            &[0xff; 6][..],
            &[2, 0, 0, 0, 0, 1],
            &tag.unwrap_or_default(),
            &self.ethertype.to_be_bytes(),
            &self.packet,
            &self.padding,
        ]
        .concat();
        let sent = from.run(move || {
            // The protocol is that of the frame.
            let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
            socket.send_to(&frame, &eth0()?)
        });
        // A frame that is dropped on its way out is told so.
        if let Err(error) = sent {
            assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS), "{error}");
        }
    }
}

/// An extension header that says nothing, so many times 8 bytes long.
pub(crate) fn extension(kind: u8, words: u8) -> (u8, Vec<u8>) {
    let mut header = vec![0; usize::from(words) * 8];
    header[1] = words - 1;
    (kind, header)
}

/// The header of a fragment.
pub(crate) fn fragment(offset: u16, is_last: bool) -> (u8, Vec<u8>) {
    let [high, low] = (offset << 3 | u16::from(!is_last)).to_be_bytes();
    (FRAGMENT, vec![0, 0, high, low, 0, 0, 0, 7])
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn eth0() -> io::Result<SockAddr> {
    // SAFETY: a terminated string.
    let index = unsafe { libc::if_nametoindex(c"eth0".as_ptr()) };
    // SAFETY: a `sockaddr_ll` is written, which is shorter than the storage, and its length is said.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let link = storage.cast::<libc::sockaddr_ll>();
            (*link).sll_family = libc::AF_PACKET as u16;
            (*link).sll_ifindex = index as i32;
            (*link).sll_halen = 6;
            *length = size_of::<libc::sockaddr_ll>() as u32;
            Ok(())
        })?
    };
    Ok(address)
}
