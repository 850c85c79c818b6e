//! The proxy's listening sockets inside a pod.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use culvert_abi::{DNS_PORT, DNS_SLOTS, HOLD_PORT, INBOUND_HBONE_PORT, INBOUND_PLAINTEXT_PORT, OUTBOUND_PORT};
use culvert_net::{
    NetError, Netns, dns,
    hold::{self, SynTap},
};
use culvert_proto::zds::SocketRole;
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    ports,
    recover::{self, Found},
};
use crate::kernel::PodListeners;

/// Connections that may wait while the proxy is busy or is being replaced; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Why a pod has no listeners.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The namespace cannot be entered.
    #[error(transparent)]
    Namespace(#[from] NetError),
    /// The namespace lacks the address, or somebody has the port.
    #[error("cannot listen on {address} inside the pod: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// `EADDRNOTAVAIL`: the pod has no such address, or not yet. `EADDRINUSE`: a proxy that opens its own listeners.
        source: io::Error,
    },
}

/// Listening sockets for one pod: outbound on each of its addresses, inbound on all.
///
/// They may be bound beside earlier ones that a proxy still holds (`SO_REUSEPORT`); connections that wait in those are
/// not lost, since the proxy accepts from both.
#[derive(Debug)]
pub struct Listeners {
    outbound: Vec<OwnedFd>,
    plaintext: OwnedFd,
    hbone: OwnedFd,
    hold: Option<HoldSockets>,
    dns: Option<[OwnedFd; dns::SLOTS]>,
}

/// Sockets that some pods have, and some proxies take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extras {
    /// Those for connections that are held.
    pub hold: bool,
    /// Those for DNS queries.
    pub dns: bool,
}

impl Extras {
    /// Neither.
    pub const NONE: Self = Self {
        hold: false,
        dns: false,
    };
    /// As many as there are.
    pub const ALL: Self = Self { hold: true, dns: true };
}

/// Why some of [`Extras`] could not be had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Problems {
    /// Connections are accepted first.
    pub(crate) hold: Option<String>,
    /// DNS queries are left alone.
    pub(crate) dns: Option<String>,
}

/// What it takes to hold connections.
#[derive(Debug)]
struct HoldSockets {
    silent: OwnedFd,
    /// One for the first address of each family, where captured connections go.
    taps: Vec<OwnedFd>,
}

impl HoldSockets {
    fn open(addresses: &[IpAddr]) -> io::Result<Self> {
        let taps = captured_at(addresses).map(|address| SynTap::open(address).map(OwnedFd::from));
        Ok(Self {
            taps: taps.collect::<Result<_, _>>()?,
            silent: hold::silent_listener()?,
        })
    }
}

/// The addresses of a pod to which its captured connections are turned.
fn captured_at(addresses: &[IpAddr]) -> impl Iterator<Item = IpAddr> {
    let first = |v4: bool| addresses.iter().copied().find(move |address| address.is_ipv4() == v4);
    [first(true), first(false)].into_iter().flatten()
}

