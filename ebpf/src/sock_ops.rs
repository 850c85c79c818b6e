//! Carrying notes from the socket that opens a connection to the socket that accepts it.

use crate::{
    count::count,
    flows, legs,
    maps::{FLOWS, HAS_CGROUP_IN_SOCK_OPS, LISTENERS, PODS},
    note, pace, proxy, same_node,
};
use aya_ebpf::{EbpfContext as _, bindings::BPF_ANY, helpers::bpf_get_netns_cookie, programs::SockOpsContext};
use core::ptr::{addr_of, read_volatile};
use culvert_abi::{
    Address, Counter, Endpoint, Flow, INBOUND_HBONE_PORT, INBOUND_PLAINTEXT_PORT, Listener, Noted, OUTBOUND_PORT,
};

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// Before a SYN is sent; the local port is known.
const TCP_CONNECT: u32 = 3;
const ACTIVE_ESTABLISHED: u32 = 4;
const PASSIVE_ESTABLISHED: u32 = 5;
const STATE: u32 = 10;
const TCP_LISTEN: u32 = 11;
/// The round trip was measured.
const RTT: u32 = 12;
/// Asks for `STATE` on a socket.
const STATE_FLAG: u32 = 1 << 2;
const TCP_CLOSE: u32 = 7;

/// What happened to a socket.
#[inline(always)]
pub fn event(context: &SockOpsContext) {
    match context.op() {
        TCP_CONNECT => opening(context),
        ACTIVE_ESTABLISHED => {
            opened(context);
            pace::stop(context);
        }
        PASSIVE_ESTABLISHED => {
            accepted(context);
            pace::stop(context);
        }
        STATE => changed(context),
        TCP_LISTEN => listening(context),
        RTT => legs::acknowledged(context),
        _ => {}
    }
}

#[inline(always)]
fn opening(context: &SockOpsContext) {
    // SAFETY: the context is valid while the program runs.
    let socket = unsafe { (*context.ops).__bindgen_anon_2.sk };
    if socket.is_null() {
        return;
    }
    // SAFETY: checked, and from the context.
    let Some(noted) = (unsafe { note::on(socket) }) else {
        return;
    };
    if ![
        Noted::CAPTURED,
        Noted::HELD,
        Noted::FORWARDED,
        Noted::NODE,
        Noted::SAME_NODE,
    ]
    .contains(&noted.role)
    {
        return;
    }
    let Some((local, remote)) = ends(context) else { return };
    let flow = flow(context, &local, &remote);
    if noted.role == Noted::SAME_NODE {
        same_node::opening(&flow);
        let _ = context.set_cb_flags((context.cb_flags() | STATE_FLAG) as i32);
        return;
    }
    if !flows::insert(&flow, noted) {
        // Too late to fail the connect: the proxy finds no destination and refuses.
        return count(Counter::FlowFull);
    }
    count(Counter::FlowOpened);
    // Without this flag the entry could stay behind; setting it fails only for flags that the kernel does not know.
    let _ = context.set_cb_flags((context.cb_flags() | STATE_FLAG) as i32);
}

/// A flow of the node ends where it began: the other side is in another network namespace, and does not find it.
#[inline(always)]
fn opened(context: &SockOpsContext) {
    // SAFETY: the context is valid while the program runs.
    let socket = unsafe { (*context.ops).__bindgen_anon_2.sk };
    // SAFETY: checked, and from the context.
    let role = match socket.is_null() {
        true => Noted::NOTHING,
        // SAFETY: checked, and from the context.
        false => unsafe { note::on(socket) }.map_or(Noted::NOTHING, |noted| noted.role),
    };
    if role == Noted::SAME_NODE {
        let Some((_, remote)) = ends(context) else { return };
        // SAFETY: the context is valid.
        return same_node::opened(unsafe { bpf_get_netns_cookie(context.as_ptr()) }, &remote);
    }
    let is_leg = legs::is_opened(context, role);
    if role != Noted::NODE && !is_leg {
        return;
    }
    let Some((local, remote)) = ends(context) else { return };
    if is_leg {
        let (out, back) = (flow(context, &local, &remote), flow(context, &remote, &local));
        return legs::opened(context, role, &out, &back);
    }
    flows::remove(&flow(context, &local, &remote));
}

#[inline(always)]
fn accepted(context: &SockOpsContext) {
    // SAFETY: the context is valid.
    let cookie = unsafe { bpf_get_netns_cookie(context.as_ptr()) };
    // SAFETY: entries change only as a whole.
    let Some(pod) = (unsafe { PODS.get(&cookie) }) else {
        return;
    };
    let flags = pod.flags;
    let Some((local, remote)) = ends(context) else { return };
    // SAFETY: the context is valid.
    let socket = unsafe { (*context.ops).__bindgen_anon_2.sk };
    // SAFETY: checked, and from the context.
    if let Some(own) = (!socket.is_null()).then(|| unsafe { note::on(socket) }).flatten()
        && own.role == Noted::HELD
    {
        // An application's own: the proxy has met it half way.
        own.role = Noted::CAPTURED;
        flows::remove(&self::flow(context, &local, &remote));
        return count(Counter::FlowMet);
    }
    // Seen from the socket that opened it.
    let flow = flow(context, &remote, &local);
    if legs::is_trial(flags) {
        return legs::accepted(context, Noted::ACCEPTED_CAPTURED, &flow, &flow);
    }
    // SAFETY: the entry is removed only here, and when its socket closes.
    let Some(found) = (unsafe { FLOWS.get(&flow) }) else {
        return;
    };
    let role = if [Noted::CAPTURED, Noted::HELD].contains(&found.kind()) {
        Noted::ACCEPTED_CAPTURED
    } else {
        Noted::ACCEPTED_FORWARDED
    };
    let noted = Noted {
        endpoint: found.endpoint,
        role,
    };
    // SAFETY: checked, and from the context.
    if !socket.is_null() && unsafe { note::put(socket, &noted) } {
        count(Counter::FlowAccepted);
    }
    flows::remove(&flow);
    if legs::are_carried(flags) {
        legs::accepted(context, role, &flow, &self::flow(context, &local, &remote));
    }
}

