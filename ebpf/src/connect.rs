//! Capturing what pods open: the destination becomes the proxy's outbound listener, and the socket remembers the real one.

use crate::{
    count::{count, may_log},
    dns,
    fallback::{self, Way},
    flows::{self, Room},
    maps::{ADDRESSES, EXCLUDED, EXCLUDED_PORTS, HAS_MPTCP_HELPER, PODS},
    note, proxy, same_node, sock_addr,
    verdict::{ALLOW, ENETDOWN, ENETUNREACH, ENOBUFS, deny},
};
use aya_ebpf::{EbpfContext as _, helpers::bpf_get_netns_cookie, maps::lpm_trie::Key, programs::SockAddrContext};
use aya_log_ebpf::warn;
use core::ptr::{addr_of, read_volatile};
use culvert_abi::{Address, CAPTURE_PORT, CAPTURE_PORTS, Config, Counter, Endpoint, Noted, OUTBOUND_PORT, Pod};

const SOCK_STREAM: u32 = 1;
const IPPROTO_TCP: u32 = 6;
const IPPROTO_MPTCP: u32 = 262;

enum Verdict {
    /// To where the application wants.
    Leave,
    /// `connect` fails with this error.
    Deny(i32),
    /// To this address and port: of the pod itself, from where it reaches the outbound listener, or of another pod of the node.
    Turn(Endpoint),
}

/// For an IPv4 socket.
#[inline(always)]
pub fn v4(context: &SockAddrContext) -> i32 {
    if !is_stream(context) {
        dns::turn_v4(context);
        return ALLOW;
    }
    // SAFETY: the context is valid while the program runs.
    match unsafe { decide(context, &sock_addr::v4(context)) } {
        Verdict::Leave => ALLOW,
        Verdict::Deny(errno) => deny(errno),
        Verdict::Turn(target) => {
            sock_addr::set_v4(context, &target);
            ALLOW
        }
    }
}

/// For an IPv6 socket, whose destination may be IPv4-mapped.
#[inline(always)]
pub fn v6(context: &SockAddrContext) -> i32 {
    if !is_stream(context) {
        dns::turn_v6(context);
        return ALLOW;
    }
    // SAFETY: as in `v4`.
    match unsafe { decide(context, &sock_addr::v6(context)) } {
        Verdict::Leave => ALLOW,
        Verdict::Deny(errno) => deny(errno),
        Verdict::Turn(target) => {
            sock_addr::set_v6(context, &target);
            ALLOW
        }
    }
}

#[inline(always)]
fn is_stream(context: &SockAddrContext) -> bool {
    // SAFETY: the context is valid while the program runs.
    unsafe { (*context.sock_addr).type_ == SOCK_STREAM }
}

#[inline(always)]
unsafe fn decide(context: &SockAddrContext, destination: &Endpoint) -> Verdict {
    // SAFETY: the context is valid.
    let protocol = unsafe { (*context.sock_addr).protocol };
    // An MPTCP socket asks through the TCP socket below it; its own number is accepted in case that ever changes.
    if protocol != IPPROTO_TCP && protocol != IPPROTO_MPTCP {
        return Verdict::Leave;
    }
    // SAFETY: the context is valid.
    let cookie = unsafe { bpf_get_netns_cookie(context.as_ptr()) };
    // SAFETY: entries change only as a whole, and by the agent alone.
    let Some(pod) = (unsafe { PODS.get(&cookie) }) else {
        from_outside(context, destination, cookie);
        return Verdict::Leave;
    };
    // Set before the first pod.
    let Some(config) = proxy::config() else {
        return Verdict::Deny(ENETDOWN);
    };
    if proxy::is_current(config) {
        return proxys_own(context, config, destination, cookie);
    }
    if let Some(reason) = left_alone(context, pod, destination, cookie) {
        if let Some(reason) = reason {
            count(reason);
        }
        return leave(context, destination);
    }
    if pod.flags & Pod::SAME_NODE_CLIENT != 0
        && let Some(target) = same_node::target(context, destination, own_address(pod, destination), cookie)
    {
        if target == *destination {
            count(Counter::ConnectSameNode);
            return Verdict::Leave;
        }
        count(Counter::ConnectSameNodeService);
        return Verdict::Turn(target);
    }
    if pod.flags & Pod::FALLBACK != 0 && fallback::may_leave(cookie, own_address(pod, destination)) {
        count(Counter::ConnectFallback);
        fallback::account(cookie, Way::Out);
        return leave(context, destination);
    }
    capture(context, config, pod, destination, cookie)
}