impl Listeners {
    /// Opens them inside the pod, with these extras. Where some of those cannot be had, the second value says why.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub(crate) fn open(netns: &Netns, addresses: &[IpAddr], extras: Extras) -> Result<(Self, Problems), ListenError> {
        netns.run(|| {
            ports::prepare();
            let outbound = addresses
                .iter()
                .map(|address| listen(SocketAddr::new(*address, OUTBOUND_PORT)));
            let mut problems = Problems::default();
            let hold = extras.hold.then(|| HoldSockets::open(addresses)).transpose();
            let hold = hold.unwrap_or_else(|error| {
                problems.hold = Some(no_hold(&error));
                None
            });
            let dns = extras.dns.then(dns::listeners).transpose().unwrap_or_else(|error| {
                problems.dns = Some(no_dns(&error));
                None
            });
            let listeners = Self {
                outbound: outbound.collect::<Result<_, _>>()?,
                plaintext: listen_on_all(INBOUND_PLAINTEXT_PORT)?,
                hbone: listen_on_all(INBOUND_HBONE_PORT)?,
                hold,
                dns,
            };
            Ok((listeners, problems))
        })?
    }

    /// Puts together those that a proxy holds for the pod with this cookie; none when one is missing, also of these extras.
    pub(crate) fn recovered(addresses: &[IpAddr], cookie: u64, extras: Extras, found: &mut Vec<Found>) -> Option<Self> {
        let mut take = |port: u16, address: Option<&IpAddr>| {
            let position = found.iter().rposition(|socket| {
                socket.cookie == cookie
                    && socket.local.port() == port
                    && address.map_or(socket.local.ip().is_unspecified(), |address| {
                        socket.local.ip() == *address
                    })
            })?;
            Some(found.swap_remove(position).socket)
        };
        let outbound = addresses.iter().map(|address| take(OUTBOUND_PORT, Some(address)));
        let outbound = outbound.collect::<Option<_>>()?;
        let (plaintext, hbone) = (take(INBOUND_PLAINTEXT_PORT, None)?, take(INBOUND_HBONE_PORT, None)?);
        let hold = if extras.hold {
            let taps = captured_at(addresses).map(|address| take(recover::TAP, Some(&address)));
            let taps = taps.collect::<Option<_>>()?;
            let silent = take(HOLD_PORT, None)?;
            Some(HoldSockets { silent, taps })
        } else {
            None
        };
        let dns = if extras.dns {
            let [first, second, third] = [0, 1, 2].map(|slot| take(DNS_PORT + slot, None));
            Some([first?, second?, third?])
        } else {
            None
        };
        Some(Self {
            outbound,
            plaintext,
            hbone,
            hold,
            dns,
        })
    }

    /// What each of [`Listeners::descriptors`] is.
    pub fn roles(&self, extras: Extras) -> Vec<SocketRole> {
        let mut roles = vec![SocketRole::Outbound; self.outbound.len()];
        roles.extend([SocketRole::InboundPlaintext, SocketRole::InboundHbone]);
        if let Some(hold) = self.hold.as_ref().filter(|_| extras.hold) {
            roles.extend(hold.taps.iter().map(|_| SocketRole::SynTap));
            roles.push(SocketRole::Silent);
        }
        if let Some(dns) = self.dns.as_ref().filter(|_| extras.dns) {
            roles.extend(dns.iter().map(|_| SocketRole::Dns));
        }
        roles
    }

    /// Those of every pod, and these extras.
    pub fn descriptors(&self, extras: Extras) -> Vec<BorrowedFd<'_>> {
        let hold = self.hold.as_ref().filter(|_| extras.hold);
        let dns = self.dns.as_ref().filter(|_| extras.dns);
        self.outbound
            .iter()
            .chain([&self.plaintext, &self.hbone])
            .chain(hold.into_iter().flat_map(|hold| hold.taps.iter().chain([&hold.silent])))
            .chain(dns.into_iter().flatten())
            .map(AsFd::as_fd)
            .collect()
    }

    /// Lends them in the shape that the kernel side wants.
    pub(crate) fn with<T>(&self, use_them: impl FnOnce(PodListeners<'_>) -> T) -> T {
        let outbound: Vec<BorrowedFd<'_>> = self.outbound.iter().map(AsFd::as_fd).collect();
        use_them(PodListeners {
            outbound: &outbound,
            inbound_plaintext: self.plaintext.as_fd(),
            inbound_hbone: self.hbone.as_fd(),
            hold: self.hold.as_ref().map(|hold| hold.silent.as_fd()),
            dns: self.dns.as_ref().map(|sockets| sockets.each_ref().map(AsFd::as_fd)),
        })
    }

    /// Whether all of these are among the sockets found.
    pub(crate) fn are_among(&self, found: &[Found]) -> bool {
        self.descriptors(Extras::ALL).into_iter().all(|ours| {
            rustix::net::sockopt::socket_cookie(ours).is_ok_and(|ours| found.iter().any(|socket| socket.id == ours))
        })
    }
}

