//! Answering an application's SYN in the kernel's place: the sockets and packets that it takes.
//!
//! A connection that is *held* (`culvert_abi::Noted::HELD`) is one whose `connect` is to end only when its far side is
//! known. Its SYN goes to a [`silent_listener`], so the kernel answers nothing; the application's kernel repeats it in its
//! own time (after 1 s, 2 s, ..). A [`SynTap`] shows the SYN to the proxy, which claims the connection ([`claim`]) and later
//! connects to the application's socket ([`bind_to_meet`]) or refuses it ([`SynTap::refuse`]).
//!
//! The tap is a raw socket, which takes `CAP_NET_RAW` to make and nothing to use. It is made so that whoever holds it can do
//! less with it: its filter, which cannot be changed, lets nothing through but SYNs to capture ports, and it is shut for
//! writing, which leaves `sendto` of TCP segments from the pod's own addresses, and takes packets with an IP header of the
//! holder's making (`IP_HDRINCL`). Binding it to the loopback interface would take the rest, too, but the kernel counts a
//! connection to an address of the pod's as one of the interface that has the address.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use culvert_abi::{Address, CAPTURE_PORT, CAPTURE_PORTS, CULVERT_CLAIM, Claim, Flow, HOLD_PORT, SOL_CULVERT};
use rustix::{io::Errno, net::RecvFlags};
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

use crate::sockopt;

/// SYNs that may wait for the proxy, in bytes of kernel memory: about 1,000. One that finds no room is repeated by the
/// application's kernel.
const TAP_BUFFER: libc::c_int = 1 << 20;

/// As long as an IPv4 and a TCP header can be, with all options.
const HEADERS: usize = 120;
/// Without options.
const TCP_HEADER: usize = 20;

const RST_ACK: u8 = 0x14;

/// A listening socket at port 15004 of all addresses of the calling thread's network namespace which takes no connection: its
/// filter drops each packet, so that a SYN gets no answer, not even a refusal.
///
/// # Errors
/// `EADDRINUSE`: an application has the port.
pub fn silent_listener() -> io::Result<OwnedFd> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let (socket, address) = match Socket::new(Domain::IPV6, kind, Some(Protocol::TCP)) {
        Ok(socket) => {
            socket.set_only_v6(false)?;
            (socket, IpAddr::V6(Ipv6Addr::UNSPECIFIED))
        }
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => (
            Socket::new(Domain::IPV4, kind, Some(Protocol::TCP))?,
            IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        ),
        Err(error) => return Err(error),
    };
    // A restarted agent opens another beside the one that a proxy still holds.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.attach_filter(&[ret(0)])?;
    lock_filter(&socket)?;
    socket.bind(&SocketAddr::new(address, HOLD_PORT).into())?;
    socket.listen(1)?;
    Ok(socket.into())
}

/// The first packet of a held connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syn {
    /// The application's socket.
    pub source: SocketAddr,
    /// Where it was turned to: one of the pod's addresses, and a capture port.
    pub destination: SocketAddr,
    /// Its sequence number.
    pub sequence: u32,
}

/// Sees the SYNs of captured connections to one address of a pod, as often as they are sent.
#[derive(Debug)]
pub struct SynTap {
    fd: OwnedFd,
    address: IpAddr,
}

