//! Whether connections go direct for want of a proxy, in pods that may go without one ([`Pod::FALLBACK`]).
//!
//! Two things together tell that a proxy serves: [`Serving`](culvert_abi::Serving), which is pushed forward as long as one does, and the
//! pod's listeners, which are there as long as any process holds them. Neither would do alone:
//!
//! | proxy | agent | time in `Serving` | listeners | connections |
//! |---|---|---|---|---|
//! | serves | serves | pushed by the proxy | there | captured |
//! | serves | gone | pushed by the proxy | there: the proxy's | captured |
//! | gone | serves | ended by the agent at once | there: the agent's | direct |
//! | gone | gone | runs out | gone at once, with their last holder | direct |
//! | hangs | serves or gone | runs out | there | direct |
//!
//! For a proxy that does not push, the agent says that it serves until it is gone: then nothing tells that it hangs.
//!
//! A strict pod neither sends nor takes plaintext, and one of which no guard is known may be strict.

use crate::{
    flows,
    maps::{GUARDED_PORTS, GUARDS, LISTENERS, PODS, SERVING, USAGE},
};
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_map_lookup_elem, bpf_sk_release};
use core::ptr::{addr_of, addr_of_mut, from_ref, read_volatile};
use culvert_abi::{Address, Guard, GuardedPort, Listener, OUTBOUND_PORT, Pod, Serving};

/// Which way a connection goes, seen from the pod.
pub enum Way {
    Out,
    In,
}

/// Whether what is known of proxies says that one serves.
#[inline(always)]
pub fn is_serving() -> bool {
    let Some(serving) = SERVING.get_ptr(0) else { return true };
    // Others write it at any moment.
    // SAFETY: an aligned number in a map, which is valid while the program runs.
    let until = unsafe { read_volatile(addr_of!((*serving).until)) };
    // SAFETY: no preconditions.
    Serving { until }.is_serving(unsafe { bpf_ktime_get_ns() })
}

/// Whether what a pod with [`Pod::FALLBACK`] opens goes direct now; `own` is where it would be captured.
#[inline(always)]
pub fn may_leave(cookie: u64, own: Address) -> bool {
    !(is_serving() && is_listening(own, u32::from(OUTBOUND_PORT))) && !is_strict(cookie)
}

/// Whether what reaches a port of a pod past the tunnel may go to the application when no proxy serves.
#[inline(always)]
pub fn may_arrive(cookie: u64, port: u32) -> bool {
    let port = GuardedPort {
        cookie,
        port,
        reserved: 0,
    };
    // SAFETY: only whether it is there matters.
    is_allowed(cookie) && unsafe { GUARDED_PORTS.get(&port) }.is_none()
}

/// Whether a pod may go without a proxy when none serves.
#[inline(always)]
pub fn is_allowed(cookie: u64) -> bool {
    // SAFETY: entries change only as a whole.
    unsafe { PODS.get(&cookie) }.is_some_and(|pod| pod.flags & Pod::FALLBACK != 0) && !is_strict(cookie)
}

/// Counts a connection that goes direct.
#[inline(always)]
pub fn account(cookie: u64, way: Way) {
    if let Some(usage) = USAGE.get_ptr_mut(&cookie) {
        // SAFETY: the entry is valid while the program runs, and nobody else adds to these.
        unsafe {
            match way {
                Way::Out => flows::add(addr_of_mut!((*usage).direct_out), 1),
                Way::In => flows::add(addr_of_mut!((*usage).direct_in), 1),
            }
        }
    }
}

/// Whether the pod is strict but for exceptions, or nothing is known of that.
#[inline(always)]
fn is_strict(cookie: u64) -> bool {
    // SAFETY: one aligned number is read.
    unsafe { GUARDS.get(&cookie) }.is_none_or(|guard| guard.flags & Guard::STRICT != 0)
}

/// Whether anybody holds the proxy's socket at this address and port.
#[inline(always)]
pub fn is_listening(address: Address, port: u32) -> bool {
    let listener = Listener { address, port };
    // SAFETY: a map and a key of its type.
    let socket = unsafe { bpf_map_lookup_elem(addr_of!(LISTENERS).cast_mut().cast(), from_ref(&listener).cast()) };
    if socket.is_null() {
        return false;
    }
    // SAFETY: the lookup took a reference, which is given back here.
    unsafe { bpf_sk_release(socket) };
    true
}