/// Why connections are accepted first although the pod wants them held.
fn no_hold(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => format!("an application has port {HOLD_PORT}"),
        Some(libc::EPERM) => "the agent lacks CAP_NET_RAW".to_owned(),
        _ => error.to_string(),
    }
}

/// Why DNS queries are left alone although the pod wants them captured.
fn no_dns(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => {
            let last = DNS_PORT + DNS_SLOTS - 1;
            format!("an application has one of the UDP ports {DNS_PORT} to {last}")
        }
        _ => error.to_string(),
    }
}

fn listen_on_all(port: u16) -> Result<OwnedFd, ListenError> {
    match listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))) {
        Err(ListenError::Listen { source, .. }) if source.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
        }
        outcome => outcome,
    }
}

fn listen(address: SocketAddr) -> Result<OwnedFd, ListenError> {
    let open = |is_tentative| -> io::Result<OwnedFd> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM.nonblocking(),
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(!address.ip().is_unspecified())?;
            socket.set_freebind_v6(is_tentative)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    let outcome = match (open(false), address.ip()) {
        (Err(error), IpAddr::V6(ip)) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) && is_tentative(ip) => {
            open(true)
        }
        (outcome, _) => outcome,
    };
    outcome.map_err(|source| ListenError::Listen { address, source })
}

/// Whether the calling thread's network namespace has this address, and still asks whether somebody else on the link has it (RFC 4862,
/// section 5.4), a second or so in which the kernel lets nobody bind to it. An address that is not there at all is an error:
/// the network namespace may be another pod's.
fn is_tentative(ip: Ipv6Addr) -> bool {
    let wanted = format!("{:032x}", ip.to_bits());
    // Address, interface, length of its prefix, scope, flags and name, all in hexadecimal.
    let is_it = |line: &str| {
        let mut columns = line.split_ascii_whitespace();
        let is_wanted = columns.next() == Some(&wanted);
        let flags = columns.nth(3).and_then(|flags| u32::from_str_radix(flags, 16).ok());
        let failed = libc::IFA_F_DADFAILED;
        is_wanted && flags.is_some_and(|flags| flags & (libc::IFA_F_TENTATIVE | failed) == libc::IFA_F_TENTATIVE)
    };
    std::fs::read_to_string("/proc/thread-self/net/if_inet6").is_ok_and(|table| table.lines().any(is_it))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(words: &str) {
        let status = std::process::Command::new("ip").args(words.split(' ')).status();
        assert!(status.expect("iproute2").success(), "ip {words}");
    }

    /// A pod whose address came a moment ago was retried for a second or longer, and its connections waited meanwhile.
    #[test]
    fn an_address_whose_uniqueness_is_still_being_checked_is_listened_on_and_an_absent_one_is_not() {
        let inside = || {
            // SAFETY: only this thread's network namespace changes.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("needs root");
            ip("link add eth0 type veth peer name peer");
            // The mount at /proc/sys shows the settings of the thread that opens them. A check of many rounds does not end here.
            std::fs::write("/proc/sys/net/ipv6/conf/eth0/dad_transmits", "1000").expect("the setting of eth0");
            ip("link set peer up");
            ip("link set eth0 up");
            ip("addr add fd00:c01e::7/64 dev eth0");
            let address: Ipv6Addr = "fd00:c01e::7".parse().expect("an address");
            assert!(is_tentative(address), "the test must catch it while it is tentative");
            listen(SocketAddr::from((address, OUTBOUND_PORT))).expect("listens on a tentative address");
            let absent: Ipv6Addr = "fd00:c01e::8".parse().expect("an address");
            let error = listen(SocketAddr::from((absent, OUTBOUND_PORT))).expect_err("nobody has it");
            let ListenError::Listen { source, .. } = error else {
                panic!("{error}")
            };
            assert_eq!(source.raw_os_error(), Some(libc::EADDRNOTAVAIL));
        };
        std::thread::spawn(inside).join().expect("no panic");
    }
}
