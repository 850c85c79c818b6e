//! DNS in tests: a resolver that says what it was asked and answers what it is told to, and messages written by hand, so that odd
//! ones can be had.

use crate::{patience::PATIENCE, programs};
use culvert_lab::{Pod, Process, wait_until};
use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Type A.
pub const A: u16 = 1;
/// Type AAAA.
pub const AAAA: u16 = 28;

const HEADER: usize = 12;

/// Starts dnsmasq in a pod, with nothing of this machine's settings and these arguments, and waits until it answers a query for `name`
/// with any outcome.
pub fn dnsmasq(pod: &Pod, arguments: &[String], name: &str) -> Process {
    let mut command = programs::command("/usr/sbin/dnsmasq", "dnsmasq-base");
    command
        .args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--user=root"])
        .args(["--conf-file=/dev/null", "--pid-file=", "--log-facility=-"])
        .args(arguments);
    let process = pod.spawn("dnsmasq", &mut command).unwrap();
    let asked = query(1, name, A);
    let waited = wait_until("dnsmasq answers", PATIENCE, || {
        ask(pod, SocketAddr::from((pod.ip4(), 53)), &asked, Duration::from_secs(1)).is_ok()
    });
    waited.unwrap_or_else(|error| panic!("{error:#}: {}", process.log_tail(20)));
    process
}

/// A query as a stub resolver sends it, for a name with dots between its labels.
pub fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}

/// The code of an answer's outcome: 0 for none, 2 for SERVFAIL, 3 for NXDOMAIN.
pub fn code(answer: &[u8]) -> u8 {
    answer[3] & 0xf
}

/// All addresses in an answer, which must have a question and no compression but pointers.
pub fn addresses(answer: &[u8]) -> Vec<IpAddr> {
    let number = |at: usize| usize::from(u16::from_be_bytes([answer[at], answer[at + 1]]));
    let skip_name = |mut at: usize| loop {
        match answer[at] {
            0 => return at + 1,
            length if length >= 0xc0 => return at + 2,
            length => at += 1 + usize::from(length),
        }
    };
    let mut at = skip_name(HEADER) + 4;
    let mut found = Vec::new();
    for _ in 0..number(6) {
        at = skip_name(at);
        let (kind, length) = (number(at), number(at + 8));
        let data = &answer[at + 10..at + 10 + length];
        match (kind as u16, length) {
            (A, 4) => found.push(IpAddr::from(<[u8; 4]>::try_from(data).unwrap())),
            (AAAA, 16) => found.push(IpAddr::from(<[u8; 16]>::try_from(data).unwrap())),
            _ => {}
        }
        at += 10 + length;
    }
    found
}

/// The same message under another identifier.
#[must_use]
pub fn with_id(message: &[u8], id: u16) -> Vec<u8> {
    [&id.to_be_bytes(), &message[2..]].concat()
}

/// A UDP socket as if a program in the pod had made it.
pub fn socket(pod: &Pod, v6: bool) -> UdpSocket {
    let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    let socket: OwnedFd = pod.socket(family, libc::SOCK_DGRAM, libc::IPPROTO_UDP).unwrap();
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Asks as glibc does, from a connected socket, and again from another one when there is no answer for a while.
pub fn ask(pod: &Pod, resolver: SocketAddr, message: &[u8], wait: Duration) -> io::Result<Vec<u8>> {
    /// Before a stub resolver asks again.
    const AGAIN: Duration = Duration::from_secs(2);
    let begun = Instant::now();
    loop {
        let socket = socket(pod, resolver.is_ipv6());
        socket.set_read_timeout(Some(wait.min(AGAIN))).unwrap();
        socket.connect(resolver)?;
        socket.send(message)?;
        match receive(&socket) {
            Ok((answer, _)) => return Ok(answer),
            Err(error) if begun.elapsed() >= wait => return Err(error),
            Err(_) => {}
        }
    }
}

/// A datagram, and where it came from.
pub fn receive(socket: &UdpSocket) -> io::Result<(Vec<u8>, SocketAddr)> {
    let mut message = vec![0; 65535];
    let (length, from) = socket.recv_from(&mut message)?;
    message.truncate(length);
    Ok((message, from))
}

/// What answers a query; nothing for no answer.
pub type Answer = fn(&[u8]) -> Option<Vec<u8>>;

/// Answers NXDOMAIN.
pub fn no_such_name(query: &[u8]) -> Option<Vec<u8>> {
    let mut answer = query.to_vec();
    answer[2] |= 0x80;
    answer[3] = 0x83;
    Some(answer)
}

/// A query, and who sent it.
pub type Asked = (Vec<u8>, SocketAddr);

/// A resolver in a pod, on port 53 of all its addresses.
pub struct Resolver {
    asked: Arc<Mutex<Vec<Asked>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Resolver {
    /// Starts it.
    pub fn start(pod: &Pod, answer: Answer) -> Self {
        let socket = socket(pod, true);
        socket2::SockRef::from(&socket).set_only_v6(false).unwrap();
        let any = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 53));
        socket2::SockRef::from(&socket).bind(&any.into()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (asked, ended) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::new(AtomicBool::new(false)));
        let (log, end) = (Arc::clone(&asked), Arc::clone(&ended));
        let thread = thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let Ok((query, from)) = receive(&socket) else { continue };
                let plain = SocketAddr::new(from.ip().to_canonical(), from.port());
                let reply = answer(&query);
                log.lock().unwrap_or_else(PoisonError::into_inner).push((query, plain));
                if let Some(reply) = reply {
                    let _ = socket.send_to(&reply, from);
                }
            }
        });
        Self {
            asked,
            ended,
            thread: Some(thread),
        }
    }

    /// What it was asked since the last call, and by whom.
    pub fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