#[inline(always)]
fn changed(context: &SockOpsContext) {
    if context.arg(1) != TCP_CLOSE {
        return;
    }
    let Some((local, remote)) = ends(context) else { return };
    // SAFETY: the context is valid.
    let socket = unsafe { (*context.ops).__bindgen_anon_2.sk };
    // SAFETY: checked, and from the context.
    if let Some(noted) = (!socket.is_null()).then(|| unsafe { note::on(socket) }).flatten()
        && noted.role == Noted::SAME_NODE
    {
        // An application may connect it again, to somewhere else.
        noted.role = Noted::NOTHING;
        let dialled = noted.endpoint;
        return same_node::closed(context, &flow(context, &local, &remote), &remote, &dialled);
    }
    // Still there only when the other side was never established.
    if flows::remove(&flow(context, &local, &remote)) {
        count(Counter::FlowAbandoned);
    }
}

/// A proxy that opens its listeners by itself, as Istio's does, needs no agent to hand them to us.
#[inline(always)]
fn listening(context: &SockOpsContext) {
    let port = context.local_port();
    let ports = [OUTBOUND_PORT, INBOUND_PLAINTEXT_PORT, INBOUND_HBONE_PORT].map(u32::from);
    if HAS_CGROUP_IN_SOCK_OPS.load() == 0 || !ports.contains(&port) {
        return;
    }
    // SAFETY: the context is valid.
    let cookie = unsafe { bpf_get_netns_cookie(context.as_ptr()) };
    // SAFETY: entries change only as a whole.
    let Some(pod) = (unsafe { PODS.get(&cookie) }) else {
        return;
    };
    if !proxy::config().is_some_and(proxy::is_current) {
        return;
    }
    let Some((local, _)) = ends(context) else { return };
    for address in [pod.ipv4, pod.ipv6] {
        let bound = local.address.is_unspecified() || local.address == address;
        if !address.is_none() && bound {
            // SAFETY: the context is valid.
            let ops = unsafe { &mut *context.ops };
            if LISTENERS
                .update(Listener { address, port }, ops, u64::from(BPF_ANY))
                .is_ok()
            {
                count(Counter::ListenerFound);
            }
        }
    }
}

/// The socket's own and its peer's address. None for families other than IP.
#[inline(always)]
fn ends(context: &SockOpsContext) -> Option<(Endpoint, Endpoint)> {
    let ops = context.ops;
    // Fields of both families are read, and volatile: the compiler would make the read that two branches have in common
    // into one from a computed place in the context, which the verifier refuses.
    // SAFETY: the context is valid; the kernel gives every field for sockets of both families.
    let (local4, remote4, local6, remote6) = unsafe {
        (
            read_volatile(addr_of!((*ops).local_ip4)),
            read_volatile(addr_of!((*ops).remote_ip4)),
            [
                read_volatile(addr_of!((*ops).local_ip6[0])),
                read_volatile(addr_of!((*ops).local_ip6[1])),
                read_volatile(addr_of!((*ops).local_ip6[2])),
                read_volatile(addr_of!((*ops).local_ip6[3])),
            ],
            [
                read_volatile(addr_of!((*ops).remote_ip6[0])),
                read_volatile(addr_of!((*ops).remote_ip6[1])),
                read_volatile(addr_of!((*ops).remote_ip6[2])),
                read_volatile(addr_of!((*ops).remote_ip6[3])),
            ],
        )
    };
    let (local, remote) = match context.family() {
        AF_INET => (Address::from_v4(local4), Address::from_v4(remote4)),
        // An IPv4 connection of an IPv6 socket has IPv4-mapped addresses here.
        AF_INET6 => (Address(local6), Address(remote6)),
        _ => return None,
    };
    Some((
        Endpoint {
            address: local,
            port: context.local_port(),
        },
        // Network byte order, in the upper half.
        Endpoint {
            address: remote,
            port: u32::from_be(context.remote_port()),
        },
    ))
}

#[inline(always)]
fn flow(context: &SockOpsContext, from: &Endpoint, to: &Endpoint) -> Flow {
    Flow {
        // SAFETY: the context is valid.
        cookie: unsafe { bpf_get_netns_cookie(context.as_ptr()) },
        local: from.address,
        remote: to.address,
        local_port: from.port as u16,
        remote_port: to.port as u16,
        reserved: 0,
    }
}
