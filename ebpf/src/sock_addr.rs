//! The address that a hook on a system call sees, and may change.
//!
//! Its fields are written one by one and volatile, because the verifier refuses a store that covers two of them.

use aya_ebpf::{bindings::bpf_sock_addr, programs::SockAddrContext};
use core::ptr::{addr_of, addr_of_mut, read_volatile, write_volatile};
use culvert_abi::{Address, Endpoint};

/// Of a system call on an IPv4 address.
#[inline(always)]
pub fn v4(context: &SockAddrContext) -> Endpoint {
    let address = context.sock_addr;
    // SAFETY: the context is valid while the program runs.
    unsafe {
        Endpoint {
            address: Address::from_v4((*address).user_ip4),
            port: port(context),
        }
    }
}

/// Of a system call on an IPv6 address, which may be IPv4-mapped.
#[inline(always)]
pub fn v6(context: &SockAddrContext) -> Endpoint {
    let address = context.sock_addr;
    // SAFETY: as in `v4`.
    let words = unsafe {
        [
            (*address).user_ip6[0],
            (*address).user_ip6[1],
            (*address).user_ip6[2],
            (*address).user_ip6[3],
        ]
    };
    Endpoint {
        address: Address(words),
        port: port(context),
    }
}

/// Puts an IPv4 address in its place.
#[inline(always)]
pub fn set_v4(context: &SockAddrContext, endpoint: &Endpoint) {
    let address = context.sock_addr;
    // SAFETY: as in `v4`.
    unsafe { write_volatile(addr_of_mut!((*address).user_ip4), endpoint.address.0[3]) };
    set_port(context, endpoint.port);
}

/// Puts an address in its place, an IPv4 one in its mapped form.
#[inline(always)]
pub fn set_v6(context: &SockAddrContext, endpoint: &Endpoint) {
    let address = context.sock_addr;
    // SAFETY: as in `v4`.
    unsafe {
        write_volatile(addr_of_mut!((*address).user_ip6[0]), endpoint.address.0[0]);
        write_volatile(addr_of_mut!((*address).user_ip6[1]), endpoint.address.0[1]);
        write_volatile(addr_of_mut!((*address).user_ip6[2]), endpoint.address.0[2]);
        write_volatile(addr_of_mut!((*address).user_ip6[3]), endpoint.address.0[3]);
    }
    set_port(context, endpoint.port);
}

/// The port, host byte order.
#[inline(always)]
pub fn port(context: &SockAddrContext) -> u32 {
    let address: *mut bpf_sock_addr = context.sock_addr;
    // SAFETY: as in `v4`.
    let port = unsafe { read_volatile(addr_of!((*address).user_port)) };
    u32::from(u16::from_be(port as u16))
}

#[inline(always)]
fn set_port(context: &SockAddrContext, port: u32) {
    let address = context.sock_addr;
    let port = u32::from((port as u16).to_be());
    // SAFETY: as in `v4`.
    unsafe { write_volatile(addr_of_mut!((*address).user_port), port) }
}
