//! A packet capture on a network interface: what would somebody who taps the wire see?
//!
//! Counts the payload of IP packets, in clear or not. Payload counts as encrypted only in a TCP connection with port
//! 15008, or another that the caller names, whose bytes are TLS records one after another; everything else is in clear, also what cannot be understood.

mod packet;
mod records;

use crate::netns::Namespace;
use anyhow::{Context, Result, bail};
use records::Records;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{RecvFlags, recv},
};
use socket2::{Domain, Socket, Type};
use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    os::fd::AsRawFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::SystemTime,
};

/// The port of the tunnel.
const HBONE_PORT: u16 = 15008;

/// What was seen since the capture began, or since [`Capture::take`].
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// IP packets.
    pub packets: u64,
    /// Payload bytes of TCP and UDP that anybody can read.
    pub clear_bytes: u64,
    /// Payload bytes in TLS records of the tunnel.
    pub encrypted_bytes: u64,
    /// Packets that contain one of the marker texts.
    pub marked_packets: u64,
    /// Bytes in clear by (source, destination), with the connecting side's port and address as they are.
    pub clear_flows: BTreeMap<(SocketAddr, SocketAddr), u64>,
    /// TCP connections that were opened outside the tunnel: when, from where, to where. One whose first packet was lost and sent
    /// again is here twice.
    pub opened_in_clear: Vec<(SystemTime, SocketAddr, SocketAddr)>,
    /// Packets that the kernel dropped because this program was too slow: should be 0.
    pub missed: u64,
}

/// A running capture; dropping it ends it.
#[derive(Debug)]
pub struct Capture {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    socket: Socket,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    watcher: Mutex<Watcher>,
}

#[derive(Debug)]
struct Watcher {
    markers: Vec<Vec<u8>>,
    /// Ports on which TLS is expected.
    tls_ports: Vec<u16>,
    seen: Seen,
    /// The tunnel's connections, each direction for itself.
    tunnels: HashMap<(SocketAddr, SocketAddr), Records>,
}

impl Capture {
    /// Captures on `interface` of `namespace`, both directions, and looks for the `markers`, each within one packet.
    pub fn start(namespace: &Namespace, interface: &str, markers: &[&str]) -> Result<Self> {
        Self::start_on(namespace, interface, markers, &[HBONE_PORT])
    }

    /// The same where TLS is expected on these ports.
    pub fn start_on(namespace: &Namespace, interface: &str, markers: &[&str], tls_ports: &[u16]) -> Result<Self> {
        let socket = namespace
            .run(|| open(interface))?
            .with_context(|| format!("capture on {interface}"))?;
        let markers = markers.iter().map(|marker| marker.as_bytes().to_vec()).collect();
        let watcher = Watcher {
            markers,
            tls_ports: tls_ports.to_vec(),
            seen: Seen::default(),
            tunnels: HashMap::new(),
        };
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            watcher: Mutex::new(watcher),
        });
        let reader = socket.try_clone().context("duplicate the capture's socket")?;
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || watch(&reader, &shared)
        });
        Ok(Self {
            shared,
            thread: Some(thread),
            socket,
        })
    }

    /// What was seen so far, including every packet sent before this call; counting goes on.
    pub fn seen(&self) -> Seen {
        let mut watcher = self.settled();
        watcher.seen.missed += u64::from(missed(&self.socket));
        watcher.seen.clone()
    }

    /// What was seen so far; counting begins again at 0.
    pub fn take(&self) -> Seen {
        let mut watcher = self.settled();
        watcher.seen.missed += u64::from(missed(&self.socket));
        std::mem::take(&mut watcher.seen)
    }

    /// The watcher, when it has looked at all packets that the kernel has queued. A packet is queued before the system
    /// call that sends it returns.
    fn settled(&self) -> MutexGuard<'_, Watcher> {
        loop {
            let watcher = self.shared.watcher();
            if rustix::io::ioctl_fionread(&self.socket).unwrap_or_default() == 0 {
                return watcher;
            }
            drop(watcher);
            std::thread::yield_now();
        }
    }
}

impl Shared {
    fn watcher(&self) -> MutexGuard<'_, Watcher> {
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It cannot panic in a way that matters here any more.
            let _ended = thread.join();
        }
    }
}

