//! Local legs: what an application sends to the proxy in its pod goes from its `sendmsg` straight into the queue of the proxy's
//! socket, past loopback TCP.
//!
//! [`opened`] and [`accepted`] see both sockets of a leg when they are established, before their owners can use them, and put the
//! application's into `SENDERS` and the proxy's into `RECEIVERS`. [`send`] decides about each piece that the application sends.
//!
//! **One direction only.** What the proxy sends stays TCP: what lies in such a queue is not seen by `splice` and `FIONREAD`, and
//! `MSG_WAITALL` does not wait for it, so that an application that reads in one of these ways would stand still or fail. Of the
//! proxy's worker it is known how it reads.
//!
//! **Order.** The kernel gives a reader what lies in this queue before what came by TCP. So a leg may go from here to TCP, once, at
//! any byte, and never back. Whether a byte has gone by TCP is not remembered but looked at, each time, in the socket's own
//! sequence number: also bytes that were sent before the socket was known here, by another thread, or in a SYN count, and the FIN.
//!
//! **Back-pressure.** Nothing holds back who sends here, so a leg goes to TCP when the proxy has left [`Leg::UNREAD`] bytes.

use crate::{
    count::{count, count_many},
    maps::{HAS_LEGS, LEGS, PODS, RECEIVERS, SENDERS, SOCKET_OFFSETS, WAITING},
};
use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_ANY, BPF_F_INGRESS, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    helpers::{
        bpf_get_netns_cookie,
        generated::{
            bpf_get_socket_cookie, bpf_map_delete_elem, bpf_probe_read_kernel, bpf_sk_storage_get, bpf_skc_to_tcp_sock,
        },
    },
    programs::{SkMsgContext, SockOpsContext},
};
use core::{
    ffi::c_void,
    ptr::{self, addr_of, addr_of_mut, read_volatile, write_volatile},
};
use culvert_abi::{Counter, Flow, Leg, Noted, Pod, Receiver};

/// Asks for [`acknowledged`] (`BPF_SOCK_OPS_RTT_CB_FLAG`). Where all is redirected, nothing has to be acknowledged.
const ACKNOWLEDGED_FLAG: u32 = 1 << 3;

/// On its way by TCP, or to where it was redirected.
const PASS: u32 = 1;

/// Whether the legs of a pod with these flags are carried.
#[inline(always)]
pub fn are_carried(flags: u32) -> bool {
    HAS_LEGS.load() != 0 && flags & Pod::LEGS != 0
}

/// See [`Pod::LEGS_TRIAL`].
#[inline(always)]
pub fn is_trial(flags: u32) -> bool {
    HAS_LEGS.load() != 0 && flags & Pod::LEGS_TRIAL != 0
}

/// Whether a connection that a socket with this role has opened is a leg that may be carried.
#[inline(always)]
pub fn is_opened(context: &SockOpsContext, role: u32) -> bool {
    if HAS_LEGS.load() == 0 {
        return false;
    }
    // SAFETY: the context is valid; entries change only as a whole.
    let Some(pod) = (unsafe { PODS.get(bpf_get_netns_cookie(context.as_ptr())) }) else {
        return false;
    };
    let flags = pod.flags;
    is_trial(flags) || are_carried(flags) && (role == Noted::CAPTURED || role == Noted::FORWARDED)
}

/// Such a connection is established on the side that opened it. `out` is it, `back` as the other side sees it.
#[inline(always)]
pub fn opened(context: &SockOpsContext, role: u32, out: &Flow, back: &Flow) {
    match role {
        Noted::FORWARDED => receive(context, back),
        _ => join(context, out, None),
    }
}

/// A connection of a pod whose legs are carried is established on the side that accepted it. `from` is it as the side sees it that
/// opened it, `own` as this side does.
#[inline(always)]
pub fn accepted(context: &SockOpsContext, role: u32, from: &Flow, own: &Flow) {
    match role {
        Noted::ACCEPTED_CAPTURED => receive(context, from),
        Noted::ACCEPTED_FORWARDED => {
            // SAFETY: entries change only as a whole.
            let Some(receiver) = (unsafe { WAITING.get(own) }) else {
                return;
            };
            let receiver = *receiver;
            let _ = WAITING.remove(own);
            join(context, own, Some(receiver));
        }
        _ => {}
    }
}