impl SynTap {
    /// Opens one in the calling thread's network namespace, for captured connections from this address of it to itself.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_RAW`; `EADDRNOTAVAIL` when the namespace lacks the address.
    pub fn open(address: IpAddr) -> io::Result<Self> {
        let address = address.to_canonical();
        let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(Protocol::TCP))?;
        socket.attach_filter(&syns_to_capture_ports(address.is_ipv4()))?;
        lock_filter(&socket)?;
        let own = SocketAddr::new(address, 0).into();
        socket.bind(&own)?;
        socket.connect(&own)?;
        socket.shutdown(Shutdown::Write)?;
        // Beyond the machine's limit where that is allowed.
        if set(&socket, libc::SO_RCVBUFFORCE, TAP_BUFFER).is_err() {
            set(&socket, libc::SO_RCVBUF, TAP_BUFFER)?;
        }
        Ok(Self {
            fd: socket.into(),
            address,
        })
    }

    /// One that somebody else opened.
    ///
    /// # Errors
    /// It is no socket of that kind.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let socket = SockRef::from(&fd);
        let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
        if socket.r#type()? != Type::RAW {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let address = address.ip();
        Ok(Self { fd, address })
    }

    /// The next SYN that waits, if any does. A packet that is none is passed over.
    ///
    /// # Errors
    /// Those of `recv`.
    pub fn next(&self) -> io::Result<Option<Syn>> {
        let mut packet = [0; HEADERS];
        loop {
            let (length, _, from) = match rustix::net::recvfrom(&self.fd, &mut packet, RecvFlags::DONTWAIT) {
                Ok(received) => received,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let from = from.and_then(|from| SocketAddr::try_from(from).ok());
            let packet = packet.get(..length).unwrap_or(&packet);
            if let Some(syn) = from.and_then(|from| parse(packet, from.ip().to_canonical(), self.address)) {
                return Ok(Some(syn));
            }
        }
    }

    /// Refuses a connection, as a host does on which nobody listens: the application's `connect` fails with `ECONNREFUSED`.
    /// One that is there no longer takes no notice.
    ///
    /// # Errors
    /// Those of `sendto`.
    pub fn refuse(&self, syn: &Syn) -> io::Result<()> {
        let segment = reset(syn);
        rustix::net::sendto(
            &self.fd,
            &segment,
            rustix::net::SendFlags::DONTWAIT,
            &SocketAddr::new(syn.source.ip(), 0),
        )?;
        Ok(())
    }
}

impl AsFd for SynTap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<SynTap> for OwnedFd {
    fn from(tap: SynTap) -> Self {
        tap.fd
    }
}

/// Takes a held connection, so that no other loop or process answers it, and returns where the application wanted to go.
/// `socket` is any TCP socket of this process, `cookie` that of the network namespace of the connection, `claimant` a number
/// of this process's own, 1 to 2^24 - 1.
///
/// # Errors
/// `ENOENT`: it is not held, or there is no such connection any more. `EALREADY`: it is ours already. Before Linux 5.18,
/// `EPERM` for both. `ENOPROTOOPT`: the kernel programs do not know this process as a proxy.
pub fn claim(socket: BorrowedFd<'_>, cookie: u64, syn: &Syn, claimant: u32) -> io::Result<SocketAddr> {
    set_claim(socket, cookie, syn, claimant)?;
    sockopt::original_dst(socket, syn.source.is_ipv4())
}

/// Gives a claimed connection back: when the application's SYN comes again, it can be claimed again.
///
/// # Errors
/// `ENOENT`: there is no such connection any more.
pub fn release(socket: BorrowedFd<'_>, cookie: u64, syn: &Syn) -> io::Result<()> {
    set_claim(socket, cookie, syn, 0)
}

/// Ends that a connection is held: when the application's SYN comes again, it is accepted before its far side is there.
///
/// # Errors
/// `ENOENT`: there is no such connection any more.
pub fn accept_first(socket: BorrowedFd<'_>, cookie: u64, syn: &Syn) -> io::Result<()> {
    set_claim(socket, cookie, syn, Claim::ACCEPT_FIRST)
}

fn set_claim(socket: BorrowedFd<'_>, cookie: u64, syn: &Syn, claimant: u32) -> io::Result<()> {
    let claim = Claim {
        flow: Flow {
            cookie,
            local: Address::from(syn.source.ip()),
            remote: Address::from(syn.destination.ip()),
            local_port: syn.source.port(),
            remote_port: syn.destination.port(),
            reserved: 0,
        },
        claimant,
        reserved: 0,
    };
    sockopt::set(socket, SOL_CULVERT, CULVERT_CLAIM, &claim)
}

/// Binds an unconnected socket of [`crate::sockopt::tcp_stream_socket`] in the pod to where the application's SYN went. Connecting
/// it to the SYN's source then completes the application's `connect`: both sides have sent a SYN (RFC 9293 section 3.5).
///
/// # Errors
/// `EADDRINUSE`: an application listens on that capture port, without `SO_REUSEADDR`.
pub fn bind_to_meet(socket: BorrowedFd<'_>, syn: &Syn) -> io::Result<()> {
    crate::sockopt::bind(&SockRef::from(&socket), syn.destination)
}