/// To where the application wants, without what an earlier connection of the socket's has left.
#[inline(always)]
fn leave(context: &SockAddrContext, destination: &Endpoint) -> Verdict {
    // Rewritten just now by programs of another version, which note on the same sockets.
    if !is_capture_port(destination.port) {
        forget(context);
    }
    Verdict::Leave
}

/// From no enrolled pod. What the node's own processes open to one is noted, so that it is left alone there, too.
#[inline(always)]
fn from_outside(context: &SockAddrContext, destination: &Endpoint, cookie: u64) {
    // SAFETY: only whether it is there matters.
    let is_node = || proxy::config().is_some_and(|config| proxy::is_node(config, cookie));
    if is_node() && unsafe { ADDRESSES.get(&destination.address) }.is_some() {
        let noted = Noted {
            endpoint: *destination,
            role: Noted::NODE,
        };
        // SAFETY: the context and its socket are valid. Without memory for it, the connection is one from outside the mesh.
        let _ = unsafe { note::put((*context.sock_addr).__bindgen_anon_1.sk, &noted) };
    }
}

/// A proxy's connection: where it wants, unless its client's address could not be handed on.
#[inline(always)]
fn proxys_own(context: &SockAddrContext, config: &Config, destination: &Endpoint, cookie: u64) -> Verdict {
    // SAFETY: the context and its socket are valid.
    let forwarded = unsafe { note::on((*context.sock_addr).__bindgen_anon_1.sk) }
        .is_some_and(|noted| noted.role == Noted::FORWARDED);
    if forwarded && has_no_room(context, config, destination, cookie) {
        return Verdict::Deny(ENOBUFS);
    }
    count(Counter::ConnectProxy);
    Verdict::Leave
}

/// Whether this connection is none of our business, and what to count it as.
#[inline(always)]
fn left_alone(context: &SockAddrContext, pod: &Pod, destination: &Endpoint, cookie: u64) -> Option<Option<Counter>> {
    if pod.flags & Pod::OUTBOUND == 0 {
        return Some(None);
    }
    if destination.address.is_loopback() {
        return Some(Some(Counter::ConnectLoopback));
    }
    // It cannot leave the link, and means nothing without the interface that it is meant for.
    if destination.address.is_link_local() {
        return Some(Some(Counter::ConnectLinkLocal));
    }
    // SAFETY: entries change only as a whole.
    if let Some(owner) = unsafe { ADDRESSES.get(&destination.address) }
        && owner.cookie == cookie
    {
        return Some(Some(Counter::ConnectOwn));
    }
    if is_excluded(destination) {
        return Some(Some(Counter::ConnectExcluded));
    }
    if is_other_device(context, pod) {
        return Some(Some(Counter::ConnectDevice));
    }
    // The kernel says what it says without a mesh: usually that the network is unreachable.
    if own_address(pod, destination).is_none() && pod.flags & unknown(destination) == 0 {
        return Some(Some(Counter::ConnectFamily));
    }
    None
}

/// Whether this destination is never captured.
#[inline(always)]
pub fn is_excluded(destination: &Endpoint) -> bool {
    is_excluded_port(destination.port) || EXCLUDED.get(&Key::new(128, destination.address)) == Some(&1)
}

/// Whether the socket is bound to an interface that has no address of the mesh.
#[inline(always)]
pub fn is_other_device(context: &SockAddrContext, pod: &Pod) -> bool {
    // SAFETY: the context and its socket are valid.
    let device = unsafe { (*(*context.sock_addr).__bindgen_anon_1.sk).bound_dev_if };
    device != 0 && pod.devices != [0; 2] && !pod.devices.contains(&device)
}

