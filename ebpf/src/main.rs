//! Culvert's kernel programs.
//!
//! Two pairs of sockets are joined by them. *Captured*: an application connects to a destination, is redirected to the
//! proxy's outbound listener in its own pod, and the proxy learns the destination. *Forwarded*: the proxy connects to an
//! application in its pod, and the application learns the true client. Both travel the same way:
//!
//! 1. [`connect`] (captured) or [`sockopt`] (forwarded) notes the other address on the opening socket;
//! 2. [`sock_ops`] puts it into the map of flows ([`flows`] keeps account of it) when the SYN goes out, and moves it from there to the accepting socket
//!    when that is established;
//! 3. [`sockopt`] (captured, `SO_ORIGINAL_DST`) or [`getpeername`] (forwarded) answers from the accepting socket.
//!
//! [`pace`] lets what stays within a pod go as fast as it can.
//!
//! [`sk_lookup`] steers what reaches a pod to the proxy's listeners. Nothing costs where no pod is enrolled: each hook
//! leaves at the first look at a socket's network namespace. [`guard`] stands behind them all, on the links of pods.
//! [`fallback`] lets pods that may do so go without a proxy while none serves.
//!
//! [`same_node`] lets pods of one node speak to each other past the proxy, where it has decided that they may.
//!
//! [`legs`] carries what applications send to the proxy past loopback TCP, where the agent is told so.
//!
//! [`dns`] turns pods' DNS queries over UDP to the proxy.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)] // the compiler is a nightly, or acts as one

mod connect;
mod count;
mod dns;
mod fallback;
mod flows;
mod getpeername;
mod guard;
mod legs;
mod maps;
mod note;
mod pace;
mod proxy;
mod same_node;
mod sk_lookup;
mod sock_addr;
mod sock_ops;
mod sockopt;
mod verdict;

use aya_ebpf::{
    macros::{cgroup_sock_addr, cgroup_sockopt, classifier, sk_lookup, sk_msg, sock_ops},
    programs::{SkLookupContext, SkMsgContext, SockAddrContext, SockOpsContext, SockoptContext, TcContext},
};

/// Before an IPv4 socket connects.
#[cgroup_sock_addr(connect4)]
pub fn culvert_connect4(context: SockAddrContext) -> i32 {
    connect::v4(&context)
}

/// Before an IPv6 socket connects, to an IPv6 or an IPv4-mapped address.
#[cgroup_sock_addr(connect6)]
pub fn culvert_connect6(context: SockAddrContext) -> i32 {
    connect::v6(&context)
}

/// When an IPv4 socket's peer is asked for, by `accept` too.
#[cgroup_sock_addr(getpeername4)]
pub fn culvert_getpeername4(context: SockAddrContext) -> i32 {
    getpeername::v4(&context);
    1
}

/// When an IPv6 socket's peer is asked for, by `accept` too.
#[cgroup_sock_addr(getpeername6)]
pub fn culvert_getpeername6(context: SockAddrContext) -> i32 {
    getpeername::v6(&context);
    1
}

/// Before an IPv4 datagram goes to an address that is named with it.
#[cgroup_sock_addr(sendmsg4)]
pub fn culvert_sendmsg4(context: SockAddrContext) -> i32 {
    dns::turn_v4(&context);
    1
}

/// Before an IPv6 datagram goes to an address that is named with it.
#[cgroup_sock_addr(sendmsg6)]
pub fn culvert_sendmsg6(context: SockAddrContext) -> i32 {
    dns::turn_v6(&context);
    1
}

/// When an IPv4 socket is told where a datagram came from.
#[cgroup_sock_addr(recvmsg4)]
pub fn culvert_recvmsg4(context: SockAddrContext) -> i32 {
    dns::show_v4(&context);
    1
}

/// When an IPv6 socket is told where a datagram came from.
#[cgroup_sock_addr(recvmsg6)]
pub fn culvert_recvmsg6(context: SockAddrContext) -> i32 {
    dns::show_v6(&context);
    1
}

/// When a TCP socket connects, is established, listens or closes.
#[sock_ops]
pub fn culvert_sock_ops(context: SockOpsContext) -> u32 {
    sock_ops::event(&context);
    1
}

/// After the kernel's own `getsockopt` on a proxy's socket.
#[cgroup_sockopt(getsockopt)]
pub fn culvert_getsockopt(context: SockoptContext) -> i32 {
    sockopt::get(&context);
    1
}

/// Before the kernel's own `setsockopt` on a proxy's socket.
#[cgroup_sockopt(setsockopt)]
pub fn culvert_setsockopt(context: SockoptContext) -> i32 {
    sockopt::set(&context)
}

/// When a pod's network namespace looks for the listening socket of a SYN.
#[sk_lookup]
pub fn culvert_sk_lookup(context: SkLookupContext) -> u32 {
    sk_lookup::steer(&context)
}

/// When an application sends on a leg that the kernel may carry.
#[sk_msg]
pub fn culvert_leg(context: SkMsgContext) -> u32 {
    legs::send(&context)
}

/// When a packet is on its way to a pod.
#[classifier]
pub fn culvert_guard(context: TcContext) -> i32 {
    guard::judge(&context)
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program from which this can be reached.
    loop {}
}

/// The kernel lends some helpers to GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