/// What a raw socket gives: with the IP header for IPv4, without for IPv6.
fn parse(packet: &[u8], from: IpAddr, to: IpAddr) -> Option<Syn> {
    let segment = match from {
        IpAddr::V4(_) => packet.get(usize::from(packet.first()? & 0xf) * 4..)?,
        IpAddr::V6(_) => packet,
    };
    let port = |at: usize| Some(u16::from_be_bytes(segment.get(at..at + 2)?.try_into().ok()?));
    Some(Syn {
        source: SocketAddr::new(from, port(0)?),
        destination: SocketAddr::new(to, port(2)?),
        sequence: u32::from_be_bytes(segment.get(4..8)?.try_into().ok()?),
    })
}

/// The answer of a host on which nobody listens (RFC 9293 section 3.10.7.1).
fn reset(syn: &Syn) -> [u8; TCP_HEADER] {
    let mut segment = [0; TCP_HEADER];
    segment[0..2].copy_from_slice(&syn.destination.port().to_be_bytes());
    segment[2..4].copy_from_slice(&syn.source.port().to_be_bytes());
    segment[8..12].copy_from_slice(&syn.sequence.wrapping_add(1).to_be_bytes());
    segment[12] = (TCP_HEADER as u8 / 4) << 4;
    segment[13] = RST_ACK;
    let sum = checksum(syn.destination.ip(), syn.source.ip(), &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    segment
}

/// RFC 9293 section 3.1, with the pseudo header of IPv4 or IPv6.
fn checksum(from: IpAddr, to: IpAddr, segment: &[u8]) -> u16 {
    let mut sum = u32::from(libc::IPPROTO_TCP as u8) + segment.len() as u32;
    let mut add = |bytes: &[u8]| {
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    };
    for address in [from, to] {
        match address {
            IpAddr::V4(address) => add(&address.octets()),
            IpAddr::V6(address) => add(&address.octets()),
        }
    }
    add(segment);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// SYNs without ACK, to a capture port.
fn syns_to_capture_ports(v4: bool) -> Vec<SockFilter> {
    const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_IND) as u16;
    const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_IND) as u16;
    const HEADER_LENGTH: u16 = (libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH) as u16;
    const SET_INDEX: u16 = (libc::BPF_LDX | libc::BPF_W | libc::BPF_IMM) as u16;
    const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
    const IS_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const IS_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    /// FIN, SYN, RST and ACK.
    const FLAGS: u32 = 0x17;
    const SYN: u32 = 0x02;
    let first = u32::from(CAPTURE_PORT);
    vec![
        // Where the TCP header begins.
        if v4 {
            SockFilter::new(HEADER_LENGTH, 0, 0, 0)
        } else {
            SockFilter::new(SET_INDEX, 0, 0, 0)
        },
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(AND, 0, 0, FLAGS),
        SockFilter::new(IS_EQUAL, 0, 4, SYN),
        SockFilter::new(LOAD_HALF, 0, 0, 2),
        SockFilter::new(IS_AT_LEAST, 0, 2, first),
        SockFilter::new(IS_AT_LEAST, 1, 0, first + u32::from(CAPTURE_PORTS)),
        ret(u32::MAX),
        ret(0),
    ]
}

/// Lets so many bytes of a packet through.
fn ret(bytes: u32) -> SockFilter {
    SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, bytes)
}

fn lock_filter(socket: &Socket) -> io::Result<()> {
    set(socket, libc::SO_LOCK_FILTER, 1)
}

fn set(socket: &Socket, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    sockopt::set(socket.as_fd(), libc::SOL_SOCKET, option, &value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYN: Syn = Syn {
        source: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 7, 1)), 40000),
        destination: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 7, 1)), 15400),
        sequence: u32::MAX,
    };

    #[test]
    fn a_refusal_acknowledges_the_syn_and_its_checksum_holds() {
        let segment = reset(&SYN);
        assert_eq!(segment[8..12], [0; 4], "the sequence number after the last is 0");
        // Over a segment with its checksum, the sum is 0.
        assert_eq!(checksum(SYN.destination.ip(), SYN.source.ip(), &segment), 0);
    }

    #[test]
    fn a_syn_is_read_behind_whatever_ip_options_there_are() {
        let mut packet = vec![0x46; 24];
        packet.extend(40000_u16.to_be_bytes());
        packet.extend(15400_u16.to_be_bytes());
        packet.extend(u32::MAX.to_be_bytes());
        let ip = SYN.source.ip();
        assert_eq!(parse(&packet, ip, ip), Some(SYN));
        for length in 0..packet.len() {
            assert_eq!(parse(&packet[..length], ip, ip), None, "{length} bytes");
        }
    }
}
