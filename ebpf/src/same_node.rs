//! Connections between two pods of this node that go past the proxy (`culvert.dev/same-node: kernel`).
//!
//! The proxy decides about a pair of pods, and the agent enters it into the map of pairs (see [`SameNodePair`]). From then on
//! 1. `connect` leaves a connection of that pair alone and notes that on its socket ([`target`]); one to the address of a service that
//!    leads there is turned to the pair's destination, and its socket remembers the service, for `getpeername` and for the log;
//! 2. `sock_ops` enters the connection itself when the SYN goes out ([`opening`]), with the addresses and ports that it really has;
//! 3. the other pod's `sk_lookup`, and the guard on its link, look for that connection and, again, for the pair ([`is_let_in`]): who
//!    merely sends a SYN has no entry, and goes to the proxy like anybody;
//! 4. `sock_ops` counts what has gone by it when the client's socket closes, and tells the agent ([`closed`]).
//!
//! A pair that the agent has taken away lets nothing in from that moment on, also where step 1 has happened. Connections stay entered
//! until they end, so that the agent finds those that no pair allows any more and closes them. Whatever is not known goes by the proxy.

use crate::{
    connect::may_come_from,
    count::count,
    fallback, flows,
    maps::{
        ADDRESSES, HAS_MPTCP_HELPER, SAME_NODE, SAME_NODE_ENDED, SAME_NODE_FLOWS, SAME_NODE_NUMBERS,
        SAME_NODE_SERVICES, SAME_NODE_USE,
    },
    note,
};
use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::bpf_ktime_get_ns,
    programs::{SockAddrContext, SockOpsContext},
};
use core::ptr::{addr_of, addr_of_mut, read_volatile};
use culvert_abi::{Address, Counter, Endpoint, Flow, Noted, SameNodeEnded, SameNodeNumber, SameNodePair, SameNodePeer};

/// States of a socket before it closed (`include/net/tcp_states.h`).
const SYN_SENT: u32 = 2;
const FIN_WAIT2: u32 = 5;
const CLOSE_WAIT: u32 = 8;
const LAST_ACK: u32 = 9;
const CLOSING: u32 = 11;

/// Where a connection of the pod with this cookie and this address goes past the proxy; then that is noted on its socket.
#[inline(always)]
pub fn target(context: &SockAddrContext, destination: &Endpoint, own: Address, cookie: u64) -> Option<Endpoint> {
    let mut pair = SameNodePair::new(cookie, *destination);
    // SAFETY: entries change only as a whole.
    let mut peer = unsafe { SAME_NODE.get(&pair) };
    if peer.is_none() {
        // SAFETY: as above.
        pair.destination = *unsafe { SAME_NODE_SERVICES.get(&pair) }?;
        // SAFETY: as above.
        peer = unsafe { SAME_NODE.get(&pair) };
        if pair.destination.address.is_v4() != destination.address.is_v4() {
            return None;
        }
    }
    let is_opened = is_opened(context, peer?, destination, own);
    is_opened.then_some(pair.destination)
}

#[inline(always)]
fn is_opened(context: &SockAddrContext, peer: &SameNodePeer, destination: &Endpoint, own: Address) -> bool {
    if peer.source != own || peer.is_ending() || !is_valid() || !fallback::is_serving() || !has_room() {
        return false;
    }
    // SAFETY: the context and its sockets are valid.
    let (socket, device) = unsafe {
        let socket = (*context.sock_addr).__bindgen_anon_1.sk;
        (socket, (*socket).bound_dev_if)
    };
    // Before Linux 5.19, MPTCP cannot be told apart: it would open further connections that nobody has noted.
    // SAFETY: from the context.
    if HAS_MPTCP_HELPER.load() == 0 || !unsafe { note::above(socket) }.is_null() {
        return false;
    }
    let noted = Noted {
        endpoint: *destination,
        role: Noted::SAME_NODE,
    };
    // SAFETY: from the context.
    device == 0 && may_come_from(context, own) && unsafe { note::put(socket, &noted) }
}

/// The SYN goes out. Entered whether the pair still holds or not: what it is worth is decided where it arrives.
#[inline(always)]
pub fn opening(flow: &Flow) {
    // SAFETY: no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    if SAME_NODE_FLOWS.insert(flow, now, 0).is_err() {
        return count(Counter::SameNodeFull);
    }
    add_open(1);
    count(Counter::SameNodeOpened);
}

/// The connection of a client with this cookie is established.
#[inline(always)]
pub fn opened(client: u64, remote: &Endpoint) {
    if let Some(all) = SAME_NODE_USE.get_ptr_mut(&SameNodePair::new(client, *remote)) {
        // SAFETY: the entry is valid while the program runs; the programs only add.
        unsafe { flows::add(addr_of_mut!((*all).opened), 1) }
    }
}