/// The proxy's socket of a leg.
#[inline(always)]
fn receive(context: &SockOpsContext, flow: &Flow) {
    let Some((_, own)) = tcp_socket(context) else { return };
    // SAFETY: the context is valid.
    let (cookie, ops) = unsafe { (bpf_get_socket_cookie(context.as_ptr()), &mut *context.ops) };
    if RECEIVERS.update(cookie, ops, u64::from(BPF_ANY)).is_err() {
        return count(Counter::LegNoRoom);
    }
    let receiver = Receiver { socket: own, cookie };
    // The least recent goes where there is no room.
    let _ = WAITING.insert(flow, &receiver, u64::from(BPF_ANY));
}

/// The application's socket of a leg.
#[inline(always)]
fn join(context: &SockOpsContext, flow: &Flow, receiver: Option<Receiver>) {
    let Some((socket, own)) = tcp_socket(context) else {
        return;
    };
    let ops = context.ops;
    // SAFETY: the context is valid.
    let (next, acknowledged) = unsafe {
        (
            read_volatile(addr_of!((*ops).snd_nxt)),
            read_volatile(addr_of!((*ops).snd_una)),
        )
    };
    let (state, receiver) = match receiver {
        Some(receiver) => (Leg::JOINED, receiver),
        None => (Leg::NEW, Receiver { socket: 0, cookie: 0 }),
    };
    // What was sent with the SYN is on its way by TCP. (A SYN counts as a byte that was acknowledged.)
    // SAFETY: as above.
    let is_begun = next != acknowledged || unsafe { read_volatile(addr_of!((*ops).bytes_acked)) } > 1;
    if is_begun {
        return count(Counter::LegMixed);
    }
    let flags = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
    // SAFETY: the map exists, and the socket is from the context; a new entry is all zero.
    let leg = unsafe {
        bpf_sk_storage_get(map(), socket.cast(), ptr::null_mut(), flags)
            .cast::<Leg>()
            .as_mut()
    };
    let Some(leg) = leg else {
        return count(Counter::LegNoRoom);
    };
    // One by one: the verifier takes a pointer of the kernel's for what it is only where it is written as a whole. A socket may
    // connect again, so nothing of what was there stays.
    leg.flow = *flow;
    // SAFETY: a field of a valid entry.
    unsafe { write_volatile(addr_of_mut!(leg.own), own) };
    leg.peer = receiver.socket;
    leg.peer_cookie = receiver.cookie;
    leg.sequence = next;
    leg.state = state;
    // SAFETY: the context is valid.
    let (cookie, ops) = unsafe { (bpf_get_socket_cookie(context.as_ptr()), &mut *context.ops) };
    if SENDERS.update(cookie, ops, u64::from(BPF_ANY)).is_err() {
        return count(Counter::LegNoRoom);
    }
    let _ = context.set_cb_flags((context.cb_flags() | ACKNOWLEDGED_FLAG) as i32);
    count(Counter::LegSender);
}

/// The far side of an application's socket has acknowledged bytes, so some went by TCP: the socket leaves the map, and is one like any
/// other again.
#[inline(always)]
pub fn acknowledged(context: &SockOpsContext) {
    if HAS_LEGS.load() == 0 {
        return;
    }
    // SAFETY: the context is valid; the storage lives as long as the socket, which the context holds.
    let leg = unsafe {
        let socket = (*context.ops).__bindgen_anon_2.sk;
        if socket.is_null() {
            return;
        }
        bpf_sk_storage_get(map(), socket.cast(), ptr::null_mut(), 0)
            .cast::<Leg>()
            .as_ref()
    };
    if !leg.is_some_and(|leg| leg.state == Leg::TCP) {
        return;
    }
    // SAFETY: the context is valid, and the map exists. Who is in the middle of a call on the socket ends it as it began it.
    unsafe {
        let mut cookie = bpf_get_socket_cookie(context.as_ptr());
        let _ = bpf_map_delete_elem(addr_of!(SENDERS).cast_mut().cast(), addr_of_mut!(cookie).cast());
    }
    let _ = context.set_cb_flags((context.cb_flags() & !ACKNOWLEDGED_FLAG) as i32);
}

