//! Turning what pods ask their resolvers over UDP to the proxy, and its answers back. `culvert_abi::Resolver` tells how a port stands
//! for a resolver, so that nothing is noted per query.
//!
//! | who | what runs |
//! |---|---|
//! | glibc, Java, Go: a socket is connected, then sends | `connect`: the socket is connected to the proxy; `getpeername` shows the resolver |
//! | musl, many others: `sendto`, then `recvfrom` | `sendmsg`: the query goes to the proxy; `recvmsg`: its answer comes from the resolver |
//! | an IPv6 socket that sends to an IPv4-mapped address | `sendmsg` of IPv4, and `recvmsg` of IPv6 with a mapped address |
//!
//! Unlike connections, a query is left alone wherever it cannot be turned, also while no proxy serves: it is the resolver's by
//! right, went there in clear before, and nothing is protected by denying it.

use crate::{
    connect::{is_excluded, is_other_device, may_come_from, own_address},
    count::{count, may_log},
    fallback,
    maps::{ADDRESSES, PODS, RESOLVERS},
    proxy, sock_addr,
};
use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_NOEXIST, bpf_sockopt},
    helpers::bpf_get_netns_cookie,
    programs::{SockAddrContext, SockoptContext},
};
use aya_log_ebpf::warn;
use culvert_abi::{Counter, DNS_SLOTS, Endpoint, Pod, RESOLVER_PORT, Resolver, is_dns_port};

const SOCK_DGRAM: u32 = 2;
const IPPROTO_UDP: u32 = 17;
const EEXIST: i32 = -17;

/// Turns what is about to be sent, or connected, to an IPv4 address.
#[inline(always)]
pub fn turn_v4(context: &SockAddrContext) {
    if is_query(context)
        && let Some(target) = target(context, &sock_addr::v4(context))
    {
        sock_addr::set_v4(context, &target);
    }
}

/// Turns what is about to be sent, or connected, to an IPv6 address, or to an IPv4-mapped one.
#[inline(always)]
pub fn turn_v6(context: &SockAddrContext) {
    if is_query(context)
        && let Some(target) = target(context, &sock_addr::v6(context))
    {
        sock_addr::set_v6(context, &target);
    }
}

/// Shows the resolver in place of the proxy's socket. Returns whether it was one.
#[inline(always)]
pub fn show_v4(context: &SockAddrContext) -> bool {
    if !is_answer(context) {
        return false;
    }
    let Some(resolver) = resolver(context, &sock_addr::v4(context)) else {
        return false;
    };
    sock_addr::set_v4(context, &resolver);
    true
}

/// The same for an IPv6 socket, on which IPv4 addresses are mapped.
#[inline(always)]
pub fn show_v6(context: &SockAddrContext) -> bool {
    if !is_answer(context) {
        return false;
    }
    let Some(resolver) = resolver(context, &sock_addr::v6(context)) else {
        return false;
    };
    sock_addr::set_v6(context, &resolver);
    true
}

/// The resolver whose queries reach this socket of the proxy's, where it is one for queries.
#[inline(always)]
pub fn of_socket<'a>(context: &SockoptContext) -> Option<&'a Endpoint> {
    let option: *mut bpf_sockopt = context.sockopt;
    // SAFETY: the context and its socket are valid while the program runs.
    let (protocol, port) = unsafe {
        let socket = (*option).__bindgen_anon_1.sk;
        ((*socket).protocol, (*socket).src_port)
    };
    if protocol != IPPROTO_UDP || !is_dns_port(port) {
        return None;
    }
    // SAFETY: the context is valid.
    let cookie = unsafe { bpf_get_netns_cookie(context.as_ptr()) };
    // SAFETY: entries are made as a whole and never change.
    let found = unsafe { RESOLVERS.get(&Resolver::at_port(cookie, port)) };
    if found.is_some() {
        count(Counter::DnsResolver);
    }
    found
}

/// The cheapest look first: nearly nothing that is sent on a node is a query.
#[inline(always)]
fn is_query(context: &SockAddrContext) -> bool {
    sock_addr::port(context) == u32::from(RESOLVER_PORT) && is_udp(context)
}

#[inline(always)]
fn is_answer(context: &SockAddrContext) -> bool {
    is_dns_port(sock_addr::port(context)) && is_udp(context)
}

#[inline(always)]
fn is_udp(context: &SockAddrContext) -> bool {
    let address = context.sock_addr;
    // SAFETY: the context is valid while the program runs.
    let (kind, protocol) = unsafe { ((*address).type_, (*address).protocol) };
    kind == SOCK_DGRAM && protocol == IPPROTO_UDP
}

