//! Counting, and holding back log lines.

use crate::maps::{COUNTS, LAST_LOG, USAGE};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use core::ptr::addr_of_mut;
use culvert_abi::Counter;

/// Adds one.
#[inline(always)]
pub fn count(counter: Counter) {
    count_many(counter, 1);
}

/// Adds some.
#[inline(always)]
pub fn count_many(counter: Counter, many: u64) {
    if let Some(value) = COUNTS.get_ptr_mut(counter as u32) {
        // SAFETY: the element belongs to this CPU, and programs of a kind that can interrupt each other count
        // different things; a lost increment would be harmless.
        unsafe { *value += many }
    }
}

/// Whether a line about the pod with this cookie may be logged now: at most one a second, so that an application that tries
/// again and again can neither flood the agent's log nor keep other pods out of it. The counters tell the whole number.
#[inline(always)]
pub fn may_log(cookie: u64) -> bool {
    const INTERVAL_NS: u64 = 1_000_000_000;
    let last = match USAGE.get_ptr_mut(&cookie) {
        // SAFETY: the entry is valid while the program runs.
        Some(usage) => unsafe { addr_of_mut!((*usage).logged) },
        None => match LAST_LOG.get_ptr_mut(0) {
            Some(last) => last,
            None => return false,
        },
    };
    // SAFETY: no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: an aligned number. Two CPUs at once log a line each, which is harmless.
    unsafe {
        if now.wrapping_sub(*last) < INTERVAL_NS {
            return false;
        }
        *last = now;
    }
    true
}
