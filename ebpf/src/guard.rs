//! The guard: on a pod's link it drops SYNs that reach a strict port past the tunnel, whatever became of the other programs. It
//! knows no listener and no proxy, so that nothing that ends with those ends it.
//!
//! A packet that may be such a SYN and does not show it (a fragment that ends before the TCP header's flags, a chain of extension
//! headers that is too long, a VLAN tag) is taken for one where any port of the pod may be strict.

use crate::{
    connect::is_excluded_port,
    count::count,
    flows,
    maps::{DROPPED, GUARDED_LINKS, GUARDED_POD, GUARDED_PORTS, GUARDS},
    proxy, same_node,
};
use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_hdr_start_off::BPF_HDR_START_NET},
    helpers::generated::bpf_skb_load_bytes_relative,
    programs::TcContext,
};
use core::{mem::MaybeUninit, ptr::addr_of_mut};
use culvert_abi::{Address, Counter, Endpoint, Guard, GuardedPort, INBOUND_HBONE_PORT, Noted};

/// The next program on the link decides: the CNI's own may be there.
const PASS: i32 = TC_ACT_UNSPEC;
const DROP: i32 = TC_ACT_SHOT as i32;

const HBONE: u32 = INBOUND_HBONE_PORT as u32;

const ETH_P_IP: u32 = 0x0800_u16.to_be() as u32;
const ETH_P_IPV6: u32 = 0x86dd_u16.to_be() as u32;
const ETH_P_8021Q: u32 = 0x8100_u16.to_be() as u32;
const ETH_P_8021AD: u32 = 0x88a8_u16.to_be() as u32;

const TCP: u8 = 6;
/// IPv6 extension headers that may stand before a TCP header.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
/// More than RFC 8200 knows, each once.
const EXTENSIONS: usize = 8;

const IPV4_HEADER: u32 = 20;
const IPV6_HEADER: u32 = 40;
/// Of a TCP header, up to the flags.
const TCP_HEADER: u32 = 14;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// What a packet shows.
enum Sight {
    /// It opens no TCP connection.
    Other,
    /// It may open one.
    Hidden,
    /// It opens one.
    Opening { from: Endpoint, to: Endpoint },
}

/// Where a packet has its TCP header.
enum Transport {
    /// None, or not the start of one.
    Other,
    Hidden,
    At(u32),
}

/// Decides about a packet on its way to a pod.
#[inline(always)]
pub fn judge(context: &TcContext) -> i32 {
    match sight(context) {
        Sight::Other => PASS,
        Sight::Hidden => hidden(context),
        Sight::Opening { to, .. } if to.port == HBONE => PASS,
        Sight::Opening { from, to } => opening(context, &from, &to),
    }
}

#[inline(always)]
fn opening(context: &TcContext, from: &Endpoint, to: &Endpoint) -> i32 {
    let cookie = cookie(context);
    let flags = flags(cookie);
    let port = GuardedPort {
        cookie: cookie.unwrap_or(0),
        port: to.port,
        reserved: 0,
    };
    // SAFETY: only whether it is there matters.
    let is_exception =
        flags.is_some_and(|flags| flags & Guard::WHOLE == 0) && unsafe { GUARDED_PORTS.get(&port) }.is_some();
    if flags.is_some_and(|flags| !Guard::is_strict(flags, is_exception)) {
        return PASS;
    }
    if is_excluded_port(to.port) {
        count(Counter::GuardExcluded);
        return PASS;
    }
    if is_from_node(from, to) {
        count(Counter::GuardNode);
        return PASS;
    }
    if cookie.is_some_and(|cookie| flags.is_some() && same_node::is_let_in(cookie, from, to)) {
        count(Counter::GuardSameNode);
        return PASS;
    }
    let counter = match flags {
        Some(_) => Counter::GuardStrict,
        None => Counter::GuardUnknown,
    };
    drop(cookie, counter, from, to)
}

#[inline(always)]
fn hidden(context: &TcContext) -> i32 {
    let cookie = cookie(context);
    if flags(cookie).is_some_and(|flags| !Guard::may_be_strict(flags)) {
        return PASS;
    }
    let nowhere = Endpoint {
        address: Address::NONE,
        port: 0,
    };
    drop(cookie, Counter::GuardHidden, &nowhere, &nowhere)
}

#[inline(always)]
fn drop(cookie: Option<u64>, counter: Counter, from: &Endpoint, to: &Endpoint) -> i32 {
    count(counter);
    if let Some(dropped) = cookie.and_then(|cookie| DROPPED.get_ptr_mut(&cookie)) {
        // SAFETY: the entry is valid while the program runs. Two CPUs at once may leave the source of one with the port of the
        // other, which is there for people to read; the count is exact.
        unsafe {
            flows::add(addr_of_mut!((*dropped).count), 1);
            (*dropped).source = from.address;
            (*dropped).source_port = from.port;
            (*dropped).port = to.port;
        }
    }
    DROP
}

/// The pod that the packet is on its way to.
#[inline(always)]
fn cookie(context: &TcContext) -> Option<u64> {
    let own = GUARDED_POD.load();
    if own != 0 {
        return Some(own);
    }
    // SAFETY: the context is valid while the program runs.
    let index = unsafe { (*context.skb.skb).ifindex };
    // SAFETY: entries change only as a whole.
    unsafe { GUARDED_LINKS.get(&index) }.map(|link| link.cookie)
}

/// [`Guard::flags`]; none where nothing was told.
#[inline(always)]
fn flags(cookie: Option<u64>) -> Option<u32> {
    // SAFETY: one aligned number is read.
    cookie
        .and_then(|cookie| unsafe { GUARDS.get(&cookie) })
        .map(|guard| guard.flags)
}

