//! Steering what reaches a pod to the proxy's listeners, whatever listens on the port. Attached to the network namespace
//! of each pod whose inbound connections are captured.

use crate::{
    connect::{is_capture_port, is_excluded_port},
    count::count,
    fallback::{self, Way},
    flows,
    maps::{ADDRESSES, LISTENERS, PODS},
    proxy, same_node,
};
use aya_ebpf::{
    bindings::{BPF_SK_LOOKUP_F_NO_REUSEPORT, bpf_sk_lookup},
    programs::SkLookupContext,
};
use core::ptr::{addr_of, read_volatile};
use culvert_abi::{
    Address, Counter, Endpoint, FORWARDING_PORT, HOLD_PORT, INBOUND_HBONE_PORT, INBOUND_PLAINTEXT_PORT, Listener,
    Noted, OUTBOUND_PORT, Pod, is_dns_port,
};

/// The SYN is answered by a reset.
const DROP: u32 = 0;
/// To the listener that was assigned, or to the one that the kernel finds.
const PASS: u32 = 1;

const AF_INET: u32 = 2;
const IPPROTO_TCP: u32 = 6;
const IPPROTO_UDP: u32 = 17;

const OUTBOUND: u32 = OUTBOUND_PORT as u32;
const PLAINTEXT: u32 = INBOUND_PLAINTEXT_PORT as u32;
const HBONE: u32 = INBOUND_HBONE_PORT as u32;

/// Chooses the socket for a SYN or a datagram, or none.
#[inline(always)]
pub fn steer(context: &SkLookupContext) -> u32 {
    let lookup = context.lookup;
    // SAFETY: the context is valid while the program runs.
    let (protocol, port) = unsafe { ((*lookup).protocol, (*lookup).local_port) };
    if protocol != IPPROTO_TCP {
        return match is_dns_port(port) {
            true => query(context, port),
            false => PASS,
        };
    }
    let (local, remote) = addresses(lookup);
    if local.is_loopback() {
        return PASS;
    }
    // SAFETY: entries change only as a whole.
    let Some(owner) = (unsafe { ADDRESSES.get(&local) }) else {
        return not_ours(&local, &remote);
    };
    // The interface does not tell: a connection to the pod's own address does not report the loopback interface. From
    // outside, the kernel lets no connection be established that claims to come from the pod itself.
    // SAFETY: as above.
    let own = remote.is_loopback() || unsafe { ADDRESSES.get(&remote) }.is_some_and(|peer| peer.cookie == owner.cookie);
    // From whatever address of the pod: an application may have bound its socket to one that is not the mesh's.
    let role = if own || is_capture_port(port) {
        noted_role(lookup, owner.cookie, local, remote)
    } else {
        Noted::NOTHING
    };
    match port {
        HBONE => tunnel(context, owner.cookie, local),
        OUTBOUND if own => to(context, local, OUTBOUND, Counter::LookupOutbound),
        _ if role == Noted::CAPTURED => to(context, local, OUTBOUND, Counter::LookupOutbound),
        _ if role == Noted::HELD => hold(context, local),
        // The proxy would take these for an application's ports and meet itself.
        OUTBOUND | PLAINTEXT => {
            count(Counter::LookupReserved);
            DROP
        }
        _ if is_from_proxy(lookup, &remote) => forwarded(lookup, owner.cookie, local, remote),
        _ if own && is_late(lookup, owner.cookie) => {
            count(Counter::LookupLate);
            DROP
        }
        _ if own => {
            count(Counter::LookupLocal);
            PASS
        }
        _ if is_excluded_port(port) => {
            count(Counter::LookupExcluded);
            PASS
        }
        _ if is_from_node(lookup, local, remote) => {
            count(Counter::LookupNode);
            PASS
        }
        _ if is_same_node(lookup, owner.cookie, local, remote) => {
            count(Counter::LookupSameNode);
            PASS
        }
        _ => plaintext(context, owner.cookie, local, port),
    }
}

