//! The map of flows and its account: what they were noted as, how many entries there are, and whose.

use crate::maps::{FLOWS, OPEN_FLOWS, USAGE};
use aya_ebpf::bindings::{BPF_EXIST, BPF_NOEXIST};
use core::{arch::asm, ptr::addr_of_mut};
use culvert_abi::{Config, Endpoint, Flow, Noted};

/// As helpers return it.
const EEXIST: i32 = -17;

/// Whether a pod may open one more.
pub enum Room {
    Free,
    /// The pod has its share of the map.
    OverShare,
    /// The map is full, whoever filled it.
    Full,
}

/// Looked at where a connection can still be denied; by the time that the flow is noted, the SYN is on its way. Where two
/// CPUs pass here at once with one entry left, the proxy refuses the one that found none.
#[inline(always)]
pub fn room(config: &Config, cookie: u64) -> Room {
    // SAFETY: one aligned number is read; an entry that goes meanwhile is another pod's at worst.
    if unsafe { USAGE.get(&cookie) }.is_some_and(|usage| usage.flows as i64 >= config.share as i64) {
        return Room::OverShare;
    }
    if OPEN_FLOWS.get(0).is_none_or(|open| *open as i64 >= config.flows as i64) {
        return Room::Full;
    }
    Room::Free
}

/// Counts a connection that was denied because of [`Room::OverShare`].
#[inline(always)]
pub fn denied(cookie: u64) {
    if let Some(usage) = USAGE.get_ptr_mut(&cookie) {
        // SAFETY: the entry is valid while the program runs.
        unsafe { add(addr_of_mut!((*usage).denied), 1) }
    }
}

/// What the socket noted itself as that opens a connection between these in the network namespace with this cookie.
#[inline(always)]
pub fn noted_role(cookie: u64, from: &Endpoint, to: &Endpoint) -> u32 {
    let flow = Flow {
        cookie,
        local: from.address,
        remote: to.address,
        local_port: from.port as u16,
        remote_port: to.port as u16,
        reserved: 0,
    };
    // SAFETY: the entry stays until the connection is established.
    unsafe { FLOWS.get(&flow) }.map_or(Noted::NOTHING, Noted::kind)
}

/// False when the map has no room.
#[inline(always)]
pub fn insert(flow: &Flow, noted: &Noted) -> bool {
    match FLOWS.insert(flow, noted, u64::from(BPF_NOEXIST)) {
        Ok(()) => account(flow.cookie, 1),
        // Left by a socket whose end we did not see, for example while no program was attached.
        Err(EEXIST) => {
            let _ = FLOWS.insert(flow, noted, u64::from(BPF_EXIST));
        }
        Err(_) => return false,
    }
    true
}

/// False when it was not there.
#[inline(always)]
pub fn remove(flow: &Flow) -> bool {
    if FLOWS.remove(flow).is_err() {
        return false;
    }
    account(flow.cookie, -1);
    true
}

#[inline(always)]
fn account(cookie: u64, difference: i64) {
    // SAFETY: elements of maps, which are valid while the program runs.
    unsafe {
        if let Some(open) = OPEN_FLOWS.get_ptr_mut(0) {
            add(open, difference);
        }
        if let Some(usage) = USAGE.get_ptr_mut(&cookie) {
            add(addr_of_mut!((*usage).flows), difference);
        }
    }
}

/// Adds to a number that several CPUs may add to at once.
///
/// # Safety
/// An aligned number in a map that only this function writes.
#[inline(always)]
pub unsafe fn add(number: *mut u64, difference: i64) {
    // `core` has no atomic arithmetic for this target.
    // SAFETY: the caller's promise.
    unsafe {
        asm!("lock *(u64 *)({number} + 0) += {difference}", number = in(reg) number, difference = in(reg) difference)
    }
}
