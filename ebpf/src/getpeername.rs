//! Telling applications the truth: who they talk to, not which socket of the proxy carries it.

use crate::{count::count, note};
use aya_ebpf::programs::SockAddrContext;
use core::ptr::{addr_of_mut, write_volatile};
use culvert_abi::{Counter, Endpoint, Noted};

/// For an IPv4 socket.
#[inline(always)]
pub fn v4(context: &SockAddrContext) {
    let Some((endpoint, counter)) = peer(context) else {
        return;
    };
    if !endpoint.address.is_v4() {
        // An IPv6 client of an application that speaks IPv4 only: nothing to show in a `sockaddr_in`.
        return count(Counter::PeerFamily);
    }
    let address = context.sock_addr;
    // SAFETY: the context is valid while the program runs; volatile, see `connect`.
    unsafe {
        write_volatile(addr_of_mut!((*address).user_ip4), endpoint.address.0[3]);
        write_volatile(addr_of_mut!((*address).user_port), port(&endpoint));
    }
    count(counter);
}

/// For an IPv6 socket; an IPv4 peer is shown IPv4-mapped, as it would be without us.
#[inline(always)]
pub fn v6(context: &SockAddrContext) {
    let Some((endpoint, counter)) = peer(context) else {
        return;
    };
    let address = context.sock_addr;
    // SAFETY: as in `v4`.
    unsafe {
        write_volatile(addr_of_mut!((*address).user_ip6[0]), endpoint.address.0[0]);
        write_volatile(addr_of_mut!((*address).user_ip6[1]), endpoint.address.0[1]);
        write_volatile(addr_of_mut!((*address).user_ip6[2]), endpoint.address.0[2]);
        write_volatile(addr_of_mut!((*address).user_ip6[3]), endpoint.address.0[3]);
        write_volatile(addr_of_mut!((*address).user_port), port(&endpoint));
    }
    count(counter);
}

#[inline(always)]
fn peer(context: &SockAddrContext) -> Option<(Endpoint, Counter)> {
    // SAFETY: the context and its socket are valid.
    let noted = unsafe { note::on((*context.sock_addr).__bindgen_anon_1.sk) }?;
    match noted.role {
        Noted::CAPTURED => Some((noted.endpoint, Counter::PeerCaptured)),
        Noted::ACCEPTED_FORWARDED => Some((noted.endpoint, Counter::PeerForwarded)),
        _ => None,
    }
}

#[inline(always)]
fn port(endpoint: &Endpoint) -> u32 {
    u32::from((endpoint.port as u16).to_be())
}