/// A datagram to one of the proxy's sockets for DNS, if there is one: not to another that an application has bound beside it, nor to
/// one that an earlier agent has opened and nobody reads any more. It answers the pod itself and nobody else.
#[inline(always)]
fn query(context: &SkLookupContext, port: u32) -> u32 {
    let lookup = context.lookup;
    // SAFETY: the context is valid while the program runs.
    let protocol = unsafe { (*lookup).protocol };
    let (local, remote) = addresses(lookup);
    if protocol != IPPROTO_UDP || !fallback::is_listening(local, port) {
        return PASS;
    }
    // SAFETY: entries change only as a whole.
    let (own, peer) = unsafe { (ADDRESSES.get(&local), ADDRESSES.get(&remote)) };
    let is_own = own.is_some_and(|own| peer.is_some_and(|peer| peer.cookie == own.cookie));
    if !is_own {
        count(Counter::LookupStranger);
        return DROP;
    }
    if assign(context, local, port) {
        count(Counter::LookupDns);
    }
    PASS
}

/// From outside the tunnel: to the proxy, or to the application where no proxy serves and the pod may go without one.
#[inline(always)]
fn plaintext(context: &SkLookupContext, cookie: u64, local: Address, port: u32) -> u32 {
    if fallback::is_serving() && assign(context, local, PLAINTEXT) {
        count(Counter::LookupPlaintext);
        return PASS;
    }
    if fallback::may_arrive(cookie, port) {
        count(Counter::LookupFallback);
        fallback::account(cookie, Way::In);
        return PASS;
    }
    to(context, local, PLAINTEXT, Counter::LookupPlaintext)
}

/// To the proxy. Where none serves and the pod may go without one, the peer is told so at once, and has its own choice.
#[inline(always)]
fn tunnel(context: &SkLookupContext, cookie: u64, local: Address) -> u32 {
    if fallback::is_serving() && assign(context, local, HBONE) {
        count(Counter::LookupHbone);
        return PASS;
    }
    if fallback::is_allowed(cookie) {
        count(Counter::LookupNoTunnel);
        return DROP;
    }
    to(context, local, HBONE, Counter::LookupHbone)
}

/// To an address that the mesh does not know: that of a second interface, or of a bridge. It is left alone, but for
/// link-local addresses, which every interface has: a neighbour on the link would reach the application past the proxy.
#[inline(always)]
fn not_ours(local: &Address, remote: &Address) -> u32 {
    if local == remote {
        count(Counter::LookupLocal);
        return PASS;
    }
    if local.is_link_local() {
        count(Counter::LookupUnknown);
        return DROP;
    }
    count(Counter::LookupOther);
    PASS
}

/// Whether the SYN comes from where only the proxy connects from.
#[inline(always)]
fn is_from_proxy(lookup: *mut bpf_sk_lookup, remote: &Address) -> bool {
    // SAFETY: the caller's context.
    let port = unsafe { (*lookup).remote_port };
    remote.is_forwarding_source() && u16::from_be(port as u16) == FORWARDING_PORT
}

/// The proxy's connection to an application. Where its client could not be noted, the application would take it for one of
/// its own.
#[inline(always)]
fn forwarded(lookup: *mut bpf_sk_lookup, cookie: u64, local: Address, remote: Address) -> u32 {
    if has_flow(lookup, cookie, local, remote, Noted::FORWARDED) {
        count(Counter::LookupLocal);
        return PASS;
    }
    count(Counter::LookupSource);
    DROP
}

/// The SYN of a connection that is not to be answered yet. Where nobody is there to hold it, it is accepted first.
#[inline(always)]
fn hold(context: &SkLookupContext, local: Address) -> u32 {
    let flags = u64::from(BPF_SK_LOOKUP_F_NO_REUSEPORT);
    let listener = Listener {
        address: local,
        port: u32::from(HOLD_PORT),
    };
    match LISTENERS.redirect_sk_lookup(context, listener, flags) {
        Ok(()) => {
            count(Counter::LookupHeld);
            PASS
        }
        Err(_) => to(context, local, OUTBOUND, Counter::LookupNotHeld),
    }
}

/// Whether this SYN is the proxy's answer to a held connection that is there no longer; else the kernel would have found
/// the application's socket. An application that listens on the same port would take it for a client. Capture ports as
/// source ports of an application's own connections to itself are not served in pods that hold.
#[inline(always)]
fn is_late(lookup: *mut bpf_sk_lookup, cookie: u64) -> bool {
    // SAFETY: the caller's context.
    let port = unsafe { (*lookup).remote_port };
    is_capture_port(u32::from(u16::from_be(port as u16)))
        // SAFETY: entries change only as a whole.
        && unsafe { PODS.get(&cookie) }.is_some_and(|pod| pod.flags & (Pod::HOLD_ALL | Pod::HOLD_SOME) != 0)
}