/// The pod's address of the destination's family.
#[inline(always)]
pub fn own_address(pod: &Pod, destination: &Endpoint) -> Address {
    if destination.address.is_v4() {
        pod.ipv4
    } else {
        pod.ipv6
    }
}

/// The flag that says that the pod has an address of the destination's family which the mesh does not know.
#[inline(always)]
fn unknown(destination: &Endpoint) -> u32 {
    if destination.address.is_v4() {
        Pod::UNKNOWN_V4
    } else {
        Pod::UNKNOWN_V6
    }
}

#[inline(always)]
fn capture(context: &SockAddrContext, config: &Config, pod: &Pod, destination: &Endpoint, cookie: u64) -> Verdict {
    let target = own_address(pod, destination);
    if target.is_none() {
        count(Counter::ConnectNoAddress);
        if may_log(cookie) {
            let (address, port) = (destination.address.octets(), destination.port);
            warn!(
                context,
                "connect of the pod with cookie {} to {:i} port {} denied: the mesh knows no address of the pod of that family",
                cookie,
                address,
                port
            );
        }
        return Verdict::Deny(ENETUNREACH);
    }
    if has_no_room(context, config, destination, cookie) {
        return Verdict::Deny(ENOBUFS);
    }
    let noted = Noted {
        endpoint: *destination,
        role: Noted::CAPTURED,
    };
    let role = if is_to_be_held(context, pod, destination) {
        Noted::HELD
    } else {
        Noted::CAPTURED
    };
    // SAFETY: the context and its sockets are valid.
    let kept = unsafe {
        let socket = (*context.sock_addr).__bindgen_anon_1.sk;
        let above = note::above(socket);
        note::put(socket, &Noted { role, ..noted }) && (above.is_null() || note::put(above, &noted))
    };
    if !kept {
        count(Counter::ConnectNoMemory);
        if may_log(cookie) {
            let (address, port) = (destination.address.octets(), destination.port);
            warn!(
                context,
                "connect of the pod with cookie {} to {:i} port {} denied: no memory", cookie, address, port
            );
        }
        return Verdict::Deny(ENOBUFS);
    }
    count(Counter::ConnectCaptured);
    let port = if pod.flags & Pod::INBOUND == 0 {
        u32::from(OUTBOUND_PORT)
    } else {
        // SAFETY: the context and its socket are valid.
        let own = unsafe { (*(*context.sock_addr).__bindgen_anon_1.sk).src_port };
        elsewhere(capture_port(destination), own)
    };
    Verdict::Turn(Endpoint { address: target, port })
}

/// Whether the pod wants to know what becomes of the connection before its `connect` ends.
#[inline(always)]
fn is_to_be_held(context: &SockAddrContext, pod: &Pod, destination: &Endpoint) -> bool {
    // An MPTCP socket does not notice that its first subflow is established by a simultaneous open. Before Linux 5.19 it cannot be
    // told apart.
    // SAFETY: the context and its socket are valid.
    if HAS_MPTCP_HELPER.load() == 0 || !unsafe { note::above((*context.sock_addr).__bindgen_anon_1.sk) }.is_null() {
        return false;
    }
    // Without steering there is nobody who could leave a SYN unanswered.
    if pod.flags & Pod::INBOUND == 0 || pod.flags & (Pod::HOLD_ALL | Pod::HOLD_SOME) == 0 {
        return false;
    }
    // The proxy sees SYNs from the pod's address in the mesh, and on no interface in particular.
    // SAFETY: the context and its socket are valid.
    if unsafe { (*(*context.sock_addr).__bindgen_anon_1.sk).bound_dev_if } != 0
        || !may_come_from(context, own_address(pod, destination))
    {
        return false;
    }
    pod.flags & Pod::HOLD_ALL != 0 || pod.held_ports.contains(&(destination.port as u16))
}