fn watch(reader: &Socket, shared: &Shared) {
    // With segmentation offload one packet on a veth link has up to 64 KiB, and IPv6 jumbograms are not sent here.
    let mut buffer = vec![0; 1 << 17];
    while !shared.stop.load(Ordering::Relaxed) {
        let mut readable = [PollFd::new(reader, PollFlags::IN)];
        let pause = Timespec {
            tv_sec: 0,
            tv_nsec: 50_000_000,
        };
        // The socket is read under the lock, so that an empty queue means that every packet has been counted. Errors
        // (interrupted, interface gone) come again at the read, and there is nothing to count.
        if poll(&mut readable, Some(&pause)).is_ok_and(|ready| ready > 0) {
            let mut watcher = shared.watcher();
            if let Ok((_, size)) = recv(reader, &mut buffer[..], RecvFlags::DONTWAIT) {
                watcher.packet(&buffer[..size]);
            }
        }
    }
}

impl Watcher {
    fn packet(&mut self, bytes: &[u8]) {
        let Some(packet) = packet::parse(bytes) else { return };
        self.seen.packets += 1;
        if self.markers.iter().any(|marker| contains(packet.payload, marker)) {
            self.seen.marked_packets += 1;
        }
        let flow = (packet.source, packet.destination);
        let length = packet.payload.len() as u64;
        let tunnel = [packet.source, packet.destination]
            .iter()
            .any(|end| self.tls_ports.contains(&end.port()));
        if !tunnel && packet.tcp.as_ref().is_some_and(|segment| segment.opens) {
            let opened = (SystemTime::now(), packet.source, packet.destination);
            self.seen.opened_in_clear.push(opened);
        }
        let clear = match packet.tcp {
            Some(segment) if tunnel => {
                if segment.syn {
                    self.tunnels
                        .insert(flow, Records::new(segment.sequence.wrapping_add(1)));
                }
                let records = self
                    .tunnels
                    .entry(flow)
                    .or_insert_with(|| Records::new(segment.sequence));
                length - records.encrypted(segment.sequence, packet.payload)
            }
            _ => length,
        };
        self.seen.clear_bytes += clear;
        self.seen.encrypted_bytes += length - clear;
        if clear > 0 {
            *self.seen.clear_flows.entry(flow).or_default() += clear;
        }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && text.windows(part.len()).any(|window| window == part)
}

/// A packet socket for all packets of the interface, from the IP header on.
fn open(interface: &str) -> Result<Socket> {
    let index = rustix::net::netdevice::name_to_index(
        socket2::Socket::new(Domain::IPV4, Type::DGRAM, None).context("socket")?,
        interface,
    )
    .with_context(|| format!("no interface {interface}"))?;
    let all = u16::try_from(libc::ETH_P_ALL)?.to_be();
    // Without a protocol at first: with one, it would receive from all interfaces until it is bound.
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, None).context("packet socket")?;
    force_receive_buffer(&socket, 64 << 20)?;
    // SAFETY: the closure fills a sockaddr_ll within the storage, and says its length.
    let ((), address) = unsafe {
        socket2::SockAddr::try_init(|storage, length| {
            let address = storage.cast::<libc::sockaddr_ll>();
            (*address).sll_family = u16::try_from(libc::AF_PACKET).unwrap_or_default();
            (*address).sll_protocol = all;
            (*address).sll_ifindex = i32::try_from(index).unwrap_or_default();
            *length = u32::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or_default();
            Ok(())
        })
    }?;
    socket.bind(&address).context("bind packet socket")?;
    Ok(socket)
}

fn force_receive_buffer(socket: &Socket, bytes: i32) -> Result<()> {
    // SAFETY: the option takes one int, which lives across the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            std::ptr::from_ref(&bytes).cast(),
            u32::try_from(size_of::<i32>())?,
        )
    };
    if done != 0 {
        bail!("size of the capture's buffer: {}", std::io::Error::last_os_error());
    }
    Ok(())
}

/// How many packets the kernel dropped at the socket since the last call.
fn missed(socket: &Socket) -> u32 {
    // struct tpacket_stats: packets, drops. Reading it resets it.
    let mut stats = [0_u32; 2];
    let mut length = size_of_val(&stats) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `stats`.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            stats.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if done == 0 { stats[1] } else { 0 }
}