/// Whether this is the SYN of a socket of the node itself, see [`culvert_abi::Config::node`]. Nobody else's SYN looks the
/// same: while the node has that socket, it gives its address and port to no connection that it translates.
#[inline(always)]
fn is_from_node(lookup: *mut bpf_sk_lookup, local: Address, remote: Address) -> bool {
    let Some(config) = proxy::config() else { return false };
    config.node != 0 && has_flow(lookup, config.node, local, remote, Noted::NODE)
}

/// Whether this is the SYN of a connection past the proxy to the pod with this cookie.
#[inline(always)]
fn is_same_node(lookup: *mut bpf_sk_lookup, cookie: u64, local: Address, remote: Address) -> bool {
    // SAFETY: entries change only as a whole.
    if unsafe { PODS.get(&cookie) }.is_none_or(|pod| pod.flags & Pod::SAME_NODE_SERVER == 0) {
        return false;
    }
    let (from, to) = ends(lookup, local, remote);
    same_node::is_let_in(cookie, &from, &to)
}

/// Whether the socket that opened this in the namespace with this cookie left a note with this role.
#[inline(always)]
fn has_flow(lookup: *mut bpf_sk_lookup, cookie: u64, local: Address, remote: Address, role: u32) -> bool {
    noted_role(lookup, cookie, local, remote) == role
}

/// What the socket that opened this in the namespace with this cookie noted itself as: see [`culvert_abi::CAPTURE_PORT`].
#[inline(always)]
fn noted_role(lookup: *mut bpf_sk_lookup, cookie: u64, local: Address, remote: Address) -> u32 {
    let (from, to) = ends(lookup, local, remote);
    flows::noted_role(cookie, &from, &to)
}

/// Seen from the socket that opened it.
#[inline(always)]
fn ends(lookup: *mut bpf_sk_lookup, local: Address, remote: Address) -> (Endpoint, Endpoint) {
    // SAFETY: the caller's context.
    let (remote_port, local_port) = unsafe { ((*lookup).remote_port, (*lookup).local_port) };
    let from = Endpoint {
        address: remote,
        port: u32::from(u16::from_be(remote_port as u16)),
    };
    let to = Endpoint {
        address: local,
        port: local_port,
    };
    (from, to)
}

#[inline(always)]
fn to(context: &SkLookupContext, address: Address, port: u32, counter: Counter) -> u32 {
    if assign(context, address, port) {
        count(counter);
        return PASS;
    }
    count(Counter::LookupNoListener);
    DROP
}

/// Gives the SYN to a listener of the proxy's. False when there is none.
#[inline(always)]
fn assign(context: &SkLookupContext, address: Address, port: u32) -> bool {
    // This very socket: an application that runs as root may bind one of its own beside it (`SO_REUSEPORT`), and would
    // get a share of what the proxy is to look at first.
    let flags = u64::from(BPF_SK_LOOKUP_F_NO_REUSEPORT);
    let listener = Listener { address, port };
    LISTENERS.redirect_sk_lookup(context, listener, flags).is_ok()
}

#[inline(always)]
fn addresses(lookup: *mut bpf_sk_lookup) -> (Address, Address) {
    // Volatile and all of them, see `sock_ops::ends`.
    // SAFETY: the caller's context; the fields of the other family are zero.
    unsafe {
        let (local4, remote4) = (
            read_volatile(addr_of!((*lookup).local_ip4)),
            read_volatile(addr_of!((*lookup).remote_ip4)),
        );
        let local6 = [
            read_volatile(addr_of!((*lookup).local_ip6[0])),
            read_volatile(addr_of!((*lookup).local_ip6[1])),
            read_volatile(addr_of!((*lookup).local_ip6[2])),
            read_volatile(addr_of!((*lookup).local_ip6[3])),
        ];
        let remote6 = [
            read_volatile(addr_of!((*lookup).remote_ip6[0])),
            read_volatile(addr_of!((*lookup).remote_ip6[1])),
            read_volatile(addr_of!((*lookup).remote_ip6[2])),
            read_volatile(addr_of!((*lookup).remote_ip6[3])),
        ];
        if (*lookup).family == AF_INET {
            (Address::from_v4(local4), Address::from_v4(remote4))
        } else {
            (Address(local6), Address(remote6))
        }
    }
}