/// Whether the socket is bound to no address, or to this one.
#[inline(always)]
pub fn may_come_from(context: &SockAddrContext, address: Address) -> bool {
    const AF_INET: u32 = 2;
    // Volatile: the compiler would read two fields at once, which the verifier refuses.
    // SAFETY: the context and its socket are valid; the kernel gives every field for sockets of both families.
    let (family, v4, v6) = unsafe {
        let socket = (*context.sock_addr).__bindgen_anon_1.sk;
        (
            (*socket).family,
            read_volatile(addr_of!((*socket).src_ip4)),
            [
                read_volatile(addr_of!((*socket).src_ip6[0])),
                read_volatile(addr_of!((*socket).src_ip6[1])),
                read_volatile(addr_of!((*socket).src_ip6[2])),
                read_volatile(addr_of!((*socket).src_ip6[3])),
            ],
        )
    };
    let bound = if family == AF_INET {
        Address::from_v4(v4)
    } else {
        Address(v6)
    };
    bound.is_unspecified() || bound == address
}

/// A socket that was captured once may be connected again, to somewhere that is left alone.
#[inline(always)]
fn forget(context: &SockAddrContext) {
    // SAFETY: the context and its sockets are valid.
    unsafe {
        let socket = (*context.sock_addr).__bindgen_anon_1.sk;
        note::clear(socket, Noted::CAPTURED);
        note::clear(socket, Noted::HELD);
        note::clear(socket, Noted::SAME_NODE);
        let above = note::above(socket);
        if !above.is_null() {
            note::clear(above, Noted::CAPTURED);
        }
    }
}

/// Whether a port is excluded.
#[inline(always)]
pub fn is_excluded_port(port: u32) -> bool {
    EXCLUDED_PORTS
        .get(port >> 6)
        .is_some_and(|bits| bits & (1 << (port & 63)) != 0)
}

/// Whether the connection cannot be noted, which is counted and logged.
#[inline(always)]
fn has_no_room(context: &SockAddrContext, config: &Config, destination: &Endpoint, cookie: u64) -> bool {
    let (address, port) = (destination.address.octets(), destination.port);
    match flows::room(config, cookie) {
        Room::Free => return false,
        Room::OverShare => {
            count(Counter::ConnectShare);
            flows::denied(cookie);
            if may_log(cookie) {
                warn!(
                    context,
                    "connect of the pod with cookie {} to {:i} port {} denied: it has its share of the map of flows",
                    cookie,
                    address,
                    port
                );
            }
        }
        Room::Full => {
            count(Counter::ConnectFull);
            if may_log(cookie) {
                warn!(
                    context,
                    "connect of the pod with cookie {} to {:i} port {} denied: the map of flows is full",
                    cookie,
                    address,
                    port
                );
            }
        }
    }
    true
}

/// The same for every connection to a destination, and most likely another for another destination.
#[inline(always)]
fn capture_port(destination: &Endpoint) -> u32 {
    let [a, b, c, d] = destination.address.0;
    let mut mixed = a ^ b.rotate_left(8) ^ c.rotate_left(16) ^ d ^ destination.port.rotate_left(12);
    // Each bit of the result depends on all of them (the multipliers are those of MurmurHash3, which is in the public
    // domain). It need not withstand anybody: who makes a pod's connections collide has only made them scarcer.
    mixed = (mixed ^ (mixed >> 16)).wrapping_mul(0x85eb_ca6b);
    mixed = (mixed ^ (mixed >> 13)).wrapping_mul(0xc2b2_ae35);
    u32::from(CAPTURE_PORT) + (mixed ^ (mixed >> 16)) % u32::from(CAPTURE_PORTS)
}

/// Another capture port where the socket is bound to this one: it would connect to itself. A port that the kernel chooses
/// later is none of them, since the agent reserves them.
#[inline(always)]
fn elsewhere(port: u32, own: u32) -> u32 {
    if port != own {
        return port;
    }
    u32::from(CAPTURE_PORT) + (port - u32::from(CAPTURE_PORT) + 1) % u32::from(CAPTURE_PORTS)
}

/// Whether a connection to the pod's own address may be one that programs of another version have just captured.
#[inline(always)]
pub fn is_capture_port(port: u32) -> bool {
    port == u32::from(OUTBOUND_PORT) || port.wrapping_sub(u32::from(CAPTURE_PORT)) < u32::from(CAPTURE_PORTS)
}