/// The client's socket closes, which has asked for `dialled`.
#[inline(always)]
pub fn closed(context: &SockOpsContext, flow: &Flow, remote: &Endpoint, dialled: &Endpoint) {
    let before = context.arg(0);
    // The kernel counts a SYN and a FIN that were acknowledged, and a FIN that was received, as a byte each.
    let fin_sent = u64::from([FIN_WAIT2, LAST_ACK].contains(&before));
    let fin_received = u64::from([FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING].contains(&before));
    // SAFETY: the context is valid.
    let (sent, received) = unsafe {
        (
            read_volatile(addr_of!((*context.ops).bytes_acked)).saturating_sub(1 + fin_sent),
            read_volatile(addr_of!((*context.ops).bytes_received)).saturating_sub(fin_received),
        )
    };
    // SAFETY: the entry is removed only here and by the agent; at worst the time is another's.
    let began = unsafe { SAME_NODE_FLOWS.get(flow) }.copied();
    if let Some(began) = began {
        let how = match before {
            SYN_SENT => SameNodeEnded::FAILED,
            FIN_WAIT2 | CLOSING | LAST_ACK => SameNodeEnded::CLOSED,
            _ => SameNodeEnded::BROKEN,
        };
        // Before the entry goes: while there is one, the agent looks into the ring.
        tell(SameNodeEnded {
            flow: *flow,
            // SAFETY: no preconditions.
            duration: unsafe { bpf_ktime_get_ns() }.saturating_sub(began),
            sent,
            received,
            dialled: *dialled,
            how,
        });
        if SAME_NODE_FLOWS.remove(flow).is_ok() {
            add_open(-1);
        }
    }
    if before == SYN_SENT {
        return;
    }
    let Some(all) = SAME_NODE_USE.get_ptr_mut(&SameNodePair::new(flow.cookie, *remote)) else {
        return;
    };
    // SAFETY: the entry is valid while the program runs; the programs only add.
    unsafe {
        flows::add(addr_of_mut!((*all).closed), 1);
        flows::add(addr_of_mut!((*all).sent), sent as i64);
        flows::add(addr_of_mut!((*all).received), received as i64);
    }
}

/// Tells the agent, which may have fallen behind: nothing waits for it.
#[inline(always)]
fn tell(ended: SameNodeEnded) {
    match SAME_NODE_ENDED.reserve::<SameNodeEnded>(0) {
        Some(mut entry) => {
            entry.write(ended);
            entry.submit(u64::from(BPF_RB_NO_WAKEUP));
        }
        None => count(Counter::SameNodeUnsaid),
    }
}

/// Whether the SYN from one to the other is that of a connection past the proxy to the pod with this cookie, and still may be.
#[inline(always)]
pub fn is_let_in(server: u64, from: &Endpoint, to: &Endpoint) -> bool {
    // SAFETY: entries change only as a whole.
    let Some(owner) = (unsafe { ADDRESSES.get(&from.address) }) else {
        return false;
    };
    let flow = Flow {
        cookie: owner.cookie,
        local: from.address,
        remote: to.address,
        local_port: from.port as u16,
        remote_port: to.port as u16,
        reserved: 0,
    };
    // SAFETY: only whether it is there matters.
    if unsafe { SAME_NODE_FLOWS.get(&flow) }.is_none() || !is_valid() {
        return false;
    }
    // SAFETY: entries change only as a whole.
    unsafe { SAME_NODE.get(&SameNodePair::new(flow.cookie, *to)) }
        .is_some_and(|peer| peer.server() == server && peer.source == from.address)
}

/// Whether pairs hold at all: whether there is somebody who takes them away.
#[inline(always)]
fn is_valid() -> bool {
    // SAFETY: no preconditions.
    number(SameNodeNumber::Until) > unsafe { bpf_ktime_get_ns() }
}

#[inline(always)]
fn has_room() -> bool {
    (number(SameNodeNumber::Open) as i64) < i64::from(SameNodeNumber::CONNECTIONS)
}

#[inline(always)]
fn number(which: SameNodeNumber) -> u64 {
    // SAFETY: an aligned number in a map, which others write at any moment.
    SAME_NODE_NUMBERS
        .get_ptr(which as u32)
        .map_or(0, |number| unsafe { read_volatile(number) })
}

#[inline(always)]
fn add_open(difference: i64) {
    if let Some(open) = SAME_NODE_NUMBERS.get_ptr_mut(SameNodeNumber::Open as u32) {
        // SAFETY: an aligned number in a map.
        unsafe { flows::add(open, difference) }
    }
}