/// The socket, and the kernel's address of it. None for what is not plain TCP.
#[inline(always)]
fn tcp_socket(context: &SockOpsContext) -> Option<(*mut bpf_sock, u64)> {
    // SAFETY: the context is valid.
    let socket = unsafe { (*context.ops).__bindgen_anon_2.sk };
    if socket.is_null() {
        return None;
    }
    // SAFETY: checked, and from the context.
    let own = unsafe { bpf_skc_to_tcp_sock(socket.cast()) };
    (!own.is_null()).then_some((socket, own as u64))
}

/// An application sends: to the proxy's socket, or by TCP. The kernel holds the application's socket meanwhile.
#[inline(always)]
pub fn send(context: &SkMsgContext) -> u32 {
    if HAS_LEGS.load() == 0 {
        return PASS;
    }
    // SAFETY: the context is valid; the storage lives as long as the socket, which the context holds.
    let leg = unsafe {
        let socket = (*context.msg).__bindgen_anon_3.sk;
        if socket.is_null() {
            return PASS;
        }
        bpf_sk_storage_get(map(), socket.cast(), ptr::null_mut(), 0)
            .cast::<Leg>()
            .as_mut()
    };
    let Some(leg) = leg else { return PASS };
    if leg.state == Leg::TCP {
        return PASS;
    }
    if let Err(reason) = redirect(context, leg) {
        leg.state = Leg::TCP;
        count(reason);
    }
    PASS
}

#[inline(always)]
fn redirect(context: &SkMsgContext, leg: &mut Leg) -> Result<(), Counter> {
    if leg.state == Leg::NEW {
        // SAFETY: entries change only as a whole.
        let receiver = unsafe { WAITING.get(leg.flow) }.ok_or(Counter::LegLate)?;
        leg.peer = receiver.socket;
        leg.peer_cookie = receiver.cookie;
        leg.state = Leg::JOINED;
        let _ = WAITING.remove(leg.flow);
    }
    let offsets = SOCKET_OFFSETS.load();
    if word(leg.own, offsets.sequence) != Some(leg.sequence) {
        return Err(Counter::LegMixed);
    }
    if word(leg.own, offsets.above) != Some(0) || word(leg.own, offsets.above + 4) != Some(0) {
        return Err(Counter::LegAbove);
    }
    // The proxy's socket may be gone, and its memory another's by now: then the redirect finds none.
    if word(leg.peer, offsets.unread).is_none_or(|unread| unread > Leg::UNREAD) {
        return Err(Counter::LegUnread);
    }
    let redirected = RECEIVERS.redirect_msg(context, leg.peer_cookie, u64::from(BPF_F_INGRESS));
    if redirected != i64::from(PASS) {
        return Err(Counter::LegGone);
    }
    count(Counter::LegSent);
    // SAFETY: the context is valid.
    count_many(
        Counter::LegBytes,
        u64::from(unsafe { read_volatile(addr_of!((*context.msg).size)) }),
    );
    Ok(())
}

/// 32 bits of a socket of the kernel's.
#[inline(always)]
fn word(socket: u64, offset: u32) -> Option<u32> {
    let mut value = 0_u32;
    // SAFETY: the helper checks the address, and writes to `value` alone.
    let failed = unsafe {
        bpf_probe_read_kernel(
            addr_of_mut!(value).cast(),
            size_of::<u32>() as u32,
            (socket + u64::from(offset)) as *const c_void,
        )
    };
    (failed == 0).then_some(value)
}

#[inline(always)]
fn map() -> *mut c_void {
    ptr::addr_of!(LEGS).cast_mut().cast()
}