/// As `sk_lookup` decides: what the guard lets pass is what reaches the application there.
#[inline(always)]
fn is_from_node(from: &Endpoint, to: &Endpoint) -> bool {
    let Some(config) = proxy::config() else { return false };
    config.node != 0 && flows::noted_role(config.node, from, to) == Noted::NODE
}

#[inline(always)]
fn sight(context: &TcContext) -> Sight {
    // SAFETY: the context is valid while the program runs.
    let (protocol, is_tagged) = unsafe { ((*context.skb.skb).protocol, (*context.skb.skb).vlan_present != 0) };
    if is_tagged {
        return Sight::Hidden;
    }
    match protocol {
        ETH_P_IP => ipv4(context),
        ETH_P_IPV6 => ipv6(context),
        ETH_P_8021Q | ETH_P_8021AD => Sight::Hidden,
        _ => Sight::Other,
    }
}

#[inline(always)]
fn ipv4(context: &TcContext) -> Sight {
    let Some(header) = load::<5>(context, 0) else {
        return Sight::Hidden;
    };
    let is_first_fragment = half(&header, 6) & 0x1fff == 0;
    if byte(&header, 9) != TCP || !is_first_fragment {
        return Sight::Other;
    }
    let at = u32::from(byte(&header, 0) & 0xf) * 4;
    if at < IPV4_HEADER {
        return Sight::Hidden;
    }
    // 0 stands for more than fits into the field. What lies behind the packet's end is padding, and says what its sender likes.
    let length = u32::from(half(&header, 2));
    if length != 0 && length < at + TCP_HEADER {
        return Sight::Hidden;
    }
    tcp(context, at, Address::from_v4(header[3]), Address::from_v4(header[4]))
}

#[inline(always)]
fn ipv6(context: &TcContext) -> Sight {
    let Some(header) = load::<10>(context, 0) else {
        return Sight::Hidden;
    };
    let at = match transport(context, byte(&header, 6)) {
        Transport::Other => return Sight::Other,
        Transport::Hidden => return Sight::Hidden,
        Transport::At(at) => at,
    };
    // 0, see above: a jumbogram.
    let length = u32::from(half(&header, 4));
    if length != 0 && IPV6_HEADER + length < at + TCP_HEADER {
        return Sight::Hidden;
    }
    tcp(
        context,
        at,
        Address([header[2], header[3], header[4], header[5]]),
        Address([header[6], header[7], header[8], header[9]]),
    )
}

/// Walks the chain of an IPv6 packet's headers.
#[inline(always)]
fn transport(context: &TcContext, first: u8) -> Transport {
    let (mut next, mut at) = (first, IPV6_HEADER);
    for _ in 0..=EXTENSIONS {
        if next == TCP {
            return Transport::At(at);
        }
        if !matches!(
            next,
            HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION | MOBILITY
        ) {
            return Transport::Other;
        }
        let Some(extension) = load::<1>(context, at) else {
            return Transport::Hidden;
        };
        let length = u32::from(byte(&extension, 1));
        at += match next {
            FRAGMENT if half(&extension, 2) & 0xfff8 != 0 => return Transport::Other,
            FRAGMENT => 8,
            AUTHENTICATION => (length + 2) * 4,
            _ => (length + 1) * 8,
        };
        next = byte(&extension, 0);
    }
    Transport::Hidden
}

#[inline(always)]
fn tcp(context: &TcContext, at: u32, source: Address, destination: Address) -> Sight {
    // The flags first: hardly any packet has these.
    let Some(flags) = load_byte(context, at + TCP_HEADER - 1) else {
        return Sight::Hidden;
    };
    if flags & (SYN | ACK) != SYN {
        return Sight::Other;
    }
    let Some(header) = load::<1>(context, at) else {
        return Sight::Hidden;
    };
    let endpoint = |address, at| Endpoint {
        address,
        port: u32::from(half(&header, at)),
    };
    Sight::Opening {
        from: endpoint(source, 0),
        to: endpoint(destination, 2),
    }
}

/// So many words of the packet, counted from its network header, with or without a link-layer header before that. None where the packet
/// is shorter.
#[inline(always)]
fn load<const WORDS: usize>(context: &TcContext, at: u32) -> Option<[u32; WORDS]> {
    let mut words = MaybeUninit::<[u32; WORDS]>::uninit();
    read(context, at, words.as_mut_ptr().cast(), size_of::<[u32; WORDS]>() as u32)
        // SAFETY: all of it has been written.
        .then(|| unsafe { words.assume_init() })
}

#[inline(always)]
fn load_byte(context: &TcContext, at: u32) -> Option<u8> {
    let mut byte = 0;
    read(context, at, &raw mut byte, 1).then_some(byte)
}

#[inline(always)]
fn read(context: &TcContext, at: u32, to: *mut u8, length: u32) -> bool {
    let skb = context.skb.skb.cast_const().cast();
    // SAFETY: the callers' memory, which is as long as they say.
    unsafe { bpf_skb_load_bytes_relative(skb, at, to.cast(), length, BPF_HDR_START_NET) == 0 }
}

/// A byte of words that were loaded.
#[inline(always)]
fn byte(words: &[u32], at: usize) -> u8 {
    words[at / 4].to_ne_bytes()[at % 4]
}

/// Two bytes of them, host byte order.
#[inline(always)]
fn half(words: &[u32], at: usize) -> u16 {
    u16::from_be_bytes([byte(words, at), byte(words, at + 1)])
}