/// Where a query goes instead; nothing where it is left alone.
#[inline(always)]
fn target(context: &SockAddrContext, destination: &Endpoint) -> Option<Endpoint> {
    // SAFETY: the context is valid.
    let cookie = unsafe { bpf_get_netns_cookie(context.as_ptr()) };
    // SAFETY: entries change only as a whole, and by the agent alone.
    let pod = unsafe { PODS.get(&cookie) }?;
    if pod.flags & Pod::DNS == 0 || pod.flags & Pod::OUTBOUND == 0 {
        return None;
    }
    if let Some(reason) = left_alone(context, pod, destination, cookie) {
        count(reason);
        return None;
    }
    match slot(cookie, destination) {
        Ok(slot) => {
            let target = Endpoint {
                address: own_address(pod, destination),
                port: slot.port(),
            };
            if !fallback::is_listening(target.address, target.port) {
                count(Counter::DnsNoListener);
                return None;
            }
            count(Counter::DnsCaptured);
            Some(target)
        }
        Err(reason) => {
            count(reason);
            say_left_alone(context, destination, cookie);
            None
        }
    }
}

/// Whether a query is none of our business, and what to count it as.
#[inline(always)]
fn left_alone(context: &SockAddrContext, pod: &Pod, destination: &Endpoint, cookie: u64) -> Option<Counter> {
    let Some(config) = proxy::config() else {
        return Some(Counter::DnsNoProxy);
    };
    if proxy::is_current(config) {
        return Some(Counter::DnsProxy);
    }
    // A stub resolver on the node's side of things, such as systemd's, asks on by itself.
    if destination.address.is_loopback() {
        return Some(Counter::DnsLoopback);
    }
    // IPv4's link-local addresses are captured: caches on the node have them.
    if destination.address.is_link_local() {
        return Some(Counter::DnsLinkLocal);
    }
    // SAFETY: entries change only as a whole.
    if let Some(owner) = unsafe { ADDRESSES.get(&destination.address) }
        && owner.cookie == cookie
    {
        return Some(Counter::DnsOwn);
    }
    if is_excluded(destination) {
        return Some(Counter::DnsExcluded);
    }
    if is_other_device(context, pod) {
        return Some(Counter::DnsDevice);
    }
    let own = own_address(pod, destination);
    if own.is_none() {
        return Some(Counter::DnsFamily);
    }
    // The proxy answers nobody but the pod's own address.
    if !may_come_from(context, own) {
        return Some(Counter::DnsSource);
    }
    if !fallback::is_serving() {
        return Some(Counter::DnsNoProxy);
    }
    None
}

/// The slot of a resolver, given to it now if it has none.
#[inline(always)]
fn slot(cookie: u64, resolver: &Endpoint) -> Result<Resolver, Counter> {
    let mut slot = 0;
    while slot < u32::from(DNS_SLOTS) {
        let key = Resolver {
            cookie,
            slot,
            reserved: 0,
        };
        if !has_taken(&key) {
            match RESOLVERS.insert(&key, resolver, u64::from(BPF_NOEXIST)) {
                // Another query, of another resolver perhaps, was quicker.
                Ok(()) | Err(EEXIST) => {}
                Err(_) => return Err(Counter::DnsFull),
            }
        }
        if is_of(&key, resolver) {
            return Ok(key);
        }
        slot += 1;
    }
    Err(Counter::DnsSlots)
}

#[inline(always)]
fn has_taken(slot: &Resolver) -> bool {
    // SAFETY: only whether it is there matters.
    unsafe { RESOLVERS.get(slot) }.is_some()
}

#[inline(always)]
fn is_of(slot: &Resolver, resolver: &Endpoint) -> bool {
    // SAFETY: entries are made as a whole and never change.
    unsafe { RESOLVERS.get(slot) }.is_some_and(|found| found.port == resolver.port && found.address == resolver.address)
}

/// The resolver that an address of the pod stands for, of the same family.
#[inline(always)]
fn resolver<'a>(context: &SockAddrContext, source: &Endpoint) -> Option<&'a Endpoint> {
    // SAFETY: the context is valid.
    let cookie = unsafe { bpf_get_netns_cookie(context.as_ptr()) };
    // SAFETY: entries change only as a whole, and by the agent alone.
    let pod = unsafe { PODS.get(&cookie) }?;
    if own_address(pod, source) != source.address {
        return None;
    }
    // SAFETY: entries are made as a whole and never change.
    let found = unsafe { RESOLVERS.get(&Resolver::at_port(cookie, source.port)) }?;
    if found.address.is_v4() != source.address.is_v4() {
        return None;
    }
    count(Counter::DnsShown);
    Some(found)
}

#[inline(always)]
fn say_left_alone(context: &SockAddrContext, resolver: &Endpoint, cookie: u64) {
    if may_log(cookie) {
        let address = resolver.address.octets();
        warn!(
            context,
            "DNS queries of the pod with cookie {} to {:i} are not captured: it has asked three other resolvers before, or the map of \
             resolvers is full",
            cookie,
            address
        );
    }
}
