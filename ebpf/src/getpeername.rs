//! Telling applications the truth: who they talk to, not which socket of the proxy carries it.

use crate::{count::count, dns, note};
use aya_ebpf::programs::SockAddrContext;
use core::ptr::{addr_of_mut, write_volatile};
use culvert_abi::{Address, Counter, Endpoint, FORWARDING_PORT, Noted};

/// For an IPv4 socket.
#[inline(always)]
pub fn v4(context: &SockAddrContext) {
    if dns::show_v4(context) {
        return;
    }
    let noted = noted(context);
    let address = context.sock_addr;
    if let Some((endpoint, counter)) = noted
        && endpoint.address.is_v4()
    {
        // SAFETY: the context is valid while the program runs; volatile, see `connect`.
        unsafe {
            write_volatile(addr_of_mut!((*address).user_ip4), endpoint.address.0[3]);
            write_volatile(addr_of_mut!((*address).user_port), port(&endpoint));
        }
        return count(counter);
    }
    if noted.is_some() {
        // An IPv6 client of an application that speaks IPv4 only: nothing to show in a `sockaddr_in`.
        count(Counter::PeerFamily);
    }
    // SAFETY: as above, and so is its socket.
    unsafe {
        if is_proxy(&Address::from_v4((*address).user_ip4), (*address).user_port) {
            let own = (*(*address).__bindgen_anon_1.sk).src_ip4;
            write_volatile(addr_of_mut!((*address).user_ip4), own);
            count(Counter::PeerHidden);
        }
    }
}

/// For an IPv6 socket; an IPv4 peer is shown IPv4-mapped, as it would be without us.
#[inline(always)]
pub fn v6(context: &SockAddrContext) {
    if dns::show_v6(context) {
        return;
    }
    let address = context.sock_addr;
    if let Some((endpoint, counter)) = noted(context) {
        // SAFETY: as in `v4`.
        unsafe {
            show(context, endpoint.address.0);
            write_volatile(addr_of_mut!((*address).user_port), port(&endpoint));
        }
        return count(counter);
    }
    // SAFETY: as in `v4`.
    unsafe {
        let peer = [
            (*address).user_ip6[0],
            (*address).user_ip6[1],
            (*address).user_ip6[2],
            (*address).user_ip6[3],
        ];
        if is_proxy(&Address(peer), (*address).user_port) {
            let socket = (*address).__bindgen_anon_1.sk;
            let own = [
                (*socket).src_ip6[0],
                (*socket).src_ip6[1],
                (*socket).src_ip6[2],
                (*socket).src_ip6[3],
            ];
            show(context, own);
            count(Counter::PeerHidden);
        }
    }
}

/// # Safety
/// The context of an IPv6 socket.
#[inline(always)]
unsafe fn show(context: &SockAddrContext, words: [u32; 4]) {
    let address = context.sock_addr;
    // SAFETY: as in `v4`.
    unsafe {
        write_volatile(addr_of_mut!((*address).user_ip6[0]), words[0]);
        write_volatile(addr_of_mut!((*address).user_ip6[1]), words[1]);
        write_volatile(addr_of_mut!((*address).user_ip6[2]), words[2]);
        write_volatile(addr_of_mut!((*address).user_ip6[3]), words[3]);
    }
}

/// What the socket remembers of its true peer.
#[inline(always)]
fn noted(context: &SockAddrContext) -> Option<(Endpoint, Counter)> {
    // SAFETY: the context and its socket are valid.
    let noted = unsafe { note::on((*context.sock_addr).__bindgen_anon_1.sk) }?;
    match noted.role {
        Noted::CAPTURED | Noted::HELD | Noted::SAME_NODE => Some((noted.endpoint, Counter::PeerCaptured)),
        Noted::ACCEPTED_FORWARDED => Some((noted.endpoint, Counter::PeerForwarded)),
        _ => None,
    }
}

/// Whether a peer is the proxy, at one of the addresses from which it connects to applications. These are loopback
/// addresses, which applications may trust: they are shown the pod's own address in their place.
#[inline(always)]
fn is_proxy(peer: &Address, port: u32) -> bool {
    peer.is_forwarding_source() && u16::from_be(port as u16) == FORWARDING_PORT
}

#[inline(always)]
fn port(endpoint: &Endpoint) -> u32 {
    u32::from((endpoint.port as u16).to_be())
}
